//! A command on this machine, as a process group.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout_at};

use super::command::{CommandEnd, Invocation, Limits, Stopped};
use lockkeeper_locks::process::{inherited_signals, process_group, runner_failure};

/// Interval between checks of a stopped group.
const GROUP_POLL: Duration = Duration::from_millis(10);

/// How long a killed group is waited for: a process that cannot be killed hangs in the kernel.
const AFTER_KILL: Duration = Duration::from_secs(2);

/// Runs the command to its end, or until it must end.
pub(super) async fn run(command: &[String], invocation: &Invocation, log: File, limits: &mut Limits<'_>) -> CommandEnd {
    let not_started = |error: io::Error| {
        let program = command.first().cloned().unwrap_or_default();
        match runner_failure::advice(&error) {
            Some(advice) => {
                CommandEnd::RunnerFailed(format!("cannot run `{program}` on this machine: {error}; {advice}"))
            }
            None => CommandEnd::NotStarted(format!("cannot run `{program}`: {error}")),
        }
    };
    let mut child = match start(command, invocation, log) {
        Ok(child) => child,
        Err(error) => return not_started(error),
    };
    let _of_ours =
        child.id().and_then(|id| i32::try_from(id).ok()).map(|id| process_group::TrackedGroup::new(Pid::from_raw(id)));
    let must_end = tokio::select! {
        status = child.wait() => {
            return status.map_or_else(not_started, |status| CommandEnd::Exited(status.code(), describe(status)));
        }
        must_end = limits.reached() => must_end,
    };
    stop(&mut child, must_end.kill_at()).await;
    must_end.ended(Stopped::Gone)
}

fn start(command: &[String], invocation: &Invocation, log: File) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    let mut line = Command::new(program);
    inherited_signals::pass_on(line.as_std_mut());
    line.args(arguments)
        .envs(invocation.environment.iter().map(|(key, value)| (key, value)))
        .envs(invocation.secrets.iter().map(|(key, value)| (key, value.expose())))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// Sends SIGTERM to a process's whole group, and SIGKILL to what is left of it at `kill_at`.
pub(super) async fn stop(child: &mut Child, kill_at: Instant) {
    // The group has the number of its leader.
    let Some(group) = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw) else { return };
    // An error means that the group is gone, which is the goal.
    let _ = killpg(group, Signal::SIGTERM);
    if !gone(child, group, kill_at).await {
        let _ = killpg(group, Signal::SIGKILL);
        gone(child, group, Instant::now() + AFTER_KILL).await;
    }
}

async fn gone(child: &mut Child, group: Pid, deadline: Instant) -> bool {
    let empty = async {
        let _ = child.wait().await;
        while !process_group::is_gone(group) {
            sleep(GROUP_POLL).await;
        }
    };
    timeout_at(deadline, empty).await.is_ok()
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with {code}"),
        (None, Some(signal)) => {
            let name = Signal::try_from(signal).map_or_else(|_| signal.to_string(), |signal| signal.to_string());
            format!("was ended by {name}")
        }
        (None, None) => "ended".to_owned(),
    }
}
