//! Every promise of the recipes, faults apart, as a test that any backend can run.
//!
//! Each case is a function named as what it claims, and [`crate::behaviour_tests!`] makes one test of each. A case works
//! below a path of its own and waits for conditions, never for a time to pass, except where a deadline is the subject.
//! Panicking is how a case says that a promise is broken. Nothing here is used by the program itself.

#![expect(clippy::unwrap_used, reason = "a case panics to say that a promise is broken")]

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::time::Instant;

use super::{
    AcquireError, Acquired, Acquisition, Along, Claims, Force, ForceError, Forced, Identifier, IfHeld, JoinError,
    Lease, Loss, Member, MemberKind, OldCallers, Owner, Ownership, Party, Patience, Released, Request, Resize,
    Semaphore, WaitError,
};
use crate::store::{Connect, Fence, Lifetime, NodeKind, NodePath, Op, Store, StoreError, Version, create_all};

/// How long a case waits for something that must happen. Only a broken promise takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A deadline that is meant to pass.
const SHORT: Duration = Duration::from_millis(150);

/// What a case works with: a store, and a path in it that is its own.
#[derive(Debug, Clone)]
pub struct Ground {
    connect: Arc<dyn Connect>,
    top: NodePath,
}

impl Ground {
    /// A ground on this store, below `top`, which must not be there yet.
    #[must_use]
    pub fn new(connect: Arc<dyn Connect>, top: NodePath) -> Self {
        Self { connect, top }
    }

    async fn session(&self) -> Arc<dyn Store> {
        soon("a session", self.connect.connect()).await.expect("a session can be opened")
    }

    /// Where the case's semaphore or party is; its parent is missing too at first.
    fn path(&self) -> NodePath {
        self.top.child("it")
    }

    fn queue(&self) -> NodePath {
        self.path().with_suffix("-__lock__")
    }

    fn semaphore(&self, store: &Arc<dyn Store>, slots: u32) -> Semaphore {
        Semaphore::new(Arc::clone(store), self.path(), number(slots))
    }

    async fn with_semaphore(&self, slots: u32) -> (Arc<dyn Store>, Semaphore) {
        let store = self.session().await;
        let semaphore = self.semaphore(&store, slots);
        (store, semaphore)
    }

    async fn with_party(&self) -> (Arc<dyn Store>, Party) {
        let store = self.session().await;
        let party = Party::new(Arc::clone(&store), self.path());
        (store, party)
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for {what}"),
    }
}

fn number(slots: u32) -> NonZeroU32 {
    NonZeroU32::new(slots).expect("cases ask for slots")
}

fn who(name: &str) -> Identifier {
    Identifier::new(name).expect("cases use proper names")
}

/// Nothing is written along with the lease.
pub(super) fn alone(_: &NodePath) -> Vec<Op> {
    Vec::new()
}

pub(super) fn hand() -> Ownership {
    Ownership::ByHand(Owner::ByHand { by: "an operator".into() })
}

pub(super) fn run(name: &str, if_held: IfHeld) -> Ownership {
    Ownership::Exclusive(Owner::Run { run: name.into(), job: "job".into(), runner: "host:1".into() }, if_held)
}

/// Acquires as the owner says.
pub(super) async fn acquire_as(
    semaphore: &Semaphore,
    identifier: &Identifier,
    lifetime: Lifetime,
    patience: Patience,
    ownership: &Ownership,
) -> Result<Acquired, AcquireError> {
    semaphore.acquire_as(Request { identifier, lifetime, patience, ownership, along: &alone }).await
}

/// Forces a lease, with what is written along.
pub(super) async fn force(
    semaphore: &Semaphore,
    identifier: &Identifier,
    lifetime: Lifetime,
    breaking: &[Fence],
    along: Along<'_>,
) -> Result<Lease, ForceError> {
    let owner = Owner::ByHand { by: "an operator".into() };
    let record = Forced { by: "an operator".into(), reason: "a test".into(), at: 1 };
    semaphore.force(Force { identifier, lifetime, breaking, owner: &owner, record: Some(&record), along }).await
}

/// As an operator for a persistent lease, and as a command's process for an ephemeral one.
pub(super) async fn acquire(
    semaphore: &Semaphore,
    identifier: &Identifier,
    lifetime: Lifetime,
    patience: Patience,
) -> Result<Acquired, AcquireError> {
    match lifetime {
        Lifetime::Persistent => acquire_as(semaphore, identifier, lifetime, patience, &hand()).await,
        Lifetime::Ephemeral => semaphore.acquire(identifier, lifetime, patience).await,
    }
}

async fn take(semaphore: &Semaphore, name: &str, lifetime: Lifetime) -> Acquired {
    let identifier = who(name);
    let taken = acquire(semaphore, &identifier, lifetime, Patience::Forever);
    soon("a slot", taken).await.unwrap_or_else(|error| panic!("`{name}` cannot take a slot: {error}"))
}

async fn ephemeral(semaphore: &Semaphore, name: &str) -> Lease {
    take(semaphore, name, Lifetime::Ephemeral).await.lease
}

async fn names(semaphore: &Semaphore) -> Vec<String> {
    let holders = semaphore.holders().await.expect("holders can be read");
    holders.into_iter().map(|holder| holder.identifier).collect()
}

/// Waits until so many queue.
async fn until_queued(semaphore: &Semaphore, queued: u32) {
    let seen = async {
        loop {
            let (state, mut changed) = semaphore.observe().await.expect("the semaphore can be observed");
            if state.queued == queued {
                return;
            }
            changed.changed().await;
        }
    };
    soon("the queue's length", seen).await;
}

async fn full(semaphore: &Semaphore, name: &str) {
    let identifier = who(name);
    let once = semaphore.acquire(&identifier, Lifetime::Ephemeral, Patience::Once);
    let answer = soon("an answer", once).await;
    assert!(matches!(answer, Err(AcquireError::Full { .. })), "{answer:?}");
    semaphore.settled().await;
}

