//! From a job and its targets to who goes in which order under which limits; pure.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::HardLimits;

use crate::job::{JobSpec, Order, Rounding, Target};

/// A rollout before it begins.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In the order in which they are asked.
    pub targets: Vec<Target>,
    /// The job's shares as numbers for these targets.
    pub limits: HardLimits,
    /// The waves; none where the job has none.
    pub waves: Vec<Wave>,
}

/// Targets that go together, after those of the wave before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wave {
    /// What it is called.
    pub name: String,
    /// Its targets, as a range of the plan's.
    pub targets: Range<usize>,
    /// How many of them may be under way at once; none: as many as there are slots.
    pub slots: Option<u32>,
    /// How long nothing starts after the last of them is done with.
    pub bake: Duration,
    /// Whether it begins only when somebody approves of it.
    pub approve: bool,
}

impl Plan {
    /// Orders the targets and makes numbers of the job's shares.
    #[must_use]
    pub fn new(job: &JobSpec, mut targets: Vec<Target>) -> Self {
        match job.targets.order {
            Order::Listed => {}
            Order::Name => targets.sort_by_cached_key(|target| natural(target.name.as_str())),
            Order::Shuffle { seed } => targets.shuffle(&mut StdRng::seed_from_u64(seed)),
        }
        Self::of(job, targets)
    }

    /// Targets that were put in order before, by whoever began the run.
    #[must_use]
    pub fn of(job: &JobSpec, targets: Vec<Target>) -> Self {
        let total = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        let limits = HardLimits {
            slots: job.semaphore.max_concurrency.slots(total).get(),
            floor: job.party.as_ref().map(|party| party.min_nodes.of(total, Rounding::Floor)),
            calendar: Arc::new(job.calendar.clone()),
            max_failed: job.budget.as_ref().map(|budget| budget.max_failed.of(total, Rounding::Budget)),
        };
        Self { targets, limits, waves: Vec::new() }
    }

    /// How many batches it takes when every slot is free and all targets take as long.
    #[must_use]
    pub fn batches(&self) -> usize {
        self.targets.len().div_ceil(self.limits.slots as usize)
    }
}

/// A name's text and numbers in turn, so that `web2` comes before `web10`.
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

    #[test]
    fn names_are_ordered_as_people_count() {
        let mut names = vec!["web10", "web2", "db1", "web2a", "web", "web02"];
        names.sort_by_key(|name| natural(name));
        assert_eq!(names, ["db1", "web", "web2", "web02", "web2a", "web10"]);
    }
}
