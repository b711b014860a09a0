//! The machine itself: its state, its step, and what can be read off it.

use crate::job::Target;
use crate::rollout::machine::decisions::Decisions;
use crate::rollout::machine::floor::FloorClock;
use crate::rollout::machine::orchestration::Orchestration;
use crate::rollout::machine::roll_back::RollBacks;
use crate::rollout::machine::schedule::Schedule;
use crate::rollout::machine::store_view::StoreView;
use crate::rollout::machine::sweep::Sweep;
use crate::rollout::machine::targets::Targets;
use crate::rollout::machine::waves::Waves;
use crate::rollout::model::{
    Action, Counts, End, EpochMs, Event, Input, OperatorRequests, Report, RunFailure, Setup, Stop, TargetEvent,
    TargetIndex, TargetStatus,
};

/// A rollout in progress.
#[derive(Debug)]
pub struct Rollout {
    pub(super) setup: Setup,
    pub(super) targets: Targets,
    pub(super) waves: Waves,
    pub(super) schedule: Schedule,
    pub(super) sweep: Sweep,
    pub(super) decisions: Decisions,
    pub(super) store_view: StoreView,
    pub(super) floor: FloorClock,
    pub(super) requests: OperatorRequests,
    pub(super) orchestration: Orchestration,
    pub(super) roll_backs: RollBacks,
    pub(super) totals: Totals,
    /// Why the run ends. `None` while targets may start.
    pub(super) ending: Option<End>,
    /// How hard the operator at the terminal stops the runner.
    pub(super) stop: Option<Stop>,
    /// The time of this step.
    pub(super) now: EpochMs,
    /// What this step has carried out; before the first step, what that one is to carry out.
    actions: Vec<Action>,
}

/// What was counted over the run.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Slots taken by force.
    pub(super) forced: u32,
    /// Targets that got no slot in time.
    pub(super) timed_out: u32,
    /// Actions that succeeded under this runner.
    pub(super) succeeded: u32,
    /// How long these took together, in milliseconds.
    pub(super) took_ms: u64,
    /// The longest that a successful action took, in milliseconds.
    pub(super) longest_ms: Option<u64>,
}

impl Rollout {
    /// A rollout that has not started, or one that an earlier runner left.
    #[must_use]
    pub fn new(mut setup: Setup) -> Self {
        let resumed = setup.resumed.take();
        let mut rollout = Self {
            targets: Targets::new(&setup.targets, !setup.has_orchestration),
            waves: Waves::new(&setup.waves, setup.targets.len()),
            schedule: Schedule::default(),
            sweep: Sweep::default(),
            decisions: Decisions::default(),
            store_view: StoreView::new(&setup),
            floor: FloorClock::default(),
            requests: OperatorRequests::default(),
            orchestration: Orchestration::new(setup.has_orchestration),
            roll_backs: RollBacks::default(),
            totals: Totals::default(),
            ending: None,
            stop: None,
            now: EpochMs::default(),
            actions: Vec::new(),
            setup,
        };
        if let Some(resumed) = resumed {
            rollout.take_over(resumed);
            let has_started = rollout.targets.indices().any(|target| rollout.attempt(target) > 0);
            rollout.store_view.roster.vouch(has_started);
        }
        rollout
    }

    /// The policy's memory after its last decision.
    #[must_use]
    pub fn memory(&self) -> &[u8] {
        &self.decisions.memory
    }

    /// A target.
    #[must_use]
    pub fn target(&self, target: TargetIndex) -> &Target {
        &self.targets[target].target
    }

    /// When the run started.
    #[must_use]
    pub fn started(&self) -> EpochMs {
        self.setup.started
    }

