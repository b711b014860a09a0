//! A command: what to run, what may stop it, and how it ends.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

use super::ssh::Host;
use crate::policy::types::Ending;
use crate::rollout::model::Takeover;
use lockkeeper_coordination::zookeeper::Secret;
use lockkeeper_locks::process::process_group;

/// A command and how to run it.
#[derive(Debug, Clone)]
pub(in crate::rollout) struct Invocation {
    /// The program and its arguments; no shell reads them.
    pub run: Vec<String>,
    /// What `run` is, for people: `command` or `probe`.
    pub what: &'static str,
    /// Runs after `run` succeeded. Exit code 0 is a success; 66, 75, 76 and an unreachable target leave the outcome
    /// unknown; anything else is a failure.
    pub probe: Option<Vec<String>>,
    /// Environment variables, added to the inherited ones.
    pub environment: Vec<(String, String)>,
    /// Environment variables that appear neither in output nor on a command line.
    pub secrets: Vec<(String, Secret)>,
    /// Where it runs.
    pub location: Location,
    /// File for both output streams, in the order written.
    pub log: PathBuf,
    /// Time limit for command and probe together. `None` if there is none.
    pub timeout: Option<Duration>,
    /// Time between SIGTERM and SIGKILL.
    pub kill_after: Duration,
    /// Whether `run` must end with this process, because it runs under an ephemeral lease.
    pub ends_with_runner: bool,
}

/// Where a command runs.
#[derive(Debug, Clone)]
pub(in crate::rollout) enum Location {
    /// On this machine.
    Local,
    /// On the target, over ssh.
    Remote(Host),
}

/// An order to stop a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::rollout) struct Kill {
    /// How the command's end then counts.
    pub ending: Ending,
    /// From when on another holder may have the slot. `None` if the slot stays held.
    pub takeover: Option<Takeover>,
}

impl Kill {
    /// The time from which the command exceeds the semaphore's limit.
    pub(super) fn over_the_limit_from(&self) -> Option<Instant> {
        self.takeover.map(|(Takeover::Since(at) | Takeover::From(at))| at.into())
    }

    /// When it is killed, if it may take `kill_after` to end by itself.
    pub(super) fn at(&self, kill_after: Duration) -> Instant {
        let patient = Instant::now() + kill_after;
        match self.takeover {
            Some(Takeover::From(at)) => {
                let at = Instant::from_std(at);
                patient.min(at.checked_sub(process_group::KILL_LEAD).unwrap_or(at))
            }
            Some(Takeover::Since(_)) | None => patient,
        }
    }
}

/// How one command ended.
pub(super) enum CommandEnd {
    /// By itself, with an exit code (`None` if a signal ended it) and a description.
    Exited(Option<i32>, String),
    TimedOut(Stopped),
    /// It was stopped; with the time that it ran while another holder may have had the slot.
    Killed {
        ending: Ending,
        overran: Duration,
        stopped: Stopped,
    },
    /// It certainly never started; with the reason.
    NotStarted(String),
    /// It certainly never started, because its host is unreachable; with the reason.
    Unreachable(String),
    /// How, or whether, it ended is unknown; with the reason.
    Lost(String),
    /// It did not start because of this machine; with the reason and what to do.
    RunnerFailed(String),
}

impl CommandEnd {
    /// Whether nothing of the command is running any more. A supervisor that was killed leaves its command running.
    pub(super) fn is_certain(&self) -> bool {
        match self {
            Self::Exited(code, _) => code.is_some(),
            Self::TimedOut(stopped) | Self::Killed { stopped, .. } => matches!(stopped, Stopped::Gone),
            Self::NotStarted(_) | Self::Unreachable(_) | Self::RunnerFailed(_) => true,
            Self::Lost(_) => false,
        }
    }
}

/// What became of a command that was to be stopped.
pub(super) enum Stopped {
    /// Nothing of it is running.
    Gone,
    /// Some of it may be running; with the reason.
    Perhaps(String),
}

/// What may end a command before it ends itself.
pub(super) struct Limits<'a> {
    pub(super) deadline: Option<Instant>,
    pub(super) kill: &'a mut oneshot::Receiver<Kill>,
    pub(super) kill_after: Duration,
}

/// Why a command must end.
pub(super) enum MustEnd {
    TimedOut { kill_at: Instant },
    Killed { kill: Kill, kill_at: Instant },
}

impl Limits<'_> {
    /// Waits until the command must end. It must not be called again after it has returned.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn reached(&mut self) -> MustEnd {
        let past_deadline = async {
            match self.deadline {
                Some(deadline) => sleep_until(deadline).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            kill = &mut *self.kill => {
                let kill = kill.unwrap_or(Kill { ending: Ending::Unknown, takeover: None });
                MustEnd::Killed { kill, kill_at: kill.at(self.kill_after) }
            }
            () = past_deadline => MustEnd::TimedOut { kill_at: Instant::now() + self.kill_after },
        }
    }
}

impl MustEnd {
    /// When the command is killed if it has not ended.
    pub(super) fn kill_at(&self) -> Instant {
        match self {
            Self::TimedOut { kill_at } | Self::Killed { kill_at, .. } => *kill_at,
        }
    }

    /// How the command ended, now that it was stopped.
    pub(super) fn ended(self, stopped: Stopped) -> CommandEnd {
        match self {
            Self::TimedOut { .. } => CommandEnd::TimedOut(stopped),
            Self::Killed { kill, .. } => {
                let overran = kill.over_the_limit_from().map(|from| Instant::now().saturating_duration_since(from));
                CommandEnd::Killed { ending: kill.ending, overran: overran.unwrap_or_default(), stopped }
            }
        }
    }
}
