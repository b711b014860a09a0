//! Policies in JavaScript, made components by `componentize-js`, which snapshots SpiderMonkey and the module into one.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::tools::{Voice, on_path, run};
use super::{Language, OWN_FOLDER, ProjectError, WIT};

/// Without any of these features the component imports nothing but the contract.
const SCRIPT: &str = "import { componentize } from '@bytecodealliance/componentize-js';
import { writeFile } from 'node:fs/promises';
const [sourcePath, witPath, out] = process.argv.slice(2);
const disableFeatures = ['stdio', 'random', 'clocks', 'http', 'fetch-event'];
const { component } = await componentize({ sourcePath, witPath, worldName: 'policy', disableFeatures });
await writeFile(out, component);
";

const MODULE: &str = "node_modules/@bytecodealliance/componentize-js/package.json";

pub(super) fn name(folder: &Path) -> Result<String, ProjectError> {
    let (path, manifest) = manifest(folder)?;
    match manifest["name"].as_str() {
        // Of a scoped package, the last part.
        Some(name) if !name.is_empty() => Ok(name.rsplit('/').next().unwrap_or(name).to_owned()),
        _ => Err(ProjectError::Manifest { path, reason: "has no `name`".to_owned() }),
    }
}

pub(super) fn build(folder: &Path, out: &Path, voice: Voice<'_>, say: &dyn Fn(&str, &str)) -> Result<(), ProjectError> {
    let program =
        |program| on_path(program).ok_or(ProjectError::NoProgram { program, language: Language::JavaScript.name() });
    let node = program("node")?;
    let (path, manifest) = manifest(folder)?;
    let source = manifest["main"].as_str().unwrap_or("policy.js");
    let source = folder.join(source);
    if !source.is_file() {
        let reason = format!("its `main` names `{}`, which is not there", source.display());
        return Err(ProjectError::Manifest { path, reason });
    }
    let is_there =
        std::path::absolute(folder).is_ok_and(|folder| folder.ancestors().any(|above| above.join(MODULE).is_file()));
    if !is_there {
        say("Installing", "what `package.json` lists into `node_modules`, once");
        let mut npm = Command::new(program("npm")?);
        npm.args(["install", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(folder);
        run(&mut npm, voice)?;
        if !folder.join(MODULE).is_file() {
            let reason = "lists no `@bytecodealliance/componentize-js` under `devDependencies`".to_owned();
            return Err(ProjectError::Manifest { path, reason });
        }
    }
    let own = folder.join(OWN_FOLDER);
    let (wit, script) = (own.join("wit"), own.join("build.mjs"));
    let written = fs::create_dir_all(&wit)
        .and_then(|()| fs::write(wit.join("policy.wit"), WIT))
        .and_then(|()| fs::write(&script, SCRIPT));
    written.map_err(|source| ProjectError::File { path: own, source })?;
    say("Building", "the component with componentize-js");
    let mut command = Command::new(node);
    for path in [&script, &source, &wit, &out.to_owned()] {
        command.arg(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    }
    run(command.current_dir(folder), voice)
}

fn manifest(folder: &Path) -> Result<(std::path::PathBuf, Value), ProjectError> {
    let path = folder.join("package.json");
    let text = fs::read_to_string(&path).map_err(|source| ProjectError::File { path: path.clone(), source })?;
    match serde_json::from_str(&text) {
        Ok(manifest) => Ok((path, manifest)),
        Err(error) => Err(ProjectError::Manifest { path, reason: format!("is no JSON: {error}") }),
    }
}
