//! The loop: waits for inputs, and carries out the machine's actions.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinSet};
use tokio::time::timeout;

use crate::job::Grants;
use crate::policy::types::{Ending, Member};
use crate::rollout::driver::Decide;
use crate::rollout::driver::decisions::PolicyQuestion;
use crate::rollout::driver::lease_task::{self, LeaseSource, LeaseTask, Order};
use crate::rollout::driver::observer::Observer;
use crate::rollout::driver::run::{Run, RunError, owner};
use crate::rollout::exec::{Connections, Kill};
use crate::rollout::journal::Journal;
use crate::rollout::machine::Rollout;
use crate::rollout::model::{
    Action, EpochMs, Event, Input, RecordedStatus, Report, RunFailure, RunStatus, Stamped, Stop, TargetIndex,
};
use crate::rollout::orchestration::Replies;
use crate::rollout::run_state::{OwnLeases, RunEnd};
use lockkeeper_coordination::recipe::{Identifier, Semaphore};
use lockkeeper_coordination::store::{Clock, Store};

/// Minimum interval between two run statuses.
const RUN_STATUS_INTERVAL_MS: u64 = 1_000;

/// Smallest jump of the wall clock, in milliseconds, that the run reports: time synchronisation makes smaller ones.
const MIN_CLOCK_JUMP_MS: u64 = 2_000;

/// Longest sleep, so that a jump of the wall clock is noticed.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// A run in progress.
pub(super) struct RunLoop<P, T> {
    pub(super) run: Run<P>,
    /// Delivers the machine's replies to the orchestration.
    pub(super) replies: Arc<Replies>,
    pub(super) settings: String,
    pub(super) grants: Grants,
    pub(super) output: PathBuf,
    /// SSH connections, if the commands run on their targets.
    pub(super) connections: Option<Arc<Connections>>,
    pub(super) store: Arc<dyn Store>,
    pub(super) semaphore: Semaphore,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) clock: Clock,
    /// How far the wall clock was ahead of the boot clock at the last input.
    pub(super) clock_set_ms: i64,
    /// The same when this runner started.
    pub(super) clock_start_ms: i64,
    /// The decision that the policy has to make next.
    pub(super) question: Option<PolicyQuestion>,
    /// One for each target in flight.
    pub(super) lease_tasks: HashMap<TargetIndex, mpsc::Sender<Order>>,
    /// The newest write about each target without a lease task; the receiver resolves when the write has ended.
    pub(super) writes: HashMap<TargetIndex, oneshot::Receiver<()>>,
    /// One for each running command.
    pub(super) kills: HashMap<TargetIndex, oneshot::Sender<Kill>>,
    pub(super) tasks: JoinSet<()>,
    /// `None` once it cannot be written.
    pub(super) journal: Option<Journal>,
    /// The party's members in the journal, and the decision since which they are unchanged.
    pub(super) members: Option<(u64, Vec<Member>)>,
    pub(super) failed: Option<RunError>,
    /// Whether the machine knows that the journal failed.
    pub(super) is_failure_reported: bool,
    /// The run status that was written last.
    pub(super) published_status: RunStatus,
    pub(super) rollout: Rollout,
    pub(super) on_event: T,
}

impl<P: Decide, T: FnMut(&Stamped) + Send> RunLoop<P, T> {
    /// Runs until the machine reports the end, and then until every task has ended.
    pub(super) async fn drive(
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
    pub(super) fn step(&mut self, input: Input) {
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
    pub(super) async fn release_own_leases(&mut self) -> Result<(), RunFailure> {
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
            Action::Adopt { target } => {
                self.acquire(target, LeaseSource::Adopt(self.run.run_state.lease(target.get())))
            }
            Action::Acquire { target, give_up_at, status } => {
                let patience = lease_task::patience(EpochMs::new(self.clock.now_ms()), give_up_at);
                self.acquire(target, LeaseSource::Queue { patience, status });
            }
            Action::Force { target, breaking, reason } => {
                let by = format!("policy `{}` in run `{}`", self.run.policy.name(), self.run.run_state.run());
                self.acquire(target, LeaseSource::Force { breaking, by, reason });
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

    // ------------------------------------------------------------------ leases and writes

    /// Starts a target's lease task.
    fn acquire(&mut self, target: TargetIndex, source: LeaseSource) {
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
            lease_task.run(source, orders).await;
        });
    }

    /// The write in progress about a target without a lease task: the next write about this target waits for it.
    fn next_write(&mut self, target: TargetIndex) -> (Option<oneshot::Receiver<()>>, oneshot::Sender<()>) {
        let (done, next) = oneshot::channel();
        (self.writes.insert(target, next), done)
    }

    /// Gives an order to a target's lease task.
    pub(super) fn order(&mut self, target: TargetIndex, order: Order) {
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
        let (before, done) = self.next_write(target);
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
        let (before, done) = self.next_write(target);
        self.tasks.spawn(async move {
            after(before).await;
            if let Err(error) = run_state.save(target.get(), status).await {
                let _ = inputs.send(lease_task::failed_write(error, store.as_ref())).await;
            }
            drop(done);
        });
    }

    // ------------------------------------------------------------------ events

    /// Reports an event, to the journal first.
    pub(super) fn emit(&mut self, event: Event) {
        let stamped = Stamped { at: self.clock.now_ms(), event };
        if let Some(Err(source)) = self.journal.as_mut().map(|journal| journal.append_event(&stamped)) {
            self.journal_failed(source);
        }
        (self.on_event)(&stamped);
    }

    pub(super) fn emit_started(&mut self) {
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

/// An error with its causes.
fn report_of(error: &RunError) -> String {
    let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

/// Panics with a task's panic: a bug in a task must not leave the loop waiting for that task.
pub(super) fn check_task(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        std::panic::resume_unwind(error.into_panic());
    }
}
