//! `lockkeeper status`: the runs of a store, or one of them.

use std::io::{IsTerminal as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::json;

use super::exit::{ErrorKind, Exit, Failure};
use super::holders::{plain, trimmed};
use super::output::{Output, moment, span};
use super::signals::Signals;
use super::{Global, StatusArgs, kept};
use crate::job::{JobName, JobSpec, Target};
use crate::recipe::{Holder, Semaphore};
use crate::rollout::ledger::{self, Kept, Runner, Standing, StandingOf, Wishes};
use crate::rollout::{Counts, Outlook, Plan};
use crate::store::Store;

/// How often `--watch` looks.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);

/// As many targets that failed are shown without `--all`.
const MOST_SHOWN: usize = 20;

/// Back to the first line and column, and the screen cleared behind what is written.
const REDRAW: &str = "\u{1b}[H\u{1b}[J";

pub(super) async fn run(global: &Global, output: &Output, args: StatusArgs) -> Result<Exit, Failure> {
    let store = global.open(output).await?;
    let exit = match &args.run {
        None => runs(output, &store).await?,
        Some(wanted) => {
            let run = kept::find(&store, wanted).await?;
            match args.watch {
                false => {
                    show(output, &Look::new(&store, run).await?, args.all);
                    Exit::Done
                }
                true => watch(output, &store, run, args.all).await?,
            }
        }
    };
    store.close().await?;
    Ok(exit)
}

/// All of them, the newest first.
async fn runs(output: &Output, store: &Arc<dyn Store>) -> Result<Exit, Failure> {
    let now = store.clock().now_ms();
    let mut rows = Vec::new();
    for run in ledger::all(store).await?.into_iter().rev() {
        let counts = counts(store, &run).await?;
        let runner = runner(store, &run).await?;
        rows.push((run, counts, runner));
    }
    if output.is_json() {
        let json = |(run, counts, runner): &(Kept, Counts, Option<Holder>)| {
            json!({
                "run": run.name,
                "job": run.record.job,
                "started": run.record.started,
                "state": state_word(run, runner.as_ref()),
                "runner": runner.as_ref().map(|runner| &runner.identifier),
                "end": run.record.ended,
                "counts": counts,
            })
        };
        output.json(&rows.iter().map(json).collect::<Vec<_>>());
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        output.talk(
            "Found",
            "no run; `lockkeeper run JOB` makes one, and --store, --zk-hosts or --profile name another store",
        );
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["RUN", "STATE", "DONE", "FAILED", "UNKNOWN", "ACTING", "STARTED"]);
    for (run, counts, runner) in &rows {
        let state = match (&run.record.ended, runner) {
            (Some(ended), _) => ended.end.clone(),
            (None, Some(runner)) => format!("run by {}", plain(&runner.identifier)),
            (None, None) => "not finished, nobody runs it".to_owned(),
        };
        table.add_row([
            plain(&run.name),
            state,
            format!("{} of {}", counts.done, counts.total),
            (counts.failed + counts.rolled_back).to_string(),
            counts.unknown.to_string(),
            counts.acting.to_string(),
            moment(run.record.started, now),
        ]);
    }
    output.data(&trimmed(&table));
    Ok(Exit::Done)
}

/// What was counted when it ended, or stands in the store now.
async fn counts(store: &Arc<dyn Store>, run: &Kept) -> Result<Counts, Failure> {
    if let Some(ended) = &run.record.ended {
        return Ok(ended.counts);
    }
    let targets = ledger::targets(store, &run.name).await?;
    Ok(ledger::counts_of(&ledger::standings_of(store, &run.name, &targets).await?))
}

async fn runner(store: &Arc<dyn Store>, run: &Kept) -> Result<Option<Holder>, Failure> {
    if run.record.ended.is_some() {
        return Ok(None);
    }
    let job = JobName::parse(&run.record.job).map_err(|error| Failure::new(ErrorKind::BadRun, error))?;
    Ok(Runner::of(store, &job).await?.0)
}

fn state_word(run: &Kept, runner: Option<&Holder>) -> &'static str {
    match (&run.record.ended, runner) {
        (Some(_), _) => "finished",
        (None, Some(_)) => "running",
        (None, None) => "left",
    }
}

/// One run, as the store shows it.
struct Look {
    now: u64,
    run: Kept,
    targets: Vec<(Target, StandingOf)>,
    counts: Counts,
    waves: Vec<(String, usize, usize)>,
    runner: Option<Holder>,
    standing_by: u32,
    holders: Vec<Holder>,
    queued: u32,
    wishes: Wishes,
    outlook: Option<Outlook>,
}

