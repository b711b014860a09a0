//! Processes of this machine: their groups, their descendants, the signals they inherit, and why one cannot be started.

pub mod inherited_signals;
pub mod process_group;
pub mod process_stat;
pub mod process_tree;
pub mod runner_failure;
