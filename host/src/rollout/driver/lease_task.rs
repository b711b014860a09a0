//! One task a target in flight: it queues for the slot, holds the lease, writes down where its target stands, and gives
//! the slot back.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use crate::rollout::model::{Broken, Got, HeldElsewhere, Input, LeaseRecord, NotLeased, Others, RecordedStatus};
use crate::rollout::run_state::{RunStateError, RunStateWriter, owners};
use lockkeeper_coordination::recipe::{
    AcquireError, Acquired, Force, ForceError, Forced, HeldBy, Identifier, IfHeld, Lease, Loss, Owner, Ownership,
    Patience, Request, Semaphore, broken_lease as broken_by,
};
use lockkeeper_coordination::store::{Fence, Lifetime, Store, StoreError};

/// How long a lost lease's record is waited for, before the command that runs under the lease is stopped.
const LOOK_WHO_BROKE: Duration = Duration::from_millis(200);

/// What a keeper is told.
#[derive(Debug)]
pub(super) enum Order {
    /// Give the place in the queue up; too late once the slot is held.
    Withdraw,
    /// Write down that something is about to start, and say whether it may: not if that could not be written.
    Announce {
        /// Where the target stands while it runs: [`Standing::Acting`] or [`Standing::Reverting`].
        status: RecordedStatus,
        /// Which try it is.
        attempt: u32,
        /// Dropped: it may not.
        may: oneshot::Sender<()>,
    },
    /// Write down where the target stands; the slot stays held.
    Save(RecordedStatus),
    /// Give the slot back, and write down where the target stands then.
    Release(RecordedStatus),
}

impl Order {
    /// As many as may wait: one of a kind, and each is carried out before the machine can have the next of its kind.
    pub(super) const MOST: usize = 8;
}

/// What a keeper is for.
#[derive(Debug)]
pub(super) struct LeaseTask {
    pub(super) target: usize,
    pub(super) identifier: Identifier,
    pub(super) lifetime: Lifetime,
    pub(super) store: Arc<dyn Store>,
    pub(super) semaphore: Semaphore,
    pub(super) run_state: Arc<RunStateWriter>,
    /// Who owns the lease, for its claim: this run.
    pub(super) owner: Owner,
    pub(super) inputs: mpsc::Sender<Input>,
}

/// How the slot is got.
#[derive(Debug)]
pub(super) enum Way {
    /// By queueing; until when.
    Queue {
        /// How long.
        patience: Patience,
        /// Where the target stands once it is there.
        status: RecordedStatus,
    },
    /// By force.
    Force {
        /// Which leases to break.
        breaking: Vec<Fence>,
        /// Who says so, for the record.
        by: String,
        /// Why.
        reason: String,
    },
    /// From an earlier runner.
    Adopt(Option<LeaseRecord>),
}

/// Why no slot was got.
enum Failed {
    /// For this target.
    Target(NotLeased),
    /// For the run.
    Run(Trouble),
}

/// What ends a run.
enum Trouble {
    Broken(Broken),
    Lost(RunStateError),
}

impl LeaseTask {
    /// Gets the slot, holds it until it is told to release it, and reports every step.
    pub(super) async fn keep(self, way: Way, mut orders: mpsc::Receiver<Order>) {
        let target = self.target;
        let mut early = VecDeque::new();
        let got = tokio::select! {
            got = self.get(&way) => got,
            // An acquire that is dropped leaves no lease behind.
            () = withdrawn(&mut orders, &mut early) => Err(Failed::Target(NotLeased::Withdrawn)),
        };
        match got {
            Ok((lease, how)) => {
                self.say(Input::Leased { target, fence: lease.fence(), how }).await;
                if let Some((lease, status)) = self.hold(lease, early, &mut orders).await {
                    self.release(lease, status).await;
                }
            }
            Err(failed) => {
                let why = match (failed, self.look_again().await) {
                    (Failed::Run(trouble), _) => Err(trouble),
                    (Failed::Target(_), Err(error)) => Err(trouble(error)),
                    (Failed::Target(why), Ok(())) => Ok(why),
                };
                let why = match why {
                    Ok(why) => why,
                    Err(trouble) => {
                        // First what ends the run, so that nothing is tried again meanwhile.
                        self.say_trouble(trouble).await;
                        NotLeased::Withdrawn
                    }
                };
                self.say(Input::NotLeased { target, why }).await;
                self.without_lease(early, orders).await;
            }
        }
    }

