//! A job after every rule was checked: what the rest of the program works from. Read it to learn what a job is.
//!
//! Below this line nothing validates again. What a key that was left out means stands here, as a constant with a name.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::budget::{BudgetSpec, CONTRADICTION_HELP, StopAt};
use super::calendar::Calendar;
use super::file::JobFile;
use super::limit::Limit;
use super::name::{JobName, Target};
use super::ssh::SshSpec;
use super::template::{MemberTemplate, MissingLabel, Substitutions, Template};
use super::{check, secrets, waves};
use lockkeeper_coordination::store::{Lifetime, NodePath};
use lockkeeper_locks::config::StoreSpec;
use lockkeeper_locks::toml_reader::{Place, Problem, Problems, Report, Source, key_of_path, nearest, quote};

/// How many targets may act at once where `semaphore.max-concurrency` says nothing: as in Salt, one.
pub const DEFAULT_MAX_CONCURRENCY: Limit = Limit::Count(1);
/// How long a lease lives where `semaphore.ephemeral-lease` says nothing: as in Salt, it outlives its taker.
pub const DEFAULT_LIFETIME: Lifetime = Lifetime::Persistent;
/// Whether a rollout waits for its floor where `party.blocking` says nothing.
pub const DEFAULT_BLOCKING: bool = true;
/// Whose members a floor counts where `party.counts` says nothing.
pub const DEFAULT_PARTY_COUNTS: PartyCounts = PartyCounts::Targets;
/// The order of the targets where `targets.order` says nothing: the same however they were found.
pub const DEFAULT_ORDER: Order = Order::Name;
/// Whether a job may have no target where `targets.allow-empty` says nothing: a list that is empty once is probably a
/// failure of whatever lists them.
pub const DEFAULT_ALLOW_EMPTY: bool = false;
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
/// How many failures stop a run where `[budget]` gives no number: the first one does.
pub(super) const DEFAULT_STOP_AT: StopAt = StopAt::Failures(Limit::Count(1));
/// The budget of a job without `[budget]`.
pub const DEFAULT_BUDGET: BudgetSpec =
    BudgetSpec { stop_at: Some(DEFAULT_STOP_AT), max_failed: None, on_exhausted: DEFAULT_ON_EXHAUSTED };
/// What becomes of a target of which nobody knows where `action.on-unknown` says nothing.
pub const DEFAULT_ON_UNKNOWN: OnUnknown = OnUnknown::Hold;
/// How long a failed target rests before its second try where `action.back-off` says nothing.
pub const DEFAULT_BACK_OFF: Duration = Duration::ZERO;

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
    /// Who drives the job; none: every target goes as soon as the policy lets it.
    pub orchestration: Option<OrchestrationSpec>,
    /// What is done to each target.
    pub action: ActionSpec,
    /// How much may fail. `None` if the job does not say: see [`Self::budget`].
    pub budget: Option<BudgetSpec>,
    /// The waves in which the targets go, in order; none: all together.
    pub waves: Vec<WaveSpec>,
    /// Other semaphores and parties that the policy sees.
    pub observe: Vec<ObserveSpec>,
    /// When something may start.
    pub calendar: Calendar,
    /// Which store, and how to log in there; none: wherever the command line says.
    pub store: Option<StoreSpec>,
    /// The SHA-256 of the job file's text, in lower-case hex.
    pub digest: String,
    /// The job file.
    pub source: Source,
    places: BTreeMap<String, Range<usize>>,
}

impl JobSpec {
    /// Reads a job file's text; `file` is the name that messages give it.
    ///
    /// # Errors
    /// [`Problems`]: everything that is wrong with it, each with its place.
    pub fn parse(file: &str, text: &str) -> Result<Self, Problems> {
        Self::parse_and_look(file, text, &mut ())
    }

    /// As [`JobSpec::parse`], with somebody who can see what the job only names: `look` is shown its policy and its
    /// inventory as soon as they can be read, whatever else is wrong, so that its complaints come together with all others.
    ///
    /// # Errors
    /// As [`JobSpec::parse`]; a complaint of `look` is a problem of the job.
    pub fn parse_and_look(file: &str, text: &str, look: &mut dyn Look) -> Result<Self, Problems> {
        let source = Source::new(file, text);
        let mut report = Report::new("job", &source);
        let parts = report.read::<JobFile>().and_then(|shape| check::job(shape, look, &mut report));
        let (parts, places) = report.finish(parts)?;
        let check::Parts {
            name,
            semaphore,
            party,
            targets,
            policy,
            orchestration,
            action,
            budget,
            waves,
            observe,
            store,
            calendar,
        } = parts;
        let digest = hex::encode(Sha256::digest(text));
        Ok(Self {
            name,
            semaphore,
            party,
            targets,
            policy,
            orchestration,
            action,
            budget,
            waves,
            observe,
            calendar,
            store,
            digest,
            source,
            places,
        })
    }

