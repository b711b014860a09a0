//! Compiles the standard policies to wasm components and embeds them.

use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::{env, fs};

use lockkeeper_guest_build::{Build, PROFILE, Stderr, Toolchain, with_short_names, without_component_names};
use wit_component::ComponentEncoder;

#[expect(clippy::print_stderr, reason = "cargo shows a build script's stderr; `Error: Os { … }` would say less")]
fn main() {
    if let Err(error) = embed_policies() {
        eprintln!("{error}");
        std::process::exit(1);
    }
}

fn embed_policies() -> Result<(), Box<dyn Error>> {
    let host = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let root = host.parent().ok_or("host/ stands in the workspace")?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    for watched in ["policies", "guest-sdk/src", "guest-sdk/wit", "guest-sdk/macros", "Cargo.toml", "Cargo.lock"] {
        println!("cargo:rerun-if-changed={}", root.join(watched).display());
    }

    let mut names: Vec<String> = fs::read_dir(root.join("policies"))?
        .filter_map(Result::ok)
        .filter(|entry| entry.path().join("Cargo.toml").is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();

    let packages: Vec<&str> = names.iter().map(String::as_str).collect();
    let modules = Toolchain::find()?.build(&Build {
        manifest: &root.join("Cargo.toml"),
        packages: &packages,
        profile: PROFILE,
        target_dir: &guest_target_dir(&out),
        stderr: Stderr::Kept,
    })?;

    let mut table = String::from("&[\n");
    for (name, module) in names.iter().zip(modules) {
        let core = fs::read(&module)?;
        let core = with_short_names(&core).unwrap_or(core);
        let component = ComponentEncoder::default().validate(true).module(&core)?.encode()?;
        let file = out.join(format!("{name}.wasm"));
        fs::write(&file, without_component_names(component))?;
        writeln!(table, "    ({name:?}, include_bytes!({:?})),", file.display().to_string())?;
    }
    table.push(']');
    fs::write(out.join("standard_policies.rs"), table)?;
    Ok(())
}

/// `guests` in cargo's target folder: one build of the guests serves every profile of the host.
fn guest_target_dir(out: &Path) -> PathBuf {
    let build = out.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "build"));
    build.and_then(Path::parent).and_then(Path::parent).unwrap_or(out).join("guests")
}
