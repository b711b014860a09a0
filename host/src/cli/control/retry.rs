//! `lockkeeper retry`: targets that are to go again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{MOST_NAMED, PATIENCE, Told, by_us};
use crate::cli::args::{Global, RetryArgs};
use crate::cli::find_run::{Found, find};
use crate::cli::status::{held_json, way_out};
use crate::rollout::model::{OperatorRequest, RecordedStatus, TargetRecord};
use crate::rollout::run_state::{
    self, AboutVersion, Acknowledgement, RecordedRequests, RunOverview, RunPhase, RunStateError, StoredRun,
};
use lockkeeper_coordination::recipe::AcquireError;
use lockkeeper_coordination::store::Store;
use lockkeeper_locks::cli::caller;
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::{Output, of, shown};
use lockkeeper_locks::terminal;
use lockkeeper_locks::toml_reader::closest;

/// How long a runner that has heard of it gets to write down that a target goes again.
const WRITTEN_PATIENCE: Duration = Duration::from_secs(5);

/// How often that is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// A target that is to go again.
struct Again {
    target: String,
    was: TargetRecord,
    version: Option<i32>,
}

pub(in crate::cli) async fn retry(global: &Global, output: &Output, args: RetryArgs) -> Result<Exit, Failure> {
    let Found { store, kept, .. } = find(global, output, &args.run).await?;
    let run = &kept.name;
    let seen = RunOverview::read(&store, run).await?;
    let again = chosen(&seen, &args)?;
    if again.is_empty() {
        store.close().await?;
        nothing(output, run);
        return Ok(Exit::Done);
    }
    let request = by_us(&store, args.reason);
    let is_over = seen.summary.state() == RunPhase::Finished;
    if is_over {
        is_newest(&store, &kept).await?;
    }
    let recorded = ask(&store, &seen, &again, &request, is_over).await?;
    let mut reopened = false;
    let mut notice = match is_over {
        true => Acknowledgement::NoRunner,
        false => run_state::await_acknowledgement(&store, &kept, recorded.version, PATIENCE).await?,
    };
    // It may have ended by itself before it heard.
    if is_over || matches!(notice, Acknowledgement::Ended(_)) {
        reopen(&store, run).await?;
        (reopened, notice) = (true, Acknowledgement::NoRunner);
    }
    let gone = match &notice {
        Acknowledgement::Acknowledged(..) => taken_up(&store, &seen, &again).await?,
        _ => Vec::new(),
    };
    let after = RunOverview::read(&store, run).await?;
    store.close().await?;
    tell(output, run, &again, &recorded, &notice, reopened, &gone, &after);
    Ok(Exit::Done)
}

fn nothing(output: &Output, run: &str) {
    let effect = format!("run `{run}` has no such target");
    match output.is_json() {
        true => output.json(&json!({
            "result": "retrying", "run": run, "new": false, "runner": null, "acknowledged": false, "ended": null, "effect": effect,
            "targets": [], "reopened": false,
        })),
        false => output.talk("Nothing", &terminal::line(&format!("to retry: {effect}"))),
    }
}

/// Those that were named, or are of the kinds that were; one that must not go again is told with its state.
fn chosen(seen: &RunOverview, args: &RetryArgs) -> Result<Vec<Again>, Failure> {
    let run = &seen.summary.stored.name;
    let known: BTreeMap<&str, &TargetRecord> = seen.each().map(|(name, (saved, _))| (name, saved)).collect();
    let mut refused = Vec::new();
    for name in &args.targets {
        match known.get(name.as_str()) {
            None => {
                let names: Vec<&str> = known.keys().copied().collect();
                let failure = Failure::message(
                    ErrorKind::BadArgument,
                    format!("run `{}` has no target `{}`", terminal::value(run), shown(name)),
                );
                return Err(match closest(name, &names) {
                    Some(close) => failure.hint(format!("did you mean `{}`?", terminal::value(close))),
                    None => {
                        failure.hint(format!("`lockkeeper status {} --all` lists the targets", terminal::value(run)))
                    }
                });
            }
            Some(saved) if saved.status.may_be_retried() => {}
            Some(saved) => refused.push(format!("`{}` ({})", terminal::value(name), saved.status.word())),
        }
    }
    if !refused.is_empty() {
        let text =
            format!("only failed, unknown, rolled-back and skipped targets can be retried: {}", refused.join(", "));
        return Err(
            Failure::message(ErrorKind::BadArgument, text).hint("no retry was requested; leave these targets out")
        );
    }
    let is_over = seen.summary.state() == RunPhase::Finished;
    let is_meant = |name: &str, status: &RecordedStatus| {
        args.targets.iter().any(|named| named == name)
            || match status {
                RecordedStatus::Failed { .. } | RecordedStatus::RolledBack { .. } => args.failed || args.everyone,
                RecordedStatus::Unknown { .. } => args.unknown || args.everyone,
                RecordedStatus::Skipped { .. } => args.skipped || args.everyone,
                // While the run goes on, these go anyhow.
                RecordedStatus::Pending => args.everyone && is_over,
                _ => false,
            }
    };
    let again = seen.each().filter(|(name, (saved, _))| is_meant(name, &saved.status));
    Ok(again
        .map(|(name, (was, version))| Again { target: name.to_owned(), was: was.clone(), version: *version })
        .collect())
}

async fn is_newest(store: &Arc<dyn Store>, kept: &StoredRun) -> Result<(), Failure> {
    let job = crate::job::JobName::parse(&kept.record.job).map_err(|error| Failure::new(ErrorKind::BadRun, error))?;
    match run_state::newest(store, &job).await? {
        Some(newest) if newest.name != kept.name => {
            Err(RunStateError::NotNewest { run: kept.name.clone(), newest: newest.name }.into())
        }
        _ => Ok(()),
    }
}

