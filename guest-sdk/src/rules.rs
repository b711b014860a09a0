//! Rules that many policies share, the standard ones among them. Each answers where it objects, so that a policy reads
//! `if let Some(no) = rules::floor(view, None) { return no; }`.

use crate::{Admitted, Cause, Ending, Outcome, Period, Settled, View, abort, hold, keep, lock, release, retry, wait};

/// What a policy does when enough has failed.
#[crate::settings]
#[derive(Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// Start nothing more: the run ends once what acts has ended.
    #[default]
    Abort,
    /// Start nothing, and leave the run up for a person to look at.
    Hold,
}

impl OnFailure {
    /// `abort` or `hold`.
    pub fn answer(self, code: &str, reason: String) -> Admitted {
        match self {
            Self::Abort => abort(code, reason),
            Self::Hold => hold(code, reason),
        }
    }
}

/// Members that would remain if this target went now: not itself, and nobody who holds another slot, since whoever
/// holds one may go down any moment. None: the job names no party.
#[must_use]
pub fn remaining_members(view: &View) -> Option<usize> {
    let party = view.party.as_ref()?;
    // In order as they come: a sort of its own would be a tenth of a small policy's code.
    let mut leaving: Vec<&str> = Vec::with_capacity(view.semaphore.leases.len() + 1);
    let holders = view.semaphore.leases.iter().map(|lease| lease.identifier.as_str());
    for identifier in holders.chain([view.target.name.as_str()]) {
        if let Err(at) = leaving.binary_search(&identifier) {
            leaving.insert(at, identifier);
        }
    }
    let stays = |identifier: &str| leaving.binary_search(&identifier).is_err();
    Some(party.members.iter().filter(|member| stays(&member.identifier)).count())
}

/// `wait` with the code `below-floor` where too few members of the party would remain: fewer than the job's own floor,
/// or than `keep_members`. The next member or lease that comes or goes asks again.
#[must_use]
pub fn floor(view: &View, keep_members: Option<u32>) -> Option<Admitted> {
    let party = view.party.as_ref()?;
    let floor = party.min_members.max(keep_members.unwrap_or(0));
    // Comparing names is most of what a decision computes. Far from the floor counting is enough: nobody leaves but this
    // target and who holds a slot, each one member where no name is there twice.
    let leaving = view.semaphore.leases.iter().filter(|lease| lease.alive != Some(false)).count() + 1;
    if party.members.len() >= leaving.saturating_add(floor as usize) && party.is_each_once() {
        return None;
    }
    let remaining = remaining_members(view)?;
    (remaining < floor as usize).then(|| {
        wait("below-floor", format!("{remaining} of {} members would remain, the floor is {floor}", view.members()))
    })
}

/// Targets of this run that did not end well; those of which nobody knows count too.
#[must_use]
pub fn failures(view: &View) -> u32 {
    view.progress.failed + view.progress.rolled_back + view.progress.unknown
}

/// `abort` or `hold` with the code `too-many-failures` once as many targets have failed as may. With 0 the first one is
/// the last, as in a job's `[budget]`.
#[must_use]
pub fn failure_limit(view: &View, max_failures: Option<u32>, on_failure: OnFailure) -> Option<Admitted> {
    let most = max_failures?;
    let failed = failures(view);
    (failed > 0 && failed >= most).then(|| {
        on_failure
            .answer("too-many-failures", format!("{failed} of {} targets failed, {most} may", view.progress.total))
    })
}

/// `lock`, saying how the slots stand: `slot-free`, `slots-full` where it is going to queue, or `slot-held` when the
/// slot is granted.
pub fn go(view: &View) -> Admitted {
    let (semaphore, held) = (&view.semaphore, view.semaphore.leases.len());
    if view.cause == Cause::Granted {
        return lock("slot-held", format!("{held} of {} slots are held, this one among them", semaphore.slots));
    }
    match semaphore.free() {
        0 => lock("slots-full", format!("{held} of {} slots are held, {} queue", semaphore.slots, semaphore.queued)),
        free => lock("slot-free", format!("{free} of {} slots are free", semaphore.slots)),
    }
}

