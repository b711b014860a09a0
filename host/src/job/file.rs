//! A job file as written: its tables and keys, and what a value of each may look like. What they mean together is for
//! `spec.rs` to check.
//!
//! The docs of a key are what its JSON Schema and a complaint that it is missing say.

use std::time::Duration;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use schemars::{Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use super::budget::StopAt;
use super::calendar::Fit;
use super::limit::{Limit, Share};
use super::name::{JobName, LabelError, Labels, NameError, Target, check_label};
use super::pattern::NamePattern;
use super::spec::{Grant, OnExhausted, OnFault, OnUnknown, PartyCounts, ValueSource};
use super::ssh::SshChoice;
use super::template::{MemberTemplate, MemberTemplateError, Template};
use super::waves::WaveTable;
use lockkeeper_coordination::store::NodePath;
use lockkeeper_locks::config::StoreTable;
use lockkeeper_locks::table;
use lockkeeper_locks::toml_reader::{
    At, Choice, FilePath, Found, FromToml, Key, Refused, Report, in_file_order, join, kind_of, parsed, quote, unsigned,
    wrong_type,
};

table! {
    /// A job: what happens to which targets, how many at once, and who decides when.
    JobFile {
        /// The job's name, such as `kernel-reboot`: letters, digits, `.`, `_` and `-`.
        required name: JobName,
        /// The semaphore that limits how many act at once: `[semaphore]` with `path` and `max-concurrency`.
        required semaphore: SemaphoreTable,
        /// The party whose members are the floor: `[party]` with `path` and `min-nodes`.
        optional party: PartyTable,
        /// What is acted on: `[targets]` with one of `hosts`, `inventory`, `party` and `command`.
        required targets: TargetsTable,
        /// Who decides when: `[policy]` with `use = "rolling"`, or `path` for one of your own.
        required policy: PolicyTable,
        /// Who drives the whole job, where a script of its own does: `[orchestration]` with `path`. Left out: every target
        /// goes as soon as the policy lets it.
        optional orchestration: OrchestrationTable,
        /// What is done to each target: `[action]` with `run`.
        required action: ActionTable,
        /// How much may fail: `[budget]` with `stop-at`. Left out: the first failure stops the run.
        optional budget: BudgetTable,
        /// Targets that go together, one wave after the other: `[[wave]]` with `name` and `size` for each. Left out: all
        /// targets together.
        optional wave: Vec<Found<WaveTable>>,
        /// What the policy sees beside the job's own: `[[observe]]` with `semaphore` or `party` for each.
        optional observe: Vec<Found<ObserveTable>>,
        /// Where the semaphore and the party are: `[store]` with `zk-hosts` or `profile`. Left out: on this machine.
        optional store: StoreTable,
        /// When something may start: `[[window]]` with `start`, `duration` and `time-zone` for each. Left out: at any time.
        optional window: Vec<Found<WindowTable>>,
        /// When nothing may start, whatever the windows say: `[[freeze]]` with `from`, `until` and `time-zone` for each.
        optional freeze: Vec<Found<FreezeTable>>,
    }
    refused {
        "waves" => Refused::Meant("wave"),
        "on-unknown" => Refused::Never("it belongs to `[action]`", "write it below `[action]`: `on-unknown = \"hold\"`"),
        "approve" => Refused::Never("it belongs to a wave", "write it below a `[[wave]]`: `approve = true`"),
        "notify" => Refused::NotYet("leave it out"),
    }
}

table! {
    /// The semaphore that limits how many act at once. Whoever names the same path shares its slots, whatever tool they use.
    SemaphoreTable {
        /// Where it is: `path = "/locks/reboot"`.
        required path: NodePath,
        /// How many may act at once: a count, or a share of the targets such as `"5%"`, rounded down but at least 1. Left out: 1.
        optional max_concurrency: Limit,
        /// How long a target may wait for its slot, such as `"30m"`; `"0s"` tries once. Left out: for ever.
        optional timeout: Duration,
        /// Whether a lease ends with the session that took it, rather than outlive it. Left out: `false`.
        optional ephemeral_lease: bool,
    }
    refused {
        "slots" => Refused::Meant("max-concurrency"),
        "identifier" => Refused::Never("a job's leases are held in the names of its targets", "leave it out"),
        "force" => Refused::Never("forcing is for the policy to decide", "allow it with `grants = [\"lock\", \"force\"]` in `[policy]`"),
    }
}

table! {
    /// The party whose members are the floor: targets act only while enough of them are there.
    PartyTable {
        /// Where it is: `path = "/party/web"`.
        required path: NodePath,
        /// How many members must be there: a count, or a share of the targets such as `"85%"`, rounded up. `0` sets no floor.
        required min_nodes: Limit,
        /// Whether to wait if they are not there at the start, rather than end. Left out: `true`.
        optional blocking: bool,
        /// How long too few members alone may keep the run from going on, such as `"30m"`. Left out: for ever.
        optional timeout: Duration,
        /// What a target is called in the party: `member = "{target}.example.com"`. Left out: `"{target}"`.
        optional member: MemberTemplate,
        /// Whose members the floor counts: `"targets"`, some of which are members, or `"others"`, machines that the job does
        /// not act on. Left out: `"targets"`.
        optional counts: PartyCounts,
    }
    refused {
        "min-members" => Refused::Meant("min-nodes"),
        "identifier" => Refused::Never("the members of a party join it themselves", "leave it out"),
    }
}

table! {
    /// What is acted on, from exactly one source, and in which order.
    TargetsTable {
        /// The targets: names, ranges such as `"web[01:12]"`, or tables such as `{ name = "web01", labels = { rack = "a" } }`.
        optional hosts: Vec<Found<Host>>,
        /// A TOML file that lists `hosts` as here; relative to the job file.
        optional inventory: FilePath,
        /// The path of a party whose members are the targets.
        optional party: NodePath,
        /// A command that prints the targets, a name a line or as JSON: `command = ["list-hosts", "web"]`.
        optional command: Vec<Found<Argument>>,
        /// Whether a job for which no target is listed is finished at once, rather than an error. Left out: `false`.
        optional allow_empty: bool,
        /// `"name"`, `"listed"`, or `"shuffle"` together with `seed`. Left out: `"name"`.
        optional order: OrderWord,
        /// What a shuffle's order is made from: the same seed, the same order.
        optional seed: Seed,
    }
}

table! {
    /// One target with its labels, or the targets of a range with the labels that they share.
    HostTable {
        /// The target's name: `name = "web01"`, or a range such as `"web[01:12]"`.
        required name: NamePattern,
        /// What is known of it: `labels = { rack = "a" }`.
        optional labels: LabelsTable,
    }
}

table! {
    /// Who decides when a target may go, and what that policy may do.
    PolicyTable {
        /// A standard policy, by name: `use = "rolling"`.
        optional r#use: PolicyName,
        /// A policy's file, relative to the job file: `path = "my_policy.wasm"`.
        optional path: FilePath,
        /// What the SHA-256 of the file at `path` must be, in hex.
        optional sha256: Sha256Hex,
        /// What it may do: `"lock"`, and `"force"` only if it may. Left out: `["lock"]`.
        optional grants: Vec<Found<Grant>>,
        /// What happens when it fails: `"hold"` or `"abort"`. Left out: `"hold"`.
        optional on_fault: OnFault,
        /// What it is told; its own to define.
        optional settings: Settings,
    }
    refused {
        "observe" => Refused::Never("what a policy sees is for the job to say", "`[[observe]]` with `semaphore` or `party`"),
        "approve" => Refused::Never("it belongs to a wave", "write it below a `[[wave]]`: `approve = true`"),
        "name" => Refused::Meant("use"),
        "file" => Refused::Meant("path"),
    }
}

table! {
    /// A guest that drives the job itself: takes leases, waits for members, lets targets go. The policy still decides when.
    OrchestrationTable {
        /// Its file, relative to the job file: `path = "failover.wasm"`.
        required path: FilePath,
        /// What the SHA-256 of the file at `path` must be, in hex.
        optional sha256: Sha256Hex,
        /// The semaphores of which it may hold a slot: `semaphores = [{ path = "/locks/failover" }]`. Left out: none.
        optional semaphores: Vec<Found<SlotsTable>>,
        /// The parties at which it may look: `parties = ["/party/db"]`. Left out: none.
        optional parties: Vec<Found<NodePath>>,
        /// How long one of its calls may wait, such as `"1h"`. Left out: as long as it takes.
        optional timeout: Duration,
        /// What it may do beyond: `["force"]`. Left out: nothing.
        optional grants: Vec<Found<Grant>>,
        /// What it is told; its own to define.
        optional settings: Settings,
    }
    refused {
        "use" => Refused::Never("there are no standard orchestrations", "name its file: `path = \"failover.wasm\"`"),
        "on-fault" => Refused::Never("a fault of an orchestration always ends the run", "leave it out; that of the policy stands below `[policy]`"),
        "file" => Refused::Meant("path"),
    }
}

table! {
    /// A semaphore of which an orchestration may hold a slot.
    SlotsTable {
        /// Where it is: `path = "/locks/failover"`.
        required path: NodePath,
        /// How many may hold one at once; everybody who names the path must say the same. Left out: 1.
        optional max_concurrency: Limit,
    }
    refused {
        "slots" => Refused::Meant("max-concurrency"),
    }
}

table! {
    /// What is done to each target. No shell reads a command: each argument stays one argument.
    ActionTable {
        /// The command: `run = ["ssh", "{target}", "sudo", "reboot"]`.
        required run: Vec<Found<Template>>,
        /// How long it may take, such as `"5m"`. Left out: for ever.
        optional timeout: Duration,
        /// How long it gets to end by itself before it is killed. Left out: `"10s"`.
        optional kill_after: Duration,
        /// A command that ends with 0 when the target is well, or was done already.
        optional probe: Vec<Found<Template>>,
        /// How often a target is tried. Left out: 1.
        optional attempts: Attempts,
        /// How long a failed target rests before its second try, twice as long before each that follows. Left out: no time.
        optional back_off: Duration,
        /// A command that undoes what `run` did.
        optional roll_back: Vec<Found<Template>>,
        /// A command that says how a roll-back ended whose end no runner saw, by the exit codes of `probe`. Left out: `on-unknown`
        /// decides.
        optional roll_back_probe: Vec<Found<Template>>,
        /// What becomes of a target whose command, or roll-back, no runner saw end, where no probe can say: `"hold"`, `"fail"` or
        /// `"retry"`. Left out: `"hold"`.
        optional on_unknown: OnUnknown,
        /// More of the commands' environment: `env = { APP_HOST = "{target}", TOKEN = { from-file = "token.txt" } }`.
        optional env: Environment,
        /// Whether the commands run on the target itself, over ssh: `true`, or a table such as `{ user = "deploy" }`. Left
        /// out: they run here.
        optional ssh: SshChoice,
    }
    refused {
        "command" => Refused::Meant("run"),
        "rollback" => Refused::Meant("roll-back"),
        "backoff" => Refused::Meant("back-off"),
        "environment" => Refused::Meant("env"),
        "cwd" => Refused::NotYet("name files below `{job-dir}`"),
        "shell" => Refused::NotYet("start one: `run = [\"sh\", \"-c\", \"…\"]`"),
    }
}

table! {
    /// How much may fail.
    BudgetTable {
        /// Nothing new starts once so many targets have failed: a count, a share of the targets such as `"1%"`, rounded down
        /// but at least 1, or `"unlimited"`. Left out: `max-failed`, and without that 1.
        optional stop_at: StopAt,
        /// So many may fail, and no more, so each running target reserves a failure: a count, or a share of the targets such
        /// as `"2%"`, rounded down. At least `stop-at`; it may be 0. Left out: nothing is reserved.
        optional max_failed: Limit,
        /// What happens at `stop-at`: `"abort"`, so that nothing more starts and the run ends; `"pause"`, so that
        /// it waits for somebody; or `"roll-back"`, so that what was done is undone. Left out: `"abort"`.
        optional on_exhausted: OnExhausted,
    }
}

table! {
    /// A semaphore or a party that the policy sees beside the job's own.
    ObserveTable {
        /// The path of a semaphore: `semaphore = "/locks/deploy"`.
        optional semaphore: NodePath,
        /// The path of a party: `party = "/party/db"`.
        optional party: NodePath,
    }
    refused {
        "path" => Refused::Never("what it is the path of is not said", "write `semaphore = …` or `party = …`"),
    }
}

table! {
    /// A time of the week in which something may start. Outside every window nothing does; what has started goes on.
    WindowTable {
        /// The days on which it begins, such as `["Tue", "Thu"]`. Left out: every day.
        optional days: Vec<Found<Day>>,
        /// When it begins, by the clocks of its time zone: `start = "01:00"`.
        required start: TimeOfDay,
        /// How long it lasts, by no clock that is ever changed: `duration = "4h"`; a week at most.
        required duration: Duration,
        /// Whose clocks are meant, by its name in the IANA time zone database: `time-zone = "Europe/Berlin"`.
        required time_zone: Zone,
        /// `"start"`: what started in it may end after it. `"finish"`: nothing starts that would still run at its end, going
        /// by the longest that an action of this run has taken, and before there is one by the action's `timeout`. Left
        /// out: `"start"`.
        optional fit: Fit,
    }
    refused {
        "end" => Refused::Never("a window that says how long it lasts is the same on every day of the year", "say how long with `duration`"),
        "timezone" => Refused::Meant("time-zone"),
    }
}

table! {
    /// A time in which nothing starts, whatever the windows say.
    FreezeTable {
        /// Its first day or moment: `from = "2026-12-20"`, or `"2026-12-20 18:00"`.
        required from: Moment,
        /// Its last day, or the moment at which it ends: `until = "2027-01-03"`, or `"2027-01-04 06:00"`.
        required until: Moment,
        /// Whose clocks are meant: `time-zone = "Europe/Berlin"`.
        required time_zone: Zone,
        /// What it is for: shown to whoever waits.
        optional reason: String,
    }
}

table! {
    /// An inventory: targets in a file of their own, written as in a job.
    InventoryFile {
        /// The targets: names, ranges, or tables with `name` and `labels`; `[[hosts]]` for each does as well.
        required hosts: Vec<Found<Host>>,
    }
    refused {
        "targets" => Refused::Never("an inventory lists `hosts` at its top", "leave out the line `[targets]`"),
    }
}

/// A target as written.
#[derive(Debug)]
pub(super) struct Host {
    pub name: Found<NamePattern>,
    pub labels: Labels,
}

impl FromToml for Host {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        match value {
            DeValue::Table(_) => {
                let table = HostTable::from_toml(value, at, report)?;
                let labels = table.labels.map(|labels| labels.value.0).unwrap_or_default();
                Some(Self { name: table.name?, labels })
            }
            DeValue::String(_) => {
                let value = NamePattern::from_toml(value, at, report)?;
                Some(Self { name: Found { value, at: at.clone() }, labels: Labels::new() })
            }
            _ => {
                report
                    .complain(at, format!("expected a target, found {}", kind_of(value)))
                    .help("a name such as `\"web01\"`, or `{ name = \"web01\", labels = { rack = \"a\" } }`");
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [NamePattern::schema(generator), HostTable::schema(generator)] })
    }

    fn keys() -> Vec<Key> {
        HostTable::keys()
    }
}

