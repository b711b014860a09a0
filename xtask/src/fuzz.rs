//! `cargo xtask fuzz`: libFuzzer, for as long as one likes, on what reads strangers' bytes.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{cargo, root, target_dir};

#[derive(Args)]
pub(crate) struct Fuzz {
    /// What reads: `job`, `cases`, `wasm`, `znodes` or `journal`.
    target: String,
    /// For how long.
    #[arg(long, value_name = "NUMBER", default_value_t = 60)]
    seconds: u64,
}

pub(crate) fn run(fuzz: &Fuzz) -> Result<()> {
    let tool = Command::new("cargo")
        .args(["+nightly", "fuzz", "--version"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !tool.is_ok_and(|status| status.success()) {
        bail!("this needs `rustup toolchain install nightly` and `cargo install cargo-fuzz`");
    }
    let folder: PathBuf = target_dir().join("fuzz");
    let corpus = folder.join("corpus").join(&fuzz.target);
    let seeds = corpus.display().to_string();
    cargo(&["run", "--quiet", "--package", "lockkeeper-tests", "--bin", "fuzz-seeds", &fuzz.target, &seeds])?;
    let found = folder.join("found").join(&fuzz.target);
    std::fs::create_dir_all(&found)?;
    let status = Command::new("cargo")
        .args(["+nightly", "fuzz", "run", "--fuzz-dir", "tests/fuzz", "--target-dir"])
        .arg(folder.join("target"))
        .arg(&fuzz.target)
        .arg(&corpus)
        .arg("--")
        .arg(format!("-max_total_time={}", fuzz.seconds))
        .arg(format!("-artifact_prefix={}/", found.display()))
        // The stable compiler that runs this task must not be the one that builds.
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env_remove("RUSTC")
        .current_dir(root())
        .status()
        .context("cannot run cargo")?;
    let has_found = std::fs::read_dir(&found)?.next().is_some();
    match (status.success(), has_found) {
        (true, _) => Ok(()),
        (false, true) => bail!("what made it fail is in {}", found.display()),
        (false, false) => bail!("`cargo fuzz` failed"),
    }
}
