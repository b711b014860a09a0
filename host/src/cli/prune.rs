//! `lockkeeper prune`: finished runs that are old go, from the store and from this host's state folder.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;

use super::args::{Global, PruneArgs};
use super::runs;
use crate::rollout::run_state::{self, RunPhase, RunSummary};
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::{Output, moment, of};
use lockkeeper_locks::cli::store::{Purpose, StoreChoice};
use lockkeeper_locks::terminal;

/// How long a run that never began is kept: a runner may be about to begin it.
const NEVER_STARTED_AFTER: Duration = Duration::from_secs(60 * 60);

pub(super) async fn run(global: &Global, output: &Output, args: PruneArgs) -> Result<Exit, Failure> {
    let state = global.common.state_dir()?;
    let choice = StoreChoice::new(&global.common, output, None, Purpose::Look)?;
    let store = choice.session().await?;
    let now = store.clock().now_ms();
    let before = |age: Duration| now.saturating_sub(u64::try_from(age.as_millis()).unwrap_or(u64::MAX));
    let is_meant = |job: &str| args.job.as_deref().is_none_or(|meant| meant == job);
    let all = run_state::summaries(&store).await?;
    if let Some(job) = args.job.as_deref().filter(|job| !all.iter().any(|run| run.stored.record.job == *job)) {
        let jobs: BTreeSet<&str> = all.iter().map(|run| run.stored.record.job.as_str()).collect();
        return Err(no_such_job(job, &jobs, &choice.place().to_string()));
    }
    let is_old =
        |run: &RunSummary| run.stored.record.ended.as_ref().is_some_and(|ended| ended.at < before(args.older_than));
    let (goes, stays): (Vec<RunSummary>, Vec<RunSummary>) =
        all.into_iter().partition(|run| is_meant(&run.stored.record.job) && is_old(run));
    let never_started = match args.job {
        None => run_state::never_started(&store, before(NEVER_STARTED_AFTER)).await?,
        Some(_) => Vec::new(),
    };
    if !args.dry_run {
        for run in &goes {
            run_state::delete(&store, &run.stored).await?;
        }
        for name in &never_started {
            run_state::delete_never_started(&store, name).await?;
        }
        run_state::delete_unused_jobs(&store, &run_state::all(&store).await?).await?;
    }
    store.close().await?;
    let gone: BTreeSet<&str> = goes.iter().map(|run| run.stored.name.as_str()).collect();
    let known: BTreeSet<&str> = stays.iter().map(|run| run.stored.name.as_str()).collect();
    let wanted = runs::Old { gone: &gone, known: &known, ended_before: before(args.older_than), is_meant: &is_meant };
    let swept = runs::sweep(&state, &wanted, args.dry_run)?;

    let unfinished: Vec<&RunSummary> =
        stays.iter().filter(|run| run.state() != RunPhase::Finished && is_meant(&run.stored.record.job)).collect();
    if output.is_json() {
        output.json(&json!({
            "dry-run": args.dry_run,
            "runs": goes.iter().map(|run| &run.stored.name).collect::<Vec<_>>(),
            "never-began": never_started,
            "folders": swept.folders,
            "policies": swept.policies,
            "unfinished": unfinished.iter().map(|run| &run.stored.name).collect::<Vec<_>>(),
        }));
        return Ok(Exit::Done);
    }
    let verb = if args.dry_run { "Would prune" } else { "Pruned" };
    for run in &goes {
        if let Some(ended) = &run.stored.record.ended {
            output
                .talk(verb, &terminal::line(&format!("{}: {}, {}", run.stored.name, ended.end, moment(ended.at, now))));
        }
    }
    for name in &never_started {
        output.talk(verb, &terminal::line(&format!("{name}, which never started")));
    }
    for name in swept.folders.iter().filter(|name| !gone.contains(name.as_str())) {
        output.talk(verb, &terminal::line(&format!("the folder of {name}, a finished run of another store")));
    }
    for run in &unfinished {
        let why = match run.state() {
            RunPhase::Running => "a runner drives it",
            RunPhase::Abandoned | RunPhase::Finished => {
                &format!("it is unfinished: `lockkeeper abort {}` aborts it", run.stored.name)
            }
        };
        output.talk("Kept", &terminal::line(&format!("{}: {why}", run.stored.name)));
    }
    let open = if unfinished.is_empty() { String::new() } else { format!(", {} of them unfinished", unfinished.len()) };
    let stay = stays.iter().filter(|run| is_meant(&run.stored.record.job)).count();
    let folders = match swept.folders.len() {
        0 => String::new(),
        folders => format!("; {} of `{}`", of(folders, "folder"), state.display()),
    };
    let policies = match swept.policies {
        0 => String::new(),
        1 => "; 1 policy without a run".to_owned(),
        policies => format!("; {policies} policies without a run"),
    };
    output
        .talk(verb, &format!("{}; {stay} stay{open}{folders}{policies}", of(goes.len() + never_started.len(), "run")));
    Ok(Exit::Done)
}

fn no_such_job(job: &str, jobs: &BTreeSet<&str>, place: &str) -> Failure {
    let names: Vec<&str> = jobs.iter().copied().collect();
    let failure =
        Failure::message(ErrorKind::NoSuchRun, format!("{place} has no run of job `{}`", terminal::value(job)));
    match lockkeeper_locks::toml_reader::closest(job, &names) {
        Some(close) => failure.hint(format!("did you mean `{}`?", terminal::value(close))),
        None => failure.hint("`lockkeeper status` lists the runs and their jobs"),
    }
}
