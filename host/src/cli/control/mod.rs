//! `lockkeeper pause`, `resume`, `abort`, `approve` and `retry`: what people want of a run, and what came of it.
//!
//! A wish is written down in the store; whoever runs the run hears of it at once, and each command waits until that is so.

mod retry;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::args::{AbortArgs, ApproveArgs, Global, PauseArgs, ResumeArgs};
use super::find_run::{Found, find, find_in_any_layout};
use super::runs;
use super::status::{held_json, slot, way_out};
use crate::job::JobSpec;
use crate::rollout::model::{OperatorRequest, RunStatus};
use crate::rollout::run_state::{
    self, AbortedRun, AboutVersion, Acknowledgement, RecordedRequests, RunEnd, RunOverview, RunStateError, StoredRun,
};
use lockkeeper_coordination::recipe::{AcquireError, Holder};
use lockkeeper_coordination::store::Store;
use lockkeeper_locks::cli::caller;
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::{Output, moment, of, shown};
use lockkeeper_locks::terminal;
use lockkeeper_locks::toml_reader::closest;

pub(super) use retry::retry;

/// How long a runner gets to hear of a wish. One that lives says what it goes by once a second; one that was killed is seen to be
/// gone only when its session has ended, by default after 10 s.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long the end of a run is waited for whose runner has heard that it is to end.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// How many targets are named for a person.
const MOST_NAMED: usize = 50;

/// What was done, and what came of it.
struct Told<'a> {
    /// In a word, for programs.
    result: &'static str,
    /// As a verb.
    verb: &'static str,
    run: &'a str,
    /// What was done, in a sentence without its end.
    what: String,
    /// Whether anything is otherwise than before.
    is_new: bool,
    notice: &'a Acknowledgement,
    /// What follows, where a runner has heard of it.
    heard: &'a dyn Fn(&RunStatus) -> String,
    /// What follows, where nobody runs it.
    nobody: String,
    /// More for programs.
    more: Value,
}

impl Told<'_> {
    fn tell(self, output: &Output) {
        let (effect, runner, is_heard) = match self.notice {
            Acknowledgement::Acknowledged(Holder { identifier, .. }, run_status) => (
                format!("{identifier} has acknowledged the request: {}", (self.heard)(run_status)),
                Some(identifier),
                true,
            ),
            Acknowledgement::Ended(ended) => (format!("the run is finished ({})", ended.text()), None, false),
            Acknowledgement::NoRunner => (format!("no runner drives the run: {}", self.nobody), None, false),
            Acknowledgement::NotYet(Holder { identifier, .. }) => (
                format!(
                    "runner {identifier} has not acknowledged the request within {}; it takes effect once the runner does",
                    humantime::format_duration(PATIENCE)
                ),
                Some(identifier),
                false,
            ),
        };
        if output.is_json() {
            let mut object = json!({
                "result": self.result,
                "run": self.run,
                "new": self.is_new,
                "runner": runner,
                "acknowledged": is_heard,
                "ended": match self.notice { Acknowledgement::Ended(ended) => Some(ended), _ => None },
                "effect": output.completed(&effect),
            });
            if let (Some(object), Value::Object(more)) = (object.as_object_mut(), self.more) {
                object.extend(more);
            }
            return output.json(&object);
        }
        output.talk(self.verb, &terminal::line(&self.what));
        match self.notice {
            Acknowledgement::NotYet(_) => output.warn(&terminal::line(&effect)),
            _ => output.talk("Effect", &terminal::line(&effect)),
        }
    }
}

fn by_us(store: &Arc<dyn Store>, reason: Option<String>) -> OperatorRequest {
    OperatorRequest { by: caller::person(), at: store.clock().now_ms(), reason }
}

/// What is asked for needs a run that goes on.
fn unless_finished(kept: &StoredRun, store: &Arc<dyn Store>) -> Result<(), Failure> {
    match &kept.record.ended {
        None => Ok(()),
        Some(ended) => Err(finished(&kept.name, ended, store.clock().now_ms())),
    }
}

fn finished(run: &str, ended: &RunEnd, now: u64) -> Failure {
    let text = format!("run `{run}` finished {} ({})", moment(ended.at, now), ended.text());
    Failure::message(ErrorKind::Finished, text)
        .hint(format!("`lockkeeper retry {run} --all` reopens it; `lockkeeper run JOB --again` starts a new one"))
}

