//! `lockkeeper replay`: every decision of a run once more, with its own policy or with another.

mod calls;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::args::{Global, ReplayArgs};
use super::history_report::{Newest, nothing_written, of_runner_epochs, report_what_is_missing, untrusted};
use super::load_policy::{self, OFFLINE_LIMITS, policy_of_run};
use super::runs;
use crate::audit::replay::{self, Difference, Replay, ReplayedDecision};
use crate::audit::{History, HistoryError, Page, Segments, Want};
use crate::policy::{Engine, Module};
use crate::rollout::journal::{self, Header, RecordedDecision};
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::{Output, of, span};
use lockkeeper_locks::cli::table::Table;
use lockkeeper_locks::terminal;

/// Changes that are shown without `--all`.
const MOST_SHOWN: usize = 50;

/// A journal so long that it takes a while, in bytes.
const LONG: u64 = 16 * 1024 * 1024;

/// The longest part of a value shown to people, in characters.
const MAX_VALUE: usize = 100;

/// What of a value is shown before the place where it differs, in characters.
const BEFORE_DIFFERENCE: usize = 20;

/// What a back-test does not do.
const AS_RECORDED: &str = "each view is as recorded; the consequences of these answers are not simulated";

/// The policy to ask, and how.
struct Chosen {
    policy: Module,
    /// Where it is from.
    from: String,
    settings: Value,
    /// Whether this is the policy that the run asked, with the settings that it gave.
    is_own: bool,
}

pub(super) fn run(global: &Global, output: &Output, args: &ReplayArgs) -> Result<Exit, Failure> {
    let segments = runs::find(&global.common.state_dir()?, &args.run)?;
    let mut history = History::new(segments.clone(), Want::Decisions);
    let header = match history.page().map_err(untrusted)? {
        Some(Page::Segment(header)) => header.clone(),
        _ => return Err(nothing_written(&segments)),
    };
    let engine = global.engine_with(OFFLINE_LIMITS)?;
    if let Some(file) = &args.orchestration {
        return other_calls(&segments, &engine, file, output);
    }
    let chosen = choose(&engine, args, &header, &segments.folder)?;
    output.talk(
        "Journal",
        &format!("of run {}, written by {}", terminal::value(&header.run), terminal::value(&header.host)),
    );
    let manifest = chosen.policy.manifest();
    output.talk(
        "Policy",
        &format!("{} {}, {}, SHA-256 {}", manifest.name, manifest.version, chosen.from, chosen.policy.digest()),
    );
    let long = segments.here.iter().map(|runner_epoch| runner_epoch.path.metadata().map_or(0, |file| file.len())).sum();
    let output = if long > LONG { &output.clone().with_byte_bar("Replaying", long) } else { output };
    let journal = Opened { header, history };
    if chosen.is_own {
        again(journal, &engine, chosen, &segments, output)
    } else {
        back_test(journal, &chosen, args.all, output)
    }
}

/// What another orchestration would have called.
fn other_calls(segments: &Segments, engine: &Engine, file: &Path, output: &Output) -> Result<Exit, Failure> {
    let Some(calls) = calls::again(segments, engine, Some(file))? else {
        return Err(Failure::message(ErrorKind::BadArgument, "the run has no orchestration")
            .hint("omit `--orchestration` to replay the policy's decisions"));
    };
    if output.is_json() {
        output.json(&calls.json())
    } else {
        calls.show(output)
    }
    Ok(if calls.differ() { Exit::Failed } else { Exit::Done })
}

/// A run's journals, the first line of the first of which was read.
struct Opened {
    header: Header,
    history: History,
}

// ---------------------------------------------------------------------- which policy

fn choose(engine: &Engine, args: &ReplayArgs, header: &Header, folder: &Path) -> Result<Chosen, Failure> {
    let (policy, from) = match &args.policy {
        Some(named) => (load_policy::named(engine, named)?, "as given".to_owned()),
        None => policy_of_run(engine, header, folder)?,
    };
    let given = args.settings.as_deref().map(load_policy::settings_of).transpose()?;
    let is_own = given.is_none() && policy.digest() == header.policy_digest;
    let whose = if given.is_some() { "these settings" } else { "the run's settings" };
    let settings = given.unwrap_or_else(|| header.settings.clone());
    if !is_own {
        load_policy::accepts(&policy, &settings, whose)?;
    }
    Ok(Chosen { policy, from, settings, is_own })
}