impl Look {
    async fn new(store: &Arc<dyn Store>, run: Kept) -> Result<Self, Failure> {
        let now = store.clock().now_ms();
        let targets = ledger::targets(store, &run.name).await?;
        let standings = ledger::standings_of(store, &run.name, &targets).await?;
        let counts = ledger::counts_of(&standings);
        let job = ledger::job_text(store, &run.name).await?;
        let waves = waves(&job, &targets, &standings);
        let name = JobName::parse(&run.record.job).map_err(|error| Failure::new(ErrorKind::BadRun, error))?;
        let (runner, standing_by) = match run.record.ended {
            Some(_) => (None, 0),
            None => Runner::of(store, &name).await?,
        };
        let slots = std::num::NonZeroU32::new(run.record.slots).unwrap_or(std::num::NonZeroU32::MIN);
        let semaphore = Semaphore::new(Arc::clone(store), run.record.semaphore.clone(), slots);
        let (state, _) = semaphore.observe().await?;
        let wishes = ledger::wishes(store, &run.name).await?;
        let outlook = ledger::now(store, &run.name).await?.and_then(|now| serde_json::from_value(now).ok());
        let targets = targets.into_iter().zip(standings).collect();
        let (holders, queued) = (state.holders, state.queued);
        Ok(Self { now, run, targets, counts, waves, runner, standing_by, holders, queued, wishes, outlook })
    }

    /// What is said of the present only while somebody runs it.
    fn outlook(&self) -> Option<&Outlook> {
        self.outlook.as_ref().filter(|_| self.runner.is_some())
    }

    fn standing_of(&self, identifier: &str) -> Option<&StandingOf> {
        self.targets.iter().find(|(target, _)| target.name.as_str() == identifier).map(|(_, standing)| standing)
    }
}

/// Each wave: how many of its targets are done with, of how many.
fn waves(job: &str, targets: &[Target], standings: &[StandingOf]) -> Vec<(String, usize, usize)> {
    let Ok(job) = JobSpec::parse("job", job) else { return Vec::new() };
    let plan = Plan::of(&job, targets.to_vec());
    let done = |range: std::ops::Range<usize>| {
        standings.get(range).unwrap_or_default().iter().filter(|(saved, _)| saved.standing.is_final()).count()
    };
    plan.waves.iter().map(|wave| (wave.name.to_string(), done(wave.targets.clone()), wave.targets.len())).collect()
}

/// Shows it anew each second until it is finished; into a pipe only what has changed.
async fn watch(output: &Output, store: &Arc<dyn Store>, run: Kept, all: bool) -> Result<Exit, Failure> {
    let mut signals = Signals::new()?;
    let name = run.name.clone();
    let is_terminal = std::io::stdout().is_terminal() && !output.is_json();
    let mut before = None;
    let mut run = run;
    loop {
        let look = Look::new(store, run).await?;
        let is_over = look.run.record.ended.is_some();
        let seen = (look.counts, look.outlook.clone().map(|outlook| Outlook { at: 0, ..outlook }), look.wishes.clone());
        if is_terminal {
            // A terminal that is gone ends us by a signal.
            let _ = std::io::stdout().write_all(REDRAW.as_bytes());
            show(output, &look, all);
        } else if before.as_ref() != Some(&seen) {
            show(output, &look, all);
        }
        before = Some(seen);
        if is_over {
            return Ok(Exit::Done);
        }
        match signals.or(tokio::time::sleep(BETWEEN_LOOKS)).await {
            Ok(()) => run = ledger::run(store, &name).await?,
            // Whoever looks may stop looking.
            Err(_) => return Ok(Exit::Done),
        }
    }
}

