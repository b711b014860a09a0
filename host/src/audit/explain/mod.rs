//! Why a target does not go, from what a run's journals say: nothing else is asked, so that the answer is the same on
//! another machine and another day.
//!
//! [`Account`] follows a run page by page and says where everything stands. [`Case`] is one decision of it with all that it
//! rested on; [`nearest`] changes what it rested on, bit by bit, and asks the same policy and the same limits again.

mod answer;
mod decision;
mod format;
mod nearest;
mod situation;
mod trail;

pub use answer::{Answer, Because, Earliest, Summary, group, of_run, of_target};
pub use decision::{Case, rests_on};
pub use nearest::{Counterfactual, Nearest, nearest};
pub use trail::{Ended, Hold, Place, Refused, Said, Trail, TrailEntry, TrailStatus};
