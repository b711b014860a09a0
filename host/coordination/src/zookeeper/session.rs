//! A session as its user sees it: each method sends its request when it is called.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use client::OneshotWatcher;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use zookeeper_client as client;

use super::convert::{self, Purpose};
use super::options::ZooKeeperOptions;
use super::request::{Flight, Lands};
use super::session_task::{self, Aspect, Watched};
use crate::store::session_liveness::{self, SessionLiveness};
use crate::store::{
    Clock, MAX_DATA_BYTES, Made, Node, NodeKind, NodePath, Op, Reply, SessionId, SessionState, Stat, Store, StoreError,
    Version, Watch, boot_clock,
};

/// One session. Dropping it closes it, without anybody waiting for that.
pub(super) struct Session {
    id: SessionId,
    timeout: Duration,
    session_liveness: Arc<SessionLiveness>,
    acls: Vec<client::Acl>,
    /// Which entries of these a server may not take, and why.
    acl_doubts: Arc<str>,
    line: Mutex<Line>,
    watches: mpsc::UnboundedSender<Watched>,
    runtime: Handle,
}

/// The client, and what was asked of it.
struct Line {
    /// None from the moment that the session is being closed or over. The client closes the session when it and every
    /// flight is gone.
    client: Option<Arc<client::Client>>,
    /// In the order of the calls. Those that have landed at its front are taken out when the next is added.
    flights: VecDeque<Weak<dyn Lands>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

impl Session {
    /// How long after a session was last heard no server can give its nodes away: three quarters of its time-out.
    ///
    /// The server that we are connected to starts its timer anew when it hears us. But the ensemble's leader decides, and
    /// learns from a follower whom that has heard only every half tick; a follower that dies in between takes up to that
    /// much of our time-out with it. A time-out is two ticks at least, so half a tick is a quarter of it at most.
    fn safe_for(timeout: Duration) -> Duration {
        timeout * 3 / 4
    }

    /// How long a session may not be heard before it counts as over: a tenth of its time-out less, for stopping what acts
    /// under its leases.
    fn over_after(timeout: Duration) -> Duration {
        Self::safe_for(timeout) - timeout / 10
    }

    /// Starts to keep a session that the client has opened, and that was heard when something sent at `sent_ms` was answered.
    pub(super) fn start(
        client: client::Client,
        options: &ZooKeeperOptions,
        sent_ms: u64,
    ) -> Result<Arc<Self>, StoreError> {
        let (id, timeout) = (SessionId(client.session_id().0), client.session_timeout());
        let session_liveness =
            Arc::new(SessionLiveness::new(timeout, Self::over_after(timeout), Self::safe_for(timeout), sent_ms));
        session_liveness::guard(&session_liveness)
            .map_err(|error| StoreError::Unavailable { reason: format!("cannot start a thread: {error}") })?;
        let (watches, watched) = mpsc::unbounded_channel();
        let states = client.state_watcher();
        let runtime = Handle::current();
        let line = Mutex::new(Line { client: Some(Arc::new(client)), flights: VecDeque::new() });
        let session = Arc::new(Self {
            id,
            timeout,
            session_liveness: Arc::clone(&session_liveness),
            acls: convert::acls(&options.acl),
            acl_doubts: options.acl.refused(options.is_logged_in()).into(),
            line,
            watches,
            runtime: runtime.clone(),
        });
        let servers = options.hosts.servers().to_vec();
        runtime.spawn(session_task::keep(Arc::downgrade(&session), session_liveness, states, watched, servers));
        Ok(session)
    }

    /// Sends a request now. `send` makes the client's future, and `land` makes what its answer means.
    fn ask<F, A, T>(
        &self,
        purpose: Purpose,
        path: &NodePath,
        send: impl FnOnce(Arc<client::Client>) -> F,
        land: impl FnOnce(A) -> Result<T, StoreError> + Send + 'static,
    ) -> Reply<T>
    where
        F: Future<Output = Result<A, client::Error>> + Send + 'static,
        A: Send + 'static,
        T: Send + 'static,
    {
        let path = path.clone();
        let flight = match self.send(send) {
            Ok(flight) => flight,
            Err(error) => return refuse(error),
        };
        let reply = self.reply(purpose, path.clone(), flight);
        let doubts = Arc::clone(&self.acl_doubts);
        Box::pin(async move {
            match reply.await? {
                Ok(answer) => land(answer),
                Err(error) => Err(convert::error(purpose, &path, &error, &doubts)),
            }
        })
    }

