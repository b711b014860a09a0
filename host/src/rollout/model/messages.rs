//! What goes into the machine and what comes out of it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::job::{MemberTemplate, ObserveSpec, OnExhausted, OnFault, OnUnknown, PartyCounts, Target};
use crate::policy::TraceLine;
use crate::policy::orchestration::Advice;
use crate::policy::types::{self as contract, Admitted, Ending, Outcome, Settled};
use crate::rollout::model::{
    Begun, Called, Counts, Event, HardLimits, HeldElsewhere, RecordedStatus, TargetRecord, Wave,
};
use lockkeeper_coordination::store::{Fence, Lifetime};

/// What a rollout is made from.
#[derive(Debug, Clone)]
pub struct Setup {
    /// The job's name.
    pub job: String,
    /// The run's name.
    pub run: String,
    /// When it starts, in milliseconds since the Unix epoch.
    pub started_ms: u64,
    /// What the run's seeds are made of.
    pub seed: u64,
    /// In the order in which they are asked.
    pub targets: Vec<Target>,
    /// The job's hard limits.
    pub limits: HardLimits,
    /// How long an action may take; none: as long as it likes.
    pub action_timeout: Option<Duration>,
    /// The semaphore's path.
    pub semaphore: String,
    /// How long its leases live.
    pub lifetime: Lifetime,
    /// How long a target may wait for its slot; none: forever.
    pub patience: Option<Duration>,
    /// The party, where the job names one.
    pub party: Option<Floor>,
    /// Tries a target may have.
    pub attempts: u32,
    /// How long a failed target rests before its second try, under its slot; twice as long before each that follows.
    pub back_off: Duration,
    /// What a policy fault does.
    pub on_fault: OnFault,
    /// The waves, one after the other, which have all targets among them; none where the job has no waves.
    pub waves: Vec<Wave>,
    /// Whether a target can be asked how its action went.
    pub has_probe: bool,
    /// Whether an action can be undone.
    pub can_roll_back: bool,
    /// Whether a target can be asked how its roll-back went.
    pub has_roll_back_probe: bool,
    /// What becomes of a target of which nobody knows, and no probe can say.
    pub on_unknown: OnUnknown,
    /// What an exhausted budget does.
    pub on_exhausted: OnExhausted,
    /// Other semaphores and parties that the policy sees.
    pub observe: Vec<ObserveSpec>,
    /// Whether an orchestration says who may go at all.
    pub has_orchestration: bool,
    /// What an earlier runner left; none: the run begins.
    pub resumed: Option<Resumed>,
}

/// What an earlier runner of the same run left in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// Where each target stood, in the order of [`Setup::targets`].
    pub targets: Vec<TargetRecord>,
    /// The policy's memory.
    pub memory: Vec<u8>,
    /// The next decision's number.
    pub sequence: u64,
}

/// What people want of a run: everything that is in force, not only what is new.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OperatorRequests {
    /// The version of the node that they stand in: it tells whoever wants something that it was heard.
    pub version: i32,
    /// Nothing new is to start.
    pub paused: Option<OperatorRequest>,
    /// The run is to end.
    pub aborted: Option<OperatorRequest>,
    /// Waves that may begin, by name.
    pub approved: BTreeMap<String, OperatorRequest>,
    /// Targets that are to go again from where they stand now: each is named until it does.
    pub retry: BTreeMap<usize, OperatorRequest>,
    /// Targets whose failure, or of which that nobody knows, was accepted: they are not charged to the budget and hold
    /// nobody up.
    pub accepted: BTreeSet<usize>,
}

impl OperatorRequests {
    /// Everything that somebody said.
    pub fn all(&self) -> impl Iterator<Item = &OperatorRequest> {
        let run = [&self.paused, &self.aborted].into_iter().flatten();
        run.chain(self.approved.values()).chain(self.retry.values())
    }
}

/// Who wants something, and why.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OperatorRequest {
    /// Who: user and host.
    pub by: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// Why, if that was said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What to do while the party is below its floor.
#[derive(Debug, Clone)]
pub struct Floor {
    /// The party's path.
    pub path: String,
    /// Whether to wait for members if there are too few at the start.
    pub blocking: bool,
    /// How long too few members alone may keep the run from going on. `None` if they may forever.
    pub patience: Option<Duration>,
    /// The member that each target is.
    pub member: MemberTemplate,
    /// Whose members are counted.
    pub counts: PartyCounts,
}