fn is_unique(name: &str) -> bool {
    name.len() == 32 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

async fn put(store: &Arc<dyn Store>, path: &NodePath, data: &str, kind: NodeKind) -> NodePath {
    let made = store.create(path, Bytes::copy_from_slice(data.as_bytes()), kind).await;
    made.unwrap_or_else(|error| panic!("cannot create `{path}`: {error}"))
}

/// The first acquisition makes the path with its number in the same request, the queue beside it, and the lease.
pub async fn a_first_lease_is_laid_out_as_kazoo_lays_it_out(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(2).await;
    let taken = take(&semaphore, "a/é", Lifetime::Ephemeral).await;
    assert_eq!(taken.how, Acquisition::Fresh);
    let pool = store.read(&ground.path()).await.unwrap();
    assert_eq!((&pool.data[..], pool.stat.version), (&b"2"[..], 0), "created with its number, not set later");
    assert_eq!(store.children(&ground.queue()).await.unwrap(), Vec::<String>::new());
    let children = store.children(&ground.path()).await.unwrap();
    assert!(children.len() == 1 && is_unique(&children[0]), "{children:?}");
    let node = store.read(taken.lease.path()).await.unwrap();
    assert_eq!(node.data, "a/é".as_bytes());
    assert_eq!(node.stat.ephemeral_owner, Some(store.session_id()));
    assert_eq!(node.stat.fence(), taken.lease.fence());
    assert_eq!(soon("the release", taken.lease.release()).await.unwrap(), Released::Released);
    assert_eq!(store.children(&ground.path()).await.unwrap(), Vec::<String>::new());
}

/// A waiter's entry has the end that kazoo looks for, and its identifier as data.
pub async fn a_waiter_queues_as_kazoo_queues(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    let held = ephemeral(&semaphore, "a").await;
    let (name, waiter) = (who("b"), semaphore.clone());
    let waiting = tokio::spawn(async move { waiter.acquire(&name, Lifetime::Persistent, Patience::Forever).await });
    until_queued(&semaphore, 1).await;
    let entries = store.children(&ground.queue()).await.unwrap();
    let (unique, number) = entries[0].split_once("__lock__").unwrap();
    assert!(is_unique(unique) && number.len() == 10 && number.bytes().all(|b| b.is_ascii_digit()), "{entries:?}");
    let entry = store.read(&ground.queue().child(&entries[0])).await.unwrap();
    assert_eq!((&entry.data[..], entry.stat.ephemeral_owner), (&b"b"[..], Some(store.session_id())));
    held.release().await.unwrap();
    let taken = soon("the slot", waiting).await.unwrap().unwrap();
    assert_eq!(names(&semaphore).await, ["b"]);
    taken.lease.release().await.unwrap();
}

/// Slots are given out up to their number, and the next caller gets the one that is freed.
pub async fn a_freed_slot_goes_to_who_waits(ground: Ground) {
    let (_store, semaphore) = ground.with_semaphore(2).await;
    let (a, b) = (ephemeral(&semaphore, "a").await, ephemeral(&semaphore, "b").await);
    full(&semaphore, "c").await;
    let (_other, elsewhere) = ground.with_semaphore(2).await;
    let waiting = tokio::spawn(async move { (ephemeral(&elsewhere, "c").await, elsewhere) });
    until_queued(&semaphore, 1).await;
    assert_eq!(names(&semaphore).await, ["a", "b"]);
    a.release().await.unwrap();
    let (c, _elsewhere) = soon("the freed slot", waiting).await.unwrap();
    assert_eq!(names(&semaphore).await, ["b", "c"]);
    assert!(c.fence() > b.fence());
    full(&semaphore, "d").await;
}

/// Many callers on several sessions: never more than the slots, each is served, and fences grow in the order of grants.
pub async fn many_callers_share_a_few_slots(ground: Ground) {
    const CALLERS: usize = 12;
    const SLOTS: u32 = 3;
    let inside = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let callers = (0..CALLERS).map(|caller| {
        let (ground, inside) = (ground.clone(), Arc::clone(&inside));
        tokio::spawn(async move {
            let (store, semaphore) = ground.with_semaphore(SLOTS).await;
            let mut last = Fence::new(0);
            for _ in 0..4 {
                let lease = ephemeral(&semaphore, &format!("caller-{caller}")).await;
                let now = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
                assert!(now <= SLOTS as usize, "{now} callers act at once on {SLOTS} slots");
                assert!(lease.fence() > last);
                last = lease.fence();
                tokio::task::yield_now().await;
                inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                assert_eq!(lease.release().await.unwrap(), Released::Released);
            }
            store.close().await.unwrap();
        })
    });
    for done in soon("every caller", join_all(callers)).await {
        done.unwrap();
    }
    let (store, semaphore) = ground.with_semaphore(SLOTS).await;
    assert_eq!(names(&semaphore).await, Vec::<String>::new());
    assert_eq!(store.children(&ground.queue()).await.unwrap(), Vec::<String>::new());
}

/// Who came first is served first, whatever session it is on.
pub async fn waiters_are_served_in_the_order_of_the_queue(ground: Ground) {
    let (_store, semaphore) = ground.with_semaphore(1).await;
    let held = ephemeral(&semaphore, "first").await;
    let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
    for place in 0..10u32 {
        let (ground, sender) = (ground.clone(), sender.clone());
        tokio::spawn(async move {
            let (_store, semaphore) = ground.with_semaphore(1).await;
            let lease = ephemeral(&semaphore, &format!("waiter-{place}")).await;
            sender.send(place).unwrap();
            lease.release().await.unwrap();
        });
        until_queued(&semaphore, place + 1).await;
    }
    held.release().await.unwrap();
    for place in 0..10 {
        assert_eq!(soon("the next waiter", served.recv()).await, Some(place));
    }
}

/// To try once means a slot that is free for us; a queue is in the way only as far as it needs the slots.
pub async fn trying_once_counts_those_ahead(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(2).await;
    ephemeral(&semaphore, "a").await.release().await.unwrap();
    let entry = ground.queue().child("0123456789abcdef0123456789abcdef__lock__");
    let first = put(&store, &entry, "b'kazoo'", NodeKind::EphemeralSequential).await;
    let lease =
        soon("an answer", semaphore.acquire(&who("b"), Lifetime::Ephemeral, Patience::Once)).await.unwrap().lease;
    lease.release().await.unwrap();
    let second = put(&store, &entry, "b'kazoo'", NodeKind::EphemeralSequential).await;
    full(&semaphore, "c").await;
    for entry in [first, second] {
        store.delete(&entry, Version::Any).await.unwrap();
    }
    assert_eq!(store.children(&ground.queue()).await.unwrap(), Vec::<String>::new());
}

/// A name in the queue that does not end as a contender's is nobody's place.
pub async fn foreign_names_in_the_queue_are_passed_over(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    create_all(store.as_ref(), &ground.queue()).await.unwrap();
    for name in ["x__rlock__0000000000", "note", "__lock__000000000", "0000000000"] {
        put(&store, &ground.queue().child(name), "", NodeKind::Ephemeral).await;
    }
    let once = semaphore.acquire(&who("a"), Lifetime::Ephemeral, Patience::Once).await;
    assert!(once.is_ok(), "{once:?}");
}

/// A caller ahead that was made by another tool keeps its slot reserved, and lets it go when it goes.
pub async fn somebody_ahead_keeps_a_slot_reserved(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    ephemeral(&semaphore, "a").await.release().await.unwrap();
    let entry = ground.queue().child("anything at all__lock__");
    let ahead = put(&store, &entry, "", NodeKind::EphemeralSequential).await;
    let waiter = semaphore.clone();
    let waiting = tokio::spawn(async move { ephemeral(&waiter, "b").await });
    until_queued(&semaphore, 2).await;
    assert_eq!(names(&semaphore).await, Vec::<String>::new());
    store.delete(&ahead, Version::Any).await.unwrap();
    soon("the slot", waiting).await.unwrap();
}

/// Every child of the path takes a slot, whatever its name.
pub async fn every_child_counts_as_a_lease(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(2).await;
    let lease = ephemeral(&semaphore, "a").await;
    let odd = put(&store, &ground.path().child("not a lease"), "", NodeKind::Persistent).await;
    full(&semaphore, "b").await;
    assert_eq!(names(&semaphore).await, ["a", ""]);
    store.delete(&odd, Version::Any).await.unwrap();
    let other = ephemeral(&semaphore, "b").await;
    drop((lease, other));
    semaphore.settled().await;
    assert_eq!(names(&semaphore).await, Vec::<String>::new());
}

/// Two callers that disagree on the number are told both, and nothing is left.
pub async fn another_number_of_slots_is_refused(ground: Ground) {
    let (store, three) = ground.with_semaphore(3).await;
    ephemeral(&three, "a").await.release().await.unwrap();
    let two = ground.semaphore(&store, 2);
    let answer = two.acquire(&who("b"), Lifetime::Ephemeral, Patience::Forever).await;
    let Err(AcquireError::SlotsDiffer { stored, wanted, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!((stored, wanted), (3, number(2)));
    two.settled().await;
    assert_eq!(store.children(&ground.queue()).await.unwrap(), Vec::<String>::new());
    assert_eq!(names(&two).await, Vec::<String>::new());
}

/// Data that is no number is somebody else's: nothing is compared, nothing is written.
pub async fn data_that_is_no_number_is_left_alone(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    create_all(store.as_ref(), &ground.path()).await.unwrap();
    for text in ["three", "3 slots"] {
        store.set(&ground.path(), Bytes::from_static(text.as_bytes()), Version::Any).await.unwrap();
        let lease = ephemeral(&ground.semaphore(&store, 1), "a").await;
        full(&ground.semaphore(&store, 1), "b").await;
        lease.release().await.unwrap();
        assert_eq!(store.read(&ground.path()).await.unwrap().data, text.as_bytes());
    }
    let (state, _) = semaphore.observe().await.unwrap();
    assert_eq!(state.slots, None);
}

/// A persistent lease outlives its session, and its identifier finds it again, though the semaphore is full.
pub async fn a_persistent_lease_is_reentered(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    let first = take(&semaphore, "a", Lifetime::Persistent).await;
    let (path, fence) = (first.lease.path().clone(), first.lease.fence());
    assert_eq!((first.how, first.lease.lifetime()), (Acquisition::Fresh, Lifetime::Persistent));
    drop(first);
    semaphore.settled().await;
    store.close().await.unwrap();

    let (store, semaphore) = ground.with_semaphore(1).await;
    let again = take(&semaphore, "a", Lifetime::Persistent).await;
    assert_eq!((again.how, again.lease.path(), again.lease.fence()), (Acquisition::Reentered, &path, fence));
    semaphore.settled().await;
    assert_eq!(store.children(&ground.queue()).await.unwrap(), Vec::<String>::new());
    full(&semaphore, "b").await;
    assert_eq!(again.lease.release().await.unwrap(), Released::Released);
    assert_eq!(names(&semaphore).await, Vec::<String>::new());
}

/// An ephemeral lease is nobody's to find: the same identifier takes a second one.
pub async fn an_ephemeral_lease_is_not_reentered(ground: Ground) {
    let (_store, semaphore) = ground.with_semaphore(3).await;
    let _first = ephemeral(&semaphore, "a").await;
    let _second = ephemeral(&semaphore, "a").await;
    let third = take(&semaphore, "a", Lifetime::Persistent).await;
    assert_eq!(third.how, Acquisition::Fresh);
    assert_eq!(names(&semaphore).await, ["a", "a", "a"]);
    third.lease.release().await.unwrap();
}

/// The end of a session frees its ephemeral leases, and its holder is told.
pub async fn an_ephemeral_lease_ends_with_its_session(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    let lease = ephemeral(&semaphore, "a").await;
    let (_other, elsewhere) = ground.with_semaphore(1).await;
    let waiting = tokio::spawn(async move { (ephemeral(&elsewhere, "b").await, elsewhere) });
    until_queued(&semaphore, 1).await;
    assert!(!lease.is_lost());
    store.close().await.unwrap();
    assert_eq!(soon("the loss", lease.lost()).await, Loss::SessionOver);
    assert!(lease.is_lost());
    assert_eq!(lease.release().await.unwrap(), Released::WasGone);
    soon("the slot", waiting).await.unwrap();
    let over = semaphore.acquire(&who("a"), Lifetime::Ephemeral, Patience::Forever).await;
    assert!(matches!(over, Err(AcquireError::SessionOver { .. })), "{over:?}");
}

/// A holder whose lease somebody deletes is told, though it was marked first.
pub async fn a_broken_lease_is_told(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(2).await;
    let (a, b) = (ephemeral(&semaphore, "a").await, ephemeral(&semaphore, "b").await);
    store.delete(a.path(), Version::Any).await.unwrap();
    assert_eq!(soon("the loss", a.lost()).await, Loss::Deleted);
    assert_eq!(a.release().await.unwrap(), Released::WasGone);
    store.set(b.path(), Bytes::from_static(b"marked"), Version::Any).await.unwrap();
    store.delete(b.path(), Version::Any).await.unwrap();
    assert_eq!(soon("the loss", b.lost()).await, Loss::Deleted);
    assert!(b.is_lost());
}

/// Dropping an ephemeral lease frees its slot.
pub async fn a_dropped_ephemeral_lease_is_released(ground: Ground) {
    let (_store, semaphore) = ground.with_semaphore(1).await;
    drop(ephemeral(&semaphore, "a").await);
    let next = soon("an answer", semaphore.acquire(&who("b"), Lifetime::Ephemeral, Patience::Once)).await;
    assert!(next.is_ok(), "the deletion was sent before the drop returned: {next:?}");
}

/// A release can travel in a transaction of the caller's.
pub async fn a_release_travels_in_a_transaction(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    let lease = take(&semaphore, "a", Lifetime::Persistent).await.lease;
    store.multi(lease.deletion().ops()).await.unwrap();
    lease.forget();
    assert_eq!(names(&semaphore).await, Vec::<String>::new());
}

/// One deadline for everything; when it passes, nothing is left.
pub async fn a_deadline_ends_the_waiting(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    let _held = ephemeral(&semaphore, "a").await;
    let begun = Instant::now();
    let late = semaphore.acquire(&who("b"), Lifetime::Persistent, Patience::Until(begun + SHORT)).await;
    let Err(AcquireError::TimedOut { waited, .. }) = late else { panic!("{late:?}") };
    assert!(waited >= SHORT);
    soon("the clean-up", semaphore.settled()).await;
    assert_eq!(store.children(&ground.queue()).await.unwrap(), Vec::<String>::new());
    assert_eq!(names(&semaphore).await, ["a"]);
}

/// A waiter that is dropped leaves the queue, and those behind it go on.
pub async fn a_cancelled_waiter_leaves_nothing(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    let held = ephemeral(&semaphore, "a").await;
    let waiter = semaphore.clone();
    let cancelled = tokio::spawn(async move { ephemeral(&waiter, "b").await });
    until_queued(&semaphore, 1).await;
    let (_other, elsewhere) = ground.with_semaphore(1).await;
    let behind = tokio::spawn(async move { (ephemeral(&elsewhere, "c").await, elsewhere) });
    until_queued(&semaphore, 2).await;
    cancelled.abort();
    assert!(soon("the end of the waiter", cancelled).await.is_err());
    until_queued(&semaphore, 1).await;
    soon("the clean-up", semaphore.settled()).await;
    held.release().await.unwrap();
    soon("the slot", behind).await.unwrap();
    assert_eq!(store.children(&ground.queue()).await.unwrap(), Vec::<String>::new());
}

/// Force takes a lease over the limit at once, and the limit holds again for the next.
pub async fn force_exceeds_the_limit_by_one(ground: Ground) {
    let (_store, semaphore) = ground.with_semaphore(1).await;
    let a = ephemeral(&semaphore, "a").await;
    let forced = soon("the lease", force(&semaphore, &who("b"), Lifetime::Ephemeral, &[], &alone)).await.unwrap();
    assert!(forced.fence() > a.fence());
    assert_eq!(names(&semaphore).await, ["a", "b"]);
    a.release().await.unwrap();
    full(&semaphore, "c").await;
    forced.release().await.unwrap();
    ephemeral(&semaphore, "c").await;
}

/// Force on a path that is not there makes it, with its number.
pub async fn force_makes_the_path(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(4).await;
    let forced = soon("the lease", force(&semaphore, &who("a"), Lifetime::Persistent, &[], &alone)).await.unwrap();
    assert_eq!(&store.read(&ground.path()).await.unwrap().data[..], b"4");
    forced.release().await.unwrap();
}

/// A broken lease makes room for the one that breaks it and for nobody else.
pub async fn a_take_over_frees_no_slot_for_waiters(ground: Ground) {
    let (_store, semaphore) = ground.with_semaphore(2).await;
    let (a, b) = (ephemeral(&semaphore, "a").await, ephemeral(&semaphore, "b").await);
    let (_other, elsewhere) = ground.with_semaphore(2).await;
    let waiting = tokio::spawn(async move { (ephemeral(&elsewhere, "w").await, elsewhere) });
    until_queued(&semaphore, 1).await;
    let (_third, breaker) = ground.with_semaphore(2).await;
    let c = force(&breaker, &who("c"), Lifetime::Ephemeral, &[a.fence()], &alone).await.unwrap();
    assert_eq!(soon("the loss", a.lost()).await, Loss::Deleted);
    assert_eq!(names(&semaphore).await, ["b", "c"], "the waiter waits on");
    b.release().await.unwrap();
    let (w, _elsewhere) = soon("the slot", waiting).await.unwrap();
    assert_eq!(names(&semaphore).await, ["c", "w"]);
    drop((c, w));
}

/// Force that names a lease which is not there breaks nothing.
pub async fn a_conflicting_force_leaves_everything(ground: Ground) {
    let (_store, semaphore) = ground.with_semaphore(2).await;
    let (a, b) = (ephemeral(&semaphore, "a").await, ephemeral(&semaphore, "b").await);
    let (fence, gone) = (a.fence(), b.fence());
    b.release().await.unwrap();
    let answer = force(&semaphore, &who("c"), Lifetime::Ephemeral, &[fence, gone], &alone).await;
    assert!(matches!(answer, Err(ForceError::Conflict { fence, .. }) if fence == gone), "{answer:?}");
    assert_eq!(names(&semaphore).await, ["a"]);
    assert!(!a.is_lost());
}

/// Who looks creates nothing.
pub async fn looking_creates_nothing(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    assert_eq!(names(&semaphore).await, Vec::<String>::new());
    let (state, _) = semaphore.observe().await.unwrap();
    assert_eq!((state.slots, state.holders.len(), state.queued), (None, 0, 0));
    assert_eq!(semaphore.unlock(&who("a")).await.unwrap().released, 0);
    let party = Party::new(Arc::clone(&store), ground.path());
    assert_eq!(party.members().await.unwrap(), []);
    assert_eq!(party.observe().await.unwrap().0, []);
    assert!(party.wait_for(1, Patience::Once).await.is_err());
    assert_eq!(store.stat(&ground.top).await.unwrap(), None);
}

/// What goes along with a lease is written with it or not at all: refused, no slot is taken and nobody queues.
pub async fn what_goes_along_is_written_with_the_lease_or_not_at_all(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    create_all(store.as_ref(), &ground.top).await.unwrap();
    let note = ground.top.child("note");
    let along = |lease: &NodePath| {
        let data = Bytes::from(lease.to_string());
        vec![Op::Create { path: note.clone(), data, kind: NodeKind::Persistent }]
    };
    let identifier = who("a");
    for lifetime in [Lifetime::Ephemeral, Lifetime::Persistent] {
        let (patience, ownership) = (Patience::Forever, run("r", IfHeld::Refuse));
        let request = Request { identifier: &identifier, lifetime, patience, ownership: &ownership, along: &along };
        let taken = semaphore.acquire_as(request).await.unwrap();
        assert_eq!(store.read(&note).await.unwrap().data, taken.lease.path().as_str());
        taken.lease.release().await.unwrap();
        // It is there already: refused, and with it the lease.
        let refused = semaphore.acquire_as(request).await;
        assert!(
            matches!(refused, Err(AcquireError::Along { source: StoreError::NodeExists { .. }, .. })),
            "{refused:?}"
        );
        let refused = force(&semaphore, &identifier, lifetime, &[], &along).await;
        assert!(matches!(refused, Err(ForceError::Along { .. })), "{refused:?}");
        soon("the place in the queue to be given up", semaphore.settled()).await;
        assert_eq!(names(&semaphore).await, Vec::<String>::new());
        until_queued(&semaphore, 0).await;
        store.delete(&note, Version::Any).await.unwrap();
        let forced = force(&semaphore, &identifier, lifetime, &[], &along).await.unwrap();
        assert_eq!(store.read(&note).await.unwrap().data, forced.path().as_str());
        forced.release().await.unwrap();
        store.delete(&note, Version::Any).await.unwrap();
    }
}

/// A persistent lease is adopted by its node, by the identifier that holds it and by no other; an ephemeral one never is.
pub async fn a_persistent_lease_is_adopted_by_its_node(ground: Ground) {
    let (first, semaphore) = ground.with_semaphore(2).await;
    let lasting = take(&semaphore, "a", Lifetime::Persistent).await.lease;
    let (path, fence) = (lasting.path().clone(), lasting.fence());
    let passing = ephemeral(&semaphore, "b").await;
    let (store, other) = ground.with_semaphore(2).await;
    assert!(other.adopt(passing.path(), None, &who("b")).await.unwrap().is_none(), "it is its session's");
    assert!(other.adopt(&path, None, &who("b")).await.unwrap().is_none(), "it is another's");
    assert!(other.adopt(&ground.top, None, &who("a")).await.unwrap().is_none(), "it is no lease of this semaphore");
    soon("the first session's end", first.close()).await.unwrap();
    let later = Some(Fence::new(fence.get() + 1));
    assert!(other.adopt(&path, later, &who("a")).await.unwrap().is_none(), "it is another lease of that name");
    let adopted = other.adopt(&path, Some(fence), &who("a")).await.unwrap().expect("it is there still");
    assert_eq!((adopted.fence(), adopted.is_lost()), (fence, false));
    store.delete(&path, Version::Any).await.unwrap();
    assert_eq!(soon("the loss to be noticed", adopted.lost()).await, Loss::Deleted);
    assert!(other.adopt(&path, None, &who("a")).await.unwrap().is_none(), "it is gone");
}

/// Holders are listed oldest first, with who, since when and how.
pub async fn holders_are_listed_by_fence(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(3).await;
    let mut leases = Vec::new();
    for (name, lifetime) in [("c", Lifetime::Ephemeral), ("a", Lifetime::Persistent), ("b", Lifetime::Ephemeral)] {
        leases.push(take(&semaphore, name, lifetime).await.lease);
    }
    let holders = semaphore.holders().await.unwrap();
    for (holder, lease) in holders.iter().zip(&leases) {
        assert_eq!(holder.identifier, lease.identifier().as_str());
        assert_eq!((holder.fence, &holder.path), (lease.fence(), lease.path()));
        assert_eq!(holder.ephemeral, lease.lifetime() == Lifetime::Ephemeral);
        assert_eq!(holder.session, holder.ephemeral.then(|| store.session_id()));
        assert_eq!(holder.since_ms, store.stat(&holder.path).await.unwrap().unwrap().ctime_ms);
    }
    assert_eq!(holders.len(), 3);
    let raw = ground.path().child("raw");
    store.create(&raw, Bytes::from_static(b"\xff"), NodeKind::Ephemeral).await.unwrap();
    assert_eq!(names(&semaphore).await, ["c", "a", "b", "\u{fffd}"]);
    for lease in leases {
        lease.release().await.unwrap();
    }
}

/// An observer is told of the path's making, of leases and queue entries that come and go, and of another number.
pub async fn an_observer_is_told_of_every_change(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    let observer = ground.with_semaphore(1).await.1;
    let (_, mut changed) = observer.observe().await.unwrap();
    let lease = ephemeral(&semaphore, "a").await;
    soon("news of the path", changed.changed()).await;

    let seen = async |what: &str, state: (Option<u32>, usize, u32)| {
        let until = async {
            loop {
                let (now, mut changed) = observer.observe().await.unwrap();
                if (now.slots, now.holders.len(), now.queued) == state {
                    return changed;
                }
                changed.changed().await;
            }
        };
        soon(what, until).await
    };
    let mut changed = seen("a lease", (Some(1), 1, 0)).await;
    let entry = ground.queue().child("x__lock__");
    let entry = put(&store, &entry, "", NodeKind::EphemeralSequential).await;
    soon("news of the queue", changed.changed()).await;
    let mut changed = seen("an entry", (Some(1), 1, 1)).await;
    store.delete(&entry, Version::Any).await.unwrap();
    soon("news of the queue", changed.changed()).await;
    let mut changed = seen("no entry", (Some(1), 1, 0)).await;
    store.set(&ground.path(), Bytes::from_static(b"5"), Version::Any).await.unwrap();
    soon("news of the number", changed.changed()).await;
    let mut changed = seen("the number", (Some(5), 1, 0)).await;
    lease.release().await.unwrap();
    soon("news of the lease", changed.changed()).await;
    soon("what was told once", changed.changed()).await;
    seen("no lease", (Some(5), 0, 0)).await;
}

/// Unlock deletes what an identifier holds for good, and says what else is there.
pub async fn unlock_says_what_it_found(ground: Ground) {
    let (_store, semaphore) = ground.with_semaphore(3).await;
    take(&semaphore, "a", Lifetime::Persistent).await.lease.forget();
    take(&semaphore, "b", Lifetime::Persistent).await.lease.forget();
    let _passing = ephemeral(&semaphore, "a").await;
    let (_other, elsewhere) = ground.with_semaphore(3).await;
    let nothing = elsewhere.unlock(&who("c")).await.unwrap();
    assert_eq!((nothing.released, nothing.left.len()), (0, 3));
    let done = elsewhere.unlock(&who("a")).await.unwrap();
    let left: Vec<_> = done.left.iter().map(|holder| (holder.identifier.as_str(), holder.ephemeral)).collect();
    assert_eq!((done.released, left), (1, vec![("b", false), ("a", true)]));
    assert_eq!(elsewhere.unlock(&who("b")).await.unwrap().released, 1);
    assert_eq!(names(&semaphore).await, ["a"]);
}

/// Callers that exclude their identifier act one at a time under it, whatever slots are free, and outside the queue.
pub async fn an_identifier_is_claimed_by_one_at_a_time(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(3).await;
    let (_other, elsewhere) = ground.with_semaphore(3).await;
    let a = who("a");
    let first = acquire_as(&semaphore, &a, Lifetime::Ephemeral, Patience::Once, &run("one", IfHeld::Refuse)).await;
    let first = first.unwrap().lease;
    for lifetime in [Lifetime::Ephemeral, Lifetime::Persistent] {
        let refused = acquire_as(&elsewhere, &a, lifetime, Patience::Forever, &run("two", IfHeld::Refuse)).await;
        let Err(AcquireError::Held { by, .. }) = refused else { panic!("{refused:?}") };
        assert_eq!(by.lease.as_ref().map(|lease| lease.fence), Some(first.fence()));
        assert!(by.to_string().contains("run `one`"), "{by}");
    }
    let hand = acquire_as(&elsewhere, &a, Lifetime::Persistent, Patience::Once, &hand()).await;
    assert!(matches!(hand, Err(AcquireError::Held { .. })), "{hand:?}");
    let waiter = elsewhere.clone();
    let waiting = tokio::spawn(async move {
        acquire_as(&waiter, &who("a"), Lifetime::Persistent, Patience::Forever, &run("two", IfHeld::Wait)).await
    });
    // It is in no one's way while it waits: both free slots are there for others.
    let (b, c) = (ephemeral(&semaphore, "b").await, ephemeral(&semaphore, "c").await);
    assert_eq!(store.children(&ground.queue()).await.unwrap(), Vec::<String>::new());
    first.release().await.unwrap();
    let second = soon("the claim", waiting).await.unwrap().unwrap().lease;
    second.release().await.unwrap();
    let claims = Claims::new(Arc::clone(&store), ground.path());
    assert_eq!(claims.of("a").await.unwrap(), None, "a claim ends with its lease");
    drop((b, c));
}

/// A claim ends with its session, as the lease does.
pub async fn a_claim_ends_with_its_session(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    let a = who("a");
    let first = acquire_as(&semaphore, &a, Lifetime::Ephemeral, Patience::Once, &run("one", IfHeld::Refuse)).await;
    let (_other, elsewhere) = ground.with_semaphore(1).await;
    let ownership = run("two", IfHeld::Wait);
    let waiting = acquire_as(&elsewhere, &a, Lifetime::Ephemeral, Patience::Forever, &ownership);
    let (second, ()) = futures::join!(soon("the claim", waiting), async { store.close().await.unwrap() });
    second.unwrap();
    drop(first);
}

/// A tool that knows no claims deletes the lease alone: a persistent claim is then replaced, and is its new owner's.
pub async fn a_claim_whose_lease_is_gone_is_replaced(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    let a = who("a");
    let first = acquire_as(&semaphore, &a, Lifetime::Persistent, Patience::Once, &run("one", IfHeld::Refuse)).await;
    let first = first.unwrap().lease;
    store.delete(first.path(), Version::Any).await.unwrap();
    for lifetime in [Lifetime::Persistent, Lifetime::Ephemeral, Lifetime::Persistent] {
        let (_other, elsewhere) = ground.with_semaphore(1).await;
        let next = acquire_as(&elsewhere, &a, lifetime, Patience::Once, &run("two", IfHeld::Refuse)).await;
        let next = next.unwrap().lease;
        let claims = Claims::new(Arc::clone(&store), ground.path());
        let seen = claims.of("a").await.unwrap().expect("a claim");
        assert_eq!((&seen.claim.lease, seen.ephemeral), (next.path(), lifetime == Lifetime::Ephemeral));
        match lifetime {
            Lifetime::Ephemeral => drop(next.release().await.unwrap()),
            // Without its claim.
            Lifetime::Persistent => store.delete(next.path(), Version::Any).await.unwrap(),
        }
    }
    assert_eq!(first.release().await.unwrap(), Released::WasGone);
    let claims = Claims::new(Arc::clone(&store), ground.path());
    assert!(claims.of("a").await.unwrap().is_some(), "the first owner does not delete another's claim");
    assert_eq!(claims.sweep(0).await.unwrap(), 1);
    assert_eq!(claims.of("a").await.unwrap(), None);
}

/// A lease without a claim excludes its identifier, too: kazoo's, Salt's, and a command's.
pub async fn a_lease_without_a_claim_excludes_its_identifier(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(3).await;
    let a = who("a");
    let plain = ephemeral(&semaphore, "a").await;
    let (_other, elsewhere) = ground.with_semaphore(3).await;
    let refused = acquire_as(&elsewhere, &a, Lifetime::Persistent, Patience::Once, &run("r", IfHeld::Refuse)).await;
    let Err(AcquireError::Held { by, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!((by.claim.is_none(), by.was_left_behind()), (true, false));
    let waiter = elsewhere.clone();
    let waiting = tokio::spawn(async move {
        acquire_as(&waiter, &who("a"), Lifetime::Ephemeral, Patience::Forever, &run("r", IfHeld::Wait)).await
    });
    plain.release().await.unwrap();
    let lease = soon("the lease", waiting).await.unwrap().unwrap();
    assert!(lease.older.is_none());
    lease.lease.release().await.unwrap();
    let foreign =
        put(&store, &ground.path().child("0123456789abcdef0123456789abcdef"), "a", NodeKind::Persistent).await;
    let ownership = run("r", IfHeld::WaitWhileItLives);
    let refused = acquire_as(&elsewhere, &a, Lifetime::Ephemeral, Patience::Forever, &ownership).await;
    let Err(AcquireError::Held { by, .. }) = refused else { panic!("it is held: {refused:?}") };
    assert_eq!((by.stays_until_unlocked(), by.was_left_behind()), (true, false));
    store.delete(&foreign, Version::Any).await.unwrap();
}

/// An operator's unlock takes no lease that a run owns; breaking it does, and keeps who and why.
pub async fn unlock_takes_no_lease_of_a_run(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(2).await;
    let a = who("a");
    let owned = acquire_as(&semaphore, &a, Lifetime::Persistent, Patience::Once, &run("one", IfHeld::Refuse)).await;
    let owned = owned.unwrap().lease;
    let (_other, elsewhere) = ground.with_semaphore(2).await;
    let unlocked = elsewhere.unlock(&a).await.unwrap();
    assert_eq!((unlocked.released, unlocked.owned.len(), unlocked.left.len()), (0, 1, 0));
    assert!(!owned.is_lost());
    let broken = elsewhere.break_leases(&a, "root@host", "it is gone for good").await.unwrap();
    assert_eq!(broken.len(), 1);
    assert_eq!(soon("the loss", owned.lost()).await, Loss::Deleted);
    let record = super::broken_lease(store.as_ref(), owned.path()).await.expect("a record");
    assert_eq!((record.by.as_str(), record.reason.as_str()), ("root@host", "it is gone for good"));
    assert_eq!(Claims::new(Arc::clone(&store), ground.path()).of("a").await.unwrap(), None);
}

/// An identifier that holds is not forced once more, unless its lease is among those that are broken.
pub async fn force_refuses_an_identifier_that_holds(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    let a = who("a");
    let held = acquire_as(&semaphore, &a, Lifetime::Persistent, Patience::Once, &run("one", IfHeld::Refuse)).await;
    let held = held.unwrap().lease;
    let refused = force(&semaphore, &a, Lifetime::Persistent, &[], &alone).await;
    assert!(matches!(refused, Err(ForceError::Held { .. })), "{refused:?}");
    assert_eq!(names(&semaphore).await, ["a"]);
    let (_other, elsewhere) = ground.with_semaphore(1).await;
    let lease = force(&elsewhere, &a, Lifetime::Persistent, &[held.fence()], &alone).await.unwrap();
    let seen = Claims::new(Arc::clone(&store), ground.path()).of("a").await.unwrap().expect("a claim");
    assert_eq!((&seen.claim.lease, seen.claim.forced.is_some()), (lease.path(), true));
    assert_eq!(soon("the loss", held.lost()).await, Loss::Deleted);
    drop(held);
    semaphore.settled().await;
    assert_eq!(names(&semaphore).await, ["a"]);
    lease.release().await.unwrap();
    let claims = Claims::new(Arc::clone(&store), ground.path());
    assert_eq!(claims.of("a").await.unwrap(), None, "the record ends with the lease");
    let none = Fence::new(u64::MAX);
    let answer = force(&semaphore, &a, Lifetime::Ephemeral, &[none], &alone).await;
    assert!(matches!(answer, Err(ForceError::Conflict { fence, .. }) if fence == none), "{answer:?}");
    assert_eq!(names(&semaphore).await, Vec::<String>::new());
}

/// A number that is raised lets those in who wait; one that is lowered lets nobody in before enough leases are gone.
pub async fn callers_follow_the_number_of_slots(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(1).await;
    let a = ephemeral(&semaphore, "a").await;
    let waiter = semaphore.clone();
    let waiting = tokio::spawn(async move { ephemeral(&waiter, "b").await });
    until_queued(&semaphore, 1).await;
    resize(store.as_ref(), &ground.path(), number(2), OldCallers::KeepTheirs).await;
    let b = soon("the slot", waiting).await.unwrap();
    resize(store.as_ref(), &ground.path(), number(1), OldCallers::KeepTheirs).await;
    full(&semaphore, "c").await;
    a.release().await.unwrap();
    full(&semaphore, "c").await;
    b.release().await.unwrap();
    ephemeral(&semaphore, "c").await;
    let seen = super::read_number(store.as_ref(), &ground.path()).await.unwrap().expect("a number");
    assert_eq!((seen.slots, seen.record.map(|record| record.by)), (Some(1), Some("an operator".into())));
}

async fn resize(store: &dyn Store, path: &NodePath, slots: NonZeroU32, old_callers: OldCallers) {
    let resize = Resize { by: "an operator", reason: Some("a test"), old_callers };
    super::resize(store, path, slots, resize).await.unwrap();
}

/// Reservations keep slots from callers that count every child, and from no caller that follows the number.
pub async fn reservations_bind_callers_that_keep_an_older_number(ground: Ground) {
    let (store, semaphore) = ground.with_semaphore(5).await;
    let (a, b) = (ephemeral(&semaphore, "a").await, ephemeral(&semaphore, "b").await);
    resize(store.as_ref(), &ground.path(), number(2), OldCallers::AreBound).await;
    let children = || async { store.children(&ground.path()).await.unwrap().len() };
    assert_eq!(children().await, 5, "a caller that believes in five slots finds none");
    full(&semaphore, "c").await;
    let (state, _) = semaphore.observe().await.unwrap();
    assert_eq!((state.slots, state.holders.len(), state.reserved), (Some(2), 2, 3));
    let waiter = semaphore.clone();
    let waiting = tokio::spawn(async move { ephemeral(&waiter, "c").await });
    until_queued(&semaphore, 1).await;
    a.release().await.unwrap();
    let c = soon("the slot", waiting).await.unwrap();
    assert_eq!(names(&semaphore).await, ["b", "c"]);
    resize(store.as_ref(), &ground.path(), number(3), OldCallers::KeepTheirs).await;
    assert_eq!(children().await, 2, "the next resize ends the reservations");
    drop((b, c));
}

/// The first caller writes the number of an empty path, and it holds for the next.
pub async fn the_first_caller_writes_the_number_of_an_empty_path(ground: Ground) {
    let (store, _) = ground.with_semaphore(1).await;
    create_all(store.as_ref(), &ground.path()).await.unwrap();
    let semaphore = Semaphore::new(Arc::clone(&store), ground.path(), number(2));
    let lease = ephemeral(&semaphore, "a").await;
    assert_eq!(&store.read(&ground.path()).await.unwrap().data[..], b"2");
    let other = Semaphore::new(Arc::clone(&store), ground.path(), number(5));
    let refused = other.acquire(&who("b"), Lifetime::Ephemeral, Patience::Once).await;
    assert!(matches!(refused, Err(AcquireError::SlotsDiffer { stored: 2, .. })), "{refused:?}");
    drop(lease);
}

/// A child of a semaphore counts as a lease everywhere: no semaphore is made below one, nor above one.
pub async fn no_semaphore_lies_below_another(ground: Ground) {
    use super::{Nested, OldCallers, Resize, ResizeError, Writer, agree, queue_of, resize};
    let (store, semaphore) = ground.with_semaphore(2).await;
    let lease = ephemeral(&semaphore, "a").await;
    for below in [ground.path().child("b"), ground.path().child("c").child("d")] {
        let nested = Semaphore::new(Arc::clone(&store), below, number(1));
        let refused = nested.acquire(&who("b"), Lifetime::Ephemeral, Patience::Once).await;
        let Err(AcquireError::Nested(Nested { other, .. })) = refused else { panic!("{refused:?}") };
        assert_eq!(other, ground.path());
    }
    let above = Semaphore::new(Arc::clone(&store), ground.top.clone(), number(1));
    let refused = above.acquire(&who("b"), Lifetime::Ephemeral, Patience::Once).await;
    assert!(matches!(refused, Err(AcquireError::Nested(_))), "{refused:?}");
    // Refused before anything is written: a number or a queue would make a semaphore of it, and refuse those below it.
    assert!(store.read(&ground.top).await.unwrap().data.is_empty());
    assert!(store.stat(&queue_of(&ground.top)).await.unwrap().is_none());
    let folder = ground.top.child("folder");
    let deep = Semaphore::new(Arc::clone(&store), folder.child("deep"), number(1));
    drop(ephemeral(&deep, "a").await);
    let writer = Writer { job: "j", is_share: false, by: "b" };
    let agreed = agree(&*store, &folder, number(3), writer).await;
    assert!(matches!(agreed, Err(ResizeError::Nested(_))), "{agreed:?}");
    let by_hand = Resize { by: "b", reason: None, old_callers: OldCallers::KeepTheirs };
    let resized = resize(&*store, &folder, number(3), by_hand).await;
    assert!(matches!(resized, Err(ResizeError::Nested(_))), "{resized:?}");
    assert!(store.read(&folder).await.unwrap().data.is_empty());
    assert_eq!(names(&semaphore).await, ["a"]);
    drop(lease);
}

/// A job's share replaces the number that the same job wrote, and no other.
pub async fn a_share_replaces_the_number_of_its_own_job(ground: Ground) {
    use super::{ResizeError, Resized, Writer, agree};
    let (store, _) = ground.with_semaphore(1).await;
    let (store, path) = (store.as_ref(), ground.path());
    let share = |job| Writer { job, is_share: true, by: "an operator" };
    let fixed = |job| Writer { job, is_share: false, by: "an operator" };
    assert_eq!(agree(store, &path, number(2), share("one")).await.unwrap(), Resized::Written(None));
    assert_eq!(agree(store, &path, number(2), fixed("two")).await.unwrap(), Resized::Same);
    assert_eq!(agree(store, &path, number(3), share("one")).await.unwrap(), Resized::Written(Some(2)));
    for writer in [share("two"), fixed("one"), fixed("two")] {
        let refused = agree(store, &path, number(4), writer).await;
        assert!(matches!(refused, Err(ResizeError::Differs { stored: 3, .. })), "{refused:?}");
    }
    resize(store, &path, number(5), OldCallers::KeepTheirs).await;
    let refused = agree(store, &path, number(3), share("one")).await;
    assert!(matches!(refused, Err(ResizeError::Differs { stored: 5, .. })), "an operator wrote it: {refused:?}");
}

/// Members of both kinds are laid out as kazoo lays them out and listed by identifier.
pub async fn members_of_both_kinds_are_listed(ground: Ground) {
    let (store, party) = ground.with_party().await;
    let full = party.join(&who("a"), MemberKind::Full).await.unwrap();
    let shallow = party.join(&who("web-02"), MemberKind::Shallow).await.unwrap();
    let twice = party.join(&who("web-02"), MemberKind::default()).await.unwrap();
    let (unique, identifier) = shallow.path().name().split_once('-').unwrap();
    assert!(is_unique(unique) && identifier == "web-02");
    assert!(full.path().name().strip_suffix("__party__").is_some_and(is_unique));
    for (member, data) in [(&full, "a"), (&shallow, "web-02")] {
        let node = store.read(member.path()).await.unwrap();
        assert_eq!(node.data, data.as_bytes());
        assert_eq!((node.stat.ephemeral_owner, node.stat.czxid), (Some(store.session_id()), member.fence()));
    }
    for other in ["ready", "0123456789abcdef0123456789abcdef"] {
        put(&store, &ground.path().child(other), "x", NodeKind::Persistent).await;
    }
    let fences = |members: &[Member]| -> Vec<_> {
        members.iter().map(|member| (member.identifier.clone(), member.fence)).collect()
    };
    // Who crashed and came back has two nodes for a while, and is one member: by the node that stays.
    let members = party.members().await.unwrap();
    assert_eq!(fences(&members), [("a".to_owned(), full.fence()), ("web-02".to_owned(), twice.fence())]);
    assert_eq!(party.observe().await.unwrap().0, members);
    let too_few = party.wait_for(3, Patience::Once).await;
    assert!(matches!(too_few, Err(WaitError::TooFew { have: 2, want: 3, .. })), "{too_few:?}");
    let since = store.stat(full.path()).await.unwrap().unwrap().ctime_ms;
    assert_eq!(members[0].since_ms, since);
}

/// A member leaves by request, by being dropped, and with its session.
pub async fn members_leave(ground: Ground) {
    let (store, party) = ground.with_party().await;
    let (watcher, seen) = ground.with_party().await;
    party.join(&who("a"), MemberKind::Shallow).await.unwrap().leave().await.unwrap();
    assert_eq!(party.members().await.unwrap(), []);
    drop(party.join(&who("b"), MemberKind::Full).await.unwrap());
    soon("the clean-up", party.settled()).await;
    assert_eq!(party.members().await.unwrap(), []);
    let broken = party.join(&who("c"), MemberKind::Shallow).await.unwrap();
    watcher.delete(broken.path(), Version::Any).await.unwrap();
    assert_eq!(soon("the loss", broken.lost()).await, Loss::Deleted);
    broken.leave().await.unwrap();
    let last = party.join(&who("d"), MemberKind::Shallow).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(soon("the loss", last.lost()).await, Loss::SessionOver);
    assert!(last.is_lost());
    let empty = async {
        loop {
            let (members, mut changed) = seen.observe().await.unwrap();
            if members.is_empty() {
                return;
            }
            changed.changed().await;
        }
    };
    soon("an empty party", empty).await;
    let over = party.join(&who("e"), MemberKind::Shallow).await;
    assert!(matches!(over, Err(JoinError::SessionOver { .. })), "{over:?}");
}

/// What would break the layout is refused before anything is made.
pub async fn an_identifier_that_is_no_name_cannot_join(ground: Ground) {
    let (store, party) = ground.with_party().await;
    for kind in [MemberKind::Shallow, MemberKind::Full] {
        let answer = party.join(&who("a/b"), kind).await;
        assert!(matches!(answer, Err(JoinError::Slash { .. })), "{answer:?}");
    }
    let answer = party.join(&who("\u{f000}"), MemberKind::Shallow).await;
    assert!(matches!(answer, Err(JoinError::Identifier { .. })), "{answer:?}");
    assert_eq!(store.stat(&ground.top).await.unwrap(), None);
}

/// Waiting for members ends when they are there, or with the deadline, or at once.
pub async fn enough_members_are_waited_for(ground: Ground) {
    let (_store, party) = ground.with_party().await;
    let watcher = ground.with_party().await.1;
    let waiting = tokio::spawn(async move { watcher.wait_for(2, Patience::Forever).await });
    let _a = party.join(&who("a"), MemberKind::Shallow).await.unwrap();
    let late = party.wait_for(2, Patience::Until(Instant::now() + SHORT)).await;
    assert!(matches!(late, Err(WaitError::TooFew { have: 1, want: 2, .. })), "{late:?}");
    let _b = party.join(&who("b"), MemberKind::Full).await.unwrap();
    let members = soon("two members", waiting).await.unwrap().unwrap();
    assert_eq!(members.iter().map(|member| member.identifier.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(party.wait_for(2, Patience::Once).await.unwrap(), members);
    let few = party.wait_for(3, Patience::Once).await;
    assert!(matches!(few, Err(WaitError::TooFew { have: 2, want: 3, .. })), "{few:?}");
}

/// A store that refuses a slot's data refuses the acquisition, and nothing is left.
pub async fn a_refused_path_is_an_error(ground: Ground) {
    let (store, _) = ground.with_semaphore(1).await;
    create_all(store.as_ref(), &ground.top).await.unwrap();
    put(&store, &ground.path(), "", NodeKind::Ephemeral).await;
    let below = Semaphore::new(Arc::clone(&store), ground.path().child("below"), number(1));
    let answer = soon("an answer", below.acquire(&who("a"), Lifetime::Ephemeral, Patience::Forever)).await;
    let Err(AcquireError::Store { source, .. }) = answer else { panic!("{answer:?}") };
    let refused = match source {
        StoreError::Multi { source, .. } => *source,
        source => source,
    };
    assert!(matches!(refused, StoreError::ParentEphemeral { .. }), "{refused:?}");
}

/// Makes one test of each case, on the connector that the given expression makes and, optionally, with the given
/// arguments of `tokio::test`.
#[macro_export]
macro_rules! behaviour_tests {
    ($connect:expr $(, $argument:meta)* $(,)?) => {
        $crate::behaviour_tests! {
            @each ($connect) ($($argument),*)
            a_first_lease_is_laid_out_as_kazoo_lays_it_out
            a_waiter_queues_as_kazoo_queues
            a_freed_slot_goes_to_who_waits
            many_callers_share_a_few_slots
            waiters_are_served_in_the_order_of_the_queue
            trying_once_counts_those_ahead
            foreign_names_in_the_queue_are_passed_over
            somebody_ahead_keeps_a_slot_reserved
            every_child_counts_as_a_lease
            another_number_of_slots_is_refused
            data_that_is_no_number_is_left_alone
            a_persistent_lease_is_reentered
            an_ephemeral_lease_is_not_reentered
            an_ephemeral_lease_ends_with_its_session
            a_broken_lease_is_told
            a_dropped_ephemeral_lease_is_released
            a_release_travels_in_a_transaction
            a_deadline_ends_the_waiting
            a_cancelled_waiter_leaves_nothing
            force_exceeds_the_limit_by_one
            force_makes_the_path
            a_take_over_frees_no_slot_for_waiters
            a_conflicting_force_leaves_everything
            looking_creates_nothing
            what_goes_along_is_written_with_the_lease_or_not_at_all
            a_persistent_lease_is_adopted_by_its_node
            holders_are_listed_by_fence
            an_observer_is_told_of_every_change
            unlock_says_what_it_found
            an_identifier_is_claimed_by_one_at_a_time
            a_claim_ends_with_its_session
            a_claim_whose_lease_is_gone_is_replaced
            a_lease_without_a_claim_excludes_its_identifier
            unlock_takes_no_lease_of_a_run
            force_refuses_an_identifier_that_holds
            callers_follow_the_number_of_slots
            reservations_bind_callers_that_keep_an_older_number
            the_first_caller_writes_the_number_of_an_empty_path
            no_semaphore_lies_below_another
            a_share_replaces_the_number_of_its_own_job
            members_of_both_kinds_are_listed
            members_leave
            an_identifier_that_is_no_name_cannot_join
            enough_members_are_waited_for
            a_refused_path_is_an_error
        }
    };
    (@each $connect:tt $arguments:tt $($case:ident)*) => {
        $($crate::behaviour_tests! { @one $connect $arguments $case })*
    };
    (@one ($connect:expr) ($($argument:meta),*) $case:ident) => {
        #[tokio::test($($argument),*)]
        async fn $case() {
            let connect: std::sync::Arc<dyn $crate::store::Connect> = $connect;
            let top = $crate::store::NodePath::parse(concat!("/", stringify!($case))).expect("cases have proper names");
            $crate::recipe::behaviour::$case($crate::recipe::behaviour::Ground::new(connect, top)).await;
        }
    };
}
