//! How a slot is taken: the rule, the flights and the waiting.
//!
//! The *pool* is the semaphore's path, whose children are the leases; the *rank* is how many queue ahead of us. Four
//! things keep the limit, and `tests/tests/semaphore_model/` shows for the first three what happens without them:
//!
//! 1. The queue is read before the pool. In the other order somebody ahead of us can convert between the two reads and
//!    be counted in neither.
//! 2. The lease is created in the transaction that deletes our queue entry. Whoever left the queue first would for a
//!    moment be counted nowhere.
//! 3. Deletions are counted only of leases that we saw, and a lease that changes before it goes is not counted: a
//!    take-over deletes one lease and creates another, and frees nothing.
//! 4. What the store did not answer is looked up by a name that only we can have made, after `sync`.
//! 5. The number of slots is read before queue and pool, and the transaction that creates the lease checks its version: a
//!    number that was lowered in between grants nothing.
//!
//! # Who else acts under the identifier
//! A caller that excludes its identifier reads the other leases' data, creates its claim with its lease, and lists the pool
//! once more behind that transaction: a lease of the same identifier that is older than its own (of a tool that knows no
//! claims) comes back as [`Acquired::older`], and the caller gives its own lease back. Of two such callers the one with the
//! older lease therefore acts, whatever became of the claims.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::claim::{self, Claim, Claimed, Owner};
use super::lease::Lease;
use super::names;
use super::observe::first;
use super::own_node::{self, Placed};
use super::request::{HeldBy, Ownership, Request};
use super::semaphore::{
    AcquireError, Acquired, Acquisition, Holder, Inner, Semaphore, holders, is_of, read_all, unless_missing,
};
use super::session::{Entry, Leftovers, Tools, found};
use super::slots::Number;
use super::wait::{Backoff, Patience};
use crate::store::{Node, NodeKind, NodePath, Op, Reply, Stat, StoreError, Version, Watch, WatchEvent};

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

/// Takes a slot, without regard to the request's deadline.
pub(super) async fn acquire(semaphore: &Semaphore, request: &Request<'_>) -> Result<Acquired, AcquireError> {
    let once = request.patience == Patience::Once;
    let mut evictions = 0;
    // Each round follows an eviction, of which there is a bound, or a change of the lease that was in the way; the caller's
    // deadline and the session bound those.
    loop {
        let mut attempt = Attempt::new(semaphore, request);
        let by = match attempt.run(once).await? {
            Stay::Acquired(acquired) => return Ok(*acquired),
            Stay::Evicted if evictions < MOST_EVICTIONS => {
                evictions += 1;
                continue;
            }
            Stay::Evicted => return Err(AcquireError::Evicted { path: semaphore.path().clone() }),
            Stay::Held(by) => by,
        };
        // Leaves the queue: it must not keep a slot reserved while it cannot take one.
        drop(attempt);
        if once || !request.ownership.blockers(&by) {
            return Err(AcquireError::Held { path: semaphore.path().clone(), by });
        }
        until_changed(semaphore, &by).await?;
    }
}

/// Waits until the lease or the claim that is in the way has changed.
async fn until_changed(semaphore: &Semaphore, by: &HeldBy) -> Result<(), AcquireError> {
    let tools = &semaphore.0.tools;
    let mut backoff = Backoff::patient();
    // Bounded by the back-off.
    loop {
        let nodes = by.lease.as_ref().map(|lease| &lease.path).into_iter().chain([&by.place]);
        let looks: Vec<_> = nodes.map(|node| tools.store.stat_and_watch(node)).collect();
        let mut watches = Vec::with_capacity(looks.len());
        let mut seen = Vec::with_capacity(looks.len());
        let mut failed = None;
        for look in looks {
            match look.await {
                Ok((stat, watch)) => {
                    seen.push(stat);
                    watches.push(watch);
                }
                Err(error) => failed = Some(error),
            }
        }
        if let Some(source) = failed {
            backoff.after(source, tools).await.map_err(|source| error(semaphore, source))?;
            continue;
        }
        let lease_is_as_seen = by.lease.is_none() || seen.first().is_some_and(Option::is_some);
        let claim = seen.last().copied().flatten().map(|stat| stat.version);
        if !lease_is_as_seen || claim != by.place_version {
            return Ok(());
        }
        let timeout = tools.store.session_timeout();
        let net = tools.between(timeout / 3, timeout / 2);
        return match tokio::time::timeout(net, first(&mut watches)).await {
            Ok((_, WatchEvent::SessionOver)) => Err(error(semaphore, StoreError::SessionOver)),
            Ok(_) | Err(_) => Ok(()),
        };
    }
}

