//! The engine: one thread that does what all sessions of a process ask of one file.
//!
//! What came in while it worked is done in one transaction, whose writes reach the disk together. Each request is still
//! whole or not at all: one that is refused changes nothing of what the others do. Nothing is answered, and no watch
//! fires, before the transaction has ended.
//!
//! A second thread, the guard, looks at the clock alone. However long the disk keeps the first one waiting, a session is
//! declared over in time.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::{OptionalExtension, params};
use tokio::sync::oneshot;

use super::change_notifier::ChangeNotifier;
use super::connect::Told;
use super::database::{self, Database, Durability, Identity, LOCK_PATIENCE, Waiting};
use super::dead_processes::{Lives, Scope};
use super::session::{Session, Shared};
use super::tree::{Failure, Tree};
use super::watches::{Aspect, Change, ChangeKind, Watches};
use crate::store::{
    Made, Node, NodePath, Op, SessionId, SessionState, Stat, StoreError, Watch, WatchSender, boot_clock, clock,
    transaction_gate,
};

/// How often we look whether another process changed something, while anybody here watches and the system does not tell.
const LOOK_UNTOLD: Duration = Duration::from_millis(8);

/// How often at least where it does tell: it should not fail to, but no watch shall depend on that alone.
const LOOK_AT_LEAST: Duration = Duration::from_millis(100);

/// How soon we look again when we were told of a write that cannot be seen yet, which it can a flush of the disk later.
/// The next looks take twice as long each.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// How long we wait between looks that we are told to make: others may write all the time.
const LOOK_AT_MOST: Duration = Duration::from_millis(4);

/// How many requests one transaction may hold: enough to make the disk's share of each small, few enough to be done in
/// some milliseconds, since other processes wait meanwhile.
const MAX_BATCH: usize = 256;

/// How much data one transaction may bring, likewise.
const MAX_BATCH_BYTES: usize = 4 << 20;

/// How many requests may wait. Who sends more without awaiting is told so; memory has an end.
const MAX_WAITING: usize = 1 << 17;

/// How long we wait before we try for the file's lock again: short at first, since a write takes less than a millisecond.
const FIRST_LOCK_PAUSE: Duration = Duration::from_micros(100);
const LONGEST_LOCK_PAUSE: Duration = Duration::from_millis(3);

/// How long we wait between looks for sessions that are over, when others change something all the time.
const SWEEP_AT_MOST_MS: u64 = 200;

/// How long a heart-beat that failed waits for the next try.
const BEAT_RETRY_MS: u64 = 50;

/// What a session asks for.
#[derive(Debug)]
pub(super) enum Work {
    One(Op),
    Multi(Vec<Op>),
    Read(NodePath),
    ReadAndWatch(NodePath),
    Stat(NodePath),
    StatAndWatch(NodePath),
    Children(NodePath),
    ChildrenAndWatch(NodePath),
    Sync,
    Close,
}

impl Work {
    fn writes(&self) -> bool {
        matches!(self, Self::One(_) | Self::Multi(_) | Self::Close)
    }

    fn bytes(&self) -> usize {
        let of = |op: &Op| match op {
            Op::Create { data, .. } | Op::Set { data, .. } => data.len(),
            Op::Delete { .. } | Op::Check { .. } => 0,
        };
        match self {
            Self::One(op) => of(op),
            Self::Multi(ops) => ops.iter().map(of).sum(),
            _ => 0,
        }
    }

    /// What to say when it is not known whether it was done.
    pub(super) fn lost(&self) -> StoreError {
        let path = match self {
            Self::One(op) => Some(op.path()),
            Self::Multi(ops) => ops.first().map(Op::path),
            _ => None,
        };
        match path {
            Some(path) => StoreError::Ambiguous { path: path.clone() },
            None => StoreError::Unavailable { reason: String::from("the store's thread has ended") },
        }
    }
}

/// What is answered to it.
#[derive(Debug)]
pub(super) enum Answer {
    Opened(Session),
    One(Made),
    Multi(Vec<Made>),
    Node(Node, Option<Watch>),
    Stat(Option<Stat>, Option<Watch>),
    Children(Vec<String>, Option<Watch>),
    Done,
}

type ReplyTo = oneshot::Sender<Result<Answer, StoreError>>;

/// A message to the engine.
#[derive(Debug)]
pub(super) enum Request {
    /// Open a session. The engine in it is for the session to hold.
    Open { engine: Arc<Engine>, timeout: Duration, reply: ReplyTo },
    /// Do something for one.
    Do { session: Arc<Shared>, work: Work, reply: ReplyTo },
}

impl Request {
    fn writes(&self) -> bool {
        match self {
            Self::Open { .. } => true,
            Self::Do { work, .. } => work.writes(),
        }
    }

