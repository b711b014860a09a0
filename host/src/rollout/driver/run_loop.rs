//! The loop: waits for inputs, carries out actions.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

use crate::job::{ActionSpec, Command, Grants, JobSpec, MissingLabel, Substitutions, Target};
use crate::policy::orchestration::Beginning;
use crate::policy::types::{self as contract, Admission, Admitted, Ending, Member, Outcome, View};
use crate::policy::{Decision, Module, PolicyError};
use crate::rollout::driver::Decide;
use crate::rollout::driver::lease_task::{self, LeaseTask, Order, Way};
use crate::rollout::driver::observer::{Observer, RequestsWatch};
use crate::rollout::exec::{self, Connections, Host, Invocation, Kill, Place};
use crate::rollout::journal::{self, Asked, Bounds, Closing, Header, Journal, Orchestrated, Record, Together, Written};
use crate::rollout::machine::Rollout;
use crate::rollout::model::{
    Action, ActionResult, Broken, CommandKind, Course, End, Event, Fault, Floor, Input, Plan, Probed, RecordedStatus,
    Report, Resumed, RunStatus, Setup, Stamped, Stop,
};
use crate::rollout::orchestration::{Claimed, OrchestrationDriver, OrchestrationJob, Stands};
use crate::rollout::run_state::{Calls, Ended, Known, OwnLeases, RunStateError, RunStateWriter, Runner};
use lockkeeper_coordination::files;
use lockkeeper_coordination::recipe::{Identifier, Owner, Party, Semaphore, StoreId};
use lockkeeper_coordination::store::{Clock, Fence, Store};
use lockkeeper_coordination::zookeeper::Secret;

/// Inputs that may wait for the loop: a task that reports more waits itself.
const MAX_INPUTS: usize = 1024;

/// How often it is said what the run waits for.
const BETWEEN_RUN_STATUSES_MS: u64 = 1_000;

/// By how much the wall clock must have been set at least before a run hears of it, in milliseconds: smaller steps are how clocks
/// are kept right.
const CLOCK_SET_MS: u64 = 2_000;

/// The longest sleep, so that a wall clock that jumps is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The longest beginning of a target's name that its log is named by, in bytes: a file's name ends at 255.
const MAX_LOG_NAME: usize = 200;

/// A run, as its runner has it.
#[derive(Debug)]
pub struct Run<P = Module> {
    /// The job.
    pub job: JobSpec,
    /// Its file's folder.
    pub folder: PathBuf,
    /// Who goes, in which order.
    pub plan: Plan,
    /// Who decides.
    pub policy: P,
    /// Where journal and output go: a folder of this run alone.
    pub journal: PathBuf,
    /// Where the store is: servers, or a file.
    pub place: String,
    /// That the run is ours, and the session.
    pub runner: Arc<Runner>,
    /// Where its state is written.
    pub run_state: Arc<RunStateWriter>,
    /// What an earlier runner left; none: it begins.
    pub resumed: Option<Resumed>,
    /// Who says which target may go at all; none: the policy alone decides.
    pub orchestration_job: Option<OrchestrationJob>,
    /// The values of the commands' environment that do not stand in the job, by name.
    pub values: BTreeMap<String, Secret>,
    /// The id of the store, which goes with every fence. `None` if this caller may not read it.
    pub store_id: Option<StoreId>,
    /// What a command of this machine is started by, so that it ends with this process: for ephemeral leases, which end with it,
    /// too. Empty: it goes on, under a lease that outlives us.
    pub tie: Vec<String>,
}

