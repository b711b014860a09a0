//! `lockkeeper policy new`: a first policy that builds and passes its tests.

use std::path::{Path, PathBuf};

use serde_json::json;

use crate::author::project::{Language, Place, ProjectError, Template, create};
use crate::cli::args::Global;
use crate::cli::args::{LanguageArg, NewArgs};
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::Output;

pub(super) fn run(_: &Global, output: &Output, args: &NewArgs) -> Result<Exit, Failure> {
    let template = match (args.lang, args.orchestration) {
        (LanguageArg::Rust, true) => Template::Orchestration,
        (_, true) => {
            return Err(Failure::message(ErrorKind::BadArgument, "an orchestration is written in Rust")
                .hint("leave --lang out; policies are written in Python and JavaScript, too"));
        }
        (LanguageArg::Rust, false) => Template::Policy(Language::Rust),
        (LanguageArg::Python, false) => Template::Policy(Language::Python),
        (LanguageArg::Javascript, false) => Template::Policy(Language::JavaScript),
    };
    let folder = args.out.clone().unwrap_or_else(|| PathBuf::from(&args.name));
    let made = create(&args.name, template, Place { folder: &folder, sdk: args.sdk.as_deref() })?;
    if output.is_json() {
        output.json(&json!({ "folder": folder, "files": made.files, "wasm": made.wasm }));
        return Ok(Exit::Done);
    }
    output.talk("Made", &format!("{}: {}", folder.display(), made.files.join(", ")));
    let wasm = made.wasm;
    if folder != Path::new(".") {
        output.data(&format!("cd {}", folder.display()));
    }
    output.data("lockkeeper policy build");
    output.data(&format!("lockkeeper policy test {wasm}"));
    output.data("lockkeeper run job.toml");
    if matches!(template, Template::Policy(_)) {
        output.data(&format!(
            "lockkeeper schema job --policy {wasm} > job.schema.json   # an editor completes the job's settings"
        ));
    }
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
