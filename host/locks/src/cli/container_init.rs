//! The first process of a container, which the system treats as no other: it must ask how every orphan has ended, and a signal
//! that it does not listen to is lost.
//!
//! So the first process does only that. It starts this program once more for what it was asked to do, passes every signal on
//! to that process and ends with its exit code.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode};
use std::{env, io};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpgrp, getpid, tcgetpgrp, tcsetpgrp};
use tokio::signal::unix::{self, SignalKind};

use super::exit::{ErrorKind, Exit, Failure};
use super::signals::Signals;
use super::store::OpenSessions;
use super::{own_program, runtime, supervisor};
use crate::process::inherited_signals;

/// Does the work of a first process to its end. `None` if this process is another, or the system lets it start none: then it
/// does itself what it was asked to do.
pub(super) fn first_process() -> Option<ExitCode> {
    if getpid() != Pid::from_raw(1) {
        return None;
    }
    runtime::block_on(&OpenSessions::default(), serve()).ok().map(Exit::code)
}

async fn serve() -> Result<Exit, Failure> {
    let failed = |error| Failure::new(ErrorKind::Internal, error);
    let mut signals = Signals::for_a_group()?;
    let mut ended = unix::signal(SignalKind::child()).map_err(failed)?;
    let mut child = start().map_err(failed)?;
    let Some(pid) = i32::try_from(child.id()).ok().map(Pid::from_raw) else {
        return Err(failed(io::Error::other("a child that runs has no process id")));
    };
    give_terminal(pid);
    loop {
        tokio::select! {
            // What is gone needs no signal.
            received = signals.next() => drop(kill(pid, received.signal())),
            _ = ended.recv() => {
                if let Some(exit) = reap(&mut child, pid) {
                    return Ok(exit);
                }
            }
        }
    }
}

/// In a group of its own, which no signal reaches twice: as one of the group in the foreground, and from us.
fn start() -> io::Result<Child> {
    let mut arguments = env::args_os();
    let program = own_program::running_file().map_err(|failure| io::Error::other(failure.text()))?;
    let mut line = Command::new(program);
    line.arg0(arguments.next().unwrap_or_else(|| "lockkeeper".into())).args(arguments).process_group(0);
    inherited_signals::pass_on(&mut line);
    line.spawn()
}

/// What we have of a terminal is for the process that does the work.
fn give_terminal(child: Pid) {
    if tcgetpgrp(io::stdin()) == Ok(getpgrp()) && tcsetpgrp(io::stdin(), child).is_ok() {
        // It may have used the terminal before that, and have been stopped for it.
        let _ = kill(child, Signal::SIGCONT);
    }
}

/// Asks how every child has ended; the exit code, if the one that does the work is among them.
fn reap(child: &mut Child, pid: Pid) -> Option<Exit> {
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(supervisor::exit(status));
        }
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            // It ended just now.
            Ok(WaitStatus::Exited(of, code)) if of == pid => {
                return Some(Exit::Command(u8::try_from(code).unwrap_or(1)));
            }
            Ok(WaitStatus::Signaled(of, signal, _)) if of == pid => {
                return Some(Exit::Command(u8::try_from(128 + signal as i32).unwrap_or(1)));
            }
            Ok(WaitStatus::StillAlive) => return None,
            // A signal without a name has ended one.
            Ok(_) | Err(Errno::EINVAL | Errno::EINTR) => {}
            // No child is left, and how the one that did the work has ended is not known.
            Err(_) => return Some(Exit::Failed),
        }
    }
}
