//! `lockkeeper status`: the runs of a store, or one of them, once or for as long as it goes on.

mod abandoned;
mod json;
mod one;

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::sleep;

use super::args::{Global, StatusArgs};
use super::find_run::{ELSEWHERE, Found, find};
use crate::rollout::run_state::{self, RunOverview, RunPhase, RunStateError, RunSummary};
use lockkeeper_coordination::store::Store;
use lockkeeper_locks::cli::exit::{Exit, Failure};
use lockkeeper_locks::cli::output::{Output, moment};
use lockkeeper_locks::cli::signals::{Received, Signals};
use lockkeeper_locks::cli::sink::Drawing;
use lockkeeper_locks::cli::store::{Purpose, StoreChoice};
use lockkeeper_locks::cli::table::Table;
use lockkeeper_locks::terminal;

pub(super) use abandoned::slot;
pub(super) use json::held as held_json;
pub(super) use one::{next, way_out};

/// How often a run is looked at that is watched.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

pub(super) async fn run(global: &Global, output: &Output, args: StatusArgs) -> Result<Exit, Failure> {
    match &args.run {
        None => table(global, output).await,
        Some(wanted) if args.watch => watch(output, find(global, output, wanted).await?, args.all).await,
        Some(wanted) => {
            let Found { store, kept, .. } = find(global, output, wanted).await?;
            let seen = RunOverview::read(&store, &kept.name).await?;
            store.close().await?;
            match output.is_json() {
                true => output.json(&json::run(&seen, args.all, output)),
                false => output.block(&output.completed(&one::text(&seen, args.all))),
            }
            Ok(Exit::Done)
        }
    }
}

async fn table(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let choice = StoreChoice::new(&global.common, output, None, Purpose::Look)?;
    let store = choice.session().await?;
    let mut all = run_state::summaries(&store).await?;
    let now = store.clock().now_ms();
    store.close().await?;
    all.reverse();
    if output.is_json() {
        output.json(&all.iter().map(|summary| json::summary(summary, output)).collect::<Vec<_>>());
        return Ok(Exit::Done);
    }
    if all.is_empty() {
        output.talk("Found", &format!("no runs in {}; `lockkeeper run JOB` starts one", choice.place()));
        output.talk("Elsewhere", ELSEWHERE);
        return Ok(Exit::Done);
    }
    let mut table =
        Table::with_header(["RUN", "JOB", "STATUS", "SUCCEEDED", "FAILED", "UNKNOWN", "RUNNING", "STARTED"]);
    for summary in &all {
        let counts = summary.counts;
        table.row([
            terminal::value(&summary.stored.name),
            terminal::value(&summary.stored.record.job),
            terminal::value(&state(summary, now)),
            format!("{} of {}", counts.succeeded, counts.total),
            counts.failed.to_string(),
            counts.unknown.to_string(),
            counts.running.to_string(),
            moment(summary.stored.record.started, now),
        ]);
    }
    output.table(&table);
    for text in all.iter().filter_map(|summary| abandoned::text(summary, now)) {
        output.block(&format!("\n{}", output.completed(&text)));
    }
    Ok(Exit::Done)
}

/// What becomes of a run, for a person.
fn state(summary: &RunSummary, now: u64) -> String {
    let paused = summary.paused.as_ref().map(|request| format!(", paused by {}", request.by)).unwrap_or_default();
    match (summary.state(), &summary.stored.record.ended, &summary.runner) {
        (RunPhase::Finished, Some(ended), _) => format!("{}, {}", ended.end, moment(ended.at, now)),
        (RunPhase::Running, _, Some(runner)) => {
            format!("running on {} since {}{paused}", runner.identifier, moment(runner.since_ms, now))
        }
        _ => {
            let since = summary.left.as_ref().map(|left| format!(" since {}", moment(left.since_ms, now)));
            format!("unfinished, no runner{}{paused}", since.unwrap_or_default())
        }
    }
}

/// Shows a run whenever it has changed, until it is finished or somebody has seen enough.
async fn watch(output: &Output, found: Found, all: bool) -> Result<Exit, Failure> {
    let Found { choice, mut store, kept } = found;
    let mut signals = Signals::new()?;
    let screen = Screen::new(output);
    let mut shown: Option<Value> = None;
    loop {
        let seen = match signals.or(look(&store, &kept.name)).await {
            Ok(Ok(seen)) => seen,
            // The next session sees the same.
            Ok(Err(error)) if error.is_lost() => {
                store = match signals.or(choice.session()).await {
                    Ok(session) => session?,
                    Err(request) => return Ok(enough(&screen, request)),
                };
                continue;
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(request) => return Ok(enough(&screen, request)),
        };
        let object = json::run(&seen, all, output);
        let lasting = json::without_time(&object);
        let is_over = seen.summary.state() == RunPhase::Finished;
        let is_new = shown.as_ref() != Some(&lasting);
        screen.show(output, &seen, &object, all, is_new, is_over);
        shown = Some(lasting);
        if is_over {
            store.close().await?;
            return Ok(Exit::Done);
        }
        if let Err(request) = signals.or(sleep(BETWEEN_LOOKS)).await {
            // A session that is not closed ends by itself.
            let _ = signals.or(store.close()).await;
            return Ok(enough(&screen, request));
        }
    }
}

async fn look(store: &Arc<dyn Store>, run: &str) -> Result<RunOverview, RunStateError> {
    RunOverview::read(store, run).await
}

/// Whoever watches ends that by Ctrl-C, and nothing has failed.
fn enough(screen: &Screen, received: Received) -> Exit {
    screen.leave();
    match received.signal() {
        Signal::SIGINT => Exit::Done,
        _ => received.exit(),
    }
}

/// Where a run is drawn over what was there before; none: everything is written below what is there.
struct Screen(Option<Drawing>);

impl Screen {
    fn new(output: &Output) -> Self {
        Self(if output.is_json() { None } else { Drawing::new() })
    }

    fn show(&self, output: &Output, seen: &RunOverview, object: &Value, all: bool, is_new: bool, is_over: bool) {
        let text = || output.completed(&one::text(seen, all));
        match &self.0 {
            Some(drawing) if !is_over => drawing.draw(&text()),
            Some(drawing) => {
                drawing.clear();
                output.block(&text());
            }
            None if !is_new => {}
            None if output.is_json() => output.json(object),
            None => output.block(&format!("{}\n", text())),
        }
    }

    /// What was drawn last stays.
    fn leave(&self) {
        if let Some(drawing) = &self.0 {
            drawing.leave();
        }
    }
}
