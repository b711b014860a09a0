//! The rules as tables. Modules are named by the short name of their crate and the path below it; a name stands for that
//! module and everything below it, and of two that fit the longer one decides.

/// Each crate whose sources are read: as paths name it, in short, and its folder in `host`.
pub(crate) const CRATES: [(&str, &str, &str); 3] = [
    ("lockkeeper_coordination", "coordination", "coordination/src"),
    ("lockkeeper_locks", "locks", "locks/src"),
    ("lockkeeper", "host", "src"),
];

/// Each layer, from the bottom up, and the modules that it may use.
pub(crate) const LAYERS: [(&str, &[&str]); 24] = [
    ("coordination::files", &[]),
    ("coordination::store", &["coordination::files"]),
    ("coordination::recipe", &["coordination::store"]),
    ("coordination::memory", &["coordination::store"]),
    ("coordination::embedded", &["coordination::store", "coordination::files"]),
    ("coordination::zookeeper", &["coordination::store", "coordination::files"]),
    ("locks::terminal", &[]),
    // Paths of nodes are among the values that it reads.
    ("locks::toml_reader", &["coordination::store", "locks::terminal"]),
    ("locks::config", &["coordination::store", "coordination::zookeeper", "locks::toml_reader", "locks::terminal"]),
    ("locks::process", &["coordination::store", "locks::terminal"]),
    ("locks::fence", &["coordination::files", "locks::process", "locks::terminal"]),
    ("locks::cli", &["coordination", "locks"]),
    // Not `files`: a job does no I/O.
    (
        "host::job",
        &["coordination::store", "coordination::zookeeper", "locks::terminal", "locks::toml_reader", "locks::config"],
    ),
    ("host::policy", &["coordination", "locks::terminal", "locks::toml_reader", "host::job"]),
    ("host::rollout::model", &["coordination", "locks::terminal", "locks::fence", "host::policy", "host::job"]),
    (
        "host::rollout::machine",
        &["coordination", "locks::terminal", "host::policy", "host::job", "host::rollout::model"],
    ),
    (
        "host::rollout::exec",
        &[
            "coordination",
            "locks::terminal",
            "locks::process",
            "locks::fence",
            "host::policy",
            "host::job",
            "host::rollout::model",
        ],
    ),
    (
        "host::rollout::journal",
        &["coordination", "locks::terminal", "host::policy", "host::job", "host::rollout::model"],
    ),
    (
        "host::rollout::run_state",
        &[
            "coordination",
            "locks::terminal",
            "locks::toml_reader",
            "host::policy",
            "host::job",
            "host::rollout::model",
            // A journal's bounds are kept with the run.
            "host::rollout::journal",
        ],
    ),
    (
        "host::rollout::orchestration",
        &[
            "coordination",
            "locks::terminal",
            "host::policy",
            "host::job",
            "host::rollout::model",
            "host::rollout::machine",
            "host::rollout::journal",
            "host::rollout::run_state",
        ],
    ),
    (
        "host::rollout::driver",
        &[
            "coordination",
            "locks::terminal",
            "locks::process",
            "locks::toml_reader",
            "host::policy",
            "host::job",
            "host::rollout",
        ],
    ),
    (
        "host::audit",
        &[
            "coordination",
            "locks::terminal",
            "host::policy",
            "host::job",
            "host::rollout::model",
            "host::rollout::machine",
            "host::rollout::journal",
            // Replay takes decisions again as the driver took them.
            "host::rollout::driver::decide",
        ],
    ),
    ("host::author", &["coordination", "locks::terminal", "locks::toml_reader", "host::policy", "host::job"]),
    ("host::cli", &["coordination", "locks", "host"]),
];

/// What today's code breaks of [`LAYERS`]: a file and the module that it uses. An entry that is not needed any more fails
/// the test: this list only shrinks.
pub(crate) const LAYERS_NOT_YET: [(&str, &str); 0] = [];

/// A library, and the only modules that may name it.
pub(crate) const STAYS_IN: [(&str, &[&str]); 9] = [
    ("wasmtime", &["host::policy"]),
    ("wasmparser", &["host::policy"]),
    ("wit_component", &["host::policy"]),
    ("wit_parser", &["host::policy"]),
    ("rusqlite", &["coordination::embedded"]),
    ("zookeeper_client", &["coordination::zookeeper"]),
    ("rustls", &["coordination::zookeeper"]),
    ("clap", &["host::cli", "locks::cli"]),
    ("anyhow", &["host::cli", "locks::cli"]),
];