    /// Where a key stands, such as `party.min-nodes`; where it was left out, the nearest one above it.
    #[must_use]
    pub fn place_of(&self, key: &str) -> Place {
        self.source.place(nearest(&self.places, key).start)
    }

    /// A complaint about a key, shown where [`Self::place_of`] says.
    #[must_use]
    pub fn problem_with(&self, key: &str, message: impl Into<String>, help: Option<String>) -> Problem {
        let mut problem = Problem::new(&self.source, key, nearest(&self.places, key), message.into());
        problem.help = help;
        problem
    }

    /// A policy's complaint about its settings: `path` is its path into them, such as `window.start` or `rules[0].name`
    /// (`rules.0.name` is taken, too); empty for all of them.
    #[must_use]
    pub fn problem_at(&self, path: &str, message: impl Into<String>, help: Option<String>) -> Problem {
        let key = setting_key(&self.places, path);
        self.problem_with(&key, message, help)
    }

    /// How much may fail: as the job says, else [`DEFAULT_BUDGET`].
    #[must_use]
    pub fn budget(&self) -> BudgetSpec {
        self.budget.unwrap_or(DEFAULT_BUDGET)
    }

    /// What the job probably does not mean, though it can be run; `total` is how many targets it has, if that is known.
    #[must_use]
    pub fn warnings(&self, total: Option<usize>) -> Vec<Problem> {
        let total = total.map(|total| u32::try_from(total).unwrap_or(u32::MAX));
        let throttled = self.budget().throttles(self.semaphore.max_concurrency, total);
        let warning = |(message, help)| self.problem_with("budget.max-failed", message, Some(help)).into_warning();
        throttled.map(warning).into_iter().chain(self.secrets()).collect()
    }

    /// What looks like a secret that stands in the job.
    fn secrets(&self) -> Vec<Problem> {
        let instead = |name: &str| {
            format!(
                "write `env = {{ {name} = {{ from-file = \"FILE\" }} }}` or `{{ from-env = \"VARIABLE\" }}` in [action]: a job \
                 is copied into the store"
            )
        };
        let variables = self.action.env.iter().filter_map(|(name, value)| {
            Some((format!("action.env.{name}"), secrets::of_variable(name, value)?, instead(name)))
        });
        let arguments = self.action.commands().flat_map(|(key, command)| {
            let found = secrets::of_command(command.arguments()).into_iter();
            let help = format!("{}; let the command read that variable", instead("NAME"));
            found.map(move |(index, what)| (format!("{key}[{index}]"), what, help.clone()))
        });
        let words = match &self.targets.source {
            TargetSource::Command(words) => words.as_slice(),
            _ => &[],
        };
        let listing = secrets::of_words(words).into_iter().map(|(index, what)| {
            let help = "let the command read it from a file: a job is copied into the store".to_owned();
            (format!("targets.command[{index}]"), what, help)
        });
        let of_policy = secrets::of_settings(&self.policy.settings).into_iter();
        let of_policy = of_policy.map(|(path, what)| (setting_key(&self.places, &path), what));
        let of_orchestration = self.orchestration.iter().flat_map(|guest| secrets::of_settings(&guest.settings));
        let of_orchestration = of_orchestration.map(|(path, what)| (format!("orchestration.settings.{path}"), what));
        let settings = of_policy.chain(of_orchestration).map(|(key, what)| {
            let help =
                "a guest has no use for a secret: leave it out; settings are copied into the store and the journal";
            (key, what, help.to_owned())
        });
        let all = variables.chain(arguments).chain(listing).chain(settings);
        // The value itself is not repeated.
        all.map(|(key, what, help)| self.problem_with(&key, format!("looks like {what}"), Some(help)).into_warning())
            .collect()
    }

    /// What of the job does not fit targets that were listed elsewhere: labels that its commands name and they do not have,
    /// waves that leave some of them out, a budget whose numbers contradict each other, and that there is none.
    #[must_use]
    pub fn problems_with_targets(&self, targets: &[Target]) -> Vec<Problem> {
        let none = self.targets.lists_none(targets);
        let none = none.map(|(key, message)| (String::from(key), message, LISTS_NONE_HELP));
        let missing = self.action.templates().flat_map(|(key, template)| {
            missing_labels(template.labels(), targets).map(move |message| (key.clone(), message, MISSING_LABEL_HELP))
        });
        let of_member = self.party.iter().flat_map(|party| missing_labels(party.member.labels(), targets));
        let of_member = of_member.map(|message| (String::from("party.member"), message, MISSING_LABEL_HELP));
        let left_out = waves::left_out(&self.waves, targets.len())
            .map(|message| (waves::last_size(self.waves.len()), message, waves::LEFT_OUT_HELP));
        let total = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        let contradiction = self.budget().contradiction(Some(total));
        let contradiction = contradiction.map(|message| ("budget.max-failed".to_owned(), message, CONTRADICTION_HELP));
        let all = missing.chain(of_member).chain(left_out).chain(contradiction).chain(none);
        all.map(|(key, message, help)| self.problem_with(&key, message, Some(String::from(help)))).collect()
    }

