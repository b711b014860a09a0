//! How a policy comes about: projects made from templates and built, cases that it must answer as stated, properties that
//! it must have on views made up for it, and what it costs.
//!
//! Everything here asks the policy through [`crate::policy`], as a rollout does; nothing here prints.

mod ask;
mod cases;
mod measure;
mod paste;
mod plays;
pub mod project;
mod properties;
mod sample;
mod update;

pub use ask::{Question, Said, ask};
pub use cases::{Tried, question as question_of, questions, read_cases, read_view, try_cases};
pub use measure::{Baseline, BaselineError, Cost, Growth, Measured, measure};
pub use paste::case_text;
pub use plays::{judge, read_plays, read_world, run as play_once};
pub use properties::{Broken, Looked, Property, Search, look};
pub use sample::{sample_text, sample_view};
pub use update::update;
