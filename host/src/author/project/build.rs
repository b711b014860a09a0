//! From a project to a component that the engine takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::tools::Voice;
use super::{Language, Project, ProjectError, javascript, python, rust};
use crate::policy::{Engine, Module};

/// What was built.
#[derive(Debug)]
pub struct Built {
    /// Where it is.
    pub wasm: PathBuf,
    /// The same, loaded.
    pub policy: Module,
    /// How long the build took.
    pub built_in: Duration,
    /// How long it took to compile it for this machine, or to find that in the cache.
    pub loaded_in: Duration,
}

/// Builds a project. The file at `out` is replaced only by one that the engine takes. `say` hears of each longer step; with
/// `is_heard` the tools' own words go to stderr as they come, else into the error.
///
/// # Errors
/// [`ProjectError`].
pub fn build(
    project: &Project,
    out: &Path,
    engine: &Engine,
    is_heard: bool,
    say: &dyn Fn(&str, &str),
) -> Result<Built, ProjectError> {
    let begun = Instant::now();
    let voice = if is_heard { Voice::Heard } else { Voice::Kept };
    // A component must be called so for some tools; and nobody finds half of one under its own name.
    let half = out.with_file_name(format!(".half-{}.wasm", uuid::Uuid::new_v4().simple()));
    let made = match project.language {
        Language::Rust => rust::build(&project.folder, &half, voice, say),
        Language::Python => python::build(&project.folder, &half, voice, say),
        Language::JavaScript => javascript::build(&project.folder, &half, voice, say),
    };
    let built_in = begun.elapsed();
    let loaded = made.and_then(|()| {
        let begun = Instant::now();
        if project.language != Language::Rust {
            say("Compiling", "it for this machine, which is kept for the next time");
        }
        let policy = engine.load_file(&half, None)?;
        fs::rename(&half, out).map_err(|source| ProjectError::File { path: out.to_owned(), source })?;
        Ok(Built { wasm: out.to_owned(), policy, built_in, loaded_in: begun.elapsed() })
    });
    if loaded.is_err() {
        let _ = fs::remove_file(&half);
    }
    loaded
}
