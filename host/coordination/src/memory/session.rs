//! One session: its requests in order, and their answers in order.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::fault::Fault;
use super::state::{Session, State, World};
use crate::store::{
    Clock, Made, Node, NodeKind, NodePath, Op, Reply, SessionId, SessionState, Stat, Store, StoreError, Version, Watch,
    WatchEvent, WatchSender,
};

/// One session of a [`super::Memory`]. Dropping it closes the session.
pub struct MemoryStore {
    world: Arc<World>,
    id: SessionId,
    line: mpsc::UnboundedSender<Request>,
}

/// A request on its way to the store.
struct Request {
    path: NodePath,
    writes: bool,
    connection: u64,
    arrives: Instant,
    fault: Option<Fault>,
    work: Work,
}

/// The connection of the request that closes the session: no cut loses it.
const CLOSING: u64 = u64::MAX;

/// Does a request if it is given the state, and gives what sends the answer: its own, or the error instead.
type Work = Box<dyn FnOnce(Option<&mut State>) -> Answer + Send>;
type Answer = Box<dyn FnOnce(Option<StoreError>) + Send>;

/// An answer or an event on its way back.
pub(super) struct Delivery {
    due: Instant,
    what: What,
}

enum What {
    /// Lost, and answered with `lost`, if the connection is no longer the one that it was sent on.
    Answer { connection: u64, lost: StoreError, send: Answer },
    /// An answer that is final, whatever becomes of the connection.
    Final(Answer, StoreError),
    /// Comes when the session is connected.
    Event(WatchSender, WatchEvent),
}

impl Delivery {
    pub(super) fn event(due: Instant, watch: WatchSender, event: WatchEvent) -> Self {
        Self { due, what: What::Event(watch, event) }
    }
}

/// Waits until `when`; at once if that has passed, without a turn through the timer.
pub(super) async fn at(when: Instant) {
    if when > Instant::now() {
        tokio::time::sleep_until(when).await;
    }
}

impl MemoryStore {
    /// Starts the two tasks of an admitted session: one carries requests, one carries answers.
    pub(super) fn start(world: &Arc<World>, id: SessionId) -> Self {
        let (line, requests) = mpsc::unbounded_channel();
        let (outbox, deliveries) = mpsc::unbounded_channel();
        let (for_requests, for_answers) = {
            let mut all = world.lock();
            let session = all.sessions.get_mut(&id).expect("it was admitted just now");
            session.outbox = Some(outbox.clone());
            (session.listen(), session.listen())
        };
        tokio::spawn(carry_requests(Arc::clone(world), id, for_requests, requests, outbox));
        tokio::spawn(carry_answers(Arc::clone(world), id, for_answers, deliveries));
        Self { world: Arc::clone(world), id, line }
    }

    /// Sends a request; `effect` is run when it gets there.
    fn send<T: Send + 'static>(
        &self,
        path: &NodePath,
        writes: bool,
        effect: impl FnOnce(&mut State) -> Result<T, StoreError> + Send + 'static,
    ) -> Reply<T> {
        let (sender, receiver) = oneshot::channel();
        let work: Work = Box::new(move |state| {
            let done = state.map(effect);
            Box::new(move |instead| {
                let answer = match (instead, done) {
                    (Some(error), _) => Err(error),
                    (None, Some(done)) => done,
                    (None, None) => Err(StoreError::SessionOver),
                };
                // Who dropped the reply does not want it.
                let _ = sender.send(answer);
            })
        });
        {
            let mut state = self.world.lock();
            let State { sessions, chaos, dice, .. } = &mut *state;
            let session = sessions.get_mut(&self.id).expect("sessions are never forgotten");
            if !session.is_over() {
                let fault =
                    session.script.remove(&session.requests).or_else(|| chaos.and_then(|chaos| chaos.draw(dice)));
                session.requests += 1;
                let arrives = Instant::now() + self.world.one_way();
                let connection = session.connection;
                // The line ends with its session; then the dropped sender is the answer.
                let _ = self.line.send(Request { path: path.clone(), writes, connection, arrives, fault, work });
            }
        }
        Box::pin(async move { receiver.await.unwrap_or(Err(StoreError::SessionOver)) })
    }

    fn write<T: Send + 'static>(
        &self,
        ops: Vec<Op>,
        pick: impl FnOnce(Vec<Made>) -> Option<T> + Send + 'static,
        fail: impl FnOnce(usize, StoreError) -> StoreError + Send + 'static,
    ) -> Reply<T> {
        let path = ops.first().map_or_else(NodePath::root, |op| op.path().clone());
        let (world, id) = (Arc::clone(&self.world), self.id);
        self.send(&path, true, move |state| {
            let made = world.commit(state, id, &ops).map_err(|(index, error)| fail(index, error))?;
            pick(made)
                .ok_or_else(|| StoreError::Broken { reason: String::from("an operation was answered as another") })
        })
    }

    fn look<T: Send + 'static>(
        &self,
        path: &NodePath,
        look: impl FnOnce(&mut State) -> Result<T, StoreError> + Send + 'static,
    ) -> Reply<T> {
        let (world, id) = (Arc::clone(&self.world), self.id);
        self.send(path, false, move |state| {
            world.catch_up(state, id, Instant::now());
            look(state)
        })
    }
}

