//! `lockkeeper run`: a job, to its end.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;

use super::exit::{ErrorKind, Exit, Failure, REFUSED_HINT};
use super::job::{Loaded, load};
use super::output::Output;
use super::signals::Signals;
use super::{Global, RunArgs, runs};
use crate::rollout::{self, Broken, End, Event, Plan, Report, Run, Stamped, Stop};

/// Wishes to stop that may wait: gently, then now.
const MAX_STOPS: usize = 4;

pub(super) async fn run(global: &Global, output: &Output, args: RunArgs) -> Result<Exit, Failure> {
    let loaded = load(global, &args.job)?;
    loaded.warn(output);
    let mut signals = Signals::new()?;
    let opener = global.store(output, loaded.store())?;
    output.talk("Store", &opener.choice.to_string());
    let store = opener.session().await?;
    let targets = loaded.targets(Some(&store)).await?;
    let Loaded { job, folder, policy, .. } = loaded;
    let plan = Plan::new(&job, targets);
    let name = run_name(job.name.as_str());
    let state = global.state_dir()?;
    let journal = runs::create(&state, &name)?;
    runs::keep_policy(&state, &journal, &folder, &job.policy.source, &policy)?;

    let (sender, stops) = mpsc::channel(MAX_STOPS);
    tokio::spawn(async move {
        loop {
            signals.next().await;
            if sender.send(Stop::Gently).await.is_err() {
                return;
            }
            signals.next().await;
            if sender.send(Stop::Now).await.is_err() {
                return;
            }
        }
    });
    let output = output.clone().with_bar(plan.targets.len());
    let folder = std::path::absolute(if folder.as_os_str().is_empty() { Path::new(".") } else { &folder })
        .map_err(|error| Failure::new(ErrorKind::Io, error))?;
    let (place, connect) = (opener.choice.place(), opener.connect);
    let run = Run { job, folder, plan, policy, name, journal, place, connect, store: Arc::clone(&store) };
    let mut settled = 0;
    let tell = |stamped: &Stamped| {
        if matches!(stamped.event, Event::Released { .. } | Event::Skipped { .. }) {
            settled += 1;
        }
        if matches!(stamped.event, Event::Finished { .. }) {
            output.end_bar();
        }
        output.event(stamped);
        output.progress(settled);
    };
    let report = rollout::run(run, stops, tell).await;
    output.end_bar();
    // A session that is over already has nothing left to close.
    let _ = store.close().await;
    outcome(&report?)
}

fn outcome(report: &Report) -> Result<Exit, Failure> {
    match &report.end {
        End::Completed if report.counts.failed + report.counts.unknown > 0 => Ok(Exit::Failed),
        End::Completed if report.timed_out > 0 => Ok(Exit::TimedOut),
        End::Completed => Ok(Exit::Done),
        End::Held(_) | End::Faulted(_) => Ok(Exit::PolicyFault),
        End::Aborted(_) | End::BudgetSpent(_) | End::Interrupted | End::Lost(_) => Ok(Exit::Failed),
        End::FloorMissed(_) => Ok(Exit::TimedOut),
        End::Broken(Broken::Unavailable(reason)) => Err(Failure::message(ErrorKind::Unavailable, reason.clone())),
        End::Broken(Broken::Refused(reason)) => {
            Err(Failure::message(ErrorKind::Refused, reason.clone()).hint(REFUSED_HINT))
        }
        End::Broken(Broken::SlotsDiffer(reason)) => Err(Failure::message(ErrorKind::SlotsDiffer, reason.clone())
            .hint("everybody who names this path must say the same number")),
    }
}

/// A name that sorts by time and that no other run has.
fn run_name(job: &str) -> String {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("{job}-{now}-{}", &unique[..6])
}
