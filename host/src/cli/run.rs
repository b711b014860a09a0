//! `lockkeeper run`: a job, to its end.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::args::{Global, RunArgs};
use super::event_lines;
use super::job::{Loaded, load};
use super::status::next;
use super::{runs, slot_check};
use crate::job::{JobName, Target, TargetSource};
use crate::rollout::model::{End, Event, Mismatch, Plan, RecordedStatus, Report, RunFailure, Stamped, Stop};
use crate::rollout::run_state::{
    LAYOUT, NewRun, OpenedRun, RunEnd, RunRecord, RunStateError, Runner, SavedEndings, StoredRun, UnsavedEndings,
};
use lockkeeper_locks::cli::caller;
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure, REFUSED_HINT};
use lockkeeper_locks::cli::invocation::quoted;
use lockkeeper_locks::cli::output::{Output, moment};
use lockkeeper_locks::cli::signals::Signals;
use lockkeeper_locks::cli::store::{Purpose, StoreChoice};
use lockkeeper_locks::cli::supervisor;

use crate::rollout::driver::{self, Run};
use lockkeeper_coordination::files::{self, MAX_TEXT_BYTES};
use lockkeeper_coordination::recipe::{AcquireError, Patience, StoreId};
use lockkeeper_coordination::store::{Lifetime, Store, StoreError};

/// Requests to stop that may be queued: gently, then now.
const MAX_STOPS: usize = 4;

/// How often a lost session is replaced before the run is left to another runner: for a minute.
const MAX_TRIES: u32 = 120;

/// How far this machine's clock may be from the store's without a warning, in milliseconds.
const MOST_CLOCK_MS: u64 = 5_000;

/// As many targets are named in a line.
const MOST_NAMED: usize = 10;

/// How long after one that could not be opened the next is tried.
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

pub(super) async fn run(global: &Global, output: &Output, args: RunArgs) -> Result<Exit, Failure> {
    let loaded = load(global, &args.job)?;
    loaded.warn(output);
    // Before anything is written or starts.
    loaded.values()?;
    let mut signals = Signals::new()?;
    let choice = StoreChoice::new(&global.common, output, loaded.store(), Purpose::Use)?;
    // Every other was announced.
    if choice.place().is_named() {
        output.talk("Store", &choice.place().to_string());
    }
    let attempt =
        Attempt { output, args: &args, choice: &choice, state: global.common.state_dir()?, digest: digest(&loaded)? };
    let mut unwritten = None;
    let exit = attempt.session_after_session(&loaded, &mut signals, &mut unwritten).await;
    if let Some(unwritten) = unwritten {
        attempt.say_given_up(&unwritten);
    }
    exit
}

/// Why a run cannot go on in the session that it has.
enum Interruption {
    /// The session is over, or another runner has the run: the next session may resume it.
    Lost(Lost),
    /// The command fails.
    Failed(Failure),
}

impl From<Failure> for Interruption {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// A session that ended is no failure: the next one resumes the run.
impl From<RunStateError> for Interruption {
    fn from(error: RunStateError) -> Self {
        if error.is_lost() { Self::Lost(Lost::default()) } else { Self::Failed(error.into()) }
    }
}

/// A run whose session is over.
#[derive(Debug, Default)]
struct Lost {
    /// What its runner saw and could not write.
    unwritten: Option<UnsavedEndings>,
    /// An operator had asked it to stop: it is not resumed.
    is_stopped: bool,
}

/// Whether a run has done something to a target.
#[derive(Debug, Clone, Copy)]
enum Begun {
    Not,
    Already,
}

/// One command line's worth of running a job.
struct Attempt<'a> {
    output: &'a Output,
    args: &'a RunArgs,
    choice: &'a StoreChoice,
    state: PathBuf,
    digest: String,
}

