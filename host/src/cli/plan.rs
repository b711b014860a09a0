//! `lockkeeper plan`: targets, order and limits of a job.

use std::sync::Arc;

use serde_json::json;

use super::args::{Global, JobArgs};
use super::job::{Loaded, load};
use super::slot_check;
use crate::job::{ActionSpec, Calendar, Command, JobSpec, OnExhausted, Opening, PartyCounts, SshSpec};
use crate::rollout::driver::needs_store;
use crate::rollout::model::{Mismatch, Plan, RollCall, Wave};
use lockkeeper_coordination::store::{Clock, Store};
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::{Output, moment, of};
use lockkeeper_locks::cli::signals::Signals;
use lockkeeper_locks::cli::store::{Purpose, StoreChoice};
use lockkeeper_locks::cli::table::Table;

pub(super) async fn run(global: &Global, output: &Output, args: JobArgs) -> Result<Exit, Failure> {
    let loaded = load(global, &args.job)?;
    let Loaded { job, policy, .. } = &loaded;
    let choice = StoreChoice::new(&global.common, output, loaded.store(), Purpose::Look)?;
    let store = match choice.session().await {
        Ok(store) => Some(store),
        Err(failure) if needs_store(job) => return Err(failure),
        Err(failure) => {
            output.warn(&format!("cannot compare the job's number of slots with the semaphore's: {}", failure.text()));
            None
        }
    };
    let targets = match Signals::new()?.or(loaded.targets(store.as_ref())).await {
        Ok(targets) => targets?,
        Err(signal) => return Ok(signal.exit()),
    };
    let plan = Plan::new(job, targets);
    let roll_call = roll_call(&loaded, output, &plan, store.as_ref()).await;
    if let Some(store) = store {
        // A share of no targets is a number that no run writes.
        let compared =
            if plan.targets.is_empty() { Ok(()) } else { slot_check::compare(output, &*store, job, &plan).await };
        store.close().await?;
        compared?;
    }
    let roll_call = roll_call?;
    let batches = plan.batch_of_each();
    let now_ms = Clock::System.now_ms();
    if output.is_json() {
        let targets: Vec<_> = plan
            .targets
            .iter()
            .zip(&batches)
            .enumerate()
            .map(|(index, (target, batch))| {
                let wave = plan.wave_of(index).map(|wave| wave.name.as_str());
                json!({ "target": target.name.as_str(), "batch": batch, "wave": wave, "labels": target.labels })
            })
            .collect();
        output.json(&json!({
            "job": job.name.to_string(),
            "policy": policy.manifest().name,
            "store": choice.place().address(),
            "semaphore": job.semaphore.path,
            "slots": plan.limits.slots,
            "floor": plan.limits.floor,
            "party": roll_call.as_ref().map(roll_call_json),
            "max-failed": plan.limits.budget.max_failed,
            "budget": budget_json(&plan, job),
            "opening": opening(&plan, now_ms).map(|(_, json)| json),
            "waves": plan.waves.iter().map(wave_json).collect::<Vec<_>>(),
            "ssh": job.action.ssh.as_ref().map(ssh_json),
            "roll-back": job.action.roll_back.as_ref().map(as_written),
            "roll-back-probe": job.action.roll_back_probe.as_ref().map(as_written),
            "batches": plan.batches(),
            "targets": targets,
        }));
        return Ok(Exit::Done);
    }
    let manifest = policy.manifest();
    output.talk("Policy", &format!("{} {}: {}", manifest.name, manifest.version, manifest.summary));
    if choice.place().is_named() {
        output.talk("Store", &choice.place().to_string());
    }
    if let Some((text, _)) = opening(&plan, now_ms) {
        output.talk("Window", &text);
    }
    output.talk("Limits", &limits(&plan, &job.semaphore.path.to_string()));
    output.talk("Budget", &budget(&plan, job));
    if let Some(roll_call) = &roll_call {
        output.talk("Party", &roll_call_text(roll_call));
    }
    if let Some(text) = action(&job.action) {
        output.talk("Action", &text);
    }
    for wave in &plan.waves {
        output.talk("Wave", &wave_text(wave));
    }
    let has_waves = !plan.waves.is_empty();
    let columns = ["BATCH", "WAVE", "TARGET", "LABELS"].into_iter().filter(|column| has_waves || *column != "WAVE");
    let mut table = Table::with_header(columns);
    for (index, (target, batch)) in plan.targets.iter().zip(&batches).enumerate() {
        let labels: Vec<String> = target.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let wave = plan.wave_of(index).map(|wave| wave.name.clone());
        let row = [Some(batch.to_string()), wave, Some(target.name.to_string()), Some(labels.join(" "))];
        table.row(row.into_iter().flatten());
    }
    output.table(&table);
    output.talk(
        "Planned",
        &format!("{} in {} if every slot is free", of(plan.targets.len(), "target"), of(plan.batches(), "round")),
    );
    Ok(Exit::Done)
}

