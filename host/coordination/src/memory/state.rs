//! What all sessions share: the tree, the sessions' standing, the history and the dice.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::fault::{self, Chaos, Fault};
use super::session::{Delivery, MemoryStore, at};
use super::tree::{Effect, Fired, Stamp, Tree};
use crate::store::{
    Clock, Connect, Made, Node, NodePath, Op, Reply, SessionId, SessionState, Store, StoreError, Version,
};

/// How a [`Memory`] behaves.
#[derive(Debug, Clone)]
pub struct MemoryOptions {
    /// How long a silent session's ephemeral nodes are kept.
    pub session_timeout: Duration,
    /// Where the wall clock starts, in milliseconds since the Unix epoch.
    pub start_ms: u64,
    /// From a request to its answer: half of it each way, and half of it for a watch's event. In whole milliseconds.
    pub round_trip: Duration,
    /// How far, at most, a session's reads are behind what other sessions did; drawn anew for each change.
    pub lag: Duration,
    /// Faults at random; none at first unless given.
    pub chaos: Option<Chaos>,
    /// Whether every change is kept for [`Memory::history`].
    pub history: bool,
}

impl Default for MemoryOptions {
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(10),
            start_ms: 1_700_000_000_000,
            round_trip: Duration::ZERO,
            lag: Duration::ZERO,
            chaos: None,
            history: true,
        }
    }
}

/// One transaction that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Its number: what it created has it as `czxid`.
    pub zxid: i64,
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Who did it; the end of a session is done in the session's name.
    pub session: SessionId,
    /// What it did, in order.
    pub effects: Vec<Effect>,
}

/// A store in memory: clones share one tree. Opening a session needs a tokio runtime.
#[derive(Clone)]
pub struct Memory(Arc<World>);

pub(super) struct World {
    pub(super) options: MemoryOptions,
    pub(super) clock: Clock,
    state: Mutex<State>,
}

/// Everything that changes.
pub(super) struct State {
    leader: Tree,
    pub(super) sessions: BTreeMap<SessionId, Session>,
    zxid: i64,
    history: Vec<Change>,
    pub(super) chaos: Option<Chaos>,
    pub(super) dice: Xoshiro256PlusPlus,
}

/// What the store keeps of one session.
pub(super) struct Session {
    status: SessionState,
    /// When its nodes may go, while it is not heard.
    pub(super) safe_until: Option<Instant>,
    /// One channel for each listener: among listeners of one channel tokio wakes in an order of its own dice.
    listeners: Vec<watch::Sender<SessionState>>,
    /// How many listeners there may be before those that hung up are dropped.
    sweep_at: usize,
    /// Answers and events on their way; `None` once it is over.
    pub(super) outbox: Option<mpsc::UnboundedSender<Delivery>>,
    /// How often the connection was lost: what was sent on an earlier one is lost with it.
    pub(super) connection: u64,
    /// How many requests were made.
    pub(super) requests: u64,
    pub(super) script: BTreeMap<u64, Fault>,
    /// Its nodes are gone, and nothing is done for it any more.
    pub(super) closing: bool,
    ephemerals: BTreeSet<NodePath>,
    follower: Option<Follower>,
    /// Which outage is the latest; an earlier one's end says nothing any more.
    outage: u64,
}

/// A tree that hears of changes late.
struct Follower {
    tree: Tree,
    behind: VecDeque<(Instant, Arc<Change>)>,
}

impl Memory {
    /// An empty store.
    #[must_use]
    pub fn new(options: MemoryOptions) -> Self {
        let seed = options.chaos.map_or(0, |chaos| chaos.seed);
        let state = State {
            leader: Tree::new(options.start_ms),
            sessions: BTreeMap::new(),
            zxid: 0,
            history: Vec::new(),
            chaos: options.chaos,
            dice: Xoshiro256PlusPlus::seed_from_u64(seed),
        };
        let clock = Clock::starting_at(options.start_ms);
        Self(Arc::new(World { options, clock, state: Mutex::new(state) }))
    }