/// What the one who said it before said.
fn before(request: Option<&OperatorRequest>, now: u64) -> String {
    request.map_or_else(String::new, |request| {
        let reason = request.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("by {}, {}{reason}", request.by, moment(request.at, now))
    })
}

fn under_way(run_status: &RunStatus) -> String {
    match run_status.counts.running {
        0 => String::new(),
        1 => "; 1 running action finishes".to_owned(),
        running => format!("; {running} running actions finish"),
    }
}

pub(super) async fn pause(global: &Global, output: &Output, args: PauseArgs) -> Result<Exit, Failure> {
    let Found { store, kept, .. } = find(global, output, &args.run).await?;
    unless_finished(&kept, &store)?;
    let request = by_us(&store, args.reason);
    let recorded = run_state::request(&store, &kept.name, |requests| {
        requests.paused.get_or_insert_with(|| request.clone());
    })
    .await?;
    let notice = run_state::await_acknowledgement(&store, &kept, recorded.version, PATIENCE).await?;
    store.close().await?;
    let run = &kept.name;
    let what = match recorded.is_new() {
        true => format!("run `{run}`"),
        false => format!("already: run `{run}`, {}", before(recorded.before.paused.as_ref(), request.at)),
    };
    Told {
        result: "paused",
        verb: "Paused",
        run,
        what,
        is_new: recorded.is_new(),
        notice: &notice,
        heard: &|run_status| format!("nothing new starts{}", under_way(run_status)),
        nobody: format!("the next runner starts nothing new until `lockkeeper resume {run}`"),
        more: json!({ "request": recorded.now.paused }),
    }
    .tell(output);
    Ok(Exit::Done)
}

pub(super) async fn resume(global: &Global, output: &Output, args: ResumeArgs) -> Result<Exit, Failure> {
    let Found { store, kept, .. } = find(global, output, &args.run).await?;
    unless_finished(&kept, &store)?;
    let run = &kept.name;
    let seen = RunOverview::read(&store, run).await?;
    let request = by_us(&store, None);
    let to_accept: Vec<(&str, Option<i32>)> = seen
        .each()
        .filter(|(_, (saved, _))| args.accept && saved.status.is_charged())
        .map(|(name, (_, version))| (name, *version))
        .collect();
    let recorded = run_state::request(&store, run, |requests| {
        requests.paused = None;
        for &(name, version) in &to_accept {
            let accepted = AboutVersion { version, request: request.clone() };
            match requests.accepted.get(name) {
                Some(about) if about.version == version => {}
                _ => drop(requests.accepted.insert(name.to_owned(), accepted)),
            }
        }
    })
    .await?;
    let notice = run_state::await_acknowledgement(&store, &kept, recorded.version, PATIENCE).await?;
    let held = match &notice {
        Acknowledgement::Ended(_) => Vec::new(),
        _ => RunOverview::read(&store, run).await?.hold_reasons(),
    };
    store.close().await?;
    let names: Vec<&str> = to_accept.iter().map(|(name, _)| *name).collect();
    let paused = match &recorded.before.paused {
        Some(request) => format!("run `{run}`, paused {}", before(Some(request), seen.at)),
        None => format!("run `{run}`, which was not paused"),
    };
    let accepted = match (args.accept, names.len()) {
        (false, _) => String::new(),
        (true, 0) => "; no outcome to accept".to_owned(),
        (true, many) => {
            format!("; accepted the outcome of {} ({})", of(many, "target"), runs::named(names.iter().copied()))
        }
    };
    Told {
        result: "resumed",
        verb: "Resumed",
        run,
        what: format!("{paused}{accepted}"),
        is_new: recorded.is_new(),
        notice: &notice,
        heard: &|run_status| match (&run_status.waits, held.is_empty()) {
            (_, false) => "the run is still held".to_owned(),
            (Some(waits), true) => format!("the run continues and waits: {} ({})", waits.reason, waits.code),
            (None, true) => "the run continues".to_owned(),
        },
        nobody: "`lockkeeper run JOB` with its job file resumes the run".to_owned(),
        more: json!({ "accepted": names, "held": held.iter().map(held_json).collect::<Value>() }),
    }
    .tell(output);
    for held in &held {
        output.warn(&terminal::line(&format!("the run is held {}", way_out(held, run))));
    }
    Ok(Exit::Done)
}

