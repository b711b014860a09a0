//! `lockkeeper plan`: targets, order and limits of a job.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::holders::trimmed;
use super::job::{Loaded, load};
use super::output::{Output, moment, of};
use super::{Global, JobArgs};
use crate::job::{Calendar, Opening};
use crate::rollout::{Plan, needs_store};
use crate::store::Clock;

pub(super) async fn run(global: &Global, output: &Output, args: JobArgs) -> Result<Exit, Failure> {
    let loaded = load(global, &args.job)?;
    let Loaded { job, policy, .. } = &loaded;
    let opener = global.store(output, loaded.store())?;
    let store = match needs_store(job) {
        true => Some(opener.session().await?),
        false => None,
    };
    let targets = loaded.targets(store.as_ref()).await?;
    let plan = Plan::new(job, targets);
    if let Some(store) = store {
        store.close().await?;
    }
    let slots = plan.limits.slots as usize;
    let now_ms = Clock::System.now_ms();
    if output.is_json() {
        let targets: Vec<_> = plan
            .targets
            .iter()
            .enumerate()
            .map(|(index, target)| json!({ "target": target.name.as_str(), "batch": index / slots + 1, "labels": target.labels }))
            .collect();
        output.json(&json!({
            "job": job.name.to_string(),
            "policy": policy.manifest().name,
            "store": opener.choice.place(),
            "semaphore": job.semaphore.path,
            "slots": plan.limits.slots,
            "floor": plan.limits.floor,
            "max-failed": plan.limits.max_failed,
            "opening": opening(&plan, now_ms).map(|(_, json)| json),
            "batches": plan.batches(),
            "targets": targets,
        }));
        return Ok(Exit::Done);
    }
    let manifest = policy.manifest();
    output.talk("Policy", &format!("{} {}: {}", manifest.name, manifest.version, manifest.summary));
    output.talk("Store", &opener.choice.to_string());
    if let Some((text, _)) = opening(&plan, now_ms) {
        output.talk("Window", &text);
    }
    output.talk("Limits", &limits(&plan, &job.semaphore.path.to_string()));
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["BATCH", "TARGET", "LABELS"]);
    for (index, target) in plan.targets.iter().enumerate() {
        let labels: Vec<String> = target.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        table.add_row([(index / slots + 1).to_string(), target.name.to_string(), labels.join(" ")]);
    }
    output.data(&trimmed(&table));
    output.talk(
        "Planned",
        &format!("{} in {} when every slot is free", of(plan.targets.len(), "target"), of(plan.batches(), "batch")),
    );
    Ok(Exit::Done)
}

/// Whether something may start now, where the job has windows or freezes: for people and for programs.
fn opening(plan: &Plan, now_ms: u64) -> Option<(String, serde_json::Value)> {
    let calendar = plan.limits.calendar.as_ref();
    if *calendar == Calendar::default() {
        return None;
    }
    let at = |ms: u64| moment(ms, now_ms);
    Some(match calendar.at(now_ms) {
        Opening::Open { until_ms: None, .. } => {
            (String::from("open, with no end in sight"), json!({ "open": true, "until": null }))
        }
        Opening::Open { until_ms: Some(until), .. } => {
            (format!("open until {}", at(until)), json!({ "open": true, "until": until }))
        }
        Opening::Shut { until_ms: Some(until), why } => {
            (format!("shut until {}: {why}", at(until)), json!({ "open": false, "until": until }))
        }
        Opening::Shut { until_ms: None, why } => {
            (format!("shut, and it will not open again: {why}"), json!({ "open": false, "until": null }))
        }
    })
}

fn limits(plan: &Plan, semaphore: &str) -> String {
    let mut parts = vec![format!("{} at once on `{semaphore}`", plan.limits.slots)];
    if let Some(floor) = plan.limits.floor {
        parts.push(format!("a floor of {}", of(floor as usize, "member")));
    }
    if let Some(max_failed) = plan.limits.max_failed {
        parts.push(format!("at most {max_failed} may fail"));
    }
    parts.join(", ")
}
