//! The rollout as a pure machine: an [`Input`] and the time go in, [`Action`]s come out. It waits for nothing and
//! touches nothing; `engine` does.
//!
//! # Who is asked, and when
//! Targets are asked about in the plan's order while the run has room, one decision at a time, so that a policy's memory
//! passes from decision to decision as in a fold. A change (a lease, a member, a target that ended) starts a new sweep
//! from the front; a wake asks one target out of turn; `hold` ends the sweep until its wake or a change. A target queues
//! once its policy says `lock`, and is asked once more when its slot is there.
//!
//! # Limits
//! [`HardLimits::allow_one_more`] is passed twice, before a target queues and before its action starts, whatever the
//! policy says.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use super::event::Event;
use super::limits::{Facts, HardLimits, Refusal};
use super::state::{Counts, Final, TargetEvent, TargetState};
use crate::job::{OnFault, Target};
use crate::policy::types::{
    self as contract, Admission, Admitted, Cause, Ending, Happening, Outcome, Settled, Settlement,
};

/// The newest events that a view shows.
const EVENTS_SHOWN: usize = 16;

/// A policy that asks to be asked again sooner than this is asked after this: a wake of 0 would be a busy loop.
const SHORTEST_WAKE: Duration = Duration::from_millis(50);

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
    /// The semaphore's path.
    pub semaphore: String,
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
    /// Begin.
    Begin,
    /// Time has passed.
    Tick,
    /// The semaphore was read.
    Semaphore {
        /// Its leases.
        leases: Vec<SeenLease>,
        /// How many queue.
        queued: u32,
    },
    /// The party was read.
    Party(Vec<SeenMember>),
    /// The store hears us, or does not.
    Connected(bool),
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
    },
    /// A lease was given back, or was gone already.
    Released {
        /// Whose.
        target: usize,
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
    /// Give the place in the queue up; answer with [`Input::NotLeased`], or [`Input::Leased`] if it was too late.
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
    },
    /// Give the slot back; answer with [`Input::Released`].
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

/// One target, as the machine keeps it.
#[derive(Debug)]
struct Slot {
    target: Target,
    state: TargetState,
    attempt: u32,
    waiting_since_ms: Option<u64>,
    queued_since_ms: Option<u64>,
    wake_ms: Option<u64>,
    fence: Option<i64>,
    /// When a kept slot is given back.
    keep_until_ms: Option<u64>,
    /// Why it is asked about next, if not for what happened elsewhere.
    refused: Option<String>,
    asked: bool,
    /// What it becomes when its slot is given back unused.
    giving_back: Option<Then>,
    /// The last thing said about it, so that nobody reads the same line twice.
    said: String,
    /// The force verdict that it waits for.
    forcing: Option<Forcing>,
}

#[derive(Debug, Clone)]
struct Forcing {
    broken: Vec<u64>,
    code: String,
    reason: String,
}

#[derive(Debug, Clone)]
enum Then {
    Wait,
    Skip { code: String, reason: String },
}

/// Nobody may go now.
#[derive(Debug, Clone, Copy)]
struct Hold {
    wake_ms: Option<u64>,
}

/// A rollout in progress.
#[derive(Debug)]
pub struct Rollout {
    setup: Setup,
    slots: Vec<Slot>,
    counts: Counts,
    open: BTreeSet<usize>,
    in_flight: BTreeSet<usize>,
    wakes: BTreeSet<(u64, usize)>,
    keeps: BTreeSet<(u64, usize)>,
    cursor: usize,
    change: Cause,
    hold: Option<Hold>,
    held_said: String,
    asking: Option<usize>,
    to_settle: VecDeque<(usize, Outcome)>,
    granted: VecDeque<usize>,
    sequence: u64,
    memory: Vec<u8>,
    events: VecDeque<contract::Event>,
    leases: Vec<SeenLease>,
    queued: u32,
    members: Option<Vec<SeenMember>>,
    member_count: HashMap<String, u32>,
    connected: bool,
    begun: bool,
    ending: Option<End>,
    stop: Option<Stop>,
    floor_missed_since_ms: Option<u64>,
    forced: u32,
    timed_out: u32,
}

