//! The embedded store with several real processes on one file: killed, stopped, all at once.

#![expect(clippy::unwrap_used, reason = "a test ends where it finds something else than it expects")]

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use lockkeeper_coordination::embedded::{Embedded, EmbeddedOptions};
use lockkeeper_coordination::store::{Connect as _, NodeKind, NodePath, SessionState, Store, Version, WatchEvent};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long we wait for what must come. Only a failure takes so long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Session timeout of the processes whose sessions are meant to end.
const SHORT: Duration = Duration::from_secs(2);

/// Session timeout of the others, long enough for a busy machine.
const LONG: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited in vain for: {what}"))
}

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("store.db")
    }

    /// A session of this process.
    async fn session(&self) -> Arc<dyn Store> {
        let embedded = Embedded::new(self.file(), EmbeddedOptions { session_timeout: LONG });
        soon("a session", embedded.connect()).await.unwrap()
    }
}

/// Another process on the file. It is killed when it is dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts it without waiting for its session.
    fn spawn(folder: &Folder, timeout: Duration) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_store-process"))
            .arg(folder.file())
            .arg(timeout.as_millis().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let input = child.stdin.take().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, input, output }
    }

    async fn start(folder: &Folder, timeout: Duration) -> Self {
        let mut process = Self::spawn(folder, timeout);
        let answer = process.answer().await;
        assert!(answer.starts_with("connected "), "{answer}");
        process
    }

    async fn send(&mut self, line: &str) {
        self.input.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        self.input.flush().await.unwrap();
    }

    async fn answer(&mut self) -> String {
        soon("an answer", self.output.next_line()).await.unwrap().expect("the process lives")
    }

    async fn ask(&mut self, line: &str) -> String {
        self.send(line).await;
        self.answer().await
    }

    fn signal(&self, signal: Signal) {
        let id = self.child.id().expect("it was not waited for");
        kill(Pid::from_raw(i32::try_from(id).unwrap()), signal).unwrap();
    }
}

fn path(text: &str) -> NodePath {
    NodePath::parse(text).unwrap()
}

#[tokio::test]
async fn ten_processes_may_make_the_file_at_once() {
    let folder = Folder::new();
    let mut processes: Vec<_> = (0..10).map(|_| Process::spawn(&folder, LONG)).collect();
    let mut sessions = Vec::new();
    for (n, process) in processes.iter_mut().enumerate() {
        let answer = process.answer().await;
        sessions.push(answer.strip_prefix("connected ").unwrap_or_else(|| panic!("{answer}")).to_owned());
        assert_eq!(process.ask(&format!("create /n{n} persistent")).await, format!("/n{n}"));
    }
    sessions.sort_unstable();
    sessions.dedup();
    assert_eq!(sessions.len(), 10, "each session has a number of its own");
    let store = folder.session().await;
    assert_eq!(store.children(&NodePath::root()).await.unwrap().len(), 10);
    store.close().await.unwrap();
}

#[tokio::test]
async fn eight_processes_lose_no_increment() {
    const EACH: u32 = 50;
    let folder = Folder::new();
    let store = folder.session().await;
    store.create(&path("/counter"), Bytes::from_static(b"0"), NodeKind::Persistent).await.unwrap();
    let mut processes = Vec::new();
    for _ in 0..8 {
        processes.push(Process::start(&folder, LONG).await);
    }
    let started = Instant::now();
    for process in &mut processes {
        process.send(&format!("add /counter {EACH}")).await;
    }
    for process in &mut processes {
        assert_eq!(process.answer().await, "added");
    }
    println!("8 processes added {} in {:?}", 8 * EACH, started.elapsed());
    let node = store.read(&path("/counter")).await.unwrap();
    assert_eq!(node.data, Bytes::from((8 * EACH).to_string()));
    assert_eq!(node.stat.version, i32::try_from(8 * EACH).unwrap());
    store.close().await.unwrap();
}

