//! Roll-backs: of one target under the slot that it holds, of those that are requested, or, when the budget is spent, of the
//! whole run.

use std::collections::BTreeMap;

use crate::policy::types::{Ending, EventKind, Outcome};
use crate::rollout::machine::Rollout;
use crate::rollout::machine::checks::LimitCheck;
use crate::rollout::machine::targets::{Leaving, Purpose};
use crate::rollout::model::{
    Action, ActionResult, CommandKind, Event, FinalStatus, RecordedStatus, TargetEvent, TargetIndex, TargetStatus,
};

/// Roll-backs that are still to start.
#[derive(Debug, Default)]
pub(super) struct RollBacks {
    /// Those that are requested, with their reasons.
    pub(super) requested: BTreeMap<TargetIndex, String>,
    /// The budget is spent, and the job says to roll the run back.
    pub(super) is_of_run: bool,
    /// Targets of the run that are still to be rolled back, the next last. `None` before every running action has ended.
    of_run: Option<Vec<TargetIndex>>,
}

impl Rollout {
    /// Starts the roll-back of a target under the slot that it holds.
    pub(super) fn roll_back(&mut self, target: TargetIndex, reason: String) {
        let Some(held) = self.targets[target].lease() else { return };
        let was = self.record_without_slot(target);
        let entry = &mut self.targets[target];
        entry.attempts.started += 1;
        entry.attempts.fence = held.fence;
        entry.last_run.roll_back_reason.clone_from(&reason);
        entry.last_run.before_roll_back = Some(was.clone());
        let (attempt, fence) = (entry.attempts.started, held.fence);
        let status = RecordedStatus::RollingBack { reason: reason.clone(), was: Some(Box::new(was)) };
        self.advance(target, TargetEvent::RollBackStarted);
        self.record_event(target, EventKind::Started, "its roll-back");
        self.emit(Event::RollingBack { target: self.name(target), attempt, fence, reason });
        self.act(Action::Start { target, command_kind: CommandKind::RollBack, attempt, fence, status });
    }

    /// A roll-back ended. The policy does not decide about that.
    pub(super) fn roll_back_ended(&mut self, target: TargetIndex, result: ActionResult) {
        let ActionResult { ending, took_ms, detail, output, log, exit_code, .. } = result;
        self.advance(target, TargetEvent::Ended(ending));
        let name = self.name(target);
        let entry = &mut self.targets[target];
        let attempt = entry.attempts.started;
        entry.last_run.roll_back = Some(Outcome { ending, exit_code, took: took_ms, attempt });
        let why = entry.last_run.roll_back_reason.clone();
        let status = match ending {
            // One that this runner stopped may have ended all the same: the next runner probes.
            Ending::Unknown if self.stop.is_some() => self.record_while_rolling_back(target),
            ending => self.record_after_roll_back(target, ending, detail.clone()),
        };
        match status.reason().or(Some(&detail)) {
            Some(detail) if ending != Ending::Succeeded => {
                self.record_event(target, EventKind::Failed, detail);
                self.targets[target].last_run.detail = detail.to_owned();
                let detail = detail.to_owned();
                self.emit(Event::Failed { target: name, attempt, ending, detail, took_ms, output, log });
            }
            _ => {
                self.record_event(target, EventKind::RolledBack, &why);
                self.emit(Event::RolledBack { target: name, took_ms, had: status.had() });
            }
        }
        self.act(Action::Release { target, status });
    }

    /// The record of a target whose roll-back ended so.
    pub(super) fn record_after_roll_back(&self, target: TargetIndex, ending: Ending, detail: String) -> RecordedStatus {
        let last_run = &self.targets[target].last_run;
        let (why, was) = (&last_run.roll_back_reason, last_run.before_roll_back.clone().map(Box::new));
        match ending {
            Ending::Succeeded => RecordedStatus::RolledBack { reason: why.clone(), was },
            Ending::Unknown => RecordedStatus::Unknown {
                reason: format!("the outcome of its roll-back ({why}) is unknown: {detail}"),
                was,
            },
            Ending::Failed | Ending::TimedOut | Ending::LeaseLost => {
                RecordedStatus::Failed { reason: format!("its roll-back failed ({why}): {detail}"), was }
            }
        }
    }

