//! Policies: sandboxed wasm components that turn a view of the world into a verdict.
//!
//! A policy is untrusted. It imports nothing but the contract's `trace`, gets a fresh instance for every decision, and
//! runs under a limit of fuel, memory and time; whatever goes wrong with it is a [`PolicyError`], a value. What a job
//! allows a policy is in [`crate::job::Grants`]; the rollout's hard limits stand behind that, and are not this module's.

mod bindings;
mod cache;
mod compile;
mod compiler;
mod config;
mod difference;
mod engine;
mod error;
mod evaluate;
mod grants;
mod imports;
mod module;
pub mod orchestration;
mod settings;
mod standard;
mod ticker;
pub mod types;

pub use compile::componentise;
pub use compiler::{COMPILE, Compiler, compile_for_parent};
pub use engine::{Allocation, Either, Engine, EngineOptions, Limits, OnCompile, digest};
pub use error::PolicyError;
pub use evaluate::{Decision, TraceLevel, TraceLine, Warm};
pub use module::Module;
pub use standard::{StandardPolicy, standard_policies};