    /// Opens a session and says so by its own type; [`Connect::connect`] is the same after a round trip.
    #[must_use]
    pub fn open(&self) -> Arc<MemoryStore> {
        let id = self.0.lock().admit(&self.0.options);
        Arc::new(MemoryStore::start(&self.0, id))
    }

    /// Lets a session's request of that number fail; the first request is number 0, and those of [`Store::close`] are
    /// not counted.
    pub fn fail(&self, session: SessionId, request: u64, fault: Fault) {
        if let Some(session) = self.0.lock().sessions.get_mut(&session) {
            session.script.insert(request, fault);
        }
    }

    /// Faults at random from now on, or none: `None` also forgets those of [`Memory::fail`]. Outages that began run
    /// to their end.
    pub fn set_chaos(&self, chaos: Option<Chaos>) {
        let mut state = self.0.lock();
        state.chaos = chaos;
        match chaos {
            Some(chaos) => state.dice = Xoshiro256PlusPlus::seed_from_u64(chaos.seed),
            None => state.sessions.values_mut().for_each(|session| session.script.clear()),
        }
    }

    /// Ends a session as the store would when it had not heard of it for too long: `Expired` now, and its nodes go a
    /// tenth of the session time-out later.
    pub fn expire(&self, session: SessionId) {
        World::expire(&self.0, session);
    }

    /// Cuts a session's connection for so long. Longer than 0.9 of the session time-out expires it.
    pub fn cut(&self, session: SessionId, outage: Duration) {
        World::suspend(&self.0, session, outage, true);
    }

    /// How many requests a session has made.
    #[must_use]
    pub fn requests(&self, session: SessionId) -> u64 {
        self.0.lock().sessions.get(&session).map_or(0, |session| session.requests)
    }

    /// Every change so far, if [`MemoryOptions::history`] says so.
    #[must_use]
    pub fn history(&self) -> Vec<Change> {
        self.0.lock().history.clone()
    }

    /// Every node below the root as the newest change left it.
    #[must_use]
    pub fn snapshot(&self) -> BTreeMap<NodePath, Node> {
        self.0.lock().leader.all()
    }

    /// Sets the number that the next child made at `path` gets, as if so many had been made before.
    ///
    /// # Errors
    /// `NoNode`.
    pub fn set_counter(&self, path: &NodePath, next: i32) -> Result<(), StoreError> {
        self.0.lock().leader.set_counter(path, next)
    }
}

impl Connect for Memory {
    fn connect(&self) -> Reply<Arc<dyn Store>> {
        let world = Arc::clone(&self.0);
        let memory = self.clone();
        Box::pin(async move {
            at(Instant::now() + world.options.round_trip).await;
            Ok(memory.open() as Arc<dyn Store>)
        })
    }
}

impl fmt::Debug for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memory").field("options", &self.0.options).finish_non_exhaustive()
    }
}

impl World {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside leaves a test that has failed already; what it shows is still worth reading.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Half a round trip: how long a request, an answer or an event is on its way.
    pub(super) fn one_way(&self) -> Duration {
        self.options.round_trip / 2
    }

    /// The latest that our own clock may believe in a session that is not heard.
    fn patience(&self) -> Duration {
        self.options.session_timeout.mul_f64(0.9)
    }

    /// Does `ops` in a session's name and tells everybody.
    pub(super) fn commit(
        self: &Arc<Self>,
        state: &mut State,
        session: SessionId,
        ops: &[Op],
    ) -> Result<Vec<Made>, (usize, StoreError)> {
        let stamp = Stamp { zxid: state.zxid + 1, now_ms: self.clock.now_ms(), session };
        let (made, effects) = state.leader.transact(stamp, ops)?;
        if effects.is_empty() {
            return Ok(made);
        }
        state.zxid = stamp.zxid;
        for effect in &effects {
            state.keep_owner(effect);
        }
        let fired: Vec<Fired> = effects.iter().flat_map(|effect| state.leader.fire(effect)).collect();
        state.deliver(fired, Instant::now() + self.one_way());
        let change = Arc::new(Change { zxid: stamp.zxid, at_ms: stamp.now_ms, session, effects });
        if !self.options.lag.is_zero() {
            self.spread(state, &change);
        }
        if self.options.history {
            state.history.push(Arc::unwrap_or_clone(change));
        }
        Ok(made)
    }

