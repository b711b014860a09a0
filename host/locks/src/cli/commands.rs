//! Each command of this crate, to the function that carries it out.

use super::args::{Global, LocksCommand, PartyCommand};
use super::exit::{Exit, Failure};
use super::output::Output;
use super::runtime::block_on;
use super::{guard, holders, lock, party, semaphore, unlock};

/// Carries out the command that was given.
///
/// # Errors
/// The failure that is shown, and that determines the exit code.
pub fn run(global: &Global, output: &Output, command: LocksCommand) -> Result<Exit, Failure> {
    match command {
        LocksCommand::Lock(args) => block_on(&global.sessions, lock::run(global, output, args)),
        LocksCommand::Unlock(args) => block_on(&global.sessions, unlock::run(global, output, args)),
        LocksCommand::Holders(args) => block_on(&global.sessions, holders::run(global, output, args)),
        LocksCommand::Semaphore(command) => block_on(&global.sessions, semaphore::run(global, output, command)),
        LocksCommand::Party(PartyCommand::Members(args)) | LocksCommand::PartyMembers(args) => {
            block_on(&global.sessions, party::members(global, output, args))
        }
        LocksCommand::Party(PartyCommand::Join(args)) => block_on(&global.sessions, party::join(global, output, args)),
        LocksCommand::Guard(args) => block_on(&global.sessions, guard::run(output, args)),
    }
}
