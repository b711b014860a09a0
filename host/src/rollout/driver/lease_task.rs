//! One task for each target in flight: queues for the slot, holds the lease, writes the target's status and releases
//! the slot.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::rollout::model::{
    Acquisition, EpochMs, HeldElsewhere, Input, LeaseRecord, NotLeased, RecordedStatus, RunFailure, Takeover,
    TargetIndex,
};
use crate::rollout::run_state::{RunStateError, RunStateWriter, owners};
use lockkeeper_coordination::recipe::{
    AcquireError, Acquired, Force, ForceError, Forced, HeldBy, Identifier, IfHeld, Lease, Loss, Owner, Ownership,
    Patience, Request, Semaphore, broken_lease as broken_by,
};
use lockkeeper_coordination::store::{Fence, Lifetime, Store, StoreError};

/// How long the record of a broken lease is waited for before the command under the lease is stopped.
const BREAK_RECORD_TIMEOUT: Duration = Duration::from_millis(200);

/// What the loop orders a lease task to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Leave the queue; ignored once the slot is held.
    Withdraw,
    /// Record that a command is about to start, and allow it once that is written.
    Announce {
        /// The status while it runs: [`RecordedStatus::Running`] or [`RecordedStatus::RollingBack`].
        status: RecordedStatus,
        /// Number of the attempt.
        attempt: u32,
        /// Allows the start; dropped if the start could not be recorded.
        may: oneshot::Sender<()>,
    },
    /// Record the target's status; the slot stays held.
    Save(RecordedStatus),
    /// Release the slot and record the target's status in the same transaction.
    Release(RecordedStatus),
}

impl Order {
    /// Orders that may wait: at most one of each kind, because the machine issues the next of a kind only after the
    /// last was carried out.
    pub(super) const MOST: usize = 8;
}

/// The target and the lease that one task is responsible for.
#[derive(Debug)]
pub(super) struct LeaseTask {
    pub(super) target: TargetIndex,
    pub(super) identifier: Identifier,
    pub(super) lifetime: Lifetime,
    pub(super) store: Arc<dyn Store>,
    pub(super) semaphore: Semaphore,
    pub(super) run_state: Arc<RunStateWriter>,
    /// Owner of the lease, for its claim: this run.
    pub(super) owner: Owner,
    pub(super) inputs: mpsc::Sender<Input>,
}

/// How the slot is acquired.
#[derive(Debug)]
pub(super) enum LeaseSource {
    /// Queue for it.
    Queue {
        /// How long to queue.
        patience: Patience,
        /// The target's status once the slot is held.
        status: RecordedStatus,
    },
    /// Take it by force.
    Force {
        /// Fences of the leases to break.
        breaking: Vec<Fence>,
        /// The policy and run, for the record.
        by: String,
        /// The policy's reason.
        reason: String,
    },
    /// Take over the lease of an earlier runner.
    Adopt(Option<LeaseRecord>),
}

/// Why no slot was acquired.
enum AcquireFailure {
    /// Only this target is affected.
    Target(NotLeased),
    /// The whole run is affected.
    Run(FatalError),
}

/// An error that ends the run.
enum FatalError {
    Failed(RunFailure),
    Lost(RunStateError),
}

impl LeaseTask {
    /// Acquires the slot, holds it until it is ordered to release it, and reports every step.
    pub(super) async fn run(self, source: LeaseSource, mut orders: mpsc::Receiver<Order>) {
        let target = self.target;
        let mut early = VecDeque::new();
        let got = tokio::select! {
            got = self.get(&source) => got,
            // An acquire that is dropped leaves no lease behind.
            () = withdrawn(&mut orders, &mut early) => Err(AcquireFailure::Target(NotLeased::Withdrawn)),
        };
        match got {
            Ok((lease, how)) => {
                self.send(Input::Leased { target, fence: lease.fence(), how }).await;
                if let Some((lease, status)) = self.hold(lease, early, &mut orders).await {
                    self.release(lease, status).await;
                }
            }
            Err(failed) => {
                let why = match (failed, self.reread().await) {
                    (AcquireFailure::Run(error), _) => Err(error),
                    (AcquireFailure::Target(_), Err(error)) => Err(fatal(error)),
                    (AcquireFailure::Target(why), Ok(())) => Ok(why),
                };
                let why = match why {
                    Ok(why) => why,
                    Err(error) => {
                        // The error that ends the run comes first, so that nothing is retried meanwhile.
                        self.report_failure(error).await;
                        NotLeased::Withdrawn
                    }
                };
                self.send(Input::NotLeased { target, why }).await;
                self.without_lease(early, orders).await;
            }
        }
    }

