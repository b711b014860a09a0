//! An orchestration tested natively, by plain `cargo test`: in a simulation whose clock advances only while the guest waits.
//!
//! ```
//! use lockkeeper_sdk::orchestration::prelude::*;
//! use lockkeeper_sdk::orchestration::testing::scenario;
//!
//! #[settings]
//! struct Careful {
//!     lock: String,
//! }
//!
//! #[orchestrator]
//! impl Orchestrator for Careful {
//!     fn run(&self, _: Option<Vec<u8>>) -> Result<(), Stopped> {
//!         with_lease(&self.lock, Some(Duration::from_secs(60)), |_| for_each_target(1, Ended::must_have_succeeded))
//!     }
//! }
//!
//! let careful = Careful { lock: "/locks/db".to_owned() };
//! let result = scenario(&careful, r#"
//!     targets = ["db1", { name = "db2", takes = "5s" }]
//!     semaphores = { "/locks/db" = { held-by = [{ identifier = "somebody", until = "30s" }] } }
//! "#);
//! assert_eq!(result.acted(), ["db1", "db2"]);
//! assert_eq!(result.took, 30_000 + 10_000 + 5_000);
//!
//! let alone = scenario(&careful, r#"
//!     targets = ["db1"]
//!     semaphores = { "/locks/db" = { held-by = ["somebody"] } }
//! "#);
//! assert_eq!(alone.told(), "it gave up: the time ran out");
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};

use lockkeeper_cases::simulation::{Entrance, Fleet, Outcome, Scenario, ScenarioFile, Simulation};

use super::native::{ON, On, Silent};
use super::{Orchestrator, Stopped};
use crate::Settings;
use crate::testing::cases::{mistaken, panicked};

pub use lockkeeper_cases::Call;
pub use lockkeeper_cases::simulation::{self, ScenarioResult, Silence, Spoken};

/// Plays an orchestration in a world that is told as in a file of cases, and sees that it survives being cut off at each
/// of its calls.
///
/// # Panics
/// When the world has mistakes; when cut off, it comes to another end.
pub fn scenario<P: Orchestrator>(orchestrator: &P, world: &str) -> ScenarioResult {
    let world = Fleet::parse(world).unwrap_or_else(|problems| mistaken(world, &problems));
    let scenario = Scenario::new(world);
    let mut run = |entrance: &Entrance, simulation: &mut Simulation| {
        in_simulation(entrance, simulation, |state| orchestrator.run(state))
    };
    let whole = scenario.whole(&mut run);
    if let Some(broke) = scenario.survives(&whole, &mut run) {
        panic!("{}", broke.told(&whole));
    }
    whole
}

/// Tries every case of a file: `cases::<Careful>(include_str!("../cases.toml"))`. The same that `lockkeeper policy test` runs
/// through wasm.
///
/// # Panics
/// When the file has mistakes, and when a case fails: with every one that does, and how.
pub fn cases<P: Orchestrator + Settings>(toml: &str) {
    let scenarios = ScenarioFile::parse(toml).unwrap_or_else(|problems| mistaken(toml, &problems));
    let mut failed = String::new();
    for scenario in &scenarios.scenarios {
        let mut run = |entrance: &Entrance, simulation: &mut Simulation| {
            in_simulation(entrance, simulation, |state| {
                P::read(&entrance.settings.to_string()).map_err(Stopped)?.run(state)
            })
        };
        for difference in scenario.judge(&mut run).differences {
            failed += &format!(
                "{}: {}: expected {}, seen {}\n",
                scenario.name, difference.key, difference.expected, difference.seen
            );
        }
    }
    assert!(failed.is_empty(), "\n{failed}");
}

