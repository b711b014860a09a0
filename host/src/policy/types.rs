//! The contract's records, as the host and its journal see them.
//!
//! They mirror `interface types` of `guest-sdk/wit/policy.wit` one to one; wasmtime compares the two whenever a
//! component is linked, so they cannot drift. In JSON, names are those of the contract, in kebab-case.

use serde::{Deserialize, Serialize};
use wasmtime::component::{ComponentType, Lift, Lower};

macro_rules! record {
    ($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident $(($wit:literal))? : $kind:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
        #[component(record)]
        #[serde(rename_all = "kebab-case")]
        pub struct $name { $($(#[$field_doc])* $(#[component(name = $wit)])? pub $field: $kind),* }
    };
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$case_doc:meta])* $case:ident = $wit:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ComponentType, Lift, Lower)]
        #[component(enum)]
        #[serde(rename_all = "kebab-case")]
        #[repr(u8)]
        pub enum $name { $($(#[$case_doc])* #[component(name = $wit)] $case),* }

        impl $name {
            /// The contract's word for it.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $(Self::$case => $wit),* }
            }
        }
    };
}

record!(
    /// A target's label.
    Label {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    }
);

record!(
    /// A held slot of a semaphore.
    Lease {
        /// Who holds it.
        identifier: String,
        /// The lease node's czxid: grows with every grant.
        fence: u64,
        /// When it was taken, in milliseconds since the Unix epoch.
        since: u64,
        /// Dies with its session.
        ephemeral: bool,
        /// Whether the holder is a member of the job's party now; none where the job names no party.
        alive: Option<bool>,
        /// Whether this rollout took it.
        mine: bool,
    }
);

record!(
    /// A semaphore as read.
    Semaphore {
        /// Where it is.
        path: String,
        /// How many leases may be held at once.
        slots: u32,
        /// In the order of their fences.
        leases: Vec<Lease>,
        /// How many contenders queue for it, other tools' included.
        queued: u32,
    }
);

record!(
    /// A member of a party.
    Member {
        /// Who.
        identifier: String,
        /// When it joined, in milliseconds since the Unix epoch.
        since: u64,
    }
);

record!(
    /// A party as read.
    Party {
        /// Where it is.
        path: String,
        /// The floor that the job sets; 0 where it sets none.
        min_members("min-members"): u32,
        /// In the order of their identifiers, each once. A member that is a target has the target's name.
        members: Vec<Member>,
    }
);

record!(
    /// The target that is asked about.
    Target {
        /// Its name.
        name: String,
        /// In the order of their keys.
        labels: Vec<Label>,
        /// The wave that it belongs to; empty without waves.
        wave: String,
        /// 1 for the first try.
        attempt: u32,
        /// Since when it has been waiting, in milliseconds since the Unix epoch.
        waiting_since("waiting-since"): u64,
    }
);

record!(
    /// Where the rollout stands.
    Progress {
        /// The job's name.
        job: String,
        /// The run's.
        run: String,
        /// When it started, in milliseconds since the Unix epoch.
        started: u64,
        /// All targets.
        total: u32,
        /// Not asked about yet.
        pending: u32,
        /// Asked about, or queueing.
        waiting: u32,
        /// Under way, or keeping their slot.
        running: u32,
        /// Done.
        succeeded: u32,
        /// Failed.
        failed: u32,
        /// Failed and rolled back.
        rolled_back("rolled-back"): u32,
        /// Left out.
        skipped: u32,
        /// Nobody knows.
        unknown: u32,
        /// Failures until something is refused for them: until nothing new starts, or, where the job reserves failures, those
        /// that are not reserved by running targets, if these are fewer. None: any number may fail.
        budget_left("budget-left"): Option<u32>,
    }
);

choice!(
    /// What happened to a target.
    EventKind {
        /// Its slot is held.
        Leased = "leased",
        /// Its slot was taken by force.
        Forced = "forced",
        /// Its action started.
        Started = "started",
        /// Its action succeeded.
        Succeeded = "succeeded",
        /// Its action failed.
        Failed = "failed",
        /// Nobody knows how its action ended.
        Unknown = "unknown",
        /// Its slot was given back.
        Released = "released",
        /// It was rolled back.
        RolledBack = "rolled-back",
        /// It was left out.
        Skipped = "skipped",
        /// Its slot was lost while it acted.
        LeaseLost = "lease-lost",
    }
);

record!(
    /// What happened in this run.
    Event {
        /// When, in milliseconds since the Unix epoch.
        at: u64,
        /// To which target.
        target: String,
        /// What.
        kind: EventKind,
        /// More, for a person.
        detail: String,
    }
);

