//! A job after every rule was checked: what the rest of the program works from. Read it to learn what a job is.
//!
//! Below this line nothing validates again. What a key that was left out means stands here, as a constant with a name.

use std::fmt;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::limit::Limit;
use super::name::{JobName, Target};
use super::problem::Source;
use super::template::{MissingLabel, Substitutions, Template};
use crate::store::{Lifetime, NodePath};

/// How many targets may act at once where `semaphore.max-concurrency` says nothing: as in Salt, one.
pub const DEFAULT_MAX_CONCURRENCY: Limit = Limit::Count(1);
/// How long a lease lives where `semaphore.ephemeral-lease` says nothing: as in Salt, it outlives its taker.
pub const DEFAULT_LIFETIME: Lifetime = Lifetime::Persistent;
/// Whether a rollout waits for its floor where `party.blocking` says nothing.
pub const DEFAULT_BLOCKING: bool = true;
/// The order of the targets where `targets.order` says nothing: the same however they were found.
pub const DEFAULT_ORDER: Order = Order::Name;
/// What a policy may do where `policy.grants` says nothing: take a slot that is free.
pub const DEFAULT_GRANTS: Grants = Grants::NONE.with(Grant::Lock);
/// What a policy's fault does where `policy.on-fault` says nothing.
pub const DEFAULT_ON_FAULT: OnFault = OnFault::Hold;
/// What a command gets to end by itself where `action.kill-after` says nothing.
pub const DEFAULT_KILL_AFTER: Duration = Duration::from_secs(10);
/// How often a target is tried where `action.attempts` says nothing.
pub const DEFAULT_ATTEMPTS: NonZeroU32 = NonZeroU32::MIN;
/// What an exhausted budget does where `budget.on-exhausted` says nothing.
pub const DEFAULT_ON_EXHAUSTED: OnExhausted = OnExhausted::Abort;
/// The longest time that any key takes, ten years: sums of times and the clock stay far from overflowing.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// A job, checked.
#[derive(Debug, Clone)]
pub struct JobSpec {
    /// What the job is called.
    pub name: JobName,
    /// Whose slots the targets take.
    pub semaphore: SemaphoreSpec,
    /// Who must be there; none: nobody is looked for.
    pub party: Option<PartySpec>,
    /// What is acted on.
    pub targets: TargetsSpec,
    /// Who decides when.
    pub policy: PolicySpec,
    /// What is done to each target.
    pub action: ActionSpec,
    /// How much may fail; none: any number.
    pub budget: Option<BudgetSpec>,
    /// The SHA-256 of the job file's text, in lower-case hex.
    pub digest: String,
    /// The job file.
    pub source: Source,
}

/// The semaphore that limits how many act at once, whoever runs them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SemaphoreSpec {
    /// Where it is.
    pub path: NodePath,
    /// How many may act at once.
    pub max_concurrency: Limit,
    /// How long a target may wait for its slot: zero tries once, none waits for ever.
    pub timeout: Option<Duration>,
    /// How long its leases live.
    pub lifetime: Lifetime,
}

/// The party whose members are the floor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartySpec {
    /// Where it is.
    pub path: NodePath,
    /// How many members must be there while targets act: a floor, so a share of the targets is rounded up.
    pub min_nodes: Limit,
    /// Whether a rollout waits for the floor, rather than end when it is not reached.
    pub blocking: bool,
    /// How long it waits: zero looks once, none waits for ever.
    pub timeout: Option<Duration>,
}

/// What is acted on, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetsSpec {
    /// Where they are listed.
    pub source: TargetSource,
    /// In which order they are planned.
    pub order: Order,
}

/// Where targets are listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetSource {
    /// In the job itself; their names differ.
    Hosts(Vec<Target>),
    /// In an inventory, a path relative to the job file: see [`super::parse_inventory`].
    Inventory(PathBuf),
    /// They are the members of a party.
    Party(NodePath),
    /// A command and its arguments that prints them: see [`super::parse_lines`].
    Command(Vec<String>),
}

/// The order of the targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// By their names.
    Name,
    /// As they are listed.
    Listed,
    /// Mixed; one seed, one order.
    Shuffle {
        /// The seed.
        seed: u64,
    },
}

/// Who decides when, and what it may do.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicySpec {
    /// Where its code is.
    pub source: PolicySource,
    /// What it may do.
    pub grants: Grants,
    /// What happens when it fails.
    pub on_fault: OnFault,
    /// What it is told: an object, checked by the policy itself. See [`JobSpec::problem_at`].
    pub settings: serde_json::Value,
}

/// Where a policy's code is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicySource {
    /// In this program, under this name.
    Standard(String),
    /// In a file.
    File {
        /// Relative to the job file.
        path: PathBuf,
        /// What its SHA-256 must be, in lower-case hex; none: anything.
        sha256: Option<String>,
    },
}

/// Something that a job must allow before a policy may do it. What only makes a rollout stricter needs no grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grant {
    /// Take a slot that is free.
    Lock,
    /// Take a lease whatever the count, and break others' leases.
    Force,
}

impl Grant {
    /// Every grant there is.
    pub const ALL: [Self; 2] = [Self::Lock, Self::Force];

    /// As a job file spells it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lock => "lock",
            Self::Force => "force",
        }
    }
}

/// What a policy may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Grants(u8);

impl Grants {
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// These and one more.
    #[must_use]
    pub const fn with(self, grant: Grant) -> Self {
        Self(self.0 | 1 << grant as u8)
    }

    /// Whether it is among them.
    #[must_use]
    pub const fn allows(self, grant: Grant) -> bool {
        self.0 & (1 << grant as u8) != 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Grant> {
        Grant::ALL.into_iter().filter(move |grant| self.allows(*grant))
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        grants.into_iter().fold(Self::NONE, Self::with)
    }
}

impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.iter().map(Grant::as_str).collect::<Vec<_>>().join(", "))
    }
}

/// What happens when a policy fails. Never: go on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnFault {
    /// Nothing more starts until somebody looks.
    Hold,
    /// The rollout ends.
    Abort,
}

/// What is done to each target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionSpec {
    /// The command.
    pub run: Command,
    /// How long it may take; none: for ever.
    pub timeout: Option<Duration>,
    /// How long it gets to end by itself before it is killed.
    pub kill_after: Duration,
    /// Whether the target is well, or was done already: a command that says so by ending with 0.
    pub probe: Option<Command>,
    /// How often a target is tried.
    pub attempts: NonZeroU32,
}

/// A command: the program and its arguments, each with its placeholders. No shell reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command(Vec<Template>);

impl Command {
    /// A program and its arguments; none where not even a program is named.
    #[must_use]
    pub fn new(arguments: Vec<Template>) -> Option<Self> {
        (!arguments.is_empty()).then_some(Self(arguments))
    }

    /// The program and its arguments, as written.
    #[must_use]
    pub fn arguments(&self) -> &[Template] {
        &self.0
    }

    /// The program and its arguments, filled in: at least one.
    ///
    /// # Errors
    /// [`MissingLabel`], for a target whose labels were not known when the job was checked.
    pub fn render(&self, with: &Substitutions<'_>) -> Result<Vec<String>, MissingLabel> {
        self.0.iter().map(|argument| argument.render(with)).collect()
    }
}

/// How much may fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetSpec {
    /// So many may fail: allowed, not exceeded. A budget, so a share of the targets is rounded down, to 0 too.
    pub max_failed: Limit,
    /// What happens when one more failure would exceed it.
    pub on_exhausted: OnExhausted,
}

/// What an exhausted budget does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnExhausted {
    /// Nothing more starts; what runs may end.
    Abort,
}