    fn send<F, A>(&self, send: impl FnOnce(Arc<client::Client>) -> F) -> Result<(Arc<Flight<A>>, u64), StoreError>
    where
        F: Future<Output = A> + Send + 'static,
        A: Send + 'static,
    {
        // Whoever was stopped for long finds out here, before anything is sent.
        if self.session_liveness.look_at_clock() {
            return Err(StoreError::SessionOver);
        }
        let mut line = self.line();
        let client = line.client.clone().ok_or(StoreError::SessionOver)?;
        let sent_ms = boot_clock::now_ms();
        let flight = Arc::new(Flight::start(Box::pin(send(client))));
        while line.flights.front().is_some_and(|flight| flight.strong_count() == 0) {
            line.flights.pop_front();
        }
        let watched: Weak<Flight<A>> = Arc::downgrade(&flight);
        line.flights.push_back(watched);
        Ok((flight, sent_ms))
    }

    /// Waits for the client's answer: until it is there, the session is over, or it takes longer than any can.
    fn reply<A, E>(
        &self,
        purpose: Purpose,
        path: NodePath,
        (flight, sent_ms): (Arc<Flight<Result<A, E>>>, u64),
    ) -> impl Future<Output = Result<Result<A, E>, StoreError>> + Send + 'static
    where
        A: Send + 'static,
        E: IsAnswer + Send + 'static,
    {
        let (session_liveness, mut state, patience) =
            (Arc::clone(&self.session_liveness), self.session_liveness.state(), self.timeout);
        async move {
            let landed = tokio::select! {
                biased;
                landed = flight.landed() => landed,
                _ = state.wait_for(|state| *state == SessionState::Expired) => None,
                () = sleep(patience) => {
                    return Err(convert::lost(purpose, &path, false, &format!("no answer within {patience:?}")));
                }
            };
            let Some(answer) = landed else { return Err(convert::lost(purpose, &path, true, "the session is over")) };
            if answer.as_ref().err().is_none_or(IsAnswer::is_answer) {
                session_liveness.heard(sent_ms);
            }
            Ok(answer)
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        // Nothing panics while it is half changed.
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the client, and of every answer that is still out: the session is over.
    pub(super) fn abandon(&self) {
        let (client, flights) = self.take();
        drop(client);
        flights.iter().filter_map(Weak::upgrade).for_each(|flight| flight.lose());
    }

    fn take(&self) -> (Option<Arc<client::Client>>, VecDeque<Weak<dyn Lands>>) {
        let mut line = self.line();
        (line.client.take(), std::mem::take(&mut line.flights))
    }

    /// Whether it was not closed, nor given up.
    pub(super) fn is_open(&self) -> bool {
        self.line().client.is_some()
    }

    /// Whether the client is connected.
    pub(super) fn is_connected(&self) -> bool {
        self.line().client.as_ref().is_some_and(|client| client.state() == client::SessionState::SyncConnected)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.close());
    }
}

/// Whether an error of the client's is the server's answer.
trait IsAnswer {
    fn is_answer(&self) -> bool;
}

impl IsAnswer for client::Error {
    fn is_answer(&self) -> bool {
        convert::is_answer(self)
    }
}

impl IsAnswer for client::MultiWriteError {
    fn is_answer(&self) -> bool {
        match self {
            Self::RequestFailed { source } => convert::is_answer(source),
            Self::OperationFailed { .. } => true,
        }
    }
}

fn refuse<T: Send + 'static>(error: StoreError) -> Reply<T> {
    Box::pin(ready(Err(error)))
}

/// Hands a watch that came with an answer to the keeper.
fn watched(to: &mpsc::UnboundedSender<Watched>, path: &NodePath, aspect: Aspect, watcher: OneshotWatcher) -> Watch {
    let (sender, watch) = Watch::channel();
    // Without a keeper the session is over, and the sender's end says so to the watch.
    let _ = to.send(Watched { path: path.clone(), aspect, watcher, sender });
    watch
}

impl Store for Session {
    fn create(&self, path: &NodePath, data: Bytes, kind: NodeKind) -> Reply<NodePath> {
        if let Err(error) = fits(path, &data) {
            return refuse(error);
        }
        let (acls, at) = (self.acls.clone(), path.clone());
        let wanted = path.clone();
        self.ask(
            Purpose::Create,
            path,
            move |client| async move {
                let options = convert::mode(kind).with_acls(client::Acls::from(acls.as_slice()));
                client.create(at.as_str(), &data, &options).await
            },
            move |(_, sequence)| match kind.is_sequential() {
                true => convert::made_path(&format!("{wanted}{sequence}")),
                false => Ok(wanted),
            },
        )
    }

