//! The rollout: its machine against scenarios and a model, its engine against real stores and real processes.

#![allow(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test says by panicking what is wrong, and prints its seed"
)]

mod engine;
mod model;
mod scenarios;
