//! A command that runs under a lease or a membership: started, told to stop, ended with its own code.
//!
//! What must not outlive us gets a guard: our own binary, which the kernel tells when we are gone, and which then kills the
//! command. If the guard is killed too, the kernel kills the command itself (`ends_with_its_guard`).
//!
//! # Process groups
//! The guard leads a process group of its own, and the command is part of it: every process of the command gets what we
//! pass on, and what the command sends to its group reaches neither this process nor its parent.
//! On a terminal the command is in our own group instead. Both are one job of the shell then: the command can read from the
//! terminal, the keyboard's signals reach it directly, and Ctrl-Z, `fg` and `bg` apply to both.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
#[cfg(target_os = "linux")]
use std::os::unix::process::CommandExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};
use std::thread;
use std::time::Duration;
use std::{env, io};

use futures::FutureExt;
use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal, kill, killpg};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpgid, getpgrp, getpid, getppid, tcgetpgrp};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use tokio::time::{Instant, sleep, timeout_at};

use super::args::Format;
use super::exit::{ErrorKind, Exit, Failure};
use super::signals::{Received, Signals};
use super::{output, own_program, runtime};
use crate::fence::{CommandLock, Outcome};
use crate::process::process_tree::{self, Scope};
use crate::process::{inherited_signals, process_group, runner_failure};
use lockkeeper_coordination::store::process_liveness::{self, Dependent};

/// The first argument of a guard, which no person gives: what follows is the format of its errors, our process id, the
/// process group that its command joins (0: the guard's own), how many liveness files of ours there are and which, what it locks
/// if anything, and the command.
const GUARD: &str = "__guard";

/// How often it is looked whether a command that was told to stop has ended.
const LOOK: Duration = Duration::from_millis(20);

/// How long a command that was killed is waited for: what cannot be killed hangs in the kernel.
const AFTER_KILL: Duration = Duration::from_secs(2);

/// How long a guard waits for the end of what it has killed after the death of its parent, before it ends itself. Until it has said
/// that nothing is left, others wait for the parent's session to time out.
const DYING: Duration = Duration::from_secs(60);

/// How often it looks, and kills what has been started meanwhile.
const BETWEEN_KILLS: Duration = Duration::from_millis(5);

/// Where programs are when the environment does not say it, as the C library has it.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// Whether a command outlives us when we are killed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bond {
    /// It does.
    Loose,
    /// It is killed with us: what it works under is gone then. An error of its guard is written so.
    Tied(Format),
    /// Likewise, and its guard holds the lock of this file while it lives, and leaves word there how the command ended.
    Locked(Format, PathBuf),
}

/// The process group of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Group {
    /// One of its own.
    Own,
    /// Ours, on a terminal.
    Ours,
}

impl Group {
    /// Ours, if one of the standard streams is the terminal that controls this process.
    fn of_a_command() -> Self {
        let on_a_terminal =
            tcgetpgrp(io::stdin()).is_ok() || tcgetpgrp(io::stdout()).is_ok() || tcgetpgrp(io::stderr()).is_ok();
        if on_a_terminal { Self::Ours } else { Self::Own }
    }
}

/// A command that is running.
#[derive(Debug)]
pub struct Running {
    /// The command, or its guard.
    child: Child,
    pid: Pid,
    group: Group,
    bond: Bond,
    /// What keeps others from taking us for dead while it runs, if it has to end with us. `None` once it has ended.
    dependent: Option<Dependent>,
    /// Children that have ended.
    ended: unix::Signal,
}

