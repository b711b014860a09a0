//! Every exit code and every kind of error, with what they mean.

use std::process::ExitCode;

use serde_json::{Value, json};

use lockkeeper_coordination::recipe::{
    AcquireError, ForceError, JoinError, LeaveError, Nested, ReleaseError, ResizeError, WaitError,
};
use lockkeeper_coordination::store::StoreError;

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: the rollout or the command failed, a replay differs, or there was nothing to unlock.
    Failed,
    /// 2: bad usage, or a bad job.
    Usage,
    /// 66: an attempt that a guard was asked about has not started.
    NotStarted,
    /// 69: the store cannot be reached.
    Unavailable,
    /// 70: the policy failed.
    PolicyFault,
    /// 74: a guard's fence file cannot be used.
    FenceFile,
    /// 75: timed out waiting, or a command still runs.
    TimedOut,
    /// 76: nobody saw how an attempt ended that a guard was asked about.
    Unknown,
    /// 77: refused.
    Refused,
    /// 79: the lease was lost while its command ran.
    LeaseLost,
    /// A command's own code, or 128 and the signal that ended it.
    Command(u8),
}

impl Exit {
    /// As the system has it.
    #[must_use]
    pub fn code(self) -> ExitCode {
        ExitCode::from(match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::NotStarted => 66,
            Self::Unavailable => 69,
            Self::PolicyFault => 70,
            Self::FenceFile => 74,
            Self::TimedOut => 75,
            Self::Unknown => 76,
            Self::Refused => 77,
            Self::LeaseLost => 79,
            Self::Command(code) => code,
        })
    }
}

/// What an error is about: the `error` of its JSON object. Stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No slot, or too few members, in time.
    TimedOut,
    /// The semaphore has another number of slots.
    SlotsDiffer,
    /// A path that no store takes.
    BadPath,
    /// A flag or argument.
    BadArgument,
    /// The job's file, or what it names.
    BadJob,
    /// The configuration file.
    BadConfig,
    /// The store cannot be reached.
    Unavailable,
    /// Login or access control.
    Refused,
    /// An ephemeral lease was lost while its command ran.
    LeaseLost,
    /// The policy.
    PolicyFault,
    /// Another holder acts under the identifier.
    Held,
    /// The lease is another's to release.
    Owned,
    /// No such lease.
    NotHeld,
    /// A command that does not exist.
    NoSuchCommand,
    /// A command that exists and could not be started.
    Command,
    /// No run, or more than one, has that name.
    NoSuchRun,
    /// Somebody else runs the job.
    Running,
    /// A run of the job is not finished.
    Unfinished,
    /// A run is finished.
    Finished,
    /// A run is kept in another way than this program knows.
    BadRun,
    /// A journal that is not as it was written.
    BadJournal,
    /// A fence or an attempt that came too late.
    Stale,
    /// A fence of another store than those that were on this host.
    OtherStore,
    /// An earlier attempt's command still runs.
    StillRunning,
    /// A guard's fence file.
    FenceFile,
    /// A policy that its language's tools could not build.
    Build,
    /// A file of ours that cannot be written.
    Io,
    /// The store's rules were broken, or ours.
    Internal,
}

impl ErrorKind {
    fn word(self) -> &'static str {
        match self {
            Self::TimedOut => "timed-out",
            Self::SlotsDiffer => "slots-differ",
            Self::BadPath => "bad-path",
            Self::BadArgument => "bad-argument",
            Self::BadJob => "bad-job",
            Self::BadConfig => "bad-config",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
            Self::LeaseLost => "lease-lost",
            Self::PolicyFault => "policy-fault",
            Self::Held => "held",
            Self::Owned => "owned",
            Self::NotHeld => "not-held",
            Self::NoSuchCommand | Self::Command => "command",
            Self::NoSuchRun => "no-such-run",
            Self::Running => "running",
            Self::Unfinished => "unfinished",
            Self::Finished => "finished",
            Self::BadRun => "bad-run",
            Self::BadJournal => "bad-journal",
            Self::Stale => "stale",
            Self::OtherStore => "other-store",
            Self::StillRunning => "still-running",
            Self::FenceFile => "fence-file",
            Self::Build => "build",
            Self::Io => "io",
            Self::Internal => "internal",
        }
    }

    fn exit(self) -> Exit {
        match self {
            Self::TimedOut | Self::StillRunning | Self::Running | Self::Held => Exit::TimedOut,
            Self::SlotsDiffer
            | Self::BadPath
            | Self::BadArgument
            | Self::BadJob
            | Self::BadConfig
            | Self::NoSuchRun
            | Self::Unfinished
            | Self::Finished => Exit::Usage,
            Self::Unavailable => Exit::Unavailable,
            Self::Refused | Self::Stale | Self::OtherStore | Self::Owned => Exit::Refused,
            Self::FenceFile => Exit::FenceFile,
            Self::PolicyFault => Exit::PolicyFault,
            Self::LeaseLost => Exit::LeaseLost,
            Self::NotHeld | Self::BadJournal | Self::BadRun | Self::Build | Self::Io | Self::Internal => Exit::Failed,
            // As in a shell.
            Self::NoSuchCommand => Exit::Command(127),
            Self::Command => Exit::Command(126),
        }
    }
}

