//! Lockkeeper: a WebAssembly-pluggable policy engine for fleets.
//!
//! The modules, from the bottom up; a module uses those above it in this list and none below:

pub mod job;
pub mod policy;
pub mod recipe;
pub mod rollout;
pub mod store;
