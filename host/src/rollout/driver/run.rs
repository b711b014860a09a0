//! A run, as its runner starts it: everything that the loop is made from.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::job::{JobSpec, MissingLabel, Target};
use crate::policy::Module;
use crate::policy::orchestration::Beginning;
use crate::policy::types as contract;
use crate::rollout::driver::Decide;
use crate::rollout::driver::commands::Commands;
use crate::rollout::driver::observer::{Observer, RequestsWatch};
use crate::rollout::driver::run_loop::{RunLoop, check_task};
use crate::rollout::exec::Connections;
use crate::rollout::journal::{self, Bounds, Header, Journal, RecordedOrchestration, RecordedWave};
use crate::rollout::machine::Rollout;
use crate::rollout::model::{
    End, EpochMs, Floor, Input, Plan, Report, Resumed, RunId, RunStatus, Setup, Stamped, Stop, TargetIndex,
};
use crate::rollout::orchestration::{HeldLeases, OrchestrationDriver, OrchestrationJob, Requests};
use crate::rollout::run_state::{Calls, OwnLeases, RecordedCalls, RunStateError, RunStateWriter, Runner};
use lockkeeper_coordination::files;
use lockkeeper_coordination::recipe::{Identifier, Owner, Party, Semaphore, StoreId};
use lockkeeper_coordination::zookeeper::Secret;

/// Inputs that may wait for the loop; a task that reports more is blocked until there is room.
const MAX_INPUTS: usize = 1024;

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

/// Runs a job until it is finished, is stopped, or another process takes over. `on_event` gets every event; each stop of
/// `stops` takes effect at once.
///
/// The store has every step, so that [`Runner::resume`] continues from there after a stop, a lost session or a crash.
///
/// # Errors
/// [`RunError`], before anything was changed, or when the journal can no longer be written: then nothing new starts,
/// running commands are stopped and their slots are released.
///
/// # Session loss
/// [`End::Lost`]: every command is stopped before another process can be the runner.
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
    on_event: impl FnMut(&Stamped) + Send,
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
        on_event,
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
pub(super) fn owner<P>(run: &Run<P>) -> Owner {
    let runner = run.runner.who().to_string();
    Owner::Run { run: run.run_state.run().to_owned(), job: run.job.name.to_string(), runner }
}

/// Builds every target's command and identifier once, so that a mistake is found before anything changes.
fn check<P>(run: &Run<P>) -> Result<(), RunError> {
    for target in &run.plan.targets {
        Identifier::new(target.name.as_str())
            .map_err(|error| RunError::Identifier { target: target.name.to_string(), reason: error.to_string() })?;
        Commands::render(run, target, "", 1, 0)?;
        run.job.party.as_ref().map(|party| party.member.member(target)).transpose()?;
    }
    Ok(())
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
