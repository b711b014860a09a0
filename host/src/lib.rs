//! Lockkeeper: a WebAssembly-pluggable policy engine for fleets.
//!
//! A job says what should happen, a policy decides when, the host does it. One direction, top to bottom; nothing points
//! up:
//!
//! ```text
//! cli → rollout → policy → { job, recipe } → store ← { zookeeper, embedded, memory }
//! cli → guard → rollout::process_group
//! all → files, terminal
//! cli → author → policy
//! ```

pub mod audit;
pub mod author;
pub mod cli;
pub mod job;
pub mod policy;
pub mod rollout;
