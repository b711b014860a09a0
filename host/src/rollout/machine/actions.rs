//! Actions: how they start, end and are repeated.

use std::time::Duration;

use crate::job::OnExhausted;
use crate::policy::types::{Cause, Ending, EventKind, Outcome};
use crate::rollout::machine::Rollout;
use crate::rollout::machine::checks::LimitCheck;
use crate::rollout::model::{
    Action, ActionResult, CommandKind, Course, End, Event, RecordedStatus, Refusal, RunFailure, Stop, TargetEvent,
    TargetIndex, TargetStatus, stale_mark,
};
use lockkeeper_coordination::store::millis;

/// The exit code of `lockkeeper guard` for a fence that came too late.
const STALE_EXIT: i32 = 77;

/// How often in a row a fence that was refused as stale is replaced by a new lease: after that it is a failure like any other.
const MOST_STALE: u32 = 3;

/// How often the pause before another attempt doubles at most.
const MOST_DOUBLINGS: u32 = 10;

/// The longest pause before another attempt that doubling comes to.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60 * 60);

impl Rollout {
    /// Starts the action of a target that holds a slot.
    pub(super) fn start(&mut self, target: TargetIndex) {
        let entry = &mut self.targets[target];
        let fence = entry.lease().expect("a target whose lease is lost leaves, and is not started").fence;
        entry.attempts.started += 1;
        entry.attempts.fence = fence;
        entry.waiting.left_unused = 0;
        entry.last_run.before_roll_back = None;
        let attempt = entry.attempts.started;
        self.sweep.blocker = None;
        self.advance(target, TargetEvent::Started);
        self.record_event(target, EventKind::Started, "");
        self.emit(Event::Started { target: self.name(target), attempt, fence });
        let (command_kind, status) = (CommandKind::Action, RecordedStatus::Running);
        self.act(Action::Start { target, command_kind, attempt, fence, status });
    }

    /// An action or a roll-back ended.
    pub(super) fn ended(&mut self, target: TargetIndex, result: ActionResult) {
        if result.course == Course::ContactLost && self.stop != Some(Stop::Now) && !self.is_lost() {
            return self.contact_lost(target, result);
        }
        if result.course == Course::RunnerFailed {
            return self.runner_failed(target, result.detail);
        }
        if result.course == Course::NotStarted && result.ending == Ending::Unknown {
            return self.not_started(target, result.detail);
        }
        if self.status(target) == TargetStatus::RollingBack {
            return self.roll_back_ended(target, result);
        }
        if self.is_refused_as_stale(target, &result) {
            return self.lease_anew(target);
        }
        self.action_ended(target, result);
    }

    fn action_ended(&mut self, target: TargetIndex, result: ActionResult) {
        let ActionResult { ending, exit_code, took_ms, detail, output, log, .. } = result;
        self.advance(target, TargetEvent::Ended(ending));
        let is_stopping = self.stop.is_some();
        let entry = &mut self.targets[target];
        (entry.attempts.stale_in_a_row, entry.attempts.unknown_in_a_row) = (0, 0);
        entry.last_run.detail.clone_from(&detail);
        entry.last_run.took_ms = Some(took_ms);
        if let Some(ended) = entry.action_ended_mut() {
            // One that this runner stopped may have succeeded all the same: the next runner finds out.
            ended.is_left_to_next_runner = ending == Ending::Unknown && is_stopping;
        }
        let attempt = entry.attempts.started;
        let kind = match ending {
            Ending::Succeeded => EventKind::Succeeded,
            Ending::Unknown => EventKind::Unknown,
            Ending::Failed | Ending::TimedOut | Ending::LeaseLost => EventKind::Failed,
        };
        self.record_event(target, kind, &detail);
        if ending == Ending::Succeeded {
            self.totals.succeeded += 1;
            self.totals.took_ms = self.totals.took_ms.saturating_add(took_ms);
            self.totals.longest_ms = self.totals.longest_ms.max(Some(took_ms));
        }
        let name = self.name(target);
        self.emit(match ending {
            Ending::Succeeded => Event::Succeeded { target: name, took_ms },
            _ => Event::Failed { target: name, attempt, ending, detail, took_ms, output, log },
        });
        match self.stop {
            // Neither a runner that stops at once nor one that has lost the run waits for a policy.
            Some(Stop::Now) => self.release(target),
            _ if self.is_lost() => self.release(target),
            // Its slot is not free yet: the policy decides about other targets when it is, or is kept.
            _ => {
                let outcome = Outcome { ending, exit_code, took: took_ms, attempt };
                self.decisions.to_settle.push_back((target, outcome));
            }
        }
    }

    /// The runner's own machine could not start it: nothing ran, nothing is charged, and nothing new starts.
    fn runner_failed(&mut self, target: TargetIndex, reason: String) {
        self.not_started(target, reason.clone());
        self.cut_short(End::Failed(RunFailure::Runner(reason)));
    }

    /// The start was written down, and nothing of it ran: it starts again, and that was no attempt.
    fn not_started(&mut self, target: TargetIndex, reason: String) {
        self.emit(Event::ReleasedUnused { target: self.name(target), reason });
        if self.status(target) == TargetStatus::RollingBack {
            self.advance(target, TargetEvent::Unsettled);
            self.roll_back_anew(target);
        } else {
            self.advance(target, TargetEvent::Ended(Ending::Failed));
            self.targets[target].attempts.discount_last();
            self.reopen(target);
        }
    }

