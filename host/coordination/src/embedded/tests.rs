//! The promises of the trait, and what is the embedded store's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Embedded, EmbeddedOptions};
use crate::store::conformance::Subject;
use crate::store::{Connect, NodeKind, NodePath, Reply, SessionState, Store, StoreError, Version, WatchEvent};

/// A store in a folder that goes with it.
struct OnAFile {
    connector: Arc<Embedded>,
    folder: TempDir,
}

impl OnAFile {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let connector = Arc::new(Embedded::new(folder.path().join("new/store.db"), options()));
        Self { connector, folder }
    }

    async fn session(&self) -> Arc<dyn Store> {
        self.connector.connect().await.unwrap()
    }

    /// The file, looked at from outside.
    fn outside(&self) -> Connection {
        let connection = Connection::open(self.connector.path()).unwrap();
        connection.busy_timeout(Duration::from_secs(30)).unwrap();
        connection
    }
}

impl Subject for OnAFile {
    fn connector(&self) -> Arc<dyn Connect> {
        Arc::clone(&self.connector) as Arc<dyn Connect>
    }

    fn silence(&self, session: &dyn Store) -> Reply<()> {
        self.connector.silence(session.session_id());
        Box::pin(async { Ok(()) })
    }
}

mod promises {
    use super::OnAFile;

    crate::conformance_tests!(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        OnAFile::new()
    );
}

fn options() -> EmbeddedOptions {
    EmbeddedOptions { session_timeout: Duration::from_secs(2) }
}

fn path(text: &str) -> NodePath {
    NodePath::parse(text).unwrap()
}

async fn refusal(path: &Path) -> String {
    Embedded::new(path, options()).connect().await.unwrap_err().to_string()
}

async fn ended(store: &dyn Store) -> SessionState {
    let mut session = store.session();
    let ended = tokio::time::timeout(Duration::from_secs(60), session.wait_for(|state| state.is_over())).await;
    *ended.expect("the session ends").expect("the store is held")
}

#[tokio::test]
async fn the_file_and_its_folder_are_their_owners_alone() {
    let store = OnAFile::new();
    let session = store.session().await;
    session.create(&path("/a"), Bytes::new(), NodeKind::Persistent).await.unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&store.folder.path().join("new")), 0o700);
    for file in fs::read_dir(store.folder.path().join("new")).unwrap() {
        let file = file.unwrap();
        let expected = if file.file_type().unwrap().is_dir() { 0o700 } else { 0o600 };
        assert_eq!(mode(&file.path()), expected, "{file:?}");
    }
    session.close().await.unwrap();
}

#[tokio::test]
async fn what_was_answered_is_found_by_the_next_who_opens_the_file() {
    let store = OnAFile::new();
    let session = store.session().await;
    session.create(&path("/a"), Bytes::from_static(b"kept"), NodeKind::Persistent).await.unwrap();
    session.create(&path("/b"), Bytes::new(), NodeKind::Ephemeral).await.unwrap();
    let last = session.stat(&path("/b")).await.unwrap().unwrap().czxid;
    session.close().await.unwrap();
    drop(session);
    let OnAFile { connector, folder } = store;
    drop(connector);
    let again = Embedded::new(folder.path().join("new/store.db"), options()).connect().await.unwrap();
    assert_eq!(again.read(&path("/a")).await.unwrap().data, Bytes::from_static(b"kept"));
    assert_eq!(again.stat(&path("/b")).await, Ok(None));
    again.create(&path("/c"), Bytes::new(), NodeKind::Persistent).await.unwrap();
    assert!(again.stat(&path("/c")).await.unwrap().unwrap().czxid > last);
    again.close().await.unwrap();
}

#[tokio::test]
async fn a_file_that_is_no_store_is_refused_by_name() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("text"), "This is no database, and long enough for SQLite to see that at once.".repeat(20)).unwrap();
    assert!(refusal(&at("text")).await.contains("text` is not a SQLite database"));

    Connection::open(at("foreign")).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
    assert!(refusal(&at("foreign")).await.contains("foreign` is a database of some other program"));

    Embedded::new(at("newer"), options()).connect().await.unwrap().close().await.unwrap();
    Connection::open(at("newer")).unwrap().pragma_update(None, "user_version", 7).unwrap();
    let said = refusal(&at("newer")).await;
    assert!(said.contains("newer` was made by a newer Lockkeeper (version 7"), "{said}");

    assert!(refusal(folder.path()).await.contains("is not a file"));
    let said = refusal(&at("text/below/store.db")).await;
    assert!(said.contains("cannot make the folder of") && said.contains("text/below/store.db"), "{said}");
}

