//! From shape to meaning: what the keys of a job file must be together, and what those that were left out mean.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::budget::{self, BudgetSpec, CONTRADICTION_HELP, StopAt};
use super::calendar::{Calendar, Fit, Freeze, MAX_WINDOW, Window};
use super::file::{
    ActionTable, Argument, BudgetTable, FreezeTable, Host, JobFile, Moment, ObserveTable, OrchestrationTable,
    OrderWord, PartyTable, PolicyTable, SemaphoreTable, TargetsTable, Value, WindowTable,
};
use super::limit::Limit;
use super::name::{JobName, Target};
use super::spec::{
    ActionSpec, Command, DEFAULT_ALLOW_EMPTY, DEFAULT_ATTEMPTS, DEFAULT_BACK_OFF, DEFAULT_BLOCKING, DEFAULT_GRANTS,
    DEFAULT_KILL_AFTER, DEFAULT_LIFETIME, DEFAULT_MAX_CONCURRENCY, DEFAULT_ON_EXHAUSTED, DEFAULT_ON_FAULT,
    DEFAULT_ON_UNKNOWN, DEFAULT_ORDER, DEFAULT_PARTY_COUNTS, DEFAULT_STOP_AT, Grant, LISTS_NONE_HELP, Listed, Look,
    MISSING_LABEL_HELP, ObserveSpec, OnExhausted, OrchestrationSpec, Order, PartySpec, PolicyPlace, PolicySource,
    PolicySpec, SETTINGS, SemaphoreSpec, TargetSource, TargetsSpec, WaveSpec, missing_labels,
};
use super::ssh;
use super::target_list::TargetList;
use super::template::{MemberTemplate, Template};
use super::waves::{self, LEFT_OUT_HELP};
use lockkeeper_coordination::store::{Lifetime, NodePath};
use lockkeeper_locks::config::{StoreSpec, of_job};
use lockkeeper_locks::toml_reader::{At, Found, Report, listed};

/// The parts of a job, each checked.
pub(super) struct Parts {
    pub name: JobName,
    pub semaphore: SemaphoreSpec,
    pub party: Option<PartySpec>,
    pub targets: TargetsSpec,
    pub policy: PolicySpec,
    pub action: ActionSpec,
    pub budget: Option<BudgetSpec>,
    pub waves: Vec<WaveSpec>,
    pub orchestration: Option<OrchestrationSpec>,
    pub observe: Vec<ObserveSpec>,
    pub store: Option<StoreSpec>,
    pub calendar: Calendar,
}

