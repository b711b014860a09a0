//! One run, as a person reads it.

use super::abandoned;
use crate::cli::explain::Lines;
use crate::policy::types::Ending;
use crate::rollout::model::{Called, Counts, OperatorRequest, RecordedStatus, TargetRecord};
use crate::rollout::run_state::{BlockingHolder, HoldReason, RunOverview, RunPhase, SlotBlockers, WaveState};
use lockkeeper_coordination::recipe::Holder;
use lockkeeper_locks::cli::output::{moment, of};
use lockkeeper_locks::cli::table::Table;
use lockkeeper_locks::terminal;

/// How many targets are listed that did not go well.
const MOST_LISTED: usize = 20;

/// How many calls are listed.
const MOST_CALLS: usize = 8;

/// How many names stand in a line.
const MOST_NAMED: usize = 6;

pub(super) fn text(seen: &RunOverview, all: bool) -> String {
    let parts = [head(seen), waves(seen), holders(seen), calls(seen, all), targets(seen, all)];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn head(seen: &RunOverview) -> String {
    let now = seen.at;
    let summary = &seen.summary;
    let record = &summary.stored.record;
    let mut lines = Lines::default();
    lines.push("Run", &format!("{} of job `{}`, policy `{}`", summary.stored.name, record.job, record.policy));
    lines.push("State", &state(seen));
    lines.push("Started", &moment(record.started, now));
    lines.push("Targets", &counted(&summary.counts, summary.state()));
    if let Some(next) =
        next(&summary.counts, &summary.stored.name, "JOB").filter(|_| summary.state() == RunPhase::Finished)
    {
        lines.push("Next", &next);
    }
    requests(&mut lines, seen);
    waits(&mut lines, seen);
    if let Some(runner_epoch) = record.newest_epoch().filter(|runner_epoch| !runner_epoch.journal.is_empty()) {
        lines.push("Journal", &format!("in {} at {}", runner_epoch.journal, host(&runner_epoch.runner)));
    }
    lines.text()
}

fn state(seen: &RunOverview) -> String {
    let (summary, now) = (&seen.summary, seen.at);
    let others = match summary.standing_by {
        0 => String::new(),
        others => format!("; {}", of(others as usize, "standby runner")),
    };
    match (summary.state(), &summary.stored.record.ended, &summary.runner) {
        (RunPhase::Finished, Some(ended), _) => format!("{}, {}", ended.text(), moment(ended.at, now)),
        (RunPhase::Running, _, Some(runner)) => {
            format!("running on {} since {}{others}", runner.identifier, moment(runner.since_ms, now))
        }
        _ => {
            let since = summary.left.as_ref().map(|left| format!(" since {}", moment(left.since_ms, now)));
            format!("unfinished, no runner{}", since.unwrap_or_default())
        }
    }
}

/// The host of a runner, which is a host and a process.
fn host(runner: &str) -> &str {
    runner.rsplit_once(':').map_or(runner, |(host, _)| host)
}

/// As `12: 5 succeeded, 2 running, 5 not started`.
fn counted(counts: &Counts, state: RunPhase) -> String {
    let running = match state {
        RunPhase::Abandoned => "running when the runner ended (unknown now)",
        RunPhase::Running | RunPhase::Finished => "running",
    };
    let parts = [
        (counts.succeeded, "succeeded"),
        (counts.failed, "failed"),
        (counts.unknown, "unknown"),
        (counts.rolled_back, "rolled back"),
        (counts.skipped, "skipped"),
        (counts.running, running),
        (counts.waiting, "about to start"),
        (counts.pending, "not started"),
    ];
    let parts: Vec<String> =
        parts.iter().filter(|(number, _)| *number > 0).map(|(number, word)| format!("{number} {word}")).collect();
    format!("{}: {}", counts.total, parts.join(", "))
}

fn requests(lines: &mut Lines, seen: &RunOverview) {
    let now = seen.at;
    let requests = &seen.requests;
    // Requests about a finished run have no effect.
    if seen.summary.state() == RunPhase::Finished {
        return;
    }
    if let Some(request) = &requests.paused {
        lines.push("Paused", &said(request, now));
    }
    if let Some(request) = &requests.aborted {
        lines.push("Aborted", &said(request, now));
    }
    for (wave, request) in &requests.approved {
        lines.push("Approved", &format!("wave `{wave}` {}", said(request, now)));
    }
    for (label, about) in [("Retry", &requests.retry), ("Accepted", &requests.accepted)] {
        let in_force = seen.in_force(about);
        if let Some((_, request)) = in_force.last() {
            let names: Vec<&str> = in_force.iter().map(|(name, _)| *name).collect();
            lines.push(label, &format!("{} {}", named(&names), said(request, now)));
        }
    }
}

/// As `by ann@host, 2026-…: the database is slow`.
fn said(request: &OperatorRequest, now: u64) -> String {
    let reason = request.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("by {}, {}{reason}", request.by, moment(request.at, now))
}

fn named(names: &[&str]) -> String {
    match names.len().saturating_sub(MOST_NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..MOST_NAMED].join(", ")),
    }
}