/// Runs a guest on this thread, answered by the simulation.
fn in_simulation(
    entrance: &Entrance,
    simulation: &mut Simulation,
    run: impl FnOnce(Option<Vec<u8>>) -> Result<(), Stopped>,
) -> Outcome {
    let on = On { simulation: simulation.clone(), targets: entrance.targets.clone() };
    ON.set(Some(on));
    let ended = catch_unwind(AssertUnwindSafe(|| run(entrance.state.clone())));
    if let Some(on) = ON.take() {
        *simulation = on.simulation;
    }
    match ended {
        Ok(Ok(())) => Outcome::Succeeded,
        Ok(Err(Stopped(why))) => Outcome::GaveUp(why),
        // Why is the simulation's to say.
        Err(silent) if silent.is::<Silent>() => Outcome::Succeeded,
        Err(panic) => Outcome::Fault { kind: "trap".to_owned(), message: panicked(panic.as_ref()) },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::orchestration::prelude::*;

    struct Does(fn(Option<Vec<u8>>) -> Result<(), Stopped>);

    impl Orchestrator for Does {
        fn run(&self, state: Option<Vec<u8>>) -> Result<(), Stopped> {
            (self.0)(state)
        }
    }

    const LOCKS: &str = "targets = ['a', 'b']\nsemaphores = { '/a' = {}, '/b' = { held-by = ['x'] } }";

    fn calls(result: &ScenarioResult) -> Vec<String> {
        result.spoken.iter().map(|spoken| spoken.call.to_string()).collect()
    }

    #[test]
    fn what_another_process_would_do_otherwise_is_found() {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let fickle = Does(|_| {
            // As a map that iterates in another order each time.
            let first = RUNS.fetch_add(1, Ordering::Relaxed).is_multiple_of(2);
            let _ = holders(if first { "/a" } else { "/b" })?;
            holders("/a").map(drop).map_err(Stopped::from)
        });
        let told = catch_unwind(|| scenario(&fickle, LOCKS)).unwrap_err();
        let told = panicked(told.as_ref());
        assert!(told.contains("run again, it called `holders /"), "{told}");
    }

    #[test]
    fn what_it_waits_for_in_vain_is_said() {
        let result = scenario(&Does(|_| lock("/b", None).map(drop).map_err(Stopped::from)), LOCKS);
        assert_eq!(result.told(), "it waits for ever: lock /b");
        let result = scenario(&Does(|_| with_lease("/b", Some(Duration::from_secs(9)), |_| Ok(()))), LOCKS);
        assert_eq!((result.told().as_str(), result.took), ("it gave up: the time ran out", 9_000));
        assert!(matches!(result.end, Ok(simulation::Outcome::GaveUp(_))));
    }

    #[test]
    fn a_lease_may_be_lost_forced_and_refused() {
        let world = "semaphores = { '/a' = { lost = '30s' }, '/b' = { held-by = ['x'] } }\ngrants = ['force']";
        let result = scenario(
            &Does(|_| {
                let held = lock("/a", None)?;
                assert!(held.still_held()?);
                assert_eq!(sleep(Duration::from_secs(31)), Err(CallError::LeaseLost("/a".to_owned())));
                assert!(!held.still_held()?);
                drop(held);
                sleep(Duration::from_secs(1))?;
                assert_eq!(try_lock("/b")?.map(|lease| lease.fence()), None);
                let breaking: Vec<u64> =
                    crate::orchestration::holders("/b")?.leases.iter().map(|one| one.fence).collect();
                assert!(matches!(force("/b", &[99], "no such lease"), Err(CallError::Conflict(_))));
                let forced = force("/b", &breaking, "it is gone for good")?;
                assert!(matches!(lock("/b", None), Err(CallError::Refused(_))), "held already");
                assert!(matches!(force("/b", &[], "once more"), Err(CallError::Refused(_))), "held already");
                assert!(matches!(lock("/c", None), Err(CallError::Refused(_))), "not listed");
                std::mem::forget(forced);
                Ok(())
            }),
            world,
        );
        assert_eq!((result.told().as_str(), result.held.as_slice()), ("succeeded", ["/b".to_owned()].as_slice()));
    }

    #[test]
    fn a_checkpoint_begins_it_again_with_its_leases() {
        let result = scenario(
            &Does(|state| match state {
                None => {
                    let _held = lock("/a", None)?;
                    start("a", None)?;
                    match checkpoint(b"half")? {}
                }
                Some(state) => {
                    assert_eq!(state, b"half");
                    let held = recovered_leases()?;
                    assert_eq!(held.iter().map(Lease::path).collect::<Vec<_>>(), ["/a"]);
                    for_each_target(1, Ended::must_have_succeeded)
                }
            }),
            LOCKS,
        );
        assert_eq!((result.told().as_str(), result.acted()), ("succeeded", vec!["a", "b"]));
        assert_eq!(calls(&result)[..4], ["lock /a", "start a", "checkpoint of 4 bytes", "recovered-leases"]);
        assert!(result.held.is_empty());
    }

    #[test]
    fn what_time_it_is_is_the_same_when_it_is_run_again() {
        let result = scenario(
            &Does(|_| {
                let began = now();
                sleep(Duration::from_secs(5))?;
                lock(if began == crate::testing::NOON { "/a" } else { "/b" }, None)?;
                sleep(Duration::from_millis(now() - began))?;
                Ok(())
            }),
            LOCKS,
        );
        assert_eq!((result.told().as_str(), result.took), ("succeeded", 10_000));
    }

    #[test]
    fn who_calls_for_ever_is_told_to_write_checkpoints() {
        let result = scenario(
            &Does(|_| {
                loop {
                    holders("/a")?;
                }
            }),
            LOCKS,
        );
        assert_eq!(result.told(), "it called 2000 times without a checkpoint");
    }

    #[test]
    fn a_policy_may_keep_a_target_back_and_slots_bound_them() {
        let result = scenario(
            &Does(|_| {
                assert_eq!(admit("b")?.verdict, Admission::Wait);
                assert_eq!(start("c", Some(Duration::from_secs(1))), Err(CallError::TimedOut));
                skip("c", "not today")?;
                assert_eq!(status_of("c")?, TargetStatus::Skipped);
                for_each_target(2, |ended| match ended.target.as_str() {
                    "a" => ended.must_have_succeeded(),
                    _ => Ok(()),
                })
            }),
            "targets = ['a', { name = 'b', admitted = '20s', ends = 'unknown' }, { name = 'c', admitted = 'never' }]\nslots = 1",
        );
        assert_eq!((result.told().as_str(), result.took), ("succeeded", 30_000));
    }

    #[test]
    fn a_target_is_let_go_once() {
        let result = scenario(
            &Does(|_| {
                start("a", None)?;
                start("a", None)?;
                sleep(Duration::from_secs(10))?;
                assert!(matches!(start("a", None), Err(CallError::Refused(_))));
                Ok(())
            }),
            "targets = ['a']",
        );
        assert_eq!((result.told().as_str(), result.acted()), ("succeeded", vec!["a"]));
    }

    #[test]
    fn what_is_done_with_can_be_rolled_back() {
        let result = scenario(
            &Does(|_| {
                for target in ["a", "b", "c"] {
                    start(target, None)?;
                }
                let why = "it is tried";
                assert!(matches!(roll_back("a", why, None), Err(CallError::Refused(_))), "it acts");
                sleep(Duration::from_secs(10))?;
                let undone = roll_back("a", why, None)?;
                assert_eq!((undone.outcome.ending, status_of("a")?), (Ending::Succeeded, TargetStatus::RolledBack));
                assert!(matches!(roll_back("a", why, None), Err(CallError::Refused(_))), "it is undone");
                assert_eq!(roll_back("b", why, None)?.outcome.ending, Ending::Failed);
                assert_eq!(status_of("b")?, TargetStatus::Failed);
                assert!(matches!(roll_back("c", why, None), Err(CallError::Refused(_))), "the job has none");
                let over = ["a".to_owned()];
                assert_eq!(wait_any(&over, None)?.map(|ended| ended.outcome.ending), Some(Ending::Failed));
                start("d", None)?;
                assert_eq!(
                    roll_back("c", why, Some(Duration::from_secs(1))),
                    Err(CallError::Refused(NO_ROLL_BACK.to_owned()))
                );
                Ok(())
            }),
            "targets = ['a', { name = 'b', roll-back = 'failed' }, { name = 'c', roll-back = 'none' }, 'd']",
        );
        assert_eq!((result.told().as_str(), result.took), ("succeeded", 30_000));
        assert_eq!(result.rolled_back(), ["a", "b"]);
    }

    const NO_ROLL_BACK: &str = "the job has no `action.roll-back`";

    #[test]
    fn cases_that_fail_are_told_with_what_was_seen() {
        #[crate::settings]
        struct Nothing {}
        impl Orchestrator for Nothing {
            fn run(&self, _: Option<Vec<u8>>) -> Result<(), Stopped> {
                match lock("/a", None) {
                    Ok(_) => Ok(()),
                    Err(fault) => Err(fault.into()),
                }
            }
        }
        let file = "world.semaphores = { '/a' = {} }\n[[case]]\nname = 'locks'\nexpect = { ends = 'succeeded', took = '0s' }\n";
        cases::<Nothing>(file);
        for (more, told) in [
            ("expect.ends = 'gave-up'", "ends: expected gave-up, seen succeeded"),
            ("expect.calls = ['lock /a']", "calls: expected no more, seen 2. release /a"),
            ("expect.held = ['/a']", "held: expected /a, seen nobody"),
            (
                "answers = [{ to = 'lock', error = { refused = 'no' }, after = '3s' }]\nexpect.took = '1s'",
                "took: expected 1s, seen 3s",
            ),
            (
                "answers = [{ to = 'lock', answer = 'flag', is = true }]\nexpect.ends = 'succeeded'",
                "ends: expected succeeded",
            ),
            ("", "expect: expected that it says what must come of it"),
        ] {
            let file = format!("{file}[[case]]\nname = 'x'\n{more}\n");
            let panic = catch_unwind(|| cases::<Nothing>(&file)).unwrap_err();
            let said = panicked(panic.as_ref());
            assert!(said.contains(&format!("x: {told}")), "{told}: {said}");
        }
    }
}
