//! What keeps this machine from running a command: its own limits and disks, not the command's or the target's doing.

use std::fs::File;
use std::io;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::statvfs::fstatvfs;

/// A log's disk counts as full below this, in bytes: a command whose output cannot be written may fail for that.
const LEAST_FREE: u64 = 1 << 20;

/// How the process that a command is tied to says that this machine could not start the command: with exit code 126, and these
/// words among its last.
pub(crate) const TIE_FAILED: &str = "the runner's machine could not start it";

/// The exit code of a command that exists and could not be started.
pub(super) const CANNOT_START: i32 = 126;

/// What to do about an error of this machine. `None` if the command or the job is to blame.
pub(crate) fn advice(error: &io::Error) -> Option<&'static str> {
    Some(match Errno::from_raw(error.raw_os_error()?) {
        Errno::EAGAIN => "no more processes can be started: end some, or raise the limit (`ulimit -u`, `TasksMax`)",
        Errno::ENOMEM => "the memory is used up: end something, or add memory",
        Errno::EMFILE => "too many files are open: raise the limit (`ulimit -n`), or let fewer targets go at once",
        Errno::ENFILE => "the machine has too many files open: raise `fs.file-max`, or end something",
        Errno::ENOSPC | Errno::EDQUOT => "the disk is full: free some space",
        Errno::EROFS => "the disk is read-only: find out why",
        Errno::EIO => "the disk fails: look at the system's log",
        _ => return None,
    })
}

/// Why a log cannot be written, and what to do about it.
pub(super) fn of_log(log: &Path, error: &io::Error) -> String {
    let what = match (advice(error), error.kind()) {
        (Some(advice), _) => advice,
        (None, io::ErrorKind::NotFound) => "its folder is gone: resuming the run makes it again",
        (None, io::ErrorKind::PermissionDenied) => "this account may not write there",
        (None, _) => "find out why",
    };
    format!("cannot write the output to `{}`: {error}; {what}", log.display())
}

/// Whether the disk of a log has no room for output.
pub(super) fn is_full(log: &File) -> bool {
    let Ok(disk) = fstatvfs(log) else { return false };
    let free = u128::from(disk.blocks_available()) * u128::from(disk.fragment_size());
    // Some file systems have no size.
    disk.blocks() > 0 && free < u128::from(LEAST_FREE)
}
