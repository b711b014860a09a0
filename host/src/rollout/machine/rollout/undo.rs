//! Undoing what was done: one target under its slot, those that the orchestration names, or, when the budget is spent, all of
//! the run.

use super::{Event, FinalStatus, TargetEvent, TargetStatus};
use crate::policy::types::{Ending, EventKind, Outcome};
use crate::rollout::machine::Rollout;
use crate::rollout::model::{Action, ActionResult, CommandKind, RecordedStatus};

impl Rollout {
    /// Under the slot that it holds.
    pub(super) fn roll_back(&mut self, now_ms: u64, target: usize, reason: String, out: &mut Vec<Action>) {
        let Some(held) = self.slots[target].lease else { return };
        let was = self.status_without_slot(target);
        self.slots[target].attempt += 1;
        let (attempt, fence) = (self.slots[target].attempt, held.fence);
        self.slots[target].fence = fence;
        self.slots[target].undone_for.clone_from(&reason);
        self.slots[target].recalled = None;
        self.slots[target].before_roll_back = Some(was.clone());
        let status = RecordedStatus::RollingBack { reason: reason.clone(), was: Some(Box::new(was)) };
        self.moved(target, TargetEvent::RollBackStarted);
        self.happened(now_ms, target, EventKind::Started, "its roll-back");
        out.push(Action::Emit(Event::RollingBack { target: self.name(target), attempt, fence, reason }));
        out.push(Action::Start { target, command_kind: CommandKind::RollBack, attempt, fence, status });
    }

    /// What undoes it has ended; the policy is not asked about that.
    pub(super) fn roll_back_ended(&mut self, now_ms: u64, target: usize, result: ActionResult, out: &mut Vec<Action>) {
        let ActionResult { ending, took_ms, detail, output, log, exit_code, .. } = result;
        self.moved(target, TargetEvent::Ended(ending));
        if self.invited.has_orchestration() {
            let outcome = Outcome { ending, exit_code, took: took_ms, attempt: self.slots[target].attempt };
            out.push(Action::Undone { target, outcome });
        }
        let name = self.name(target);
        let slot = &self.slots[target];
        let (attempt, why) = (slot.attempt, slot.undone_for.clone());
        let status = match ending {
            // What was stopped by us half-way may have ended all the same: the next runner asks.
            Ending::Unknown if self.stop.is_some() => self.rolling_back_status(target),
            ending => self.rolled_back_status(target, ending, detail.clone()),
        };
        match status.reason().or(Some(&detail)) {
            Some(detail) if ending != Ending::Succeeded => {
                self.happened(now_ms, target, EventKind::Failed, detail);
                self.slots[target].detail = detail.to_owned();
                let detail = detail.to_owned();
                out.push(Action::Emit(Event::Failed { target: name, attempt, ending, detail, took_ms, output, log }));
            }
            _ => {
                self.happened(now_ms, target, EventKind::RolledBack, &why);
                out.push(Action::Emit(Event::RolledBack { target: name, took_ms, had: status.had() }));
            }
        }
        out.push(Action::Release { target, status });
    }

