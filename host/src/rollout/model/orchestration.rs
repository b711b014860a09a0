//! What an orchestration and the machine say to each other: every request gets one reply.

use crate::policy::TraceLine;
use crate::policy::orchestration::Advice;
use crate::policy::types::Outcome;
use crate::rollout::model::{Begun, Called, Fault, TargetIndex, TargetStatus};

/// Pairs a request with its reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(u64);

impl RequestId {
    /// The request of this number; a driver counts them up.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// What an orchestration requests of the machine.
///
/// A request that waits ends with its reply, or when the orchestration makes another one that waits: then it gets no reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrchestrationRequest {
    /// A target's status. Replied to at once.
    Report {
        /// The target.
        target: TargetIndex,
    },
    /// What the policy would answer about a target; nothing else follows. Replied to with [`OrchestrationReply::Advice`].
    Consult {
        /// The target.
        target: TargetIndex,
    },
    /// A target may start from now on: its policy decides about it. Replied to once it has started, or is final.
    Start {
        /// The target.
        target: TargetIndex,
    },
    /// A target may not start, or be rolled back, unless it has begun. Replied to once it is certain which.
    TakeBack {
        /// The target.
        target: TargetIndex,
    },
    /// A final target is to be rolled back. Replied to once its roll-back runs.
    RollBack {
        /// The target.
        target: TargetIndex,
        /// Why.
        reason: String,
    },
    /// A target is to be skipped, unless it has started. Replied to once it is certain which.
    Skip {
        /// The target.
        target: TargetIndex,
        /// Why.
        reason: String,
    },
    /// Replied to once one of these targets is final, with the first of them that is.
    AwaitFinal {
        /// The targets.
        among: Vec<TargetIndex>,
    },
    /// Replied to once a target neither queues for a slot nor holds one unused.
    AwaitRest {
        /// The target.
        target: TargetIndex,
    },
}

/// The machine's reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrchestrationReply {
    /// What the policy answered about the target.
    Advice(Advice),
    /// A target's status at the time of the reply.
    Target(TargetReport),
}

/// What the machine knows of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetReport {
    /// The target.
    pub target: TargetIndex,
    /// Its status.
    pub status: TargetStatus,
    /// How many commands were started on it in this run, roll-backs included.
    pub attempt: u32,
    /// How its last action ended. `None` if this runner did not see one end.
    pub action: Option<Outcome>,
    /// How its last roll-back ended. `None` if this runner did not see one end.
    pub roll_back: Option<Outcome>,
}

/// What an orchestration does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrchestrationEvent {
    /// It calls, and waits for an answer.
    Started(Begun),
    /// A call was answered.
    Answered(Called),
    /// A repeated call got its recorded answer.
    Replayed(Called),
    /// It logged a line.
    Log(TraceLine),
}

/// How an orchestration ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrchestrationEnd {
    /// It returned.
    Completed,
    /// It returned an error of its own, with this message.
    GaveUp(String),
    /// It failed.
    Failed(Fault),
}
