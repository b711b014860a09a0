//! A counting semaphore.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;
use tokio::time::Instant;

use super::broken_lease::{self, Broken};
use super::claim::{self, Claim, Claimed, Deletion, Forced, Owner};
use super::identifier::Identifier;
use super::lease::Lease;
use super::nested_semaphores::{self, Above, Nested};
use super::observe::Changed;
use super::own_node::{self, Placed};
use super::request::{HeldBy, Ownership, Request};
use super::session::{Entry, Leftovers, Tools};
use super::slots::{Number, SlotsRule, queue_of, so_many_are, so_many_slots};
use super::wait::{Backoff, Patience};
use super::{acquire, names};
use crate::store::{
    Fence, Lifetime, Node, NodeKind, NodePath, Op, Reply, SessionId, Store, StoreError, Version, Watch, create_all,
    millis,
};

/// A counting semaphore shared by everyone who names the same path, in kazoo's layout.
///
/// A caller queues, and may take a slot when `leases + rank < slots`, where its rank is how many queue ahead of it:
/// each of those keeps a slot reserved. kazoo's rule is the same with rank 0, so that both kinds mix on one path. Whoever
/// finds no room watches the leases that it saw and counts their deletions, or, further back, the queue ahead of it: a
/// freed slot wakes a few, whatever the queue's length.
///
/// # Guarantees
/// - No more than `slots` leases are held at once, forced ones apart, by the store's order of events.
/// - The number of slots is the one in force at the grant: it may change while callers wait.
/// - Of the callers that exclude their identifier ([`Ownership::Exclusive`]) one at most acts under it.
/// - Slots are granted in the order of the queue, except that a later caller may pass where slots for all ahead of it
///   remain.
/// - A free slot on a known path takes two round trips (three for a persistent lease where others hold some already,
///   whose identifiers are read in between) and four requests; a release takes one of each.
/// # On session loss
/// [`Lease::lost`] resolves, and whatever waits fails with [`AcquireError::SessionOver`]. While suspended, a holder acts
/// as if it had lost the lease.
/// # Cancel safety
/// Dropping the future of [`Semaphore::acquire`] or [`Semaphore::force`] leaves no node behind: what may have been made
/// is found by its unique name and deleted in the background, for as long as the session lives;
/// [`Semaphore::settled`] waits for that. One thing can stay: a *persistent* lease whose creation was under way when the
/// session ended. It is found by its identifier: an acquisition by hand re-enters it, and [`Semaphore::unlock`] deletes it.
#[derive(Debug, Clone)]
pub struct Semaphore(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) tools: Arc<Tools>,
    pub(super) path: NodePath,
    pub(super) queue: NodePath,
    /// The number of slots that its caller believes in.
    wanted: NonZeroU32,
    rule: SlotsRule,
    /// The number in force as it was read last; `None` if it must be read.
    number: Mutex<Option<Number>>,
    /// Whether the number was ever compared.
    was_compared: AtomicBool,
    pub(super) safety_net_finds: AtomicU64,
}

/// A lease, and how it came.
#[derive(Debug)]
pub struct Acquired {
    /// The lease.
    pub lease: Lease,
    /// How it came.
    pub how: Acquisition,
    /// For an exclusive caller: a lease of the same identifier that is older than this one, taken by a tool that knows no
    /// claims. The caller must start nothing, and release its own.
    pub older: Option<Holder>,
    /// Why the lease has no claim although a caller by hand wanted one; `None` otherwise.
    pub unclaimed: Option<String>,
}

/// How a lease came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Acquisition {
    /// It is new.
    Fresh,
    /// It was there: a persistent lease with this identifier is this identifier's.
    Reentered,
}

/// What is written in the transaction that makes a lease, at the path that is passed: all of it happens, or nothing. It is
/// asked once for each transaction that is sent, and must not name what the recipe itself writes.
pub type Along<'a> = &'a (dyn Fn(&NodePath) -> Vec<Op> + Send + Sync);

