//! What the machine has carried out.

use crate::policy::types::{self as contract, Ending, Outcome};
use crate::rollout::model::{EpochMs, Event, OrchestrationReply, RecordedStatus, RequestId, Takeover, TargetIndex};
use lockkeeper_coordination::store::Fence;

/// Something to carry out.
#[derive(Debug)]
pub enum Action {
    /// Have the policy decide whether a target may start; answer with [`Input::Admitted`](super::Input::Admitted).
    Admit {
        /// The target.
        target: TargetIndex,
        /// What the policy sees.
        view: Box<contract::View>,
    },
    /// Have the policy decide what follows an action; answer with [`Input::Settled`](super::Input::Settled).
    Settle {
        /// The target.
        target: TargetIndex,
        /// What the policy sees.
        view: Box<contract::View>,
        /// How the action ended.
        outcome: Outcome,
    },
    /// Answer a request of the orchestration.
    Reply {
        /// The id of the request.
        id: RequestId,
        /// The answer.
        reply: OrchestrationReply,
    },
    /// Take over the lease that an earlier runner left; answer with [`Input::Leased`](super::Input::Leased), or
    /// [`NotLeased::Gone`](super::NotLeased::Gone).
    Adopt {
        /// The target whose lease it is.
        target: TargetIndex,
    },
    /// Queue for a slot; answer with [`Input::Leased`](super::Input::Leased) or [`Input::NotLeased`](super::Input::NotLeased).
    Acquire {
        /// The target that is to hold it.
        target: TargetIndex,
        /// When to give up. `None` if never.
        give_up_at: Option<EpochMs>,
        /// The target's status once the slot is held, written in the same transaction.
        status: RecordedStatus,
    },
    /// Take a slot by force; answered as [`Self::Acquire`].
    Force {
        /// The target that is to hold it.
        target: TargetIndex,
        /// Fences of the leases to break.
        breaking: Vec<Fence>,
        /// The policy's reason.
        reason: String,
    },
    /// Give a place in the queue up; answer with [`Input::NotLeased`](super::Input::NotLeased), or
    /// [`Input::Leased`](super::Input::Leased) if it was too late. At most once for a place.
    Withdraw {
        /// The target that queues.
        target: TargetIndex,
    },
    /// Write down that a command starts, then run it; answer with [`Input::Ended`](super::Input::Ended).
    Start {
        /// The target it runs on.
        target: TargetIndex,
        /// The command.
        command_kind: CommandKind,
        /// The number of the attempt, from 1.
        attempt: u32,
        /// The lease's fence.
        fence: Fence,
        /// The target's status while the command runs, written before it starts.
        status: RecordedStatus,
    },
    /// Stop a command; it answers with [`Input::Ended`](super::Input::Ended).
    Kill {
        /// The target it runs on.
        target: TargetIndex,
        /// The ending to report for it.
        ending: Ending,
        /// When another holder may act. `None` while the lease is held.
        takeover: Option<Takeover>,
    },
    /// Run the probe for a command whose end no runner saw; answer with [`Input::Probed`](super::Input::Probed).
    Probe {
        /// The target.
        target: TargetIndex,
        /// The command in question.
        command_kind: CommandKind,
        /// The attempt in question.
        attempt: u32,
        /// The fence under which it was started.
        fence: Fence,
        /// How long to wait before, in milliseconds.
        after_ms: u64,
        /// The longest that the probe may take, in milliseconds, beside the action's time-out. `None` if only that applies.
        within_ms: Option<u64>,
    },
    /// Release a slot, and write the target's status in the same transaction; answer with
    /// [`Input::Released`](super::Input::Released). At most once for a slot.
    Release {
        /// The target whose slot it is.
        target: TargetIndex,
        /// Its status once the slot is free.
        status: RecordedStatus,
    },
    /// Write down the status of a target whose slot is not held, or stays held. No answer.
    Save {
        /// The target.
        target: TargetIndex,
        /// Its status.
        status: RecordedStatus,
    },
    /// Report what happened.
    Emit(Event),
}

/// One of the job's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandKind {
    /// `action.run`, and `action.probe` behind it.
    Action,
    /// `action.roll-back`.
    RollBack,
}
