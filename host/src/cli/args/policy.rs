//! The options of `policy`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PolicyCommand {
    /// List the standard policies.
    List,
    /// Show the manifest of a policy: its version, settings, verdicts and grants.
    Inspect(InspectArgs),
    /// Print the SHA-256 of policy files, for a job to pin.
    Digest(DigestArgs),
    /// Create a policy that builds and passes its tests.
    New(NewArgs),
    /// Build the policy in a folder to a component.
    Build(BuildArgs),
    /// Build and test whenever a source changes.
    Watch(WatchArgs),
    /// Print a view with a comment for each key, as a start for views and cases.
    #[command(after_help = "Examples:\n  \
        lockkeeper policy views > view.toml\n  \
        lockkeeper policy views --format json | jq .semaphore")]
    Views,
    /// Ask a policy for one decision, and show it.
    Decide(DecideArgs),
    /// Run the cases of a policy, and check the properties that every policy must have.
    Test(TestArgs),
    /// Measure what decisions cost: fuel (exact), time and memory.
    Bench(BenchArgs),
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    lockkeeper policy inspect rolling\n  \
    lockkeeper policy inspect ./my_policy.wasm")]
pub(in crate::cli) struct InspectArgs {
    /// Policy: the name of a standard policy, or a wasm file.
    #[arg(value_name = "POLICY")]
    pub(in crate::cli) policy: String,
}

const CASES_HELP: &str = "Files of cases [default: the `cases.toml` beside the policy, if there is one]";

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper policy decide rolling --view view.toml\n  \
    lockkeeper policy decide my_policy.wasm --from latest#17",
    after_long_help = "A view contains what differs from the base: the first target of ten, one free slot, no party, no history. \
    `lockkeeper policy views` shows every key. A view in JSON can be complete, as in a journal.\n\n\
    An orchestration is run once in a simulation, and its calls are shown: `--view` describes the simulated fleet, as \
    below `[case.world]` in its cases.\n\n\
    Exits with 70 if the policy fails.\n\n\
    Examples:\n  \
    lockkeeper policy decide rolling --view view.toml\n  \
    lockkeeper policy decide my_policy.wasm --view view.toml --settings settings.toml\n  \
    lockkeeper policy decide my_policy.wasm --view view.toml --ending failed\n  \
    lockkeeper policy decide my_policy.wasm --from latest#17\n  \
    lockkeeper policy decide my_policy.wasm --from latest#17 --case 'waits for web03' >> cases.toml"
)]
pub(in crate::cli) struct DecideArgs {
    /// Policy: the name of a standard policy, or a wasm file.
    #[arg(value_name = "POLICY")]
    pub(in crate::cli) policy: String,
    /// View, TOML or JSON; `-` reads stdin. For an orchestration: the simulated fleet [default: the sample of `lockkeeper policy
    /// views`].
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub(in crate::cli) view: Option<PathBuf>,
    /// Decision of a run to take the view, the settings and the memory from: the run as for `replay`, and the decision's number.
    #[arg(long, value_name = "RUN#NUMBER")]
    pub(in crate::cli) from: Option<String>,
    /// File with the settings, written as below `[policy.settings]` [default: none, or those of the run].
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) settings: Option<PathBuf>,
    /// Ask what follows an action that ended like this.
    #[arg(long, value_enum, value_name = "ENDING")]
    pub(in crate::cli) ending: Option<EndingArg>,
    /// Memory of the policy, as text [default: empty, or as in the run].
    #[arg(long, value_name = "TEXT")]
    pub(in crate::cli) memory: Option<String>,
    /// Print the question and its answer as a case of this name instead.
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) case: Option<String>,
}

