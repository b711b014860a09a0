//! Process groups: whether anything of one still runs.

use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::killpg;
use nix::unistd::Pid;

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

/// Whether every process of the group has ended; none where the system does not tell.
fn only_ended(group: Pid) -> Option<bool> {
    let processes = fs::read_dir("/proc").ok()?;
    let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let mut seen = false;
    for number in numbers {
        // One that ends while we look has ended.
        let Ok(stat) = fs::read_to_string(format!("/proc/{number}/stat")) else { continue };
        seen = true;
        // The name before may hold anything; behind it come the state, the parent and the group.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ');
        let (state, leader) = (fields.next()?, fields.nth(1)?);
        if leader.parse() == Ok(group.as_raw()) && !matches!(state, "Z" | "X") {
            return Some(false);
        }
    }
    seen.then_some(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use nix::sys::signal::Signal;

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