/// The labels of a host as a table.
#[derive(Debug)]
pub(super) struct LabelsTable(pub Labels);

impl FromToml for LabelsTable {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let Some(table) = value.as_table() else {
            wrong_type(at, "a table such as `{ rack = \"a\" }`", value, report);
            return None;
        };
        let mut labels = Labels::new();
        for (key, value) in in_file_order(table) {
            let name = key.get_ref();
            let at_key = At { key: join(&at.key, name), span: key.span() };
            let at_value = At { key: at_key.key.clone(), span: value.span() };
            if let Err(error @ LabelError::Key(_)) = check_label(name, "") {
                report.complain(&at_key, error.to_string()).help("use letters, digits, `_`, `.` and `-`");
                continue;
            }
            if value.get_ref().is_table() {
                let message = "expected text, found a table";
                report.complain(&at_value, message).help("a key with a point stands in quotes: `\"a.b\" = \"c\"`");
                continue;
            }
            let Some(text) = String::from_toml(value.get_ref(), &at_value, report) else { continue };
            match check_label(name, &text) {
                Err(error) => {
                    report.complain(&at_value, error.to_string());
                }
                Ok(()) => {
                    labels.insert(name.to_string(), text);
                }
            }
        }
        Some(Self(labels))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z0-9_.-]+$" },
            "additionalProperties": { "type": "string", "maxLength": Target::MAX_LABEL_BYTES },
        })
    }
}

