//! The options of `semaphore` and `holders`.

use std::num::NonZeroU32;

use clap::{Args, Subcommand};

use crate::cli::parse::{reason, slots};
use lockkeeper_coordination::store::NodePath;

/// A command of `semaphore`.
#[derive(Debug, Subcommand)]
pub enum SemaphoreCommand {
    /// List the semaphores of the store, or those below a path.
    #[command(
        after_help = "Examples:\n  lockkeeper semaphore list\n  lockkeeper semaphore list /locks --format json",
        after_long_help = "A path counts as a semaphore if its data is a number and there is a queue beside it or a lease below \
        it.\n\n\
        Examples:\n  lockkeeper semaphore list\n  lockkeeper semaphore list /locks --format json"
    )]
    List(SemaphoreListArgs),
    /// Show the number of slots of a semaphore, its origin, and every holder.
    Show(HoldersArgs),
    /// Change the number of slots of a semaphore.
    #[command(
        after_help = "Example:\n  lockkeeper semaphore resize /locks/reboot 5 --reason 'the fleet has doubled'",
        after_long_help = "Callers of Lockkeeper follow at once: a higher number admits waiting callers, a lower number admits no \
        caller before enough leases are released. No lease is broken. A process that uses kazoo and has read the number before \
        keeps the old one until it ends.\n\n\
        Example:\n  lockkeeper semaphore resize /locks/reboot 5 --reason 'the fleet has doubled'"
    )]
    Resize(ResizeArgs),
}

/// The options of `semaphore list`.
#[derive(Debug, Args)]
pub struct SemaphoreListArgs {
    /// List only semaphores at or below this path [default: the whole store].
    #[arg(value_name = "PREFIX", value_parser = NodePath::parse)]
    pub prefix: Option<NodePath>,
}

/// The options of `semaphore resize`.
#[derive(Debug, Args)]
pub struct ResizeArgs {
    /// Semaphore to change.
    #[arg(value_name = "PATH", value_parser = NodePath::parse_shared)]
    pub path: NodePath,
    /// New number of slots, at least 1.
    #[arg(value_name = "N", value_parser = slots)]
    pub slots: NonZeroU32,
    /// Reason; recorded, and shown by `semaphore show`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub reason: Option<String>,
    /// When lowering the number, bind kazoo and Salt processes that know the old number, too.
    ///
    /// As many slots as the number is lowered by are reserved; the reservations stay until the next resize.
    #[arg(long)]
    pub reserve: bool,
}

/// The options of `holders` and `semaphore show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper holders /locks/reboot\n  \
    lockkeeper holders /locks/reboot --format json",
    after_long_help = "Shows each holder with its fence, the time since when it holds, its owner, whether the lease ends with a \
    session, and the reason if it was forced. As JSON, one object with `slots`, `waiting` and `holders`.\n\n\
    Examples:\n  \
    lockkeeper holders /locks/reboot\n  \
    lockkeeper holders /locks/reboot --format json"
)]
pub struct HoldersArgs {
    /// Semaphore to show.
    #[arg(value_name = "PATH", value_parser = NodePath::parse)]
    pub path: NodePath,
}
