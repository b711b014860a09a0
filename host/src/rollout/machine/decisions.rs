//! The policy's decisions: about which target and when, and what follows from its answers.

use std::collections::VecDeque;
use std::time::Duration;

use crate::job::OnFault;
use crate::policy::orchestration::Advice;
use crate::policy::types::{self as contract, Admission, Admitted, Cause, EventKind, Outcome, Settled, Settlement};
use crate::rollout::machine::Rollout;
use crate::rollout::machine::checks::LimitCheck;
use crate::rollout::machine::rollout::count;
use crate::rollout::machine::targets::{Forcing, Leaving, Purpose};
use crate::rollout::model::{
    Action, Blocker, End, EpochMs, Event, Fault, OrchestrationReply, RecordedStatus, RequestId, Stop, TargetEvent,
    TargetIndex, TargetStatus,
};
use lockkeeper_coordination::store::{Fence, millis};

/// The newest events that a view shows.
const EVENTS_SHOWN: usize = 16;

/// The shortest time after which a policy decides again because it asked for that: a wake of 0 would be a busy loop.
const SHORTEST_WAKE: Duration = Duration::from_millis(50);

/// How many wakes all open targets together get in a millisecond: each of 10,000 gets one in ten seconds at most.
const WAKES_EACH_MS: u64 = 1;

/// What the policy has decided, and is to decide.
#[derive(Debug, Default)]
pub(super) struct Decisions {
    /// The decision that is being made: one at a time.
    pub(super) pending: Option<(TargetIndex, DecisionPoint)>,
    /// Actions that ended and wait for the policy's decision.
    pub(super) to_settle: VecDeque<(TargetIndex, Outcome)>,
    /// Targets that got a slot and wait for the policy's decision.
    pub(super) granted: VecDeque<TargetIndex>,
    /// The number of the next decision.
    pub(super) sequence: u64,
    /// The policy's memory after its last decision.
    pub(super) memory: Vec<u8>,
    /// The newest events of the run.
    pub(super) events: VecDeque<contract::Event>,
}

/// At which point of a target's way the policy decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecisionPoint {
    /// It is open: may it queue?
    Open,
    /// It queues: may it still?
    InQueue,
    /// Its slot is held: may it start?
    Granted,
    /// Its action ended: what follows?
    ActionEnded,
    /// The orchestration consults the policy; nothing follows.
    Consulted(RequestId),
}

/// What a policy answered beside its verdict.
#[derive(Debug)]
struct PolicyReason {
    code: String,
    reason: String,
    ask_again_ms: Option<u64>,
}

impl PolicyReason {
    fn blocker(&self, until: Option<EpochMs>) -> Blocker {
        Blocker { code: self.code.clone(), reason: self.reason.clone(), until: until.map(EpochMs::get) }
    }

    fn line(&self) -> String {
        format!("{}: {}", self.code, self.reason)
    }
}

impl Decisions {
    /// Whether the policy is to decide, or is deciding, about the end of a target's action.
    pub(super) fn is_to_settle(&self, target: TargetIndex) -> bool {
        self.to_settle.iter().any(|(other, _)| *other == target)
            || self.pending.is_some_and(|(pending, _)| pending == target)
    }
}

impl Rollout {
    /// Has the policy make the next decision, if there is one and none is pending.
    pub(super) fn decide_next(&mut self) {
        if self.decisions.pending.is_some() {
            return;
        }
        if let Some((target, outcome)) = self.decisions.to_settle.pop_front() {
            self.decisions.pending = Some((target, DecisionPoint::ActionEnded));
            self.targets[target].last_run.action = Some(outcome);
            let view = self.view(target, Cause::Progressed);
            self.act(Action::Settle { target, view: Box::new(view), outcome });
            return;
        }
        if self.ending.is_some() || !self.can_decide() {
            return;
        }
        while let Some(target) = self.decisions.granted.pop_front() {
            let entry = &self.targets[target];
            if entry.status() == TargetStatus::Leased && !entry.is_leaving() {
                return self.decide(target, DecisionPoint::Granted, Cause::Granted);
            }
        }
        if let Some((id, target)) = self.orchestration.next_consultation() {
            self.decisions.pending = Some((target, DecisionPoint::Consulted(id)));
            let view = Box::new(self.view(target, Cause::Operator(super::ORCHESTRATION.to_owned())));
            return self.act(Action::Admit { target, view });
        }
        if self.sweep.held_until().is_some_and(|at| at <= self.now) {
            self.sweep.changed(Cause::Woken);
        }
        if let Some((target, point)) = self.next_woken() {
            return self.decide(target, point, Cause::Woken);
        }
        self.sweep_on();
    }