impl Store for MemoryStore {
    fn create(&self, path: &NodePath, data: Bytes, kind: NodeKind) -> Reply<NodePath> {
        let op = Op::Create { path: path.clone(), data, kind };
        self.write(vec![op], |made| made.into_iter().next().and_then(created), |_, error| error)
    }

    fn delete(&self, path: &NodePath, version: Version) -> Reply<()> {
        let op = Op::Delete { path: path.clone(), version };
        self.write(vec![op], |_| Some(()), |_, error| error)
    }

    fn set(&self, path: &NodePath, data: Bytes, version: Version) -> Reply<Stat> {
        let op = Op::Set { path: path.clone(), data, version };
        self.write(vec![op], |made| made.into_iter().next().and_then(set), |_, error| error)
    }

    fn read(&self, path: &NodePath) -> Reply<Node> {
        let (id, node) = (self.id, path.clone());
        self.look(path, move |state| state.view(id).read(&node))
    }

    fn read_and_watch(&self, path: &NodePath) -> Reply<(Node, Watch)> {
        let (id, path_) = (self.id, path.clone());
        self.look(path, move |state| {
            let view = state.view(id);
            let node = view.read(&path_)?;
            Ok((node, view.watch_node(id, &path_)))
        })
    }

    fn stat(&self, path: &NodePath) -> Reply<Option<Stat>> {
        let (id, path_) = (self.id, path.clone());
        self.look(path, move |state| Ok(state.view(id).stat(&path_)))
    }

    fn stat_and_watch(&self, path: &NodePath) -> Reply<(Option<Stat>, Watch)> {
        let (id, path_) = (self.id, path.clone());
        self.look(path, move |state| {
            let view = state.view(id);
            Ok((view.stat(&path_), view.watch_node(id, &path_)))
        })
    }

    fn children(&self, path: &NodePath) -> Reply<Vec<String>> {
        let (id, path_) = (self.id, path.clone());
        self.look(path, move |state| state.view(id).children(&path_))
    }

    fn children_and_watch(&self, path: &NodePath) -> Reply<(Vec<String>, Watch)> {
        let (id, path_) = (self.id, path.clone());
        self.look(path, move |state| {
            let view = state.view(id);
            let children = view.children(&path_)?;
            Ok((children, view.watch_children(id, &path_)))
        })
    }

    fn multi(&self, ops: Vec<Op>) -> Reply<Vec<Made>> {
        self.write(ops, Some, |index, error| StoreError::Multi { index, source: Box::new(error) })
    }

    fn sync(&self, path: &NodePath) -> Reply<()> {
        let (world, id) = (Arc::clone(&self.world), self.id);
        self.send(path, false, move |state| {
            world.catch_up_all(state, id);
            Ok(())
        })
    }

    fn session_id(&self) -> SessionId {
        self.id
    }

    fn session_timeout(&self) -> Duration {
        self.world.options.session_timeout
    }

    fn safe_until(&self) -> Instant {
        let until = self.world.lock().sessions.get(&self.id).and_then(|session| session.safe_until);
        until.unwrap_or_else(|| Instant::now() + self.session_timeout())
    }

    fn session(&self) -> watch::Receiver<SessionState> {
        self.world.lock().sessions.get_mut(&self.id).expect("sessions are never forgotten").listen()
    }

    fn clock(&self) -> Clock {
        self.world.clock
    }

    fn close(&self) -> Reply<()> {
        // Behind everything that was asked before: closing is a request like any other, which meets no fault.
        let (sender, receiver) = oneshot::channel();
        let (world, id) = (Arc::clone(&self.world), self.id);
        let work: Work = Box::new(move |_| {
            world.reap(id);
            Box::new(move |_| {
                world.lock().end(id, SessionState::Closed);
                let _ = sender.send(());
            })
        });
        let (connection, arrives) = (CLOSING, Instant::now() + self.world.one_way());
        let path = NodePath::root();
        let _ = self.line.send(Request { path, writes: false, connection, arrives, fault: None, work });
        Box::pin(async move {
            // A line that has ended is a session that was over already.
            let _ = receiver.await;
            Ok(())
        })
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.world.lock().sessions.get(&self.id).map(Session::status);
        f.debug_struct("MemoryStore").field("id", &self.id).field("state", &status).finish_non_exhaustive()
    }
}

fn created(made: Made) -> Option<NodePath> {
    match made {
        Made::Created(path) => Some(path),
        Made::Set(_) | Made::Deleted | Made::Checked => None,
    }
}

fn set(made: Made) -> Option<Stat> {
    match made {
        Made::Set(stat) => Some(stat),
        Made::Created(_) | Made::Deleted | Made::Checked => None,
    }
}

