//! How a slot is taken: the rule, the flights and the waiting.
//!
//! The *pool* is the semaphore's path, whose children are the leases; the *rank* is how many queue ahead of us. Four
//! things keep the limit, and `tests/tests/semaphore_model.rs` shows for the first three what happens without them:
//!
//! 1. The queue is read before the pool. In the other order somebody ahead of us can convert between the two reads and
//!    be counted in neither.
//! 2. The lease is created in the transaction that deletes our queue entry. Whoever left the queue first would for a
//!    moment be counted nowhere.
//! 3. Deletions are counted only of leases that we saw, and a lease that changes before it goes is not counted: a
//!    take-over deletes one lease and creates another, and frees nothing.
//! 4. What the store did not answer is looked up by a name that only we can have made, after `sync`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::identifier::Identifier;
use super::lease::Lease;
use super::names;
use super::observe::first;
use super::own::{self, Placed};
use super::patience::Backoff;
use super::semaphore::{AcquireError, Acquired, Acquisition, Along, Inner, Semaphore, is_of, unless_missing};
use super::tools::{Entry, Leftovers, Tools, found};
use crate::store::{Lifetime, NodeKind, NodePath, Op, Reply, StoreError, Version, Watch, WatchEvent};

/// How many at the front of the queue watch the leases themselves, if there are as many slots. More of them keep the
/// slots busier and make more requests a hand-over. With 8 slots and 64 callers, 6 of them got a fifth more done on a
/// server than 4, for 17 requests a hand-over instead of 16; in `tests.rs`, where every clock strikes at once, it is 21.
const WINDOW: usize = 6;

/// Up to so many slots a waiter watches each lease; with more it watches the pool's children as one.
const WATCHED_ONE_BY_ONE: u32 = 16;

/// How often our place may vanish under our hands before we give up.
const MOST_EVICTIONS: u32 = 20;

/// How often we try to get into the queue.
const MOST_ENTRIES: u32 = 100;

/// The safety net's pause grows with the rank, up to so many times.
const MOST_STRETCH: u32 = 10;

pub(super) fn error(semaphore: &Semaphore, source: StoreError) -> AcquireError {
    let path = semaphore.path().clone();
    match source {
        StoreError::SessionOver => AcquireError::SessionOver { path },
        source => AcquireError::Store { path, source },
    }
}

/// Takes a slot; with `once` only if there is one now.
pub(super) async fn acquire(
    semaphore: &Semaphore,
    identifier: &Identifier,
    lifetime: Lifetime,
    once: bool,
    along: Along<'_>,
) -> Result<Acquired, AcquireError> {
    for _ in 0..MOST_EVICTIONS {
        let mut attempt = Attempt::new(semaphore, identifier, lifetime, along);
        if let Some(acquired) = attempt.run(once).await? {
            return Ok(acquired);
        }
    }
    Err(AcquireError::Evicted { path: semaphore.path().clone() })
}

/// One stay in the queue. Dropping it cleans up what it may have made.
struct Attempt<'a> {
    semaphore: &'a Semaphore,
    inner: &'a Inner,
    tools: &'a Arc<Tools>,
    identifier: &'a Identifier,
    lifetime: Lifetime,
    along: Along<'a>,
    backoff: Backoff,
    entry: Entry,
    /// A lease that may have been made.
    lease: Option<NodePath>,
    /// Leases that were read and are not this identifier's.
    others: BTreeSet<String>,
    watches: Watches,
}

/// The queue and the pool, read in this order.
struct View {
    queue: Vec<String>,
    leases: Vec<String>,
}

/// Both lists on their way.
struct Looking(Reply<Vec<String>>, Reply<Vec<String>>);

/// What a conversion came to.
enum Converted {
    Held(Box<Lease>),
    /// Nothing was changed: decide again.
    Again,
    /// Our place is gone.
    Evicted,
}

/// Why a wait ended.
enum Woken {
    /// As many of the leases seen are gone as were needed.
    Enough,
    /// Something changed that has to be looked at.
    Look,
    /// Nothing was heard for long.
    SafetyNet,
}

