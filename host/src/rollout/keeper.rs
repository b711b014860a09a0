//! One task a target in flight: it queues for the slot, holds the lease, and gives it back.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use super::messages::{Broken, Got, Input, NotLeased, Others};
use super::sessions::{Recipes, Sessions};
use crate::recipe::{
    AcquireError, Acquired, Acquisition, ForceError, Forced, ForcedRecords, Identifier, Lease, Loss, Patience,
    ReleaseError,
};
use crate::store::{Lifetime, StoreError};

/// Sessions that may end one after the other while one slot is waited for, looked for or given back.
const MAX_SESSIONS: u32 = 5;

/// What a keeper is told; each at most once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Give the place in the queue up; too late once the slot is held.
    Withdraw,
    /// Give the slot back.
    Release,
}

impl Order {
    /// As many as there are.
    pub(super) const MOST: usize = 2;
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
    /// By force.
    Force {
        /// Which leases to break.
        breaking: Vec<i64>,
        /// Who says so, for the record.
        by: String,
        /// Why.
        reason: String,
    },
}

/// Why no slot was got: for this target, or for the run.
enum Failed {
    Target(NotLeased),
    Run(Broken),
}

impl Keeper {
    /// Gets the slot, holds it until it is told to release it, and reports every step.
    pub(super) async fn keep(mut self, way: Way) {
        let Self { target, lifetime, .. } = self;
        let got = tokio::select! {
            got = get(&self.sessions, &self.identifier, lifetime, &way) => got,
            // An acquire that is dropped leaves nothing behind.
            Some(Order::Withdraw) = self.orders.recv() => Err(Failed::Target(NotLeased::Withdrawn)),
        };
        match got {
            Ok((lease, how)) => {
                let is_forced = how == Got::Forced;
                self.say(Input::Leased { target, fence: lease.fence(), how }).await;
                let lease = self.hold(lease).await;
                self.give_back(lease, is_forced).await;
            }
            Err(Failed::Target(why)) => self.say(Input::NotLeased { target, why }).await,
            Err(Failed::Run(broken)) => {
                // First what ends the run, so that nothing is tried again meanwhile.
                self.say(Input::Broken(broken)).await;
                self.say(Input::NotLeased { target, why: NotLeased::Withdrawn }).await;
            }
        }
    }

    /// Watches the lease until it is to be given back.
    async fn hold(&mut self, mut lease: Lease) -> Lease {
        let mut watching = true;
        loop {
            let loss = tokio::select! {
                loss = lease.lost(), if watching => loss,
                order = self.orders.recv() => match order {
                    Some(Order::Withdraw) => continue,
                    // Without its engine nobody acts under this slot any more.
                    Some(Order::Release) | None => return lease,
                },
            };
            let reason = match (loss, self.lifetime) {
                (Loss::SessionOver, Lifetime::Persistent) => match find_again(&self.sessions, &lease).await {
                    Ok(found) => {
                        std::mem::replace(&mut lease, found).forget();
                        continue;
                    }
                    Err(reason) => reason,
                },
                (Loss::SessionOver, Lifetime::Ephemeral) => "the session with the store ended".to_owned(),
                (Loss::Deleted, _) => "somebody broke or unlocked it".to_owned(),
            };
            watching = false;
            let free = lease.safe_until(loss);
            let others = match loss {
                Loss::Deleted => Others::Since(free),
                Loss::SessionOver => Others::From(free),
            };
            self.say(Input::LeaseLost { target: self.target, reason, others }).await;
        }
    }

    async fn give_back(&self, lease: Lease, is_forced: bool) {
        let target = self.target;
        let node = lease.path().clone();
        let given_back = give_back(&self.sessions, lease).await;
        if is_forced && let Ok(Recipes { store, .. }) = self.sessions.recipes().await {
            // A record without its lease is swept by the next that is written.
            let _ = ForcedRecords::new(store).forget(&node).await;
        }
        self.say(match given_back {
            Ok(()) => Input::Released { target },
            Err(reason) => Input::NotReleased { target, reason },
        })
        .await;
    }

