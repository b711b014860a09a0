//! The command line: every command and flag with its help.
//!
//! Data goes to stdout, talk to stderr. With `--format json` data is one JSON value a line, and an error is one object on
//! stderr.

mod argv_secret;
mod check;
mod container_init;
mod context;
mod control;
mod exit;
mod explain;
mod find_run;
mod generate;
mod guard;
mod holders;
mod invocation;
mod job;
mod lock;
mod output;
mod party;
mod plan;
mod policy;
mod prune;
mod replay;
mod run;
mod runs;
mod semaphore;
mod sessions;
mod signals;
mod sink;
mod slot_check;
mod status;
mod store;
mod supervisor;
mod table;
mod timeline;
mod unlock;
mod usage;

use std::ffi::OsString;
use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub use exit::{ErrorKind, Exit};

use crate::job as jobs;
use crate::rollout::exec::inherited_signals;
use lockkeeper_coordination::recipe::{Identifier, IdentifierError, MemberKind, StoreId};
use lockkeeper_coordination::store::NodePath;
use lockkeeper_coordination::zookeeper::{Acl, Hosts, Secret};

/// Takes locks from scripts, and rolls changes out over hosts under a wasm policy: never too fast, never past its
/// failure budget.
#[derive(Debug, Parser)]
#[command(
    name = "lockkeeper",
    bin_name = "lockkeeper",
    version,
    max_term_width = 110,
    after_help = "A semaphore is a path with a number of slots: whoever names the same path shares the same limit. A party \
        is a path whose members are alive. Both live in a store: ZooKeeper, or one file on this machine.\n\n\
        Which store: --store, --zk-hosts or --profile where one is given, else the job's [store], else LOCKKEEPER_STORE, \
        LOCKKEEPER_ZK_HOSTS or LOCKKEEPER_PROFILE, else that of /etc/lockkeeper/config.toml, else the file. The other store options count before what the job or the \
        profile says, and that before the environment.\n\n\
        Examples:\n  \
        lockkeeper lock /locks/reboot --max-concurrency 3 -- ./reboot.sh\n  \
        lockkeeper holders /locks/reboot --zk-hosts zk1:2181,zk2:2181/fleet\n  \
        lockkeeper check job.toml && lockkeeper run job.toml\n\n\
        Exit codes:\n  \
        0   done\n  \
        1   the rollout or the command failed, a replay differs, or there was nothing to unlock\n  \
        2   bad usage, or a bad job\n  \
        69  the store cannot be reached\n  \
        70  the policy failed\n  \
        75  timed out waiting\n  \
        77  refused: login, access control, a missing grant, a stale fence, another store's fence\n  \
        `lock … -- CMD`, `party join … -- CMD` and `guard … -- CMD` end with CMD's own code; `guard --help` has more."
)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Where the embedded store, journals and compiled policies are kept [default: `lockkeeper` in your state folder, such
    /// as `~/.local/state`].
    #[arg(long, global = true, value_name = "DIR", env = "LOCKKEEPER_STATE_DIR", hide_env_values = true)]
    state_dir: Option<PathBuf>,
    /// How data and errors are written: for people, or one JSON value a line.
    #[arg(long, global = true, value_enum, default_value = "human")]
    format: Format,
    /// Say nothing but data and errors.
    #[arg(long, short, global = true)]
    quiet: bool,
    /// Compile policies anew each time.
    #[arg(long, global = true)]
    no_cache: bool,
    /// What was opened so far.
    #[arg(skip)]
    sessions: sessions::Sessions,
    // Last: its heading would be that of all that follows.
    #[command(flatten)]
    store: StoreFlags,
}

