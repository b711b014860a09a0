//! A session as its user sees it: every request is a message to the engine.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{oneshot, watch};

use super::boot;
use super::engine::{Answer, Engine, Request, Work};
use crate::store::{
    Clock, Made, Node, NodeKind, NodePath, Op, Reply, SessionId, SessionState, Stat, Store, StoreError, Version, Watch,
};

/// What the engine and the guard know of a session, and its user may ask.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: SessionId,
    pub(super) timeout: Duration,
    state: watch::Sender<SessionState>,
    /// When the file last heard of us for certain, by the clock since boot.
    heard_ms: AtomicU64,
    /// No more heart-beats, as if the process were stopped: for tests.
    silent: AtomicBool,
}

impl Shared {
    pub(super) fn new(id: SessionId, timeout: Duration, heard_ms: u64) -> Self {
        let (state, _) = watch::channel(SessionState::Connected);
        Self { id, timeout, state, heard_ms: AtomicU64::new(heard_ms), silent: AtomicBool::new(false) }
    }

    pub(super) fn timeout_ms(&self) -> u64 {
        u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX)
    }

    /// When the next heart-beat is due.
    pub(super) fn beat_at_ms(&self) -> u64 {
        match self.silent.load(Ordering::Relaxed) {
            true => u64::MAX,
            false => self.heard_ms.load(Ordering::Relaxed).saturating_add(self.timeout_ms() / 5),
        }
    }

    /// A heart-beat of that moment is in the file.
    pub(super) fn heard(&self, at_ms: u64) {
        self.heard_ms.fetch_max(at_ms, Ordering::Relaxed);
        self.turn(SessionState::Connected);
    }

    /// Draws the conclusions from what time it is: suspended at half of the time-out without being heard, over at 0.9 of it,
    /// which leaves a tenth before anybody else may take the session's nodes away. Says whether it is over.
    pub(super) fn look_at_clock(&self) -> bool {
        let silence = boot::now_ms().saturating_sub(self.heard_ms.load(Ordering::Relaxed));
        let timeout = self.timeout_ms();
        if silence >= timeout - timeout / 10 {
            self.turn(SessionState::Expired);
        } else if silence >= timeout / 2 {
            self.turn(SessionState::Suspended);
        }
        self.is_over()
    }

    pub(super) fn is_over(&self) -> bool {
        self.state.borrow().is_over()
    }

    /// Goes to `state`, unless the session is over.
    pub(super) fn turn(&self, state: SessionState) {
        self.state.send_if_modified(|now| {
            let turns = !now.is_over() && *now != state;
            if turns {
                *now = state;
            }
            turns
        });
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

    fn session(&self) -> watch::Receiver<SessionState> {
        self.shared.state.subscribe()
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
