//! Every promise of the [`super::Store`] trait as a test that any backend can run.
//!
//! Each case is a function named as what it claims, and [`crate::conformance_tests!`] makes one test of each. A case works
//! below a node of its own, with a name that nobody else has, so that it can run on a server that others use; it assumes
//! nothing of how far apart two change numbers lie. That something does *not* happen is shown without waiting for it: a
//! watch that must not have fired for one change is seen to fire for a later one of another kind.
//!
//! Panicking is how a case says that a promise is broken. Nothing here is used by the program itself.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::{join_all, try_join_all};
use uuid::Uuid;

use super::{
    Connect, MAX_DATA_BYTES, Made, NodeKind, NodePath, Op, Reply, SessionState, Store, StoreError, Version, Watch,
    WatchEvent, create_all,
};

/// How long a case waits for something that must happen. Only a broken promise takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// A backend under test.
pub trait Subject: Send + Sync + 'static {
    /// Opens sessions of one and the same store, however often it is called.
    fn connector(&self) -> Arc<dyn Connect>;

    /// Makes the store hear nothing of this session any more, as if its process had been stopped or cut off; its time-out
    /// runs from now on. Answered when that is so, not when the session is over.
    fn silence(&self, session: &dyn Store) -> Reply<()>;
}

/// What a case works with.
pub struct Bench {
    subject: Box<dyn Subject>,
    top: NodePath,
}

impl Debug for Bench {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bench").field("top", &self.top).finish_non_exhaustive()
    }
}

impl Bench {
    /// A new session.
    async fn session(&self) -> Arc<dyn Store> {
        soon("new session", self.subject.connector().connect()).await.expect("a session can be opened")
    }

    /// A path below the case's own node.
    fn path(&self, below: &str) -> NodePath {
        NodePath::parse(&format!("{}/{below}", self.top)).expect("cases use proper names")
    }
}

/// Runs one case on a node of its own, and takes that away afterwards.
///
/// # Panics
/// When the promise is broken.
pub async fn run<F, R>(subject: impl Subject, case: F)
where
    F: FnOnce(Arc<Bench>) -> R,
    R: Future<Output = ()>,
{
    let top = NodePath::parse(&format!("/conformance-{}", Uuid::new_v4().simple())).expect("the name is a proper one");
    let bench = Arc::new(Bench { subject: Box::new(subject), top: top.clone() });
    let lease_task = bench.session().await;
    create_all(lease_task.as_ref(), &top).await.expect("the case's own node can be made");
    case(Arc::clone(&bench)).await;
    clear(lease_task.as_ref(), &top).await;
    lease_task.close().await.expect("a session can be closed");
}

/// Deletes a node and all below it.
async fn clear(store: &dyn Store, top: &NodePath) {
    let (mut found, mut looked_at) = (vec![top.clone()], 0);
    while let Some(path) = found.get(looked_at).cloned() {
        looked_at += 1;
        found.extend(store.children(&path).await.unwrap_or_default().iter().map(|name| path.child(name)));
    }
    for path in found.into_iter().rev() {
        match store.delete(&path, Version::Any).await {
            Ok(()) | Err(StoreError::NoNode { .. }) => {}
            Err(error) => panic!("a case left `{path}` behind, which cannot be deleted: {error}"),
        }
    }
}

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(_) => panic!("waited {PATIENCE:?} in vain for: {what}"),
    }
}

async fn fires(what: &str, watch: &mut Watch, expected: WatchEvent) {
    assert_eq!(soon(what, watch.fired()).await, expected, "{what}");
}

async fn make(store: &dyn Store, path: &NodePath, data: &str, kind: NodeKind) -> NodePath {
    let data = Bytes::copy_from_slice(data.as_bytes());
    soon("create", store.create(path, data, kind)).await.unwrap_or_else(|error| panic!("create `{path}`: {error}"))
}

async fn ends(store: &dyn Store, state: SessionState) {
    let mut session = store.session();
    let last = soon("the session's end", session.wait_for(|state| state.is_over())).await;
    assert_eq!(*last.expect("a store that is held keeps its state"), state);
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn create(path: &NodePath, data: &str, kind: NodeKind) -> Op {
    Op::Create { path: path.clone(), data: bytes(data), kind }
}

fn set(path: &NodePath, data: &str, version: Version) -> Op {
    Op::Set { path: path.clone(), data: bytes(data), version }
}

fn delete(path: &NodePath, version: Version) -> Op {
    Op::Delete { path: path.clone(), version }
}

fn check(path: &NodePath, version: Version) -> Op {
    Op::Check { path: path.clone(), version }
}

fn no_node<T>(path: &NodePath) -> Result<T, StoreError> {
    Err(StoreError::NoNode { path: path.clone() })
}

fn refused_at<T>(index: usize, source: StoreError) -> Result<T, StoreError> {
    Err(StoreError::Multi { index, source: Box::new(source) })
}

/// Ten digits at the end of a sequential node's name.
fn sequence(path: &NodePath) -> u64 {
    let name = path.name();
    let digits = name.len().checked_sub(10).and_then(|at| name.get(at..)).unwrap_or_default();
    assert!(digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit()), "`{path}` does not end in ten digits");
    digits.parse().expect("ten digits are a number")
}

// Nodes.

/// What was created can be read, with a stat that says what it is.
pub async fn a_created_node_holds_its_data_and_stat(bench: Arc<Bench>) {
    let store = bench.session().await;
    let before = store.clock().now_ms();
    let path = bench.path("a");
    assert_eq!(make(store.as_ref(), &path, "data", NodeKind::Persistent).await, path);
    let node = store.read(&path).await.expect("the node is there");
    assert_eq!(node.data, bytes("data"));
    assert_eq!(store.stat(&path).await, Ok(Some(node.stat)));
    assert!(node.stat.czxid > 0);
    assert_eq!(node.stat.mzxid, node.stat.czxid);
    assert_eq!((node.stat.version, node.stat.children, node.stat.data_length), (0, 0, 4));
    assert_eq!(node.stat.ephemeral_owner, None);
    assert_eq!(node.stat.mtime_ms, node.stat.ctime_ms);
    // A server's clock need not be ours.
    assert!(node.stat.ctime_ms.abs_diff(before) < 3_600_000, "created at {}, now {before}", node.stat.ctime_ms);
    store.close().await.expect("closed");
}