/// What tests of a layer may use besides.
pub(crate) const TESTS_MAY_USE: [(&str, &str); 1] = [("coordination::recipe", "coordination::memory")];

/// What a crate's `Cargo.toml` must not depend on, not for its tests either: crates whose names begin so.
pub(crate) const NOT_A_DEPENDENCY: [(&str, &[&str]); 2] = [
    (
        "coordination",
        &["anyhow", "clap", "lockkeeper", "miette", "toml", "wasm", "wasmparser", "wasmtime", "wast", "wat", "wit"],
    ),
    (
        "locks",
        &["cranelift", "lockkeeper-cases", "lockkeeper-guest", "wasm", "wasmparser", "wasmtime", "wast", "wat", "wit"],
    ),
];

/// Implementations of the store.
pub(crate) const BACKENDS: [&str; 3] = ["coordination::embedded", "coordination::memory", "coordination::zookeeper"];

/// The options of a ZooKeeper store, as data: any module may name them.
pub(crate) const BACKEND_DATA: [&str; 3] =
    ["coordination::zookeeper::acl", "coordination::zookeeper::hosts", "coordination::zookeeper::options"];

/// The one place above the backends that names them.
pub(crate) const OPENS_BACKENDS: [&str; 1] = ["locks::cli::store::choice"];

/// What does no I/O, reads no clock and rolls no dice.
pub(crate) const PURE: [&str; 6] = [
    "locks::terminal",
    "locks::toml_reader",
    "locks::fence::accepted",
    "host::job",
    "host::rollout::model",
    "host::rollout::machine",
];

/// What a pure module names nothing of: how the full path begins, `use`s followed.
pub(crate) const IMPURE: [&str; 34] = [
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net",
    "std::os",
    "std::process",
    "std::thread",
    "std::sync::mpsc",
    "tokio",
    "async_process",
    "async_net",
    "chrono",
    "directories",
    "fastrand",
    "futures::executor",
    "gethostname",
    "getrandom",
    "humantime::Rfc3339Timestamp",
    "inotify",
    "libc",
    "nix",
    "notify",
    "num_cpus",
    "rand",
    "rusqlite",
    "rustix",
    "tempfile",
    "time",
    "uuid",
    "zookeeper_client",
    "coordination::files",
    "coordination::store::clock::Clock",
];

/// Data of such libraries, and random numbers that follow from a seed; in full, since what is below a name may be neither.
pub(crate) const PURE_ALL_THE_SAME: [&str; 7] = [
    "std::net::IpAddr",
    "std::net::Ipv4Addr",
    "std::net::Ipv6Addr",
    "rand::SeedableRng",
    "rand::rngs::StdRng",
    "rand::rngs::StdRng::seed_from_u64",
    "rand::seq::SliceRandom",
];

/// Clocks and randomness by their names, wherever a path has them: also behind a name that only a type gives.
pub(crate) const IMPURE_NAMES: [&str; 20] = [
    "SystemTime",
    "UNIX_EPOCH",
    "Instant::now",
    "Timestamp::now",
    "Zoned::now",
    "TimeZone::system",
    "TimeZone::try_system",
    "Clock::System",
    "Uuid::new_v4",
    "Uuid::now_v7",
    "RandomState",
    "OsRng",
    "SysRng",
    "ThreadRng",
    "from_entropy",
    "from_os_rng",
    "make_rng",
    "boot_clock",
    "clock_gettime",
    "getpid",
];

/// Methods that read a clock, or look at the file system.
pub(crate) const IMPURE_METHODS: [&str; 15] = [
    "canonicalize",
    "clock",
    "elapsed",
    "exists",
    "is_dir",
    "is_file",
    "is_symlink",
    "metadata",
    "now_ms",
    "read_dir",
    "read_link",
    "set_ms",
    "symlink_metadata",
    "to_socket_addrs",
    "try_exists",
];

/// Pure modules that name one of these all the same, and why.
pub(crate) const IMPURE_NOT_YET: [(&str, &str); 0] = [];