/// What we watch, kept from one wait to the next as long as it is wanted.
#[derive(Default)]
struct Watches {
    wanted: Vec<Wanted>,
    set: Vec<Watch>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    /// A lease that was seen: its deletion counts.
    Lease(NodePath),
    /// An entry ahead of ours.
    Entry(NodePath),
    /// The pool's children.
    Pool,
}

impl Looking {
    fn send(attempt: &Attempt<'_>) -> Self {
        let store = &attempt.tools.store;
        // The queue first: see the head of this file.
        let queue = store.children(&attempt.inner.queue);
        let pool = store.children(&attempt.inner.path);
        Self(queue, pool)
    }

    async fn seen(self) -> Result<View, StoreError> {
        let (queue, leases) = (self.0.await, self.1.await);
        Ok(View { queue: queue?, leases: leases? })
    }
}

impl<'a> Attempt<'a> {
    fn new(semaphore: &'a Semaphore, identifier: &'a Identifier, lifetime: Lifetime, along: Along<'a>) -> Self {
        let inner = &*semaphore.0;
        Self {
            semaphore,
            inner,
            tools: &inner.tools,
            identifier,
            lifetime,
            along,
            backoff: Backoff::patient(),
            entry: Entry::None,
            lease: None,
            others: BTreeSet::new(),
            watches: Watches::default(),
        }
    }

    /// Queues, waits and converts. `None` when our place vanished.
    async fn run(&mut self, once: bool) -> Result<Option<Acquired>, AcquireError> {
        let mut view = self.enter().await?;
        let mut woken = Woken::Look;
        // Each round follows a change, a safety-net pause or a back-off; the caller's deadline and the session bound it.
        loop {
            let seen = match view.take() {
                Some(seen) => seen,
                None => self.look().await?,
            };
            let queue = names::contenders(&seen.queue);
            let Entry::Known(mine) = &self.entry else { return Ok(None) };
            let Some(rank) = queue.iter().position(|name| *name == mine.name()) else {
                self.entry = Entry::None;
                return Ok(None);
            };
            if self.lifetime == Lifetime::Persistent
                && let Some(lease) = self.reenter(&seen.leases).await?
            {
                return Ok(Some(Acquired { lease, how: Acquisition::Reentered }));
            }
            let slots = usize::try_from(self.inner.slots.get()).unwrap_or(usize::MAX);
            let taken = seen.leases.len() + rank;
            let mut room = taken < slots;
            if room && matches!(woken, Woken::SafetyNet) {
                self.inner.safety_net_finds.fetch_add(1, Ordering::Relaxed);
            }
            if !room {
                if once {
                    return Err(AcquireError::Full {
                        path: self.inner.path.clone(),
                        leases: seen.leases.len(),
                        slots: self.inner.slots,
                        ahead: rank,
                    });
                }
                woken = self.wait(&queue, rank, &seen.leases, taken + 1 - slots).await?;
                room = matches!(woken, Woken::Enough);
            }
            if room {
                match self.convert().await? {
                    Converted::Held(lease) => {
                        return Ok(Some(Acquired { lease: *lease, how: Acquisition::Fresh }));
                    }
                    Converted::Again => woken = Woken::Look,
                    Converted::Evicted => return Ok(None),
                }
            }
        }
    }

