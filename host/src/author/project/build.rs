//! From a project to a component that the engine takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::tools::Voice;
use super::{Language, Project, ProjectError, javascript, python, rust};
use crate::policy::{Either, Engine};
use lockkeeper_locks::terminal;

/// What was built.
#[derive(Debug)]
pub struct Built {
    /// Where it is.
    pub wasm: PathBuf,
    /// The same, loaded.
    pub guest: Either,
    /// How long the build took.
    pub built_in: Duration,
    /// How long it took to compile it for this machine, or to find that in the cache.
    pub loaded_in: Duration,
}

/// What a build was killed over is half a file that nobody needs after this.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// What half a file is called.
const HALF: &str = ".half-";

/// Builds a project. The file at `out` is replaced only by one that the engine takes. `say` hears of each longer step; with
/// `is_heard` it hears each line of the tools, too, else these go into the error.
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
    sweep(out);
    let tell = |line: &str| say("|", &terminal::log_line(line, terminal::MAX_LINE));
    let voice = if is_heard { Voice::Heard(&tell) } else { Voice::Kept };
    // A component must be called so for some tools; and nobody finds half of one under its own name.
    let half = out.with_file_name(format!("{HALF}{}.wasm", uuid::Uuid::new_v4().simple()));
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
        let guest = engine.load_either(&half)?;
        fs::rename(&half, out).map_err(|source| ProjectError::File { path: out.to_owned(), source })?;
        Ok(Built { wasm: out.to_owned(), guest, built_in, loaded_in: begun.elapsed() })
    });
    if loaded.is_err() {
        let _ = fs::remove_file(&half);
    }
    loaded
}

/// Deletes what builds left behind that were killed.
fn sweep(out: &Path) {
    let Some(folder) = out.parent() else { return };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let Ok(files) = fs::read_dir(folder) else { return };
    for file in files.filter_map(Result::ok) {
        let is_half = file.file_name().to_str().is_some_and(|name| name.starts_with(HALF) && name.ends_with(".wasm"));
        let age = file.metadata().and_then(|found| found.modified()).ok().and_then(|at| at.elapsed().ok());
        if is_half && age.is_some_and(|age| age > FORGOTTEN) {
            // Another build may do the same.
            let _ = fs::remove_file(file.path());
        }
    }
}