    /// How many targets have each status.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.targets.counts()
    }

    /// A target's status.
    #[must_use]
    pub fn status(&self, target: TargetIndex) -> TargetStatus {
        self.targets[target].status()
    }

    /// How many commands were started on a target, roll-backs included.
    #[must_use]
    pub fn attempt(&self, target: TargetIndex) -> u32 {
        self.targets[target].attempts.started
    }

    /// The result of the run. `None` while it is in progress.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let is_at_rest =
            self.targets.in_flight().is_empty() && self.decisions.pending.is_none() && self.actions.is_empty();
        let is_complete = self.counts().open() == 0 && !self.orchestration.is_running() && !self.has_roll_back_left();
        let is_over = is_at_rest && (self.ending.is_some() || is_complete) && !self.has_run_to_roll_back();
        is_over.then(|| Report {
            end: self.ending.clone().unwrap_or(End::Completed),
            counts: self.counts(),
            forced: self.totals.forced,
            timed_out: self.totals.timed_out,
        })
    }

    /// When [`Input::Tick`] is due if nothing else happens before. `None` if time alone changes nothing.
    #[must_use]
    pub fn next_wake(&self) -> Option<EpochMs> {
        let now = (!self.actions.is_empty()).then_some(self.now);
        let keeps = self.schedule.keeps.first();
        if self.ending.is_some() {
            return [keeps, now, self.floor_wake()].into_iter().flatten().min();
        }
        // A retry that is due already waits for something else.
        let retries = self.schedule.retries.first_after(self.now);
        // A decision that cannot be made now is due when that changes.
        let decisions = self.can_decide().then(|| {
            let is_sweep_useful =
                self.decided_until() > TargetIndex::new(0) && self.has_room() && !self.targets.open().is_empty();
            let sweep = self.sweep.next_at().filter(|_| is_sweep_useful);
            [self.schedule.wakes.first(), self.sweep.held_until(), sweep].into_iter().flatten().min()
        });
        let (pauses, give_ups) = (self.schedule.pauses.first(), self.schedule.give_ups.first());
        let all = [now, keeps, retries, pauses, give_ups, decisions.flatten(), self.floor_wake(), self.next_baked()];
        all.into_iter().flatten().min()
    }

    /// What follows from an input.
    ///
    /// # Panics
    /// If the driver breaks the protocol: an answer that no action asked for.
    pub fn step(&mut self, now: EpochMs, input: Input) -> Vec<Action> {
        self.now = now;
        self.take(input);
        self.settle_all_recovered();
        self.skip_unstarted();
        self.check_budget();
        self.release_kept_slots();
        self.start_retries();
        self.end_pauses();
        self.give_up_on_held();
        self.start_waves();
        self.queue_roll_backs();
        self.measure_floor();
        self.decide_next();
        self.reply_to_orchestration();
        std::mem::take(&mut self.actions)
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Tick => {}
            Input::ClockSet { by_ms } => self.clock_was_set(by_ms),
            Input::Semaphore { leases, queued, slots } => self.semaphore_read(leases, queued, slots),
            Input::Party(members) => self.party_read(members),
            Input::PartyUnread => self.store_view.roster.forget(),
            Input::Observed { index, seen } => self.observed(index, seen),
            Input::Session(connectivity) => self.session_changed(connectivity),
            Input::Admitted { target, answer } => self.admitted(target, answer),
            Input::Settled { target, answer } => self.settled(target, answer),
            Input::NotSettled { target, outcome } => self.not_settled(target, outcome),
            Input::Leased { target, fence, how } => self.leased(target, fence, &how),
            Input::NotLeased { target, why } => self.not_leased(target, why),
            Input::LeaseLost { target, reason, takeover } => self.lease_lost(target, reason, takeover),
            Input::Released { target } => self.released(target, None),
            Input::NotReleased { target, reason } => self.released(target, Some(reason)),
            Input::Ended { target, result } => self.ended(target, result),
            Input::Probed { target, answer } => self.probed(target, answer),
            Input::OrchestrationRequest { id, request } => self.orchestration_requested(id, request),
            Input::OrchestrationEvent(event) => self.orchestration_event(event),
            Input::OrchestrationEnded(end) => self.orchestration_ended(end),
            Input::OperatorRequests(requests) => self.operator_requests_changed(requests),
            Input::Stop(stop) => self.stopped(stop),
            Input::Lost { reason, takeover } => self.lost(reason, takeover),
            Input::Failed(failure) => self.cut_short(End::Failed(failure)),
        }
    }

    /// Moves a target to the status that follows from `event`, in every table.
    pub(super) fn advance(&mut self, target: TargetIndex, event: TargetEvent) {
        let change = self.targets.advance(target, event, self.now);
        self.waves.follow(target, change, self.now);
        if matches!(change.after, TargetStatus::Final(_)) {
            self.schedule.wakes.cancel(target);
        }
    }

    /// Has an action carried out, after those before.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    /// Reports an event.
    pub(super) fn emit(&mut self, event: Event) {
        self.act(Action::Emit(event));
    }

    pub(super) fn name(&self, target: TargetIndex) -> String {
        self.targets[target].target.name.to_string()
    }
}

/// The run cannot continue: the store does not answer.
pub(super) fn unavailable(reason: String) -> End {
    End::Failed(RunFailure::Unavailable(reason))
}

pub(super) fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
