//! How many targets have failed, of the run and of each wave, and what happens once these are enough.

use super::{End, FinalStatus, Refusal, Refused, TargetStatus};
use crate::job::{OnExhausted, OnUnknown};
use crate::policy::types::Ending;
use crate::rollout::machine::Rollout;
use crate::rollout::machine::rollout::count;
use crate::rollout::model::{Action, Facts, RecordedStatus, WaveSpent};

/// Which failures are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Counted {
    /// Those of targets that are final.
    FinalStatus,
    /// Before a target starts: those, too, whose last attempt has failed while their slot is not free yet. The target itself
    /// is left out.
    ToStart(usize),
    /// Before the run ends for it: without unknown targets that hold the run, which an operator retries or accepts first.
    ToEnd,
}

impl Rollout {
    /// How many targets are charged to the budget: those whose failure somebody accepted are not.
    pub(super) fn charged(&self) -> u32 {
        self.failures(None, Counted::FinalStatus)
    }

    /// How many have failed before `target` starts.
    pub(super) fn failed_before(&self, target: usize) -> u32 {
        self.failures(None, Counted::ToStart(target))
    }

    /// The first wave that has reached its own `stop-at` before `target` starts.
    pub(super) fn wave_spent_before(&self, target: usize) -> Option<WaveSpent> {
        self.wave_spent(Counted::ToStart(target))
    }

    /// Whether this one has failed, though its slot is not free yet: what follows takes nothing of that back.
    pub(super) fn has_failed(&self, target: usize) -> bool {
        let slot = &self.slots[target];
        match slot.state {
            TargetStatus::ActionEnded(Ending::Succeeded) => false,
            // It holds the run, and is retried or accepted first.
            TargetStatus::ActionEnded(Ending::Unknown) if self.setup.on_unknown == OnUnknown::Hold => false,
            TargetStatus::ActionEnded(_) => {
                let is_to_be_settled = self.to_settle.iter().any(|(other, _)| *other == target)
                    || self.asking.is_some_and(|(asked, _)| asked == target);
                slot.leaving.is_none() && slot.retry_at_ms.is_none() && !(is_to_be_settled && self.may_go_again(target))
            }
            TargetStatus::Unsettled if self.is_roll_back_found(target) => self.failed_before_roll_back(target),
            // An earlier runner saw it fail, and the policy cannot have it tried again.
            TargetStatus::Unsettled => {
                let was_seen_to_fail = slot.found.as_ref().is_some_and(super::found::Found::was_seen_to_fail);
                was_seen_to_fail && !self.has_attempts_left(target)
            }
            // Whatever becomes of undoing it, it counts.
            TargetStatus::RollingBack | TargetStatus::RollBackEnded(_) => true,
            TargetStatus::Queued | TargetStatus::Leased => {
                matches!(slot.recalled, Some(FinalStatus::Failed | FinalStatus::Unknown))
            }
            _ => false,
        }
    }

    /// Whether a roll-back that no runner saw end is being settled.
    fn is_roll_back_found(&self, target: usize) -> bool {
        let slot = &self.slots[target];
        slot.state == TargetStatus::Unsettled && slot.found.as_ref().is_some_and(super::found::Found::is_roll_back)
    }

    /// Whether its action did not succeed, where what is unknown is how its roll-back went.
    fn failed_before_roll_back(&self, target: usize) -> bool {
        self.slots[target].before_roll_back.as_ref().is_some_and(RecordedStatus::did_not_succeed)
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
        let all = match wave {
            Some(wave) => self.waves.charged_of(wave),
            None => self.counts.failed + self.counts.unknown + self.counts.rolled_back,
        };
        let is_meant = |target: usize| wave.is_none_or(|wave| self.waves.index_of(target) == Some(wave));
        let is_accepted = |target: &&usize| is_charged(self.slots[**target].state) && is_meant(**target);
        let all = all.saturating_sub(count(self.requests.accepted.iter().filter(is_accepted).count()));
        // What is not known of them is how their roll-back went.
        let is_rolled_back = |target: &&usize| {
            is_meant(**target) && self.is_roll_back_found(**target) && self.failed_before_roll_back(**target)
        };
        let rolled_back = || count(self.in_flight.iter().filter(is_rolled_back).count());
        match counted {
            Counted::FinalStatus => all,
            Counted::ToStart(except) => {
                let failed = |target: &&usize| **target != except && self.has_failed(**target) && is_meant(**target);
                all + count(self.in_flight.iter().filter(failed).count())
            }
            Counted::ToEnd if self.setup.on_unknown == OnUnknown::Hold => {
                let is_held = |target: &usize| !self.failed_before_roll_back(*target);
                let held = self.unknown.difference(&self.requests.accepted).filter(|target| is_meant(**target));
                let held = held.copied().filter(is_held);
                all.saturating_sub(count(held.count())) + rolled_back()
            }
            Counted::ToEnd => all + rolled_back(),
        }
    }

    /// Ends the run, or has it undone, once so many have failed that nothing new starts.
    pub(super) fn check_budget(&mut self, out: &mut Vec<Action>) {
        if self.ending.is_some() {
            return;
        }
        let (failed, wave_spent) = (self.failures(None, Counted::ToEnd), self.wave_spent(Counted::ToEnd));
        let is_exceeded = self.setup.limits.budget.is_exceeded(failed) || wave_spent.is_some();
        let facts = Facts { failed, wave_spent, ..Facts::default() };
        let Some(refusal) = self.setup.limits.spent(&facts) else { return };
        // With nothing left to start, a budget that is used up is kept all the same; one that is exceeded is not.
        let is_kept = !is_exceeded || self.setup.on_exhausted != OnExhausted::RollBack;
        if self.counts.open() == 0 && is_kept {
            return;
        }
        let reason = refusal.to_string();
        match self.setup.on_exhausted {
            OnExhausted::Abort => self.end(End::BudgetSpent(reason), out),
            // The limits refuse whoever wants to go.
            OnExhausted::Pause => {}
            OnExhausted::RollBack => {
                self.undoing = true;
                self.end(End::BudgetSpent(format!("{reason}; what was done is undone")), out);
            }
        }
    }

    /// The refusal of a wave that could start nothing, for so many have failed; an earlier runner has not begun it either.
    pub(super) fn refused_for_budget(&self, now_ms: u64, wave: usize) -> Option<(usize, Box<Refused>)> {
        let targets = &self.setup.waves.get(wave)?.targets;
        let is_untouched = self.waves.left_of(wave) == count(targets.len());
        let (first, refused) = (targets.start, self.may(now_ms, super::Gate::Queue, targets.start).err()?);
        (is_untouched && matches!(refused.refusal, Refusal::BudgetSpent { .. })).then_some((first, refused))
    }

    /// A target went from one state to another.
    pub(super) fn charged_to_wave(&mut self, target: usize, before: TargetStatus, after: TargetStatus) {
        self.waves.charge(target, is_charged(before), is_charged(after));
    }
}

fn is_charged(state: TargetStatus) -> bool {
    matches!(state, TargetStatus::Final(FinalStatus::Failed | FinalStatus::Unknown | FinalStatus::RolledBack))
}
