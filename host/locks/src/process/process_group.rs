//! Process groups: whether anything of one is still running.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpid};

use super::process_stat::ProcessStat;

/// The groups of this process's local commands that are running.
static RUNNING: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn running() -> MutexGuard<'static, Vec<Pid>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The group of a local command; it is stopped and continued with this process until this value is dropped.
#[derive(Debug)]
pub struct TrackedGroup(Pid);

impl TrackedGroup {
    /// Registers a group that has just been started.
    #[must_use]
    pub fn new(group: Pid) -> Self {
        running().push(group);
        Self(group)
    }
}

impl Drop for TrackedGroup {
    fn drop(&mut self) {
        running().retain(|group| *group != self.0);
    }
}

/// Stops the groups of all local commands, because this process is about to be stopped, and returns them.
#[must_use]
pub fn stop_all() -> Vec<Pid> {
    let groups = running().clone();
    for group in &groups {
        // A group that is gone needs no signal. SIGTSTP could be caught, and a command would keep running unwatched.
        let _ = killpg(*group, Signal::SIGSTOP);
    }
    groups
}

/// Continues those of the groups whose commands are still running.
pub fn continue_all(groups: &[Pid]) {
    let running = running();
    for group in groups.iter().filter(|group| running.contains(group)) {
        let _ = killpg(*group, Signal::SIGCONT);
    }
}

/// How long before its deadline a group is killed.
pub const KILL_LEAD: Duration = Duration::from_millis(50);

/// Whether nothing of a process group is running any more.
///
/// A process that has ended and was not waited for counts as gone: in a container whose first process does not wait for
/// orphans, they stay for ever.
#[must_use]
pub fn is_gone(group: Pid) -> bool {
    killpg(group, None) == Err(Errno::ESRCH) || only_ended(group) == Some(true)
}

/// The group's processes that have not ended, without this one. `None` if the system does not tell.
#[must_use]
pub fn others(group: Pid) -> Option<Vec<Pid>> {
    let is_one = |process: &ProcessStat| process.group == group && process.pid != getpid() && !process.has_ended;
    Some(ProcessStat::all()?.filter(is_one).map(|process| process.pid).collect())
}

/// Whether every process of the group has ended. `None` if the system does not tell.
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
    fn an_ended_process_that_was_not_waited_for_is_gone() {
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