fn show(output: &Output, look: &Look, all: bool) {
    if output.is_json() {
        return output.json(&as_json(look, all));
    }
    let Look { now, run, counts, wishes, .. } = look;
    let record = &run.record;
    let row = |verb: &str, text: &str| output.data(&format!("{verb:>11} {text}"));
    row(
        "Run",
        &format!("{}, of job `{}`, started {}", plain(&run.name), plain(&record.job), moment(record.started, *now)),
    );
    match (&record.ended, &look.runner) {
        (Some(ended), _) => {
            row("Ended", &format!("{}: {} ({})", moment(ended.at, *now), plain(&ended.reason), ended.end))
        }
        (None, Some(runner)) => {
            let others =
                if look.standing_by == 0 { String::new() } else { format!("; {} standing by", look.standing_by) };
            row("Runner", &format!("{} since {}{others}", plain(&runner.identifier), moment(runner.since_ms, *now)));
        }
        (None, None) => {
            let last = record.newest_stint().map(|stint| format!("; the last was {}", plain(&stint.runner)));
            let last = last.unwrap_or_default();
            row("Runner", &format!("nobody{last}. `lockkeeper run` with the same job goes on with it"));
        }
    }
    row("Targets", &counted(counts));
    for (wave, done, of_all) in &look.waves {
        let now = look.outlook().and_then(|outlook| outlook.wave.as_ref()).is_some_and(|now| now.name == *wave);
        row("Wave", &format!("{}: {done} of {of_all} done with{}", plain(wave), if now { ", goes now" } else { "" }));
    }
    if let Some(wish) = &wishes.paused {
        let why = wish.reason.as_ref().map(|reason| format!(": {}", plain(reason))).unwrap_or_default();
        row(
            "Paused",
            &format!("by {} {}{why}; `lockkeeper resume {}` goes on", plain(&wish.by), moment(wish.at, *now), run.name),
        );
    }
    if let (Some(wish), None) = (&wishes.aborted, &record.ended) {
        row("Aborting", &format!("as {} wishes", plain(&wish.by)));
    }
    if let Some(outlook) = look.outlook() {
        match (&outlook.stopping, &outlook.waits) {
            (Some(reason), _) => row("Stopping", &plain(reason)),
            (None, Some(waits)) => {
                let until =
                    waits.until.map(|until| format!("; may change {}", moment(until, *now))).unwrap_or_default();
                row("Waits for", &format!("{} ({}){until}", plain(&waits.reason), plain(&waits.code)));
            }
            (None, None) => {}
        }
        if let Some(end) = outlook.estimated_end.filter(|end| *end > *now && outlook.stopping.is_none()) {
            row("Over", &format!("in about {}, if all goes on as it did", span(end - *now)));
        }
    }
    if record.ended.is_none() {
        let slots = format!("{} of {} of `{}`", look.holders.len(), record.slots, record.semaphore);
        row("Slots", &format!("{slots} held, {} waiting", look.queued));
        for holder in &look.holders {
            let does =
                look.standing_of(&holder.identifier).map(|(saved, _)| does(&saved.standing, saved.attempt, *now));
            let does = does.unwrap_or_else(|| "none of this run's".to_owned());
            row(
                "",
                &format!(
                    "{} since {}, fence {}: {does}",
                    plain(&holder.identifier),
                    moment(holder.since_ms, *now),
                    holder.fence
                ),
            );
        }
    }
    let told = |standing: &Standing| match all {
        true => true,
        false => matches!(standing, Standing::Failed { .. } | Standing::Unknown { .. } | Standing::RolledBack { .. }),
    };
    let told: Vec<_> = look.targets.iter().filter(|(_, (saved, _))| told(&saved.standing)).collect();
    let most = if all { usize::MAX } else { MOST_SHOWN };
    for (target, (saved, _)) in told.iter().take(most) {
        row(verb(&saved.standing), &format!("{}{}", plain(target.name.as_str()), because(&saved.standing)));
    }
    if told.len() > most {
        row("", &format!("and {} more: --all lists every target", told.len() - most));
    }
}

fn counted(counts: &Counts) -> String {
    let mut parts = vec![format!("{} of {} done", counts.done, counts.total)];
    for (number, word) in [
        (counts.acting, "acting"),
        (counts.failed, "failed"),
        (counts.unknown, "unknown"),
        (counts.rolled_back, "rolled back"),
        (counts.skipped, "left out"),
        (counts.pending + counts.waiting, "to go"),
    ] {
        if number > 0 {
            parts.push(format!("{number} {word}"));
        }
    }
    parts.join(", ")
}

/// What a target does that holds a slot.
fn does(standing: &Standing, attempt: u32, now: u64) -> String {
    match standing {
        Standing::Leased => "about to start".to_owned(),
        Standing::Acting => format!("acting, try {attempt}"),
        Standing::Kept { until, .. } => format!("kept until {}", moment(*until, now)),
        Standing::Retrying { until, .. } => format!("tried again {}", moment(*until, now)),
        Standing::Reverting => "being undone".to_owned(),
        standing => format!("a target of this run, which is {}", standing.word()),
    }
}

fn verb(standing: &Standing) -> &'static str {
    match standing {
        Standing::Pending => "To go",
        Standing::Leased | Standing::Acting | Standing::Retrying { .. } => "Acting",
        Standing::Kept { .. } => "Kept",
        Standing::Reverting => "Undoing",
        Standing::Done { .. } => "Done",
        Standing::Failed { .. } => "Failed",
        Standing::Unknown { .. } => "Unknown",
        Standing::RolledBack { .. } => "Undone",
        Standing::Skipped { .. } => "Left out",
    }
}

fn because(standing: &Standing) -> String {
    match standing {
        Standing::Done { took_ms: Some(took) } => format!(" in {}", span(*took)),
        Standing::Failed { reason }
        | Standing::Unknown { reason }
        | Standing::RolledBack { reason }
        | Standing::Skipped { reason, .. }
            if !reason.is_empty() =>
        {
            format!(": {}", plain(reason))
        }
        _ => String::new(),
    }
}

fn as_json(look: &Look, all: bool) -> serde_json::Value {
    let Look { run, targets, counts, waves, runner, standing_by, holders, queued, wishes, .. } = look;
    let target = |(target, (saved, version)): &(Target, StandingOf)| json!({ "target": target.name.as_str(), "version": version, "standing": saved });
    let shown = |(_, (saved, _)): &&(Target, StandingOf)| {
        all || !matches!(saved.standing, Standing::Pending | Standing::Done { .. } | Standing::Skipped { .. })
    };
    json!({
        "run": run.name,
        "record": run.record,
        "state": state_word(run, runner.as_ref()),
        "counts": counts,
        "waves": waves.iter().map(|(name, done, of)| json!({ "wave": name, "done": done, "of": of })).collect::<Vec<_>>(),
        "runner": runner,
        "standing-by": standing_by,
        "holders": holders,
        "queued": queued,
        "wishes": wishes,
        "now": look.outlook(),
        "targets": targets.iter().filter(shown).map(target).collect::<Vec<_>>(),
    })
}