/// How one stay in the queue ended.
enum Stay {
    Acquired(Box<Acquired>),
    /// Our place vanished.
    Evicted,
    /// Another holder acts under our identifier.
    Held(Box<HeldBy>),
}

/// One stay in the queue. Dropping it cleans up what it may have made.
struct Attempt<'a> {
    semaphore: &'a Semaphore,
    inner: &'a Inner,
    tools: &'a Arc<Tools>,
    request: &'a Request<'a>,
    backoff: Backoff,
    entry: Entry,
    /// A lease that may have been made, and its claim.
    lease: Option<(NodePath, Option<Claimed>)>,
    /// Leases that were read and are not this identifier's.
    others: BTreeSet<String>,
    /// Who owns the lease that is to come, for its claim; `None` if it gets none.
    owner: Option<&'a Owner>,
    /// A persistent claim whose lease is gone: it is replaced.
    orphan: Option<Claimed>,
    /// Why the lease has no claim although its owner wanted one.
    unclaimed: Option<String>,
    watches: Watches,
}

/// The number of slots, the queue and the pool, read in this order.
struct View {
    number: Number,
    queue: Vec<String>,
    leases: Vec<String>,
}

/// Both lists on their way.
struct Looking(Reply<Vec<String>>, Reply<Vec<String>>);

/// What a conversion came to.
enum Converted {
    /// The lease is there, and the pool was listed behind it if that was asked for.
    Held(Box<Lease>, Option<Reply<Vec<String>>>),
    /// Nothing was changed: decide again.
    Again,
    /// Our place is gone.
    Evicted,
    /// Another holder claims our identifier.
    Claimed(Box<HeldBy>),
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

/// Whether what is watched is as it was seen before the watches were set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AsSeen {
    All,
    /// The number of slots has changed.
    AllButNumber,
    No,
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
    /// The number of slots, in the version on which we rest.
    Number(i32),
}

/// The children that count against the number in force.
fn without_reservations(mut leases: Vec<String>) -> Vec<String> {
    leases.retain(|name| !names::is_reservation(name));
    leases
}

impl Looking {
    fn send(attempt: &Attempt<'_>) -> Self {
        let store = &attempt.tools.store;
        // The queue first: see the head of this file.
        let queue = store.children(&attempt.inner.queue);
        let pool = store.children(&attempt.inner.path);
        Self(queue, pool)
    }

    async fn seen(self) -> Result<(Vec<String>, Vec<String>), StoreError> {
        let (queue, leases) = (self.0.await, self.1.await);
        Ok((queue?, without_reservations(leases?)))
    }
}

impl<'a> Attempt<'a> {
    fn new(semaphore: &'a Semaphore, request: &'a Request<'a>) -> Self {
        let inner = &*semaphore.0;
        Self {
            semaphore,
            inner,
            tools: &inner.tools,
            request,
            backoff: Backoff::patient(),
            entry: Entry::None,
            lease: None,
            others: BTreeSet::new(),
            owner: request.ownership.owner(),
            orphan: None,
            unclaimed: None,
            watches: Watches::default(),
        }
    }

