//! The options of `lock`.

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::time::Duration;

use clap::Args;

use crate::cli::parse::{duration, identifier, reason, slots, timeout};
use lockkeeper_coordination::recipe::Identifier;
use lockkeeper_coordination::store::NodePath;

/// The options of `lock`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper lock /locks/db --timeout 0 -- ./backup    # only if a slot is free now\n  \
    lockkeeper lock /locks/reboot                        # keep the slot until `unlock`",
    after_long_help = "With a command, each process acquires a slot of its own: a second process waits for a free slot, or exits with \
    75 under `--timeout 0`. The slot is released when the command ends, however it ends.\n\n\
    Without a command, the lease stays until `unlock`, across processes and reboots. Its fence is printed on stdout. The same \
    identifier finds the lease again.\n\n\
    The environment of the command has LOCKKEEPER_FENCE, LOCKKEEPER_STORE_ID, LOCKKEEPER_SEMAPHORE and \
    LOCKKEEPER_IDENTIFIER.\n\n\
    Examples:\n  \
    lockkeeper lock /locks/db --timeout 0 -- ./backup    # only if a slot is free now\n  \
    lockkeeper lock /locks/cron --max-concurrency 3 --one-per-identifier -- ./nightly.sh\n  \
    lockkeeper lock /locks/reboot --persistent -- ./reboot.sh    # the slot outlives a crash of this host\n  \
    lockkeeper lock /locks/reboot                        # keep the slot until `unlock`\n  \
    lockkeeper lock /locks/reboot --force --reason 'db1 is gone for good'"
)]
pub struct LockArgs {
    /// Semaphore to acquire a slot of.
    #[arg(value_name = "PATH", value_parser = NodePath::parse_shared)]
    pub path: NodePath,
    /// Name of the holder [default: the host's name].
    #[arg(long, value_name = "NAME", value_parser = identifier)]
    pub identifier: Option<Identifier>,
    /// Number of slots of the semaphore; every caller of the path must give the same number.
    #[arg(long, value_name = "N", default_value = "1", visible_alias = "max_concurrency", value_parser = slots)]
    pub max_concurrency: NonZeroU32,
    /// Time to connect and to wait for a slot, as `5m` or in seconds; 0 acquires a slot only if one is free now [default: no
    /// limit].
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    pub timeout: Option<Duration>,
    /// End the lease with this process, as the lease of a command ends in any case. Salt's name.
    #[arg(long, requires = "command", alias = "ephemeral_lease", hide = true, conflicts_with = "persistent")]
    pub ephemeral_lease: bool,
    /// Keep the lease if this process or its host dies.
    ///
    /// For a command that outlives the process, such as a reboot. Release the lease with `unlock`, or replace it with
    /// --reenter. Implies --one-per-identifier.
    #[arg(long, requires = "command")]
    pub persistent: bool,
    /// Replace a persistent lease of this identifier that outlived its process; the command gets a new fence.
    #[arg(long, requires = "persistent", conflicts_with = "force")]
    pub reenter: bool,
    /// Run one command at a time under this identifier, even if more slots are free.
    #[arg(long, requires = "command", alias = "one_per_identifier")]
    pub one_per_identifier: bool,
    /// Acquire a lease even if no slot is free.
    #[arg(long, requires = "reason", conflicts_with = "timeout")]
    pub force: bool,
    /// Reason for --force; recorded with the lease and shown by `holders`.
    #[arg(long, value_name = "TEXT", requires = "force", value_parser = reason)]
    pub reason: Option<String>,
    /// Time between SIGTERM and SIGKILL when the lease is lost while the command runs.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub kill_after: Duration,
    /// Command to run while the slot is held.
    #[arg(last = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}
