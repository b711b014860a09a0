//! The command line: every command and flag with its help.
//!
//! Data is written to stdout, messages to stderr. With `--format json` data is one JSON value a line, and an error is one object on
//! stderr.

mod args;
mod check;
mod control;
mod dispatch;
mod event_lines;
mod explain;
mod failures;
mod find_run;
mod generate;
mod history_report;
mod job;
mod load_policy;
mod plan;
mod policy;
mod program;
mod prune;
mod replay;
mod run;
mod runs;
mod slot_check;
mod status;
mod timeline;

pub use args::Cli;
pub use lockkeeper_locks::cli::exit::{ErrorKind, Exit};
pub use program::main;