/// Which store, and how to log in there. The environment is looked at in `store.rs`, as it counts less than a job.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Store options")]
struct StoreFlags {
    /// A store in this file, on a local disk; any number of processes may use it at once [default: `store.db` in the state
    /// folder] [env: LOCKKEEPER_STORE].
    #[arg(long, global = true, value_name = "FILE")]
    store: Option<PathBuf>,
    /// ZooKeeper servers, and the node that all paths are below: `zk1:2181,zk2:2181/fleet` [env: LOCKKEEPER_ZK_HOSTS].
    #[arg(long, global = true, value_name = "HOSTS", alias = "zk_hosts", value_parser = Hosts::parse)]
    zk_hosts: Option<Hosts>,
    /// A profile of the configuration file: servers, login and all else under one name [env: LOCKKEEPER_PROFILE].
    #[arg(long, global = true, value_name = "NAME")]
    profile: Option<String>,
    /// The configuration file [default: `lockkeeper/config.toml` in your configuration folder, such as `~/.config`] [env:
    /// LOCKKEEPER_CONFIG].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How to log in to ZooKeeper [default: digest, with a username and a password].
    #[arg(long, global = true, value_name = "SCHEME")]
    scheme: Option<String>,
    /// As whom to log in [env: LOCKKEEPER_USERNAME].
    #[arg(long, global = true, value_name = "NAME")]
    username: Option<String>,
    /// The password. It is taken out of the process list at once; a file or the environment keeps it out of your shell's
    /// history, too [env: LOCKKEEPER_PASSWORD].
    #[arg(long, global = true, value_name = "PASSWORD")]
    password: Option<String>,
    /// A file that has the password and nothing else [env: LOCKKEEPER_PASSWORD_FILE].
    #[arg(long, global = true, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Where the password can be read once: see `veil.rs`.
    #[arg(long, global = true, value_name = "FD", hide = true)]
    password_fd: Option<RawFd>,
    /// What was read there.
    #[arg(skip)]
    secret: Option<Secret>,
    /// Who may touch the nodes that are made, as zkCli writes it: `auth::cdrwa` is whoever logs in like this,
    /// `world:anyone:r` lets everybody look [default: world:anyone:cdrwa].
    #[arg(long, global = true, value_name = "ACL", alias = "default_acl", value_parser = Acl::parse)]
    default_acl: Option<Acl>,
    /// How long the store keeps a silent session's ephemeral leases and members [default: 10s].
    #[arg(long, global = true, value_name = "DURATION", value_parser = session_timeout)]
    session_timeout: Option<Duration>,
    /// How long servers are tried before that is an error [default: 15s].
    #[arg(long, global = true, value_name = "DURATION", value_parser = connect_timeout)]
    connect_timeout: Option<Duration>,
    /// The certificates, in PEM, of who vouches for the servers: then the connection is TLS.
    #[arg(long, global = true, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Our certificate, in PEM, where the servers want one.
    #[arg(long, global = true, value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its key, in PEM.
    #[arg(long, global = true, value_name = "FILE")]
    tls_key: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take a slot of a semaphore; with a command, hold it while the command runs.
    Lock(LockArgs),
    /// Give a slot back.
    Unlock(UnlockArgs),
    /// Show who holds the slots of a semaphore.
    #[command(visible_alias = "lock-holders", alias = "lock_holders")]
    Holders(HoldersArgs),
    /// List semaphores, show one, or change its number of slots.
    #[command(subcommand)]
    Semaphore(SemaphoreCommand),
    /// Look at a party, or join it.
    #[command(subcommand)]
    Party(PartyCommand),
    /// The same as `party members`, under Salt's name.
    #[command(hide = true, alias = "party_members")]
    PartyMembers(MembersArgs),
    /// On the host that is acted on: run a command unless a later fence was here, or say how one went.
    Guard(GuardArgs),
    /// Say everything that is wrong with a job, and do nothing.
    #[command(
        after_help = "Every mistake comes at once, with line and column: in the job, in its policy's settings, in its \
        inventory.\n\n\
        Examples:\n  \
        lockkeeper check job.toml\n  \
        lockkeeper check job.toml --format json  # for an editor or a pipeline"
    )]
    Check(JobArgs),
    /// Show targets, order and limits of a job, and do nothing.
    #[command(after_help = "Example:\n  lockkeeper plan job.toml")]
    Plan(JobArgs),
    /// Run a job.
    Run(RunArgs),
    /// Show the runs of a store, or where one stands.
    Status(StatusArgs),
    /// Start nothing new in a run until it is resumed; what acts goes on.
    Pause(PauseArgs),
    /// Let a paused run go on; accept what failed.
    Resume(ResumeArgs),
    /// End a run: nothing new starts, what acts may end.
    Abort(AbortArgs),
    /// Let a wave begin that wants approval.
    Approve(ApproveArgs),
    /// Let targets of a run go again.
    Retry(RetryArgs),
    /// Delete finished runs that nobody needs any more.
    Prune(PruneArgs),
    /// Say why a target does not go, on what that rests, and what would let it go.
    Explain(ExplainArgs),
    /// Take every decision of a run again: are they the same, and what would another policy decide?
    Replay(ReplayArgs),
    /// Look at policies.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Print a JSON Schema.
    #[command(subcommand)]
    Schema(SchemaCommand),
    /// Print a shell's completions.
    Completions(CompletionsArgs),
    /// Print the manual page.
    Man(ManArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "With a command, each process takes a slot of its own: a second process waits for a free slot, or exits \
    with 75 under `--timeout 0`. The slot is released when the command ends, however it ends.\n\
    Without a command the lease stays until `unlock`, across processes and reboots, and its fence is printed on stdout; the \
    same identifier finds it again.\n\n\
    The command gets LOCKKEEPER_FENCE, LOCKKEEPER_STORE_ID, LOCKKEEPER_SEMAPHORE and LOCKKEEPER_IDENTIFIER in its environment.\n\n\
    Examples:\n  \
    lockkeeper lock /locks/db --timeout 0 -- ./backup   # only if a slot is free now\n  \
    lockkeeper lock /locks/cron --max-concurrency 3 --one-per-identifier -- ./nightly.sh\n  \
    lockkeeper lock /locks/reboot --persistent -- ./reboot.sh   # the slot outlives a crash of this host\n  \
    lockkeeper lock /locks/reboot                       # take a slot and keep it until `unlock`\n  \
    lockkeeper lock /locks/reboot --force --reason 'db1 is gone for good'"
)]
struct LockArgs {
    /// The semaphore.
    #[arg(value_name = "PATH", value_parser = NodePath::parse_shared)]
    path: NodePath,
    /// Who holds it [default: the host's name].
    #[arg(long, value_name = "NAME", value_parser = identifier)]
    identifier: Option<Identifier>,
    /// How many may hold it at once; everybody who names the path must say the same.
    #[arg(long, value_name = "N", default_value = "1", visible_alias = "max_concurrency", value_parser = slots)]
    max_concurrency: NonZeroU32,
    /// How long connecting and waiting may take together, as `5m` or in seconds; 0: take a slot only if one is free now
    /// [default: forever].
    #[arg(long, value_name = "DURATION", value_parser = timeout)]
    timeout: Option<Duration>,
    /// What a command's lease is anyway: it ends with this process. Salt's name.
    #[arg(long, requires = "command", alias = "ephemeral_lease", hide = true, conflicts_with = "persistent")]
    ephemeral_lease: bool,
    /// Keep the lease if this process or its host dies: for a command that outlives the process, such as a reboot. The lease
    /// must then be released by `unlock`, or replaced with --reenter. Implies --one-per-identifier.
    #[arg(long, requires = "command")]
    persistent: bool,
    /// Replace a persistent lease of this identifier that outlived its process; the command gets a new fence.
    #[arg(long, requires = "persistent", conflicts_with = "force")]
    reenter: bool,
    /// Run one command at a time under this identifier, whatever slots are free.
    #[arg(long, requires = "command", alias = "one_per_identifier")]
    one_per_identifier: bool,
    /// Take a lease whatever the count.
    #[arg(long, requires = "reason", conflicts_with = "timeout")]
    force: bool,
    /// Why; kept with the lease and shown by `holders`.
    #[arg(long, value_name = "TEXT", requires = "force", value_parser = reason)]
    reason: Option<String>,
    /// How long the command has between SIGTERM and SIGKILL when the lease is lost.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    kill_after: Duration,
    /// What to run while the slot is held.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Ends with 1 and names the holders when there was no such lease: then it was not yours any more.\n\n\
    Examples:\n  \
    lockkeeper unlock /locks/reboot                     # this host's slot\n  \
    lockkeeper unlock /locks/reboot --identifier web01  # another's: be sure that it is not at work\n  \
    lockkeeper unlock /locks/reboot --identifier web01 --force --reason 'web01 burnt down'"
)]
struct UnlockArgs {
    /// The semaphore.
    #[arg(value_name = "PATH", value_parser = NodePath::parse)]
    path: NodePath,
    /// Whose lease [default: the host's name].
    #[arg(long, value_name = "NAME", value_parser = identifier)]
    identifier: Option<Identifier>,
    /// Break the lease whoever owns it: a run, a living process, or a session. A living owner stops
    /// its command.
    #[arg(long, requires = "reason")]
    force: bool,
    /// Why; recorded, and shown to the owner of the lease.
    #[arg(long, value_name = "TEXT", requires = "force", value_parser = reason)]
    reason: Option<String>,
}