impl FromToml for JobName {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let help = |error: &NameError| match error {
            NameError::TooLong { .. } => None,
            _ => Some(String::from("a job's name has letters, digits, `.`, `_` and `-`: `name = \"kernel-reboot\"`")),
        };
        parsed(value, at, report, Self::parse, help)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9._][A-Za-z0-9._-]*$", "maxLength": Self::MAX_BYTES })
    }
}

impl FromToml for NamePattern {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        parsed(value, at, report, Self::parse, |error| error.help().map(String::from))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[^-/\s][^/\s]*$", "examples": ["web01", "web[01:12].example.com"] })
    }
}

impl FromToml for Limit {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        const HELP: &str = "a count such as `4`, or a share of the targets such as `\"5%\"`";
        match value {
            DeValue::Integer(_) => {
                let count = unsigned(value).and_then(|count| u32::try_from(count).ok());
                if count.is_none() {
                    report.complain(at, format!("expected a count from 0 to {}", u32::MAX)).help(HELP);
                }
                count.map(Self::Count)
            }
            DeValue::String(text) => match (Share::parse(text), text.trim().parse::<u32>()) {
                (Ok(share), _) => Some(Self::Share(share)),
                (Err(_), Ok(count)) => {
                    let help = format!("a count stands without quotes: `{count}`; a share is `\"{count}%\"`");
                    report.complain(at, "expected a count or a share, found text").help(help);
                    None
                }
                (Err(error), Err(_)) => {
                    report.complain(at, format!("{} is no share: {error}", quote(text))).help(HELP);
                    None
                }
            },
            _ => {
                report.complain(at, format!("expected a count or a share, found {}", kind_of(value))).help(HELP);
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": u32::MAX },
            { "type": "string", "pattern": r"^\s*(100(\.00?)?|[0-9]{1,2}(\.[0-9]{1,2})?)\s*%\s*$" },
        ] })
    }
}

