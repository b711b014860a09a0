//! Runs a command to its end, with its probe and its log.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::Instant;

use super::command::{CommandEnd, Invocation, Kill, Limits, Location, Stopped};
use super::{process, ssh};
use crate::policy::types::Ending;
use crate::rollout::model::{ActionResult, Course};
use lockkeeper_coordination::files;
use lockkeeper_coordination::store::millis;
use lockkeeper_coordination::store::process_liveness::{self, Dependent};
use lockkeeper_coordination::zookeeper::Secret;
use lockkeeper_locks::process::runner_failure;
use lockkeeper_locks::terminal;

/// Lines of output that a failure shows.
const TAIL_LINES: usize = 10;

/// Bytes at the end of a log in which those lines are searched.
const TAIL_BYTES: u64 = 16 * 1024;

/// Minimum length, in bytes, of a secret's line that is hidden in shown output: shorter ones occur in any text.
const MIN_HIDDEN: usize = 4;

/// Runs a command to its end, or stops it on `kill`: SIGTERM to its process group, then SIGKILL.
///
/// [`Ending::Failed`] without an exit code: a signal ended it, or it never started. [`Ending::Unknown`]: its end is
/// unknown.
///
/// Processes that it leaves behind when it ends by itself keep running: a restart starts a server.
///
/// # Cancel safety
/// None: dropped, it leaves the command running.
pub(in crate::rollout) async fn run(invocation: Invocation, mut kill: oneshot::Receiver<Kill>) -> ActionResult {
    let began = Instant::now();
    let deadline = invocation.timeout.map(|timeout| began + timeout);
    let mut what = invocation.what;
    let dependent = invocation.ends_with_runner.then(Dependent::starts);
    let id = dependent.iter().map(|dependent| (process_liveness::ID.to_owned(), dependent.id().to_owned()));
    let mut own = invocation.clone();
    if matches!(own.location, Location::Local) {
        own.environment.extend(id);
    }
    let mut ended = one(&own, &invocation.run, deadline, &mut kill).await;
    if let Some(dependent) = dependent.filter(|_| ended.is_certain()) {
        dependent.ended();
    }
    if let (CommandEnd::Exited(Some(0), _), Some(probe)) = (&ended, &invocation.probe) {
        what = "probe";
        ended = one(&invocation, probe, deadline, &mut kill).await;
    }
    if invocation.ends_with_runner
        && matches!(invocation.location, Location::Local)
        && matches!(ended, CommandEnd::Exited(Some(runner_failure::CANNOT_START), _))
        && let Some(line) = tail(&invocation.log, &invocation.secrets)
            .into_iter()
            .find(|line| line.contains(runner_failure::TIE_FAILED))
    {
        ended = CommandEnd::RunnerFailed(line.trim_start_matches("error: ").to_owned());
    }
    if matches!(ended, CommandEnd::Exited(Some(1..), _))
        && File::open(&invocation.log).is_ok_and(|log| runner_failure::is_full(&log))
    {
        let CommandEnd::Exited(_, how) = ended else { unreachable!("it was just seen") };
        ended = CommandEnd::Lost(format!("{what} {how} while the disk of its output was full: that may be why"));
    }
    if what != invocation.what
        && let Some(detail) = unsettled(&ended, &invocation.location)
    {
        ended = CommandEnd::Lost(detail);
    }
    let course = match &ended {
        CommandEnd::NotStarted(_) => Course::NotStarted,
        CommandEnd::RunnerFailed(_) => Course::RunnerFailed,
        CommandEnd::Unreachable(_) => Course::Unreachable,
        CommandEnd::Lost(_)
        | CommandEnd::TimedOut(Stopped::Perhaps(_))
        | CommandEnd::Killed { stopped: Stopped::Perhaps(_), .. } => Course::ContactLost,
        CommandEnd::Exited(..) | CommandEnd::TimedOut(_) | CommandEnd::Killed { .. } => Course::Ran,
    };
    let (ending, exit_code, detail) = match ended {
        CommandEnd::Exited(Some(0), _) => (Ending::Succeeded, Some(0), String::new()),
        CommandEnd::Exited(code, how) => (Ending::Failed, code, format!("{what} {how}")),
        CommandEnd::TimedOut(stopped) => {
            let timeout = humantime::format_duration(invocation.timeout.unwrap_or_default());
            match stopped {
                Stopped::Gone => (Ending::TimedOut, None, format!("{what} stopped after {timeout}")),
                Stopped::Perhaps(why) => (
                    Ending::Unknown,
                    None,
                    format!("{what} exceeded its time-out of {timeout} and may still run: {why}"),
                ),
            }
        }
        CommandEnd::Killed { ending, stopped: Stopped::Perhaps(reason), .. } => {
            (Ending::Unknown, None, format!("{what} was stopped ({}) and may still run: {reason}", why(ending)))
        }
        CommandEnd::Killed { ending, overran, .. } if overran.is_zero() => {
            (ending, None, format!("{what} stopped: {}", why(ending)))
        }
        CommandEnd::Killed { ending, overran, .. } => {
            let overran = humantime::format_duration(Duration::from_millis(millis(overran).max(1)));
            let ran_on = format!("it kept running for {overran} while another holder may have had its slot");
            (ending, None, format!("{what} stopped: {}; {ran_on}", why(ending)))
        }
        CommandEnd::NotStarted(reason) | CommandEnd::Unreachable(reason) | CommandEnd::RunnerFailed(reason) => {
            (Ending::Failed, None, reason)
        }
        CommandEnd::Lost(reason) => (Ending::Unknown, None, reason),
    };
    let output = if ending == Ending::Succeeded { Vec::new() } else { tail(&invocation.log, &invocation.secrets) };
    ActionResult {
        ending,
        course,
        exit_code,
        took_ms: millis(began.elapsed()),
        detail,
        output,
        log: invocation.log.display().to_string(),
    }
}

