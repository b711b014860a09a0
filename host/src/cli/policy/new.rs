//! `lockkeeper policy new`: a first policy that builds and passes its tests.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::args::{LanguageArg, NewArgs};
use crate::author::project::{Language, Place, ProjectError, create};
use crate::cli::Global;
use crate::cli::exit::{ErrorKind, Exit, Failure};
use crate::cli::output::Output;

pub(super) fn run(_: &Global, output: &Output, args: &NewArgs) -> Result<Exit, Failure> {
    let language = match args.lang {
        LanguageArg::Rust => Language::Rust,
        LanguageArg::Python => Language::Python,
        LanguageArg::Javascript => Language::JavaScript,
    };
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let made = create(&args.name, language, Place { folder: &folder, sdk: args.sdk.as_deref() })?;
    if output.is_json() {
        output.json(&json!({ "folder": folder, "files": made.files, "wasm": made.wasm }));
        return Ok(Exit::Done);
    }
    output.talk("Made", &format!("{}: {}", folder.display(), made.files.join(", ")));
    let wasm = made.wasm;
    let go = if folder == Path::new(".") { String::new() } else { format!("cd {}\n", folder.display()) };
    let schema =
        format!("lockkeeper schema job --policy {wasm} > job.schema.json   # an editor completes the job's settings");
    output.data(&format!(
        "{go}lockkeeper policy build\nlockkeeper policy test {wasm}\nlockkeeper run job.toml\n{schema}"
    ));
    Ok(Exit::Done)
}

impl From<ProjectError> for Failure {
    fn from(error: ProjectError) -> Self {
        let hint = error.hint();
        let kind = match error {
            // It has a kind and a backtrace of its own.
            ProjectError::Policy(error) => return error.into(),
            ProjectError::File { .. } => ErrorKind::Io,
            ProjectError::Tool { .. } | ProjectError::Rust(_) => ErrorKind::Build,
            _ => ErrorKind::BadArgument,
        };
        Self { hint, ..Self::new(kind, error) }
    }
}