    /// Whether its session is over, so that it is not done. A session that is over may still be closed.
    fn is_too_late(&self) -> bool {
        match self {
            Self::Open { .. } => false,
            Self::Do { session, work, .. } => session.is_over() && !matches!(work, Work::Close),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Open { .. } => 0,
            Self::Do { work, .. } => work.bytes(),
        }
    }

    fn refuse(self, error: StoreError) {
        let (Self::Open { reply, .. } | Self::Do { reply, .. }) = self;
        // Whoever asked need not wait for the answer.
        let _ = reply.send(Err(error));
    }
}

/// What the engine's thread is woken by.
#[derive(Debug)]
enum Message {
    Request(Request),
    /// Somebody writes to the file.
    Rung,
}

/// What the threads share: none of it is locked while the disk is waited for.
#[derive(Debug, Default)]
struct World {
    live: Mutex<Vec<Arc<Shared>>>,
    watches: Mutex<Watches>,
    /// A [`Message::Rung`] is on its way: another is not needed.
    rung: AtomicBool,
    /// Tests make the disk full by it.
    #[cfg(test)]
    page_limit: Mutex<Option<i64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Ends the sessions whose time is up.
    fn look_at_clocks(&self) {
        let ended: Vec<_> = lock(&self.live).extract_if(.., |session| session.look_at_clock()).collect();
        for session in ended {
            lock(&self.watches).end(session.id);
        }
    }

    /// Ends one whose nodes others have taken away, or will.
    fn expire(&self, session: SessionId) {
        let ended: Vec<_> = lock(&self.live).extract_if(.., |live| live.id == session).collect();
        for session in ended {
            session.turn(SessionState::Expired);
            lock(&self.watches).end(session.id);
        }
    }

    fn shortest_timeout(&self) -> Option<Duration> {
        lock(&self.live).iter().map(|session| session.timeout).min()
    }
}

/// The end of the engine that sessions hold. When the last is dropped, the threads end and the file is closed.
#[derive(Debug)]
pub(super) struct Engine {
    messages: Arc<Sender<Message>>,
    waiting: Arc<AtomicUsize>,
    #[cfg_attr(not(test), expect(dead_code, reason = "tests silence sessions through it"))]
    world: Arc<World>,
}

impl Engine {
    /// Starts the threads. The file is opened with the first session.
    pub(super) fn start(path: PathBuf, identity: Identity, told: Told) -> Result<Arc<Self>, StoreError> {
        let (messages, inbox) = mpsc::channel();
        let messages = Arc::new(messages);
        let waiting = Arc::new(AtomicUsize::new(0));
        let world = Arc::new(World::default());
        let worker = Worker {
            inbox,
            messages: Arc::downgrade(&messages),
            waiting: Arc::clone(&waiting),
            world: Arc::clone(&world),
            path,
            identity,
            database: None,
            lives: None,
            dead: Vec::new(),
            waiting_for_file: Waiting::default(),
            told,
            process: rand::random(),
            boot_clock: boot_clock::id(),
            seen: 0,
            data_version: 0,
            change_notifier: None,
            looked: Instant::now(),
            look_after: Duration::ZERO,
            look_next: LOOK_AGAIN,
            sweep_at_ms: 0,
            swept_ms: 0,
            unsure: false,
            beat_from_ms: 0,
            beat_now: false,
        };
        let guarded = Arc::downgrade(&world);
        let start =
            |name: &str, run: Box<dyn FnOnce() + Send>| match thread::Builder::new().name(name.into()).spawn(run) {
                Ok(_) => Ok(()),
                Err(error) => Err(StoreError::Unavailable { reason: format!("cannot start a thread: {error}") }),
            };
        start("store", Box::new(move || worker.run()))?;
        start("store-guard", Box::new(move || guard(&guarded)))?;
        Ok(Arc::new(Self { messages, waiting, world }))
    }

    /// Puts a request in the queue, behind all earlier ones.
    pub(super) fn send(&self, request: Request) -> Result<(), StoreError> {
        let ended = || StoreError::Unavailable { reason: String::from("the store's thread has ended") };
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MAX_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            let reason = format!("{MAX_WAITING} requests are waiting already");
            return Err(StoreError::Unavailable { reason });
        }
        self.messages.send(Message::Request(request)).map_err(|_| ended())
    }

    #[cfg(test)]
    pub(super) fn silence(&self, session: SessionId) {
        let live = lock(&self.world.live);
        live.iter().find(|live| live.id == session).expect("the session is open").silence();
    }

    #[cfg(test)]
    pub(super) fn limit_pages(&self, pages: i64) {
        *lock(&self.world.page_limit) = Some(pages);
    }
}