    /// Problems that were found later, as those of one file.
    #[must_use]
    pub fn problems(&self, problems: Vec<Problem>) -> Problems {
        Problems::new("job", self.source.clone(), problems)
    }
}

/// The table of a job that has the settings of its policy.
pub(super) const SETTINGS: &str = "policy.settings";

/// The key in a job of a path into the policy's settings, such as `window.start`.
fn setting_key(places: &BTreeMap<String, Range<usize>>, path: &str) -> String {
    key_of_path(places, SETTINGS, path)
}

/// Somebody who can see what a job only names. `()` sees nothing.
pub trait Look {
    /// What is wrong with a job's policy, or with the settings that it gets.
    fn policy(&mut self, _policy: &PolicySpec) -> Vec<Complaint> {
        Vec::new()
    }

    /// What is wrong with a job's orchestration, or with the settings that it gets.
    fn orchestration(&mut self, _orchestration: &OrchestrationSpec) -> Vec<Complaint> {
        Vec::new()
    }

    /// Reads the value of the environment variable `name` from where it stands; what is wrong with it and what to do, if it
    /// cannot be read. The message must not have the value.
    fn value(&mut self, _name: &str, _source: &ValueSource) -> Option<(String, String)> {
        None
    }

    /// What is wrong with a file that the job hands to ssh, such as that it is a named pipe; `path` is as the job has it.
    fn file_of_ssh(&mut self, _path: &Path) -> Option<String> {
        None
    }

    /// The targets that its inventory lists; `path` is as the job has it.
    fn inventory(&mut self, _path: &Path) -> Listed {
        Listed::NotSeen
    }
}

impl Look for () {}

/// What became of a look at an inventory.
#[derive(Debug, Clone)]
pub enum Listed {
    /// Nobody looked.
    NotSeen,
    /// Its targets.
    Targets(Vec<Target>),
    /// It cannot be read, as its text.
    Unreadable {
        /// What was tried and what happened.
        message: String,
        /// What to do.
        help: Option<String>,
    },
    /// What is wrong in it: see [`super::parse_inventory`].
    Wrong(Problems),
}

/// What somebody who knows policies has against a job's `[policy]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// About what.
    pub about: PolicyPlace,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// A place in a job's `[policy]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyPlace {
    /// One of its own keys, such as `use`.
    Key(&'static str),
    /// A path into its settings, such as `window.start`; empty for the whole.
    Setting(String),
}

pub(super) const MISSING_LABEL_HELP: &str =
    "give each target its labels, as in `{ name = \"web01\", labels = { rack = \"a\" } }`";

/// For each of the labels that a template names, which targets have none.
pub(super) fn missing_labels<'a>(
    labels: impl Iterator<Item = &'a str> + 'a,
    targets: &'a [Target],
) -> impl Iterator<Item = String> + 'a {
    labels.filter_map(|key| {
        let mut without = targets.iter().filter(|target| !target.labels.contains_key(key));
        let first = without.next()?;
        Some(match without.count() {
            0 => format!("target `{}` has no label `{key}`", first.name),
            more => format!("target `{}` and {more} more have no label `{key}`", first.name),
        })
    })
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
    /// Whether a rollout waits if the floor is not met at the start, rather than end.
    pub blocking: bool,
    /// How long the floor alone may keep the rollout from going on. `None` if it may for ever.
    pub timeout: Option<Duration>,
    /// The member that each target is.
    pub member: MemberTemplate,
    /// Whose members the floor counts.
    pub counts: PartyCounts,
}

/// Whose members a floor counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PartyCounts {
    /// The targets': a party that has members and no target among them is a mistake.
    Targets,
    /// Other machines', which the job does not act on.
    Others,
}

/// What is acted on, and in which order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetsSpec {
    /// Where they are listed.
    pub source: TargetSource,
    /// In which order they are planned.
    pub order: Order,
    /// Whether there may be none: then the job is finished at once.
    pub allow_empty: bool,
}

pub(super) const LISTS_NONE_HELP: &str =
    "list at least one; where there may be nothing to do, write `allow-empty = true` in `[targets]`";

