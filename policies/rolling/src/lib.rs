//! `rolling`: targets go one after the other, as the slots and the floor allow, until too many have failed.

use lockkeeper_sdk::prelude::*;
use lockkeeper_sdk::rules::{self, OnFailure};

/// Settings of `rolling`.
#[settings]
pub struct Rolling {
    /// How many targets may fail: once so many have, none starts any more. With 0 the first failure is the last.
    pub max_failures: Option<u32>,
    /// What happens then: `abort` ends the run, `hold` leaves it up for a person to look at.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Members of the party that must remain besides all that act; the job's own floor counts too.
    pub keep_members: Option<u32>,
    /// Keep the slot for so long after a success, such as `30s`.
    #[serde(default)]
    pub keep_slot: Period,
}

#[policy("lock", "wait", "hold", "abort", "release", "keep", "retry")]
impl Policy for Rolling {
    fn admit(&self, view: &View, _memory: &mut Memory) -> Admitted {
        rules::failure_limit(view, self.max_failures, self.on_failure)
            .or_else(|| rules::floor(view, self.keep_members))
            .unwrap_or_else(|| rules::go(view))
    }

    fn settle(&self, _view: &View, outcome: &Outcome, _memory: &mut Memory) -> Settled {
        rules::settled(outcome, self.keep_slot)
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_sdk::Settlement;
    use lockkeeper_sdk::testing::{ViewBuilder, json, outcome, settings, try_settings, view};

    use super::*;

    fn answer(settings: &Rolling, view: ViewBuilder) -> Admitted {
        settings.admit(&view.build(), &mut Memory::default())
    }

    #[test]
    fn without_settings_everybody_locks() {
        let rolling: Rolling = settings("{}");
        for (view, code) in [
            (view("a").slots(2), "slot-free"),
            (view("a").slots(1).lease("b"), "slots-full"),
            (view("a").slots(1).granted(), "slot-held"),
            (view("a").progress(|progress| progress.failed = 9), "slot-free"),
        ] {
            let answer = answer(&rolling, view);
            assert!(answer.is_lock());
            assert_eq!(answer.code(), code);
        }
    }

    #[test]
    fn the_jobs_floor_is_kept_when_asked_and_when_granted() {
        let rolling: Rolling = settings("{}");
        let three = view("a").members(["a", "b", "c"]).slots(2);
        assert!(answer(&rolling, three.clone().floor(2)).is_lock());
        assert!(answer(&rolling, three.clone().floor(2).granted()).is_lock());
        for low in [three.clone().floor(3), three.clone().floor(2).my_lease("b"), three.floor(3).granted()] {
            let answer = answer(&rolling, low);
            assert!(answer.is_wait());
            assert_eq!((answer.code(), answer.wake_after()), ("below-floor", None));
        }
    }

    #[test]
    fn a_member_that_went_down_is_not_counted_twice() {
        // `b` acts and has left the party: 2 remain without `a`.
        let b_is_down = view("a").members(["a", "c", "d"]).floor(2).slots(2).my_lease("b");
        assert!(answer(&settings("{}"), b_is_down).is_lock());
    }

    #[test]
    fn its_own_floor_counts_beside_the_jobs() {
        let rolling: Rolling = settings(json!({ "keep-members": 2 }));
        assert!(answer(&rolling, view("a").members(["a", "b"])).is_wait());
        assert!(answer(&rolling, view("a").members(["a", "b", "c"])).is_lock());
        assert!(answer(&rolling, view("a")).is_lock());
    }

    #[test]
    fn failures_end_it_or_hold_it() {
        let failed = view("a").progress(|progress| (progress.failed, progress.total) = (2, 40));
        let aborting = answer(&settings(json!({ "max-failures": 2 })), failed.clone());
        assert_eq!(aborting.verdict(), Some(&lockkeeper_sdk::Admission::Abort));
        assert_eq!(aborting.reason(), "2 of 40 targets failed, 2 may");
        assert!(answer(&settings(json!({ "max-failures": 2, "on-failure": "hold" })), failed.clone()).is_hold());
        assert!(answer(&settings(json!({ "max-failures": 3 })), failed).is_lock());
    }

    #[test]
    fn a_success_may_keep_its_slot() {
        let rolling: Rolling = settings(json!({ "keep-slot": "30s" }));
        let settled = rolling.settle(&view("a").build(), &outcome(Ending::Succeeded), &mut Memory::default());
        assert_eq!(settled.verdict(), &Settlement::Keep(30_000));
        let settled = rolling.settle(&view("a").build(), &outcome(Ending::Failed), &mut Memory::default());
        assert_eq!(settled.verdict(), &Settlement::Retry);
    }

    #[test]
    fn wrong_settings_are_refused() {
        assert!(try_settings::<Rolling>(json!({ "max-failures": -1 })).is_err());
        assert!(try_settings::<Rolling>(json!({ "keep-slot": 30 })).is_err());
        assert!(try_settings::<Rolling>(json!({ "on-failure": "carry-on" })).is_err());
    }
}