/// A lease as the store shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLease {
    /// Who holds it.
    pub identifier: String,
    /// Its fence.
    pub fence: Fence,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Whether it dies with its session.
    pub ephemeral: bool,
    /// Who owns it, for a person; `None` if it has no claim, or its identifier is no target's.
    pub owner: Option<String>,
}

/// A member as the store shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenMember {
    /// Who.
    pub identifier: String,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// The wall clock was set by so many milliseconds: forward if that is above zero. The time of this step is the new one.
    ClockSet {
        /// By how many.
        by_ms: i64,
    },
    /// The semaphore was read. Nobody is asked about before the first time.
    Semaphore {
        /// Its leases.
        leases: Vec<SeenLease>,
        /// How many queue.
        queued: u32,
        /// The number of slots in force; `None` if the path holds no number.
        slots: Option<u32>,
    },
    /// The party was read. Nobody is asked about before the first time.
    Party(Vec<SeenMember>),
    /// The party cannot be read: who is there is not known until it is.
    PartyUnread,
    /// The store hears us, or does not.
    Session(Connectivity),
    /// The policy answered.
    Admitted {
        /// About which target.
        target: usize,
        /// What.
        answer: Result<Admitted, Fault>,
    },
    /// The policy answered.
    Settled {
        /// About which target.
        target: usize,
        /// What.
        answer: Result<Settled, Fault>,
    },
    /// The policy was not asked, for its answer could not be written down: the next runner asks it.
    NotSettled {
        /// About which target.
        target: usize,
        /// How its action ended.
        outcome: Outcome,
    },
    /// A slot is held.
    Leased {
        /// For which target.
        target: usize,
        /// The lease's fence.
        fence: Fence,
        /// How it was got.
        how: Got,
    },
    /// No slot could be had.
    NotLeased {
        /// For which target.
        target: usize,
        /// Why.
        why: NotLeased,
    },
    /// A lease is gone, and not by us.
    LeaseLost {
        /// Whose.
        target: usize,
        /// How.
        reason: String,
        /// From when on somebody else may act in its place.
        others: Others,
    },
    /// A lease was given back, or was gone already.
    Released {
        /// Whose.
        target: usize,
    },
    /// A lease could not be given back, and never will be by this run.
    NotReleased {
        /// Whose.
        target: usize,
        /// Why.
        reason: String,
    },
    /// An action ended.
    Ended {
        /// On which target.
        target: usize,
        /// How.
        result: ActionResult,
    },
    /// One of [`Setup::observe`] was read, or cannot be. Nobody is asked about before all were read once.
    Observed {
        /// Which.
        index: usize,
        /// What was seen; none: it cannot be read now.
        seen: Option<Observed>,
    },
    /// What the probe says of an action whose end nobody saw.
    Probed {
        /// On which target.
        target: usize,
        /// What.
        answer: Probed,
    },
    /// The orchestration lets a target go: whoever decides is asked about it from now on.
    Invite {
        /// Which.
        target: usize,
    },
    /// It wants to know what the policy says of a target; nothing follows from that.
    Consult {
        /// Which.
        target: usize,
    },
    /// It wants a target rolled back that the run is done with.
    Undo {
        /// Which.
        target: usize,
        /// Why.
        reason: String,
    },
    /// It waits for it no longer, if it has not begun.
    TakeBack {
        /// Which.
        target: usize,
    },
    /// It leaves it out, if it has not begun.
    LeaveOut {
        /// Which.
        target: usize,
        /// Why.
        reason: String,
    },
    /// What it does now.
    Orchestration(OrchestrationEvent),
    /// It has ended.
    OrchestrationEnded(OrchestrationEnd),
    /// What people want.
    Requests(OperatorRequests),
    /// The run is somebody else's now, or may be: the session ended.
    Lost {
        /// How.
        reason: String,
        /// From when on somebody else may act in its place: by then every command must be gone.
        others: Others,
    },
    /// Somebody wants the run to stop.
    Stop(Stop),
    /// The run cannot go on: the store.
    Broken(Broken),
}

/// What an orchestration does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrchestrationEvent {
    /// It calls, and waits for an answer.
    Started(Begun),
    /// It is answered.
    Answered(Called),
    /// It is answered what it was answered before.
    Replayed(Called),
    /// It says something.
    Log(TraceLine),
}

/// How an orchestration ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrchestrationEnd {
    /// It did what it wanted to.
    Completed,
    /// It said that it cannot go on.
    GaveUp(String),
    /// It failed.
    Failed(Fault),
}

