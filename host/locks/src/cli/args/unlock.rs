//! The options of `unlock`.

use clap::Args;

use crate::cli::parse::{identifier, reason};
use lockkeeper_coordination::recipe::Identifier;
use lockkeeper_coordination::store::NodePath;

/// The options of `unlock`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper unlock /locks/reboot                     # the slot of this host\n  \
    lockkeeper unlock /locks/reboot --identifier web01  # of another host: make sure that it is idle",
    after_long_help = "Exits with 1 and names the holders if there is no such lease: then it was lost or released before.\n\n\
    Examples:\n  \
    lockkeeper unlock /locks/reboot                     # the slot of this host\n  \
    lockkeeper unlock /locks/reboot --identifier web01  # of another host: make sure that it is idle\n  \
    lockkeeper unlock /locks/reboot --identifier web01 --force --reason 'web01 burnt down'"
)]
pub struct UnlockArgs {
    /// Semaphore to release a slot of.
    #[arg(value_name = "PATH", value_parser = NodePath::parse)]
    pub path: NodePath,
    /// Name of the lease's holder [default: the host's name].
    #[arg(long, value_name = "NAME", value_parser = identifier)]
    pub identifier: Option<Identifier>,
    /// Break the lease even if its owner (a run, a process or a session) is alive; a living owner stops its command.
    #[arg(long, requires = "reason")]
    pub force: bool,
    /// Reason for --force; recorded, and shown to the owner of the lease.
    #[arg(long, value_name = "TEXT", requires = "force", value_parser = reason)]
    pub reason: Option<String>,
}
