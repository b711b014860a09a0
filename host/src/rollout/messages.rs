//! What goes into the machine and what comes out of it.

use std::time::Duration;

use tokio::time::Instant;

use super::event::Event;
use super::limits::HardLimits;
use super::state::Counts;
use crate::job::{OnFault, Target};
use crate::policy::types::{self as contract, Admitted, Ending, Outcome, Settled};
use crate::store::Lifetime;

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
    /// What a policy fault does.
    pub on_fault: OnFault,
}

/// What to do while the party is below its floor.
#[derive(Debug, Clone)]
pub struct Floor {
    /// The party's path.
    pub path: String,
    /// Whether to wait for members at all.
    pub blocking: bool,
    /// For how long; none: forever.
    pub patience: Option<Duration>,
}

/// A lease as the store shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLease {
    /// Who holds it.
    pub identifier: String,
    /// Its fence.
    pub fence: i64,
    /// Since when, in milliseconds since the Unix epoch.
    pub since_ms: u64,
    /// Whether it dies with its session.
    pub ephemeral: bool,
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
    /// The semaphore was read. Nobody is asked about before the first time.
    Semaphore {
        /// Its leases.
        leases: Vec<SeenLease>,
        /// How many queue.
        queued: u32,
    },
    /// The party was read. Nobody is asked about before the first time.
    Party(Vec<SeenMember>),
    /// The party cannot be read: who is there is not known until it is.
    PartyUnread,
    /// The store hears us, or does not.
    Session(Hearing),
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
    /// A slot is held.
    Leased {
        /// For which target.
        target: usize,
        /// The lease's fence.
        fence: i64,
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
    /// Somebody wants the run to stop.
    Stop(Stop),
    /// The run cannot go on: the store.
    Broken(Broken),
}

/// What the session with the store says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hearing {
    /// The store hears us.
    Connected,
    /// It may not.
    Suspended,
    /// The session is over; what was read in it may have changed since.
    Over,
}

/// How a slot was got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Got {
    /// It was free.
    Free,
    /// A lease with this identifier was there already.
    Again,
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
}

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionResult {
    /// As the contract has it.
    pub ending: Ending,
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
    /// Ask the policy; answer with [`Input::Settled`].
    Settle {
        /// About which target.
        target: usize,
        /// What to show it.
        view: Box<contract::View>,
        /// How the action ended.
        outcome: Outcome,
    },
    /// Queue for a slot; answer with [`Input::Leased`] or [`Input::NotLeased`].
    Acquire {
        /// For which target.
        target: usize,
        /// Until when, in milliseconds since the Unix epoch; none: forever.
        give_up_at_ms: Option<u64>,
    },
    /// Take a slot by force; answer likewise.
    Force {
        /// For which target.
        target: usize,
        /// Fences of the leases to break.
        breaking: Vec<i64>,
        /// The policy's reason.
        reason: String,
    },
    /// Give the place in the queue up; answer with [`Input::NotLeased`], or [`Input::Leased`] if it was too late. Said once
    /// for a place.
    Withdraw {
        /// Whose.
        target: usize,
    },
    /// Run the action; answer with [`Input::Ended`].
    Start {
        /// On which target.
        target: usize,
        /// 1 for the first try.
        attempt: u32,
        /// The lease's fence.
        fence: i64,
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
    /// Give the slot back; answer with [`Input::Released`]. Said once for a slot.
    Release {
        /// Whose.
        target: usize,
    },
    /// Say what happened.
    Emit(Event),
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
    /// The policy said `abort`.
    Aborted(String),
    /// The failure budget is spent.
    BudgetSpent(String),
    /// The party stayed below its floor.
    FloorMissed(String),
    /// Somebody stopped it.
    Interrupted,
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
            Self::Completed => "every target is done with".to_owned(),
            Self::Held(fault) => format!("{}; `on-fault` holds the rollout", fault.message),
            Self::Faulted(fault) => format!("{}; `on-fault` aborts the rollout", fault.message),
            Self::Aborted(reason) => format!("the policy aborts: {reason}"),
            Self::BudgetSpent(reason) | Self::FloorMissed(reason) => reason.clone(),
            Self::Interrupted => "stopped by hand".to_owned(),
            Self::Broken(Broken::Unavailable(reason) | Broken::Refused(reason) | Broken::SlotsDiffer(reason)) => {
                reason.clone()
            }
        }
    }

    /// A stable word for logs.
    #[must_use]
    pub fn word(&self, counts: &Counts) -> &'static str {
        match self {
            Self::Completed if counts.failed + counts.unknown > 0 => "failed",
            Self::Completed => "done",
            Self::Held(_) => "held",
            Self::Faulted(_) | Self::Aborted(_) | Self::BudgetSpent(_) => "aborted",
            Self::FloorMissed(_) => "timed-out",
            Self::Interrupted => "interrupted",
            Self::Broken(_) => "unavailable",
        }
    }
}