impl Running {
    /// Starts a command with our stdin, stdout and stderr.
    pub fn start(command: &[OsString], environment: &[(&str, String)], bond: Bond) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new(ErrorKind::Internal, error);
        let (program, arguments) = split(command)?;
        let group = Group::of_a_command();
        let mut line = match &bond {
            Bond::Loose => Command::new(program),
            Bond::Tied(format) => guarded(program, *format, group, Path::new(""))?,
            Bond::Locked(format, lock) => guarded(program, *format, group, lock)?,
        };
        line.args(arguments).envs(environment.iter().map(|(key, value)| (key, value)));
        // A guard leads a group in any case.
        if group == Group::Own || bond != Bond::Loose {
            line.process_group(0);
        }
        inherited_signals::pass_on(line.as_std_mut());
        let ended = unix::signal(SignalKind::child()).map_err(failed)?;
        // What the command leaves behind becomes our child, so that it is found if the command has to be stopped.
        #[cfg(target_os = "linux")]
        nix::sys::prctl::set_child_subreaper(true).map_err(|error| failed(error.into()))?;
        let dependent = matches!(bond, Bond::Tied(_)).then(Dependent::starts);
        line.envs(dependent.iter().map(|dependent| (process_liveness::ID, dependent.id())));
        let child = match line.spawn() {
            Ok(child) => child,
            Err(error) => {
                dependent.into_iter().for_each(Dependent::ended);
                return Err(not_started(program, &error));
            }
        };
        let pid = process_id(&child)?;
        Ok(Self { child, pid, group, bond, dependent, ended })
    }

    /// Its process id, or its guard's.
    pub fn id(&self) -> u32 {
        self.pid.as_raw().unsigned_abs()
    }

    /// Waits for its end.
    pub async fn wait(&mut self) -> Result<Exit, Failure> {
        let status = self.end().await.map_err(|error| Failure::new(ErrorKind::Internal, error))?;
        // A guard ends by itself when its command has: one that was killed has left that alone.
        let is_left = if self.bond != Bond::Loose && status.signal().is_some() {
            self.kill();
            self.left(Instant::now() + AFTER_KILL).await
        } else {
            false
        };
        self.has_ended(is_left);
        Ok(exit(status))
    }

    fn has_ended(&mut self, is_left: bool) {
        if !is_left {
            self.dependent.take().into_iter().for_each(Dependent::ended);
        }
    }

    /// Waits for the child's end, and meanwhile asks about every other child that has ended.
    async fn end(&mut self) -> io::Result<ExitStatus> {
        loop {
            tokio::select! {
                status = self.child.wait() => return status,
                _ = self.ended.recv() => {}
            }
            for orphan in process_tree::ended_children(getpid()).into_iter().filter(|pid| *pid != self.pid) {
                // How it ended matters to no caller.
                let _ = waitpid(orphan, Some(WaitPidFlag::WNOHANG));
            }
        }
    }

    /// Passes a signal on, unless a terminal has sent it to the command already. A signal that stops a job stops us, too.
    pub fn pass(&self, received: Received) {
        if self.group == Group::Own || !received.is_sent_by_terminals() {
            self.signal(received.signal());
        }
        received.stop_ourselves();
    }

    fn signal(&self, signal: Signal) {
        // What is gone needs no signal.
        let _ = match (self.group, &self.bond) {
            (Group::Own, _) => killpg(self.pid, signal),
            (Group::Ours, Bond::Loose) => tell(self.pid, signal),
            // A guard passes it on.
            (Group::Ours, _) => kill(self.pid, signal),
        };
    }

    /// SIGTERM, and SIGKILL for whatever of it is still there at `deadline`.
    pub async fn stop(&mut self, deadline: Instant) {
        self.signal(Signal::SIGTERM);
        // What a terminal has stopped hears the first only after that. Where others may act already it does nothing more.
        if Instant::now() < deadline {
            self.signal(Signal::SIGCONT);
        }
        let _ = timeout_at(deadline, self.end()).await;
        let mut is_left = self.left(deadline).await;
        if is_left {
            self.kill();
            is_left = self.left(Instant::now() + AFTER_KILL).await;
        }
        self.has_ended(is_left);
        // It has ended, or never will.
        let _ = self.child.try_wait();
    }

    /// Waits until nothing of the command is left; whether something is at `deadline`.
    async fn left(&self, deadline: Instant) -> bool {
        loop {
            let is_left = !process_tree::below(getpid(), Scope::WithoutServers).is_empty()
                || self.group == Group::Own && !process_group::is_gone(self.pid);
            if !is_left || Instant::now() >= deadline {
                return is_left;
            }
            sleep(LOOK).await;
        }
    }

    /// Kills whatever there is of the command.
    fn kill(&self) {
        let leads_a_group = self.group == Group::Own || self.bond != Bond::Loose;
        // It does nothing more from now on, however long it takes to find the rest.
        if leads_a_group {
            let _ = killpg(self.pid, Signal::SIGSTOP);
        }
        process_tree::kill_below(getpid(), Scope::WithoutServers);
        if leads_a_group {
            let _ = killpg(self.pid, Signal::SIGKILL);
        }
    }
}