/// Why a run could not begin or go on.
#[derive(Debug, Error)]
pub enum RunError {
    /// The journal cannot be written.
    #[error("cannot write the journal in `{}`", folder.display())]
    Journal {
        /// Which folder.
        folder: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A target's command, or its name in the party, cannot be made.
    #[error("cannot make the command for a target")]
    Command(#[from] MissingLabel),
    /// A target's name is no identifier.
    #[error("target `{target}` cannot hold a lease: {reason}")]
    Identifier {
        /// Which.
        target: String,
        /// Why not.
        reason: String,
    },
    /// The run's state cannot be read or written.
    #[error(transparent)]
    RunStateWriter(#[from] RunStateError),
}

/// Runs a job until it is finished, or stopped, or somebody else's. Every event goes to `tell`; `stops` are obeyed as
/// they come.
///
/// What it did is in the store whenever it does something, so that [`Runner::go_on`] goes on from there: after a stop, a
/// lost session, a crash.
///
/// # Errors
/// [`RunError`], before anything was touched, or when the journal cannot be written any more: then nothing new is
/// started, what runs is stopped and its slots are given back.
///
/// # Session loss
/// [`End::Lost`](super::End::Lost): every command is stopped before somebody else can be the runner. What acted is unknown to the next one.
///
/// # Cancel safety
/// None: dropped, it leaves commands running and persistent leases held. Send a [`Stop`] instead.
///
/// # Panics
/// When one of its own tasks does: a bug must not leave the run waiting for it.
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
    let (board, seen) = watch::channel(Vec::new());
    let driver = match &run.orchestration_job {
        Some(spec) => Some(driver(&run, spec.clone(), seen, inputs.clone()).await?),
        None => None,
    };
    let header = header(&run, driver.as_ref().map(|(_, beginning)| beginning));
    let journal = Journal::create(&run.journal.join(journal::file_name(run.run_state.runner_epoch())), &header)
        .map_err(cannot_write)?;
    let mut engine = Engine {
        board,
        settings: run.job.policy.settings.to_string(),
        grants,
        output,
        connections,
        store,
        semaphore,
        inputs,
        clock,
        clock_set_ms: clock.set_ms(),
        clock_began_ms: clock.set_ms(),
        question: None,
        keepers: HashMap::new(),
        kills: HashMap::new(),
        writes: HashMap::new(),
        said_now: RunStatus::default(),
        tasks: JoinSet::new(),
        journal: Some(journal),
        members: None,
        failed: None,
        is_failure_told: false,
        rollout: Rollout::new(setup),
        tell,
        run,
    };
    engine.board.send_replace(engine.stands());
    engine.say_begun();
    engine.step(Input::Requests(requests));
    let driver = driver.map(|(driver, beginning)| tokio::spawn(driver.orchestration(beginning)));
    let mut report = engine.drive(observer, inbox, stops).await;
    if let Some(driver) = driver {
        // What it waits for is in the store, or was never written: whoever goes on finds it.
        driver.abort();
        check_task(driver.await);
    }
    if let Ok(report) = &mut report
        && report.end.is_final()
        && let Err(broken) = engine.release_own_leases().await
    {
        report.end = End::Broken(broken);
    }
    report
}

/// Who carries out what the orchestration calls, and what that begins with.
async fn driver<P>(
    run: &Run<P>,
    spec: OrchestrationJob,
    board: watch::Receiver<Vec<Stands>>,
    inputs: mpsc::Sender<Input>,
) -> Result<(OrchestrationDriver, Beginning), RunError> {
    let who = Identifier::new(run.run_state.run())
        .map_err(|error| RunError::Identifier { target: run.run_state.run().to_owned(), reason: error.to_string() })?;
    let (calls, Known { checkpoint, called, begun }) = Calls::open(&run.run_state).await?;
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
    let targets = run.plan.targets.iter().enumerate().map(|(index, target)| (target.name.to_string(), index)).collect();
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
        board,
        inputs,
        claimed: Claimed::default(),
        started: BTreeSet::new(),
        recalled: Vec::new(),
        has_called: false,
    };
    Ok((driver, beginning))
}

/// This run, as the owner of its leases.
fn owner<P>(run: &Run<P>) -> Owner {
    let runner = run.runner.who().to_string();
    Owner::Run { run: run.run_state.run().to_owned(), job: run.job.name.to_string(), runner }
}

/// Everything that could not be made of a target later is found before anything is touched.
fn check<P>(run: &Run<P>) -> Result<(), RunError> {
    for target in &run.plan.targets {
        Identifier::new(target.name.as_str())
            .map_err(|error| RunError::Identifier { target: target.name.to_string(), reason: error.to_string() })?;
        commands(run, target, "", 1, 0)?;
        run.job.party.as_ref().map(|party| party.member.member(target)).transpose()?;
    }
    Ok(())
}

/// What is run on a target.
struct Commands {
    run: Vec<String>,
    /// Asks whether that worked.
    probe: Option<Vec<String>>,
    /// Undoes it.
    roll_back: Option<Vec<String>>,
    /// Asks whether it was undone.
    roll_back_probe: Option<Vec<String>>,
    /// What the job adds to their environment.
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
        run: run.run_state.run().to_owned(),
        started_ms: run.run_state.started(),
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
    let orchestrated = |(spec, beginning): (&OrchestrationJob, &Beginning)| Orchestrated {
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
        waves: run.plan.waves.iter().map(Together::from).collect(),
    }
}

struct Engine<P, T> {
    run: Run<P>,
    /// Where the targets stand, for the conductor.
    board: watch::Sender<Vec<Stands>>,
    settings: String,
    grants: Grants,
    output: PathBuf,
    /// To the targets, where the commands run there.
    connections: Option<Arc<Connections>>,
    store: Arc<dyn Store>,
    semaphore: Semaphore,
    inputs: mpsc::Sender<Input>,
    clock: Clock,
    /// How far that was ahead of a clock that nobody sets.
    clock_set_ms: i64,
    /// The same when this runner began.
    clock_began_ms: i64,
    /// What the policy is to be asked next.
    question: Option<Question>,
    /// One a target in flight.
    keepers: HashMap<usize, mpsc::Sender<Order>>,
    /// The newest write about each target that has no keeper; it ends with the write.
    writes: HashMap<usize, oneshot::Receiver<()>>,
    /// One an action under way.
    kills: HashMap<usize, oneshot::Sender<Kill>>,
    tasks: JoinSet<()>,
    /// None once it cannot be written.
    journal: Option<Journal>,
    /// The party's members as the journal has them, and since which decision.
    members: Option<(u64, Vec<Member>)>,
    failed: Option<RunError>,
    /// The machine has heard of that.
    is_failure_told: bool,
    /// What was said last of what it waits for.
    said_now: RunStatus,
    rollout: Rollout,
    tell: T,
}

/// One decision to be made.
struct Question {
    target: usize,
    view: Box<View>,
    /// How the action ended, if that is what it is about.
    outcome: Option<Outcome>,
}

impl<P: Decide, T: FnMut(&Stamped) + Send> Engine<P, T> {
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
                // However much there is to decide, the world is heard in between.
                if let Ok(stop) = stops.try_recv() {
                    self.step(Input::Stop(stop));
                }
                if let Ok(input) = inbox.try_recv() {
                    self.step(input);
                }
                tokio::task::yield_now().await;
                continue;
            }
            self.say_now();
            let due = tokio::time::sleep(self.until_next_wake());
            tokio::select! {
                Some(stop) = stops.recv() => self.step(Input::Stop(stop)),
                Some(input) = inbox.recv() => self.step(input),
                Some(ended) = self.tasks.join_next() => check_task(ended),
                Some(ended) = observer.join_next() => check_task(ended),
                () = due => self.step(Input::Tick),
            }
        };
        // Nobody listens any more: who still has something to say goes on at once.
        inbox.close();
        observer.shutdown().await;
        while let Some(ended) = self.tasks.join_next().await {
            check_task(ended);
        }
        if let Some(connections) = &self.connections {
            connections.close().await;
        }
        // Longer than its session nothing lives that is cleaned up; a store that hangs does not hold the run up.
        let _ = timeout(self.store.session_timeout(), self.semaphore.settled()).await;
        let ended = self.write_end(&report).await;
        self.close_journal(&report);
        self.say_finished(&report);
        match self.failed.take() {
            Some(error) => Err(error),
            None => ended.map(|()| report),
        }
    }

    /// What is final is written down as the run's end; with anything else somebody goes on another time.
    async fn write_end(&self, report: &Report) -> Result<(), RunError> {
        if !report.end.is_final() {
            return Ok(());
        }
        let ended = Ended {
            end: report.end.word(&report.counts).to_owned(),
            reason: report.end.reason(),
            at: self.clock.now_ms(),
            counts: report.counts,
        };
        Ok(self.run.run_state.end(ended).await?)
    }

    /// Once a second at most, and only what is new.
    fn say_now(&mut self) {
        if self.clock.now_ms() < self.said_now.at.saturating_add(BETWEEN_RUN_STATUSES_MS) {
            return;
        }
        let run_status = self.rollout.run_status();
        let same = RunStatus { at: self.said_now.at, ..run_status.clone() } == self.said_now;
        if same {
            return;
        }
        self.said_now = run_status.clone();
        let run_state = Arc::clone(&self.run.run_state);
        // Whoever looks sees an older one if this is not written; the run goes on all the same.
        self.tasks.spawn(async move { drop(run_state.say_now(&run_status).await) });
    }

    fn until_next_wake(&self) -> Duration {
        let wake = self.rollout.next_wake().map(|at| Duration::from_millis(at.saturating_sub(self.clock.now_ms())));
        wake.map_or(LONGEST_SLEEP, |wake| wake.min(LONGEST_SLEEP))
    }

    /// The wall clock may have been set since the last input: that is heard first, since the time of the next step goes by it.
    fn look_at_clock(&mut self) {
        let now = self.clock.set_ms();
        let by_ms = now.saturating_sub(self.clock_set_ms);
        self.clock_set_ms = now;
        if by_ms.unsigned_abs() >= CLOCK_SET_MS {
            self.said_now = RunStatus::default();
            self.step(Input::ClockSet { by_ms });
        }
    }

    /// One input, and what follows from it at once.
    fn step(&mut self, input: Input) {
        if !matches!(input, Input::ClockSet { .. }) {
            self.look_at_clock();
        }
        match &input {
            Input::NotLeased { target, .. } | Input::Released { target } | Input::NotReleased { target, .. } => {
                self.keepers.remove(target);
            }
            Input::Ended { target, .. } | Input::Probed { target, .. } => {
                self.kills.remove(target);
            }
            _ => {}
        }
        if let Input::Ended { target, result } = &input
            && let Some(sight) = self.rollout.sight(*target, result)
        {
            self.run.run_state.saw(*target, self.rollout.attempt(*target), sight);
        }
        let lost = match &input {
            Input::Lost { others, .. } => Some(*others),
            _ => None,
        };
        let taken_back = match &input {
            Input::TakeBack { target } => Some(*target),
            _ => None,
        };
        for action in self.rollout.step(self.clock.now_ms(), input) {
            self.carry_out(action);
        }
        let moved = self.rollout.moved_targets();
        if !moved.is_empty() {
            let rollout = &self.rollout;
            self.board.send_modify(|board| {
                for target in moved {
                    if let Some(stands) = board.get_mut(target) {
                        (stands.state, stands.attempt) = (rollout.state(target), rollout.attempt(target));
                        stands.taken_back += u64::from(taken_back == Some(target));
                    }
                }
            });
        }
        if let (Some(error), false) = (&self.failed, self.is_failure_told) {
            // Nothing new starts, and what runs may end.
            self.is_failure_told = true;
            let reason = report_of(error);
            self.step(Input::Broken(Broken::Runner(reason)));
        }
        if let Some(others) = lost {
            // Probes as well: nobody waits for what they say.
            for (_, kill) in self.kills.drain() {
                let _ = kill.send(Kill { ending: Ending::Unknown, others: Some(others) });
            }
        }
    }

    /// Where each target stands, as the conductor sees it first.
    fn stands(&self) -> Vec<Stands> {
        let stands = |target| Stands::new(self.rollout.state(target), self.rollout.attempt(target));
        (0..self.run.plan.targets.len()).map(stands).collect()
    }

    /// What the orchestration has left: nobody else will release it. Says what is held still, which makes the run's end another.
    async fn release_own_leases(&mut self) -> Result<(), Broken> {
        if self.run.orchestration_job.is_none() {
            return Ok(());
        }
        let released = match OwnLeases::open(&self.run.run_state).await {
            Ok(own) => own.release_all().await,
            Err(error) => Err(error),
        };
        let held = match released {
            Ok((_, held)) => held.into_iter().map(|(path, error)| format!("a slot of `{path}` is still held: {error}")),
            Err(error) => return Err(Broken::Unavailable(format!("its own leases may still be held: {error}"))),
        };
        match held.reduce(|all, next| format!("{all}; {next}")) {
            None => Ok(()),
            Some(all) => Err(Broken::Unavailable(all)),
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Admit { target, view } => self.question = Some(Question { target, view, outcome: None }),
            Action::Advise { target, advice } => self.board.send_modify(|board| {
                if let Some(stands) = board.get_mut(target) {
                    (stands.advice, stands.advised) = (Some(advice), stands.advised + 1);
                }
            }),
            Action::Undone { target, outcome } => self.board.send_modify(|board| {
                if let Some(stands) = board.get_mut(target) {
                    (stands.undone_as, stands.undone) = (Some(outcome), stands.undone + 1);
                }
            }),
            Action::Settle { target, view, outcome } => {
                self.question = Some(Question { target, view, outcome: Some(outcome) });
            }
            Action::Adopt { target } => self.keep(target, Way::Adopt(self.run.run_state.lease(target))),
            Action::Acquire { target, give_up_at_ms, status } => {
                let patience = lease_task::patience(self.clock.now_ms(), give_up_at_ms);
                self.keep(target, Way::Queue { patience, status });
            }
            Action::Force { target, breaking, reason } => {
                let by = format!("policy `{}` in run `{}`", self.run.policy.name(), self.run.run_state.run());
                self.keep(target, Way::Force { breaking, by, reason });
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
            Action::Kill { target, ending, others } => {
                if let Some(kill) = self.kills.remove(&target) {
                    // An action that just ended by itself needs no stopping.
                    let _ = kill.send(Kill { ending, others });
                }
            }
            Action::Emit(event) => self.emit(event),
        }
    }

    // ------------------------------------------------------------------ slots

    fn keep(&mut self, target: usize, way: Way) {
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
        self.keepers.insert(target, sender);
        let before = self.writes.remove(&target);
        self.tasks.spawn(async move {
            after(before).await;
            lease_task.keep(way, orders).await;
        });
    }

    /// What is being written about a target that has no keeper: nobody else writes about it before that is done.
    fn written(&mut self, target: usize) -> (Option<oneshot::Receiver<()>>, oneshot::Sender<()>) {
        let (done, next) = oneshot::channel();
        (self.writes.insert(target, next), done)
    }

    fn order(&mut self, target: usize, order: Order) {
        if let Some(lease_task) = self.keepers.get(&target) {
            // There is room for each order once. Closed: the keeper has said that it has nothing to give.
            let _ = lease_task.try_send(order);
        }
    }

    /// Its keeper does that. Without one there is no lease either, and what is left is to write that down.
    fn release(&mut self, target: usize, status: RecordedStatus) {
        if self.keepers.contains_key(&target) {
            return self.order(target, Order::Release(status));
        }
        let (run_state, store, inputs) =
            (Arc::clone(&self.run.run_state), Arc::clone(&self.store), self.inputs.clone());
        let (before, done) = self.written(target);
        self.tasks.spawn(async move {
            after(before).await;
            if let Err(error) = run_state.save(target, status).await {
                let _ = inputs.send(lease_task::failed_write(error, store.as_ref())).await;
            }
            let _ = inputs.send(Input::Released { target }).await;
            drop(done);
        });
    }

    /// Its keeper writes, in its order; without one nobody else writes about this target.
    fn save(&mut self, target: usize, status: RecordedStatus) {
        if self.keepers.contains_key(&target) {
            return self.order(target, Order::Save(status));
        }
        let (run_state, store, inputs) =
            (Arc::clone(&self.run.run_state), Arc::clone(&self.store), self.inputs.clone());
        let (before, done) = self.written(target);
        self.tasks.spawn(async move {
            after(before).await;
            if let Err(error) = run_state.save(target, status).await {
                let _ = inputs.send(lease_task::failed_write(error, store.as_ref())).await;
            }
            drop(done);
        });
    }

    // ------------------------------------------------------------------ actions

    /// Written down first; only what is written down starts.
    fn start(&mut self, target: usize, command_kind: CommandKind, attempt: u32, fence: Fence, status: RecordedStatus) {
        let about = self.rollout.target(target).clone();
        let invocation = self.invocation(target, &about, command_kind, attempt, fence);
        let (sender, kill) = oneshot::channel();
        self.kills.insert(target, sender);
        let (may, written) = oneshot::channel();
        self.order(target, Order::Announce { status, attempt, may });
        let (inputs, store) = (self.inputs.clone(), Arc::clone(&self.store));
        self.tasks.spawn(async move {
            // A process that was stopped meanwhile wakes up here, when somebody else may be the runner.
            let late = || store.safe_until() <= Instant::now();
            let result = match written.await {
                Ok(()) if !late() => exec::run(invocation, kill).await,
                Ok(()) => not_started(&invocation, "the session with the store had ended by then"),
                Err(_) => not_started(&invocation, "that could not be written down before"),
            };
            // The loop ends after the last action.
            let _ = inputs.send(Input::Ended { target, result }).await;
        });
    }

    /// Asks how an action or a roll-back went whose end no runner saw.
    fn probe(
        &mut self,
        target: usize,
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
                        let _ = inputs.send(Input::Broken(Broken::Runner(result.detail.clone()))).await;
                    }
                    probed(result)
                }
                _ => Probed::Unknown { detail: "nobody was asked".to_owned() },
            };
            let _ = inputs.send(Input::Probed { target, answer }).await;
        });
    }

    /// What says how a roll-back went.
    fn roll_back_probe(&self, index: usize, target: &Target, attempt: u32, fence: Fence) -> Option<Vec<String>> {
        let wave = self.rollout.wave_of(index).unwrap_or_default();
        let commands = commands(&self.run, target, wave, attempt, fence.get());
        commands.expect("`check` made them once already").roll_back_probe
    }

    fn invocation(
        &self,
        index: usize,
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
            // Empty rather than what this process may have inherited of another store.
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
        let there = |connections| Place::There(Host { name: target.name.to_string(), connections });
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
            place: self.connections.clone().map_or(Place::Here, there),
            log: self.output.join(log_name(index, target.name.as_str(), attempt)),
            timeout: job.action.timeout,
            kill_after: job.action.kill_after,
            ends_with_runner: !self.run.tie.is_empty(),
        }
    }

    // ------------------------------------------------------------------ decisions

    /// One decision: asked, written down, and only then carried out.
    fn decide(&mut self, question: Question) {
        let Question { target, mut view, outcome } = question;
        let (settings, memory, grants) = (&self.settings, self.rollout.memory(), self.grants);
        let answer = match outcome {
            None => {
                let decision = self.run.policy.admit(settings, &view, memory, grants);
                self.record(Asked::Admit, target, &mut view, None, &decision);
                self.say_said(target, &decision);
                match self.failed {
                    // What is not written down is not done, and not remembered.
                    Some(_) => Input::Admitted { target, answer: Ok(not_recorded(self.rollout.memory())) },
                    None => Input::Admitted { target, answer: decision.answer.map_err(|error| fault(&error)) },
                }
            }
            Some(outcome) if self.failed.is_some() => Input::NotSettled { target, outcome },
            Some(outcome) => {
                if self.run.orchestration_job.is_some() {
                    self.board.send_modify(|board| {
                        if let Some(stands) = board.get_mut(target) {
                            stands.outcome = Some(outcome);
                        }
                    });
                }
                let decision = self.run.policy.settle(settings, &view, &outcome, memory, grants);
                self.record(Asked::Settle, target, &mut view, Some(&outcome), &decision);
                self.say_said(target, &decision);
                match self.failed {
                    Some(_) => Input::NotSettled { target, outcome },
                    None => Input::Settled { target, answer: decision.answer.map_err(|error| fault(&error)) },
                }
            }
        };
        self.step(answer);
        self.run.run_state.remember(self.rollout.memory());
    }

    fn record<'a, A>(
        &mut self,
        question: Asked,
        target: usize,
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

    // ------------------------------------------------------------------ telling

    fn emit(&mut self, event: Event) {
        let stamped = Stamped { at: self.clock.now_ms(), event };
        if let Some(Err(source)) = self.journal.as_mut().map(|journal| journal.tell(&stamped)) {
            self.journal_failed(source);
        }
        (self.tell)(&stamped);
    }

    fn say_said<A>(&mut self, target: usize, decision: &Decision<A>) {
        for line in &decision.trace {
            let target = self.rollout.target(target).name.to_string();
            self.emit(Event::PolicyLog { target, line: line.clone() });
        }
    }

    fn say_begun(&mut self) {
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

    fn say_finished(&mut self, report: &Report) {
        let now = self.clock.now_ms().saturating_add_signed(self.clock_began_ms.saturating_sub(self.clock_set_ms));
        let took_ms = now.saturating_sub(self.rollout.started_ms());
        let end = report.end.word(&report.counts);
        self.emit(Event::Finished { end: end.into(), counts: report.counts, forced: report.forced, took_ms });
    }
}