/// A node may be empty, and any text that is a proper path may name one.
pub async fn a_node_may_be_empty_and_have_any_name(bench: Arc<Bench>) {
    let store = bench.session().await;
    for name in ["plain", "with space", "é-ü-漢", "x_%_*_'\"\\", "0000000000"] {
        let path = bench.path(name);
        make(store.as_ref(), &path, "", NodeKind::Persistent).await;
        assert_eq!(store.read(&path).await.expect("the node is there").data, Bytes::new());
    }
    assert_eq!(store.children(&bench.top).await.expect("listed").len(), 5);
    assert!(store.stat(&NodePath::root()).await.expect("the root is there").is_some());
    store.close().await.expect("closed");
}

/// A parent is not made along with its child.
pub async fn a_node_needs_its_parent(bench: Arc<Bench>) {
    let store = bench.session().await;
    let reply = store.create(&bench.path("parent/child"), Bytes::new(), NodeKind::Persistent).await;
    assert_eq!(reply, no_node(&bench.path("parent")));
    assert_eq!(store.stat(&bench.path("parent")).await, Ok(None));
    store.close().await.expect("closed");
}

/// The second to create a node is told so, and changes nothing.
pub async fn a_node_is_created_once(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let path = bench.path("a");
    make(one.as_ref(), &path, "first", NodeKind::Persistent).await;
    let reply = other.create(&path, bytes("second"), NodeKind::Ephemeral).await;
    assert_eq!(reply, Err(StoreError::NodeExists { path: path.clone() }));
    assert_eq!(one.read(&path).await.expect("the node is there").data, bytes("first"));
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

/// Each set counts one version up and takes a later change number; the creation stays what it was.
pub async fn a_set_counts_versions(bench: Arc<Bench>) {
    let store = bench.session().await;
    let path = bench.path("a");
    make(store.as_ref(), &path, "zero", NodeKind::Persistent).await;
    let created = store.read(&path).await.expect("the node is there").stat;
    let first = store.set(&path, bytes("one"), Version::Exactly(0)).await.expect("version 0 is there");
    let second = store.set(&path, bytes("second"), Version::Any).await.expect("any version is there");
    assert_eq!((first.version, second.version), (1, 2));
    assert!(created.mzxid < first.mzxid && first.mzxid < second.mzxid);
    assert_eq!((second.czxid, second.ctime_ms), (created.czxid, created.ctime_ms));
    assert!(second.mtime_ms >= created.mtime_ms);
    let node = store.read(&path).await.expect("the node is there");
    assert_eq!((node.data, node.stat), (bytes("second"), second));
    assert_eq!(second.data_length, 6);
    store.close().await.expect("closed");
}

/// A set or delete for another version than the one that is there changes nothing.
pub async fn another_version_is_refused(bench: Arc<Bench>) {
    let store = bench.session().await;
    let path = bench.path("a");
    make(store.as_ref(), &path, "data", NodeKind::Persistent).await;
    let before = store.read(&path).await.expect("the node is there");
    for wrong in [1, 7] {
        let refused = StoreError::BadVersion { path: path.clone() };
        assert_eq!(store.set(&path, bytes("x"), Version::Exactly(wrong)).await, Err(refused.clone()));
        assert_eq!(store.delete(&path, Version::Exactly(wrong)).await, Err(refused));
    }
    assert_eq!(store.read(&path).await, Ok(before));
    store.set(&path, bytes("x"), Version::Exactly(0)).await.expect("version 0 is there");
    assert_eq!(store.delete(&path, Version::Exactly(0)).await, Err(StoreError::BadVersion { path: path.clone() }));
    assert_eq!(store.delete(&path, Version::Exactly(1)).await, Ok(()));
    assert_eq!(store.stat(&path).await, Ok(None));
    store.close().await.expect("closed");
}

/// A node that is not there has no data, no children, and cannot be set or deleted; asking for its stat is no error.
pub async fn what_is_not_there_is_said_to_be_missing(bench: Arc<Bench>) {
    let store = bench.session().await;
    let path = bench.path("nothing/here");
    assert_eq!(store.read(&path).await, no_node(&path));
    assert_eq!(store.children(&path).await, no_node(&path));
    assert_eq!(store.set(&path, Bytes::new(), Version::Any).await, no_node(&path));
    assert_eq!(store.delete(&path, Version::Any).await, no_node(&path));
    assert_eq!(store.read_and_watch(&path).await.map(|_| ()), no_node(&path));
    assert_eq!(store.children_and_watch(&path).await.map(|_| ()), no_node(&path));
    assert_eq!(store.stat(&path).await, Ok(None));
    store.close().await.expect("closed");
}

/// A node goes after its children.
pub async fn a_node_with_children_is_not_deleted(bench: Arc<Bench>) {
    let store = bench.session().await;
    let (parent, child) = (bench.path("a"), bench.path("a/b"));
    make(store.as_ref(), &parent, "", NodeKind::Persistent).await;
    make(store.as_ref(), &child, "", NodeKind::Persistent).await;
    assert_eq!(store.delete(&parent, Version::Any).await, Err(StoreError::NotEmpty { path: parent.clone() }));
    assert_eq!(store.delete(&child, Version::Any).await, Ok(()));
    assert_eq!(store.delete(&parent, Version::Any).await, Ok(()));
    store.close().await.expect("closed");
}

/// Nothing stands on a node that may vanish.
pub async fn an_ephemeral_node_has_no_children(bench: Arc<Bench>) {
    let store = bench.session().await;
    let (parent, child) = (bench.path("a"), bench.path("a/b"));
    make(store.as_ref(), &parent, "", NodeKind::Ephemeral).await;
    for kind in [NodeKind::Persistent, NodeKind::Ephemeral, NodeKind::PersistentSequential] {
        let reply = store.create(&child, Bytes::new(), kind).await;
        assert!(matches!(reply, Err(StoreError::ParentEphemeral { .. })), "{reply:?}");
    }
    assert_eq!(store.children(&parent).await, Ok(Vec::new()));
    store.close().await.expect("closed");
}

/// [`MAX_DATA_BYTES`] fit, one more does not, in a request and in a multi alike.
pub async fn too_much_data_is_refused(bench: Arc<Bench>) {
    let store = bench.session().await;
    let (path, full) = (bench.path("a"), Bytes::from(vec![b'x'; MAX_DATA_BYTES]));
    let over = Bytes::from(vec![b'x'; MAX_DATA_BYTES + 1]);
    let refused = StoreError::TooLarge { path: path.clone(), bytes: MAX_DATA_BYTES + 1 };
    assert_eq!(store.create(&path, over.clone(), NodeKind::Persistent).await, Err(refused.clone()));
    assert_eq!(store.stat(&path).await, Ok(None));
    store.create(&path, full.clone(), NodeKind::Persistent).await.expect("the most that is allowed is allowed");
    assert_eq!(store.read(&path).await.expect("the node is there").data, full);
    assert_eq!(store.set(&path, over.clone(), Version::Any).await, Err(refused.clone()));
    let ops = vec![check(&path, Version::Any), Op::Set { path: path.clone(), data: over, version: Version::Any }];
    assert_eq!(store.multi(ops).await, refused_at(1, refused));
    assert_eq!(store.stat(&path).await.expect("the node is there").map(|stat| stat.version), Some(0));
    store.close().await.expect("closed");
}

/// The store appends ten digits from the parent's counter, which all kinds share and deletion does not turn back.
pub async fn sequential_names_grow_and_are_never_used_again(bench: Arc<Bench>) {
    let store = bench.session().await;
    let mut last = None;
    for kind in [NodeKind::PersistentSequential, NodeKind::EphemeralSequential, NodeKind::PersistentSequential] {
        for prefix in ["a-", "b", "c__lock__"] {
            let asked = bench.path(prefix);
            let path = make(store.as_ref(), &asked, prefix, kind).await;
            assert!(path.as_str().starts_with(asked.as_str()), "`{path}` for `{asked}`");
            assert_eq!(store.read(&path).await.expect("the node is there").data, bytes(prefix));
            let number = sequence(&path);
            assert!(last.is_none_or(|last| last < number), "`{path}` after number {last:?}");
            last = Some(number);
            store.delete(&path, Version::Any).await.expect("the node is there");
        }
    }
    store.close().await.expect("closed");
}

/// However many create at once, no sequential name is given twice, and each is greater than those answered before.
pub async fn sequential_names_are_given_once(bench: Arc<Bench>) {
    let mut sessions = Vec::new();
    for _ in 0..4 {
        sessions.push(bench.session().await);
    }
    let prefix = bench.path("n-");
    let made = join_all(sessions.iter().map(|store| {
        try_join_all((0..25).map(|_| store.create(&prefix, Bytes::new(), NodeKind::PersistentSequential)))
    }));
    let mut all = Vec::new();
    for made in soon("a hundred nodes", made).await {
        let numbers: Vec<u64> = made.expect("created").iter().map(sequence).collect();
        assert!(numbers.is_sorted(), "one session's in the order of its calls: {numbers:?}");
        all.extend(numbers);
    }
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 100);
    for store in sessions {
        store.close().await.expect("closed");
    }
}

