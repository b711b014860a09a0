//! The main job, with somebody looking from outside.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{cargo, root, target_dir};

const SERVERS: usize = 10;
const AT_ONCE: u64 = 2;
const FLOOR: usize = 8;

/// How often the party is looked at.
const LOOK: Duration = Duration::from_millis(50);

pub(crate) fn run() -> Result<()> {
    cargo(&["build", "--workspace"])?;
    let folder = tempfile::tempdir()?;
    let fleet = Fleet::up(folder.path())?;
    let watch = fleet.watch()?;
    let members = PartyWatch::start(&fleet);

    println!("\n$ lockkeeper run examples/rolling-restart/job.toml");
    let status = fleet.command("lockkeeper").args(["run", "examples/rolling-restart/job.toml"]).status()?;

    let fewest = members.stop();
    File::create(folder.path().join("stop"))?;
    let seen = watch.wait_with_output()?;
    let seen: Value = serde_json::from_slice(&seen.stdout).context("the watcher said nothing")?;
    let restarted: BTreeMap<String, u64> = serde_json::from_value(seen["restarted"].clone())?;
    let most_down = seen["most-down"].as_u64().unwrap_or(u64::MAX);
    println!(
        "\nSeen from outside in {} looks: {} of {SERVERS} restarted, at most {most_down} down at once, never fewer than \
         {fewest} in the party",
        seen["looks"],
        restarted.len(),
    );
    drop(fleet);
    if !status.success() {
        bail!("the run ended with {status}");
    }
    if restarted.len() != SERVERS || restarted.values().any(|times| *times != 1) {
        bail!("not each server was restarted once: {restarted:?}");
    }
    if most_down > AT_ONCE || fewest < FLOOR {
        bail!("{most_down} were down at once, {fewest} members were left: the limits are {AT_ONCE} and {FLOOR}");
    }
    println!("The limits held.");
    Ok(())
}

/// Servers that are stopped when this goes.
struct Fleet {
    folder: PathBuf,
}

impl Fleet {
    fn up(folder: &Path) -> Result<Self> {
        let fleet = Self { folder: folder.to_owned() };
        let status = fleet.command("fleet").args(["up", &SERVERS.to_string()]).status().context("cannot run fleet")?;
        match status.success() {
            true => Ok(fleet),
            false => bail!("the servers did not start"),
        }
    }

    fn watch(&self) -> Result<Child> {
        let mut command = self.command("fleet");
        Ok(command.args(["watch", &SERVERS.to_string()]).stdout(Stdio::piped()).spawn()?)
    }

    /// One of the binaries that were built, in the fleet's own world.
    fn command(&self, binary: &str) -> Command {
        let binaries = target_dir().join("debug");
        let mut path = binaries.clone().into_os_string();
        if let Some(rest) = std::env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let mut command = Command::new(binaries.join(binary));
        command
            .current_dir(root())
            .env("PATH", path)
            .env("FLEET_DIR", &self.folder)
            .env("LOCKKEEPER_STATE_DIR", self.folder.join("state"))
            .env_remove("LOCKKEEPER_STORE")
            .env_remove("LOCKKEEPER_ZK_HOSTS");
        command
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if !self.command("fleet").arg("down").status().is_ok_and(|status| status.success()) {
            println!("the servers in {} could not be stopped", self.folder.display());
        }
    }
}

/// Counts the party's members again and again, as anybody could.
struct PartyWatch {
    done: Arc<AtomicBool>,
    fewest: Arc<AtomicUsize>,
    thread: thread::JoinHandle<()>,
}

impl PartyWatch {
    fn start(fleet: &Fleet) -> Self {
        let (done, fewest) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(usize::MAX)));
        let mut command = fleet.command("lockkeeper");
        command.args(["party", "members", "/party/web", "--format", "json"]);
        let (stop, least) = (Arc::clone(&done), Arc::clone(&fewest));
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let members =
                    command.output().ok().and_then(|output| serde_json::from_slice::<Vec<Value>>(&output.stdout).ok());
                if let Some(members) = members {
                    least.fetch_min(members.len(), Ordering::Relaxed);
                }
                thread::sleep(LOOK);
            }
        });
        Self { done, fewest, thread }
    }

    fn stop(self) -> usize {
        self.done.store(true, Ordering::Relaxed);
        // A thread that panicked counted nothing more, and `fewest` says so.
        let _ = self.thread.join();
        self.fewest.load(Ordering::Relaxed)
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
