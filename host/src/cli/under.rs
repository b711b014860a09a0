//! A command that runs under a lease or a membership: started, told to stop, ended with its own code.

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout_at};

use super::exit::{ErrorKind, Exit, Failure};
use super::{Format, UnderArgs};

/// Whether a command outlives us when we are killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bond {
    /// It does.
    Loose,
    /// It is killed with us: what it works under is gone then. An error of its delegate is written so.
    Tied(Format),
}

/// A command that is running.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    /// Where a process group of its own was made; on a terminal it stays in ours, to be able to read from it.
    group: Option<Pid>,
    pid: Option<Pid>,
}

impl Running {
    /// Starts a command with our stdin, stdout and stderr.
    pub(super) fn start(command: &[OsString], environment: &[(&str, String)], bond: Bond) -> Result<Self, Failure> {
        let (program, arguments) =
            command.split_first().ok_or_else(|| Failure::message(ErrorKind::Command, "no command"))?;
        let mut line = match bond {
            Bond::Loose => Command::new(program),
            Bond::Tied(format) => tied(program, format)?,
        };
        line.args(arguments).envs(environment.iter().map(|(key, value)| (key, value)));
        let own_group = !io::stdin().is_terminal();
        if own_group {
            line.process_group(0);
        }
        let child = line.spawn().map_err(|error| not_started(program, &error))?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        Ok(Self { child, group: pid.filter(|_| own_group), pid })
    }

    /// Waits for its end.
    pub(super) async fn wait(&mut self) -> Result<Exit, Failure> {
        let status = self.child.wait().await.map_err(|error| Failure::new(ErrorKind::Internal, error))?;
        Ok(exit(status))
    }

    /// Passes a signal on, to its whole group where it has one.
    pub(super) fn signal(&self, signal: Signal) {
        // What is gone needs no signal.
        let _ = match (self.group, self.pid) {
            (Some(group), _) => killpg(group, signal),
            (None, Some(pid)) => kill(pid, signal),
            (None, None) => Ok(()),
        };
    }

    /// Passes Ctrl-C on where the terminal does not.
    pub(super) fn interrupt(&self) {
        if self.group.is_some() {
            self.signal(Signal::SIGINT);
        }
    }

    /// SIGTERM, and SIGKILL after `kill_after`.
    pub(super) async fn stop(&mut self, kill_after: Duration) {
        self.signal(Signal::SIGTERM);
        if timeout_at(Instant::now() + kill_after, self.child.wait()).await.is_err() {
            self.signal(Signal::SIGKILL);
            let _ = self.child.wait().await;
        }
    }
}

/// Our own binary as the command's parent's delegate: it asks the kernel to be killed with its parent, and becomes the
/// command.
fn tied(program: &OsString, format: Format) -> Result<Command, Failure> {
    let ourselves = std::env::current_exe().map_err(|error| Failure::new(ErrorKind::Internal, error))?;
    let mut line = Command::new(ourselves);
    let format = match format {
        Format::Human => "human",
        Format::Json => "json",
    };
    line.args(["--format", format])
        .arg("__under")
        .arg("--parent")
        .arg(std::process::id().to_string())
        .arg("--")
        .arg(program);
    Ok(line)
}

/// The hidden command behind [`tied`].
pub(super) fn run(args: &UnderArgs) -> Result<Exit, Failure> {
    #[cfg(target_os = "linux")]
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|error| Failure::new(ErrorKind::Internal, error))?;
    // It may have died before the kernel was asked.
    if nix::unistd::getppid().as_raw() != args.parent {
        return Err(Failure::message(ErrorKind::LeaseLost, "the process that holds the lease is gone"));
    }
    let (program, arguments) =
        args.command.split_first().ok_or_else(|| Failure::message(ErrorKind::Command, "no command"))?;
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(not_started(program, &error))
}

fn not_started(program: &OsString, error: &io::Error) -> Failure {
    Failure::message(ErrorKind::Command, format!("cannot run `{}`: {error}", program.to_string_lossy()))
}

fn exit(status: ExitStatus) -> Exit {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    match code {
        0 => Exit::Done,
        code => Exit::Command(u8::try_from(code).unwrap_or(1)),
    }
}
