//! A policy crate to a component beside its job.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use lockkeeper_guest_build::Toolchain;
use wit_component::ComponentEncoder;

use crate::{root, target_dir};

pub(crate) fn run(folder: &Path) -> Result<()> {
    let manifest = folder.join("Cargo.toml");
    let text = fs::read_to_string(&manifest).with_context(|| format!("no crate in {}", folder.display()))?;
    let name = text.lines().find_map(|line| line.strip_prefix("name = ")).map(|name| name.trim().trim_matches('"'));
    let Some(name) = name else { bail!("{} names no package", manifest.display()) };
    let modules = Toolchain::find()?.build(&root().join("Cargo.toml"), &[name], &target_dir().join("guests"))?;
    let core = fs::read(&modules[0])?;
    let component = ComponentEncoder::default().validate(true).module(&core)?.encode()?;
    let beside = folder.parent().unwrap_or(folder).join(format!("{}.wasm", name.replace('-', "_")));
    fs::write(&beside, &component)?;
    println!("{}: {} bytes", beside.display(), component.len());
    Ok(())
}