#[tokio::test]
async fn a_file_deleted_in_use_is_an_error_that_names_it() {
    let store = OnAFile::new();
    let session = store.session().await;
    session.create(&path("/a"), Bytes::new(), NodeKind::Persistent).await.unwrap();
    let (_, mut watch) = session.read_and_watch(&path("/a")).await.unwrap();
    fs::remove_dir_all(store.folder.path().join("new")).unwrap();
    for reply in [session.read(&path("/a")).await.map(|_| ()), session.delete(&path("/a"), Version::Any).await] {
        let Err(StoreError::Broken { reason }) = reply else { panic!("{reply:?}") };
        assert!(reason.ends_with("store.db` was deleted while it was in use"), "{reason}");
    }
    // A new session is on a new file, and the old one does not mistake that for its own.
    let other = store.session().await;
    assert_eq!(other.stat(&path("/a")).await, Ok(None));
    other.create(&path("/a"), Bytes::new(), NodeKind::Persistent).await.unwrap();
    let reply = session.set(&path("/a"), Bytes::new(), Version::Any).await;
    assert!(matches!(&reply, Err(StoreError::Broken { reason }) if reason.contains("replaced")), "{reply:?}");
    assert_eq!(ended(session.as_ref()).await, SessionState::Expired);
    assert_eq!(watch.fired().await, WatchEvent::SessionOver);
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_session_whose_row_is_gone_is_over() {
    let store = OnAFile::new();
    let (idle, busy) = (store.session().await, store.session().await);
    store.outside().execute("DELETE FROM sessions", []).unwrap();
    let reply = busy.create(&path("/a"), Bytes::new(), NodeKind::Ephemeral).await;
    assert_eq!(reply, Err(StoreError::SessionOver));
    assert_eq!(*busy.session().borrow(), SessionState::Expired);
    // The other learns it with its next heart-beat.
    assert_eq!(ended(idle.as_ref()).await, SessionState::Expired);
}

#[tokio::test]
async fn sessions_from_before_a_reboot_are_over() {
    let store = OnAFile::new();
    let lease_task = store.session().await;
    let far = i64::MAX / 2;
    let outside = store.outside();
    for (id, boot_clock, expires) in [(1, "another boot", far), (2, crate::store::boot_clock::id().as_str(), far)] {
        outside.execute("INSERT INTO sessions VALUES (?1, 1, ?2, 1000, ?3, 0)", (id, boot_clock, expires)).unwrap();
        let name = format!("n{id}");
        let node = "INSERT INTO nodes VALUES (?1, 0, ?2, ?1, 0, 0, 0, ?3, 0, 0, x'')";
        outside.execute(node, (1000 + id, name, id)).unwrap();
        outside.execute("UPDATE nodes SET children = children + 1 WHERE id = 0", []).unwrap();
    }
    drop(outside);
    let mut watches = Vec::new();
    for name in ["/n1", "/n2"] {
        let (stat, watch) = lease_task.stat_and_watch(&path(name)).await.unwrap();
        if stat.is_some() {
            watches.push(watch);
        }
    }
    for mut watch in watches {
        let event = tokio::time::timeout(Duration::from_secs(60), watch.fired()).await.expect("the node goes");
        assert_eq!(event, WatchEvent::Deleted);
    }
    assert_eq!(lease_task.children(&NodePath::root()).await, Ok(Vec::new()));
    lease_task.close().await.unwrap();
}

/// Somebody else holds the file for longer than a session can be silent: nothing is written late.
#[tokio::test]
async fn a_session_ends_in_time_while_the_file_is_locked() {
    let store = OnAFile::new();
    let session = store.session().await;
    let mut states = session.session();
    let mut outside = store.outside();
    let held = outside.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let refused = session.create(&path("/late"), Bytes::new(), NodeKind::Persistent);
    let suspended = tokio::time::timeout(Duration::from_secs(60), states.wait_for(|s| *s != SessionState::Connected));
    suspended.await.expect("the session's state changes").unwrap();
    assert_eq!(ended(session.as_ref()).await, SessionState::Expired);
    assert_eq!(refused.await, Err(StoreError::SessionOver));
    drop(held);
    let other = store.session().await;
    assert_eq!(other.stat(&path("/late")).await, Ok(None));
    other.close().await.unwrap();
}

#[tokio::test]
async fn a_dropped_session_is_closed() {
    let store = OnAFile::new();
    let (gone, other) = (store.session().await, store.session().await);
    gone.create(&path("/a"), Bytes::new(), NodeKind::Ephemeral).await.unwrap();
    let (_, mut watch) = other.stat_and_watch(&path("/a")).await.unwrap();
    drop(gone);
    assert_eq!(watch.fired().await, WatchEvent::Deleted);
    let left: i64 = store.outside().query_row("SELECT count(*) FROM sessions", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 1);
    other.close().await.unwrap();
}

/// A full disk is an error that says so, and the session goes on when there is room again.
#[tokio::test]
async fn a_full_disk_is_said_and_survived() {
    let store = OnAFile::new();
    let session = store.session().await;
    // SQLite's own limit gives the error that a full disk gives.
    let pages: i64 = store.outside().pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
    store.connector.limit_pages(pages + 20);
    let data = Bytes::from(vec![b'x'; 1_000_000]);
    let reply = session.create(&path("/big"), data.clone(), NodeKind::Persistent).await;
    let Err(StoreError::Unavailable { reason }) = &reply else { panic!("{reply:?}") };
    assert!(reason.contains("store.db`: the disk is full"), "{reason}");
    assert_eq!(session.stat(&path("/big")).await, Ok(None));
    session.create(&path("/small"), Bytes::new(), NodeKind::Persistent).await.unwrap();
    store.connector.limit_pages(pages + 10_000);
    session.create(&path("/big"), data, NodeKind::Persistent).await.unwrap();
    session.close().await.unwrap();
}
