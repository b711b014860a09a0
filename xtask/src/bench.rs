//! Benchmarks, each beside its peer in the same run. The crate `xtask/bench` measures; this builds it and runs it, because what
//! sets a machine up cannot need what it installs.

use std::process::Command;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

use crate::setup::{self, For};
use crate::{cargo, root, target_dir};

/// The one build of all benchmarks, and that of `cargo build --release` too: the same packages have the same features, so that
/// no benchmark compiles anew what another one compiled.
const BUILD: [&str; 6] = ["build", "--release", "--package", "lockkeeper", "--package", "lockkeeper-bench"];

/// Where the results are kept.
const PAGE: &str = "docs/benchmarks.md";

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// A policy's decision in a fresh sandbox
    Decisions {
        /// Write the result into `docs/benchmarks.md`
        #[arg(long)]
        write: bool,
        /// Arguments for the benchmark; `-- --help` lists them
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// What `run` adds to each target, beside `xargs -P` and ansible-core
    Rollout {
        /// Number of targets
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        targets: u32,
        /// Number of targets that run at once
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        at_once: u32,
        /// Rounds; each contender runs once in each, and the median counts
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Write the result into `docs/benchmarks.md`
        #[arg(long)]
        write: bool,
        /// Arguments for the benchmark; `-- --help` lists them
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Slots of one ZooKeeper server: acquired, handed over and lost, beside kazoo and Curator
    Zookeeper {
        /// Short windows and one round: whether everything works, not how well
        #[arg(long)]
        quick: bool,
        /// Write the result into `docs/benchmarks.md`
        #[arg(long, conflicts_with = "quick")]
        write: bool,
        /// Arguments for the benchmark; `-- --help` lists them
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Memory and processor time of a run whose orchestration waits, beside a script of kazoo that waits
    Waiting {
        /// Write the result into `docs/benchmarks.md`
        #[arg(long)]
        write: bool,
        /// Arguments for the benchmark; `-- --help` lists them
        #[arg(last = true)]
        rest: Vec<String>,
    },
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let (name, needs, flags, write, rest) = match bench {
        Bench::Decisions { write, rest } => ("decisions", For::Building, Vec::new(), *write, rest),
        Bench::Rollout { targets, at_once, rounds, write, rest } => {
            let flags = [("--targets", targets), ("--at-once", at_once), ("--rounds", rounds)];
            let flags = flags.into_iter().map(|(flag, number)| format!("{flag}={number}")).collect();
            ("rollout", For::Benchmarks, flags, *write, rest)
        }
        Bench::Zookeeper { quick, write, rest } => {
            let flags = if *quick { vec!["--quick".to_owned()] } else { Vec::new() };
            ("zookeeper", For::Benchmarks, flags, *write, rest)
        }
        Bench::Waiting { write, rest } => ("waiting", For::Benchmarks, Vec::new(), *write, rest),
    };
    setup::run(needs)?;
    cargo(&BUILD)?;
    let mut command = Command::new(target_dir().join("release/lockkeeper-bench"));
    command.arg(name).args(flags);
    if write {
        command.args(["--write", PAGE]);
    }
    let status = command.args(rest).current_dir(root()).status().context("cannot run the benchmark")?;
    match status.success() {
        true => Ok(()),
        false => bail!("the benchmark `{name}` failed"),
    }
}
