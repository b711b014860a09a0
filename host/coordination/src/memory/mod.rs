//! A store in memory, for tests and simulation.
//!
//! One [`Memory`] is one tree that any number of sessions share. Its time is tokio's, so that it stands still under
//! `start_paused` and a simulated day takes no longer than what happens in it. Faults are injected by request number
//! ([`Memory::fail`]) or at random from a seed ([`Chaos`]), and what happened is kept for checking
//! ([`Memory::history`]). With [`MemoryOptions::lag`] each session reads from a follower of its own, as on a real
//! ensemble: never older than what it has seen, but older than what others have done.
//!
//! The same program, seeds and tokio runtime (`current_thread`, paused) give the same run, request by request.

mod fault;
mod session;
mod state;
mod tree;

pub use fault::{Chaos, Fault};
pub use session::MemoryStore;
pub use state::{Change, Memory, MemoryOptions};
pub use tree::Effect;

#[cfg(test)]
mod tests;
