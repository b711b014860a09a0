//! The options of `schema`, `completions` and `man`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum SchemaCommand {
    /// Print the JSON Schema of a job, for an editor that knows TOML.
    Job(SchemaJobArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper schema job > job.schema.json\n  \
    lockkeeper schema job --policy my_policy.wasm > job.schema.json",
    after_long_help = "An editor that knows TOML (Taplo, Even Better TOML) reads the file that the first line of a job names: \
    `#:schema job.schema.json`.\n\n\
    Examples:\n  \
    lockkeeper schema job > job.schema.json\n  \
    lockkeeper schema job --policy my_policy.wasm > job.schema.json"
)]
pub(in crate::cli) struct SchemaJobArgs {
    /// Policy whose settings to include below `[policy.settings]`: the name of a standard policy, or a wasm file.
    #[arg(long, value_name = "POLICY")]
    pub(in crate::cli) policy: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    lockkeeper completions bash > ~/.local/share/bash-completion/completions/lockkeeper\n  \
    lockkeeper completions zsh > \"${fpath[1]}/_lockkeeper\"")]
pub(in crate::cli) struct CompletionsArgs {
    /// Shell to complete for.
    #[arg(value_enum)]
    pub(in crate::cli) shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    lockkeeper man | man -l -\n  \
    lockkeeper man --out ~/.local/share/man/man1")]
pub(in crate::cli) struct ManArgs {
    /// Write a page for every command into this folder instead of one page to stdout.
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) out: Option<PathBuf>,
}
