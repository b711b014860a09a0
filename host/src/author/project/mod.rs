//! A policy's project: made from a template, recognised, and built to a component, in Rust, Python or JavaScript.

mod build;
mod create;
mod error;
mod javascript;
mod python;
mod rust;
mod tools;

use std::path::{Path, PathBuf};

pub use build::{Built, build};
pub use create::{Made, Place, Template, create};
pub use error::ProjectError;

/// The contract, as toolchains of other languages read it.
const WIT: &str = include_str!("../../../../guest-sdk/wit/policy.wit");

/// The folder in a project that a build makes and nobody edits.
const OWN_FOLDER: &str = ".lockkeeper";

/// What a policy is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// A crate with `lockkeeper-sdk`.
    Rust,
    /// A module for `componentize-py`.
    Python,
    /// A module for `componentize-js`.
    JavaScript,
}

impl Language {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::JavaScript => "JavaScript",
        }
    }
}

/// A folder with a policy in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Project {
    /// Where it is.
    pub folder: PathBuf,
    /// What it is written in.
    pub language: Language,
    /// Its name, as the project's own manifest has it.
    pub name: String,
}

impl Project {
    /// Recognises the project in a folder: a crate by its `Cargo.toml`, JavaScript by its `package.json`, Python by its
    /// `policy.py`, whose folder names it.
    ///
    /// # Errors
    /// [`ProjectError::None`], or a manifest that cannot be read.
    pub fn find(folder: &Path) -> Result<Self, ProjectError> {
        let has = |file: &str| folder.join(file).is_file();
        let folder_name = || {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            folder.file_name().map_or_else(|| "policy".to_owned(), |name| name.to_string_lossy().into_owned())
        };
        let (language, name) = match () {
            () if has("Cargo.toml") => (Language::Rust, rust::name(folder)?),
            () if has("package.json") => (Language::JavaScript, javascript::name(folder)?),
            () if has(python::SOURCE) => (Language::Python, folder_name()),
            () => return Err(ProjectError::None { folder: folder.to_owned() }),
        };
        Ok(Self { folder: folder.to_owned(), language, name })
    }

    /// Where a build puts the component unless told otherwise.
    #[must_use]
    pub fn wasm(&self) -> PathBuf {
        self.folder.join(file_of(&self.name))
    }

    /// Whether a change of this file may change the component, the cases or the job: not what a build makes itself.
    #[must_use]
    pub fn is_source(&self, file: &Path) -> bool {
        let Ok(below) = file.strip_prefix(&self.folder) else { return false };
        let made = ["target", ".venv", "node_modules", "__pycache__", OWN_FOLDER, ".git"];
        let is_made = below.components().next().is_some_and(|first| made.iter().any(|made| first.as_os_str() == *made));
        let kinds = ["rs", "toml", "py", "js", "mjs", "json", "txt", "lock"];
        let is_kind = below.extension().is_some_and(|kind| kinds.iter().any(|known| kind == *known));
        !is_made && is_kind && below != Path::new("job.schema.json")
    }
}

/// The component's file name.
fn file_of(name: &str) -> String {
    format!("{}.wasm", name.replace('-', "_"))
}
