//! The loop around the machine: waits for inputs and carries out actions. No other module of a rollout starts tasks.

mod commands;
mod decide;
mod decisions;
mod lease_task;
mod observer;
mod resolve_targets;
mod run;
mod run_loop;

pub use decide::Decide;
pub use resolve_targets::{TargetsError, needs_store, read_inventory, resolve};
pub use run::{Run, RunError, run};
