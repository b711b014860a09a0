//! A new project from a template.

use std::fs;
use std::path::{Path, PathBuf};

use super::{Language, ProjectError, file_of};

/// Names that cargo, Python or the languages themselves have taken.
const TAKEN: [&str; 22] = [
    "as", "build", "const", "core", "crate", "deps", "examples", "fn", "for", "if", "in", "let", "mod", "policy",
    "pub", "self", "std", "struct", "super", "test", "type", "use",
];

/// The longest name.
const MAX_NAME: usize = 64;

const RUST: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("templates/rust/Cargo.toml")),
    ("src/lib.rs", include_str!("templates/rust/lib.rs")),
    ("cases.toml", include_str!("templates/cases.toml")),
    ("job.toml", include_str!("templates/job.toml")),
    (".gitignore", include_str!("templates/rust/gitignore")),
];

const ORCHESTRATION: [(&str, &str); 5] = [
    ("Cargo.toml", include_str!("templates/rust/Cargo.toml")),
    ("src/lib.rs", include_str!("templates/orchestration/lib.rs")),
    ("cases.toml", include_str!("templates/orchestration/cases.toml")),
    ("job.toml", include_str!("templates/orchestration/job.toml")),
    (".gitignore", include_str!("templates/rust/gitignore")),
];

const PYTHON: [(&str, &str); 5] = [
    ("policy.py", include_str!("templates/python/policy.py")),
    ("requirements.txt", include_str!("templates/python/requirements.txt")),
    ("cases.toml", include_str!("templates/cases.toml")),
    ("job.toml", include_str!("templates/job.toml")),
    (".gitignore", include_str!("templates/python/gitignore")),
];

const JAVASCRIPT: [(&str, &str); 5] = [
    ("policy.js", include_str!("templates/javascript/policy.js")),
    ("package.json", include_str!("templates/javascript/package.json")),
    ("cases.toml", include_str!("templates/cases.toml")),
    ("job.toml", include_str!("templates/job.toml")),
    (".gitignore", include_str!("templates/javascript/gitignore")),
];

/// What a new project is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    /// A policy, in one of the languages.
    Policy(Language),
    /// An orchestration, in Rust.
    Orchestration,
}

/// Where a new project goes, and where its SDK is.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The project's folder; it may be there if it is empty.
    pub folder: &'a Path,
    /// The folder of the SDK's crate; none: looked for.
    pub sdk: Option<&'a Path>,
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The files, relative to the folder.
    pub files: Vec<&'static str>,
    /// What the component will be called.
    pub wasm: String,
}

/// Makes a project. It is whole or not there: what was begun goes again when a file cannot be written.
///
/// # Errors
/// [`ProjectError`]; nothing is left behind.
pub fn create(name: &str, template: Template, place: Place<'_>) -> Result<Made, ProjectError> {
    check(name)?;
    let folder = place.folder;
    if fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some()) || folder.is_file() {
        return Err(ProjectError::Occupied { folder: folder.to_owned() });
    }
    let (files, about) = match template {
        Template::Policy(Language::Rust) => (&RUST, "Leaves a pause between one start and the next"),
        Template::Policy(Language::Python) => (&PYTHON, ""),
        Template::Policy(Language::JavaScript) => (&JAVASCRIPT, ""),
        Template::Orchestration => (&ORCHESTRATION, "Acts on the targets while it holds a lease"),
    };
    let is_rust = matches!(template, Template::Policy(Language::Rust) | Template::Orchestration);
    let sdk = if is_rust { sdk(folder, place.sdk)? } else { String::new() };
    let was_there = folder.is_dir();
    let wasm = file_of(name);
    let write = |(file, source): &(&'static str, &str)| {
        let path = folder.join(file);
        let mut text = source
            .replace("{{about}}", about)
            .replace("{{name}}", name)
            .replace("{{file}}", &wasm)
            .replace("{{sdk}}", &sdk);
        if !is_rust {
            // JSON has no lengths of time: the other languages take seconds.
            text = text.replace("pause = \"30s\"", "pause-seconds = 30").replace("pause = \"2s\"", "pause-seconds = 2");
        }
        let written = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| fs::write(&path, text));
        written.map_err(|source| ProjectError::File { path, source })
    };
    if let Err(error) = files.iter().try_for_each(write) {
        for (file, _) in files {
            let _ = fs::remove_file(folder.join(file));
        }
        let _ = fs::remove_dir(folder.join("src"));
        if !was_there {
            let _ = fs::remove_dir(folder);
        }
        return Err(error);
    }
    Ok(Made { files: files.iter().map(|(file, _)| *file).collect(), wasm })
}

