//! An orchestration tested natively, by plain `cargo test`: in a made-up world, whose clock goes only while it waits.
//!
//! ```
//! use lockkeeper_sdk::orchestration::prelude::*;
//! use lockkeeper_sdk::orchestration::testing::play;
//!
//! #[settings]
//! struct Careful {
//!     lock: String,
//! }
//!
//! #[orchestrator]
//! impl Orchestrator for Careful {
//!     fn conduct(&self, _: Option<Vec<u8>>) -> Result<(), Stopped> {
//!         with_lease(&self.lock, Some(Duration::from_secs(60)), |_| for_each_target(1, Ended::must_have_succeeded))
//!     }
//! }
//!
//! let careful = Careful { lock: "/locks/db".to_owned() };
//! let played = play(&careful, r#"
//!     targets = ["db1", { name = "db2", takes = "5s" }]
//!     semaphores = { "/locks/db" = { held-by = [{ identifier = "somebody", until = "30s" }] } }
//! "#);
//! assert_eq!(played.acted(), ["db1", "db2"]);
//! assert_eq!(played.took, 30_000 + 10_000 + 5_000);
//!
//! let alone = play(&careful, r#"
//!     targets = ["db1"]
//!     semaphores = { "/locks/db" = { held-by = ["somebody"] } }
//! "#);
//! assert_eq!(alone.told(), "it gave up: the time ran out");
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};

use lockkeeper_cases::stage::{Entrance, Outcome, Play, Plays, Stage, World};

use super::native::{ON, On, Silent};
use super::{Orchestrator, Stopped};
use crate::Settings;
use crate::testing::cases::{mistaken, panicked};

pub use lockkeeper_cases::Call;
pub use lockkeeper_cases::stage::{self, Played, Silence, Spoken};

/// Plays an orchestration in a world that is told as in a file of cases, and sees that it survives being cut off at each
/// of its calls.
///
/// # Panics
/// When the world has mistakes; when cut off, it comes to another end.
pub fn play<P: Orchestrator>(orchestrator: &P, world: &str) -> Played {
    let world = World::parse(world).unwrap_or_else(|problems| mistaken(world, &problems));
    let play = Play::new(world);
    let mut run =
        |entrance: &Entrance, stage: &mut Stage| conducted(entrance, stage, |state| orchestrator.conduct(state));
    let whole = play.whole(&mut run);
    if let Some(broke) = play.survives(&whole, &mut run) {
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
    let plays = Plays::parse(toml).unwrap_or_else(|problems| mistaken(toml, &problems));
    let mut failed = String::new();
    for play in &plays.plays {
        let mut run = |entrance: &Entrance, stage: &mut Stage| {
            conducted(entrance, stage, |state| P::read(&entrance.settings.to_string()).map_err(Stopped)?.conduct(state))
        };
        for difference in play.judge(&mut run).differences {
            failed += &format!(
                "{}: {}: expected {}, seen {}\n",
                play.name, difference.key, difference.expected, difference.seen
            );
        }
    }
    assert!(failed.is_empty(), "\n{failed}");
}

/// Runs a guest on this thread, answered by the stage.
fn conducted(
    entrance: &Entrance,
    stage: &mut Stage,
    conduct: impl FnOnce(Option<Vec<u8>>) -> Result<(), Stopped>,
) -> Outcome {
    let on = On { stage: stage.clone(), targets: entrance.targets.clone() };
    ON.set(Some(on));
    let ended = catch_unwind(AssertUnwindSafe(|| conduct(entrance.state.clone())));
    if let Some(on) = ON.take() {
        *stage = on.stage;
    }
    match ended {
        Ok(Ok(())) => Outcome::Done,
        Ok(Err(Stopped(why))) => Outcome::GaveUp(why),
        // Why is the stage's to say.
        Err(silent) if silent.is::<Silent>() => Outcome::Done,
        Err(panic) => Outcome::Fault { kind: "trap".to_owned(), message: panicked(panic.as_ref()) },
    }
}
