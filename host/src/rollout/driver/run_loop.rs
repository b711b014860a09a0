//! The loop: waits for inputs and carries out actions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

use crate::job::{ActionSpec, Command, Grants, JobSpec, MissingLabel, Substitutions, Target};
use crate::policy::orchestration::Beginning;
use crate::policy::types::{self as contract, Admission, Admitted, Ending, Member, Outcome, View};
use crate::policy::{Decision, Module, PolicyError};
use crate::rollout::driver::Decide;
use crate::rollout::driver::lease_task::{self, LeaseSource, LeaseTask, Order};
use crate::rollout::driver::observer::{Observer, RequestsWatch};
use crate::rollout::exec::{self, Connections, Host, Invocation, Kill, Location};
use crate::rollout::journal::{
    self, Bounds, Closing, Header, Journal, QuestionKind, Record, RecordedOrchestration, RecordedWave, Written,
};
use crate::rollout::machine::Rollout;
use crate::rollout::model::{
    Action, ActionResult, CommandKind, Course, End, EpochMs, Event, Fault, Floor, Input, Plan, Probed, RecordedStatus,
    Report, Resumed, RunFailure, RunId, RunStatus, Setup, Stamped, Stop, TargetIndex,
};
use crate::rollout::orchestration::{HeldLeases, OrchestrationDriver, OrchestrationJob, Replies, Requests};
use crate::rollout::run_state::{Calls, OwnLeases, RecordedCalls, RunEnd, RunStateError, RunStateWriter, Runner};
use lockkeeper_coordination::files;
use lockkeeper_coordination::recipe::{Identifier, Owner, Party, Semaphore, StoreId};
use lockkeeper_coordination::store::{Clock, Fence, Store};
use lockkeeper_coordination::zookeeper::Secret;

/// Inputs that may wait for the loop; a task that reports more is blocked until there is room.
const MAX_INPUTS: usize = 1024;

/// Minimum interval between two run statuses.
const RUN_STATUS_INTERVAL_MS: u64 = 1_000;

/// Smallest jump of the wall clock, in milliseconds, that the run reports: time synchronisation makes smaller ones.
const MIN_CLOCK_JUMP_MS: u64 = 2_000;

/// Longest sleep, so that a jump of the wall clock is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Bytes of a target's name in the name of its log: file names end at 255 bytes.
const MAX_LOG_NAME: usize = 200;

/// Everything that a run needs.
#[derive(Debug)]
pub struct Run<P = Module> {
    /// The checked job.
    pub job: JobSpec,
    /// Folder of the job file; relative paths are relative to it.
    pub folder: PathBuf,
    /// Targets, waves and limits.
    pub plan: Plan,
    /// The policy, or a test's stand-in for one.
    pub policy: P,
    /// Folder of the journal and the commands' output; used by this run alone.
    pub journal: PathBuf,
    /// The store's servers or file, for the commands' environment.
    pub place: String,
    /// This process's lease as the job's runner, with the session.
    pub runner: Arc<Runner>,
    /// Writes the run's state to the store.
    pub run_state: Arc<RunStateWriter>,
    /// What an earlier runner recorded. `None` if the run is new.
    pub resumed: Option<Resumed>,
    /// The orchestration that decides which target may start. `None` if the policy alone decides.
    pub orchestration_job: Option<OrchestrationJob>,
    /// Environment variables of the commands whose values are not in the job, by name.
    pub values: BTreeMap<String, Secret>,
    /// ID of the store, which accompanies every fence. `None` if this caller may not read it.
    pub store_id: Option<StoreId>,
    /// Command that starts local commands and ends them with this process: for ephemeral leases, which end with it,
    /// too. Empty for persistent leases: a command continues under a lease that outlives this process.
    pub tie: Vec<String>,
}

