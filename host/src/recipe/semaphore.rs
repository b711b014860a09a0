//! A counting semaphore.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use thiserror::Error;
use tokio::time::Instant;

use super::acquire;
use super::identifier::Identifier;
use super::lease::Lease;
use super::names;
use super::observe::Changed;
use super::own::{self, Placed};
use super::patience::{Backoff, Patience};
use super::tools::{Entry, Leftovers, Tools};
use crate::store::{
    Lifetime, Node, NodeKind, NodePath, Op, Reply, SessionId, Store, StoreError, Version, Watch, create_all,
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
/// session ended. It is found by its identifier: the next `acquire` re-enters it, and [`Semaphore::unlock`] deletes it.
#[derive(Debug, Clone)]
pub struct Semaphore(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) tools: Arc<Tools>,
    pub(super) path: NodePath,
    pub(super) queue: NodePath,
    pub(super) slots: NonZeroU32,
    /// Whether the path was seen with the right number, so that no request need make sure of it.
    known: AtomicBool,
    pub(super) safety_net_finds: AtomicU64,
}

/// A lease, and how it came.
#[derive(Debug)]
pub struct Acquired {
    /// The lease.
    pub lease: Lease,
    /// How it came.
    pub how: Acquisition,
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
    #[error("semaphore `{path}` was made for {stored} at once, and {wanted} are wanted")]
    SlotsDiffer {
        /// Which.
        path: NodePath,
        /// What its data says.
        stored: i64,
        /// What we were told.
        wanted: NonZeroU32,
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
        fence: i64,
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
    pub fence: i64,
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
}

/// What [`Semaphore::unlock`] found and did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unlocked {
    /// Persistent leases with the identifier, now deleted.
    pub released: u32,
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

    fn with_tools(tools: Arc<Tools>, path: NodePath, slots: NonZeroU32) -> Self {
        let queue = path.with_suffix(&format!("-{}", names::LOCK));
        let (known, safety_net_finds) = (AtomicBool::new(false), AtomicU64::new(0));
        Self(Arc::new(Inner { tools, path, queue, slots, known, safety_net_finds }))
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &NodePath {
        &self.0.path
    }

    /// How many slots its caller believes in.
    #[must_use]
    pub fn slots(&self) -> NonZeroU32 {
        self.0.slots
    }

    /// Takes a slot, waiting for one as long as `patience` says: one deadline for all steps together.
    ///
    /// A persistent lease with the same identifier is the same holder's and is re-entered. That is found by reading, so
    /// two callers with one identifier at the same moment may both get a fresh lease, as in Salt.
    ///
    /// The path's number of slots is compared once in this semaphore's life.
    ///
    /// # Errors
    /// [`AcquireError`]. A failed acquisition leaves nothing behind, like a cancelled one.
    pub async fn acquire(
        &self,
        identifier: &Identifier,
        lifetime: Lifetime,
        patience: Patience,
    ) -> Result<Acquired, AcquireError> {
        self.acquire_along(identifier, lifetime, patience, &|_| Vec::new()).await
    }

    /// As [`Semaphore::acquire`], and in the transaction that makes the lease `along` is written. A lease that is re-entered
    /// is there already: with it nothing is written.
    ///
    /// # Errors
    /// As [`Semaphore::acquire`]; [`AcquireError::Along`].
    pub async fn acquire_along(
        &self,
        identifier: &Identifier,
        lifetime: Lifetime,
        patience: Patience,
        along: Along<'_>,
    ) -> Result<Acquired, AcquireError> {
        let begun = Instant::now();
        let path = || self.0.path.clone();
        let run = acquire::acquire(self, identifier, lifetime, patience == Patience::Once, along);
        let answer = match patience {
            Patience::Forever => return run.await,
            Patience::Until(deadline) => tokio::time::timeout_at(deadline, run).await,
            // Nobody is waited for but the store, and that no longer than a session lives without it.
            Patience::Once => tokio::time::timeout(self.0.tools.store.session_timeout(), run).await,
        };
        answer.unwrap_or_else(|_| match patience {
            Patience::Once => {
                let reason = format!("no answer within {} s", begun.elapsed().as_secs_f64());
                Err(AcquireError::Store { path: path(), source: StoreError::Unavailable { reason } })
            }
            Patience::Until(_) | Patience::Forever => {
                Err(AcquireError::TimedOut { path: path(), waited: begun.elapsed() })
            }
        })
    }

    /// Takes a lease whatever the count. With `breaking`, the leases of those fences are deleted in the transaction that
    /// creates ours; without, the limit is exceeded by one. The path's number of slots is not compared.
    ///
    /// A broken lease is marked before it is deleted (its data is set, unchanged, in the version that was seen), so that
    /// those who wait by counting deletions look again instead of counting this one.
    ///
    /// # Errors
    /// [`ForceError`]; `Conflict` leaves everything as it was.
    ///
    /// # Cancel safety
    /// Our lease does not stay; what was broken stays broken.
    pub async fn force(
        &self,
        identifier: &Identifier,
        lifetime: Lifetime,
        breaking: &[i64],
    ) -> Result<Lease, ForceError> {
        self.force_along(identifier, lifetime, breaking, &|_| Vec::new()).await
    }

    /// As [`Semaphore::force`], and in the transaction that makes the lease `along` is written.
    ///
    /// # Errors
    /// As [`Semaphore::force`]; [`ForceError::Along`].
    pub async fn force_along(
        &self,
        identifier: &Identifier,
        lifetime: Lifetime,
        breaking: &[i64],
        along: Along<'_>,
    ) -> Result<Lease, ForceError> {
        let Inner { tools, path, .. } = &*self.0;
        let fences: BTreeSet<i64> = breaking.iter().copied().collect();
        let mut backoff = Backoff::patient();
        for _ in 0..Self::MOST_ROUNDS {
            let victims = self.victims(&fences, &mut backoff).await?;
            let node = path.child(&tools.unique());
            let mut ops = Vec::with_capacity(2 * victims.len() + 1);
            for (victim, seen) in &victims {
                let marked = seen.stat.version.wrapping_add(1);
                ops.push(Op::Set {
                    path: victim.clone(),
                    data: seen.data.clone(),
                    version: Version::Exactly(seen.stat.version),
                });
                ops.push(Op::Delete { path: victim.clone(), version: Version::Exactly(marked) });
            }
            ops.push(Op::Create { path: node.clone(), data: identifier.data(), kind: NodeKind::from(lifetime) });
            let own = ops.len();
            ops.extend(along(&node));
            let mut unsure = Unsure::new(tools, node.clone());
            let placed = own::place(tools, ops, &node, lifetime, &mut backoff).await;
            match placed.map_err(|source| self.force_error(source))? {
                Placed::There(stat, watch) => {
                    unsure.sure();
                    return Ok(Lease::new(tools, node, identifier.clone(), lifetime, stat.czxid, watch));
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
                        (Some((_, victim)), StoreError::NoNode { .. } | StoreError::BadVersion { .. }) => {
                            return Err(ForceError::Conflict { path: path.clone(), fence: victim.stat.czxid });
                        }
                        (None, StoreError::NoNode { .. }) => {
                            self.make_path(&mut backoff).await.map_err(|source| self.force_error(source))?;
                        }
                        (_, source) => return Err(self.force_error(source)),
                    }
                }
            }
        }
        let reason = format!("the transaction was undecided {} times", Self::MOST_ROUNDS);
        Err(self.force_error(StoreError::Unavailable { reason }))
    }

