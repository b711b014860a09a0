//! A command that runs under a lease or a membership: started, told to stop, ended with its own code.
//!
//! What must not outlive us gets a guard: our own binary as the leader of the command's process group, which the kernel
//! tells when we are gone, and which then kills the group.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgrp, getpid, getppid};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout_at};

use super::exit::{ErrorKind, Exit, Failure};
use super::signals::{Signals, Wish};
use super::{Format, context, output};
use crate::guard::{CommandLock, Outcome};
use crate::rollout::group;

/// The first argument of a guard, which no person gives: what follows is the format of its errors, our process id, what it
/// locks if anything, and the command.
const GUARD: &str = "__guard";

/// How often it is looked whether a group that was told to stop is empty.
const LOOK: Duration = Duration::from_millis(20);

/// How long a group that was killed is waited for: what cannot be killed hangs in the kernel.
const AFTER_KILL: Duration = Duration::from_secs(2);

/// Whether a command outlives us when we are killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Bond {
    /// It does.
    Loose,
    /// It is killed with us: what it works under is gone then. An error of its guard is written so.
    Tied(Format),
    /// Likewise, and its guard holds the lock of this file while it lives, and leaves word there how the command ended.
    Locked(Format, PathBuf),
}

/// A command that is running.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    /// Where a process group of its own was made; on a terminal it stays in ours, to be able to read from it.
    group: Option<Pid>,
    pid: Option<Pid>,
    bond: Bond,
}

impl Running {
    /// Starts a command with our stdin, stdout and stderr.
    pub(super) fn start(command: &[OsString], environment: &[(&str, String)], bond: Bond) -> Result<Self, Failure> {
        let (program, arguments) = split(command)?;
        let mut line = match &bond {
            Bond::Loose => Command::new(program),
            Bond::Tied(format) => guarded(program, *format, Path::new(""))?,
            Bond::Locked(format, lock) => guarded(program, *format, lock)?,
        };
        line.args(arguments).envs(environment.iter().map(|(key, value)| (key, value)));
        let own_group = !io::stdin().is_terminal();
        if own_group {
            line.process_group(0);
        }
        let child = line.spawn().map_err(|error| not_started(program, &error))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Self { child, group: pid.filter(|_| own_group), pid, bond })
    }

    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> Result<Exit, Failure> {
        let status = self.child.wait().await.map_err(|error| Failure::new(ErrorKind::Internal, error))?;
        // A guard ends by itself when its command has: one that was killed has left that alone.
        if self.bond != Bond::Loose && status.signal().is_some() {
            self.signal(Signal::SIGKILL);
            if let (Bond::Locked(..), Some(group)) = (&self.bond, self.group) {
                let deadline = Instant::now() + AFTER_KILL;
                while !group::is_gone(group) && Instant::now() < deadline {
                    sleep(LOOK).await;
                }
            }
        }
        Ok(exit(status))
    }

    /// Passes a signal on, to its whole group where it has one, unless a terminal has sent it there already.
    pub(super) fn pass(&self, wish: Wish) {
        if self.group.is_some() || !wish.is_sent_by_terminals() {
            self.signal(wish.signal());
        }
    }

    fn signal(&self, signal: Signal) {
        // What is gone needs no signal.
        let _ = match (self.group, self.pid) {
            (Some(group), _) => killpg(group, signal),
            (None, Some(pid)) => kill(pid, signal),
            (None, None) => Ok(()),
        };
    }

    /// SIGTERM, and SIGKILL for what of its group is still there at `deadline`.
    pub(super) async fn stop(&mut self, deadline: Instant) {
        self.signal(Signal::SIGTERM);
        if timeout_at(deadline, self.child.wait()).await.is_err() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait().await;
        }
        let Some(group) = self.group else { return };
        while !group::is_gone(group) {
            if Instant::now() >= deadline {
                return self.signal(Signal::SIGKILL);
            }
            sleep(LOOK).await;
        }
    }
}

/// Our own binary as the guard of a command whose arguments follow.
fn guarded(program: &OsStr, format: Format, lock: &Path) -> Result<Command, Failure> {
    let format = match format {
        Format::Human => "human",
        Format::Json => "json",
    };
    let mut line = Command::new(ourselves()?);
    line.arg0("lockkeeper").args([GUARD, format]).arg(getpid().to_string()).arg(lock).arg(program);
    Ok(line)
}

