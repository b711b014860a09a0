//! `break-stale`: breaks leases whose holder is not in the party and that are old; otherwise as `rolling`.
//!
//! For persistent leases, which nobody gives back when their holder dies. Whether a holder lives is what the party says,
//! so without a party nothing is broken.

use lockkeeper_sdk::prelude::*;
use lockkeeper_sdk::rules::{self, OnFailure};

/// While the target queues, leases may become stale that were not: this often it looks again, if no lease's age says
/// when.
const LOOK_AGAIN_MS: u64 = 60_000;

/// Settings of `break-stale`.
#[settings]
pub struct BreakStale {
    /// How old a lease must be before it may be broken, such as `2h`: longer than any action takes, since a host that
    /// restarts is not in the party either.
    pub older_than: Period,
    /// How many targets may fail: once so many have, none starts any more. With 0 the first failure is the last.
    pub max_failures: Option<u32>,
    /// What happens then: `abort` ends the run, `hold` leaves it up for a person to look at.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Members of the party that must remain besides all that act; the job's own floor counts too.
    pub keep_members: Option<u32>,
}

#[policy("lock", "wait", "hold", "force", "abort", "release", "retry")]
impl Policy for BreakStale {
    fn admit(&self, view: &View, _memory: &mut Memory) -> Admitted {
        rules::failure_limit(view, self.max_failures, self.on_failure)
            .or_else(|| rules::floor(view, self.keep_members))
            .or_else(|| self.break_or_queue(view))
            .unwrap_or_else(|| rules::go(view))
    }

    fn settle(&self, _view: &View, outcome: &Outcome, _memory: &mut Memory) -> Settled {
        rules::settled(outcome, Period::default())
    }

    fn check(&self) -> Vec<Diagnostic> {
        match self.older_than.is_zero() {
            true => vec![problem("older-than", "a lease of any age would be broken: give it a time")],
            false => Vec::new(),
        }
    }
}

impl BreakStale {
    /// What to do while no slot is free; none: nothing of its own.
    fn break_or_queue(&self, view: &View) -> Option<Admitted> {
        let semaphore = &view.semaphore;
        if view.cause == Cause::Granted || view.party.is_none() || semaphore.free() > 0 {
            return None;
        }
        let foreign = || semaphore.leases.iter().filter(|lease| !lease.mine);
        let stale: Vec<&Lease> =
            foreign().filter(|lease| lease.alive == Some(false) && self.age_left(view, lease) == 0).collect();
        // Forced leases may have made them more than the slots: one slot is free when all those are gone too.
        let needed = (semaphore.leases.len() + 1).saturating_sub(semaphore.slots as usize);
        if stale.len() >= needed {
            // The oldest first: leases are in the order of their fences.
            let broken = &stale[..needed];
            let fences = broken.iter().map(|lease| lease.fence).collect();
            return Some(force(fences, "stale", format!("not in the party: {}", self.ages(view, broken))));
        }
        let look_again = foreign()
            .map(|lease| self.age_left(view, lease))
            .filter(|left| *left > 0)
            .chain([LOOK_AGAIN_MS])
            .min()
            .unwrap_or(LOOK_AGAIN_MS);
        Some(rules::go(view).ask_again_after(Duration::from_millis(look_again)))
    }

    /// How long until a lease is old enough, in milliseconds.
    fn age_left(&self, view: &View, lease: &Lease) -> u64 {
        lease.since.saturating_add(self.older_than.as_millis()).saturating_sub(view.now)
    }

