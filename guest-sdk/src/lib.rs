//! Write Lockkeeper policies in Rust.
//!
//! A policy is a pure function: what the host shows it (the [`View`]) goes in, a verdict comes out. One trait says what
//! it decides, one attribute exports it as a wasm component, and its settings are a plain struct.
//!
//! ```
//! use lockkeeper_sdk::prelude::*;
//!
//! /// Waits for a party of at least `min` members.
//! #[settings]
//! struct Quorum {
//!     min: usize,
//! }
//!
//! #[policy]
//! impl Policy for Quorum {
//!     fn admit(&self, view: &View, _memory: &mut Memory) -> Admitted {
//!         if view.members() < self.min {
//!             return wait("below-floor", format!("{} of {} members", view.members(), self.min));
//!         }
//!         lock("slot-wanted", "the party is large enough")
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Build it for `wasm32-unknown-unknown` as a `cdylib`; test it natively with [`testing`] and plain `cargo test`.
//!
//! # Determinism
//! The same settings, view and memory must give the same answer on every host. Time is [`View::now`], randomness is
//! [`View::seed`], and maps iterate in an order: use [`prelude::BTreeMap`], not `HashMap`.

#[cfg(target_arch = "wasm32")]
mod alloc;
pub mod bindings;
mod decide;
#[doc(hidden)]
pub mod export;
mod memory;
pub mod orchestration;
mod period;
pub mod rules;
mod schema;
pub mod testing;
mod trace;
mod turns;
mod view;

// The attributes name the crate by its name, here as everywhere.
extern crate self as lockkeeper_sdk;

pub use bindings::exports::lockkeeper::policy::decider::{Diagnostic, Manifest, Outcome, View};
pub use bindings::lockkeeper::policy::types::{
    Admission, Cause, Ending, Event, EventKind, Label, Lease, Member, Party, Progress, Semaphore, Settlement, Severity,
    Target,
};
pub use decide::{Admitted, Settled, abort, fault, force, hold, keep, lock, release, retry, skip, wait};
pub use export::{Described, Description, Export};
pub use lockkeeper_sdk_macros::{orchestrator, policy, settings};
pub use memory::Memory;
pub use period::Period;
pub use schema::{Schema, schema_of};
pub use trace::{Level, trace};
pub use turns::{Turn, Turns};

/// What a policy may return unless its attribute lists more.
pub const DEFAULT_VERDICTS: &[&str] = &["lock", "wait", "release"];

/// What a policy decides. `self` is its settings.
///
/// Each decision runs in a fresh sandbox: nothing survives from one to the next but [`Memory`]. A panic is a policy
/// fault, and the job's `on-fault` applies: it never opens anything.
pub trait Policy: Sized {
    /// May this target go? Asked when the target is next, and again with [`Cause::Granted`] when its slot is held.
    fn admit(&self, view: &View, memory: &mut Memory) -> Admitted;

    /// It acted; what now? Unless overridden the slot is released, and a failure is a failure.
    fn settle(&self, view: &View, outcome: &Outcome, memory: &mut Memory) -> Settled {
        let _ = (view, memory);
        release(ending_code(outcome.ending), "the default: the slot is given back")
    }

    /// What is wrong with settings that could be read, beyond what their types say: rules across fields, say.
    fn check(&self) -> Vec<Diagnostic> {
        Vec::new()
    }
}

/// What is read from a job's `[policy.settings]`. [`settings`] implements it.
pub trait Settings: Sized {
    /// Reads them from the host's JSON.
    ///
    /// # Errors
    /// What is wrong with them, as a job's author would see it.
    fn read(json: &str) -> Result<Self, String>;
}

fn ending_code(ending: Ending) -> &'static str {
    match ending {
        Ending::Succeeded => "succeeded",
        Ending::Failed => "failed",
        Ending::TimedOut => "timed-out",
        Ending::LeaseLost => "lease-lost",
        Ending::Unknown => "unknown",
    }
}

/// What is wrong with the setting at `at`, a path such as `window.start`.
pub fn problem(at: impl Into<String>, message: impl Into<String>) -> Diagnostic {
    Diagnostic { severity: Severity::Error, at: at.into(), message: message.into(), help: None }
}

/// All that a policy usually needs.
pub mod prelude {
    pub use std::collections::{BTreeMap, BTreeSet};
    pub use std::time::Duration;

    pub use crate::{
        Admitted, Cause, Diagnostic, Ending, Event, EventKind, Lease, Level, Member, Memory, Outcome, Party, Period,
        Policy, Progress, Semaphore, Settled, Target, View, abort, fault, force, hold, keep, lock, policy, problem,
        release, retry, rules, settings, skip, trace, wait,
    };
}

/// For the attributes' expansions alone.
#[doc(hidden)]
pub mod reexport {
    pub use crate::export::{nothing, read};
    pub use serde;
}