#[derive(Debug, Subcommand)]
enum SemaphoreCommand {
    /// List the semaphores of the store, or those below a path.
    #[command(
        after_help = "A semaphore is a path with a number for its data, and a queue beside it or leases below it.\n\n\
        Examples:\n  lockkeeper semaphore list\n  lockkeeper semaphore list /locks --format json"
    )]
    List(SemaphoreListArgs),
    /// Show the number of slots of a semaphore, who wrote it, and every holder.
    Show(HoldersArgs),
    /// Change the number of slots of a semaphore.
    #[command(
        after_help = "Callers of Lockkeeper's follow at once: a raised number lets waiting callers in, a lowered one lets \
        no caller in before enough leases are released. No lease is taken away. Objects of kazoo's that have read the number \
        before keep the old one until their process ends.\n\n\
        Example:\n  lockkeeper semaphore resize /locks/reboot 5 --reason 'the fleet has doubled'"
    )]
    Resize(ResizeArgs),
}

#[derive(Debug, Args)]
struct SemaphoreListArgs {
    /// Only semaphores at or below this path [default: the whole store].
    #[arg(value_name = "PREFIX", value_parser = NodePath::parse)]
    prefix: Option<NodePath>,
}

#[derive(Debug, Args)]
struct ResizeArgs {
    /// The semaphore.
    #[arg(value_name = "PATH", value_parser = NodePath::parse_shared)]
    path: NodePath,
    /// The new number of slots, at least 1.
    #[arg(value_name = "N", value_parser = slots)]
    slots: NonZeroU32,
    /// Why; recorded, and shown by `semaphore show`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
    /// When lowering: bind kazoo and Salt processes that know the old number, too, by as many reservations as the number is
    /// lowered by. They stay until the next resize.
    #[arg(long)]
    reserve: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Shows who holds, since when, the fence, whether the lease ends with a session, who owns it, and who forced \
    it why. As JSON that is one object with `slots`, `waiting` and `holders`.\n\n\
    Examples:\n  \
    lockkeeper holders /locks/reboot\n  \
    lockkeeper holders /locks/reboot --format json"
)]
struct HoldersArgs {
    /// The semaphore.
    #[arg(value_name = "PATH", value_parser = NodePath::parse)]
    path: NodePath,
}

