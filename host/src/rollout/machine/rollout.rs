//! The rollout as a pure machine: an [`Input`] and the time go in, [`Action`]s come out. It waits for nothing and
//! touches nothing; `engine` does.
//!
//! # Who is asked, and when
//! Targets are asked about in the plan's order while the run has room, one decision at a time, so that a policy's memory
//! passes from decision to decision as in a fold. A change (a lease, a member, a target that ended) starts a new sweep
//! from the front; a wake asks one target out of turn; `hold` ends the sweep until its wake or a change. A target queues
//! once its policy says `lock`, and is asked once more when its slot is there.
//!
//! Nobody is asked while the store does not hear us or was not read: a verdict would rest on what may be gone.
//!
//! # Limits
//! [`HardLimits::allow_one_more`](super::HardLimits::allow_one_more) is passed twice, before a target queues and before its
//! action starts, whatever the policy says; and again before a retry, which needs its lease, too.
//!
//! # Pace
//! What a policy can repeat for ever is slowed down, so that it costs time and not the machine: wakes by
//! [`SHORTEST_WAKE`] and [`WAKES_EACH_MS`], slots taken in vain by [`FIRST_PAUSE`], sweeps in vain by [`WAITS_EACH_MS`].

mod budget;
mod clock;
mod floor;
mod found;
mod invited;
mod looking;
mod requests;
mod undo;
mod waves;

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::time::Duration;

use crate::job::{ObserveSpec, OnExhausted, OnFault, Target};
use crate::policy::orchestration::Advice;
use crate::policy::types::{
    self as contract, Admission, Admitted, Cause, Ending, EventKind, Outcome, Settled, Settlement,
};
use crate::rollout::model::{
    Action, ActionResult, Blocker, Broken, CommandKind, Connectivity, Counts, Course, End, Event, Facts, Fault,
    FinalStatus, Got, HeldElsewhere, Input, NotLeased, Observed, OperatorRequests, Others, RecordedStatus, Refusal,
    Report, SeenLease, SeenMember, Setup, Stop, TargetEvent, TargetStatus, stale_mark,
};
use lockkeeper_coordination::store::{Fence, Lifetime};

/// The newest events that a view shows.
const EVENTS_SHOWN: usize = 16;

/// A policy that asks to be asked again sooner than this is asked after this: a wake of 0 would be a busy loop.
const SHORTEST_WAKE: Duration = Duration::from_millis(50);

/// Wakes that all open targets together get in a millisecond: with 10,000 of them, one each in ten seconds at most.
const WAKES_EACH_MS: u64 = 1;

/// How long a target is left out after its slot, or its place in the queue, was given up unused: a policy that says `lock`
/// and takes it back once the slot is there would keep the store busy. Twice as long each time in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// How often that pause doubles at most: to 51 s. A rest before another try doubles as often.
const MOST_DOUBLINGS: u32 = 10;

/// How often that pause doubles at most while another holder acts under the target's name: to 0.8 s.
const MOST_HELD_DOUBLINGS: u32 = 4;

/// The exit code of `lockkeeper guard` for a fence that came too late.
const STALE_EXIT: i32 = 77;

/// How often in a row a fence that was refused as stale is replaced by a new lease: then it is a failure like any other.
const MOST_STALE: u32 = 3;

/// So many holders are named where a slot did not come in time.
const MOST_HOLDERS: usize = 3;

/// The longest rest before another try that doubling comes to.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60 * 60);

/// A sweep that asked so many targets in vain keeps the next one, counted from its start, a millisecond away. With ten
/// targets nobody notices; with 10,000 that wait, changes come to a sweep a second and not to a sweep each.
const WAITS_EACH_MS: u64 = 10;

/// Who asks the policy where nothing follows from what it says.
pub const ORCHESTRATION: &str = "the orchestration";

/// One target, as the machine keeps it.
#[derive(Debug)]
struct Slot {
    target: Target,
    state: TargetStatus,
    attempt: u32,
    waiting_since_ms: Option<u64>,
    wake_ms: Option<u64>,
    /// The lease that it holds; none once that is lost.
    lease: Option<Held>,
    /// The fence under which its newest attempt was started, whatever became of the lease since.
    fence: Fence,
    /// When a kept slot is given back.
    keep_until_ms: Option<u64>,
    /// Why it is asked about next, if not for what happened elsewhere.
    refused: Option<String>,
    asked: bool,
    /// Since when it wants a slot: it queues, or another holder acts under its name. `None` if it does not.
    wants_slot_since_ms: Option<u64>,
    /// Who acted under its name when it was refused last.
    held_by: Option<HeldElsewhere>,
    /// It was told to leave the queue or to give its slot back unused: what it becomes then.
    leaving: Option<Then>,
    /// How often in a row it left so.
    left: u32,
    /// The last thing said about it, so that nobody reads the same line twice.
    said: String,
    /// The force verdict that it waits for.
    forcing: Option<Forcing>,
    /// How its action ended, for a person, and how long it took.
    detail: String,
    took_ms: Option<u64>,
    /// Tries that do not count: somebody asked for more after them.
    tried_before: u32,
    /// When its next try is due, under the slot that it holds.
    retry_at_ms: Option<u64>,
    /// What an earlier runner started.
    found: Option<found::Found>,
    /// An earlier runner's lease was gone when its action was settled.
    without_slot: bool,
    /// How its action went is for the next runner to find out.
    undecided: bool,
    /// When it became final, in milliseconds since the Unix epoch.
    final_ms: u64,
    /// It is to be undone: what it was before.
    recalled: Option<FinalStatus>,
    /// Why it is undone.
    undone_for: String,
    /// Where it stood before its newest roll-back. `None` if it was not rolled back since its action ran.
    before_roll_back: Option<RecordedStatus>,
    /// How often in a row the far end refused its fence as stale.
    stale: u32,
    /// How often in a row it goes again although its outcome is unknown.
    unknown_retries: u32,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    fence: Fence,
    since_ms: u64,
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

/// What the policy is asked about a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    /// May it queue?
    Open,
    /// It queues: may it still?
    InQueue,
    /// Its slot is there: may it start?
    Granted,
    /// It acted: what now?
    ActionEnded,
    /// The orchestration wants to know.
    Consulted,
}

/// Before which step the limits are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gate {
    Queue,
    Start,
}

/// A limit that refused, and what it was checked against.
#[derive(Debug)]
struct Refused {
    refusal: Refusal,
    facts: Facts,
}

/// Nobody may go now.
#[derive(Debug, Clone, Copy)]
struct Hold {
    wake_ms: Option<u64>,
    /// Of the targets from here on: of all, or of a wave and those after it.
    from: usize,
}

/// A rollout in progress.
#[derive(Debug)]
pub struct Rollout {
    setup: Setup,
    slots: Vec<Slot>,
    counts: Counts,
    /// Those that a sweep asks about: open and not pausing.
    open: BTreeSet<usize>,
    invited: invited::Invited,
    in_flight: BTreeSet<usize>,
    wakes: BTreeSet<(u64, usize)>,
    pauses: BTreeSet<(u64, usize)>,
    keeps: BTreeSet<(u64, usize)>,
    /// When targets that another holder keeps waiting are skipped.
    give_ups: BTreeSet<(u64, usize)>,
    /// Where the sweep goes on.
    cursor: usize,
    /// Why it began.
    change: Cause,
    /// A change waits for a sweep from the front.
    sweep_due: bool,
    sweep_began_ms: u64,
    /// How many waits this sweep came to.
    sweep_waits: u64,
    /// In this sweep the floor refused a target: whether a member would go with it. Targets with which as many go need not
    /// be asked about.
    sweep_floor: Option<bool>,
    hold: Option<Hold>,
    held_said: String,
    /// The longest that an action has taken that succeeded.
    longest_ms: Option<u64>,
    asking: Option<(usize, Question)>,
    to_settle: VecDeque<(usize, Outcome)>,
    granted: VecDeque<usize>,
    sequence: u64,
    memory: Vec<u8>,
    events: VecDeque<contract::Event>,
    /// Leases that are not ours, as last read; none before that.
    others: Option<Vec<SeenLease>>,
    /// Fences of leases that we gave back and a reading may still show.
    given_back: HashSet<Fence>,
    queued: u32,
    roster: floor::Roster,
    connectivity: Connectivity,
    ending: Option<End>,
    stop: Option<Stop>,
    floor: floor::FloorClock,
    forced: u32,
    timed_out: u32,
    /// The time of this step.
    now_ms: u64,
    /// What is to be done at once.
    first: Vec<Action>,
    requests: OperatorRequests,
    waves: waves::Waves,
    /// Targets of which nobody knows.
    unknown: BTreeSet<usize>,
    retries: BTreeSet<(u64, usize)>,
    /// The budget is spent, and the job says to undo.
    undoing: bool,
    /// Who is left to be undone, the newest last; none: what acts has not ended yet.
    to_undo: Option<Vec<usize>>,
    /// What of [`Setup::observe`] was seen last.
    observed: Vec<Option<Observed>>,
    /// What kept the last from going who was asked about.
    waits: Option<Blocker>,
    /// How many actions succeeded, and how long they took together.
    took: (u32, u64),
}

