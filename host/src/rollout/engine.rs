//! The loop: waits for inputs, carries out actions.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use super::Plan;
use super::event::{Event, Stamped};
use super::execute::{self, Invocation};
use super::journal::{self, Header, Journal, Record};
use super::keeper::{self, Keeper, Order, Way};
use super::observe;
use super::sessions::Sessions;
use super::step::{Action, Fault, Floor, Input, Report, Rollout, Setup, Stop};
use crate::job::{Grant, JobSpec, MissingLabel, Substitutions, Target};
use crate::policy::types::{Ending, Outcome, View};
use crate::policy::{Decision, Grants, Module, PolicyError};
use crate::recipe::Identifier;
use crate::store::{Clock, Connect, Store};

/// Inputs that may wait for the loop: a task that reports more waits itself.
const MAX_INPUTS: usize = 1024;

/// Orders that may wait for a keeper: one to withdraw, one to release.
const MAX_ORDERS: usize = 4;

/// The longest sleep, so that a wall clock that jumps is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A run before it begins.
#[derive(Debug)]
pub struct Run {
    /// The job.
    pub job: JobSpec,
    /// Its file's folder.
    pub folder: PathBuf,
    /// Who goes, in which order.
    pub plan: Plan,
    /// Who decides.
    pub policy: Module,
    /// The run's name.
    pub name: String,
    /// Where journal and output go: a folder of this run alone.
    pub journal: PathBuf,
    /// Opens sessions.
    pub connect: Arc<dyn Connect>,
    /// The first of them.
    pub store: Arc<dyn Store>,
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
    /// A target's command cannot be made.
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
}

/// Runs a job to its end. Every event goes to `tell`; `stops` are obeyed as they come.
///
/// # Errors
/// [`RunError`], before anything was touched, or when the journal cannot be written any more: then nothing new is
/// started, what runs is stopped and its slots are given back.
///
/// # Session loss
/// The run goes on in a new session. Persistent leases are kept; an ephemeral one is lost and its command stopped.
///
/// # Cancel safety
/// None: dropped, it leaves commands running and persistent leases held. Send a [`Stop`] instead.
pub async fn run(run: Run, stops: mpsc::Receiver<Stop>, tell: impl FnMut(&Stamped) + Send) -> Result<Report, RunError> {
    let clock = run.store.clock();
    let started_ms = clock.now_ms();
    let setup = setup(&run, started_ms);
    let output = run.journal.join("output");
    let cannot_write = |source| RunError::Journal { folder: run.journal.clone(), source };
    std::fs::create_dir_all(&output).map_err(cannot_write)?;
    let header = header(&run, started_ms);
    let journal = Journal::create(&run.journal.join("journal.jsonl"), &header).map_err(cannot_write)?;

    let slots = NonZeroU32::new(run.plan.limits.slots).unwrap_or(NonZeroU32::MIN);
    let sessions = Arc::new(Sessions::new(
        Arc::clone(&run.connect),
        Arc::clone(&run.store),
        run.job.semaphore.path.clone(),
        slots,
        run.job.party.as_ref().map(|party| party.path.clone()),
    ));
    let (inputs, inbox) = mpsc::channel(MAX_INPUTS);
    let grants = Grants::new(run.job.policy.grants.iter().map(Grant::as_str));
    let mut engine = Engine {
        settings: run.job.policy.settings.to_string(),
        grants,
        output,
        sessions,
        inputs,
        clock,
        keepers: HashMap::new(),
        kills: HashMap::new(),
        tasks: JoinSet::new(),
        journal,
        failed: None,
        rollout: Rollout::new(setup),
        tell,
        run,
    };
    engine.drive(inbox, stops).await
}

fn setup(run: &Run, started_ms: u64) -> Setup {
    let seed = journal::digest(run.name.as_bytes());
    Setup {
        job: run.job.name.to_string(),
        run: run.name.clone(),
        started_ms,
        seed: u64::from_str_radix(&seed[..16], 16).unwrap_or(0),
        targets: run.plan.targets.clone(),
        limits: run.plan.limits,
        semaphore: run.job.semaphore.path.to_string(),
        patience: run.job.semaphore.timeout,
        party: run.job.party.as_ref().map(|party| Floor {
            path: party.path.to_string(),
            blocking: party.blocking,
            patience: party.timeout,
        }),
        attempts: run.job.action.attempts.get(),
        on_fault: run.job.policy.on_fault,
    }
}

