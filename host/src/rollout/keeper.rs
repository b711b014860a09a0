//! One task a target in flight: it queues for the slot, holds the lease, and gives it back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::sessions::Sessions;
use super::step::{Broken, Got, Input, NotLeased};
use crate::recipe::{
    AcquireError, Acquired, Acquisition, ForceError, Identifier, Lease, Loss, Patience, ReleaseError, Semaphore,
};
use crate::store::{Lifetime, StoreError};

/// Sessions that may end one after the other while one slot is waited for or given back.
const MAX_SESSIONS: u32 = 5;

/// How long after a session that could not be opened the next is tried.
const BETWEEN_SESSIONS: Duration = Duration::from_millis(500);

/// What a keeper is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Give the place in the queue up; too late once the slot is held.
    Withdraw,
    /// Give the slot back.
    Release,
}

/// What a keeper is for.
#[derive(Debug)]
pub(super) struct Keeper {
    pub(super) target: usize,
    pub(super) identifier: Identifier,
    pub(super) lifetime: Lifetime,
    pub(super) sessions: Arc<Sessions>,
    pub(super) inputs: mpsc::Sender<Input>,
    pub(super) orders: mpsc::Receiver<Order>,
}

/// How the slot is got.
#[derive(Debug)]
pub(super) enum Way {
    /// By queueing; until when.
    Queue(Patience),
    /// By force, breaking these.
    Force(Vec<i64>),
}

/// Why no slot was got: for this target, or for the run.
enum Failed {
    Target(NotLeased),
    Run(Broken),
}

impl Keeper {
    /// Gets the slot, holds it until it is told to release it, and reports every step.
    pub(super) async fn keep(mut self, way: Way) {
        let got = tokio::select! {
            got = get(&self.sessions, &self.identifier, self.lifetime, &way) => got,
            // An acquire that is dropped leaves nothing behind.
            Some(Order::Withdraw) = self.orders.recv() => Err(Failed::Target(NotLeased::Withdrawn)),
        };
        let target = self.target;
        match got {
            Ok((lease, how)) => {
                self.say(Input::Leased { target, fence: lease.fence(), how }).await;
                self.hold(lease).await;
            }
            Err(Failed::Target(why)) => self.say(Input::NotLeased { target, why }).await,
            Err(Failed::Run(broken)) => {
                self.say(Input::NotLeased { target, why: NotLeased::Withdrawn }).await;
                self.say(Input::Broken(broken)).await;
            }
        }
    }

    async fn hold(mut self, lease: Lease) {
        let target = self.target;
        let mut watching = true;
        loop {
            tokio::select! {
                loss = lease.lost(), if watching => {
                    watching = false;
                    if let Some(reason) = reason(loss, self.lifetime) {
                        self.say(Input::LeaseLost { target, reason }).await;
                    }
                }
                order = self.orders.recv() => match order {
                    Some(Order::Withdraw) => {}
                    // Without its engine nobody acts under this slot any more.
                    Some(Order::Release) | None => break,
                },
            }
        }
        if let Err(reason) = give_back(&self.sessions, lease).await {
            self.say(Input::Broken(Broken::Unavailable(reason))).await;
        }
        self.say(Input::Released { target }).await;
    }

    async fn say(&self, input: Input) {
        // The engine is gone only when the run is.
        let _ = self.inputs.send(input).await;
    }
}

/// A persistent lease is not lost with its session.
fn reason(loss: Loss, lifetime: Lifetime) -> Option<String> {
    match (loss, lifetime) {
        (Loss::Deleted, _) => Some("somebody broke or unlocked it".to_owned()),
        (Loss::SessionOver, Lifetime::Ephemeral) => Some("the session with the store ended".to_owned()),
        (Loss::SessionOver, Lifetime::Persistent) => None,
    }
}

async fn get(
    sessions: &Sessions,
    identifier: &Identifier,
    lifetime: Lifetime,
    way: &Way,
) -> Result<(Lease, Got), Failed> {
    for _ in 0..MAX_SESSIONS {
        let semaphore = semaphore(sessions).await.map_err(|error| Failed::Run(broken(&error)))?;
        match way {
            Way::Queue(patience) => match semaphore.acquire(identifier, lifetime, *patience).await {
                Ok(Acquired { lease, how }) => {
                    let got = if how == Acquisition::Reentered { Got::Again } else { Got::Free };
                    return Ok((lease, got));
                }
                Err(AcquireError::SessionOver { .. }) => {}
                Err(AcquireError::TimedOut { .. } | AcquireError::Full { .. }) => {
                    return Err(Failed::Target(NotLeased::TimedOut));
                }
                Err(error @ AcquireError::SlotsDiffer { .. }) => {
                    return Err(Failed::Run(Broken::SlotsDiffer(error.to_string())));
                }
                Err(AcquireError::Store { source, .. }) => return Err(Failed::Run(broken(&source))),
                Err(error) => return Err(Failed::Run(Broken::Unavailable(error.to_string()))),
            },
            Way::Force(breaking) => match semaphore.force(identifier, lifetime, breaking).await {
                Ok(lease) => return Ok((lease, Got::Forced)),
                Err(error @ (ForceError::Conflict { .. } | ForceError::Deleted { .. })) => {
                    return Err(Failed::Target(NotLeased::Conflict(error.to_string())));
                }
                // Whether it was taken is not known: the policy looks again, and acquiring finds it.
                Err(ForceError::SessionOver { .. }) => {
                    return Err(Failed::Target(NotLeased::Conflict("the session ended meanwhile".to_owned())));
                }
                Err(ForceError::Store { source, .. }) => return Err(Failed::Run(broken(&source))),
            },
        }
    }
    Err(Failed::Run(Broken::Unavailable(format!("{MAX_SESSIONS} sessions in a row ended"))))
}

async fn give_back(sessions: &Sessions, lease: Lease) -> Result<(), String> {
    let identifier = lease.identifier().clone();
    let lifetime = lease.lifetime();
    match lease.release().await {
        Ok(_) => return Ok(()),
        Err(ReleaseError::SessionOver { .. }) if lifetime == Lifetime::Ephemeral => return Ok(()),
        Err(ReleaseError::SessionOver { .. }) => {}
        Err(error @ ReleaseError::Store { .. }) => return Err(error.to_string()),
    }
    // It outlived its session: found again by its identifier.
    let mut last = String::new();
    for _ in 0..MAX_SESSIONS {
        match semaphore(sessions).await {
            Ok(semaphore) => match semaphore.unlock(&identifier).await {
                Ok(_) => return Ok(()),
                Err(error) => last = error.to_string(),
            },
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!("the lease of `{identifier}` is still held: {last}"))
}

async fn semaphore(sessions: &Sessions) -> Result<Semaphore, StoreError> {
    let mut tried = 0;
    loop {
        match sessions.recipes().await {
            Ok(recipes) => return Ok(recipes.semaphore),
            Err(error) if error.is_retryable() && tried < MAX_SESSIONS => {
                tried += 1;
                tokio::time::sleep(BETWEEN_SESSIONS).await;
            }
            Err(error) => return Err(error),
        }
    }
}

fn broken(error: &StoreError) -> Broken {
    match error {
        StoreError::Refused { .. } => Broken::Refused(error.to_string()),
        _ => Broken::Unavailable(error.to_string()),
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