impl Rollout {
    /// A rollout that has not begun.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let slots: Vec<Slot> = setup.targets.iter().cloned().map(Slot::new).collect();
        let total = u32::try_from(slots.len()).unwrap_or(u32::MAX);
        let mut rollout = Self {
            observed: vec![None; setup.observe.len()],
            roster: floor::Roster::new(&setup.targets, setup.party.as_ref()),
            open: (0..slots.len()).filter(|_| !setup.has_orchestration).collect(),
            invited: invited::Invited::new(setup.has_orchestration),
            counts: Counts::all_pending(total),
            slots,
            setup,
            in_flight: BTreeSet::new(),
            wakes: BTreeSet::new(),
            pauses: BTreeSet::new(),
            keeps: BTreeSet::new(),
            give_ups: BTreeSet::new(),
            cursor: 0,
            change: Cause::First,
            sweep_due: false,
            sweep_began_ms: 0,
            sweep_waits: 0,
            sweep_floor: None,
            hold: None,
            held_said: String::new(),
            longest_ms: None,
            asking: None,
            to_settle: VecDeque::new(),
            granted: VecDeque::new(),
            sequence: 0,
            memory: Vec::new(),
            events: VecDeque::new(),
            others: None,
            given_back: HashSet::new(),
            queued: 0,
            connectivity: Connectivity::Connected,
            ending: None,
            stop: None,
            floor: floor::FloorClock::default(),
            forced: 0,
            timed_out: 0,
            now_ms: 0,
            first: Vec::new(),
            requests: OperatorRequests::default(),
            waves: waves::Waves::default(),
            unknown: BTreeSet::new(),
            retries: BTreeSet::new(),
            undoing: false,
            to_undo: None,
            waits: None,
            took: (0, 0),
        };
        rollout.plan_waves();
        if let Some(resumed) = rollout.setup.resumed.take() {
            rollout.take_over(resumed);
            rollout.roster.vouch(rollout.slots.iter().any(|slot| slot.attempt > 0));
        }
        rollout
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
    pub fn state(&self, target: usize) -> TargetStatus {
        self.slots[target].state
    }

    /// How often something was begun on it.
    #[must_use]
    pub fn attempt(&self, target: usize) -> u32 {
        self.slots[target].attempt
    }

