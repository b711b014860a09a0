//! The contract's records, of JSON that was read already: nothing in it can be missing.

use serde_json::Value;

use crate::{Cause, Ending, Event, EventKind, Label, Lease, Member, Outcome, Party, Progress, Semaphore, Target, View};

pub(crate) fn text(of: &Value, key: &str) -> String {
    of[key].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn big(of: &Value, key: &str) -> u64 {
    of[key].as_u64().unwrap_or_default()
}

fn count(of: &Value, key: &str) -> u32 {
    u32::try_from(big(of, key)).unwrap_or(u32::MAX)
}

fn flag(of: &Value, key: &str) -> bool {
    of[key].as_bool().unwrap_or_default()
}

pub(crate) fn each<T>(of: &Value, key: &str, read: impl Fn(&Value) -> T) -> Vec<T> {
    of[key].as_array().into_iter().flatten().map(read).collect()
}

pub(crate) fn view(of: &Value) -> View {
    let progress = &of["progress"];
    View {
        sequence: big(of, "sequence"),
        now: big(of, "now"),
        seed: big(of, "seed"),
        cause: cause(&of["cause"]),
        target: target(&of["target"]),
        semaphore: semaphore(&of["semaphore"]),
        party: (!of["party"].is_null()).then(|| party(&of["party"])),
        other_semaphores: each(of, "other-semaphores", semaphore),
        other_parties: each(of, "other-parties", party),
        progress: Progress {
            job: text(progress, "job"),
            run: text(progress, "run"),
            started: big(progress, "started"),
            total: count(progress, "total"),
            pending: count(progress, "pending"),
            waiting: count(progress, "waiting"),
            running: count(progress, "running"),
            succeeded: count(progress, "succeeded"),
            failed: count(progress, "failed"),
            rolled_back: count(progress, "rolled-back"),
            skipped: count(progress, "skipped"),
            unknown: count(progress, "unknown"),
            budget_left: progress["budget-left"].as_u64().map(|left| u32::try_from(left).unwrap_or(u32::MAX)),
        },
        events: each(of, "events", |event| Event {
            at: big(event, "at"),
            target: text(event, "target"),
            kind: event_kind(event["kind"].as_str().unwrap_or_default()),
            detail: text(event, "detail"),
        }),
    }
}

pub(crate) fn target(of: &Value) -> Target {
    Target {
        name: text(of, "name"),
        labels: each(of, "labels", |label| Label { key: text(label, "key"), value: text(label, "value") }),
        wave: text(of, "wave"),
        attempt: count(of, "attempt"),
        waiting_since: big(of, "waiting-since"),
    }
}

pub(crate) fn semaphore(of: &Value) -> Semaphore {
    Semaphore {
        path: text(of, "path"),
        slots: count(of, "slots"),
        leases: each(of, "leases", |lease| Lease {
            identifier: text(lease, "identifier"),
            fence: big(lease, "fence"),
            since: big(lease, "since"),
            ephemeral: flag(lease, "ephemeral"),
            alive: lease["alive"].as_bool(),
            mine: flag(lease, "mine"),
        }),
        queued: count(of, "queued"),
    }
}

pub(crate) fn party(of: &Value) -> Party {
    let member = |member: &Value| Member { identifier: text(member, "identifier"), since: big(member, "since") };
    Party { path: text(of, "path"), min_members: count(of, "min-members"), members: each(of, "members", member) }
}

fn cause(of: &Value) -> Cause {
    let told = |word: &str| of[word].as_str().map(str::to_owned);
    match of.as_str() {
        Some("leases-changed") => Cause::LeasesChanged,
        Some("members-changed") => Cause::MembersChanged,
        Some("progressed") => Cause::Progressed,
        Some("woken") => Cause::Woken,
        Some("granted") => Cause::Granted,
        _ => told("refused")
            .map(Cause::Refused)
            .or_else(|| told("operator").map(Cause::Operator))
            .unwrap_or(Cause::First),
    }
}

fn event_kind(word: &str) -> EventKind {
    match word {
        "forced" => EventKind::Forced,
        "started" => EventKind::Started,
        "succeeded" => EventKind::Succeeded,
        "failed" => EventKind::Failed,
        "unknown" => EventKind::Unknown,
        "released" => EventKind::Released,
        "rolled-back" => EventKind::RolledBack,
        "skipped" => EventKind::Skipped,
        "lease-lost" => EventKind::LeaseLost,
        _ => EventKind::Leased,
    }
}

pub(crate) fn outcome(of: &Value) -> Outcome {
    let ending = match of["ending"].as_str() {
        Some("failed") => Ending::Failed,
        Some("timed-out") => Ending::TimedOut,
        Some("lease-lost") => Ending::LeaseLost,
        Some("unknown") => Ending::Unknown,
        _ => Ending::Succeeded,
    };
    let exit_code = of["exit-code"].as_i64().and_then(|code| i32::try_from(code).ok());
    Outcome { ending, exit_code, took: big(of, "took"), attempt: count(of, "attempt") }
}