// ---------------------------------------------------------------------- the same policy

/// The first decision that comes to something else.
struct First {
    runner_epoch: u32,
    sequence: u64,
    line: usize,
    target: String,
    fields: Vec<Difference>,
}

/// How many of a journal's decisions there were, and how they came out.
#[derive(Default)]
struct Tally {
    decisions: u64,
    identical: u64,
    /// Ended by the host's clock: they say nothing about the policy.
    unrepeatable: u64,
    first: Option<First>,
}

fn again(
    journal: Opened,
    engine: &Engine,
    mut chosen: Chosen,
    segments: &Segments,
    output: &Output,
) -> Result<Exit, Failure> {
    let Opened { header, mut history } = journal;
    let mut memory = header.memory.clone();
    let mut tally = Tally::default();
    let mut runner_epoch = header.runner_epoch;
    let ended = loop {
        let bytes = history.bytes();
        match history.page() {
            Ok(Some(Page::Decision(recorded))) => {
                let mut replay = Replay::new(&chosen.policy, &chosen.settings, header.grants()).from(memory);
                tally.take(runner_epoch, recorded, &mut replay);
                memory = replay.into_memory();
            }
            // Another runner went on: with what the store had of the memory.
            Ok(Some(Page::Segment(next))) => {
                (memory, runner_epoch) = (next.memory.clone(), next.runner_epoch);
                if next.policy_digest != chosen.policy.digest() || next.settings != chosen.settings {
                    let next = next.clone();
                    let (policy, from) = policy_of_run(engine, &next, &history.segments().folder)?;
                    chosen = Chosen { policy, from, settings: next.settings, is_own: true };
                }
            }
            Ok(Some(Page::Event(_))) => {}
            Ok(None) => break Ok(()),
            Err(error) => break Err(error),
        }
        output.progress(bytes);
    };
    output.end_bar();
    if let Err(error) = ended {
        if let Some(first) = &tally.first
            && !output.is_json()
        {
            first.show(&history, output);
        }
        return Err(untrusted_after(error, &tally));
    }
    let calls = calls::again(segments, engine, None)?;
    if output.is_json() {
        output.json(&json!({
            "run": header.run,
            "journal": history.segments().here[0].path,
            "runner-epochs": of_runner_epochs(&history),
            "missing": history.segments().missing,
            "policy": about(&chosen),
            "decisions": tally.decisions,
            "identical": tally.identical,
            "unrepeatable": tally.unrepeatable,
            "closed": history.is_closed(),
            "difference": tally.first.as_ref().map(First::json),
            "orchestration": calls.as_ref().map(calls::Calls::json),
        }));
    } else {
        report_what_is_missing(&history, Newest::ShouldBeClosed, output);
        match &tally.first {
            Some(first) => {
                first.show(&history, output);
                output.talk("Identical", &format!("{} before it", of_decisions(tally.identical)));
                let this = format!("lockkeeper {}", env!("CARGO_PKG_VERSION"));
                if this != header.host {
                    output
                        .warn(&format!("the journal was written by {}, this is {this}", terminal::value(&header.host)));
                }
            }
            None => {
                let unrepeatable = match tally.unrepeatable {
                    0 => String::new(),
                    number => format!("; {} exceeded the time limit of the runner's host", of_decisions(number)),
                };
                let all = tally.decisions - tally.unrepeatable;
                output.data(&format!(
                    "Replayed {}: {} of {all} identical{unrepeatable}",
                    of_decisions(tally.decisions),
                    tally.identical
                ));
            }
        }
    }
    if let Some(calls) = calls.as_ref().filter(|_| !output.is_json()) {
        calls.show(output);
    }
    let differs = tally.first.is_some() || calls.is_some_and(|calls| calls.differ());
    Ok(if differs { Exit::Failed } else { Exit::Done })
}

