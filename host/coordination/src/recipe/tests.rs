//! What only the memory store can show: round trips, requests, every fault at every request, cancellation at every await.

use std::num::NonZeroU32;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::behaviour::{acquire, acquire_as, alone, force, run};
use super::slots::Number;
use super::{
    AcquireError, Acquired, Acquisition, Identifier, IfHeld, Lease, MemberKind, Party, Patience, Released, Semaphore,
};
use crate::memory::{Chaos, Fault, Memory, MemoryOptions, MemoryStore};
use crate::store::{Lifetime, NodeKind, NodePath, SessionState, Store};

mod memory {
    crate::behaviour_tests!(std::sync::Arc::new(crate::memory::Memory::new(Default::default())), start_paused = true,);
}

mod far_away {
    //! Slow, and every session behind the others.

    use std::sync::Arc;
    use std::time::Duration;

    use crate::memory::{Memory, MemoryOptions};

    crate::behaviour_tests!(
        Arc::new(Memory::new(MemoryOptions {
            round_trip: Duration::from_millis(4),
            lag: Duration::from_millis(3),
            ..MemoryOptions::default()
        })),
        start_paused = true,
    );
}

const ROUND_TRIP: Duration = Duration::from_millis(10);

/// Longer than anything that is not stuck.
const STUCK: Duration = Duration::from_secs(600);

fn far() -> Memory {
    Memory::new(MemoryOptions { round_trip: ROUND_TRIP, ..MemoryOptions::default() })
}

fn path(text: &str) -> NodePath {
    NodePath::parse(text).unwrap()
}

fn who(name: &str) -> Identifier {
    Identifier::new(name).unwrap()
}

fn semaphore(store: &Arc<MemoryStore>, slots: u32, seed: u64) -> Semaphore {
    let slots = NonZeroU32::new(slots).unwrap();
    Semaphore::seeded(Arc::clone(store) as Arc<dyn Store>, path("/locks/it"), slots, seed)
}

async fn take(semaphore: &Semaphore, name: &str, lifetime: Lifetime) -> Lease {
    acquire(semaphore, &who(name), lifetime, Patience::Forever).await.unwrap().lease
}

/// Polls a future so often and then drops it.
async fn poll_at_most<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(context).map(Some)
    })
    .await
}

fn children(memory: &Memory, of: &str) -> Vec<NodePath> {
    memory.snapshot().into_keys().filter(|node| node.parent() == Some(path(of))).collect()
}

fn leases(memory: &Memory) -> Vec<NodePath> {
    children(memory, "/locks/it")
}

fn entries(memory: &Memory) -> Vec<NodePath> {
    children(memory, "/locks/it-__lock__")
}

