//! The main job, with somebody looking from outside.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use crate::{binaries, cargo, root};

const SERVERS: usize = 10;
const AT_ONCE: u64 = 2;
const FLOOR: usize = 8;

/// How often the party is looked at.
const LOOK: Duration = Duration::from_millis(10);

pub(crate) fn run() -> Result<()> {
    cargo(&["build", "--workspace"])?;
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // From here on Ctrl-C ends the servers too.
    let stops = runtime.block_on(async { Stops::listen() })?;
    let fleet = Fleet::up(folder.path())?;
    let watch = fleet.watch()?;
    let members = PartyWatch::start(&fleet);

    println!("\n$ lockkeeper run examples/rolling-restart/job.toml");
    let mut rollout = fleet.command("lockkeeper");
    rollout.args(["run", "examples/rolling-restart/job.toml"]);
    let ended = runtime.block_on(stops.run(rollout))?;

    let party = members.stop()?;
    File::create(folder.path().join("stop"))?;
    let seen = watch.wait_with_output()?;
    let seen: Value = serde_json::from_slice(&seen.stdout).context("the watcher said nothing")?;
    fleet.down()?;
    folder.close().context("the demo's folder cannot be removed")?;
    match ended {
        Ended::Stopped => bail!("stopped by hand; the servers are stopped too"),
        Ended::ByItself(status) => verdict(status, &seen, &party),
    }
}

/// What was seen from outside, against what was promised.
fn verdict(status: ExitStatus, seen: &Value, party: &Party) -> Result<()> {
    let restarted: BTreeMap<String, u64> = serde_json::from_value(seen["restarted"].clone())?;
    let most_down = seen["most-down"].as_u64().unwrap_or(u64::MAX);
    println!(
        "\nSeen from outside: {} of {SERVERS} restarted, at most {most_down} down at once ({} looks), never fewer than {} \
         in the party ({} looks)",
        restarted.len(),
        seen["looks"],
        party.fewest,
        party.looks,
    );
    if !status.success() {
        bail!("the run ended with {status}");
    }
    if restarted.len() != SERVERS || restarted.values().any(|times| *times != 1) {
        bail!("not each server was restarted once: {restarted:?}");
    }
    if most_down > AT_ONCE || party.fewest < FLOOR {
        bail!(
            "{most_down} were down at once, {} members were left: the limits are {AT_ONCE} and {FLOOR}",
            party.fewest
        );
    }
    println!("The limits held.");
    Ok(())
}

/// How the rollout ended.
enum Ended {
    ByItself(ExitStatus),
    Stopped,
}

/// Ctrl-C and its like, heard instead of dying of them: the servers would stay.
struct Stops {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Stops {
    fn listen() -> Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Runs a command to its end, which a stop brings about by SIGINT.
    async fn run(mut self, command: Command) -> Result<Ended> {
        let mut child = tokio::process::Command::from(command).spawn().context("cannot run lockkeeper")?;
        let mut stopped = false;
        loop {
            tokio::select! {
                status = child.wait() => {
                    return Ok(if stopped { Ended::Stopped } else { Ended::ByItself(status?) });
                }
                // A terminal tells the child as well.
                _ = self.interrupt.recv() => stopped = true,
                _ = self.terminate.recv() => {
                    stopped = true;
                    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
                        kill(Pid::from_raw(pid), Signal::SIGINT)?;
                    }
                }
            }
        }
    }
}

/// Servers that are stopped when this goes.
struct Fleet {
    folder: PathBuf,
    up: bool,
}

impl Fleet {
    fn up(folder: &Path) -> Result<Self> {
        let fleet = Self { folder: folder.to_owned(), up: true };
        let status = fleet.command("fleet").args(["up", &SERVERS.to_string()]).status().context("cannot run fleet")?;
        if status.success() { Ok(fleet) } else { bail!("the servers did not start") }
    }

    fn down(mut self) -> Result<()> {
        self.stop()
    }

    fn stop(&mut self) -> Result<()> {
        if std::mem::take(&mut self.up) {
            // Out of reach of a Ctrl-C.
            let status = self.command("fleet").arg("down").process_group(0).status().context("cannot run fleet")?;
            if !status.success() {
                bail!("the servers in {} could not be stopped", self.folder.display());
            }
        }
        Ok(())
    }

    fn watch(&self) -> Result<Child> {
        let mut command = self.command("fleet");
        command.args(["watch", &SERVERS.to_string()]).stdout(Stdio::piped()).process_group(0);
        command.spawn().context("cannot run fleet")
    }

    /// One of the binaries that were built, in the fleet's own world.
    fn command(&self, binary: &str) -> Command {
        let mut path = binaries().into_os_string();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let mut command = Command::new(binaries().join(binary));
        command
            .current_dir(root())
            .stdin(Stdio::null())
            .env("PATH", path)
            .env("FLEET_DIR", &self.folder)
            .env("LOCKKEEPER_STATE_DIR", self.folder.join("state"))
            .env_remove("LOCKKEEPER")
            .env_remove("LOCKKEEPER_STORE")
            .env_remove("LOCKKEEPER_ZK_HOSTS")
            .env_remove("LOCKKEEPER_PROFILE");
        command
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            println!("{error:#}");
        }
    }
}

/// What was seen of the party.
struct Party {
    looks: u64,
    fewest: usize,
}

/// Counts the party's members again and again, as anybody could.
struct PartyWatch {
    done: Arc<AtomicBool>,
    thread: thread::JoinHandle<Party>,
}

impl PartyWatch {
    fn start(fleet: &Fleet) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let mut command = fleet.command("lockkeeper");
        command.args(["party", "members", "/party/web", "--format", "json"]).process_group(0);
        let stop = Arc::clone(&done);
        let thread = thread::spawn(move || {
            let mut party = Party { looks: 0, fewest: usize::MAX };
            while !stop.load(Ordering::Relaxed) {
                let members =
                    command.output().ok().and_then(|output| serde_json::from_slice::<Vec<Value>>(&output.stdout).ok());
                if let Some(members) = members {
                    party.looks += 1;
                    party.fewest = party.fewest.min(members.len());
                }
                thread::sleep(LOOK);
            }
            party
        });
        Self { done, thread }
    }

    fn stop(self) -> Result<Party> {
        self.done.store(true, Ordering::Relaxed);
        let Ok(party) = self.thread.join() else { bail!("who looked at the party panicked") };
        match party.looks {
            0 => bail!("the party could not be looked at"),
            _ => Ok(party),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demos_numbers_are_the_jobs() {
        let job = std::fs::read_to_string(root().join("examples/rolling-restart/job.toml")).unwrap();
        assert!(job.contains(&format!("max-concurrency = {AT_ONCE}")));
        assert!(job.contains(&format!("min-nodes = {FLOOR}")));
        assert_eq!(job.matches("\"web").count(), SERVERS);
    }
}
