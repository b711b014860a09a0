//! An action's command, here or on its target: started, watched, stopped.
//!
//! Each command is a process group of its own. `process` has those of this machine, `ssh` those of the targets.

pub mod inherited_signals;
mod process;
pub mod process_group;
pub mod process_stat;
pub mod process_tree;
pub(crate) mod runner_failure;
mod ssh;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::{Instant, sleep_until};

pub(super) use self::ssh::{Connections, Host};
use crate::policy::types::Ending;
use crate::rollout::model::{ActionResult, Course, Others};
use crate::terminal;
use lockkeeper_coordination::files;
use lockkeeper_coordination::store::millis;
use lockkeeper_coordination::store::process_liveness::{self, Dependent};
use lockkeeper_coordination::zookeeper::Secret;

/// Lines of output that a failure shows.
const TAIL_LINES: usize = 10;

/// As far back as those lines are looked for.
const TAIL_BYTES: u64 = 16 * 1024;

/// A secret's line is hidden in what is shown if it has so many bytes: a shorter one is in every text.
const MIN_HIDDEN: usize = 4;

/// A command and how it is run.
#[derive(Debug, Clone)]
pub(super) struct Invocation {
    /// The program and its arguments; no shell reads them.
    pub run: Vec<String>,
    /// What `run` is, for a person.
    pub what: &'static str,
    /// Asked after `run` succeeded: 0 is a success, 66, 75, 76 and a target that cannot be reached leave it open, anything else is
    /// a failure.
    pub probe: Option<Vec<String>>,
    /// Put into the environment, beside what it has already.
    pub environment: Vec<(String, String)>,
    /// Likewise, and neither shown nor on a command line.
    pub secrets: Vec<(String, Secret)>,
    /// Where it runs.
    pub place: Place,
    /// Where its output goes, both streams in the order written.
    pub log: PathBuf,
    /// How long command and probe may take together; none: as long as they like.
    pub timeout: Option<Duration>,
    /// How long after SIGTERM comes SIGKILL.
    pub kill_after: Duration,
    /// Whether `run` has to end with this process, because it acts under an ephemeral lease.
    pub ends_with_runner: bool,
}

/// Where a command runs.
#[derive(Debug, Clone)]
pub(super) enum Place {
    /// On this machine.
    Here,
    /// On the target, over ssh.
    There(Host),
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
            Some(Others::From(at)) => patient.min(at.checked_sub(process_group::KILL_LEAD).unwrap_or(at)),
            Some(Others::Since(_)) | None => patient,
        }
    }
}

/// How one command ended.
enum Ended {
    /// By itself, with that code; none: a signal ended it. And what is said of it.
    Exited(Option<i32>, String),
    TimedOut(Stopped),
    /// Stopped, and how long it ran when somebody else may have acted already.
    Killed {
        ending: Ending,
        overran: Duration,
        stopped: Stopped,
    },
    /// Nothing of it ever ran, for certain: why.
    NotStarted(String),
    /// Nothing of it ever ran, for certain: its host cannot be reached, and why.
    Unreachable(String),
    /// Nobody knows how it ended, or whether: why.
    Lost(String),
    /// Nothing of it ran: this machine could not start it, and what to do.
    RunnerFailed(String),
}

impl Ended {
    /// Whether nothing of the command runs any more. A supervisor that was killed leaves its command alone.
    fn is_certain(&self) -> bool {
        match self {
            Self::Exited(code, _) => code.is_some(),
            Self::TimedOut(stopped) | Self::Killed { stopped, .. } => matches!(stopped, Stopped::Gone),
            Self::NotStarted(_) | Self::Unreachable(_) | Self::RunnerFailed(_) => true,
            Self::Lost(_) => false,
        }
    }
}

/// What became of a command that was to be stopped.
enum Stopped {
    /// Nothing of it runs.
    Gone,
    /// Some of it may run: why that is not known.
    Perhaps(String),
}