impl Attempt<'_> {
    /// A run that is lost with its session is resumed in the next one, unless another runner has it. What this process saw
    /// and could not write stays in `unwritten` until the store has it.
    async fn session_after_session(
        &self,
        loaded: &Loaded,
        signals: &mut Signals,
        unwritten: &mut Option<UnsavedEndings>,
    ) -> Result<Exit, Failure> {
        let mut store = self.choice.session().await?;
        let mut again = self.args.again;
        loop {
            let outcome = self.run_in(loaded, &store, signals, &mut again).await;
            // A session that is over already has nothing left to close.
            let _ = store.close().await;
            let is_stopped = match outcome {
                Ok(exit) => return Ok(exit),
                Err(Interruption::Failed(failure)) => return Err(failure),
                Err(Interruption::Lost(lost)) => {
                    *unwritten = lost.unwritten.filter(|unwritten| !unwritten.is_empty());
                    lost.is_stopped
                }
            };
            if is_stopped && unwritten.is_none() {
                return Ok(self.left());
            }
            store = match signals.or(self.settled_session(unwritten)).await {
                Ok(store) => store?,
                Err(request) => return Ok(request.exit()),
            };
            if is_stopped {
                let _ = store.close().await;
                return Ok(self.left());
            }
        }
    }

    /// The next session, in which the endings that this process saw in the last one are in the store: they are written before
    /// anything else happens in it.
    async fn settled_session(&self, unwritten: &mut Option<UnsavedEndings>) -> Result<Arc<dyn Store>, Failure> {
        if let Some(unwritten) = unwritten.as_ref() {
            let targets: Vec<&str> = unwritten.targets().map(|(target, _)| target).collect();
            let text = format!(
                "the outcomes on {} in memory until the store is back; do not kill this \
             process",
                few(&targets)
            );
            self.output.talk("Keeping", &text);
        }
        loop {
            let store = self.next_session(unwritten.as_ref()).await?;
            let Some(endings) = unwritten.as_ref() else { return Ok(store) };
            match endings.write(&store).await {
                Ok(rewritten) => {
                    self.say_rewritten(&rewritten);
                    *unwritten = None;
                    return Ok(store);
                }
                Err(error) if error.is_lost() || error.is_retryable() => {
                    let _ = store.close().await;
                    sleep(BETWEEN_TRIES).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// A new session. With endings that are not in the store this tries until the store is back: they are nowhere else.
    async fn next_session(&self, unwritten: Option<&UnsavedEndings>) -> Result<Arc<dyn Store>, Failure> {
        let mut tries = 0;
        loop {
            let failure = match self.choice.session().await {
                Err(failure) if failure.kind == ErrorKind::Unavailable => failure,
                answer => return answer,
            };
            tries += 1;
            if tries == 1 {
                self.output.talk("Waiting", &format!("for the store: {:#}", failure.error));
            }
            if unwritten.is_none() && tries >= MAX_TRIES {
                return Err(failure.hint(self.resume_with()));
            }
            sleep(BETWEEN_TRIES).await;
        }
    }

    /// What became of the endings that this process saw in an earlier session.
    fn say_rewritten(&self, SavedEndings { written, settled, by }: &SavedEndings) {
        if !written.is_empty() {
            let written: Vec<&str> = written.iter().map(String::as_str).collect();
            self.output.talk("Recorded", &format!("the outcomes that this runner saw on {}", few(&written)));
        }
        let by = by.as_deref().unwrap_or("another runner");
        for (target, status) in settled {
            let text = match status.is_under_way() {
                true => format!("{target}: {by} has taken over the run"),
                false => format!("{target} is {}, recorded by {by}", status.word()),
            };
            self.output.talk("Settled", &text);
        }
    }

    /// What this process saw and is lost with it.
    fn say_given_up(&self, unwritten: &UnsavedEndings) {
        for (target, sight) in unwritten.targets() {
            self.output.warn(&format!(
                "the store does not have the outcome on {target} ({sight}): the next runner probes the target, or its \
                 outcome is unknown"
            ));
        }
    }

    /// Names the targets whose actions did not succeed, each with its reason and where its output is.
    fn say_failures(&self, failures: &[(String, RecordedStatus)], logs: &BTreeMap<String, String>) {
        for (target, status) in failures.iter().take(MOST_NAMED) {
            let log = logs.get(target).map(|log| format!("; output in {log}")).unwrap_or_default();
            let (verb, text) = match status {
                RecordedStatus::RolledBack { .. } => {
                    ("Failed", format!("rolled back; {}", status.had().unwrap_or_else(|| "its result was lost".into())))
                }
                RecordedStatus::Unknown { .. } => ("Unknown", status.account().unwrap_or_default()),
                _ => ("Failed", status.account().unwrap_or_default()),
            };
            self.output.talk(verb, &format!("{target}: {text}{log}"));
        }
        if let Some(more) = failures.len().checked_sub(MOST_NAMED).filter(|more| *more > 0) {
            self.output.talk("Failed", &format!("{more} more; `lockkeeper status` shows all"));
        }
    }

    /// Windows and freezes go by this machine's clock.
    fn warn_of_clock(&self, ahead_ms: i64) {
        if ahead_ms.unsigned_abs() <= MOST_CLOCK_MS {
            return;
        }
        let direction = if ahead_ms > 0 { "ahead of" } else { "behind" };
        let by = humantime::format_duration(Duration::from_secs(ahead_ms.unsigned_abs().saturating_add(500) / 1_000));
        self.output.warn(&format!(
            "this machine's clock is {by} {direction} the store's: windows and freezes use this machine's clock; \
             synchronise it"
        ));
    }

    /// An operator has stopped it.
    fn left(&self) -> Exit {
        self.output.talk("Stopped", &self.resume_with());
        Exit::Failed
    }

    fn resume_with(&self) -> String {
        format!("the run is unfinished; `lockkeeper run {}` resumes it", self.job_file())
    }

    /// Becomes the runner of the job and runs it, as long as the session lasts.
    async fn run_in(
        &self,
        loaded: &Loaded,
        store: &Arc<dyn Store>,
        signals: &mut Signals,
        again: &mut bool,
    ) -> Result<Exit, Interruption> {
        let runner = match signals.or(self.become_runner(&loaded.job.name, store, again)).await {
            Ok(runner) => runner?,
            Err(request) => return Ok(request.exit()),
        };
        let runner = Arc::new(runner);
        let outcome = self.act(loaded, &runner, signals, again).await;
        if let Some(runner) = Arc::into_inner(runner) {
            runner.step_down().await;
        }
        outcome
    }

    /// Waits until no other process runs the job.
    async fn become_runner(
        &self,
        job: &JobName,
        store: &Arc<dyn Store>,
        again: &mut bool,
    ) -> Result<Runner, Interruption> {
        let who = caller::process()?;
        match Runner::acquire(store, job, who.clone(), Patience::Once).await {
            Err(RunStateError::Runner(AcquireError::Full { .. })) => {}
            answer => return Ok(self.with_job_file(answer?)),
        }
        let (holder, standing_by) = Runner::of(store, job).await?;
        let (by, since) = match &holder {
            Some(holder) => (holder.identifier.as_str(), moment(holder.since_ms, store.clock().now_ms())),
            None => ("another process", String::from("just now")),
        };
        // The last session of this process is waited for in any case: its run is this process's to resume.
        let is_own = holder.as_ref().is_some_and(|holder| holder.identifier == who.as_str());
        if self.args.no_wait && !is_own {
            return Err(Failure::message(
                ErrorKind::Running,
                format!("{by} has been running job `{job}` since {since}"),
            )
            .hint("omit --no-wait to stand by and take over when that runner ends")
            .into());
        }
        let others = match standing_by {
            0 => String::new(),
            others => format!("behind {}, ", lockkeeper_locks::cli::output::of(others as usize, "other")),
        };
        let text = if is_own {
            format!("{others}until the previous session of this process ({by}) ends")
        } else {
            format!("{others}while {by} runs job `{job}`, since {since}")
        };
        self.output.talk("Standby", &text);
        // What runs now is what was asked for.
        *again = false;
        Ok(self.with_job_file(Runner::acquire(store, job, who, Patience::Forever).await?))
    }

    fn with_job_file(&self, runner: Runner) -> Runner {
        let file = std::path::absolute(&self.args.job).unwrap_or_else(|_| self.args.job.clone());
        runner.with_job_file(file.display().to_string())
    }

    /// As the runner of the job: begins a run, resumes one, or reports that there is nothing to do.
    async fn act(
        &self,
        loaded: &Loaded,
        runner: &Arc<Runner>,
        signals: &mut Signals,
        again: &mut bool,
    ) -> Result<Exit, Interruption> {
        let (opened, folder) = match runner.newest().await? {
            Some(StoredRun { name, record, .. }) if record.ended.is_none() && record.digest != self.digest => {
                return Err(unfinished(&name, "the job has changed since")
                    .hint(format!(
                        "`lockkeeper run JOB` with the unchanged job resumes it; `lockkeeper abort {name}` aborts it"
                    ))
                    .into());
            }
            Some(kept) if kept.record.ended.is_none() => {
                if *again {
                    let hint = format!("omit --again to resume it, or run `lockkeeper abort {}`", kept.name);
                    return Err(unfinished(&kept.name, "--again is for finished runs").hint(hint).into());
                }
                let folder = runs::create(&self.state, &kept.name)?;
                (runner.resume(kept, folder.display().to_string()).await?, folder)
            }
            // An earlier version recorded runs of no target: they are no reason to do nothing.
            Some(StoredRun { name, record: RunRecord { digest, targets: 1.., ended: Some(ended), .. }, .. })
                if digest == self.digest && !*again =>
            {
                return Ok(self.finished(&loaded.job.name, &name, &ended));
            }
            earlier => {
                let targets = match signals.or(loaded.targets(Some(runner.store()))).await {
                    Ok(targets) => targets?,
                    Err(request) => return Ok(request.exit()),
                };
                // No run is recorded: the next one takes the targets that are listed then.
                if targets.is_empty() {
                    return Ok(self.no_targets(&loaded.job.name));
                }
                if let Some(StoredRun { name, record, .. }) = earlier {
                    let why = match record.digest == self.digest {
                        true if record.targets == 0 => "it had no targets",
                        true => "--again was given",
                        false => "the job has changed",
                    };
                    self.output.talk("Starting", &format!("a new run: `{name}` is finished, and {why}"));
                }
                *again = false;
                self.begin(loaded, runner, targets).await?
            }
        };
        self.roll_out(loaded, runner, opened, folder, signals).await
    }

    async fn begin(
        &self,
        loaded: &Loaded,
        runner: &Arc<Runner>,
        targets: Vec<Target>,
    ) -> Result<(OpenedRun, PathBuf), Interruption> {
        let Loaded { job, policy, .. } = loaded;
        let plan = Plan::new(job, targets);
        self.call_the_roll(loaded, runner, &plan.targets, Begun::Not).await?;
        slot_check::settle(self.output, &**runner.store(), job, &plan).await?;
        let name = run_name(job.name.as_str());
        let folder = runs::create(&self.state, &name)?;
        let record = RunRecord {
            layout: LAYOUT,
            job: job.name.to_string(),
            digest: self.digest.clone(),
            policy: policy.manifest().name.clone(),
            policy_digest: policy.digest().to_owned(),
            started: runner.store().clock().now_ms(),
            targets: u32::try_from(plan.targets.len()).unwrap_or(u32::MAX),
            semaphore: job.semaphore.path.clone(),
            slots: plan.limits.slots,
            runner_epoch: 0,
            runner_epochs: Vec::new(),
            ended: None,
        };
        let journal = folder.display().to_string();
        let job_text = job.source.text().to_owned();
        let new = NewRun { name, record, job_text, targets: plan.targets, journal };
        Ok((runner.begin(new).await?, folder))
    }

    /// Refuses a job none of whose targets is a member of its party, before anything was done to one. Members that a run has
    /// taken down itself may be missing: it is only warned then, as of targets that are no members among others that are.
    async fn call_the_roll(
        &self,
        loaded: &Loaded,
        runner: &Runner,
        targets: &[Target],
        begun: Begun,
    ) -> Result<(), Interruption> {
        let Some(party) = &loaded.job.party else { return Ok(()) };
        let roll_call = match loaded.roll_call(runner.store(), targets).await {
            Ok(roll_call) => roll_call,
            Err(StoreError::SessionOver) => return Err(RunStateError::SessionEnded.into()),
            Err(error) => {
                let failure = Failure::from(error);
                let error = failure.error.context(format!("cannot read the members of the party `{}`", party.path));
                return Err(Failure { error, ..failure }.into());
            }
        };
        match (roll_call.and_then(|roll_call| roll_call.mismatch(party.counts)), begun) {
            (Some(Mismatch::NoTarget { message, help }), Begun::Not) => {
                return Err(loaded.strangers(message, help).into());
            }
            (Some(Mismatch::NoTarget { message, .. } | Mismatch::SomeAbsent { message }), _) => {
                self.output.warn(&message)
            }
            (None, _) => {}
        }
        Ok(())
    }

    async fn roll_out(
        &self,
        loaded: &Loaded,
        runner: &Arc<Runner>,
        opened: OpenedRun,
        journal: PathBuf,
        signals: &mut Signals,
    ) -> Result<Exit, Interruption> {
        let Loaded { job, folder, policy, .. } = loaded;
        runs::keep_policy(&self.state, &journal, folder, &job.policy.source, policy)?;
        if let Some((spec, orchestration)) = job.orchestration.as_ref().zip(loaded.orchestration.as_ref()) {
            runs::keep_orchestration(&self.state, &journal, &folder.join(&spec.path), orchestration.digest())?;
        }
        let OpenedRun { run_state, targets, resumed, clock_ahead_ms } = opened;
        self.warn_of_clock(clock_ahead_ms);
        let (name, run_name) = (job.name.to_string(), run_state.run().to_owned());
        let plan = Plan::of(job, targets);
        if let Some(resumed) = &resumed {
            let is_begun = resumed.targets.iter().any(|target| target.attempt > 0);
            let begun = if is_begun { Begun::Already } else { Begun::Not };
            self.call_the_roll(loaded, runner, &plan.targets, begun).await?;
        }
        let store_id = StoreId::of(&**runner.store()).await.map_err(RunStateError::from)?;
        let output = self.output.clone().with_bar(plan.targets.len());
        let folder = std::path::absolute(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
            .map_err(|error| Failure::new(ErrorKind::Io, error))?;
        let mut settled =
            resumed.iter().flat_map(|resumed| &resumed.targets).filter(|t| t.status.is_final()).count() as u64;
        let run = Run {
            job: job.clone(),
            folder,
            plan,
            policy: policy.clone(),
            journal,
            place: self.choice.place().address(),
            runner: Arc::clone(runner),
            run_state: Arc::clone(&run_state),
            resumed,
            orchestration_job: loaded.orchestration_job(),
            values: loaded.values()?,
            store_id,
            tie: match job.semaphore.lifetime {
                Lifetime::Ephemeral => supervisor::tie()?,
                Lifetime::Persistent => Vec::new(),
            },
        };
        let mut is_hold_told = false;
        let mut logs = BTreeMap::new();
        let tell = |stamped: &Stamped| {
            if matches!(stamped.event, Event::Released { .. } | Event::Skipped { .. }) {
                settled += 1;
            }
            if let Event::Failed { target, log, .. } = &stamped.event {
                // Of its action: what is rolled back has failed before.
                logs.entry(target.clone()).or_insert_with(|| log.clone());
            }
            if matches!(stamped.event, Event::Finished { .. }) {
                output.end_bar();
            }
            event_lines::show(&output, stamped);
            if matches!(&stamped.event, Event::Refused { limit, .. } if limit == "unknown-held") && !is_hold_told {
                is_hold_told = true;
                output.talk(
                    "Hint",
                    &format!(
                        "make sure that its command has ended; then `lockkeeper retry {run_name} --unknown` retries, \
                         or `lockkeeper resume {run_name} --accept` accepts the outcome"
                    ),
                );
            }
            output.progress(settled);
        };
        let (sender, stops) = mpsc::channel(MAX_STOPS);
        let (report, is_stopped) = obeyed(driver::run(run, stops, tell), signals, &sender).await;
        output.end_bar();
        let unwritten = Some(run_state.unsaved_endings());
        match report {
            Ok(Report { end: End::Lost(_), .. }) => Err(Interruption::Lost(Lost { unwritten, is_stopped })),
            Ok(report) if !report.end.is_final() => {
                self.say_given_up(&run_state.unsaved_endings());
                self.output.talk("Stopped", &self.resume_with());
                Ok(outcome(&report)?)
            }
            Ok(report) => {
                self.say_failures(&run_state.failures(), &logs);
                if let Some(next) = next(&report.counts, &name, &self.job_file()) {
                    self.output.talk("Next", &next);
                }
                Ok(outcome(&report)?)
            }
            Err(driver::RunError::RunState(error)) if error.is_lost() => {
                Err(Interruption::Lost(Lost { unwritten, is_stopped }))
            }
            Err(error) => Err(Failure::from(error).into()),
        }
    }

    /// The job's file, as a shell takes it.
    fn job_file(&self) -> String {
        quoted(&self.args.job.display().to_string())
    }

    /// A job that may have no targets, and has none.
    fn no_targets(&self, job: &JobName) -> Exit {
        self.output.talk("Nothing", &format!("to do: no target is listed for job `{job}`, and `allow-empty` is set"));
        if self.output.is_json() {
            self.output.json(&serde_json::json!({ "event": "no-targets", "job": job.as_str() }));
        }
        Exit::Done
    }

    /// The same job again, and nothing to do.
    fn finished(&self, job: &JobName, name: &str, ended: &RunEnd) -> Exit {
        let RunEnd { end, reason, at, counts } = ended;
        let at = moment(*at, lockkeeper_coordination::store::Clock::System.now_ms());
        let text = format!("run `{name}` ended {at} ({end}: {reason}) and the job is unchanged");
        match next(counts, job.as_str(), &self.job_file()) {
            Some(next) => {
                self.output.talk("Nothing", &format!("to do: {text}"));
                self.output.talk("Next", &next);
            }
            None => self.output.talk("Nothing", &format!("to do: {text}; add --again to start a new run")),
        }
        if self.output.is_json() {
            self.output.json(&serde_json::json!({
                "event": "finished-before", "run": name, "end": end, "ended": ended.at, "counts": counts,
            }));
        }
        if counts.all_succeeded() { Exit::Done } else { Exit::Failed }
    }
}

/// The first signal asks to stop gently, the next to stop now. Says, too, whether one came.
async fn obeyed<T>(work: impl Future<Output = T>, signals: &mut Signals, stops: &mpsc::Sender<Stop>) -> (T, bool) {
    let mut work = pin!(work);
    let mut next = Stop::Gently;
    loop {
        tokio::select! {
            done = &mut work => return (done, next == Stop::Now),
            _ = signals.next() => {
                // More requests than fit ask for no more than the last.
                let _ = stops.try_send(next);
                next = Stop::Now;
            }
        }
    }
}

/// Names, as many as a line takes.
fn few(names: &[&str]) -> String {
    match names.len().saturating_sub(MOST_NAMED) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names[..MOST_NAMED].join(", ")),
    }
}

fn unfinished(run: &str, why: &str) -> Failure {
    Failure::message(ErrorKind::Unfinished, format!("run `{run}` is unfinished, and {why}"))
}

/// What another run of the same job would differ in.
fn digest(loaded: &Loaded) -> Result<String, Failure> {
    let Loaded { job, folder, policy, .. } = loaded;
    let inventory = match &job.targets.source {
        TargetSource::Inventory(path) => {
            let path = folder.join(path);
            Some(files::read(&path, MAX_TEXT_BYTES).map_err(|error| {
                Failure::message(ErrorKind::BadJob, format!("cannot read the inventory `{}`: {error}", path.display()))
            })?)
        }
        TargetSource::Hosts(_) | TargetSource::Party(_) | TargetSource::Command(_) => None,
    };
    // Another orchestration is another job, as another policy is.
    let guests = match &loaded.orchestration {
        Some(orchestration) => format!("{}+{}", policy.digest(), orchestration.digest()),
        None => policy.digest().to_owned(),
    };
    Ok(RunRecord::digest_of(&job.digest, &guests, inventory.as_deref()))
}

fn outcome(report: &Report) -> Result<Exit, Failure> {
    match &report.end {
        End::Completed if report.end.word(&report.counts) == "failed" => Ok(Exit::Failed),
        End::Completed if report.timed_out > 0 => Ok(Exit::Failed),
        End::Completed => Ok(Exit::Done),
        End::Held(_) | End::Faulted(_) | End::OrchestrationFailed(_) => Ok(Exit::PolicyFault),
        End::Aborted(_) | End::BudgetSpent(_) | End::Interrupted | End::Lost(_) => Ok(Exit::Failed),
        End::FloorMissed(_) => Ok(Exit::TimedOut),
        End::Failed(RunFailure::Unavailable(reason)) => Err(Failure::message(ErrorKind::Unavailable, reason.clone())),
        End::Failed(RunFailure::Refused(reason)) => {
            Err(Failure::message(ErrorKind::Refused, reason.clone()).hint(REFUSED_HINT))
        }
        End::Failed(RunFailure::Runner(reason)) => Err(Failure::message(ErrorKind::Io, reason.clone())
            .hint("no target is counted as failed; fix the cause and run the same job to resume")),
        End::Failed(RunFailure::SlotsDiffer(reason)) => Err(Failure::message(ErrorKind::SlotsDiffer, reason.clone())
            .hint("`lockkeeper semaphore show PATH` shows the present number and its writer")),
    }
}

/// A name that sorts by time and that no other run has.
fn run_name(job: &str) -> String {
    let now = Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!("{job}-{now}-{}", &unique[..6])
}