    /// The record of a target whose roll-back may still run.
    pub(super) fn record_while_rolling_back(&self, target: TargetIndex) -> RecordedStatus {
        let last_run = &self.targets[target].last_run;
        RecordedStatus::RollingBack {
            reason: last_run.roll_back_reason.clone(),
            was: last_run.before_roll_back.clone().map(Box::new),
        }
    }

    /// A roll-back never ran, or is to run once more: the target has its status of before, and is rolled back when its turn
    /// comes.
    pub(super) fn roll_back_anew(&mut self, target: TargetIndex) {
        let last_run = &mut self.targets[target].last_run;
        let was = last_run.before_roll_back.take();
        let was = was.unwrap_or_else(|| RecordedStatus::Unknown { reason: last_run.detail.clone(), was: None });
        let last = match &was {
            RecordedStatus::Succeeded { .. } => FinalStatus::Succeeded,
            RecordedStatus::Failed { .. } => FinalStatus::Failed,
            _ => FinalStatus::Unknown,
        };
        last_run.detail = was.reason().unwrap_or_default().to_owned();
        let reason = last_run.roll_back_reason.clone();
        self.advance(target, TargetEvent::Leased);
        if let Some(request) = self.targets[target].slot_request_mut() {
            request.purpose = Purpose::RollBack { was: last };
            request.leaving = Some(Leaving::ToWait);
        }
        if !self.roll_backs.is_of_run {
            self.roll_backs.requested.insert(target, reason);
        }
        self.act(Action::Release { target, status: was });
    }

    /// Whether the command in flight on a target is its roll-back: the roll-back of the run need not wait for that.
    fn is_rolling_back(&self, target: TargetIndex) -> bool {
        let entry = &self.targets[target];
        match entry.status() {
            TargetStatus::RollingBack | TargetStatus::RollBackEnded(_) => true,
            _ => entry.recovery().is_some_and(|recovery| recovery.is_roll_back()),
        }
    }

    // ------------------------------------------------------------------ of final targets

    /// Queues the next targets that are to be rolled back, as many as there are slots and members for.
    pub(super) fn queue_roll_backs(&mut self) {
        match self.decisions.pending {
            Some(_) => {}
            None if self.roll_backs.is_of_run => self.queue_roll_backs_of_run(),
            None if self.ending.is_none() => self.queue_requested_roll_backs(),
            None => {}
        }
    }

    fn queue_requested_roll_backs(&mut self) {
        let requested = self.roll_backs.requested.iter().filter(|(target, _)| self.is_to_be_rolled_back(**target));
        let requested: Vec<(TargetIndex, String)> =
            requested.map(|(target, reason)| (*target, reason.clone())).collect();
        for (target, reason) in requested {
            if self.has_room() && self.may_be_rolled_back(target) {
                self.queue_roll_back(target, reason);
            }
        }
    }

    /// A final target queues for a slot for its roll-back.
    fn queue_roll_back(&mut self, target: TargetIndex, reason: String) {
        let TargetStatus::Final(last) = self.status(target) else { return };
        let status = RecordedStatus::RollBackLeased { was: Box::new(self.final_record(target, last)) };
        self.targets[target].last_run.roll_back_reason = reason;
        self.advance(target, TargetEvent::RollBackQueued);
        if let Some(request) = self.targets[target].slot_request_mut() {
            request.purpose = Purpose::RollBack { was: last };
        }
        self.emit(Event::Queued { target: self.name(target) });
        self.act(Action::Acquire { target, give_up_at: None, status });
    }