/// Checks every part before it gives up on one, so that all complaints are made.
pub(super) fn job(file: JobFile, look: &mut dyn Look, report: &mut Report) -> Option<Parts> {
    let semaphore = file.semaphore.and_then(|table| semaphore(table.value, report));
    let member = file.party.as_ref().and_then(|table| table.value.member.clone());
    let party = file.party.map(|table| party(table.value));
    let targets = file.targets.and_then(|table| targets(table, report));
    let has_lost_settings = file.policy.as_ref().is_some_and(|policy| policy.value.settings.is_none());
    let has_lost_settings = has_lost_settings && report.has("policy.settings");
    let policy = file.policy.and_then(|table| policy(table, report));
    for complaint in policy.iter().flat_map(|policy| look.policy(policy)) {
        match &complaint.about {
            // What is missing may be among what could not be read.
            PolicyPlace::Setting(_) if has_lost_settings => {}
            PolicyPlace::Setting(path) => report.complain_of_part(SETTINGS, path, complaint.message, complaint.help),
            PolicyPlace::Key(key) => {
                report.complain(&report.at(&format!("policy.{key}")), complaint.message).help = complaint.help;
            }
        }
    }
    let own = semaphore.as_ref().map(|semaphore: &SemaphoreSpec| semaphore.path.clone());
    let orchestration = file.orchestration.map(|table| orchestration(table, own.as_ref(), report));
    for complaint in orchestration.iter().flatten().flat_map(|orchestration| look.orchestration(orchestration)) {
        let (key, message) = match complaint.about {
            PolicyPlace::Setting(path) if path.is_empty() => ("settings", complaint.message),
            PolicyPlace::Setting(path) => ("settings", format!("`{path}`: {}", complaint.message)),
            PolicyPlace::Key(key) => (key, complaint.message),
        };
        report.complain(&report.at(&format!("orchestration.{key}")), message).help = complaint.help;
    }
    let waves = waves::waves(file.wave, report);
    let budget = file.budget.map(|table| budget_of(table.value, report));
    let has = (&waves[..], budget.as_ref().and_then(Option::as_ref));
    let templates = Templates { action: file.action.as_ref().map(|action| &action.value), member: member.as_ref() };
    match targets.as_ref().map(|spec| (spec, &spec.source)) {
        Some((spec, TargetSource::Hosts(hosts))) => {
            check_some(spec, hosts, report);
            check_targets(templates, has, hosts, None, report);
        }
        Some((spec, TargetSource::Inventory(path))) => {
            let at = report.at("targets.inventory");
            match look.inventory(path) {
                Listed::Targets(targets) => {
                    check_some(spec, &targets, report);
                    check_targets(templates, has, &targets, Some(&at), report);
                }
                Listed::Unreadable { message, help } => report.complain(&at, message).help = help,
                Listed::Wrong(problems) => report.adopt(&problems),
                Listed::NotSeen => {}
            }
        }
        _ => {}
    }
    let action = file.action.and_then(|table| action(table.value, look, report));
    let observe = observe(file.observe, semaphore.as_ref(), party.as_ref().and_then(Option::as_ref), report);
    let store = file.store.map(|table| of_job(table, report));
    let longest = action.as_ref().and_then(|action| action.timeout);
    let calendar = calendar(file.window, file.freeze, longest, report);
    Some(Parts {
        name: file.name?.value,
        semaphore: semaphore?,
        party: party.map_or(Some(None), |party| party.map(Some))?,
        targets: targets?,
        policy: policy?,
        orchestration: orchestration.map_or(Some(None), |orchestration| orchestration.map(Some))?,
        action: action?,
        budget: budget.map_or(Some(None), |budget| budget.map(Some))?,
        waves,
        observe,
        store,
        calendar,
    })
}

fn semaphore(table: SemaphoreTable, report: &mut Report) -> Option<SemaphoreSpec> {
    if let Some(limit) = table.max_concurrency.as_ref().filter(|limit| limit.value.is_zero()) {
        report.complain(&limit.at, "nothing could ever start").help("at least 1 must be allowed to act");
    }
    let lifetime = match table.ephemeral_lease {
        Some(Found { value: true, .. }) => Lifetime::Ephemeral,
        Some(Found { value: false, .. }) => Lifetime::Persistent,
        None => DEFAULT_LIFETIME,
    };
    Some(SemaphoreSpec {
        path: table.path?.value,
        max_concurrency: value_or(table.max_concurrency, DEFAULT_MAX_CONCURRENCY),
        timeout: table.timeout.map(|timeout| timeout.value),
        lifetime,
    })
}

fn party(table: PartyTable) -> Option<PartySpec> {
    Some(PartySpec {
        path: table.path?.value,
        min_nodes: table.min_nodes?.value,
        blocking: value_or(table.blocking, DEFAULT_BLOCKING),
        timeout: table.timeout.map(|timeout| timeout.value),
        member: table.member.map_or_else(MemberTemplate::target, |member| member.value),
        counts: value_or(table.counts, DEFAULT_PARTY_COUNTS),
    })
}

