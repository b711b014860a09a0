//! The plan of a run: a job's targets in their order, its waves, and its limits as numbers.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use crate::rollout::model::{Budget, HardLimits};

use crate::job::{JobSpec, Order, Rounding, Target, WaveSpec};

/// A rollout before it starts.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The targets in the order in which the policy decides about them.
    pub targets: Vec<Target>,
    /// The job's shares as numbers for these targets.
    pub limits: HardLimits,
    /// The waves in their order. Empty if the job has none.
    pub waves: Vec<Wave>,
}

/// Targets that may start together, after those of the wave before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// Its name.
    pub name: String,
    /// Its targets, as a range of the plan's.
    pub targets: Range<usize>,
    /// How many of them may be in flight at once. `None` if as many as there are slots.
    pub slots: Option<u32>,
    /// Nothing new starts, in any wave, once so many of them have failed. `None` if only the job's budget counts.
    pub stop_at: Option<u32>,
    /// How long nothing starts after the last of them became final.
    pub bake: Duration,
    /// Whether it starts only after an operator approved it.
    pub approve: bool,
}

impl Plan {
    /// Orders the targets, and computes the job's shares for them.
    #[must_use]
    pub fn new(job: &JobSpec, mut targets: Vec<Target>) -> Self {
        match job.targets.order {
            Order::Listed => {}
            Order::Name => targets.sort_by_cached_key(|target| natural(target.name.as_str())),
            Order::Shuffle { seed } => targets.shuffle(&mut StdRng::seed_from_u64(seed)),
        }
        Self::of(job, targets)
    }

    /// The plan for targets that the runner that started the run has put in order.
    #[must_use]
    pub fn of(job: &JobSpec, targets: Vec<Target>) -> Self {
        let total = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        let budget = job.budget();
        let limits = HardLimits {
            slots: job.semaphore.max_concurrency.slots(total).get(),
            floor: job.party.as_ref().map(|party| party.min_nodes.of(total, Rounding::Floor)),
            calendar: Arc::new(job.calendar.clone()),
            budget: Budget {
                stop_at: budget.stop_at.and_then(|stop_at| stop_at.of(total)),
                max_failed: budget.max_failed.map(|max_failed| max_failed.of(total, Rounding::Budget)),
            },
        };
        Self { targets, limits, waves: waves(&job.waves, total) }
    }

    /// How many of the slots the budget leaves usable, after so many failures: at the start, after the first failure that makes
    /// them fewer, and before the last that stops the run.
    #[must_use]
    pub fn usable_slots(&self) -> Vec<(u32, u32)> {
        let budget = self.limits.budget;
        // More targets than there are do not run at once.
        let slots = self.limits.slots.min(u32::try_from(self.targets.len()).unwrap_or(u32::MAX)).max(1);
        let usable = |failed: u32| budget.at_once(failed).map_or(slots, |at_once| at_once.min(slots));
        let last = budget.stop_at().map_or(0, |stop_at| stop_at - 1);
        let fewer = budget.max_failed.map(|max_failed| max_failed.saturating_add(1).saturating_sub(usable(0)).max(1));
        let mut points = vec![0];
        points.extend(fewer.filter(|failed| *failed <= last));
        points.extend(fewer.filter(|failed| *failed < last).map(|_| last));
        points.into_iter().map(|failed| (failed, usable(failed))).collect()
    }

    /// How many batches the run takes if every slot is free and all targets take the same time.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.batch_of_each().last().copied().unwrap_or_default()
    }

    /// The batch of each target then, from 1.
    #[must_use]
    pub fn batch_of_each(&self) -> Vec<usize> {
        let slots = self.limits.slots.max(1);
        let all = (0..self.targets.len(), slots);
        let waves = self.waves.iter().map(|wave| (wave.targets.clone(), wave.slots.unwrap_or(slots).clamp(1, slots)));
        let mut batches = Vec::with_capacity(self.targets.len());
        for (targets, slots) in waves.chain(self.waves.is_empty().then_some(all)) {
            let before = batches.last().copied().unwrap_or_default();
            batches.extend((0..targets.len()).map(|index| before + 1 + index / slots as usize));
        }
        batches
    }

    /// The wave that a target is in.
    #[must_use]
    pub fn wave_of(&self, target: usize) -> Option<&Wave> {
        self.waves.iter().find(|wave| wave.targets.contains(&target))
    }
}

/// The waves in their order, without those for which no target is left.
fn waves(specs: &[WaveSpec], total: u32) -> Vec<Wave> {
    let mut waves = Vec::with_capacity(specs.len());
    let mut start = 0;
    for spec in specs {
        let size = spec.size.map_or(u32::MAX, |size| size.of(total, Rounding::Limit)).min(total - start);
        if size == 0 {
            continue;
        }
        let range = |at: u32| usize::try_from(at).unwrap_or(usize::MAX);
        waves.push(Wave {
            name: spec.name.clone(),
            targets: range(start)..range(start + size),
            slots: spec.max_concurrency.map(|most| most.of(size, Rounding::Limit)),
            stop_at: spec.stop_at.and_then(|stop_at| stop_at.of(size)),
            bake: spec.bake,
            approve: spec.approve,
        });
        start += size;
    }
    waves
}

