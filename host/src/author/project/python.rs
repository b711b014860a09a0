//! Policies in Python, made components by `componentize-py`, which snapshots CPython and the module into one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools::{Voice, on_path, run};
use super::{Language, OWN_FOLDER, ProjectError, WIT};

/// The module with the policy in it.
pub(super) const SOURCE: &str = "policy.py";

const TOOL: &str = "componentize-py";

pub(super) fn build(folder: &Path, out: &Path, voice: Voice<'_>, say: &dyn Fn(&str, &str)) -> Result<(), ProjectError> {
    let tool = tool(folder, voice, say)?;
    let wit = folder.join(OWN_FOLDER).join("wit");
    let write = fs::create_dir_all(&wit).and_then(|()| fs::write(wit.join("policy.wit"), WIT));
    write.map_err(|source| ProjectError::File { path: wit.clone(), source })?;
    say("Building", "the component with componentize-py");
    let whole = |path: &Path| std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut command = Command::new(tool);
    command.arg("--wit-path").arg(whole(&wit)).args(["--world", "policy", "componentize", "--stub-wasi"]);
    // The interpreter at work here is not the one in the component: what it was told must not reach that.
    command.arg("policy").arg("--output").arg(whole(out)).current_dir(folder).env_remove("PYTHONPATH");
    run(&mut command, voice)
}

/// `componentize-py` of the project's own virtual environment, or of the `PATH`; else the environment is made.
fn tool(folder: &Path, voice: Voice<'_>, say: &dyn Fn(&str, &str)) -> Result<PathBuf, ProjectError> {
    let environment = folder.join(".venv");
    let own = environment.join("bin").join(TOOL);
    if own.is_file() {
        return Ok(std::path::absolute(&own).unwrap_or(own));
    }
    if let Some(tool) = on_path(TOOL) {
        return Ok(tool);
    }
    let python =
        on_path("python3").ok_or(ProjectError::NoProgram { program: "python3", language: Language::Python.name() })?;
    let wanted = folder.join("requirements.txt");
    if !wanted.is_file() {
        return Err(ProjectError::Manifest {
            path: wanted,
            reason: format!("is not there: a line `{TOOL}==0.25.0` is what a build needs"),
        });
    }
    say("Installing", "what `requirements.txt` lists into `.venv`, once");
    run(Command::new(python).args(["-m", "venv"]).arg(&environment), voice)?;
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(&wanted);
    run(&mut pip, voice)?;
    match own.is_file() {
        true => Ok(std::path::absolute(&own).unwrap_or(own)),
        false => Err(ProjectError::Manifest { path: wanted, reason: format!("does not list `{TOOL}`") }),
    }
}