/// Why a lease could not be had.
#[derive(Debug, Error)]
pub enum AcquireError {
    /// Two jobs disagree on how many may act at once; neither may guess.
    #[error("semaphore `{path}` has {}, and {} wanted", so_many_slots(*stored), so_many_are(*wanted))]
    SlotsDiffer {
        /// Which.
        path: NodePath,
        /// What its data says.
        stored: i64,
        /// What we were told.
        wanted: NonZeroU32,
    },
    /// Another holder acts under this identifier, and the caller excludes that.
    #[error("semaphore `{path}`: {by} holds a lease under this identifier")]
    Held {
        /// Which.
        path: NodePath,
        /// The holder.
        by: Box<HeldBy>,
    },
    /// The path lies below another semaphore, or another below it.
    #[error(transparent)]
    Nested(Nested),
    /// The lease's claim may not be written, and so no lease was taken.
    #[error("the claim of a lease of semaphore `{path}` cannot be written")]
    Claim {
        /// Which.
        path: NodePath,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// There is no slot free for us now, and we were to try once.
    #[error("semaphore `{path}` is full: {leases} of {slots} slots taken, {ahead} waiting")]
    Full {
        /// Which.
        path: NodePath,
        /// Leases held.
        leases: usize,
        /// Slots there are.
        slots: NonZeroU32,
        /// Callers ahead of us in the queue.
        ahead: usize,
    },
    /// The deadline passed.
    #[error("no slot of semaphore `{path}` came free within {}", in_milliseconds(*waited))]
    TimedOut {
        /// Which.
        path: NodePath,
        /// How long we waited.
        waited: Duration,
    },
    /// The session ended. A persistent lease whose creation was under way then may be there: the next acquisition with
    /// the same identifier finds it.
    #[error("the session ended before a slot of semaphore `{path}` was had")]
    SessionOver {
        /// Which.
        path: NodePath,
    },
    /// The queue's counter is near its end, where its order turns over.
    #[error(
        "queue `{queue}` has given out its {number}th number, and its order breaks near 2^31: delete it while nobody waits"
    )]
    QueueWornOut {
        /// The queue's node.
        queue: NodePath,
        /// The number that we got.
        number: i64,
    },
    /// Somebody deletes our place in the queue, or our lease, again and again.
    #[error("somebody keeps deleting our place in the queue of semaphore `{path}`")]
    Evicted {
        /// Which.
        path: NodePath,
    },
    /// What was to be written along with the lease was refused, and so no lease was taken.
    #[error("what goes with a lease of semaphore `{path}` cannot be written")]
    Along {
        /// Which.
        path: NodePath,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The store refused or could not be reached.
    #[error("cannot take a slot of semaphore `{path}`")]
    Store {
        /// Which.
        path: NodePath,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// Why a lease could not be forced.
#[derive(Debug, Error)]
pub enum ForceError {
    /// A lease that was to be broken is not there, or changed under our hands. Nothing was broken.
    #[error("no lease of semaphore `{path}` has fence {fence} any more")]
    Conflict {
        /// Which semaphore.
        path: NodePath,
        /// The fence that was named.
        fence: Fence,
    },
    /// What was to be written along with the lease was refused, and so nothing was taken or broken.
    #[error("what goes with a forced lease of semaphore `{path}` cannot be written")]
    Along {
        /// Which semaphore.
        path: NodePath,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The identifier holds a lease already, which is not among those that were to be broken.
    #[error("semaphore `{path}`: {by} holds a lease under this identifier already")]
    Held {
        /// Which semaphore.
        path: NodePath,
        /// The holder.
        by: Box<HeldBy>,
    },
    /// The record of the force may not be written, and so nothing was taken or broken.
    #[error("the claim of a forced lease of semaphore `{path}` cannot be written")]
    Claim {
        /// Which semaphore.
        path: NodePath,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The forced lease was deleted by somebody as soon as it was there.
    #[error("the forced lease of semaphore `{path}` was deleted at once by somebody else")]
    Deleted {
        /// Which semaphore.
        path: NodePath,
    },
    /// The session ended; whether the lease was taken is not known. An ephemeral one is gone.
    #[error("the session ended while a lease of semaphore `{path}` was forced")]
    SessionOver {
        /// Which semaphore.
        path: NodePath,
    },
    /// The store refused or could not be reached.
    #[error("cannot force a lease of semaphore `{path}`")]
    Store {
        /// Which semaphore.
        path: NodePath,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// Somebody's lease, as the store shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Who, as far as the data is text.
    pub identifier: String,
    /// The lease's fence.
    pub fence: Fence,
    /// Since when, in milliseconds since the Unix epoch, by the store's clock.
    pub since_ms: u64,
    /// Whether it ends with a session.
    pub ephemeral: bool,
    /// That session.
    #[serde(serialize_with = "session_number")]
    pub session: Option<SessionId>,
    /// Its node.
    pub path: NodePath,
}

/// What a semaphore looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SemaphoreState {
    /// The number in its data; `None` where there is none, or no such path yet.
    pub slots: Option<u32>,
    /// The leases, oldest first.
    pub holders: Vec<Holder>,
    /// How many queue.
    pub queued: u32,
    /// How many reservations keep slots from callers that know an older, larger number; they are no leases.
    pub reserved: u32,
}

impl SemaphoreState {
    /// What keeps a path without a number from being a semaphore: one of its children is a semaphore, and the path only a
    /// folder, whose children were read as leases.
    #[must_use]
    pub fn nested(&self, path: &NodePath) -> Option<Nested> {
        let names = self.holders.iter().map(|holder| holder.path.name());
        let other = self.slots.is_none().then(|| nested_semaphores::among(path, names))??;
        Some(Nested { path: path.clone(), other })
    }
}

/// What [`Semaphore::unlock`] found and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unlocked {
    /// Persistent leases with the identifier, now deleted.
    pub released: u32,
    /// Persistent leases with the identifier that a run or a process owns.
    pub owned: Vec<(Holder, Owner)>,
    /// Every other lease: of other identifiers, and ephemeral ones, which end with their session.
    pub left: Vec<Holder>,
}

fn session_number<S: serde::Serializer>(session: &Option<SessionId>, serializer: S) -> Result<S::Ok, S::Error> {
    session.map(|session| session.to_string()).serialize(serializer)
}

impl Semaphore {
    /// How often a change under our hands lets [`Semaphore::force`] and the making of the path start again.
    const MOST_ROUNDS: u32 = 50;

    /// The semaphore at `path`, for a caller that believes it to have `slots`. Asks the store nothing.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, path: NodePath, slots: NonZeroU32) -> Self {
        Self::with_tools(Tools::new(store), path, slots)
    }

    /// As [`Semaphore::new`], with the names of nodes and the lengths of pauses drawn from `seed`, so that a simulation
    /// can be repeated. Two semaphores on one path must not share a seed.
    #[must_use]
    pub fn seeded(store: Arc<dyn Store>, path: NodePath, slots: NonZeroU32, seed: u64) -> Self {
        Self::with_tools(Tools::seeded(store, seed), path, slots)
    }

    /// The semaphore at `path`, for a caller that goes by the number of slots that is stored: its own number, `slots`, was
    /// compared before, and holds only where none is stored.
    #[must_use]
    pub fn of_stored_slots(store: Arc<dyn Store>, path: NodePath, slots: NonZeroU32) -> Self {
        Self::build(Tools::new(store), path, slots, SlotsRule::Stored)
    }

    fn with_tools(tools: Arc<Tools>, path: NodePath, slots: NonZeroU32) -> Self {
        Self::build(tools, path, slots, SlotsRule::Same)
    }

    fn build(tools: Arc<Tools>, path: NodePath, wanted: NonZeroU32, rule: SlotsRule) -> Self {
        let queue = queue_of(&path);
        let (number, was_compared) = (Mutex::new(None), AtomicBool::new(false));
        let safety_net_finds = AtomicU64::new(0);
        Self(Arc::new(Inner { tools, path, queue, wanted, rule, number, was_compared, safety_net_finds }))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &NodePath {
        &self.0.path
    }

    /// The number of slots in force, as it was read last; before that its caller's own.
    #[must_use]
    pub fn slots(&self) -> NonZeroU32 {
        self.number().map_or(self.0.wanted, |number| number.slots)
    }

    /// Takes a slot of its own, beside any other lease of the same identifier, without a claim; waits for it as long as
    /// `patience` says.
    ///
    /// # Errors
    /// As [`Semaphore::acquire_as`].
    pub async fn acquire(
        &self,
        identifier: &Identifier,
        lifetime: Lifetime,
        patience: Patience,
    ) -> Result<Acquired, AcquireError> {
        let (ownership, along): (_, Along<'_>) = (Ownership::Own, &|_| Vec::new());
        self.acquire_as(Request { identifier, lifetime, patience, ownership: &ownership, along }).await
    }

    /// Takes a slot, waiting for one as long as the request's patience says. What is to be written along is written in the
    /// transaction that creates the lease; with a lease that is re-entered nothing is written.
    ///
    /// The path's number of slots is compared when this semaphore first sees it, and followed from then on.
    ///
    /// # Errors
    /// [`AcquireError`]. A failed acquisition leaves nothing behind, like a cancelled one.
    pub async fn acquire_as(&self, request: Request<'_>) -> Result<Acquired, AcquireError> {
        let begun = Instant::now();
        let path = || self.0.path.clone();
        let run = acquire::acquire(self, &request);
        let answer = match request.patience {
            Patience::Forever => return run.await,
            Patience::Until(deadline) => tokio::time::timeout_at(deadline, run).await,
            // Only the store is waited for, and that no longer than a session lives without it.
            Patience::Once => tokio::time::timeout(self.0.tools.store.session_timeout(), run).await,
        };
        answer.unwrap_or_else(|_| match request.patience {
            Patience::Once => {
                let reason = format!("no answer within {} s", begun.elapsed().as_secs_f64());
                Err(AcquireError::Store { path: path(), source: StoreError::Unavailable { reason } })
            }
            Patience::Until(_) | Patience::Forever => {
                Err(AcquireError::TimedOut { path: path(), waited: begun.elapsed() })
            }
        })
    }

    /// Takes a lease whatever the count. The leases that are broken are deleted in the transaction that creates ours, with
    /// their claims; without any, the limit is exceeded by one. Our claim holds who forced it and why, and is written in that
    /// transaction, too. The path's number of slots is not compared.
    ///
    /// A broken lease is marked before it is deleted (its data is set, unchanged, in the version that was seen), so that
    /// those who wait by counting deletions look again instead of counting this one.
    ///
    /// # Errors
    /// [`ForceError`]; with any but `Deleted` and `SessionOver` everything is as it was.
    ///
    /// # Cancel safety
    /// Our lease does not stay; what was broken stays broken.
    pub async fn force(&self, request: Force<'_>) -> Result<Lease, ForceError> {
        let Inner { tools, path, .. } = &*self.0;
        let Force { identifier, lifetime, breaking, owner, record, along } = request;
        let fences: BTreeSet<Fence> = breaking.iter().copied().collect();
        let mut backoff = Backoff::patient();
        for _ in 0..Self::MOST_ROUNDS {
            let victims = self.victims(&fences, identifier, &mut backoff).await?;
            let (node, kind) = (path.child(&tools.unique()), NodeKind::from(lifetime));
            let mut ops = Vec::with_capacity(3 * victims.len() + 2);
            for victim in &victims {
                let marked = victim.node.stat.version.wrapping_add(1);
                ops.push(Op::Set {
                    path: victim.path.clone(),
                    data: victim.node.data.clone(),
                    version: Version::Exactly(victim.node.stat.version),
                });
                ops.push(Op::Delete { path: victim.path.clone(), version: Version::Exactly(marked) });
            }
            let of_victims = ops.len();
            ops.push(Op::Create { path: node.clone(), data: identifier.data(), kind });
            ops.extend(victims.iter().filter_map(|victim| victim.claim.as_ref()).flat_map(Claimed::delete));
            let claim = Claim { lease: node.clone(), owner: owner.clone(), forced: record.cloned() };
            if let Some(orphan) = self.orphan(identifier, &victims, &mut backoff).await? {
                ops.extend(orphan.delete());
            }
            let claimed = Claimed::new(path, identifier.as_str(), &node);
            ops.extend(claimed.create(&claim, kind));
            let own = ops.len();
            ops.extend(along(&node));
            let mut unsure = Unsure::new(tools, node.clone(), Some(claimed.clone()));
            let placed = own_node::place(tools, ops, &node, lifetime, None, &mut backoff).await;
            match placed.map_err(|source| self.force_error(source))? {
                Placed::There(stat, watch, _) => {
                    unsure.sure();
                    let (identifier, fence) = (identifier.clone(), stat.fence());
                    return Ok(Lease::new(tools, node, identifier, lifetime, fence, Some(claimed), watch));
                }
                Placed::Gone => {
                    unsure.sure();
                    return Err(ForceError::Deleted { path: path.clone() });
                }
                Placed::Not => unsure.sure(),
                Placed::Refused(index, source) => {
                    unsure.sure();
                    if index >= own {
                        return Err(ForceError::Along { path: path.clone(), source });
                    }
                    match (victims.get(index / 2), source) {
                        (Some(victim), StoreError::NoNode { .. } | StoreError::BadVersion { .. })
                            if index < of_victims =>
                        {
                            return Err(ForceError::Conflict { path: path.clone(), fence: victim.node.stat.fence() });
                        }
                        (_, StoreError::NoNode { .. }) if index == of_victims => {
                            self.make_path(&mut backoff).await.map_err(|source| self.force_error(source))?;
                        }
                        // A claim that has changed since, or the folder of the claims is missing.
                        (
                            _,
                            StoreError::NodeExists { .. } | StoreError::BadVersion { .. } | StoreError::NoNode { .. },
                        ) if index > of_victims => self.prepare_claims(&mut backoff).await?,
                        (_, source) if index > of_victims => {
                            return Err(ForceError::Claim { path: path.clone(), source });
                        }
                        (_, source) => return Err(self.force_error(source)),
                    }
                }
            }
        }
        let reason = format!("the transaction was undecided {} times", Self::MOST_ROUNDS);
        Err(self.force_error(StoreError::Unavailable { reason }))
    }

    async fn prepare_claims(&self, backoff: &mut Backoff) -> Result<(), ForceError> {
        let Inner { tools, path, .. } = &*self.0;
        claim::prepare(tools, path, backoff).await.map_err(|source| match source {
            source @ StoreError::Refused { .. } => ForceError::Claim { path: path.clone(), source },
            source => self.force_error(source),
        })
    }

    /// The claim of our identifier, if its lease is gone: it is replaced.
    async fn orphan(
        &self,
        identifier: &Identifier,
        victims: &[Victim],
        backoff: &mut Backoff,
    ) -> Result<Option<Claimed>, ForceError> {
        let Inner { tools, path, .. } = &*self.0;
        // Bounded by the back-off.
        loop {
            let look = async {
                let Some(seen) = claim::read(&*tools.store, path, identifier.as_str()).await? else { return Ok(None) };
                let is_broken = victims.iter().any(|victim| victim.path == seen.claim.lease);
                let is_there = is_broken || tools.store.stat(&seen.claim.lease).await?.is_some();
                Ok((!is_there).then_some(seen))
            };
            match look.await {
                Ok(seen) => {
                    return Ok(seen.map(|seen| Claimed::new(path, identifier.as_str(), &seen.claim.lease)));
                }
                Err(StoreError::Refused { .. }) => return Ok(None),
                Err(error) => backoff.after(error, tools).await.map_err(|source| self.force_error(source))?,
            }
        }
    }

    /// Follows a persistent lease that is there already: taken by an earlier session, known by its node and, if that was
    /// read, by its fence. `None` where it is not there any more, or never was such a lease.
    ///
    /// # Errors
    /// What the store says, after a few tries.
    pub async fn adopt(
        &self,
        lease: &NodePath,
        fence: Option<Fence>,
        identifier: &Identifier,
    ) -> Result<Option<Lease>, StoreError> {
        let Inner { tools, path, .. } = &*self.0;
        if lease.parent().as_ref() != Some(path) {
            return Ok(None);
        }
        let mut backoff = Backoff::brief();
        // Bounded by the back-off.
        loop {
            let claim = tools.store.read(&claim::place(path, identifier.as_str()));
            let (node, look) = (tools.store.read(lease), tools.store.stat_and_watch(lease));
            let seen = async { Ok((unless_missing(node.await)?, look.await?, unless_missing(claim.await)?)) };
            match seen.await {
                Ok((Some(node), (Some(stat), watch), claim))
                    if is_of(&node, identifier)
                        && node.stat.czxid == stat.czxid
                        && fence.is_none_or(|fence| fence == stat.fence()) =>
                {
                    let claim = claim.and_then(|node| claim::seen(&node)).filter(|seen| seen.claim.lease == *lease);
                    let claimed = claim.map(|_| Claimed::new(path, identifier.as_str(), lease));
                    let (lease, identifier) = (lease.clone(), identifier.clone());
                    let persistent = Lifetime::Persistent;
                    return Ok(Some(Lease::new(tools, lease, identifier, persistent, stat.fence(), claimed, watch)));
                }
                Ok(_) => return Ok(None),
                Err(error) => backoff.after(error, tools).await?,
            }
        }
    }

    /// The leases of those fences, with what they hold and who claims them. Refused if the identifier holds another one.
    async fn victims(
        &self,
        fences: &BTreeSet<Fence>,
        identifier: &Identifier,
        backoff: &mut Backoff,
    ) -> Result<Vec<Victim>, ForceError> {
        let Inner { tools, path, .. } = &*self.0;
        let leases = self.leases(backoff).await.map_err(|source| self.force_error(source))?;
        // Bounded by the back-off.
        let mut claims = loop {
            let names: Vec<_> = leases.iter().map(|(_, node)| String::from_utf8_lossy(&node.data)).collect();
            let claims = claim::Claims::new(Arc::clone(&tools.store), path.clone());
            match claims.of_leases(names.iter().map(AsRef::as_ref)).await {
                Ok(claims) => break claims,
                Err(error) => backoff.after(error, tools).await.map_err(|source| self.force_error(source))?,
            }
        };
        let (found, others): (Vec<_>, Vec<_>) =
            leases.into_iter().partition(|(_, node)| fences.contains(&node.stat.fence()));
        if let Some(fence) = fences.iter().find(|fence| found.iter().all(|(_, node)| node.stat.fence() != **fence)) {
            return Err(ForceError::Conflict { path: path.clone(), fence: *fence });
        }
        let mine = others.into_iter().filter(|(_, node)| node.data == identifier.as_str().as_bytes()).collect();
        if let Some(holder) = holders(mine).into_iter().next() {
            let (claim, place) = (claims.remove(&holder.path), claim::place(path, identifier.as_str()));
            let place_version = claim.as_ref().map(|seen| seen.version);
            let by = Box::new(HeldBy { lease: Some(holder), claim, place, place_version });
            return Err(ForceError::Held { path: path.clone(), by });
        }
        let victim = |(node_path, node): (NodePath, Node)| {
            let named = String::from_utf8_lossy(&node.data);
            let claim = claims.remove(&node_path).map(|_| Claimed::new(path, &named, &node_path));
            Victim { path: node_path, node, claim }
        };
        Ok(found.into_iter().map(victim).collect())
    }

    fn force_error(&self, source: StoreError) -> ForceError {
        let path = self.0.path.clone();
        match source {
            StoreError::SessionOver => ForceError::SessionOver { path },
            source => ForceError::Store { path, source },
        }
    }

    /// The leases, oldest first; none where there is no such path. Two round trips.
    ///
    /// # Errors
    /// What the store says, after a few tries.
    pub async fn holders(&self) -> Result<Vec<Holder>, StoreError> {
        Ok(holders(self.leases(&mut Backoff::brief()).await?))
    }

    /// What the semaphore looks like, and what tells when that has changed: a lease or a queue entry that came or went, or
    /// another number of slots. Creates nothing. Two round trips.
    ///
    /// # Errors
    /// What the store says, after a few tries.
    pub async fn observe(&self) -> Result<(SemaphoreState, Changed), StoreError> {
        let mut backoff = Backoff::brief();
        // Bounded by the back-off.
        loop {
            match self.observe_once().await {
                Err(error) => backoff.after(error, &self.0.tools).await?,
                seen => return seen,
            }
        }
    }

    async fn observe_once(&self) -> Result<(SemaphoreState, Changed), StoreError> {
        let Inner { tools, path, queue, .. } = &*self.0;
        let store = &tools.store;
        // A watching look at each node tells of one that is not there yet.
        let flight = (
            store.stat_and_watch(path),
            store.stat_and_watch(queue),
            store.read(path),
            store.children_and_watch(queue),
            store.children_and_watch(path),
        );
        let (_, path_watch) = flight.0.await?;
        let (_, queue_watch) = flight.1.await?;
        let data = unless_missing(flight.2.await)?;
        let (queued, queue_children) = split(unless_missing(flight.3.await)?);
        let (mut leases, lease_children) = split(unless_missing(flight.4.await)?);
        let children = leases.len();
        leases.retain(|name| !names::is_reservation(name));
        let reserved = u32::try_from(children - leases.len()).unwrap_or(u32::MAX);
        let watches = [Some(path_watch), Some(queue_watch), queue_children, lease_children];
        let leases = read_all(store.as_ref(), path, leases).await?;
        let state = SemaphoreState {
            slots: data.and_then(|node| names::slots(&node.data)).and_then(|slots| u32::try_from(slots).ok()),
            holders: holders(leases),
            queued: u32::try_from(names::contenders(&queued).len()).unwrap_or(u32::MAX),
            reserved,
        };
        Ok((state, Changed::new(watches.into_iter().flatten().collect())))
    }

    /// The identifiers of the first `most` who queue, in the queue's order, as far as their data is text. Two round trips.
    ///
    /// # Errors
    /// As the store's.
    pub async fn queue(&self, most: usize) -> Result<Vec<String>, StoreError> {
        let Inner { tools, queue, .. } = &*self.0;
        let names = unless_missing(tools.store.children(queue).await)?.unwrap_or_default();
        let first: Vec<String> = names::contenders(&names).into_iter().take(most).map(str::to_owned).collect();
        let entries = read_all(tools.store.as_ref(), queue, first).await?;
        Ok(entries.into_iter().map(|(_, node)| String::from_utf8_lossy(&node.data).into_owned()).collect())
    }

    /// Deletes every persistent lease with this identifier that an operator took, with its claim, and says what else it found.
    /// A lease without a claim counts as an operator's, as in Salt; one whose process has certainly ended, too. A lease that a
    /// run or a living process owns stays, and so does every ephemeral one.
    ///
    /// # Errors
    /// What the store says, after a few tries; some of the leases may be deleted then.
    pub async fn unlock(&self, identifier: &Identifier) -> Result<Unlocked, StoreError> {
        let Inner { tools, path, .. } = &*self.0;
        let mut backoff = Backoff::brief();
        let mut released = 0;
        let mut unanswered: BTreeSet<NodePath> = BTreeSet::new();
        // Bounded by the back-off.
        loop {
            // The leases first: one that is created with its claim after a look at the claims would be seen without it.
            let leases = self.leases(&mut backoff).await?;
            let claim = match claim::read(&*tools.store, path, identifier.as_str()).await {
                Err(StoreError::Refused { .. }) => Ok(None),
                claim => claim,
            };
            let claim = match claim {
                Ok(claim) => claim,
                Err(error) => {
                    backoff.after(error, tools).await?;
                    continue;
                }
            };
            let (mine, others): (Vec<_>, Vec<_>) = leases.into_iter().partition(|(_, node)| is_of(node, identifier));
            let is_owned = |(lease, _): &(NodePath, Node)| {
                let owner = claim.as_ref().filter(|seen| seen.claim.lease == *lease).map(|seen| &seen.claim.owner);
                owner.is_some_and(|owner| !matches!(owner, Owner::ByHand { .. }) && !owner.has_certainly_ended())
            };
            let (owned, mine): (Vec<_>, Vec<_>) = mine.into_iter().partition(is_owned);
            // What is gone after an unanswered deletion was deleted by it, as far as anybody can tell.
            unanswered.retain(|path| {
                let still = mine.iter().any(|(mine, _)| mine == path);
                released += u32::from(!still);
                still
            });
            let mut failed = None;
            for (node, _) in &mine {
                let claimed = claim.as_ref().filter(|seen| seen.claim.lease == *node);
                let claimed = claimed.map(|_| Claimed::new(path, identifier.as_str(), node));
                match self.delete(node, claimed).await {
                    Ok(()) => {
                        unanswered.remove(node);
                        released += 1;
                    }
                    Err(StoreError::NoNode { .. }) => released += u32::from(unanswered.remove(node)),
                    Err(error @ StoreError::Ambiguous { .. }) => {
                        let reason = error.to_string();
                        unanswered.insert(node.clone());
                        failed = Some(StoreError::Unavailable { reason });
                    }
                    Err(error) => failed = Some(error),
                }
            }
            match failed {
                Some(error) => backoff.after(error, tools).await?,
                None => {
                    let owner = claim.map(|seen| seen.claim.owner);
                    let owned = holders(owned).into_iter().filter_map(|lease| Some((lease, owner.clone()?))).collect();
                    return Ok(Unlocked { released, owned, left: holders(others) });
                }
            }
        }
    }

    /// Deletes every lease with this identifier, ephemeral ones and those that a run or a process owns included, with its
    /// claim, and keeps a record of who did it and why. One transaction for each lease.
    ///
    /// # Errors
    /// What the store says, after a few tries; some of the leases may be broken then.
    pub async fn break_leases(
        &self,
        identifier: &Identifier,
        by: &str,
        reason: &str,
    ) -> Result<Vec<Holder>, StoreError> {
        let Inner { tools, path, .. } = &*self.0;
        let mut backoff = Backoff::brief();
        let mut broken = Vec::new();
        broken_lease::prepare(&*tools.store).await?;
        // Bounded by the back-off.
        loop {
            // In this order, as for `unlock`.
            let leases = self.leases(&mut backoff).await?;
            let claim = claim::read(&*tools.store, path, identifier.as_str()).await?;
            let mine = leases.into_iter().filter(|(_, node)| node.data == identifier.as_str().as_bytes());
            let mut failed = None;
            for holder in holders(mine.collect()) {
                let at = tools.store.clock().now_ms();
                let record = Broken { lease: holder.path.clone(), by: by.to_owned(), reason: reason.to_owned(), at };
                let lease = Op::Delete { path: holder.path.clone(), version: Version::Any };
                let mut ops = vec![lease, broken_lease::create(&record)];
                if claim.as_ref().is_some_and(|seen| seen.claim.lease == holder.path) {
                    ops.extend(Claimed::new(path, identifier.as_str(), &holder.path).delete());
                }
                match tools.store.multi(ops).await {
                    Ok(_) => broken.push(holder),
                    // It is gone, or its claim has changed: look again.
                    Err(StoreError::Multi { source, .. }) if !source.is_retryable() => {
                        if matches!(*source, StoreError::Refused { .. }) {
                            return Err(*source);
                        }
                        failed = Some(StoreError::Unavailable { reason: source.to_string() });
                    }
                    Err(StoreError::Ambiguous { .. }) => {
                        let reason = format!("the deletion of `{}` was not answered", holder.path);
                        failed = Some(StoreError::Unavailable { reason });
                        broken.push(holder);
                    }
                    Err(error) => failed = Some(error),
                }
            }
            match failed {
                Some(error) => backoff.after(error, tools).await?,
                None => {
                    broken.dedup_by(|a, b| a.path == b.path);
                    return Ok(broken);
                }
            }
        }
    }

    /// Deletes a lease that is known by its node, with its claim if it still has that one.
    async fn delete(&self, lease: &NodePath, claimed: Option<Claimed>) -> Result<(), StoreError> {
        let store = &self.0.tools.store;
        if claimed.is_some() {
            match store.multi(Deletion::new(lease.clone(), claimed).ops()).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Multi { index: 0, source }) => return Err(*source),
                // The claim has changed: the lease goes alone.
                Err(StoreError::Multi { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        store.delete(lease, Version::Any).await
    }

    /// How many clean-ups of cancelled or failed acquisitions and dropped leases are under way.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.0.tools.pending()
    }

    /// Waits until no clean-up is under way. A program calls it before it closes the session.
    pub async fn settled(&self) {
        self.0.tools.settled().await;
    }

    /// How often a waiting caller found room by looking again after a long while, and no watch had told it. Should stay 0
    /// while nothing is cut.
    #[must_use]
    pub fn safety_net_finds(&self) -> u64 {
        self.0.safety_net_finds.load(Ordering::Relaxed)
    }

    /// The number in force, as it was read last; `None` if it must be read.
    pub(super) fn number(&self) -> Option<Number> {
        *self.0.number.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number may have changed.
    pub(super) fn forget_number(&self) {
        *self.0.number.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    pub(super) fn set_number(&self, number: Number) {
        self.0.was_compared.store(true, Ordering::Relaxed);
        *self.0.number.lock().unwrap_or_else(PoisonError::into_inner) = Some(number);
    }

    /// Asks for the number, and the first time whether the path lies below another semaphore, in one flight.
    pub(super) fn ask_number(&self) -> AskedNumber {
        let Inner { tools, path, .. } = &*self.0;
        let is_first = !self.0.was_compared.load(Ordering::Relaxed);
        let above = if is_first { nested_semaphores::ask_above(&*tools.store, path) } else { Vec::new() };
        AskedNumber { store: Arc::clone(&tools.store), node: tools.store.read(path), above }
    }

    /// Takes a number that was read; `None` if there is none yet and the caller must write its own.
    ///
    /// # Errors
    /// [`AcquireError::SlotsDiffer`] if it is compared for the first time and differs; [`AcquireError::Nested`].
    pub(super) fn learn(&self, seen: SeenNode) -> Result<Option<Number>, AcquireError> {
        let Inner { path, wanted, rule, was_compared, .. } = &*self.0;
        if let Some(other) = seen.above {
            return Err(self.nested(other));
        }
        let version = seen.node.stat.version;
        let differs = |stored| Err(AcquireError::SlotsDiffer { path: path.clone(), stored, wanted: *wanted });
        let slots = match names::slots(&seen.node.data) {
            None if seen.node.data.trim_ascii().is_empty() => return Ok(None),
            // Data that is no number is another application's, and is not compared, as in kazoo.
            None => *wanted,
            Some(stored) => match u32::try_from(stored).ok().and_then(NonZeroU32::new) {
                None => return differs(stored),
                Some(slots) if slots == *wanted => slots,
                Some(_) if *rule == SlotsRule::Same && !was_compared.load(Ordering::Relaxed) => {
                    return differs(stored);
                }
                Some(slots) => slots,
            },
        };
        let number = Number { slots, version };
        self.set_number(number);
        Ok(Some(number))
    }

    /// Refuses a path among whose children are semaphores.
    pub(super) fn refuse_what_lies_below(&self, children: &[String]) -> Result<(), AcquireError> {
        let below = nested_semaphores::among(&self.0.path, children.iter().map(String::as_str));
        below.map_or(Ok(()), |other| Err(self.nested(other)))
    }

    fn nested(&self, other: NodePath) -> AcquireError {
        AcquireError::Nested(Nested { path: self.0.path.clone(), other })
    }

    /// Makes sure that the path is there with a number, and the queue beside it. The first caller writes the number of an
    /// empty path, in the version that it read.
    pub(super) async fn make_sure(&self, backoff: &mut Backoff) -> Result<(), AcquireError> {
        let Inner { tools, path, wanted, .. } = &*self.0;
        for _ in 0..Self::MOST_ROUNDS {
            // Before anything is created: a child of another semaphore would count as a lease there.
            match self.ask_number().answer().await {
                Ok(seen) => {
                    let (version, other) = (seen.node.stat.version, seen.above.clone());
                    let is_known = self.learn(seen)?.is_some();
                    debug_assert!(other.is_none(), "`learn` refuses it");
                    if !is_known {
                        match nested_semaphores::below(&*tools.store, path).await {
                            Ok(None) => {}
                            Ok(Some(other)) => return Err(self.nested(other)),
                            Err(error) => {
                                backoff.after(error, tools).await.map_err(|source| acquire::error(self, source))?;
                                continue;
                            }
                        }
                    }
                    let made = self.make_path(backoff).await.map_err(|source| acquire::error(self, source))?;
                    if made {
                        // It was deleted in between.
                        continue;
                    }
                    if is_known {
                        return Ok(());
                    }
                    let data = Bytes::from(wanted.to_string());
                    match tools.store.set(path, data, Version::Exactly(version)).await {
                        Ok(stat) => {
                            self.set_number(Number { slots: *wanted, version: stat.version });
                            return Ok(());
                        }
                        // Another caller's number holds; what was not answered is read.
                        Err(StoreError::BadVersion { .. } | StoreError::NoNode { .. }) => {}
                        Err(StoreError::Ambiguous { .. }) => drop(tools.store.sync(path).await),
                        Err(error) => {
                            backoff.after(error, tools).await.map_err(|source| acquire::error(self, source))?;
                        }
                    }
                }
                Err(StoreError::NoNode { .. }) => {
                    if let Some(other) = self.semaphore_above().await.map_err(|source| acquire::error(self, source))? {
                        return Err(self.nested(other));
                    }
                    let made = self.make_path(backoff).await.map_err(|source| acquire::error(self, source))?;
                    if made {
                        self.set_number(Number { slots: *wanted, version: 0 });
                        return Ok(());
                    }
                    // Made by another caller, or not yet seen by the server that we ask. The next round looks.
                    let _ = tools.store.sync(path).await;
                }
                Err(error) => backoff.after(error, tools).await.map_err(|source| acquire::error(self, source))?,
            }
        }
        Err(acquire::error(self, self.comes_and_goes()))
    }

    /// The nearest semaphore above the path.
    async fn semaphore_above(&self) -> Result<Option<NodePath>, StoreError> {
        let AskedNumber { store, above, .. } = self.ask_number();
        nested_semaphores::nearest_above(&*store, above).await
    }

    fn comes_and_goes(&self) -> StoreError {
        StoreError::Unavailable { reason: format!("`{}` comes and goes", self.0.path) }
    }

    /// Makes the path, with its number in the same request, and the queue; what is there is left alone. `true` when the
    /// path is certainly ours, so that its number need not be read.
    async fn make_path(&self, backoff: &mut Backoff) -> Result<bool, StoreError> {
        let Inner { tools, path, queue, wanted, .. } = &*self.0;
        let store = &tools.store;
        let create = |path: &NodePath, data: Bytes| Op::Create { path: path.clone(), data, kind: NodeKind::Persistent };
        let pool = || create(path, Bytes::from(wanted.to_string()));
        let line = || create(queue, Bytes::new());
        // First both; where one is there already, only the other.
        let mut ops = vec![pool(), line()];
        for _ in 0..Self::MOST_ROUNDS {
            let error = match store.multi(ops.clone()).await {
                Ok(_) => return Ok(ops.iter().any(|op| op.path() == path)),
                Err(StoreError::Multi { index, source }) => match *source {
                    StoreError::NodeExists { .. } => {
                        ops.remove(index.min(ops.len() - 1));
                        if ops.is_empty() {
                            return Ok(false);
                        }
                        continue;
                    }
                    StoreError::NoNode { .. } => match path.parent() {
                        Some(above) => match create_all(store.as_ref(), &above).await {
                            Ok(()) => continue,
                            Err(error) => error,
                        },
                        None => return Err(*source),
                    },
                    source => source,
                },
                // Whether it happened or not, the same request tells: then its nodes are there already.
                Err(StoreError::Ambiguous { path }) => {
                    StoreError::Unavailable { reason: format!("the creation of `{path}` was not answered") }
                }
                Err(error) => error,
            };
            backoff.after(error, tools).await?;
        }
        Err(self.comes_and_goes())
    }

    /// All leases with what they hold.
    async fn leases(&self, backoff: &mut Backoff) -> Result<Vec<(NodePath, Node)>, StoreError> {
        let Inner { tools, path, .. } = &*self.0;
        // Bounded by the back-off.
        loop {
            let read = async {
                let mut names = unless_missing(tools.store.children(path).await)?.unwrap_or_default();
                names.retain(|name| !names::is_reservation(name));
                read_all(tools.store.as_ref(), path, names).await
            };
            match read.await {
                Err(error) => backoff.after(error, tools).await?,
                leases => return leases,
            }
        }
    }
}

/// A forced acquisition.
#[derive(Clone, Copy)]
pub struct Force<'a> {
    /// The lease's data.
    pub identifier: &'a Identifier,
    /// Whether the lease ends with the session.
    pub lifetime: Lifetime,
    /// The fences of the leases that are broken.
    pub breaking: &'a [Fence],
    /// Who owns the lease.
    pub owner: &'a Owner,
    /// Who forces it, why and when; `None` where a holder replaces a lease of its own.
    pub record: Option<&'a Forced>,
    /// What else is written in the transaction that creates the lease.
    pub along: Along<'a>,
}

impl std::fmt::Debug for Force<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { identifier, lifetime, breaking, owner, record, along: _ } = self;
        f.debug_struct("Force")
            .field("identifier", identifier)
            .field("lifetime", lifetime)
            .field("breaking", breaking)
            .field("owner", owner)
            .field("record", record)
            .finish_non_exhaustive()
    }
}

/// A lease that is to be broken, as it was seen.
struct Victim {
    path: NodePath,
    node: Node,
    claim: Option<Claimed>,
}

/// The number of a path on its way, and what lies above the path.
pub(super) struct AskedNumber {
    store: Arc<dyn Store>,
    node: Reply<Node>,
    above: Above,
}

/// A path's node, and the nearest semaphore above it.
#[derive(Debug)]
pub(super) struct SeenNode {
    node: Node,
    above: Option<NodePath>,
}

impl AskedNumber {
    pub(super) async fn answer(self) -> Result<SeenNode, StoreError> {
        let Self { store, node, above } = self;
        let node = node.await;
        let above = nested_semaphores::nearest_above(&*store, above).await?;
        Ok(SeenNode { node: node?, above })
    }
}

/// A lease that may have been made with its claim, until that is known: dropped before, both are cleaned up.
pub(super) struct Unsure<'a> {
    tools: &'a Arc<Tools>,
    node: Option<NodePath>,
    claim: Option<Claimed>,
}

impl<'a> Unsure<'a> {
    pub(super) fn new(tools: &'a Arc<Tools>, node: NodePath, claim: Option<Claimed>) -> Self {
        Self { tools, node: Some(node), claim }
    }

    pub(super) fn sure(&mut self) {
        self.node = None;
    }
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            let claim = self.claim.take();
            self.tools.clean_up(Leftovers { queue: None, entry: Entry::None, node: Some(node), claim });
        }
    }
}

/// Whether a lease is this identifier's to re-enter or to unlock: only persistent ones are found by who holds them.
pub(super) fn is_of(node: &Node, identifier: &Identifier) -> bool {
    node.stat.ephemeral_owner.is_none() && node.data == identifier.as_str().as_bytes()
}

/// Reads all children of those names in one flight; those that are gone are left out.
pub(super) async fn read_all(
    store: &dyn Store,
    path: &NodePath,
    names: Vec<String>,
) -> Result<Vec<(NodePath, Node)>, StoreError> {
    let replies: Vec<(NodePath, Reply<Node>)> = names
        .iter()
        .map(|name| {
            let node = path.child(name);
            let reply = store.read(&node);
            (node, reply)
        })
        .collect();
    let mut nodes = Vec::with_capacity(replies.len());
    for (path, reply) in replies {
        if let Some(node) = unless_missing(reply.await)? {
            nodes.push((path, node));
        }
    }
    Ok(nodes)
}

/// An answer about a node that may be missing.
pub(super) fn unless_missing<T>(answer: Result<T, StoreError>) -> Result<Option<T>, StoreError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::NoNode { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn split(seen: Option<(Vec<String>, Watch)>) -> (Vec<String>, Option<Watch>) {
    seen.map_or_else(|| (Vec::new(), None), |(names, watch)| (names, Some(watch)))
}

pub(super) fn holders(leases: Vec<(NodePath, Node)>) -> Vec<Holder> {
    let mut holders: Vec<Holder> = leases
        .into_iter()
        .map(|(path, node)| Holder {
            identifier: String::from_utf8_lossy(&node.data).into_owned(),
            fence: node.stat.fence(),
            since_ms: node.stat.ctime_ms,
            ephemeral: node.stat.ephemeral_owner.is_some(),
            session: node.stat.ephemeral_owner,
            path,
        })
        .collect();
    holders.sort_by(|a, b| (a.fence, &a.path).cmp(&(b.fence, &b.path)));
    holders
}

/// A span as people read it: nobody waits by the microsecond.
fn in_milliseconds(span: Duration) -> String {
    humantime::format_duration(Duration::from_millis(millis(span))).to_string()
}