    fn delete(&self, path: &NodePath, version: Version) -> Reply<()> {
        let at = path.clone();
        let version = convert::version(version);
        self.ask(Purpose::Delete, path, move |client| async move { client.delete(at.as_str(), version).await }, Ok)
    }

    fn set(&self, path: &NodePath, data: Bytes, version: Version) -> Reply<Stat> {
        if let Err(error) = fits(path, &data) {
            return refuse(error);
        }
        let at = path.clone();
        let version = convert::version(version);
        self.ask(
            Purpose::Set,
            path,
            move |client| async move { client.set_data(at.as_str(), &data, version).await },
            |stat| Ok(convert::stat(stat)),
        )
    }

    fn read(&self, path: &NodePath) -> Reply<Node> {
        let at = path.clone();
        self.ask(
            Purpose::Read,
            path,
            move |client| async move { client.get_data(at.as_str()).await },
            |(data, stat)| Ok(node(data, stat)),
        )
    }

    fn read_and_watch(&self, path: &NodePath) -> Reply<(Node, Watch)> {
        let (at, here, to) = (path.clone(), path.clone(), self.watches.clone());
        self.ask(
            Purpose::Read,
            path,
            move |client| async move { client.get_and_watch_data(at.as_str()).await },
            move |(data, stat, watcher)| Ok((node(data, stat), watched(&to, &here, Aspect::Data, watcher))),
        )
    }

    fn stat(&self, path: &NodePath) -> Reply<Option<Stat>> {
        let at = path.clone();
        self.ask(
            Purpose::Look,
            path,
            move |client| async move { client.check_stat(at.as_str()).await },
            |stat| Ok(stat.map(convert::stat)),
        )
    }

    fn stat_and_watch(&self, path: &NodePath) -> Reply<(Option<Stat>, Watch)> {
        let (at, here, to) = (path.clone(), path.clone(), self.watches.clone());
        self.ask(
            Purpose::Look,
            path,
            move |client| async move { client.check_and_watch_stat(at.as_str()).await },
            move |(stat, watcher)| Ok((stat.map(convert::stat), watched(&to, &here, Aspect::Data, watcher))),
        )
    }

    fn children(&self, path: &NodePath) -> Reply<Vec<String>> {
        let at = path.clone();
        self.ask(
            Purpose::Children,
            path,
            move |client| async move { client.list_children(at.as_str()).await },
            |names| Ok(sorted(names)),
        )
    }

    fn children_and_watch(&self, path: &NodePath) -> Reply<(Vec<String>, Watch)> {
        let (at, here, to) = (path.clone(), path.clone(), self.watches.clone());
        self.ask(
            Purpose::Children,
            path,
            move |client| async move { client.list_and_watch_children(at.as_str()).await },
            move |(names, watcher)| Ok((sorted(names), watched(&to, &here, Aspect::Children, watcher))),
        )
    }

    fn multi(&self, ops: Vec<Op>) -> Reply<Vec<Made>> {
        let Some(first) = ops.first().map(|op| op.path().clone()) else {
            return match self.session_liveness.look_at_clock() {
                true => refuse(StoreError::SessionOver),
                false => Box::pin(ready(Ok(Vec::new()))),
            };
        };
        if let Err(error) = all_fit(&ops) {
            return refuse(error);
        }
        let asked: Vec<(Purpose, NodePath)> = ops.iter().map(|op| (convert::purpose(op), op.path().clone())).collect();
        let acls = self.acls.clone();
        let sent = self.send(move |client| async move {
            let mut writer = client.new_multi_writer();
            for op in &ops {
                add(&mut writer, op, &acls)?;
            }
            writer.commit().await
        });
        let flight = match sent {
            Ok(flight) => flight,
            Err(error) => return refuse(error),
        };
        let reply = self.reply(Purpose::Multi, first.clone(), flight);
        let doubts = Arc::clone(&self.acl_doubts);
        Box::pin(async move {
            match reply.await? {
                Ok(results) => results.into_iter().map(convert::made).collect(),
                Err(client::MultiWriteError::RequestFailed { source }) => {
                    Err(convert::error(Purpose::Multi, &first, &source, &doubts))
                }
                Err(client::MultiWriteError::OperationFailed { index, source }) => {
                    let Some((purpose, path)) = asked.get(index) else {
                        return Err(StoreError::Broken { reason: format!("operation {index} of {}", asked.len()) });
                    };
                    Err(StoreError::Multi { index, source: Box::new(convert::error(*purpose, path, &source, &doubts)) })
                }
            }
        })
    }

