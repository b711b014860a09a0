//! What `status` says to programs; `docs/rollouts.md` has every member.

use serde_json::{Value, json};

use super::left;
use crate::cli::output::Output;
use crate::recipe::Holder;
use crate::rollout::ledger::{Held, RunState, Seen, Standing, StandingOf, Summary};

/// A run in the list.
pub(super) fn summary(summary: &Summary, output: &Output) -> Value {
    let record = &summary.kept.record;
    json!({
        "run": summary.kept.name,
        "job": record.job,
        "started": record.started,
        "state": state(summary),
        "runner": summary.runner.as_ref().map(|runner| &runner.identifier),
        "standing-by": summary.standing_by,
        "paused": summary.paused,
        "end": record.ended,
        "counts": summary.counts,
        "left": left::json(summary, output),
    })
}

/// All of one run.
pub(super) fn run(seen: &Seen, all: bool, output: &Output) -> Value {
    let summary = &seen.summary;
    let waves = seen.waves().into_iter().map(|seen| {
        let counts = seen.counts;
        json!({
            "wave": seen.wave.name,
            "done": counts.total - counts.open(),
            "of": counts.total,
            "state": seen.state.word(),
            "counts": counts,
            "approve": seen.wave.approve,
            "approved": seen.approved,
        })
    });
    let is_shown = |standing: &Standing| all || !matches!(standing, Standing::Pending | Standing::Done { .. });
    let shown = seen.each().enumerate().filter(|(_, (_, (saved, _)))| is_shown(&saved.standing));
    json!({
        "at": seen.at,
        "run": summary.kept.name,
        "record": summary.kept.record,
        "state": state(summary),
        "counts": summary.counts,
        "waves": waves.collect::<Value>(),
        "runner": summary.runner,
        "left": left::json(summary, output),
        "standing-by": summary.standing_by,
        "holders": seen.semaphore.holders.iter().map(|one| holder(seen, one)).collect::<Value>(),
        "queued": seen.semaphore.queued,
        "queue": seen.queue,
        "wishes": seen.wishes,
        "held": seen.held().iter().map(held).collect::<Value>(),
        "now": seen.outlook_of_runner(),
        "waits-for": seen.waits_for,
        "checkpoint": seen.calls.as_ref().map(|known| &known.checkpoint),
        "calls": seen.calls.as_ref().map(|known| &known.called),
        "targets": shown.map(|(index, (name, standing))| target(seen, index, name, standing)).collect::<Value>(),
    })
}

/// Without what changes by the clock alone.
pub(super) fn without_time(object: &Value) -> Value {
    let mut lasting = object.clone();
    if let Some(object) = lasting.as_object_mut() {
        object.remove("at");
    }
    if let Some(now) = lasting["now"].as_object_mut() {
        now.remove("at");
        now.remove("estimated-end");
    }
    lasting
}

fn state(summary: &Summary) -> &'static str {
    match summary.state() {
        RunState::Running => "running",
        RunState::Left => "left",
        RunState::Finished => "finished",
    }
}

/// With where the target of this run stands that holds it; null: it is none of this run's.
fn holder(seen: &Seen, holder: &Holder) -> Value {
    let mut object = json!(holder);
    object["standing"] = json!(seen.target_of(holder));
    object
}

pub(in crate::cli) fn held(held: &Held) -> Value {
    match held {
        Held::Paused(wish) => json!({ "by": "paused", "wish": wish }),
        Held::BudgetSpent { charged, stop_at, max_failed, wave } => json!({
            "by": "budget-spent",
            "charged": charged,
            "stop-at": stop_at,
            "max-failed": max_failed,
            "wave": wave,
        }),
        Held::Approval(wave) => json!({ "by": "wave-approval", "wave": wave }),
        Held::Unknown(targets) => json!({ "by": "unknown-held", "targets": targets }),
    }
}

fn target(seen: &Seen, index: usize, name: &str, (saved, version): &StandingOf) -> Value {
    json!({ "target": name, "wave": seen.wave_of(index), "version": version, "standing": saved })
}
