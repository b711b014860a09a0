//! `spread`: at most so many at once for each value of a label, such as a rack or a zone.
//!
//! A view shows the labels of its own target alone, so memory keeps which value each target has that was told to go;
//! who of them really holds a slot is read from the leases every time.

use std::num::NonZeroU32;

use lockkeeper_sdk::Turns;
use lockkeeper_sdk::prelude::*;
use lockkeeper_sdk::rules::{self, OnFailure};

/// Settings of `spread`.
#[settings]
pub struct Spread {
    /// The label whose values count, such as `rack`.
    pub label: String,
    /// How many targets of one value may act at once.
    #[serde(default = "one")]
    pub per_value: NonZeroU32,
    /// A target without the label: `together` counts all such as one value, `own` lets each count for itself, `skip`
    /// leaves it out.
    #[serde(default)]
    pub missing: Missing,
    /// How many targets may fail: once so many have, none starts any more. With 0 the first failure is the last.
    pub max_failures: Option<u32>,
    /// What happens then: `abort` ends the run, `hold` leaves it up for a person to look at.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Members of the party that must remain besides all that act; the job's own floor counts too.
    pub keep_members: Option<u32>,
}

/// What becomes of a target without the label.
#[settings]
#[derive(Copy, PartialEq, Eq, Default)]
pub enum Missing {
    /// All such targets count as one value.
    #[default]
    Together,
    /// Each counts for itself.
    Own,
    /// It is left out.
    Skip,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}

#[policy("lock", "wait", "hold", "skip", "abort", "release", "retry")]
impl Policy for Spread {
    fn admit(&self, view: &View, memory: &mut Memory) -> Admitted {
        let mut turns: Turns = memory.get();
        turns.reconcile(view);
        let answer = self.answer(view, &turns);
        match (answer.is_lock(), self.value_of(view)) {
            (true, Some(value)) => turns.told(view, value),
            _ => turns.over(view),
        }
        memory.put(&turns);
        answer
    }

    fn settle(&self, view: &View, outcome: &Outcome, memory: &mut Memory) -> Settled {
        let settled = rules::settled(outcome, Period::default());
        // One that is tried again keeps its slot, and its turn as long as that.
        if matches!(settled.verdict(), lockkeeper_sdk::Settlement::Release) {
            let mut turns: Turns = memory.get();
            turns.over(view);
            memory.put(&turns);
        }
        settled
    }

    fn check(&self) -> Vec<Diagnostic> {
        match self.label.is_empty() {
            true => vec![problem("label", "a label has a name")],
            false => Vec::new(),
        }
    }
}

impl Spread {
    /// The value that a target counts for; none: for nobody but itself.
    fn value_of<'a>(&self, view: &'a View) -> Option<&'a str> {
        match view.target.label(&self.label) {
            None if self.missing == Missing::Together => Some(""),
            value => value,
        }
    }

    fn answer(&self, view: &View, turns: &Turns) -> Admitted {
        if let Some(no) = rules::failure_limit(view, self.max_failures, self.on_failure) {
            return no;
        }
        let label = &self.label;
        let Some(value) = self.value_of(view) else {
            if self.missing == Missing::Skip {
                return skip("no-label", format!("it has no label `{label}`"));
            }
            return rules::floor(view, self.keep_members).unwrap_or_else(|| rules::go(view));
        };
        // With its slot held, one gives way to those that act already; before, also to those that are about to.
        let counts = |started: bool| started || view.cause != Cause::Granted;
        let busy: Vec<&str> = turns
            .others(view)
            .filter(|(_, turn)| turn.note == value && counts(turn.started))
            .map(|(name, _)| name)
            .collect();
        if busy.len() >= self.per_value.get() as usize {
            let of = if value.is_empty() { format!("without `{label}`") } else { format!("with `{label}` {value}") };
            let reason = format!("{} of {} at once {of}: {}", busy.len(), self.per_value, names(&busy));
            let answer = wait("value-busy", reason);
            return match turns.patience(view) {
                Some(left) => answer.ask_again_after(Duration::from_millis(left)),
                None => answer,
            };
        }
        rules::floor(view, self.keep_members).unwrap_or_else(|| rules::go(view))
    }
}

/// The first few names.
fn names(all: &[&str]) -> String {
    let shown = all.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    match all.len() {
        0..=3 => shown,
        more => format!("{shown} and {} more", more - 3),
    }
}

#[cfg(test)]
mod tests {
    use lockkeeper_sdk::testing::{NOON, ViewBuilder, json, outcome, settings, try_settings, view};

    use super::*;

    struct Run {
        spread: Spread,
        memory: Memory,
    }

    impl Run {
        fn new(settings_json: impl std::fmt::Display) -> Self {
            Self { spread: settings(settings_json), memory: Memory::default() }
        }

        fn admit(&mut self, view: ViewBuilder) -> Admitted {
            self.spread.admit(&view.build(), &mut self.memory)
        }

        fn settle(&mut self, view: ViewBuilder, ending: Ending) {
            let _ = self.spread.settle(&view.build(), &outcome(ending), &mut self.memory);
        }
    }

