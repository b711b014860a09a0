//! Policies in Rust: a crate built for wasm, then made a component.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lockkeeper_guest_build::{
    Build, BuildError, Stderr, Toolchain, add_target, with_short_names, without_component_names,
};
use serde_json::Value;

use super::tools::Voice;
use super::{Language, ProjectError};
use crate::policy::componentise;

pub(super) fn name(folder: &Path) -> Result<String, ProjectError> {
    let path = folder.join("Cargo.toml");
    let text = fs::read_to_string(&path).map_err(|source| ProjectError::File { path: path.clone(), source })?;
    let manifest: toml::Table = text
        .parse()
        .map_err(|error: toml::de::Error| ProjectError::Manifest { path: path.clone(), reason: error.to_string() })?;
    match manifest.get("package").and_then(|package| package.get("name")).and_then(toml::Value::as_str) {
        Some(name) => Ok(name.to_owned()),
        None => Err(ProjectError::Manifest { path, reason: "names no package".to_owned() }),
    }
}

pub(super) fn build(folder: &Path, out: &Path, voice: Voice<'_>, say: &dyn Fn(&str, &str)) -> Result<(), ProjectError> {
    let toolchain = match Toolchain::find() {
        Err(BuildError::NoToolchain) if super::tools::on_path("rustup").is_some() => {
            say("Installing", "the target wasm32-unknown-unknown with rustup, once");
            // Whatever rustup says, what counts is whether there is one now.
            let _ = add_target();
            Toolchain::find()?
        }
        found => found?,
    };
    let place = Crate::find(folder)?;
    say("Building", &format!("{} for wasm32-unknown-unknown: {}", place.name, toolchain.describe()));
    let stderr = match voice {
        Voice::Heard(tell) => Stderr::Lines(tell),
        Voice::Kept => Stderr::Kept,
    };
    let modules = toolchain.build(&Build {
        manifest: &place.manifest,
        packages: &[&place.name],
        profile: place.profile,
        target_dir: &place.target_dir,
        stderr,
    })?;
    let module = modules[0].with_file_name(format!("{}.wasm", place.library));
    let core = fs::read(&module).map_err(|source| ProjectError::File { path: module, source })?;
    let core = with_short_names(&core).unwrap_or(core);
    let component = without_component_names(componentise(&core)?);
    fs::write(out, component).map_err(|source| ProjectError::File { path: out.to_owned(), source })
}

/// What cargo knows of a crate.
struct Crate {
    manifest: PathBuf,
    name: String,
    /// Its library's name, as files have it.
    library: String,
    profile: &'static str,
    /// Apart from what is built natively: std is built there, too, where it must be, and cargo locks a folder.
    target_dir: PathBuf,
}

impl Crate {
    fn find(folder: &Path) -> Result<Self, ProjectError> {
        let manifest = folder.join("Cargo.toml");
        let manifest = fs::canonicalize(&manifest).map_err(|source| ProjectError::File { path: manifest, source })?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(&manifest)
            .stdin(Stdio::null())
            .output()
            .map_err(|_| ProjectError::NoProgram { program: "cargo", language: Language::Rust.name() })?;
        if !output.status.success() {
            let said = Some(String::from_utf8_lossy(&output.stderr).trim().to_owned());
            return Err(ProjectError::Tool { command: "cargo metadata".to_owned(), said });
        }
        let metadata: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        let wrong = |reason: &str| ProjectError::Manifest { path: manifest.clone(), reason: reason.to_owned() };
        let packages = metadata["packages"].as_array().into_iter().flatten();
        let package = packages
            .into_iter()
            .find(|package| package["manifest_path"].as_str().is_some_and(|path| Path::new(path) == manifest))
            .ok_or_else(|| wrong("is no package that cargo knows"))?;
        let is_wasm = |target: &&Value| {
            target["crate_types"].as_array().is_some_and(|types| types.iter().any(|kind| kind == "cdylib"))
        };
        let library = package["targets"]
            .as_array()
            .into_iter()
            .flatten()
            .find(is_wasm)
            .ok_or_else(|| wrong("makes no wasm: it needs `crate-type = [\"cdylib\", \"rlib\"]` under `[lib]`"))?;
        let text = |of: &Value| of.as_str().unwrap_or_default().to_owned();
        let root = PathBuf::from(text(&metadata["workspace_root"])).join("Cargo.toml");
        let has_profile = fs::read_to_string(root)
            .ok()
            .and_then(|text| text.parse::<toml::Table>().ok())
            .is_some_and(|root| root.get("profile").is_some_and(|profiles| profiles.get("guest").is_some()));
        Ok(Self {
            name: text(&package["name"]),
            library: text(&library["name"]).replace('-', "_"),
            profile: if has_profile { "guest" } else { "release" },
            target_dir: PathBuf::from(text(&metadata["target_directory"])).join("guests"),
            manifest,
        })
    }
}
