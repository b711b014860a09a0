//! `lockkeeper replay`: every decision of a run once more, with its own policy or with another.

mod calls;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::exit::{ErrorKind, Exit, Failure};
use super::output::{Output, of, span};
use super::{Global, ReplayArgs, policy, runs};
use crate::audit::replay::{self, Difference, Replay, ReplayedDecision};
use crate::audit::{History, HistoryError, Page, SegmentSummary, Segments, Want};
use crate::cli::table::Table;
use crate::policy::{Engine, Limits, Module, PolicyError, standard_policies};
use crate::rollout::journal::{self, Header, JournalError, RecordedDecision};
use crate::terminal;

/// Fuel ends a decision the same everywhere; the clock must not end one here that it did not end there.
pub(super) const PATIENT: Limits = Limits { time: Duration::from_secs(60), ..Limits::DEFAULT };

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
    let segments = runs::find(&global.state_dir()?, &args.run)?;
    let mut history = History::new(segments.clone(), Want::Decisions);
    let header = match history.page().map_err(|error| distrusted(error, None))? {
        Some(Page::Segment(header)) => header.clone(),
        _ => return Err(nothing_written(&segments)),
    };
    let engine = global.engine_with(PATIENT)?;
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
        &format!("{} {}, {}, sha256 {}", manifest.name, manifest.version, chosen.from, chosen.policy.digest()),
    );
    let long = segments.here.iter().map(|runner_epoch| runner_epoch.path.metadata().map_or(0, |file| file.len())).sum();
    let output = if long > LONG { &output.clone().with_byte_bar("Replaying", long) } else { output };
    let journal = Opened { header, history };
    match chosen.is_own {
        true => again(journal, &engine, chosen, &segments, output),
        false => back_test(journal, &chosen, args.all, output),
    }
}

/// What another orchestration would have called.
fn other_calls(segments: &Segments, engine: &Engine, file: &Path, output: &Output) -> Result<Exit, Failure> {
    let Some(calls) = calls::again(segments, engine, Some(file))? else {
        return Err(Failure::message(ErrorKind::BadArgument, "the run has no orchestration")
            .hint("omit `--orchestration` to replay the policy's decisions"));
    };
    match output.is_json() {
        true => output.json(&calls.json()),
        false => calls.show(output),
    }
    Ok(if calls.differ() { Exit::Failed } else { Exit::Done })
}

/// A run's journals, the first line of the first of which was read.
struct Opened {
    header: Header,
    history: History,
}

/// No stint has a line.
pub(super) fn nothing_written(segments: &Segments) -> Failure {
    Failure::message(ErrorKind::BadJournal, format!("the journals in `{}` are empty", segments.folder.display()))
}

// ---------------------------------------------------------------------- which policy

fn choose(engine: &Engine, args: &ReplayArgs, header: &Header, folder: &Path) -> Result<Chosen, Failure> {
    let (policy, from) = match &args.policy {
        Some(named) => (policy::named(engine, named)?, "as given".to_owned()),
        None => own(engine, header, folder)?,
    };
    let given = args.settings.as_deref().map(policy::settings_of).transpose()?;
    let is_own = given.is_none() && policy.digest() == header.policy_digest;
    let whose = if given.is_some() { "these settings" } else { "the run's settings" };
    let settings = given.unwrap_or_else(|| header.settings.clone());
    if !is_own {
        policy::accepts(&policy, &settings, whose)?;
    }
    Ok(Chosen { policy, from, settings, is_own })
}

