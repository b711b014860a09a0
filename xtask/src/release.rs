//! `cargo xtask release`: the binary as it is shipped, with its debug information in a file of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::{cargo, target_dir};

/// Builds the binary and splits it. A backtrace has names and lines where the second file lies beside the first, or where
/// `/usr/lib/debug` has it; without it, panics still say where they happened.
pub(crate) fn run() -> Result<()> {
    cargo(&["build", "--release", "--package", "lockkeeper"])?;
    let folder = target_dir().join("release/shipped");
    fs::create_dir_all(&folder)?;
    let built = target_dir().join("release/lockkeeper");
    split(&built, &folder)?;
    for name in ["lockkeeper", "lockkeeper.debug"] {
        let file = folder.join(name);
        println!("{:7.1} MB  {}", fs::metadata(&file)?.len() as f64 / 1e6, file.display());
    }
    Ok(())
}

fn split(built: &Path, folder: &Path) -> Result<()> {
    tool(
        Command::new("objcopy")
            .args(["--only-keep-debug", "--compress-debug-sections=zlib"])
            .arg(built)
            .arg("lockkeeper.debug"),
        folder,
    )?;
    tool(Command::new("strip").arg("-o").arg("lockkeeper").arg(built), folder)?;
    // By its name alone, in the folder that has it: the link has a checksum of the file.
    tool(Command::new("objcopy").args(["--add-gnu-debuglink=lockkeeper.debug", "lockkeeper"]), folder)
}

/// One of binutils, which the linker needs, too.
fn tool(command: &mut Command, folder: &Path) -> Result<()> {
    let status = command.current_dir(folder).status();
    let name = command.get_program().display().to_string();
    match status.with_context(|| format!("cannot run {name}, of binutils"))?.success() {
        true => Ok(()),
        false => bail!("{name} failed"),
    }
}
