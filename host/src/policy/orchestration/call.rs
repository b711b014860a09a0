//! What an orchestration asks of its host, and what it is answered, as data: one line of the run's state each.

use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lift, Lower};

use crate::policy::types::{Outcome, Party, Semaphore};

/// A call. Two are the same call if they are equal: that is what a guest which is run again is held to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "call", rename_all = "kebab-case")]
pub enum Call {
    /// Wait for a slot.
    Lock {
        /// Of which semaphore.
        path: String,
        /// For how many milliseconds; none: as long as it takes.
        timeout: Option<u64>,
    },
    /// Take a slot if one is free now.
    TryLock {
        /// Of which semaphore.
        path: String,
    },
    /// Take a lease whatever the count.
    Force {
        /// Of which semaphore.
        path: String,
        /// Fences of the leases to break.
        breaking: Vec<u64>,
        /// Why.
        reason: String,
    },
    /// Give a slot back.
    Release {
        /// Of which semaphore: a run holds one of each at most.
        path: String,
    },
    /// Is a slot held still?
    StillHeld {
        /// Of which semaphore.
        path: String,
    },
    /// Which leases does the run hold?
    FoundLeases,
    /// What does a semaphore look like?
    Holders {
        /// Which.
        path: String,
    },
    /// Who is in a party?
    Members {
        /// Which.
        path: String,
    },
    /// Wait until a party has so many members.
    WaitMembers {
        /// Which.
        path: String,
        /// How many.
        at_least: u32,
        /// For how many milliseconds; none: as long as it takes.
        timeout: Option<u64>,
    },
    /// Where does a target stand?
    StandingOf {
        /// Which.
        target: String,
    },
    /// Let the job's action begin on a target.
    Start {
        /// Which.
        target: String,
        /// For how many milliseconds it may wait; none: as long as it takes.
        timeout: Option<u64>,
    },
    /// Wait until the job is done with one of these.
    WaitAny {
        /// Targets.
        among: Vec<String>,
        /// For how many milliseconds; none: as long as it takes.
        timeout: Option<u64>,
    },
    /// Leave a target out.
    Skip {
        /// Which.
        target: String,
        /// Why.
        reason: String,
    },
    /// Wait.
    Sleep {
        /// For how many milliseconds.
        duration: u64,
    },
    /// Begin from here when the guest is run again.
    Checkpoint {
        /// What it begins from, in hex.
        state: String,
    },
}

/// The answer to a [`Call`].
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
    Standing(Standing),
    /// The job is done with that one; none: the time ran out.
    Ended(Option<(String, Outcome)>),
    /// It could not be.
    Fault(Fault),
}

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(variant)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The time given ran out.
    #[component(name = "timed-out")]
    TimedOut,
    /// The lease is gone.
    #[component(name = "lease-lost")]
    LeaseLost,
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
pub enum Standing {
    /// It has not begun.
    #[component(name = "open")]
    Open,
    /// Its action is under way, or being settled.
    #[component(name = "acting")]
    Acting,
    /// Its action succeeded.
    #[component(name = "done")]
    Done,
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

/// In a few words, for a person.
impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Held(fence) => write!(f, "held, fence {fence}"),
            Self::NotFree => f.write_str("not free"),
            Self::Flag(flag) => f.write_str(if *flag { "yes" } else { "no" }),
            Self::Leases(leases) => write!(f, "{} leases", leases.len()),
            Self::Semaphore(semaphore) => write!(f, "{} of {} slots held", semaphore.leases.len(), semaphore.slots),
            Self::Party(party) => write!(f, "{} members", party.members.len()),
            Self::Standing(standing) => write!(f, "{standing:?}"),
            Self::Ended(None) | Self::Fault(Fault::TimedOut) => f.write_str("the time ran out"),
            Self::Ended(Some((target, outcome))) => write!(f, "{target} {}", outcome.ending.word()),
            Self::Fault(Fault::LeaseLost) => f.write_str("the lease was lost"),
            Self::Fault(Fault::Refused(why)) => write!(f, "refused: {why}"),
            Self::Fault(Fault::Conflict(why)) => write!(f, "conflict: {why}"),
            Self::Fault(Fault::Unavailable(why)) => write!(f, "unavailable: {why}"),
        }
    }
}

/// In a few words, for a person.
impl std::fmt::Display for Call {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let within = |timeout: &Option<u64>| match timeout {
            Some(millis) => {
                format!(" within {}", humantime::format_duration(std::time::Duration::from_millis(*millis)))
            }
            None => String::new(),
        };
        match self {
            Self::Lock { path, timeout } => write!(f, "lock {path}{}", within(timeout)),
            Self::TryLock { path } => write!(f, "try-lock {path}"),
            Self::Force { path, breaking, .. } => write!(f, "force {path}, breaking {breaking:?}"),
            Self::Release { path } => write!(f, "release {path}"),
            Self::StillHeld { path } => write!(f, "still-held {path}"),
            Self::FoundLeases => f.write_str("found-leases"),
            Self::Holders { path } => write!(f, "holders {path}"),
            Self::Members { path } => write!(f, "members {path}"),
            Self::WaitMembers { path, at_least, timeout } => {
                write!(f, "wait for {at_least} members of {path}{}", within(timeout))
            }
            Self::StandingOf { target } => write!(f, "standing-of {target}"),
            Self::Start { target, timeout } => write!(f, "start {target}{}", within(timeout)),
            Self::WaitAny { among, timeout } => write!(f, "wait for one of {}{}", among.join(", "), within(timeout)),
            Self::Skip { target, reason } => write!(f, "skip {target}: {reason}"),
            Self::Sleep { duration } => {
                write!(f, "sleep {}", humantime::format_duration(std::time::Duration::from_millis(*duration)))
            }
            Self::Checkpoint { state } => write!(f, "checkpoint of {} bytes", state.len() / 2),
        }
    }
}