/// The targets beside the party's members. `None` if the job has no such party, or if it cannot be looked up now: a plan is made
/// without the store, too.
async fn roll_call(
    loaded: &Loaded,
    output: &Output,
    plan: &Plan,
    store: Option<&Arc<dyn Store>>,
) -> Result<Option<RollCall>, Failure> {
    let Some(party) = &loaded.job.party else { return Ok(None) };
    let not_looked = |why: &str| {
        let path = &party.path;
        output.warn(&format!("cannot check whether the targets are members of the party `{path}`{why}"));
    };
    let roll_call = match store {
        Some(store) => match loaded.roll_call(store, &plan.targets).await.map_err(Failure::from) {
            Ok(roll_call) => roll_call,
            Err(failure) if failure.kind == ErrorKind::Unavailable => {
                not_looked(&format!(": {}", failure.text()));
                None
            }
            Err(failure) => return Err(failure),
        },
        None if party.counts == PartyCounts::Others => None,
        // Why the store was not opened was reported before.
        None => {
            not_looked("");
            None
        }
    };
    match roll_call.as_ref().and_then(|roll_call| roll_call.mismatch(party.counts)) {
        Some(Mismatch::NoTarget { message, help }) => return Err(loaded.strangers(message, help)),
        Some(Mismatch::SomeAbsent { message }) => output.warn(&message),
        None => {}
    }
    Ok(roll_call)
}

fn roll_call_json(roll_call: &RollCall) -> serde_json::Value {
    let RollCall { path, members, targets, absent } = roll_call;
    json!({ "path": path, "members": members.len(), "targets": targets.len() - absent.len(), "absent": absent })
}

fn roll_call_text(roll_call: &RollCall) -> String {
    let RollCall { path, members, targets, absent } = roll_call;
    let here = targets.len() - absent.len();
    format!("`{path}` has {}, {here} of {} among them", of(members.len(), "member"), of(targets.len(), "target"))
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
            (String::from("open, without an end"), json!({ "open": true, "until": null }))
        }
        Opening::Open { until_ms: Some(until), .. } => {
            (format!("open until {}", at(until)), json!({ "open": true, "until": until }))
        }
        Opening::Shut { until_ms: Some(until), why } => {
            (format!("closed until {}: {why}", at(until)), json!({ "open": false, "until": until }))
        }
        Opening::Shut { until_ms: None, why } => {
            (format!("closed for good: {why}"), json!({ "open": false, "until": null }))
        }
    })
}