fn header(run: &Run, started: u64) -> Header {
    Header {
        journal: journal::VERSION,
        job: run.job.name.to_string(),
        run: run.name.clone(),
        started,
        job_digest: run.job.digest.clone(),
        policy: run.policy.manifest().name.clone(),
        policy_digest: run.policy.digest().to_owned(),
        contract: run.policy.contract(),
        host: format!("lockkeeper {}", env!("CARGO_PKG_VERSION")),
        settings: run.job.policy.settings.clone(),
    }
}

struct Engine<T> {
    run: Run,
    settings: String,
    grants: Grants,
    output: PathBuf,
    sessions: Arc<Sessions>,
    inputs: mpsc::Sender<Input>,
    clock: Clock,
    /// One a target in flight.
    keepers: HashMap<usize, mpsc::Sender<Order>>,
    /// One an action under way.
    kills: HashMap<usize, oneshot::Sender<Ending>>,
    tasks: JoinSet<()>,
    journal: Journal,
    failed: Option<RunError>,
    rollout: Rollout,
    tell: T,
}

impl<T: FnMut(&Stamped) + Send> Engine<T> {
    async fn drive(
        &mut self,
        mut inbox: mpsc::Receiver<Input>,
        mut stops: mpsc::Receiver<Stop>,
    ) -> Result<Report, RunError> {
        let mut watchers = JoinSet::new();
        watchers.spawn(observe::semaphore(Arc::clone(&self.sessions), self.inputs.clone()));
        watchers.spawn(observe::session(Arc::clone(&self.sessions), self.inputs.clone()));
        watchers.spawn(observe::party(Arc::clone(&self.sessions), self.inputs.clone()));
        self.say_planned();

        // The first view shows what is there, so nothing begins before it was read.
        let mut unread = 1 + usize::from(self.run.job.party.is_some());
        let report = loop {
            while self.tasks.try_join_next().is_some() {}
            if let Some(report) = self.rollout.report() {
                break report;
            }
            let input = tokio::select! {
                Some(input) = inbox.recv() => input,
                Some(stop) = stops.recv() => Input::Stop(stop),
                () = tokio::time::sleep(self.until_next_wake()) => Input::Tick,
            };
            if unread > 0 && matches!(input, Input::Semaphore { .. } | Input::Party(_)) {
                unread -= 1;
                self.step(input);
                if unread == 0 {
                    self.step(Input::Begin);
                }
            } else if unread > 0 && matches!(input, Input::Stop(_)) {
                self.step(Input::Begin);
                self.step(input);
            } else {
                self.step(input);
            }
        };
        watchers.shutdown().await;
        // Keepers have reported their last; a moment more and they are gone.
        while self.tasks.join_next().await.is_some() {}
        self.say_finished(&report);
        match self.failed.take() {
            Some(error) => Err(error),
            None => Ok(report),
        }
    }

    fn until_next_wake(&self) -> Duration {
        let wake = self.rollout.next_wake().map(|at| Duration::from_millis(at.saturating_sub(self.clock.now_ms())));
        wake.map_or(LONGEST_SLEEP, |wake| wake.min(LONGEST_SLEEP))
    }