#[derive(Debug, Subcommand)]
enum PartyCommand {
    /// Show who is alive.
    Members(MembersArgs),
    /// Be a member until this process ends.
    Join(JoinArgs),
}

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("waiting").multiple(true).args(["min_nodes", "blocking"]))]
#[command(after_help = "Members of both of kazoo's kinds are shown; as JSON that is one array.\n\n\
    Examples:\n  \
    lockkeeper party members /party/web\n  \
    lockkeeper party members /party/web --min-nodes 8 --timeout 5m && ./switch-over.sh")]
struct MembersArgs {
    /// The party.
    #[arg(value_name = "PATH", value_parser = NodePath::parse)]
    path: NodePath,
    /// Wait until it has so many members.
    #[arg(long, value_name = "N", visible_alias = "min_nodes")]
    min_nodes: Option<usize>,
    /// Wait until there are as many members as --min-nodes says, or one [default: only with --min-nodes].
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true",
        value_parser = truth)]
    blocking: Option<bool>,
    /// How long to wait, as `5m` or in seconds [default: forever].
    #[arg(long, value_name = "DURATION", value_parser = timeout, requires = "waiting")]
    timeout: Option<Duration>,
}

#[derive(Debug, Args)]
#[command(after_help = "A member whose session was lost joins again in a new one.\n\n\
    Example:\n  lockkeeper party join /party/web --identifier web01 -- ./server")]
struct JoinArgs {
    /// The party.
    #[arg(value_name = "PATH", value_parser = NodePath::parse_shared)]
    path: NodePath,
    /// Who joins [default: the host's name].
    #[arg(long, value_name = "NAME", value_parser = identifier)]
    identifier: Option<Identifier>,
    /// Which of kazoo's kinds of member to be: `shallow` has the identifier in the node's name, which is what Salt lists,
    /// `party` in its data.
    #[arg(long, value_enum, default_value = "shallow")]
    kind: Kind,
    /// What to run as a member; it stays one until this ends [default: until a signal].
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    Shallow,
    Party,
}

impl From<Kind> for MemberKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Shallow => Self::Shallow,
            Kind::Party => Self::Full,
        }
    }
}

