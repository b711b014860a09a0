//! Carries out an orchestration's calls with the recipes, and through the machine, which alone lets a target run.
//!
//! # Durability
//! A call is carried out, recorded ([`Calls`](crate::rollout::run_state::Calls)) and then answered. A guest that is run again gets the recorded answers
//! until it makes a call without one. That call is carried out, and finds what it did before the interruption: a lease
//! under the run's name, a target that is already running. A call that differs from the recorded one ends the run.
//!
//! # Leases
//! They are persistent, have the run's name as identifier and are named by the run's state, so that the next runner
//! finds them; the end of the run releases those that the guest left. While a lease that the guest holds is gone, no
//! call that waits or lets a target run is carried out: each such call is answered with that error.

mod driver;
mod failure;
mod held_leases;
mod job;
mod leases;
mod requests;
mod targets;

pub(in crate::rollout) use driver::OrchestrationDriver;
pub(in crate::rollout) use held_leases::HeldLeases;
pub use job::OrchestrationJob;
pub(in crate::rollout) use requests::{Replies, Requests};