/// Runs a command to its end, or stops it when `kill` says so: SIGTERM to its process group, then SIGKILL.
///
/// [`Ending::Failed`] without an exit code: a signal ended it, or nothing of it ever ran. [`Ending::Unknown`]: nobody knows.
///
/// Processes that it leaves behind when it ends by itself are left alone: a restart starts a server.
///
/// # Cancel safety
/// None: dropped, it leaves the command running.
pub(super) async fn run(invocation: Invocation, mut kill: oneshot::Receiver<Kill>) -> ActionResult {
    let began = Instant::now();
    let deadline = invocation.timeout.map(|timeout| began + timeout);
    let mut what = invocation.what;
    let dependent = invocation.ends_with_runner.then(Dependent::starts);
    let id = dependent.iter().map(|dependent| (process_liveness::ID.to_owned(), dependent.id().to_owned()));
    let mut own = invocation.clone();
    if matches!(own.place, Place::Here) {
        own.environment.extend(id);
    }
    let mut ended = one(&own, &invocation.run, deadline, &mut kill).await;
    if let Some(dependent) = dependent.filter(|_| ended.is_certain()) {
        dependent.ended();
    }
    if let (Ended::Exited(Some(0), _), Some(probe)) = (&ended, &invocation.probe) {
        what = "probe";
        ended = one(&invocation, probe, deadline, &mut kill).await;
    }
    if invocation.ends_with_runner
        && matches!(invocation.place, Place::Here)
        && matches!(ended, Ended::Exited(Some(runner_failure::CANNOT_START), _))
        && let Some(line) = tail(&invocation.log, &invocation.secrets)
            .into_iter()
            .find(|line| line.contains(runner_failure::TIE_FAILED))
    {
        ended = Ended::RunnerFailed(line.trim_start_matches("error: ").to_owned());
    }
    if matches!(ended, Ended::Exited(Some(1..), _))
        && File::open(&invocation.log).is_ok_and(|log| runner_failure::is_full(&log))
    {
        let Ended::Exited(_, how) = ended else { unreachable!("it was just seen") };
        ended = Ended::Lost(format!("{what} {how} while the disk of its output was full: that may be why"));
    }
    if what != invocation.what
        && let Some(detail) = unsettled(&ended, &invocation.place)
    {
        ended = Ended::Lost(detail);
    }
    let course = match &ended {
        Ended::NotStarted(_) => Course::NotStarted,
        Ended::RunnerFailed(_) => Course::RunnerFailed,
        Ended::Unreachable(_) => Course::Unreachable,
        Ended::Lost(_) | Ended::TimedOut(Stopped::Perhaps(_)) | Ended::Killed { stopped: Stopped::Perhaps(_), .. } => {
            Course::ContactLost
        }
        Ended::Exited(..) | Ended::TimedOut(_) | Ended::Killed { .. } => Course::Ran,
    };
    let (ending, exit_code, detail) = match ended {
        Ended::Exited(Some(0), _) => (Ending::Succeeded, Some(0), String::new()),
        Ended::Exited(code, how) => (Ending::Failed, code, format!("{what} {how}")),
        Ended::TimedOut(stopped) => {
            let timeout = humantime::format_duration(invocation.timeout.unwrap_or_default());
            match stopped {
                Stopped::Gone => (Ending::TimedOut, None, format!("{what} stopped after {timeout}")),
                Stopped::Perhaps(why) => {
                    (Ending::Unknown, None, format!("{what} ran for more than {timeout} and may still run: {why}"))
                }
            }
        }
        Ended::Killed { ending, stopped: Stopped::Perhaps(reason), .. } => {
            (Ending::Unknown, None, format!("{what} was to stop: {}; it may still run: {reason}", why(ending)))
        }
        Ended::Killed { ending, overran, .. } if overran.is_zero() => {
            (ending, None, format!("{what} stopped: {}", why(ending)))
        }
        Ended::Killed { ending, overran, .. } => {
            let overran = humantime::format_duration(Duration::from_millis(millis(overran).max(1)));
            let ran_on = format!("it ran on for {overran} when somebody else may have had its slot");
            (ending, None, format!("{what} stopped: {}; {ran_on}", why(ending)))
        }
        Ended::NotStarted(reason) | Ended::Unreachable(reason) | Ended::RunnerFailed(reason) => {
            (Ending::Failed, None, reason)
        }
        Ended::Lost(reason) => (Ending::Unknown, None, reason),
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

/// Why a probe after a command that succeeded leaves open how that went: then it is asked again, as after a connection that
/// broke. `None` if it says.
fn unsettled(ended: &Ended, place: &Place) -> Option<String> {
    match ended {
        Ended::Exited(Some(75), _) => Some("its probe says that it is under way".to_owned()),
        Ended::Exited(Some(66), _) => Some("its probe says that it never started".to_owned()),
        Ended::Exited(Some(76), _) => Some("its probe does not know how it went".to_owned()),
        // The code of ssh itself.
        Ended::Exited(Some(255), _) if matches!(place, Place::Here) => Some("its probe ended with 255".to_owned()),
        Ended::Unreachable(reason) | Ended::Lost(reason) | Ended::RunnerFailed(reason) => Some(reason.clone()),
        _ => None,
    }
}

async fn one(
    invocation: &Invocation,
    command: &[String],
    deadline: Option<Instant>,
    kill: &mut oneshot::Receiver<Kill>,
) -> Ended {
    let never = |ending| Ended::Killed { ending, overran: Duration::ZERO, stopped: Stopped::Gone };
    // Who is to be stopped before it started does not start; without an engine nobody could stop it.
    match kill.try_recv() {
        Err(TryRecvError::Empty) => {}
        Ok(Kill { ending, .. }) => return never(ending),
        Err(TryRecvError::Closed) => return never(Ending::Unknown),
    }
    let log = match files::append(&invocation.log) {
        Ok(log) => log,
        Err(error) => return Ended::RunnerFailed(runner_failure::of_log(&invocation.log, &error)),
    };
    if runner_failure::is_full(&log) {
        return Ended::RunnerFailed(runner_failure::of_log(&invocation.log, &io::Error::from(Errno::ENOSPC)));
    }
    let mut limits = Limits { deadline, kill, kill_after: invocation.kill_after };
    match &invocation.place {
        Place::Here => process::run(command, invocation, log, &mut limits).await,
        Place::There(host) => ssh::run(host, command, invocation, log, &mut limits).await,
    }
}

/// What may end a command before it does itself.
struct Limits<'a> {
    deadline: Option<Instant>,
    kill: &'a mut oneshot::Receiver<Kill>,
    kill_after: Duration,
}

/// That a command must end.
enum MustEnd {
    TimedOut { kill_at: Instant },
    Killed { kill: Kill, kill_at: Instant },
}

impl Limits<'_> {
    /// Waits until the command must end. Once it said so it is not to be asked again.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    async fn reached(&mut self) -> MustEnd {
        let past_deadline = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            kill = &mut *self.kill => {
                let kill = kill.unwrap_or(Kill { ending: Ending::Unknown, others: None });
                MustEnd::Killed { kill, kill_at: kill.at(self.kill_after) }
            }
            () = past_deadline => MustEnd::TimedOut { kill_at: Instant::now() + self.kill_after },
        }
    }
}

impl MustEnd {
    /// When what has not ended is killed.
    fn kill_at(&self) -> Instant {
        match self {
            Self::TimedOut { kill_at } | Self::Killed { kill_at, .. } => *kill_at,
        }
    }

    /// How the command then ended: now.
    fn ended(self, stopped: Stopped) -> Ended {
        match self {
            Self::TimedOut { .. } => Ended::TimedOut(stopped),
            Self::Killed { kill, .. } => {
                let overran = kill.over_the_limit_from().map(|from| Instant::now().saturating_duration_since(from));
                Ended::Killed { ending: kill.ending, overran: overran.unwrap_or_default(), stopped }
            }
        }
    }
}

fn why(ending: Ending) -> &'static str {
    match ending {
        Ending::LeaseLost => "its lease was lost",
        _ => "the run was stopped",
    }
}

/// The last lines of a log, for a terminal and the journal: without the secrets that a command has printed.
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