#[derive(Debug, Args)]
#[command(
    after_help = "A paused runner that comes back has lost its slot, and its fence is below the one that was here since: \
    the guard refuses it. What was accepted is on disk before the command starts, how it ended when it has; the command is \
    killed with its guard. No two run at once, and no store is asked. The whole story is in `docs/how-to/guard.md`.\n\n\
    The fence file's folder must be there, on a disk that outlives a reboot. One file for each thing that must not be done \
    twice; every command that does it goes through the guard.\n\n\
    The command gets LOCKKEEPER_FENCE, LOCKKEEPER_ATTEMPT and LOCKKEEPER_STORE_ID in its environment; LOCKKEEPER_RUN and LOCKKEEPER_TARGET are \
    remembered where they are set.\n\n\
    Examples:\n  \
    lockkeeper guard --fence-file /var/lib/lockkeeper/app --fence 17 --attempt 1 -- ./restart\n  \
    lockkeeper guard --fence-file /var/lib/lockkeeper/app --fence 18 --attempt 1 --stop -- ./restart\n  \
    lockkeeper guard --fence-file /var/lib/lockkeeper/app --outcome 1 --fence 17\n  \
    lockkeeper guard --fence-file /var/lib/lockkeeper/app --reset --store-id ID --reason 'the servers were rebuilt'\n\n\
    In a job, an argument each:\n  \
    ssh {target} lockkeeper guard --fence-file FILE --store-id {store-id} --fence {fence} --attempt {attempt} -- ./restart\n\n\
    Exit codes with a command: its own, or\n  \
    2   bad usage                               nothing was run\n  \
    74  the fence file cannot be used           nothing was run\n  \
    75  an earlier token's command still runs   nothing was run; try again, or --stop it\n  \
    77  a stale fence or attempt                nothing was run, nor ever will be\n  \
    77  a fence of another store                nothing was run; --reset accepts that store\n  \
    126 the command exists and cannot be run\n  \
    127 the command does not exist\n\n\
    Exit codes of --outcome:\n  \
    0   it succeeded\n  \
    1   it failed\n  \
    66  it has not started; with --settle it never will\n  \
    74  the fence file cannot be used\n  \
    75  it still runs\n  \
    76  unknown: it started and died with its guard or the host, or is too long ago"
)]
struct GuardArgs {
    /// Where it is remembered what was here, for whatever must not be done twice at once.
    #[arg(long, value_name = "FILE")]
    fence_file: PathBuf,
    /// The lease's fence: `{fence}` in a job. With --outcome: of which lease [default: the newest that was here].
    #[arg(long, value_name = "N", value_parser = fence, allow_negative_numbers = true,
        required_unless_present_any = ["outcome", "reset"])]
    fence: Option<u64>,
    /// The id of the store that the fence is from: `{store-id}` in a job [default: LOCKKEEPER_STORE_ID].
    #[arg(long, value_name = "ID", value_parser = store_id)]
    store_id: Option<StoreId>,
    /// Which try under that lease: `{attempt}` in a job.
    #[arg(long, value_name = "N", value_parser = attempt, allow_negative_numbers = true,
        required_unless_present_any = ["outcome", "reset"])]
    attempt: Option<u64>,
    /// How long an earlier token's command may go on before we give up or stop it; 0: not at all.
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
    wait: Duration,
    /// Stop it then: SIGTERM to its guard, which passes that on, then SIGKILL.
    #[arg(long)]
    stop: bool,
    /// How long after SIGTERM comes SIGKILL.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration, requires = "stop")]
    kill_after: Duration,
    /// Say how this attempt went, and run nothing.
    #[arg(long, value_name = "N", value_parser = attempt, allow_negative_numbers = true,
        conflicts_with_all = ["attempt", "wait", "stop", "command"])]
    outcome: Option<u64>,
    /// If it has not started, see to it that it never will: then that answer stays true.
    #[arg(long, requires = "outcome", requires = "fence", conflicts_with_all = ["attempt", "command"])]
    settle: bool,
    /// Accept the fences of the store that --store-id names from the first on, after the earlier store was rebuilt.
    #[arg(long, requires = "reason",
        conflicts_with_all = ["fence", "attempt", "outcome", "settle", "wait", "stop", "command"])]
    reset: bool,
    /// Why; recorded in the fence file together with who and when.
    #[arg(long, value_name = "TEXT", value_parser = reason, requires = "reset")]
    reason: Option<String>,
    /// What to run.
    #[arg(last = true, value_name = "CMD", required_unless_present_any = ["outcome", "reset"])]
    command: Vec<OsString>,
}

#[derive(Debug, Args)]
struct JobArgs {
    /// The job's file.
    #[arg(value_name = "JOB")]
    job: PathBuf,
}

/// Which run, for every command that has one.
const RUN_HELP: &str = "The run: its name, the beginning of one, its job's name for the newest of that, or `latest`";

