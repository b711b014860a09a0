//! Measurements, each beside its peer in the same run.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};

use crate::setup::{self, For};
use crate::{cargo, root, target_dir};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// A policy's decision in a fresh sandbox.
    Decisions,
    /// What `run` adds to each target, beside a shell loop that spawns as many commands.
    Rollout {
        /// How many targets.
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
        targets: u32,
        /// How many at once.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
        at_once: u32,
        /// How often both are run, in turn.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
    },
    /// Taking, handing over and losing slots on one ZooKeeper server, beside kazoo and Curator.
    Zookeeper {
        /// Short windows and one round: whether everything works, not how well.
        #[arg(long)]
        quick: bool,
        /// Write the result into `docs/benchmarks.md`.
        #[arg(long, conflicts_with = "quick")]
        write: bool,
        /// Handed on: `--help` tells of more.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// What a run takes whose orchestration waits, beside a script of kazoo that does.
    Waiting {
        /// Write the result into `docs/benchmarks.md`.
        #[arg(long)]
        write: bool,
        /// Handed on: `--help` tells of more.
        #[arg(last = true)]
        rest: Vec<String>,
    },
    /// Run one command and say in JSON what it took: nothing else was this process's child.
    #[command(hide = true)]
    One {
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
}

/// What a command took.
#[derive(Clone, Copy)]
struct Took {
    seconds: f64,
    /// The most that it, or one of its own children, had in memory.
    peak_megabytes: f64,
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Decisions => cargo(&["run", "--release", "--package", "lockkeeper", "--example", "bench_decisions"]),
        Bench::Rollout { targets, at_once, rounds } => rollout(*targets, *at_once, *rounds),
        Bench::Zookeeper { quick, write, rest } => zookeeper(*quick, *write, rest),
        Bench::Waiting { write, rest } => waiting(*write, rest),
        Bench::One { command } => one(command),
    }
}

/// Built and run, and not built into this: what sets a machine up cannot need what it brings.
fn zookeeper(quick: bool, write: bool, rest: &[String]) -> Result<()> {
    let quick: &[&str] = if quick { &["--quick"] } else { &[] };
    beside_peers("zookeeper", quick, write, rest)
}

fn waiting(write: bool, rest: &[String]) -> Result<()> {
    cargo(&["build", "--release", "--package", "lockkeeper"])?;
    beside_peers("waiting", &[], write, rest)
}

fn beside_peers(what: &str, flags: &[&str], write: bool, rest: &[String]) -> Result<()> {
    setup::run(For::Benchmarks)?;
    let mut arguments = vec!["run", "--release", "--package", "lockkeeper-bench", "--", what];
    arguments.extend(flags);
    if write {
        arguments.extend(["--write", "docs/benchmarks.md"]);
    }
    arguments.extend(rest.iter().map(String::as_str));
    cargo(&arguments)
}

fn rollout(targets: u32, at_once: u32, rounds: u32) -> Result<()> {
    cargo(&["build", "--release", "--package", "lockkeeper"])?;
    let folder = tempfile::tempdir()?;
    let job = folder.path().join("job.toml");
    fs::write(&job, job_text(targets, at_once))?;

    let (mut ours, mut shells) = (Vec::new(), Vec::new());
    // One of each that does not count: caches fill, the policy is compiled.
    lockkeeper(folder.path(), &job)?;
    shell(targets, at_once, folder.path())?;
    for _ in 0..rounds {
        ours.push(lockkeeper(folder.path(), &job)?);
        shells.push(shell(targets, at_once, folder.path())?);
    }
    let (run, shell_loop) = (median(&ours, |took| took.seconds), median(&shells, |took| took.seconds));
    let peak = ours.iter().map(|took| took.peak_megabytes).fold(0.0, f64::max);
    let extra = (run - shell_loop) * 1000.0 / f64::from(targets);
    println!(
        "{targets} targets, command `true`, {at_once} at once, embedded store; medians of {rounds} rounds in turn"
    );
    println!("  lockkeeper run      {run:8.3} s");
    println!("  shell, xargs -P     {shell_loop:8.3} s");
    println!("  ratio               {:8.2}", run / shell_loop);
    println!("  overhead a target   {extra:8.3} ms");
    println!("  peak memory of run  {peak:8.1} MB");
    Ok(())
}

fn job_text(targets: u32, at_once: u32) -> String {
    let hosts: Vec<String> = (1..=targets).map(|number| format!("\"host{number:05}\"")).collect();
    format!(
        "name = \"bench\"\n[semaphore]\npath = \"/locks/bench\"\nmax-concurrency = {at_once}\n[targets]\nhosts = [{}]\n\
         [policy]\nuse = \"rolling\"\n[action]\nrun = [\"true\"]\n",
        hosts.join(", ")
    )
}

fn lockkeeper(folder: &Path, job: &Path) -> Result<Took> {
    let binary = target_dir().join("release/lockkeeper");
    let state = folder.join("state");
    measured(&[binary.as_os_str(), "run".as_ref(), "--quiet".as_ref(), job.as_os_str()], &state)
}

/// As many processes, as many at once, from a shell and `xargs`.
fn shell(targets: u32, at_once: u32, folder: &Path) -> Result<Took> {
    let script = format!("seq {targets} | xargs -P {at_once} -n 1 true");
    measured(&["sh".as_ref(), "-c".as_ref(), script.as_ref()], folder)
}

/// Measures a command in a process of its own: the system tells only the peak of all children taken together.
fn measured(command: &[&OsStr], state: &Path) -> Result<Took> {
    let mut measuring = Command::new(std::env::current_exe()?);
    measuring.args(["bench", "one", "--"]).args(command);
    measuring.env("LOCKKEEPER_STATE_DIR", state);
    for elsewhere in ["LOCKKEEPER_STORE", "LOCKKEEPER_ZK_HOSTS", "LOCKKEEPER_PROFILE"] {
        measuring.env_remove(elsewhere);
    }
    let output = measuring.current_dir(root()).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        bail!("what is measured failed");
    }
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| said[key].as_f64().with_context(|| format!("no {key} was measured"));
    Ok(Took { seconds: number("seconds")?, peak_megabytes: number("peak-megabytes")? })
}

fn one(command: &[OsString]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let began = Instant::now();
    // What it prints is not what is measured, and our stdout is for the numbers.
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let seconds = began.elapsed().as_secs_f64();
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    if !status.success() {
        bail!("{} ended with {status}", program.display());
    }
    let kilobytes = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    println!("{}", json!({ "seconds": seconds, "peak-megabytes": kilobytes as f64 / 1024.0 }));
    Ok(())
}

fn median(took: &[Took], of: impl Fn(&Took) -> f64) -> f64 {
    let mut numbers: Vec<f64> = took.iter().map(of).collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let took = [5.0, 1.0, 3.0].map(|seconds| Took { seconds, peak_megabytes: 0.0 });
        assert_eq!(median(&took, |took| took.seconds), 3.0);
    }
}