/// Why a run could not start or continue.
#[derive(Debug, Error)]
pub enum RunError {
    /// The journal cannot be written.
    #[error("cannot write the journal in `{}`", folder.display())]
    Journal {
        /// Folder of the journal.
        folder: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// A target lacks a label that its command, or its name in the party, needs.
    #[error("cannot make the command for a target")]
    Command(#[from] MissingLabel),
    /// A target's name is not a valid identifier.
    #[error("target `{target}` cannot hold a lease: {reason}")]
    Identifier {
        /// Name of the target.
        target: String,
        /// What is wrong with the name.
        reason: String,
    },
    /// The run's state cannot be read or written.
    #[error(transparent)]
    RunState(#[from] RunStateError),
}

/// Runs a job until it is finished, is stopped, or another process takes over. Every event is passed to `tell`; each
/// stop of `stops` takes effect at once.
///
/// The store has every step, so that [`Runner::resume`] continues from there after a stop, a lost session or a crash.
///
/// # Errors
/// [`RunError`], before anything was changed, or when the journal can no longer be written: then nothing new starts,
/// running commands are stopped and their slots are released.
///
/// # Session loss
/// [`End::Lost`](crate::rollout::model::End::Lost): every command is stopped before another process can be the runner.
/// The next runner finds the targets whose commands were running unknown.
///
/// # Cancel safety
/// None: dropped, it leaves commands running and persistent leases held. Send a [`Stop`] instead.
///
/// # Panics
/// If one of its own tasks panics: a bug must not leave the run waiting for that task.
pub async fn run<P: Decide>(
    run: Run<P>,
    stops: mpsc::Receiver<Stop>,
    tell: impl FnMut(&Stamped) + Send,
) -> Result<Report, RunError> {
    let store = Arc::clone(run.runner.store());
    let clock = store.clock();
    check(&run)?;
    let setup = setup(&run);
    let output = run.journal.join("output");
    let cannot_write = |source| RunError::Journal { folder: run.journal.clone(), source };
    files::make_folders(&output).map_err(cannot_write)?;
    let requests_watch = RequestsWatch::new(Arc::clone(&run.run_state), &run.plan.targets);
    let requests = requests_watch.read(&store).await?;
    let slots = NonZeroU32::new(run.plan.limits.slots).unwrap_or(NonZeroU32::MIN);
    let semaphore = Semaphore::of_stored_slots(Arc::clone(&store), run.job.semaphore.path.clone(), slots);
    let (inputs, inbox) = mpsc::channel(MAX_INPUTS);
    let observer = Observer {
        store: Arc::clone(&store),
        runner: Arc::clone(&run.runner),
        semaphore: semaphore.clone(),
        party: run.job.party.as_ref().map(|party| Party::new(Arc::clone(&store), party.path.clone())),
        others: run.job.observe.clone(),
        requests: requests_watch,
        inputs: inputs.clone(),
    };
    let grants = run.job.policy.grants;
    let connections = run.job.action.ssh.clone().map(|ssh| Arc::new(Connections::new(ssh, &run.folder)));
    let (orchestration_requests, replies) = Requests::new(inputs.clone());
    let driver = match &run.orchestration_job {
        Some(spec) => Some(driver(&run, spec.clone(), orchestration_requests).await?),
        None => None,
    };
    let header = header(&run, driver.as_ref().map(|(_, beginning)| beginning));
    let journal = Journal::create(&run.journal.join(journal::file_name(run.run_state.runner_epoch())), &header)
        .map_err(cannot_write)?;
    let mut run_loop = RunLoop {
        replies,
        settings: run.job.policy.settings.to_string(),
        grants,
        output,
        connections,
        store,
        semaphore,
        inputs,
        clock,
        clock_set_ms: clock.set_ms(),
        clock_start_ms: clock.set_ms(),
        question: None,
        lease_tasks: HashMap::new(),
        kills: HashMap::new(),
        writes: HashMap::new(),
        published_status: RunStatus::default(),
        tasks: JoinSet::new(),
        journal: Some(journal),
        members: None,
        failed: None,
        is_failure_reported: false,
        rollout: Rollout::new(setup),
        tell,
        run,
    };
    run_loop.emit_started();
    run_loop.step(Input::OperatorRequests(requests));
    let driver = driver.map(|(driver, beginning)| tokio::spawn(driver.orchestration(beginning)));
    let mut report = run_loop.drive(observer, inbox, stops).await;
    if let Some(driver) = driver {
        // The call that it waits for is in the store, or was never written; the next runner finds it.
        driver.abort();
        check_task(driver.await);
    }
    if let Ok(report) = &mut report
        && report.end.is_final()
        && let Err(failure) = run_loop.release_own_leases().await
    {
        report.end = End::Failed(failure);
    }
    report
}

/// Prepares the orchestration's driver and the state from which its guest starts.
async fn driver<P>(
    run: &Run<P>,
    spec: OrchestrationJob,
    requests: Requests,
) -> Result<(OrchestrationDriver, Beginning), RunError> {
    let who = Identifier::new(run.run_state.run())
        .map_err(|error| RunError::Identifier { target: run.run_state.run().to_owned(), reason: error.to_string() })?;
    let (calls, RecordedCalls { checkpoint, called, begun }) = Calls::open(&run.run_state).await?;
    let started = run.run_state.started();
    let target = |target: &Target| contract::Target {
        name: target.name.to_string(),
        labels: target
            .labels
            .iter()
            .map(|(key, value)| contract::Label { key: key.clone(), value: value.clone() })
            .collect(),
        wave: String::new(),
        attempt: 1,
        waiting_since: started,
    };
    let beginning = Beginning {
        settings: spec.settings.clone(),
        state: checkpoint.state.and_then(|state| hex::decode(state).ok()),
        targets: run.plan.targets.iter().map(target).collect(),
        now: checkpoint.at.unwrap_or(started),
    };
    let targets = run.plan.targets.iter().enumerate();
    let targets = targets.map(|(index, target)| (target.name.to_string(), TargetIndex::new(index))).collect();
    let driver = OrchestrationDriver {
        owner: owner(run),
        own_leases: OwnLeases::open(&run.run_state).await?,
        spec,
        store: Arc::clone(run.runner.store()),
        who,
        calls,
        recorded: called.into(),
        begun,
        again: run.resumed.is_some(),
        targets,
        can_roll_back: run.job.action.roll_back.is_some(),
        requests,
        held_leases: HeldLeases::default(),
        started: BTreeSet::new(),
        to_restart: Vec::new(),
        has_called: false,
    };
    Ok((driver, beginning))
}

/// This run as the owner of its leases.
fn owner<P>(run: &Run<P>) -> Owner {
    let runner = run.runner.who().to_string();
    Owner::Run { run: run.run_state.run().to_owned(), job: run.job.name.to_string(), runner }
}

/// Builds every target's command and identifier once, so that a mistake is found before anything changes.
fn check<P>(run: &Run<P>) -> Result<(), RunError> {
    for target in &run.plan.targets {
        Identifier::new(target.name.as_str())
            .map_err(|error| RunError::Identifier { target: target.name.to_string(), reason: error.to_string() })?;
        commands(run, target, "", 1, 0)?;
        run.job.party.as_ref().map(|party| party.member.member(target)).transpose()?;
    }
    Ok(())
}

/// The commands for one target.
struct Commands {
    run: Vec<String>,
    /// Checks whether the action worked.
    probe: Option<Vec<String>>,
    /// Rolls the action back.
    roll_back: Option<Vec<String>>,
    /// Checks whether the roll-back worked.
    roll_back_probe: Option<Vec<String>>,
    /// Environment variables from the job.
    environment: Vec<(String, String)>,
}

fn commands<P>(run: &Run<P>, target: &Target, wave: &str, attempt: u32, fence: u64) -> Result<Commands, MissingLabel> {
    let Run { job, run_state, folder, .. } = run;
    let folder = folder.display().to_string();
    let store_id = run.store_id.as_ref().map_or("", StoreId::as_str);
    let with = Substitutions {
        target,
        job: &job.name,
        run: run_state.run(),
        wave,
        attempt,
        fence,
        store_id,
        job_dir: &folder,
    };
    let render = |command: &Option<Command>| command.as_ref().map(|command| command.render(&with)).transpose();
    let ActionSpec { run, probe, roll_back, roll_back_probe, env, .. } = &job.action;
    let environment =
        env.iter().map(|(name, value)| Ok((name.clone(), value.render(&with)?))).collect::<Result<_, _>>()?;
    Ok(Commands {
        run: run.render(&with)?,
        probe: render(probe)?,
        roll_back: render(roll_back)?,
        roll_back_probe: render(roll_back_probe)?,
        environment,
    })
}

fn setup<P>(run: &Run<P>) -> Setup {
    let seed = journal::digest(run.run_state.run().as_bytes());
    Setup {
        job: run.job.name.to_string(),
        run: RunId::new(run.run_state.run()),
        started: EpochMs::new(run.run_state.started()),
        seed: u64::from_str_radix(&seed[..16], 16).unwrap_or(0),
        targets: run.plan.targets.clone(),
        limits: run.plan.limits.clone(),
        action_timeout: run.job.action.timeout,
        semaphore: run.job.semaphore.path.to_string(),
        lifetime: run.job.semaphore.lifetime,
        patience: run.job.semaphore.timeout,
        party: run.job.party.as_ref().map(|party| Floor {
            path: party.path.to_string(),
            blocking: party.blocking,
            patience: party.timeout,
            member: party.member.clone(),
            counts: party.counts,
        }),
        attempts: run.job.action.attempts.get(),
        back_off: run.job.action.back_off,
        on_fault: run.job.policy.on_fault,
        waves: run.plan.waves.clone(),
        has_probe: run.job.action.probe.is_some(),
        can_roll_back: run.job.action.roll_back.is_some(),
        has_roll_back_probe: run.job.action.roll_back_probe.is_some(),
        on_unknown: run.job.action.on_unknown,
        on_exhausted: run.job.budget().on_exhausted,
        observe: run.job.observe.clone(),
        has_orchestration: run.orchestration_job.is_some(),
        resumed: run.resumed.clone(),
    }
}

fn header(run: &Run<impl Decide>, beginning: Option<&Beginning>) -> Header {
    let orchestrated = |(spec, beginning): (&OrchestrationJob, &Beginning)| RecordedOrchestration {
        name: spec.orchestration.manifest().name.clone(),
        digest: spec.orchestration.digest().to_owned(),
        settings: serde_json::from_str(&spec.settings).unwrap_or_default(),
        state: beginning.state.as_ref().map(hex::encode),
        now: beginning.now,
        targets: beginning.targets.clone(),
    };
    Header {
        journal: journal::VERSION,
        job: run.job.name.to_string(),
        run: run.run_state.run().to_owned(),
        started: run.run_state.started(),
        job_digest: run.job.digest.clone(),
        policy: run.policy.name().to_owned(),
        policy_digest: run.policy.digest().to_owned(),
        contract: run.policy.contract(),
        host: format!("lockkeeper {}", env!("CARGO_PKG_VERSION")),
        grants: run.job.policy.grants.iter().map(|grant| grant.as_str().to_owned()).collect(),
        settings: run.job.policy.settings.clone(),
        runner_epoch: run.run_state.runner_epoch(),
        sequence: run.resumed.as_ref().map_or(0, |resumed| resumed.sequence),
        memory: run.resumed.as_ref().map_or_else(Vec::new, |resumed| resumed.memory.clone()),
        limits: Bounds::new(&run.plan.limits, run.job.action.timeout),
        targets: run.plan.targets.iter().map(|target| target.name.to_string()).collect(),
        orchestration: run.orchestration_job.as_ref().zip(beginning).map(orchestrated),
        waves: run.plan.waves.iter().map(RecordedWave::from).collect(),
    }
}

struct RunLoop<P, T> {
    run: Run<P>,
    /// Delivers the machine's replies to the orchestration.
    replies: Arc<Replies>,
    settings: String,
    grants: Grants,
    output: PathBuf,
    /// SSH connections, if the commands run on their targets.
    connections: Option<Arc<Connections>>,
    store: Arc<dyn Store>,
    semaphore: Semaphore,
    inputs: mpsc::Sender<Input>,
    clock: Clock,
    /// How far the wall clock was ahead of the boot clock at the last input.
    clock_set_ms: i64,
    /// The same when this runner started.
    clock_start_ms: i64,
    /// The decision that the policy has to make next.
    question: Option<PolicyQuestion>,
    /// One for each target in flight.
    lease_tasks: HashMap<TargetIndex, mpsc::Sender<Order>>,
    /// The newest write about each target without a lease task; the receiver resolves when the write has ended.
    writes: HashMap<TargetIndex, oneshot::Receiver<()>>,
    /// One for each running command.
    kills: HashMap<TargetIndex, oneshot::Sender<Kill>>,
    tasks: JoinSet<()>,
    /// `None` once it cannot be written.
    journal: Option<Journal>,
    /// The party's members in the journal, and the decision since which they are unchanged.
    members: Option<(u64, Vec<Member>)>,
    failed: Option<RunError>,
    /// Whether the machine knows that the journal failed.
    is_failure_reported: bool,
    /// The run status that was written last.
    published_status: RunStatus,
    rollout: Rollout,
    tell: T,
}

/// A decision that the policy has to make.
struct PolicyQuestion {
    target: TargetIndex,
    view: Box<View>,
    /// The outcome of the action, for a decision about its end.
    outcome: Option<Outcome>,
}

impl<P: Decide, T: FnMut(&Stamped) + Send> RunLoop<P, T> {
    async fn drive(
        &mut self,
        observer: Observer,
        mut inbox: mpsc::Receiver<Input>,
        mut stops: mpsc::Receiver<Stop>,
    ) -> Result<Report, RunError> {
        let mut observer = observer.start();
        let report = loop {
            if let Some(report) = self.rollout.report() {
                break report;
            }
            if let Some(question) = self.question.take() {
                self.decide(question);
                // Inputs are read between decisions, however many there are to make.
                if let Ok(stop) = stops.try_recv() {
                    self.step(Input::Stop(stop));
                }
                if let Ok(input) = inbox.try_recv() {
                    self.step(input);
                }
                tokio::task::yield_now().await;
                continue;
            }
            self.publish_run_status();
            let due = tokio::time::sleep(self.until_next_wake());
            tokio::select! {
                Some(stop) = stops.recv() => self.step(Input::Stop(stop)),
                Some(input) = inbox.recv() => self.step(input),
                Some(ended) = self.tasks.join_next() => check_task(ended),
                Some(ended) = observer.join_next() => check_task(ended),
                () = due => self.step(Input::Tick),
            }
        };
        // Nothing is received any more, so that tasks with pending inputs do not block.
        inbox.close();
        observer.shutdown().await;
        while let Some(ended) = self.tasks.join_next().await {
            check_task(ended);
        }
        if let Some(connections) = &self.connections {
            connections.close().await;
        }
        // Leases do not outlive their session; a store that hangs does not delay the run.
        let _ = timeout(self.store.session_timeout(), self.semaphore.settled()).await;
        let ended = self.write_end(&report).await;
        self.close_journal(&report);
        self.emit_finished(&report);
        match self.failed.take() {
            Some(error) => Err(error),
            None => ended.map(|()| report),
        }
    }

    /// Records the run's end if it is final; otherwise a later runner resumes the run.
    async fn write_end(&self, report: &Report) -> Result<(), RunError> {
        if !report.end.is_final() {
            return Ok(());
        }
        let ended = RunEnd {
            end: report.end.word(&report.counts).to_owned(),
            reason: report.end.reason(),
            at: self.clock.now_ms(),
            counts: report.counts,
        };
        Ok(self.run.run_state.end(ended).await?)
    }

    /// Publishes the run status, at most once a second and only if it has changed.
    fn publish_run_status(&mut self) {
        if self.clock.now_ms() < self.published_status.at.saturating_add(RUN_STATUS_INTERVAL_MS) {
            return;
        }
        let run_status = self.rollout.run_status();
        let same = RunStatus { at: self.published_status.at, ..run_status.clone() } == self.published_status;
        if same {
            return;
        }
        self.published_status = run_status.clone();
        let run_state = Arc::clone(&self.run.run_state);
        // If this is not written, readers see an older status; the run continues.
        self.tasks.spawn(async move { drop(run_state.write_run_status(&run_status).await) });
    }

    fn until_next_wake(&self) -> Duration {
        let wake =
            self.rollout.next_wake().map(|at| Duration::from_millis(at.get().saturating_sub(self.clock.now_ms())));
        wake.map_or(LONGEST_SLEEP, |wake| wake.min(LONGEST_SLEEP))
    }

    /// Checks whether the wall clock was set since the last input. That comes first, because the next step uses the
    /// time.
    fn check_clock(&mut self) {
        let now = self.clock.set_ms();
        let by_ms = now.saturating_sub(self.clock_set_ms);
        self.clock_set_ms = now;
        if by_ms.unsigned_abs() >= MIN_CLOCK_JUMP_MS {
            self.published_status = RunStatus::default();
            self.step(Input::ClockSet { by_ms });
        }
    }

    /// Processes one input and everything that follows at once.
    fn step(&mut self, input: Input) {
        if !matches!(input, Input::ClockSet { .. }) {
            self.check_clock();
        }
        match &input {
            Input::NotLeased { target, .. } | Input::Released { target } | Input::NotReleased { target, .. } => {
                self.lease_tasks.remove(target);
            }
            Input::Ended { target, .. } | Input::Probed { target, .. } => {
                self.kills.remove(target);
            }
            _ => {}
        }
        if let Input::Ended { target, result } = &input
            && let Some(end) = self.rollout.attempt_end(*target, result)
        {
            self.run.run_state.keep_attempt_end(target.get(), self.rollout.attempt(*target), end);
        }
        let lost = match &input {
            Input::Lost { takeover, .. } => Some(*takeover),
            _ => None,
        };
        for action in self.rollout.step(EpochMs::new(self.clock.now_ms()), input) {
            self.carry_out(action);
        }
        if let (Some(error), false) = (&self.failed, self.is_failure_reported) {
            // Nothing new starts, and running commands may end.
            self.is_failure_reported = true;
            let reason = report_of(error);
            self.step(Input::Failed(RunFailure::Runner(reason)));
        }
        if let Some(takeover) = lost {
            // Probes are stopped as well: their answers are no longer needed.
            for (_, kill) in self.kills.drain() {
                let _ = kill.send(Kill { ending: Ending::Unknown, takeover: Some(takeover) });
            }
        }
    }

    /// Releases the orchestration's remaining leases; no other process would. An error changes the run's end.
    async fn release_own_leases(&mut self) -> Result<(), RunFailure> {
        if self.run.orchestration_job.is_none() {
            return Ok(());
        }
        let released = match OwnLeases::open(&self.run.run_state).await {
            Ok(own) => own.release_all().await,
            Err(error) => Err(error),
        };
        let held = match released {
            Ok((_, held)) => held.into_iter().map(|(path, error)| format!("a slot of `{path}` is still held: {error}")),
            Err(error) => return Err(RunFailure::Unavailable(format!("its own leases may still be held: {error}"))),
        };
        match held.reduce(|all, next| format!("{all}; {next}")) {
            None => Ok(()),
            Some(all) => Err(RunFailure::Unavailable(all)),
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Admit { target, view } => self.question = Some(PolicyQuestion { target, view, outcome: None }),
            Action::Reply { id, reply } => self.replies.deliver(id, reply),
            Action::Settle { target, view, outcome } => {
                self.question = Some(PolicyQuestion { target, view, outcome: Some(outcome) });
            }
            Action::Adopt { target } => self.keep(target, LeaseSource::Adopt(self.run.run_state.lease(target.get()))),
            Action::Acquire { target, give_up_at, status } => {
                let patience = lease_task::patience(EpochMs::new(self.clock.now_ms()), give_up_at);
                self.keep(target, LeaseSource::Queue { patience, status });
            }
            Action::Force { target, breaking, reason } => {
                let by = format!("policy `{}` in run `{}`", self.run.policy.name(), self.run.run_state.run());
                self.keep(target, LeaseSource::Force { breaking, by, reason });
            }
            Action::Withdraw { target } => self.order(target, Order::Withdraw),
            Action::Release { target, status } => self.release(target, status),
            Action::Save { target, status } => self.save(target, status),
            Action::Start { target, command_kind, attempt, fence, status } => {
                self.start(target, command_kind, attempt, fence, status);
            }
            Action::Probe { target, command_kind, attempt, fence, after_ms, within_ms } => {
                let within = within_ms.map(Duration::from_millis);
                self.probe(target, command_kind, attempt, fence, Duration::from_millis(after_ms), within);
            }
            Action::Kill { target, ending, takeover } => {
                if let Some(kill) = self.kills.remove(&target) {
                    // An action that has just ended by itself needs no stop.
                    let _ = kill.send(Kill { ending, takeover });
                }
            }
            Action::Emit(event) => self.emit(event),
        }
    }

    // ------------------------------------------------------------------ slots

    fn keep(&mut self, target: TargetIndex, way: LeaseSource) {
        let (sender, orders) = mpsc::channel(Order::MOST);
        let identifier = Identifier::new(self.rollout.target(target).name.as_str());
        let identifier = identifier.expect("`check` made one of it");
        let lease_task = LeaseTask {
            target,
            identifier,
            lifetime: self.run.job.semaphore.lifetime,
            store: Arc::clone(&self.store),
            semaphore: self.semaphore.clone(),
            run_state: Arc::clone(&self.run.run_state),
            owner: owner(&self.run),
            inputs: self.inputs.clone(),
        };
        self.lease_tasks.insert(target, sender);
        let before = self.writes.remove(&target);
        self.tasks.spawn(async move {
            after(before).await;
            lease_task.keep(way, orders).await;
        });
    }

    /// The write in progress about a target without a lease task: the next write about this target waits for it.
    fn written(&mut self, target: TargetIndex) -> (Option<oneshot::Receiver<()>>, oneshot::Sender<()>) {
        let (done, next) = oneshot::channel();
        (self.writes.insert(target, next), done)
    }

    fn order(&mut self, target: TargetIndex, order: Order) {
        if let Some(lease_task) = self.lease_tasks.get(&target) {
            // The channel has room for each order once. If it is closed, the lease task has reported that it holds
            // nothing.
            let _ = lease_task.try_send(order);
        }
    }

    /// Releases the slot through the lease task. Without a lease task there is no lease, and only the status is
    /// recorded.
    fn release(&mut self, target: TargetIndex, status: RecordedStatus) {
        if self.lease_tasks.contains_key(&target) {
            return self.order(target, Order::Release(status));
        }
        let (run_state, store, inputs) =
            (Arc::clone(&self.run.run_state), Arc::clone(&self.store), self.inputs.clone());
        let (before, done) = self.written(target);
        self.tasks.spawn(async move {
            after(before).await;
            if let Err(error) = run_state.save(target.get(), status).await {
                let _ = inputs.send(lease_task::failed_write(error, store.as_ref())).await;
            }
            let _ = inputs.send(Input::Released { target }).await;
            drop(done);
        });
    }

    /// Records the status through the lease task, in order. Without one, no other task writes about this target.
    fn save(&mut self, target: TargetIndex, status: RecordedStatus) {
        if self.lease_tasks.contains_key(&target) {
            return self.order(target, Order::Save(status));
        }
        let (run_state, store, inputs) =
            (Arc::clone(&self.run.run_state), Arc::clone(&self.store), self.inputs.clone());
        let (before, done) = self.written(target);
        self.tasks.spawn(async move {
            after(before).await;
            if let Err(error) = run_state.save(target.get(), status).await {
                let _ = inputs.send(lease_task::failed_write(error, store.as_ref())).await;
            }
            drop(done);
        });
    }

    // ------------------------------------------------------------------ actions

    /// Starts a command after the start is recorded; an unrecorded command never starts.
    fn start(
        &mut self,
        target: TargetIndex,
        command_kind: CommandKind,
        attempt: u32,
        fence: Fence,
        status: RecordedStatus,
    ) {
        let about = self.rollout.target(target).clone();
        let invocation = self.invocation(target, &about, command_kind, attempt, fence);
        let (sender, kill) = oneshot::channel();
        self.kills.insert(target, sender);
        let (may, written) = oneshot::channel();
        self.order(target, Order::Announce { status, attempt, may });
        let (inputs, store) = (self.inputs.clone(), Arc::clone(&self.store));
        self.tasks.spawn(async move {
            // A process that was stopped meanwhile continues here, when another process may be the runner.
            let late = || store.safe_until() <= Instant::now();
            let result = match written.await {
                Ok(()) if !late() => exec::run(invocation, kill).await,
                Ok(()) => not_started(&invocation, "the session with the store had ended by then"),
                Err(_) => not_started(&invocation, "its start could not be recorded"),
            };
            // The loop ends after the last action.
            let _ = inputs.send(Input::Ended { target, result }).await;
        });
    }

    /// Probes the outcome of an action or a roll-back whose end no runner saw.
    fn probe(
        &mut self,
        target: TargetIndex,
        command_kind: CommandKind,
        attempt: u32,
        fence: Fence,
        after: Duration,
        within: Option<Duration>,
    ) {
        let about = self.rollout.target(target).clone();
        let mut invocation = self.invocation(target, &about, command_kind, attempt, fence);
        let probe = match command_kind {
            CommandKind::Action => invocation.probe.take(),
            CommandKind::RollBack => self.roll_back_probe(target, &about, attempt, fence),
        };
        invocation.timeout = within.into_iter().chain(invocation.timeout).min();
        let (sender, mut kill) = oneshot::channel();
        self.kills.insert(target, sender);
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            let killed = tokio::select! {
                () = tokio::time::sleep(after) => false,
                _ = &mut kill => true,
            };
            let answer = match probe {
                Some(run) if !killed => {
                    let result = exec::run(Invocation { run, what: "probe", ..invocation }, kill).await;
                    if result.course == Course::RunnerFailed {
                        let _ = inputs.send(Input::Failed(RunFailure::Runner(result.detail.clone()))).await;
                    }
                    probed(result)
                }
                _ => Probed::Unknown { detail: "there is no probe".to_owned() },
            };
            let _ = inputs.send(Input::Probed { target, answer }).await;
        });
    }

    /// The command that probes a roll-back.
    fn roll_back_probe(&self, index: TargetIndex, target: &Target, attempt: u32, fence: Fence) -> Option<Vec<String>> {
        let wave = self.rollout.wave_of(index).unwrap_or_default();
        let commands = commands(&self.run, target, wave, attempt, fence.get());
        commands.expect("`check` made them once already").roll_back_probe
    }

    fn invocation(
        &self,
        index: TargetIndex,
        target: &Target,
        command_kind: CommandKind,
        attempt: u32,
        fence: Fence,
    ) -> Invocation {
        let fence = fence.get();
        let job = &self.run.job;
        let wave = self.rollout.wave_of(index).unwrap_or_default();
        let commands = commands(&self.run, target, wave, attempt, fence).expect("`check` made them once already");
        let mut environment = vec![
            ("LOCKKEEPER_TARGET".to_owned(), target.name.to_string()),
            ("LOCKKEEPER_FENCE".to_owned(), fence.to_string()),
            // Set to empty, so that commands do not inherit a value of another store.
            (
                "LOCKKEEPER_STORE_ID".to_owned(),
                self.run.store_id.as_ref().map_or_else(String::new, ToString::to_string),
            ),
            ("LOCKKEEPER_ATTEMPT".to_owned(), attempt.to_string()),
            ("LOCKKEEPER_RUN".to_owned(), self.run.run_state.run().to_owned()),
            ("LOCKKEEPER_JOB".to_owned(), job.name.to_string()),
            ("LOCKKEEPER_WAVE".to_owned(), wave.to_owned()),
        ];
        environment.extend(target.labels.iter().map(|(key, value)| {
            let key: String =
                key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
            (format!("LOCKKEEPER_LABEL_{key}"), value.clone())
        }));
        environment.extend(commands.environment);
        let remote = |connections| Location::Remote(Host { name: target.name.to_string(), connections });
        let (run, probe) = match command_kind {
            CommandKind::Action => (commands.run, commands.probe),
            CommandKind::RollBack => (commands.roll_back.unwrap_or_default(), None),
        };
        let run = match self.connections {
            Some(_) => run,
            None => [self.run.tie.clone(), run].concat(),
        };
        Invocation {
            run,
            what: "command",
            probe,
            environment,
            secrets: self.run.values.clone().into_iter().collect(),
            location: self.connections.clone().map_or(Location::Local, remote),
            log: self.output.join(log_name(index, target.name.as_str(), attempt)),
            timeout: job.action.timeout,
            kill_after: job.action.kill_after,
            ends_with_runner: !self.run.tie.is_empty(),
        }
    }

    // ------------------------------------------------------------------ decisions

    /// Makes one decision: asks the policy, records the answer, and only then carries it out.
    fn decide(&mut self, question: PolicyQuestion) {
        let PolicyQuestion { target, mut view, outcome } = question;
        let (settings, memory, grants) = (&self.settings, self.rollout.memory(), self.grants);
        let answer = match outcome {
            None => {
                let decision = self.run.policy.admit(settings, &view, memory, grants);
                self.record(QuestionKind::Admit, target, &mut view, None, &decision);
                self.emit_policy_log(target, &decision);
                match self.failed {
                    // An answer that is not recorded is neither carried out nor remembered.
                    Some(_) => Input::Admitted { target, answer: Ok(not_recorded(self.rollout.memory())) },
                    None => Input::Admitted { target, answer: decision.answer.map_err(|error| fault(&error)) },
                }
            }
            Some(outcome) if self.failed.is_some() => Input::NotSettled { target, outcome },
            Some(outcome) => {
                let decision = self.run.policy.settle(settings, &view, &outcome, memory, grants);
                self.record(QuestionKind::Settle, target, &mut view, Some(&outcome), &decision);
                self.emit_policy_log(target, &decision);
                match self.failed {
                    Some(_) => Input::NotSettled { target, outcome },
                    None => Input::Settled { target, answer: decision.answer.map_err(|error| fault(&error)) },
                }
            }
        };
        self.step(answer);
        self.run.run_state.set_memory(self.rollout.memory());
    }

    fn record<'a, A>(
        &mut self,
        question: QuestionKind,
        target: TargetIndex,
        view: &mut View,
        outcome: Option<&Outcome>,
        decision: &'a Decision<A>,
    ) where
        Written<'a>: From<&'a Result<A, PolicyError>>,
    {
        let Some(journal) = &mut self.journal else { return };
        let Written { verdict, answer, memory } = Written::from(&decision.answer);
        let members_as_of = leave_out_known_members(view, &mut self.members);
        let view = &*view;
        let appended = serde_json::to_vec(view).map_err(io::Error::from).and_then(|text| {
            journal.append(&Record {
                question,
                sequence: view.sequence,
                at: view.now,
                target: self.rollout.target(target).name.as_str(),
                verdict,
                answer,
                fuel: decision.fuel,
                said: &decision.trace,
                policy_digest: self.run.policy.digest(),
                view_digest: journal::digest(&text),
                view,
                members_as_of,
                outcome,
                memory: memory.filter(|memory| *memory != self.rollout.memory()).map(hex::encode),
            })
        });
        if let Err(source) = appended {
            self.journal_failed(source);
        }
    }

