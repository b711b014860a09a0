//! The options of the commands that control a run: `pause`, `resume`, `abort`, `approve` and `retry`.

use clap::Args;

use lockkeeper_locks::cli::parse::reason;

/// The help of the argument that names a run.
const RUN_HELP: &str =
    "Run: its name, the beginning of its name, its job's name (the newest run of the job), or `latest`";

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper pause kernel-reboot --reason 'the database is slow'\n  \
    lockkeeper pause latest",
    after_long_help = "Nothing new starts; running actions finish. The command reports when the runner has acknowledged the request. If no \
    runner drives the run, the next one starts paused. `lockkeeper resume` ends the pause.\n\n\
    Examples:\n  \
    lockkeeper pause kernel-reboot --reason 'the database is slow'\n  \
    lockkeeper pause latest"
)]
pub(in crate::cli) struct PauseArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub(in crate::cli) run: String,
    /// Reason; recorded with the run and shown by `status`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(in crate::cli) reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper resume kernel-reboot\n  \
    lockkeeper resume kernel-reboot --accept",
    after_long_help = "A run that is not paused can still be blocked: by its spent failure budget, or by a target with an unknown outcome. \
    --accept takes every target that has failed or is unknown now as it is: it no longer spends the budget and blocks no other \
    target. Later failures count as before. `lockkeeper retry` is the alternative.\n\n\
    Examples:\n  \
    lockkeeper resume kernel-reboot\n  \
    lockkeeper resume kernel-reboot --accept"
)]
pub(in crate::cli) struct ResumeArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub(in crate::cli) run: String,
    /// Accept every target that has failed, was rolled back or is unknown now.
    #[arg(long)]
    pub(in crate::cli) accept: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper abort kernel-reboot --reason 'wrong kernel'\n  \
    lockkeeper abort kernel-reboot --release --reason 'its host is gone'",
    after_long_help = "The runner starts nothing new, waits for running actions, releases every slot and finishes the run. If no runner drives \
    the run, this command finishes it: it releases the slots, and the outcome of actions that were running is unknown. \
    `lockkeeper retry` reopens the run.\n\n\
    --release is for an abandoned run, which `lockkeeper status` shows with its slots. It is refused while a runner drives the \
    run. First make sure that the commands of the run have ended; or resume the run with `lockkeeper run`, which asks the \
    probe.\n\n\
    Examples:\n  \
    lockkeeper abort kernel-reboot --reason 'wrong kernel'\n  \
    lockkeeper abort kernel-reboot --release --reason 'its host is gone'\n  \
    lockkeeper abort kernel-reboot-20260401T0100"
)]
pub(in crate::cli) struct AbortArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub(in crate::cli) run: String,
    /// Finish the run only if no runner drives it, and release every slot that it holds, even where a command may still run.
    #[arg(long)]
    pub(in crate::cli) release: bool,
    /// Reason; recorded with the run and shown by `status`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(in crate::cli) reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  \
    lockkeeper approve kernel-reboot rest",
    after_long_help = "A wave with `approve = true` starts when the waves before it are finished, their bake is over, and an operator has \
    approved it. The approval can be given earlier.\n\n\
    Example:\n  \
    lockkeeper approve kernel-reboot rest"
)]
pub(in crate::cli) struct ApproveArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub(in crate::cli) run: String,
    /// Wave to approve.
    #[arg(value_name = "WAVE")]
    pub(in crate::cli) wave: String,
    /// Reason; recorded with the run and shown by `status`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(in crate::cli) reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper retry kernel-reboot web07 web09\n  \
    lockkeeper retry kernel-reboot --failed --reason 'the mirror is back'",
    after_long_help = "Shows each target with its status before. If one of the named targets is running or has succeeded, the whole request is \
    refused.\n\n\
    A finished run is reopened: `lockkeeper run` with its unchanged job resumes it, and runs the targets that never started, \
    too.\n\n\
    Examples:\n  \
    lockkeeper retry kernel-reboot web07 web09\n  \
    lockkeeper retry kernel-reboot --failed --reason 'the mirror is back'\n  \
    lockkeeper retry kernel-reboot --all && lockkeeper run job.toml"
)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["targets", "failed", "unknown", "skipped", "everyone"]))]
pub(in crate::cli) struct RetryArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    pub(in crate::cli) run: String,
    /// Targets to retry.
    #[arg(value_name = "TARGET")]
    pub(in crate::cli) targets: Vec<String>,
    /// Retry every target that failed or was rolled back.
    #[arg(long)]
    pub(in crate::cli) failed: bool,
    /// Retry every target with an unknown outcome.
    #[arg(long)]
    pub(in crate::cli) unknown: bool,
    /// Retry every target that was skipped.
    #[arg(long)]
    pub(in crate::cli) skipped: bool,
    /// Retry all of these.
    #[arg(long = "all")]
    pub(in crate::cli) everyone: bool,
    /// Reason; recorded with the run and shown by `status`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    pub(in crate::cli) reason: Option<String>,
}