/// Why a command ended otherwise than well, with the next step where there is one.
#[derive(Debug)]
pub struct Failure {
    /// Its kind, which determines the exit code.
    pub kind: ErrorKind,
    /// The error, with its causes.
    pub error: anyhow::Error,
    /// The next step; commands in backticks can be pasted.
    pub hint: Option<String>,
    /// More for programs: members of the JSON object.
    pub more: Option<Value>,
    /// The error as a person reads it, where that is more than one line.
    pub rendered: Option<String>,
}

impl Failure {
    /// A failure by an error and its causes.
    pub fn new(kind: ErrorKind, error: impl Into<anyhow::Error>) -> Self {
        Self { kind, error: error.into(), hint: None, more: None, rendered: None }
    }

    /// A failure by a message of its own.
    pub fn message(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self::new(kind, anyhow::Error::msg(message.into()))
    }

    /// The same with the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        self.kind.exit()
    }

    /// The error and its causes, each said once.
    pub fn text(&self) -> String {
        let chain: Vec<String> =
            self.error.chain().map(|error| without_number(&error.to_string()).to_owned()).collect();
        chain.join(": ")
    }

    /// As an object for programs, with `hint` as it is shown.
    pub fn json(&self, hint: Option<&str>) -> Value {
        let mut object = json!({ "error": self.kind.word(), "message": self.text(), "hint": hint });
        if let (Some(object), Some(Value::Object(more))) = (object.as_object_mut(), &self.more) {
            object.extend(more.clone());
        }
        object
    }
}

/// An error of the system without its number, which says nothing more to anybody.
fn without_number(text: &str) -> &str {
    match text.rsplit_once(" (os error ") {
        Some((said, rest)) if rest.strip_suffix(')').is_some_and(|number| number.parse::<u32>().is_ok()) => said,
        _ => text,
    }
}

/// The kind of failure that an error of a store is.
pub fn store_kind(error: &StoreError) -> ErrorKind {
    match error {
        StoreError::Unavailable { .. }
        | StoreError::SessionOver
        | StoreError::Ambiguous { .. }
        | StoreError::Broken { .. } => ErrorKind::Unavailable,
        StoreError::Refused { .. } | StoreError::OtherLogin { .. } => ErrorKind::Refused,
        StoreError::Multi { source, .. } => store_kind(source),
        StoreError::TooLarge { .. } | StoreError::BadOptions { .. } => ErrorKind::BadArgument,
        StoreError::NoNode { .. }
        | StoreError::NodeExists { .. }
        | StoreError::BadVersion { .. }
        | StoreError::NotEmpty { .. }
        | StoreError::ParentEphemeral { .. } => ErrorKind::Internal,
    }
}

/// What to do when a store turns us away.
pub const REFUSED_HINT: &str =
    "log in with `--username` and a password, or with a `--profile`; ZooKeeper reports a wrong password the same way";

/// What to do about servers that want SASL.
const SASL_HINT: &str = "Lockkeeper does not support SASL: log in with `--username` and a password, or with \
 `--tls-cert` and `--tls-key`, if the servers accept one of these";

/// The next step after an error of a store, if there is one.
pub fn store_hint(error: &StoreError) -> Option<String> {
    match error {
        StoreError::OtherLogin { .. } => Some(SASL_HINT.to_owned()),
        StoreError::Multi { source, .. } => store_hint(source),
        error => (store_kind(error) == ErrorKind::Refused).then(|| REFUSED_HINT.to_owned()),
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self { hint: store_hint(&error), ..Self::new(store_kind(&error), error) }
    }
}

/// What to do about a path that cannot be a semaphore.
fn nested_hint(nested: &Nested) -> String {
    let Nested { path, other } = nested;
    if nested.is_below() {
        format!("use a path that is not below `{other}`; `lockkeeper semaphore show {other}` shows it")
    } else {
        format!(
            "name a semaphore, such as `{path}/NAME`; `lockkeeper semaphore list {path}` lists those below `{path}`"
        )
    }
}