    /// One input, and everything that follows from it at once: decisions among it.
    fn step(&mut self, input: Input) {
        let mut actions: VecDeque<Action> = self.rollout.step(self.clock.now_ms(), input).into();
        while let Some(action) = actions.pop_front() {
            let answer = match action {
                Action::Admit { target, view } => Some(self.admit(target, &view)),
                Action::Settle { target, view, outcome } => Some(self.settle(target, &view, &outcome)),
                other => {
                    self.carry_out(other);
                    None
                }
            };
            if let Some(answer) = answer {
                actions.extend(self.rollout.step(self.clock.now_ms(), answer));
            }
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Acquire { target, give_up_at_ms } => {
                let patience = keeper::patience(self.clock.now_ms(), give_up_at_ms);
                self.keep(target, Way::Queue(patience));
            }
            Action::Force { target, breaking, .. } => self.keep(target, Way::Force(breaking)),
            Action::Withdraw { target } => self.order(target, Order::Withdraw),
            Action::Release { target } => self.order(target, Order::Release),
            Action::Start { target, attempt, fence } => self.start(target, attempt, fence),
            Action::Kill { target, ending } => {
                if let Some(kill) = self.kills.remove(&target) {
                    // An action that just ended by itself needs no stopping.
                    let _ = kill.send(ending);
                }
            }
            Action::Emit(event) => self.emit(event),
            Action::Admit { .. } | Action::Settle { .. } => unreachable!("`step` answers these"),
        }
    }

    // ------------------------------------------------------------------ slots

    fn keep(&mut self, target: usize, way: Way) {
        let (sender, orders) = mpsc::channel(MAX_ORDERS);
        let identifier = Identifier::new(self.rollout.target(target).name.as_str());
        let identifier = identifier.expect("a target's name was checked when the job was");
        let keeper = Keeper {
            target,
            identifier,
            lifetime: self.run.job.semaphore.lifetime,
            sessions: Arc::clone(&self.sessions),
            inputs: self.inputs.clone(),
            orders,
        };
        self.keepers.insert(target, sender);
        self.tasks.spawn(keeper.keep(way));
    }

    fn order(&mut self, target: usize, order: Order) {
        if let Some(keeper) = self.keepers.get(&target) {
            // Full or closed: the same was said before, or the keeper has nothing any more to give.
            let _ = keeper.try_send(order);
        }
    }

    // ------------------------------------------------------------------ actions

    fn start(&mut self, target: usize, attempt: u32, fence: i64) {
        let about = self.rollout.target(target).clone();
        let invocation = match self.invocation(&about, attempt, fence) {
            Ok(invocation) => invocation,
            Err(error) => unreachable!("labels were checked when the targets were known: {error}"),
        };
        let (sender, kill) = oneshot::channel();
        self.kills.insert(target, sender);
        let inputs = self.inputs.clone();
        self.tasks.spawn(async move {
            let result = execute::run(invocation, kill).await;
            // The loop ends after the last action.
            let _ = inputs.send(Input::Ended { target, result }).await;
        });
    }

    fn invocation(&self, target: &Target, attempt: u32, fence: i64) -> Result<Invocation, MissingLabel> {
        let folder = self.run.folder.display().to_string();
        let fence = u64::try_from(fence).unwrap_or(0);
        let job = &self.run.job;
        let with = Substitutions { target, job: &job.name, run: &self.run.name, attempt, fence, job_dir: &folder };
        let probe = job.action.probe.as_ref().map(|probe| probe.render(&with)).transpose()?;
        let mut environment = vec![
            ("LOCKKEEPER_TARGET".to_owned(), target.name.to_string()),
            ("LOCKKEEPER_FENCE".to_owned(), fence.to_string()),
            ("LOCKKEEPER_ATTEMPT".to_owned(), attempt.to_string()),
            ("LOCKKEEPER_RUN".to_owned(), self.run.name.clone()),
            ("LOCKKEEPER_JOB".to_owned(), job.name.to_string()),
            ("LOCKKEEPER_WAVE".to_owned(), String::new()),
        ];
        environment.extend(target.labels.iter().map(|(key, value)| {
            let key: String =
                key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect();
            (format!("LOCKKEEPER_LABEL_{key}"), value.clone())
        }));
        Ok(Invocation {
            run: job.action.run.render(&with)?,
            probe,
            environment,
            log: self.output.join(format!("{}.{attempt}.log", target.name)),
            timeout: job.action.timeout,
            kill_after: job.action.kill_after,
        })
    }

    // ------------------------------------------------------------------ decisions

