//! What every recipe needs of its session: the store, dice, and clean-up that outlives the caller.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::claim::{Claimed, Deletion};
use super::wait::Backoff;
use crate::store::{Made, NodePath, Reply, Store, StoreError, Version};

/// The session, dice and clean-up of one semaphore or party.
#[derive(Debug)]
pub(super) struct Tools {
    pub(super) store: Arc<dyn Store>,
    dice: Mutex<Xoshiro256PlusPlus>,
    /// Clean-ups under way.
    pending: watch::Sender<usize>,
}

/// A queue entry that may be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is not.
    None,
    /// A create was sent for a name that starts so, and not yet answered.
    Maybe(String),
    /// There it is.
    Known(NodePath),
}

/// Nodes that may have been made and must go.
#[derive(Debug)]
pub(super) struct Leftovers {
    /// Where entries queue.
    pub(super) queue: Option<NodePath>,
    pub(super) entry: Entry,
    /// A lease or a member, by its unique name.
    pub(super) node: Option<NodePath>,
    /// The lease's claim: it was made with the lease, or not at all.
    pub(super) claim: Option<Claimed>,
}

/// One clean-up in the count.
struct Pending(Arc<Tools>);

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.send_modify(|pending| *pending -= 1);
    }
}

impl Tools {
    pub(super) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Self::with_dice(store, Xoshiro256PlusPlus::from_rng(&mut rand::rng()))
    }

    /// With names and pauses that come from a seed, for runs that can be repeated.
    pub(super) fn seeded(store: Arc<dyn Store>, seed: u64) -> Arc<Self> {
        Self::with_dice(store, Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    fn with_dice(store: Arc<dyn Store>, dice: Xoshiro256PlusPlus) -> Arc<Self> {
        Arc::new(Self { store, dice: Mutex::new(dice), pending: watch::Sender::new(0) })
    }

    /// A name that nobody else has: 32 lower-case hex digits, shaped as a random UUID (version 4) without dashes.
    pub(super) fn unique(&self) -> String {
        let mut bits: u128 = self.roll(|dice| dice.random());
        bits = (bits & !(0xf << 76)) | (4 << 76);
        bits = (bits & !(0x3 << 62)) | (2 << 62);
        format!("{bits:032x}")
    }

    /// A duration from `least` to `most`.
    pub(super) fn between(&self, least: Duration, most: Duration) -> Duration {
        least + most.saturating_sub(least).mul_f64(self.roll(|dice| dice.random()))
    }

    fn roll<T>(&self, roll: impl FnOnce(&mut Xoshiro256PlusPlus) -> T) -> T {
        // Dice have no state that a panic could spoil.
        roll(&mut self.dice.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many clean-ups are under way.
    pub(super) fn pending(&self) -> usize {
        *self.pending.borrow()
    }

    /// Waits until no clean-up is under way.
    pub(super) async fn settled(&self) {
        // The sender is ours, so that this can only end well.
        let _ = self.pending.subscribe().wait_for(|pending| *pending == 0).await;
    }

    /// Does something that nobody waits for, and counts it among the clean-ups.
    pub(super) fn in_background(self: &Arc<Self>, work: impl Future<Output = ()> + Send + 'static) {
        let Ok(runtime) = Handle::try_current() else { return };
        self.pending.send_modify(|pending| *pending += 1);
        let pending = Pending(Arc::clone(self));
        runtime.spawn(async move {
            work.await;
            drop(pending);
        });
    }

    /// Sends off the deletion of what may have been left, and sees to it that it comes about: until every node is
    /// known to be gone, or the session is over.
    ///
    /// The first requests are sent before this returns, so that they come before whatever the session asks next.
    pub(super) fn clean_up(self: &Arc<Self>, mut leftovers: Leftovers) {
        let first = Pass::send(self, &leftovers);
        // Without a runtime nothing can be awaited: what was sent is sent, and the end of the session does the rest.
        let Ok(runtime) = Handle::try_current() else { return };
        self.pending.send_modify(|pending| *pending += 1);
        let pending = Pending(Arc::clone(self));
        runtime.spawn(async move {
            let tools = &pending.0;
            let mut backoff = Backoff::patient();
            let mut pass = first;
            // Bounded by the session's end and by the back-off's.
            while let Err(error) = pass.done(tools, &mut leftovers).await {
                let again = match error {
                    // A deletion may be sent again: its node's name is never used twice.
                    StoreError::Ambiguous { .. } => {
                        let reason = String::from("a deletion was not answered");
                        backoff.after(StoreError::Unavailable { reason }, tools).await
                    }
                    error => backoff.after(error, tools).await,
                };
                if again.is_err() {
                    break;
                }
                pass = Pass::send(tools, &leftovers);
            }
        });
    }
}

/// One round of clean-up requests.
struct Pass {
    node: Option<Reply<()>>,
    with_claim: Option<Reply<Vec<Made>>>,
    entry: Option<Reply<()>>,
    look: Option<(Reply<()>, Reply<Vec<String>>)>,
}

impl Pass {
    fn send(tools: &Tools, leftovers: &Leftovers) -> Self {
        let store = &tools.store;
        let (mut node, mut with_claim) = (None, None);
        match (&leftovers.node, &leftovers.claim) {
            // Together: a claim that is there without its lease is another's by now.
            (Some(path), Some(claim)) => {
                with_claim = Some(store.multi(Deletion::new(path.clone(), Some(claim.clone())).ops()));
            }
            (Some(path), None) => node = Some(store.delete(path, Version::Any)),
            (None, _) => {}
        }
        let (mut entry, mut look) = (None, None);
        match (&leftovers.entry, &leftovers.queue) {
            (Entry::Known(path), _) => entry = Some(store.delete(path, Version::Any)),
            // A create whose answer we do not have may be known to the leader and not to the server that we ask:
            // only after `sync` is a missing name missing.
            (Entry::Maybe(_), Some(queue)) => look = Some((store.sync(queue), store.children(queue))),
            (Entry::None | Entry::Maybe(_), _) => {}
        }
        Self { node, with_claim, entry, look }
    }

    /// Ends well when all that may have been left is gone; `leftovers` is then, or after an error, what remains.
    async fn done(self, tools: &Tools, leftovers: &mut Leftovers) -> Result<(), StoreError> {
        let mut failed = None;
        if let Some(reply) = self.node {
            match gone(reply.await) {
                Ok(()) => leftovers.node = None,
                Err(error) => failed = Some(error),
            }
        }
        if let Some(reply) = self.with_claim {
            match reply.await {
                Ok(_) => leftovers.node = None,
                Err(StoreError::Multi { index: 0, source }) if matches!(*source, StoreError::NoNode { .. }) => {
                    leftovers.node = None;
                }
                Err(StoreError::Multi { index, source }) if index > 0 && !source.is_retryable() => {
                    let node = leftovers.node.clone().filter(|_| leftovers.claim.take().is_some());
                    let deleted = match &node {
                        Some(node) => gone(tools.store.delete(node, Version::Any).await),
                        None => Ok(()),
                    };
                    match deleted {
                        Ok(()) => leftovers.node = None,
                        Err(error) => failed = Some(error),
                    }
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(reply) = self.entry {
            match gone(reply.await) {
                Ok(()) => leftovers.entry = Entry::None,
                Err(error) => failed = Some(error),
            }
        }
        if let (Some((sync, look)), Some(queue)) = (self.look, &leftovers.queue) {
            let (sync, look) = (sync.await, look.await);
            match sync.and(look) {
                Ok(names) => match found(&leftovers.entry, queue, &names) {
                    Some(path) => {
                        let deleted = gone(tools.store.delete(&path, Version::Any).await);
                        leftovers.entry = if deleted.is_ok() { Entry::None } else { Entry::Known(path) };
                        failed = failed.or(deleted.err());
                    }
                    None => leftovers.entry = Entry::None,
                },
                Err(StoreError::NoNode { .. }) => leftovers.entry = Entry::None,
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

/// The entry whose name starts as we chose, in a listing of the queue.
pub(super) fn found(entry: &Entry, queue: &NodePath, names: &[String]) -> Option<NodePath> {
    match entry {
        Entry::Maybe(start) => names.iter().find(|name| name.starts_with(start)).map(|name| queue.child(name)),
        Entry::Known(path) => names.iter().any(|name| name == path.name()).then(|| path.clone()),
        Entry::None => None,
    }
}

fn gone(answer: Result<(), StoreError>) -> Result<(), StoreError> {
    match answer {
        Err(StoreError::NoNode { .. }) => Ok(()),
        answer => answer,
    }
}