    /// Where a target stands whose roll-back ended so.
    pub(super) fn rolled_back_status(&self, target: usize, ending: Ending, detail: String) -> RecordedStatus {
        let slot = &self.slots[target];
        let (why, was) = (&slot.undone_for, slot.before_roll_back.clone().map(Box::new));
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

    /// Where a target stands whose roll-back may still run.
    pub(super) fn rolling_back_status(&self, target: usize) -> RecordedStatus {
        let slot = &self.slots[target];
        RecordedStatus::RollingBack {
            reason: slot.undone_for.clone(),
            was: slot.before_roll_back.clone().map(Box::new),
        }
    }

    /// Its roll-back never ran, or is to run once more: it stands where it stood before, and is rolled back when its turn
    /// comes.
    pub(super) fn roll_back_anew(&mut self, target: usize, out: &mut Vec<Action>) {
        let slot = &mut self.slots[target];
        let was = slot.before_roll_back.take();
        let was = was.unwrap_or_else(|| RecordedStatus::Unknown { reason: slot.detail.clone(), was: None });
        let last = match &was {
            RecordedStatus::Succeeded { .. } => FinalStatus::Succeeded,
            RecordedStatus::Failed { .. } => FinalStatus::Failed,
            _ => FinalStatus::Unknown,
        };
        slot.detail = was.reason().unwrap_or_default().to_owned();
        slot.recalled = Some(last);
        slot.leaving = Some(super::Then::Wait);
        let reason = slot.undone_for.clone();
        self.moved(target, TargetEvent::Leased);
        if !self.undoing {
            self.want_undone(target, reason);
        }
        out.push(Action::Release { target, status: was });
    }

    /// Whether what is under way on a target is its roll-back, in sight or not: the others need not wait for that.
    fn is_rolled_back_now(&self, target: usize) -> bool {
        let slot = &self.slots[target];
        match slot.state {
            TargetStatus::RollingBack | TargetStatus::RollBackEnded(_) => true,
            TargetStatus::Unsettled => slot.found.as_ref().is_some_and(super::found::Found::is_roll_back),
            _ => false,
        }
    }

    /// The next that are to be undone, as many as there are slots and members for.
    pub(super) fn undo(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        match self.asking {
            Some(_) => {}
            None if self.undoing => self.undo_all(now_ms, out),
            None if self.ending.is_none() => self.undo_wanted(now_ms, out),
            None => {}
        }
    }

    /// The orchestration wants a target rolled back.
    pub(super) fn want_undone(&mut self, target: usize, reason: String) {
        self.invited.undo.insert(target, reason);
    }

    fn undo_wanted(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        let wanted = self.invited.undo.iter().filter(|(target, _)| self.is_to_be_undone(**target));
        let wanted: Vec<(usize, String)> = wanted.map(|(target, reason)| (*target, reason.clone())).collect();
        for (target, reason) in wanted {
            let has_room = super::count(self.in_flight.len()) < self.setup.limits.slots;
            if has_room && self.may_be_undone(now_ms, target) {
                self.recall(target, reason, out);
            }
        }
    }

    /// It queues for a slot to be undone under.
    fn recall(&mut self, target: usize, reason: String, out: &mut Vec<Action>) {
        let TargetStatus::Final(last) = self.slots[target].state else { return };
        self.slots[target].recalled = Some(last);
        let status = RecordedStatus::RollBackLeased { was: Box::new(self.status_of(target, last)) };
        self.slots[target].undone_for = reason;
        self.moved(target, TargetEvent::RollBackQueued);
        out.push(Action::Emit(Event::Queued { target: self.name(target) }));
        out.push(Action::Acquire { target, give_up_at_ms: None, status });
    }

    /// All that acted, newest first.
    fn undo_all(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        // What acts may end first: it may have to be undone, too.
        if self.to_undo.is_none() {
            if self.in_flight.iter().any(|target| !self.is_rolled_back_now(*target)) || self.requests.paused.is_some() {
                return;
            }
            // A roll-back is not repeated unless an operator or an orchestration asks for it.
            let is_left =
                |target: &usize| self.is_to_be_undone(*target) && self.slots[*target].before_roll_back.is_none();
            let mut acted: Vec<usize> = (0..self.slots.len()).filter(is_left).collect();
            acted.sort_by_key(|target| self.slots[*target].final_ms);
            out.push(Action::Emit(Event::RollingBackRun { targets: acted.len() }));
            self.to_undo = Some(acted);
        }
        while super::count(self.in_flight.len()) < self.setup.limits.slots {
            let next = self.to_undo.as_ref().and_then(|left| left.last().copied());
            let Some(target) = next else { return };
            if !self.may_be_undone(now_ms, target) {
                return;
            }
            if let Some(left) = &mut self.to_undo {
                left.pop();
            }
            self.recall(target, "the failure budget is spent".to_owned(), out);
        }
    }

    /// Its slot is there. What has changed since it queued may hold it up once more: then another time.
    pub(super) fn undo_now(&mut self, now_ms: u64, target: usize, out: &mut Vec<Action>) {
        let is_wanted = self.undoing || (self.ending.is_none() && self.invited.undo.contains_key(&target));
        if is_wanted && self.may_be_undone(now_ms, target) {
            self.invited.undo.remove(&target);
            let reason = self.slots[target].undone_for.clone();
            return self.roll_back(now_ms, target, reason, out);
        }
        self.leave(target, super::Then::Wait, "it may not be undone now", out);
    }

    /// Its slot is gone before it was undone.
    pub(super) fn not_undone(&mut self, target: usize, last: FinalStatus) {
        self.moved(target, TargetEvent::Restored(last));
        if let (true, Some(left)) = (self.undoing, &mut self.to_undo) {
            left.push(target);
        }
    }

    /// Of the limits those that protect what is there; budget, windows and waves are for what goes forward.
    fn may_be_undone(&self, now_ms: u64, target: usize) -> bool {
        let facts = self.facts(now_ms, target, super::Gate::Queue);
        let is_floor_kept = self.setup.limits.floor.is_none_or(|floor| facts.remaining >= Some(floor));
        is_floor_kept && self.is_undone_but_for_floor(target)
    }

    /// Whether nothing but the floor can keep a target from being undone now.
    pub(super) fn is_undone_but_for_floor(&self, target: usize) -> bool {
        let is_heard = self.connectivity == super::Connectivity::Connected;
        is_heard && self.requests.paused.is_none() && self.wave_full(target).is_none()
    }

    /// The target that is to be undone next. `None` if nobody is.
    pub(super) fn next_undone(&self) -> Option<usize> {
        match self.undoing {
            true => self.to_undo.as_ref()?.last().copied(),
            false if self.ending.is_some() => None,
            false => self.invited.undo.keys().copied().find(|target| self.is_to_be_undone(*target)),
        }
    }

    fn is_to_be_undone(&self, target: usize) -> bool {
        let slot = &self.slots[target];
        slot.attempt > 0
            && matches!(
                slot.state,
                TargetStatus::Final(FinalStatus::Succeeded | FinalStatus::Failed | FinalStatus::Unknown)
            )
    }

    /// Whether a roll-back that no orchestration asked for is to run once more.
    pub(super) fn has_roll_back_left(&self) -> bool {
        !self.invited.has_orchestration() && self.invited.undo.keys().any(|target| self.is_to_be_undone(*target))
    }

    /// Whether somebody is still to be undone.
    pub(super) fn has_more_to_undo(&self) -> bool {
        self.undoing && self.to_undo.as_ref().is_none_or(|left| !left.is_empty())
    }

    /// Where a recalled target stands when nothing comes of undoing it.
    pub(super) fn status_of(&self, target: usize, last: FinalStatus) -> RecordedStatus {
        let slot = &self.slots[target];
        let was = slot.before_roll_back.clone().map(Box::new);
        match last {
            FinalStatus::Succeeded => RecordedStatus::Succeeded { took_ms: slot.took_ms },
            FinalStatus::Failed => RecordedStatus::Failed { reason: slot.detail.clone(), was },
            FinalStatus::RolledBack => RecordedStatus::RolledBack { reason: slot.undone_for.clone(), was },
            FinalStatus::Unknown | FinalStatus::Skipped => RecordedStatus::Unknown { reason: slot.detail.clone(), was },
        }
    }
}