fn waits(lines: &mut Lines, seen: &RunOverview) {
    let now = seen.at;
    if let Some(run_status) = seen.run_status_of_runner() {
        if let Some(reason) = &run_status.stopping {
            lines.push("Stopping", reason);
        }
        if let Some(calls) = &run_status.calls {
            lines.push("Calling", &format!("{}, since {}", calls.call, moment(calls.since, now)));
            for line in seen.blockers.iter().flat_map(|blockers| waiting(blockers, now)) {
                lines.push("", &line);
            }
        }
        if let Some(waits) = &run_status.waits {
            let until = waits.until.map(|until| format!(", until {}", moment(until, now))).unwrap_or_default();
            lines.push("Waiting", &format!("{} ({}){until}", waits.reason, waits.code));
        }
        if let Some(end) = run_status.estimated_end.filter(|_| seen.summary.counts.open() > 0) {
            lines.push("Estimate", &format!("finished about {}", moment(end.max(now), now)));
        }
    }
    if seen.summary.state() != RunPhase::Finished {
        let run = &seen.summary.stored.name;
        for held in seen.hold_reasons() {
            lines.push("Held", &way_out(&held, run));
        }
        for (label, text) in abandoned::commands(&seen.summary) {
            lines.push(label, &text);
        }
    }
}

/// Its place in a queue, and who is in the way.
fn waiting(SlotBlockers { semaphore, place, queued, holders }: &SlotBlockers, now: u64) -> Vec<String> {
    let place = place.map(|place| format!("position {place} of {queued} in the queue"));
    let holder = |BlockingHolder { holder, waits, mutual }: &BlockingHolder| {
        let waits = match waits {
            Some(waits) if *mutual => format!(", which waits for this run: {}", waits.call),
            Some(waits) => format!(", which waits for: {}", waits.call),
            None => String::new(),
        };
        format!("`{semaphore}` is held by {} since {}{waits}", holder.identifier, moment(holder.since_ms, now))
    };
    place.into_iter().chain(holders.iter().map(holder)).collect()
}

/// What the orchestration called, the newest last.
fn calls(seen: &RunOverview, all: bool) -> String {
    let Some(known) = seen.calls.as_ref().filter(|known| !known.called.is_empty() || known.checkpoint.from > 0) else {
        return String::new();
    };
    let most = if all { usize::MAX } else { MOST_CALLS };
    let left_out = known.called.len().saturating_sub(most);
    let mut table = Table::with_header(["CALL", "", "ANSWERED", "ANSWER"]);
    for (number, Called { call, answer, answered, .. }) in
        (known.checkpoint.from + 1..).zip(&known.called).skip(left_out)
    {
        table.row([
            number.to_string(),
            terminal::value(&call.to_string()),
            moment(*answered, seen.at),
            terminal::value(&answer.to_string()),
        ]);
    }
    let before = match (known.checkpoint.from, left_out) {
        (0, 0) => String::new(),
        (from, 0) => format!("{} before the last checkpoint\n", of(from as usize, "call")),
        (_, more) => format!("{} before these; --all shows every call since the last checkpoint\n", of(more, "call")),
    };
    format!("{before}{}", table.text())
}

/// What to do about a finished run some of whose targets are not done: the commands, the mildest first. `run` is the run's or
/// its job's name, `job` the job's file as a shell takes it. `None` if every target is done or was left out.
pub(in crate::cli) fn next(counts: &Counts, run: &str, job: &str) -> Option<String> {
    let failed = counts.failed + counts.rolled_back;
    let which = match (failed, counts.unknown, counts.open()) {
        (0, 0, 0) => return None,
        (0, 0, _) => "--all",
        (0, ..) => "--unknown",
        (_, 0, _) => "--failed",
        _ => "--failed --unknown",
    };
    let first = match counts.unknown {
        0 => "",
        _ => "make sure that no command of an unknown target is still running; then ",
    };
    Some(format!(
        "{first}`lockkeeper retry {run} {which}`, then `lockkeeper run {job}` with the unchanged job, runs these and \
         the remaining targets; `lockkeeper run {job} --again` starts a new run with all targets"
    ))
}

/// What holds a run, and what to do about it.
pub(in crate::cli) fn way_out(held: &HoldReason, run: &str) -> String {
    match held {
        HoldReason::Paused(_) => format!("by a pause: `lockkeeper resume {run}` resumes it"),
        HoldReason::BudgetSpent { charged, stop_at, wave, .. } => {
            let whose = match wave {
                Some(wave) => {
                    format!(
                        "the failure budget of wave `{}`: {charged} failed, it stops at {stop_at}",
                        terminal::value(wave)
                    )
                }
                None => format!("its failure budget: {charged} failed, it stops at {stop_at}"),
            };
            format!(
                "by {whose}; `lockkeeper retry {run} --failed` retries these targets, `lockkeeper resume {run} \
                 --accept` continues without them"
            )
        }
        HoldReason::Approval(wave) => format!(
            "by wave `{wave}`, which needs approval: `lockkeeper approve {run} \
         {wave}` approves it"
        ),
        HoldReason::Unknown(targets) => {
            let names: Vec<&str> = targets.iter().map(String::as_str).collect();
            format!(
                "by the unknown outcome on {}: check there, then `lockkeeper retry {run} --unknown` retries, or \
                 `lockkeeper resume {run} --accept` accepts the outcome",
                named(&names)
            )
        }
    }
}