/// What the session with the store says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connectivity {
    /// The store hears us.
    Connected,
    /// It may not.
    Suspended,
    /// The session is over; what was read in it may have changed since.
    Over,
}

/// One of [`Setup::observe`], as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// A semaphore.
    Semaphore {
        /// The number in its data; none: there is no such semaphore.
        slots: Option<u32>,
        /// Its leases.
        leases: Vec<SeenLease>,
        /// How many queue.
        queued: u32,
    },
    /// A party's members.
    Party(Vec<SeenMember>),
}

/// What a probe says of an action whose end nobody saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It was done (exit code 0).
    Succeeded,
    /// It was not, or not well.
    Failed {
        /// What it said.
        detail: String,
    },
    /// It never started, and never will (exit code 66, as `lockkeeper guard --outcome --settle` has it).
    NotStarted,
    /// It is still under way (75): ask again.
    Running,
    /// The target could not be reached to ask it: ask again, as if it were under way.
    Unreachable {
        /// Why not.
        detail: String,
    },
    /// The probe does not know either (76), or could not be asked.
    Unknown {
        /// What it said.
        detail: String,
    },
}

/// How a slot was got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// It was free.
    Free,
    /// A lease with this identifier was there already.
    AlreadyHeld,
    /// By force.
    Forced,
}

/// Why a slot could not be had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotLeased {
    /// The job's time-out ran out.
    TimedOut,
    /// We gave the place in the queue up.
    Withdrawn,
    /// The lease that was to be taken over is not there any more.
    Gone,
    /// Another holder has a lease under the target's name.
    Held {
        /// Who.
        by: HeldElsewhere,
        /// Our own lease, if it was granted and given back: the other one is older.
        given_back: Option<Fence>,
    },
    /// The leases to be broken have changed.
    Conflict(String),
}

/// What the store does to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Broken {
    /// It cannot be reached.
    Unavailable(String),
    /// It refuses us.
    Refused(String),
    /// The semaphore has another number of slots.
    SlotsDiffer(String),
    /// The runner's own machine: no more processes, files, memory or disk.
    Runner(String),
}

/// What the far end says, among other words, when it refuses a fence and has started nothing.
#[must_use]
pub fn stale_mark(fence: u64) -> String {
    format!("fence {fence} is stale")
}

/// What is known of an action beside how it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Course {
    /// It ran to the end that is reported, or was stopped and is gone.
    #[default]
    Ran,
    /// Nothing of it ran, for certain.
    NotStarted,
    /// Nothing of it ran, for certain: its host cannot be reached.
    Unreachable,
    /// Nothing of it ran: the runner's own machine could not start it.
    RunnerFailed,
    /// It was started and its end was not seen: the connection to it broke, or it could not be stopped.
    ContactLost,
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionResult {
    /// As the contract has it.
    pub ending: Ending,
    /// What is known beside that.
    pub course: Course,
    /// The exit code, where there was one.
    pub exit_code: Option<i32>,
    /// How long it took.
    pub took_ms: u64,
    /// What happened, for a person.
    pub detail: String,
    /// The last lines of its output.
    pub output: Vec<String>,
    /// Where all of its output is.
    pub log: String,
}

/// When somebody else may act under a slot that was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Since then: it was broken or unlocked. Whoever did so has not waited for the command, which gets its time to end.
    Since(Instant),
    /// From then on: it went with its session. By then the command must be gone.
    From(Instant),
}

/// A policy fault, as far as the rollout cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The kind of failure.
    pub kind: &'static str,
    /// What happened.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

/// How hard to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// Nothing new starts; what runs finishes.
    Gently,
    /// What runs is stopped too.
    Now,
}

