//! Slots: what follows when one is acquired, refused, lost or released, and how a target gives one up.

use std::time::Duration;

use crate::policy::types::{Cause, Ending, EventKind};
use crate::rollout::machine::Rollout;
use crate::rollout::machine::checks::{LimitCheck, Refused};
use crate::rollout::machine::rollout::{count, unavailable};
use crate::rollout::machine::targets::{Forcing, HeldLease, Leaving, Purpose};
use crate::rollout::model::{
    Acquisition, Action, EpochMs, Event, Facts, FinalStatus, HeldElsewhere, NotLeased, RecordedStatus, Refusal,
    Takeover, TargetEvent, TargetIndex, TargetStatus,
};
use lockkeeper_coordination::store::{Fence, millis};

/// How long no sweep includes a target that left its slot, or its place in the queue, unused: a policy that answers `lock` and
/// takes it back once the slot is held would keep the store busy. Twice as long each time in a row.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// How often that pause doubles at most: to 51 s.
const MOST_DOUBLINGS: u32 = 10;

/// How often that pause doubles at most while another holder acts under the target's name: to 0.8 s.
const MOST_HELD_DOUBLINGS: u32 = 4;

impl Rollout {
    // ------------------------------------------------------------------ what happened to a slot

    pub(super) fn leased(&mut self, target: TargetIndex, fence: Fence, how: &Acquisition) {
        self.targets[target].hold(HeldLease { fence, since: self.now });
        self.wants_no_slot(target);
        self.store_view.acquired(fence);
        if self.adopted(target, true) {
            return;
        }
        self.advance(target, TargetEvent::Leased);
        let (name, forcing) = (self.name(target), self.take_forcing(target));
        if let (Acquisition::Forced, Some(forcing)) = (how, forcing) {
            self.totals.forced += 1;
            self.record_event(target, EventKind::Forced, &forcing.reason);
            let Forcing { broken, code, reason } = forcing;
            self.emit(Event::Forced { target: name, broken, code, reason, fence });
        } else {
            self.record_event(target, EventKind::Leased, "");
            let again = *how == Acquisition::AlreadyHeld;
            let (held, slots) = (count(self.targets.leases().count()), self.setup.limits.slots);
            self.emit(Event::Leased { target: name, held, slots, fence, again });
        }
        let entry = &self.targets[target];
        if entry.is_leaving() {
            // It came while the place in the queue was being given up.
            self.release_unused(target, "the target no longer wants it");
        } else if entry.roll_back_from().is_some() {
            self.roll_back_or_leave(target);
        } else if self.ending.is_some() {
            self.leave(target, Leaving::ToWait, "the run is stopping");
        } else {
            self.decisions.granted.push_back(target);
        }
    }

    pub(super) fn not_leased(&mut self, target: TargetIndex, why: NotLeased) {
        self.take_forcing(target);
        if self.adopted(target, false) {
            return;
        }
        let entry = &mut self.targets[target];
        if let Some(last) = entry.roll_back_from() {
            let status = self.final_record(target, last);
            self.act(Action::Save { target, status });
            self.advance(target, TargetEvent::Restored(last));
            // Other targets may have been refused for the slot, or the failure, that it reserved.
            self.sweep.changed(Cause::Progressed);
            return;
        }
        let leaving = entry.slot_request_mut().and_then(|request| request.leaving.take());
        match (leaving, why) {
            (Some(Leaving::ToSkip { code, reason }), _) => self.skip(target, code, reason),
            (None, NotLeased::TimedOut) => self.skip_without_slot(target),
            (leaving, NotLeased::Held { by, given_back }) => {
                if let Some(fence) = given_back {
                    self.store_view.released(fence);
                }
                match leaving {
                    None => self.held_elsewhere(target, by),
                    Some(_) => self.back_to_waiting(target),
                }
            }
            (None, NotLeased::Conflict(reason)) => {
                self.targets[target].waiting.refused = Some(reason);
                self.back_to_waiting(target);
            }
            (Some(Leaving::ToWait), NotLeased::Gone) => {
                // Its node says that it is leased, and nothing else will correct that.
                self.act(Action::Save { target, status: RecordedStatus::Pending });
                self.back_to_waiting(target);
            }
            (Some(Leaving::ToWait), _) | (None, NotLeased::Withdrawn | NotLeased::Gone) => {
                self.back_to_waiting(target);
            }
        }
        self.sweep.changed(Cause::Progressed);
    }