    /// What was ordered before the engine knew that there is no slot.
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
                // Dropped, an announcement says that it may not start.
                Order::Withdraw | Order::Announce { .. } => continue,
            };
            if let Err(error) = self.run_state.save(self.target, status).await {
                self.say_trouble(trouble(error)).await;
            }
            if is_release {
                self.say(Input::Released { target: self.target }).await;
            }
        }
    }

    /// What was given up half-way may have written the target's node.
    async fn look_again(&self) -> Result<(), RunStateError> {
        self.semaphore.settled().await;
        self.run_state.look_again(self.target).await
    }

    async fn get(&self, way: &Way) -> Result<(Lease, Got), Failed> {
        match way {
            Way::Queue { patience, status } => self.queue(*patience, status).await,
            Way::Force { breaking, by, reason } => self.force(breaking, by, reason).await,
            Way::Adopt(None) => Err(Failed::Target(NotLeased::Gone)),
            Way::Adopt(Some(left)) => {
                let adopted = self.semaphore.adopt(&left.path, left.fence, &self.identifier).await;
                match adopted.map_err(|error| Failed::Run(of_store(error)))? {
                    Some(lease) => Ok((lease, Got::AlreadyHeld)),
                    None => Err(Failed::Target(NotLeased::Gone)),
                }
            }
        }
    }

    async fn queue(&self, patience: Patience, status: &RecordedStatus) -> Result<(Lease, Got), Failed> {
        let Self { target, identifier, lifetime, run_state, owner, .. } = self;
        let along = run_state.along_with_lease(*target, status);
        // A target waits outside, where it keeps no place of the run's from others; what is to be undone has none to keep.
        let if_held = match status {
            RecordedStatus::RollBackLeased { .. } => IfHeld::Wait,
            _ => IfHeld::Refuse,
        };
        let ownership = Ownership::Exclusive(owner.clone(), if_held);
        let request = Request { identifier, lifetime: *lifetime, patience, ownership: &ownership, along: &along };
        match self.semaphore.acquire_as(request).await {
            Ok(Acquired { lease, older, .. }) => {
                run_state.was_leased(*target, status.clone(), &lease);
                match older {
                    None => Ok((lease, Got::Free)),
                    Some(older) => {
                        let since = Some(older.since_ms);
                        let by = HeldElsewhere { by: format!("a lease of `{}`", older.identifier), since };
                        Err(self.give_way(lease, status, by).await)
                    }
                }
            }
            Err(AcquireError::Held { by, .. }) => {
                Err(Failed::Target(NotLeased::Held { by: held_elsewhere(&by), given_back: None }))
            }
            Err(AcquireError::TimedOut { .. } | AcquireError::Full { .. }) => Err(Failed::Target(NotLeased::TimedOut)),
            Err(error @ AcquireError::SlotsDiffer { .. }) => {
                Err(Failed::Run(Trouble::Broken(Broken::SlotsDiffer(error.to_string()))))
            }
            Err(AcquireError::SessionOver { .. }) => Err(Failed::Run(Trouble::Lost(RunStateError::SessionOver))),
            Err(AcquireError::Along { source, .. }) => Err(Failed::Run(trouble(run_state.refused(*target, source)))),
            Err(AcquireError::Store { source, .. } | AcquireError::Claim { source, .. }) => {
                Err(Failed::Run(of_store(source)))
            }
            Err(error) => Err(Failed::Run(Trouble::Broken(Broken::Unavailable(error.to_string())))),
        }
    }

    /// Gives a fresh lease back to an older one of the same name, which a tool took that knows no claims.
    async fn give_way(&self, lease: Lease, status: &RecordedStatus, by: HeldElsewhere) -> Failed {
        let status = match status {
            RecordedStatus::RollBackLeased { was } => was.as_ref().clone(),
            _ => RecordedStatus::Pending,
        };
        let fence = lease.fence();
        match self.run_state.release(self.target, status, &lease).await {
            Ok(()) => {
                lease.forget();
                Failed::Target(NotLeased::Held { by, given_back: Some(fence) })
            }
            Err(error) => Failed::Run(trouble(error)),
        }
    }

    async fn force(&self, breaking: &[Fence], by: &str, reason: &str) -> Result<(Lease, Got), Failed> {
        let Self { target, identifier, lifetime, run_state, store, owner, .. } = self;
        let living = owners::living(store, self.semaphore.path(), breaking).await;
        if let Some(living) = living.map_err(|error| Failed::Run(of_store(error)))? {
            return Err(Failed::Target(NotLeased::Conflict(living)));
        }
        let along = run_state.along_with_lease(*target, &RecordedStatus::Leased);
        let record = Forced { by: by.to_owned(), reason: reason.to_owned(), at: store.clock().now_ms() };
        let (lifetime, record) = (*lifetime, Some(&record));
        match self.semaphore.force(Force { identifier, lifetime, breaking, owner, record, along: &along }).await {
            Ok(lease) => {
                run_state.was_leased(*target, RecordedStatus::Leased, &lease);
                Ok((lease, Got::Forced))
            }
            Err(ForceError::Held { by, .. }) => {
                Err(Failed::Target(NotLeased::Held { by: held_elsewhere(&by), given_back: None }))
            }
            Err(error @ (ForceError::Conflict { .. } | ForceError::Deleted { .. })) => {
                Err(Failed::Target(NotLeased::Conflict(error.to_string())))
            }
            // Whether it was taken is not known: the target's node says it to whoever runs this next.
            Err(ForceError::SessionOver { .. }) => Err(Failed::Run(Trouble::Lost(RunStateError::SessionOver))),
            Err(ForceError::Along { source, .. }) => Err(Failed::Run(trouble(run_state.refused(*target, source)))),
            Err(ForceError::Store { source, .. } | ForceError::Claim { source, .. }) => {
                Err(Failed::Run(of_store(source)))
            }
        }
    }

    /// Watches the lease and writes what it is told, until the lease is to be given back.
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
                            match self.run_state.starts(target, status, attempt, &lease).await {
                                // Who asked is gone only with the whole run.
                                Ok(()) => drop(may.send(())),
                                Err(error) => self.say_trouble(trouble(error)).await,
                            }
                        }
                        Some(Order::Save(status)) => {
                            if let Err(error) = self.run_state.save(target, status).await {
                                self.say_trouble(trouble(error)).await;
                            }
                        }
                        Some(Order::Release(status)) => return Some((lease, status)),
                        // Without its engine nobody acts under this slot any more; what the node says holds.
                        None => return None,
                    }
                    continue;
                }
            };
            watching = false;
            let free = lease.safe_until(loss);
            // A persistent lease stays, with the run, to whoever runs that next.
            let (reason, others) = match loss {
                Loss::SessionOver if self.lifetime == Lifetime::Persistent => continue,
                Loss::SessionOver => ("the session with the store ended".to_owned(), Others::From(free)),
                Loss::Deleted => (self.who_deleted(&lease).await, Others::Since(free)),
            };
            self.say(Input::LeaseLost { target, reason, others }).await;
        }
    }

    /// Why a lease is gone. The command that runs under it is stopped meanwhile: nobody waits for the answer but that stop, and
    /// the record is read within a moment or not at all.
    async fn who_deleted(&self, lease: &Lease) -> String {
        match timeout(LOOK_WHO_BROKE, broken_by(self.store.as_ref(), lease.path())).await {
            Ok(Some(record)) => format!("{} broke it: {}", record.by, record.reason),
            Ok(None) | Err(_) => "it was deleted: broken by force, or unlocked by another tool".to_owned(),
        }
    }

    async fn release(&self, lease: Lease, status: RecordedStatus) {
        let target = self.target;
        let answer = self.run_state.release(target, status, &lease).await;
        lease.forget();
        match answer {
            Ok(()) => self.say(Input::Released { target }).await,
            Err(error) => {
                let reason = match error.is_lost() {
                    true => String::from("it is left to whoever runs this next"),
                    false => format!("the lease of `{}` is still held: {}", self.identifier, told(&error)),
                };
                if error.is_lost() {
                    self.say_trouble(Trouble::Lost(error)).await;
                }
                self.say(Input::NotReleased { target, reason }).await;
            }
        }
    }

    async fn say_trouble(&self, trouble: Trouble) {
        self.say(match trouble {
            Trouble::Broken(broken) => Input::Broken(broken),
            Trouble::Lost(error) => lost(&error, self.store.as_ref()),
        })
        .await;
    }

    async fn say(&self, input: Input) {
        // The engine is gone only when the run is.
        let _ = self.inputs.send(input).await;
    }
}