fn targets(table: Found<TargetsTable>, report: &mut Report) -> Option<TargetsSpec> {
    let Found { value: table, at } = table;
    check_one_of(&at, &["hosts", "inventory", "party", "command"], "the source of the targets", report);
    let order = order(&table, report);
    let hosts = table.hosts.map(|hosts| TargetSource::Hosts(self::hosts(hosts, report)));
    let inventory = table.inventory.map(|path| TargetSource::Inventory(PathBuf::from(path.value.0)));
    let party = table.party.map(|path| TargetSource::Party(path.value));
    let command = table.command.and_then(|command| listing_command(command, report));
    let allow_empty = value_or(table.allow_empty, DEFAULT_ALLOW_EMPTY);
    Some(TargetsSpec { source: hosts.or(inventory).or(party).or(command)?, order, allow_empty })
}

/// Of keys that exclude each other, exactly one must be there. `what` says what they give.
fn check_one_of(table: &At, names: &[&str], what: &str, report: &mut Report) {
    let given: Vec<_> = names.iter().filter(|name| report.has(&format!("{}.{name}", table.key))).collect();
    let list = listed(names).replace(" and ", " or ");
    match given.as_slice() {
        [] if names.iter().any(|name| report.has_misspelt(&format!("{}.{name}", table.key))) => {}
        [] => {
            report.complain_of_missing(table, format!("{what} is missing")).help(format!("give one of {list}"));
        }
        [_] => {}
        [first, others @ ..] => {
            for name in others {
                let at = report.at(&format!("{}.{name}", table.key));
                let first_at = report.at(&format!("{}.{first}", table.key));
                report
                    .complain(&at, format!("{what} is given twice: by `{first}` and by `{name}`"))
                    .help(format!("give only one of {list}"))
                    .other(first_at.span, "and here");
            }
        }
    }
}

/// The hosts; each once.
pub(super) fn hosts(hosts: Found<Vec<Found<Host>>>, report: &mut Report) -> Vec<Target> {
    let mut list = TargetList::default();
    for Found { value: Host { name, labels }, .. } in hosts.value {
        list.add_all(&name.value, &labels, &name.at, report);
    }
    list.into_targets()
}

fn order(table: &TargetsTable, report: &mut Report) -> Order {
    let word = table.order.as_ref().map(|order| (order.value, &order.at));
    match (word, &table.seed) {
        (Some((OrderWord::Shuffle, _)), Some(seed)) => return Order::Shuffle { seed: seed.value.0 },
        (Some((OrderWord::Shuffle, at)), None) if !report.has("targets.seed") => {
            report.complain(at, "a shuffle needs a seed").help("so that `plan` shows what `run` does: `seed = 7`");
        }
        (word, Some(seed)) if word.is_some() || !report.has("targets.order") => {
            report.complain(&seed.at, "means nothing without a shuffle").help("`order = \"shuffle\"`, or leave it out");
        }
        _ => {}
    }
    match word {
        Some((OrderWord::Name, _)) => Order::Name,
        Some((OrderWord::Listed, _)) => Order::Listed,
        Some((OrderWord::Shuffle, _)) | None => DEFAULT_ORDER,
    }
}

/// A command that lists targets: there is no target yet for a placeholder to name.
fn listing_command(command: Found<Vec<Found<Argument>>>, report: &mut Report) -> Option<TargetSource> {
    check_program(&command, |argument| argument.0.is_empty(), report);
    let arguments: Vec<_> = command.value.into_iter().map(|argument| argument.value.0).collect();
    (!arguments.is_empty()).then_some(TargetSource::Command(arguments))
}