/// A name's text and numbers in turn, so that `web2` is sorted before `web10`.
fn natural(name: &str) -> Vec<(String, u128)> {
    let mut parts = Vec::new();
    let mut rest = name;
    while !rest.is_empty() {
        let text_end = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(text_end);
        let digits_end = tail.find(|c: char| !c.is_ascii_digit()).unwrap_or(tail.len()).min(30);
        let (digits, tail) = tail.split_at(digits_end);
        parts.push((text.to_owned(), digits.parse().unwrap_or(0)));
        rest = tail;
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Limit, Share, StopAt};

    fn plan(targets: usize, slots: u32, waves: &[(usize, Option<u32>)]) -> Plan {
        let name = |number| Target::unlabelled(crate::job::TargetName::parse(&format!("web{number}")).unwrap());
        let mut from = 0;
        let wave = |(size, slots): &(usize, Option<u32>)| {
            from += size;
            let targets = from - size..from;
            let (name, bake) = (from.to_string(), Duration::ZERO);
            Wave { name, targets, slots: *slots, stop_at: None, bake, approve: false }
        };
        let limits = HardLimits { slots, ..HardLimits::default() };
        Plan { targets: (0..targets).map(name).collect(), limits, waves: waves.iter().map(wave).collect() }
    }

    #[test]
    fn a_batch_ends_with_its_wave() {
        assert_eq!(plan(5, 2, &[]).batch_of_each(), [1, 1, 2, 2, 3]);
        let waves = plan(7, 2, &[(1, None), (3, Some(9)), (0, None), (3, Some(1))]);
        assert_eq!(waves.batch_of_each(), [1, 2, 2, 3, 4, 5, 6]);
        assert_eq!((waves.batches(), plan(0, 2, &[]).batches()), (6, 0));
        assert_eq!(waves.wave_of(3).unwrap().name, "4");
        assert_eq!(waves.wave_of(7), None);
    }

    #[test]
    fn a_budget_that_reserves_leaves_fewer_slots_after_each_failure() {
        let usable = |targets, slots, stop_at, max_failed| {
            let mut plan = plan(targets, slots, &[]);
            plan.limits.budget = Budget { stop_at, max_failed };
            plan.usable_slots()
        };
        assert_eq!(usable(100, 20, None, Some(3)), [(0, 3), (1, 2), (2, 1)]);
        assert_eq!(usable(4000, 100, None, Some(80)), [(0, 80), (1, 79), (79, 1)]);
        assert_eq!(usable(100, 20, Some(2), Some(3)), [(0, 3), (1, 2)]);
        assert_eq!(usable(100, 20, Some(10), Some(25)), [(0, 20), (6, 19), (9, 16)]);
        assert_eq!(usable(100, 20, None, Some(1)), [(0, 1)]);
        assert_eq!(usable(100, 20, None, Some(0)), [(0, 1)]);
        // With `stop-at` + slots nothing is ever kept back, nor with `stop-at` alone, nor without any number.
        assert_eq!(usable(100, 20, Some(3), Some(23)), [(0, 20)]);
        assert_eq!(usable(4000, 100, Some(80), None), [(0, 100)]);
        assert_eq!(usable(100, 20, None, None), [(0, 20)]);
        assert_eq!(usable(2, 20, None, Some(3)), [(0, 2), (2, 1)]);
        assert_eq!(usable(100, 20, None, Some(u32::MAX)).len(), 3);
    }

    #[test]
    fn waves_share_the_targets_out() {
        let spec = |name: &str, size: Option<Limit>, most: Option<Limit>| WaveSpec {
            name: name.to_owned(),
            size,
            max_concurrency: most,
            stop_at: Some(StopAt::Failures(Limit::Share(Share::parse("50%").unwrap()))),
            bake: Duration::ZERO,
            approve: false,
        };
        let share = |text: &str| Some(Limit::Share(Share::parse(text).unwrap()));
        let specs = [
            spec("one", Some(Limit::Count(1)), None),
            spec("some", share("25%"), share("50%")),
            spec("rest", None, None),
        ];
        let ranges =
            |total| waves(&specs, total).into_iter().map(|wave| (wave.targets, wave.slots)).collect::<Vec<_>>();
        assert_eq!(ranges(9), [(0..1, None), (1..3, Some(1)), (3..9, None)]);
        // So many of the wave's own, and never below one.
        assert_eq!(waves(&specs, 9).iter().map(|wave| wave.stop_at).collect::<Vec<_>>(), [Some(1), Some(1), Some(3)]);
        // A share is of all targets and never below one; and a wave that finds none left is none.
        assert_eq!(ranges(2), [(0..1, None), (1..2, Some(1))]);
        assert_eq!(ranges(0), []);
    }

    #[test]
    fn names_are_ordered_as_people_count() {
        let mut names = vec!["web10", "web2", "db1", "web2a", "web", "web02"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["db1", "web", "web2", "web02", "web2a", "web10"]);
    }
}
