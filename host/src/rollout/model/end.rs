//! Why a run ended.

use crate::rollout::model::{Counts, Fault};

/// Why a run ended, or is about to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every target reached a final status.
    Completed,
    /// A policy fault, and the job says `hold`: a later runner may continue with what remains.
    Held(Fault),
    /// A policy fault, and the job says `abort`.
    Faulted(Fault),
    /// The orchestration failed. It would fail again.
    OrchestrationFailed(Fault),
    /// The policy, the orchestration or an operator aborted the run.
    Aborted(String),
    /// The failure budget is spent.
    BudgetSpent(String),
    /// The party stayed below its floor.
    FloorMissed(String),
    /// The operator at the terminal stopped the runner.
    Interrupted,
    /// Another runner has taken the run over, or may.
    Lost(String),
    /// The run could not continue.
    Failed(RunFailure),
}

/// Why a run cannot continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunFailure {
    /// The store cannot be reached.
    Unavailable(String),
    /// The store refuses the runner.
    Refused(String),
    /// The semaphore has another number of slots than the job.
    SlotsDiffer(String),
    /// The runner's own machine has no more processes, files, memory or disk.
    Runner(String),
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Why it ended.
    pub end: End,
    /// How many targets have each status.
    pub counts: Counts,
    /// Slots taken by force.
    pub forced: u32,
    /// Targets that got no slot in time.
    pub timed_out: u32,
}

impl End {
    /// The reason in one sentence.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Completed => "every target is finished".to_owned(),
            Self::Held(fault) => format!("{}; `on-fault` holds the rollout", fault.message),
            Self::Faulted(fault) => format!("{}; `on-fault` aborts the rollout", fault.message),
            Self::OrchestrationFailed(fault) => format!("the orchestration failed: {}", fault.message),
            Self::Aborted(reason) | Self::BudgetSpent(reason) | Self::FloorMissed(reason) => reason.clone(),
            Self::Interrupted => "stopped by hand".to_owned(),
            Self::Lost(reason) => reason.clone(),
            Self::Failed(
                RunFailure::Unavailable(reason)
                | RunFailure::Refused(reason)
                | RunFailure::SlotsDiffer(reason)
                | RunFailure::Runner(reason),
            ) => reason.clone(),
        }
    }

    /// Whether the run is finished. If not, another runner may continue it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Completed
            | Self::Faulted(_)
            | Self::OrchestrationFailed(_)
            | Self::Aborted(_)
            | Self::BudgetSpent(_) => true,
            Self::Held(_) | Self::FloorMissed(_) | Self::Interrupted | Self::Lost(_) | Self::Failed(_) => false,
        }
    }

    /// The stable word for it, in events and the run state.
    #[must_use]
    pub fn word(&self, counts: &Counts) -> &'static str {
        match self {
            Self::Completed if counts.failed + counts.unknown + counts.rolled_back > 0 => "failed",
            Self::Completed => "succeeded",
            Self::Held(_) => "held",
            Self::Faulted(_) | Self::OrchestrationFailed(_) | Self::Aborted(_) | Self::BudgetSpent(_) => "aborted",
            Self::FloorMissed(_) => "timed-out",
            Self::Interrupted => "interrupted",
            Self::Lost(_) => "lost",
            Self::Failed(RunFailure::Runner(_)) => "runner-failed",
            Self::Failed(_) => "unavailable",
        }
    }
}