/// How an action ended.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum EndingArg {
    Succeeded,
    Failed,
    TimedOut,
    LeaseLost,
    Unknown,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper policy test my_policy.wasm\n  \
    lockkeeper policy test my_policy.wasm --update",
    after_long_help = "A case is a view, given by its difference from a base, with settings and the expected answer:\n\n  \
    [[case]]\n  \
    name = \"too few people\"\n  \
    view.party.members = [\"ann\"]\n  \
    settings.people = 2\n  \
    expect = { verdict = \"wait\", code = \"nobody-is-in\" }\n\n\
    Beside the cases, random views are generated. On each of them the policy must answer with a verdict of its manifest, the same \
    answer each time and in whatever order lists are; a policy that waits must have a wake or wait for something that the view \
    shows; it must not go below the party's floor; and no decision may use more than a part of its limits. `docs/policies.md` \
    describes each property.\n\n\
    A case of an orchestration is a simulated fleet and the expected end. Each case is run whole, and once more for each of its \
    calls, at which the runner is killed; `docs/how-to/orchestrations.md` has the keys:\n\n  \
    [[case]]\n  \
    name = \"waits for the lease\"\n  \
    world.targets = [\"db1\", \"db2\"]\n  \
    world.semaphores.\"/locks/db\".held-by = [{ identifier = \"x\", until = \"30s\" }]\n  \
    expect = { ends = \"succeeded\", acted = [\"db1\", \"db2\"] }\n\n\
    Exits with 1 if a case fails or a property does not hold.\n\n\
    Examples:\n  \
    lockkeeper policy test my_policy.wasm\n  \
    lockkeeper policy test my_policy.wasm cases.toml night.toml --views 2000 --seed 7\n  \
    lockkeeper policy test my_policy.wasm --update"
)]
pub(in crate::cli) struct TestArgs {
    /// Policy: the name of a standard policy, or a wasm file.
    #[arg(value_name = "POLICY")]
    pub(in crate::cli) policy: String,
    #[arg(value_name = "CASES", help = CASES_HELP)]
    pub(in crate::cli) cases: Vec<PathBuf>,
    /// Write the answers into the cases as what is expected, and exit.
    #[arg(long)]
    pub(in crate::cli) update: bool,
    /// Number of random views.
    #[arg(long, value_name = "NUMBER", default_value_t = 300)]
    pub(in crate::cli) views: usize,
    /// Seed of the random views: the same seed generates the same views.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(in crate::cli) seed: u64,
    /// Run the cases only.
    #[arg(long)]
    pub(in crate::cli) no_properties: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper policy bench my_policy.wasm --format json > baseline.json\n  \
    lockkeeper policy bench my_policy.wasm --baseline baseline.json --max-growth 5",
    after_long_help = "Fuel is the same on every machine. Times are those of this machine, with a fresh sandbox for each decision as in a \
    run.\n\n\
    Exits with 1 if a case uses more fuel than the baseline and the growth allow.\n\n\
    Examples:\n  \
    lockkeeper policy bench my_policy.wasm\n  \
    lockkeeper policy bench my_policy.wasm --format json > baseline.json\n  \
    lockkeeper policy bench my_policy.wasm --baseline baseline.json --max-growth 5"
)]
pub(in crate::cli) struct BenchArgs {
    /// Policy: the name of a standard policy, or a wasm file.
    #[arg(value_name = "POLICY")]
    pub(in crate::cli) policy: String,
    #[arg(value_name = "CASES", help = CASES_HELP)]
    pub(in crate::cli) cases: Vec<PathBuf>,
    /// File with the settings for the sample view, if there are no cases.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) settings: Option<PathBuf>,
    /// Number of decisions to measure for each case.
    #[arg(long, value_name = "NUMBER", default_value = "500")]
    pub(in crate::cli) rounds: NonZeroU32,
    /// Earlier output of this command with --format json, to compare with.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) baseline: Option<PathBuf>,
    /// Per cent of fuel by which a case may exceed the baseline.
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, requires = "baseline")]
    pub(in crate::cli) max_growth: f64,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  \
    lockkeeper policy digest my_policy.wasm",
    after_long_help = "A job with `sha256` beside its policy's `path` accepts this file and no other: `check` and `run` refuse another file \
    and name both digests.\n\n\
    Example:\n  \
    lockkeeper policy digest my_policy.wasm"
)]
pub(in crate::cli) struct DigestArgs {
    /// Policy files.
    #[arg(value_name = "FILE", required = true)]
    pub(in crate::cli) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper policy new one-per-rack\n  \
    lockkeeper policy new one-per-rack --lang python --out policies/rack",
    after_long_help = "A policy in Rust needs a Rust toolchain that builds wasm (`policy build` reports what is missing), one in Python needs \
    Python 3, and one in JavaScript needs Node.js. The first build installs everything else into the folder of the project.\n\n\
    Examples:\n  \
    lockkeeper policy new one-per-rack\n  \
    lockkeeper policy new one-per-rack --lang python --out policies/rack\n  \
    lockkeeper policy new fail-over --orchestration"
)]
pub(in crate::cli) struct NewArgs {
    /// Name of the policy: a-z, 0-9 and -.
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    /// Language to write it in.
    #[arg(long, value_enum, default_value_t = LanguageArg::Rust, value_name = "LANGUAGE")]
    pub(in crate::cli) lang: LanguageArg,
    /// Create an orchestration, in Rust: it drives a job by itself and survives a crash.
    #[arg(long)]
    pub(in crate::cli) orchestration: bool,
    /// Folder of the project [default: a new folder with the policy's name].
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) out: Option<PathBuf>,
    /// Crate of the SDK, for Rust: the folder `guest-sdk` of a checkout [default: looked up, else the registry's].
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) sdk: Option<PathBuf>,
}

/// What a policy is written in.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(in crate::cli) enum LanguageArg {
    Rust,
    Python,
    Javascript,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  \
    lockkeeper policy build\n  \
    lockkeeper policy build policies/rack --out rack.wasm",
    after_long_help = "A folder with a Cargo.toml is built with a Rust toolchain that has the target wasm32-unknown-unknown, else with one that \
    can build its standard library from source; a folder with a policy.py with componentize-py; a folder with a package.json with \
    componentize-js. The component is loaded before it replaces the earlier file.\n\n\
    Examples:\n  \
    lockkeeper policy build\n  \
    lockkeeper policy build policies/rack --out rack.wasm"
)]
pub(in crate::cli) struct BuildArgs {
    /// Folder of the policy.
    #[arg(value_name = "DIR", default_value = ".")]
    pub(in crate::cli) folder: PathBuf,
    /// File to write the component to [default: the policy's name, in its folder].
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  \
    lockkeeper policy watch policies/rack",
    after_long_help = "After each build, the `cases.toml` beside the component is run, and the properties are checked on a few random views; \
    `lockkeeper policy test` uses more.\n\n\
    Example:\n  \
    lockkeeper policy watch policies/rack"
)]
pub(in crate::cli) struct WatchArgs {
    /// Folder of the policy.
    #[arg(value_name = "DIR", default_value = ".")]
    pub(in crate::cli) folder: PathBuf,
}