/// Something to do.
#[derive(Debug)]
pub enum Action {
    /// Ask the policy; answer with [`Input::Admitted`].
    Admit {
        /// About which target.
        target: usize,
        /// What to show it.
        view: Box<contract::View>,
    },
    /// Tell the orchestration what the policy said.
    Advise {
        /// About which target.
        target: usize,
        /// What.
        advice: Advice,
    },
    /// Tell the orchestration how a roll-back ended, whoever wanted it.
    Undone {
        /// Of which target.
        target: usize,
        /// How.
        outcome: Outcome,
    },
    /// Ask the policy; answer with [`Input::Settled`].
    Settle {
        /// About which target.
        target: usize,
        /// What to show it.
        view: Box<contract::View>,
        /// How the action ended.
        outcome: Outcome,
    },
    /// Take over the lease that an earlier runner left for it; answer with [`Input::Leased`] or [`NotLeased::Gone`].
    Adopt {
        /// For which target.
        target: usize,
    },
    /// Queue for a slot; answer with [`Input::Leased`] or [`Input::NotLeased`].
    Acquire {
        /// For which target.
        target: usize,
        /// Until when, in milliseconds since the Unix epoch; none: forever.
        give_up_at_ms: Option<u64>,
        /// Where it stands once it has the slot: written in the same transaction.
        status: RecordedStatus,
    },
    /// Take a slot by force; answer likewise.
    Force {
        /// For which target.
        target: usize,
        /// Fences of the leases to break.
        breaking: Vec<Fence>,
        /// The policy's reason.
        reason: String,
    },
    /// Give the place in the queue up; answer with [`Input::NotLeased`], or [`Input::Leased`] if it was too late. Said once
    /// for a place.
    Withdraw {
        /// Whose.
        target: usize,
    },
    /// Write down that it acts, or reverts, and then run that; answer with [`Input::Ended`].
    Start {
        /// On which target.
        target: usize,
        /// Which command.
        command_kind: CommandKind,
        /// 1 for the first try.
        attempt: u32,
        /// The lease's fence.
        fence: Fence,
        /// Where the target stands while it runs: written down before it starts.
        status: RecordedStatus,
    },
    /// Stop the action; it answers with [`Input::Ended`].
    Kill {
        /// On which target.
        target: usize,
        /// As what its end then counts.
        ending: Ending,
        /// From when on somebody else may act in its place; none while its lease is held.
        others: Option<Others>,
    },
    /// Ask the probe of an action, or of a roll-back, how that went whose end no runner saw; answer with [`Input::Probed`].
    Probe {
        /// On which target.
        target: usize,
        /// Which command it was.
        command_kind: CommandKind,
        /// Which try it was.
        attempt: u32,
        /// Under which fence.
        fence: Fence,
        /// How long to wait before, in milliseconds.
        after_ms: u64,
        /// How long it may take at most, in milliseconds, beside the action's time-out. `None` if that alone bounds it.
        within_ms: Option<u64>,
    },
    /// Give the slot back, and write down in the same transaction where the target stands then; answer with
    /// [`Input::Released`]. Said once for a slot.
    Release {
        /// Whose.
        target: usize,
        /// Where it stands then.
        status: RecordedStatus,
    },
    /// Write down where a target stands whose slot is not held, or stays held. No answer.
    Save {
        /// Which.
        target: usize,
        /// Where it stands.
        status: RecordedStatus,
    },
    /// Say what happened.
    Emit(Event),
}

/// Which of the job's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandKind {
    /// `action.run`, and `action.probe` behind it.
    Action,
    /// `action.roll-back`.
    RollBack,
}

/// Why a run ended, or is about to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Every target reached a final state.
    Completed,
    /// A policy fault, and the job says `hold`: what is left can go another time.
    Held(Fault),
    /// A policy fault, and the job says `abort`.
    Faulted(Fault),
    /// The orchestration failed. Run again it would fail again.
    OrchestrationFailed(Fault),
    /// The policy said `abort`, or somebody did.
    Aborted(String),
    /// The failure budget is spent.
    BudgetSpent(String),
    /// The party stayed below its floor.
    FloorMissed(String),
    /// Somebody stopped it.
    Interrupted,
    /// It is somebody else's now, or may be.
    Lost(String),
    /// The store.
    Broken(Broken),
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Why it ended.
    pub end: End,
    /// How many targets stand where.
    pub counts: Counts,
    /// Slots taken by force.
    pub forced: u32,
    /// Targets that got no slot in time.
    pub timed_out: u32,
}

impl End {
    /// In one sentence, for a person.
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
            Self::Broken(
                Broken::Unavailable(reason)
                | Broken::Refused(reason)
                | Broken::SlotsDiffer(reason)
                | Broken::Runner(reason),
            ) => reason.clone(),
        }
    }

    /// Whether the run is finished; else somebody may go on with it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Completed
            | Self::Faulted(_)
            | Self::OrchestrationFailed(_)
            | Self::Aborted(_)
            | Self::BudgetSpent(_) => true,
            Self::Held(_) | Self::FloorMissed(_) | Self::Interrupted | Self::Lost(_) | Self::Broken(_) => false,
        }
    }

    /// A stable word for logs.
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
            Self::Broken(Broken::Runner(_)) => "runner-failed",
            Self::Broken(_) => "unavailable",
        }
    }
}