    fn close_journal(&mut self, report: &Report) {
        let Some(journal) = self.journal.take() else { return };
        let closing = Closing {
            end: report.end.word(&report.counts).to_owned(),
            ended: self.clock.now_ms(),
            counts: report.counts,
        };
        if let Err(source) = journal.close(&closing) {
            self.journal_failed(source);
        }
    }

    fn journal_failed(&mut self, source: io::Error) {
        self.journal = None;
        self.failed.get_or_insert(RunError::Journal { folder: self.run.journal.clone(), source });
    }

    // ------------------------------------------------------------------ events

    fn emit(&mut self, event: Event) {
        let stamped = Stamped { at: self.clock.now_ms(), event };
        if let Some(Err(source)) = self.journal.as_mut().map(|journal| journal.append_event(&stamped)) {
            self.journal_failed(source);
        }
        (self.tell)(&stamped);
    }

    fn emit_policy_log<A>(&mut self, target: TargetIndex, decision: &Decision<A>) {
        for line in &decision.trace {
            let target = self.rollout.target(target).name.to_string();
            self.emit(Event::PolicyLog { target, line: line.clone() });
        }
    }

    fn emit_started(&mut self) {
        let run = self.run.run_state.run().to_owned();
        self.emit(Event::Planned {
            job: self.run.job.name.to_string(),
            run: run.clone(),
            targets: self.run.plan.targets.len(),
            batches: self.run.plan.batches(),
            slots: self.run.plan.limits.slots,
            semaphore: self.run.job.semaphore.path.to_string(),
            store: self.run.place.clone(),
            journal: self.run.journal.display().to_string(),
        });
        if let Some(resumed) = &self.run.resumed {
            let finished = resumed.targets.iter().filter(|target| target.status.is_final()).count();
            let remaining = resumed.targets.len() - finished;
            let previous_runner = self.run.run_state.previous_runner().unwrap_or_default();
            self.emit(Event::RunResumed {
                run,
                previous_runner,
                runner_epoch: self.run.run_state.runner_epoch(),
                finished,
                remaining,
            });
        }
    }

