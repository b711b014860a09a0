//! Other people's tools, run to their end.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lockkeeper_guest_build::run_and_tell;

use super::ProjectError;

/// Whether what a tool says is told as it comes, or goes into the error.
#[derive(Clone, Copy)]
pub(super) enum Voice<'a> {
    /// A line each, as it comes.
    Heard(&'a dyn Fn(&str)),
    /// Only where it failed.
    Kept,
}

/// The program of that name, where `PATH` has one.
pub(super) fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Runs a tool. It gets no input.
pub(super) fn run(command: &mut Command, voice: Voice<'_>) -> Result<(), ProjectError> {
    let told = told(command);
    let failed = |said| ProjectError::Tool { command: told.clone(), said };
    command.stdin(Stdio::null());
    if let Voice::Heard(tell) = voice {
        // What they say on stdout when all is well is no data of ours.
        return match run_and_tell(command.stdout(Stdio::null()), tell) {
            Ok(status) if status.success() => Ok(()),
            Ok(_) => Err(failed(None)),
            Err(error) => Err(failed(Some(error.to_string()))),
        };
    }
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
            Err(failed(Some(said.trim().to_owned())))
        }
        Err(error) => Err(failed(Some(error.to_string()))),
    }
}

/// The command as one would type it.
fn told(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}
