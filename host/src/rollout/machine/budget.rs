//! The failure budget: how many targets of the run and of each wave have failed, and what happens once these are enough.

use crate::job::{OnExhausted, OnUnknown};
use crate::policy::types::Ending;
use crate::rollout::machine::Rollout;
use crate::rollout::machine::checks::{LimitCheck, Refused};
use crate::rollout::machine::rollout::count;
use crate::rollout::machine::waves::range;
use crate::rollout::model::{End, Facts, FinalStatus, RecordedStatus, Refusal, TargetIndex, TargetStatus, WaveSpent};

/// Which failures are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// Those of final targets.
    Final,
    /// Before this target starts: also those whose last attempt has failed while their slot is not free yet. The target itself
    /// is not counted.
    ToStart(TargetIndex),
    /// Before the run ends for it: without unknown targets that block the run, which an operator retries or accepts first.
    ToEnd,
}

impl Rollout {
    /// How many targets are charged to the budget: not those whose failure is accepted.
    pub(super) fn charged(&self) -> u32 {
        self.failures(None, Counted::Final)
    }

    /// How many have failed before `target` starts.
    pub(super) fn failed_before(&self, target: TargetIndex) -> u32 {
        self.failures(None, Counted::ToStart(target))
    }

    /// The first wave that has reached its own `stop-at` before `target` starts.
    pub(super) fn wave_spent_before(&self, target: TargetIndex) -> Option<WaveSpent> {
        self.wave_spent(Counted::ToStart(target))
    }

    /// Whether a target in flight has failed, although its slot is not free yet: nothing that follows changes that.
    pub(super) fn has_failed(&self, target: TargetIndex) -> bool {
        let entry = &self.targets[target];
        match entry.status() {
            TargetStatus::ActionEnded(Ending::Succeeded) => false,
            // It blocks the run, and is retried or accepted first.
            TargetStatus::ActionEnded(Ending::Unknown) if self.setup.on_unknown == OnUnknown::Hold => false,
            TargetStatus::ActionEnded(_) => {
                !entry.is_leaving()
                    && self.schedule.retries.of(target).is_none()
                    && !(self.decisions.is_to_settle(target) && self.may_retry(target))
            }
            TargetStatus::Unsettled if self.is_roll_back_unsettled(target) => self.failed_before_roll_back(target),
            // An earlier runner saw it fail, and the policy cannot have another attempt.
            TargetStatus::Unsettled => {
                let was_seen_to_fail = entry.recovery().is_some_and(|recovery| recovery.was_seen_to_fail());
                was_seen_to_fail && !self.has_attempts_left(target)
            }
            // Whatever becomes of its roll-back, it counts.
            TargetStatus::RollingBack | TargetStatus::RollBackEnded(_) => true,
            TargetStatus::Queued | TargetStatus::Leased => {
                matches!(entry.roll_back_from(), Some(FinalStatus::Failed | FinalStatus::Unknown))
            }
            _ => false,
        }
    }

    /// Whether what is being found out is how a target's roll-back ended.
    fn is_roll_back_unsettled(&self, target: TargetIndex) -> bool {
        self.targets[target].recovery().is_some_and(|recovery| recovery.is_roll_back())
    }

    /// Whether a target's action did not succeed, if it was rolled back since.
    fn failed_before_roll_back(&self, target: TargetIndex) -> bool {
        self.targets[target].last_run.before_roll_back.as_ref().is_some_and(RecordedStatus::did_not_succeed)
    }

    fn wave_spent(&self, counted: Counted) -> Option<WaveSpent> {
        self.setup.waves.iter().enumerate().find_map(|(index, wave)| {
            let stop_at = wave.stop_at?;
            let failed = self.failures(Some(index), counted);
            (failed >= stop_at).then(|| WaveSpent { wave: wave.name.clone(), failed, stop_at })
        })
    }

    /// Of the run, or of one of its waves.
    fn failures(&self, wave: Option<usize>, counted: Counted) -> u32 {
        let counts = self.counts();
        let all = match wave {
            Some(wave) => self.waves.charged(wave),
            None => counts.failed + counts.unknown + counts.rolled_back,
        };
        let is_meant = |target: TargetIndex| wave.is_none_or(|wave| self.waves.of(target) == Some(wave));
        let is_accepted = |target: &&TargetIndex| is_charged(self.status(**target)) && is_meant(**target);
        let all = all.saturating_sub(count(self.requests.accepted.iter().filter(is_accepted).count()));
        // Their roll-back is what is not known.
        let is_rolled_back = |target: &&TargetIndex| {
            is_meant(**target) && self.is_roll_back_unsettled(**target) && self.failed_before_roll_back(**target)
        };
        let rolled_back = || count(self.targets.in_flight().iter().filter(is_rolled_back).count());
        match counted {
            Counted::Final => all,
            Counted::ToStart(except) => {
                let failed =
                    |target: &&TargetIndex| **target != except && self.has_failed(**target) && is_meant(**target);
                all + count(self.targets.in_flight().iter().filter(failed).count())
            }
            Counted::ToEnd if self.setup.on_unknown == OnUnknown::Hold => {
                let is_blocking = |target: &&TargetIndex| is_meant(**target) && !self.failed_before_roll_back(**target);
                let blocking = self.targets.unknown().difference(&self.requests.accepted).filter(is_blocking);
                all.saturating_sub(count(blocking.count())) + rolled_back()
            }
            Counted::ToEnd => all + rolled_back(),
        }
    }

    /// Ends the run, or has it rolled back, once so many targets have failed that nothing new starts.
    pub(super) fn check_budget(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let (failed, wave_spent) = (self.failures(None, Counted::ToEnd), self.wave_spent(Counted::ToEnd));
        let is_exceeded = self.setup.limits.budget.is_exceeded(failed) || wave_spent.is_some();
        let facts = Facts { failed, wave_spent, ..Facts::default() };
        let Some(refusal) = self.setup.limits.spent(&facts) else { return };
        // With nothing left to start, a budget that is used up is kept all the same; one that is exceeded is not.
        let is_kept = !is_exceeded || self.setup.on_exhausted != OnExhausted::RollBack;
        if self.counts().open() == 0 && is_kept {
            return;
        }
        let reason = refusal.to_string();
        match self.setup.on_exhausted {
            OnExhausted::Abort => self.end(End::BudgetSpent(reason)),
            // The limits refuse every target that would start.
            OnExhausted::Pause => {}
            OnExhausted::RollBack => {
                self.roll_backs.is_of_run = true;
                self.end(End::BudgetSpent(format!("{reason}; the run is rolled back")));
            }
        }
    }

    /// The refusal of a wave of which no target could start, because so many have failed; no earlier runner has started it
    /// either. With the wave's first target.
    pub(super) fn refused_for_budget(&self, wave: usize) -> Option<(TargetIndex, Box<Refused>)> {
        let targets = range(self.setup.waves.get(wave)?);
        let is_untouched = self.waves.left(wave) == count(self.setup.waves[wave].targets.len());
        let (first, refused) = (targets.start, self.check_limits(LimitCheck::ToQueue, targets.start).err()?);
        (is_untouched && matches!(refused.refusal, Refusal::BudgetSpent { .. })).then_some((first, refused))
    }
}

/// Whether a target is charged to the budget, unless that is accepted.
pub(super) fn is_charged(status: TargetStatus) -> bool {
    matches!(status, TargetStatus::Final(FinalStatus::Failed | FinalStatus::Unknown | FinalStatus::RolledBack))
}