/// The one place that writes to stdout and stderr: everything passes through its escapes.
pub(crate) const PRINTS: [&str; 1] = ["locks::cli::sink"];

/// What else names a stream, and why.
pub(crate) const NAMES_STREAMS: [(&str, &str); 3] = [
    // Asks which terminal controls the process.
    ("locks::cli::supervisor", "stdout"),
    ("locks::cli::supervisor", "stderr"),
    // Machine code for the parent of a process that compiles.
    ("host::cli::policy::compiler", "stdout"),
];

/// Names of files that say nothing about their content.
pub(crate) const SAYS_NOTHING: [&str; 9] =
    ["common.rs", "helper.rs", "helpers.rs", "misc.rs", "shared.rs", "tools.rs", "util.rs", "utils.rs", "words.rs"];

/// Files that are named so all the same. This list only shrinks.
pub(crate) const SAYS_NOTHING_YET: [&str; 1] = ["src/author/project/tools.rs"];

/// A `mod.rs` or `lib.rs` that has more than docs, `mod` and `use`, and what it has. This list only shrinks.
pub(crate) const LOGIC_IN_MOD_YET: [(&str, &str); 8] = [
    ("coordination/src/store/mod.rs", "the trait `Store`, which readers look for there, and `create_all`"),
    ("src/audit/replay/mod.rs", "replay of decisions"),
    ("src/author/project/mod.rs", "the kinds of project"),
    ("src/author/properties/mod.rs", "the properties themselves"),
    ("src/cli/control/mod.rs", "operator requests"),
    ("src/cli/replay/mod.rs", "replay of decisions"),
    ("src/cli/status/mod.rs", "the command itself"),
    ("src/policy/orchestration/mod.rs", "the name of the package"),
];

/// Groups of files that use each other. This list only shrinks: a file that is in no cycle any more fails the test.
pub(crate) const CYCLES_YET: [&[&str]; 15] = [
    &["coordination::embedded::connect", "coordination::embedded::engine", "coordination::embedded::session"],
    &["coordination::memory::session", "coordination::memory::state"],
    &[
        "coordination::recipe::acquire",
        "coordination::recipe::broken_lease",
        "coordination::recipe::claim",
        "coordination::recipe::lease",
        "coordination::recipe::nested_semaphores",
        "coordination::recipe::own_node",
        "coordination::recipe::request",
        "coordination::recipe::semaphore",
        "coordination::recipe::session",
        "coordination::recipe::slots",
        "coordination::recipe::wait",
    ],
    &["coordination::store::error", "coordination::store::path", "coordination::store::types"],
    &["coordination::zookeeper::session", "coordination::zookeeper::session_task"],
    &[
        "host::author::project",
        "host::author::project::javascript",
        "host::author::project::python",
        "host::author::project::rust",
    ],
    &["host::author::properties", "host::author::properties::random_views", "host::author::properties::wakes"],
    &["host::job::budget", "host::job::check", "host::job::file", "host::job::spec", "host::job::waves"],
    &["host::job::host_name", "host::job::name", "host::job::template"],
    &[
        "host::policy::compile",
        "host::policy::compiler",
        "host::policy::config",
        "host::policy::engine",
        "host::policy::evaluate",
        "host::policy::module",
        "host::policy::orchestration::guest",
        "host::policy::orchestration::run",
    ],
    &[
        "host::rollout::driver::commands",
        "host::rollout::driver::decisions",
        "host::rollout::driver::run",
        "host::rollout::driver::run_loop",
    ],
    &[
        "host::rollout::machine::budget",
        "host::rollout::machine::checks",
        "host::rollout::machine::decisions",
        "host::rollout::machine::floor",
        "host::rollout::machine::orchestration",
        "host::rollout::machine::party",
        "host::rollout::machine::recovery",
        "host::rollout::machine::roll_back",
        "host::rollout::machine::rollout",
        "host::rollout::machine::store_view",
        "host::rollout::machine::targets",
        "host::rollout::machine::waves",
    ],
    &["host::rollout::model::end", "host::rollout::model::input", "host::rollout::model::orchestration"],
    &["locks::cli::args::global", "locks::cli::args::store", "locks::cli::output", "locks::cli::parse"],
    &["locks::cli::help", "locks::cli::start", "locks::cli::usage"],
];
