//! The clap types of `lockkeeper policy`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PolicyCommand {
    /// List the standard policies.
    List,
    /// Show what a policy says of itself.
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    lockkeeper policy inspect rolling\n  \
    lockkeeper policy inspect ./my_policy.wasm")]
pub(in crate::cli) struct InspectArgs {
    /// A standard policy's name, or a wasm file.
    #[arg(value_name = "POLICY")]
    pub(in crate::cli) policy: String,
}
