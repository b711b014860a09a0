//! `cargo xtask`: set up a machine, show the main job, test everything, measure.

#![expect(clippy::print_stdout, reason = "what a command line tool answers")]

mod bench;
mod demo;
mod guest;
mod setup;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};

/// Work on Lockkeeper itself.
#[derive(Parser)]
#[command(name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Bring what is missing: a Rust that builds wasm, and ZooKeeper for the tests.
    Setup,
    /// Set up, then restart ten real servers two at a time under a wasm policy, and look from outside.
    Demo,
    /// Set up, then pass every test.
    Test {
        /// Handed on to `cargo test`.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Build a policy crate of this workspace to a wasm component beside its job.
    Guest {
        /// The crate's folder.
        folder: PathBuf,
    },
    /// Measure.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> Result<()> {
    match Cli::parse().command {
        Task::Setup => setup::run(setup::For::Tests),
        Task::Demo => {
            setup::run(setup::For::Building)?;
            demo::run()
        }
        Task::Test { rest } => {
            setup::run(setup::For::Tests)?;
            // Scenarios run the binaries that this builds.
            cargo(&["build", "--workspace"])?;
            let mut arguments = vec!["test", "--workspace"];
            arguments.extend(rest.iter().map(String::as_str));
            cargo(&arguments)
        }
        Task::Guest { folder } => guest::run(&folder),
        Task::Bench(bench) => bench::run(&bench),
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Where cargo puts what it builds.
fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(program).args(arguments).current_dir(root()).status().context("cannot run cargo")?;
    match status.success() {
        true => Ok(()),
        false => bail!("`cargo {}` failed", arguments.join(" ")),
    }
}