impl FromToml for Template {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let argument = Argument::from_toml(value, at, report)?;
        match Self::parse(&argument.0) {
            Ok(template) => Some(template),
            Err(error) => {
                report.complain(at, error.to_string()).help(error.help());
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Argument::schema(generator)
    }
}

impl FromToml for MemberTemplate {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let template = Template::from_toml(value, at, report)?;
        match Self::new(template) {
            Ok(member) => Some(member),
            Err(error) => {
                let help = match error {
                    MemberTemplateError::NotOfTarget(_) => "it is made of `{target}` and labels such as `{label.host}`",
                    MemberTemplateError::SameForAll => "name the target in it: `member = \"{target}.example.com\"`",
                };
                report.complain(at, error.to_string()).help(help);
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Argument::schema(generator)
    }
}

/// One argument of a command.
#[derive(Debug)]
pub(super) struct Argument(pub String);

impl FromToml for Argument {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let text = String::from_toml(value, at, report)?;
        if text.contains('\0') {
            report.complain(at, "an argument cannot hold the character 0");
            return None;
        }
        Some(Self(text))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        String::schema(generator)
    }
}

/// The name of a standard policy. Which there are is not known here.
#[derive(Debug)]
pub(super) struct PolicyName(pub String);

impl FromToml for PolicyName {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let text = String::from_toml(value, at, report)?;
        if text.is_empty() || !text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            let help = if text.contains(['.', '/']) {
                format!("a file is named with `path`: `path = {text:?}`")
            } else {
                String::from("a name such as `\"rolling\"`; a file is named with `path`")
            };
            report.complain(at, format!("{} is no name of a standard policy", quote(&text))).help(help);
            return None;
        }
        Some(Self(text))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9-]+$" })
    }
}

