//! The options of the commands that take a job: `check`, `plan` and `run`.

use std::path::PathBuf;

use clap::Args;

#[derive(Debug, Args)]
pub(in crate::cli) struct JobArgs {
    /// Job file.
    #[arg(value_name = "JOB")]
    pub(in crate::cli) job: PathBuf,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper check job.toml && lockkeeper run job.toml\n  \
    lockkeeper run job.toml --format json > events.jsonl",
    after_long_help = "A job is its file, its inventory and its policy. If the newest run of the job is not finished, `run` resumes it: \
    after Ctrl-C, after a crash, from another host. One process at a time runs a job; another waits, and takes over when the \
    first ends. If the newest run is finished and the job is unchanged, `run` reports that and does nothing.\n\n\
    The first Ctrl-C starts nothing new, lets running actions finish and releases the slots. The second Ctrl-C stops the running \
    actions, too.\n\n\
    The journal records every decision: view, verdict, reason. The output of the commands is kept beside it.\n\n\
    Examples:\n  \
    lockkeeper check job.toml && lockkeeper run job.toml\n  \
    lockkeeper run job.toml --format json > events.jsonl"
)]
pub(in crate::cli) struct RunArgs {
    /// Job file.
    #[arg(value_name = "JOB")]
    pub(in crate::cli) job: PathBuf,
    /// Start a new run even if the last one finished and the job is unchanged.
    #[arg(long)]
    pub(in crate::cli) again: bool,
    /// Exit with 75 instead of waiting if another process runs the job.
    #[arg(long)]
    pub(in crate::cli) no_wait: bool,
}