/// How the action is done and undone, where there is more to say than that it is a command here.
fn action(action: &ActionSpec) -> Option<String> {
    let ssh = action.ssh.as_ref().map(|ssh| {
        let user = ssh.user.iter().map(|user| format!(" as `{user}`"));
        let port = ssh.port.iter().map(|port| format!(" on port {port}"));
        ["over ssh".to_owned()].into_iter().chain(user).chain(port).collect::<String>()
    });
    let undone = action.roll_back.as_ref().map(|command| format!("rolled back by `{}`", as_written(command).join(" ")));
    let parts: Vec<_> = ssh.into_iter().chain(undone).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn as_written(command: &Command) -> Vec<String> {
    command.arguments().iter().map(ToString::to_string).collect()
}

fn ssh_json(ssh: &SshSpec) -> serde_json::Value {
    json!({
        "user": ssh.user,
        "port": ssh.port,
        "connect-timeout-ms": u64::try_from(ssh.connect_timeout.as_millis()).unwrap_or(u64::MAX),
        "identity-file": ssh.identity_file,
        "config": ssh.config,
        "options": ssh.options,
    })
}

fn wave_json(wave: &Wave) -> serde_json::Value {
    json!({
        "wave": wave.name,
        "targets": wave.targets.len(),
        "slots": wave.slots,
        "stop-at": wave.stop_at,
        "bake-ms": u64::try_from(wave.bake.as_millis()).unwrap_or(u64::MAX),
        "approve": wave.approve,
    })
}

fn wave_text(wave: &Wave) -> String {
    let mut parts = vec![format!("{}: {}", wave.name, of(wave.targets.len(), "target"))];
    parts.extend(wave.slots.map(|slots| format!("{slots} at once")));
    parts.extend(wave.stop_at.map(|stop_at| format!("nothing new starts in the run once {stop_at} failed")));
    parts.extend(wave.approve.then(|| "needs approval".to_owned()));
    parts.extend((!wave.bake.is_zero()).then(|| format!("bakes {}", humantime::format_duration(wave.bake))));
    parts.join(", ")
}

fn limits(plan: &Plan, semaphore: &str) -> String {
    let mut parts = vec![format!("{} at once on `{semaphore}`", plan.limits.slots)];
    if let Some(floor) = plan.limits.floor {
        parts.push(format!("a floor of {}", of(floor as usize, "member")));
    }
    parts.join(", ")
}

/// When failures stop the run, how many there can be, and how many of the slots that leaves usable.
fn budget(plan: &Plan, job: &JobSpec) -> String {
    let budget = plan.limits.budget;
    let Some(stop_at) = budget.stop_at() else {
        return "no number of failures stops the run: `stop-at = \"unlimited\"`".to_owned();
    };
    let then = match job.budget().on_exhausted {
        OnExhausted::Abort => "the run is aborted",
        OnExhausted::Pause => "the run waits for an operator",
        OnExhausted::RollBack => "finished targets are rolled back",
    };
    let default = match job.budget {
        Some(_) => "",
        None => " (the default without `[budget]`; `stop-at = \"unlimited\"` never stops)",
    };
    let have = if stop_at == 1 { "has" } else { "have" };
    let stops =
        format!("nothing new starts once {} {have} failed, then {then}{default}", of(stop_at as usize, "target"));
    let usable = plan.usable_slots();
    let slots = plan.limits.slots;
    let used = match (usable.as_slice(), budget.max_failed) {
        (_, None) => {
            let most = (stop_at - 1).saturating_add(slots).min(u32::try_from(plan.targets.len()).unwrap_or(u32::MAX));
            format!("reserves nothing: all slots are used, and at most {most} can fail")
        }
        ([(_, at_once)], Some(max_failed)) if *at_once >= slots => {
            format!("`max-failed` = {max_failed} keeps no slot back")
        }
        (usable, Some(max_failed)) => {
            let points = usable.iter().map(|(failed, at_once)| match failed {
                0 => format!("{at_once} at once at the start"),
                failed => format!("{at_once} after {}", of(*failed as usize, "failure")),
            });
            let points = points.collect::<Vec<_>>().join(", ");
            format!("`max-failed` = {max_failed} of {}: {points}", of(slots as usize, "slot"))
        }
    };
    format!("{stops}; {used}")
}

fn budget_json(plan: &Plan, job: &JobSpec) -> serde_json::Value {
    let usable = plan.usable_slots().into_iter().map(|(failed, slots)| json!({ "failed": failed, "slots": slots }));
    json!({
        "stop-at": plan.limits.budget.stop_at(),
        "max-failed": plan.limits.budget.max_failed,
        "on-exhausted": match job.budget().on_exhausted {
            OnExhausted::Abort => "abort",
            OnExhausted::Pause => "pause",
            OnExhausted::RollBack => "roll-back",
        },
        "is-default": job.budget.is_none(),
        "usable-slots": usable.collect::<serde_json::Value>(),
    })
}
