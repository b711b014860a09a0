//! A rollout: a job in progress.
//!
//! [`model`] is plain data. [`machine`] is the rollout as a pure machine: inputs and the time go in, actions come out. [`driver`]
//! is the loop around the machine: it waits for inputs and carries the actions out, with [`exec`] for commands, [`orchestration`]
//! for guests that drive the primitives themselves, [`run_state`] for the store's record of the run, and [`journal`] for the
//! record of decisions.

pub mod driver;
pub mod exec;
pub mod journal;
pub mod machine;
pub mod model;
pub mod orchestration;
pub mod run_state;