/// A digest, in lower-case hex.
#[derive(Debug)]
pub(super) struct Sha256Hex(pub String);

impl FromToml for Sha256Hex {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let text = String::from_toml(value, at, report)?;
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            report.complain(at, "a SHA-256 has 64 hex digits").help("`sha256sum FILE` prints it");
            return None;
        }
        Some(Self(text.to_ascii_lowercase()))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9A-Fa-f]{64}$" })
    }
}

/// A shuffle's seed.
#[derive(Debug)]
pub(super) struct Seed(pub u64);

impl FromToml for Seed {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let read = unsigned(value);
        if read.is_none() {
            report.complain(at, "expected a whole number from 0 on").help("any: `seed = 7`");
        }
        read.map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 0, "maximum": u64::MAX })
    }
}

/// How often a target is tried.
#[derive(Debug)]
pub(super) struct Attempts(pub std::num::NonZeroU32);

impl FromToml for Attempts {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let read = unsigned(value).and_then(|number| u32::try_from(number).ok()).and_then(std::num::NonZeroU32::new);
        if read.is_none() {
            report.complain(at, format!("expected a whole number from 1 to {}", u32::MAX)).help("1 tries once");
        }
        read.map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": u32::MAX })
    }
}

/// An order's name; a shuffle needs its seed, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OrderWord {
    Name,
    Listed,
    Shuffle,
}

