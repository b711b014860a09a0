//! A session as its user sees it: every request is a message to the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use super::engine::{Answer, Engine, Request, Work};
use crate::store::session_liveness::SessionLiveness;
use crate::store::{
    Clock, Made, Node, NodeKind, NodePath, Op, Reply, SessionId, SessionState, Stat, Store, StoreError, Version, Watch,
};

/// What the engine and the guard know of a session, and its user may ask.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: SessionId,
    pub(super) timeout: Duration,
    session_liveness: SessionLiveness,
    /// No more heart-beats, as if the process were stopped: for tests.
    silent: AtomicBool,
}

impl Shared {
    pub(super) fn new(id: SessionId, timeout: Duration, heard_ms: u64) -> Self {
        // A tenth is left before anybody else may take the session's nodes away.
        let session_liveness = SessionLiveness::new(timeout, timeout - timeout / 10, timeout, heard_ms);
        Self { id, timeout, session_liveness, silent: AtomicBool::new(false) }
    }

    pub(super) fn timeout_ms(&self) -> u64 {
        self.session_liveness.timeout_ms()
    }

    /// When the next heart-beat is due.
    pub(super) fn beat_at_ms(&self) -> u64 {
        match self.silent.load(Ordering::Relaxed) {
            true => u64::MAX,
            false => self.session_liveness.heard_ms().saturating_add(self.timeout_ms() / 5),
        }
    }

    /// A heart-beat of that moment is in the file.
    pub(super) fn heard(&self, at_ms: u64) {
        self.session_liveness.heard(at_ms);
        self.turn(SessionState::Connected);
    }

    pub(super) fn look_at_clock(&self) -> bool {
        self.session_liveness.look_at_clock()
    }

    pub(super) fn is_over(&self) -> bool {
        self.session_liveness.is_over()
    }

    pub(super) fn turn(&self, state: SessionState) {
        self.session_liveness.turn(state);
    }

    #[cfg(test)]
    pub(super) fn silence(&self) {
        self.silent.store(true, Ordering::Relaxed);
    }
}

/// One session. Dropping it closes it, without anybody waiting for that.
#[derive(Debug)]
pub(super) struct Session {
    engine: Arc<Engine>,
    shared: Arc<Shared>,
}

impl Session {
    pub(super) fn new(engine: Arc<Engine>, shared: Arc<Shared>) -> Self {
        Self { engine, shared }
    }

    /// Sends a request now, and gives the future of its answer, which `pick` takes the expected part from.
    fn ask<T: 'static>(&self, work: Work, pick: fn(Answer) -> Option<T>) -> Reply<T> {
        let (reply, answer) = oneshot::channel();
        let lost = work.lost();
        let sent = self.engine.send(Request::Do { session: Arc::clone(&self.shared), work, reply });
        Box::pin(async move {
            sent?;
            let answer = answer.await.unwrap_or(Err(lost))?;
            pick(answer).ok_or_else(|| StoreError::Broken { reason: String::from("an answer to another question") })
        })
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.shared.is_over() {
            drop(self.close());
        }
    }
}

impl Store for Session {
    fn create(&self, path: &NodePath, data: Bytes, kind: NodeKind) -> Reply<NodePath> {
        self.ask(Work::One(Op::Create { path: path.clone(), data, kind }), |answer| match answer {
            Answer::One(Made::Created(path)) => Some(path),
            _ => None,
        })
    }

    fn delete(&self, path: &NodePath, version: Version) -> Reply<()> {
        self.ask(Work::One(Op::Delete { path: path.clone(), version }), |answer| match answer {
            Answer::One(Made::Deleted) => Some(()),
            _ => None,
        })
    }

    fn set(&self, path: &NodePath, data: Bytes, version: Version) -> Reply<Stat> {
        self.ask(Work::One(Op::Set { path: path.clone(), data, version }), |answer| match answer {
            Answer::One(Made::Set(stat)) => Some(stat),
            _ => None,
        })
    }

    fn read(&self, path: &NodePath) -> Reply<Node> {
        self.ask(Work::Read(path.clone()), |answer| match answer {
            Answer::Node(node, None) => Some(node),
            _ => None,
        })
    }

    fn read_and_watch(&self, path: &NodePath) -> Reply<(Node, Watch)> {
        self.ask(Work::ReadAndWatch(path.clone()), |answer| match answer {
            Answer::Node(node, Some(watch)) => Some((node, watch)),
            _ => None,
        })
    }

    fn stat(&self, path: &NodePath) -> Reply<Option<Stat>> {
        self.ask(Work::Stat(path.clone()), |answer| match answer {
            Answer::Stat(stat, None) => Some(stat),
            _ => None,
        })
    }

    fn stat_and_watch(&self, path: &NodePath) -> Reply<(Option<Stat>, Watch)> {
        self.ask(Work::StatAndWatch(path.clone()), |answer| match answer {
            Answer::Stat(stat, Some(watch)) => Some((stat, watch)),
            _ => None,
        })
    }

    fn children(&self, path: &NodePath) -> Reply<Vec<String>> {
        self.ask(Work::Children(path.clone()), |answer| match answer {
            Answer::Children(names, None) => Some(names),
            _ => None,
        })
    }

    fn children_and_watch(&self, path: &NodePath) -> Reply<(Vec<String>, Watch)> {
        self.ask(Work::ChildrenAndWatch(path.clone()), |answer| match answer {
            Answer::Children(names, Some(watch)) => Some((names, watch)),
            _ => None,
        })
    }

    fn multi(&self, ops: Vec<Op>) -> Reply<Vec<Made>> {
        self.ask(Work::Multi(ops), |answer| match answer {
            Answer::Multi(made) => Some(made),
            _ => None,
        })
    }

    fn sync(&self, _path: &NodePath) -> Reply<()> {
        self.ask(Work::Sync, |answer| match answer {
            Answer::Done => Some(()),
            _ => None,
        })
    }

    fn session_id(&self) -> SessionId {
        self.shared.id
    }

    fn session_timeout(&self) -> Duration {
        self.shared.timeout
    }

    fn safe_until(&self) -> Instant {
        self.shared.session_liveness.safe_until()
    }

    fn session(&self) -> watch::Receiver<SessionState> {
        self.shared.session_liveness.state()
    }

    fn clock(&self) -> Clock {
        Clock::System
    }

    fn close(&self) -> Reply<()> {
        self.ask(Work::Close, |answer| match answer {
            Answer::Done => Some(()),
            _ => None,
        })
    }
}