    /// What the run came to; none while it goes on.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let at_rest = self.in_flight.is_empty() && self.asking.is_none() && self.first.is_empty();
        let done = self.counts.open() == 0 && !self.invited.goes_on() && !self.has_roll_back_left();
        let over = at_rest && (self.ending.is_some() || done) && !self.has_more_to_undo();
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
        let now = (!self.first.is_empty()).then_some(self.now_ms);
        let keeps = self.keeps.first().map(|(at, _)| *at);
        if self.ending.is_some() {
            return [keeps, now, self.floor_wake_ms()].into_iter().flatten().min();
        }
        // Who is due already waits for something else.
        let retries = self.retries.iter().map(|(at, _)| *at).find(|at| *at > self.now_ms);
        // What nobody can be asked about now is due when that changes.
        let asks = self.can_ask().then(|| {
            let wakes = self.wakes.first().map(|(at, _)| *at);
            let hold = self.hold.and_then(|hold| hold.wake_ms);
            let sweep = self.sweep_due && self.asked_until() > 0 && self.has_room() && !self.open.is_empty();
            [wakes, hold, sweep.then(|| self.next_sweep_ms())].into_iter().flatten().min()
        });
        let pauses = self.pauses.first().map(|(at, _)| *at);
        let give_ups = self.give_ups.first().map(|(at, _)| *at);
        let all = [now, keeps, retries, pauses, give_ups, asks.flatten(), self.floor_wake_ms(), self.baked_ms()];
        all.into_iter().flatten().min()
    }

    /// What follows from an input at `now_ms`, in milliseconds since the Unix epoch.
    ///
    /// # Panics
    /// When the engine breaks the protocol: an answer that nothing asked for.
    pub fn step(&mut self, now_ms: u64, input: Input) -> Vec<Action> {
        self.now_ms = now_ms;
        let mut out = std::mem::take(&mut self.first);
        match input {
            Input::Tick => {}
            Input::ClockSet { by_ms } => self.clock_was_set(by_ms, &mut out),
            Input::Semaphore { leases, queued, slots } => {
                self.follow_slots(slots, &mut out);
                self.semaphore_seen(leases, queued);
            }
            Input::Party(members) => self.party_seen(members),
            Input::PartyUnread => self.roster.forget(),
            Input::Session(connectivity) => self.heard(connectivity, &mut out),
            Input::Admitted { target, answer } => self.admitted(now_ms, target, answer, &mut out),
            Input::Settled { target, answer } => self.settled(now_ms, target, answer, &mut out),
            Input::NotSettled { target, outcome } => self.not_settled(target, outcome, &mut out),
            Input::Leased { target, fence, how } => self.leased(now_ms, target, fence, &how, &mut out),
            Input::NotLeased { target, why } => self.not_leased(now_ms, target, why, &mut out),
            Input::LeaseLost { target, reason, others } => self.lease_lost(now_ms, target, reason, others, &mut out),
            Input::Released { target } => self.released(now_ms, target, None, &mut out),
            Input::NotReleased { target, reason } => self.released(now_ms, target, Some(reason), &mut out),
            Input::Ended { target, result } => self.ended(now_ms, target, result, &mut out),
            Input::Stop(stop) => self.stopped(stop, &mut out),
            Input::Lost { reason, others } => self.lost(reason, others, &mut out),
            Input::Observed { index, seen } => self.observed(index, seen),
            Input::Probed { target, answer } => self.probed(now_ms, target, answer, &mut out),
            Input::Invite { target } => self.invite(target),
            Input::Consult { target } => self.consult(target),
            Input::Undo { target, reason } => self.want_undone(target, reason),
            Input::TakeBack { target } => self.take_back(target, &mut out),
            Input::LeaveOut { target, reason } => self.leave_out(now_ms, target, reason, &mut out),
            Input::Orchestration(what) => self.conducts(what, &mut out),
            Input::OrchestrationEnded(how) => self.orchestration_ended(how, &mut out),
            Input::Requests(requests) => self.steered(requests, &mut out),
            Input::Broken(broken) => self.cut_short(End::Broken(broken), &mut out),
        }
        self.settle_all_found(now_ms, &mut out);
        self.leave_out_the_uninvited(now_ms, &mut out);
        self.check_budget(&mut out);
        self.let_kept_slots_go(now_ms, &mut out);
        self.start_retries(now_ms, &mut out);
        self.end_pauses(now_ms);
        self.give_up_on_held(now_ms, &mut out);
        self.begin_waves(now_ms, &mut out);
        self.undo(now_ms, &mut out);
        self.measure_floor(now_ms, &mut out);
        self.ask(now_ms, &mut out);
        out
    }

    // ------------------------------------------------------------------ what the world did

    /// Our own leases are known before any reading shows them. A queue that grew or shrank starts no sweep: most of that is
    /// our own doing.
    fn semaphore_seen(&mut self, mut leases: Vec<SeenLease>, queued: u32) {
        self.queued = queued;
        let seen: HashSet<Fence> = leases.iter().map(|lease| lease.fence).collect();
        self.given_back.retain(|fence| seen.contains(fence));
        let ours: HashSet<Fence> = self.our_leases().map(|(_, held)| held.fence).collect();
        leases.retain(|lease| !ours.contains(&lease.fence) && !self.given_back.contains(&lease.fence));
        if self.others.as_ref() != Some(&leases) {
            self.others = Some(leases);
            self.changed(Cause::LeasesChanged);
        }
    }

    /// Goes by the number of slots in force, whoever changed it.
    fn follow_slots(&mut self, slots: Option<u32>, out: &mut Vec<Action>) {
        let from = self.setup.limits.slots;
        if let Some(to) = slots.filter(|to| *to > 0 && *to != from) {
            self.setup.limits.slots = to;
            out.push(Action::Emit(Event::SlotsChanged { from, to }));
            self.changed(Cause::LeasesChanged);
        }
    }

    fn party_seen(&mut self, members: Vec<SeenMember>) {
        let slots = &self.slots;
        if self.roster.read(members, |target| slots[target].target.name.to_string()) {
            self.changed(Cause::MembersChanged);
        }
    }

    fn heard(&mut self, connectivity: Connectivity, out: &mut Vec<Action>) {
        if connectivity == Connectivity::Over {
            // Until the next session has read them.
            self.roster.forget();
            self.others = None;
            self.observed.fill(None);
        }
        let before = std::mem::replace(&mut self.connectivity, connectivity);
        if before == connectivity {
            return;
        }
        let state = match (before, connectivity) {
            (Connectivity::Over, Connectivity::Connected) => "reopened",
            (_, Connectivity::Connected) => "connected",
            (_, Connectivity::Suspended) => "suspended",
            (_, Connectivity::Over) => "lost",
        };
        out.push(Action::Emit(Event::Store { state: state.into() }));
        self.changed(Cause::Progressed);
    }

    fn leased(&mut self, now_ms: u64, target: usize, fence: Fence, how: &Got, out: &mut Vec<Action>) {
        self.slots[target].lease = Some(Held { fence, since_ms: now_ms });
        self.wants_no_slot(target);
        if let Some(others) = &mut self.others {
            // A reading may have been quicker.
            others.retain(|lease| lease.fence != fence);
        }
        if self.adopted(now_ms, target, true, out) {
            return;
        }
        self.moved(target, TargetEvent::Leased);
        let name = self.name(target);
        let forcing = self.slots[target].forcing.take();
        if let (Got::Forced, Some(forcing)) = (how, forcing) {
            self.forced += 1;
            self.happened(now_ms, target, EventKind::Forced, &forcing.reason);
            let Forcing { broken, code, reason } = forcing;
            out.push(Action::Emit(Event::Forced { target: name, broken, code, reason, fence }));
        } else {
            self.happened(now_ms, target, EventKind::Leased, "");
            let again = *how == Got::AlreadyHeld;
            let (held, slots) = (self.held(), self.setup.limits.slots);
            out.push(Action::Emit(Event::Leased { target: name, held, slots, fence, again }));
        }
        if self.slots[target].recalled.is_some() && self.slots[target].leaving.is_none() {
            self.undo_now(now_ms, target, out);
        } else if self.slots[target].leaving.is_some() {
            // It came while the place in the queue was being given up.
            self.release_unused(target, "nobody waits for it any more", out);
        } else if self.ending.is_some() {
            self.leave(target, Then::Wait, "the run is stopping", out);
        } else {
            self.granted.push_back(target);
        }
    }

    fn not_leased(&mut self, now_ms: u64, target: usize, why: NotLeased, out: &mut Vec<Action>) {
        self.slots[target].forcing = None;
        if self.adopted(now_ms, target, false, out) {
            return;
        }
        if let Some(last) = self.slots[target].recalled.take() {
            out.push(Action::Save { target, status: self.status_of(target, last) });
            self.slots[target].leaving = None;
            self.moved(target, TargetEvent::Restored(last));
            // Others may have been refused for the slot, or the failure, that it reserved.
            self.changed(Cause::Progressed);
            return;
        }
        match (self.slots[target].leaving.take(), why) {
            (Some(Then::Skip { code, reason }), _) => self.skip(now_ms, target, code, reason, out),
            (None, NotLeased::TimedOut) => self.skip_without_slot(now_ms, target, out),
            (then, NotLeased::Held { by, given_back }) => {
                self.given_back.extend(given_back);
                if then.is_none() {
                    self.held_elsewhere(now_ms, target, by, out);
                } else {
                    self.back_to_waiting(now_ms, target);
                }
            }
            (None, NotLeased::Conflict(reason)) => {
                self.slots[target].refused = Some(reason);
                self.back_to_waiting(now_ms, target);
            }
            (Some(Then::Wait), NotLeased::Gone) => {
                // Its node says that it is leased, and nobody else will say otherwise.
                out.push(Action::Save { target, status: RecordedStatus::Pending });
                self.back_to_waiting(now_ms, target);
            }
            (Some(Then::Wait), _) | (None, NotLeased::Withdrawn | NotLeased::Gone) => {
                self.back_to_waiting(now_ms, target);
            }
        }
        self.changed(Cause::Progressed);
    }

    /// Whatever happens next, it does not act under this slot again.
    fn lease_lost(&mut self, now_ms: u64, target: usize, reason: String, others: Others, out: &mut Vec<Action>) {
        self.slots[target].lease = None;
        self.happened(now_ms, target, EventKind::LeaseLost, &reason);
        out.push(Action::Emit(Event::LeaseLost { target: self.name(target), reason }));
        match self.slots[target].state {
            TargetStatus::Leased => self.leave(target, Then::Wait, "its lease was lost", out),
            TargetStatus::Running | TargetStatus::RollingBack => {
                out.push(Action::Kill { target, ending: Ending::LeaseLost, others: Some(others) });
            }
            _ => {}
        }
        if let Some(at) = self.slots[target].retry_at_ms.take() {
            self.retries.remove(&(at, target));
            out.push(self.release(target));
        }
        if let Some(until) = self.slots[target].keep_until_ms.take() {
            self.keeps.remove(&(until, target));
            out.push(self.release(target));
        }
    }

    fn released(&mut self, now_ms: u64, target: usize, failed: Option<String>, out: &mut Vec<Action>) {
        if let Some(held) = self.slots[target].lease.take() {
            self.given_back.insert(held.fence);
        }
        let name = self.name(target);
        let is_free = failed.is_none();
        if let Some(reason) = failed {
            out.push(Action::Emit(Event::NotReleased { target: name.clone(), reason: reason.clone() }));
            self.cut_short(End::Broken(Broken::Unavailable(reason)), out);
        }
        match (self.slots[target].state, self.slots[target].leaving.take()) {
            (TargetStatus::Leased, Some(Then::Skip { code, reason })) => self.skip(now_ms, target, code, reason, out),
            (TargetStatus::Leased, _) => match self.slots[target].recalled.take() {
                Some(last) => self.not_undone(target, last),
                None => self.back_to_waiting(now_ms, target),
            },
            // It goes again: how it went before is not known, or does not count.
            (TargetStatus::Unsettled | TargetStatus::ActionEnded(_), Some(_)) => {
                self.moved(target, TargetEvent::Reopened)
            }
            _ => {
                self.moved(target, TargetEvent::Released);
                if is_free {
                    self.happened(now_ms, target, EventKind::Released, "");
                    out.push(Action::Emit(Event::Released { target: name }));
                }
                self.check_budget(out);
            }
        }
        self.changed(Cause::Progressed);
    }

    fn ended(&mut self, now_ms: u64, target: usize, result: ActionResult, out: &mut Vec<Action>) {
        let is_lost = matches!(self.ending, Some(End::Lost(_)));
        if result.course == Course::ContactLost && self.stop != Some(Stop::Now) && !is_lost {
            return self.contact_lost(now_ms, target, result, out);
        }
        if result.course == Course::RunnerFailed {
            return self.runner_failed(target, result.detail, out);
        }
        if result.course == Course::NotStarted && result.ending == Ending::Unknown {
            return self.not_started(target, result.detail, out);
        }
        if self.slots[target].state == TargetStatus::RollingBack {
            return self.roll_back_ended(now_ms, target, result, out);
        }
        if self.is_refused_as_stale(target, &result) {
            return self.lease_anew(target, out);
        }
        self.slots[target].stale = 0;
        self.slots[target].unknown_retries = 0;
        // Who was stopped by us half-way may have done it all the same: the next runner asks.
        self.slots[target].undecided = result.ending == Ending::Unknown && self.stop.is_some();
        self.moved(target, TargetEvent::Ended(result.ending));
        let attempt = self.slots[target].attempt;
        let outcome = Outcome { ending: result.ending, exit_code: result.exit_code, took: result.took_ms, attempt };
        let what = match result.ending {
            Ending::Succeeded => EventKind::Succeeded,
            Ending::Unknown => EventKind::Unknown,
            Ending::Failed | Ending::TimedOut | Ending::LeaseLost => EventKind::Failed,
        };
        self.happened(now_ms, target, what, &result.detail);
        self.slots[target].detail.clone_from(&result.detail);
        self.slots[target].took_ms = Some(result.took_ms);
        let ActionResult { ending, took_ms, detail, output, log, .. } = result;
        if ending == Ending::Succeeded {
            self.took = (self.took.0 + 1, self.took.1.saturating_add(took_ms));
            self.longest_ms = self.longest_ms.max(Some(took_ms));
        }
        let target_name = self.name(target);
        out.push(Action::Emit(match ending {
            Ending::Succeeded => Event::Succeeded { target: target_name, took_ms },
            _ => Event::Failed { target: target_name, attempt, ending, detail, took_ms, output, log },
        }));
        match self.stop {
            // Who wants out now does not wait for a policy, and neither does who has lost the run.
            Some(Stop::Now) => out.push(self.release(target)),
            _ if matches!(self.ending, Some(End::Lost(_))) => out.push(self.release(target)),
            // Its slot is not free yet: the others are asked when it is, or is kept.
            _ => self.to_settle.push_back((target, outcome)),
        }
    }

    /// The runner's own machine could not start it: nothing ran, nothing is charged, and nothing new starts.
    fn runner_failed(&mut self, target: usize, reason: String, out: &mut Vec<Action>) {
        self.not_started(target, reason.clone(), out);
        self.cut_short(End::Broken(Broken::Runner(reason)), out);
    }

    /// It was announced, and nothing of it ran: it goes again, and that was no attempt.
    fn not_started(&mut self, target: usize, reason: String, out: &mut Vec<Action>) {
        out.push(Action::Emit(Event::ReleasedUnused { target: self.name(target), reason }));
        if self.slots[target].state == TargetStatus::RollingBack {
            self.moved(target, TargetEvent::Unsettled);
            self.roll_back_anew(target, out);
        } else {
            self.moved(target, TargetEvent::Ended(Ending::Failed));
            let slot = &mut self.slots[target];
            slot.tried_before = (slot.tried_before + 1).min(slot.attempt);
            self.reopen(target, out);
        }
    }

    /// What its policy says of its end could not be written down: the next runner asks.
    fn not_settled(&mut self, target: usize, outcome: Outcome, out: &mut Vec<Action>) {
        self.answered(target);
        let Outcome { ending, exit_code, took, .. } = outcome;
        match ending {
            Ending::Unknown => out.push(self.release(target)),
            _ => {
                let detail = self.slots[target].detail.clone();
                let status = RecordedStatus::ActionEnded { ending, exit_code, took_ms: took, detail };
                out.push(Action::Release { target, status });
            }
        }
    }

    /// Whether the far end refused the fence, and so started nothing: a later one was there.
    fn is_refused_as_stale(&self, target: usize, result: &ActionResult) -> bool {
        let slot = &self.slots[target];
        let Some(held) = slot.lease else { return false };
        let mark = stale_mark(held.fence.get());
        result.exit_code == Some(STALE_EXIT)
            && result.output.iter().any(|line| line.contains(&mark))
            && slot.stale < MOST_STALE
            && self.ending.is_none()
    }

    /// Another lease has a later fence. What was refused before it began counts as no attempt.
    fn lease_anew(&mut self, target: usize, out: &mut Vec<Action>) {
        self.moved(target, TargetEvent::Ended(Ending::Failed));
        let slot = &mut self.slots[target];
        slot.stale += 1;
        slot.tried_before = (slot.tried_before + 1).min(slot.attempt);
        let (attempt, target_name) = (slot.attempt + 1, slot.target.name.to_string());
        let reason = "the far end refused the fence as stale and started nothing: it gets a new lease".to_owned();
        out.push(Action::Emit(Event::Retrying { target: target_name, attempt, reason, after_ms: 0 }));
        self.reopen(target, out);
    }

    fn stopped(&mut self, stop: Stop, out: &mut Vec<Action>) {
        if self.stop >= Some(stop) {
            return;
        }
        self.stop = Some(stop);
        self.cut_short(End::Interrupted, out);
        if stop == Stop::Now {
            let kill = |target| Action::Kill { target, ending: Ending::Unknown, others: None };
            out.extend(self.under_way().into_iter().map(kill));
            for target in self.in_flight.clone() {
                if self.slots[target].state == TargetStatus::Unsettled {
                    self.leave_undecided(target, out);
                }
            }
            let left: Vec<usize> = self.to_settle.drain(..).map(|(target, _)| target).collect();
            out.extend(left.into_iter().map(|target| self.release(target)));
        }
        // Nobody bakes any more.
        for (_, target) in std::mem::take(&mut self.keeps) {
            self.slots[target].keep_until_ms = None;
            out.push(self.release(target));
        }
    }

    /// Whatever acts is stopped before somebody else may act in its place.
    fn lost(&mut self, reason: String, others: Others, out: &mut Vec<Action>) {
        if !matches!(self.ending, Some(End::Lost(_))) {
            // Whatever it ended for: it is somebody else's now.
            self.ending = None;
            self.undoing = false;
            self.end(End::Lost(reason), out);
        }
        let kill = |target| Action::Kill { target, ending: Ending::Unknown, others: Some(others) };
        out.extend(self.under_way().into_iter().map(kill));
        // Whoever goes on with it knows as much from the store.
        self.stop = self.stop.max(Some(Stop::Gently));
        for target in self.in_flight.clone() {
            if self.slots[target].state == TargetStatus::Unsettled {
                self.leave_undecided(target, out);
            }
        }
        for (_, target) in std::mem::take(&mut self.keeps) {
            self.slots[target].keep_until_ms = None;
            out.push(self.release(target));
        }
        let left: Vec<usize> = self.to_settle.drain(..).map(|(target, _)| target).collect();
        out.extend(left.into_iter().map(|target| self.release(target)));
    }

    /// Those whose command runs.
    fn under_way(&self) -> Vec<usize> {
        let runs =
            |target: &usize| matches!(self.slots[*target].state, TargetStatus::Running | TargetStatus::RollingBack);
        self.in_flight.iter().copied().filter(runs).collect()
    }

    /// One of those that the job only looks at.
    fn observed(&mut self, index: usize, seen: Option<Observed>) {
        let Some(before) = self.observed.get_mut(index) else { return };
        if *before != seen {
            let cause = match seen {
                Some(Observed::Party(_)) => Cause::MembersChanged,
                _ => Cause::LeasesChanged,
            };
            *before = seen;
            self.changed(cause);
        }
    }

    // ------------------------------------------------------------------ what the policy said

    fn admitted(&mut self, now_ms: u64, target: usize, answer: Result<Admitted, Fault>, out: &mut Vec<Action>) {
        let question = self.answered(target);
        let is_open = self.slots[target].state.is_open() && question != Question::Consulted;
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                if is_open {
                    self.moved(target, TargetEvent::Deferred);
                }
                return self.fault(target, fault, out);
            }
        };
        self.memory = answer.memory;
        let Admitted { verdict, code, reason, wake_after, .. } = answer;
        if question == Question::Consulted {
            return out.push(Action::Advise { target, advice: Advice { verdict, code, reason, wake_after } });
        }
        if verdict == Admission::Abort || self.ending.is_some() {
            if is_open {
                self.moved(target, TargetEvent::Deferred);
            }
            if verdict == Admission::Abort {
                self.end(aborted(&reason), out);
            }
            return;
        }
        if let Some(after) = wake_after {
            let crowd = self.open.len() as u64 / WAKES_EACH_MS;
            self.wake_at(target, now_ms.saturating_add(after.max(millis(SHORTEST_WAKE)).max(crowd)));
        }
        let said = Verdict { code, reason, ask_again_ms: wake_after };
        match (question, self.slots[target].state) {
            // What it answers came too late: the place or the slot is being given up.
            _ if self.slots[target].leaving.is_some() => {}
            (Question::Open, TargetStatus::Pending | TargetStatus::Waiting) if !self.invited.is(target) => {
                self.moved(target, TargetEvent::Deferred);
            }
            (Question::Open, TargetStatus::Pending | TargetStatus::Waiting) => {
                self.admitted_in_the_open(now_ms, target, verdict, said, out);
            }
            (Question::InQueue, TargetStatus::Queued | TargetStatus::Leased) => {
                self.admitted_in_queue(now_ms, target, &verdict, said, out);
            }
            (Question::Granted, TargetStatus::Leased) => self.admitted_with_slot(now_ms, target, &verdict, said, out),
            // It went on meanwhile, and is asked about where it stands now.
            _ => {}
        }
    }

    /// Its slot is held: only `lock` and `force` start it.
    fn admitted_with_slot(
        &mut self,
        now_ms: u64,
        target: usize,
        verdict: &Admission,
        said: Verdict,
        out: &mut Vec<Action>,
    ) {
        match verdict {
            Admission::Lock | Admission::Force(_) => match self.may(now_ms, Gate::Start, target) {
                Ok(()) => {
                    self.slots[target].attempt += 1;
                    self.start(now_ms, target, out);
                }
                Err(refusal) => {
                    self.refused(now_ms, target, &refusal, out);
                    self.leave(target, Then::Wait, "a hard limit refuses it now", out);
                }
            },
            other => self.leave_as_said(now_ms, target, other, said, out),
        }
    }

    /// It queues and was woken: anything but `lock` takes it out of the queue.
    fn admitted_in_queue(
        &mut self,
        now_ms: u64,
        target: usize,
        verdict: &Admission,
        said: Verdict,
        out: &mut Vec<Action>,
    ) {
        match verdict {
            Admission::Lock => {}
            other => self.leave_as_said(now_ms, target, other, said, out),
        }
    }

    fn leave_as_said(&mut self, now_ms: u64, target: usize, verdict: &Admission, said: Verdict, out: &mut Vec<Action>) {
        let reason = said.reason.clone();
        let then = match verdict {
            Admission::Skip => Then::Skip { code: said.code, reason: said.reason },
            Admission::Hold => {
                self.hold(now_ms, said, out);
                Then::Wait
            }
            _ => {
                self.say_waiting(target, said, out);
                Then::Wait
            }
        };
        self.leave(target, then, &reason, out);
    }

    fn admitted_in_the_open(
        &mut self,
        now_ms: u64,
        target: usize,
        verdict: Admission,
        said: Verdict,
        out: &mut Vec<Action>,
    ) {
        let allowed = match &verdict {
            Admission::Lock => self.may(now_ms, Gate::Queue, target),
            // The lease that is in the way may be among those that are broken.
            Admission::Force(victims) => self.may_force(now_ms, target, victims),
            _ => Ok(()),
        };
        if !matches!(verdict, Admission::Lock | Admission::Force(_)) {
            self.wants_no_slot(target);
        }
        if let Err(refusal) = allowed {
            self.moved(target, TargetEvent::Deferred);
            return self.refused(now_ms, target, &refusal, out);
        }
        match verdict {
            Admission::Lock => {
                self.moved(target, TargetEvent::Queued);
                let give_up_at_ms = self.wants_slot(now_ms, target);
                out.push(Action::Emit(Event::Queued { target: self.name(target) }));
                out.push(Action::Acquire { target, give_up_at_ms, status: RecordedStatus::Leased });
            }
            Admission::Force(victims) => {
                self.moved(target, TargetEvent::Queued);
                let breaking = victims.iter().copied().map(Fence::new).collect();
                let reason = said.reason.clone();
                self.slots[target].forcing = Some(Forcing { broken: victims, code: said.code, reason: said.reason });
                out.push(Action::Force { target, breaking, reason });
            }
            Admission::Skip => self.skip(now_ms, target, said.code, said.reason, out),
            Admission::Hold => {
                self.moved(target, TargetEvent::Deferred);
                self.hold(now_ms, said, out);
            }
            Admission::Wait | Admission::Abort => {
                self.moved(target, TargetEvent::Deferred);
                self.sweep_waits += 1;
                self.say_waiting(target, said, out);
            }
        }
    }

    fn settled(&mut self, now_ms: u64, target: usize, answer: Result<Settled, Fault>, out: &mut Vec<Action>) {
        self.answered(target);
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                out.push(self.release(target));
                return self.fault(target, fault, out);
            }
        };
        self.memory = answer.memory;
        if self.stop == Some(Stop::Now) || matches!(self.ending, Some(End::Lost(_))) {
            return out.push(self.release(target));
        }
        match answer.verdict {
            Settlement::Keep(keep_ms) if self.stop.is_none() && self.slots[target].lease.is_some() => {
                let until = now_ms.saturating_add(keep_ms);
                self.slots[target].keep_until_ms = Some(until);
                self.keeps.insert((until, target));
                self.changed(Cause::Progressed);
                if let TargetStatus::ActionEnded(ending) = self.slots[target].state {
                    let took_ms = self.slots[target].took_ms.unwrap_or(0);
                    let status = RecordedStatus::KeepingSlot { ending, exit_code: None, took_ms, until };
                    out.push(Action::Save { target, status });
                }
                out.push(Action::Emit(Event::KeepingSlot {
                    target: self.name(target),
                    keep_ms,
                    reason: answer.reason,
                }));
            }
            // An earlier runner's try, whose lease is gone: it queues like for the first.
            Settlement::Retry if self.may_go_again(target) && self.slots[target].without_slot => {
                self.reopen(target, out);
            }
            Settlement::Retry if self.slots[target].lease.is_none() => out.push(self.release(target)),
            Settlement::Retry if self.may_go_again(target) && !self.setup.back_off.is_zero() => {
                self.rest(now_ms, target, answer.reason, out);
            }
            Settlement::Retry if self.may_go_again(target) => {
                if self.may(now_ms, Gate::Start, target).is_ok() {
                    out.push(Action::Emit(Event::Retrying {
                        target: self.name(target),
                        attempt: self.slots[target].attempt + 1,
                        reason: answer.reason,
                        after_ms: 0,
                    }));
                }
                self.retry(now_ms, target, out);
            }
            // Without another try, what failed has failed.
            Settlement::Release | Settlement::Keep(_) | Settlement::Retry => out.push(self.release(target)),
            Settlement::RollBack if self.setup.can_roll_back && self.slots[target].lease.is_some() => {
                self.roll_back(now_ms, target, answer.reason, out);
            }
            // What it acted under is somebody else's by now.
            Settlement::RollBack if self.setup.can_roll_back => out.push(self.release(target)),
            Settlement::RollBack => {
                out.push(self.release(target));
                let message = "the policy answered `roll-back`, and the job has no command for that".to_owned();
                let hint = Some("give it one: `[action]` with `roll-back`".to_owned());
                self.fault(target, Fault { kind: "not-supported", message, hint }, out);
            }
            Settlement::Abort => {
                out.push(self.release(target));
                self.end(aborted(&answer.reason), out);
            }
        }
    }

    fn answered(&mut self, target: usize) -> Question {
        match self.asking.take() {
            Some((asked, question)) if asked == target => question,
            other => panic!("an answer about target {target} came while {other:?} was asked about"),
        }
    }

    fn fault(&mut self, target: usize, fault: Fault, out: &mut Vec<Action>) {
        let Fault { kind, message, hint } = fault.clone();
        out.push(Action::Emit(Event::PolicyFault { target: self.name(target), kind: kind.into(), message, hint }));
        match self.setup.on_fault {
            OnFault::Hold => self.end(End::Held(fault), out),
            OnFault::Abort => self.end(End::Faulted(fault), out),
        }
    }

    // ------------------------------------------------------------------ the hard limits

    /// As [`Self::may`], for a force that breaks the leases of those fences.
    fn may_force(&self, now_ms: u64, target: usize, victims: &[u64]) -> Result<(), Box<Refused>> {
        let mut facts = self.facts(now_ms, target, Gate::Queue);
        facts.held = self.held_by_another(target, |lease| !victims.contains(&lease.fence.get()));
        self.setup.limits.allow_one_more(&facts).map_err(|refusal| Box::new(Refused { refusal, facts }))
    }

    /// The oldest lease under the target's name that is not ours, among those that count.
    fn held_by_another(&self, target: usize, counts: impl Fn(&SeenLease) -> bool) -> Option<HeldElsewhere> {
        let name = self.slots[target].target.name.as_str();
        let mut others = self.others.iter().flatten().filter(|lease| lease.identifier == name && counts(lease));
        let lease = others.next()?;
        let kind = if lease.ephemeral { "an ephemeral lease" } else { "a persistent lease" };
        let by = lease.owner.clone().unwrap_or_else(|| format!("{kind} of `{name}`"));
        Some(HeldElsewhere { by, since: Some(lease.since_ms) })
    }

    /// From now on it wants a slot, if it did not yet; until when, if the job limits that.
    fn wants_slot(&mut self, now_ms: u64, target: usize) -> Option<u64> {
        let since = *self.slots[target].wants_slot_since_ms.get_or_insert(now_ms);
        self.setup.patience.map(|patience| since.saturating_add(millis(patience)))
    }

    fn wants_no_slot(&mut self, target: usize) {
        let slot = &mut self.slots[target];
        if let (Some(since), Some(patience)) = (slot.wants_slot_since_ms.take(), self.setup.patience) {
            self.give_ups.remove(&(since.saturating_add(millis(patience)), target));
        }
        slot.held_by = None;
    }

    /// Another holder acts under its name. It waits outside the queue, and is asked about again when that may have changed.
    fn held_elsewhere(&mut self, now_ms: u64, target: usize, by: HeldElsewhere, out: &mut Vec<Action>) {
        let refusal = Refusal::Held { by: by.clone() };
        let facts = Facts { held: Some(by), ..self.facts(now_ms, target, Gate::Queue) };
        // It is no policy that cannot make up its mind: the pause stays short.
        self.slots[target].left = self.slots[target].left.min(MOST_HELD_DOUBLINGS);
        self.back_to_waiting(now_ms, target);
        self.refused(now_ms, target, &Refused { refusal, facts }, out);
    }

    /// Those that another holder kept waiting for as long as the job allows.
    fn give_up_on_held(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        while let Some(&(at, target)) = self.give_ups.first() {
            if at > now_ms {
                break;
            }
            self.give_ups.pop_first();
            // One that queues by now has the same deadline there.
            if self.ending.is_none() && self.slots[target].state.is_open() && self.slots[target].held_by.is_some() {
                self.skip_without_slot(now_ms, target, out);
            }
        }
    }

    /// No slot came in time: it is skipped, and the reason names who was in its way.
    fn skip_without_slot(&mut self, now_ms: u64, target: usize, out: &mut Vec<Action>) {
        self.timed_out += 1;
        let waited = humantime::format_duration(self.setup.patience.unwrap_or_default());
        let reason = match self.slots[target].held_by.take() {
            Some(by) => format!("no slot within {waited}: another holder acts under this name: {by}"),
            None => format!("no slot within {waited}{}", self.holders_now()),
        };
        self.wants_no_slot(target);
        self.skip(now_ms, target, "timed-out".to_owned(), reason, out);
    }

    /// Who else held slots when the semaphore was read last, for a reason.
    fn holders_now(&self) -> String {
        let others: Vec<&SeenLease> = self.others.iter().flatten().collect();
        let names: Vec<String> =
            others.iter().take(MOST_HOLDERS).map(|lease| format!("`{}`", lease.identifier)).collect();
        match (names.as_slice(), others.len().saturating_sub(MOST_HOLDERS)) {
            ([], _) => String::new(),
            (names, 0) => format!(": held by {}", names.join(", ")),
            (names, more) => format!(": held by {} and {more} more", names.join(", ")),
        }
    }

    fn may(&self, now_ms: u64, gate: Gate, target: usize) -> Result<(), Box<Refused>> {
        let facts = self.facts(now_ms, target, gate);
        self.setup.limits.allow_one_more(&facts).map_err(|refusal| Box::new(Refused { refusal, facts }))
    }

    /// The rest of a retry's conditions.
    fn may_go_again(&self, target: usize) -> bool {
        let slot = &self.slots[target];
        matches!(slot.state, TargetStatus::ActionEnded(Ending::Failed | Ending::TimedOut))
            && self.has_attempts_left(target)
            && self.ending.is_none()
    }

    fn has_attempts_left(&self, target: usize) -> bool {
        let slot = &self.slots[target];
        slot.attempt - slot.tried_before < self.setup.attempts
    }

    /// It keeps its slot for a while, and is tried again then.
    fn rest(&mut self, now_ms: u64, target: usize, reason: String, out: &mut Vec<Action>) {
        let slot = &mut self.slots[target];
        let tries = slot.attempt - slot.tried_before;
        let back_off = millis(self.setup.back_off);
        let after_ms = back_off.saturating_mul(1 << tries.saturating_sub(1).min(MOST_DOUBLINGS));
        // A job that says more has it so from the first on.
        let after_ms = after_ms.min(millis(LONGEST_BACK_OFF).max(back_off));
        let until = now_ms.saturating_add(after_ms);
        slot.retry_at_ms = Some(until);
        self.retries.insert((until, target));
        if let TargetStatus::ActionEnded(ending) = slot.state {
            out.push(Action::Save { target, status: RecordedStatus::Retrying { ending, until } });
        }
        let attempt = slot.attempt + 1;
        out.push(Action::Emit(Event::Retrying { target: self.name(target), attempt, reason, after_ms }));
    }

    /// Those who have rested long enough.
    fn start_retries(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        let due: Vec<(u64, usize)> = self.retries.range(..=(now_ms, usize::MAX)).copied().collect();
        for (at, target) in due {
            // After a takeover its lease may not have been taken over yet, nor the party been read.
            if self.slots[target].lease.is_none() || (!self.roster.is_known() && self.setup.party.is_some()) {
                continue;
            }
            self.retries.remove(&(at, target));
            self.slots[target].retry_at_ms = None;
            self.retry(now_ms, target, out);
        }
    }

    /// Another try under the slot that it holds, if the limits allow it now.
    fn retry(&mut self, now_ms: u64, target: usize, out: &mut Vec<Action>) {
        match self.may(now_ms, Gate::Start, target) {
            Ok(()) => {
                self.slots[target].attempt += 1;
                self.start(now_ms, target, out);
            }
            Err(refused) => {
                self.say_refused(target, &refused, out);
                let passes = match refused.refusal {
                    // An operator says how to continue, or the run ends.
                    Refusal::BudgetSpent { .. } => self.setup.on_exhausted == OnExhausted::Pause,
                    _ => true,
                };
                if passes {
                    // Its tries are not used up: it goes when its turn comes again.
                    let reason = "a hard limit refuses its next try now".to_owned();
                    out.push(Action::Emit(Event::ReleasedUnused { target: self.name(target), reason }));
                    self.reopen(target, out);
                } else {
                    out.push(self.release(target));
                }
            }
        }
    }

    /// To queue, whatever is in flight counts as if it acted already, so that no slot is taken that could not be used.
    fn facts(&self, now_ms: u64, target: usize, gate: Gate) -> Facts {
        let (mut in_flight, mut reserved, mut leaving) = (0, 0, vec![target]);
        for other in self.in_flight.iter().copied().filter(|other| *other != target) {
            in_flight += 1;
            let (may_be_down, may_fail) = match self.slots[other].state {
                TargetStatus::Running | TargetStatus::Unsettled | TargetStatus::RollingBack => (true, true),
                // Its slot is still held, so that the party may not have heard of it yet. And until its success is written
                // down, with its slot given back or kept, a next runner finds it acting, and may have to charge it.
                TargetStatus::ActionEnded(Ending::Succeeded) => (true, self.slots[other].keep_until_ms.is_none()),
                TargetStatus::ActionEnded(_) => (true, true),
                TargetStatus::RollBackEnded(_) => (true, true),
                _ => (gate == Gate::Queue, gate == Gate::Queue),
            };
            if may_be_down {
                leaving.push(other);
            }
            // Who has failed counts as that.
            reserved += u32::from(may_fail && !self.has_failed(other));
        }
        Facts {
            in_flight,
            reserved,
            failed: self.failed_before(target),
            remaining: self.roster.is_known().then(|| self.roster.remaining(leaving.into_iter())),
            strangers: self.setup.party.as_ref().and_then(|party| self.roster.strangers(party)),
            connected: self.connectivity == Connectivity::Connected,
            now_ms,
            usual_ms: self.longest_ms.or_else(|| self.setup.action_timeout.map(millis)),
            paused: self.requests.paused.clone(),
            unknown: self.unknown_held().map(|target| self.name(target)),
            wave_spent: self.wave_spent_before(target),
            wave: self.wave_gate(now_ms, target),
            // Under its slot the claim keeps others away.
            held: self.held_by_another(target, |_| gate == Gate::Queue),
        }
    }

    /// A hard limit says no. The floor may allow another target, which is not in the party; all others are everybody's, so
    /// nobody is asked until something changes.
    fn refused(&mut self, now_ms: u64, target: usize, refused: &Refused, out: &mut Vec<Action>) {
        let refusal = &refused.refusal;
        self.slots[target].refused = Some(refusal.to_string());
        match refusal {
            // Only this target's: the others are asked about.
            Refusal::Held { by } => {
                self.slots[target].held_by = Some(by.clone());
                if let Some(until) = self.wants_slot(now_ms, target) {
                    self.give_ups.insert((until, target));
                }
            }
            Refusal::Floor { .. } => {
                self.sweep_floor = Some(self.takes_a_member(target));
            }
            refusal => {
                let from = if matches!(refusal, Refusal::Wave { .. }) { self.wave_start(target) } else { 0 };
                if self.hold.is_none_or(|hold| hold.from >= from) {
                    self.hold = Some(Hold { wake_ms: refusal.changes_ms(), from });
                }
            }
        }
        self.say_refused(target, refused, out);
    }

    fn say_refused(&mut self, target: usize, Refused { refusal, facts }: &Refused, out: &mut Vec<Action>) {
        let reason = refusal.to_string();
        let (code, until) = (refusal.code().to_owned(), refusal.changes_ms());
        self.waits = Some(Blocker { code, reason: reason.clone(), until });
        // One that is about this target alone is said once for it, the others once for all.
        let said = match refusal {
            Refusal::Held { .. } => &mut self.slots[target].said,
            _ => &mut self.held_said,
        };
        if *said != reason {
            said.clone_from(&reason);
            let (limit, until, facts) = (refusal.code().into(), refusal.changes_ms(), Some(Box::new(facts.clone())));
            out.push(Action::Emit(Event::Refused { target: self.name(target), limit, reason, until, facts }));
        }
    }

    // ------------------------------------------------------------------ what is done

    fn start(&mut self, now_ms: u64, target: usize, out: &mut Vec<Action>) {
        let fence = self.slots[target].lease.expect("a target whose lease is lost leaves, and is not started").fence;
        let attempt = self.slots[target].attempt;
        self.slots[target].fence = fence;
        self.slots[target].left = 0;
        self.slots[target].without_slot = false;
        self.slots[target].before_roll_back = None;
        self.waits = None;
        self.moved(target, TargetEvent::Started);
        self.happened(now_ms, target, EventKind::Started, "");
        out.push(Action::Emit(Event::Started { target: self.name(target), attempt, fence }));
        out.push(Action::Start {
            target,
            command_kind: CommandKind::Action,
            attempt,
            fence,
            status: RecordedStatus::Running,
        });
    }

    /// Out of the queue, or its slot given back unused. Said once: the answer brings [`Self::back_to_waiting`] or a skip.
    fn leave(&mut self, target: usize, then: Then, reason: &str, out: &mut Vec<Action>) {
        if self.slots[target].leaving.is_some() {
            return;
        }
        self.slots[target].leaving = Some(then);
        match self.slots[target].state {
            TargetStatus::Queued => out.push(Action::Withdraw { target }),
            _ => self.release_unused(target, reason, out),
        }
    }

    /// Its slot goes, and its node says where it stands then.
    fn release(&self, target: usize) -> Action {
        Action::Release { target, status: self.status_without_slot(target) }
    }

    /// Where it stands once its slot is free.
    fn status_without_slot(&self, target: usize) -> RecordedStatus {
        let slot = &self.slots[target];
        let reason = || slot.detail.clone();
        match (slot.state, &slot.leaving) {
            (TargetStatus::ActionEnded(Ending::Unknown), _) if slot.undecided => RecordedStatus::Running,
            (TargetStatus::Leased, _) if slot.recalled.is_some() => {
                self.status_of(target, slot.recalled.unwrap_or(FinalStatus::Unknown))
            }
            (TargetStatus::ActionEnded(Ending::Succeeded), _) => RecordedStatus::Succeeded { took_ms: slot.took_ms },
            (TargetStatus::ActionEnded(Ending::Unknown), _) => RecordedStatus::Unknown { reason: reason(), was: None },
            (TargetStatus::ActionEnded(_), _) => RecordedStatus::Failed { reason: reason(), was: None },
            (_, Some(Then::Skip { code, reason })) => {
                RecordedStatus::Skipped { code: code.clone(), reason: reason.clone() }
            }
            _ => RecordedStatus::Pending,
        }
    }

    fn release_unused(&mut self, target: usize, reason: &str, out: &mut Vec<Action>) {
        out.push(Action::Emit(Event::ReleasedUnused { target: self.name(target), reason: reason.to_owned() }));
        out.push(self.release(target));
    }

    fn back_to_waiting(&mut self, now_ms: u64, target: usize) {
        self.moved(target, TargetEvent::ReleasedUnused);
        let slot = &mut self.slots[target];
        let pause = millis(FIRST_PAUSE) << slot.left.min(MOST_DOUBLINGS);
        slot.left = slot.left.saturating_add(1);
        self.open.remove(&target);
        self.pauses.insert((now_ms.saturating_add(pause), target));
    }

    fn end_pauses(&mut self, now_ms: u64) {
        while let Some(&(at, target)) = self.pauses.first() {
            if at > now_ms {
                break;
            }
            self.pauses.pop_first();
            if self.invited.is(target) {
                self.open.insert(target);
            }
            // The sweep under way asks it, too.
            self.cursor = self.cursor.min(target);
        }
    }

    fn skip(&mut self, now_ms: u64, target: usize, code: String, reason: String, out: &mut Vec<Action>) {
        // Without a slot nobody has written that down yet.
        if !matches!(self.slots[target].state, TargetStatus::Leased) {
            let status = RecordedStatus::Skipped { code: code.clone(), reason: reason.clone() };
            out.push(Action::Save { target, status });
        }
        self.moved(target, TargetEvent::Skipped);
        self.happened(now_ms, target, EventKind::Skipped, &reason);
        out.push(Action::Emit(Event::Skipped { target: self.name(target), code, reason }));
    }

    /// From now on nothing starts: queues are left and unused slots given back. The first reason stays.
    fn end(&mut self, end: End, out: &mut Vec<Action>) {
        let running = self.counts.running;
        if self.ending.is_none() {
            out.push(Action::Emit(Event::Stopping { reason: end.reason(), running }));
            self.ending = Some(end);
        }
        for target in self.in_flight.clone() {
            if matches!(self.slots[target].state, TargetStatus::Queued | TargetStatus::Leased) {
                self.leave(target, Then::Wait, "the run is stopping", out);
            }
        }
        // Nobody rests before another try any more.
        for (_, target) in std::mem::take(&mut self.retries) {
            self.slots[target].retry_at_ms = None;
            out.push(self.release(target));
        }
    }

    /// An end that ends undoing, too: with what is left to be undone somebody goes on another time.
    fn cut_short(&mut self, end: End, out: &mut Vec<Action>) {
        if self.undoing {
            self.undoing = false;
            self.ending = None;
        }
        self.end(end, out);
    }

    fn let_kept_slots_go(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        while let Some(&(at, target)) = self.keeps.first() {
            if at > now_ms {
                break;
            }
            self.keeps.pop_first();
            self.slots[target].keep_until_ms = None;
            out.push(self.release(target));
        }
    }

    // ------------------------------------------------------------------ asking

    fn ask(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        if self.asking.is_some() {
            return;
        }
        if let Some((target, outcome)) = self.to_settle.pop_front() {
            self.asking = Some((target, Question::ActionEnded));
            let view = self.view(now_ms, target, Cause::Progressed);
            out.push(Action::Settle { target, view: Box::new(view), outcome });
            return;
        }
        if self.ending.is_some() || !self.can_ask() {
            return;
        }
        while let Some(target) = self.granted.pop_front() {
            let slot = &self.slots[target];
            if slot.state == TargetStatus::Leased && slot.leaving.is_none() {
                return self.ask_about(now_ms, target, Question::Granted, Cause::Granted, out);
            }
        }
        if let Some(target) = self.invited.next_consulted() {
            self.asking = Some((target, Question::Consulted));
            let view = Box::new(self.view(now_ms, target, Cause::Operator(ORCHESTRATION.to_owned())));
            return out.push(Action::Admit { target, view });
        }
        if self.hold.is_some_and(|hold| hold.wake_ms.is_some_and(|at| at <= now_ms)) {
            self.changed(Cause::Woken);
        }
        if let Some((target, question)) = self.next_woken(now_ms) {
            return self.ask_about(now_ms, target, question, Cause::Woken, out);
        }
        let until = self.asked_until();
        if until == 0 || !self.has_room() {
            return;
        }
        if self.sweep_due && self.next_sweep_ms() <= now_ms {
            self.sweep_due = false;
            self.sweep_began_ms = now_ms;
            self.sweep_waits = 0;
            self.sweep_floor = None;
            self.cursor = 0;
        }
        let may_go = |target: &usize| match self.sweep_floor {
            Some(takes_a_member) => takes_a_member && !self.takes_a_member(*target),
            None => true,
        };
        let next = self.open.range(self.cursor.min(until)..until).copied().find(may_go);
        self.cursor = next.map_or(self.slots.len(), |target| target + 1);
        if let Some(target) = next {
            let cause = match (self.slots[target].refused.take(), self.slots[target].asked) {
                (Some(reason), _) => Cause::Refused(reason),
                (None, false) => Cause::First,
                (None, true) => self.change.clone(),
            };
            self.ask_about(now_ms, target, Question::Open, cause, out);
        }
    }

    /// Whether what a policy would be shown is known.
    fn can_ask(&self) -> bool {
        self.connectivity == Connectivity::Connected
            && self.others.is_some()
            && (self.roster.is_known() || self.setup.party.is_none())
            && self.observed.iter().all(Option::is_some)
    }

    fn next_sweep_ms(&self) -> u64 {
        self.sweep_began_ms.saturating_add(self.sweep_waits / WAITS_EACH_MS)
    }

    /// A target whose wake is due and that can be asked about now.
    fn next_woken(&mut self, now_ms: u64) -> Option<(usize, Question)> {
        while let Some(&(at, target)) = self.wakes.first() {
            if at > now_ms {
                return None;
            }
            self.wakes.pop_first();
            let slot = &mut self.slots[target];
            slot.wake_ms = None;
            if slot.state == TargetStatus::Queued && slot.forcing.is_none() && slot.leaving.is_none() {
                return Some((target, Question::InQueue));
            }
            // Without room the sweep that follows room asks it anyway.
            let is_asked = target < self.asked_until();
            if is_asked && self.open.contains(&target) && self.has_room() {
                return Some((target, Question::Open));
            }
        }
        None
    }

    fn has_room(&self) -> bool {
        count(self.in_flight.len()) < self.setup.limits.slots
    }

    fn ask_about(&mut self, now_ms: u64, target: usize, question: Question, cause: Cause, out: &mut Vec<Action>) {
        self.asking = Some((target, question));
        let view = self.view(now_ms, target, cause);
        self.slots[target].asked = true;
        out.push(Action::Admit { target, view: Box::new(view) });
    }

    /// Something that views show has changed: a new sweep, and an end to holding.
    fn changed(&mut self, cause: Cause) {
        self.hold = None;
        self.sweep_due = true;
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
        self.hold = Some(Hold { wake_ms, from: 0 });
        self.waits = Some(said.waits(wake_ms));
        let line = said.line();
        if self.held_said != line {
            self.held_said = line;
            let Verdict { code, reason, ask_again_ms } = said;
            out.push(Action::Emit(Event::Holding { code, reason, ask_again_ms }));
        }
    }

    fn say_waiting(&mut self, target: usize, said: Verdict, out: &mut Vec<Action>) {
        self.waits = Some(said.waits(self.slots[target].wake_ms));
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
        let wave = self.wave_of(target).unwrap_or_default().to_owned();
        let slot = &mut self.slots[target];
        let waiting_since = *slot.waiting_since_ms.get_or_insert(now_ms);
        let labels = slot.target.labels.iter();
        let about = contract::Target {
            name: slot.target.name.to_string(),
            labels: labels.map(|(key, value)| contract::Label { key: key.clone(), value: value.clone() }).collect(),
            wave,
            attempt: slot.attempt.max(1),
            waiting_since,
        };
        contract::View {
            sequence,
            now: now_ms,
            seed: mix(self.setup.seed, sequence),
            cause,
            target: about,
            semaphore: self.semaphore_view(),
            party: self.party_view(target),
            other_semaphores: self.other_semaphores(),
            other_parties: self.other_parties(),
            progress: self.progress(),
            events: self.events.iter().cloned().collect(),
        }
    }

    /// Other people's leases as last read, and our own.
    fn semaphore_view(&self) -> contract::Semaphore {
        let alive = |identifier: &str| self.roster.is_alive(self.setup.party.as_ref()?, identifier);
        let others = self.others.iter().flatten().map(|lease| contract::Lease {
            alive: alive(&lease.identifier),
            identifier: lease.identifier.clone(),
            fence: lease.fence.get(),
            since: lease.since_ms,
            ephemeral: lease.ephemeral,
            mine: false,
        });
        let ours = self.our_leases().map(|(target, held)| contract::Lease {
            alive: alive(target.name.as_str()),
            identifier: target.name.to_string(),
            fence: held.fence.get(),
            since: held.since_ms,
            ephemeral: self.setup.lifetime == Lifetime::Ephemeral,
            mine: true,
        });
        let mut leases: Vec<contract::Lease> = others.chain(ours).collect();
        leases.sort_by_key(|lease| lease.fence);
        contract::Semaphore {
            path: self.setup.semaphore.clone(),
            slots: self.setup.limits.slots,
            leases,
            queued: self.queued,
        }
    }

    fn other_semaphores(&self) -> Vec<contract::Semaphore> {
        let pairs = self.setup.observe.iter().zip(&self.observed);
        let semaphores = pairs.filter_map(|pair| match pair {
            (ObserveSpec::Semaphore(path), Some(Observed::Semaphore { slots, leases, queued })) => {
                let lease = |lease: &SeenLease| contract::Lease {
                    identifier: lease.identifier.clone(),
                    fence: lease.fence.get(),
                    since: lease.since_ms,
                    ephemeral: lease.ephemeral,
                    alive: None,
                    mine: false,
                };
                let leases = leases.iter().map(lease).collect();
                Some(contract::Semaphore { path: path.to_string(), slots: slots.unwrap_or(0), leases, queued: *queued })
            }
            _ => None,
        });
        semaphores.collect()
    }

    fn other_parties(&self) -> Vec<contract::Party> {
        let pairs = self.setup.observe.iter().zip(&self.observed);
        let parties = pairs.filter_map(|pair| match pair {
            (ObserveSpec::Party(path), Some(Observed::Party(members))) => Some(contract::Party {
                path: path.to_string(),
                min_members: 0,
                members: members.iter().map(member_view).collect(),
            }),
            _ => None,
        });
        parties.collect()
    }

    fn our_leases(&self) -> impl Iterator<Item = (&Target, Held)> {
        self.in_flight.iter().filter_map(|target| {
            let slot = &self.slots[*target];
            Some((&slot.target, slot.lease?))
        })
    }

    fn progress(&self) -> contract::Progress {
        let Counts { total, pending, waiting, running, succeeded, failed, unknown, rolled_back, skipped } = self.counts;
        contract::Progress {
            job: self.setup.job.clone(),
            run: self.setup.run.clone(),
            started: self.setup.started_ms,
            total,
            pending,
            waiting,
            running,
            succeeded,
            failed,
            rolled_back,
            skipped,
            unknown,
            budget_left: self.setup.limits.budget.left(self.charged(), running),
        }
    }

    fn happened(&mut self, at: u64, target: usize, what: EventKind, detail: &str) {
        if self.events.len() == EVENTS_SHOWN {
            self.events.pop_front();
        }
        let target = self.name(target);
        self.events.push_back(contract::Event { at, target, kind: what, detail: detail.to_owned() });
    }

    fn moved(&mut self, target: usize, event: TargetEvent) {
        let before = self.slots[target].state;
        let after = before.after(event).expect("the machine moves targets only where they can go");
        self.slots[target].state = after;
        self.counts.moved(before, after);
        let is_final = |state| matches!(state, TargetStatus::Final(_));
        if is_final(after) {
            self.slots[target].final_ms = self.now_ms;
        }
        self.counted_in_wave(target, is_final(before), is_final(after));
        self.charged_to_wave(target, before, after);
        match after {
            TargetStatus::Final(FinalStatus::Unknown) => self.unknown.insert(target),
            _ => self.unknown.remove(&target),
        };
        self.invited.has_moved(target);
        match after.is_open() && self.invited.is(target) {
            true => self.open.insert(target),
            false => self.open.remove(&target),
        };
        match after.is_in_flight() {
            true => self.in_flight.insert(target),
            false => self.in_flight.remove(&target),
        };
        if matches!(after, TargetStatus::Final(_))
            && let Some(at) = self.slots[target].wake_ms.take()
        {
            self.wakes.remove(&(at, target));
        }
    }

    /// How many slots this run holds now.
    fn held(&self) -> u32 {
        count(self.our_leases().count())
    }

    fn name(&self, target: usize) -> String {
        self.slots[target].target.name.to_string()
    }
}