/// The process id of a child that has not been waited for.
fn process_id(child: &Child) -> Result<Pid, Failure> {
    let number = child.id().and_then(|id| i32::try_from(id).ok());
    let missing = || Failure::message(ErrorKind::Internal, "a child that runs has no process id");
    number.map(Pid::from_raw).ok_or_else(missing)
}

/// Sends a signal to a command that is in a group with others, and to what it has started in that group.
fn tell(command: Pid, signal: Signal) -> Result<(), Errno> {
    let group = getpgid(Some(command))?;
    for process in
        process_tree::below(command, Scope::All).into_iter().filter(|process| getpgid(Some(*process)) == Ok(group))
    {
        // What is gone needs no signal.
        let _ = kill(process, signal);
    }
    kill(command, signal)
}

/// Our own binary as the guard of a command whose arguments follow.
fn guarded(program: &OsStr, format: Format, group: Group, lock: &Path) -> Result<Command, Failure> {
    let mut line = Command::new(own_program::running_file()?);
    line.arg0("lockkeeper").args(for_a_guard(format, group)).arg(lock).arg(program);
    Ok(line)
}

/// A guard's arguments before the file that it locks and its command: see [`guard`].
fn for_a_guard(format: Format, group: Group) -> Vec<OsString> {
    let format = match format {
        Format::Human => "human",
        Format::Json => "json",
    };
    let group = match group {
        Group::Own => Pid::from_raw(0),
        Group::Ours => getpgrp(),
    };
    let files = process_liveness::files();
    let first = [GUARD.to_owned(), format.to_owned(), getpid().to_string(), group.to_string(), files.len().to_string()];
    first.map(OsString::from).into_iter().chain(files.into_iter().map(OsString::from)).collect()
}

/// What a command in a group of its own is started by so that it is killed when this process is: our own binary as its guard,
/// which locks no file.
pub fn tie() -> Result<Vec<String>, Failure> {
    let mut line = vec![own_program::running_file()?.display().to_string()];
    // A liveness file whose name is no text cannot be handed on: then our death is noticed late.
    line.extend(for_a_guard(Format::Human, Group::Own).iter().map(|argument| argument.to_string_lossy().into_owned()));
    line.push(String::new());
    Ok(line)
}

/// What a guard does, where we are one: runs its command to the end, and kills it when the parent is gone.
pub fn guard() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_none_or(|first| first != GUARD) {
        return None;
    }
    let format = if arguments.next().is_some_and(|format| format == "json") { Format::Json } else { Format::Human };
    let mut number = || arguments.next().and_then(|pid| pid.to_str()?.parse().ok()).map(Pid::from_raw);
    let (parent, group) = (number(), number().filter(|group| group.as_raw() != 0));
    let files = number().and_then(|count| usize::try_from(count.as_raw()).ok()).unwrap_or(0);
    let files: Vec<PathBuf> = arguments.by_ref().take(files).map(PathBuf::from).collect();
    let lock = arguments.next().filter(|lock| !lock.is_empty()).map(PathBuf::from);
    let command: Vec<OsString> = arguments.collect();
    Some(match runtime::block_on_this_thread(stand_guard(parent, group, files, lock.as_deref(), &command)) {
        Ok(exit) => exit.code(),
        Err(failure) => {
            let failure = match failure.kind {
                // Nothing of the command ran.
                ErrorKind::Io | ErrorKind::Internal => {
                    let text = format!("{:#}: {}", failure.error, runner_failure::TIE_FAILED);
                    Failure::message(ErrorKind::Command, text)
                }
                _ => failure,
            };
            output::failure(format, &failure);
            failure.exit().code()
        }
    })
}

