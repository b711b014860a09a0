//! A store that kills or stops its own process at a chosen write, as `kill -9` and `kill -STOP` do, but at a defined
//! place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lockkeeper_coordination::store::{
    Clock, Made, Node, NodeKind, NodePath, Op, Reply, SessionId, SessionState, Stat, Store, Version, Watch,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;

/// Where the process dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Nowhere.
    Never,
    /// Before its nth write is sent, from 1.
    Before(u64),
    /// When its nth write was answered, before the caller receives the answer: between the write and what follows.
    After(u64),
    /// At its nth write it is only stopped, until a signal continues it.
    Stop(u64),
    /// When its nth write of an orchestration's call was answered, before the guest receives the answer.
    Call(u64),
}

impl std::str::FromStr for Crash {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        Ok(match text.split_once(':') {
            Some(("before", number)) => Self::Before(number.parse()?),
            Some(("after", number)) => Self::After(number.parse()?),
            Some(("stop", number)) => Self::Stop(number.parse()?),
            Some(("call", number)) => Self::Call(number.parse()?),
            _ => Self::Never,
        })
    }
}

/// Wraps a store and adds a crash.
#[derive(Debug)]
pub struct Crashing {
    inner: Arc<dyn Store>,
    crash: Crash,
    writes: Arc<AtomicU64>,
    calls: Arc<AtomicU64>,
}

impl Crashing {
    /// Dies at `crash`.
    #[must_use]
    pub fn new(inner: Arc<dyn Store>, crash: Crash) -> Self {
        Self { inner, crash, writes: Arc::default(), calls: Arc::default() }
    }

    /// Counts all writes.
    #[must_use]
    pub fn writes(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.writes)
    }

    /// Counts the writes of orchestration calls.
    #[must_use]
    pub fn calls(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.calls)
    }

    fn write<T: Send + 'static>(&self, send: impl FnOnce() -> Reply<T>) -> Reply<T> {
        let number = self.writes.fetch_add(1, Ordering::SeqCst) + 1;
        if self.crash == Crash::Before(number) {
            die();
        }
        let reply = send();
        let crash = self.crash;
        if crash != Crash::After(number) && crash != Crash::Stop(number) {
            return reply;
        }
        Box::pin(async move {
            let answer = reply.await;
            if crash == Crash::After(number) {
                die();
            }
            // Returns when a signal continues the process.
            let _ = kill(Pid::this(), Signal::SIGSTOP);
            answer
        })
    }
}

fn die() -> ! {
    let _ = kill(Pid::this(), Signal::SIGKILL);
    // The signal takes effect before the call returns; if it ever does not, nothing else may happen.
    loop {
        std::thread::park();
    }
}

impl Store for Crashing {
    fn create(&self, path: &NodePath, data: Bytes, kind: NodeKind) -> Reply<NodePath> {
        self.write(|| self.inner.create(path, data, kind))
    }

    fn delete(&self, path: &NodePath, version: Version) -> Reply<()> {
        self.write(|| self.inner.delete(path, version))
    }

    fn set(&self, path: &NodePath, data: Bytes, version: Version) -> Reply<Stat> {
        self.write(|| self.inner.set(path, data, version))
    }

    fn multi(&self, ops: Vec<Op>) -> Reply<Vec<Made>> {
        let is_call = |op: &Op| match op {
            Op::Create { path, .. } | Op::Set { path, .. } => path.as_str().contains("/calls"),
            _ => false,
        };
        let call = if ops.iter().any(is_call) { self.calls.fetch_add(1, Ordering::SeqCst) + 1 } else { 0 };
        let reply = self.write(|| self.inner.multi(ops));
        match self.crash {
            Crash::Call(number) if number == call => Box::pin(async move {
                let _ = reply.await;
                die()
            }),
            _ => reply,
        }
    }

    fn read(&self, path: &NodePath) -> Reply<Node> {
        self.inner.read(path)
    }

    fn read_and_watch(&self, path: &NodePath) -> Reply<(Node, Watch)> {
        self.inner.read_and_watch(path)
    }

    fn stat(&self, path: &NodePath) -> Reply<Option<Stat>> {
        self.inner.stat(path)
    }

    fn stat_and_watch(&self, path: &NodePath) -> Reply<(Option<Stat>, Watch)> {
        self.inner.stat_and_watch(path)
    }

    fn children(&self, path: &NodePath) -> Reply<Vec<String>> {
        self.inner.children(path)
    }

    fn children_and_watch(&self, path: &NodePath) -> Reply<(Vec<String>, Watch)> {
        self.inner.children_and_watch(path)
    }

    fn sync(&self, path: &NodePath) -> Reply<()> {
        self.inner.sync(path)
    }

    fn session_id(&self) -> SessionId {
        self.inner.session_id()
    }

    fn session_timeout(&self) -> Duration {
        self.inner.session_timeout()
    }

    fn safe_until(&self) -> Instant {
        self.inner.safe_until()
    }

    fn session(&self) -> tokio::sync::watch::Receiver<SessionState> {
        self.inner.session()
    }

    fn clock(&self) -> Clock {
        self.inner.clock()
    }

    fn close(&self) -> Reply<()> {
        self.inner.close()
    }
}
