//! What the kernel says of a process in `/proc/PID/stat`. The one place that reads that file.

use std::fs;

use nix::unistd::Pid;

/// A process, as the kernel describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessStat {
    /// Its number.
    pub pid: Pid,
    /// The process has ended, and its parent has not asked for its exit status yet.
    pub has_ended: bool,
    /// Number of the process that started it, or that adopted it.
    pub parent: Pid,
    /// Number of its process group.
    pub group: Pid,
    /// Number of its session.
    pub session: Pid,
    /// When it started, in the kernel's clock ticks since boot: tells a process from a later one with the same number.
    pub started_ticks: u64,
}

impl ProcessStat {
    /// The process with this number. `None` if there is none, or if the system has no `/proc`.
    #[must_use]
    pub fn read(pid: i32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Every process; those that end meanwhile may be missing. `None` if the system has no `/proc`.
    #[must_use]
    pub fn all() -> Option<impl Iterator<Item = Self>> {
        let processes = fs::read_dir("/proc").ok()?;
        let numbers = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Some(numbers.filter_map(Self::read))
    }

    /// The line of the file. The name of the program stands in brackets as the second field and may hold anything, brackets and
    /// spaces included.
    fn parse(line: &str) -> Option<Self> {
        let (pid, rest) = line.split_once(" (")?;
        let mut fields = rest.rsplit_once(") ")?.1.split(' ');
        let has_ended = matches!(fields.next()?, "Z" | "X");
        let mut pid_at_next = || fields.next()?.parse().ok().map(Pid::from_raw);
        let (parent, group, session) = (pid_at_next()?, pid_at_next()?, pid_at_next()?);
        // The session is the sixth field of the line, the start the 22nd.
        let started_ticks = fields.nth(15)?.parse().ok()?;
        Some(Self { pid: Pid::from_raw(pid.parse().ok()?), has_ended, parent, group, session, started_ticks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whatever_the_name_of_the_program() {
        let after = "4 5 6 34817 7 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 9 10";
        for name in ["sh", "a b", "x) R 1 1 1 (y", ""] {
            let expected = ProcessStat {
                pid: Pid::from_raw(3),
                has_ended: false,
                parent: Pid::from_raw(4),
                group: Pid::from_raw(5),
                session: Pid::from_raw(6),
                started_ticks: 987_654,
            };
            assert_eq!(ProcessStat::parse(&format!("3 ({name}) S {after}\n")), Some(expected), "{name}");
            let ended = ProcessStat { has_ended: true, ..expected };
            assert_eq!(ProcessStat::parse(&format!("3 ({name}) Z {after}\n")), Some(ended), "{name}");
        }
        assert_eq!(ProcessStat::parse("3 (sh) S 4 5"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_among_all() {
        let this = ProcessStat::read(nix::unistd::getpid().as_raw()).unwrap();
        assert!(!this.has_ended && this.started_ticks > 0 && this.parent == nix::unistd::getppid());
        assert!(ProcessStat::all().unwrap().any(|other| other == this));
    }
}