#[tokio::test(start_paused = true)]
async fn a_free_slot_takes_two_round_trips_and_a_release_one() {
    let memory = far();
    let store = memory.open();
    let semaphore = semaphore(&store, 3, 0);
    for lifetime in [Lifetime::Ephemeral, Lifetime::Persistent] {
        // The path, and the folder of its claims.
        take(&semaphore, "a", lifetime).await.release().await.unwrap();
    }
    for lifetime in [Lifetime::Ephemeral, Lifetime::Persistent] {
        let requests = memory.requests(store.session_id());
        let begun = Instant::now();
        let lease = take(&semaphore, "a", lifetime).await;
        assert_eq!(begun.elapsed(), 2 * ROUND_TRIP, "{lifetime:?}");
        let begun = Instant::now();
        assert_eq!(lease.release().await.unwrap(), Released::Released);
        assert_eq!(begun.elapsed(), ROUND_TRIP);
        assert_eq!(memory.requests(store.session_id()) - requests, 6);
    }
    // With a claim, and the look behind the grant, which travels with it.
    for lifetime in [Lifetime::Ephemeral, Lifetime::Persistent] {
        let requests = memory.requests(store.session_id());
        let begun = Instant::now();
        let ownership = run("a run", IfHeld::Refuse);
        let taken = acquire_as(&semaphore, &who("a"), lifetime, Patience::Once, &ownership).await.unwrap();
        assert_eq!(begun.elapsed(), 2 * ROUND_TRIP, "{lifetime:?}");
        let begun = Instant::now();
        taken.lease.release().await.unwrap();
        assert_eq!(begun.elapsed(), ROUND_TRIP);
        assert_eq!(memory.requests(store.session_id()) - requests, 7);
    }
    assert_eq!(semaphore.pending(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_first_or_a_persistent_acquisition_takes_more() {
    let memory = far();
    let store = memory.open();
    let first = semaphore(&store, 3, 0);
    let begun = Instant::now();
    let held = take(&first, "a", Lifetime::Persistent).await;
    let fresh_path = begun.elapsed();
    let begun = Instant::now();
    let second = semaphore(&store, 3, 1);
    let other = take(&second, "b", Lifetime::Ephemeral).await;
    assert_eq!(begun.elapsed(), 2 * ROUND_TRIP, "the number is read in the first flight");
    let begun = Instant::now();
    let lease = take(&second, "c", Lifetime::Persistent).await;
    assert_eq!(begun.elapsed(), 3 * ROUND_TRIP, "the other leases are read in between");
    let begun = Instant::now();
    let again = acquire(&second, &who("c"), Lifetime::Persistent, Patience::Once).await.unwrap();
    assert_eq!(again.how, Acquisition::Reentered);
    assert_eq!(begun.elapsed(), 3 * ROUND_TRIP);
    // Once for each store: the path with its parent and queue, and the folders of the claims.
    assert_eq!(fresh_path, 23 * ROUND_TRIP);
    drop((held, other, lease, again));
}

#[tokio::test(start_paused = true)]
async fn a_hand_over_takes_two_round_trips() {
    for slots in [1, 8] {
        let memory = far();
        let (store, other) = (memory.open(), memory.open());
        let holding = semaphore(&store, slots, 0);
        let mut held = Vec::new();
        for _ in 0..slots {
            held.push(take(&holding, "a", Lifetime::Ephemeral).await);
        }
        let waiting = semaphore(&other, slots, 1);
        let waiter = tokio::spawn(async move {
            let lease = take(&waiting, "b", Lifetime::Ephemeral).await;
            (Instant::now(), lease)
        });
        tokio::time::sleep(20 * ROUND_TRIP).await;
        let begun = Instant::now();
        held.pop().unwrap().release().await.unwrap();
        let (got, _lease) = waiter.await.unwrap();
        assert_eq!(got - begun, 2 * ROUND_TRIP, "{slots} slots");
    }
}

/// Requests that all sessions together make for one hand-over, with so many waiting.
async fn requests_of_a_hand_over(slots: u32, waiters: u64) -> f64 {
    const HAND_OVERS: u32 = 40;
    let memory = Memory::new(MemoryOptions { round_trip: ROUND_TRIP, history: false, ..MemoryOptions::default() });
    let sessions: Vec<_> = (0..10).map(|_| memory.open()).collect();
    let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
    for (waiter, store) in (0..waiters).zip(sessions.iter().cycle()) {
        let semaphore = semaphore(store, slots, waiter);
        let sender = sender.clone();
        tokio::spawn(async move {
            let lease = take(&semaphore, "w", Lifetime::Ephemeral).await;
            // Who stops listening has seen enough.
            let _ = sender.send((lease, semaphore));
        });
    }
    let count = || sessions.iter().map(|store| memory.requests(store.session_id())).sum::<u64>();
    let mut held = std::collections::VecDeque::new();
    for _ in 0..slots {
        held.push_back(served.recv().await.unwrap());
    }
    tokio::time::sleep(20 * ROUND_TRIP).await;
    let before = count();
    for _ in 0..HAND_OVERS {
        let (lease, _) = held.pop_front().unwrap();
        lease.release().await.unwrap();
        let (lease, semaphore) = served.recv().await.unwrap();
        assert_eq!(semaphore.safety_net_finds(), 0, "a watch tells of each");
        held.push_back((lease, semaphore));
    }
    f64::from(u32::try_from(count() - before).unwrap()) / f64::from(HAND_OVERS)
}

#[tokio::test(start_paused = true)]
async fn requests_of_a_hand_over_do_not_grow_with_the_queue() {
    for (slots, most) in [(1, 10.0), (2, 12.0), (4, 16.0), (8, 22.0), (16, 32.0), (32, 40.0)] {
        let (few, many) = (requests_of_a_hand_over(slots, 100).await, requests_of_a_hand_over(slots, 1000).await);
        println!("{slots} slots: {few:.1} requests a hand-over with 100 waiting, {many:.1} with 1,000");
        assert!(few <= most && many <= most, "{slots} slots: {few} and {many} requests a hand-over");
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_near_its_last_number_is_renewed_or_refused() {
    let memory = Memory::new(MemoryOptions::default());
    let store = memory.open();
    let semaphore = semaphore(&store, 1, 0);
    take(&semaphore, "a", Lifetime::Ephemeral).await.release().await.unwrap();
    let queue = path("/locks/it-__lock__");
    for next in [i32::MAX - 999_999, i32::MAX, i32::MIN, -1] {
        memory.set_counter(&queue, next).unwrap();
        take(&semaphore, "a", Lifetime::Ephemeral).await.release().await.unwrap();
        let entry = store.create(&queue.child("x__lock__"), bytes::Bytes::new(), NodeKind::EphemeralSequential).await;
        let entry = entry.unwrap();
        assert_eq!(entry.name(), "x__lock__0000000001", "the counter starts again");
        memory.set_counter(&queue, next).unwrap();
        let refused = semaphore.acquire(&who("a"), Lifetime::Ephemeral, Patience::Forever).await;
        assert!(matches!(refused, Err(AcquireError::QueueWornOut { .. })), "{refused:?}");
        semaphore.settled().await;
        assert_eq!(entries(&memory), std::slice::from_ref(&entry));
        store.delete(&entry, crate::store::Version::Any).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn more_slots_than_are_watched_one_by_one_hand_over_too() {
    let memory = far();
    let (store, other) = (memory.open(), memory.open());
    let (holding, waiting) = (semaphore(&store, 20, 0), semaphore(&other, 20, 1));
    let mut held = Vec::new();
    for _ in 0..20 {
        held.push(take(&holding, "a", Lifetime::Ephemeral).await);
    }
    let waiter = tokio::spawn(async move { take(&waiting, "b", Lifetime::Ephemeral).await });
    tokio::time::sleep(20 * ROUND_TRIP).await;
    let begun = Instant::now();
    held.pop().unwrap().release().await.unwrap();
    let _lease = waiter.await.unwrap();
    assert!(begun.elapsed() <= 3 * ROUND_TRIP, "{:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_safety_net_finds_what_no_watch_told() {
    // Two ahead are stuck; the first of them goes, which only the second watches.
    let memory = Memory::new(MemoryOptions::default());
    let (store, other) = (memory.open(), memory.open());
    let semaphore = semaphore(&store, 2, 0);
    take(&semaphore, "a", Lifetime::Ephemeral).await.release().await.unwrap();
    let entry = path("/locks/it-__lock__/x__lock__");
    let mut ahead = Vec::new();
    for _ in 0..2 {
        ahead.push(other.create(&entry, bytes::Bytes::new(), NodeKind::EphemeralSequential).await.unwrap());
    }
    let waiter = semaphore.clone();
    let waiting = tokio::spawn(async move { take(&waiter, "b", Lifetime::Ephemeral).await });
    while entries(&memory).len() < 3 {
        tokio::time::sleep(ROUND_TRIP).await;
    }
    tokio::time::sleep(ROUND_TRIP).await;
    let begun = Instant::now();
    other.delete(&ahead[0], crate::store::Version::Any).await.unwrap();
    let _lease = waiting.await.unwrap();
    let found = semaphore.safety_net_finds();
    assert!(begun.elapsed() <= store.session_timeout(), "{:?}", begun.elapsed());
    assert!(found == 1 || begun.elapsed() < ROUND_TRIP, "{found} finds after {:?}", begun.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_suspended_session_goes_on_where_it_was() {
    let memory = far();
    let (store, other) = (memory.open(), memory.open());
    let (holding, waiting) = (semaphore(&store, 1, 0), semaphore(&other, 1, 1));
    let held = take(&holding, "a", Lifetime::Ephemeral).await;
    let waiter = tokio::spawn(async move { take(&waiting, "b", Lifetime::Ephemeral).await });
    tokio::time::sleep(20 * ROUND_TRIP).await;
    memory.cut(other.session_id(), Duration::from_secs(2));
    held.release().await.unwrap();
    let lease = timeout(Duration::from_secs(3), waiter).await.unwrap().unwrap();
    assert!(!lease.is_lost());
    memory.cut(other.session_id(), Duration::from_secs(20));
    assert_eq!(lease.lost().await, super::Loss::SessionOver);
    assert_eq!(leases(&memory).len(), 1, "told before it goes");
}

/// The faults of one request.
fn faults() -> Vec<Fault> {
    let outage = Duration::from_millis(300);
    vec![
        Fault::Unreachable,
        Fault::LostBefore { outage },
        Fault::LostAfter { outage },
        // Back before the session's own server has heard of what was done.
        Fault::LostAfter { outage: Duration::from_millis(1) },
        Fault::ExpireBefore,
        Fault::ExpireAfter,
        Fault::Late(outage),
        Fault::Delay(outage),
        Fault::Suspend(outage),
    ]
}

/// A store for one run of a table of faults.
fn faulty(lag: bool, seed: u64) -> Memory {
    Memory::new(MemoryOptions {
        round_trip: Duration::from_millis(2),
        lag: if lag { Duration::from_millis(40) } else { Duration::ZERO },
        chaos: Some(Chaos::none(seed)),
        ..MemoryOptions::default()
    })
}

/// A second client on the path, which never meets a fault.
struct Neighbour {
    semaphore: Semaphore,
    held: Option<Lease>,
    letting_go: Option<tokio::task::JoinHandle<()>>,
}

impl Neighbour {
    /// Makes the path, and takes the only slot if it is to be waited for.
    async fn new(memory: &Memory, holds: bool) -> Self {
        let semaphore = semaphore(&memory.open(), 1, 99);
        let lease = take(&semaphore, "neighbour", Lifetime::Ephemeral).await;
        let held = if holds {
            Some(lease)
        } else {
            lease.release().await.unwrap();
            None
        };
        Self { semaphore, held, letting_go: None }
    }

    /// Lets the slot go a little later.
    fn let_go(&mut self) {
        if let Some(lease) = self.held.take() {
            self.letting_go = Some(tokio::spawn(async move {
                tokio::time::sleep(Duration::from_millis(25)).await;
                lease.release().await.unwrap();
            }));
        }
    }

    /// Waits until it has let go.
    async fn has_let_go(&mut self) {
        if let Some(letting_go) = self.letting_go.take() {
            letting_go.await.unwrap();
        }
    }

    /// The slot can be had: whatever the other client did, it left nothing that is in the way.
    async fn finds_the_slot_free(&self, case: &str) {
        let name = who("neighbour");
        let taken = timeout(STUCK, self.semaphore.acquire(&name, Lifetime::Ephemeral, Patience::Forever));
        let Ok(taken) = taken.await else { panic!("{case}: the neighbour waits for ever") };
        taken.unwrap().lease.release().await.unwrap();
    }
}

/// After everything is over: nothing is left, but for a persistent lease of a session that ended.
async fn nothing_is_left(case: &str, memory: &Memory, store: &Arc<MemoryStore>, semaphore: &Semaphore, lasting: bool) {
    let Ok(()) = timeout(STUCK, semaphore.settled()).await else { panic!("{case}: the clean-up never ends") };
    if *store.session().borrow() == SessionState::Expired {
        tokio::time::sleep(store.session_timeout()).await;
    }
    assert_eq!(entries(memory), [], "{case}: an entry is left");
    let left = leases(memory);
    if left.is_empty() {
        return;
    }
    assert!(lasting, "{case}: {left:?} is left");
    let again = self::semaphore(&memory.open(), 1, 7);
    let found = acquire(&again, &who("me"), Lifetime::Persistent, Patience::Once).await;
    let Ok(Acquired { lease, how: Acquisition::Reentered, .. }) = found else {
        panic!("{case}: not found again: {found:?}")
    };
    lease.release().await.unwrap();
    again.settled().await;
    assert_eq!(leases(memory), [], "{case}");
}

/// One acquisition and release that meets `fault` at request `at`. `false` once the request was not reached.
async fn acquire_with(
    case: &str,
    fault: Fault,
    at: u64,
    lifetime: Lifetime,
    holds: bool,
    lag: bool,
    known: bool,
) -> bool {
    let memory = faulty(lag, at);
    let mut neighbour = Neighbour::new(&memory, holds).await;
    let store = memory.open();
    let mine = semaphore(&store, 1, at);
    if known {
        mine.set_number(Number { slots: NonZeroU32::MIN, version: 0 });
    }
    memory.fail(store.session_id(), at, fault);
    neighbour.let_go();
    let acquired = timeout(STUCK, acquire(&mine, &who("me"), lifetime, Patience::Forever)).await;
    let Ok(acquired) = acquired else { panic!("{case}: it waits for ever") };
    let over = store.session().borrow().is_over();
    let lasting;
    match acquired {
        Ok(Acquired { lease, how, .. }) => {
            assert_eq!(how, Acquisition::Fresh, "{case}");
            if !over {
                assert_eq!(leases(&memory), [lease.path().clone()], "{case}");
            }
            let released = lease.release().await;
            let over = store.session().borrow().is_over();
            assert!(released.is_ok() || (over && lifetime == Lifetime::Persistent), "{case}: {released:?}");
            lasting = released.is_err();
        }
        Err(AcquireError::SessionOver { .. }) => {
            assert!(over, "{case}");
            lasting = lifetime == Lifetime::Persistent;
        }
        Err(error) => panic!("{case}: {error:?}"),
    }
    neighbour.has_let_go().await;
    nothing_is_left(case, &memory, &store, &mine, lasting).await;
    neighbour.finds_the_slot_free(case).await;
    memory.requests(store.session_id()) > at
}

#[tokio::test(start_paused = true)]
async fn every_fault_at_every_request_of_an_acquisition_and_a_release() {
    let mut runs = 0;
    for lifetime in [Lifetime::Ephemeral, Lifetime::Persistent] {
        for (holds, lag, known) in
            [(false, false, true), (false, true, true), (true, false, true), (true, true, true), (true, true, false)]
        {
            for fault in faults() {
                let mut at = 0;
                loop {
                    let case = format!("{lifetime:?} holds={holds} lag={lag} known={known} {fault:?} at request {at}");
                    if !acquire_with(&case, fault, at, lifetime, holds, lag, known).await {
                        break;
                    }
                    at += 1;
                    runs += 1;
                    assert!(at < 200, "{case}: it asks for ever");
                }
                assert!(at >= 6, "a run has at least six requests");
            }
        }
    }
    println!("{runs} runs, each with its own fault");
}

#[tokio::test(start_paused = true)]
async fn cancelled_at_every_await_with_every_fault_nothing_is_left() {
    let mut runs = 0;
    let mut kinds: Vec<Option<Fault>> = faults().into_iter().map(Some).collect();
    kinds.push(None);
    for lifetime in [Lifetime::Ephemeral, Lifetime::Persistent] {
        for (holds, lag) in [(false, false), (true, true)] {
            for fault in &kinds {
                for at in 0..12 {
                    for polls in 0.. {
                        let case = format!("{lifetime:?} holds={holds} lag={lag} {fault:?} at {at}, {polls} polls");
                        let memory = faulty(lag, at);
                        let mut neighbour = Neighbour::new(&memory, holds).await;
                        let store = memory.open();
                        let mine = semaphore(&store, 1, at);
                        if let Some(fault) = fault {
                            memory.fail(store.session_id(), at, *fault);
                        }
                        neighbour.let_go();
                        let name = who("me");
                        let acquiring = poll_at_most(polls, acquire(&mine, &name, lifetime, Patience::Forever));
                        let done = timeout(STUCK, acquiring).await.unwrap_or_else(|_| panic!("{case}: stuck"));
                        let finished = done.is_some();
                        if let Some(Ok(acquired)) = done {
                            // The release is cancelled too, after its first poll.
                            poll_at_most(1, acquired.lease.release()).await;
                        }
                        timeout(STUCK, mine.settled()).await.unwrap_or_else(|_| panic!("{case}: clean-up stuck"));
                        let over = store.session().borrow().is_over();
                        let lasting = over && lifetime == Lifetime::Persistent;
                        neighbour.has_let_go().await;
                        nothing_is_left(&case, &memory, &store, &mine, lasting).await;
                        neighbour.finds_the_slot_free(&case).await;
                        runs += 1;
                        if finished {
                            break;
                        }
                        assert!(polls < 500, "{case}: it is polled for ever");
                    }
                    if fault.is_none() {
                        break;
                    }
                }
            }
        }
    }
    println!("{runs} runs, each cancelled at its own await");
}

#[tokio::test(start_paused = true)]
async fn every_fault_and_cancellation_of_a_take_over() {
    let mut runs = 0;
    for fault in faults() {
        for at in 0..6 {
            for polls in (0..).map(|polls| if polls > 40 { usize::MAX } else { polls }) {
                let case = format!("{fault:?} at {at}, {polls} polls");
                let memory = faulty(true, at);
                let neighbour = Neighbour::new(&memory, true).await;
                let fence = neighbour.held.as_ref().unwrap().fence();
                let store = memory.open();
                let mine = semaphore(&store, 1, at);
                memory.fail(store.session_id(), at, fault);
                let name = who("me");
                let breaking = [fence];
                let forcing = poll_at_most(polls, force(&mine, &name, Lifetime::Ephemeral, &breaking, &alone));
                let done = timeout(STUCK, forcing).await.unwrap_or_else(|_| panic!("{case}: stuck"));
                assert!(leases(&memory).len() <= 1, "{case}");
                let finished = done.is_some();
                if let Some(Ok(lease)) = done {
                    assert!(lease.fence() > fence);
                    lease.release().await.unwrap();
                }
                timeout(STUCK, mine.settled()).await.unwrap_or_else(|_| panic!("{case}: clean-up stuck"));
                drop(neighbour.held);
                neighbour.semaphore.settled().await;
                nothing_is_left(&case, &memory, &store, &mine, false).await;
                runs += 1;
                if finished || polls == usize::MAX {
                    break;
                }
            }
        }
    }
    println!("{runs} runs");
}

#[tokio::test(start_paused = true)]
async fn every_fault_of_an_unlock() {
    for fault in faults() {
        for at in 0..12 {
            let case = format!("{fault:?} at {at}");
            let memory = faulty(true, at);
            let ground = memory.open();
            let both = semaphore(&ground, 2, 99);
            take(&both, "me", Lifetime::Persistent).await.forget();
            take(&both, "other", Lifetime::Persistent).await.forget();
            // What it did not see would not be its fault.
            tokio::time::sleep(Duration::from_secs(1)).await;
            let store = memory.open();
            memory.fail(store.session_id(), at, fault);
            let unlocked = timeout(STUCK, semaphore(&store, 2, at).unlock(&who("me"))).await;
            match unlocked.unwrap_or_else(|_| panic!("{case}: stuck")) {
                Ok(unlocked) => {
                    assert_eq!((unlocked.released, unlocked.left.len()), (1, 1), "{case}");
                    assert_eq!(leases(&memory).len(), 1, "{case}");
                }
                Err(error) => {
                    assert!(store.session().borrow().is_over(), "{case}: {error}");
                    assert!(!leases(&memory).is_empty(), "{case}");
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_fault_and_cancellation_of_a_membership() {
    let mut runs = 0;
    for fault in faults() {
        for at in 0..10 {
            for polls in 0..40 {
                let case = format!("{fault:?} at {at}, {polls} polls");
                let memory = faulty(true, at);
                let store = memory.open();
                let party = Party::seeded(Arc::clone(&store) as Arc<dyn Store>, path("/party/it"), at);
                memory.fail(store.session_id(), at, fault);
                let name = who("me");
                let joining = poll_at_most(polls, party.join(&name, MemberKind::Shallow));
                let done = timeout(STUCK, joining).await.unwrap_or_else(|_| panic!("{case}: stuck"));
                let finished = done.is_some();
                if let Some(Ok(membership)) = done {
                    if !membership.is_lost() {
                        assert_eq!(children(&memory, "/party/it"), [membership.path().clone()], "{case}");
                    }
                    membership.leave().await.unwrap_or_else(|error| panic!("{case}: {error}"));
                }
                timeout(STUCK, party.settled()).await.unwrap_or_else(|_| panic!("{case}: clean-up stuck"));
                if store.session().borrow().is_over() {
                    tokio::time::sleep(store.session_timeout()).await;
                }
                assert_eq!(children(&memory, "/party/it"), [], "{case}");
                runs += 1;
                if finished {
                    break;
                }
            }
        }
    }
    println!("{runs} runs");
}

#[tokio::test(start_paused = true)]
async fn many_more_callers_than_slots_keep_the_slots_busy() {
    const CALLERS: u32 = 64;
    const WORK: Duration = Duration::from_millis(5);
    let memory =
        Memory::new(MemoryOptions { round_trip: Duration::from_millis(2), history: false, ..MemoryOptions::default() });
    let begun = Instant::now();
    let end = begun + Duration::from_secs(5);
    let callers: Vec<_> = (0..CALLERS)
        .map(|caller| {
            let store = memory.open();
            let semaphore = semaphore(&store, 8, u64::from(caller));
            tokio::spawn(async move {
                let mut done = 0;
                while Instant::now() < end {
                    let lease = take(&semaphore, "c", Lifetime::Ephemeral).await;
                    let uneven = Duration::from_millis(u64::from((caller * 7 + done) % 3));
                    tokio::time::sleep(WORK - Duration::from_millis(1) + uneven).await;
                    lease.release().await.unwrap();
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut served = 0;
    for caller in callers {
        served += caller.await.unwrap();
    }
    let per_second = f64::from(served) / begun.elapsed().as_secs_f64();
    let busy = per_second * WORK.as_secs_f64();
    println!("{per_second:.0} acquisitions a second, {busy:.1} of 8 slots at work");
    // Time is virtual: this counts flights, not this machine. One caller after the other, as kazoo has it, comes to 78.
    assert!(per_second >= 500.0, "{per_second:.0} acquisitions a second");
}