    /// The force verdict that a target's slot request was for; from now on the request is like any other.
    fn take_forcing(&mut self, target: TargetIndex) -> Option<Forcing> {
        let purpose = &mut self.targets[target].slot_request_mut()?.purpose;
        match std::mem::take(purpose) {
            Purpose::ForcedAction(forcing) => Some(forcing),
            other => {
                *purpose = other;
                None
            }
        }
    }

    /// Whatever happens next, the target does not run under this slot again.
    pub(super) fn lease_lost(&mut self, target: TargetIndex, reason: String, takeover: Takeover) {
        self.targets[target].drop_lease();
        self.record_event(target, EventKind::LeaseLost, &reason);
        self.emit(Event::LeaseLost { target: self.name(target), reason });
        match self.status(target) {
            TargetStatus::Leased => self.leave(target, Leaving::ToWait, "its lease was lost"),
            TargetStatus::Running | TargetStatus::RollingBack => {
                self.act(Action::Kill { target, ending: Ending::LeaseLost, takeover: Some(takeover) });
            }
            _ => {}
        }
        if self.schedule.retries.cancel(target) {
            self.release(target);
        }
        if self.schedule.keeps.cancel(target) {
            self.release(target);
        }
    }

    /// A slot was released, or could not be.
    pub(super) fn released(&mut self, target: TargetIndex, failed: Option<String>) {
        if let Some(held) = self.targets[target].drop_lease() {
            self.store_view.released(held.fence);
        }
        let name = self.name(target);
        let is_free = failed.is_none();
        if let Some(reason) = failed {
            self.emit(Event::NotReleased { target: name.clone(), reason: reason.clone() });
            self.cut_short(unavailable(reason));
        }
        let entry = &mut self.targets[target];
        let is_leaving = entry.is_leaving();
        match entry.status() {
            TargetStatus::Leased => {
                let leaving = entry.slot_request_mut().and_then(|request| request.leaving.take());
                match (leaving, self.targets[target].roll_back_from()) {
                    (Some(Leaving::ToSkip { code, reason }), _) => self.skip(target, code, reason),
                    (_, Some(last)) => self.roll_back_not_started(target, last),
                    (_, None) => self.back_to_waiting(target),
                }
            }
            // It starts again: how it ended before is not known, or does not count.
            TargetStatus::Unsettled | TargetStatus::ActionEnded(_) if is_leaving => {
                self.advance(target, TargetEvent::Reopened);
            }
            _ => {
                self.advance(target, TargetEvent::Released);
                if is_free {
                    self.record_event(target, EventKind::Released, "");
                    self.emit(Event::Released { target: name });
                }
                self.check_budget();
            }
        }
        self.sweep.changed(Cause::Progressed);
    }

    // ------------------------------------------------------------------ giving a slot up

    /// Gives a place in the queue up, or a slot back unused. The answer brings [`Self::back_to_waiting`] or a skip.
    pub(super) fn leave(&mut self, target: TargetIndex, leaving: Leaving, reason: &str) {
        let entry = &mut self.targets[target];
        if entry.is_leaving() {
            return;
        }
        if let Some(request) = entry.slot_request_mut() {
            request.leaving = Some(leaving);
        }
        match entry.status() {
            TargetStatus::Queued => self.act(Action::Withdraw { target }),
            _ => self.release_unused(target, reason),
        }
    }

    fn release_unused(&mut self, target: TargetIndex, reason: &str) {
        self.emit(Event::ReleasedUnused { target: self.name(target), reason: reason.to_owned() });
        self.release(target);
    }

    /// Releases a target's slot, and writes its status.
    pub(super) fn release(&mut self, target: TargetIndex) {
        let status = self.record_without_slot(target);
        self.act(Action::Release { target, status });
    }

    /// A target's status once its slot is free.
    pub(super) fn record_without_slot(&self, target: TargetIndex) -> RecordedStatus {
        let entry = &self.targets[target];
        let detail = || entry.last_run.detail.clone();
        let is_left_to_next_runner = entry.action_ended().is_some_and(|ended| ended.is_left_to_next_runner);
        match (entry.status(), entry.roll_back_from()) {
            (TargetStatus::ActionEnded(Ending::Unknown), _) if is_left_to_next_runner => RecordedStatus::Running,
            (TargetStatus::Leased, Some(last)) => self.final_record(target, last),
            (TargetStatus::ActionEnded(Ending::Succeeded), _) => {
                RecordedStatus::Succeeded { took_ms: entry.last_run.took_ms }
            }
            (TargetStatus::ActionEnded(Ending::Unknown), _) => RecordedStatus::Unknown { reason: detail(), was: None },
            (TargetStatus::ActionEnded(_), _) => RecordedStatus::Failed { reason: detail(), was: None },
            _ => match entry.slot_request().and_then(|request| request.leaving.clone()) {
                Some(Leaving::ToSkip { code, reason }) => RecordedStatus::Skipped { code, reason },
                Some(Leaving::ToWait) | None => RecordedStatus::Pending,
            },
        }
    }