    /// Has the policy decide about the next target of the sweep.
    fn sweep_on(&mut self) {
        let until = self.decided_until();
        if until == TargetIndex::new(0) || !self.has_room() {
            return;
        }
        self.sweep.begin_if_due(self.now);
        let from = self.sweep.cursor().min(until);
        let may_pass_floor = |target: &TargetIndex| self.sweep.may_pass_floor(|| self.takes_a_member(*target));
        let next = self.targets.open().range(from..until).copied().find(may_pass_floor);
        self.sweep.continue_at(next.map_or(TargetIndex::new(self.targets.len()), TargetIndex::next));
        if let Some(target) = next {
            let waiting = &mut self.targets[target].waiting;
            let cause = match (waiting.refused.take(), waiting.is_known_to_policy) {
                (Some(reason), _) => Cause::Refused(reason),
                (None, false) => Cause::First,
                (None, true) => self.sweep.cause(),
            };
            self.decide(target, DecisionPoint::Open, cause);
        }
    }

    /// Whether everything is known that the policy sees.
    pub(super) fn can_decide(&self) -> bool {
        self.store_view.is_complete()
    }

    /// Whether the run may have another target in flight.
    pub(super) fn has_room(&self) -> bool {
        count(self.targets.in_flight().len()) < self.setup.limits.slots
    }

    /// The policy decides about the targets before this one: the others belong to waves that have not started, or are held.
    pub(super) fn decided_until(&self) -> TargetIndex {
        let started = self.waves.started_until(&self.setup.waves).unwrap_or(TargetIndex::new(self.targets.len()));
        self.sweep.held_from().map_or(started, |held| started.min(held))
    }

    /// A target whose wake is due and about which the policy can decide now.
    fn next_woken(&mut self) -> Option<(TargetIndex, DecisionPoint)> {
        while let Some(target) = self.schedule.wakes.pop_due(self.now) {
            let entry = &self.targets[target];
            let is_forcing =
                entry.slot_request().is_some_and(|request| matches!(request.purpose, Purpose::ForcedAction(_)));
            if entry.status() == TargetStatus::Queued && !is_forcing && !entry.is_leaving() {
                return Some((target, DecisionPoint::InQueue));
            }
            // Without room, the sweep that follows room includes it anyway.
            let is_in_turn = target < self.decided_until();
            if is_in_turn && self.targets.open().contains(&target) && self.has_room() {
                return Some((target, DecisionPoint::Open));
            }
        }
        None
    }

    fn decide(&mut self, target: TargetIndex, point: DecisionPoint, cause: Cause) {
        self.decisions.pending = Some((target, point));
        let view = self.view(target, cause);
        self.targets[target].waiting.is_known_to_policy = true;
        self.act(Action::Admit { target, view: Box::new(view) });
    }

    fn decided(&mut self, target: TargetIndex) -> DecisionPoint {
        match self.decisions.pending.take() {
            Some((pending, point)) if pending == target => point,
            other => panic!("an answer about target {target} came while {other:?} was pending"),
        }
    }

    /// Adds to the events that views show.
    pub(super) fn record_event(&mut self, target: TargetIndex, kind: EventKind, detail: &str) {
        if self.decisions.events.len() == EVENTS_SHOWN {
            self.decisions.events.pop_front();
        }
        let (at, name) = (self.now.get(), self.name(target));
        self.decisions.events.push_back(contract::Event { at, target: name, kind, detail: detail.to_owned() });
    }

    // ------------------------------------------------------------------ before an action