/// What a command is started by so that it is killed when this process is: our own binary as its guard.
pub(super) fn tie() -> Result<Vec<String>, Failure> {
    let ourselves = ourselves()?.display().to_string();
    Ok(vec![ourselves, GUARD.to_owned(), "human".to_owned(), getpid().to_string(), String::new()])
}

/// The very binary that we are, though another was installed in its place meanwhile.
pub(super) fn ourselves() -> Result<PathBuf, Failure> {
    match cfg!(target_os = "linux") {
        true => Ok("/proc/self/exe".into()),
        false => std::env::current_exe().map_err(|error| Failure::new(ErrorKind::Internal, error)),
    }
}

/// What a guard does, where we are one: runs its command to the end, and kills it when the parent is gone.
pub(super) fn guard() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != GUARD) {
        return None;
    }
    let format = match arguments.next().is_some_and(|format| format == "json") {
        true => Format::Json,
        false => Format::Human,
    };
    let parent = arguments.next().and_then(|pid| pid.to_str()?.parse().ok()).map(Pid::from_raw);
    let lock = arguments.next().filter(|lock| !lock.is_empty()).map(PathBuf::from);
    let command: Vec<OsString> = arguments.collect();
    Some(match context::block_on(stand_guard(parent, lock.as_deref(), &command)) {
        Ok(exit) => exit.code(),
        Err(failure) => {
            output::failure(format, &failure);
            failure.exit().code()
        }
    })
}

async fn stand_guard(parent: Option<Pid>, lock: Option<&Path>, command: &[OsString]) -> Result<Exit, Failure> {
    // What the whole group gets is for the command: a guard only sees that its command has ended.
    let mut signals = Signals::new()?;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(Signal::SIGTERM).map_err(|error| Failure::new(ErrorKind::Internal, error))?;
    let has_parent = || Some(getppid()) == parent;
    let mut lock = match lock {
        // None: nobody waits any more.
        Some(path) => CommandLock::take(path, has_parent).await.map_err(|error| {
            Failure::message(ErrorKind::TokenFile, format!("cannot lock `{}`: {error}", path.display()))
        })?,
        None => None,
    };
    // It may have died before the kernel was asked.
    if !has_parent() {
        return Err(Failure::message(ErrorKind::LeaseLost, "the process that started this command is gone"));
    }
    let mut report = |outcome: Outcome| {
        // Without a report the exit code is all that is known.
        let _ = lock.as_mut().map(|lock| lock.report(&outcome));
    };
    let (program, arguments) = split(command)?;
    let mut child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            let failure = not_started(program, &error);
            report(Outcome::NotRun(failure.text()));
            return Err(failure);
        }
    };
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| Failure::new(ErrorKind::Internal, error))?;
                report(outcome(status));
                return Ok(exit(status));
            }
            _ = signals.next() => {}
        }
        if !has_parent() {
            if getpgrp() == getpid() {
                // Ourselves, too.
                let _ = killpg(getpgrp(), Signal::SIGKILL);
            }
            let _ = child.kill().await;
        }
    }
}

/// How a command ended, told exactly.
fn outcome(status: ExitStatus) -> Outcome {
    match (status.code(), status.signal()) {
        (Some(code), _) => Outcome::Exit(code),
        (None, Some(number)) => Outcome::Signal(signal_name(number)),
        (None, None) => Outcome::Exit(1),
    }
}

/// A signal's name, or its number where it has none.
pub(super) fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
}

fn split(command: &[OsString]) -> Result<(&OsString, &[OsString]), Failure> {
    command.split_first().ok_or_else(|| Failure::message(ErrorKind::Command, "no command"))
}

fn not_started(program: &OsStr, error: &io::Error) -> Failure {
    let program = program.to_string_lossy();
    let failure = Failure::message(ErrorKind::Command, format!("cannot run `{}`: {error}", output::shown(&program)));
    match error.kind() {
        io::ErrorKind::NotFound if program.contains(char::is_whitespace) => {
            failure.hint("no shell reads the command: `-- sh -c '…'` starts one")
        }
        _ => failure,
    }
}

fn exit(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    match code {
        0 => Exit::Done,
        code => Exit::Command(u8::try_from(code).unwrap_or(1)),
    }
}