impl Choice for OrderWord {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("name", Self::Name), ("listed", Self::Listed), ("shuffle", Self::Shuffle)];

    fn help(word: &str) -> Option<String> {
        matches!(word, "random" | "shuffled").then(|| String::from("did you mean `shuffle`, together with `seed`?"))
    }
}

impl Choice for Grant {
    const CHOICES: &'static [(&'static str, Self)] =
        &[(Self::Lock.as_str(), Self::Lock), (Self::Force.as_str(), Self::Force)];

    fn help(word: &str) -> Option<String> {
        let is_free = matches!(word, "wait" | "hold" | "skip" | "abort" | "release" | "keep" | "retry");
        is_free.then(|| format!("every policy may `{word}`; leave it out"))
    }
}

impl Choice for OnFault {
    const CHOICES: &'static [(&'static str, Self)] = &[("hold", Self::Hold), ("abort", Self::Abort)];
}

impl Choice for Fit {
    const CHOICES: &'static [(&'static str, Self)] = &[("start", Self::Start), ("finish", Self::Finish)];
}

/// A day of the week.
#[derive(Debug, Clone, Copy)]
pub(super) struct Day(pub Weekday);

impl Choice for Day {
    const CHOICES: &'static [(&'static str, Self)] = &[
        ("Mon", Self(Weekday::Monday)),
        ("Tue", Self(Weekday::Tuesday)),
        ("Wed", Self(Weekday::Wednesday)),
        ("Thu", Self(Weekday::Thursday)),
        ("Fri", Self(Weekday::Friday)),
        ("Sat", Self(Weekday::Saturday)),
        ("Sun", Self(Weekday::Sunday)),
    ];

    fn help(word: &str) -> Option<String> {
        let short = word.get(..3)?;
        let meant = Self::CHOICES.iter().find(|(name, _)| name.eq_ignore_ascii_case(short))?;
        Some(format!("did you mean `{}`?", meant.0))
    }
}

/// A text as it stands, or a date or time that TOML has of its own.
fn text_of_time(value: &DeValue<'_>, at: &At, expected: &str, report: &mut Report) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Datetime(datetime) => Some(datetime.to_string()),
        _ => {
            wrong_type(at, expected, value, report);
            None
        }
    }
}

/// A time of day.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeOfDay(pub Time);

impl FromToml for TimeOfDay {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let text = text_of_time(value, at, "a time of day such as `\"01:00\"`", report)?;
        // Hours and minutes, and seconds where there are any; a date beside them is not meant.
        let is_time = text.len() <= 8 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b':');
        match text.parse() {
            Ok(time) if is_time && text.contains(':') => Some(Self(time)),
            _ => {
                let problem = report.complain(at, format!("{} is no time of day", quote(&text)));
                problem.help("hours and minutes from `\"00:00\"` to `\"23:59\"`");
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9])?$" })
    }
}