    /// The record of a target that is final, or is again because its roll-back does not start.
    pub(super) fn final_record(&self, target: TargetIndex, last: FinalStatus) -> RecordedStatus {
        let last_run = &self.targets[target].last_run;
        let (reason, was) = (last_run.detail.clone(), last_run.before_roll_back.clone().map(Box::new));
        match last {
            FinalStatus::Succeeded => RecordedStatus::Succeeded { took_ms: last_run.took_ms },
            FinalStatus::Failed => RecordedStatus::Failed { reason, was },
            FinalStatus::RolledBack => RecordedStatus::RolledBack { reason: last_run.roll_back_reason.clone(), was },
            FinalStatus::Unknown | FinalStatus::Skipped => RecordedStatus::Unknown { reason, was },
        }
    }

    fn back_to_waiting(&mut self, target: TargetIndex) {
        self.advance(target, TargetEvent::ReleasedUnused);
        let waiting = &mut self.targets[target].waiting;
        let pause_ms = millis(FIRST_PAUSE) << waiting.left_unused.min(MOST_DOUBLINGS);
        waiting.left_unused = waiting.left_unused.saturating_add(1);
        self.targets.pause(target);
        self.schedule.pauses.set(target, self.now.after_ms(pause_ms));
    }

    pub(super) fn end_pauses(&mut self) {
        while let Some(target) = self.schedule.pauses.pop_due(self.now) {
            self.targets.end_pause(target);
            self.sweep.include(target);
        }
    }

    pub(super) fn skip(&mut self, target: TargetIndex, code: String, reason: String) {
        // With a slot, that is written when the slot is released.
        if self.status(target) != TargetStatus::Leased {
            let status = RecordedStatus::Skipped { code: code.clone(), reason: reason.clone() };
            self.act(Action::Save { target, status });
        }
        self.advance(target, TargetEvent::Skipped);
        self.record_event(target, EventKind::Skipped, &reason);
        self.emit(Event::Skipped { target: self.name(target), code, reason });
    }

    // ------------------------------------------------------------------ waiting for a slot

    /// From now on a target wants a slot, if it did not yet; until when, if the job limits that.
    pub(super) fn wants_slot(&mut self, target: TargetIndex) -> Option<EpochMs> {
        let since = *self.targets[target].waiting.wants_slot_since.get_or_insert(self.now);
        self.setup.patience.map(|patience| since.after(patience))
    }

    pub(super) fn wants_no_slot(&mut self, target: TargetIndex) {
        let waiting = &mut self.targets[target].waiting;
        (waiting.wants_slot_since, waiting.held_by) = (None, None);
        self.schedule.give_ups.cancel(target);
    }

    /// Another holder acts under a target's name. The target waits outside the queue, and the policy decides about it again when
    /// that may have changed.
    fn held_elsewhere(&mut self, target: TargetIndex, by: HeldElsewhere) {
        let refusal = Refusal::Held { by: by.clone() };
        let facts = Facts { held: Some(by), ..self.facts(target, LimitCheck::ToQueue) };
        // The policy did not change its mind: the pause stays short.
        let waiting = &mut self.targets[target].waiting;
        waiting.left_unused = waiting.left_unused.min(MOST_HELD_DOUBLINGS);
        self.back_to_waiting(target);
        self.refuse(target, &Refused { refusal, facts });
    }

    /// Skips the targets that another holder has blocked for as long as the job allows.
    pub(super) fn give_up_on_held(&mut self) {
        while let Some(target) = self.schedule.give_ups.pop_due(self.now) {
            // One that queues by now has the same deadline there.
            let entry = &self.targets[target];
            if self.ending.is_none() && entry.status().is_open() && entry.waiting.held_by.is_some() {
                self.skip_without_slot(target);
            }
        }
    }

    /// No slot was acquired in time: the target is skipped, and the reason names the holders that were in its way.
    fn skip_without_slot(&mut self, target: TargetIndex) {
        self.totals.timed_out += 1;
        let waited = humantime::format_duration(self.setup.patience.unwrap_or_default());
        let reason = match self.targets[target].waiting.held_by.take() {
            Some(by) => format!("no slot within {waited}: another holder uses this name: {by}"),
            None => format!("no slot within {waited}{}", self.store_view.holders_now()),
        };
        self.wants_no_slot(target);
        self.skip(target, "timed-out".to_owned(), reason);
    }
}
