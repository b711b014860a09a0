//! A held slot.

use std::sync::Arc;

use thiserror::Error;
use tokio::time::Instant;

use super::claim::{Claim, Claimed, Deletion, Owner};
use super::identifier::Identifier;
use super::own_node::{Loss, Monitor};
use super::session::{Entry, Leftovers, Tools};
use super::wait::Backoff;
use crate::store::{Fence, Lifetime, NodePath, Op, StoreError, Watch};

/// A held slot of a semaphore.
///
/// Dropping an ephemeral lease gives it back: its deletion is sent off and seen to in the background. A persistent one
/// stays until it is released by [`Lease::release`] or [`super::Semaphore::unlock`]; it outlives its maker.
///
/// # On session loss
/// [`Lease::lost`] resolves. While the session is suspended, a holder acts as if it had lost the lease.
#[derive(Debug)]
pub struct Lease {
    tools: Arc<Tools>,
    path: NodePath,
    identifier: Identifier,
    lifetime: Lifetime,
    fence: Fence,
    claim: Option<Claimed>,
    monitor: Monitor,
    end: End,
}

/// What dropping a lease does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// What its lifetime says.
    Open,
    /// It is to go, whatever its lifetime.
    Releasing,
    /// Nothing: it is gone, or somebody else's business.
    Ended,
}

/// How a release ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Released {
    /// The slot is free.
    Released,
    /// It was no longer ours: broken by somebody, or lost with the session.
    WasGone,
    /// The session ended before an answer came. The lease was ephemeral and ends with the session: at the latest when the servers
    /// notice, after the session time-out.
    EndsWithSession,
}

/// Why a lease could not be released.
#[derive(Debug, Error)]
pub enum ReleaseError {
    /// A persistent lease outlives its session: it is still there, and only a new session can delete it.
    #[error("the session ended before lease `{path}` was released; it is still held")]
    SessionOver {
        /// Which.
        path: NodePath,
    },
    /// The store refused or could not be reached. It is tried on in the background while the session lives.
    #[error("cannot release lease `{path}`")]
    Store {
        /// Which.
        path: NodePath,
        /// Why.
        #[source]
        source: StoreError,
    },
}

impl Lease {
    pub(super) fn new(
        tools: &Arc<Tools>,
        path: NodePath,
        identifier: Identifier,
        lifetime: Lifetime,
        fence: Fence,
        claim: Option<Claimed>,
        watch: Watch,
    ) -> Self {
        let monitor = Monitor::start(tools, path.clone(), watch);
        Self { tools: Arc::clone(tools), path, identifier, lifetime, fence, claim, monitor, end: End::Open }
    }

    /// Its node.
    #[must_use]
    pub fn path(&self) -> &NodePath {
        &self.path
    }

    /// Its number (the node's czxid): unique, and larger than that of every lease granted before. Whatever the lease
    /// protects can remember the largest it has seen and refuse smaller ones.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Who holds it.
    #[must_use]
    pub fn identifier(&self) -> &Identifier {
        &self.identifier
    }

    /// Whether it ends with the session.
    #[must_use]
    pub fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// Waits until the lease is lost, and says how.
    ///
    /// # Cancel safety
    /// May be dropped and called again; any number may wait.
    pub async fn lost(&self) -> Loss {
        self.monitor.lost().await
    }

