//! The clap types of `lockkeeper policy`.

use std::num::NonZeroU32;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum PolicyCommand {
    /// List the standard policies.
    List,
    /// Show what a policy says of itself.
    Inspect(InspectArgs),
    /// Print the sha256 of policies' files, for a job to pin.
    Digest(DigestArgs),
    /// Make a first policy that builds and passes its tests.
    New(NewArgs),
    /// Build a policy in this folder to a component.
    Build(BuildArgs),
    /// Build and test whenever a source changes.
    Watch(WatchArgs),
    /// Print a view with a sentence for each key: a start for views and cases.
    #[command(after_help = "Examples:\n  \
        lockkeeper policy views > view.toml\n  \
        lockkeeper policy views --format json | jq .semaphore")]
    Views,
    /// Take one decision, and show it.
    Decide(DecideArgs),
    /// Try a policy's cases, and look whether it has the properties that every policy must have.
    Test(TestArgs),
    /// Measure what decisions cost: fuel, which is exact, time and memory.
    Bench(BenchArgs),
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

const CASES_HELP: &str = "Files of cases [default: the `cases.toml` beside the policy, where there is one].";

#[derive(Debug, Args)]
#[command(
    after_help = "A view says what is different from the base: the first target of ten, one free slot, no party, nothing \
    happened yet. `lockkeeper policy views` shows every key. In JSON it may be whole, as a journal has it.\n\n\
    An orchestration is played once, and what it calls is shown: `--view` gives the world, as below `[case.world]` in its \
    cases.\n\n\
    Ends with 70 when the policy fails.\n\n\
    Examples:\n  \
    lockkeeper policy decide rolling --view view.toml\n  \
    lockkeeper policy decide my_policy.wasm --view view.toml --settings settings.toml\n  \
    lockkeeper policy decide my_policy.wasm --view view.toml --ending failed\n  \
    lockkeeper policy decide my_policy.wasm --from latest#17\n  \
    lockkeeper policy decide my_policy.wasm --from latest#17 --case 'waits for web03' >> cases.toml"
)]
pub(in crate::cli) struct DecideArgs {
    /// A standard policy's name, or a wasm file.
    #[arg(value_name = "POLICY")]
    pub(in crate::cli) policy: String,
    /// The view, TOML or JSON; `-` is stdin [default: the sample of `lockkeeper policy views`]. Of an orchestration: the world.
    #[arg(long, value_name = "FILE", conflicts_with = "from")]
    pub(in crate::cli) view: Option<PathBuf>,
    /// What a run's policy was asked instead: view, settings, memory. The run as for `replay`, and the decision's number.
    #[arg(long, value_name = "RUN#NUMBER")]
    pub(in crate::cli) from: Option<String>,
    /// The settings in this file, written as below `[policy.settings]` [default: none, or those of the run].
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) settings: Option<PathBuf>,
    /// The action ended so: ask what now.
    #[arg(long, value_enum, value_name = "ENDING")]
    pub(in crate::cli) ending: Option<EndingArg>,
    /// What the policy remembers, as text [default: nothing, or as in the run].
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
#[command(after_help = "A case is a view by its difference from a base, settings, and what must be answered:\n\n  \
    [[case]]\n  \
    name = \"too few people\"\n  \
    view.party.members = [\"ann\"]\n  \
    settings.people = 2\n  \
    expect = { verdict = \"wait\", code = \"nobody-is-in\" }\n\n\
    Views are made up beside them, and on each the policy must answer, with a verdict of its manifest, the same each time and \
    whatever the order of lists; whoever waits must have a wake or wait for something that the view shows; nobody may go \
    below the party's floor; and no decision may use more than a part of its limits. `docs/policies.md` tells of each.\n\n\
    A case of an orchestration is a world and what must come of it. Each is played whole, and once more for each of its \
    calls, at which its host is killed; `docs/how-to/orchestrations.md` has the keys:\n\n  \
    [[case]]\n  \
    name = \"waits for the lease\"\n  \
    world.targets = [\"db1\", \"db2\"]\n  \
    world.semaphores.\"/locks/db\".held-by = [{ identifier = \"x\", until = \"30s\" }]\n  \
    expect = { ends = \"succeeded\", acted = [\"db1\", \"db2\"] }\n\n\
    Ends with 1 when a case fails or a property does not hold.\n\n\
    Examples:\n  \
    lockkeeper policy test my_policy.wasm\n  \
    lockkeeper policy test my_policy.wasm cases.toml night.toml --views 2000 --seed 7\n  \
    lockkeeper policy test my_policy.wasm --update")]
