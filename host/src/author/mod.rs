//! How a policy comes about: projects made from templates and built, cases that it must answer as stated, properties that
//! it must have on views made up for it, and what it costs.
//!
//! Everything here asks the policy through [`crate::policy`], as a rollout does; nothing here prints.

mod case_text;
mod cases;
mod decide;
mod measure;
pub mod project;
mod properties;
mod sample_views;
mod scenarios;
mod update_cases;

pub use case_text::case_text;
pub use cases::{Tried, question as question_of, questions, read_cases, read_view, try_cases};
pub use decide::{Question, Said, decide};
pub use measure::{Baseline, BaselineError, Cost, Growth, Measured, measure};
pub use properties::{Broken, Looked, Property, Search, look};
pub use sample_views::{sample_text, sample_view};
pub use scenarios::{judge, read_scenarios, read_world, run as run_scenario_once};
pub use update_cases::update_cases;