/// Each node has a creation number of its own, later nodes a larger one, and a node made again is another node.
pub async fn creation_numbers_are_unique_and_grow(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let mut last = 0;
    for round in 0..6 {
        let (store, path) = (if round % 2 == 0 { &one } else { &other }, bench.path("again"));
        make(store.as_ref(), &path, "", NodeKind::Persistent).await;
        let stat = store.stat(&path).await.expect("asked").expect("the node is there");
        assert!(stat.czxid > last, "{} after {last}", stat.czxid);
        assert_eq!(stat.version, 0);
        let changed = store.set(&path, bytes("x"), Version::Any).await.expect("the node is there");
        assert!(changed.mzxid > stat.czxid);
        store.delete(&path, Version::Exactly(1)).await.expect("the node is there");
        last = changed.mzxid;
    }
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

/// Children are listed sorted and by name only; grandchildren are not among them, nor does a child change its parent.
pub async fn children_are_sorted(bench: Arc<Bench>) {
    let store = bench.session().await;
    let parent = bench.path("p");
    make(store.as_ref(), &parent, "", NodeKind::Persistent).await;
    make(store.as_ref(), &bench.path("p-neighbour"), "", NodeKind::Persistent).await;
    let before = store.stat(&parent).await.expect("asked").expect("the node is there");
    for name in ["b", "a", "c", "B", "a0", "b-c"] {
        make(store.as_ref(), &parent.child(name), "", NodeKind::Persistent).await;
    }
    make(store.as_ref(), &bench.path("p/a/grandchild"), "", NodeKind::Ephemeral).await;
    let children = store.children(&parent).await.expect("the node is there");
    assert_eq!(children, ["B", "a", "a0", "b", "b-c", "c"]);
    let stat = store.stat(&parent).await.expect("asked").expect("the node is there");
    assert_eq!(stat.children, 6);
    assert_eq!((stat.version, stat.mzxid), (before.version, before.mzxid));
    store.delete(&parent.child("b"), Version::Any).await.expect("the node is there");
    assert_eq!(store.stat(&parent).await.expect("asked").expect("the node is there").children, 5);
    store.close().await.expect("closed");
}

/// Concurrent writers who each name the version that they read lose nothing.
pub async fn versioned_sets_lose_nothing(bench: Arc<Bench>) {
    const WRITERS: u32 = 4;
    const EACH: u32 = 10;
    let path = bench.path("counter");
    let lease_task = bench.session().await;
    make(lease_task.as_ref(), &path, "0", NodeKind::Persistent).await;
    let writers = join_all((0..WRITERS).map(async |_| {
        let store = bench.session().await;
        let mut done = 0;
        while done < EACH {
            let node = store.read(&path).await.expect("the node is there");
            let text = std::str::from_utf8(&node.data).expect("we wrote text");
            let next = text.parse::<u32>().expect("we wrote a number") + 1;
            match store.set(&path, bytes(&next.to_string()), Version::Exactly(node.stat.version)).await {
                Ok(_) => done += 1,
                Err(StoreError::BadVersion { .. }) => {}
                Err(error) => panic!("set: {error}"),
            }
        }
        store.close().await.expect("closed");
    }));
    soon("all writers", writers).await;
    lease_task.sync(&path).await.expect("synced");
    let node = lease_task.read(&path).await.expect("the node is there");
    assert_eq!(node.data, bytes(&(WRITERS * EACH).to_string()));
    lease_task.close().await.expect("closed");
}

// Order.

/// What was called earlier is seen by what was called later, though nothing was awaited in between.
pub async fn requests_take_effect_in_the_order_of_the_calls(bench: Arc<Bench>) {
    let store = bench.session().await;
    let path = bench.path("a");
    let missing = store.stat(&path);
    let created = store.create(&path, bytes("0"), NodeKind::Persistent);
    let child = store.create(&path.child("c-"), Bytes::new(), NodeKind::EphemeralSequential);
    let children = store.children(&path);
    let set = store.set(&path, bytes("1"), Version::Exactly(0));
    let read = store.read(&path);
    let both = store.multi(vec![set_op(&path), check(&path, Version::Exactly(2))]);
    let refused = store.delete(&path, Version::Any);
    let last = store.read(&path);
    // Awaited from the last to the first: the order of the polls is not the order of the requests.
    assert_eq!(soon("the last answer", last).await.expect("read").data, bytes("2"));
    assert_eq!(refused.await, Err(StoreError::NotEmpty { path: path.clone() }));
    assert!(both.await.is_ok());
    assert_eq!(read.await.expect("read").data, bytes("1"));
    assert_eq!(set.await.expect("set").version, 1);
    let child = child.await.expect("created");
    assert_eq!(children.await, Ok(vec![child.name().to_owned()]));
    assert_eq!(created.await, Ok(path));
    assert_eq!(missing.await, Ok(None));
    store.close().await.expect("closed");
}

fn set_op(path: &NodePath) -> Op {
    set(path, "2", Version::Exactly(1))
}

/// When the last of many requests was answered, the earlier ones are answered too.
pub async fn answers_come_in_the_order_of_the_calls(bench: Arc<Bench>) {
    let store = bench.session().await;
    let replies: Vec<_> =
        (0..200).map(|n| store.create(&bench.path(&format!("n{n:03}")), Bytes::new(), NodeKind::Persistent)).collect();
    let listed = soon("the list", store.children(&bench.top)).await.expect("listed");
    assert_eq!(listed.len(), 200);
    for (n, reply) in replies.into_iter().enumerate() {
        // Not by tokio's leave: it lets a task that found many answers ready wait for its next turn.
        let reply = tokio::task::unconstrained(reply)
            .now_or_never()
            .unwrap_or_else(|| panic!("request {n} is not answered, a later one was"));
        assert_eq!(reply, Ok(bench.path(&format!("n{n:03}"))));
    }
    store.close().await.expect("closed");
}

/// A request is on its way when it is called: neither polling nor keeping its reply matters.
pub async fn a_dropped_reply_takes_nothing_back(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let (kept, dropped) = (bench.path("kept"), bench.path("dropped"));
    let unpolled = one.create(&kept, Bytes::new(), NodeKind::Persistent);
    drop(one.create(&dropped, Bytes::new(), NodeKind::Persistent));
    soon("sync", one.sync(&kept)).await.expect("synced");
    soon("sync", other.sync(&kept)).await.expect("synced");
    assert!(other.stat(&kept).await.expect("asked").is_some());
    assert!(other.stat(&dropped).await.expect("asked").is_some());
    assert_eq!(unpolled.await, Ok(kept));
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

/// After a sync, a session sees what another had done before.
pub async fn a_sync_shows_what_others_did(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let path = bench.path("a");
    make(one.as_ref(), &path, "", NodeKind::Persistent).await;
    for round in 1..=20 {
        one.set(&path, bytes(&round.to_string()), Version::Any).await.expect("set");
        let (synced, read) = (other.sync(&path), other.read(&path));
        synced.await.expect("synced");
        assert_eq!(read.await.expect("the node is there").data, bytes(&round.to_string()));
    }
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

// Multi.

/// A multi does all of its operations, each seeing what the earlier ones did, and says what each did.
pub async fn a_multi_does_everything_in_order(bench: Arc<Bench>) {
    let store = bench.session().await;
    let (a, b, c) = (bench.path("a"), bench.path("a/b"), bench.path("c"));
    make(store.as_ref(), &c, "old", NodeKind::Persistent).await;
    let made = store
        .multi(vec![
            create(&a, "1", NodeKind::Persistent),
            create(&b, "2", NodeKind::Ephemeral),
            set(&a, "3", Version::Exactly(0)),
            check(&a, Version::Exactly(1)),
            create(&a.child("n-"), "4", NodeKind::PersistentSequential),
            create(&a.child("n-"), "5", NodeKind::EphemeralSequential),
            delete(&b, Version::Exactly(0)),
            delete(&c, Version::Any),
            create(&c, "new", NodeKind::Persistent),
        ])
        .await
        .expect("every operation can be done");
    let [
        Made::Created(made_a),
        Made::Created(made_b),
        Made::Set(stat),
        Made::Checked,
        Made::Created(first),
        Made::Created(second),
        Made::Deleted,
        Made::Deleted,
        Made::Created(made_c),
    ] = made.as_slice()
    else {
        panic!("each operation's answer in its place: {made:?}");
    };
    assert_eq!((made_a, made_b, made_c), (&a, &b, &c));
    assert_eq!((stat.version, stat.data_length), (1, 1));
    assert!(sequence(first) < sequence(second));
    assert_eq!(store.children(&a).await, Ok(vec![first.name().to_owned(), second.name().to_owned()]));
    assert_eq!(store.read(&a).await.expect("the node is there").data, bytes("3"));
    let again = store.read(&c).await.expect("the node is there");
    assert_eq!((again.data, again.stat.version), (bytes("new"), 0));
    assert_eq!(store.multi(Vec::new()).await, Ok(Vec::new()));
    store.close().await.expect("closed");
}

/// A multi of which one operation cannot be done does nothing, and says which and why.
pub async fn a_multi_does_nothing_when_one_operation_is_refused(bench: Arc<Bench>) {
    let store = bench.session().await;
    let (there, new, gone) = (bench.path("there"), bench.path("new"), bench.path("gone"));
    make(store.as_ref(), &there, "0", NodeKind::Persistent).await;
    make(store.as_ref(), &there.child("c"), "", NodeKind::Persistent).await;
    let before = store.read(&there).await.expect("the node is there");
    let refusals = [
        (create(&there, "", NodeKind::Persistent), StoreError::NodeExists { path: there.clone() }),
        (create(&gone.child("x"), "", NodeKind::Persistent), StoreError::NoNode { path: gone.clone() }),
        (set(&there, "2", Version::Exactly(0)), StoreError::BadVersion { path: there.clone() }),
        (set(&gone, "2", Version::Any), StoreError::NoNode { path: gone.clone() }),
        (delete(&there, Version::Any), StoreError::NotEmpty { path: there.clone() }),
        (delete(&there, Version::Exactly(7)), StoreError::BadVersion { path: there.clone() }),
        (delete(&gone, Version::Any), StoreError::NoNode { path: gone.clone() }),
        (check(&there, Version::Exactly(0)), StoreError::BadVersion { path: there.clone() }),
        (check(&gone, Version::Any), StoreError::NoNode { path: gone.clone() }),
    ];
    for (op, error) in refusals {
        let ops = vec![
            create(&new, "", NodeKind::Ephemeral),
            set(&there, "1", Version::Exactly(0)),
            delete(&there.child("c"), Version::Any),
            create(&there.child("c"), "", NodeKind::Persistent),
            op.clone(),
            delete(&new, Version::Any),
        ];
        assert_eq!(store.multi(ops).await, refused_at(4, error), "{op:?}");
        assert_eq!(store.stat(&new).await, Ok(None), "{op:?}");
        assert_eq!(store.read(&there).await, Ok(before.clone()), "{op:?}");
        assert_eq!(store.children(&there).await, Ok(vec![String::from("c")]), "{op:?}");
    }
    // The first that cannot be done is the one that is named.
    let both = vec![delete(&gone, Version::Any), delete(&there, Version::Any)];
    assert_eq!(store.multi(both).await, refused_at(0, StoreError::NoNode { path: gone }));
    store.close().await.expect("closed");
}

/// A refused multi is as good as none for those who watch; one that is done is seen operation by operation.
pub async fn a_multi_fires_watches_only_when_it_is_done(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let (a, b) = (bench.path("a"), bench.path("b"));
    make(one.as_ref(), &a, "", NodeKind::Persistent).await;
    let (_, mut data) = other.read_and_watch(&a).await.expect("the node is there");
    let (_, mut made) = other.stat_and_watch(&b).await.expect("asked");
    let (_, mut children) = other.children_and_watch(&a).await.expect("the node is there");
    let refused = one
        .multi(vec![
            set(&a, "x", Version::Any),
            create(&a.child("c"), "", NodeKind::Persistent),
            create(&b, "", NodeKind::Persistent),
            check(&a, Version::Exactly(0)),
        ])
        .await;
    assert!(matches!(refused, Err(StoreError::Multi { index: 3, .. })), "{refused:?}");
    // Had the refused one fired a watch, it would have been with `Changed` and `ChildrenChanged`.
    one.multi(vec![delete(&a, Version::Exactly(0)), create(&b, "", NodeKind::Persistent)]).await.expect("done");
    fires("the data watch", &mut data, WatchEvent::Deleted).await;
    fires("the watch for a new node", &mut made, WatchEvent::Created).await;
    fires("the watch on children", &mut children, WatchEvent::Deleted).await;
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

// Watches.

/// Each of the two ways to watch data sees a set and a deletion, whoever makes them; children do not matter to it.
pub async fn a_data_watch_sees_sets_and_deletion(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let path = bench.path("a");
    for writer in [&one, &other] {
        make(writer.as_ref(), &path, "", NodeKind::Persistent).await;
        one.sync(&path).await.expect("synced");
        let (_, mut read) = one.read_and_watch(&path).await.expect("the node is there");
        let (_, mut stat) = one.stat_and_watch(&path).await.expect("asked");
        make(writer.as_ref(), &path.child("c"), "", NodeKind::Persistent).await;
        writer.delete(&path.child("c"), Version::Any).await.expect("deleted");
        writer.set(&path, bytes("x"), Version::Any).await.expect("set");
        fires("a set", &mut read, WatchEvent::Changed).await;
        fires("a set", &mut stat, WatchEvent::Changed).await;
        let (_, mut read) = one.read_and_watch(&path).await.expect("the node is there");
        let (_, mut stat) = one.stat_and_watch(&path).await.expect("asked");
        writer.delete(&path, Version::Any).await.expect("deleted");
        fires("a deletion", &mut read, WatchEvent::Deleted).await;
        fires("a deletion", &mut stat, WatchEvent::Deleted).await;
    }
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

/// Who asked for the stat of a node that is not there sees it being created, by whomever.
pub async fn a_stat_watch_sees_a_creation(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    for (name, writer) in [("a", &one), ("b", &other)] {
        let path = bench.path(name);
        let (stat, mut watch) = one.stat_and_watch(&path).await.expect("asked");
        assert_eq!(stat, None);
        make(writer.as_ref(), &path, "", NodeKind::Ephemeral).await;
        fires("a creation", &mut watch, WatchEvent::Created).await;
    }
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

/// A watch on children sees one come, one go, and the node itself go, but no data changing anywhere.
pub async fn a_child_watch_sees_children_come_and_go(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let (path, child) = (bench.path("a"), bench.path("a/c"));
    for writer in [&one, &other] {
        make(writer.as_ref(), &path, "", NodeKind::Persistent).await;
        one.sync(&path).await.expect("synced");
        let (_, mut watch) = one.children_and_watch(&path).await.expect("the node is there");
        make(writer.as_ref(), &child, "", NodeKind::Persistent).await;
        fires("a new child", &mut watch, WatchEvent::ChildrenChanged).await;
        let (_, mut watch) = one.children_and_watch(&path).await.expect("the node is there");
        writer.delete(&child, Version::Any).await.expect("deleted");
        fires("a deleted child", &mut watch, WatchEvent::ChildrenChanged).await;
        // Neither a set here nor one below is about children: had it fired, it would not say `Deleted` now.
        make(writer.as_ref(), &child, "", NodeKind::Persistent).await;
        make(writer.as_ref(), &child.child("grandchild"), "", NodeKind::Persistent).await;
        one.sync(&path).await.expect("synced");
        let (_, mut watch) = one.children_and_watch(&child).await.expect("the node is there");
        writer.set(&path, bytes("x"), Version::Any).await.expect("set");
        writer.set(&child, bytes("x"), Version::Any).await.expect("set");
        writer.set(&child.child("grandchild"), bytes("x"), Version::Any).await.expect("set");
        one.sync(&path).await.expect("synced");
        assert_eq!(watch.fired().now_or_never(), None);
        writer
            .multi(vec![delete(&child.child("grandchild"), Version::Any), delete(&child, Version::Any)])
            .await
            .expect("deleted");
        fires("a deleted grandchild", &mut watch, WatchEvent::ChildrenChanged).await;
        one.sync(&path).await.expect("synced");
        let (_, mut watch) = one.children_and_watch(&path).await.expect("the node is there");
        writer.delete(&path, Version::Any).await.expect("deleted");
        fires("the node's deletion", &mut watch, WatchEvent::Deleted).await;
    }
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

/// A watch is for what happens after the read that set it. What another session had done before, and this one had read,
/// does not fire it.
pub async fn a_watch_never_fires_for_an_earlier_change(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    for round in 0..20 {
        let path = bench.path(&format!("a{round}"));
        let writer = if round % 2 == 0 { &one } else { &other };
        make(writer.as_ref(), &path, "", NodeKind::Persistent).await;
        writer.set(&path, bytes("x"), Version::Any).await.expect("set");
        make(writer.as_ref(), &path.child("c"), "", NodeKind::Persistent).await;
        let synced = one.sync(&path);
        let (read, stat, children) =
            (one.read_and_watch(&path), one.stat_and_watch(&path), one.children_and_watch(&path));
        synced.await.expect("synced");
        let (_, mut read) = read.await.expect("the node is there");
        let (_, mut stat) = stat.await.expect("asked");
        let (names, mut children) = children.await.expect("the node is there");
        assert_eq!(names, ["c"]);
        for watch in [&mut read, &mut stat, &mut children] {
            assert_eq!(watch.fired().now_or_never(), None);
        }
        writer.multi(vec![delete(&path.child("c"), Version::Any), delete(&path, Version::Any)]).await.expect("done");
        fires("a deletion", &mut read, WatchEvent::Deleted).await;
        fires("a deletion", &mut stat, WatchEvent::Deleted).await;
        fires("a child's deletion", &mut children, WatchEvent::ChildrenChanged).await;
    }
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

/// A watch fires for the first change after it was set, however soon the next follows: a node that was deleted and made
/// again at once was deleted.
pub async fn a_watch_fires_for_the_first_of_many_changes(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let (there, absent) = (bench.path("there"), bench.path("absent"));
    make(one.as_ref(), &there, "", NodeKind::Persistent).await;
    for round in 0..20 {
        let writer = if round % 2 == 0 { &one } else { &other };
        one.sync(&there).await.expect("synced");
        let (_, mut read) = one.read_and_watch(&there).await.expect("the node is there");
        let (_, mut stat) = one.stat_and_watch(&there).await.expect("asked");
        let (_, mut made) = one.stat_and_watch(&absent).await.expect("asked");
        let replies = [
            writer.multi(vec![delete(&there, Version::Any), create(&there, "", NodeKind::Persistent)]),
            writer.multi(vec![set(&there, "x", Version::Any)]),
            writer.multi(vec![create(&absent, "", NodeKind::Persistent)]),
            writer.multi(vec![delete(&absent, Version::Any)]),
        ];
        for reply in join_all(replies).await {
            reply.expect("done");
        }
        fires("a deletion", &mut read, WatchEvent::Deleted).await;
        fires("a deletion", &mut stat, WatchEvent::Deleted).await;
        fires("a creation", &mut made, WatchEvent::Created).await;
    }
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

/// A watch fires once: what it is asked for afterwards says only that it is over.
pub async fn a_watch_fires_once(bench: Arc<Bench>) {
    let store = bench.session().await;
    let path = bench.path("a");
    make(store.as_ref(), &path, "", NodeKind::Persistent).await;
    let (_, mut watch) = store.read_and_watch(&path).await.expect("the node is there");
    for n in 0..3 {
        store.set(&path, bytes(&n.to_string()), Version::Any).await.expect("set");
    }
    store.delete(&path, Version::Any).await.expect("deleted");
    fires("the first set", &mut watch, WatchEvent::Changed).await;
    assert_eq!(watch.fired().now_or_never(), Some(WatchEvent::SessionOver));
    store.close().await.expect("closed");
}

/// Every watch on a node fires, not one of them; one that was dropped is missed by nobody.
pub async fn all_watches_on_a_node_fire(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let path = bench.path("a");
    make(one.as_ref(), &path, "", NodeKind::Persistent).await;
    other.sync(&path).await.expect("synced");
    let mut watches = Vec::new();
    for n in 0..40 {
        let store = if n % 2 == 0 { &one } else { &other };
        let (_, watch) = store.read_and_watch(&path).await.expect("the node is there");
        if n % 4 != 0 {
            watches.push(watch);
        }
    }
    one.set(&path, bytes("x"), Version::Any).await.expect("set");
    assert_eq!(watches.len(), 30);
    for watch in &mut watches {
        fires("a set", watch, WatchEvent::Changed).await;
    }
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

/// When a session ends, by its own will or not, its watches end too.
pub async fn a_watch_ends_with_its_session(bench: Arc<Bench>) {
    let path = bench.path("a");
    let lease_task = bench.session().await;
    make(lease_task.as_ref(), &path, "", NodeKind::Persistent).await;
    for silent in [false, true] {
        let store = bench.session().await;
        store.sync(&path).await.expect("synced");
        let (_, mut read) = store.read_and_watch(&path).await.expect("the node is there");
        let (_, mut stat) = store.stat_and_watch(&bench.path("none")).await.expect("asked");
        let (_, mut children) = store.children_and_watch(&path).await.expect("the node is there");
        if silent {
            bench.subject.silence(store.as_ref()).await.expect("silenced");
        } else {
            store.close().await.expect("closed");
        }
        for watch in [&mut read, &mut stat, &mut children] {
            fires("the session's end", watch, WatchEvent::SessionOver).await;
        }
        assert!(store.session().borrow().is_over());
    }
    lease_task.close().await.expect("closed");
}

// Sessions.

/// A session has a number of its own, which what it creates carries, and starts connected.
pub async fn a_session_owns_its_ephemeral_nodes(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    assert_ne!(one.session_id(), other.session_id());
    assert!(one.session_id().0 != 0 && other.session_id().0 != 0);
    assert!(one.session_timeout() > Duration::ZERO);
    for (store, name) in [(&one, "one"), (&other, "other")] {
        assert_eq!(*store.session().borrow(), SessionState::Connected);
        let path = bench.path(name);
        make(store.as_ref(), &path, "", NodeKind::Ephemeral).await;
        let path = make(store.as_ref(), &path, "", NodeKind::EphemeralSequential).await;
        let stat = store.stat(&path).await.expect("asked").expect("the node is there");
        assert_eq!(stat.ephemeral_owner, Some(store.session_id()));
    }
    one.close().await.expect("closed");
    other.close().await.expect("closed");
}

/// Closing takes a session's ephemeral nodes away, and only those, and others' watches fire.
pub async fn a_closed_session_leaves_no_ephemeral_node(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let (gone, kept, foreign) = (bench.path("gone"), bench.path("kept"), bench.path("foreign"));
    make(one.as_ref(), &gone, "", NodeKind::Ephemeral).await;
    make(one.as_ref(), &kept, "", NodeKind::Persistent).await;
    make(other.as_ref(), &foreign, "", NodeKind::Ephemeral).await;
    let many =
        try_join_all((0..20).map(|_| one.create(&kept.child("n-"), Bytes::new(), NodeKind::EphemeralSequential)));
    many.await.expect("created");
    other.sync(&gone).await.expect("synced");
    let (_, mut stat) = other.stat_and_watch(&gone).await.expect("asked");
    let (names, mut children) = other.children_and_watch(&kept).await.expect("the node is there");
    assert_eq!(names.len(), 20);
    soon("close", one.close()).await.expect("closed");
    fires("the node's end", &mut stat, WatchEvent::Deleted).await;
    fires("the children's end", &mut children, WatchEvent::ChildrenChanged).await;
    other.sync(&gone).await.expect("synced");
    assert_eq!(other.stat(&gone).await, Ok(None));
    assert_eq!(other.children(&kept).await, Ok(Vec::new()));
    assert!(other.stat(&foreign).await.expect("asked").is_some());
    other.close().await.expect("closed");
}

/// A session that falls silent loses its ephemeral nodes, and only those, and others' watches fire.
pub async fn a_silent_session_loses_its_ephemeral_nodes(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let (gone, kept) = (bench.path("gone"), bench.path("kept"));
    make(one.as_ref(), &gone, "", NodeKind::Ephemeral).await;
    make(one.as_ref(), &kept, "", NodeKind::Persistent).await;
    other.sync(&gone).await.expect("synced");
    let (_, mut stat) = other.stat_and_watch(&gone).await.expect("asked");
    let (_, mut children) = other.children_and_watch(&bench.top).await.expect("the node is there");
    bench.subject.silence(one.as_ref()).await.expect("silenced");
    fires("the node's end", &mut stat, WatchEvent::Deleted).await;
    fires("the children's end", &mut children, WatchEvent::ChildrenChanged).await;
    assert_eq!(other.stat(&gone).await, Ok(None));
    assert!(other.stat(&kept).await.expect("asked").is_some());
    ends(one.as_ref(), SessionState::Expired).await;
    other.close().await.expect("closed");
}

/// A silent session knows that it is over before anybody can see its nodes gone.
pub async fn a_session_expires_before_its_nodes_go(bench: Arc<Bench>) {
    let (one, other) = (bench.session().await, bench.session().await);
    let path = bench.path("gone");
    make(one.as_ref(), &path, "", NodeKind::Ephemeral).await;
    other.sync(&path).await.expect("synced");
    let (stat, mut watch) = other.stat_and_watch(&path).await.expect("asked");
    assert!(stat.is_some());
    let state = one.session();
    bench.subject.silence(one.as_ref()).await.expect("silenced");
    fires("the node's end", &mut watch, WatchEvent::Deleted).await;
    assert_eq!(*state.borrow(), SessionState::Expired);
    other.close().await.expect("closed");
}

/// From `Connected` a silent session goes to `Expired`, perhaps over `Suspended`, and never back.
pub async fn the_end_of_a_session_is_final(bench: Arc<Bench>) {
    let silent = bench.session().await;
    let mut session = silent.session();
    assert_eq!(*session.borrow_and_update(), SessionState::Connected);
    bench.subject.silence(silent.as_ref()).await.expect("silenced");
    ends(silent.as_ref(), SessionState::Expired).await;
    soon("close", silent.close()).await.expect("closing an expired session is fine");
    assert_eq!(*silent.session().borrow(), SessionState::Expired);

    let closed = bench.session().await;
    soon("close", closed.close()).await.expect("closed");
    ends(closed.as_ref(), SessionState::Closed).await;
    assert_eq!(*closed.session().borrow(), SessionState::Closed);
}

/// Closing twice is fine, at once or later.
pub async fn a_session_can_be_closed_twice(bench: Arc<Bench>) {
    let store = bench.session().await;
    make(store.as_ref(), &bench.path("a"), "", NodeKind::Ephemeral).await;
    let (first, second) = (store.close(), store.close());
    assert_eq!(soon("close", first).await, Ok(()));
    assert_eq!(soon("close", second).await, Ok(()));
    assert_eq!(soon("close", store.close()).await, Ok(()));
}

/// What was called before the close is still done; what is asked of a session that is over is not.
pub async fn nothing_is_done_for_a_session_that_is_over(bench: Arc<Bench>) {
    let lease_task = bench.session().await;
    for silent in [false, true] {
        let store = bench.session().await;
        let (path, earlier) = (bench.path("a"), bench.path(if silent { "silent" } else { "closed" }));
        let made = store.create(&earlier, Bytes::new(), NodeKind::Persistent);
        if silent {
            assert_eq!(soon("create", made).await, Ok(earlier.clone()));
            bench.subject.silence(store.as_ref()).await.expect("silenced");
            ends(store.as_ref(), SessionState::Expired).await;
        } else {
            let closed = store.close();
            assert_eq!(soon("create", made).await, Ok(earlier.clone()));
            assert_eq!(soon("close", closed).await, Ok(()));
        }
        let over = StoreError::SessionOver;
        assert_eq!(store.create(&path, Bytes::new(), NodeKind::Persistent).await, Err(over.clone()));
        assert_eq!(store.delete(&earlier, Version::Any).await, Err(over.clone()));
        assert_eq!(store.set(&earlier, Bytes::new(), Version::Any).await, Err(over.clone()));
        assert_eq!(store.read(&earlier).await, Err(over.clone()));
        assert_eq!(store.read_and_watch(&earlier).await.map(|_| ()), Err(over.clone()));
        assert_eq!(store.stat(&earlier).await, Err(over.clone()));
        assert_eq!(store.stat_and_watch(&earlier).await.map(|_| ()), Err(over.clone()));
        assert_eq!(store.children(&earlier).await, Err(over.clone()));
        assert_eq!(store.children_and_watch(&earlier).await.map(|_| ()), Err(over.clone()));
        assert_eq!(store.multi(vec![check(&earlier, Version::Any)]).await, Err(over.clone()));
        assert_eq!(store.sync(&earlier).await, Err(over));
        lease_task.sync(&path).await.expect("synced");
        assert_eq!(lease_task.stat(&path).await, Ok(None));
        assert_eq!(lease_task.stat(&earlier).await.expect("asked").map(|stat| stat.version), Some(0));
    }
    lease_task.close().await.expect("closed");
}

/// Makes one test of each case of [`crate::store::conformance`].
///
/// Takes the attributes that each test shall carry, among them the one that makes it a test, and an expression that is
/// evaluated in each and gives a [`Subject`].
///
/// ```ignore
/// conformance_tests!(#[tokio::test(flavor = "multi_thread")] OnAFreshFile::new());
/// ```
#[macro_export]
macro_rules! conformance_tests {
    ($(#[$attribute:meta])+ $subject:expr) => {
        $crate::conformance_tests! {
            @each [$(#[$attribute])+] [$subject]
            a_created_node_holds_its_data_and_stat
            a_node_may_be_empty_and_have_any_name
            a_node_needs_its_parent
            a_node_is_created_once
            a_set_counts_versions
            another_version_is_refused
            what_is_not_there_is_said_to_be_missing
            a_node_with_children_is_not_deleted
            an_ephemeral_node_has_no_children
            too_much_data_is_refused
            sequential_names_grow_and_are_never_used_again
            sequential_names_are_given_once
            creation_numbers_are_unique_and_grow
            children_are_sorted
            versioned_sets_lose_nothing
            requests_take_effect_in_the_order_of_the_calls
            answers_come_in_the_order_of_the_calls
            a_dropped_reply_takes_nothing_back
            a_sync_shows_what_others_did
            a_multi_does_everything_in_order
            a_multi_does_nothing_when_one_operation_is_refused
            a_multi_fires_watches_only_when_it_is_done
            a_data_watch_sees_sets_and_deletion
            a_stat_watch_sees_a_creation
            a_child_watch_sees_children_come_and_go
            a_watch_never_fires_for_an_earlier_change
            a_watch_fires_for_the_first_of_many_changes
            a_watch_fires_once
            all_watches_on_a_node_fire
            a_watch_ends_with_its_session
            a_session_owns_its_ephemeral_nodes
            a_closed_session_leaves_no_ephemeral_node
            a_silent_session_loses_its_ephemeral_nodes
            a_session_expires_before_its_nodes_go
            the_end_of_a_session_is_final
            a_session_can_be_closed_twice
            nothing_is_done_for_a_session_that_is_over
        }
    };
    (@each $attributes:tt $subject:tt $($case:ident)+) => {
        $($crate::conformance_tests! { @one $attributes $subject $case })+
    };
    (@one [$(#[$attribute:meta])+] [$subject:expr] $case:ident) => {
        $(#[$attribute])+
        async fn $case() {
            $crate::store::conformance::run($subject, $crate::store::conformance::$case).await;
        }
    };
}