    /// Follows a persistent lease that is there already: taken by an earlier session, known by its node. None where it is
    /// not there any more, or never was such a lease.
    ///
    /// # Errors
    /// What the store says, after a few tries.
    pub async fn adopt(&self, lease: &NodePath, identifier: &Identifier) -> Result<Option<Lease>, StoreError> {
        let Inner { tools, path, .. } = &*self.0;
        if lease.parent().as_ref() != Some(path) {
            return Ok(None);
        }
        let mut backoff = Backoff::brief();
        // Bounded by the back-off.
        loop {
            let (node, look) = (tools.store.read(lease), tools.store.stat_and_watch(lease));
            let seen = async { Ok((unless_missing(node.await)?, look.await?)) };
            match seen.await {
                Ok((Some(node), (Some(stat), watch))) if is_of(&node, identifier) && node.stat.czxid == stat.czxid => {
                    let (lease, identifier) = (lease.clone(), identifier.clone());
                    return Ok(Some(Lease::new(tools, lease, identifier, Lifetime::Persistent, stat.czxid, watch)));
                }
                Ok(_) => return Ok(None),
                Err(error) => backoff.after(error, tools).await?,
            }
        }
    }

    /// The leases of those fences, with what they hold.
    async fn victims(
        &self,
        fences: &BTreeSet<i64>,
        backoff: &mut Backoff,
    ) -> Result<Vec<(NodePath, Node)>, ForceError> {
        if fences.is_empty() {
            return Ok(Vec::new());
        }
        let leases = self.leases(backoff).await.map_err(|source| self.force_error(source))?;
        let found: Vec<_> = leases.into_iter().filter(|(_, node)| fences.contains(&node.stat.czxid)).collect();
        match fences.iter().find(|fence| found.iter().all(|(_, node)| node.stat.czxid != **fence)) {
            Some(fence) => Err(ForceError::Conflict { path: self.0.path.clone(), fence: *fence }),
            None => Ok(found),
        }
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
        let (leases, lease_children) = split(unless_missing(flight.4.await)?);
        let watches = [Some(path_watch), Some(queue_watch), queue_children, lease_children];
        let leases = read_all(store.as_ref(), path, leases).await?;
        let state = SemaphoreState {
            slots: data.and_then(|node| names::slots(&node.data)).and_then(|slots| u32::try_from(slots).ok()),
            holders: holders(leases),
            queued: u32::try_from(names::contenders(&queued).len()).unwrap_or(u32::MAX),
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

    /// Deletes every persistent lease with this identifier, and says what else it found. Ephemeral leases are left to
    /// their session.
    ///
    /// # Errors
    /// What the store says, after a few tries; some of the leases may be deleted then.
    pub async fn unlock(&self, identifier: &Identifier) -> Result<Unlocked, StoreError> {
        let tools = &self.0.tools;
        let mut backoff = Backoff::brief();
        let mut released = 0;
        let mut unanswered: BTreeSet<NodePath> = BTreeSet::new();
        // Bounded by the back-off.
        loop {
            let leases = self.leases(&mut backoff).await?;
            let (mine, left): (Vec<_>, Vec<_>) = leases.into_iter().partition(|(_, node)| is_of(node, identifier));
            // What is gone after an unanswered deletion was deleted by it, as far as anybody can tell.
            unanswered.retain(|path| {
                let still = mine.iter().any(|(mine, _)| mine == path);
                released += u32::from(!still);
                still
            });
            let replies: Vec<_> =
                mine.iter().map(|(node, _)| (node.clone(), tools.store.delete(node, Version::Any))).collect();
            let mut failed = None;
            for (node, reply) in replies {
                match reply.await {
                    Ok(()) => {
                        unanswered.remove(&node);
                        released += 1;
                    }
                    Err(StoreError::NoNode { .. }) => released += u32::from(unanswered.remove(&node)),
                    Err(error @ StoreError::Ambiguous { .. }) => {
                        let reason = error.to_string();
                        unanswered.insert(node);
                        failed = Some(StoreError::Unavailable { reason });
                    }
                    Err(error) => failed = Some(error),
                }
            }
            match failed {
                Some(error) => backoff.after(error, tools).await?,
                None => return Ok(Unlocked { released, left: holders(left) }),
            }
        }
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

    pub(super) fn is_known(&self) -> bool {
        self.0.known.load(Ordering::Relaxed)
    }

    pub(super) fn set_known(&self, known: bool) {
        self.0.known.store(known, Ordering::Relaxed);
    }

    /// Compares the number in the path's data with ours. Data that is no number is somebody else's.
    pub(super) fn check_slots(&self, data: &Bytes) -> Result<(), AcquireError> {
        match names::slots(data) {
            Some(stored) if stored != i64::from(self.0.slots.get()) => {
                Err(AcquireError::SlotsDiffer { path: self.0.path.clone(), stored, wanted: self.0.slots })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Makes sure that the path is there with our number, and the queue beside it.
    pub(super) async fn make_sure(&self, backoff: &mut Backoff) -> Result<(), AcquireError> {
        let Inner { tools, path, .. } = &*self.0;
        for _ in 0..Self::MOST_ROUNDS {
            let made = self.make_path(backoff).await.map_err(|source| acquire::error(self, source))?;
            if made {
                self.set_known(true);
                return Ok(());
            }
            match tools.store.read(path).await {
                Ok(node) => {
                    self.check_slots(&node.data)?;
                    self.set_known(true);
                    return Ok(());
                }
                // Deleted again, or not yet seen by the server that we ask.
                Err(StoreError::NoNode { .. }) => {
                    // Whatever `sync` says, the next round looks.
                    let _ = tools.store.sync(path).await;
                }
                Err(error) => backoff.after(error, tools).await.map_err(|source| acquire::error(self, source))?,
            }
        }
        Err(acquire::error(self, self.comes_and_goes()))
    }

    fn comes_and_goes(&self) -> StoreError {
        StoreError::Unavailable { reason: format!("`{}` comes and goes", self.0.path) }
    }

    /// Makes the path, with its number in the same request, and the queue; what is there is left alone. `true` when the
    /// path is certainly ours, so that its number need not be read.
    async fn make_path(&self, backoff: &mut Backoff) -> Result<bool, StoreError> {
        let Inner { tools, path, queue, slots, .. } = &*self.0;
        let store = &tools.store;
        let create = |path: &NodePath, data: Bytes| Op::Create { path: path.clone(), data, kind: NodeKind::Persistent };
        let pool = || create(path, Bytes::from(slots.to_string()));
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
                let names = unless_missing(tools.store.children(path).await)?;
                read_all(tools.store.as_ref(), path, names.unwrap_or_default()).await
            };
            match read.await {
                Err(error) => backoff.after(error, tools).await?,
                leases => return leases,
            }
        }
    }
}

/// A node that may have been made, until that is known: dropped before, it is cleaned up.
pub(super) struct Unsure<'a> {
    tools: &'a Arc<Tools>,
    node: Option<NodePath>,
}

impl<'a> Unsure<'a> {
    pub(super) fn new(tools: &'a Arc<Tools>, node: NodePath) -> Self {
        Self { tools, node: Some(node) }
    }

    pub(super) fn sure(&mut self) {
        self.node = None;
    }
}

impl Drop for Unsure<'_> {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            self.tools.clean_up(Leftovers { queue: None, entry: Entry::None, node: Some(node) });
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

fn holders(leases: Vec<(NodePath, Node)>) -> Vec<Holder> {
    let mut holders: Vec<Holder> = leases
        .into_iter()
        .map(|(path, node)| Holder {
            identifier: String::from_utf8_lossy(&node.data).into_owned(),
            fence: node.stat.czxid,
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
    humantime::format_duration(Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))).to_string()
}
