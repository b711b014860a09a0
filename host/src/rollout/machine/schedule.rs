//! What is due at a time: one timer of each kind for a target.

use std::collections::{BTreeMap, BTreeSet};

use crate::rollout::model::{EpochMs, TargetIndex};

/// Every timer of the run's targets.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    /// When the policy decides about a target out of turn, because it asked for that.
    pub(super) wakes: Timers,
    /// When the policy may decide again about a target that left its slot unused.
    pub(super) pauses: Timers,
    /// When a kept slot is released: a target bakes until then.
    pub(super) keeps: Timers,
    /// When a target that another holder blocks is skipped.
    pub(super) give_ups: Timers,
    /// When the next attempt is due under the slot that a target holds.
    pub(super) retries: Timers,
}

/// Timers of one kind, in the order of time; one for a target at most.
#[derive(Debug, Default)]
pub(super) struct Timers {
    by_time: BTreeSet<(EpochMs, TargetIndex)>,
    of_target: BTreeMap<TargetIndex, EpochMs>,
}

impl Schedule {
    /// The wall clock was set: what waits for a span waits as long as before.
    pub(super) fn shift(&mut self, by_ms: i64) {
        let Self { wakes, pauses, keeps, give_ups, retries } = self;
        [wakes, pauses, keeps, give_ups, retries].into_iter().for_each(|timers| timers.shift(by_ms));
    }
}

impl Timers {
    /// Sets a target's timer, in place of an earlier one.
    pub(super) fn set(&mut self, target: TargetIndex, at: EpochMs) {
        self.cancel(target);
        self.of_target.insert(target, at);
        self.by_time.insert((at, target));
    }

    /// Removes a target's timer. Whether there was one.
    pub(super) fn cancel(&mut self, target: TargetIndex) -> bool {
        let at = self.of_target.remove(&target);
        at.is_some_and(|at| self.by_time.remove(&(at, target)))
    }

    /// When a target's timer is due. `None` if it has none.
    pub(super) fn of(&self, target: TargetIndex) -> Option<EpochMs> {
        self.of_target.get(&target).copied()
    }

    /// When the first timer is due.
    pub(super) fn first(&self) -> Option<EpochMs> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// When the first timer after `now` is due.
    pub(super) fn first_after(&self, now: EpochMs) -> Option<EpochMs> {
        self.by_time.range((now.after_ms(1), TargetIndex::new(0))..).next().map(|(at, _)| *at)
    }

    /// The targets whose timers are due by `now`, in the order of time.
    pub(super) fn due(&self, now: EpochMs) -> Vec<TargetIndex> {
        self.by_time.range(..=(now, TargetIndex::MAX)).map(|(_, target)| *target).collect()
    }

    /// Removes the first timer that is due by `now`, and returns its target.
    pub(super) fn pop_due(&mut self, now: EpochMs) -> Option<TargetIndex> {
        let &(_, target) = self.by_time.first().filter(|(at, _)| *at <= now)?;
        self.cancel(target);
        Some(target)
    }

    /// Removes every timer, and returns their targets in the order of time.
    pub(super) fn take_all(&mut self) -> Vec<TargetIndex> {
        self.of_target.clear();
        std::mem::take(&mut self.by_time).into_iter().map(|(_, target)| target).collect()
    }

    fn shift(&mut self, by_ms: i64) {
        self.of_target.values_mut().for_each(|at| *at = at.shifted(by_ms));
        self.by_time = self.of_target.iter().map(|(target, at)| (*at, *target)).collect();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(index: usize) -> TargetIndex {
        TargetIndex::new(index)
    }

    #[test]
    fn a_second_timer_replaces_the_first() {
        let mut timers = Timers::default();
        timers.set(target(1), EpochMs::new(10));
        timers.set(target(0), EpochMs::new(20));
        timers.set(target(1), EpochMs::new(30));
        assert_eq!(timers.first(), Some(EpochMs::new(20)));
        assert_eq!(timers.due(EpochMs::new(30)), [target(0), target(1)]);
        assert_eq!(timers.first_after(EpochMs::new(20)), Some(EpochMs::new(30)));
    }

    #[test]
    fn a_cancelled_timer_is_never_due() {
        let mut timers = Timers::default();
        timers.set(target(1), EpochMs::new(10));
        assert!(timers.cancel(target(1)));
        assert!(!timers.cancel(target(1)));
        assert_eq!(timers.pop_due(EpochMs::new(99)), None);
    }

    #[test]
    fn timers_move_with_the_clock() {
        let mut timers = Timers::default();
        timers.set(target(1), EpochMs::new(1_000));
        timers.shift(-400);
        assert_eq!(
            (timers.of(target(1)), timers.pop_due(EpochMs::new(600))),
            (Some(EpochMs::new(600)), Some(target(1)))
        );
    }
}