    /// The first flight: our entry, the queue, the pool, and the pool's number where it is not known.
    async fn enter(&mut self) -> Result<Option<View>, AcquireError> {
        let store = &self.tools.store;
        let mut renewed = false;
        for _ in 0..MOST_ENTRIES {
            let number = (!self.semaphore.is_known()).then(|| store.read(&self.inner.path));
            let start = format!("{}{}", self.tools.unique(), names::LOCK);
            self.entry = Entry::Maybe(start.clone());
            let place = self.inner.queue.child(&start);
            let made = store.create(&place, self.identifier.data(), NodeKind::EphemeralSequential);
            let looking = Looking::send(self);
            let number = match number {
                Some(reply) => Some(reply.await),
                None => None,
            };
            let (made, mut seen) = (made.await, looking.seen().await.ok());
            match made {
                Ok(path) => self.entry = Entry::Known(path),
                Err(StoreError::Ambiguous { .. }) => {
                    self.resolve_entry().await?;
                    // What was read may be older than our entry, and the rule holds only for what is not.
                    seen = None;
                }
                Err(StoreError::NoNode { .. }) => {
                    self.entry = Entry::None;
                    self.make_sure().await?;
                }
                Err(error) => {
                    self.entry = Entry::None;
                    self.backoff_after(error).await?;
                }
            }
            let Entry::Known(path) = &self.entry else { continue };
            if !names::number(path.name()).is_some_and(|number| (0..names::LAST_NUMBER).contains(&number)) {
                if renewed {
                    return Err(self.worn_out());
                }
                renewed = true;
                self.renew_queue().await?;
                continue;
            }
            self.backoff.reset();
            if !self.semaphore.is_known() {
                match number {
                    Some(Ok(node)) => {
                        self.semaphore.check_slots(&node.data)?;
                        self.semaphore.set_known(true);
                    }
                    Some(Err(_)) | None => self.make_sure().await?,
                }
            }
            return Ok(seen);
        }
        Err(AcquireError::Evicted { path: self.inner.path.clone() })
    }

    /// Finds out whether the entry was made whose creation was not answered.
    async fn resolve_entry(&mut self) -> Result<(), AcquireError> {
        // Bounded by the back-off.
        loop {
            let store = &self.tools.store;
            let (sync, names) = (store.sync(&self.inner.queue), store.children(&self.inner.queue));
            let (sync, names) = (sync.await, names.await);
            match sync.and(names) {
                Ok(names) => {
                    let path = found(&self.entry, &self.inner.queue, &names);
                    self.entry = path.map_or(Entry::None, Entry::Known);
                    return Ok(());
                }
                Err(StoreError::NoNode { .. }) => {
                    self.entry = Entry::None;
                    return Ok(());
                }
                Err(error) => self.backoff_after(error).await?,
            }
        }
    }

    /// Reads the queue and then the pool.
    async fn look(&mut self) -> Result<View, AcquireError> {
        let mut missing = 0;
        // Bounded by the back-off, and by how often the path may vanish.
        loop {
            match Looking::send(self).seen().await {
                Ok(view) => {
                    self.backoff.reset();
                    return Ok(view);
                }
                // Somebody deleted the path; with the queue our entry is gone too, which the next look shows.
                Err(StoreError::NoNode { .. }) if missing < MOST_EVICTIONS => {
                    missing += 1;
                    self.make_sure().await?;
                }
                Err(error) => self.backoff_after(error).await?,
            }
        }
    }