/// Waits until a write is done, if there is one.
async fn after(write: Option<oneshot::Receiver<()>>) {
    if let Some(write) = write {
        // Nothing is ever sent: it ends with the write.
        let _ = write.await;
    }
}

/// An action that was announced and not begun.
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

/// What a probe's exit code says of an action whose end nobody saw: that of `lockkeeper guard --outcome`.
fn probed(result: ActionResult) -> Probed {
    let ActionResult { ending, course, exit_code, detail, .. } = result;
    match (ending, exit_code) {
        _ if matches!(course, Course::Unreachable | Course::RunnerFailed) => Probed::Unreachable { detail },
        // The code of ssh itself, in a probe that calls it.
        (Ending::Failed, Some(255)) => Probed::Unreachable { detail },
        // It hangs, and may be asked again.
        (Ending::TimedOut, _) => Probed::Unreachable { detail },
        (Ending::Succeeded, _) => Probed::Succeeded,
        (Ending::Failed, Some(66)) => Probed::NotStarted,
        (Ending::Failed, Some(75)) => Probed::Running,
        (Ending::Failed, Some(code)) if code != 76 => Probed::Failed { detail },
        _ => Probed::Unknown { detail },
    }
}

/// An answer that could not be written down.
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

/// Takes the party's members out of a view that was shown already, if they are those of an earlier decision: which.
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

/// A bug in a task must not leave the loop waiting for what that task will never say.
fn check_task(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}

/// The log of a try, whatever the target is called.
fn log_name(index: usize, target: &str, attempt: u32) -> String {
    match target.len() {
        0..=MAX_LOG_NAME => format!("{target}.{attempt}.log"),
        _ => format!("{}~{index}.{attempt}.log", &target[..target.floor_char_boundary(MAX_LOG_NAME)]),
    }
}
