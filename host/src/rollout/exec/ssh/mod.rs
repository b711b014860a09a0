//! Runs commands on their targets with the system's OpenSSH client.
//!
//! A target has one connection, opened in a step of its own: if that fails, nothing ran on the target. Commands share
//! the connection; a small script on the other side reports when each may start and how it ended, and starts none
//! before it gets the word.

mod connection;
mod failure;
mod remote;
mod run;
mod session;
mod sockets;

pub(in crate::rollout) use connection::{Connections, Host};
pub(super) use run::run;