/// `group`: the one that the command joins; `None`: the guard's own.
async fn stand_guard(
    parent: Option<Pid>,
    group: Option<Pid>,
    files: Vec<PathBuf>,
    lock: Option<&Path>,
    command: &[OsString],
) -> Result<Exit, Failure> {
    // What the whole group gets is for the command: a guard lives on.
    let mut signals = Signals::for_a_group()?;
    let mut parents = death_of_parent()?;
    let has_parent = || Some(getppid()) == parent;
    let mut lock = match lock {
        // `None`: no process waits for the command any more.
        Some(path) => CommandLock::take(path, has_parent).await.map_err(|error| {
            Failure::message(ErrorKind::FenceFile, format!("cannot lock `{}`: {error}", path.display()))
        })?,
        None => None,
    };
    // It may have died before the kernel was asked.
    let dependent = Dependent::supervised(files, env::var(process_liveness::ID).unwrap_or_default());
    if !has_parent() {
        dependent.ended();
        return Err(Failure::message(ErrorKind::LeaseLost, "the process that started this command has ended"));
    }
    let mut report = |outcome: Outcome| {
        // Without a report the exit code is all that is known.
        let _ = lock.as_mut().map(|lock| lock.report(&outcome));
    };
    let (program, arguments) = split(command)?;
    let mut line = Command::new(program);
    line.args(arguments);
    line.env_remove(process_liveness::ID);
    inherited_signals::pass_on(line.as_std_mut());
    ends_with_its_guard(line.as_std_mut());
    if let Some(group) = group {
        line.process_group(group.as_raw());
    }
    let mut child = match line.spawn() {
        Ok(child) => child,
        Err(error) => {
            let failure = not_started(program, &error);
            report(Outcome::NotRun(failure.text()));
            dependent.ended();
            return Err(failure);
        }
    };
    let pid = process_id(&child)?;
    let pass_on = |received: Received| {
        // What is gone needs no signal.
        let _ = match group {
            Some(_) => tell(pid, received.signal()),
            None => kill(pid, received.signal()),
        };
    };
    // What came before the command was there.
    while let Some(received) = signals.next().now_or_never() {
        pass_on(received);
    }
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(|error| Failure::new(ErrorKind::Internal, error))?;
                report(outcome(status));
                // Our parent may be killed before it can say so.
                dependent.ended();
                return Ok(exit(status));
            }
            // In our group the command has it already.
            received = signals.next() => if getpgid(Some(pid)) != Ok(getpgrp()) {
                pass_on(received);
            },
            _ = parents.recv() => {}
        }
        if !has_parent() {
            if end_all(group).await {
                dependent.ended();
            }
            // Ourselves, and the rest of the group where it could not be listed.
            let _ = killpg(getpgrp(), Signal::SIGKILL);
            return Err(Failure::message(ErrorKind::LeaseLost, "the process that started this command was killed"));
        }
    }
}

/// Kills everything below us and the rest of our group; whether nothing of it is left, nor of the group that the command joined.
async fn end_all(joined: Option<Pid>) -> bool {
    process_tree::kill_below(getpid(), Scope::All);
    let deadline = Instant::now() + DYING;
    loop {
        let Some(members) = process_group::others(getpgrp()) else { return false };
        let left: Vec<Pid> = members.into_iter().chain(process_tree::below(getpid(), Scope::All)).collect();
        if left.is_empty() {
            // Others in the group of a terminal's job are not ours to wait for, and what is left of the command is among them.
            return joined.is_none_or(process_group::is_gone);
        }
        if Instant::now() >= deadline {
            return false;
        }
        for process in left {
            // What is gone needs no signal.
            let _ = kill(process, Signal::SIGKILL);
        }
        sleep(BETWEEN_KILLS).await;
    }
}