    async fn say(&self, input: Input) {
        // The engine is gone only when the run is.
        let _ = self.inputs.send(input).await;
    }
}

async fn get(
    sessions: &Sessions,
    identifier: &Identifier,
    lifetime: Lifetime,
    way: &Way,
) -> Result<(Lease, Got), Failed> {
    for _ in 0..MAX_SESSIONS {
        let recipes = sessions.recipes().await.map_err(|error| Failed::Run(broken(&error)))?;
        match way {
            Way::Queue(patience) => match recipes.semaphore.acquire(identifier, lifetime, *patience).await {
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
            Way::Force { breaking, by, reason } => {
                match recipes.semaphore.force(identifier, lifetime, breaking).await {
                    Ok(lease) => {
                        let at = recipes.store.clock().now_ms();
                        let record =
                            Forced { lease: lease.path().to_string(), by: by.clone(), reason: reason.clone(), at };
                        // The journal has it, too; a record that cannot be kept here stops nobody.
                        let _ = ForcedRecords::new(recipes.store).keep(lease.path(), &record).await;
                        return Ok((lease, Got::Forced));
                    }
                    Err(error @ (ForceError::Conflict { .. } | ForceError::Deleted { .. })) => {
                        return Err(Failed::Target(NotLeased::Conflict(error.to_string())));
                    }
                    // Whether it was taken is not known, and nobody holds it: it goes, and the policy looks again.
                    Err(ForceError::SessionOver { .. }) => {
                        return Err(match unlock(sessions, identifier).await {
                            Ok(()) => Failed::Target(NotLeased::Conflict("the session ended meanwhile".to_owned())),
                            Err(reason) => Failed::Run(Broken::Unavailable(reason)),
                        });
                    }
                    Err(ForceError::Store { source, .. }) => return Err(Failed::Run(broken(&source))),
                }
            }
        }
    }
    Err(Failed::Run(Broken::Unavailable(format!("{MAX_SESSIONS} sessions in a row ended"))))
}

/// A persistent lease in a new session, where its end can be watched again. Whoever broke it in between ended it.
async fn find_again(sessions: &Sessions, lost: &Lease) -> Result<Lease, String> {
    for _ in 0..MAX_SESSIONS {
        let Recipes { semaphore, .. } = sessions.recipes().await.map_err(|error| error.to_string())?;
        match semaphore.acquire(lost.identifier(), Lifetime::Persistent, Patience::Once).await {
            Ok(Acquired { lease, .. }) if lease.fence() == lost.fence() => return Ok(lease),
            Ok(Acquired { lease, how }) => {
                match how {
                    // Somebody else's, under our name.
                    Acquisition::Reentered => lease.forget(),
                    // There was room for another, which is not the one that was acted under.
                    _ => give_back(sessions, lease).await?,
                }
                break;
            }
            Err(AcquireError::SessionOver { .. }) => {}
            Err(AcquireError::TimedOut { .. } | AcquireError::Full { .. }) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    Err("it was gone when the next session looked for it".to_owned())
}

async fn give_back(sessions: &Sessions, lease: Lease) -> Result<(), String> {
    let identifier = lease.identifier().clone();
    let lifetime = lease.lifetime();
    match lease.release().await {
        Ok(_) => Ok(()),
        Err(ReleaseError::SessionOver { .. }) if lifetime == Lifetime::Ephemeral => Ok(()),
        // It outlived its session: found again by its identifier.
        Err(ReleaseError::SessionOver { .. }) => unlock(sessions, &identifier).await,
        Err(error @ ReleaseError::Store { .. }) => Err(format!("the lease of `{identifier}` is still held: {error}")),
    }
}

/// Every persistent lease with this identifier goes; it is this target's.
async fn unlock(sessions: &Sessions, identifier: &Identifier) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..MAX_SESSIONS {
        let unlocked = async { sessions.recipes().await?.semaphore.unlock(identifier).await };
        match unlocked.await {
            Ok(_) => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(format!("the lease of `{identifier}` is still held: {last}"))
}

pub(super) fn broken(error: &StoreError) -> Broken {
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