#[derive(Debug, Args)]
#[command(
    after_help = "A run is known by its job: the file, its inventory and its policy. While one is not finished, `run` goes on \
    with it: after Ctrl-C, after a crash, from another host. Only one process runs a job; another stands by, and takes over \
    when that one ends. Once it is finished, `run` says so, unless the job has changed.\n\n\
    Ctrl-C once: nothing new starts, what runs finishes, slots are given back. Twice: what runs is \
    stopped too.\n\nThe journal has every decision: view, verdict, reason; output has what the commands wrote.\n\n\
    Examples:\n  \
    lockkeeper check job.toml && lockkeeper run job.toml\n  \
    lockkeeper run job.toml --format json > events.jsonl"
)]
struct RunArgs {
    /// The job's file.
    #[arg(value_name = "JOB")]
    job: PathBuf,
    /// Start a new run although the last is finished and the job has not changed.
    #[arg(long)]
    again: bool,
    /// Do not stand by while somebody else runs the job: end with 75.
    #[arg(long)]
    no_wait: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The journal is believed only if every byte of it is as it was written: a line that was changed, is \
    missing or was moved is named.\n\n\
    With another policy or other settings this is a back-test: it lists the decisions that come out otherwise, and why. \
    Each view is as it was recorded.\n\n\
    Ends with 0 when all is identical, or a back-test came to its end; with 1 when a decision differs or the journal was \
    changed; with 70 when the other policy failed.\n\n\
    Examples:\n  \
    lockkeeper replay latest\n  \
    lockkeeper replay kernel-reboot-20260401 --policy canary --settings canary.toml\n  \
    lockkeeper replay ./journal.jsonl --policy ./my_policy.wasm --all --format json"
)]
struct ReplayArgs {
    /// The run: its name or the beginning of it, `latest`, or a journal's path.
    #[arg(value_name = "RUN")]
    run: String,
    /// Ask this policy: a standard policy's name, or a wasm file [default: the one that the run asked].
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
    /// Give it the settings in this file, written as below `[policy.settings]` [default: those of the run].
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// See what this orchestration would have called, a wasm file [default: the run's own, where it has one].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["policy", "settings"])]
    orchestration: Option<PathBuf>,
    /// Show every decision that would change, not the first 50.
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The answer is read from the run's journals and from nothing else: it is that of the last line. What would \
    let the target go was tried: facts of the decision were changed, and the run's policy and the job's limits asked again.\n\n\
    Examples:\n  \
    lockkeeper explain latest web07\n  \
    lockkeeper explain kernel-reboot-20260401\n  \
    lockkeeper explain latest web07 --format json"
)]
struct ExplainArgs {
    /// The run: its name or the beginning of it, `latest`, or a journal's path.
    #[arg(value_name = "RUN")]
    run: String,
    /// The target [default: what the run as a whole waits for].
    #[arg(value_name = "TARGET")]
    target: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A run is meant by its name, the beginning of it, its job's name (then it is the job's newest), or \
    `latest`. It is looked for in the store that the store options name: where the job has a [store], say the same here.\n\n\
    --watch draws it anew every second until the run is finished; Ctrl-C ends that. In a pipe it writes one block a change. \
    As JSON a list of runs is one array, a run one object, and --watch one object a change: `docs/reference/status.md` has their \
    members.\n\n\
    Examples:\n  \
    lockkeeper status                                  # every run, newest first\n  \
    lockkeeper status kernel-reboot --watch            # until it is finished\n  \
    lockkeeper status latest --all                     # every target\n  \
    lockkeeper status latest --timeline run.svg        # a picture\n  \
    lockkeeper status latest --format json --zk-hosts zk1:2181/fleet"
)]
struct StatusArgs {
    /// The run [default: a table of all].
    #[arg(value_name = "RUN")]
    run: Option<String>,
    /// Show every target, not only those that did not go well.
    #[arg(long, requires = "run")]
    all: bool,
    /// Show it anew each second until it is finished.
    #[arg(long, requires = "run")]
    watch: bool,
    /// Draw it into this file, from the journals that are here: an SVG that a browser opens.
    #[arg(long, value_name = "FILE", requires = "run", conflicts_with_all = ["all", "watch"])]
    timeline: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Nothing new starts; what is under way goes on to its end. Whoever runs the run is told, and what it did is \
    said. Where nobody runs it, the pause counts from when somebody does. `lockkeeper resume` takes it back.\n\n\
    Examples:\n  \
    lockkeeper pause kernel-reboot --reason 'the database is slow'\n  \
    lockkeeper pause latest"
)]
struct PauseArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    run: String,
    /// Why; kept with the run and shown by `status`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A run that is not paused may still be held: by its spent failure budget, or by a target of which nobody \
    knows how it went. --accept takes all that failed or is unknown now as it is: it spends the budget no more and holds \
    nobody up. What fails afterwards counts as before. `lockkeeper retry` is the other way out.\n\n\
    Examples:\n  \
    lockkeeper resume kernel-reboot\n  \
    lockkeeper resume kernel-reboot --accept"
)]
struct ResumeArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    run: String,
    /// Accept every target as it is that has failed, was rolled back or is unknown now.
    #[arg(long)]
    accept: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Whoever runs it starts nothing new, sees to its end what is under way, gives every slot back, and the run is \
    over. A run that nobody runs is ended here: its slots are given back, and what was under way when its runner went is \
    unknown. `lockkeeper retry` opens it again.\n\n\
    --release is for a run that was abandoned (`lockkeeper status` names it, and its slots): it asks no runner to do that, and is \
    refused while one drives the run. Make sure first that its commands have ended, or resume the run instead: with a \
    probe, `lockkeeper run` finds out.\n\n\
    Examples:\n  \
    lockkeeper abort kernel-reboot --reason 'wrong kernel'\n  \
    lockkeeper abort kernel-reboot --release --reason 'its host is gone'\n  \
    lockkeeper abort kernel-reboot-20260401T0100"
)]
struct AbortArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    run: String,
    /// End the run only if no runner drives it, and give back every slot that it holds, also where its command may still be
    /// running.
    #[arg(long)]
    release: bool,
    /// Why; kept with the run and shown by `status`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A wave with `approve = true` begins when the waves before it are done with, their bake is over, and \
    somebody has approved of it; that may be said before.\n\n\
    Example:\n  \
    lockkeeper approve kernel-reboot rest"
)]
struct ApproveArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    run: String,
    /// The wave.
    #[arg(value_name = "WAVE")]
    wave: String,
    /// Why; kept with the run and shown by `status`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Each target is named with what became of it. One that goes now, or is done, is refused, and then nothing is \
    asked for.\n\n\
    A finished run is opened again: `lockkeeper run` with its job, as it was, goes on with it, and whatever never started \
    goes, too.\n\n\
    Examples:\n  \
    lockkeeper retry kernel-reboot web07 web09\n  \
    lockkeeper retry kernel-reboot --failed --reason 'the mirror is back'\n  \
    lockkeeper retry kernel-reboot --all && lockkeeper run job.toml"
)]
#[command(group = clap::ArgGroup::new("which").required(true).multiple(true).args(["targets", "failed", "unknown", "skipped", "everyone"]))]
struct RetryArgs {
    #[arg(value_name = "RUN", help = RUN_HELP)]
    run: String,
    /// The targets.
    #[arg(value_name = "TARGET")]
    targets: Vec<String>,
    /// Every target that failed or was rolled back.
    #[arg(long)]
    failed: bool,
    /// Every target of which nobody knows how it went.
    #[arg(long)]
    unknown: bool,
    /// Every target that was left out.
    #[arg(long)]
    skipped: bool,
    /// All of these.
    #[arg(long = "all")]
    everyone: bool,
    /// Why; kept with the run and shown by `status`.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Finished runs go from the store, and their journals, output and policies from this host's state folder. A run \
    that is not finished stays, whoever runs it or not: `lockkeeper abort` ends it first. A folder whose run is not in this \
    store stays unless its journal says that the run is over, and since when.\n\n\
    Examples:\n  \
    lockkeeper prune --dry-run\n  \
    lockkeeper prune --older-than 7d --job kernel-reboot"
)]
struct PruneArgs {
    /// How long ago a run must have ended.
    #[arg(long, value_name = "DURATION", default_value = "30d", value_parser = duration)]
    older_than: Duration,
    /// Say what would go, and let it stay.
    #[arg(long)]
    dry_run: bool,
    /// Only runs of this job.
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Of a job, for an editor that knows TOML.
    Job(SchemaJobArgs),
}