impl Tally {
    /// One more decision. Behind the first that differs they are only counted: their memory may have become another.
    fn take(&mut self, runner_epoch: u32, recorded: &RecordedDecision, replay: &mut Replay<'_, Module>) {
        self.decisions += 1;
        if self.first.is_some() {
            return;
        }
        if !replay::is_repeatable(recorded) {
            self.unrepeatable += 1;
            return;
        }
        let fields = replay::differences(recorded, &replay.repeat(recorded));
        if fields.is_empty() {
            self.identical += 1;
        } else {
            let (sequence, line, target) = (recorded.sequence, recorded.line, recorded.target.clone());
            self.first = Some(First { runner_epoch, sequence, line, target, fields });
        }
    }
}

impl First {
    fn json(&self) -> Value {
        let field = |of: &Difference| json!({ "field": of.field, "journal": of.recorded, "replay": of.again });
        json!({
            "runner-epoch": self.runner_epoch,
            "sequence": self.sequence,
            "line": self.line,
            "target": self.target,
            "fields": self.fields.iter().map(field).collect::<Vec<_>>(),
        })
    }

    fn show(&self, history: &History, output: &Output) {
        let Self { runner_epoch, sequence, line, target, fields } = self;
        let mut table = Table::with_header(["FIELD", "JOURNAL", "REPLAY"]);
        for Difference { field, recorded, again } in fields {
            let (recorded, again) = side_by_side(recorded, again);
            table.row([(*field).to_owned(), recorded, again]);
        }
        let target = terminal::value(target);
        let journal =
            if history.segments().is_one() { "the journal".to_owned() } else { journal::file_name(*runner_epoch) };
        output.data(&format!("Decision {sequence} about {target} differs (line {line} of {journal})"));
        output.table(&table);
    }
}

/// Two values as people read them: of long ones that part where they begin to differ.
fn side_by_side(one: &Value, other: &Value) -> (String, String) {
    let text = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => terminal::shown(text, usize::MAX),
        value => terminal::shown(&value.to_string(), usize::MAX),
    };
    let (one, other) = (text(one), text(other));
    let same = one.chars().zip(other.chars()).take_while(|(a, b)| a == b).count();
    let from = if one.chars().count().max(other.chars().count()) > MAX_VALUE {
        same.saturating_sub(BEFORE_DIFFERENCE)
    } else {
        0
    };
    let part = |text: &str| {
        let before = if from > 0 { "…" } else { "" };
        let behind = if text.chars().count() > from + MAX_VALUE { "…" } else { "" };
        format!("{before}{}{behind}", text.chars().skip(from).take(MAX_VALUE).collect::<String>())
    };
    (part(&one), part(&other))
}

// ---------------------------------------------------------------------- another policy

/// A decision that another policy takes otherwise.
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct Change {
    runner_epoch: u32,
    sequence: u64,
    line: usize,
    target: String,
    was: Value,
    would_be: Value,
}

fn back_test(journal: Opened, chosen: &Chosen, all: bool, output: &Output) -> Result<Exit, Failure> {
    let Opened { header, mut history } = journal;
    // Its memory is its own, folded over all journals that are here.
    let mut replay = Replay::new(&chosen.policy, &chosen.settings, header.grants());
    let most = if all { usize::MAX } else { MOST_SHOWN };
    let (mut decisions, mut faults, mut changes) = (0, 0, Vec::new());
    let mut kinds: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut runner_epoch = header.runner_epoch;
    loop {
        let bytes = history.bytes();
        let read = history.page().inspect_err(|_| output.end_bar());
        let recorded = match read.map_err(untrusted)? {
            Some(Page::Decision(recorded)) => recorded,
            Some(Page::Segment(next)) => {
                runner_epoch = next.runner_epoch;
                continue;
            }
            Some(Page::Event(_)) => continue,
            None => break,
        };
        let again = replay.repeat(recorded);
        decisions += 1;
        faults += u64::from(again.verdict.is_none());
        if replay::is_changed(recorded, &again) {
            *kinds.entry((word(&recorded.answer), word(&again.answer))).or_default() += 1;
            if changes.len() < most {
                changes.push(change(runner_epoch, recorded, again));
            }
        }
        output.progress(bytes);
    }
    output.end_bar();
    let changed: u64 = kinds.values().sum();
    let left_out = changed - changes.len() as u64;
    if output.is_json() {
        let kind = |((was, would_be), count): (&(String, String), &u64)| json!({ "was": was, "would-be": would_be, "count": count });
        output.json(&json!({
            "run": header.run,
            "journal": history.segments().here[0].path,
            "runner-epochs": of_runner_epochs(&history),
            "missing": history.segments().missing,
            "policy": about(chosen),
            "decisions": decisions,
            "changed": changed,
            "faults": faults,
            "closed": history.is_closed(),
            "kinds": kinds.iter().map(kind).collect::<Vec<_>>(),
            "changes": changes,
            "left-out": left_out,
            "note": AS_RECORDED,
        }));
    } else {
        report_what_is_missing(&history, Newest::ShouldBeClosed, output);
        output.talk("Note", AS_RECORDED);
        if !changes.is_empty() {
            output.table(&listed(&changes));
        }
        if left_out > 0 {
            output.talk("Omitted", &format!("{left_out} more; --all shows them"));
        }
        let kinds: Vec<String> =
            kinds.iter().map(|((was, would_be), count)| format!("{count} {was} → {would_be}")).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
        output.data(&format!("{changed} of {} would change{kinds}", of_decisions(decisions)));
        if faults > 0 {
            output.warn(&format!("the policy failed in {}", of_decisions(faults)));
        }
    }
    Ok(if faults > 0 { Exit::PolicyFault } else { Exit::Done })
}