    pub(super) fn admitted(&mut self, target: TargetIndex, answer: Result<Admitted, Fault>) {
        let point = self.decided(target);
        let is_consultation = matches!(point, DecisionPoint::Consulted(_));
        let is_open = self.targets[target].status().is_open() && !is_consultation;
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                if is_open {
                    self.advance(target, TargetEvent::Deferred);
                }
                return self.fault(target, fault);
            }
        };
        self.decisions.memory = answer.memory;
        let Admitted { verdict, code, reason, wake_after, .. } = answer;
        if let DecisionPoint::Consulted(id) = point {
            let reply = OrchestrationReply::Advice(Advice { verdict, code, reason, wake_after });
            return self.act(Action::Reply { id, reply });
        }
        if verdict == Admission::Abort || self.ending.is_some() {
            if is_open {
                self.advance(target, TargetEvent::Deferred);
            }
            if verdict == Admission::Abort {
                self.end(aborted(&reason));
            }
            return;
        }
        if let Some(after) = wake_after {
            let crowd = self.targets.open().len() as u64 / WAKES_EACH_MS;
            self.schedule.wakes.set(target, self.now.after_ms(after.max(millis(SHORTEST_WAKE)).max(crowd)));
        }
        let why = PolicyReason { code, reason, ask_again_ms: wake_after };
        match (point, self.targets[target].status()) {
            // The answer came too late: the place or the slot is being given up.
            _ if self.targets[target].is_leaving() => {}
            (DecisionPoint::Open, TargetStatus::Pending | TargetStatus::Waiting)
                if !self.targets[target].may_start() =>
            {
                self.advance(target, TargetEvent::Deferred);
            }
            (DecisionPoint::Open, TargetStatus::Pending | TargetStatus::Waiting) => {
                self.admitted_while_open(target, verdict, why);
            }
            // Anything but `lock` takes it out of the queue.
            (DecisionPoint::InQueue, TargetStatus::Queued | TargetStatus::Leased) if verdict != Admission::Lock => {
                self.leave_as_decided(target, &verdict, why);
            }
            (DecisionPoint::Granted, TargetStatus::Leased) => self.admitted_with_slot(target, &verdict, why),
            // It stays in the queue; or its status changed meanwhile, and the policy decides about the new one.
            _ => {}
        }
    }

    /// Its slot is held: only `lock` and `force` start it.
    fn admitted_with_slot(&mut self, target: TargetIndex, verdict: &Admission, why: PolicyReason) {
        match verdict {
            Admission::Lock | Admission::Force(_) => match self.check_limits(LimitCheck::ToStart, target) {
                Ok(()) => self.start(target),
                Err(refused) => {
                    self.refuse(target, &refused);
                    self.leave(target, Leaving::ToWait, "a hard limit refuses it now");
                }
            },
            other => self.leave_as_decided(target, other, why),
        }
    }

    fn leave_as_decided(&mut self, target: TargetIndex, verdict: &Admission, why: PolicyReason) {
        let reason = why.reason.clone();
        let leaving = match verdict {
            Admission::Skip => Leaving::ToSkip { code: why.code, reason: why.reason },
            Admission::Hold => {
                self.hold(why);
                Leaving::ToWait
            }
            _ => {
                self.report_waiting(target, why);
                Leaving::ToWait
            }
        };
        self.leave(target, leaving, &reason);
    }

    fn admitted_while_open(&mut self, target: TargetIndex, verdict: Admission, why: PolicyReason) {
        let checked = match &verdict {
            Admission::Lock => self.check_limits(LimitCheck::ToQueue, target),
            // The lease that is in the way may be among those that are broken.
            Admission::Force(victims) => self.check_limits_to_force(target, victims),
            _ => Ok(()),
        };
        if !matches!(verdict, Admission::Lock | Admission::Force(_)) {
            self.wants_no_slot(target);
        }
        if let Err(refused) = checked {
            self.advance(target, TargetEvent::Deferred);
            return self.refuse(target, &refused);
        }
        match verdict {
            Admission::Lock => {
                self.advance(target, TargetEvent::Queued);
                let give_up_at = self.wants_slot(target);
                self.emit(Event::Queued { target: self.name(target) });
                self.act(Action::Acquire { target, give_up_at, status: RecordedStatus::Leased });
            }
            Admission::Force(victims) => {
                self.advance(target, TargetEvent::Queued);
                let breaking = victims.iter().copied().map(Fence::new).collect();
                let reason = why.reason.clone();
                let forcing = Forcing { broken: victims, code: why.code, reason: why.reason };
                if let Some(request) = self.targets[target].slot_request_mut() {
                    request.purpose = Purpose::ForcedAction(forcing);
                }
                self.act(Action::Force { target, breaking, reason });
            }
            Admission::Skip => self.skip(target, why.code, why.reason),
            Admission::Hold => {
                self.advance(target, TargetEvent::Deferred);
                self.hold(why);
            }
            Admission::Wait | Admission::Abort => {
                self.advance(target, TargetEvent::Deferred);
                self.sweep.waited();
                self.report_waiting(target, why);
            }
        }
    }

    /// The policy answered `hold`: no target starts until it is to decide again, or something changes.
    fn hold(&mut self, why: PolicyReason) {
        let until = why.ask_again_ms.map(|after| self.now.after_ms(after.max(millis(SHORTEST_WAKE))));
        self.sweep.hold(TargetIndex::new(0), until);
        self.sweep.blocker = Some(why.blocker(until));
        let line = why.line();
        if self.sweep.reported != line {
            self.sweep.reported = line;
            let PolicyReason { code, reason, ask_again_ms } = why;
            self.emit(Event::Holding { code, reason, ask_again_ms });
        }
    }

    fn report_waiting(&mut self, target: TargetIndex, why: PolicyReason) {
        self.sweep.blocker = Some(why.blocker(self.schedule.wakes.of(target)));
        let line = why.line();
        if self.targets[target].waiting.reported != line {
            self.targets[target].waiting.reported = line;
            let PolicyReason { code, reason, ask_again_ms } = why;
            self.emit(Event::Waiting { target: self.name(target), code, reason, ask_again_ms });
        }
    }

    // ------------------------------------------------------------------ after an action

    pub(super) fn settled(&mut self, target: TargetIndex, answer: Result<Settled, Fault>) {
        self.decided(target);
        let answer = match answer {
            Ok(answer) => answer,
            Err(fault) => {
                self.release(target);
                return self.fault(target, fault);
            }
        };
        self.decisions.memory = answer.memory;
        if self.stop == Some(Stop::Now) || self.is_lost() {
            return self.release(target);
        }
        let is_held = self.targets[target].lease().is_some();
        let is_without_slot = self.targets[target].action_ended().is_some_and(|ended| ended.is_without_slot);
        match answer.verdict {
            Settlement::Keep(keep_ms) if self.stop.is_none() && is_held => {
                self.keep_slot(target, keep_ms, answer.reason);
            }
            // An earlier runner's attempt, whose lease is gone: it queues as for the first.
            Settlement::Retry if self.may_retry(target) && is_without_slot => self.reopen(target),
            Settlement::Retry if !is_held => self.release(target),
            Settlement::Retry if self.may_retry(target) && !self.setup.back_off.is_zero() => {
                self.back_off(target, answer.reason);
            }
            Settlement::Retry if self.may_retry(target) => {
                if self.check_limits(LimitCheck::ToStart, target).is_ok() {
                    self.emit(Event::Retrying {
                        target: self.name(target),
                        attempt: self.attempt(target) + 1,
                        reason: answer.reason,
                        after_ms: 0,
                    });
                }
                self.retry(target);
            }
            // Without another attempt, what failed has failed.
            Settlement::Release | Settlement::Keep(_) | Settlement::Retry => self.release(target),
            Settlement::RollBack if self.setup.can_roll_back && is_held => self.roll_back(target, answer.reason),
            // Another holder may use the slot by now.
            Settlement::RollBack if self.setup.can_roll_back => self.release(target),
            Settlement::RollBack => {
                self.release(target);
                let message = "the policy answered `roll-back`, and the job has no command for that".to_owned();
                let hint = Some("give it one: `[action]` with `roll-back`".to_owned());
                self.fault(target, Fault { kind: "not-supported", message, hint });
            }
            Settlement::Abort => {
                self.release(target);
                self.end(aborted(&answer.reason));
            }
        }
    }

    /// The policy's answer about the end of an action could not be written down: the next runner has it decide.
    pub(super) fn not_settled(&mut self, target: TargetIndex, outcome: Outcome) {
        self.decided(target);
        let Outcome { ending, exit_code, took, .. } = outcome;
        match ending {
            contract::Ending::Unknown => self.release(target),
            _ => {
                let detail = self.targets[target].last_run.detail.clone();
                let status = RecordedStatus::ActionEnded { ending, exit_code, took_ms: took, detail };
                self.act(Action::Release { target, status });
            }
        }
    }

    fn fault(&mut self, target: TargetIndex, fault: Fault) {
        let Fault { kind, message, hint } = fault.clone();
        self.emit(Event::PolicyFault { target: self.name(target), kind: kind.into(), message, hint });
        match self.setup.on_fault {
            OnFault::Hold => self.end(End::Held(fault)),
            OnFault::Abort => self.end(End::Faulted(fault)),
        }
    }
}

/// The policy answered `abort`.
fn aborted(reason: &str) -> End {
    End::Aborted(format!("the policy aborts: {reason}"))
}
