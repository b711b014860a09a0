//! An action's command as a process group: started, watched, stopped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{Instant, sleep, timeout_at};

use super::group;
use super::messages::{ActionResult, Others};
use crate::policy::types::Ending;

/// Lines of output that a failure shows.
const TAIL_LINES: usize = 10;

/// As far back as those lines are looked for.
const TAIL_BYTES: u64 = 16 * 1024;

/// How often a stopped group is looked at.
const GROUP_POLL: Duration = Duration::from_millis(10);

/// How long a killed group is waited for: what cannot be killed hangs in the kernel.
const AFTER_KILL: Duration = Duration::from_secs(2);

/// A command and how it is run.
#[derive(Debug, Clone)]
pub(super) struct Invocation {
    /// The program and its arguments; no shell comes between.
    pub run: Vec<String>,
    /// Asked after `run` succeeded; anything but 0 is a failure.
    pub probe: Option<Vec<String>>,
    /// Put into the environment, beside what it has already.
    pub environment: Vec<(String, String)>,
    /// Where its output goes, both streams in the order written.
    pub log: PathBuf,
    /// How long command and probe may take together; none: as long as they like.
    pub timeout: Option<Duration>,
    /// How long after SIGTERM comes SIGKILL.
    pub kill_after: Duration,
}

/// That a command is to be stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kill {
    /// As what its end then counts.
    pub ending: Ending,
    /// From when on somebody else may act in its place.
    pub others: Option<Others>,
}

impl Kill {
    /// From when on its running is over the limit.
    fn over_the_limit_from(&self) -> Option<Instant> {
        self.others.map(|(Others::Since(at) | Others::From(at))| at)
    }

    /// When it is killed, if it may take `kill_after` to end by itself.
    fn at(&self, kill_after: Duration) -> Instant {
        let patient = Instant::now() + kill_after;
        match self.others {
            Some(Others::From(at)) => patient.min(at.checked_sub(group::KILL_LEAD).unwrap_or(at)),
            Some(Others::Since(_)) | None => patient,
        }
    }
}

/// How one command ended.
enum Ended {
    Exited(ExitStatus),
    TimedOut,
    /// Stopped, and how long it ran when somebody else may have acted already.
    Killed {
        ending: Ending,
        overran: Duration,
    },
    NotStarted(io::Error),
    NoLog(io::Error),
}

/// Runs a command to its end, or stops it when `kill` says so: SIGTERM to its process group, then SIGKILL.
///
/// Processes that it leaves behind when it ends by itself are left alone: a restart starts a server.
///
/// # Cancel safety
/// None: dropped, it leaves the command running.
pub(super) async fn run(invocation: Invocation, mut kill: oneshot::Receiver<Kill>) -> ActionResult {
    let began = Instant::now();
    let deadline = invocation.timeout.map(|timeout| began + timeout);
    let mut what = "command";
    let mut ended = one(&invocation, &invocation.run, deadline, &mut kill).await;
    if let (Ended::Exited(status), Some(probe)) = (&ended, &invocation.probe)
        && status.success()
    {
        what = "probe";
        ended = one(&invocation, probe, deadline, &mut kill).await;
    }
    let (ending, exit_code, detail) = match ended {
        Ended::Exited(status) if status.success() => (Ending::Succeeded, Some(0), String::new()),
        Ended::Exited(status) => (Ending::Failed, status.code(), format!("{what} {}", describe(status))),
        Ended::TimedOut => {
            let timeout = humantime::format_duration(invocation.timeout.unwrap_or_default());
            (Ending::TimedOut, None, format!("{what} stopped after {timeout}"))
        }
        Ended::Killed { ending, overran } if overran.is_zero() => {
            (ending, None, format!("{what} stopped: {}", why(ending)))
        }
        Ended::Killed { ending, overran } => {
            let overran = humantime::format_duration(Duration::from_millis(millis(overran).max(1)));
            let ran_on = format!("it ran on for {overran} when somebody else may have had its slot");
            (ending, None, format!("{what} stopped: {}; {ran_on}", why(ending)))
        }
        Ended::NotStarted(error) => {
            let program = if what == "probe" { invocation.probe.as_deref() } else { Some(&*invocation.run) };
            let program = program.and_then(|command| command.first()).cloned().unwrap_or_default();
            (Ending::Failed, None, format!("cannot run `{program}`: {error}"))
        }
        Ended::NoLog(error) => {
            (Ending::Failed, None, format!("cannot write its output to `{}`: {error}", invocation.log.display()))
        }
    };
    let output = if ending == Ending::Succeeded { Vec::new() } else { tail(&invocation.log) };
    ActionResult {
        ending,
        exit_code,
        took_ms: millis(began.elapsed()),
        detail,
        output,
        log: invocation.log.display().to_string(),
    }
}