pub(super) async fn approve(global: &Global, output: &Output, args: ApproveArgs) -> Result<Exit, Failure> {
    let Found { store, kept, .. } = find(global, output, &args.run).await?;
    unless_finished(&kept, &store)?;
    let run = &kept.name;
    let text = run_state::job_text(&store, run).await?;
    let job = JobSpec::parse("job", &text)
        .map_err(|_| Failure::message(ErrorKind::BadRun, format!("this program cannot read the job of run `{run}`")))?;
    is_to_be_approved(&job, run, &args.wave)?;
    let request = by_us(&store, args.reason);
    let recorded = run_state::request(&store, run, |requests| {
        requests.approved.entry(args.wave.clone()).or_insert_with(|| request.clone());
    })
    .await?;
    let notice = run_state::await_acknowledgement(&store, &kept, recorded.version, PATIENCE).await?;
    store.close().await?;
    let wave = &args.wave;
    let what = match recorded.is_new() {
        true => format!("wave `{wave}` of run `{run}`"),
        false => {
            format!("already: wave `{wave}` of run `{run}`, {}", before(recorded.before.approved.get(wave), request.at))
        }
    };
    Told {
        result: "approved",
        verb: "Approved",
        run,
        what,
        is_new: recorded.is_new(),
        notice: &notice,
        heard: &|run_status| match &run_status.wave {
            Some(now) if now.name == *wave => {
                format!("the wave is running, {} of {} targets are final", now.done, now.of)
            }
            Some(now) if now.done < now.of => {
                format!("it starts after wave `{}`, in which {} of {} targets are final", now.name, now.done, now.of)
            }
            _ => match &run_status.waits {
                Some(waits) => format!("it starts when nothing blocks it: {} ({})", waits.reason, waits.code),
                None => "it starts in its turn".to_owned(),
            },
        },
        nobody: "`lockkeeper run JOB` with its job file resumes the run, and the wave starts in its turn".to_owned(),
        more: json!({ "wave": wave, "request": recorded.now.approved.get(wave) }),
    }
    .tell(output);
    Ok(Exit::Done)
}

fn is_to_be_approved(job: &JobSpec, run: &str, wave: &str) -> Result<(), Failure> {
    let bad = |text: String, hint: String| Err(Failure::message(ErrorKind::BadArgument, text).hint(hint));
    let waiting: Vec<&str> = job.waves.iter().filter(|wave| wave.approve).map(|wave| wave.name.as_str()).collect();
    let names: Vec<&str> = job.waves.iter().map(|wave| wave.name.as_str()).collect();
    match job.waves.iter().find(|known| known.name == wave) {
        Some(known) if known.approve => Ok(()),
        Some(_) if waiting.is_empty() => bad(
            format!("wave `{wave}` of run `{run}` needs no approval"),
            "no wave of the job has `approve = true`".to_owned(),
        ),
        Some(_) => bad(
            format!("wave `{wave}` of run `{run}` needs no approval"),
            format!("waves that need approval: {}", runs::named(waiting.into_iter())),
        ),
        None if names.is_empty() => {
            bad(format!("run `{run}` has no waves"), "a job defines waves as `[[wave]]` tables".to_owned())
        }
        None => {
            let close = closest(wave, &names).map(|close| format!("did you mean `{close}`? ")).unwrap_or_default();
            bad(
                format!("run `{run}` has no wave `{}`", shown(wave)),
                format!("{close}the run's waves: {}", runs::named(names.into_iter())),
            )
        }
    }
}

pub(super) async fn abort(global: &Global, output: &Output, args: AbortArgs) -> Result<Exit, Failure> {
    let Found { store, kept, .. } = find_in_any_layout(global, output, &args.run).await?;
    let run = &kept.name;
    if let Some(ended) = &kept.record.ended {
        let now = store.clock().now_ms();
        store.close().await?;
        tell_over(output, run, ended, now);
        return Ok(Exit::Done);
    }
    if args.release {
        unless_driven(&store, run).await?;
    }
    let request = by_us(&store, args.reason);
    let recorded = run_state::request(&store, run, |requests| {
        requests.aborted.get_or_insert_with(|| request.clone());
    })
    .await?;
    let ended = end(&store, &kept, &recorded, &request).await?;
    store.close().await?;
    match ended {
        Aborted::Here(released) => tell_ended_here(output, run, &recorded, &released, request.at),
        Aborted::Asked(notice) => {
            let what = match recorded.is_new() {
                true => format!("run `{run}`"),
                false => format!("already: run `{run}`, {}", before(recorded.before.aborted.as_ref(), request.at)),
            };
            Told {
                result: "aborted",
                verb: "Aborted",
                run,
                what,
                is_new: recorded.is_new(),
                notice: &notice,
                heard: &|run_status| format!("nothing new starts{}; then the run is finished", under_way(run_status)),
                nobody: format!("`lockkeeper abort {run}` finishes the run from here"),
                more: json!({ "request": recorded.now.aborted }),
            }
            .tell(output);
        }
    }
    Ok(Exit::Done)
}

