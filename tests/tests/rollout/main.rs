//! The rollout: its machine against scenarios and a model, its engine against real stores and real processes.

mod engine;
mod model;
mod scenarios;
