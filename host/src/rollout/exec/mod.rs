//! Runs an action's command, on this machine or on its target: starts, watches and stops it.
//!
//! Each command is a process group of its own. `process` has those of this machine, `ssh` those of the targets.

mod command;
mod process;
mod run;
mod ssh;

pub(super) use command::{Invocation, Kill, Location};
pub(super) use run::run;
pub(super) use ssh::{Connections, Host};
