//! `lockkeeper policy decide`: one decision, to look at.

use std::io::Read;
use std::path::Path;

use serde_json::{Value, json};

use super::scenario;
use crate::audit::{History, Page, Want};
use crate::author::{Question, Said, case_text, decide, read_view, sample_view};
use crate::cli::args::{DecideArgs, EndingArg, Global};
use crate::cli::history_report::untrusted;
use crate::cli::load_policy::{OFFLINE_LIMITS, accepts, either, settings_of};
use crate::cli::runs;
use crate::policy::types::{Ending, Outcome, View};
use crate::policy::{Either, Limits};
use lockkeeper_coordination::files::{self, MAX_TEXT_BYTES};
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::{Output, shown, span};
use lockkeeper_locks::cli::problems::problems_failure;
use lockkeeper_locks::cli::table::Table;
use lockkeeper_locks::terminal;

pub(super) fn run(global: &Global, output: &Output, args: &DecideArgs) -> Result<Exit, Failure> {
    let engine = global.engine_with(OFFLINE_LIMITS)?;
    let policy = match either(&engine, &args.policy)? {
        Either::Policy(policy) => policy,
        Either::Orchestration(orchestration) => return scenario::decide(&orchestration, args, output),
    };
    let given = args.settings.as_deref().map(settings_of).transpose()?;
    let mut question = match &args.from {
        Some(place) => recorded(global, place)?,
        None => {
            let view = match &args.view {
                Some(file) => view_of(file)?,
                None => {
                    output.talk("View", "the sample that `lockkeeper policy views` shows; --view gives another");
                    sample_view()
                }
            };
            Question { settings: json!({}), view, outcome: None, memory: Vec::new() }
        }
    };
    if let Some(given) = given {
        question.settings = given;
    }
    if let Some(ending) = args.ending {
        question.outcome = Some(outcome(ending));
    }
    if let Some(memory) = &args.memory {
        question.memory = memory.clone().into_bytes();
    }
    accepts(
        &policy,
        &question.settings,
        if args.from.is_some() && args.settings.is_none() { "the run's settings" } else { "these settings" },
    )?;
    let said = decide(&policy, &question);
    if let Some(name) = &args.case {
        output.source(&case_text(name, &question, said.answer.as_ref().ok()));
        return match said.error {
            Some(error) => Err(error.into()),
            None => Ok(Exit::Done),
        };
    }
    if output.is_json() {
        output.json(&in_json(&said, &question))
    } else {
        show(&said, &question.view, policy.limits(), output)
    }
    match said.error {
        Some(error) => Err(error.into()),
        None => Ok(Exit::Done),
    }
}

/// A file with a view; `-` is stdin.
fn view_of(file: &Path) -> Result<View, Failure> {
    let read = if file.as_os_str() == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        files::read_to_string(file, MAX_TEXT_BYTES)
    };
    let name = if file.as_os_str() == "-" { "<stdin>".to_owned() } else { file.display().to_string() };
    let text = read.map_err(|error| {
        Failure::message(ErrorKind::BadArgument, format!("cannot read the view `{name}`: {error}"))
            .hint("`lockkeeper policy views > view.toml` makes one to start from")
    })?;
    read_view(&name, &text).map_err(|problems| Failure { kind: ErrorKind::BadArgument, ..problems_failure(&problems) })
}

