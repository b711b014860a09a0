//! The program and its commands.

use clap::{Parser, Subcommand};

use super::{
    AbortArgs, ApproveArgs, CompletionsArgs, ExplainArgs, Global, JobArgs, ManArgs, PauseArgs, PolicyCommand,
    PruneArgs, ReplayArgs, ResumeArgs, RetryArgs, RunArgs, SchemaCommand, StatusArgs,
};
use lockkeeper_locks::cli::args::LocksCommand;

/// Locks for scripts, and rollouts over fleets of hosts at a pace that a policy decides.
#[derive(Debug, Parser)]
#[command(
    name = "lockkeeper",
    bin_name = "lockkeeper",
    version,
    max_term_width = 110,
    after_help = "Examples:\n  \
        lockkeeper lock /locks/reboot --max-concurrency 3 -- ./reboot.sh\n  \
        lockkeeper check job.toml && lockkeeper run job.toml",
    after_long_help = "A semaphore is a path with a number of slots: every caller of the path shares the same limit. A party is a \
        path with the members that are alive. Both are kept in a store: ZooKeeper, or one file on this machine.\n\n\
        Examples:\n  \
        lockkeeper lock /locks/reboot --max-concurrency 3 -- ./reboot.sh\n  \
        lockkeeper holders /locks/reboot --zk-hosts zk1:2181,zk2:2181/fleet\n  \
        lockkeeper check job.toml && lockkeeper run job.toml\n\n\
        Exit codes:\n  \
        0   success\n  \
        1   the rollout or the command failed, a replay differs, or there was nothing to unlock\n  \
        2   bad usage, or a bad job\n  \
        69  the store cannot be reached\n  \
        70  the policy failed\n  \
        75  timed out waiting\n  \
        77  refused: login, access control, a missing grant, a stale fence, a fence of another store\n  \
        `lock … -- CMD`, `party join … -- CMD` and `guard … -- CMD` exit with the code of CMD; `guard --help` has more codes."
)]
pub struct Cli {
    #[command(flatten)]
    pub(in crate::cli) global: Global,
    #[command(subcommand)]
    pub(in crate::cli) command: Command,
}

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum Command {
    #[command(flatten)]
    Locks(LocksCommand),
    /// Report every mistake of a job; change nothing.
    #[command(
        after_help = "Examples:\n  \
        lockkeeper check job.toml\n  \
        lockkeeper check job.toml --format json  # for an editor or a pipeline",
        after_long_help = "Reports the mistakes of the job, of its policy's settings and of its inventory all at once, each with line \
        and column.\n\n\
        Examples:\n  \
        lockkeeper check job.toml\n  \
        lockkeeper check job.toml --format json  # for an editor or a pipeline"
    )]
    Check(JobArgs),
    /// Show the targets, the order and the limits of a job; change nothing.
    #[command(after_help = "Example:\n  lockkeeper plan job.toml")]
    Plan(JobArgs),
    /// Run a job, or resume its unfinished run.
    Run(RunArgs),
    /// Show the runs of a store, or one run in detail.
    Status(StatusArgs),
    /// Pause a run: start nothing new until it is resumed and let running actions finish.
    Pause(PauseArgs),
    /// Resume a paused run, or accept its failed targets.
    Resume(ResumeArgs),
    /// Abort a run: start nothing new and let running actions finish.
    Abort(AbortArgs),
    /// Approve a wave that is waiting for approval.
    Approve(ApproveArgs),
    /// Retry targets of a run.
    Retry(RetryArgs),
    /// Delete old finished runs.
    Prune(PruneArgs),
    /// Explain why a target is blocked, on what evidence, and what would unblock it.
    Explain(ExplainArgs),
    /// Repeat every decision of a run and compare, or back-test another policy.
    Replay(ReplayArgs),
    /// List, create, build and test policies.
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Print a JSON Schema.
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Print the completion script of a shell.
    Completions(CompletionsArgs),
    /// Print the manual page.
    Man(ManArgs),
}
