//! A file of cases run natively: the same that `lockkeeper policy test` runs through wasm.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

use lockkeeper_cases::{Answer, Case, Cases, Fault, Memory as Remembers, Problem};

use super::read::{outcome, view};
use crate::decide::millis;
use crate::{Admission, Memory, Policy, Settings, Settlement};

/// Tries every case of a file: `cases::<Quorum>(include_str!("../cases.toml"))`.
///
/// # Panics
/// When the file has mistakes, and when a case fails: with every one that does, and how.
pub fn cases<P: Policy + Settings>(toml: &str) {
    let cases = Cases::parse(toml).unwrap_or_else(|problems| mistaken(toml, &problems));
    let mut left: Vec<Vec<u8>> = Vec::new();
    let mut failed = String::new();
    for case in &cases.cases {
        let memory = match &case.memory {
            Remembers::Told(bytes) => bytes.clone(),
            Remembers::After(earlier) => left[*earlier].clone(),
        };
        let answer = one::<P>(case, memory);
        left.push(answer.as_ref().map_or_else(|_| Vec::new(), |answer| answer.memory.clone()));
        match &case.expect {
            Some(expect) => {
                for difference in expect.differences(&answer) {
                    failed += &format!(
                        "{}: {}: expected {}, seen {}\n",
                        case.name, difference.key, difference.expected, difference.seen
                    );
                }
            }
            None => failed += &format!("{}: expects nothing: `lockkeeper policy test --update` writes it\n", case.name),
        }
    }
    assert!(failed.is_empty(), "\n{failed}");
}

/// A file of cases that cannot be read.
pub(crate) fn mistaken(toml: &str, problems: &[Problem]) -> ! {
    let line = |at: usize| 1 + toml.as_bytes()[..at.min(toml.len())].iter().filter(|byte| **byte == b'\n').count();
    let told: Vec<String> =
        problems.iter().map(|problem| format!("line {}: {problem}", line(problem.span.start))).collect();
    panic!("the cases have mistakes:\n{}", told.join("\n"))
}

/// What a panic said.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> String {
    let message = panic.downcast_ref::<String>().cloned();
    message.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn one<P: Policy + Settings>(case: &Case, memory: Vec<u8>) -> Result<Answer, Fault> {
    let gave_up = |message: String| Fault { kind: "gave-up".to_owned(), message };
    let policy = P::read(&case.settings.to_string()).map_err(gave_up)?;
    let view = view(&case.view);
    let mut memory = Memory::from_bytes(memory);
    let asked = catch_unwind(AssertUnwindSafe(|| match &case.outcome {
        None => {
            let admitted = policy.admit(&view, &mut memory);
            admitted.answer.map(|verdict| {
                let (word, breaking) = match verdict {
                    Admission::Lock => ("lock", None),
                    Admission::Wait => ("wait", None),
                    Admission::Hold => ("hold", None),
                    Admission::Force(fences) => ("force", Some(fences)),
                    Admission::Skip => ("skip", None),
                    Admission::Abort => ("abort", None),
                };
                let wake_after = admitted.wake_after.map(millis);
                (word, breaking, None, admitted.code, admitted.reason, wake_after)
            })
        }
        Some(ended) => {
            let settled = policy.settle(&view, &outcome(ended), &mut memory);
            let (word, keep) = match settled.verdict {
                Settlement::Release => ("release", None),
                Settlement::Keep(millis) => ("keep", Some(millis)),
                Settlement::Retry => ("retry", None),
                Settlement::RollBack => ("roll-back", None),
                Settlement::Abort => ("abort", None),
            };
            Ok((word, None, keep, settled.code, settled.reason, None))
        }
    }));
    match asked {
        Ok(Ok((verdict, breaking, keep, code, reason, wake_after))) => Ok(Answer {
            verdict: verdict.to_owned(),
            breaking,
            keep,
            code,
            reason,
            wake_after,
            memory: memory.into_bytes(),
        }),
        Ok(Err(message)) => Err(gave_up(message)),
        Err(panic) => Err(Fault { kind: "trap".to_owned(), message: panicked(panic.as_ref()) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, json};
    use crate::{Admitted, Ending, EventKind, Outcome, Settled, View, fault, force, keep, lock, retry, wait};

    /// Answers as it is told.
    #[crate::settings]
    struct Told {
        people: usize,
    }

    impl Policy for Told {
        fn admit(&self, view: &View, memory: &mut Memory) -> Admitted {
            let seen: u32 = memory.get();
            memory.put(&(seen + 1));
            match (self.people, view.members()) {
                (99, _) => fault("no idea"),
                (98, _) => panic!("boom"),
                (97, _) => force(vec![7, 5], "forced", ""),
                (wanted, there) if there >= wanted => lock("enough", format!("{there}")),
                _ => wait("too-few", "").ask_again_after(std::time::Duration::from_secs(90)),
            }
        }

        fn settle(&self, _: &View, outcome: &Outcome, _: &mut Memory) -> Settled {
            match outcome.ending {
                Ending::Failed => retry("again", format!("{:?}", outcome.exit_code)),
                _ => keep(std::time::Duration::from_secs(5), "kept", ""),
            }
        }
    }

    const CASES: &str = r#"
        settings.people = 2
        [[case]]
        name = "few"
        view.party.members = ["ann"]
        expect = { verdict = "wait", code = "too-few", wake-after = "1m 30s", memory = 1 }
        [[case]]
        name = "enough"
        view.party.members = ["ann", "bob"]
        after = "few"
        expect = { verdict = "lock", reason = "2", memory = 2, wake-after = "none" }
        [[case]]
        name = "failed"
        outcome = { ending = "failed", exit-code = 3 }
        expect = { verdict = "retry", reason = "Some(3)" }
        [[case]]
        name = "kept"
        outcome.ending = "succeeded"
        expect = { verdict = "keep", keep = "5s" }
        [[case]]
        name = "forced"
        settings.people = 97
        expect = { verdict = "force", breaking = [5, 7] }
        [[case]]
        name = "gave up"
        settings.people = 99
        expect.fault = "gave-up"
        [[case]]
        name = "panicked"
        settings.people = 98
        expect.fault = "trap"
    "#;

    #[test]
    fn cases_pass_as_they_do_through_wasm() {
        cases::<Told>(CASES);
    }

    #[test]
    fn every_case_that_fails_is_told() {
        let wrong = CASES.replace("code = \"too-few\"", "code = \"few\"").replace("keep = \"5s\"", "keep = \"6s\"");
        let panic = catch_unwind(|| cases::<Told>(&wrong)).unwrap_err();
        let told = panic.downcast_ref::<String>().unwrap();
        assert!(told.contains("few: code: expected few, seen too-few"), "{told}");
        assert!(told.contains("kept: keep: expected 6s, seen 5s"), "{told}");
    }

    #[test]
    fn the_base_is_the_builders_view() {
        assert_eq!(view(&lockkeeper_cases::base()), testing::view("web01").build());
        let told = json!({
            "cause": "granted", "party": { "members": ["web01"] }, "target": { "labels": { "rack": "r1" } },
            "events": [{ "target": "a", "kind": "failed", "at": "now" }], "semaphore": { "slots": 2, "leases": ["a"] },
        });
        let built = testing::view("web01").slots(2).lease("a").members(["web01"]).label("rack", "r1");
        let built = built.event(testing::NOON, "a", EventKind::Failed).granted().build();
        assert_eq!(view(&lockkeeper_cases::view_of_json(&told).unwrap()), built);
    }
}