/// Looks at the clocks of the sessions as long as there is an engine.
fn guard(world: &Weak<World>) {
    const LONGEST_NAP: Duration = Duration::from_millis(100);
    while let Some(world) = world.upgrade() {
        world.look_at_clocks();
        let nap = world.shortest_timeout().map_or(LONGEST_NAP, |timeout| (timeout / 20).min(LONGEST_NAP));
        drop(world);
        boot_clock::sleep(nap);
    }
}

/// What a transaction did, to be made known once it is committed. In the order in which it was done.
enum Effect {
    Opened(Arc<Shared>),
    Changed(Change),
    Watches { path: NodePath, session: Arc<Shared>, aspect: Aspect, sender: WatchSender },
    Closed(Arc<Shared>),
}

/// A transaction that can be committed.
#[derive(Default)]
struct Done {
    /// One for each request.
    results: Vec<Result<Outcome, StoreError>>,
    effects: Vec<Effect>,
    /// The last change's number.
    zxid: i64,
    /// Sessions whose heart-beat is in it, and its time.
    beaten: Vec<Arc<Shared>>,
    beat_ms: u64,
}

/// An answer before the commit: a session that is not yet there cannot be dropped by mistake.
enum Outcome {
    Answer(Answer),
    Open(Arc<Shared>),
}

/// Why a transaction was not committed.
enum Undone {
    /// Sessions ended before their requests were done: the others' are done without them.
    SessionsEnded,
    /// Nothing was done.
    Nothing(StoreError),
    /// It looks undone, and may yet be found done.
    Unknown(StoreError),
}

impl From<StoreError> for Undone {
    fn from(error: StoreError) -> Self {
        Self::Nothing(error)
    }
}

/// What is to be done beside the requests.
#[derive(Debug, Clone, Copy)]
struct Chores {
    beat: bool,
    sweep: bool,
}

struct Worker {
    inbox: Receiver<Message>,
    /// The other end, for the ear; the inbox closes with the engine.
    messages: Weak<Sender<Message>>,
    waiting: Arc<AtomicUsize>,
    world: Arc<World>,
    path: PathBuf,
    identity: Identity,
    database: Option<Database>,
    /// Which processes live; opened with the file.
    lives: Option<Lives>,
    /// The processes that were found dead, whose sessions are to be ended.
    dead: Vec<i64>,
    waiting_for_file: Waiting,
    /// What hears that another process keeps the file locked.
    told: Told,
    /// Tells our sessions' rows from others'.
    process: i64,
    boot_clock: String,
    /// The last change that our watches have heard of.
    seen: i64,
    /// What the connection said when we last looked whether others wrote.
    data_version: i64,
    /// What tells us that others write, opened with the first watch: `Some(None)` if there is no such thing.
    change_notifier: Option<Option<ChangeNotifier>>,
    /// When we last looked, how long after that we look again, and how long after that once more.
    looked: Instant,
    look_after: Duration,
    look_next: Duration,
    /// When the next session of anybody may be over.
    sweep_at_ms: u64,
    /// When we last looked for sessions that are over, and whether others changed anything since.
    swept_ms: u64,
    unsure: bool,
    /// No heart-beat before then: the last one failed.
    beat_from_ms: u64,
    /// A heart-beat is wanted though none is due, to learn whether the file can be written again.
    beat_now: bool,
}