    /// Carries out the orders that arrived before the loop knew that there is no slot.
    async fn without_lease(&self, mut early: VecDeque<Order>, mut orders: mpsc::Receiver<Order>) {
        loop {
            let order = match early.pop_front() {
                Some(order) => order,
                None => match orders.recv().await {
                    Some(order) => order,
                    None => return,
                },
            };
            let (status, is_release) = match order {
                Order::Save(status) => (status, false),
                Order::Release(status) => (status, true),
                // Dropping an announcement forbids the start.
                Order::Withdraw | Order::Announce { .. } => continue,
            };
            if let Err(error) = self.run_state.save(self.target.get(), status).await {
                self.report_failure(fatal(error)).await;
            }
            if is_release {
                self.send(Input::Released { target: self.target }).await;
            }
        }
    }

    /// A cancelled transaction may have written the target's node.
    async fn reread(&self) -> Result<(), RunStateError> {
        self.semaphore.settled().await;
        self.run_state.reread(self.target.get()).await
    }

    async fn get(&self, source: &LeaseSource) -> Result<(Lease, Acquisition), AcquireFailure> {
        match source {
            LeaseSource::Queue { patience, status } => self.queue(*patience, status).await,
            LeaseSource::Force { breaking, by, reason } => self.force(breaking, by, reason).await,
            LeaseSource::Adopt(None) => Err(AcquireFailure::Target(NotLeased::Gone)),
            LeaseSource::Adopt(Some(left)) => {
                let adopted = self.semaphore.adopt(&left.path, left.fence, &self.identifier).await;
                match adopted.map_err(|error| AcquireFailure::Run(of_store(error)))? {
                    Some(lease) => Ok((lease, Acquisition::AlreadyHeld)),
                    None => Err(AcquireFailure::Target(NotLeased::Gone)),
                }
            }
        }
    }

    async fn queue(&self, patience: Patience, status: &RecordedStatus) -> Result<(Lease, Acquisition), AcquireFailure> {
        let Self { target, identifier, lifetime, run_state, owner, .. } = self;
        let along = run_state.along_with_lease(target.get(), status);
        // An admitted target that finds its name held waits outside the queue, so that it keeps no place from others; a
        // target to be rolled back waits inside, because it has no place to keep.
        let if_held = match status {
            RecordedStatus::RollBackLeased { .. } => IfHeld::Wait,
            _ => IfHeld::Refuse,
        };
        let ownership = Ownership::Exclusive(owner.clone(), if_held);
        let request = Request { identifier, lifetime: *lifetime, patience, ownership: &ownership, along: &along };
        match self.semaphore.acquire_as(request).await {
            Ok(Acquired { lease, older, .. }) => {
                run_state.was_leased(target.get(), status.clone(), &lease);
                match older {
                    None => Ok((lease, Acquisition::Free)),
                    Some(older) => {
                        let since = Some(older.since_ms);
                        let by = HeldElsewhere { by: format!("a lease of `{}`", older.identifier), since };
                        Err(self.give_way(lease, status, by).await)
                    }
                }
            }
            Err(AcquireError::Held { by, .. }) => {
                Err(AcquireFailure::Target(NotLeased::Held { by: held_elsewhere(&by), given_back: None }))
            }
            Err(AcquireError::TimedOut { .. } | AcquireError::Full { .. }) => {
                Err(AcquireFailure::Target(NotLeased::TimedOut))
            }
            Err(error @ AcquireError::SlotsDiffer { .. }) => {
                Err(AcquireFailure::Run(FatalError::Failed(RunFailure::SlotsDiffer(error.to_string()))))
            }
            Err(AcquireError::SessionOver { .. }) => {
                Err(AcquireFailure::Run(FatalError::Lost(RunStateError::SessionEnded)))
            }
            Err(AcquireError::Along { source, .. }) => {
                Err(AcquireFailure::Run(fatal(run_state.refused(target.get(), source))))
            }
            Err(AcquireError::Store { source, .. } | AcquireError::Claim { source, .. }) => {
                Err(AcquireFailure::Run(of_store(source)))
            }
            Err(error) => Err(AcquireFailure::Run(FatalError::Failed(RunFailure::Unavailable(error.to_string())))),
        }
    }