/// The policy that the run asked.
pub(super) fn own(engine: &Engine, header: &Header, folder: &Path) -> Result<(Module, String), Failure> {
    let wanted = &header.policy_digest;
    let standard = standard_policies();
    if let Some(same) = standard.iter().find(|policy| journal::digest(policy.wasm) == *wanted) {
        return Ok((engine.load(same.wasm)?, "of this program".to_owned()));
    }
    let kept = runs::policy_file(folder, wanted);
    // What a journal says is no path.
    if wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) && kept.exists() {
        return match engine.load_file(&kept, Some(wanted)) {
            Ok(policy) => Ok((policy, "saved with the run".to_owned())),
            Err(PolicyError::WrongDigest { found, .. }) => {
                let text = format!(
                    "the policy saved with the run was changed: the SHA-256 of `{}` is {found}, the journal has {wanted}",
                    kept.display()
                );
                Err(Failure::message(ErrorKind::BadJournal, text).hint("select an unchanged copy with `--policy FILE`"))
            }
            Err(error) => Err(error.into()),
        };
    }
    let ours = standard.iter().find(|policy| policy.name == header.policy);
    let ours = ours.map_or(String::new(), |ours| format!(", and this program's is {}", journal::digest(ours.wasm)));
    let text = format!(
        "the run's policy is missing: the SHA-256 of its `{}` is {}{ours}",
        terminal::value(&header.policy),
        terminal::value(wanted)
    );
    Err(Failure::message(ErrorKind::BadArgument, text)
        .hint("select its file with `--policy FILE`; `--policy NAME` shows what a standard policy would have decided"))
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
                    let (policy, from) = own(engine, &next, &history.segments().folder)?;
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
        return Err(distrusted(error, Some(&tally)));
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
        say_what_is_missing(&history, Newest::ShouldBeClosed, output);
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
    // Its memory is its own, folded over all stints that are here.
    let mut replay = Replay::new(&chosen.policy, &chosen.settings, header.grants());
    let most = if all { usize::MAX } else { MOST_SHOWN };
    let (mut decisions, mut faults, mut changes) = (0, 0, Vec::new());
    let mut kinds: BTreeMap<(String, String), u64> = BTreeMap::new();
    let mut runner_epoch = header.runner_epoch;
    loop {
        let bytes = history.bytes();
        let read = history.page().inspect_err(|_| output.end_bar());
        let recorded = match read.map_err(|error| distrusted(error, None))? {
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
        say_what_is_missing(&history, Newest::ShouldBeClosed, output);
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

// ---------------------------------------------------------------------- said by both

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

/// Each stint, for programs.
pub(super) fn of_runner_epochs(history: &History) -> Vec<Value> {
    let one = |summary: &SegmentSummary| {
        json!({
            "runner-epoch": summary.runner_epoch,
            "journal": summary.path,
            "decisions": summary.decisions,
            "end": summary.closing.as_ref().map(|closing| &closing.end),
            "torn": summary.incomplete_line,
        })
    };
    history.summaries().iter().map(one).collect()
}

/// What the reader makes of a newest stint without a closing line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Newest {
    ShouldBeClosed,
    MayGoOn,
}

/// What of a run cannot be read, once all else was.
pub(super) fn say_what_is_missing(history: &History, newest: Newest, output: &Output) {
    for runner_epoch in &history.segments().missing {
        output.warn(&format!(
            "the journal of runner epoch {runner_epoch} is missing: it ran on another host, or the \
         journal was deleted"
        ));
    }
    let last = history.summaries().len().saturating_sub(1);
    for (at, summary) in history.summaries().iter().enumerate() {
        let runner_epoch = if history.segments().is_one() {
            "the journal".to_owned()
        } else {
            format!("the journal of runner epoch {}", summary.runner_epoch)
        };
        match (summary.incomplete_line, &summary.header) {
            (Some(_), None) => output.warn(&format!("{runner_epoch} is empty: its runner ended at its start")),
            (Some(line), Some(_)) => output.warn(&format!(
                "{runner_epoch} ends in the middle of line {line}: its runner was killed there, it is being written, \
                 or the file was truncated"
            )),
            (None, _) if summary.closing.is_some() || (at == last && newest == Newest::MayGoOn) => {}
            (None, _) if at < last => {
                output.talk("Note", &format!("{runner_epoch} has no closing line: its runner was killed, and another \
                 resumed the run"));
            }
            (None, _) => output.warn(&format!(
                "{runner_epoch} has no closing line: the run is in progress, was killed, or lines are missing at the end"
            )),
        }
    }
}

/// A journal that cannot be believed.
pub(super) fn distrusted_history(error: HistoryError) -> Failure {
    distrusted(error, None)
}

/// What is wrong with a journal, and what could be said before.
fn distrusted(error: HistoryError, tally: Option<&Tally>) -> Failure {
    let line = error.source.line();
    let kind = match &error.source {
        JournalError::Unreadable(_) => ErrorKind::Io,
        _ => ErrorKind::BadJournal,
    };
    let mut more = json!({ "journal": error.path, "line": line });
    let mut failure = Failure::new(kind, error);
    if let Some(Tally { decisions, identical, unrepeatable, first }) = tally {
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
        failure = failure.hint(before);
    }
    Failure { more: Some(more), ..failure }
}
