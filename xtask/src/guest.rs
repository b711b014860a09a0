//! A policy crate to wasm beside its job.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lockkeeper_guest_build::Toolchain;

use crate::{root, target_dir};

pub(crate) fn run(folder: &Path) -> Result<()> {
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("no crate in {}", folder.display()))?;
    let name = text.lines().find_map(|line| line.strip_prefix("name = ")).map(|name| name.trim().trim_matches('"'));
    let Some(name) = name else { bail!("{} names no package", manifest.display()) };
    let modules = Toolchain::find()?.build(&root().join("Cargo.toml"), &[name], &target_dir().join("guests"))?;
    // The host makes a component of a core module by itself.
    let beside = folder.parent().unwrap_or(folder).join(format!("{}.wasm", name.replace('-', "_")));
    let bytes = fs::copy(&modules[0], &beside)?;
    println!("{}: {bytes} bytes", beside.display());
    Ok(())
}