#[derive(Debug, Args)]
#[command(
    after_help = "An editor that knows TOML (Taplo, Even Better TOML) reads the file that a job's first line names: \
    `#:schema job.schema.json`.\n\n\
    Examples:\n  \
    lockkeeper schema job > job.schema.json\n  \
    lockkeeper schema job --policy my_policy.wasm > job.schema.json"
)]
struct SchemaJobArgs {
    /// With this policy's settings below `[policy.settings]`: a standard policy's name, or a wasm file.
    #[arg(long, value_name = "POLICY")]
    policy: Option<String>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    lockkeeper completions bash > ~/.local/share/bash-completion/completions/lockkeeper\n  \
    lockkeeper completions fish > ~/.config/fish/completions/lockkeeper.fish\n  \
    lockkeeper completions zsh > \"${fpath[1]}/_lockkeeper\"")]
struct CompletionsArgs {
    /// For which shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    lockkeeper man | man -l -\n  \
    lockkeeper man --out ~/.local/share/man/man1")]
struct ManArgs {
    /// Write a page for every command into this folder instead.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Runs the command line that this process was given, to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    sink::tame_panics();
    inherited_signals::report_children();
    if let Some(code) = supervisor::guard().or_else(policy::compiler) {
        return code;
    }
    if let Err(failure) = argv_secret::draw() {
        return usage::fail(&failure);
    }
    if let Some(code) = container_init::first_process() {
        return code;
    }
    let mut cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage::answer(&error),
    };
    let output = output::Output::new(&cli.global);
    // Before anything is started that could inherit it.
    let received = cli.global.store.password_fd.map(argv_secret::receive).transpose();
    let done = received.and_then(|secret| {
        cli.global.store.secret = secret;
        dispatch(cli, &output)
    });
    let done = done.and_then(|exit| output.complete().map(|()| exit));
    match done {
        Ok(exit) => exit.code(),
        Err(failure) => {
            output.failure(&failure);
            failure.exit().code()
        }
    }
}