/// What a run's policy was asked, by the run and the decision's place in its journal.
fn recorded(global: &Global, place: &str) -> Result<Question, Failure> {
    let bad = |text: String| {
        Failure::message(ErrorKind::BadArgument, text)
            .hint("say the run and the decision, such as `latest#17`; `lockkeeper replay` and the journal number them")
    };
    let Some((run, sequence)) = place.rsplit_once('#') else {
        return Err(bad(format!("`{}` names no decision", shown(place))));
    };
    let sequence: u64 =
        sequence.parse().map_err(|_| bad(format!("`{}` is no number of a decision", shown(sequence))))?;
    let runner_epochs = runs::find(&global.common.state_dir()?, run)?;
    let mut history = History::new(runner_epochs.clone(), Want::Decisions);
    let (mut memory, mut settings, mut last) = (Vec::new(), Value::Null, None);
    while let Some(page) = history.page().map_err(untrusted)? {
        match page {
            Page::Segment(header) => (memory, settings) = (header.memory.clone(), header.settings.clone()),
            Page::Decision(recorded) if recorded.sequence == sequence => {
                let (view, outcome) = (recorded.view.clone(), recorded.outcome);
                return Ok(Question { settings, view, outcome, memory });
            }
            Page::Decision(recorded) => {
                last = Some(recorded.sequence);
                if let Some(left) = &recorded.memory {
                    memory.clone_from(left);
                }
            }
            Page::Event(_) => {}
        }
    }
    let text = format!("the run `{}` has no decision {sequence}", shown(run));
    Err(Failure::message(ErrorKind::BadArgument, text).hint(match last {
        Some(last) => format!("its last is {last}"),
        None => "it took no decision".to_owned(),
    }))
}

fn outcome(ending: EndingArg) -> Outcome {
    let (ending, exit_code) = match ending {
        EndingArg::Succeeded => (Ending::Succeeded, Some(0)),
        EndingArg::Failed => (Ending::Failed, Some(1)),
        EndingArg::TimedOut => (Ending::TimedOut, None),
        EndingArg::LeaseLost => (Ending::LeaseLost, None),
        EndingArg::Unknown => (Ending::Unknown, None),
    };
    Outcome { ending, exit_code, took: 1_000, attempt: 1 }
}

fn in_json(said: &Said, question: &Question) -> Value {
    let answer = match &said.answer {
        Ok(answer) => json!({
            "verdict": answer.verdict,
            "breaking": answer.breaking,
            "keep": answer.keep,
            "code": answer.code,
            "reason": answer.reason,
            "wake-after": answer.wake_after,
            "memory": String::from_utf8_lossy(&answer.memory),
        }),
        Err(fault) => json!({ "fault": fault.kind, "message": fault.message }),
    };
    json!({
        "target": question.view.target.name,
        "question": if question.outcome.is_some() { "settle" } else { "admit" },
        "answer": answer,
        "fuel": said.fuel,
        "took-us": said.took.as_micros(),
        "instance-memory": said.memory,
        "said": said.trace,
    })
}

fn show(said: &Said, view: &View, limits: Limits, output: &Output) {
    let mut table = Table::new();
    let mut row = |key: &str, value: String| {
        table.row([key.to_owned(), value]);
    };
    row("target", terminal::value(&view.target.name));
    match &said.answer {
        Ok(answer) => {
            let more = match (&answer.breaking, answer.keep) {
                (Some(fences), _) if fences.is_empty() => ", one above the limit".to_owned(),
                (Some(fences), _) => format!(", breaking the leases with the fences {fences:?}"),
                (None, Some(keep)) => format!(" for {}", span(keep)),
                (None, None) => String::new(),
            };
            row("verdict", format!("{}{more}", answer.verdict));
            row("code", answer.code.clone());
            row("reason", answer.reason.clone());
            if let Some(wake) = answer.wake_after {
                row("asked again", format!("after {}, or when something changes", span(wake)));
            } else if answer.verdict == "wait" || answer.verdict == "hold" {
                row("asked again", "when something changes".to_owned());
            }
            if !answer.memory.is_empty() {
                row("remembers", terminal::value(&String::from_utf8_lossy(&answer.memory)));
            }
        }
        Err(fault) => row("fault", format!("{}: {}", fault.kind, fault.message)),
    }
    row("fuel", format!("{} of {}", said.fuel, limits.fuel));
    row("time", format!("{:.1} µs", said.took.as_secs_f64() * 1e6));
    row("memory", format!("{} KiB of {} KiB", said.memory / 1024, limits.memory / 1024));
    for line in &said.trace {
        row(line.level.as_str(), line.message.clone());
    }
    output.table(&table);
}
