//! The options of `prune`.

use std::time::Duration;

use clap::Args;

use lockkeeper_locks::cli::parse::duration;

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper prune --dry-run\n  \
    lockkeeper prune --older-than 7d --job kernel-reboot",
    after_long_help = "Deletes finished runs from the store, and their journals, output and policies from the state folder of this host. An \
    unfinished run is kept: `lockkeeper abort` finishes it first. A folder whose run is not in this store is kept unless its \
    journal records when the run finished.\n\n\
    Examples:\n  \
    lockkeeper prune --dry-run\n  \
    lockkeeper prune --older-than 7d --job kernel-reboot"
)]
pub(in crate::cli) struct PruneArgs {
    /// Time since a run finished before it is deleted.
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = duration)]
    pub(in crate::cli) older_than: Duration,
    /// Show what would be deleted, and delete nothing.
    #[arg(long)]
    pub(in crate::cli) dry_run: bool,
    /// Delete only runs of this job.
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) job: Option<String>,
}
