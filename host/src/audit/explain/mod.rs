//! Explains why a target is blocked, from a run's journals alone, so that the answer is the same on another machine and
//! another day.
//!
//! [`Trail`] follows a run page by page and keeps the status of everything. [`Case`] is one decision with everything
//! that it depended on; [`nearest()`] changes these facts step by step, and asks the same policy and checks the same
//! limits again.

mod answer;
mod decision;
mod format;
mod nearest;
mod situation;
mod trail;

pub use answer::{Answer, BlockedBy, Earliest, Summary, group, of_run, of_target};
pub use decision::{Case, facts_of};
pub use nearest::{Counterfactual, Nearest, nearest};
pub use trail::{Hold, JournalPosition, LastEnding, PolicyAnswer, Refused, Trail, TrailEntry, TrailStatus};