    /// Whether it is known to be lost. The end of the session is known at once.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.monitor.loss().is_some()
    }

    /// Until when nobody else can be given the slot, however this lease ended: past once it was broken.
    ///
    /// A persistent lease has no such end; it stays until somebody deletes it.
    #[must_use]
    pub fn safe_until(&self, loss: Loss) -> Instant {
        match loss {
            Loss::Deleted => Instant::now(),
            Loss::SessionOver => self.tools.store.safe_until(),
        }
    }

    /// Releases the slot, and its claim with it: one round trip, and it is asked again until the store has said that the node
    /// is gone.
    ///
    /// # Errors
    /// [`ReleaseError::SessionOver`] for a persistent lease that outlived the session; [`ReleaseError::Store`].
    ///
    /// # Cancel safety
    /// Once polled, the release happens: dropping the future only gives up the answer.
    pub async fn release(mut self) -> Result<Released, ReleaseError> {
        self.end = End::Releasing;
        let was_lost = self.is_lost();
        let mut deletion = self.deletion();
        let mut backoff = Backoff::patient();
        let mut unanswered = false;
        // Bounded by the back-off, and by what there is to delete.
        loop {
            let ops = deletion.ops();
            let answer = match ops.as_slice() {
                [] => Ok(()),
                [Op::Delete { path, version }] => self.tools.store.delete(path, *version).await,
                _ => self.tools.store.multi(ops).await.map(drop),
            };
            let error = match answer {
                Ok(()) if deletion.has_lease() => return Ok(self.ended(Released::Released)),
                // If a deletion was not answered, it was most likely our own.
                Ok(()) if unanswered => return Ok(self.ended(Released::Released)),
                Ok(()) => return Ok(self.ended(Released::WasGone)),
                Err(StoreError::NoNode { .. }) => {
                    deletion.was_gone(0);
                    continue;
                }
                Err(StoreError::Multi { index, source }) if matches!(*source, StoreError::NoNode { .. }) => {
                    deletion.was_gone(index);
                    continue;
                }
                Err(StoreError::SessionOver) => return self.after_session(was_lost),
                Err(StoreError::Ambiguous { path }) => {
                    // The name is never used twice, so that a deletion may be sent twice.
                    unanswered = true;
                    StoreError::Unavailable { reason: format!("the deletion of `{path}` was not answered") }
                }
                Err(error) => error,
            };
            match backoff.after(error, &self.tools).await {
                Ok(()) => {}
                Err(StoreError::SessionOver) => return self.after_session(was_lost),
                Err(source) => return Err(ReleaseError::Store { path: self.path.clone(), source }),
            }
        }
    }

    /// Writes more of its owner into its claim: the command that runs under it. A lease without a claim has no owner to write.
    ///
    /// # Errors
    /// As the store's; the claim then says what it said.
    pub async fn set_owner(&self, owner: Owner) -> Result<(), StoreError> {
        let Some(claimed) = &self.claim else { return Ok(()) };
        let claim = Claim { lease: self.path.clone(), owner, forced: None };
        self.tools.store.multi(claimed.set_owner(&claim).into()).await.map(drop)
    }

    /// What releases it, for a transaction with something else. A caller that sees it done calls [`Lease::forget`].
    #[must_use]
    pub fn deletion(&self) -> Deletion {
        Deletion::new(self.path.clone(), self.claim.clone())
    }

    /// Lets go of the lease without touching its node: it was deleted in a transaction of the caller's, or shall stay.
    pub fn forget(mut self) {
        self.end = End::Ended;
    }

    fn ended(&mut self, how: Released) -> Released {
        self.end = End::Ended;
        how
    }

    fn after_session(&mut self, was_lost: bool) -> Result<Released, ReleaseError> {
        self.end = End::Ended;
        match self.lifetime {
            Lifetime::Ephemeral if was_lost => Ok(Released::WasGone),
            Lifetime::Ephemeral => Ok(Released::EndsWithSession),
            Lifetime::Persistent => Err(ReleaseError::SessionOver { path: self.path.clone() }),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let to_go = match self.end {
            End::Ended => false,
            End::Releasing => true,
            End::Open => self.lifetime == Lifetime::Ephemeral,
        };
        if !to_go {
            return;
        }
        let claim = self.claim.take();
        match (self.monitor.loss(), claim) {
            (None, claim) => {
                let node = Some(self.path.clone());
                self.tools.clean_up(Leftovers { queue: None, entry: Entry::None, node, claim });
            }
            (Some(Loss::Deleted), Some(claim)) => {
                let tools = Arc::clone(&self.tools);
                self.tools.in_background(async move { claim.delete_orphan(&*tools.store).await });
            }
            (Some(_), _) => {}
        }
    }
}