#[tokio::test]
async fn the_ephemeral_nodes_of_a_killed_process_go() {
    let folder = Folder::new();
    let store = folder.session().await;
    let mut process = Process::start(&folder, SHORT).await;
    assert_eq!(process.ask("create /mine ephemeral").await, "/mine");
    assert_eq!(process.ask("create /kept persistent").await, "/kept");
    let (stat, mut watch) = store.stat_and_watch(&path("/mine")).await.unwrap();
    assert!(stat.is_some());
    let (_, mut children) = store.children_and_watch(&NodePath::root()).await.unwrap();
    // It watches the same nodes and must use little processor time while nothing happens.
    let mut idle = Process::start(&folder, LONG).await;
    assert_eq!(idle.ask("watch /mine").await, "watching");
    let micros: i64 = idle.ask("cpu").await.parse().unwrap();
    process.signal(Signal::SIGKILL);
    let killed = Instant::now();
    assert_eq!(soon("the node's end", watch.fired()).await, WatchEvent::Deleted);
    println!("gone {:?} after the kill, with a time-out of {SHORT:?}", killed.elapsed());
    assert_eq!(soon("the children's change", children.fired()).await, WatchEvent::ChildrenChanged);
    assert_eq!(idle.ask("fired").await, "Deleted");
    let micros = idle.ask("cpu").await.parse::<i64>().unwrap() - micros;
    println!("a process with a watch used {micros} us of processor time in {:?}", killed.elapsed());
    assert_eq!(store.stat(&path("/mine")).await, Ok(None));
    assert!(store.stat(&path("/kept")).await.unwrap().is_some());
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_stopped_process_that_wakes_after_its_session_cannot_write() {
    let folder = Folder::new();
    let store = folder.session().await;
    store.create(&path("/data"), Bytes::new(), NodeKind::Persistent).await.unwrap();
    let mut process = Process::start(&folder, SHORT).await;
    assert_eq!(process.ask("create /mine ephemeral").await, "/mine");
    assert_eq!(process.ask("watch /data").await, "watching");
    let (_, mut watch) = store.stat_and_watch(&path("/mine")).await.unwrap();
    loop {
        process.signal(Signal::SIGSTOP);
        // Stopped in the very middle of a heart-beat, it would hold the file locked: then it is let go and stopped again.
        let free = store.set(&path("/data"), Bytes::from_static(b"seen"), Version::Any);
        match tokio::time::timeout(SHORT / 2, free).await {
            Ok(reply) => break assert!(reply.is_ok(), "{reply:?}"),
            Err(_) => process.signal(Signal::SIGCONT),
        }
    }
    // Requested while it is stopped: it must not happen before the clock was checked.
    process.send("set /data late").await;
    process.send("create /late ephemeral").await;
    assert_eq!(soon("the node's end", watch.fired()).await, WatchEvent::Deleted);
    process.signal(Signal::SIGCONT);
    for _ in 0..2 {
        assert_eq!(process.answer().await, "error: the session with the store is over");
    }
    assert_eq!(process.ask("state").await, format!("{:?}", SessionState::Expired));
    store.sync(&path("/data")).await.unwrap();
    assert_eq!(store.read(&path("/data")).await.unwrap().data, Bytes::from_static(b"seen"));
    assert_eq!(store.stat(&path("/late")).await, Ok(None));
    // This process may start again, and so may any other.
    let mut next = Process::start(&folder, SHORT).await;
    assert_eq!(next.ask("create /mine ephemeral").await, "/mine");
    assert_eq!(next.ask("close").await, "closed");
    assert_eq!(store.stat(&path("/mine")).await, Ok(None));
    store.close().await.unwrap();
}

#[tokio::test]
async fn a_watch_fires_in_another_process() {
    const ROUNDS: u32 = 40;
    let folder = Folder::new();
    let store = folder.session().await;
    let mut process = Process::start(&folder, LONG).await;
    let node = path("/node");
    let mut latencies = Vec::new();
    for round in 0..ROUNDS {
        assert_eq!(process.ask("watch /node").await, "watching");
        process.send("fired").await;
        let event = match round % 3 {
            0 => {
                store.create(&node, Bytes::new(), NodeKind::Persistent).await.unwrap();
                "Created"
            }
            1 => {
                store.set(&node, Bytes::new(), Version::Any).await.unwrap();
                "Changed"
            }
            _ => {
                store.delete(&node, Version::Any).await.unwrap();
                "Deleted"
            }
        };
        let answered = Instant::now();
        assert_eq!(process.answer().await, event);
        latencies.push(answered.elapsed());
    }
    latencies.sort_unstable();
    let (median, worst) = (latencies[latencies.len() / 2], latencies[latencies.len() - 1]);
    println!("a watch in another process fires {median:?} after the write was answered (median), {worst:?} at worst");
    store.close().await.unwrap();
}

/// A node that is created and deleted between two checks of the other process is still noticed.
#[tokio::test]
async fn no_change_is_too_short_for_another_process() {
    let folder = Folder::new();
    let store = folder.session().await;
    let mut process = Process::start(&folder, LONG).await;
    let node = path("/node");
    for _ in 0..10 {
        assert_eq!(process.ask("watch /node").await, "watching");
        let (created, deleted) =
            (store.create(&node, Bytes::new(), NodeKind::Persistent), store.delete(&node, Version::Any));
        created.await.unwrap();
        deleted.await.unwrap();
        assert_eq!(process.ask("fired").await, "Created");
        store.create(&node, Bytes::new(), NodeKind::Persistent).await.unwrap();
        assert_eq!(process.ask("watch /node").await, "watching");
        let (deleted, created) =
            (store.delete(&node, Version::Any), store.create(&node, Bytes::new(), NodeKind::Persistent));
        deleted.await.unwrap();
        created.await.unwrap();
        assert_eq!(process.ask("fired").await, "Deleted");
        store.delete(&node, Version::Any).await.unwrap();
    }
    store.close().await.unwrap();
}
