//! What happens in a rollout, for people and for logs. The names in JSON are stable.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::policy::TraceLine;
use crate::policy::orchestration::Call;
use crate::policy::types::Ending;
use crate::rollout::model::{Called, Counts, Facts};
use lockkeeper_coordination::store::Fence;

/// Something that happened, and when.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stamped {
    /// Milliseconds since the Unix epoch.
    pub at: u64,
    /// What.
    #[serde(flatten)]
    pub event: Event,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum Event {
    /// The run begins.
    Planned {
        /// The job's name.
        job: String,
        /// The run's name.
        run: String,
        /// How many targets.
        targets: usize,
        /// How many batches of as many as there are slots.
        batches: usize,
        /// How many at once.
        slots: u32,
        /// Whose slots.
        semaphore: String,
        /// Where the store is: servers, or a file.
        store: String,
        /// Where journal and output are kept.
        journal: String,
    },
    /// The run goes on where an earlier runner left it.
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
    /// A target may not go now.
    Waiting {
        /// Which.
        target: String,
        /// The policy's code.
        code: String,
        /// The policy's reason.
        reason: String,
        /// In how many milliseconds the policy is asked again at the latest.
        ask_again_ms: Option<u64>,
    },
    /// Nobody may go now.
    Holding {
        /// The policy's code.
        code: String,
        /// The policy's reason.
        reason: String,
        /// In how many milliseconds the policy is asked again at the latest.
        ask_again_ms: Option<u64>,
    },
    /// The policy would let a target go; a hard limit does not.
    Refused {
        /// Which.
        target: String,
        /// The limit's code.
        limit: Cow<'static, str>,
        /// In one sentence.
        reason: String,
        /// When the clock alone may change that, in milliseconds since the Unix epoch; none: it takes something else.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
        /// What the limits were checked against.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        facts: Option<Box<Facts>>,
    },
    /// A target queues for its slot.
    Queued {
        /// Which.
        target: String,
    },
    /// A slot is held.
    Leased {
        /// For which target.
        target: String,
        /// How many this run holds now.
        held: u32,
        /// Of how many.
        slots: u32,
        /// The lease's fence.
        fence: Fence,
        /// Whether it was held already, by the same identifier.
        again: bool,
    },
    /// The orchestration took a slot by force.
    SlotForced {
        /// Of which semaphore.
        semaphore: String,
        /// Fences of the leases that were broken; empty: it is above the limit.
        broken: Vec<u64>,
        /// The orchestration's reason.
        reason: String,
        /// The lease's fence.
        fence: Fence,
    },
    /// The number of slots in force is another than before.
    SlotsChanged {
        /// What it was.
        from: u32,
        /// What it is.
        to: u32,
    },
    /// A slot was taken by force.
    Forced {
        /// For which target.
        target: String,
        /// Fences of the leases that were broken; none: it is above the limit.
        broken: Vec<u64>,
        /// The policy's code.
        code: String,
        /// The policy's reason.
        reason: String,
        /// The lease's fence.
        fence: Fence,
    },
    /// A slot was given back before the action started.
    ReleasedUnused {
        /// For which target.
        target: String,
        /// Why.
        reason: String,
    },
    /// An action starts.
    Started {
        /// On which target.
        target: String,
        /// 1 for the first try.
        attempt: u32,
        /// The lease's fence.
        fence: Fence,
    },
    /// An action succeeded.
    Succeeded {
        /// On which target.
        target: String,
        /// How long it took.
        took_ms: u64,
    },
    /// An action did not succeed.
    Failed {
        /// On which target.
        target: String,
        /// 1 for the first try.
        attempt: u32,
        /// How it ended.
        ending: Ending,
        /// What happened.
        detail: String,
        /// How long it took.
        took_ms: u64,
        /// The last lines of its output.
        output: Vec<String>,
        /// Where all of its output is.
        log: String,
    },
    /// A slot is kept after the action.
    KeepingSlot {
        /// For which target.
        target: String,
        /// For how long.
        keep_ms: u64,
        /// The policy's reason.
        reason: String,
    },
    /// A target is tried again.
    Retrying {
        /// Which.
        target: String,
        /// Which try comes next.
        attempt: u32,
        /// The policy's reason.
        reason: String,
        /// After how many milliseconds.
        #[serde(default)]
        after_ms: u64,
    },
    /// An earlier runner had started an action, and did not say how it ended.
    Recovered {
        /// On which target.
        target: String,
        /// Which try it was.
        attempt: u32,
        /// Whether it is about the roll-back and not the action.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        roll_back: bool,
    },
    /// What became of such an action.
    Probed {
        /// On which target.
        target: String,
        /// `done`, `failed`, `not-started` or `unknown`.
        answer: Cow<'static, str>,
        /// What was said.
        detail: String,
        /// Whether it is about the roll-back and not the action.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        roll_back: bool,
    },
    /// An action, or what undoes it, was started, and its end is not in sight: the connection to it broke, or it could not be
    /// stopped.
    ContactLost {
        /// On which target.
        target: String,
        /// Which attempt.
        attempt: u32,
        /// What happened.
        detail: String,
        /// For how long its probe is asked at most, in milliseconds. `None` if it has no probe.
        asked_ms: Option<u64>,
        /// Where its output is.
        log: String,
        /// Whether it is about the roll-back and not the action.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        roll_back: bool,
    },
    /// An action, or what undoes it, ended under an earlier session of its runner, which saw that. What follows is decided now.
    EndingRestored {
        /// On which target.
        target: String,
        /// Which attempt.
        attempt: u32,
        /// How it ended.
        ending: Ending,
        /// What happened; empty after a success.
        detail: String,
        /// Whether it was the roll-back that ended.
        roll_back: bool,
    },
    /// The clock of the runner's machine was set. What waits for a span waits as long as before; windows and freezes go by the new
    /// time.
    ClockSet {
        /// By how many milliseconds: forward if that is above zero.
        by_ms: i64,
    },
    /// Somebody paused the run: nothing new starts.
    Paused {
        /// Who.
        by: String,
        /// Why.
        reason: Option<String>,
    },
    /// It goes on.
    Unpaused {},
    /// Somebody wants a target to go again.
    RetryRequested {
        /// Which.
        target: String,
        /// Who.
        by: String,
    },
    /// Somebody accepted that a target failed, or that nobody knows.
    Accepted {
        /// Which.
        target: String,
    },
    /// The orchestration calls, and waits for an answer.
    CallStarted {
        /// What.
        #[serde(flatten)]
        call: Call,
        /// Since when, in milliseconds since the Unix epoch: an earlier runner may have begun it.
        since: u64,
    },
    /// It is answered.
    CallAnswered {
        /// What it called, and the answer.
        #[serde(flatten)]
        called: Called,
    },
    /// It calls what it called before, and is answered the same.
    CallReplayed {
        /// What, and the answer.
        #[serde(flatten)]
        called: Called,
    },
    /// It failed.
    OrchestrationFault {
        /// The kind of failure.
        kind: String,
        /// What happened.
        message: String,
        /// The next step.
        hint: Option<String>,
    },
    /// It says something.
    OrchestrationLog {
        /// How urgent: `debug`, `info`, `warn` or `error`.
        level: String,
        /// What.
        message: String,
    },
    /// A wave begins.
    WaveStarted {
        /// Which.
        wave: String,
        /// How many targets it has.
        targets: usize,
    },
    /// A wave is complete; the next waits.
    WaveBaking {
        /// Which is complete.
        wave: String,
        /// Until when the next waits, in milliseconds since the Unix epoch.
        until: u64,
    },
    /// A wave begins when somebody approves of it.
    WaveAwaitsApproval {
        /// Which.
        wave: String,
        /// The run's name, for whoever approves.
        run: String,
    },
    /// A target is undone.
    RollingBack {
        /// Which.
        target: String,
        /// Which try it is, those of its action counted, too.
        attempt: u32,
        /// The lease's fence.
        fence: Fence,
        /// Why.
        reason: String,
    },
    /// A target was undone.
    RolledBack {
        /// What had become of its action before that, if that is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        had: Option<String>,
        /// Which.
        target: String,
        /// How long it took.
        took_ms: u64,
    },
    /// The budget is spent, and what was done is undone.
    RollingBackRun {
        /// How many targets.
        targets: usize,
    },
    /// A slot is free again.
    Released {
        /// For which target.
        target: String,
    },
    /// A slot could not be given back: it is still held.
    NotReleased {
        /// For which target.
        target: String,
        /// Why.
        reason: String,
    },
    /// A target is left out.
    Skipped {
        /// Which.
        target: String,
        /// A stable code.
        code: String,
        /// Why.
        reason: String,
    },
    /// The lease of a target was lost while it acted.
    LeaseLost {
        /// Which.
        target: String,
        /// How.
        reason: String,
    },
    /// The policy said something. In a journal that stands beside the decision, and not once more.
    #[serde(skip_deserializing)]
    PolicyLog {
        /// About which target it was asked.
        target: String,
        /// What it said.
        #[serde(flatten)]
        line: TraceLine,
    },
    /// The policy failed.
    PolicyFault {
        /// About which target it was asked.
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
        /// How many actions are still under way.
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
        /// How long it took.
        took_ms: u64,
    },
}
