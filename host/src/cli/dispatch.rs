//! Each command, to the function that carries it out.

use super::args::{Cli, Command, SchemaCommand, StatusArgs};
use super::{check, control, explain, generate, plan, policy, prune, replay, run, status, timeline};
use lockkeeper_locks::cli::commands;
use lockkeeper_locks::cli::exit::{Exit, Failure};
use lockkeeper_locks::cli::output::Output;
use lockkeeper_locks::cli::runtime::block_on;

/// Carries out the command that was given.
pub(super) fn dispatch(cli: Cli, output: &Output) -> Result<Exit, Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Schema(SchemaCommand::Job(args)) => generate::schema(global, output, &args),
        Command::Completions(args) => generate::completions(output, &args),
        Command::Man(args) => generate::man(output, &args),
        Command::Policy(command) => policy::run(global, output, command),
        Command::Status(StatusArgs { run: Some(run), timeline: Some(file), .. }) => {
            timeline::write(global, output, &run, &file)
        }
        Command::Explain(args) => explain::run(global, output, &args),
        Command::Replay(args) => replay::run(global, output, &args),
        Command::Locks(command) => commands::run(&global.common, output, command),
        Command::Check(args) => block_on(&global.common.sessions, check::run(global, output, args)),
        Command::Plan(args) => block_on(&global.common.sessions, plan::run(global, output, args)),
        Command::Run(args) => block_on(&global.common.sessions, run::run(global, output, args)),
        Command::Status(args) => block_on(&global.common.sessions, status::run(global, output, args)),
        Command::Pause(args) => block_on(&global.common.sessions, control::pause(global, output, args)),
        Command::Resume(args) => block_on(&global.common.sessions, control::resume(global, output, args)),
        Command::Abort(args) => block_on(&global.common.sessions, control::abort(global, output, args)),
        Command::Approve(args) => block_on(&global.common.sessions, control::approve(global, output, args)),
        Command::Retry(args) => block_on(&global.common.sessions, control::retry(global, output, args)),
        Command::Prune(args) => block_on(&global.common.sessions, prune::run(global, output, args)),
    }
}
