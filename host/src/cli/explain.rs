//! `lockkeeper explain`: why a target does not go, or what a run waits for, from its journals.

use serde_json::{Value, json};

use super::args::{ExplainArgs, Global};
use super::history_report::{Newest, nothing_written, of_runner_epochs, report_what_is_missing, untrusted};
use super::load_policy::{OFFLINE_LIMITS, policy_of_run};
use super::runs;
use crate::audit::explain::{self, Answer, BlockedBy, Case, Counterfactual, Nearest, PolicyAnswer, Trail, TrailStatus};
use crate::audit::{History, Page, Segments, Want};
use lockkeeper_coordination::store::Clock;
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::{Output, moment, of, shown};
use lockkeeper_locks::cli::table::Table;
use lockkeeper_locks::terminal;

/// The width of the word that leads each line.
const LABEL: usize = 10;

/// How many names status in a line of the table.
const MOST_NAMED: usize = 6;

/// What is known of the decision that is in the way.
struct Why {
    case: Case,
    /// None: the policy cannot be asked, and why.
    nearest: Result<Nearest, String>,
}

pub(super) fn run(global: &Global, output: &Output, args: &ExplainArgs) -> Result<Exit, Failure> {
    let segments = runs::find(&global.common.state_dir()?, &args.run)?;
    let (trail, history) = followed(&segments)?;
    let now = Clock::System.now_ms();
    match &args.target {
        Some(name) => {
            let answer = explain::of_target(&trail, name, now).ok_or_else(|| no_such_target(&trail, name))?;
            let why = why(global, &segments, &answer)?;
            show_target(output, &history, &trail, &answer, why.as_ref(), now);
        }
        None => {
            let summary = explain::of_run(&trail, now);
            let first = summary.groups.iter().map(|(answer, _)| answer).find(|answer| answer.status.is_open());
            let why = first.map(|answer| why(global, &segments, answer)).transpose()?.flatten();
            show_run(output, &history, &trail, &summary, first, why.as_ref(), now);
        }
    }
    Ok(Exit::Done)
}

/// Reads a run from its beginning to its end.
pub(super) fn followed(segments: &Segments) -> Result<(Trail, History), Failure> {
    let mut history = History::new(segments.clone(), Want::Everything);
    let mut trail: Option<Trail> = None;
    while let Some(page) = history.page().map_err(untrusted)? {
        if let Page::Segment(header) = &page {
            trail.get_or_insert_with(|| Trail::new(header));
        }
        if let Some(trail) = &mut trail {
            trail.follow(&page);
        }
    }
    let mut trail = trail.ok_or_else(|| nothing_written(segments))?;
    trail.close(history.summaries().last().and_then(|summaries| summaries.closing.as_ref()));
    Ok((trail, history))
}

/// What is missing of the run, and when the last line was written: nobody can tell from it whether the runner lives.
fn show_last_time(history: &History, trail: &Trail, output: &Output, now: u64) {
    report_what_is_missing(history, Newest::MayGoOn, output);
    if trail.closing.is_none() {
        let last = moment(trail.last_at, now);
        output.talk("As of", &format!("{last}, the journal's last line: the run is in progress or was killed"));
    }
}

fn no_such_target(trail: &Trail, name: &str) -> Failure {
    let likely = trail.targets().map(|(known, _)| (strsim::jaro_winkler(known, name), known));
    let likely = likely.filter(|(likeness, _)| *likeness > 0.7).max_by(|one, other| one.0.total_cmp(&other.0));
    let hint = match likely {
        Some((_, known)) => format!("did you mean `{}`?", terminal::value(known)),
        None => format!("`lockkeeper explain {}` lists the targets that wait", terminal::value(&trail.header.run)),
    };
    let text = format!("run `{}` has no target `{}`", terminal::value(&trail.header.run), shown(name));
    Failure::message(ErrorKind::BadArgument, text).hint(hint)
}

/// The decision that is in the way, taken again with other facts.
fn why(global: &Global, segments: &Segments, answer: &Answer) -> Result<Option<Why>, Failure> {
    let Some(position) = answer.position else { return Ok(None) };
    let Some(case) = Case::find(segments, position).map_err(untrusted)? else { return Ok(None) };
    let refused = answer.refused.as_ref().filter(|_| answer.blocked_by == BlockedBy::Limit);
    let case = case.refused_with(refused.and_then(|refused| refused.facts.as_deref().cloned()));
    let engine = global.engine_with(OFFLINE_LIMITS)?;
    let nearest = match policy_of_run(&engine, &case.header, &segments.folder) {
        Ok((policy, _)) => Ok(explain::nearest(&policy, &case)),
        Err(failure) => Err(failure.text()),
    };
    Ok(Some(Why { case, nearest }))
}

