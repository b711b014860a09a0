//! Failures of this machine to run a command: limits and disks, not the command's or the target's fault.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;

/// Free bytes below which a log's disk counts as full: a command whose output cannot be written may fail for that.
const LEAST_FREE: u64 = 1 << 20;

/// Marks a failure of this machine: the process that a command is tied to exits with 126 and writes these words last.
pub const TIE_FAILED: &str = "the runner's machine could not start it";

/// Exit code for a command that exists and could not be started.
pub const CANNOT_START: i32 = 126;

/// What to do about an error of this machine. `None` if the command or the job is to blame.
pub fn advice(error: &io::Error) -> Option<&'static str> {
    Some(match Errno::from_raw(error.raw_os_error()?) {
        Errno::EAGAIN => "the limit of processes is reached: end some, or raise it (`ulimit -u`, `TasksMax`)",
        Errno::ENOMEM => "the memory is used up: end some processes, or add memory",
        Errno::EMFILE => "too many files are open: raise the limit (`ulimit -n`), or lower `max-concurrency`",
        Errno::ENFILE => "the machine has too many files open: raise `fs.file-max`, or end some processes",
        Errno::ENOSPC | Errno::EDQUOT => "the disk is full: free some space",
        Errno::EROFS => "the disk is read-only: check how it is mounted",
        Errno::EIO => "the disk fails: check the system's log",
        _ => return None,
    })
}

/// Why a log cannot be written, and what to do about it.
pub fn of_log(log: &Path, error: &io::Error) -> String {
    let what = match (advice(error), error.kind()) {
        (Some(advice), _) => advice,
        (None, io::ErrorKind::NotFound) => "its folder is missing: resuming the run creates it",
        (None, io::ErrorKind::PermissionDenied) => "this account may not write there",
        (None, _) => "check its folder",
    };
    format!("cannot write the output to `{}`: {error}; {what}", log.display())
}

/// Whether the disk of a log has no room for output.
pub fn is_full(log: &File) -> bool {
    let Ok(disk) = fstatvfs(log) else { return false };
    let free = u128::from(disk.blocks_available()) * u128::from(disk.fragment_size());
    // Some file systems report no size.
    disk.blocks() > 0 && free < u128::from(LEAST_FREE)
}
