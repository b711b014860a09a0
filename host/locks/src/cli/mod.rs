//! The command line of `lock`, `unlock`, `holders`, `semaphore`, `party` and `guard`, and what every other command shares
//! with them: the store options, output, errors and exit codes, and commands that run under a lease.
//!
//! Data is written to stdout, messages to stderr. With `--format json` data is one JSON value a line, and an error is one object
//! on stderr.

pub mod args;
mod argv_secret;
pub mod caller;
pub mod commands;
mod container_init;
pub mod exit;
mod guard;
pub mod help;
mod holders;
pub mod invocation;
mod lock;
pub mod output;
pub mod own_program;
pub mod parse;
mod party;
pub mod problems;
mod program;
pub mod runtime;
mod semaphore;
pub mod signals;
pub mod sink;
pub mod start;
mod state_folder;
pub mod store;
pub mod supervisor;
pub mod table;
mod unlock;
pub mod usage;

pub use program::main;