    fn emit_finished(&mut self, report: &Report) {
        let now = self.clock.now_ms().saturating_add_signed(self.clock_start_ms.saturating_sub(self.clock_set_ms));
        let took_ms = now.saturating_sub(self.rollout.started().get());
        let end = report.end.word(&report.counts);
        self.emit(Event::Finished { end: end.into(), counts: report.counts, forced: report.forced, took_ms });
    }
}

/// Waits until a write has ended, if there is one.
async fn after(write: Option<oneshot::Receiver<()>>) {
    if let Some(write) = write {
        // Nothing is ever sent: the channel closes when the write ends.
        let _ = write.await;
    }
}

/// The result of an action that was announced and not started.
fn not_started(invocation: &Invocation, why: &str) -> ActionResult {
    ActionResult {
        ending: Ending::Unknown,
        course: Course::NotStarted,
        exit_code: None,
        took_ms: 0,
        detail: format!("it was not started: {why}"),
        output: Vec::new(),
        log: invocation.log.display().to_string(),
    }
}

/// The meaning of a probe's exit code for an action whose end no runner saw, as of `lockkeeper guard --outcome`.
fn probed(result: ActionResult) -> Probed {
    let ActionResult { ending, course, exit_code, detail, .. } = result;
    match (ending, exit_code) {
        _ if matches!(course, Course::Unreachable | Course::RunnerFailed) => Probed::Unreachable { detail },
        // The exit code of ssh itself, in a probe that calls ssh.
        (Ending::Failed, Some(255)) => Probed::Unreachable { detail },
        // The probe hangs and may be repeated.
        (Ending::TimedOut, _) => Probed::Unreachable { detail },
        (Ending::Succeeded, _) => Probed::Succeeded,
        (Ending::Failed, Some(66)) => Probed::NotStarted,
        (Ending::Failed, Some(75)) => Probed::Running,
        (Ending::Failed, Some(code)) if code != 76 => Probed::Failed { detail },
        _ => Probed::Unknown { detail },
    }
}

