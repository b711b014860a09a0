//! Measurements, each beside its peer in the same run.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use nix::sys::resource::{UsageWho, getrusage};

use crate::{cargo, root, target_dir};

/// What to measure.
#[derive(Subcommand)]
pub(crate) enum Bench {
    /// A policy's decision in a fresh sandbox.
    Decisions,
    /// What `run` adds to each target, beside a shell loop that spawns as many commands.
    Rollout {
        /// How many targets.
        #[arg(long, default_value_t = 1000)]
        targets: u32,
        /// How many at once.
        #[arg(long, default_value_t = 10)]
        at_once: u32,
        /// How often both are run, in turn.
        #[arg(long, default_value_t = 5)]
        rounds: u32,
    },
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    match bench {
        Bench::Decisions => cargo(&["run", "--release", "--package", "lockkeeper", "--example", "bench_decisions"]),
        Bench::Rollout { targets, at_once, rounds } => rollout(*targets, *at_once, *rounds),
    }
}

fn rollout(targets: u32, at_once: u32, rounds: u32) -> Result<()> {
    cargo(&["build", "--release", "--package", "lockkeeper"])?;
    let folder = tempfile::tempdir()?;
    let job = folder.path().join("job.toml");
    fs::write(&job, job_text(targets, at_once))?;

    let (mut ours, mut shells) = (Vec::new(), Vec::new());
    // One of each that does not count: caches fill, the policy is compiled.
    lockkeeper(folder.path(), &job)?;
    shell(targets, at_once)?;
    for _ in 0..rounds {
        ours.push(lockkeeper(folder.path(), &job)?);
        shells.push(shell(targets, at_once)?);
    }
    let (ours, shell) = (median(&mut ours), median(&mut shells));
    let extra = ours.saturating_sub(shell).as_secs_f64() * 1000.0 / f64::from(targets);
    println!(
        "{targets} targets, command `true`, {at_once} at once, embedded store; medians of {rounds} rounds in turn"
    );
    println!("  lockkeeper run      {:8.3} s", ours.as_secs_f64());
    println!("  shell, xargs -P     {:8.3} s", shell.as_secs_f64());
    println!("  ratio               {:8.2}", ours.as_secs_f64() / shell.as_secs_f64());
    println!("  overhead a target   {extra:8.3} ms");
    println!("  peak memory         {:8.1} MB (largest child)", peak_megabytes()?);
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

fn lockkeeper(folder: &Path, job: &Path) -> Result<Duration> {
    let mut command = Command::new(target_dir().join("release/lockkeeper"));
    command.args(["run", "--quiet"]).arg(job).env("LOCKKEEPER_STATE_DIR", folder.join("state"));
    timed(&mut command)
}

/// As many processes, as many at once, from a shell and `xargs`.
fn shell(targets: u32, at_once: u32) -> Result<Duration> {
    let script = format!("seq {targets} | xargs -P {at_once} -n 1 true");
    timed(Command::new("sh").args(["-c", &script]))
}

fn timed(command: &mut Command) -> Result<Duration> {
    let began = Instant::now();
    let status = command.current_dir(root()).stdin(Stdio::null()).status().context("cannot run what is measured")?;
    match status.success() {
        true => Ok(began.elapsed()),
        false => bail!("what is measured failed: {status}"),
    }
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or_default()
}

fn peak_megabytes() -> Result<f64> {
    let kilobytes = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    Ok(kilobytes as f64 / 1024.0)
}