impl Rollout {
    /// A rollout that has not begun.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let slots: Vec<Slot> = setup.targets.iter().cloned().map(Slot::new).collect();
        let total = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        Self {
            open: (0..slots.len()).collect(),
            counts: Counts::all_pending(total),
            slots,
            setup,
            in_flight: BTreeSet::new(),
            wakes: BTreeSet::new(),
            keeps: BTreeSet::new(),
            cursor: 0,
            change: Cause::First,
            hold: None,
            held_said: String::new(),
            asking: None,
            to_settle: VecDeque::new(),
            granted: VecDeque::new(),
            sequence: 0,
            memory: Vec::new(),
            events: VecDeque::new(),
            leases: Vec::new(),
            queued: 0,
            members: None,
            member_count: HashMap::new(),
            connected: true,
            begun: false,
            ending: None,
            stop: None,
            floor_missed_since_ms: None,
            forced: 0,
            timed_out: 0,
        }
    }

    /// What the policy's last decision left for the next.
    #[must_use]
    pub fn memory(&self) -> &[u8] {
        &self.memory
    }

    /// The targets, in the plan's order.
    #[must_use]
    pub fn target(&self, target: usize) -> &Target {
        &self.slots[target].target
    }

    /// When it started, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn started_ms(&self) -> u64 {
        self.setup.started_ms
    }

    /// How many targets stand where.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Where a target stands.
    #[must_use]
    pub fn state(&self, target: usize) -> TargetState {
        self.slots[target].state
    }

    /// What the run came to; none while it goes on.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let over = self.begun
            && self.in_flight.is_empty()
            && self.asking.is_none()
            && (self.ending.is_some() || self.open.is_empty());
        over.then(|| Report {
            end: self.ending.clone().unwrap_or(End::Completed),
            counts: self.counts,
            forced: self.forced,
            timed_out: self.timed_out,
        })
    }

    /// When [`Input::Tick`] is due, in milliseconds since the Unix epoch, if nothing else happens before.
    #[must_use]
    pub fn next_wake(&self) -> Option<u64> {
        let wakes = self.wakes.first().map(|(at, _)| *at);
        let keeps = self.keeps.first().map(|(at, _)| *at);
        let hold = self.hold.and_then(|hold| hold.wake_ms);
        [wakes, keeps, hold, self.floor_deadline()].into_iter().flatten().min()
    }

    /// What follows from an input at `now_ms`, in milliseconds since the Unix epoch.
    ///
    /// # Panics
    /// When the engine breaks the protocol: an answer that nothing asked for.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Vec<Action> {
        let mut out = Vec::new();
        match input {
            Input::Begin => self.begun = true,
            Input::Tick => {}
            Input::Semaphore { leases, queued } => {
                if self.leases != leases || self.queued != queued {
                    self.leases = leases;
                    self.queued = queued;
                    self.changed(Cause::LeasesChanged);
                }
            }
            Input::Party(members) => self.party_seen(members),
            Input::Connected(connected) => {
                if self.connected != connected {
                    self.connected = connected;
                    self.changed(Cause::Progressed);
                }
            }
            Input::Admitted { target, answer } => self.admitted(now_ms, target, answer, &mut out),
            Input::Settled { target, answer } => self.settled(now_ms, target, answer, &mut out),
            Input::Leased { target, fence, how } => self.leased(now_ms, target, fence, &how, &mut out),
            Input::NotLeased { target, why } => self.not_leased(now_ms, target, why, &mut out),
            Input::LeaseLost { target, reason } => self.lease_lost(now_ms, target, reason, &mut out),
            Input::Released { target } => self.released(now_ms, target, &mut out),
            Input::Ended { target, result } => self.ended(now_ms, target, result, &mut out),
            Input::Stop(stop) => self.stopped(stop, &mut out),
            Input::Broken(broken) => self.end(End::Broken(broken), &mut out),
        }
        self.let_kept_slots_go(now_ms, &mut out);
        self.check_floor_patience(now_ms, &mut out);
        self.ask(now_ms, &mut out);
        out
    }

    // ------------------------------------------------------------------ what the world did

    fn party_seen(&mut self, members: Vec<SeenMember>) {
        if self.members.as_ref() == Some(&members) {
            return;
        }
        self.member_count = HashMap::new();
        for member in &members {
            *self.member_count.entry(member.identifier.clone()).or_default() += 1;
        }
        self.members = Some(members);
        self.changed(Cause::MembersChanged);
    }

    fn leased(&mut self, now_ms: u64, target: usize, fence: i64, how: &Got, out: &mut Vec<Action>) {
        self.slots[target].fence = Some(fence);
        self.moved(target, TargetEvent::Leased);
        let name = self.name(target);
        let held = self.held();
        if let (Got::Forced, Some(forcing)) = (how, self.slots[target].forcing.take()) {
            self.forced += 1;
            self.happened(now_ms, target, Happening::Forced, &forcing.reason);
            let Forcing { broken, code, reason } = forcing;
            out.push(Action::Emit(Event::Forced { target: name, broken, code, reason, fence }));
        } else {
            self.happened(now_ms, target, Happening::Leased, "");
            let again = *how == Got::Again;
            let slots = self.setup.limits.slots;
            out.push(Action::Emit(Event::Leased { target: name, held, slots, fence, again }));
        }
        match self.ending {
            Some(_) => self.give_back(target, Then::Wait, "the run is stopping", out),
            None => self.granted.push_back(target),
        }
    }

    fn not_leased(&mut self, now_ms: u64, target: usize, why: NotLeased, out: &mut Vec<Action>) {
        let then = self.slots[target].giving_back.take();
        match (why, then) {
            (_, Some(Then::Skip { code, reason })) => self.skip(now_ms, target, code, reason, out),
            (NotLeased::TimedOut, _) => {
                self.timed_out += 1;
                let waited = self.setup.patience.unwrap_or_default();
                let reason = format!("no slot within {}", humantime::format_duration(waited));
                self.skip(now_ms, target, "timed-out".to_owned(), reason, out);
            }
            (NotLeased::Withdrawn, _) => self.moved(target, TargetEvent::Withdrawn),
            (NotLeased::Conflict(reason), _) => {
                self.slots[target].forcing = None;
                self.slots[target].refused = Some(reason);
                self.moved(target, TargetEvent::Withdrawn);
                // Whoever changed the leases changed the view: the policy looks again, after a pause.
                self.wake_at(target, now_ms + millis(SHORTEST_WAKE));
            }
        }
        self.changed(Cause::Progressed);
    }

    fn lease_lost(&mut self, now_ms: u64, target: usize, reason: String, out: &mut Vec<Action>) {
        self.happened(now_ms, target, Happening::LeaseLost, &reason);
        out.push(Action::Emit(Event::LeaseLost { target: self.name(target), reason }));
        match self.slots[target].state {
            TargetState::Leased => self.give_back(target, Then::Wait, "its lease was lost", out),
            TargetState::Acting => out.push(Action::Kill { target, ending: Ending::LeaseLost }),
            _ => {}
        }
    }

    fn released(&mut self, now_ms: u64, target: usize, out: &mut Vec<Action>) {
        if let Some(fence) = self.slots[target].fence.take() {
            // The next reading of the semaphore would say so too, later.
            self.leases.retain(|lease| lease.fence != fence);
        }
        let name = self.name(target);
        match (self.slots[target].state, self.slots[target].giving_back.take()) {
            (TargetState::Leased, Some(Then::Skip { code, reason })) => self.skip(now_ms, target, code, reason, out),
            (TargetState::Leased, _) => self.moved(target, TargetEvent::Withdrawn),
            _ => {
                self.moved(target, TargetEvent::Released);
                self.happened(now_ms, target, Happening::Released, "");
                out.push(Action::Emit(Event::Released { target: name }));
                self.check_budget(out);
            }
        }
        self.changed(Cause::Progressed);
    }

    fn ended(&mut self, now_ms: u64, target: usize, result: ActionResult, out: &mut Vec<Action>) {
        self.moved(target, TargetEvent::Ended(result.ending));
        let attempt = self.slots[target].attempt;
        let outcome = Outcome { ending: result.ending, exit_code: result.exit_code, took: result.took_ms, attempt };
        let what = match result.ending {
            Ending::Succeeded => Happening::Succeeded,
            Ending::Unknown => Happening::Unknown,
            Ending::Failed | Ending::TimedOut | Ending::LeaseLost => Happening::Failed,
        };
        self.happened(now_ms, target, what, &result.detail);
        let ActionResult { ending, took_ms, detail, output, log, .. } = result;
        let target_name = self.name(target);
        out.push(Action::Emit(match ending {
            Ending::Succeeded => Event::Succeeded { target: target_name, took_ms },
            _ => Event::Failed { target: target_name, attempt, ending, detail, took_ms, output, log },
        }));
        match self.stop {
            // Who wants out now does not wait for a policy.
            Some(Stop::Now) => out.push(Action::Release { target }),
            _ => self.to_settle.push_back((target, outcome)),
        }
        self.changed(Cause::Progressed);
    }

    fn stopped(&mut self, stop: Stop, out: &mut Vec<Action>) {
        if self.stop >= Some(stop) {
            return;
        }
        self.stop = Some(stop);
        self.end(End::Interrupted, out);
        if stop == Stop::Now {
            let acting = self.in_flight.iter().filter(|target| self.slots[**target].state == TargetState::Acting);
            out.extend(acting.map(|&target| Action::Kill { target, ending: Ending::Unknown }));
        }
        // Nobody bakes any more.
        for (_, target) in std::mem::take(&mut self.keeps) {
            self.slots[target].keep_until_ms = None;
            out.push(Action::Release { target });
        }
    }

    // ------------------------------------------------------------------ what the policy said

    fn admitted(&mut self, now_ms: u64, target: usize, answer: Result<Admitted, Fault>, out: &mut Vec<Action>) {
        debug_assert_eq!(self.asking, Some(target), "an answer that nothing asked for");
        self.asking = None;
        let state = self.slots[target].state;
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                match state {
                    TargetState::Leased => self.give_back(target, Then::Wait, "the policy failed", out),
                    TargetState::Queued => out.push(Action::Withdraw { target }),
                    _ => self.moved(target, TargetEvent::Deferred),
                }
                return self.fault(target, fault, out);
            }
        };
        self.memory = answer.memory;
        if let Some(wake_after) = answer.wake_after {
            self.wake_at(target, now_ms.saturating_add(wake_after.max(millis(SHORTEST_WAKE))));
        }
        let verdict = Verdict { code: answer.code, reason: answer.reason, ask_again_ms: answer.wake_after };
        match state {
            TargetState::Leased => self.admitted_with_slot(now_ms, target, answer.verdict, verdict, out),
            TargetState::Queued => self.admitted_in_queue(target, &answer.verdict, verdict, out),
            _ => self.admitted_in_the_open(now_ms, target, answer.verdict, verdict, out),
        }
    }

    /// Its slot is held: only `lock` and `force` start it.
    fn admitted_with_slot(
        &mut self,
        now_ms: u64,
        target: usize,
        answer: Admission,
        said: Verdict,
        out: &mut Vec<Action>,
    ) {
        if self.ending.is_some() {
            return self.give_back(target, Then::Wait, "the run is stopping", out);
        }
        match answer {
            Admission::Lock | Admission::Force(_) => match self.may_start(target) {
                Ok(()) => {
                    self.slots[target].attempt = 1;
                    self.start(now_ms, target, out);
                }
                Err(refusal) => {
                    self.refused(now_ms, target, &refusal, out);
                    self.give_back(target, Then::Wait, "a hard limit refuses it now", out);
                }
            },
            Admission::Wait => {
                let reason = said.reason.clone();
                self.say_waiting(target, said, out);
                self.give_back(target, Then::Wait, &reason, out);
            }
            Admission::Hold => {
                let reason = said.reason.clone();
                self.hold(now_ms, said, out);
                self.give_back(target, Then::Wait, &reason, out);
            }
            Admission::Skip => {
                let reason = said.reason.clone();
                self.give_back(target, Then::Skip { code: said.code, reason: said.reason }, &reason, out);
            }
            Admission::Abort => {
                self.give_back(target, Then::Wait, &said.reason, out);
                self.end(End::Aborted(said.reason), out);
            }
        }
    }

    /// It queues and was woken: anything but `lock` takes it out of the queue.
    fn admitted_in_queue(&mut self, target: usize, answer: &Admission, said: Verdict, out: &mut Vec<Action>) {
        match answer {
            Admission::Lock => {}
            Admission::Skip => {
                self.slots[target].giving_back = Some(Then::Skip { code: said.code, reason: said.reason });
                out.push(Action::Withdraw { target });
            }
            Admission::Abort => self.end(End::Aborted(said.reason), out),
            Admission::Wait | Admission::Hold | Admission::Force(_) => out.push(Action::Withdraw { target }),
        }
    }

    fn admitted_in_the_open(
        &mut self,
        now_ms: u64,
        target: usize,
        answer: Admission,
        said: Verdict,
        out: &mut Vec<Action>,
    ) {
        if self.ending.is_some() {
            return self.moved(target, TargetEvent::Deferred);
        }
        match answer {
            Admission::Lock => match self.may_queue(target) {
                Ok(()) => {
                    self.moved(target, TargetEvent::Queued);
                    let since = *self.slots[target].queued_since_ms.get_or_insert(now_ms);
                    let give_up_at_ms = self.setup.patience.map(|patience| since.saturating_add(millis(patience)));
                    out.push(Action::Emit(Event::Queued { target: self.name(target) }));
                    out.push(Action::Acquire { target, give_up_at_ms });
                }
                Err(refusal) => self.defer_refused(now_ms, target, &refusal, out),
            },
            Admission::Force(victims) => match self.may_queue(target) {
                Ok(()) => {
                    self.moved(target, TargetEvent::Queued);
                    // A fence that no lease can have is refused by the store as a lease that is gone.
                    let breaking = victims.iter().map(|fence| i64::try_from(*fence).unwrap_or(-1)).collect();
                    let reason = said.reason.clone();
                    self.slots[target].forcing =
                        Some(Forcing { broken: victims, code: said.code, reason: said.reason });
                    out.push(Action::Force { target, breaking, reason });
                }
                Err(refusal) => self.defer_refused(now_ms, target, &refusal, out),
            },
            Admission::Wait => {
                self.moved(target, TargetEvent::Deferred);
                self.say_waiting(target, said, out);
            }
            Admission::Hold => {
                self.moved(target, TargetEvent::Deferred);
                self.hold(now_ms, said, out);
            }
            Admission::Skip => self.skip(now_ms, target, said.code, said.reason, out),
            Admission::Abort => {
                self.moved(target, TargetEvent::Deferred);
                self.end(End::Aborted(said.reason), out);
            }
        }
    }

    fn settled(&mut self, now_ms: u64, target: usize, answer: Result<Settled, Fault>, out: &mut Vec<Action>) {
        debug_assert_eq!(self.asking, Some(target), "an answer that nothing asked for");
        self.asking = None;
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                out.push(Action::Release { target });
                return self.fault(target, fault, out);
            }
        };
        self.memory = answer.memory;
        match answer.verdict {
            Settlement::Release => out.push(Action::Release { target }),
            Settlement::Keep(keep_ms) if self.stop.is_none() => {
                let until = now_ms.saturating_add(keep_ms);
                self.slots[target].keep_until_ms = Some(until);
                self.keeps.insert((until, target));
                out.push(Action::Emit(Event::Keeping { target: self.name(target), keep_ms, reason: answer.reason }));
            }
            Settlement::Keep(_) => out.push(Action::Release { target }),
            Settlement::Retry if self.may_retry(target) => {
                self.slots[target].attempt += 1;
                let attempt = self.slots[target].attempt;
                out.push(Action::Emit(Event::Retrying { target: self.name(target), attempt, reason: answer.reason }));
                self.start(now_ms, target, out);
            }
            // The tries are used up: what failed has failed.
            Settlement::Retry => out.push(Action::Release { target }),
            Settlement::RollBack => {
                out.push(Action::Release { target });
                let message = "the policy answered `roll-back`, which this version of Lockkeeper cannot do".to_owned();
                self.fault(target, Fault { kind: "not-supported", message, hint: None }, out);
            }
            Settlement::Abort => {
                out.push(Action::Release { target });
                self.end(End::Aborted(answer.reason), out);
            }
        }
    }

    fn fault(&mut self, target: usize, fault: Fault, out: &mut Vec<Action>) {
        let Fault { kind, message, hint } = fault.clone();
        out.push(Action::Emit(Event::PolicyFault { target: self.name(target), kind, message, hint }));
        match self.setup.on_fault {
            OnFault::Hold => self.end(End::Held(fault), out),
            OnFault::Abort => self.end(End::Faulted(fault), out),
        }
    }

    // ------------------------------------------------------------------ the hard limits

    fn may_queue(&self, target: usize) -> Result<(), Refusal> {
        let others: Vec<usize> = self.in_flight.iter().copied().filter(|other| *other != target).collect();
        self.setup.limits.allow_one_more(&self.facts(target, &others, &others))
    }

    fn may_start(&self, target: usize) -> Result<(), Refusal> {
        let others: Vec<usize> = self.in_flight.iter().copied().filter(|other| *other != target).collect();
        let acting: Vec<usize> = others.iter().copied().filter(|other| self.slots[*other].may_yet_fail()).collect();
        self.setup.limits.allow_one_more(&self.facts(target, &others, &acting))
    }

    fn may_retry(&self, target: usize) -> bool {
        let TargetState::Acted(ending) = self.slots[target].state else { return false };
        matches!(ending, Ending::Failed | Ending::TimedOut)
            && self.slots[target].attempt < self.setup.attempts
            && self.ending.is_none()
            && self.may_start(target).is_ok()
    }

    /// `down` are the targets that are about to leave the party, or may.
    fn facts(&self, target: usize, in_flight: &[usize], down: &[usize]) -> Facts {
        let listed =
            |target: usize| self.member_count.get(self.slots[target].target.name.as_str()).copied().unwrap_or(0);
        let remaining = self.members.as_ref().map(|members| {
            let all = count(members.len());
            let leaving: u32 = down.iter().map(|other| listed(*other)).sum::<u32>() + listed(target);
            all.saturating_sub(leaving)
        });
        Facts {
            in_flight: count(in_flight.len()),
            reserved: count(down.len()),
            failed: self.counts.failed + self.counts.unknown,
            remaining,
            connected: self.connected,
        }
    }

    fn defer_refused(&mut self, now_ms: u64, target: usize, refusal: &Refusal, out: &mut Vec<Action>) {
        self.moved(target, TargetEvent::Deferred);
        self.refused(now_ms, target, refusal, out);
    }

    /// A hard limit says no: it is everybody's, so nobody is asked until something changes.
    fn refused(&mut self, now_ms: u64, target: usize, refusal: &Refusal, out: &mut Vec<Action>) {
        let reason = refusal.to_string();
        self.slots[target].refused = Some(reason.clone());
        self.hold = Some(Hold { wake_ms: None });
        if self.slots[target].said != reason {
            self.slots[target].said = reason.clone();
            out.push(Action::Emit(Event::Refused {
                target: self.name(target),
                limit: refusal.code(),
                reason: reason.clone(),
            }));
        }
        if matches!(refusal, Refusal::Floor { .. }) {
            let patient = self.setup.party.as_ref().is_some_and(|party| party.blocking);
            self.floor_missed_since_ms.get_or_insert(now_ms);
            if !patient && self.in_flight.is_empty() {
                self.end(End::FloorMissed(reason), out);
            }
        }
    }

    fn floor_deadline(&self) -> Option<u64> {
        let patience = self.setup.party.as_ref()?.patience?;
        let since = self.floor_missed_since_ms?;
        self.in_flight.is_empty().then(|| since.saturating_add(millis(patience)))
    }

    fn check_floor_patience(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        if self.ending.is_none() && self.floor_deadline().is_some_and(|deadline| deadline <= now_ms) {
            let patience = self.setup.party.as_ref().and_then(|party| party.patience).unwrap_or_default();
            let reason = format!("the party stayed below its floor for {}", humantime::format_duration(patience));
            self.end(End::FloorMissed(reason), out);
        }
    }

    fn check_budget(&mut self, out: &mut Vec<Action>) {
        let failed = self.counts.failed + self.counts.unknown;
        if self.ending.is_none()
            && self.open.len() + self.in_flight.len() > 0
            && self.setup.limits.is_budget_spent(failed)
        {
            let allowed = self.setup.limits.max_failed.unwrap_or(0);
            self.end(End::BudgetSpent(format!("{failed} failed, the budget allows {allowed}")), out);
        }
    }

    // ------------------------------------------------------------------ what is done

    fn start(&mut self, now_ms: u64, target: usize, out: &mut Vec<Action>) {
        let fence = self.slots[target].fence.unwrap_or(0);
        let attempt = self.slots[target].attempt;
        self.moved(target, TargetEvent::Started);
        self.floor_missed_since_ms = None;
        self.happened(now_ms, target, Happening::Started, "");
        out.push(Action::Emit(Event::Started { target: self.name(target), attempt, fence }));
        out.push(Action::Start { target, attempt, fence });
    }

    fn give_back(&mut self, target: usize, then: Then, reason: &str, out: &mut Vec<Action>) {
        if self.slots[target].giving_back.is_none() {
            out.push(Action::Emit(Event::GivenBack { target: self.name(target), reason: reason.to_owned() }));
            out.push(Action::Release { target });
        }
        self.slots[target].giving_back = Some(then);
    }

    fn skip(&mut self, now_ms: u64, target: usize, code: String, reason: String, out: &mut Vec<Action>) {
        self.moved(target, TargetEvent::Skipped);
        self.happened(now_ms, target, Happening::Skipped, &reason);
        out.push(Action::Emit(Event::Skipped { target: self.name(target), code, reason }));
    }

    /// From now on nothing starts: queues are left and unused slots given back. The first reason stays.
    fn end(&mut self, end: End, out: &mut Vec<Action>) {
        let acting = self.counts.acting;
        if self.ending.is_none() {
            out.push(Action::Emit(Event::Stopping { reason: end.reason(), acting }));
            self.ending = Some(end);
        }
        self.granted.clear();
        for target in self.in_flight.clone() {
            match self.slots[target].state {
                TargetState::Queued => out.push(Action::Withdraw { target }),
                TargetState::Leased if self.asking != Some(target) => {
                    self.give_back(target, Then::Wait, "the run is stopping", out);
                }
                _ => {}
            }
        }
    }

    fn let_kept_slots_go(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        while let Some(&(at, target)) = self.keeps.first() {
            if at > now_ms {
                break;
            }
            self.keeps.pop_first();
            self.slots[target].keep_until_ms = None;
            out.push(Action::Release { target });
        }
    }

    // ------------------------------------------------------------------ asking

    fn ask(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        if self.asking.is_some() || !self.begun {
            return;
        }
        if let Some((target, outcome)) = self.to_settle.pop_front() {
            self.asking = Some(target);
            let view = self.view(now_ms, target, Cause::Progressed);
            out.push(Action::Settle { target, view: Box::new(view), outcome });
            return;
        }
        if self.ending.is_some() {
            return;
        }
        if let Some(target) = self.granted.pop_front() {
            return self.ask_about(now_ms, target, Cause::Granted, out);
        }
        if self.hold.is_some_and(|hold| hold.wake_ms.is_some_and(|at| at <= now_ms)) {
            self.changed(Cause::Woken);
        }
        if let Some(target) = self.next_woken(now_ms) {
            return self.ask_about(now_ms, target, Cause::Woken, out);
        }
        if self.hold.is_some() || !self.has_room() {
            return;
        }
        if let Some(&target) = self.open.range(self.cursor..).next() {
            self.cursor = target + 1;
            let cause = match (self.slots[target].refused.take(), self.slots[target].asked) {
                (Some(reason), _) => Cause::Refused(reason),
                (None, false) => Cause::First,
                (None, true) => self.change.clone(),
            };
            self.ask_about(now_ms, target, cause, out);
        }
    }

    /// A target whose wake is due and that can be asked about now.
    fn next_woken(&mut self, now_ms: u64) -> Option<usize> {
        while let Some(&(at, target)) = self.wakes.first() {
            if at > now_ms {
                return None;
            }
            self.wakes.pop_first();
            self.slots[target].wake_ms = None;
            let state = self.slots[target].state;
            let queues = state == TargetState::Queued && self.slots[target].forcing.is_none();
            // Without room the sweep that follows room asks it anyway.
            if queues || (state.is_open() && self.hold.is_none() && self.has_room()) {
                return Some(target);
            }
        }
        None
    }

    fn has_room(&self) -> bool {
        count(self.in_flight.len()) < self.setup.limits.slots
    }

    fn ask_about(&mut self, now_ms: u64, target: usize, cause: Cause, out: &mut Vec<Action>) {
        self.asking = Some(target);
        let view = self.view(now_ms, target, cause);
        self.slots[target].asked = true;
        out.push(Action::Admit { target, view: Box::new(view) });
    }

    /// Something that views show has changed: a new sweep, and an end to holding.
    fn changed(&mut self, cause: Cause) {
        self.cursor = 0;
        self.hold = None;
        self.change = cause;
    }

    fn wake_at(&mut self, target: usize, at: u64) {
        if let Some(before) = self.slots[target].wake_ms.replace(at) {
            self.wakes.remove(&(before, target));
        }
        self.wakes.insert((at, target));
    }

    fn hold(&mut self, now_ms: u64, said: Verdict, out: &mut Vec<Action>) {
        let wake_ms = said.ask_again_ms.map(|after| now_ms.saturating_add(after.max(millis(SHORTEST_WAKE))));
        self.hold = Some(Hold { wake_ms });
        let line = said.line();
        if self.held_said != line {
            self.held_said = line;
            let Verdict { code, reason, ask_again_ms } = said;
            out.push(Action::Emit(Event::Holding { code, reason, ask_again_ms }));
        }
    }

    fn say_waiting(&mut self, target: usize, said: Verdict, out: &mut Vec<Action>) {
        let line = said.line();
        if self.slots[target].said != line {
            self.slots[target].said = line;
            let Verdict { code, reason, ask_again_ms } = said;
            out.push(Action::Emit(Event::Waiting { target: self.name(target), code, reason, ask_again_ms }));
        }
    }

    // ------------------------------------------------------------------ views and books

    fn view(&mut self, now_ms: u64, target: usize, cause: Cause) -> contract::View {
        let sequence = self.sequence;
        self.sequence += 1;
        let slot = &mut self.slots[target];
        let waiting_since = *slot.waiting_since_ms.get_or_insert(now_ms);
        let labels = slot.target.labels.iter();
        let about = contract::Target {
            name: slot.target.name.to_string(),
            labels: labels.map(|(key, value)| contract::Label { key: key.clone(), value: value.clone() }).collect(),
            wave: String::new(),
            attempt: slot.attempt.max(1),
            waiting_since,
        };
        contract::View {
            sequence,
            now: now_ms,
            seed: mix(self.setup.seed, sequence),
            cause,
            target: about,
            semaphore: self.semaphore_view(now_ms),
            party: self.party_view(),
            other_semaphores: Vec::new(),
            other_parties: Vec::new(),
            progress: self.progress(),
            events: self.events.iter().cloned().collect(),
        }
    }

    /// The leases last read, and our own, which may be newer than the reading.
    fn semaphore_view(&self, now_ms: u64) -> contract::Semaphore {
        let alive = |identifier: &str| self.members.as_ref().map(|_| self.member_count.contains_key(identifier));
        let ours: HashMap<i64, usize> =
            self.in_flight.iter().filter_map(|target| Some((self.slots[*target].fence?, *target))).collect();
        let mut leases: Vec<contract::Lease> = self
            .leases
            .iter()
            .map(|lease| contract::Lease {
                alive: alive(&lease.identifier),
                identifier: lease.identifier.clone(),
                fence: unsigned(lease.fence),
                since: lease.since_ms,
                ephemeral: lease.ephemeral,
                mine: ours.contains_key(&lease.fence),
            })
            .collect();
        for (fence, target) in &ours {
            if !self.leases.iter().any(|lease| lease.fence == *fence) {
                let identifier = self.slots[*target].target.name.to_string();
                let alive = alive(&identifier);
                leases.push(contract::Lease {
                    identifier,
                    fence: unsigned(*fence),
                    since: now_ms,
                    ephemeral: false,
                    alive,
                    mine: true,
                });
            }
        }
        leases.sort_by_key(|lease| lease.fence);
        contract::Semaphore {
            path: self.setup.semaphore.clone(),
            slots: self.setup.limits.slots,
            leases,
            queued: self.queued,
        }
    }

    fn party_view(&self) -> Option<contract::Party> {
        let party = self.setup.party.as_ref()?;
        let members = self.members.iter().flatten();
        Some(contract::Party {
            path: party.path.clone(),
            min_members: self.setup.limits.floor.unwrap_or(0),
            members: members
                .map(|member| contract::Member { identifier: member.identifier.clone(), since: member.since_ms })
                .collect(),
        })
    }

    fn progress(&self) -> contract::Progress {
        let Counts { total, pending, waiting, acting, done, failed, unknown, skipped } = self.counts;
        contract::Progress {
            job: self.setup.job.clone(),
            run: self.setup.run.clone(),
            started: self.setup.started_ms,
            total,
            pending,
            waiting,
            acting,
            done,
            failed,
            rolled_back: 0,
            skipped,
            unknown,
            budget_left: self.setup.limits.budget_left(failed + unknown, acting),
        }
    }

    fn happened(&mut self, at: u64, target: usize, what: Happening, detail: &str) {
        if self.events.len() == EVENTS_SHOWN {
            self.events.pop_front();
        }
        let target = self.name(target);
        self.events.push_back(contract::Event { at, target, what, detail: detail.to_owned() });
    }

    fn moved(&mut self, target: usize, event: TargetEvent) {
        let before = self.slots[target].state;
        let after = before.after(event).expect("the machine moves targets only where they can go");
        self.slots[target].state = after;
        self.counts.moved(before, after);
        match after.is_open() {
            true => self.open.insert(target),
            false => self.open.remove(&target),
        };
        match after.is_in_flight() {
            true => self.in_flight.insert(target),
            false => self.in_flight.remove(&target),
        };
        if matches!(after, TargetState::Final(_))
            && let Some(at) = self.slots[target].wake_ms.take()
        {
            self.wakes.remove(&(at, target));
        }
    }

    /// How many slots this run holds now.
    fn held(&self) -> u32 {
        count(self.in_flight.iter().filter(|target| self.slots[**target].fence.is_some()).count())
    }

    fn name(&self, target: usize) -> String {
        self.slots[target].target.name.to_string()
    }
}

