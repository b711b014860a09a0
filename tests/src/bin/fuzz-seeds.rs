//! `fuzz-seeds TARGET FOLDER`: writes the seeds of a fuzz target into a folder for libFuzzer.

use std::path::PathBuf;

use anyhow::{Context, Result};
use lockkeeper_tests::fuzz::TARGETS;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1);
    let name = arguments.next().context("which target?")?;
    let folder = PathBuf::from(arguments.next().context("into which folder?")?);
    let target = TARGETS.iter().find(|target| name == target.name).with_context(|| {
        let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
        format!("there is no target {}: there are {}", name.display(), names.join(", "))
    })?;
    std::fs::create_dir_all(&folder)?;
    for (number, seed) in target.seeds().iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    Ok(())
}