fn policy(table: Found<PolicyTable>, report: &mut Report) -> Option<PolicySpec> {
    let Found { value: table, at } = table;
    check_one_of(&at, &["use", "path"], "the policy", report);
    if let (Some(digest), false) = (&table.sha256, report.has("policy.path")) {
        report.complain(&digest.at, "means nothing without `path`").help("a standard policy is part of this program");
    }
    if let Some(grants) = table.grants.as_ref().filter(|grants| grants.value.is_empty()) {
        report.complain(&grants.at, "a policy without a grant could start nothing").help("`[\"lock\"]`");
    }
    let sha256 = table.sha256.map(|digest| digest.value.0);
    let standard = table.r#use.map(|name| PolicySource::Standard(name.value.0));
    let file = table.path.map(|path| PolicySource::File { path: PathBuf::from(path.value.0), sha256 });
    Some(PolicySpec {
        source: standard.or(file)?,
        grants: table.grants.map_or(DEFAULT_GRANTS, |grants| grants.value.iter().map(|grant| grant.value).collect()),
        on_fault: value_or(table.on_fault, DEFAULT_ON_FAULT),
        settings: table.settings.map_or_else(|| serde_json::json!({}), |settings| settings.value.0),
    })
}

fn orchestration(
    table: Found<OrchestrationTable>,
    own: Option<&NodePath>,
    report: &mut Report,
) -> Option<OrchestrationSpec> {
    let OrchestrationTable { path, sha256, semaphores, parties, timeout, grants, settings } = table.value;
    let mut listed: Vec<(NodePath, NonZeroU32)> = Vec::new();
    for Found { value: table, at } in semaphores.map(|semaphores| semaphores.value).unwrap_or_default() {
        let slots = match &table.max_concurrency {
            None => Some(NonZeroU32::MIN),
            Some(Found { value: Limit::Count(count), .. }) => NonZeroU32::new(*count),
            Some(Found { value: Limit::Share(_), .. }) => None,
        };
        if let (None, Some(limit)) = (slots, &table.max_concurrency) {
            report
                .complain(&limit.at, "expected a count from 1")
                .help("a share is one of the targets, which do not hold these");
        }
        let Some(path) = table.path else { continue };
        if own == Some(&path.value) {
            let help = "each target takes its own slot when it is let go; leave it out";
            report.complain(&path.at, "is the job's own semaphore").help(help);
        } else if listed.iter().any(|(other, _)| *other == path.value) {
            report.complain(&at, format!("`{}` is listed twice", path.value));
        }
        listed.extend(slots.map(|slots| (path.value, slots)));
    }
    Some(OrchestrationSpec {
        path: PathBuf::from(path?.value.0),
        sha256: sha256.map(|digest| digest.value.0),
        semaphores: listed,
        parties: parties.map_or_else(Vec::new, |parties| parties.value.into_iter().map(|path| path.value).collect()),
        timeout: timeout.and_then(|timeout| positive(timeout, "a call needs some time", report)),
        may_force: grants.is_some_and(|grants| grants.value.iter().any(|grant| grant.value == Grant::Force)),
        settings: settings.map_or_else(|| serde_json::json!({}), |settings| settings.value.0),
    })
}