enum Aborted {
    /// Nobody ran it.
    Here(AbortedRun),
    /// Somebody runs it, or did.
    Asked(Acknowledgement),
}

/// Waits for the runner to end it, and ends it where there is none.
async fn end(
    store: &Arc<dyn Store>,
    kept: &StoredRun,
    recorded: &RecordedRequests,
    request: &OperatorRequest,
) -> Result<Aborted, Failure> {
    let request = recorded.now.aborted.as_ref().unwrap_or(request);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut notice = run_state::await_acknowledgement(store, kept, recorded.version, left).await?;
        if matches!(notice, Acknowledgement::Acknowledged(..)) {
            // No later word of it is heard than the end.
            match run_state::await_acknowledgement(store, kept, i32::MAX, END_PATIENCE).await? {
                Acknowledgement::NotYet(_) | Acknowledgement::Acknowledged(..) => return Ok(Aborted::Asked(notice)),
                later => notice = later,
            }
        }
        if notice != Acknowledgement::NoRunner {
            return Ok(Aborted::Asked(notice));
        }
        match run_state::abort(store, &kept.name, caller::process()?, request).await {
            Ok(released) => return Ok(Aborted::Here(released)),
            // Somebody was quicker to run it, and hears of it.
            Err(RunStateError::Runner(AcquireError::Full { .. })) if Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn tell_over(output: &Output, run: &str, ended: &RunEnd, now: u64) {
    let effect = format!("run `{run}` finished {} ({})", moment(ended.at, now), ended.text());
    match output.is_json() {
        true => output.json(&json!({
            "result": "aborted", "run": run, "new": false, "runner": null, "acknowledged": false, "ended": ended, "effect": effect,
        })),
        false => output.talk("Nothing", &terminal::line(&format!("to abort: {effect}"))),
    }
}

/// `--release` takes nothing from a runner that lives.
async fn unless_driven(store: &Arc<dyn Store>, run: &str) -> Result<(), Failure> {
    let Some(runner) = RunOverview::read(store, run).await?.summary.runner else { return Ok(()) };
    let since = moment(runner.since_ms, store.clock().now_ms());
    let text = format!(
        "runner {} has driven run `{run}` since {since}: --release takes no slot from a living runner",
        runner.identifier
    );
    Err(Failure::message(ErrorKind::Running, text).hint(format!(
        "`lockkeeper abort {run}` makes that runner abort the run and release its slots; a killed runner counts as \
         living until its session ends"
    )))
}

fn tell_ended_here(output: &Output, run: &str, recorded: &RecordedRequests, done: &AbortedRun, now: u64) {
    let AbortedRun { ended, released, unknown, slots: held } = done;
    let slots = match released.len() {
        0 => "no slot was held".to_owned(),
        many => format!("{} released: {}", of(many, "slot"), runs::named(released.iter().map(String::as_str))),
    };
    let left = match unknown.len() {
        0 => String::new(),
        _ => format!("; the outcome is unknown on {}", runs::named(unknown.iter().map(String::as_str))),
    };
    let effect = format!("the run is finished; {slots}{left}");
    if output.is_json() {
        return output.json(&json!({
            "result": "aborted", "run": run, "new": recorded.is_new(), "runner": null, "acknowledged": false, "ended": ended,
            "effect": effect, "request": recorded.now.aborted, "released": released, "unknown": unknown, "slots": held,
        }));
    }
    output.talk("Aborted", &terminal::line(&format!("run `{run}`, which no runner drives")));
    for one in held.iter().take(MOST_NAMED) {
        output.talk("Released", &terminal::line(&slot(one, now)));
    }
    output.talk("Effect", &terminal::line(&effect));
    if !unknown.is_empty() {
        let names = runs::named(unknown.iter().map(String::as_str));
        output.warn(&terminal::line(&format!(
            "the commands on {names} may still be running: make sure that they have ended before you start anything \
             on these targets, and before `lockkeeper retry {run} --unknown`"
        )));
    }
}