impl TargetsSpec {
    /// That there is no target although there must be one: the key that it is about, and what is wrong.
    pub(super) fn lists_none(&self, targets: &[Target]) -> Option<(&'static str, String)> {
        if self.allow_empty || !targets.is_empty() {
            return None;
        }
        let path = |path: &Path| quote(&path.display().to_string());
        Some(match &self.source {
            TargetSource::Hosts(_) => ("targets.hosts", String::from("no target is listed")),
            TargetSource::Inventory(inventory) => {
                ("targets.inventory", format!("the inventory {} lists no target", path(inventory)))
            }
            TargetSource::Party(party) => ("targets.party", format!("the party `{party}` has no member")),
            TargetSource::Command(command) => {
                ("targets.command", format!("the command {} lists no target", quote(&command.join(" "))))
            }
        })
    }
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
    /// A command and its arguments that prints them: see [`super::parse_listing`].
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

/// An orchestration, checked.
#[derive(Debug, Clone)]
pub struct OrchestrationSpec {
    /// Its file, relative to the job file.
    pub path: PathBuf,
    /// What its SHA-256 must be, in lower-case hex; none: anything.
    pub sha256: Option<String>,
    /// The semaphores of which it may hold a slot each, and how many slots these have.
    pub semaphores: Vec<(NodePath, NonZeroU32)>,
    /// The parties at which it may look.
    pub parties: Vec<NodePath>,
    /// How long one of its calls may wait; none: as long as it takes.
    pub timeout: Option<Duration>,
    /// Whether it may take a lease whatever the count.
    pub may_force: bool,
    /// What it is told: an object, checked by the orchestration itself.
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
    pub const fn as_str(self) -> &'static str {
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
    /// How long a failed target rests before its second try; twice as long before each that follows.
    pub back_off: Duration,
    /// What undoes it; none: it cannot be undone.
    pub roll_back: Option<Command>,
    /// Says how a roll-back ended whose end no runner saw. `None` if `on_unknown` decides.
    pub roll_back_probe: Option<Command>,
    /// What becomes of a target of which nobody knows, and no probe can say.
    pub on_unknown: OnUnknown,
    /// What the environment of all these commands has more, by name.
    pub env: BTreeMap<String, Template>,
    /// Likewise, where the value does not stand in the job: see [`Look::value`].
    pub env_elsewhere: BTreeMap<String, ValueSource>,
    /// How the target is reached, on which all these commands run; none: they run here.
    pub ssh: Option<SshSpec>,
}

/// Where a value stands that must not stand in a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueSource {
    /// A file's text, without a line break at its end. The path is as the job has it.
    File(PathBuf),
    /// A variable of the runner's own environment.
    Variable(String),
}

impl ActionSpec {
    /// Everything that is filled in for a target, with its key.
    fn templates(&self) -> impl Iterator<Item = (String, &Template)> {
        let arguments = self.commands().flat_map(|(key, command)| {
            let arguments = command.arguments().iter().enumerate();
            arguments.map(move |(index, argument)| (format!("{key}[{index}]"), argument))
        });
        arguments.chain(self.env.iter().map(|(name, value)| (format!("action.env.{name}"), value)))
    }

    /// Its commands, each with its key.
    fn commands(&self) -> impl Iterator<Item = (&'static str, &Command)> {
        let commands = [
            ("action.run", Some(&self.run)),
            ("action.probe", self.probe.as_ref()),
            ("action.roll-back", self.roll_back.as_ref()),
            ("action.roll-back-probe", self.roll_back_probe.as_ref()),
        ];
        commands.into_iter().filter_map(|(key, command)| Some((key, command?)))
    }
}

/// What becomes of a target whose action nobody saw end, where no probe can say how it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnUnknown {
    /// Nothing more starts until somebody looks.
    Hold,
    /// It counts as failed.
    Fail,
    /// It is run again.
    Retry,
}

/// Targets that go together, after those of the wave before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveSpec {
    /// What it is called; names differ.
    pub name: String,
    /// How many targets; a share is rounded down but never below 1. None: all that are left, which only the last may say.
    pub size: Option<Limit>,
    /// How many of them may be under way at once; none: as many as the semaphore allows.
    pub max_concurrency: Option<Limit>,
    /// Nothing new starts, in any wave, once so many of this wave have failed. `None` if only the job's budget counts.
    pub stop_at: Option<StopAt>,
    /// How long nothing starts after the last of them is done with.
    pub bake: Duration,
    /// Whether it begins only when somebody approves of it.
    pub approve: bool,
}

/// What a policy sees beside the job's own semaphore and party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ObserveSpec {
    /// A semaphore at this path.
    Semaphore(NodePath),
    /// A party at this path.
    Party(NodePath),
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

/// What an exhausted budget does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnExhausted {
    /// Nothing more starts, and the run ends; what runs may end.
    Abort,
    /// Nothing more starts until somebody says how to go on.
    Pause,
    /// Nothing more starts, and what was done is undone.
    RollBack,
}
