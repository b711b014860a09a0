//! What an orchestration asks of its host and is answered, as data: the same for the run's state, its journal, and whoever
//! plays the host.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Calls that a run keeps since its last checkpoint. An orchestration that goes on for longer says where to begin again.
pub const MOST_CALLS: u32 = 2_000;

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
    RecoveredLeases,
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
    StatusOf {
        /// Which.
        target: String,
    },
    /// What does the job's policy say of a target?
    Admit {
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
    /// Undo a target that the job is done with.
    RollBack {
        /// Which.
        target: String,
        /// Why.
        reason: String,
        /// For how many milliseconds it may wait to begin; none: as long as it takes.
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

impl Call {
    /// Whether its answer may be long in coming: it waits for others, or for the clock.
    #[must_use]
    pub fn waits(&self) -> bool {
        matches!(
            self,
            Self::Lock { .. }
                | Self::WaitMembers { .. }
                | Self::Start { .. }
                | Self::WaitAny { .. }
                | Self::RollBack { .. }
                | Self::Sleep { .. }
        )
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
            Self::RecoveredLeases => f.write_str("recovered-leases"),
            Self::Holders { path } => write!(f, "holders {path}"),
            Self::Members { path } => write!(f, "members {path}"),
            Self::WaitMembers { path, at_least, timeout } => {
                write!(f, "wait for {at_least} members of {path}{}", within(timeout))
            }
            Self::Admit { target } => write!(f, "admit {target}"),
            Self::StatusOf { target } => write!(f, "standing-of {target}"),
            Self::Start { target, timeout } => write!(f, "start {target}{}", within(timeout)),
            Self::WaitAny { among, timeout } => write!(f, "wait for one of {}{}", among.join(", "), within(timeout)),
            Self::RollBack { target, reason, timeout } => {
                write!(f, "roll-back {target}{}: {reason}", within(timeout))
            }
            Self::Skip { target, reason } => write!(f, "skip {target}: {reason}"),
            Self::Sleep { duration } => {
                write!(f, "sleep {}", humantime::format_duration(std::time::Duration::from_millis(*duration)))
            }
            Self::Checkpoint { state } => write!(f, "checkpoint of {} bytes", state.len() / 2),
        }
    }
}

/// An answer in a few words, as the host has it.
#[must_use]
pub fn answer_told(answer: &Value) -> String {
    let is = &answer["is"];
    match answer["answer"].as_str().unwrap_or_default() {
        "done" => "done".to_owned(),
        "held" => format!("held, fence {is}"),
        "not-free" => "not free".to_owned(),
        "flag" => if is == true { "yes" } else { "no" }.to_owned(),
        "leases" => format!("{} leases", is.as_array().map_or(0, Vec::len)),
        "semaphore" => format!("{} of {} slots held", is["leases"].as_array().map_or(0, Vec::len), is["slots"]),
        "party" => format!("{} members", is["members"].as_array().map_or(0, Vec::len)),
        "status" if is == "skipped" => "left out".to_owned(),
        "status" => is.as_str().unwrap_or_default().replace('-', " "),
        "advice" => {
            format!("{}: {}", is["verdict"].as_str().unwrap_or_default(), is["reason"].as_str().unwrap_or_default())
        }
        "ended" if is.is_null() => "the time ran out".to_owned(),
        "ended" => format!("{} {}", is[0].as_str().unwrap_or_default(), is[1]["ending"].as_str().unwrap_or_default()),
        _ => match is.as_object().and_then(|fault| fault.iter().next()) {
            Some((kind, why)) => format!("{kind}: {}", why.as_str().unwrap_or_default()),
            None if is == "timed-out" => "the time ran out".to_owned(),
            None => is.as_str().unwrap_or_default().replace('-', " "),
        },
    }
}
