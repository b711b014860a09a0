//! What an orchestration is answered, as data: with its [`Call`](super::Call) a node of the run's state.

use lockkeeper_cases::answer_told;
use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::policy::types::{Admission, Outcome, Party, Semaphore};

/// The answer to a [`Call`](super::Call).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", content = "is", rename_all = "kebab-case")]
pub enum Answer {
    /// It is so, or was done.
    Done,
    /// It is held: its fence.
    Held(u64),
    /// No slot was free.
    NotFree,
    /// Yes or no.
    Flag(bool),
    /// The leases that the run holds: paths and fences.
    Leases(Vec<(String, u64)>),
    /// A semaphore.
    Semaphore(Semaphore),
    /// A party.
    Party(Party),
    /// Where a target stands.
    Status(TargetStatus),
    /// What the policy says.
    Advice(Advice),
    /// The job is done with that one; none: the time ran out.
    Ended(Option<(String, Outcome)>),
    /// It could not be.
    Error(CallError),
}

/// What the job's policy says of a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(record)]
#[serde(rename_all = "kebab-case")]
pub struct Advice {
    /// What it says.
    pub verdict: Admission,
    /// Machine-readable and stable.
    pub code: String,
    /// One sentence for a person.
    pub reason: String,
    /// When it wants to be asked again, in milliseconds from then.
    #[component(name = "wake-after")]
    pub wake_after: Option<u64>,
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(variant)]
#[serde(rename_all = "kebab-case")]
pub enum CallError {
    /// The time given ran out.
    #[component(name = "timed-out")]
    TimedOut,
    /// A lease in hand is gone: of which semaphore.
    #[component(name = "lease-lost")]
    LeaseLost(String),
    /// Outside the job's grants or hard limits; says which.
    #[component(name = "refused")]
    Refused(String),
    /// The leases to break have changed.
    #[component(name = "conflict")]
    Conflict(String),
    /// The store cannot be reached.
    #[component(name = "unavailable")]
    Unavailable(String),
}

/// Where a target stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
#[serde(rename_all = "kebab-case")]
pub enum TargetStatus {
    /// It has not begun.
    #[component(name = "open")]
    Open,
    /// Its action is under way, or being settled.
    #[component(name = "running")]
    Running,
    /// Its action succeeded.
    #[component(name = "succeeded")]
    Succeeded,
    /// Its action failed.
    #[component(name = "failed")]
    Failed,
    /// Nobody knows how its action went.
    #[component(name = "unknown")]
    Unknown,
    /// It was undone.
    #[component(name = "rolled-back")]
    RolledBack,
    /// It was left out.
    #[component(name = "skipped")]
    Skipped,
}

impl TargetStatus {
    /// A word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::RolledBack => "rolled back",
            Self::Skipped => "left out",
        }
    }
}

/// In a few words, for a person.
impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&answer_told(&serde_json::to_value(self).unwrap_or_default()))
    }
}