    /// Releases a fresh lease because another tool, which does not know claims, holds an older one under the same name.
    async fn give_way(&self, lease: Lease, status: &RecordedStatus, by: HeldElsewhere) -> AcquireFailure {
        let status = match status {
            RecordedStatus::RollBackLeased { was } => was.as_ref().clone(),
            _ => RecordedStatus::Pending,
        };
        let fence = lease.fence();
        match self.run_state.release(self.target.get(), status, &lease).await {
            Ok(()) => {
                lease.forget();
                AcquireFailure::Target(NotLeased::Held { by, given_back: Some(fence) })
            }
            Err(error) => AcquireFailure::Run(fatal(error)),
        }
    }

    async fn force(&self, breaking: &[Fence], by: &str, reason: &str) -> Result<(Lease, Acquisition), AcquireFailure> {
        let Self { target, identifier, lifetime, run_state, store, owner, .. } = self;
        let living = owners::living(store, self.semaphore.path(), breaking).await;
        if let Some(living) = living.map_err(|error| AcquireFailure::Run(of_store(error)))? {
            return Err(AcquireFailure::Target(NotLeased::Conflict(living)));
        }
        let along = run_state.along_with_lease(target.get(), &RecordedStatus::Leased);
        let record = Forced { by: by.to_owned(), reason: reason.to_owned(), at: store.clock().now_ms() };
        let (lifetime, record) = (*lifetime, Some(&record));
        match self.semaphore.force(Force { identifier, lifetime, breaking, owner, record, along: &along }).await {
            Ok(lease) => {
                run_state.was_leased(target.get(), RecordedStatus::Leased, &lease);
                Ok((lease, Acquisition::Forced))
            }
            Err(ForceError::Held { by, .. }) => {
                Err(AcquireFailure::Target(NotLeased::Held { by: held_elsewhere(&by), given_back: None }))
            }
            Err(error @ (ForceError::Conflict { .. } | ForceError::Deleted { .. })) => {
                Err(AcquireFailure::Target(NotLeased::Conflict(error.to_string())))
            }
            // Whether the lease was acquired is unknown: the next runner reads it from the target's node.
            Err(ForceError::SessionOver { .. }) => {
                Err(AcquireFailure::Run(FatalError::Lost(RunStateError::SessionEnded)))
            }
            Err(ForceError::Along { source, .. }) => {
                Err(AcquireFailure::Run(fatal(run_state.refused(target.get(), source))))
            }
            Err(ForceError::Store { source, .. } | ForceError::Claim { source, .. }) => {
                Err(AcquireFailure::Run(of_store(source)))
            }
        }
    }

