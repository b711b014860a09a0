//! The process that holds the file locked while others wait, by name.
//!
//! SQLite's locks are POSIX locks, and the kernel says which process holds one (`F_GETLK`). To ask, the files are opened
//! once more. Closing any descriptor of a file drops all POSIX locks that this process has on it, so what is opened here
//! stays open as long as the connection.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::permissions;

/// The bytes of the `-shm` file that SQLite locks to write, to checkpoint and to recover (`WAL_WRITE_LOCK` and the next two,
/// behind the 120 bytes of the index's header).
const IN_SHARED_MEMORY: Range = Range { start: 120, len: 3 };

/// The bytes of the file itself that SQLite locks: `PENDING_BYTE` and what follows.
const IN_FILE: Range = Range { start: 0x4000_0000, len: 512 };

/// The longest command line that is shown.
const MOST_CHARACTERS: usize = 80;

#[derive(Debug, Clone, Copy)]
struct Range {
    start: libc::off_t,
    len: libc::off_t,
}

/// A process that holds a store's file locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocker {
    /// Its process id.
    pub pid: i32,
    /// Its command line; `None` if this account may not see it.
    pub command: Option<String>,
    /// Whether it is stopped, so that it does not go on by itself.
    pub stopped: bool,
}

impl Blocker {
    fn new(pid: i32) -> Self {
        let command = fs::read(format!("/proc/{pid}/cmdline")).ok().map(|line| {
            let line: Vec<_> =
                line.split(|byte| *byte == 0).map(String::from_utf8_lossy).filter(|word| !word.is_empty()).collect();
            line.join(" ").chars().map(|c| if c.is_control() { ' ' } else { c }).take(MOST_CHARACTERS).collect()
        });
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        Self {
            pid,
            command: command.filter(|line: &String| !line.is_empty()),
            stopped: matches!(state, Some('T' | 't')),
        }
    }

    /// What makes it go on, or shows why it does not.
    #[must_use]
    pub fn next_step(&self) -> String {
        match self.stopped {
            true => format!("`kill -CONT {}` continues it", self.pid),
            false => format!("`ps -fp {}` shows it", self.pid),
        }
    }
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}process {}", if self.stopped { "the stopped " } else { "" }, self.pid)?;
        match &self.command {
            Some(command) => write!(f, " (`{command}`)"),
            None => Ok(()),
        }
    }
}

/// That this process waits for the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The file.
    pub file: String,
    /// How long it has waited until now.
    pub waited: Duration,
    /// Which process holds it; `None` where the system does not say.
    pub by: Option<Blocker>,
}

impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waited = humantime::format_duration(Duration::from_secs(self.waited.as_secs().max(1)));
        match &self.by {
            Some(by) => write!(f, "{by} has held `{}` locked for {waited}: {}", self.file, by.next_step()),
            None => write!(f, "another process has held `{}` locked for {waited}", self.file),
        }
    }
}

/// Which process holds the store at `path` locked for writing, for a caller that gives up after having waited so long.
///
/// This process may have the file open itself, so that what is opened to ask is never closed: to be called once, before the end.
#[must_use]
pub fn blocked(path: &Path, waited: Duration) -> Blocked {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let files = Box::leak(Box::<Files>::default());
    Blocked { file: path.display().to_string(), waited, by: files.blocker(&path) }
}

/// The files of a store, open so that the kernel can be asked about their locks. To be dropped after the connection.
#[derive(Debug, Default)]
pub(super) struct Files {
    file: Option<File>,
    shared_memory: Option<File>,
}

impl Files {
    /// The process that holds the store at `path` locked for writing.
    pub(super) fn blocker(&mut self, path: &Path) -> Option<Blocker> {
        let ask = |open: &mut Option<File>, path: &Path, range| {
            if open.is_none() {
                *open = File::open(path).ok();
            }
            holder(open.as_ref()?, range)
        };
        ask(&mut self.shared_memory, &permissions::beside(path, "-shm"), IN_SHARED_MEMORY)
            .or_else(|| ask(&mut self.file, path, IN_FILE))
            .map(Blocker::new)
    }
}

/// The process whose exclusive lock is in the way of a shared one. A process in another container has no number here.
fn holder(file: &File, Range { start, len }: Range) -> Option<i32> {
    let mut lock = libc::flock {
        l_type: short(libc::F_RDLCK),
        l_whence: short(libc::SEEK_SET),
        l_start: start,
        l_len: len,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_GETLK(&mut lock)).ok()?;
    (lock.l_type != short(libc::F_UNLCK) && lock.l_pid > 0).then_some(lock.l_pid)
}

fn short(value: libc::c_int) -> libc::c_short {
    libc::c_short::try_from(value).expect("these constants are small")
}
