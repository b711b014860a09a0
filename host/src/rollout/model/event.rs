//! Events of a rollout, for the terminal and the journal. Their names in JSON are stable.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::policy::TraceLine;
use crate::policy::orchestration::Call;
use crate::policy::types::Ending;
use crate::rollout::model::{Called, Counts, Facts};
use lockkeeper_coordination::store::Fence;

/// An event with its time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Event {
    /// The run starts.
    Planned {
        /// The job's name.
        job: String,
        /// The run's name.
        run: String,
        /// Number of targets.
        targets: usize,
        /// Number of batches, each as large as the number of slots.
        batches: usize,
        /// Number of slots.
        slots: u32,
        /// Path of the semaphore.
        semaphore: String,
        /// The store's servers or file.
        store: String,
        /// Folder of the journal and the commands' output.
        journal: String,
    },
    /// The run continues where an earlier runner left it.
    RunResumed {
        /// The run's name.
        run: String,
        /// The runner of the previous epoch: host and process.
        previous_runner: String,
        /// The number of this runner epoch, from 1.
        runner_epoch: u32,
        /// Targets with a final status.
        finished: usize,
        /// Targets without one.
        remaining: usize,
    },
    /// The policy does not let a target start now.
    Waiting {
        /// The target.
        target: String,
        /// The policy's code.
        code: String,
        /// The policy's reason.
        reason: String,
        /// When the policy decides again at the latest, in milliseconds from now. `None` if only a change leads to that.
        ask_again_ms: Option<u64>,
    },
    /// The policy lets no target start now.
    Holding {
        /// The policy's code.
        code: String,
        /// The policy's reason.
        reason: String,
        /// When the policy decides again at the latest, in milliseconds from now. `None` if only a change leads to that.
        ask_again_ms: Option<u64>,
    },
    /// The policy lets a target start, and a hard limit does not.
    Refused {
        /// The target.
        target: String,
        /// The limit's code.
        limit: Cow<'static, str>,
        /// The reason in one sentence.
        reason: String,
        /// When time alone may change that, in milliseconds since the Unix epoch. `None` if it takes something else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
        /// What the limits were checked against.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        facts: Option<Box<Facts>>,
    },
    /// A target queues for its slot.
    Queued {
        /// The target.
        target: String,
    },
    /// A slot is held.
    Leased {
        /// The target.
        target: String,
        /// Number of slots that this run holds now.
        held: u32,
        /// Number of slots of the semaphore.
        slots: u32,
        /// The lease's fence.
        fence: Fence,
        /// Whether an earlier runner of this run acquired it.
        again: bool,
    },
    /// The orchestration took a slot by force.
    SlotForced {
        /// Path of the semaphore.
        semaphore: String,
        /// Fences of the broken leases. Empty if the slot is one above the limit.
        broken: Vec<u64>,
        /// The orchestration's reason.
        reason: String,
        /// The lease's fence.
        fence: Fence,
    },
    /// The semaphore's number of slots was changed.
    SlotsChanged {
        /// The number before.
        from: u32,
        /// The number from now on.
        to: u32,
    },
    /// The policy took a slot by force.
    Forced {
        /// The target.
        target: String,
        /// Fences of the broken leases. Empty if the slot is one above the limit.
        broken: Vec<u64>,
        /// The policy's code.
        code: String,
        /// The policy's reason.
        reason: String,
        /// The lease's fence.
        fence: Fence,
    },
    /// A slot was released before its action started.
    ReleasedUnused {
        /// The target.
        target: String,
        /// Why.
        reason: String,
    },
    /// An action started.
    Started {
        /// The target.
        target: String,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// The lease's fence.
        fence: Fence,
    },
    /// An action succeeded.
    Succeeded {
        /// The target.
        target: String,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// An action did not succeed.
    Failed {
        /// The target.
        target: String,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// How it ended.
        ending: Ending,
        /// What happened.
        detail: String,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// The last lines of its output.
        output: Vec<String>,
        /// File of its complete output.
        log: String,
    },
    /// A slot is kept after the action.
    KeepingSlot {
        /// The target.
        target: String,
        /// For how long, in milliseconds.
        keep_ms: u64,
        /// The policy's reason.
        reason: String,
    },
    /// Another attempt follows on a target.
    Retrying {
        /// The target.
        target: String,
        /// Number of that attempt.
        attempt: u32,
        /// The policy's reason.
        reason: String,
        /// The pause before it, in milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// An earlier runner started a command, and did not record its end.
    Recovered {
        /// The target.
        target: String,
        /// Number of the attempt.
        attempt: u32,
        /// Whether it is about the roll-back and not the action.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        roll_back: bool,
    },
    /// The probe reported how such a command ended.
    Probed {
        /// The target.
        target: String,
        /// `succeeded`, `failed`, `not-started` or `unknown`.
        answer: Cow<'static, str>,
        /// The probe's reason.
        detail: String,
        /// Whether it is about the roll-back and not the action.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        roll_back: bool,
    },
    /// The runner lost contact with a command: the connection to it broke, or it could not be stopped.
    ContactLost {
        /// The target.
        target: String,
        /// Number of the attempt.
        attempt: u32,
        /// What happened.
        detail: String,
        /// For how long its probe is repeated at most, in milliseconds. `None` if it has no probe.
        asked_ms: Option<u64>,
        /// File of its output.
        log: String,
        /// Whether it is about the roll-back and not the action.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        roll_back: bool,
    },
    /// A command ended under an earlier runner, which saw that and did not record what follows. The policy decides that now.
    EndingRestored {
        /// The target.
        target: String,
        /// Number of the attempt.
        attempt: u32,
        /// How it ended.
        ending: Ending,
        /// What happened; empty after a success.
        detail: String,
        /// Whether it was the roll-back that ended.
        roll_back: bool,
    },
    /// The clock of the runner's machine was set. Waits for a span last as long as before; windows and freezes use the new time.
    ClockSet {
        /// By how many milliseconds: forward if above zero.
        by_ms: i64,
    },
    /// An operator paused the run: nothing new starts.
    Paused {
        /// The operator.
        by: String,
        /// The operator's reason. `None` if the operator gave none.
        reason: Option<String>,
    },
    /// An operator resumed the run.
    Unpaused {},
    /// An operator requested that a target starts again.
    RetryRequested {
        /// The target.
        target: String,
        /// The operator.
        by: String,
    },
    /// An operator accepted a target's failure or unknown outcome.
    Accepted {
        /// The target.
        target: String,
    },
    /// The orchestration made a call, which is not answered yet.
    CallStarted {
        /// The call.
        #[serde(flatten)]
        call: Call,
        /// When the call was made, in milliseconds since the Unix epoch; under an earlier runner if that started it.
        since: u64,
    },
    /// A call of the orchestration was answered.
    CallAnswered {
        /// The call and its answer.
        #[serde(flatten)]
        called: Called,
    },
    /// The orchestration, run again, repeated a call and got the recorded answer.
    CallReplayed {
        /// The call and its answer.
        #[serde(flatten)]
        called: Called,
    },
    /// The orchestration failed.
    OrchestrationFault {
        /// The kind of failure.
        kind: String,
        /// What happened.
        message: String,
        /// The next step.
        hint: Option<String>,
    },
    /// The orchestration logged a line.
    OrchestrationLog {
        /// `debug`, `info`, `warn` or `error`.
        level: String,
        /// The line.
        message: String,
    },
    /// A wave started.
    WaveStarted {
        /// Name of the wave.
        wave: String,
        /// Number of its targets.
        targets: usize,
    },
    /// A wave is complete and bakes; the next one waits.
    WaveBaking {
        /// Name of the wave that bakes.
        wave: String,
        /// When it has baked, in milliseconds since the Unix epoch.
        until: u64,
    },
    /// The next wave waits for an operator's approval.
    WaveAwaitsApproval {
        /// Name of the wave.
        wave: String,
        /// The run's name, for the command that approves.
        run: String,
    },
    /// A roll-back started.
    RollingBack {
        /// The target.
        target: String,
        /// Number of the attempt; attempts of the action count, too.
        attempt: u32,
        /// The lease's fence.
        fence: Fence,
        /// Why.
        reason: String,
    },
    /// A roll-back succeeded.
    RolledBack {
        /// How the action had ended before. `None` if that is not known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        had: Option<String>,
        /// The target.
        target: String,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
    /// The budget is spent, and the run is rolled back.
    RollingBackRun {
        /// Number of targets to roll back.
        targets: usize,
    },
    /// A slot was released.
    Released {
        /// The target.
        target: String,
    },
    /// A slot could not be released: it is still held.
    NotReleased {
        /// The target.
        target: String,
        /// Why.
        reason: String,
    },
    /// A target was skipped.
    Skipped {
        /// The target.
        target: String,
        /// A stable code.
        code: String,
        /// Why.
        reason: String,
    },
    /// A target's lease was lost.
    LeaseLost {
        /// The target.
        target: String,
        /// How it was lost.
        reason: String,
    },
    /// The policy logged a line. The journal has it with the decision, and not as an event.
    #[serde(skip_deserializing)]
    PolicyLog {
        /// The target it decided about.
        target: String,
        /// The line.
        #[serde(flatten)]
        line: TraceLine,
    },
    /// The policy failed.
    PolicyFault {
        /// The target it decided about.
        target: String,
        /// The kind of failure.
        kind: Cow<'static, str>,
        /// What happened.
        message: String,
        /// The next step.
        hint: Option<String>,
    },
    /// Nothing new starts any more.
    Stopping {
        /// Why.
        reason: String,
        /// Number of running commands.
        running: u32,
    },
    /// The session with the store changed.
    Store {
        /// `connected`, `suspended`, `lost` or `reopened`.
        state: Cow<'static, str>,
    },
    /// The run is over.
    Finished {
        /// `done`, `failed`, `aborted`, `held`, `timed-out`, `interrupted` or `unavailable`.
        end: Cow<'static, str>,
        /// How many targets stand where.
        #[serde(flatten)]
        counts: Counts,
        /// How many slots were taken by force.
        forced: u32,
        /// How long it took, in milliseconds.
        took_ms: u64,
    },
}
