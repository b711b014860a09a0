//! `canary`: the first targets go alone; only when they have succeeded and a while has passed do the others follow.
//!
//! As long as the canaries are not done nothing else acts, so the run's own counts say how they fare: they survive a
//! retry or a change of the runner. Memory adds when they were done, and who was told to go.

use std::num::NonZeroU32;

use lockkeeper_sdk::Turns;
use lockkeeper_sdk::prelude::*;
use lockkeeper_sdk::rules::{self, OnFailure};
use serde::{Deserialize, Serialize};

/// Settings of `canary`.
#[settings]
pub struct Canary {
    /// How many targets go first, alone.
    #[serde(default = "one")]
    pub canaries: NonZeroU32,
    /// How long to wait after the last canary, such as `10m`.
    pub bake: Period,
    /// What a failed canary does: `abort` ends the run, `hold` leaves it up for a person to look at.
    #[serde(default)]
    pub on_canary_failure: OnFailure,
    /// How many targets may fail after that: once so many have, none starts any more. With 0 the first is the last.
    pub max_failures: Option<u32>,
    /// What happens then, likewise.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Members of the party that must remain besides all that act; the job's own floor counts too.
    pub keep_members: Option<u32>,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

/// What is kept from decision to decision.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// Who was told to go as a canary.
    turns: Turns,
    /// When the last canary succeeded, in milliseconds since the Unix epoch.
    succeeded: Option<u64>,
    /// Whether all canaries did: from then on failures are not theirs.
    passed: bool,
}

#[policy("lock", "wait", "hold", "abort", "release", "retry")]
impl Policy for Canary {
    fn admit(&self, view: &View, memory: &mut Memory) -> Admitted {
        let mut kept: Kept = memory.get();
        let answer = self.canaries_first(view, &mut kept).unwrap_or_else(|| {
            rules::failure_limit(view, self.max_failures, self.on_failure)
                .or_else(|| rules::floor(view, self.keep_members))
                .unwrap_or_else(|| rules::go(view))
        });
        memory.put(&kept);
        answer
    }

    fn settle(&self, view: &View, outcome: &Outcome, memory: &mut Memory) -> Settled {
        let mut kept: Kept = memory.get();
        if outcome.ending == Ending::Succeeded && !kept.passed {
            kept.succeeded = Some(view.now);
        }
        memory.put(&kept);
        rules::settled(outcome, Period::default())
    }
}

impl Canary {
    /// What keeps a target from going, or sends it as a canary; none once the canaries have baked.
    fn canaries_first(&self, view: &View, kept: &mut Kept) -> Option<Admitted> {
        let (done, wanted) = (view.progress.succeeded, self.canaries.get());
        if !kept.passed {
            let failed = rules::failures(view);
            if failed > 0 {
                let reason = format!("{failed} of {wanted} canaries failed, {done} succeeded");
                return Some(self.on_canary_failure.answer("canary-failed", reason));
            }
            if done < wanted {
                return Some(self.as_canary(view, &mut kept.turns));
            }
            kept.passed = true;
            kept.turns = Turns::default();
        }
        let since = *kept.succeeded.get_or_insert(view.now);
        let left = since.saturating_add(self.bake.as_millis()).saturating_sub(view.now);
        (left > 0).then(|| {
            let reason =
                format!("{wanted} canaries are done; {} of {} left to bake", Period::from_millis(left), self.bake);
            hold("baking", reason).ask_again_after(Duration::from_millis(left))
        })
    }