impl Slot {
    fn new(target: Target) -> Self {
        Self {
            target,
            state: TargetStatus::Pending,
            attempt: 0,
            waiting_since_ms: None,
            wake_ms: None,
            lease: None,
            fence: Fence::new(0),
            keep_until_ms: None,
            refused: None,
            asked: false,
            wants_slot_since_ms: None,
            held_by: None,
            leaving: None,
            left: 0,
            said: String::new(),
            forcing: None,
            detail: String::new(),
            took_ms: None,
            tried_before: 0,
            retry_at_ms: None,
            found: None,
            without_slot: false,
            undecided: false,
            final_ms: 0,
            recalled: None,
            undone_for: String::new(),
            before_roll_back: None,
            stale: 0,
            unknown_retries: 0,
        }
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
    fn waits(&self, until: Option<u64>) -> Blocker {
        Blocker { code: self.code.clone(), reason: self.reason.clone(), until }
    }

    fn line(&self) -> String {
        format!("{}: {}", self.code, self.reason)
    }
}

impl Counts {
    /// Whether every target ended well.
    #[must_use]
    pub fn all_succeeded(&self) -> bool {
        self.succeeded == self.total
    }
}

impl FinalStatus {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::RolledBack => "rolled-back",
            Self::Skipped => "skipped",
        }
    }
}

/// The policy said so.
fn aborted(reason: &str) -> End {
    End::Aborted(format!("the policy aborts: {reason}"))
}

fn member_view(member: &SeenMember) -> contract::Member {
    contract::Member { identifier: member.identifier.clone(), since: member.since_ms }
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