fn action(table: ActionTable, look: &mut dyn Look, report: &mut Report) -> Option<ActionSpec> {
    let timeout = table.timeout.and_then(|timeout| positive(timeout, "a command needs some time", report));
    let kill_after = table.kill_after.map(|time| positive(time, "a command needs some time to end by itself", report));
    let run = table.run.and_then(|run| command(run, report));
    let probe = table.probe.map(|probe| command(probe, report));
    let roll_back = table.roll_back.map(|roll_back| command(roll_back, report));
    let roll_back_probe = table.roll_back_probe.map(|probe| {
        if roll_back.is_none() && !report.has_misspelt("action.roll-back") {
            report
                .complain(&report.at("action.roll-back-probe"), "means nothing where nothing is rolled back")
                .help("give the command as `roll-back`, or leave this out");
        }
        command(probe, report)
    });
    let ssh = table.ssh.map(|choice| ssh::of_action(choice.value, report));
    if let Some(Some(Some(ssh))) = &ssh {
        for (key, file) in [("config", &ssh.config), ("identity-file", &ssh.identity_file)] {
            if let Some(message) = file.as_deref().and_then(|file| look.file_of_ssh(file)) {
                report.complain(&report.at(&format!("action.ssh.{key}")), message).help("name a regular file");
            }
        }
    }
    let attempts = table.attempts.map_or(DEFAULT_ATTEMPTS, |attempts| attempts.value.0);
    if let Some(back_off) = table.back_off.as_ref().filter(|_| {
        attempts.get() == 1 && !report.has_complaint("action.attempts") && !report.has_misspelt("action.attempts")
    }) {
        report
            .complain(&back_off.at, "means nothing where a target is tried once")
            .help("try it more often, such as with `attempts = 3`, or leave it out");
    }
    let back_off = table.back_off.map(|time| positive(time, "no time is no rest", report));
    let (mut env, mut env_elsewhere) = (BTreeMap::new(), BTreeMap::new());
    for (name, value) in table.env.into_iter().flat_map(|env| env.value.0) {
        match value {
            Value::Written(template) => drop(env.insert(name, template.value)),
            Value::Elsewhere(Found { value, at }) => {
                if let Some((message, help)) = look.value(&name, &value) {
                    report.complain(&at, message).help(help);
                }
                env_elsewhere.insert(name, value);
            }
        }
    }
    Some(ActionSpec {
        run: run?,
        timeout,
        kill_after: kill_after.unwrap_or(Some(DEFAULT_KILL_AFTER))?,
        probe: probe.map_or(Some(None), |probe| probe.map(Some))?,
        attempts,
        back_off: back_off.unwrap_or(Some(DEFAULT_BACK_OFF))?,
        roll_back: roll_back.map_or(Some(None), |roll_back| roll_back.map(Some))?,
        roll_back_probe: roll_back_probe.map_or(Some(None), |probe| probe.map(Some))?,
        on_unknown: value_or(table.on_unknown, DEFAULT_ON_UNKNOWN),
        env,
        env_elsewhere,
        ssh: ssh.unwrap_or(Some(None))?,
    })
}

fn positive(time: Found<Duration>, why: &str, report: &mut Report) -> Option<Duration> {
    if time.value.is_zero() {
        report.complain(&time.at, why).help("give a time above zero, or leave it out");
        return None;
    }
    Some(time.value)
}

fn command(arguments: Found<Vec<Found<Template>>>, report: &mut Report) -> Option<Command> {
    check_program(&arguments, |argument| argument.pieces().is_empty(), report);
    Command::new(arguments.value.into_iter().map(|argument| argument.value).collect())
}

/// A command names a program.
fn check_program<T>(arguments: &Found<Vec<Found<T>>>, is_empty: impl Fn(&T) -> bool, report: &mut Report) {
    match arguments.value.first() {
        None => {
            report.complain(&arguments.at, "a command names a program").help("`[\"echo\", \"{target}\"]`");
        }
        Some(program) if is_empty(&program.value) => {
            report.complain(&program.at, "a command names a program").help("`[\"echo\", \"{target}\"]`");
        }
        Some(_) => {}
    }
}

/// There is something to act on, unless the job says that there may be nothing.
fn check_some(spec: &TargetsSpec, targets: &[Target], report: &mut Report) {
    if let Some((key, message)) = spec.lists_none(targets)
        && !report.has_complaint_below(key)
    {
        report.complain(&report.at(key), message).help(LISTS_NONE_HELP);
    }
}

/// What of a job names labels.
#[derive(Clone, Copy)]
struct Templates<'a> {
    action: Option<&'a ActionTable>,
    member: Option<&'a Found<MemberTemplate>>,
}

/// What the job says fits its targets; `listed` is where these are listed, if elsewhere.
fn check_targets(
    templates: Templates<'_>,
    (waves, budget): (&[WaveSpec], Option<&BudgetSpec>),
    targets: &[Target],
    listed: Option<&At>,
    report: &mut Report,
) {
    check_labels(templates, targets, listed, report);
    let at = report.at(&waves::last_size(waves.len()));
    if let Some(message) = waves::left_out(waves, targets.len())
        && !report.has_complaint(&at.key)
    {
        report.complain(&at, message).help(LEFT_OUT_HELP);
    }
    let at = report.at("budget.max-failed");
    if let Some(message) = budget.and_then(|budget| budget.contradiction(u32::try_from(targets.len()).ok()))
        && !report.has_complaint(&at.key)
    {
        report.complain(&at, message).help(CONTRADICTION_HELP);
    }
}