// ---------------------------------------------------------------------- one target

fn show_target(output: &Output, history: &History, trail: &Trail, answer: &Answer, why: Option<&Why>, now: u64) {
    if output.is_json() {
        let mut object = about_run(history, trail, now);
        extend(&mut object, of_answer(answer));
        extend(&mut object, of_why(answer, why, now));
        return output.json(&object);
    }
    show_last_time(history, trail, output, now);
    output.data(&terminal::line(&answer.sentence));
    let mut lines = Lines::default();
    for more in &answer.more {
        lines.push("", more);
    }
    verdict_lines(&mut lines, trail, answer, now);
    why_lines(&mut lines, answer, why, now);
    output.block(&lines.text());
}

fn verdict_lines(lines: &mut Lines, trail: &Trail, answer: &Answer, now: u64) {
    if let Some(policy_answer) = &answer.policy_answer {
        let PolicyAnswer { verdict, code, reason, sequence, at, .. } = policy_answer;
        let policy = &trail.header.policy;
        lines.push(
            "Verdict",
            &format!("{verdict} ({code}), policy `{policy}`, decision {sequence}, {}", moment(*at, now)),
        );
        lines.push("", &format!("“{reason}”"));
    }
    if let Some(refused) = &answer.refused {
        let about = if refused.target == answer.target { String::new() } else { format!(", about {}", refused.target) };
        lines.push("Refused", &format!("by the hard limit `{}`{about}, {}", refused.limit, moment(refused.at, now)));
        lines.push("", &format!("“{}”", refused.reason));
    }
}

fn why_lines(lines: &mut Lines, answer: &Answer, why: Option<&Why>, now: u64) {
    if let Some(why) = why {
        let about = &why.case.recorded.target;
        for (at, fact) in explain::facts_of(&why.case, now).iter().enumerate() {
            let label = if at == 0 { "Facts" } else { "" };
            lines.push(label, fact);
        }
        if *about != answer.target {
            lines.push("", &format!("as the policy saw them in the decision about {about}"));
        }
    }
    match &answer.earliest {
        Some(earliest) => lines.push("Earliest", &format!("{}: {}", moment(earliest.at, now), earliest.why)),
        None if answer.status.is_open() && answer.blocked_by != BlockedBy::Finished => {
            lines.push("Earliest", "no time: the policy decides again when something changes");
        }
        None => {}
    }
    for (label, text) in counterfactual(answer, why, now) {
        lines.push(label, &text);
    }
    if why.is_none() && answer.status.is_open() && matches!(answer.blocked_by, BlockedBy::Slots | BlockedBy::Turn) {
        lines.push("Unblocked", "unknown: the policy has not decided about this target yet");
    }
}

/// What would have to be different, in sentences.
fn counterfactual(answer: &Answer, why: Option<&Why>, now: u64) -> Vec<(&'static str, String)> {
    let Some(why) = why.filter(|_| answer.status.is_open()) else { return Vec::new() };
    let about = &why.case.recorded.target;
    match &why.nearest {
        Err(text) => vec![("Unblocked", format!("unknown, because the policy cannot be run: {text}"))],
        Ok(Nearest::Found { nearest, also, .. }) => {
            let who = if *about == answer.target { String::new() } else { format!("{about} would be admitted ") };
            let mut lines = vec![("Unblocked", format!("{who}{}", conditional(nearest, now)))];
            lines.extend(also.iter().map(|also| ("", format!("or {}", conditional(also, now)))));
            lines
        }
        Ok(Nearest::Nothing { tried }) => {
            let text = format!(
                "no tried change of one or two of these facts unblocks it ({} evaluated)",
                of(*tried as usize, "time")
            );
            vec![("Unblocked", text)]
        }
        Ok(Nearest::Already) => {
            vec![("Unblocked", format!("{about} would be admitted by these facts: the cause is not among them"))]
        }
        Ok(Nearest::Irreproducible) => {
            let text = "unknown: the policy now answers differently, as `lockkeeper replay` shows".to_owned();
            vec![("Unblocked", text)]
        }
    }
}

fn conditional(found: &Counterfactual, now: u64) -> String {
    let by = if found.verdict == "force" { ", by force" } else { "" };
    match found.at {
        Some(at) => format!("at {}, if everything else stayed the same{by}", moment(at, now)),
        None => format!("if {}{by}", found.change),
    }
}

// ---------------------------------------------------------------------- the run

