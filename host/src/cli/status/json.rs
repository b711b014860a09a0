//! What `status` says to programs; `docs/rollouts.md` has every member.

use serde_json::{Value, json};

use crate::recipe::Holder;
use crate::rollout::ledger::{Held, RunState, Seen, StandingOf, Summary};

/// A run in the list.
pub(super) fn summary(summary: &Summary) -> Value {
    let record = &summary.kept.record;
    json!({
        "run": summary.kept.name,
        "job": record.job,
        "state": state(summary),
        "runner": runner(summary),
        "standing-by": summary.standing_by,
        "paused": summary.paused,
        "ended": record.ended,
        "counts": summary.counts,
        "started": record.started,
    })
}

/// All of one run.
pub(super) fn run(seen: &Seen, all: bool) -> Value {
    let record = &seen.summary.kept.record;
    let outlook = seen.outlook_of_runner();
    let waves = seen.waves().into_iter().map(|wave| {
        json!({
            "wave": wave.wave.name,
            "state": wave.state.word(),
            "counts": wave.counts,
            "approve": wave.wave.approve,
            "approved": wave.approved,
        })
    });
    let wishes = &seen.wishes;
    let about = |about| {
        let one = |(target, wish)| json!({ "target": target, "wish": wish });
        seen.in_force(about).into_iter().map(one).collect::<Value>()
    };
    let shown = seen.each().enumerate().filter(|(_, (_, (saved, _)))| all || saved.standing.reason().is_some());
    let mut object = summary(&seen.summary);
    let more = json!({
        "at": seen.at,
        "policy": record.policy,
        "stint": record.stint,
        "journal": record.newest_stint().map(|stint| json!({ "runner": stint.runner, "folder": stint.journal })),
        "waves": waves.collect::<Value>(),
        "wishes": {
            "paused": wishes.paused,
            "aborted": wishes.aborted,
            "approved": wishes.approved,
            "retry": about(&wishes.retry),
            "accepted": about(&wishes.accepted),
        },
        "held": seen.held().iter().map(held).collect::<Value>(),
        "wave": outlook.and_then(|outlook| outlook.wave.as_ref()),
        "waits": outlook.and_then(|outlook| outlook.waits.as_ref()),
        "stopping": outlook.and_then(|outlook| outlook.stopping.as_ref()),
        "estimated-end": outlook.and_then(|outlook| outlook.estimated_end),
        "semaphore": {
            "path": record.semaphore,
            "slots": record.slots,
            "holders": seen.semaphore.holders.iter().map(|one| holder(seen, one)).collect::<Value>(),
            "queued": seen.semaphore.queued,
            "queue": seen.queue,
        },
        "targets": shown.map(|(index, (name, standing))| target(seen, index, name, standing)).collect::<Value>(),
    });
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
    object
}

/// Without what changes by the clock alone.
pub(super) fn without_time(object: &Value) -> Value {
    let mut lasting = object.clone();
    if let Some(object) = lasting.as_object_mut() {
        object.remove("at");
        object.remove("estimated-end");
    }
    lasting
}

fn state(summary: &Summary) -> &'static str {
    match summary.state() {
        RunState::Running => "running",
        RunState::Stopped => "stopped",
        RunState::Ended => "ended",
    }
}

fn runner(summary: &Summary) -> Value {
    match &summary.runner {
        Some(runner) => json!({ "who": runner.identifier, "since": runner.since_ms }),
        None => Value::Null,
    }
}

fn holder(seen: &Seen, holder: &Holder) -> Value {
    json!({
        "identifier": holder.identifier,
        "since": holder.since_ms,
        "fence": holder.fence,
        "ephemeral": holder.ephemeral,
        "target": seen.target_of(holder),
    })
}

pub(in crate::cli) fn held(held: &Held) -> Value {
    match held {
        Held::Paused(wish) => json!({ "by": "paused", "wish": wish }),
        Held::BudgetSpent { charged, max_failed } => {
            json!({ "by": "budget-spent", "failed": charged, "max-failed": max_failed })
        }
        Held::Unknown(targets) => json!({ "by": "unknown", "targets": targets }),
    }
}

fn target(seen: &Seen, index: usize, name: &str, (saved, _): &StandingOf) -> Value {
    let mut object = json!(saved);
    object["target"] = json!(name);
    object["wave"] = json!(seen.wave_of(index));
    object
}
