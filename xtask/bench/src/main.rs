//! Lockkeeper beside its peers, in one run. Started by `cargo xtask bench`, which builds it with the binary that it measures.
//!
//! `decisions` measures policies, `rollout` a run beside `xargs -P` and ansible-core, and `waiting` runs that wait. The others
//! measure slots on one ZooKeeper server beside kazoo and Curator: `cast` knows who takes part, `plan` what is measured and what is to be reached, `measure` carries it out in `world`, and
//! `report` tells it. `caller` is our own side, a process as the peers' are.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "what a command line tool answers")]

mod caller;
mod cast;
mod child;
mod decisions;
mod figures;
mod machine;
mod measure;
mod plan;
mod report;
mod rollout;
mod waiting;
mod world;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
#[command(name = "lockkeeper-bench")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure decisions of policies.
    Decisions(decisions::Options),
    /// Measure what a run adds to the commands of its targets.
    Rollout(rollout::Options),
    /// Measure Lockkeeper, kazoo and Curator in turn on one ZooKeeper server.
    Zookeeper(Options),
    /// Measure what a run takes whose orchestration waits.
    Waiting(waiting::Options),
    /// Take slots, and tell when.
    #[command(hide = true)]
    Caller(caller::Arguments),
    /// Run one command, and print in JSON what it took.
    #[command(hide = true)]
    One {
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// How it is measured.
#[derive(Debug, Args)]
struct Options {
    /// Short windows and one round: whether everything works, not how well.
    #[arg(long)]
    quick: bool,
    /// How often everybody has a turn; the middle counts.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Only these runs, by their names.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Let the server answer before a change is on the disk.
    #[arg(long)]
    no_fsync: bool,
    /// Write the result into this file, between its markers.
    #[arg(long)]
    write: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match &Cli::parse().command {
        Command::Decisions(options) => decisions::run(options),
        Command::Rollout(options) => rollout::run(options),
        Command::Zookeeper(options) => zookeeper(options),
        Command::Waiting(options) => waiting::run(options),
        Command::Caller(arguments) => caller::run(arguments),
        Command::One { command } => rollout::one(command),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn zookeeper(options: &Options) -> Result<()> {
    if !lockkeeper_tests::zookeeper::available() {
        return Ok(());
    }
    let cast = cast::Cast::gather()?;
    let world = world::World::start(!options.no_fsync)?;
    let machine = machine::describe(&world)?;
    let results = measure::all(options, &cast, &world)?;
    let report = report::Report { machine: &machine, cast: &cast, results: &results };
    println!("{}", report.text());
    match &options.write {
        Some(file) => report.write(file),
        None => Ok(()),
    }
}