    /// Queues, waits and converts.
    async fn run(&mut self, once: bool) -> Result<Stay, AcquireError> {
        let mut view = self.enter().await?;
        let mut woken = Woken::Look;
        // Each round follows a change, a safety-net pause or a back-off; the caller's deadline and the session bound it.
        loop {
            let seen = match view.take() {
                Some(seen) => seen,
                None => self.look().await?,
            };
            let queue = names::contenders(&seen.queue);
            let Entry::Known(mine) = &self.entry else { return Ok(Stay::Evicted) };
            let Some(rank) = queue.iter().position(|name| *name == mine.name()) else {
                self.entry = Entry::None;
                return Ok(Stay::Evicted);
            };
            if let Some(stay) = self.under_our_identifier(&seen.leases).await? {
                return Ok(stay);
            }
            let number = seen.number;
            let slots = usize::try_from(number.slots.get()).unwrap_or(usize::MAX);
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
                        slots: number.slots,
                        ahead: rank,
                    });
                }
                woken = self.wait(&queue, rank, &seen.leases, number, taken + 1 - slots).await?;
                room = matches!(woken, Woken::Enough);
            }
            if room {
                match self.convert(number.version).await? {
                    Converted::Held(lease, listed) => return self.acquired(lease, listed).await,
                    Converted::Again => woken = Woken::Look,
                    Converted::Evicted => return Ok(Stay::Evicted),
                    Converted::Claimed(by) => return Ok(Stay::Held(by)),
                }
            }
        }
    }

    /// A fresh lease, and the older one of our identifier if there is one.
    async fn acquired(&mut self, lease: Box<Lease>, listed: Option<Reply<Vec<String>>>) -> Result<Stay, AcquireError> {
        let older = match listed {
            Some(listed) => self.older_than(&lease, listed).await?,
            None => None,
        };
        let (lease, unclaimed) = (*lease, self.unclaimed.take());
        Ok(Stay::Acquired(Box::new(Acquired { lease, how: Acquisition::Fresh, older, unclaimed })))
    }

    /// A lease of our identifier that is older than ours: of a tool that knows no claims.
    async fn older_than(&mut self, lease: &Lease, listed: Reply<Vec<String>>) -> Result<Option<Holder>, AcquireError> {
        let mut names = listed.await;
        // Bounded by the back-off. Without an answer nothing may start under the lease.
        loop {
            let unread = |names: Vec<String>| -> Vec<String> {
                let is_other = |name: &String| *name != lease.path().name() && !self.others.contains(name);
                names.into_iter().filter(is_other).collect()
            };
            let read = match names {
                Ok(names) => read_all(&*self.tools.store, &self.inner.path, unread(names)).await,
                Err(StoreError::NoNode { .. }) => return Ok(None),
                Err(error) => Err(error),
            };
            match read {
                Ok(nodes) => {
                    let identifier = self.request.identifier.as_str().as_bytes();
                    let older =
                        |(_, node): &(NodePath, Node)| node.data == identifier && node.stat.fence() < lease.fence();
                    return Ok(holders(nodes.into_iter().filter(older).collect()).into_iter().next());
                }
                Err(error) => self.backoff_after(error).await?,
            }
            names = self.tools.store.children(&self.inner.path).await;
        }
    }

    /// The first flight: our entry, the queue, the pool, and the pool's number where it is not known.
    async fn enter(&mut self) -> Result<Option<View>, AcquireError> {
        let store = &self.tools.store;
        let mut renewed = false;
        for _ in 0..MOST_ENTRIES {
            // The number first: see the head of this file.
            let known = self.semaphore.number();
            let asked = known.is_none().then(|| self.semaphore.ask_number());
            let start = format!("{}{}", self.tools.unique(), names::LOCK);
            self.entry = Entry::Maybe(start.clone());
            let place = self.inner.queue.child(&start);
            let made = store.create(&place, self.request.identifier.data(), NodeKind::EphemeralSequential);
            let looking = Looking::send(self);
            let asked = match asked {
                Some(asked) => Some(asked.answer().await),
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
            let number = match (known, asked) {
                (Some(number), _) => Some(number),
                (None, Some(Ok(asked))) => self.semaphore.learn(asked)?,
                (None, Some(Err(_)) | None) => None,
            };
            let Some(number) = number else {
                self.make_sure().await?;
                // What was read is older than the number.
                return Ok(None);
            };
            let Some((queue, leases)) = seen else { return Ok(None) };
            self.semaphore.refuse_what_lies_below(&leases)?;
            return Ok(Some(View { number, queue, leases }));
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

    /// Reads the number of slots if it has changed, then the queue, and then the pool.
    async fn look(&mut self) -> Result<View, AcquireError> {
        let mut missing = 0;
        // Bounded by the back-off, and by how often the path may vanish.
        loop {
            let known = self.semaphore.number();
            let asked = known.is_none().then(|| self.semaphore.ask_number());
            let looking = Looking::send(self);
            let mut number = known;
            if let Some(asked) = asked {
                match asked.answer().await {
                    Ok(seen) => number = self.semaphore.learn(seen)?,
                    Err(StoreError::NoNode { .. }) if missing < MOST_EVICTIONS => {
                        missing += 1;
                        self.make_sure().await?;
                        continue;
                    }
                    Err(error) => {
                        self.backoff_after(error).await?;
                        continue;
                    }
                }
            }
            let Some(number) = number else {
                self.make_sure().await?;
                continue;
            };
            match looking.seen().await {
                Ok((queue, leases)) => {
                    self.backoff.reset();
                    return Ok(View { number, queue, leases });
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

    /// What there is under our identifier among the leases not yet read: one to re-enter, or another holder's.
    async fn under_our_identifier(&mut self, leases: &[String]) -> Result<Option<Stay>, AcquireError> {
        if matches!(self.request.ownership, Ownership::Own) {
            return Ok(None);
        }
        // Bounded by the back-off. To go on without an answer would be to take a second lease.
        loop {
            let unread: Vec<String> = leases.iter().filter(|name| !self.others.contains(*name)).cloned().collect();
            match self.judge(unread).await {
                Ok(stay) => return Ok(stay),
                Err(error) => self.backoff_after(error).await?,
            }
        }
    }

    async fn judge(&mut self, unread: Vec<String>) -> Result<Option<Stay>, StoreError> {
        let (store, path) = (&self.tools.store, &self.inner.path);
        let nodes = read_all(&**store, path, unread).await?;
        let identifier = self.request.identifier;
        let by_hand = matches!(self.request.ownership, Ownership::ByHand(_));
        let mut ours = Vec::new();
        for (path, node) in nodes {
            // An operator's lease is found again as Salt finds it: only if it is persistent.
            let is_ours = match by_hand {
                true => is_of(&node, identifier),
                false => node.data == identifier.as_str().as_bytes(),
            };
            match is_ours {
                true => ours.push((path, node)),
                false => drop(self.others.insert(path.name().to_owned())),
            }
        }
        let Some(holder) = holders(ours).into_iter().next() else { return Ok(None) };
        let place = claim::place(path, identifier.as_str());
        let (asked, look) = (store.read(&place), store.stat_and_watch(&holder.path));
        let (asked, look) = (asked.await, look.await);
        let seen = match asked {
            Err(StoreError::Refused { .. }) => None,
            asked => unless_missing(asked)?.and_then(|node| claim::seen(&node)),
        };
        let place_version = seen.as_ref().map(|seen| seen.version);
        let claim = seen.filter(|seen| seen.claim.lease == holder.path);
        let is_anothers = claim.as_ref().is_some_and(|seen| !matches!(seen.claim.owner, Owner::ByHand { .. }));
        if !by_hand || is_anothers {
            return Ok(Some(Stay::Held(Box::new(HeldBy { lease: Some(holder), claim, place, place_version }))));
        }
        let (Some(stat), watch) = look? else { return Ok(None) };
        let claimed = claim.map(|_| Claimed::new(path, identifier.as_str(), &holder.path));
        let (lifetime, lease) = (self.request.lifetime, holder.path);
        let lease = Lease::new(self.tools, lease, identifier.clone(), lifetime, stat.fence(), claimed, watch);
        let how = Acquisition::Reentered;
        Ok(Some(Stay::Acquired(Box::new(Acquired { lease, how, older: None, unclaimed: None }))))
    }

    /// The second flight: our lease and its claim for our entry, and a look at the lease.
    async fn convert(&mut self, number: i32) -> Result<Converted, AcquireError> {
        let Entry::Known(entry) = &self.entry else { return Ok(Converted::Evicted) };
        let path = &self.inner.path;
        let Request { identifier, lifetime, along, .. } = *self.request;
        let (lease, kind) = (path.child(&self.tools.unique()), NodeKind::from(lifetime));
        let mut ops = vec![
            Op::Check { path: path.clone(), version: Version::Exactly(number) },
            Op::Create { path: lease.clone(), data: identifier.data(), kind },
            Op::Delete { path: entry.clone(), version: Version::Any },
        ];
        let claimed = self.owner.map(|owner| {
            let claim = Claim { lease: lease.clone(), owner: owner.clone(), forced: None };
            let claimed = Claimed::new(path, identifier.as_str(), &lease);
            ops.extend(self.orphan.iter().flat_map(Claimed::delete));
            ops.extend(claimed.create(&claim, kind));
            claimed
        });
        let own = ops.len();
        ops.extend(along(&lease));
        self.lease = Some((lease.clone(), claimed.clone()));
        let list = self.request.ownership.excludes().then_some(path);
        let placed = own_node::place(self.tools, ops, &lease, lifetime, list, &mut self.backoff).await;
        match placed.map_err(|source| self.error(source))? {
            Placed::There(stat, watch, listed) => {
                self.entry = Entry::None;
                self.lease = None;
                let (identifier, fence) = (identifier.clone(), stat.fence());
                let held = Lease::new(self.tools, lease, identifier, lifetime, fence, claimed, watch);
                Ok(Converted::Held(Box::new(held), listed))
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
                    (0 | 1, StoreError::NoNode { .. }) => {
                        self.make_sure().await?;
                        Ok(Converted::Again)
                    }
                    // The number has changed since it was read.
                    (0, StoreError::BadVersion { .. }) => {
                        self.semaphore.forget_number();
                        Ok(Converted::Again)
                    }
                    (2, StoreError::NoNode { .. }) => {
                        self.entry = Entry::None;
                        Ok(Converted::Evicted)
                    }
                    (index, source) if index >= own => {
                        Err(AcquireError::Along { path: self.inner.path.clone(), source })
                    }
                    (index, source) if index > 2 => self.not_claimed(source).await,
                    (_, source) => Err(self.error(source)),
                }
            }
        }
    }

    /// Finds out why the claim could not be written, and mends that where it can be.
    async fn not_claimed(&mut self, source: StoreError) -> Result<Converted, AcquireError> {
        let path = &self.inner.path;
        let replaced = self.orphan.take().is_some();
        let answer = match source {
            // What was to be replaced is gone.
            StoreError::NoNode { .. } if replaced => Ok(None),
            StoreError::NoNode { .. } => claim::prepare(self.tools, path, &mut self.backoff).await.map(|()| None),
            StoreError::NodeExists { .. } | StoreError::BadVersion { .. } => self.in_the_way().await,
            source => Err(source),
        };
        match answer {
            Ok(None) => Ok(Converted::Again),
            Ok(Some(by)) => Ok(Converted::Claimed(by)),
            // Without rights below the root an operator's lock is what Salt's is.
            Err(StoreError::Refused { reason }) if matches!(self.request.ownership, Ownership::ByHand(_)) => {
                (self.owner, self.unclaimed) = (None, Some(reason));
                Ok(Converted::Again)
            }
            Err(source @ StoreError::Refused { .. }) => Err(AcquireError::Claim { path: path.clone(), source }),
            Err(error) => {
                self.backoff_after(error).await?;
                Ok(Converted::Again)
            }
        }
    }

    /// The claim that is in our way; `None` if it may be replaced now, or is gone.
    async fn in_the_way(&mut self) -> Result<Option<Box<HeldBy>>, StoreError> {
        let (store, path) = (&self.tools.store, &self.inner.path);
        let identifier = self.request.identifier.as_str();
        let place = claim::place(path, identifier);
        // The claim before its lease: in the other order both may have been made in between, and look like an orphan.
        let Some(node) = unless_missing(store.read(&place).await)? else { return Ok(None) };
        let Some(seen) = claim::seen(&node) else {
            let place_version = Some(node.stat.version);
            return Ok(Some(Box::new(HeldBy { lease: None, claim: None, place, place_version })));
        };
        let lease = match unless_missing(store.read(&seen.claim.lease).await)? {
            Some(lease) => holders(vec![(seen.claim.lease.clone(), lease)]).into_iter().next(),
            None => None,
        };
        if lease.is_none() && !seen.ephemeral {
            self.orphan = Some(Claimed::new(path, identifier, &seen.claim.lease));
            return Ok(None);
        }
        let place_version = Some(seen.version);
        Ok(Some(Box::new(HeldBy { lease, claim: Some(seen), place, place_version })))
    }

    /// Waits until there may be room. `need` deletions among the leases seen make some.
    async fn wait(
        &mut self,
        queue: &[&str],
        rank: usize,
        leases: &[String],
        number: Number,
        mut need: usize,
    ) -> Result<Woken, AcquireError> {
        let window = usize::try_from(number.slots.get()).unwrap_or(usize::MAX).min(WINDOW);
        let mut wanted = vec![Wanted::Number(number.version)];
        if rank < window {
            if number.slots.get() > WATCHED_ONE_BY_ONE {
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
            Ok(AsSeen::All) => self.backoff.reset(),
            Ok(AsSeen::AllButNumber) => {
                self.semaphore.forget_number();
                return Ok(Woken::Look);
            }
            Ok(AsSeen::No) => return Ok(Woken::Look),
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
                        (Wanted::Number(_), _) => {
                            self.semaphore.forget_number();
                            return Ok(Woken::Look);
                        }
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
        self.semaphore.forget_number();
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
        let (node, claim) = self.lease.take().map_or((None, None), |(node, claim)| (Some(node), claim));
        if entry != Entry::None || node.is_some() {
            self.tools.clean_up(Leftovers { queue: Some(self.inner.queue.clone()), entry, node, claim });
        }
    }
}

impl Watches {
    /// Watches what is wanted and gives up what is not, and says whether everything is as it was seen.
    async fn set(
        &mut self,
        tools: &Tools,
        pool: &NodePath,
        wanted: Vec<Wanted>,
        leases: &[String],
    ) -> Result<AsSeen, StoreError> {
        let before = std::mem::take(&mut self.wanted).into_iter().zip(std::mem::take(&mut self.set));
        for (old, watch) in before.filter(|(old, _)| wanted.contains(old)) {
            self.wanted.push(old);
            self.set.push(watch);
        }
        enum Setting {
            Node(Reply<(Option<Stat>, Watch)>),
            Pool(Reply<(Vec<String>, Watch)>),
        }
        let new: Vec<Wanted> = wanted.into_iter().filter(|wanted| !self.wanted.contains(wanted)).collect();
        let replies: Vec<_> = new
            .into_iter()
            .map(|wanted| {
                let reply = match &wanted {
                    Wanted::Lease(path) | Wanted::Entry(path) => Setting::Node(tools.store.stat_and_watch(path)),
                    Wanted::Number(_) => Setting::Node(tools.store.stat_and_watch(pool)),
                    Wanted::Pool => Setting::Pool(tools.store.children_and_watch(pool)),
                };
                (wanted, reply)
            })
            .collect();
        let mut as_seen = AsSeen::All;
        let mut failed = None;
        for (wanted, reply) in replies {
            let is_as_seen = |stat: Option<Stat>| match wanted {
                Wanted::Number(version) => stat.is_some_and(|stat| stat.version == version),
                _ => stat.is_some(),
            };
            let answer = match reply {
                Setting::Node(reply) => reply.await.map(|(stat, watch)| (is_as_seen(stat), watch)),
                Setting::Pool(reply) => reply.await.map(|(now, watch)| (without_reservations(now) == leases, watch)),
            };
            match answer {
                Ok((true, watch)) => {
                    self.wanted.push(wanted);
                    self.set.push(watch);
                }
                Ok((false, _)) if matches!(wanted, Wanted::Number(_)) => as_seen = AsSeen::AllButNumber,
                Ok((false, _)) | Err(StoreError::NoNode { .. }) if as_seen == AsSeen::All => as_seen = AsSeen::No,
                Ok((false, _)) | Err(StoreError::NoNode { .. }) => {}
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
