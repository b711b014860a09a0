//! The clap types: every command and option with its help, and nothing that runs.

mod audit;
mod cli;
mod control;
mod generate;
mod global;
mod job;
mod policy;
mod prune;
mod status;

pub(in crate::cli) use audit::{ExplainArgs, ReplayArgs};
pub use cli::Cli;
pub(in crate::cli) use cli::Command;
pub(in crate::cli) use control::{AbortArgs, ApproveArgs, PauseArgs, ResumeArgs, RetryArgs};
pub(in crate::cli) use generate::{CompletionsArgs, ManArgs, SchemaCommand, SchemaJobArgs};
pub(in crate::cli) use global::Global;
pub(in crate::cli) use job::{JobArgs, RunArgs};
pub(in crate::cli) use policy::{
    BenchArgs, BuildArgs, DecideArgs, DigestArgs, EndingArg, InspectArgs, LanguageArg, NewArgs, PolicyCommand,
    TestArgs, WatchArgs,
};
pub(in crate::cli) use prune::PruneArgs;
pub(in crate::cli) use status::StatusArgs;
