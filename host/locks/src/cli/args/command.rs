//! The commands of this crate, which both programs have.

use clap::Subcommand;

use super::{GuardArgs, HoldersArgs, LockArgs, MembersArgs, PartyCommand, SemaphoreCommand, UnlockArgs};

/// A command that needs no policy engine.
#[derive(Debug, Subcommand)]
pub enum LocksCommand {
    /// Acquire a slot of a semaphore; with a command, hold it while the command runs.
    Lock(LockArgs),
    /// Release a slot of a semaphore.
    Unlock(UnlockArgs),
    /// Show the holders of a semaphore.
    #[command(visible_alias = "lock-holders", alias = "lock_holders")]
    Holders(HoldersArgs),
    /// List semaphores, show one, or change its number of slots.
    #[command(subcommand)]
    Semaphore(SemaphoreCommand),
    /// Show the members of a party, or join it.
    #[command(subcommand)]
    Party(PartyCommand),
    /// The same as `party members`, under Salt's name.
    #[command(hide = true, alias = "party_members")]
    PartyMembers(MembersArgs),
    /// On the host that is acted on: run a command unless a later fence was accepted, or report how an attempt ended.
    Guard(GuardArgs),
}
