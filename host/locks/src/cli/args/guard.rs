//! The options of `guard`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::cli::parse::{attempt, duration, fence, reason, store_id};
use lockkeeper_coordination::recipe::StoreId;

/// The options of `guard`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper guard --fence-file /var/lib/lockkeeper/app --fence 17 --attempt 1 -- ./restart\n  \
    lockkeeper guard --fence-file /var/lib/lockkeeper/app --outcome 1 --fence 17",
    after_long_help = "A runner that was suspended has lost its slot when it continues. Its fence is below the fence that was accepted \
    since, so the guard refuses it. The guard records on disk what it accepts before the command starts, and how the command \
    ended. The command is killed with its guard. No two commands run at once, and no store is asked. `docs/guard.md` has the \
    details.\n\n\
    The folder of the fence file must exist, on a disk that outlives a reboot. Use one file for each resource, and the guard for \
    every command that acts on it.\n\n\
    The environment of the command has LOCKKEEPER_FENCE, LOCKKEEPER_ATTEMPT and LOCKKEEPER_STORE_ID. LOCKKEEPER_RUN and \
    LOCKKEEPER_TARGET are recorded if they are set.\n\n\
    Examples:\n  \
    lockkeeper guard --fence-file /var/lib/lockkeeper/app --fence 17 --attempt 1 -- ./restart\n  \
    lockkeeper guard --fence-file /var/lib/lockkeeper/app --fence 18 --attempt 1 --stop -- ./restart\n  \
    lockkeeper guard --fence-file /var/lib/lockkeeper/app --outcome 1 --fence 17\n  \
    lockkeeper guard --fence-file /var/lib/lockkeeper/app --reset --store-id ID --reason 'the servers were rebuilt'\n\n\
    In a job, each word an argument of its own:\n  \
    ssh {target} lockkeeper guard --fence-file FILE --store-id {store-id} --fence {fence} --attempt {attempt} -- ./restart\n\n\
    Exit codes with a command: the code of the command, or\n  \
    2   bad usage                                 nothing was run\n  \
    74  the fence file cannot be used             nothing was run\n  \
    75  the command of an earlier fence runs      nothing was run; try again, or use --stop\n  \
    77  a stale fence or attempt                  nothing was run, nor ever will be\n  \
    77  a fence of another store                  nothing was run; --reset accepts that store\n  \
    126 the command exists and cannot be run\n  \
    127 the command does not exist\n\n\
    Exit codes of --outcome:\n  \
    0   it succeeded\n  \
    1   it failed\n  \
    66  it has not started; with --settle it never will\n  \
    74  the fence file cannot be used\n  \
    75  it still runs\n  \
    76  unknown: it started and died with its guard or its host, or is too long ago"
)]
pub struct GuardArgs {
    /// State file of accepted fences; one per resource that must not be acted on concurrently.
    #[arg(long, value_name = "FILE")]
    pub fence_file: PathBuf,
    /// Fence of the lease, `{fence}` in a job. With --outcome: fence of the attempt [default: the newest that was accepted].
    #[arg(long, value_name = "N", value_parser = fence, allow_negative_numbers = true,
        required_unless_present_any = ["outcome", "reset"])]
    pub fence: Option<u64>,
    /// Id of the store that granted the fence, `{store-id}` in a job [default: LOCKKEEPER_STORE_ID].
    #[arg(long, value_name = "ID", value_parser = store_id)]
    pub store_id: Option<StoreId>,
    /// Number of the attempt under that lease, `{attempt}` in a job.
    #[arg(long, value_name = "N", value_parser = attempt, allow_negative_numbers = true,
        required_unless_present_any = ["outcome", "reset"])]
    pub attempt: Option<u64>,
    /// Time to wait for the command of an earlier fence to end; 0 does not wait.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    pub wait: Duration,
    /// After --wait, stop the command of the earlier fence: SIGTERM to its guard, which passes it on, then SIGKILL.
    #[arg(long)]
    pub stop: bool,
    /// Time between SIGTERM and SIGKILL.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, requires = "stop")]
    pub kill_after: Duration,
    /// Report how this attempt ended, and run nothing.
    #[arg(long, value_name = "N", value_parser = attempt, allow_negative_numbers = true,
        conflicts_with_all = ["attempt", "wait", "stop", "command"])]
    pub outcome: Option<u64>,
    /// If the attempt has not started, refuse it from now on, so that the reported outcome stays true.
    #[arg(long, requires = "outcome", requires = "fence", conflicts_with_all = ["attempt", "command"])]
    pub settle: bool,
    /// Accept the fences of the store that --store-id names from the first on, after the earlier store was rebuilt.
    #[arg(long, requires = "reason",
        conflicts_with_all = ["fence", "attempt", "outcome", "settle", "wait", "stop", "command"])]
    pub reset: bool,
    /// Reason for --reset; recorded in the fence file with the operator and the time.
    #[arg(long, value_name = "TEXT", value_parser = reason, requires = "reset")]
    pub reason: Option<String>,
    /// Command to run.
    #[arg(last = true, value_name = "CMD", required_unless_present_any = ["outcome", "reset"])]
    pub command: Vec<OsString>,
}
