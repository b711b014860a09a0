//! A process that can be told from a later one with the same number.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use serde::{Deserialize, Serialize};

/// A process of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// When it started, in the kernel's ticks since the boot; none where the system does not tell.
    pub started: Option<u64>,
}

impl Process {
    /// Ourselves.
    #[must_use]
    pub fn current() -> Self {
        Self::with_pid(getpid().as_raw())
    }

    fn with_pid(pid: i32) -> Self {
        Self { pid, started: started(pid) }
    }

    /// Sends it a signal; does nothing if it is gone, or its number is another's by now.
    ///
    /// # Errors
    /// When we may not.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        // Zero and less would be whole groups.
        if self.pid <= 0 || Self::with_pid(self.pid) != *self {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(Errno::ESRCH) => Ok(()),
            sent => sent,
        }
    }
}

fn started(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything; behind it come the state as the third field and the start as the 22nd.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_signal_reaches_only_the_very_process() {
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let process = Process::with_pid(i32::try_from(child.id()).unwrap());
        let another = Process { started: process.started.map(|ticks| ticks + 1), ..process };
        if process.started.is_some() {
            another.signal(Signal::SIGKILL).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "it was another's number");
        }
        for group in [0, -1] {
            Process { pid: group, started: None }.signal(Signal::SIGKILL).unwrap();
        }
        process.signal(Signal::SIGKILL).unwrap();
        assert!(!child.wait().unwrap().success());
        process.signal(Signal::SIGKILL).unwrap();
    }
}
