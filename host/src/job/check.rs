//! From shape to meaning: what the keys of a job file must be together, and what those that were left out mean.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::calendar::{Calendar, Fit, Freeze, MAX_WINDOW, Window};
use super::file::{
    ActionTable, Argument, BudgetTable, FreezeTable, Host, JobFile, Moment, OrderWord, PartyTable, PolicyTable,
    SemaphoreTable, TargetsTable, WindowTable,
};
use super::limit::Limit;
use super::name::{JobName, Target};
use super::reader::{At, Found, Report, listed};
use super::spec::{
    ActionSpec, BudgetSpec, Command, DEFAULT_ATTEMPTS, DEFAULT_BACK_OFF, DEFAULT_BLOCKING, DEFAULT_GRANTS,
    DEFAULT_KILL_AFTER, DEFAULT_LIFETIME, DEFAULT_MAX_CONCURRENCY, DEFAULT_ON_EXHAUSTED, DEFAULT_ON_FAULT,
    DEFAULT_ON_UNKNOWN, DEFAULT_ORDER, Listed, Look, MISSING_LABEL_HELP, Order, PartySpec, PolicyPlace, PolicySource,
    PolicySpec, SemaphoreSpec, TargetSource, TargetsSpec, missing_labels,
};
use super::store::{self, StoreSpec};
use super::template::Template;
use crate::store::Lifetime;

/// The parts of a job, each checked.
pub(super) struct Parts {
    pub name: JobName,
    pub semaphore: SemaphoreSpec,
    pub party: Option<PartySpec>,
    pub targets: TargetsSpec,
    pub policy: PolicySpec,
    pub action: ActionSpec,
    pub budget: Option<BudgetSpec>,
    pub store: Option<StoreSpec>,
    pub calendar: Calendar,
}

/// Checks every part before it gives up on one, so that all complaints are made.
pub(super) fn job(file: JobFile, look: &mut dyn Look, report: &mut Report) -> Option<Parts> {
    let semaphore = file.semaphore.and_then(|table| semaphore(table.value, report));
    let party = file.party.map(|table| party(table.value, report));
    let targets = file.targets.and_then(|table| targets(table, report));
    let has_lost_settings = file.policy.as_ref().is_some_and(|policy| policy.value.settings.is_none());
    let has_lost_settings = has_lost_settings && report.has("policy.settings");
    let policy = file.policy.and_then(|table| policy(table, report));
    for complaint in policy.iter().flat_map(|policy| look.policy(policy)) {
        match &complaint.about {
            // What is missing may be among what could not be read.
            PolicyPlace::Setting(_) if has_lost_settings => {}
            PolicyPlace::Setting(path) => report.complain_of_setting(path, complaint.message, complaint.help),
            PolicyPlace::Key(key) => {
                report.complain(&report.at(&format!("policy.{key}")), complaint.message).help = complaint.help;
            }
        }
    }
    match (&file.action, targets.as_ref().map(|targets| &targets.source)) {
        (Some(action), Some(TargetSource::Hosts(hosts))) => check_labels(&action.value, hosts, None, report),
        (action, Some(TargetSource::Inventory(path))) => {
            let at = report.at("targets.inventory");
            match (look.inventory(path), action) {
                (Listed::Targets(targets), Some(action)) => check_labels(&action.value, &targets, Some(&at), report),
                (Listed::Unreadable { message, help }, _) => report.complain(&at, message).help = help,
                (Listed::Wrong(problems), _) => report.adopt(&problems),
                (Listed::Targets(_) | Listed::NotSeen, _) => {}
            }
        }
        _ => {}
    }
    let action = file.action.and_then(|table| action(table.value, report));
    let budget = file.budget.map(|table| budget(table.value));
    let store = file.store.map(|table| store::of_job(table, report));
    let longest = action.as_ref().and_then(|action| action.timeout);
    let calendar = calendar(file.window, file.freeze, longest, report);
    Some(Parts {
        name: file.name?.value,
        semaphore: semaphore?,
        party: party.map_or(Some(None), |party| party.map(Some))?,
        targets: targets?,
        policy: policy?,
        action: action?,
        budget: budget.map_or(Some(None), |budget| budget.map(Some))?,
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

fn party(table: PartyTable, report: &mut Report) -> Option<PartySpec> {
    let blocking = value_or(table.blocking, DEFAULT_BLOCKING);
    if let (false, Some(timeout)) = (blocking, &table.timeout) {
        report.complain(&timeout.at, "means nothing together with `blocking = false`").help("leave out one of the two");
    }
    Some(PartySpec {
        path: table.path?.value,
        min_nodes: table.min_nodes?.value,
        blocking,
        timeout: table.timeout.map(|timeout| timeout.value),
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
    Some(TargetsSpec { source: hosts.or(inventory).or(party).or(command)?, order })
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

/// The hosts; no two of one name.
pub(super) fn hosts(hosts: Found<Vec<Found<Host>>>, report: &mut Report) -> Vec<Target> {
    if hosts.value.is_empty() {
        report.complain(&hosts.at, "no target is listed").help("name at least one: `[\"web01\"]`");
    }
    let mut seen = BTreeMap::<_, At>::new();
    let mut targets = Vec::with_capacity(hosts.value.len());
    for Found { value: host, .. } in hosts.value {
        let (name, at) = (host.name.value.clone(), host.name.at.clone());
        match seen.get(&name) {
            Some(first) => {
                let place = report.place_of(first);
                report
                    .complain(&at, format!("target `{name}` is listed twice"))
                    .help(format!("it is listed at line {}, column {} already", place.line, place.column))
                    .other(first.span.clone(), "listed first");
            }
            None => {
                seen.insert(name, at);
                targets.push(host.into_target());
            }
        }
    }
    targets
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

fn action(table: ActionTable, report: &mut Report) -> Option<ActionSpec> {
    let timeout = table.timeout.and_then(|timeout| positive(timeout, "a command needs some time", report));
    let kill_after = table.kill_after.map(|time| positive(time, "a command needs some time to end by itself", report));
    let run = table.run.and_then(|run| command(run, report));
    let probe = table.probe.map(|probe| command(probe, report));
    Some(ActionSpec {
        run: run?,
        timeout,
        kill_after: kill_after.unwrap_or(Some(DEFAULT_KILL_AFTER))?,
        probe: probe.map_or(Some(None), |probe| probe.map(Some))?,
        attempts: table.attempts.map_or(DEFAULT_ATTEMPTS, |attempts| attempts.value.0),
        back_off: DEFAULT_BACK_OFF,
        roll_back: None,
        on_unknown: DEFAULT_ON_UNKNOWN,
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

/// Every label that a command names is one that every target has; `listed` is where these are listed, if elsewhere.
fn check_labels(action: &ActionTable, targets: &[Target], listed: Option<&At>, report: &mut Report) {
    for argument in [&action.run, &action.probe].into_iter().flatten().flat_map(|command| &command.value) {
        for message in missing_labels(&argument.value, targets) {
            let problem = report.complain(&argument.at, message).help(MISSING_LABEL_HELP);
            if let Some(listed) = listed {
                problem.other(listed.span.clone(), "the targets are listed there");
            }
        }
    }
}

fn budget(table: BudgetTable) -> Option<BudgetSpec> {
    let max_failed: Limit = table.max_failed?.value;
    Some(BudgetSpec { max_failed, on_exhausted: value_or(table.on_exhausted, DEFAULT_ON_EXHAUSTED) })
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
    let [begins, ends] = [begins, ends].map(|moment| zone.to_ambiguous_timestamp(moment?).compatible().ok());
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
