//! What there is to say of a run that no runner drives: since when, the slots that it holds, and what to do.

use serde_json::{Value, json};

use crate::rollout::run_state::{AbandonedRun, HeldSlot, RunRecord, RunSummary};
use lockkeeper_locks::cli::invocation::quoted;
use lockkeeper_locks::cli::output::{Output, moment};
use lockkeeper_locks::terminal;

/// How many slots of one run are named for a person.
const MOST_NAMED: usize = 20;

/// The run as a paragraph; `None` if a runner drives it, or it is finished.
pub(super) fn text(summary: &RunSummary, now: u64) -> Option<String> {
    let AbandonedRun { since_ms, slots } = summary.left.as_ref()?;
    let (run, record) = (&summary.stored.name, &summary.stored.record);
    let mut lines =
        vec![("Abandoned", format!("run `{run}` of job `{}`: no runner since {}", record.job, moment(*since_ms, now)))];
    lines.extend(slots.iter().take(MOST_NAMED).map(|one| ("Holds", slot(one, now))));
    if let Some(more @ 1..) = slots.len().checked_sub(MOST_NAMED) {
        lines.push(("", format!("{more} more: `lockkeeper status {run}` lists them")));
    }
    lines.extend(commands(summary));
    Some(
        lines
            .iter()
            .map(|(label, text)| format!("{label:>10}  {}", terminal::line(text)))
            .collect::<Vec<_>>()
            .join("\n"),
    )
}

/// What resumes such a run, and what gives its slots back; nothing if a runner drives it, or it is finished.
pub(super) fn commands(summary: &RunSummary) -> Vec<(&'static str, String)> {
    let Some(AbandonedRun { slots, .. }) = &summary.left else { return Vec::new() };
    let (command, note) = resume(&summary.stored.record);
    let given_back =
        if slots.is_empty() { "aborts it; it holds no slot" } else { "aborts it and releases these slots" };
    vec![
        ("Resume", format!("`{command}`{note}")),
        ("Release", format!("`{}` {given_back}", release(&summary.stored.name))),
    ]
}

/// A slot in a sentence.
pub(in crate::cli) fn slot(slot: &HeldSlot, now: u64) -> String {
    let HeldSlot { semaphore, target, fence, since, may_run } = slot;
    let whose = target.as_ref().map_or("the orchestration".to_owned(), |target| format!("`{target}`"));
    let running = if *may_run { "; its command may still be running" } else { "" };
    format!("a slot of `{semaphore}` for {whose}, since {}, fence {fence}{running}", moment(*since, now))
}

/// The same for programs; null if a runner drives the run, or it is finished.
pub(super) fn json(summary: &RunSummary, output: &Output) -> Value {
    let Some(AbandonedRun { since_ms, slots }) = &summary.left else { return Value::Null };
    let command = |command: &str| {
        let completed = output.completed(&format!("`{command}`"));
        completed.trim_matches('`').to_owned()
    };
    json!({
        "since": since_ms,
        "slots": slots,
        "resume": command(&resume(&summary.stored.record).0),
        "release": command(&release(&summary.stored.name)),
    })
}

fn release(run: &str) -> String {
    format!("lockkeeper abort {run} --release")
}

/// The command that resumes a run, and where its job's file is if that is not on this host.
fn resume(record: &RunRecord) -> (String, String) {
    let last = record
        .runner_epochs
        .iter()
        .rev()
        .find_map(|runner_epoch| Some((&runner_epoch.runner, runner_epoch.job_file.as_ref()?)));
    let here = gethostname::gethostname();
    match last.map(|(runner, file)| (runner.rsplit_once(':').map_or(runner.as_str(), |(host, _)| host), file)) {
        Some((host, file)) if host == here.to_string_lossy() => {
            (format!("lockkeeper run {}", quoted(file)), String::new())
        }
        Some((host, file)) => {
            ("lockkeeper run JOB".to_owned(), format!(" with its job file, which was `{file}` on {host}"))
        }
        None => ("lockkeeper run JOB".to_owned(), " with its job file".to_owned()),
    }
}
