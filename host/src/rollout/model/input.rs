//! What goes into the machine.

use std::time::Instant;

use crate::policy::types::{Admitted, Outcome, Settled};
use crate::rollout::model::{
    ActionResult, Connectivity, HeldElsewhere, Observed, OperatorRequests, OrchestrationEnd, OrchestrationEvent,
    OrchestrationRequest, Probed, RequestId, RunFailure, SeenLease, SeenMember, TargetIndex,
};
use lockkeeper_coordination::store::Fence;

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// The wall clock was set. The time of this step is the new one.
    ClockSet {
        /// By how many milliseconds: forward if above zero.
        by_ms: i64,
    },
    /// The semaphore was read. The policy decides about no target before the first reading.
    Semaphore {
        /// Its leases.
        leases: Vec<SeenLease>,
        /// How many contenders queue.
        queued: u32,
        /// The number of slots in force. `None` if the path holds no number.
        slots: Option<u32>,
    },
    /// The party was read. The policy decides about no target before the first reading.
    Party(Vec<SeenMember>),
    /// The party cannot be read: its members are not known until the next reading.
    PartyUnread,
    /// The state of the session with the store.
    Session(Connectivity),
    /// The policy answered [`Action::Admit`](super::Action::Admit).
    Admitted {
        /// The target it decided about.
        target: TargetIndex,
        /// Its answer.
        answer: Result<Admitted, Fault>,
    },
    /// The policy answered [`Action::Settle`](super::Action::Settle).
    Settled {
        /// The target it decided about.
        target: TargetIndex,
        /// Its answer.
        answer: Result<Settled, Fault>,
    },
    /// The policy did not decide, because its answer could not be written down: the next runner has it decide.
    NotSettled {
        /// The target it was to decide about.
        target: TargetIndex,
        /// How the target's action ended.
        outcome: Outcome,
    },
    /// A slot is held.
    Leased {
        /// The target it is held for.
        target: TargetIndex,
        /// The lease's fence.
        fence: Fence,
        /// How it was acquired.
        how: Acquisition,
    },
    /// No slot could be acquired.
    NotLeased {
        /// The target that has none.
        target: TargetIndex,
        /// Why.
        why: NotLeased,
    },
    /// A lease is gone, and the run did not release it.
    LeaseLost {
        /// The target whose lease it was.
        target: TargetIndex,
        /// How it was lost.
        reason: String,
        /// When another holder may use the slot.
        takeover: Takeover,
    },
    /// A lease was released, or was gone already.
    Released {
        /// The target whose lease it was.
        target: TargetIndex,
    },
    /// A lease could not be released, and never will be by this runner.
    NotReleased {
        /// The target whose lease it is.
        target: TargetIndex,
        /// Why.
        reason: String,
    },
    /// An action or a roll-back ended.
    Ended {
        /// The target it ran on.
        target: TargetIndex,
        /// How it ended.
        result: ActionResult,
    },
    /// One semaphore or party of [`Setup::observe`](super::Setup::observe) was read, or cannot be. The policy decides about no
    /// target before each was read once.
    Observed {
        /// Its position in [`Setup::observe`](super::Setup::observe).
        index: usize,
        /// What was read. `None` if it cannot be read now.
        seen: Option<Observed>,
    },
    /// A probe reported.
    Probed {
        /// The target it was run for.
        target: TargetIndex,
        /// Its report.
        answer: Probed,
    },
    /// The orchestration requests something; answered by [`Action::Reply`](super::Action::Reply) with the same id.
    OrchestrationRequest {
        /// The id that the reply repeats.
        id: RequestId,
        /// The request.
        request: OrchestrationRequest,
    },
    /// A call of the orchestration began or was answered, or it logged a line.
    OrchestrationEvent(OrchestrationEvent),
    /// The orchestration ended.
    OrchestrationEnded(OrchestrationEnd),
    /// The operators' requests, all that are in force.
    OperatorRequests(OperatorRequests),
    /// Another runner has taken the run over, or may: the session ended.
    Lost {
        /// How the run was lost.
        reason: String,
        /// When another runner may act: every command must have stopped by then.
        takeover: Takeover,
    },
    /// The operator at the terminal stops the run.
    Stop(Stop),
    /// The run cannot continue.
    Failed(RunFailure),
}

/// How a slot was acquired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acquisition {
    /// It was free.
    Free,
    /// The run held the lease already: an earlier runner acquired it.
    AlreadyHeld,
    /// By force.
    Forced,
}

/// Why a slot could not be acquired.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotLeased {
    /// The job's time-out ran out.
    TimedOut,
    /// The machine gave the place in the queue up.
    Withdrawn,
    /// The earlier runner's lease no longer exists.
    Gone,
    /// Another holder has a lease under the target's name.
    Held {
        /// That holder.
        by: HeldElsewhere,
        /// The run's own lease, if it was granted and released again: the other holder's is older.
        given_back: Option<Fence>,
    },
    /// The leases to break have changed.
    Conflict(String),
}

/// When another holder may act under a lost slot, or another runner in a lost run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// Since this moment: an operator or a tool took it. The command still gets its time to end.
    Since(Instant),
    /// From this moment on: it ended with the session. The command must have stopped by then.
    From(Instant),
}

/// A failure of a policy or an orchestration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of failure: a stable word.
    pub kind: &'static str,
    /// What happened.
    pub message: String,
    /// The next step. `None` if there is none to suggest.
    pub hint: Option<String>,
}

/// How hard to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Nothing new starts; running actions finish.
    Gently,
    /// Running actions are stopped too.
    Now,
}