fn dispatch(cli: Cli, output: &output::Output) -> Result<Exit, exit::Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Schema(SchemaCommand::Job(args)) => generate::schema(global, output, &args),
        Command::Completions(args) => generate::completions(output, &args),
        Command::Man(args) => generate::man(output, &args),
        Command::Policy(command) => policy::run(global, output, command),
        Command::Status(StatusArgs { run: Some(run), timeline: Some(file), .. }) => {
            timeline::write(global, output, &run, &file)
        }
        Command::Explain(args) => explain::run(global, output, &args),
        Command::Replay(args) => replay::run(global, output, &args),
        Command::Lock(args) => global.block_on(lock::run(global, output, args)),
        Command::Unlock(args) => global.block_on(unlock::run(global, output, args)),
        Command::Holders(args) => global.block_on(holders::run(global, output, args)),
        Command::Semaphore(command) => global.block_on(semaphore::run(global, output, command)),
        Command::Party(PartyCommand::Members(args)) | Command::PartyMembers(args) => {
            global.block_on(party::members(global, output, args))
        }
        Command::Party(PartyCommand::Join(args)) => global.block_on(party::join(global, output, args)),
        Command::Guard(args) => context::block_on(guard::run(output, args)),
        Command::Check(args) => global.block_on(check::run(global, output, args)),
        Command::Plan(args) => global.block_on(plan::run(global, output, args)),
        Command::Run(args) => global.block_on(run::run(global, output, args)),
        Command::Status(args) => global.block_on(status::run(global, output, args)),
        Command::Pause(args) => global.block_on(control::pause(global, output, args)),
        Command::Resume(args) => global.block_on(control::resume(global, output, args)),
        Command::Abort(args) => global.block_on(control::abort(global, output, args)),
        Command::Approve(args) => global.block_on(control::approve(global, output, args)),
        Command::Retry(args) => global.block_on(control::retry(global, output, args)),
        Command::Prune(args) => global.block_on(prune::run(global, output, args)),
    }
}

/// A duration as people write it; a bare `0` is none.
fn duration(text: &str) -> Result<Duration, String> {
    match text {
        "0" => Ok(Duration::ZERO),
        _ if text.bytes().all(|byte| byte.is_ascii_digit()) && !text.is_empty() => {
            Err(format!("a number needs a unit, as in `{}s`", output::shown(text)))
        }
        _ => humantime::parse_duration(text)
            .map_err(|_| "no duration: expected something like `30s` or `1h 30m`".to_owned()),
    }
}

/// How long to wait: a duration, or a bare number of seconds as in Salt.
fn timeout(text: &str) -> Result<Duration, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    match text.parse::<f64>() {
        Ok(seconds) if is_number => {
            Duration::try_from_secs_f64(seconds).map_err(|_| "more seconds than there can be".to_owned())
        }
        _ => duration(text),
    }
}

/// A truth value in Salt's spelling and others.
fn truth(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("expected `true` or `false`".to_owned()),
    }
}

fn slots(text: &str) -> Result<NonZeroU32, String> {
    text.parse().map_err(|_| "expected a whole number from 1 on".to_owned())
}

/// A fence, which no store grants below 1.
fn fence(text: &str) -> Result<u64, String> {
    const EXPECTED: &str = "a fence is a whole number from 1 on";
    text.parse::<i64>()
        .ok()
        .and_then(|fence| u64::try_from(fence).ok())
        .filter(|fence| *fence > 0)
        .ok_or(EXPECTED.into())
}

fn store_id(text: &str) -> Result<StoreId, String> {
    StoreId::parse(text).ok_or_else(|| "a store's id has 1 to 64 letters, digits and `-`".to_owned())
}

fn attempt(text: &str) -> Result<u64, String> {
    slots(text).map(|number| number.get().into())
}

fn session_timeout(text: &str) -> Result<Duration, String> {
    jobs::session_timeout(duration(text)?)
}

fn connect_timeout(text: &str) -> Result<Duration, String> {
    jobs::connect_timeout(duration(text)?)
}

fn identifier(text: &str) -> Result<Identifier, IdentifierError> {
    Identifier::new(text)
}

/// A reason that is worth keeping.
fn reason(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("say why in a few words: whoever looks at the lease wants to know".to_owned()),
        _ if text.contains(char::is_control) => Err("a reason is one line of text".to_owned()),
        text => Ok(text.to_owned()),
    }
}
