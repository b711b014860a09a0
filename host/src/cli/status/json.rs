//! What `status` says to programs; `docs/reference/status.md` has every member.

use serde_json::{Value, json};

use super::abandoned;
use crate::rollout::model::RecordedStatus;
use crate::rollout::run_state::{HoldReason, RunOverview, RunPhase, RunSummary, VersionedTarget};
use lockkeeper_coordination::recipe::Holder;
use lockkeeper_locks::cli::output::Output;

/// A run in the list.
pub(super) fn summary(summary: &RunSummary, output: &Output) -> Value {
    let record = &summary.stored.record;
    json!({
        "run": summary.stored.name,
        "job": record.job,
        "started": record.started,
        "status": phase(summary),
        "runner": summary.runner.as_ref().map(|runner| &runner.identifier),
        "standing-by": summary.standing_by,
        "paused": summary.paused,
        "end": record.ended,
        "counts": summary.counts,
        "abandoned": abandoned::json(summary, output),
    })
}

/// All of one run.
pub(super) fn run(seen: &RunOverview, all: bool, output: &Output) -> Value {
    let summary = &seen.summary;
    let waves = seen.waves().into_iter().map(|seen| {
        let counts = seen.counts;
        json!({
            "wave": seen.wave.name,
            "finished": counts.total - counts.open(),
            "of": counts.total,
            "status": seen.state.word(),
            "counts": counts,
            "approve": seen.wave.approve,
            "approved": seen.approved,
        })
    });
    let is_shown =
        |status: &RecordedStatus| all || !matches!(status, RecordedStatus::Pending | RecordedStatus::Succeeded { .. });
    let shown = seen.each().enumerate().filter(|(_, (_, (saved, _)))| is_shown(&saved.status));
    json!({
        "at": seen.at,
        "run": summary.stored.name,
        "record": summary.stored.record,
        "status": phase(summary),
        "counts": summary.counts,
        "waves": waves.collect::<Value>(),
        "runner": summary.runner,
        "abandoned": abandoned::json(summary, output),
        "standing-by": summary.standing_by,
        "holders": seen.semaphore.holders.iter().map(|one| holder(seen, one)).collect::<Value>(),
        "queued": seen.semaphore.queued,
        "queue": seen.queue,
        "requests": seen.requests,
        "held": seen.hold_reasons().iter().map(held).collect::<Value>(),
        "run-status": seen.run_status_of_runner(),
        "blockers": seen.blockers,
        "checkpoint": seen.calls.as_ref().map(|known| &known.checkpoint),
        "calls": seen.calls.as_ref().map(|known| &known.called),
        "targets": shown.map(|(index, (name, status))| target(seen, index, name, status)).collect::<Value>(),
    })
}

/// Without what changes by the clock alone.
pub(super) fn without_time(object: &Value) -> Value {
    let mut lasting = object.clone();
    if let Some(object) = lasting.as_object_mut() {
        object.remove("at");
    }
    if let Some(now) = lasting["run-status"].as_object_mut() {
        now.remove("at");
        now.remove("estimated-end");
    }
    lasting
}

fn phase(summary: &RunSummary) -> &'static str {
    match summary.state() {
        RunPhase::Running => "running",
        RunPhase::Abandoned => "abandoned",
        RunPhase::Finished => "finished",
    }
}

/// With where the target of this run stands that holds it; null: it is none of this run's.
fn holder(seen: &RunOverview, holder: &Holder) -> Value {
    let mut object = json!(holder);
    object["record"] = json!(seen.target_of(holder));
    object
}

pub(in crate::cli) fn held(held: &HoldReason) -> Value {
    match held {
        HoldReason::Paused(request) => json!({ "by": "paused", "request": request }),
        HoldReason::BudgetSpent { charged, stop_at, max_failed, wave } => json!({
            "by": "budget-spent",
            "charged": charged,
            "stop-at": stop_at,
            "max-failed": max_failed,
            "wave": wave,
        }),
        HoldReason::Approval(wave) => json!({ "by": "wave-approval", "wave": wave }),
        HoldReason::Unknown(targets) => json!({ "by": "unknown-held", "targets": targets }),
    }
}

fn target(seen: &RunOverview, index: usize, name: &str, (saved, version): &VersionedTarget) -> Value {
    json!({ "target": name, "wave": seen.wave_of(index), "version": version, "record": saved })
}
