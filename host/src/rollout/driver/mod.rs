//! The loop around the machine: waits for inputs and carries actions out. The only place of a rollout that starts tasks.

mod decide;
mod lease_task;
mod observer;
mod resolve_targets;
mod run_loop;

pub use decide::Decide;
pub use resolve_targets::{TargetsError, needs_store, read_inventory, resolve};
pub use run_loop::{Run, RunError, run};