    fn at(name: &str, rack: &str) -> ViewBuilder {
        view(name).slots(4).label("rack", rack)
    }

    #[test]
    fn one_of_a_rack_at_a_time() {
        let mut run = Run::new(json!({ "label": "rack" }));
        assert!(run.admit(at("a", "r1")).is_lock());
        let second = run.admit(at("b", "r1"));
        assert!(second.is_wait());
        assert_eq!((second.code(), second.reason()), ("value-busy", "1 of 1 at once with `rack` r1: a"));
        assert_eq!(second.wake_after(), Some(Duration::from_secs(60)));
        assert!(run.admit(at("c", "r2")).is_lock());

        assert!(run.admit(at("a", "r1").granted()).is_lock());
        let later = || at("b", "r1").at(NOON + 3_600_000);
        let second = run.admit(later().my_lease("a"));
        // It acts: its lease announces its end.
        assert_eq!((second.code(), second.wake_after()), ("value-busy", None));
        run.settle(at("a", "r1").my_lease("a"), Ending::Succeeded);
        assert!(run.admit(later()).is_lock());
    }

    #[test]
    fn as_many_as_told_of_one_value() {
        let mut run = Run::new(json!({ "label": "rack", "per-value": 2 }));
        assert!(run.admit(at("a", "r1")).is_lock());
        assert!(run.admit(at("b", "r1")).is_lock());
        assert_eq!(run.admit(at("c", "r1")).reason(), "2 of 2 at once with `rack` r1: a, b");
    }

    #[test]
    fn a_slot_given_back_or_lost_frees_the_value() {
        let mut run = Run::new(json!({ "label": "rack" }));
        assert!(run.admit(at("a", "r1")).is_lock());
        // The host refused it at the last moment: `a` holds nothing and is asked again.
        assert!(run.admit(at("a", "r1").members(["a"]).floor(1)).is_wait());
        assert!(run.admit(at("b", "r1")).is_lock());
        // `b` started and its lease is gone without a word.
        assert!(run.admit(at("b", "r1").granted()).is_lock());
        assert!(run.admit(at("a", "r1").my_lease("b")).is_wait());
        assert!(run.admit(at("a", "r1")).is_lock());
    }

    #[test]
    fn a_retried_target_keeps_its_turn() {
        let mut run = Run::new(json!({ "label": "rack" }));
        assert!(run.admit(at("a", "r1").granted()).is_lock());
        run.settle(at("a", "r1").my_lease("a"), Ending::Failed);
        assert!(run.admit(at("b", "r1").my_lease("a")).is_wait());
        assert!(run.admit(at("b", "r1")).is_lock());
    }

    #[test]
    fn two_of_a_rack_whose_slots_come_at_once_start_one_after_the_other() {
        let mut run = Run::new(json!({ "label": "rack" }));
        assert!(run.admit(at("a", "r1")).is_lock());
        // A minute in the queue, and the next one is let in too.
        assert!(run.admit(at("b", "r1").at(NOON + 60_000)).is_lock());
        let both = |name| at(name, "r1").at(NOON + 60_001).my_lease("a").my_lease("b");
        assert!(run.admit(both("b").granted()).is_lock());
        assert_eq!(run.admit(both("a").granted()).code(), "value-busy");
    }

    #[test]
    fn targets_without_the_label() {
        let mut together = Run::new(json!({ "label": "rack" }));
        assert!(together.admit(view("a").slots(4)).is_lock());
        assert_eq!(together.admit(view("b").slots(4)).reason(), "1 of 1 at once without `rack`: a");

        let mut own = Run::new(json!({ "label": "rack", "missing": "own" }));
        assert!(own.admit(view("a").slots(4)).is_lock());
        assert!(own.admit(view("b").slots(4)).is_lock());

        let skipped = Run::new(json!({ "label": "rack", "missing": "skip" })).admit(view("a"));
        assert_eq!(skipped.verdict(), Some(&lockkeeper_sdk::Admission::Skip));
    }

    #[test]
    fn the_floor_and_the_failures_count_too() {
        let mut run = Run::new(json!({ "label": "rack", "max-failures": 0 }));
        assert_eq!(run.admit(at("a", "r1").members(["a", "b"]).floor(2)).code(), "below-floor");
        assert_eq!(run.admit(at("a", "r1").progress(|progress| progress.failed = 1)).code(), "too-many-failures");
    }

    #[test]
    fn memory_does_not_grow_with_the_targets() {
        let mut run = Run::new(json!({ "label": "rack" }));
        for index in 0..500 {
            let (name, rack) = (format!("web{index:03}"), format!("r{}", index % 7));
            assert!(run.admit(at(&name, &rack).granted()).is_lock());
            run.settle(at(&name, &rack).my_lease(&name), Ending::Succeeded);
        }
        assert_eq!(run.memory.into_bytes(), b"{}");
    }

    #[test]
    fn a_label_must_be_named() {
        assert!(try_settings::<Spread>("{}").unwrap_err().contains("label"));
        assert_eq!(settings::<Spread>(json!({ "label": "" })).check()[0].at, "label");
    }
}