    fn admit(&mut self, target: usize, view: &View) -> Input {
        let decision = self.run.policy.admit(&self.settings, view, self.rollout.memory(), &self.grants);
        let (verdict, memory) = match &decision.answer {
            Ok(answer) => (Some(answer.verdict.word()), Some(&answer.memory)),
            Err(_) => (None, None),
        };
        let answer = match &decision.answer {
            Ok(answer) => json!({
                "verdict": answer.verdict,
                "code": answer.code,
                "reason": answer.reason,
                "wake-after": answer.wake_after,
            }),
            Err(error) => fault_json(error),
        };
        let memory = self.memory_if_changed(memory);
        self.record("admit", target, view, None, verdict, answer, memory, &decision);
        Input::Admitted { target, answer: decision.answer.map_err(|error| fault(&error)) }
    }

    fn settle(&mut self, target: usize, view: &View, outcome: &Outcome) -> Input {
        let decision = self.run.policy.settle(&self.settings, view, outcome, self.rollout.memory(), &self.grants);
        let (verdict, memory) = match &decision.answer {
            Ok(answer) => (Some(answer.verdict.word()), Some(&answer.memory)),
            Err(_) => (None, None),
        };
        let answer = match &decision.answer {
            Ok(answer) => json!({ "verdict": answer.verdict, "code": answer.code, "reason": answer.reason }),
            Err(error) => fault_json(error),
        };
        let memory = self.memory_if_changed(memory);
        self.record("settle", target, view, Some(outcome), verdict, answer, memory, &decision);
        Input::Settled { target, answer: decision.answer.map_err(|error| fault(&error)) }
    }

    fn memory_if_changed(&self, memory: Option<&Vec<u8>>) -> Option<String> {
        memory.filter(|memory| memory.as_slice() != self.rollout.memory()).map(hex::encode)
    }

    #[expect(clippy::too_many_arguments, reason = "a record's fields, from one caller for each question")]
    fn record<A>(
        &mut self,
        question: &'static str,
        target: usize,
        view: &View,
        outcome: Option<&Outcome>,
        verdict: Option<&'static str>,
        answer: serde_json::Value,
        memory: Option<String>,
        decision: &Decision<A>,
    ) {
        let name = self.rollout.target(target).name.to_string();
        let written = serde_json::to_vec(view).map_err(io::Error::from).and_then(|text| {
            self.journal.append(&Record {
                question,
                sequence: view.sequence,
                at: view.now,
                target: &name,
                verdict,
                answer,
                fuel: decision.fuel,
                said: &decision.trace,
                policy_digest: self.run.policy.digest(),
                view_digest: journal::digest(&text),
                view,
                outcome,
                memory,
            })
        });
        for line in &decision.trace {
            self.emit(Event::Said { target: name.clone(), line: line.clone() });
        }
        if let (Err(source), true) = (written, self.failed.is_none()) {
            self.failed = Some(RunError::Journal { folder: self.run.journal.clone(), source });
            let inputs = self.inputs.clone();
            self.tasks.spawn(async move {
                let _ = inputs.send(Input::Stop(Stop::Now)).await;
            });
        }
    }

    // ------------------------------------------------------------------ telling

    fn emit(&mut self, event: Event) {
        (self.tell)(&Stamped { at: self.clock.now_ms(), event });
    }

    fn say_planned(&mut self) {
        self.emit(Event::Planned {
            job: self.run.job.name.to_string(),
            run: self.run.name.clone(),
            targets: self.run.plan.targets.len(),
            batches: self.run.plan.batches(),
            slots: self.run.plan.limits.slots,
            semaphore: self.run.job.semaphore.path.to_string(),
            journal: self.run.journal.display().to_string(),
        });
    }

    fn say_finished(&mut self, report: &Report) {
        let took_ms = self.clock.now_ms().saturating_sub(self.rollout.started_ms());
        let end = report.end.word(&report.counts);
        self.emit(Event::Finished { end, counts: report.counts, forced: report.forced, took_ms });
    }
}

fn fault(error: &PolicyError) -> Fault {
    Fault { kind: error.kind(), message: error.to_string(), hint: error.hint() }
}

fn fault_json(error: &PolicyError) -> serde_json::Value {
    json!({ "fault": error.kind(), "message": error.to_string() })
}