/// Every label that a command or a member's name names is one that every target has.
fn check_labels(templates: Templates<'_>, targets: &[Target], listed: Option<&At>, report: &mut Report) {
    let arguments = templates.action.into_iter().flat_map(|action| {
        let commands = [&action.run, &action.probe, &action.roll_back, &action.roll_back_probe].into_iter().flatten();
        let environment = action.env.iter().flat_map(|env| env.value.written());
        commands.flat_map(|command| &command.value).chain(environment)
    });
    let missing_in_arguments = arguments
        .flat_map(|argument| missing_labels(argument.value.labels(), targets).map(|message| (&argument.at, message)));
    let missing_in_member = templates
        .member
        .into_iter()
        .flat_map(|member| missing_labels(member.value.labels(), targets).map(|message| (&member.at, message)));
    for (at, message) in missing_in_arguments.chain(missing_in_member) {
        let problem = report.complain(at, message).help(MISSING_LABEL_HELP);
        if let Some(listed) = listed {
            problem.other(listed.span.clone(), "the targets are listed there");
        }
    }
}

fn budget_of(table: BudgetTable, report: &mut Report) -> Option<BudgetSpec> {
    if let Some(what) = &table.on_exhausted
        && what.value == OnExhausted::RollBack
        && report.has("action")
        && !report.has("action.roll-back")
        && !report.has_misspelt("action.roll-back")
    {
        report
            .complain_of_missing(&what.at, "the job does not say how its action is undone")
            .help("give the command as `roll-back` in `[action]`");
    }
    if let (Some(Found { value: StopAt::Unlimited, .. }), Some(max_failed)) = (&table.stop_at, &table.max_failed) {
        let problem = report.complain(&max_failed.at, "means nothing together with `stop-at = \"unlimited\"`");
        problem.help("leave out one of the two");
    }
    // One that cannot be read is complained of already.
    let stop_at = budget::stop_at(table.stop_at, report);
    let (max_failed, at) = table.max_failed.map(|found| (found.value, found.at)).unzip();
    let stop_at = stop_at.or(max_failed.is_none().then_some(DEFAULT_STOP_AT));
    let on_exhausted = value_or(table.on_exhausted, DEFAULT_ON_EXHAUSTED);
    let budget = BudgetSpec { stop_at, max_failed, on_exhausted };
    if let (Some(message), Some(at)) = (budget.contradiction(None), at) {
        report.complain(&at, message).help(CONTRADICTION_HELP);
    }
    Some(budget)
}

/// What the policy sees beside the job's own; nothing twice.
fn observe(
    tables: Option<Found<Vec<Found<ObserveTable>>>>,
    semaphore: Option<&SemaphoreSpec>,
    party: Option<&PartySpec>,
    report: &mut Report,
) -> Vec<ObserveSpec> {
    let mut observed = Vec::<(ObserveSpec, At)>::new();
    for Found { value: table, at } in tables.map(|tables| tables.value).unwrap_or_default() {
        check_one_of(&at, &["semaphore", "party"], "what is observed", report);
        let found = match (table.semaphore, table.party) {
            (Some(path), _) => Found { value: ObserveSpec::Semaphore(path.value), at: path.at },
            (None, Some(path)) => Found { value: ObserveSpec::Party(path.value), at: path.at },
            (None, None) => continue,
        };
        let is_own = match &found.value {
            ObserveSpec::Semaphore(path) => semaphore.is_some_and(|own| own.path == *path),
            ObserveSpec::Party(path) => party.is_some_and(|own| own.path == *path),
        };
        if is_own {
            report.complain(&found.at, "it is the job's own, which the policy sees anyway").help("leave it out");
        } else if let Some((_, first)) = observed.iter().find(|(other, _)| *other == found.value) {
            let line = report.place_of(first).line;
            report
                .complain(&found.at, "is observed twice")
                .help(format!("it is at line {line} already"))
                .other(first.span.clone(), "observed first");
        } else {
            observed.push((found.value, found.at));
        }
    }
    observed.into_iter().map(|(observed, _)| observed).collect()
}

