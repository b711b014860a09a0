//! Identifies a process so that a later one with the same number is not taken for it.

use std::fs;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};
use serde::{Deserialize, Serialize};

use crate::process::process_stat::ProcessStat;

/// A process of this boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Process {
    /// Its process ID.
    pub pid: i32,
    /// When it started, in the kernel's ticks since the boot. `None` if the system does not tell.
    pub started: Option<u64>,
}

impl Process {
    /// This process.
    #[must_use]
    pub fn current() -> Self {
        Self::with_pid(getpid().as_raw())
    }

    /// Whether it is running, or may be.
    #[must_use]
    pub fn lives(&self) -> bool {
        // Zero and negative numbers mean whole groups.
        self.pid > 0
            && kill(Pid::from_raw(self.pid), None) != Err(Errno::ESRCH)
            && ProcessStat::read(self.pid)
                .is_none_or(|stat| !stat.has_ended && Some(stat.started_ticks) == self.started)
    }

    /// Whether another process has its number now.
    pub(super) fn is_replaced(&self) -> bool {
        started(self.pid).is_some_and(|ticks| Some(ticks) != self.started)
    }

    pub(super) fn with_pid(pid: i32) -> Self {
        Self { pid, started: started(pid) }
    }

    /// Sends a signal; does nothing if the process is gone or another has its number.
    ///
    /// # Errors
    /// If this process may not send it.
    pub fn signal(&self, signal: Signal) -> Result<(), Errno> {
        if !self.lives() {
            return Ok(());
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Err(Errno::ESRCH) => Ok(()),
            sent => sent,
        }
    }
}

/// Identifies this boot. `None` if the system does not tell.
pub(super) fn boot_id() -> Option<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").ok().map(|id| id.trim().to_owned())
}

fn started(pid: i32) -> Option<u64> {
    ProcessStat::read(pid).map(|stat| stat.started_ticks)
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
            assert!(process.lives() && !another.lives());
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