fn change(runner_epoch: u32, recorded: &RecordedDecision, again: ReplayedDecision) -> Change {
    Change {
        runner_epoch,
        sequence: recorded.sequence,
        line: recorded.line,
        target: recorded.target.clone(),
        was: recorded.answer.clone(),
        would_be: again.answer,
    }
}

fn listed(changes: &[Change]) -> Table {
    let mut table = Table::with_header(["DECISION", "TARGET", "WAS", "WOULD BE", "BECAUSE"]);
    for Change { sequence, target, was, would_be, .. } in changes {
        let why = ["reason", "message"].iter().find_map(|field| would_be[field].as_str()).unwrap_or_default();
        table.row([
            sequence.to_string(),
            terminal::value(target),
            answer_text(was),
            answer_text(would_be),
            terminal::value(why),
        ]);
    }
    table
}

/// An answer's verdict in a word.
fn word(answer: &Value) -> String {
    let verdict = &answer["verdict"];
    let word = verdict.as_str().or_else(|| verdict.as_object()?.keys().next().map(String::as_str));
    word.unwrap_or("fault").to_owned()
}

/// An answer in a few words: `keep 30s (baking)`.
fn answer_text(answer: &Value) -> String {
    let with = match &answer["verdict"]["keep"] {
        Value::Number(ms) => format!(" {}", span(ms.as_u64().unwrap_or(0))),
        _ => String::new(),
    };
    let code = ["code", "fault"].iter().find_map(|field| answer[field].as_str()).unwrap_or_default();
    terminal::line(&format!("{}{with} ({code})", word(answer)))
}

// ---------------------------------------------------------------------- used by both

fn about(chosen: &Chosen) -> Value {
    let Chosen { policy, from, settings, .. } = chosen;
    let manifest = policy.manifest();
    json!({
        "name": manifest.name,
        "version": manifest.version,
        "sha256": policy.digest(),
        "from": from,
        "settings": settings,
    })
}

fn of_decisions(number: u64) -> String {
    of(usize::try_from(number).unwrap_or(usize::MAX), "decision")
}

/// The same, with how the decisions before the error came out.
fn untrusted_after(error: HistoryError, tally: &Tally) -> Failure {
    let Tally { decisions, identical, unrepeatable, first } = tally;
    let failure = untrusted(error);
    let mut more = failure.more.clone().unwrap_or_default();
    more["decisions-before"] = json!(decisions);
    more["identical-before"] = json!(identical);
    more["unrepeatable-before"] = json!(unrepeatable);
    more["difference"] = json!(first.as_ref().map(First::json));
    let before = match (*decisions, first) {
        (0, _) => "no decision comes before it".to_owned(),
        (_, Some(First { sequence, .. })) => format!("before it, decision {sequence} differs already"),
        (1, None) => "the decision before it was replayed and is identical".to_owned(),
        (_, None) => format!("the {} before it were replayed and are identical", of_decisions(*identical)),
    };
    Failure { more: Some(more), ..failure.hint(before) }
}