    fn as_canary(&self, view: &View, turns: &mut Turns) -> Admitted {
        turns.reconcile(view);
        let (done, wanted) = (view.progress.succeeded, self.canaries.get());
        let under_way = match view.cause {
            // What counts for one that holds its slot is who acts, not who was told that it may.
            Cause::Granted => view.progress.running,
            _ => u32::try_from(turns.others(view).count()).unwrap_or(u32::MAX).max(view.progress.running),
        };
        if done + under_way >= wanted {
            turns.over(view);
            let reason = format!("{done} of {wanted} canaries are done, {under_way} under way");
            let answer = hold("canary-first", reason);
            return match turns.patience(view) {
                Some(left) => answer.ask_again_after(Duration::from_millis(left)),
                None => answer,
            };
        }
        if let Some(no) = rules::floor(view, self.keep_members) {
            turns.over(view);
            return no;
        }
        turns.told(view, "");
        lock("canary", format!("canary {} of {wanted}", done + under_way + 1))
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_sdk::testing::{NOON, ViewBuilder, json, outcome, settings, try_settings, view};

    use super::*;

    /// A run that answers one question after the other, with its memory.
    struct Run {
        canary: Canary,
        memory: Memory,
    }

    impl Run {
        fn new(settings_json: impl std::fmt::Display) -> Self {
            Self { canary: settings(settings_json), memory: Memory::default() }
        }

        fn admit(&mut self, view: ViewBuilder) -> Admitted {
            self.canary.admit(&view.build(), &mut self.memory)
        }

        fn settle(&mut self, view: ViewBuilder, ending: Ending) {
            let _ = self.canary.settle(&view.build(), &outcome(ending), &mut self.memory);
        }
    }

    fn done(view: ViewBuilder, count: u32) -> ViewBuilder {
        view.progress(|progress| progress.succeeded = count)
    }

    #[test]
    fn the_first_goes_alone_bakes_and_the_rest_follows() {
        let mut run = Run::new(json!({ "bake": "10m" }));
        assert_eq!(run.admit(view("a").slots(4)).code(), "canary");
        let others = run.admit(view("b").slots(4));
        assert!(others.is_hold());
        assert_eq!((others.code(), others.wake_after()), ("canary-first", Some(Duration::from_secs(60))));
        assert!(run.admit(view("a").slots(4).granted()).is_lock());

        let running = |name| view(name).slots(4).my_lease("a").progress(|progress| progress.running = 1);
        let others = run.admit(running("b"));
        // The lease that comes and goes announces what happens next.
        assert_eq!((others.code(), others.wake_after()), ("canary-first", None));
        run.settle(running("a").at(NOON + 5_000), Ending::Succeeded);

        let baking = run.admit(done(view("b"), 1).at(NOON + 5_000));
        assert!(baking.is_hold());
        assert_eq!((baking.code(), baking.wake_after()), ("baking", Some(Duration::from_secs(600))));
        let baking = run.admit(done(view("c"), 1).at(NOON + 604_000));
        assert_eq!(baking.reason(), "1 canaries are done; 1 s of 10 m left to bake");
        assert_eq!(run.admit(done(view("b"), 1).at(NOON + 605_000)).code(), "slot-free");
    }

    #[test]
    fn as_many_canaries_as_wanted_go_at_once() {
        let mut run = Run::new(json!({ "canaries": 2, "bake": "0s" }));
        for name in ["a", "b"] {
            assert_eq!(run.admit(view(name).slots(4)).code(), "canary");
        }
        assert_eq!(run.admit(view("c").slots(4)).code(), "canary-first");
        // One is done: the other still keeps the rest waiting, and nobody takes the place of the first.
        run.settle(view("a").my_lease("a").my_lease("b"), Ending::Succeeded);
        let one_left = || done(view("c"), 1).my_lease("b").progress(|progress| progress.running = 1);
        assert_eq!(run.admit(one_left()).code(), "canary-first");
        run.settle(view("b").my_lease("b"), Ending::Succeeded);
        assert_eq!(run.admit(done(view("c"), 2)).code(), "slot-free");
    }

    #[test]
    fn a_canary_that_got_no_slot_gives_way() {
        let mut run = Run::new(json!({ "bake": "1m" }));
        assert!(run.admit(view("a")).is_lock());
        let skipped = view("b").at(NOON + 10).event(NOON + 9, "a", EventKind::Skipped);
        assert_eq!(run.admit(skipped).code(), "canary");
        // Without an event too, after a while.
        assert_eq!(run.admit(view("c").at(NOON + 60_009)).code(), "canary-first");
        assert_eq!(run.admit(view("c").at(NOON + 60_010)).code(), "canary");
    }

    #[test]
    fn a_slot_that_comes_while_another_canary_acts_is_given_back() {
        let mut run = Run::new(json!({ "bake": "1m" }));
        assert!(run.admit(view("a").at(NOON)).is_lock());
        assert!(run.admit(view("b").at(NOON + 60_000)).is_lock());
        assert!(run.admit(view("b").at(NOON + 60_001).granted()).is_lock());
        let late = view("a").at(NOON + 60_002).my_lease("b").progress(|progress| progress.running = 1).granted();
        assert_eq!(run.admit(late).code(), "canary-first");
    }

    #[test]
    fn two_slots_that_come_at_once_start_one_canary() {
        let mut run = Run::new(json!({ "bake": "1m" }));
        assert!(run.admit(view("a").at(NOON)).is_lock());
        assert!(run.admit(view("b").at(NOON + 60_000)).is_lock());
        // Both leases are there before either is asked: the first one asked goes.
        let both = |name| view(name).at(NOON + 60_001).slots(2).my_lease("a").my_lease("b");
        assert!(run.admit(both("b").granted()).is_lock());
        let running = both("a").progress(|progress| progress.running = 1).granted();
        assert!(run.admit(running).is_hold());
    }

    #[test]
    fn a_failed_canary_ends_or_holds_the_run_and_a_later_failure_does_not() {
        let failed = || view("b").progress(|progress| progress.failed = 1);
        let answer = Run::new(json!({ "bake": "1m" })).admit(failed());
        assert_eq!(answer.verdict(), Some(&lockkeeper_sdk::Admission::Abort));
        assert_eq!(answer.code(), "canary-failed");
        assert!(Run::new(json!({ "bake": "1m", "on-canary-failure": "hold" })).admit(failed()).is_hold());

        let mut run = Run::new(json!({ "bake": "0s" }));
        assert!(run.admit(done(view("b"), 1)).is_lock());
        let later = done(failed(), 1);
        assert_eq!(run.admit(later).code(), "slot-free");
    }

    #[test]
    fn a_retried_canary_has_not_failed_yet() {
        let mut run = Run::new(json!({ "bake": "0s" }));
        assert!(run.admit(view("a").granted()).is_lock());
        run.settle(view("a").my_lease("a"), Ending::Failed);
        let running = view("b").my_lease("a").progress(|progress| progress.running = 1);
        assert_eq!(run.admit(running).code(), "canary-first");
    }

    #[test]
    fn canaries_keep_the_floor_and_so_does_the_rest() {
        let mut run = Run::new(json!({ "bake": "0s" }));
        let low = || view("a").members(["a", "b"]).floor(2);
        assert_eq!(run.admit(low()).code(), "below-floor");
        assert_eq!(run.admit(done(low(), 1)).code(), "below-floor");
    }

    #[test]
    fn a_bake_must_be_said_and_a_canary_there_must_be() {
        assert!(try_settings::<Canary>("{}").unwrap_err().contains("bake"));
        assert!(try_settings::<Canary>(json!({ "bake": "1m", "canaries": 0 })).is_err());
    }
}
