//! Locks for scripts and hosts: what `lock`, `unlock`, `holders`, `semaphore`, `party` and `guard` need, without a policy
//! engine.
//!
//! ```text
//! cli → { config → toml_reader → terminal, fence → process }
//! ```

pub mod cli;
pub mod config;
pub mod fence;
pub mod process;
pub mod terminal;
pub mod toml_reader;