fn held_elsewhere(by: &HeldBy) -> HeldElsewhere {
    HeldElsewhere { by: by.to_string(), since: by.since_ms() }
}

/// Waits for a withdrawal. What else is ordered before the slot is there waits until it is.
async fn withdrawn(orders: &mut mpsc::Receiver<Order>, early: &mut VecDeque<Order>) {
    while let Some(order) = orders.recv().await {
        match order {
            Order::Withdraw => return,
            order => early.push_back(order),
        }
    }
    std::future::pending().await
}

/// That the run is not ours any more.
pub(super) fn lost(error: &RunStateError, store: &dyn Store) -> Input {
    let others = match error {
        RunStateError::Overtaken { .. } => Others::Since(Instant::now()),
        _ => Others::From(store.safe_until()),
    };
    Input::Lost { reason: error.to_string(), others }
}

/// What a failed write does to the run, as an input.
pub(super) fn failed_write(error: RunStateError, store: &dyn Store) -> Input {
    match trouble(error) {
        Trouble::Broken(broken) => Input::Broken(broken),
        Trouble::Lost(error) => lost(&error, store),
    }
}

fn trouble(error: RunStateError) -> Trouble {
    match error {
        error if error.is_lost() => Trouble::Lost(error),
        RunStateError::Store(source) => of_store(source),
        error => Trouble::Broken(Broken::Unavailable(told(&error))),
    }
}

fn of_store(error: StoreError) -> Trouble {
    match error {
        StoreError::SessionOver => Trouble::Lost(RunStateError::SessionOver),
        error => Trouble::Broken(broken(&error)),
    }
}

pub(super) fn broken(error: &StoreError) -> Broken {
    match error {
        StoreError::Refused { .. } => Broken::Refused(error.to_string()),
        _ => Broken::Unavailable(error.to_string()),
    }
}

/// An error with its cause.
fn told(error: &RunStateError) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Until when a target may wait.
pub(super) fn patience(now_ms: u64, give_up_at_ms: Option<u64>) -> Patience {
    match give_up_at_ms {
        None => Patience::Forever,
        Some(at) if at <= now_ms => Patience::Once,
        Some(at) => Patience::Until(Instant::now() + Duration::from_millis(at - now_ms)),
    }
}