fn check(name: &str) -> Result<(), ProjectError> {
    let bad = |reason| Err(ProjectError::BadName { name: name.chars().take(MAX_NAME).collect(), reason });
    match name {
        "" => bad("it is empty"),
        _ if name.len() > MAX_NAME => bad("it is longer than 64 letters"),
        _ if !name.starts_with(|c: char| c.is_ascii_lowercase()) => bad("it does not begin with one of a-z"),
        _ if !name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-') => {
            bad("it has something else than a-z, 0-9 and -")
        }
        _ if name.ends_with('-') || name.contains("--") => bad("a - stands between two parts of a name"),
        _ if TAKEN.contains(&name) => bad("Rust or cargo has taken that word"),
        _ => Ok(()),
    }
}

/// The dependency on the SDK, as it stands in `Cargo.toml`: relative within a checkout of lockkeeper, absolute where the
/// checkout that this program was built from is still there, else the registry's.
fn sdk(folder: &Path, told: Option<&Path>) -> Result<String, ProjectError> {
    let is_sdk = |path: &Path| {
        fs::read_to_string(path.join("Cargo.toml")).is_ok_and(|text| text.contains("name = \"lockkeeper-sdk\""))
    };
    let path_to = |path: &Path| format!("{{ path = {} }}", toml::Value::String(path.display().to_string()));
    if let Some(told) = told {
        let whole = std::path::absolute(told).unwrap_or_else(|_| told.to_owned());
        return match is_sdk(&whole) {
            true => Ok(path_to(&whole)),
            false => Err(ProjectError::NoSdk { path: told.to_owned() }),
        };
    }
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    for (up, above) in folder.ancestors().enumerate() {
        if is_sdk(&above.join("guest-sdk")) {
            let up: PathBuf = std::iter::repeat_n("..", up).collect();
            return Ok(path_to(&up.join("guest-sdk")));
        }
    }
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("guest-sdk");
    Ok(match is_sdk(&built_from) {
        true => path_to(&built_from),
        false => toml::Value::String(env!("CARGO_PKG_VERSION").to_owned()).to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::project::Project;

    #[test]
    fn names_that_cannot_be_are_refused_with_why() {
        for name in ["", "Upper", "9lives", "a_b", "a b", "é", "-a", "a-", "a--b", "test", "../x", &"a".repeat(65)] {
            assert!(check(name).is_err(), "{name}");
        }
        for name in ["a", "one-per-rack", "v2"] {
            assert!(check(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn a_project_is_recognised_and_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        for (language, name) in
            [(Language::Rust, "in-rust"), (Language::Python, "in-python"), (Language::JavaScript, "in-javascript")]
        {
            let folder = folder.path().join(name);
            let place = Place { folder: &folder, sdk: None };
            let made = create(name, Template::Policy(language), place).unwrap();
            let found = Project::find(&folder).unwrap();
            assert_eq!((found.language, found.name.as_str()), (language, name));
            assert_eq!(found.wasm().file_name().unwrap().to_str(), Some(made.wasm.as_str()));
            for file in made.files {
                let text = fs::read_to_string(folder.join(file)).unwrap();
                assert!(!text.contains("{{"), "{file}: {text}");
            }
            let again = create(name, Template::Policy(language), place);
            assert!(matches!(again, Err(ProjectError::Occupied { .. })));
        }
    }

    #[test]
    fn the_sdk_is_relative_within_the_checkout_and_absolute_outside() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        assert_eq!(sdk(&root.join("examples/x"), None).unwrap(), "{ path = \"../../guest-sdk\" }");
        let outside = tempfile::tempdir().unwrap();
        let told = format!("{{ path = \"{}\" }}", root.join("guest-sdk").display());
        assert_eq!(sdk(outside.path(), None).unwrap(), told);
        assert!(sdk(outside.path(), Some(outside.path())).is_err());
    }

    #[test]
    fn the_first_source_in_rust_is_short() {
        let (_, source) = RUST.iter().find(|(file, _)| *file == "src/lib.rs").unwrap();
        assert!(source.lines().count() <= 30, "{}", source.lines().count());
    }
}
