//! The signals that this process was started to ignore, and how its commands inherit them.
//!
//! A signal that is ignored at the start stays ignored, here and in every command: `nohup`, a shell's `trap ''` and the
//! background jobs of a script rely on that. Code that handles a signal checks [`is_ignored`] first. The system passes
//! most of it on by itself; [`pass_on`] does the rest.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::OnceLock;

use nix::libc::{self, c_int, sighandler_t};

/// Highest signal number.
const LAST: c_int = 64;

/// A bit for each signal that was ignored at the start.
static AT_START: OnceLock<u64> = OnceLock::new();

/// Records which signals are ignored. The program calls it before `main`, because the standard library ignores SIGPIPE
/// there.
pub extern "C" fn capture() {
    let _ = AT_START.get_or_init(ignored_now);
}

/// Whether this process was started with that signal ignored.
#[must_use]
pub fn is_ignored(signal: c_int) -> bool {
    // A program that has not called [`capture`] before `main` cannot know about SIGPIPE.
    AT_START.get_or_init(|| ignored_now() & !bit(libc::SIGPIPE)) & bit(signal) != 0
}

/// Makes the system report the ends of children, even if this process was started to ignore SIGCHLD: a process that
/// ignores it cannot wait for a child.
pub fn report_children() {
    if is_ignored(libc::SIGCHLD) {
        set(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// Makes a command ignore what this process was started to ignore, where the system does not: the standard library
/// resets SIGPIPE in each command, and this process handles SIGCHLD.
pub fn pass_on(command: &mut Command) {
    let ignored: Vec<c_int> = [libc::SIGPIPE, libc::SIGCHLD].into_iter().filter(|signal| is_ignored(*signal)).collect();
    if ignored.is_empty() {
        return;
    }
    let ignore = move || {
        ignored
            .iter()
            .try_for_each(|signal| if set(*signal, libc::SIG_IGN) { Ok(()) } else { Err(io::Error::last_os_error()) })
    };
    #[expect(unsafe_code, reason = "the standard library has no other way to ignore a signal in a command")]
    // SAFETY: between fork and exec it calls `signal`, which is async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(ignore);
    }
}

fn bit(signal: c_int) -> u64 {
    u32::try_from(signal - 1).ok().and_then(|place| 1_u64.checked_shl(place)).unwrap_or(0)
}

fn ignored_now() -> u64 {
    (1..=LAST).filter(|signal| is_ignored_now(*signal)).map(bit).sum()
}

#[expect(unsafe_code, reason = "nix replaces a disposition, and cannot only look at it")]
fn is_ignored_now(signal: c_int) -> bool {
    // SAFETY: every field of the structure may be zero, and `sigaction` without a new action writes the present one into it.
    let (known, action) = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(signal, std::ptr::null(), &raw mut action) == 0, action)
    };
    known && action.sa_sigaction == libc::SIG_IGN
}

#[expect(unsafe_code, reason = "nix cannot tell a disposition from a handler, which could be anything")]
fn set(signal: c_int, disposition: sighandler_t) -> bool {
    // SAFETY: callers pass no handler, only `SIG_IGN` or `SIG_DFL`.
    unsafe { libc::signal(signal, disposition) != libc::SIG_ERR }
}