    /// Sends a change on its way to every follower.
    fn spread(self: &Arc<Self>, state: &mut State, change: &Arc<Change>) {
        let State { sessions, dice, .. } = state;
        for (id, session) in sessions {
            let Some(follower) = &mut session.follower else { continue };
            let drawn = Instant::now() + fault::up_to(self.options.lag, dice);
            let heard = follower.behind.back().map_or(drawn, |(last, _)| drawn.max(*last));
            follower.behind.push_back((heard, Arc::clone(change)));
            let (world, id) = (Arc::clone(self), *id);
            tokio::spawn(async move {
                at(heard).await;
                let mut state = world.lock();
                world.catch_up(&mut state, id, Instant::now());
            });
        }
    }

    /// Lets a session's follower hear of what reached it by `now`; a session without lag sees all at once.
    pub(super) fn catch_up(&self, state: &mut State, id: SessionId, now: Instant) {
        let mut fired = Vec::new();
        let Some(follower) = state.sessions.get_mut(&id).and_then(|session| session.follower.as_mut()) else { return };
        while let Some((_, change)) = follower.behind.pop_front_if(|(heard, _)| *heard <= now) {
            for effect in &change.effects {
                follower.tree.put(effect);
                fired.extend(follower.tree.fire(effect));
            }
        }
        state.deliver(fired, Instant::now() + self.one_way());
    }

    /// Lets a session's follower hear of everything.
    pub(super) fn catch_up_all(&self, state: &mut State, id: SessionId) {
        let Some(session) = state.sessions.get(&id) else { return };
        let newest = session.follower.as_ref().and_then(|follower| follower.behind.back()).map(|(heard, _)| *heard);
        if let Some(newest) = newest {
            self.catch_up(state, id, newest);
        }
    }

    /// Suspends a session for `outage`; with `cut`, what is on its way is lost.
    pub(super) fn suspend(world: &Arc<Self>, id: SessionId, outage: Duration, cut: bool) {
        let mut state = world.lock();
        let Some(session) = state.sessions.get_mut(&id) else { return };
        if session.is_over() {
            return;
        }
        session.connection += u64::from(cut);
        session.outage += 1;
        session.set_status(SessionState::Suspended);
        session.safe_until = Some(Instant::now() + world.options.session_timeout);
        let this = session.outage;
        let (ends, expires) = if outage < world.patience() { (outage, false) } else { (world.patience(), true) };
        let world = Arc::clone(world);
        tokio::spawn(async move {
            at(Instant::now() + ends).await;
            if expires {
                Self::expire(&world, id);
                return;
            }
            if let Some(session) = world.lock().sessions.get_mut(&id)
                && session.outage == this
                && !session.is_over()
            {
                session.set_status(SessionState::Connected);
                session.safe_until = None;
            }
        });
    }

    /// Says `Expired` first and takes the nodes away later.
    pub(super) fn expire(world: &Arc<Self>, id: SessionId) {
        let reaped = Instant::now() + world.options.session_timeout - world.patience();
        {
            let mut state = world.lock();
            if !state.end(id, SessionState::Expired) {
                return;
            }
            if let Some(session) = state.sessions.get_mut(&id) {
                session.safe_until = Some(reaped);
            }
        }
        let world = Arc::clone(world);
        tokio::spawn(async move {
            at(reaped).await;
            world.reap(id);
        });
    }

