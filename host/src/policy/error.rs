//! Everything that can go wrong with a policy.

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

/// Why a policy could not be loaded or did not decide. A policy fault: the job's `on-fault` applies, never "open".
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The file could not be read.
    #[error("cannot read the policy `{}`", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// No standard policy has this name.
    #[error("there is no standard policy `{name}`")]
    NoSuchPolicy {
        /// The name asked for.
        name: String,
        /// The nearest name that there is.
        nearest: Option<&'static str>,
    },
    /// The file is not the one that the job pins.
    #[error("the policy's sha256 is {found}, the job pins {pinned}")]
    WrongDigest {
        /// What the job says.
        pinned: String,
        /// What the file has.
        found: String,
    },
    /// More bytes than a policy may have.
    #[error("the policy is {bytes} bytes long: {max} is the most")]
    FileTooBig {
        /// How many it has.
        bytes: u64,
        /// How many it may have.
        max: u64,
    },
    /// Not wasm, or broken wasm.
    #[error("the policy is no valid wasm: {reason}")]
    Malformed {
        /// What the parser or compiler said.
        reason: String,
    },
    /// It takes longer to compile than a file of its size may.
    #[error(
        "compiling the policy takes more than {limit:?} of processor time, which is the most for a file of its size"
    )]
    CompilerOutOfTime {
        /// How long it may take.
        limit: Duration,
    },
    /// Compiling it takes more memory than for a file of its size.
    #[error("compiling the policy takes more than {} MiB of memory, which is the most for a file of its size", limit / 1024 / 1024)]
    CompilerOutOfMemory {
        /// How much it may take, in bytes.
        limit: u64,
    },
    /// The process that compiles it died.
    #[error("the policy's compiler died: {reason}")]
    CompilerDied {
        /// How.
        reason: String,
    },
    /// Wasm that does not export the contract's decider.
    #[error("the policy does not implement `lockkeeper:policy`: {reason}{}", differences.iter().map(|one| format!("; {one}")).collect::<String>())]
    WrongWorld {
        /// What is missing or different, as the linker found it.
        reason: String,
        /// How its interfaces differ from the contract's, one by one.
        differences: Vec<String>,
    },
    /// Another version of the contract than this host's.
    #[error("the policy was made for version {found} of the contract, this host speaks {spoken}")]
    WrongVersion {
        /// The policy's.
        found: String,
        /// Ours.
        spoken: String,
    },
    /// It wants something that no policy gets.
    #[error("the policy imports `{import}`, which no policy gets")]
    ForbiddenImport {
        /// What it imports.
        import: String,
    },
    /// Its manifest cannot be used.
    #[error("the policy's manifest is wrong: {reason}")]
    BadManifest {
        /// What is wrong.
        reason: String,
    },
    /// It trapped: a panic, an overflow of its stack, an access out of bounds.
    #[error("the policy trapped: {reason}")]
    Trap {
        /// The trap, and the panic's message where the guest said one.
        reason: String,
        /// The guest's own functions, innermost first.
        backtrace: Vec<String>,
    },
    /// It computed for too long, counted in instructions: the same on every machine.
    #[error("the policy used up its fuel of {limit}")]
    OutOfFuel {
        /// How much it had.
        limit: u64,
    },
    /// It wanted more memory than it may have.
    #[error("the policy wanted more than its {limit} bytes of memory")]
    OutOfMemory {
        /// How much it may have.
        limit: u64,
    },
    /// The host's clock stopped it before its fuel ran out. Says nothing about the policy's answer: the host may be
    /// overloaded.
    #[error(
        "the policy was stopped after {limit:?}: the host is overloaded, or the policy does what fuel does not count"
    )]
    OutOfTime {
        /// How long it had.
        limit: Duration,
    },
    /// It said that it cannot decide.
    #[error("the policy gave up: {message}")]
    GaveUp {
        /// Its own words.
        message: String,
    },
    /// It answered with more than the host takes.
    #[error("the policy's answer is too big: more than {limit} bytes")]
    AnswerTooBig {
        /// How much the host takes.
        limit: u64,
    },
    /// It left more memory for the next decision than may be kept.
    #[error("the policy's memory is {bytes} bytes long: {max} is the most")]
    MemoryTooBig {
        /// How many bytes it left.
        bytes: u64,
        /// How many it may leave.
        max: u64,
    },
    /// A verdict that its own manifest does not list.
    #[error("the policy answered `{verdict}`, which its manifest does not list")]
    NotInManifest {
        /// The verdict.
        verdict: &'static str,
    },
    /// A verdict that the job does not grant.
    #[error("the policy answered `{verdict}`, which the job does not grant")]
    NotGranted {
        /// The verdict.
        verdict: &'static str,
    },
    /// A verdict that this host cannot carry out.
    #[error("the policy answered `{verdict}`, which this version of Lockkeeper cannot do")]
    NotSupported {
        /// The verdict.
        verdict: &'static str,
    },
    /// The engine itself failed.
    #[error("the policy engine failed: {reason}")]
    Engine {
        /// What wasmtime said.
        reason: String,
    },
}

