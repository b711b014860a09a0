//! The rollout as a pure machine: an [`Input`](super::model::Input) and the time go in,
//! [`Action`](super::model::Action)s come out.

mod rollout;

pub use rollout::{ORCHESTRATION, Rollout};