    /// Takes an ended session's nodes away, in one transaction, and does nothing for it from then on.
    pub(super) fn reap(self: &Arc<Self>, id: SessionId) {
        let mut state = self.lock();
        let Some(session) = state.sessions.get_mut(&id) else { return };
        session.closing = true;
        let ops: Vec<Op> = std::mem::take(&mut session.ephemerals)
            .into_iter()
            .map(|path| Op::Delete { path, version: Version::Any })
            .collect();
        let done = self.commit(&mut state, id, &ops);
        debug_assert!(done.is_ok(), "ephemeral nodes have no children and are known: {done:?}");
    }
}

impl State {
    /// A new session.
    fn admit(&mut self, options: &MemoryOptions) -> SessionId {
        let newest = self.sessions.last_key_value().map_or(0, |(id, _)| id.0);
        let id = SessionId(newest + 1);
        let follower = (!options.lag.is_zero()).then(|| Follower { tree: self.leader.copy(), behind: VecDeque::new() });
        self.sessions.insert(
            id,
            Session {
                status: SessionState::Connected,
                safe_until: None,
                listeners: Vec::new(),
                sweep_at: Session::FIRST_SWEEP,
                outbox: None,
                connection: 0,
                requests: 0,
                script: BTreeMap::new(),
                closing: false,
                ephemerals: BTreeSet::new(),
                follower,
                outage: 0,
            },
        );
        id
    }

    /// Publishes that a session is over and ends its watches. `false` if it was over before.
    pub(super) fn end(&mut self, id: SessionId, how: SessionState) -> bool {
        let Some(session) = self.sessions.get_mut(&id) else { return false };
        if session.is_over() {
            return false;
        }
        session.set_status(how);
        session.outbox = None;
        session.follower = None;
        session.script.clear();
        self.leader.forget(id);
        true
    }

    /// The tree that a session reads.
    pub(super) fn view(&mut self, id: SessionId) -> &mut Tree {
        match self.sessions.get_mut(&id).and_then(|session| session.follower.as_mut()) {
            Some(follower) => &mut follower.tree,
            None => &mut self.leader,
        }
    }

    fn keep_owner(&mut self, effect: &Effect) {
        match effect {
            Effect::Created { path, stat, .. } => {
                if let Some(session) = stat.ephemeral_owner.and_then(|owner| self.sessions.get_mut(&owner)) {
                    session.ephemerals.insert(path.clone());
                }
            }
            Effect::Deleted { path, owner } => {
                if let Some(session) = owner.and_then(|owner| self.sessions.get_mut(&owner)) {
                    session.ephemerals.remove(path);
                }
            }
            Effect::Set { .. } => {}
        }
    }

    /// Puts events on their way, each to its session.
    fn deliver(&self, fired: Vec<Fired>, due: Instant) {
        for Fired { session, watch, event } in fired {
            if let Some(outbox) = self.sessions.get(&session).and_then(|session| session.outbox.as_ref()) {
                // Who closed its inbox is over, and the dropped watch says so.
                let _ = outbox.send(Delivery::event(due, watch, event));
            }
        }
    }
}

impl Session {
    const FIRST_SWEEP: usize = 64;

    pub(super) fn is_over(&self) -> bool {
        self.status.is_over()
    }

    pub(super) fn status(&self) -> SessionState {
        self.status
    }

    fn set_status(&mut self, status: SessionState) {
        self.status = status;
        for listener in &self.listeners {
            listener.send_if_modified(|last| std::mem::replace(last, status) != status);
        }
    }

    /// A listener's own channel.
    pub(super) fn listen(&mut self) -> watch::Receiver<SessionState> {
        if self.listeners.len() >= self.sweep_at {
            self.listeners.retain(|listener| !listener.is_closed());
            self.sweep_at = 2 * self.listeners.len() + Self::FIRST_SWEEP;
        }
        let (sender, receiver) = watch::channel(self.status);
        self.listeners.push(sender);
        receiver
    }
}