async fn ask(
    store: &Arc<dyn Store>,
    seen: &RunOverview,
    again: &[Again],
    request: &OperatorRequest,
    is_over: bool,
) -> Result<RecordedRequests, Failure> {
    let run = &seen.summary.stored.name;
    let versions: BTreeMap<&str, Option<i32>> = seen.each().map(|(name, (_, version))| (name, *version)).collect();
    let change = |requests: &mut run_state::RequestsRecord| {
        // What somebody asked for once and has happened since is void.
        requests.retry.retain(|name, about| versions.get(name.as_str()) == Some(&about.version));
        if is_over {
            requests.aborted = None;
        }
        for Again { target, version, was } in again {
            if was.status == RecordedStatus::Pending {
                continue;
            }
            let about = AboutVersion { version: *version, request: request.clone() };
            requests.retry.entry(target.clone()).or_insert(about);
        }
    };
    Ok(run_state::request(store, run, change).await?)
}

async fn reopen(store: &Arc<dyn Store>, run: &str) -> Result<(), Failure> {
    let kept = run_state::run(store, run).await?;
    if kept.record.ended.is_none() {
        return Ok(());
    }
    match run_state::reopen(store, &kept, caller::process()?).await {
        Err(RunStateError::Runner(AcquireError::Full { .. })) => {
            let text = format!("another run of job `{}` is in progress, and run `{run}` is finished", kept.record.job);
            Err(Failure::message(ErrorKind::Running, text).hint("retry when that run is finished"))
        }
        done => Ok(done?),
    }
}

/// Waits until the runner has written down of each that it goes again: of which it has.
async fn taken_up(store: &Arc<dyn Store>, seen: &RunOverview, again: &[Again]) -> Result<Vec<String>, Failure> {
    let deadline = Instant::now() + WRITTEN_PATIENCE;
    let before: BTreeMap<&str, Option<i32>> =
        again.iter().map(|again| (again.target.as_str(), again.version)).collect();
    loop {
        let now = run_state::statuses_of(store, &seen.summary.stored.name, &seen.targets).await?;
        let with_names = seen.targets.iter().map(|target| target.name.as_str()).zip(&now);
        let gone: Vec<String> = with_names
            .filter(|(name, (_, version))| before.get(name).is_some_and(|before| before != version))
            .map(|(name, _)| name.to_owned())
            .collect();
        if gone.len() == again.len() || Instant::now() >= deadline {
            return Ok(gone);
        }
        sleep(BETWEEN_LOOKS).await;
    }
}

#[expect(clippy::too_many_arguments, reason = "all that there is to tell of one command")]
fn tell(
    output: &Output,
    run: &str,
    again: &[Again],
    recorded: &RecordedRequests,
    notice: &Acknowledgement,
    reopened: bool,
    gone: &[String],
    after: &RunOverview,
) {
    let held = after.hold_reasons();
    let listed: Value = again
        .iter()
        .map(|Again { target, was, .. }| {
            json!({ "target": target, "was": was.status.word(), "reason": was.status.reason(), "taken-up": gone.contains(target) })
        })
        .collect();
    let named: BTreeSet<&str> = again.iter().map(|again| again.target.as_str()).collect();
    let others =
        after.each().filter(|(name, (saved, _))| saved.status == RecordedStatus::Pending && !named.contains(name));
    let others = others.count();
    let waiting =
        again.iter().filter(|again| again.was.status != RecordedStatus::Pending && !gone.contains(&again.target));
    let waiting = waiting.count();
    let nobody = match reopened {
        true => {
            let pending = match others {
                0 => String::new(),
                others => format!(", and {} that never started", of(others, "target")),
            };
            format!("run reopened; `lockkeeper run JOB` with its unchanged job file runs these targets{pending}")
        }
        false => "`lockkeeper run JOB` with its job file resumes the run and runs these targets".to_owned(),
    };
    if !output.is_json() {
        for Again { target, was, .. } in again.iter().take(MOST_NAMED) {
            let reason = was
                .status
                .reason()
                .filter(|reason| !reason.is_empty())
                .map(|reason| format!(": {reason}"))
                .unwrap_or_default();
            let was = if was.status == RecordedStatus::Pending { "not started" } else { was.status.word() };
            output.talk("Retry", &terminal::line(&format!("{target}, which was {was}{reason}")));
        }
        if let Some(more @ 1..) = again.len().checked_sub(MOST_NAMED) {
            output.talk("Retry", &format!("{more} more"));
        }
    }
    let what = match recorded.is_new() || reopened {
        true => format!("{} of run `{run}`", of(again.len(), "target")),
        false => format!("{} of run `{run}`, already requested", of(again.len(), "target")),
    };
    Told {
        result: "retrying",
        verb: "Retrying",
        run,
        what,
        is_new: recorded.is_new() || reopened,
        notice,
        heard: &|run_status| match (&run_status.stopping, waiting) {
            (Some(reason), _) => {
                format!(
                    "the run is stopping ({reason}); targets that have not started by then start when the run is \
                 resumed"
                )
            }
            (None, 0) => "they start in their turn".to_owned(),
            (None, waiting) => format!("the runner has not taken up {waiting} of them yet"),
        },
        nobody,
        more: json!({ "targets": listed, "reopened": reopened, "held": held.iter().map(held_json).collect::<Value>() }),
    }
    .tell(output);
    for held in &held {
        output.warn(&terminal::line(&format!("the run is held {}", way_out(held, run))));
    }
}