    fn ages(&self, view: &View, leases: &[&Lease]) -> String {
        let age = |lease: &Lease| Period::from_millis(view.now.saturating_sub(lease.since));
        let shown: Vec<String> = leases
            .iter()
            .take(3)
            .map(|lease| format!("{} (holds a slot for {})", lease.identifier, age(lease)))
            .collect();
        match leases.len() {
            0..=3 => shown.join(", "),
            more => format!("{} and {} more", shown.join(", "), more - 3),
        }
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_sdk::Admission;
    use lockkeeper_sdk::testing::{NOON, ViewBuilder, json, settings, try_settings, view};

    use super::*;

    const HOUR: u64 = 3_600_000;

    fn answer(view: ViewBuilder) -> Admitted {
        let policy: BreakStale = settings(json!({ "older-than": "2h" }));
        policy.admit(&view.build(), &mut Memory::default())
    }

    /// A lease taken so many hours ago.
    fn held(view: ViewBuilder, identifier: &str, fence: u64, hours: u64) -> ViewBuilder {
        view.lease_with(identifier, |lease| (lease.fence, lease.since) = (fence, NOON - hours * HOUR))
    }

    #[test]
    fn a_stale_lease_is_broken_by_its_fence() {
        let full = held(view("a").slots(1).members(["a"]), "dead", 7, 3);
        let answer = answer(full);
        assert_eq!(answer.verdict(), Some(&Admission::Force(vec![7])));
        assert_eq!(answer.reason(), "not in the party: dead (holds a slot for 3 h)");
    }

    #[test]
    fn nothing_is_broken_while_a_slot_is_free_or_held_by_it() {
        let free = held(view("a").slots(2).members(["a"]), "dead", 7, 3);
        assert_eq!(answer(free.clone()).code(), "slot-free");
        assert_eq!(answer(free.slots(1).granted()).code(), "slot-held");
    }

    #[test]
    fn only_as_many_as_needed_and_the_oldest_first() {
        let three = held(held(held(view("a").members(["a"]), "x", 9, 3), "y", 4, 4), "z", 6, 5);
        assert_eq!(answer(three.clone().slots(3)).verdict(), Some(&Admission::Force(vec![4])));
        // One was forced above the limit: two must go before a slot is free.
        assert_eq!(answer(three.slots(2)).verdict(), Some(&Admission::Force(vec![4, 6])));
    }

    #[test]
    fn if_breaking_the_stale_ones_frees_no_slot_none_is_broken() {
        let above = held(view("a").slots(1).members(["a", "b"]).lease("b"), "dead", 7, 3);
        assert_eq!(answer(above).code(), "slots-full");
    }

    #[test]
    fn a_holder_in_the_party_or_a_young_lease_or_a_lease_of_this_run_is_left_alone() {
        let alive = held(view("a").slots(1).members(["a", "b"]), "b", 7, 9);
        assert_eq!(answer(alive).code(), "slots-full");
        let mine = view("a").slots(1).members(["a"]).lease_with("b", |lease| {
            (lease.mine, lease.since) = (true, NOON - 9 * HOUR);
        });
        assert_eq!(answer(mine).code(), "slots-full");
        let young = answer(held(view("a").slots(1).members(["a"]), "dead", 7, 1));
        assert_eq!(young.code(), "slots-full");
    }

    #[test]
    fn it_looks_again_when_the_next_lease_is_old_enough() {
        let young =
            |left| view("a").slots(1).members(["a"]).lease_with("dead", |lease| lease.since = NOON - 2 * HOUR + left);
        assert_eq!(answer(young(5_000)).wake_after(), Some(Duration::from_secs(5)));
        // A holder may die at any age, so no longer than a minute.
        assert_eq!(answer(young(HOUR)).wake_after(), Some(Duration::from_secs(60)));
        assert_eq!(answer(young(0).members(["dead"])).wake_after(), Some(Duration::from_secs(60)));
    }

    #[test]
    fn without_a_party_nobody_is_known_to_be_dead() {
        let full = held(view("a").slots(1), "dead", 7, 100);
        assert_eq!(answer(full).code(), "slots-full");
    }

    #[test]
    fn the_floor_comes_first() {
        let low = held(view("a").slots(1).members(["a"]).floor(1), "dead", 7, 3);
        assert_eq!(answer(low).code(), "below-floor");
    }

    #[test]
    fn an_age_must_be_said() {
        assert!(try_settings::<BreakStale>("{}").unwrap_err().contains("older-than"));
        assert_eq!(settings::<BreakStale>(json!({ "older-than": "0s" })).check()[0].at, "older-than");
    }
}