impl PolicyError {
    /// A stable word for the kind of failure, as JSON output and the journal name it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "unreadable",
            Self::NoSuchPolicy { .. } => "no-such-policy",
            Self::WrongDigest { .. } => "wrong-digest",
            Self::FileTooBig { .. } => "file-too-big",
            Self::Malformed { .. } => "malformed",
            Self::CompilerOutOfTime { .. } => "compiler-out-of-time",
            Self::CompilerOutOfMemory { .. } => "compiler-out-of-memory",
            Self::CompilerDied { .. } => "compiler-died",
            Self::WrongWorld { .. } => "wrong-world",
            Self::WrongVersion { .. } => "wrong-version",
            Self::ForbiddenImport { .. } => "forbidden-import",
            Self::BadManifest { .. } => "bad-manifest",
            Self::Trap { .. } => "trap",
            Self::OutOfFuel { .. } => "out-of-fuel",
            Self::OutOfMemory { .. } => "out-of-memory",
            Self::OutOfTime { .. } => "out-of-time",
            Self::GaveUp { .. } => "gave-up",
            Self::AnswerTooBig { .. } => "answer-too-big",
            Self::MemoryTooBig { .. } => "memory-too-big",
            Self::NotInManifest { .. } => "not-in-manifest",
            Self::NotGranted { .. } => "not-granted",
            Self::NotSupported { .. } => "not-supported",
            Self::Engine { .. } => "engine",
        }
    }

    /// The same of an orchestration.
    #[must_use]
    pub fn of_orchestration(&self) -> String {
        let told = self.to_string().replacen("the policy", "the orchestration", 1);
        told.replacen("`lockkeeper:policy`", "`lockkeeper:orchestration`", 1)
    }

    /// The next step for whoever reads this, where there is one.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NoSuchPolicy { nearest: Some(nearest), .. } => Some(format!("did you mean `{nearest}`?")),
            Self::NoSuchPolicy { .. } => Some("`lockkeeper policy list` shows the standard policies".to_owned()),
            Self::WrongDigest { .. } => {
                Some("check where the file comes from; then put its new sha256 into the job".to_owned())
            }
            Self::WrongWorld { .. } => Some(
                "build it with lockkeeper-sdk, or from the world in guest-sdk/wit or guest-sdk/wit-orchestration"
                    .to_owned(),
            ),
            Self::CompilerOutOfTime { .. } | Self::CompilerOutOfMemory { .. } => Some(
                "is a function of it very long? build it with optimisation, or split what was generated".to_owned(),
            ),
            Self::WrongVersion { .. } => Some("build the policy again with this version's SDK".to_owned()),
            Self::ForbiddenImport { import } if import.starts_with("wasi:") => Some(
                "build for wasm32-unknown-unknown, or stub WASI out: a policy has no files, clocks or sockets"
                    .to_owned(),
            ),
            Self::NotGranted { verdict } => {
                Some(format!("add \"{verdict}\" to `policy.grants` if the job should allow it"))
            }
            Self::NotInManifest { verdict } => {
                Some(format!("list \"{verdict}\" in the policy's `#[policy(…)]` attribute, and build it again"))
            }
            Self::Trap { backtrace, .. } if !backtrace.is_empty() => {
                Some(format!("in the policy: {}", backtrace.join(" ← ")))
            }
            _ => None,
        }
    }
}