/// Why a probe after a successful command leaves its outcome unknown; it is then repeated, as after a broken
/// connection. `None` if the probe settles it.
fn unsettled(ended: &CommandEnd, location: &Location) -> Option<String> {
    match ended {
        CommandEnd::Exited(Some(75), _) => Some("its probe reports that it is still running".to_owned()),
        CommandEnd::Exited(Some(66), _) => Some("its probe reports that it never started".to_owned()),
        CommandEnd::Exited(Some(76), _) => Some("its probe reports that the outcome is unknown".to_owned()),
        // The exit code of ssh itself.
        CommandEnd::Exited(Some(255), _) if matches!(location, Location::Local) => {
            Some("its probe ended with 255".to_owned())
        }
        CommandEnd::Unreachable(reason) | CommandEnd::Lost(reason) | CommandEnd::RunnerFailed(reason) => {
            Some(reason.clone())
        }
        _ => None,
    }
}

async fn one(
    invocation: &Invocation,
    command: &[String],
    deadline: Option<Instant>,
    kill: &mut oneshot::Receiver<Kill>,
) -> CommandEnd {
    let never = |ending| CommandEnd::Killed { ending, overran: Duration::ZERO, stopped: Stopped::Gone };
    // A command that is stopped before its start does not start; without the loop nothing could stop it.
    match kill.try_recv() {
        Err(TryRecvError::Empty) => {}
        Ok(Kill { ending, .. }) => return never(ending),
        Err(TryRecvError::Closed) => return never(Ending::Unknown),
    }
    let log = match files::append(&invocation.log) {
        Ok(log) => log,
        Err(error) => return CommandEnd::RunnerFailed(runner_failure::of_log(&invocation.log, &error)),
    };
    if runner_failure::is_full(&log) {
        return CommandEnd::RunnerFailed(runner_failure::of_log(&invocation.log, &io::Error::from(Errno::ENOSPC)));
    }
    let mut limits = Limits { deadline, kill, kill_after: invocation.kill_after };
    match &invocation.location {
        Location::Local => process::run(command, invocation, log, &mut limits).await,
        Location::Remote(host) => ssh::run(host, command, invocation, log, &mut limits).await,
    }
}

fn why(ending: Ending) -> &'static str {
    match ending {
        Ending::LeaseLost => "its lease was lost",
        _ => "the run was stopped",
    }
}

/// The last lines of a log, for a terminal and the journal, without the job's secrets.
fn tail(log: &Path, secrets: &[(String, Secret)]) -> Vec<String> {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        file.take(TAIL_BYTES).read_to_end(&mut text)
    });
    if read.is_err() {
        return Vec::new();
    }
    let mut text = String::from_utf8_lossy(&text).into_owned();
    for line in secrets.iter().flat_map(|(_, secret)| secret.expose().lines()).filter(|line| line.len() >= MIN_HIDDEN) {
        text = text.replace(line, "***");
    }
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.iter().skip(lines.len().saturating_sub(TAIL_LINES));
    shown.map(|line| terminal::log_line(line, terminal::MAX_VALUE)).collect()
}
