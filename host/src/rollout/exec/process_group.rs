//! Process groups: whether anything of one still runs.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpid};

use crate::rollout::exec::process_stat::ProcessStat;

/// The groups of this process's local commands that run now.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The group of a local command, which is stopped and continued with this process until this is dropped.
#[derive(Debug)]
pub(super) struct OfOurs(Pid);

impl OfOurs {
    pub(super) fn new(group: Pid) -> Self {
        running().push(group);
        Self(group)
    }
}

impl Drop for OfOurs {
    fn drop(&mut self) {
        running().retain(|group| *group != self.0);
    }
}

/// Stops the groups of all local commands, because this process is about to be stopped; gives those groups.
#[must_use]
pub fn stop_all() -> Vec<Pid> {
    let groups = running().clone();
    for group in &groups {
        // What is gone needs no signal. SIGTSTP could be caught, and a command would act on while nothing watches it.
        let _ = killpg(*group, Signal::SIGSTOP);
    }
    groups
}

/// Continues those of them whose commands still run.
pub fn continue_all(groups: &[Pid]) {
    let running = running();
    for group in groups.iter().filter(|group| running.contains(group)) {
        let _ = killpg(*group, Signal::SIGCONT);
    }
}

/// How long before a moment a group is killed that must be gone by then.
pub const KILL_LEAD: Duration = Duration::from_millis(50);

/// Whether nothing of a process group runs any more.
///
/// A process that has ended and that nobody has asked about counts as gone: where the first process of a container does
/// not ask, orphans stay so for ever.
#[must_use]
pub fn is_gone(group: Pid) -> bool {
    killpg(group, None) == Err(Errno::ESRCH) || only_ended(group) == Some(true)
}

/// The processes of a group that have not ended, without this one; `None` where the system does not tell.
#[must_use]
pub fn others(group: Pid) -> Option<Vec<Pid>> {
    let is_one = |process: &ProcessStat| process.group == group && process.pid != getpid() && !process.has_ended;
    Some(ProcessStat::all()?.filter(is_one).map(|process| process.pid).collect())
}

/// Whether every process of the group has ended; none where the system does not tell.
fn only_ended(group: Pid) -> Option<bool> {
    let mut processes = ProcessStat::all()?.peekable();
    processes.peek()?;
    Some(processes.all(|process| process.group != group || process.has_ended))
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    #[test]
    fn an_ended_process_that_nobody_asked_about_is_gone() {
        let mut child = Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let group = Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(!is_gone(group));
        killpg(group, Signal::SIGKILL).unwrap();
        while !is_gone(group) {
            std::thread::yield_now();
        }
        assert!(killpg(group, None).is_ok(), "it is still there for us to ask about");
        child.wait().unwrap();
        assert!(is_gone(group));
    }
}