/// A time zone.
#[derive(Debug, Clone)]
pub(super) struct Zone(pub TimeZone);

impl FromToml for Zone {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let find = |name: &str| match name.is_empty() {
            true => Err(String::from("a time zone has a name")),
            false => TimeZone::get(name).map_err(|_| format!("{} is no time zone", quote(name))),
        };
        let help =
            |_: &String| Some(String::from("a name such as `\"Europe/Berlin\"`, `\"America/New_York\"` or `\"UTC\"`"));
        parsed(value, at, report, find, help).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// A day, or a moment of one.
#[derive(Debug, Clone, Copy)]
pub(super) enum Moment {
    Day(Date),
    At(DateTime),
}

impl FromToml for Moment {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let text = text_of_time(value, at, "a date such as `\"2026-12-20\"`", report)?;
        let has_zone = text.len() > 10 && text[10..].contains(['Z', 'z', '+', '-', '[']);
        let read = match text.len() {
            0..=10 => text.parse().map(Self::Day).ok(),
            _ if has_zone => None,
            _ => text.parse().map(Self::At).ok(),
        };
        if read.is_none() {
            let problem = report.complain(at, format!("{} is no date", quote(&text)));
            problem.help("a day such as `\"2026-12-20\"`, or a moment such as `\"2026-12-20 18:00\"`, by the clocks of `time-zone`");
        }
        read
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}([ T][0-9]{2}:[0-9]{2}(:[0-9]{2})?)?$" })
    }
}

impl Choice for OnExhausted {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("abort", Self::Abort), ("pause", Self::Pause), ("roll-back", Self::RollBack)];
}

impl Choice for PartyCounts {
    const CHOICES: &'static [(&'static str, Self)] = &[("targets", Self::Targets), ("others", Self::Others)];
}

impl Choice for OnUnknown {
    const CHOICES: &'static [(&'static str, Self)] =
        &[("hold", Self::Hold), ("fail", Self::Fail), ("retry", Self::Retry)];
}

table! {
    /// A value that stands elsewhere than in the job: it is in no store, journal or copy of the job.
    ValueElsewhere {
        /// A file whose text is the value, without a line break at its end; relative to the job's folder.
        optional from_file: FilePath,
        /// A variable of the runner's own environment.
        optional from_env: VariableName,
    }
    refused {
        "file" => Refused::Meant("from-file"),
        "path" => Refused::Meant("from-file"),
        "env" => Refused::Meant("from-env"),
    }
}

/// The name of a variable of the runner's environment.
#[derive(Debug)]
pub(super) struct VariableName(pub String);

impl FromToml for VariableName {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let text = String::from_toml(value, at, report)?;
        if text.is_empty() || text.contains(['=', '\0']) {
            report.complain(at, format!("{} is no name of an environment variable", quote(&text)));
            return None;
        }
        Some(Self(text))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[^=]+$" })
    }
}

/// A variable's value, or where it stands.
#[derive(Debug)]
pub(super) enum Value {
    Written(Found<Template>),
    Elsewhere(Found<ValueSource>),
}

impl Value {
    fn read(value: &DeValue<'_>, at: At, report: &mut Report) -> Option<Self> {
        if !value.is_table() {
            return Some(Self::Written(Found { value: Template::from_toml(value, &at, report)?, at }));
        }
        let ValueElsewhere { from_file, from_env } = ValueElsewhere::from_toml(value, &at, report)?;
        let help = "give one of `from-file` or `from-env`";
        let source = match (from_file, from_env) {
            (Some(file), None) => ValueSource::File(file.value.0.into()),
            (None, Some(variable)) => ValueSource::Variable(variable.value.0),
            (Some(_), Some(_)) => {
                report.complain(&at, "the value is given twice: by `from-file` and by `from-env`").help(help);
                return None;
            }
            (None, None) => {
                let is_told = ["from-file", "from-env"].iter().any(|key| {
                    let key = format!("{}.{key}", at.key);
                    report.has_complaint(&key) || report.has_misspelt(&key)
                });
                if !is_told {
                    report.complain_of_missing(&at, "the source of the value is missing").help(help);
                }
                return None;
            }
        };
        Some(Self::Elsewhere(Found { value: source, at }))
    }
}