/// Carries a session's requests to the store, one behind the other.
async fn carry_requests(
    world: Arc<World>,
    id: SessionId,
    mut state: watch::Receiver<SessionState>,
    mut requests: mpsc::UnboundedReceiver<Request>,
    outbox: mpsc::UnboundedSender<Delivery>,
) {
    while let Some(request) = requests.recv().await {
        let late = match request.fault {
            Some(Fault::Late(by)) => by,
            _ => Duration::ZERO,
        };
        at(request.arrives + late).await;
        // What is sent while the store cannot be heard waits; what was on its way is lost.
        loop {
            let sent = request.connection;
            let lost = world.lock().sessions.get(&id).is_none_or(|session| session.connection > sent);
            let here = *state.borrow_and_update();
            if here != SessionState::Suspended || lost || sent == CLOSING {
                break;
            }
            if state.changed().await.is_err() {
                break;
            }
        }
        // Whoever listens to the outbox ends after us.
        let _ = outbox.send(perform(&world, id, request));
    }
    // Nobody holds the session any more: its program has ended.
    if world.lock().end(id, SessionState::Closed) {
        world.reap(id);
    }
}

/// Lets one request meet its fault or take effect.
fn perform(world: &Arc<World>, id: SessionId, request: Request) -> Delivery {
    let Request { path, writes, connection: sent, fault, work, .. } = request;
    let lost = if writes {
        StoreError::Ambiguous { path: path.clone() }
    } else {
        StoreError::Unavailable { reason: format!("the connection was lost while `{path}` was read") }
    };
    let due = Instant::now() + world.one_way();
    let gone = |work: Work, error: StoreError| Delivery { due: Instant::now(), what: What::Final(work(None), error) };

    let mut state = world.lock();
    let session = state.sessions.get(&id).expect("sessions are never forgotten");
    let (over, closing, connection) = (session.is_over() || session.closing, sent == CLOSING, session.connection);
    if closing {
        drop(state);
        return Delivery { due, what: What::Final(work(None), StoreError::SessionOver) };
    }
    if over {
        // It was asked for before the end, and nobody will ever hear what became of it.
        return gone(work, if writes { lost } else { StoreError::SessionOver });
    }
    if sent < connection {
        return gone(work, lost);
    }
    let answer = |work: Work, state: &mut State| {
        let send = work(Some(state));
        if writes {
            world.catch_up_all(state, id);
        }
        send
    };
    match fault {
        None | Some(Fault::Late(_)) => {
            let send = answer(work, &mut state);
            Delivery { due, what: What::Answer { connection, lost, send } }
        }
        Some(Fault::Delay(by)) => {
            let send = answer(work, &mut state);
            Delivery { due: due + by, what: What::Answer { connection, lost, send } }
        }
        Some(Fault::Suspend(outage)) => {
            let send = answer(work, &mut state);
            drop(state);
            World::suspend(world, id, outage, false);
            Delivery { due, what: What::Answer { connection, lost, send } }
        }
        Some(Fault::Unreachable) => {
            let reason = format!("`{path}` could not be asked for");
            Delivery { due, what: What::Final(work(None), StoreError::Unavailable { reason }) }
        }
        Some(Fault::LostBefore { outage }) => {
            drop(state);
            World::suspend(world, id, outage, true);
            gone(work, lost)
        }
        Some(Fault::LostAfter { outage }) => {
            // The session's own follower has not heard of it: whoever reads without `sync` may miss it.
            let send = work(Some(&mut state));
            drop(state);
            World::suspend(world, id, outage, true);
            Delivery { due: Instant::now(), what: What::Final(send, lost) }
        }
        Some(Fault::ExpireBefore) => {
            drop(state);
            World::expire(world, id);
            gone(work, if writes { lost } else { StoreError::SessionOver })
        }
        Some(Fault::ExpireAfter) => {
            let send = work(Some(&mut state));
            drop(state);
            World::expire(world, id);
            let lost = if writes { lost } else { StoreError::SessionOver };
            Delivery { due: Instant::now(), what: What::Final(send, lost) }
        }
    }
}

/// Carries answers and events back to their session, one behind the other.
async fn carry_answers(
    world: Arc<World>,
    id: SessionId,
    mut state: watch::Receiver<SessionState>,
    mut deliveries: mpsc::UnboundedReceiver<Delivery>,
) {
    while let Some(Delivery { due, what }) = deliveries.recv().await {
        // The end of the session overtakes what is on its way.
        tokio::select! {
            biased;
            () = at(due) => {}
            _ = state.wait_for(|state| state.is_over()) => {}
        }
        match what {
            What::Final(send, error) => send(Some(error)),
            What::Answer { connection, lost, send } => loop {
                let now = world.lock().sessions.get(&id).map_or(u64::MAX, |session| session.connection);
                let here = *state.borrow_and_update();
                if here.is_over() || now != connection {
                    send(Some(lost));
                    break;
                }
                if here == SessionState::Connected || state.changed().await.is_err() {
                    send(None);
                    break;
                }
            },
            What::Event(watch, event) => {
                let there = state.wait_for(|state| *state != SessionState::Suspended).await;
                // Over: the watch is dropped, which tells it.
                if there.is_ok_and(|state| *state == SessionState::Connected) {
                    watch.fire(event);
                }
            }
        }
    }
}
