use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::{Chaos, Effect, Fault, Memory, MemoryOptions};
use crate::store::{Made, NodeKind, NodePath, Op, SessionState, Store, StoreError, Version, WatchEvent};

const OUTAGE: Duration = Duration::from_millis(50);

fn path(text: &str) -> NodePath {
    NodePath::parse(text).unwrap()
}

fn create(path: &NodePath, kind: NodeKind) -> Op {
    Op::Create { path: path.clone(), data: Bytes::new(), kind }
}

fn delete(path: &NodePath) -> Op {
    Op::Delete { path: path.clone(), version: Version::Any }
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_session_are_done_and_answered_in_the_order_of_their_calls() {
    let memory = Memory::new(MemoryOptions { round_trip: Duration::from_millis(10), ..MemoryOptions::default() });
    let store = memory.open();
    let begun = Instant::now();
    let made = store.create(&path("/a"), Bytes::new(), NodeKind::Persistent);
    let read = store.stat(&path("/a"));
    let below = store.create(&path("/a/s-"), Bytes::new(), NodeKind::EphemeralSequential);
    let (read, below, made) = (read.await.unwrap(), below.await.unwrap(), made.await.unwrap());
    assert_eq!(begun.elapsed(), Duration::from_millis(10), "three requests, one round trip");
    assert_eq!((made, below), (path("/a"), path("/a/s-0000000000")));
    assert_eq!(read.unwrap().children, 0);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_that_fails_leaves_no_trace() {
    let memory = Memory::new(MemoryOptions::default());
    let store = memory.open();
    let (a, b) = (path("/a"), path("/b"));
    store.create(&a, Bytes::from_static(b"1"), NodeKind::Persistent).await.unwrap();
    let before = memory.snapshot();
    let ops = vec![
        Op::Set { path: a.clone(), data: Bytes::from_static(b"2"), version: Version::Exactly(0) },
        create(&path("/a/x-"), NodeKind::PersistentSequential),
        delete(&path("/a/x-0000000000")),
        delete(&a),
        delete(&b),
    ];
    let error = store.multi(ops).await.unwrap_err();
    let StoreError::Multi { index: 4, source } = error else { panic!("{error}") };
    assert_eq!(*source, StoreError::NoNode { path: b });
    assert_eq!(memory.snapshot(), before);
    let made = store.multi(vec![create(&path("/a/x-"), NodeKind::PersistentSequential)]).await.unwrap();
    assert_eq!(made, [Made::Created(path("/a/x-0000000000"))], "the counter was taken back too");
    assert_eq!(memory.history().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_takes_with_it_what_is_on_its_way_and_tells_writes_from_reads() {
    for (fault, happened) in
        [(Fault::LostBefore { outage: OUTAGE }, false), (Fault::LostAfter { outage: OUTAGE }, true)]
    {
        let memory = Memory::new(MemoryOptions::default());
        let store = memory.open();
        let mut state = store.session();
        memory.fail(store.session_id(), 0, fault);
        let begun = Instant::now();
        let first = store.create(&path("/a"), Bytes::new(), NodeKind::Persistent);
        let second = store.create(&path("/b"), Bytes::new(), NodeKind::Persistent);
        let third = store.stat(&path("/a"));
        assert_eq!(first.await, Err(StoreError::Ambiguous { path: path("/a") }));
        assert_eq!(second.await, Err(StoreError::Ambiguous { path: path("/b") }));
        assert!(matches!(third.await, Err(StoreError::Unavailable { .. })));
        assert_eq!(*state.borrow(), SessionState::Suspended);
        assert_eq!(memory.snapshot().contains_key(&path("/a")), happened);
        assert!(!memory.snapshot().contains_key(&path("/b")));
        assert_eq!(store.stat(&path("/a")).await.unwrap().is_some(), happened, "it waits for the connection");
        assert_eq!(begun.elapsed(), OUTAGE);
        assert!(state.wait_for(|state| *state == SessionState::Connected).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_store_did_nothing_and_stays_connected() {
    let memory = Memory::new(MemoryOptions::default());
    let store = memory.open();
    memory.fail(store.session_id(), 0, Fault::Unreachable);
    let answer = store.create(&path("/a"), Bytes::new(), NodeKind::Persistent).await;
    assert!(matches!(answer, Err(StoreError::Unavailable { .. })));
    assert_eq!(*store.session().borrow(), SessionState::Connected);
    assert!(memory.snapshot().is_empty());
}

#[tokio::test(start_paused = true)]
async fn expiry_is_told_before_the_nodes_go() {
    for (fault, happened) in [(Fault::ExpireBefore, false), (Fault::ExpireAfter, true)] {
        let memory = Memory::new(MemoryOptions::default());
        let store = memory.open();
        let other = memory.open();
        let a = path("/a");
        store.create(&a, Bytes::new(), NodeKind::Ephemeral).await.unwrap();
        let (_, mut watch) = store.stat_and_watch(&a).await.unwrap();
        let (_, mut seen) = other.stat_and_watch(&a).await.unwrap();
        memory.fail(store.session_id(), 2, fault);
        let answer = store.create(&path("/b"), Bytes::new(), NodeKind::Persistent).await;
        assert_eq!(answer, Err(StoreError::Ambiguous { path: path("/b") }));
        assert_eq!(*store.session().borrow(), SessionState::Expired);
        assert_eq!(watch.fired().await, WatchEvent::SessionOver);
        assert!(memory.snapshot().contains_key(&a), "not yet given away");
        assert_eq!(memory.snapshot().contains_key(&path("/b")), happened);
        assert_eq!(store.stat(&a).await, Err(StoreError::SessionOver));
        assert_eq!(seen.fired().await, WatchEvent::Deleted);
        assert!(!memory.snapshot().contains_key(&a));
        assert_eq!(store.close().await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_nearly_the_session_timeout_ends_the_session() {
    let memory = Memory::new(MemoryOptions::default());
    let store = memory.open();
    store.create(&path("/a"), Bytes::new(), NodeKind::Ephemeral).await.unwrap();
    let begun = Instant::now();
    memory.cut(store.session_id(), Duration::from_secs(60));
    assert!(store.session().wait_for(|state| *state == SessionState::Expired).await.is_ok());
    assert_eq!(begun.elapsed(), Duration::from_secs(9));
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(memory.snapshot().is_empty());
}

#[tokio::test(start_paused = true)]
async fn late_and_delayed_requests_keep_their_order() {
    for fault in [Fault::Late(OUTAGE), Fault::Delay(OUTAGE), Fault::Suspend(OUTAGE)] {
        let memory = Memory::new(MemoryOptions::default());
        let store = memory.open();
        memory.fail(store.session_id(), 0, fault);
        let begun = Instant::now();
        let first = store.create(&path("/a"), Bytes::new(), NodeKind::Persistent);
        let second = store.stat(&path("/a"));
        assert!(second.await.unwrap().is_some());
        assert_eq!(begun.elapsed(), OUTAGE, "{fault:?}");
        assert_eq!(futures::FutureExt::now_or_never(first), Some(Ok(path("/a"))), "answered before the second");
    }
}

#[tokio::test(start_paused = true)]
async fn closing_comes_behind_what_was_asked_and_takes_ephemeral_nodes_along() {
    let memory = Memory::new(MemoryOptions::default());
    let store = memory.open();
    let made = store.create(&path("/a"), Bytes::new(), NodeKind::Ephemeral);
    let kept = store.create(&path("/b"), Bytes::new(), NodeKind::Persistent);
    store.close().await.unwrap();
    assert!(made.await.is_ok() && kept.await.is_ok());
    assert_eq!(memory.snapshot().into_keys().collect::<Vec<_>>(), [path("/b")]);
    assert_eq!(*store.session().borrow(), SessionState::Closed);
    assert_eq!(store.read(&path("/b")).await, Err(StoreError::SessionOver));
    store.close().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_dropped_session_is_closed() {
    let memory = Memory::new(MemoryOptions::default());
    let other = memory.open();
    let store = memory.open();
    store.create(&path("/a"), Bytes::new(), NodeKind::Ephemeral).await.unwrap();
    let (_, mut watch) = other.stat_and_watch(&path("/a")).await.unwrap();
    drop(store);
    assert_eq!(watch.fired().await, WatchEvent::Deleted);
}

#[tokio::test(start_paused = true)]
async fn a_mark_before_a_deletion_is_what_a_watch_sees() {
    let memory = Memory::new(MemoryOptions::default());
    let store: Arc<dyn Store> = memory.open();
    let a = path("/a");
    store.create(&a, Bytes::new(), NodeKind::Persistent).await.unwrap();
    let (_, mut watch) = store.read_and_watch(&a).await.unwrap();
    let mark = Op::Set { path: a.clone(), data: Bytes::new(), version: Version::Exactly(0) };
    store.multi(vec![mark, Op::Delete { path: a, version: Version::Exactly(1) }]).await.unwrap();
    assert_eq!(watch.fired().await, WatchEvent::Changed);
}

#[tokio::test(start_paused = true)]
async fn a_lagging_session_sees_its_own_writes_and_everything_after_sync() {
    let lag = Duration::from_secs(1);
    let mut behind = 0;
    for seed in 0..50 {
        let memory = Memory::new(MemoryOptions { lag, chaos: Some(Chaos::none(seed)), ..MemoryOptions::default() });
        let (one, two) = (memory.open(), memory.open());
        let (a, b) = (path("/a"), path("/b"));
        one.create(&a, Bytes::new(), NodeKind::Persistent).await.unwrap();
        assert!(one.stat(&a).await.unwrap().is_some());
        behind += u32::from(two.stat(&a).await.unwrap().is_none());
        two.create(&b, Bytes::new(), NodeKind::Persistent).await.unwrap();
        assert!(two.stat(&a).await.unwrap().is_some(), "its own write is later, so it has seen the other's");
        let (_, mut watch) = one.stat_and_watch(&path("/c")).await.unwrap();
        two.create(&path("/c"), Bytes::new(), NodeKind::Persistent).await.unwrap();
        one.sync(&b).await.unwrap();
        assert!(one.stat(&path("/c")).await.unwrap().is_some());
        assert_eq!(watch.fired().await, WatchEvent::Created);
    }
    assert!(behind > 0, "no read was ever behind");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_on_a_lagging_session_is_found_by_sync_alone() {
    let lag = Duration::from_secs(5);
    let mut missed = 0;
    for seed in 0..20 {
        let memory = Memory::new(MemoryOptions { lag, chaos: Some(Chaos::none(seed)), ..MemoryOptions::default() });
        let store = memory.open();
        memory.fail(store.session_id(), 0, Fault::LostAfter { outage: OUTAGE });
        let answer = store.create(&path("/a"), Bytes::new(), NodeKind::Ephemeral).await;
        assert!(matches!(answer, Err(StoreError::Ambiguous { .. })));
        missed += u32::from(store.stat(&path("/a")).await.unwrap().is_none());
        store.sync(&path("/a")).await.unwrap();
        assert!(store.stat(&path("/a")).await.unwrap().is_some());
    }
    assert!(missed > 0, "a plain read always saw it");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_gives_the_same_run() {
    async fn run(seed: u64) -> Vec<(u64, Vec<Effect>)> {
        let chaos = Chaos::all(seed, 0.05, Duration::from_millis(100));
        let memory = Memory::new(MemoryOptions { chaos: Some(chaos), ..MemoryOptions::default() });
        let stores = [memory.open(), memory.open()];
        for round in 0..200 {
            for store in &stores {
                // What fails is part of the run that is compared.
                let _ = store.create(&path(&format!("/n{round}")), Bytes::new(), NodeKind::Ephemeral).await;
            }
        }
        memory.history().into_iter().map(|change| (change.at_ms, change.effects)).collect()
    }
    assert_eq!(run(7).await, run(7).await);
    assert_ne!(run(7).await, run(8).await);
}