/// Has the kernel kill the command when its guard dies, whether or not another process is left to do it. A program that is setuid,
/// setgid or has file capabilities clears this, and what the command starts does not inherit it.
///
/// The kernel takes the end of the thread that spawns for the guard's death: a guard spawns from its main thread, on which its
/// runtime runs ([`runtime::block_on_this_thread`]).
#[cfg(target_os = "linux")]
fn ends_with_its_guard(command: &mut std::process::Command) {
    let guard = getpid();
    let ask = move || {
        nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
        // It may have died before the kernel was asked.
        if getppid() == guard { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    #[expect(unsafe_code, reason = "only the command itself can ask the kernel for it")]
    // SAFETY: between fork and exec it calls `prctl` and `getppid`, which are async-signal-safe, and allocates nothing.
    unsafe {
        command.pre_exec(ask);
    }
}

#[cfg(not(target_os = "linux"))]
fn ends_with_its_guard(_: &mut std::process::Command) {}

/// Has the kernel say when our parent is gone, by a signal that is never ignored: our own children say by it that they have
/// ended.
fn death_of_parent() -> Result<unix::Signal, Failure> {
    let failed = |error: io::Error| Failure::new(ErrorKind::Internal, error);
    // One thread hears it though it may have been blocked when we were started, as it is for the command.
    thread::Builder::new()
        .spawn(|| {
            if SigSet::all().thread_unblock().is_ok() {
                loop {
                    thread::park();
                }
            }
        })
        .map_err(failed)?;
    let heard = unix::signal(SignalKind::child()).map_err(failed)?;
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(Signal::SIGCHLD).map_err(|error| failed(error.into()))?;
    Ok(heard)
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
pub fn signal_name(number: i32) -> String {
    Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.to_string())
}

fn split(command: &[OsString]) -> Result<(&OsString, &[OsString]), Failure> {
    command.split_first().ok_or_else(|| Failure::message(ErrorKind::NoSuchCommand, "no command"))
}

fn not_started(program: &OsStr, error: &io::Error) -> Failure {
    let name = program.to_string_lossy();
    let is_missing = error.kind() == io::ErrorKind::NotFound || !is_found(program);
    let missing = io::Error::from(Errno::ENOENT);
    let (kind, error) = if is_missing {
        // A folder of the search path that cannot be read is the last error there, and not the point.

        (ErrorKind::NoSuchCommand, &missing)
    } else {
        (ErrorKind::Command, error)
    };
    let text = match runner_failure::advice(error).filter(|_| !is_missing) {
        Some(advice) => {
            format!("cannot run `{}`: {error}: {}; {advice}", output::shown(&name), runner_failure::TIE_FAILED)
        }
        None => format!("cannot run `{}`: {error}", output::shown(&name)),
    };
    let failure = Failure::message(kind, text);
    match is_missing {
        true if name.contains(char::is_whitespace) => {
            failure.hint("the command runs without a shell; start one with `-- sh -c '…'`")
        }
        true if Path::new(program).is_file() && name.contains('/') => {
            failure.hint("the file exists, but the interpreter in its first line does not")
        }
        _ => failure,
    }
}

/// Whether there is a program of that name, whatever comes of running it. A path has been looked up by running it.
fn is_found(program: &OsStr) -> bool {
    if program.as_bytes().contains(&b'/') {
        return true;
    }
    let folders = env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    env::split_paths(&folders).any(|folder| folder.join(program).is_file())
}

/// The exit code of a process that has ended so.
pub fn exit(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    match code {
        0 => Exit::Done,
        code => Exit::Command(u8::try_from(code).unwrap_or(1)),
    }
}