pub(in crate::cli) struct TestArgs {
    /// A standard policy's name, or a wasm file.
    #[arg(value_name = "POLICY")]
    pub(in crate::cli) policy: String,
    #[arg(value_name = "CASES", help = CASES_HELP)]
    pub(in crate::cli) cases: Vec<PathBuf>,
    /// Write what is answered into the cases as what is expected, and end.
    #[arg(long)]
    pub(in crate::cli) update: bool,
    /// How many views are made up.
    #[arg(long, value_name = "NUMBER", default_value_t = 300)]
    pub(in crate::cli) views: usize,
    /// What they are made of: the same seed makes the same views.
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    pub(in crate::cli) seed: u64,
    /// Try the cases alone.
    #[arg(long)]
    pub(in crate::cli) no_properties: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Fuel is the same on every machine; times are this machine's, each decision in a fresh sandbox as in a run.\n\n\
    Ends with 1 when a case burns more fuel than the baseline and the growth allow.\n\n\
    Examples:\n  \
    lockkeeper policy bench my_policy.wasm\n  \
    lockkeeper policy bench my_policy.wasm --format json > baseline.json\n  \
    lockkeeper policy bench my_policy.wasm --baseline baseline.json --max-growth 5"
)]
pub(in crate::cli) struct BenchArgs {
    /// A standard policy's name, or a wasm file.
    #[arg(value_name = "POLICY")]
    pub(in crate::cli) policy: String,
    #[arg(value_name = "CASES", help = CASES_HELP)]
    pub(in crate::cli) cases: Vec<PathBuf>,
    /// The settings for the sample view, where there are no cases.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) settings: Option<PathBuf>,
    /// How often each case is asked.
    #[arg(long, value_name = "NUMBER", default_value = "500")]
    pub(in crate::cli) rounds: NonZeroU32,
    /// An earlier output of this command with --format json.
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) baseline: Option<PathBuf>,
    /// How many per cent more fuel a case may burn than in the baseline.
    #[arg(long, value_name = "PERCENT", default_value_t = 10.0, requires = "baseline")]
    pub(in crate::cli) max_growth: f64,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A job that has `sha256` beside its policy's `path` takes this file and no other: `check` and `run` refuse \
    another one by both digests.\n\n\
    Example:\n  \
    lockkeeper policy digest my_policy.wasm"
)]
pub(in crate::cli) struct DigestArgs {
    /// The files.
    #[arg(value_name = "FILE", required = true)]
    pub(in crate::cli) files: Vec<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "A policy in Rust needs a Rust toolchain that builds wasm (`policy build` says what is missing), one in Python \
    Python 3 and one in JavaScript Node.js; what these need more is installed into the project's folder at the first build.\n\n\
    Examples:\n  \
    lockkeeper policy new one-per-rack\n  \
    lockkeeper policy new one-per-rack --lang python --out policies/rack\n  \
    lockkeeper policy new fail-over --orchestration"
)]
pub(in crate::cli) struct NewArgs {
    /// The policy's name: a-z, 0-9 and -.
    #[arg(value_name = "NAME")]
    pub(in crate::cli) name: String,
    /// What it is written in.
    #[arg(long, value_enum, default_value_t = LanguageArg::Rust, value_name = "LANGUAGE")]
    pub(in crate::cli) lang: LanguageArg,
    /// Make an orchestration, which drives a job by itself and survives a crash, in Rust.
    #[arg(long)]
    pub(in crate::cli) orchestration: bool,
    /// Its folder [default: one of its name, here].
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) out: Option<PathBuf>,
    /// The SDK's crate, for Rust: the folder `guest-sdk` of a checkout [default: found, else the registry's].
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
    after_help = "A folder with a Cargo.toml is built with a Rust toolchain that has the target wasm32-unknown-unknown, else \
    with one that can build its standard library from source; one with a policy.py with componentize-py; one with a \
    package.json with componentize-js. What comes of it is loaded before it replaces the file there.\n\n\
    Examples:\n  \
    lockkeeper policy build\n  \
    lockkeeper policy build policies/rack --out rack.wasm"
)]
pub(in crate::cli) struct BuildArgs {
    /// The policy's folder.
    #[arg(value_name = "DIR", default_value = ".")]
    pub(in crate::cli) folder: PathBuf,
    /// The component [default: the policy's name, in its folder].
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Each time the component is built, `cases.toml` beside it is tried, and a few views are made up for the \
    properties; `lockkeeper policy test` makes up more.\n\n\
    Example:\n  \
    lockkeeper policy watch policies/rack"
)]
pub(in crate::cli) struct WatchArgs {
    /// The policy's folder.
    #[arg(value_name = "DIR", default_value = ".")]
    pub(in crate::cli) folder: PathBuf,
}
