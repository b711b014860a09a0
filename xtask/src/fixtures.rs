//! What is kept of a version of the contract: `docs/contract.md` says why.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::{binaries, cargo, root};

/// The guests: each crate, and what its fixture is called.
const GUESTS: [(&str, &str); 3] =
    [("tests/guests/hello", "hello"), ("tests/guests/typed", "typed"), ("policies/rolling", "rolling")];

/// Stands in the folder of a version from its release on.
const RELEASED: &str = "RELEASED";

pub(crate) fn run() -> Result<()> {
    let wit = fs::read_to_string(root().join("guest-sdk/wit/policy.wit"))?;
    let version = wit.split_once("lockkeeper:policy@").and_then(|(_, rest)| rest.split_once(';'));
    let (version, _) = version.context("guest-sdk/wit/policy.wit names no version")?;
    let folder = root().join("tests/contract").join(version);
    if folder.join(RELEASED).exists() {
        bail!(
            "{version} was released: its fixtures stay what they are. A change of the contract needs a version of its own"
        );
    }
    fs::create_dir_all(&folder)?;
    cargo(&["build", "--workspace"])?;
    for (guest, name) in GUESTS {
        let out = folder.join(format!("{name}.wasm"));
        let mut build = std::process::Command::new(binaries().join("lockkeeper"));
        let status = build.args(["policy", "build", guest, "--out"]).arg(&out).current_dir(root()).status()?;
        if !status.success() {
            bail!("`lockkeeper policy build {guest}` failed");
        }
    }
    let golden = folder.join("policy.wit");
    if golden.exists() {
        fs::remove_file(&golden)?;
    }
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(program)
        .args(["test", "--workspace", "--test", "contract"])
        .env("UPDATE_CONTRACT", "1")
        .current_dir(root())
        .status()?;
    if !status.success() {
        bail!("the fixtures do not do what their cases say");
    }
    println!("made {}; an empty file `{RELEASED}` in it keeps it so", folder.display());
    Ok(())
}