    /// Finds the persistent lease of our identifier among those not yet read.
    async fn reenter(&mut self, leases: &[String]) -> Result<Option<Lease>, AcquireError> {
        let store = &self.tools.store;
        // Bounded by the back-off. To go on without an answer would be to take a second lease.
        loop {
            let unread: Vec<&String> = leases.iter().filter(|name| !self.others.contains(*name)).collect();
            let replies: Vec<_> = unread.iter().map(|name| store.read(&self.inner.path.child(name))).collect();
            let mut mine = None;
            let mut failed = None;
            for (name, reply) in unread.into_iter().zip(replies) {
                match unless_missing(reply.await) {
                    Ok(Some(node)) if is_of(&node, self.identifier) => mine = mine.or(Some(name)),
                    Ok(_) => {
                        self.others.insert(name.clone());
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(name) = mine {
                let path = self.inner.path.child(name);
                match store.stat_and_watch(&path).await {
                    Ok((Some(stat), watch)) => {
                        let (identifier, lifetime) = (self.identifier.clone(), self.lifetime);
                        return Ok(Some(Lease::new(self.tools, path, identifier, lifetime, stat.czxid, watch)));
                    }
                    Ok((None, _)) => {
                        self.others.insert(name.clone());
                        continue;
                    }
                    Err(error) => failed = Some(error),
                }
            }
            match failed {
                Some(error) => self.backoff_after(error).await?,
                None => return Ok(None),
            }
        }
    }

    /// The second flight: our lease for our entry, and a look at the lease.
    async fn convert(&mut self) -> Result<Converted, AcquireError> {
        let Entry::Known(entry) = &self.entry else { return Ok(Converted::Evicted) };
        let lease = self.inner.path.child(&self.tools.unique());
        let mut ops = vec![
            Op::Create { path: lease.clone(), data: self.identifier.data(), kind: NodeKind::from(self.lifetime) },
            Op::Delete { path: entry.clone(), version: Version::Any },
        ];
        let own = ops.len();
        ops.extend((self.along)(&lease));
        self.lease = Some(lease.clone());
        let placed = own::place(self.tools, ops, &lease, self.lifetime, &mut self.backoff).await;
        match placed.map_err(|source| self.error(source))? {
            Placed::There(stat, watch) => {
                self.entry = Entry::None;
                self.lease = None;
                let (identifier, fence) = (self.identifier.clone(), stat.czxid);
                let held = Lease::new(self.tools, lease, identifier, self.lifetime, fence, watch);
                Ok(Converted::Held(Box::new(held)))
            }
            Placed::Gone => {
                self.entry = Entry::None;
                self.lease = None;
                Ok(Converted::Evicted)
            }
            Placed::Not => {
                self.lease = None;
                Ok(Converted::Again)
            }
            Placed::Refused(index, source) => {
                self.lease = None;
                match (index, source) {
                    (0, StoreError::NoNode { .. }) => {
                        self.make_sure().await?;
                        Ok(Converted::Again)
                    }
                    (1, StoreError::NoNode { .. }) => {
                        self.entry = Entry::None;
                        Ok(Converted::Evicted)
                    }
                    (index, source) if index >= own => {
                        Err(AcquireError::Along { path: self.inner.path.clone(), source })
                    }
                    (_, source) => Err(self.error(source)),
                }
            }
        }
    }

    /// Waits until there may be room. `need` deletions among the leases seen make some.
    async fn wait(
        &mut self,
        queue: &[&str],
        rank: usize,
        leases: &[String],
        mut need: usize,
    ) -> Result<Woken, AcquireError> {
        let window = usize::try_from(self.inner.slots.get()).unwrap_or(usize::MAX).min(WINDOW);
        let mut wanted = Vec::new();
        if rank < window {
            if self.inner.slots.get() > WATCHED_ONE_BY_ONE {
                wanted.push(Wanted::Pool);
            } else {
                wanted.extend(leases.iter().map(|name| Wanted::Lease(self.inner.path.child(name))));
            }
        } else {
            wanted.push(Wanted::Entry(self.inner.queue.child(queue[rank - window])));
        }
        // The entry just ahead too: behind one that is stuck, its going is all that there is to hear.
        if rank > 0 {
            let ahead = Wanted::Entry(self.inner.queue.child(queue[rank - 1]));
            if !wanted.contains(&ahead) {
                wanted.push(ahead);
            }
        }
        match self.watches.set(self.tools, &self.inner.path, wanted, leases).await {
            Ok(true) => self.backoff.reset(),
            Ok(false) => return Ok(Woken::Look),
            Err(error) => {
                self.backoff_after(error).await?;
                return Ok(Woken::Look);
            }
        }
        let net = tokio::time::sleep(self.safety_net(rank, window));
        tokio::pin!(net);
        // Bounded by the number of watches.
        loop {
            tokio::select! {
                biased;
                (index, event) = first(&mut self.watches.set) => {
                    match (self.watches.take(index), event) {
                        (_, WatchEvent::SessionOver) => return Err(self.error(StoreError::SessionOver)),
                        (Wanted::Lease(_), WatchEvent::Deleted) => need -= 1,
                        _ => return Ok(Woken::Look),
                    }
                    if need == 0 {
                        return Ok(Woken::Enough);
                    }
                }
                () = &mut net => return Ok(Woken::SafetyNet),
            }
        }
    }

    /// How long to hear nothing before looking again all the same: between a third and a half of the session time-out,
    /// more the further back.
    fn safety_net(&self, rank: usize, window: usize) -> Duration {
        let timeout = self.tools.store.session_timeout();
        let stretch = u32::try_from(1 + rank / window).unwrap_or(u32::MAX).min(MOST_STRETCH);
        self.tools.between(timeout / 3, timeout / 2) * stretch
    }

    fn worn_out(&self) -> AcquireError {
        let number = match &self.entry {
            Entry::Known(path) => names::number(path.name()).unwrap_or(i64::MAX),
            Entry::None | Entry::Maybe(_) => i64::MAX,
        };
        AcquireError::QueueWornOut { queue: self.inner.queue.clone(), number }
    }

    /// Replaces the queue by a fresh one, whose counter starts at 0, if nobody but us is in it.
    async fn renew_queue(&mut self) -> Result<(), AcquireError> {
        let Entry::Known(entry) = &self.entry else { return Ok(()) };
        let queue = &self.inner.queue;
        let delete = |path: &NodePath| Op::Delete { path: path.clone(), version: Version::Any };
        let fresh = Op::Create { path: queue.clone(), data: bytes::Bytes::new(), kind: NodeKind::Persistent };
        match self.tools.store.multi(vec![delete(entry), delete(queue), fresh]).await {
            Ok(_) => {
                self.entry = Entry::None;
                Ok(())
            }
            // Somebody waits, or we cannot know: our entry goes with this attempt, and the caller is told.
            Err(_) => Err(self.worn_out()),
        }
    }

    async fn make_sure(&mut self) -> Result<(), AcquireError> {
        self.semaphore.set_known(false);
        self.semaphore.make_sure(&mut self.backoff).await
    }

    async fn backoff_after(&mut self, error: StoreError) -> Result<(), AcquireError> {
        let paused = self.backoff.after(error, self.tools).await;
        paused.map_err(|source| self.error(source))
    }

    fn error(&self, source: StoreError) -> AcquireError {
        error(self.semaphore, source)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        let entry = std::mem::replace(&mut self.entry, Entry::None);
        let node = self.lease.take();
        if entry != Entry::None || node.is_some() {
            self.tools.clean_up(Leftovers { queue: Some(self.inner.queue.clone()), entry, node });
        }
    }
}

impl Watches {
    /// Watches what is wanted and gives up what is not. `false` when something is not as it was seen.
    async fn set(
        &mut self,
        tools: &Tools,
        pool: &NodePath,
        wanted: Vec<Wanted>,
        leases: &[String],
    ) -> Result<bool, StoreError> {
        let before = std::mem::take(&mut self.wanted).into_iter().zip(std::mem::take(&mut self.set));
        for (old, watch) in before.filter(|(old, _)| wanted.contains(old)) {
            self.wanted.push(old);
            self.set.push(watch);
        }
        enum Setting {
            Node(Reply<(Option<crate::store::Stat>, Watch)>),
            Pool(Reply<(Vec<String>, Watch)>),
        }
        let new: Vec<Wanted> = wanted.into_iter().filter(|wanted| !self.wanted.contains(wanted)).collect();
        let replies: Vec<_> = new
            .into_iter()
            .map(|wanted| {
                let reply = match &wanted {
                    Wanted::Lease(path) | Wanted::Entry(path) => Setting::Node(tools.store.stat_and_watch(path)),
                    Wanted::Pool => Setting::Pool(tools.store.children_and_watch(pool)),
                };
                (wanted, reply)
            })
            .collect();
        let mut as_seen = true;
        let mut failed = None;
        for (wanted, reply) in replies {
            let answer = match reply {
                Setting::Node(reply) => reply.await.map(|(stat, watch)| (stat.is_some(), watch)),
                Setting::Pool(reply) => reply.await.map(|(now, watch)| (now == leases, watch)),
            };
            match answer {
                Ok((true, watch)) => {
                    self.wanted.push(wanted);
                    self.set.push(watch);
                }
                Ok((false, _)) | Err(StoreError::NoNode { .. }) => as_seen = false,
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            None => Ok(as_seen),
        }
    }

    /// Takes out the watch that fired.
    fn take(&mut self, index: usize) -> Wanted {
        self.set.swap_remove(index);
        self.wanted.swap_remove(index)
    }
}