/// The slot is given back, after `keep_slot` where the action succeeded. A failure or time-out is tried again: the host
/// does so as far as the job's `attempts` allow, and otherwise gives the slot back.
pub fn settled(outcome: &Outcome, keep_slot: Period) -> Settled {
    let (code, attempt) = (crate::ending_code(outcome.ending), outcome.attempt);
    let took = Period::from_millis(outcome.took);
    match outcome.ending {
        Ending::Succeeded if !keep_slot.is_zero() => {
            keep(keep_slot.into(), code, format!("succeeded after {took}; the slot is kept for {keep_slot}"))
        }
        Ending::Succeeded => release(code, format!("succeeded after {took}")),
        Ending::Failed => retry(code, format!("attempt {attempt} failed after {took}")),
        Ending::TimedOut => retry(code, format!("attempt {attempt} was stopped after {took}")),
        Ending::LeaseLost => release(code, "its lease was lost while it acted"),
        Ending::Unknown => release(code, "nobody knows how it ended"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{outcome, view};

    #[test]
    fn who_holds_a_slot_and_is_listed_does_not_remain() {
        let one_acts = view("a").members(["a", "b", "c", "d"]).slots(3).lease("b").lease("gone").build();
        assert_eq!(remaining_members(&one_acts), Some(2));
        let no_member = view("x").members(["a", "b"]).build();
        assert_eq!(remaining_members(&no_member), Some(2));
        assert_eq!(remaining_members(&view("a").build()), None);
    }

    #[test]
    fn the_stricter_floor_counts() {
        let three_remain = view("a").members(["a", "b", "c", "d"]).floor(3);
        assert_eq!(floor(&three_remain.clone().build(), None), None);
        assert_eq!(floor(&three_remain.clone().build(), Some(1)), None);
        let answer = floor(&three_remain.build(), Some(4)).unwrap();
        assert_eq!(answer.reason(), "3 of 4 members would remain, the floor is 4");
    }

    #[test]
    fn no_floor_is_too_high_to_be_kept() {
        // In wasm a `usize` has 32 bits: one more than this is 0.
        let two = view("a").members(["a", "b"]).build();
        assert!(floor(&two, Some(u32::MAX)).is_some());
    }

    #[test]
    fn a_holder_that_joined_twice_leaves_twice() {
        // Counting alone would say that two remain.
        let twice = view("a").members(["a", "b", "b", "c"]).slots(2).lease("b").floor(2).build();
        assert_eq!(remaining_members(&twice), Some(1));
        assert!(floor(&twice, None).is_some());
    }

    #[test]
    fn its_own_lease_is_not_counted_twice() {
        let granted = view("a").members(["a", "b"]).floor(1).granted().build();
        assert_eq!(floor(&granted, None), None);
    }

    #[test]
    fn as_many_failures_as_allowed_stop_it() {
        let failed = |failed| view("a").progress(|progress| progress.failed = failed).build();
        assert_eq!(failure_limit(&failed(9), None, OnFailure::Abort), None);
        assert_eq!(failure_limit(&failed(0), Some(0), OnFailure::Abort), None);
        assert_eq!(failure_limit(&failed(1), Some(2), OnFailure::Abort), None);
        for (count, most) in [(1, 0), (1, 1), (3, 2)] {
            assert!(failure_limit(&failed(count), Some(most), OnFailure::Hold).unwrap().is_hold());
        }
        let unknown = view("a").progress(|progress| progress.unknown = 1).build();
        assert!(failure_limit(&unknown, Some(1), OnFailure::Abort).is_some());
    }

    #[test]
    fn only_a_success_keeps_its_slot_and_only_a_failure_is_tried_again() {
        let minute = Period::from_secs(60);
        let code = |ending, keep| settled(&outcome(ending), keep);
        assert_eq!(code(Ending::Succeeded, minute).verdict(), &crate::Settlement::Keep(60_000));
        assert_eq!(code(Ending::Succeeded, Period::default()).verdict(), &crate::Settlement::Release);
        assert_eq!(code(Ending::Failed, minute).verdict(), &crate::Settlement::Retry);
        assert_eq!(code(Ending::TimedOut, minute).verdict(), &crate::Settlement::Retry);
        assert_eq!(code(Ending::LeaseLost, minute).verdict(), &crate::Settlement::Release);
        assert_eq!(code(Ending::Unknown, minute).verdict(), &crate::Settlement::Release);
    }
}