impl From<AcquireError> for Failure {
    fn from(error: AcquireError) -> Self {
        let (kind, hint) = match &error {
            AcquireError::SlotsDiffer { path, stored, wanted } => (
                ErrorKind::SlotsDiffer,
                Some(format!(
                    "`--max-concurrency {stored}` uses that number; `lockkeeper semaphore resize {path} {wanted}` changes it for every caller"
                )),
            ),
            AcquireError::Held { path, .. } => {
                (ErrorKind::Held, Some(format!("`lockkeeper holders {path}` shows every holder")))
            }
            AcquireError::Nested(nested) => (ErrorKind::BadPath, Some(nested_hint(nested))),
            AcquireError::Claim { source, .. } => (store_kind(source), store_hint(source)),
            AcquireError::Full { path, .. } | AcquireError::TimedOut { path, .. } => {
                (ErrorKind::TimedOut, Some(format!("`lockkeeper holders {path}` shows the holders")))
            }
            AcquireError::SessionOver { .. } => (ErrorKind::Unavailable, None),
            AcquireError::QueueWornOut { .. } | AcquireError::Evicted { .. } => (ErrorKind::Internal, None),
            AcquireError::Store { source, .. } | AcquireError::Along { source, .. } => {
                (store_kind(source), store_hint(source))
            }
        };
        Self { hint, ..Self::new(kind, error) }
    }
}

impl From<ForceError> for Failure {
    fn from(error: ForceError) -> Self {
        let (kind, hint) = match &error {
            ForceError::Conflict { .. } | ForceError::Deleted { .. } => (ErrorKind::NotHeld, None),
            ForceError::Held { path, .. } => {
                (ErrorKind::Held, Some(format!("`lockkeeper holders {path}` shows every holder")))
            }
            ForceError::SessionOver { .. } => (ErrorKind::Unavailable, None),
            ForceError::Store { source, .. } | ForceError::Along { source, .. } | ForceError::Claim { source, .. } => {
                (store_kind(source), store_hint(source))
            }
        };
        Self { hint, ..Self::new(kind, error) }
    }
}

impl From<ResizeError> for Failure {
    fn from(error: ResizeError) -> Self {
        let (kind, hint) = match &error {
            ResizeError::Differs { path, stored, wanted, .. } => (
                ErrorKind::SlotsDiffer,
                Some(format!(
                    "`max-concurrency = {stored}` uses that number; `lockkeeper semaphore resize {path} {wanted}` changes it for every caller"
                )),
            ),
            ResizeError::Nested(nested) => (ErrorKind::BadPath, Some(nested_hint(nested))),
            ResizeError::NotANumber { .. } | ResizeError::Missing { .. } => (ErrorKind::BadPath, None),
            ResizeError::TooManyReservations { .. } => {
                (ErrorKind::BadArgument, Some("lower the number in steps, or without --reserve".to_owned()))
            }
            ResizeError::Contended { .. } => (ErrorKind::TimedOut, None),
            ResizeError::Store { source, .. } => (store_kind(source), store_hint(source)),
        };
        Self { hint, ..Self::new(kind, error) }
    }
}

impl From<ReleaseError> for Failure {
    fn from(error: ReleaseError) -> Self {
        let (kind, hint, lease) = match &error {
            ReleaseError::SessionOver { path } => (ErrorKind::Unavailable, None, path),
            ReleaseError::Store { path, source } => (store_kind(source), store_hint(source), path),
        };
        let semaphore = lease.parent().unwrap_or_else(|| lease.clone());
        let hint = hint.unwrap_or_else(|| format!("`lockkeeper unlock {semaphore}` releases it"));
        Self::new(kind, error).hint(hint)
    }
}

impl From<JoinError> for Failure {
    fn from(error: JoinError) -> Self {
        let (kind, hint) = match &error {
            JoinError::Slash { .. } | JoinError::Identifier { .. } => (ErrorKind::BadArgument, None),
            JoinError::SessionOver { .. } => (ErrorKind::Unavailable, None),
            JoinError::Store { source, .. } => (store_kind(source), store_hint(source)),
        };
        Self { hint, ..Self::new(kind, error) }
    }
}

impl From<LeaveError> for Failure {
    fn from(error: LeaveError) -> Self {
        Self { hint: store_hint(&error.source), ..Self::new(store_kind(&error.source), error) }
    }
}

impl From<WaitError> for Failure {
    fn from(error: WaitError) -> Self {
        let (kind, hint) = match &error {
            WaitError::TooFew { path, .. } => {
                (ErrorKind::TimedOut, Some(format!("`lockkeeper party members {path}` shows the members")))
            }
            WaitError::SessionOver { .. } => (ErrorKind::Unavailable, None),
            WaitError::Store { source, .. } => (store_kind(source), store_hint(source)),
        };
        Self { hint, ..Self::new(kind, error) }
    }
}