impl Worker {
    fn run(mut self) {
        loop {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            let mut message = match self.inbox.recv_timeout(self.nap()) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    let _gate = transaction_gate::open();
                    // The last to close the file tidies up in it.
                    self.database = None;
                    return;
                }
            };
            while let Some(one) = message {
                match one {
                    Message::Request(request) => {
                        bytes += request.bytes();
                        batch.push(request);
                    }
                    Message::Rung => self.look_soon(),
                }
                let more = batch.len() < MAX_BATCH && bytes < MAX_BATCH_BYTES;
                message = if more { self.inbox.try_recv().ok() } else { None };
            }
            self.waiting.fetch_sub(batch.len(), Ordering::Relaxed);
            // We may have been stopped for any time: nothing is done for a session that ended meanwhile.
            self.world.look_at_clocks();
            self.turn(batch);
        }
    }

    /// How long nothing is to be done unless somebody asks.
    fn nap(&self) -> Duration {
        if self.database.is_none() {
            return Duration::from_secs(3600);
        }
        let now = boot_clock::now_ms();
        let until = Duration::from_millis(self.beat_at_ms().min(self.sweep_at_ms).saturating_sub(now));
        let look = match lock(&self.world.watches).is_empty() {
            true => Duration::from_secs(3600),
            false => {
                let lives = self.lives.as_ref().map_or(Duration::MAX, Lives::due_in);
                self.look_after.saturating_sub(self.looked.elapsed()).min(lives)
            }
        };
        until.min(look)
    }

    /// We were told that somebody writes.
    fn look_soon(&mut self) {
        self.world.rung.store(false, Ordering::Release);
        self.look_after = self.looked.elapsed().max(LOOK_AT_MOST);
        self.look_next = LOOK_AGAIN;
    }

    /// Whether others wrote, if it is time to look.
    fn look(&mut self) -> bool {
        if lock(&self.world.watches).is_empty() || self.looked.elapsed() < self.look_after {
            return false;
        }
        let path = &self.path;
        let (messages, world) = (&self.messages, &self.world);
        let change_notifier = self.change_notifier.get_or_insert_with(|| {
            let (messages, world) = (Weak::clone(messages), Arc::downgrade(world));
            ChangeNotifier::open(path, move || {
                if let (Some(messages), Some(world)) = (messages.upgrade(), world.upgrade())
                    && !world.rung.swap(true, Ordering::AcqRel)
                {
                    // Nobody reads it any more when the engine ends.
                    let _ = messages.send(Message::Rung);
                }
            })
        });
        self.looked = Instant::now();
        match change_notifier {
            Some(_) => {
                self.look_after = self.look_next;
                self.look_next = (self.look_next * 2).min(LOOK_AT_LEAST);
            }
            None => self.look_after = LOOK_UNTOLD,
        }
        self.others_wrote()
    }

    fn beat_at_ms(&self) -> u64 {
        let live = lock(&self.world.live);
        let due = live.iter().map(|session| session.beat_at_ms()).min().unwrap_or(u64::MAX);
        match self.beat_now && due != u64::MAX {
            true => self.beat_from_ms,
            false => due.max(self.beat_from_ms),
        }
    }

    fn turn(&mut self, batch: Vec<Request>) {
        if self.database.is_none() {
            let told = &self.told;
            match Database::open(&self.path, self.identity, &mut self.waiting_for_file, |blocked| told.tell(blocked)) {
                Ok(database) => {
                    self.lives = Some(Lives::new(&self.path, self.process));
                    self.database = Some(database);
                    self.tidy();
                }
                Err(error) => {
                    for request in batch {
                        request.refuse(error.clone());
                    }
                    return;
                }
            }
        }
        let now = boot_clock::now_ms();
        self.look_who_lives(&batch);
        let moved = self.look();
        // A session that others opened meanwhile may be over before those that we know.
        let unsure = self.unsure && now >= self.swept_ms + SWEEP_AT_MOST_MS;
        let beat = now >= self.beat_at_ms();
        let sweep = (unsure || beat || now >= self.sweep_at_ms) && self.is_sweep_due(now) || !self.dead.is_empty();
        let chores = Chores { beat, sweep };
        if moved || chores.beat || chores.sweep || !batch.is_empty() {
            self.serve(batch, chores);
        }
    }

    /// Looks for processes that were killed: all of them for a new session, which shall find free what is free, and from time to
    /// time while a session here waits. What cannot be answered is found when the sessions time out.
    fn look_who_lives(&mut self, batch: &[Request]) {
        let is_new = batch.iter().any(|request| matches!(request, Request::Open { .. }));
        let (Some(database), Some(lives)) = (&self.database, &mut self.lives) else { return };
        if is_new {
            lives.begin(&self.path);
        }
        if is_new || !lock(&self.world.watches).is_empty() && lives.due_in().is_zero() {
            let scope = if is_new { Scope::All } else { Scope::Some };
            let _gate = transaction_gate::open();
            self.dead = lives.dead(&database.connection, &self.boot_clock, scope).unwrap_or_default();
        }
    }

    /// Deletes what killed processes have left beside the file.
    fn tidy(&self) {
        let (Some(database), Some(lives)) = (&self.database, &self.lives) else { return };
        let _gate = transaction_gate::open();
        // The next process tidies up what cannot be tidied up now.
        let _ = lives.tidy(&database.connection);
    }

    /// Whether anybody else changed anything since we last heard. What cannot be answered is answered no: a heart-beat will
    /// find out what is wrong.
    fn others_wrote(&mut self) -> bool {
        let Some(database) = &self.database else { return false };
        let _gate = transaction_gate::open();
        let ask = |question| {
            let mut statement = database.connection.prepare_cached(question)?;
            statement.query_row([], |row| row.get::<_, i64>(0))
        };
        // The first is answered from shared memory alone.
        match ask("PRAGMA data_version") {
            Ok(version) if version != self.data_version => {
                self.data_version = version;
                self.unsure = true;
                self.look_next = self.look_next.max(LOOK_AT_LEAST / 8);
                // Most of what others write are heart-beats.
                ask("SELECT zxid FROM counter").is_ok_and(|zxid| zxid != self.seen)
            }
            Ok(_) | Err(_) => false,
        }
    }

    /// Whether any session is over by its row; and if not, when to look again.
    fn is_sweep_due(&mut self, now: u64) -> bool {
        let Some(database) = &self.database else { return false };
        (self.unsure, self.swept_ms) = (false, now);
        let _gate = transaction_gate::open();
        let asked = database
            .connection
            .prepare_cached(
                "SELECT min(expires_ms), max(boot <> ?1 OR expires_ms <= ?2 OR expires_ms > ?2 + timeout_ms) FROM sessions",
            )
            .and_then(|mut statement| {
                statement.query_row(params![self.boot_clock, signed(now)], |row| {
                    Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<bool>>(1)?))
                })
            });
        match asked {
            Ok((_, Some(true))) => true,
            Ok((next, _)) => {
                self.sweep_at_ms = next.map_or(u64::MAX, i64::unsigned_abs);
                false
            }
            Err(_) => {
                self.sweep_at_ms = now + BEAT_RETRY_MS;
                false
            }
        }
    }

    /// Does all that can be done and answers all.
    fn serve(&mut self, mut batch: Vec<Request>, chores: Chores) {
        // Each further round is for sessions that ended in the one before, and a session ends once.
        loop {
            for request in batch.extract_if(.., |request| request.is_too_late()) {
                request.refuse(StoreError::SessionOver);
            }
            if batch.is_empty() && lock(&self.world.live).is_empty() && !chores.sweep {
                return;
            }
            match self.transact(&batch, chores) {
                Ok(done) => return self.tell(batch, done),
                Err(Undone::SessionsEnded) => {}
                Err(Undone::Nothing(error)) => return self.fail(batch, &error, |_| None),
                Err(Undone::Unknown(error)) => {
                    return self.fail(batch, &error, |work| work.writes().then(|| work.lost()));
                }
            }
        }
    }

    fn fail(&mut self, batch: Vec<Request>, error: &StoreError, instead: impl Fn(&Work) -> Option<StoreError>) {
        for session in lock(&self.world.live).iter() {
            session.turn(SessionState::Suspended);
        }
        self.beat_now = true;
        self.beat_from_ms = boot_clock::now_ms() + BEAT_RETRY_MS;
        self.sweep_at_ms = self.sweep_at_ms.max(self.beat_from_ms);
        for request in batch {
            let error = match &request {
                Request::Do { work, .. } => instead(work).unwrap_or_else(|| error.clone()),
                Request::Open { .. } => error.clone(),
            };
            request.refuse(error);
        }
    }

    /// After the commit: says what happened, first to the watches.
    fn tell(&mut self, batch: Vec<Request>, done: Done) {
        for session in &done.beaten {
            session.heard(done.beat_ms);
        }
        if !done.beaten.is_empty() {
            self.beat_now = false;
        }
        let mut is_one_closed = false;
        for effect in done.effects {
            match effect {
                Effect::Opened(session) => {
                    self.sweep_at_ms = self.sweep_at_ms.min(done.beat_ms + session.timeout_ms());
                    lock(&self.world.live).push(session);
                }
                Effect::Changed(change) => lock(&self.world.watches).fire(&change),
                Effect::Watches { path, session, aspect, sender } => {
                    let mut watches = lock(&self.world.watches);
                    // Looked at under the lock: the guard ends a session first and its watches then.
                    if !session.is_over() {
                        watches.add(path, session.id, aspect, sender);
                    }
                }
                Effect::Closed(session) => {
                    lock(&self.world.live).retain(|live| live.id != session.id);
                    lock(&self.world.watches).end(session.id);
                    is_one_closed = true;
                }
            }
        }
        // Before it is answered: the process may end then.
        if let Some(lives) = self.lives.as_mut().filter(|_| is_one_closed && lock(&self.world.live).is_empty()) {
            lives.end();
        }
        for (request, result) in batch.into_iter().zip(done.results) {
            match (request, result) {
                (Request::Open { engine, reply, .. }, Ok(Outcome::Open(shared))) => {
                    // Not wanted any more, the session is dropped, and so closed.
                    let _ = reply.send(Ok(Answer::Opened(Session::new(engine, shared))));
                }
                (Request::Do { reply, .. }, Ok(Outcome::Answer(answer))) => {
                    let _ = reply.send(Ok(answer));
                }
                (request, Err(error)) => request.refuse(error),
                (request, Ok(_)) => {
                    request.refuse(StoreError::Broken { reason: String::from("an answer to another question") });
                }
            }
        }
    }

    /// One transaction, begun, filled and committed; or nothing.
    fn transact(&mut self, batch: &[Request], chores: Chores) -> Result<Done, Undone> {
        let writes = chores.beat || chores.sweep || batch.iter().any(Request::writes);
        let lasts = batch.iter().any(|request| matches!(request, Request::Do { work, .. } if work.writes()));
        // Until the transaction has ended.
        let (zxid, _gate) = self.begin(batch, writes, if lasts { Durability::Disk } else { Durability::Machine })?;
        let filled = self.hear(zxid).and_then(|()| self.fill(batch, writes, chores, zxid));
        // Told apart from those that were over when their requests were looked at.
        self.world.look_at_clocks();
        let filled = filled.and_then(|(done, over)| match batch.iter().map(Request::is_too_late).eq(over) {
            true => Ok(done),
            false => Err(Undone::SessionsEnded),
        });
        let database = self.database.as_mut().expect("opened before the first request");
        let done = match filled {
            Ok(done) => done,
            Err(undone) => {
                roll_back(database);
                return Err(undone);
            }
        };
        for effect in &done.effects {
            // Before anybody can see its nodes gone.
            if let Effect::Closed(session) = effect {
                session.turn(SessionState::Closed);
            }
        }
        let committed = database.connection.prepare_cached("COMMIT").and_then(|mut commit| commit.execute([]));
        if let Err(error) = committed {
            roll_back(database);
            let told = database.explain("write", &error);
            return Err(if database::is_ambiguous(&error) { Undone::Unknown(told) } else { Undone::Nothing(told) });
        }
        // Our own changes are told from memory.
        self.seen = done.zxid;
        if chores.sweep {
            for process in self.dead.drain(..) {
                self.lives.iter().for_each(|lives| lives.bury(process));
            }
        }
        if writes {
            // A file that is nobody's any more took it: nobody will see it.
            database.check_place()?;
        }
        Ok(done)
    }

    /// Begins a transaction and gives the last change's number in it, and the gate that stays open as long.
    fn begin(
        &mut self,
        batch: &[Request],
        writes: bool,
        durability: Durability,
    ) -> Result<(i64, transaction_gate::Open), Undone> {
        let database = self.database.as_mut().expect("opened before the first request");
        #[cfg(test)]
        if let Some(pages) = lock(&self.world.page_limit).take() {
            database.connection.pragma_update(None, "max_page_count", pages).expect("a limit can be set");
        }
        database.check_place()?;
        if writes {
            database.set_durability(durability).map_err(|error| database.explain("write", &error))?;
        }
        let started = Instant::now();
        let mut pause = FIRST_LOCK_PAUSE;
        loop {
            let transaction_gate = transaction_gate::open();
            let connection = &database.connection;
            let begun = connection
                .prepare_cached(if writes { "BEGIN IMMEDIATE" } else { "BEGIN" })
                .and_then(|mut begin| begin.execute([]))
                .and_then(|_| connection.prepare_cached("SELECT zxid FROM counter"))
                .and_then(|mut statement| statement.query_row([], |row| row.get(0)));
            match begun {
                Ok(zxid) => {
                    self.waiting_for_file.is_over();
                    return Ok((zxid, transaction_gate));
                }
                Err(error) => {
                    roll_back(database);
                    drop(transaction_gate);
                    if !database::is_busy(&error) {
                        return Err(database.explain(if writes { "write" } else { "read" }, &error).into());
                    }
                }
            }
            self.world.look_at_clocks();
            if batch.iter().any(Request::is_too_late) {
                return Err(Undone::SessionsEnded);
            }
            let told = &self.told;
            self.waiting_for_file.goes_on(|waited| database.blocked(waited), |blocked| told.tell(blocked));
            if started.elapsed() >= LOCK_PATIENCE {
                return Err(database::locked(&database.blocked(started.elapsed())).into());
            }
            // Spread, so that many who wait do not try at the same moment.
            thread::sleep(pause.mul_f64(rand::random_range(0.5..1.0)));
            pause = (pause * 2).min(LONGEST_LOCK_PAUSE);
        }
    }

    /// Fires our watches for what others did up to `zxid`. Whatever this transaction reads is from then, so watches that it
    /// sets are for what comes later.
    fn hear(&mut self, zxid: i64) -> Result<(), Undone> {
        self.unsure |= zxid > self.seen;
        if zxid > self.seen && !lock(&self.world.watches).is_empty() {
            let changes = self.changes_since(self.seen).map_err(|error| self.explain("read", &error))?;
            let mut watches = lock(&self.world.watches);
            for change in changes {
                watches.fire(&change);
            }
        }
        self.seen = zxid;
        Ok(())
    }

    fn changes_since(&self, zxid: i64) -> Result<Vec<Change>, rusqlite::Error> {
        let connection = &self.database.as_ref().expect("opened before the first request").connection;
        let mut statement =
            connection.prepare_cached("SELECT zxid, kind, path FROM changes WHERE zxid > ?1 ORDER BY zxid")?;
        let rows = statement
            .query_map([zxid], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?)))?;
        let mut changes = Vec::new();
        for row in rows {
            let (zxid, kind, path) = row?;
            // What we cannot read, a store of our version did not write, and nobody here can have watched.
            if let (Some(kind), Ok(path)) = (ChangeKind::from_number(kind), NodePath::parse(&path)) {
                changes.push(Change { zxid, path, kind });
            }
        }
        Ok(changes)
    }

    fn explain(&self, tried: &str, error: &rusqlite::Error) -> Undone {
        self.database.as_ref().expect("opened before the first request").explain(tried, error).into()
    }

    /// Everything in the transaction; and which of the requests came too late.
    fn fill(
        &mut self,
        batch: &[Request],
        writes: bool,
        chores: Chores,
        zxid: i64,
    ) -> Result<(Done, Vec<bool>), Undone> {
        let tried = if writes { "write" } else { "read" };
        self.try_fill(batch, writes, chores, zxid).map_err(|error| self.explain(tried, &error))
    }

    fn try_fill(
        &mut self,
        batch: &[Request],
        writes: bool,
        chores: Chores,
        zxid: i64,
    ) -> Result<(Done, Vec<bool>), rusqlite::Error> {
        let connection = &self.database.as_ref().expect("opened before the first request").connection;
        let mut tree = Tree::new(connection, zxid, clock::kernel_ms());
        let mut done = Done { beat_ms: boot_clock::now_ms(), ..Done::default() };
        if writes {
            self.end_removed(batch)?;
        }
        if chores.beat {
            self.beat(&mut done)?;
        }
        if chores.sweep {
            self.sweep(&mut tree, &mut done)?;
        }
        let over: Vec<bool> = batch.iter().map(Request::is_too_late).collect();
        let mut closed = HashSet::new();
        for (request, over) in batch.iter().zip(&over) {
            let result = match request {
                Request::Open { timeout, .. } => self.open(*timeout, &mut done),
                Request::Do { session, work, .. } if *over || closed.contains(&session.id) && !is_close(work) => {
                    Err(Failure::Refused(StoreError::SessionOver))
                }
                Request::Do { session, work: Work::Close, .. } => {
                    if closed.insert(session.id) {
                        tree.end_session(session.id, |change| done.effects.push(Effect::Changed(change)))?;
                        done.effects.push(Effect::Closed(Arc::clone(session)));
                    }
                    Ok(Outcome::Answer(Answer::Done))
                }
                Request::Do { session, work, .. } => {
                    perform(&mut tree, session, work, &mut done.effects).map(Outcome::Answer)
                }
            };
            done.results.push(match result {
                Ok(outcome) => Ok(outcome),
                Err(Failure::Refused(error)) => Err(error),
                Err(Failure::Database(error)) => return Err(error),
            });
        }
        if writes {
            self.note_changes(&done.effects)?;
            if tree.zxid != zxid {
                connection.prepare_cached("UPDATE counter SET zxid = ?1")?.execute([tree.zxid])?;
            }
        }
        done.zxid = tree.zxid;
        Ok((done, over))
    }

    /// Ends those sessions of the batch whose rows others have removed.
    fn end_removed(&self, batch: &[Request]) -> Result<(), rusqlite::Error> {
        let connection = &self.database.as_ref().expect("opened before the first request").connection;
        let mut statement = connection.prepare_cached("SELECT 1 FROM sessions WHERE id = ?1")?;
        let mut looked_at = HashSet::new();
        for request in batch {
            if let Request::Do { session, .. } = request
                && !session.is_over()
                && looked_at.insert(session.id)
                && !statement.exists([session.id.0])?
            {
                self.world.expire(session.id);
            }
        }
        Ok(())
    }

    /// Renews the rows of all sessions of ours. One whose row is gone has ended.
    fn beat(&self, done: &mut Done) -> Result<(), rusqlite::Error> {
        let connection = &self.database.as_ref().expect("opened before the first request").connection;
        let mut statement =
            connection.prepare_cached("UPDATE sessions SET expires_ms = ?2, seen = ?3 WHERE id = ?1")?;
        let live: Vec<_> = lock(&self.world.live).iter().filter(|s| s.beat_at_ms() != u64::MAX).cloned().collect();
        for session in live {
            let expires = signed(done.beat_ms.saturating_add(session.timeout_ms()));
            if statement.execute(params![session.id.0, expires, self.seen])? == 0 {
                self.world.expire(session.id);
            } else {
                done.beaten.push(session);
            }
        }
        // Changes that every process has read are of no more use.
        connection
            .prepare_cached("DELETE FROM changes WHERE zxid <= (SELECT coalesce(min(seen), 0) FROM sessions)")?
            .execute([])?;
        Ok(())
    }

    /// Removes the sessions that are over, and their nodes.
    fn sweep(&self, tree: &mut Tree<'_>, done: &mut Done) -> Result<(), rusqlite::Error> {
        let connection = &self.database.as_ref().expect("opened before the first request").connection;
        let mut statement = connection.prepare_cached(
            "SELECT id FROM sessions WHERE boot <> ?1 OR expires_ms <= ?2 OR expires_ms > ?2 + timeout_ms",
        )?;
        let over = statement.query_map(params![self.boot_clock, signed(done.beat_ms)], |row| row.get(0))?;
        let mut over = over.collect::<Result<Vec<i64>, _>>()?;
        let mut of_process = connection.prepare_cached("SELECT id FROM sessions WHERE process = ?1")?;
        for process in &self.dead {
            for id in of_process.query_map([process], |row| row.get(0))? {
                over.push(id?);
            }
        }
        for id in over {
            // If it is our own, its clock has told it already.
            self.world.expire(SessionId(id));
            tree.end_session(SessionId(id), |change| done.effects.push(Effect::Changed(change)))?;
        }
        Ok(())
    }

    fn open(&self, timeout: Duration, done: &mut Done) -> Result<Outcome, Failure> {
        let connection = &self.database.as_ref().expect("opened before the first request").connection;
        let mut statement = connection.prepare_cached(
            "INSERT INTO sessions (id, process, boot, timeout_ms, expires_ms, seen) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO NOTHING",
        )?;
        loop {
            let id = rand::random_range(1..=i64::MAX);
            let shared = Arc::new(Shared::new(SessionId(id), timeout, done.beat_ms));
            let timeout_ms = shared.timeout_ms();
            let expires = signed(done.beat_ms.saturating_add(timeout_ms));
            let row = params![id, self.process, self.boot_clock, signed(timeout_ms), expires, self.seen];
            if statement.execute(row)? == 1 {
                done.effects.push(Effect::Opened(Arc::clone(&shared)));
                return Ok(Outcome::Open(shared));
            }
        }
    }

    /// Writes down what changed for the processes that may watch it; alone, we have nobody to tell.
    fn note_changes(&self, effects: &[Effect]) -> Result<(), rusqlite::Error> {
        let connection = &self.database.as_ref().expect("opened before the first request").connection;
        let others = connection
            .prepare_cached("SELECT 1 FROM sessions WHERE process <> ?1 LIMIT 1")?
            .query_row([self.process], |_| Ok(()))
            .optional()?;
        if others.is_none() {
            return Ok(());
        }
        let mut statement = connection.prepare_cached("INSERT INTO changes (zxid, kind, path) VALUES (?1, ?2, ?3)")?;
        for effect in effects {
            if let Effect::Changed(change) = effect {
                statement.execute(params![change.zxid, change.kind as i64, change.path.as_str()])?;
            }
        }
        Ok(())
    }
}

