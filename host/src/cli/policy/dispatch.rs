//! Each command of `lockkeeper policy`, to the function that carries it out.

use super::{bench, build, decide, digest, inspect, list, new, test, views, watch};
use crate::cli::args::{Global, PolicyCommand};
use lockkeeper_locks::cli::exit::{Exit, Failure};
use lockkeeper_locks::cli::output::Output;
use lockkeeper_locks::cli::runtime::block_on;

/// Carries out the command that was given.
pub(in crate::cli) fn run(global: &Global, output: &Output, command: PolicyCommand) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::List => list::run(global, output),
        PolicyCommand::Inspect(args) => inspect::run(global, output, &args),
        PolicyCommand::New(args) => new::run(global, output, &args),
        PolicyCommand::Build(args) => build::run(global, output, &args),
        PolicyCommand::Watch(args) => block_on(&global.common.sessions, watch::run(global, output, args)),
        PolicyCommand::Digest(args) => digest::run(output, &args),
        PolicyCommand::Views => views::run(output),
        PolicyCommand::Decide(args) => decide::run(global, output, &args),
        PolicyCommand::Test(args) => test::run(global, output, &args),
        PolicyCommand::Bench(args) => bench::run(global, output, &args),
    }
}
