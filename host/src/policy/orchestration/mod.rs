//! Orchestrations, tier 2: a guest that drives the primitives itself, by calls that its host carries out.
//!
//! This module turns what the guest calls into [`Call`]s and [`Answer`]s into what the guest gets, and bounds what it may use
//! in between. It carries nothing out: whoever runs an orchestration takes its calls from a channel, which is also where one
//! that is run again gets the answers that it had.

/// The package of their contract, as its imports and exports begin.
pub(super) const PACKAGE: &str = "lockkeeper:orchestration/";

mod call;
mod guest;
mod run;

pub use call::{Advice, Answer, CallError, TargetStatus};
pub(in crate::policy) use guest::Instance;
pub use guest::{Answered, Asked};
pub use lockkeeper_cases::{Call, MOST_CALLS};
pub use run::{Beginning, Orchestration, contract};
pub(super) use run::{is_one, link, linker};
