//! What can go wrong with a project.

use std::path::PathBuf;

use lockkeeper_guest_build::BuildError;
use thiserror::Error;

use crate::policy::PolicyError;

/// Why a project could not be made or built.
#[derive(Debug, Error)]
pub enum ProjectError {
    /// A name that a crate, a package and a file cannot have.
    #[error("`{name}` cannot be a policy's name: {reason}")]
    BadName {
        /// The name.
        name: String,
        /// Why.
        reason: &'static str,
    },
    /// The folder is there and not empty.
    #[error("`{}` is there already, and not empty", folder.display())]
    Occupied {
        /// Which.
        folder: PathBuf,
    },
    /// No project is in the folder.
    #[error("there is no policy in `{}`", folder.display())]
    None {
        /// Which.
        folder: PathBuf,
    },
    /// A file of the project that cannot be read or written.
    #[error("cannot use `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The project's own manifest says something that does not make a policy.
    #[error("`{}`: {reason}", path.display())]
    Manifest {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// No SDK is where one was said to be.
    #[error("there is no SDK in `{}`", path.display())]
    NoSdk {
        /// Where.
        path: PathBuf,
    },
    /// A program that the build needs is not installed.
    #[error("`{program}` is not installed, and a policy in {language} is built with it")]
    NoProgram {
        /// Which.
        program: &'static str,
        /// For what.
        language: &'static str,
    },
    /// A tool ran and failed.
    #[error("`{command}` failed{}", said.as_ref().map_or(String::new(), |said| format!(":\n{said}")))]
    Tool {
        /// What was run.
        command: String,
        /// What it said, unless that was shown already.
        said: Option<String>,
    },
    /// The crate could not be built.
    #[error(transparent)]
    Rust(#[from] BuildError),
    /// What came of it is no policy.
    #[error("what was built is no policy")]
    Policy(#[from] PolicyError),
}

impl ProjectError {
    /// What to do.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::BadName { .. } => Some("begin with a letter, then a-z, 0-9 and -, such as `one-per-rack`".to_owned()),
            Self::Occupied { .. } => Some("choose another name, or another folder with --out".to_owned()),
            Self::None { .. } => Some(
                "a policy's folder has a `Cargo.toml`, a `policy.py` or a `package.json`; `lockkeeper policy new NAME` makes one"
                    .to_owned(),
            ),
            Self::NoSdk { .. } => Some("--sdk names the folder `guest-sdk` of a checkout of lockkeeper".to_owned()),
            Self::NoProgram { program, .. } => Some(match *program {
                "cargo" => "install Rust, then `rustup target add wasm32-unknown-unknown`".to_owned(),
                "python3" => "install Python 3.10 or later with its `venv`, on Debian `apt-get install python3-venv`".to_owned(),
                _ => "install Node.js 20 or later with npm, on Debian `apt-get install nodejs npm`".to_owned(),
            }),
            Self::Policy(error) => error.hint(),
            Self::File { .. } | Self::Manifest { .. } | Self::Tool { .. } | Self::Rust(_) => None,
        }
    }
}