    fn sync(&self, path: &NodePath) -> Reply<()> {
        let at = path.clone();
        self.ask(Purpose::Look, path, move |client| async move { client.sync(at.as_str()).await }, Ok)
    }

    fn session_id(&self) -> SessionId {
        self.id
    }

    fn session_timeout(&self) -> Duration {
        self.timeout
    }

    fn safe_until(&self) -> Instant {
        self.session_liveness.safe_until()
    }

    fn session(&self) -> watch::Receiver<SessionState> {
        self.session_liveness.state()
    }

    fn clock(&self) -> Clock {
        Clock::System
    }

    fn close(&self) -> Reply<()> {
        let (client, flights) = self.take();
        let session_liveness = Arc::clone(&self.session_liveness);
        // On its own, so that it comes about when nobody waits for it.
        let closed = self.runtime.spawn(async move {
            let mut state = session_liveness.state();
            let closing = async {
                let Some(client) = client else { return };
                for flight in flights {
                    poll_fn(|context| match flight.upgrade() {
                        Some(flight) => flight.poll_landed(context),
                        None => Poll::Ready(()),
                    })
                    .await;
                }
                let mut states = client.state_watcher();
                drop(client);
                while !states.peek_state().is_terminated() {
                    states.changed().await;
                }
                session_liveness.turn(SessionState::Closed);
            };
            // Ends with the session at the latest.
            tokio::select! {
                biased;
                () = closing => {}
                _ = state.wait_for(|state| state.is_over()) => {}
            }
            let _ = state.wait_for(|state| state.is_over()).await;
        });
        Box::pin(async move {
            // Its runtime is gone: then so is the client's.
            let _ = closed.await;
            Ok(())
        })
    }
}

fn node(data: Vec<u8>, stat: client::Stat) -> Node {
    Node { data: Bytes::from(data), stat: convert::stat(stat) }
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names
}

/// A server cuts the connection of who sends more, so it is not sent.
fn fits(path: &NodePath, data: &Bytes) -> Result<(), StoreError> {
    match data.len() > MAX_DATA_BYTES {
        true => Err(StoreError::TooLarge { path: path.clone(), bytes: data.len() }),
        false => Ok(()),
    }
}

/// The same for a transaction, which is one packet.
fn all_fit(ops: &[Op]) -> Result<(), StoreError> {
    /// What an operation takes beside its path and data: headers, lengths, the access control list.
    const BESIDE: usize = 128;
    let mut total = 0;
    for (index, op) in ops.iter().enumerate() {
        let bytes = match op {
            Op::Create { data, .. } | Op::Set { data, .. } => data.len(),
            Op::Delete { .. } | Op::Check { .. } => 0,
        };
        total += match ops.len() {
            1 => bytes,
            _ => bytes + op.path().as_str().len() + BESIDE,
        };
        if bytes > MAX_DATA_BYTES || total > MAX_DATA_BYTES {
            let bytes = if bytes > MAX_DATA_BYTES { bytes } else { total };
            let source = Box::new(StoreError::TooLarge { path: op.path().clone(), bytes });
            return Err(StoreError::Multi { index, source });
        }
    }
    Ok(())
}

fn add(writer: &mut client::MultiWriter<'_>, op: &Op, acls: &[client::Acl]) -> Result<(), client::Error> {
    match op {
        Op::Create { path, data, kind } => {
            let options = convert::mode(*kind).with_acls(client::Acls::from(acls));
            writer.add_create(path.as_str(), data, &options)
        }
        Op::Set { path, data, version } => writer.add_set_data(path.as_str(), data, convert::version(*version)),
        Op::Delete { path, version } => writer.add_delete(path.as_str(), convert::version(*version)),
        Op::Check { path, version } => {
            writer.add_check_version(path.as_str(), convert::version(*version).unwrap_or(-1))
        }
    }
}