fn show_run(
    output: &Output,
    history: &History,
    trail: &Trail,
    summary: &explain::Summary,
    first: Option<&Answer>,
    why: Option<&Why>,
    now: u64,
) {
    if output.is_json() {
        let mut object = about_run(history, trail, now);
        let one = |(answer, targets): &(Answer, Vec<String>)| {
            let mut group = of_answer(answer);
            group["targets"] = json!(targets);
            group
        };
        object["sentence"] = json!(summary.sentence);
        object["groups"] = summary.groups.iter().map(one).collect();
        if let Some(first) = first {
            extend(&mut object, of_why(first, why, now));
        }
        return output.json(&object);
    }
    show_last_time(history, trail, output, now);
    output.data(&terminal::line(&format!(
        "Run {} of job `{}`: {}",
        trail.header.run, trail.header.job, summary.sentence
    )));
    if !summary.groups.is_empty() {
        let mut table = Table::with_header(["TARGETS", "STATUS", "REASON"]);
        for (answer, targets) in &summary.groups {
            let names = match targets.len().saturating_sub(MOST_NAMED) {
                0 => targets.join(", "),
                more => format!("{} and {more} more", targets[..MOST_NAMED].join(", ")),
            };
            table.row([terminal::value(&names), status(answer).to_owned(), terminal::value(&answer.reason)]);
        }
        output.table(&table);
    }
    let Some(first) = first else { return };
    let mut lines = Lines::default();
    why_lines(&mut lines, first, why, now);
    output.block(&lines.text());
    output.talk(
        "More",
        &format!("`lockkeeper explain {} {}` explains one target", trail.header.run, terminal::value(&first.target)),
    );
}

/// Whoever has not been asked about waits no less.
fn status(answer: &Answer) -> &'static str {
    match answer.status {
        TrailStatus::NotAsked => "waiting",
        status => status.word(),
    }
}

// ---------------------------------------------------------------------- for programs

fn about_run(history: &History, trail: &Trail, now: u64) -> Value {
    json!({
        "run": trail.header.run,
        "job": trail.header.job,
        "policy": trail.header.policy,
        "now": now,
        "last": trail.last_at,
        "end": trail.closing.as_ref().map(|closing| &closing.end),
        "runner-epochs": of_runner_epochs(history),
        "missing": history.segments().missing,
    })
}

fn of_answer(answer: &Answer) -> Value {
    let Answer { target, status, blocked_by, reason, sentence, more, policy_answer, refused, earliest, .. } = answer;
    let policy_answer = policy_answer.as_ref().map(|policy_answer| {
        json!({
            "runner-epoch": policy_answer.position.runner_epoch,
            "line": policy_answer.position.line,
            "sequence": policy_answer.sequence,
            "at": policy_answer.at,
            "verdict": policy_answer.verdict,
            "code": policy_answer.code,
            "reason": policy_answer.reason,
            "wake-after": policy_answer.wake_after,
        })
    });
    let refused = refused.as_ref().map(|refused| {
        json!({
            "target": refused.target,
            "limit": refused.limit,
            "reason": refused.reason,
            "at": refused.at,
            "until": refused.until,
            "facts": refused.facts,
        })
    });
    json!({
        "target": target,
        "status": status.word(),
        "because": blocked_by.word(),
        "reason": reason,
        "sentence": sentence,
        "more": more,
        "verdict": policy_answer,
        "refused": refused,
        "earliest": earliest.as_ref().map(|earliest| json!({ "at": earliest.at, "why": earliest.why })),
    })
}

fn of_why(answer: &Answer, why: Option<&Why>, now: u64) -> Value {
    let one = |found: &Counterfactual| json!({ "change": found.change, "verdict": found.verdict, "at": found.at });
    let sentences = counterfactual(answer, why, now).into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(", ");
    let facts = why.map(|why| explain::facts_of(&why.case, now));
    let nearest = why.filter(|_| answer.status.is_open()).and_then(|why| why.nearest.as_ref().ok());
    let unblocked_if = match nearest {
        Some(Nearest::Found { nearest, also, tried }) => {
            json!({ "if": one(nearest), "also": also.iter().map(one).collect::<Vec<_>>(), "tried": tried })
        }
        Some(Nearest::Nothing { tried }) => json!({ "if": null, "also": [], "tried": tried }),
        _ => Value::Null,
    };
    json!({
        "asked-about": why.map(|why| &why.case.recorded.target),
        "facts": facts,
        "view": why.map(|why| &why.case.recorded.view),
        "unblocked-if": unblocked_if,
        "unblocked-if-sentence": (!sentences.is_empty()).then_some(sentences),
    })
}

fn extend(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}

/// Lines that begin with what they are about.
#[derive(Default)]
pub(super) struct Lines(Vec<String>);

impl Lines {
    pub(super) fn push(&mut self, label: &str, text: &str) {
        self.0.push(format!("{label:>LABEL$}  {}", terminal::line(text)).trim_end().to_owned());
    }

    pub(super) fn text(&self) -> String {
        self.0.join("\n")
    }
}