/// What the commands' environment has more, each in the order written.
#[derive(Debug)]
pub(super) struct Environment(pub Vec<(String, Value)>);

impl Environment {
    /// The values that stand in the job.
    pub(super) fn written(&self) -> impl Iterator<Item = &Found<Template>> {
        self.0.iter().filter_map(|(_, value)| match value {
            Value::Written(template) => Some(template),
            Value::Elsewhere(_) => None,
        })
    }
}

impl FromToml for Environment {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let Some(table) = value.as_table() else {
            wrong_type(at, "a table such as `{ APP_HOST = \"{target}\" }`", value, report);
            return None;
        };
        let mut variables = Vec::with_capacity(table.len());
        for (key, value) in in_file_order(table) {
            let name = key.get_ref();
            let at_key = At { key: join(&at.key, name), span: key.span() };
            let at_value = At { key: at_key.key.clone(), span: value.span() };
            report.note(&at_value);
            let mut bytes = name.bytes();
            let is_name = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
                && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_');
            if !is_name {
                let message = format!("{} is no name of an environment variable", quote(name));
                report.complain(&at_key, message).help("use letters, digits and `_`, no digit first");
            } else if name.to_ascii_uppercase().starts_with("LOCKKEEPER_") {
                let problem = report.complain(&at_key, "names that begin with `LOCKKEEPER_` are taken");
                problem.help("these are set for every command: see the placeholders; give it another name");
            } else if let Some(value) = Value::read(value.get_ref(), at_value, report) {
                variables.push((name.to_string(), value));
            }
        }
        Some(Self(variables))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$" },
            "additionalProperties": {
                "anyOf": [Template::schema(generator), ValueElsewhere::schema(generator)],
            },
        })
    }
}

/// A policy's settings: anything that JSON can say.
#[derive(Debug)]
pub(super) struct Settings(pub serde_json::Value);

impl FromToml for Settings {
    const IS_TABLE: bool = true;

    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        if !value.is_table() {
            wrong_type(at, "a table", value, report);
            return None;
        }
        to_json(value, at, report).map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

/// A value as JSON, a date or time as its text. TOML nests less than a hundred levels deep, so recursion is safe.
fn to_json(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<serde_json::Value> {
    report.note(at);
    match value {
        DeValue::String(text) => Some(text.as_ref().into()),
        DeValue::Boolean(truth) => Some((*truth).into()),
        DeValue::Datetime(datetime) => Some(datetime.to_string().into()),
        DeValue::Integer(integer) => {
            let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
            if number.is_none() {
                report.complain(at, format!("{integer} does not fit into 64 bits"));
            }
            number.map(Into::into)
        }
        DeValue::Float(float) => {
            let number = float.as_str().parse().ok().and_then(serde_json::Number::from_f64);
            if number.is_none() {
                report.complain(at, format!("{float} is no number that JSON has"));
            }
            number.map(Into::into)
        }
        DeValue::Array(array) => {
            let items = array.iter().enumerate().map(|(index, item)| {
                let at = At { key: format!("{}[{index}]", at.key), span: item.span() };
                to_json(item.get_ref(), &at, report)
            });
            // Everything is read, for all its problems, before one of them ends it.
            items.collect::<Vec<_>>().into_iter().collect()
        }
        DeValue::Table(table) => {
            let entries = in_file_order(table).into_iter().map(|(key, item)| {
                let at = At { key: join(&at.key, key.get_ref()), span: item.span() };
                to_json(item.get_ref(), &at, report).map(|value| (key.get_ref().to_string(), value))
            });
            let entries: Option<serde_json::Map<_, _>> = entries.collect::<Vec<_>>().into_iter().collect();
            entries.map(serde_json::Value::Object)
        }
    }
}