fn waves(seen: &RunOverview) -> String {
    let waves = seen.waves();
    if waves.is_empty() {
        return String::new();
    }
    let is_over = seen.summary.state() == RunPhase::Finished;
    let mut table = Table::with_header(["WAVE", "TARGETS", "SUCCEEDED", "FAILED", "UNKNOWN", "RUNNING", "STATUS"]);
    for wave in waves {
        let counts = wave.counts;
        let state = match wave.state {
            WaveState::Complete => "complete",
            _ if is_over => "incomplete",
            WaveState::Running => "running",
            WaveState::Next => "next",
            WaveState::NeedsApproval => "needs approval",
            WaveState::Later => "later",
        };
        let number = |number: u32| number.to_string();
        table.row([
            terminal::value(&wave.wave.name),
            number(counts.total),
            number(counts.succeeded),
            number(counts.failed + counts.rolled_back),
            number(counts.unknown),
            number(counts.running),
            state.to_owned(),
        ]);
    }
    table.text()
}

fn holders(seen: &RunOverview) -> String {
    let state = &seen.semaphore;
    let record = &seen.summary.stored.record;
    if state.holders.is_empty() && state.queued == 0 {
        return String::new();
    }
    let queue: Vec<&str> = seen.queue.iter().map(String::as_str).collect();
    let queue = match state.queued {
        0 => String::new(),
        queued => format!(", {queued} waiting: {}", named(&queue)),
    };
    let head = format!(
        "{} of {} of `{}` held{queue}",
        state.holders.len(),
        of(state.slots.unwrap_or(record.slots) as usize, "slot"),
        record.semaphore
    );
    if state.holders.is_empty() {
        return terminal::value(&head);
    }
    let mut table = Table::with_header(["HOLDER", "SINCE", "FENCE", "STATUS"]);
    for holder in &state.holders {
        table.row([
            terminal::value(&holder.identifier),
            moment(holder.since_ms, seen.at),
            holder.fence.to_string(),
            terminal::value(&does(seen, holder)),
        ]);
    }
    format!("{}\n{}", terminal::value(&head), table.text())
}

fn does(seen: &RunOverview, holder: &Holder) -> String {
    match seen.target_of(holder) {
        Some(TargetRecord { at, attempt, status: RecordedStatus::Running, .. })
            if seen.summary.state() == RunPhase::Abandoned =>
        {
            format!("running when the runner ended (unknown now), since {}, attempt {attempt}", moment(*at, seen.at))
        }
        Some(saved) => command_kind(saved, seen.at),
        None => "another run or caller".to_owned(),
    }
}

/// What a target does that holds a slot.
fn command_kind(saved: &TargetRecord, now: u64) -> String {
    let TargetRecord { at, attempt, status, .. } = saved;
    let since = moment(*at, now);
    match status {
        RecordedStatus::Leased => "about to start".to_owned(),
        RecordedStatus::RollBackLeased { .. } => "about to be rolled back".to_owned(),
        RecordedStatus::Running => format!("running since {since}, attempt {attempt}"),
        RecordedStatus::RollingBack { .. } => format!("rolling back since {since}"),
        RecordedStatus::ActionEnded { ending: Ending::Succeeded, .. } => {
            format!("succeeded {since}; its runner's session ended then")
        }
        RecordedStatus::ActionEnded { .. } => format!("failed {since}; its runner's session ended then"),
        RecordedStatus::KeepingSlot { ending, until, .. } => {
            let how = if *ending == Ending::Succeeded { "succeeded" } else { "failed" };
            format!("{how}; keeps its slot until {}", moment(*until, now))
        }
        RecordedStatus::Retrying { until, .. } => {
            format!("attempt {attempt} failed; next attempt {}", moment(*until, now))
        }
        status => format!("{}; its slot is being released", status.word()),
    }
}

fn targets(seen: &RunOverview, all: bool) -> String {
    let shown: Vec<(&str, &TargetRecord)> = seen
        .each()
        .map(|(name, (saved, _))| (name, saved))
        .filter(|(_, saved)| all || saved.status.reason().is_some())
        .collect();
    if shown.is_empty() {
        return String::new();
    }
    let most = if all { usize::MAX } else { MOST_LISTED };
    let mut table = Table::with_header(["TARGET", "STATUS", "ATTEMPTS", "SINCE", "REASON"]);
    for (name, saved) in shown.iter().take(most) {
        let touched = saved.at > 0;
        table.row([
            terminal::value(name),
            saved.status.word().to_owned(),
            if touched { saved.attempt.to_string() } else { String::new() },
            if touched { moment(saved.at, seen.at) } else { String::new() },
            terminal::value(&saved.status.account().unwrap_or_default()),
        ]);
    }
    let more = match shown.len().saturating_sub(most) {
        0 => String::new(),
        more => format!("\n{}; --all shows every target", of(more, "more target")),
    };
    format!("{}{more}", table.text())
}