fn calendar(
    windows: Option<Found<Vec<Found<WindowTable>>>>,
    freezes: Option<Found<Vec<Found<FreezeTable>>>>,
    longest: Option<Duration>,
    report: &mut Report,
) -> Calendar {
    let windows = windows.map(|windows| windows.value).unwrap_or_default();
    let freezes = freezes.map(|freezes| freezes.value).unwrap_or_default();
    Calendar {
        windows: windows.into_iter().filter_map(|table| window(table.value, longest, report)).collect(),
        freezes: freezes.into_iter().filter_map(|table| freeze(table.value, report)).collect(),
    }
}

fn window(table: WindowTable, longest: Option<Duration>, report: &mut Report) -> Option<Window> {
    if let Some(days) = table.days.as_ref().filter(|days| days.value.is_empty()) {
        report.complain(&days.at, "a window without a day never opens").help("leave it out for every day");
    }
    let duration = table.duration.and_then(|duration| {
        if duration.value > MAX_WINDOW {
            let problem = report.complain(&duration.at, "a window lasts a week at most");
            problem.help("leave all windows out where something may start at any time");
            return None;
        }
        let is_to_finish = table.fit.as_ref().is_some_and(|fit| fit.value == Fit::Finish);
        if let Some(longest) = longest.filter(|longest| is_to_finish && *longest > duration.value) {
            let longest = humantime::format_duration(longest);
            let message = format!("an action may take {longest}, so that nothing would ever start in this window");
            report
                .complain(&duration.at, message)
                .help("a longer window, a shorter `timeout` of the action, or `fit = \"start\"`");
        }
        positive(duration, "a window needs some time", report)
    });
    Some(Window {
        days: table.days.map(|days| days.value.iter().map(|day| day.value.0).collect()).unwrap_or_default(),
        start: table.start?.value.0,
        duration: duration?,
        zone: table.time_zone?.value.0,
        fit: value_or(table.fit, Fit::Start),
    })
}

fn freeze(table: FreezeTable, report: &mut Report) -> Option<Freeze> {
    let (from, until, zone) = (table.from?, table.until?, table.time_zone?.value.0);
    let begins = match from.value {
        Moment::Day(day) => Some(day.at(0, 0, 0, 0)),
        Moment::At(moment) => Some(moment),
    };
    let ends = match until.value {
        // The whole of its last day.
        Moment::Day(day) => day.tomorrow().ok().map(|next| next.at(0, 0, 0, 0)),
        Moment::At(moment) => Some(moment),
    };
    let begins = begins.and_then(|moment| zone.to_ambiguous_timestamp(moment).compatible().ok());
    // Where clocks go back an hour occurs twice: a freeze lasts through both. The last day is over with its first midnight.
    let is_moment = matches!(until.value, Moment::At(_));
    let ends = ends.map(|moment| zone.to_ambiguous_timestamp(moment));
    let ends = ends.and_then(|moment| if is_moment { moment.later().ok() } else { moment.compatible().ok() });
    let (from, at) = (begins?, until.at);
    match ends {
        Some(until) if until > from => Some(Freeze { from, until, reason: table.reason.map(|reason| reason.value) }),
        _ => {
            report
                .complain(&at, "a freeze ends after it begins")
                .help("`until` is its last day, or the moment at which it ends");
            None
        }
    }
}

fn value_or<T>(found: Option<Found<T>>, default: T) -> T {
    found.map_or(default, |found| found.value)
}