/// Why the policy is asked now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(variant)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// For the first time.
    #[component(name = "first")]
    First,
    /// A lease came or went.
    #[component(name = "leases-changed")]
    LeasesChanged,
    /// A member came or went.
    #[component(name = "members-changed")]
    MembersChanged,
    /// The rollout went on.
    #[component(name = "progressed")]
    Progressed,
    /// It asked to be asked again by now.
    #[component(name = "woken")]
    Woken,
    /// The slot is held; asked once more before the action starts.
    #[component(name = "granted")]
    Granted,
    /// The host's own limits refused the last verdict; says which.
    #[component(name = "refused")]
    Refused(String),
    /// Somebody asks; says who.
    #[component(name = "operator")]
    Operator(String),
}

record!(
    /// Everything that a policy may look at.
    View {
        /// Position of this decision in the journal.
        sequence: u64,
        /// Milliseconds since the Unix epoch.
        now: u64,
        /// The only randomness there is: the same for the same run and sequence.
        seed: u64,
        /// Why it is asked now.
        cause: Cause,
        /// About which target.
        target: Target,
        /// The job's semaphore.
        semaphore: Semaphore,
        /// The job's party.
        party: Option<Party>,
        /// What the job lists under `observe`.
        other_semaphores("other-semaphores"): Vec<Semaphore>,
        /// Likewise.
        other_parties("other-parties"): Vec<Party>,
        /// Where the rollout stands.
        progress: Progress,
        /// The newest events, oldest first; bounded.
        events: Vec<Event>,
    }
);

/// May this target go?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(variant)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// Take a slot as soon as one is free.
    #[component(name = "lock")]
    Lock,
    /// Not this target, not now.
    #[component(name = "wait")]
    Wait,
    /// Nobody now.
    #[component(name = "hold")]
    Hold,
    /// Take a lease whatever the count, breaking those with these fences.
    #[component(name = "force")]
    Force(Vec<u64>),
    /// Leave this target out.
    #[component(name = "skip")]
    Skip,
    /// Start nothing more, in this run.
    #[component(name = "abort")]
    Abort,
}

impl Admission {
    /// The contract's word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Wait => "wait",
            Self::Hold => "hold",
            Self::Force(_) => "force",
            Self::Skip => "skip",
            Self::Abort => "abort",
        }
    }
}

record!(
    /// An answer to `admit`.
    Admitted {
        /// What it says.
        verdict: Admission,
        /// Machine-readable and stable.
        code: String,
        /// One sentence for a person.
        reason: String,
        /// Ask again after this many milliseconds even if nothing changes.
        wake_after("wake-after"): Option<u64>,
        /// The policy's state for the run.
        memory: Vec<u8>,
    }
);

choice!(
    /// How an action ended.
    Ending {
        /// It did what it should.
        Succeeded = "succeeded",
        /// It did not.
        Failed = "failed",
        /// It was stopped after the job's time-out.
        TimedOut = "timed-out",
        /// It was stopped because its lease was lost.
        LeaseLost = "lease-lost",
        /// Nobody knows.
        Unknown = "unknown",
    }
);

record!(
    /// What became of a target's action.
    #[derive(Copy)]
    Outcome {
        /// How it ended.
        ending: Ending,
        /// Its exit code, where it had one.
        exit_code("exit-code"): Option<i32>,
        /// How long it took, in milliseconds.
        took: u64,
        /// 1 for the first try.
        attempt: u32,
    }
);

/// The target acted; what now?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ComponentType, Lift, Lower)]
#[component(variant)]
#[serde(rename_all = "kebab-case")]
pub enum Settlement {
    /// Give the slot back.
    #[component(name = "release")]
    Release,
    /// Keep the slot for this many milliseconds, then give it back.
    #[component(name = "keep")]
    Keep(u64),
    /// Act once more.
    #[component(name = "retry")]
    Retry,
    /// Undo it.
    #[component(name = "roll-back")]
    RollBack,
    /// Start nothing more, in this run.
    #[component(name = "abort")]
    Abort,
}

impl Settlement {
    /// The contract's word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Release => "release",
            Self::Keep(_) => "keep",
            Self::Retry => "retry",
            Self::RollBack => "roll-back",
            Self::Abort => "abort",
        }
    }
}

record!(
    /// An answer to `settle`.
    Settled {
        /// What it says.
        verdict: Settlement,
        /// Machine-readable and stable.
        code: String,
        /// One sentence for a person.
        reason: String,
        /// The policy's state for the run.
        memory: Vec<u8>,
    }
);

choice!(
    /// How bad a diagnostic is.
    Severity {
        /// The job must not run.
        Error = "error",
        /// It may.
        Warning = "warning",
    }
);

record!(
    /// What is wrong with settings.
    Diagnostic {
        /// How bad.
        severity: Severity,
        /// Path into the settings, such as `window.start`; empty for the whole.
        at: String,
        /// What is wrong.
        message: String,
        /// What to do.
        help: Option<String>,
    }
);

record!(
    /// What a policy says of itself.
    Manifest {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// One sentence.
        summary: String,
        /// JSON Schema of the settings.
        settings_schema("settings-schema"): String,
        /// The verdicts that it may ever return.
        verdicts: Vec<String>,
    }
);