/// The result of an answer that could not be recorded.
fn not_recorded(memory: &[u8]) -> Admitted {
    let (code, reason) = ("not-recorded".to_owned(), "the answer could not be written to the journal".to_owned());
    Admitted { verdict: Admission::Wait, code, reason, wake_after: None, memory: memory.to_vec() }
}

/// An error with its causes.
fn report_of(error: &RunError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

fn fault(error: &PolicyError) -> Fault {
    Fault { kind: error.kind(), message: error.to_string(), hint: error.hint() }
}

/// Removes the party's members from a view if they are those of an earlier decision, and returns that decision's
/// number.
fn leave_out_known_members(view: &mut View, known: &mut Option<(u64, Vec<Member>)>) -> Option<u64> {
    let party = view.party.as_mut()?;
    match known {
        Some((since, members)) if *members == party.members => {
            party.members.clear();
            Some(*since)
        }
        _ => {
            *known = Some((view.sequence, party.members.clone()));
            None
        }
    }
}

/// Panics with a task's panic: a bug in a task must not leave the loop waiting for that task.
fn check_task(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// File name of an attempt's log, for any target name.
fn log_name(index: TargetIndex, target: &str, attempt: u32) -> String {
    match target.len() {
        0..=MAX_LOG_NAME => format!("{target}.{attempt}.log"),
        _ => format!("{}~{index}.{attempt}.log", &target[..target.floor_char_boundary(MAX_LOG_NAME)]),
    }
}