impl Slot {
    fn new(target: Target) -> Self {
        Self {
            target,
            state: TargetState::Pending,
            attempt: 0,
            waiting_since_ms: None,
            queued_since_ms: None,
            wake_ms: None,
            fence: None,
            keep_until_ms: None,
            refused: None,
            asked: false,
            giving_back: None,
            said: String::new(),
            forcing: None,
        }
    }

    /// Whether it may still add a failure: under way, or ended otherwise than well and not yet final.
    fn may_yet_fail(&self) -> bool {
        matches!(self.state, TargetState::Acting | TargetState::Acted(_))
    }
}

/// What a policy said beside its verdict.
#[derive(Debug)]
struct Verdict {
    code: String,
    reason: String,
    ask_again_ms: Option<u64>,
}

impl Verdict {
    fn line(&self) -> String {
        format!("{}: {}", self.code, self.reason)
    }
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

impl Counts {
    /// Whether every target ended well.
    #[must_use]
    pub fn all_done(&self) -> bool {
        self.done == self.total
    }
}

impl Final {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::Skipped => "skipped",
        }
    }
}

/// A decision's seed: splitmix64 of the run's and the decision's number, so that it repeats in a replay.
fn mix(seed: u64, sequence: u64) -> u64 {
    let mut z = seed.wrapping_add(sequence.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

fn unsigned(fence: i64) -> u64 {
    u64::try_from(fence).unwrap_or(0)
}
