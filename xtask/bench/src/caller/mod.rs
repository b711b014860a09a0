//! Our own side: what a peer's program does, with our recipe, and with kazoo's sequence of requests.

mod callers;
mod holders;
mod lost;
mod sequence;

use std::io::Write;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use lockkeeper_coordination::store::{Connect, NodePath, Store};
use lockkeeper_coordination::zookeeper::{Hosts, ZooKeeper, ZooKeeperOptions};
use nix::time::{ClockId, clock_gettime};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Callers take a slot, work and give it back.
    Contend,
    /// Who holds is read.
    Holders,
    /// A lease is held until it is lost.
    Lost,
}

/// How a slot is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Recipe {
    /// As Lockkeeper does.
    Lockkeeper,
    /// Request by request as kazoo does.
    Sequence,
}

/// What a peer's program is told, too.
#[derive(Debug, Clone, Args)]
pub(crate) struct Arguments {
    scenario: Scenario,
    #[arg(long)]
    server: String,
    #[arg(long)]
    path: NodePath,
    #[arg(long, default_value = "1")]
    slots: NonZeroU32,
    #[arg(long, default_value_t = 1)]
    callers: u32,
    #[arg(long, default_value_t = 1)]
    sessions: u32,
    #[arg(long, default_value_t = 0)]
    work_ms: u64,
    #[arg(long, default_value_t = 0)]
    warm_ms: u64,
    #[arg(long, default_value_t = 10_000)]
    session_ms: u64,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Each caller takes one slot and is done.
    #[arg(long)]
    once: bool,
    #[arg(long, default_value = "lockkeeper")]
    recipe: Recipe,
}

impl Arguments {
    fn work(&self) -> Duration {
        Duration::from_millis(self.work_ms)
    }

    fn window(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Does what is asked, with the one at the other end of our standard input and output.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(async {
        let sessions = connect(arguments).await?;
        match arguments.scenario {
            Scenario::Contend if arguments.callers == 1 => callers::one(arguments, &sessions).await?,
            Scenario::Contend => callers::many(arguments, &sessions).await?,
            Scenario::Holders => holders::read(arguments, &sessions).await?,
            Scenario::Lost => return lost::wait(arguments, &sessions).await,
        }
        let closing: Vec<_> = sessions.iter().map(|session| session.close()).collect();
        for closed in closing {
            closed.await?;
        }
        Ok(())
    })
}

async fn connect(arguments: &Arguments) -> Result<Vec<Arc<dyn Store>>> {
    let mut options = ZooKeeperOptions::new(Hosts::parse(&arguments.server)?);
    options.session_timeout = Duration::from_millis(arguments.session_ms);
    let server = ZooKeeper::new(options);
    let mut sessions = Vec::new();
    for _ in 0..arguments.sessions {
        sessions.push(server.connect().await?);
    }
    Ok(sessions)
}

fn say(line: &str) -> Result<()> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

async fn heard(word: &'static str) -> Result<()> {
    tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::stdin().read_line(&mut line)?;
        if line.trim() == word { Ok(()) } else { bail!("heard `{}` and not `{word}`", line.trim()) }
    })
    .await?
}

/// The system's steady clock in microseconds, the same in every process.
fn micros() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