    /// Every target with a started action, the last one to become final first.
    fn queue_roll_backs_of_run(&mut self) {
        if self.roll_backs.of_run.is_none() {
            // A running action may end first: it may have to be rolled back, too.
            let is_waiting = self.targets.in_flight().iter().any(|target| !self.is_rolling_back(*target));
            if is_waiting || self.requests.paused.is_some() {
                return;
            }
            // A roll-back is not repeated unless an operator or an orchestration requests it.
            let is_left = |target: &TargetIndex| {
                self.is_to_be_rolled_back(*target) && self.targets[*target].last_run.before_roll_back.is_none()
            };
            let mut left: Vec<TargetIndex> = self.targets.indices().filter(is_left).collect();
            left.sort_by_key(|target| self.targets[*target].final_since());
            self.emit(Event::RollingBackRun { targets: left.len() });
            self.roll_backs.of_run = Some(left);
        }
        while self.has_room() {
            let Some(target) = self.roll_backs.of_run.as_ref().and_then(|left| left.last().copied()) else { return };
            if !self.may_be_rolled_back(target) {
                return;
            }
            if let Some(left) = &mut self.roll_backs.of_run {
                left.pop();
            }
            self.queue_roll_back(target, "the failure budget is spent".to_owned());
        }
    }

    /// The slot for a roll-back is held. What has changed since the target queued may block it again: then it leaves the slot.
    pub(super) fn roll_back_or_leave(&mut self, target: TargetIndex) {
        let is_requested = self.ending.is_none() && self.roll_backs.requested.contains_key(&target);
        if (self.roll_backs.is_of_run || is_requested) && self.may_be_rolled_back(target) {
            self.roll_backs.requested.remove(&target);
            let reason = self.targets[target].last_run.roll_back_reason.clone();
            return self.roll_back(target, reason);
        }
        self.leave(target, Leaving::ToWait, "its roll-back may not start now");
    }

    /// The slot for a roll-back was released before that started.
    pub(super) fn roll_back_not_started(&mut self, target: TargetIndex, last: FinalStatus) {
        self.advance(target, TargetEvent::Restored(last));
        if let (true, Some(left)) = (self.roll_backs.is_of_run, &mut self.roll_backs.of_run) {
            left.push(target);
        }
    }

    /// Whether the limits that protect what runs allow a roll-back; budget, windows and waves are for actions.
    fn may_be_rolled_back(&self, target: TargetIndex) -> bool {
        let facts = self.facts(target, LimitCheck::ToQueue);
        let is_floor_kept = self.setup.limits.floor.is_none_or(|floor| facts.remaining >= Some(floor));
        is_floor_kept && self.may_be_rolled_back_but_for_floor(target)
    }

    /// Whether nothing but the floor can block a roll-back now.
    pub(super) fn may_be_rolled_back_but_for_floor(&self, target: TargetIndex) -> bool {
        self.store_view.is_connected() && self.requests.paused.is_none() && self.wave_full(target).is_none()
    }

    /// The target that is to be rolled back next.
    pub(super) fn next_to_roll_back(&self) -> Option<TargetIndex> {
        match self.roll_backs.is_of_run {
            true => self.roll_backs.of_run.as_ref()?.last().copied(),
            false if self.ending.is_some() => None,
            false => self.roll_backs.requested.keys().copied().find(|target| self.is_to_be_rolled_back(*target)),
        }
    }

    fn is_to_be_rolled_back(&self, target: TargetIndex) -> bool {
        let may_be = matches!(
            self.status(target),
            TargetStatus::Final(FinalStatus::Succeeded | FinalStatus::Failed | FinalStatus::Unknown)
        );
        may_be && self.attempt(target) > 0
    }

    /// Whether a roll-back that no orchestration requested is to run once more.
    pub(super) fn has_roll_back_left(&self) -> bool {
        let mut requested = self.roll_backs.requested.keys();
        !self.setup.has_orchestration && requested.any(|target| self.is_to_be_rolled_back(*target))
    }

    /// Whether the roll-back of the run is not complete.
    pub(super) fn has_run_to_roll_back(&self) -> bool {
        self.roll_backs.is_of_run && self.roll_backs.of_run.as_ref().is_none_or(|left| !left.is_empty())
    }
}