    /// Watches the lease and carries out orders, until the lease is to be released.
    async fn hold(
        &self,
        lease: Lease,
        mut early: VecDeque<Order>,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Option<(Lease, RecordedStatus)> {
        let Self { target, .. } = *self;
        let mut watching = true;
        loop {
            let next = async {
                match early.pop_front() {
                    Some(order) => Some(order),
                    None => orders.recv().await,
                }
            };
            let loss = tokio::select! {
                loss = lease.lost(), if watching => loss,
                order = next => {
                    match order {
                        Some(Order::Withdraw) => {}
                        Some(Order::Announce { status, attempt, may }) => {
                            match self.run_state.record_start(target.get(), status, attempt, &lease).await {
                                // The receiver is gone only if the whole run is.
                                Ok(()) => drop(may.send(())),
                                Err(error) => self.report_failure(fatal(error)).await,
                            }
                        }
                        Some(Order::Save(status)) => {
                            if let Err(error) = self.run_state.save(target.get(), status).await {
                                self.report_failure(fatal(error)).await;
                            }
                        }
                        Some(Order::Release(status)) => return Some((lease, status)),
                        // Without the loop no command runs under this slot any more; the recorded status stays valid.
                        None => return None,
                    }
                    continue;
                }
            };
            watching = false;
            let free = lease.safe_until(loss);
            // A persistent lease stays with the run for its next runner.
            let (reason, takeover) = match loss {
                Loss::SessionOver if self.lifetime == Lifetime::Persistent => continue,
                Loss::SessionOver => ("the session with the store ended".to_owned(), Takeover::From(free.into_std())),
                Loss::Deleted => (self.who_deleted(&lease).await, Takeover::Since(free.into_std())),
            };
            self.send(Input::LeaseLost { target, reason, takeover }).await;
        }
    }

    /// Why a lease is gone. The command under it is stopped at the same time, and only that stop waits for the answer;
    /// the record is read within [`BREAK_RECORD_TIMEOUT`] or not at all.
    async fn who_deleted(&self, lease: &Lease) -> String {
        match timeout(BREAK_RECORD_TIMEOUT, broken_by(self.store.as_ref(), lease.path())).await {
            Ok(Some(record)) => format!("{} broke it: {}", record.by, record.reason),
            Ok(None) | Err(_) => "it was deleted: broken by force, or unlocked by another tool".to_owned(),
        }
    }

    async fn release(&self, lease: Lease, status: RecordedStatus) {
        let target = self.target;
        let answer = self.run_state.release(target.get(), status, &lease).await;
        lease.forget();
        match answer {
            Ok(()) => self.send(Input::Released { target }).await,
            Err(error) => {
                let reason = match error.is_lost() {
                    true => String::from("the next runner of this run takes it over"),
                    false => format!("the lease of `{}` is still held: {}", self.identifier, error_chain(&error)),
                };
                if error.is_lost() {
                    self.report_failure(FatalError::Lost(error)).await;
                }
                self.send(Input::NotReleased { target, reason }).await;
            }
        }
    }

    async fn report_failure(&self, error: FatalError) {
        self.send(match error {
            FatalError::Failed(failure) => Input::Failed(failure),
            FatalError::Lost(error) => lost(&error, self.store.as_ref()),
        })
        .await;
    }

    async fn send(&self, input: Input) {
        // The loop is gone only when the run is.
        let _ = self.inputs.send(input).await;
    }
}

fn held_elsewhere(by: &HeldBy) -> HeldElsewhere {
    HeldElsewhere { by: by.to_string(), since: by.since_ms() }
}

/// Waits for a withdrawal. Other orders wait until the slot is held.
async fn withdrawn(orders: &mut mpsc::Receiver<Order>, early: &mut VecDeque<Order>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Withdraw => return,
            order => early.push_back(order),
        }
    }
    std::future::pending().await
}

/// The input for a run that another process drives now, or may drive.
pub(super) fn lost(error: &RunStateError, store: &dyn Store) -> Input {
    let takeover = match error {
        RunStateError::Overtaken { .. } => Takeover::Since(Instant::now().into_std()),
        _ => Takeover::From(store.safe_until().into_std()),
    };
    Input::Lost { reason: error.to_string(), takeover }
}

/// What a failed write means for the run.
pub(super) fn failed_write(error: RunStateError, store: &dyn Store) -> Input {
    match fatal(error) {
        FatalError::Failed(failure) => Input::Failed(failure),
        FatalError::Lost(error) => lost(&error, store),
    }
}

fn fatal(error: RunStateError) -> FatalError {
    match error {
        error if error.is_lost() => FatalError::Lost(error),
        RunStateError::Store(source) => of_store(source),
        error => FatalError::Failed(RunFailure::Unavailable(error_chain(&error))),
    }
}

fn of_store(error: StoreError) -> FatalError {
    match error {
        StoreError::SessionOver => FatalError::Lost(RunStateError::SessionEnded),
        error => FatalError::Failed(run_failure(&error)),
    }
}

pub(super) fn run_failure(error: &StoreError) -> RunFailure {
    match error {
        StoreError::Refused { .. } => RunFailure::Refused(error.to_string()),
        _ => RunFailure::Unavailable(error.to_string()),
    }
}

/// An error with its causes.
fn error_chain(error: &RunStateError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// How long a target may wait, from the time at which it gives up.
pub(super) fn patience(now: EpochMs, give_up_at: Option<EpochMs>) -> Patience {
    match give_up_at {
        None => Patience::Forever,
        Some(at) if at <= now => Patience::Once,
        Some(at) => Patience::Until(Instant::now() + Duration::from_millis(at.ms_since(now))),
    }
}