async fn one(
    invocation: &Invocation,
    command: &[String],
    deadline: Option<Instant>,
    kill: &mut oneshot::Receiver<Kill>,
) -> Ended {
    // Who is to be stopped before it started does not start; without an engine nobody could stop it.
    match kill.try_recv() {
        Err(TryRecvError::Empty) => {}
        Ok(Kill { ending, .. }) => return Ended::Killed { ending, overran: Duration::ZERO },
        Err(TryRecvError::Closed) => return Ended::Killed { ending: Ending::Unknown, overran: Duration::ZERO },
    }
    let log = match OpenOptions::new().create(true).append(true).open(&invocation.log) {
        Ok(log) => log,
        Err(error) => return Ended::NoLog(error),
    };
    let mut child = match start(invocation, command, log) {
        Ok(child) => child,
        Err(error) => return Ended::NotStarted(error),
    };
    // The group has the number of the process that leads it.
    let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
    let past_deadline = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    let kill = tokio::select! {
        status = child.wait() => return status.map_or_else(Ended::NotStarted, Ended::Exited),
        kill = &mut *kill => Some(kill.unwrap_or(Kill { ending: Ending::Unknown, others: None })),
        () = past_deadline => None,
    };
    if let Some(group) = group {
        let kill_at =
            kill.map_or_else(|| Instant::now() + invocation.kill_after, |kill| kill.at(invocation.kill_after));
        stop(&mut child, group, kill_at).await;
    }
    match kill {
        Some(kill) => {
            let overran = kill.over_the_limit_from().map(|from| Instant::now().saturating_duration_since(from));
            Ended::Killed { ending: kill.ending, overran: overran.unwrap_or_default() }
        }
        None => Ended::TimedOut,
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn start(invocation: &Invocation, command: &[String], log: File) -> io::Result<Child> {
    let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("the command is empty"))?;
    Command::new(program)
        .args(arguments)
        .envs(invocation.environment.iter().map(|(key, value)| (key, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// SIGTERM to all of the group; SIGKILL to what is left of it at `kill_at`.
async fn stop(child: &mut Child, group: Pid, kill_at: Instant) {
    // A group that is gone is what we want.
    let _ = killpg(group, Signal::SIGTERM);
    if !gone(child, group, kill_at).await {
        let _ = killpg(group, Signal::SIGKILL);
        gone(child, group, Instant::now() + AFTER_KILL).await;
    }
}

async fn gone(child: &mut Child, group: Pid, deadline: Instant) -> bool {
    let empty = async {
        let _ = child.wait().await;
        while !group::is_gone(group) {
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

fn why(ending: Ending) -> &'static str {
    match ending {
        Ending::LeaseLost => "its lease was lost",
        _ => "the run was stopped",
    }
}

/// The last lines of a log, without what could move a terminal's cursor.
fn tail(log: &Path) -> Vec<String> {
    let mut text = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        file.take(TAIL_BYTES).read_to_end(&mut text)
    });
    if read.is_err() {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let shown = lines.iter().skip(lines.len().saturating_sub(TAIL_LINES));
    shown.map(|line| line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()).collect()
}
