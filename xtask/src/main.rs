//! `cargo xtask`: set up a machine, show the main job, test everything, measure.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what a command line tool answers")]

mod bench;
mod demo;
mod fixtures;
mod fuzz;
mod release;
mod setup;

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

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
    /// Bring what is missing: a Rust that builds wasm, and for the tests ZooKeeper, kazoo and Salt.
    Setup,
    /// Set up, then restart ten real servers two at a time under a wasm policy, and look from outside.
    Demo,
    /// Set up, then pass every test.
    Test {
        /// Handed on to `cargo test`.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Make the fixtures of the contract's version: its text, and guests that are built against it. Those of a version that
    /// was released are never made anew.
    Fixtures,
    /// Let libFuzzer look for bytes that something of ours cannot read. The tests do so for seconds; this needs a nightly
    /// Rust and `cargo-fuzz`.
    Fuzz(fuzz::Fuzz),
    /// Build the binary as it is shipped, with its debug information in a file of its own.
    Release,
    /// Measure.
    #[command(subcommand)]
    Bench(bench::Bench),
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
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
        Task::Fixtures => fixtures::run(),
        Task::Fuzz(fuzz) => fuzz::run(&fuzz),
        Task::Release => release::run(),
        Task::Bench(bench) => bench::run(&bench),
    }
}

/// The workspace's folder.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// Where the binaries are: beside our own, wherever cargo was told to put them.
fn binaries() -> PathBuf {
    let ourselves = env::current_exe().ok();
    ourselves.as_deref().and_then(Path::parent).map_or_else(|| root().join("target/debug"), Path::to_owned)
}

/// Where cargo puts what it builds.
fn target_dir() -> PathBuf {
    binaries().parent().map_or_else(|| root().join("target"), Path::to_owned)
}

fn cargo(arguments: &[&str]) -> Result<()> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    if let Some(target) = env::var_os("CARGO_TARGET_DIR") {
        // Meant for the folder that we were called in.
        command.env("CARGO_TARGET_DIR", std::path::absolute(target)?);
    }
    let status = command.args(arguments).current_dir(root()).status().context("cannot run cargo")?;
    if status.success() { Ok(()) } else { bail!("`cargo {}` failed", arguments.join(" ")) }
}