fn is_close(work: &Work) -> bool {
    matches!(work, Work::Close)
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Whatever went wrong, nothing of the transaction is left, and the next can begin.
fn roll_back(database: &Database) {
    if !database.connection.is_autocommit() {
        // One that fails has been rolled back by SQLite itself.
        let _ = database.connection.execute_batch("ROLLBACK");
    }
}

/// Does one request that is no close.
fn perform(
    tree: &mut Tree<'_>,
    session: &Arc<Shared>,
    work: &Work,
    effects: &mut Vec<Effect>,
) -> Result<Answer, Failure> {
    let mut watch = |path: &NodePath, aspect| {
        let (sender, watch) = Watch::channel();
        effects.push(Effect::Watches { path: path.clone(), session: Arc::clone(session), aspect, sender });
        watch
    };
    Ok(match work {
        Work::Read(path) => Answer::Node(tree.read(path)?, None),
        Work::ReadAndWatch(path) => Answer::Node(tree.read(path)?, Some(watch(path, Aspect::Node))),
        Work::Stat(path) => Answer::Stat(tree.stat(path)?, None),
        Work::StatAndWatch(path) => Answer::Stat(tree.stat(path)?, Some(watch(path, Aspect::Node))),
        Work::Children(path) => Answer::Children(tree.children(path)?, None),
        Work::ChildrenAndWatch(path) => Answer::Children(tree.children(path)?, Some(watch(path, Aspect::Children))),
        Work::Sync | Work::Close => Answer::Done,
        Work::One(op) => Answer::One(tree.apply(op, session.id, |change| effects.push(Effect::Changed(change)))?),
        Work::Multi(ops) => {
            let before = effects.len();
            let made = tree.apply_all(ops, session.id, |change| effects.push(Effect::Changed(change)));
            if made.is_err() {
                effects.truncate(before);
            }
            Answer::Multi(made?)
        }
    })
}
