//! The options of every command.

use clap::Args;

use lockkeeper_locks::cli::args;

#[derive(Debug, Clone, Args)]
// Its group would have the name of the one in `common`.
#[group(skip)]
pub(in crate::cli) struct Global {
    #[command(flatten)]
    pub(in crate::cli) common: args::Global,
    /// Compile every policy anew.
    #[arg(long, global = true, help_heading = "Global options")]
    pub(in crate::cli) no_cache: bool,
}