    /// Whether the far end refused the fence because it had seen a later one, and so started nothing.
    fn is_refused_as_stale(&self, target: TargetIndex, result: &ActionResult) -> bool {
        let entry = &self.targets[target];
        let Some(held) = entry.lease() else { return false };
        let mark = stale_mark(held.fence.get());
        result.exit_code == Some(STALE_EXIT)
            && result.output.iter().any(|line| line.contains(&mark))
            && entry.attempts.stale_in_a_row < MOST_STALE
            && self.ending.is_none()
    }

    /// Another lease has a later fence. What was refused before it started counts as no attempt.
    fn lease_anew(&mut self, target: TargetIndex) {
        self.advance(target, TargetEvent::Ended(Ending::Failed));
        let attempts = &mut self.targets[target].attempts;
        attempts.stale_in_a_row += 1;
        attempts.discount_last();
        let attempt = attempts.started + 1;
        let reason = "the far end refused the fence as stale and started nothing: it gets a new lease".to_owned();
        self.emit(Event::Retrying { target: self.name(target), attempt, reason, after_ms: 0 });
        self.reopen(target);
    }

    /// The target may start again. That is written as a release whether it holds its lease or not: with the answer everything
    /// is written, and nothing else writes about the target when it queues next.
    pub(super) fn reopen(&mut self, target: TargetIndex) {
        self.targets[target].reopen();
        self.act(Action::Release { target, status: RecordedStatus::Pending });
    }

    // ------------------------------------------------------------------ under the slot that it holds

    /// A target bakes: its slot is released later.
    pub(super) fn keep_slot(&mut self, target: TargetIndex, keep_ms: u64, reason: String) {
        let until = self.now.after_ms(keep_ms);
        self.schedule.keeps.set(target, until);
        self.sweep.changed(Cause::Progressed);
        if let TargetStatus::ActionEnded(ending) = self.status(target) {
            let took_ms = self.targets[target].last_run.took_ms.unwrap_or(0);
            let status = RecordedStatus::KeepingSlot { ending, exit_code: None, took_ms, until: until.get() };
            self.act(Action::Save { target, status });
        }
        self.emit(Event::KeepingSlot { target: self.name(target), keep_ms, reason });
    }

    pub(super) fn release_kept_slots(&mut self) {
        while let Some(target) = self.schedule.keeps.pop_due(self.now) {
            self.release(target);
        }
    }

    /// Whether a target may have another attempt as far as the run and its own attempts go.
    pub(super) fn may_retry(&self, target: TargetIndex) -> bool {
        matches!(self.status(target), TargetStatus::ActionEnded(Ending::Failed | Ending::TimedOut))
            && self.has_attempts_left(target)
            && self.ending.is_none()
    }

    pub(super) fn has_attempts_left(&self, target: TargetIndex) -> bool {
        self.targets[target].attempts.counted() < self.setup.attempts
    }

    /// A target keeps its slot for a pause, and has another attempt then.
    pub(super) fn back_off(&mut self, target: TargetIndex, reason: String) {
        let attempts = &self.targets[target].attempts;
        let (counted, attempt) = (attempts.counted(), attempts.started + 1);
        let back_off = millis(self.setup.back_off);
        let after_ms = back_off.saturating_mul(1 << counted.saturating_sub(1).min(MOST_DOUBLINGS));
        // A job may set a longer pause; then it is that from the first on.
        let after_ms = after_ms.min(millis(LONGEST_BACK_OFF).max(back_off));
        let until = self.now.after_ms(after_ms);
        self.schedule.retries.set(target, until);
        if let TargetStatus::ActionEnded(ending) = self.status(target) {
            self.act(Action::Save { target, status: RecordedStatus::Retrying { ending, until: until.get() } });
        }
        self.emit(Event::Retrying { target: self.name(target), attempt, reason, after_ms });
    }

    /// Starts the attempts that are due.
    pub(super) fn start_retries(&mut self) {
        for target in self.schedule.retries.due(self.now) {
            // After a takeover its lease may not have been taken over yet, nor the party been read.
            if self.targets[target].lease().is_none() || !self.store_view.is_party_known() {
                continue;
            }
            self.schedule.retries.cancel(target);
            self.retry(target);
        }
    }

    /// Another attempt under the slot that the target holds, if the limits allow it now.
    pub(super) fn retry(&mut self, target: TargetIndex) {
        match self.check_limits(LimitCheck::ToStart, target) {
            Ok(()) => self.start(target),
            Err(refused) => {
                self.report_refused(target, &refused);
                let may_pass = match refused.refusal {
                    // An operator says how to continue, or the run ends.
                    Refusal::BudgetSpent { .. } => self.setup.on_exhausted == OnExhausted::Pause,
                    _ => true,
                };
                if may_pass {
                    // Its attempts are not used up: it starts when its turn comes again.
                    let reason = "a hard limit refuses its next attempt now".to_owned();
                    self.emit(Event::ReleasedUnused { target: self.name(target), reason });
                    self.reopen(target);
                } else {
                    self.release(target);
                }
            }
        }
    }
}
