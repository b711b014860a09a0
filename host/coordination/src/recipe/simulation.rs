//! The recipe's real code under faults at random: thousands of seeds, each a world of its own in virtual time.
//!
//! A seed draws slots, latency, lag, rates of every fault, and clients: some that acquire, hold, release, drop, cancel, force
//! and expire at random, some that do as kazoo does. Then the faults stop, and everybody must get through. The store's own
//! history is judged afterwards, change by change. `LOCKKEEPER_SEED=n` runs one seed and tells its story;
//! `LOCKKEEPER_SEEDS=n` runs so many.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::behaviour::{self, acquire_as, alone, force};
use super::{
    AcquireError, Acquired, Acquisition, ForceError, Identifier, IfHeld, Lease, Ownership, Patience, Semaphore,
};
use crate::memory::{Change, Chaos, Effect, Memory, MemoryOptions, MemoryStore};
use crate::store::{Fence, Lifetime, NodeKind, NodePath, SessionId, Store, StoreError, Version};

/// How many seeds a test run takes.
const SEEDS: u64 = 2500;

/// When the faults stop.
const FAULTS_STOP: Duration = Duration::from_secs(40);

/// After that everybody must be through by then: many session time-outs.
const ALL_THROUGH: Duration = Duration::from_secs(400);

const POOL: &str = "/locks/it";
const QUEUE: &str = "/locks/it-__lock__";

/// What a lease over the limit has as its identifier.
const OVER: &str = "over";

/// An identifier that all clients have in common, and claim.
const ONE: &str = "one";

/// What one seed drew.
#[derive(Debug)]
struct Draw {
    slots: u32,
    /// Children of the pool that nobody takes away.
    garbage: u32,
    clients: u64,
    kazoos: u64,
    rounds: u32,
    forcing: bool,
    options: MemoryOptions,
}

/// What the clients tell the judge.
#[derive(Debug, Default)]
struct Notes {
    /// Identifiers whose persistent lease may be there still: of a holder that let it be, or, with the session, if
    /// that has ended before its clean-up.
    may_stay: Vec<(String, Option<Arc<MemoryStore>>)>,
    /// Leases had: asked for at, had at, and the fence.
    grants: Vec<(Instant, Instant, Fence)>,
    counts: BTreeMap<&'static str, u64>,
}

impl Notes {
    /// Identifiers that may have a persistent lease without a client that knows of it.
    fn may_stay(&self) -> BTreeSet<String> {
        let over = |store: &Arc<MemoryStore>| store.session().borrow().is_over();
        self.may_stay
            .iter()
            .filter(|(_, store)| store.as_ref().is_none_or(over))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

type Shared = Arc<Mutex<Notes>>;

fn count(notes: &Shared, what: &'static str) {
    *notes.lock().unwrap().counts.entry(what).or_default() += 1;
}

fn path(text: &str) -> NodePath {
    NodePath::parse(text).unwrap()
}

fn up_to_ms(dice: &mut Xoshiro256PlusPlus, most: u64) -> Duration {
    Duration::from_millis(dice.random_range(0..=most))
}

fn draw(seed: u64) -> Draw {
    let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed);
    let many = dice.random_bool(0.1);
    let slots = if many { 18 } else { dice.random_range(1..=3) };
    let rate = *[0.0, 0.005, 0.02, 0.06].get(dice.random_range(0..4)).unwrap();
    let longest = Duration::from_millis(*[50, 500, 11_000].get(dice.random_range(0..3)).unwrap());
    let chaos = Chaos::all(seed, rate, longest);
    let round_trip = Duration::from_millis(*[0, 2, 10].get(dice.random_range(0..3)).unwrap());
    let lag = Duration::from_millis(*[0, 0, 15, 200].get(dice.random_range(0..4)).unwrap());
    Draw {
        slots,
        garbage: if many { slots - 2 } else { 0 },
        clients: dice.random_range(2..=5),
        kazoos: dice.random_range(0..=2),
        rounds: dice.random_range(2..=4),
        forcing: dice.random_bool(0.5),
        options: MemoryOptions { round_trip, lag, chaos: Some(chaos), ..MemoryOptions::default() },
    }
}

/// One client of ours.
struct Client {
    name: String,
    memory: Memory,
    slots: NonZeroU32,
    dice: Xoshiro256PlusPlus,
    notes: Shared,
    forcing: bool,
    store: Arc<MemoryStore>,
    semaphore: Semaphore,
    /// Every semaphore it had, to wait for their clean-ups.
    all: Vec<(Arc<MemoryStore>, Semaphore)>,
}

impl Client {
    fn new(number: u64, seed: u64, draw: &Draw, memory: &Memory, notes: &Shared) -> Self {
        let mut dice = Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_mul(1000) + number);
        let slots = NonZeroU32::new(draw.slots).unwrap();
        let store = memory.open();
        let semaphore = fresh(&store, slots, &mut dice);
        Self {
            name: format!("client-{number}"),
            memory: memory.clone(),
            slots,
            dice,
            notes: Arc::clone(notes),
            forcing: draw.forcing,
            all: vec![(Arc::clone(&store), semaphore.clone())],
            store,
            semaphore,
        }
    }

    /// Another session where the last is over.
    fn renew(&mut self) {
        if self.store.session().borrow().is_over() {
            self.store = self.memory.open();
            self.semaphore = fresh(&self.store, self.slots, &mut self.dice);
            self.all.push((Arc::clone(&self.store), self.semaphore.clone()));
            count(&self.notes, "sessions renewed");
        }
    }

    async fn live(mut self, rounds: u32) -> Vec<(Arc<MemoryStore>, Semaphore)> {
        for _ in 0..rounds {
            sleep(up_to_ms(&mut self.dice, 300)).await;
            self.renew();
            if self.forcing && self.dice.random_bool(0.3) {
                self.force().await;
            } else {
                self.acquire().await;
            }
        }
        self.all
    }

    /// A persistent lease may be there still if the session ended before it could be deleted.
    fn may_stay(&self, lifetime: Lifetime) {
        if lifetime == Lifetime::Persistent {
            self.notes.lock().unwrap().may_stay.push((self.name.clone(), Some(Arc::clone(&self.store))));
        }
    }

    async fn acquire(&mut self) {
        let lifetime = if self.dice.random_bool(0.4) { Lifetime::Persistent } else { Lifetime::Ephemeral };
        let patience = match self.dice.random_range(0..6) {
            0 => Patience::Once,
            1 => Patience::Until(Instant::now() + up_to_ms(&mut self.dice, 400)),
            _ => Patience::Forever,
        };
        // All clients have this identifier in common, and claim it.
        let exclusive = self.dice.random_bool(0.3);
        let (name, lifetime) = if exclusive { (ONE, Lifetime::Ephemeral) } else { (self.name.as_str(), lifetime) };
        let identifier = Identifier::new(name).unwrap();
        let if_held = if self.dice.random_bool(0.5) { IfHeld::Wait } else { IfHeld::Refuse };
        let ownership = match (exclusive, lifetime) {
            (true, _) => behaviour::run("a run", if_held),
            (false, Lifetime::Persistent) => behaviour::hand(),
            (false, Lifetime::Ephemeral) => Ownership::Own,
        };
        let asked = Instant::now();
        let acquiring = acquire_as(&self.semaphore, &identifier, lifetime, patience, &ownership);
        let acquired = if self.dice.random_bool(0.15) {
            let at = asked + up_to_ms(&mut self.dice, 100);
            match timeout_at(at, acquiring).await {
                Ok(acquired) => acquired,
                Err(_) => {
                    // Its clean-up may come too late for a session that ends.
                    self.may_stay(lifetime);
                    count(&self.notes, "cancelled");
                    return;
                }
            }
        } else {
            acquiring.await
        };
        match acquired {
            // Of a tool that knows no claims; here there is none under this identifier.
            Ok(Acquired { older: Some(older), .. }) => panic!("{}: {older:?} is older", self.name),
            Ok(Acquired { lease, how, .. }) => {
                if how == Acquisition::Fresh {
                    self.notes.lock().unwrap().grants.push((asked, Instant::now(), lease.fence()));
                }
                count(&self.notes, if how == Acquisition::Fresh { "fresh" } else { "reentered" });
                self.hold(lease).await;
            }
            Err(AcquireError::SessionOver { .. }) => {
                self.may_stay(lifetime);
                count(&self.notes, "session over");
            }
            Err(AcquireError::TimedOut { .. }) => {
                // The session may end before the clean-up does.
                self.may_stay(lifetime);
                count(&self.notes, "timed out");
            }
            Err(AcquireError::Full { .. }) => count(&self.notes, "full"),
            Err(AcquireError::Held { .. }) if exclusive => count(&self.notes, "held by another"),
            Err(AcquireError::Store { source: StoreError::Unavailable { .. }, .. }) if patience == Patience::Once => {
                self.may_stay(lifetime);
                count(&self.notes, "unavailable");
            }
            Err(error) => panic!("{}: {error:?}", self.name),
        }
    }

    async fn hold(&mut self, lease: Lease) {
        let lifetime = lease.lifetime();
        let time = up_to_ms(&mut self.dice, 60);
        let _ = timeout(time, lease.lost()).await;
        match self.dice.random_range(0..10) {
            0 => {
                self.memory.expire(self.store.session_id());
                self.may_stay(lifetime);
                count(&self.notes, "expired while holding");
            }
            1 => {
                drop(lease);
                if lifetime == Lifetime::Persistent {
                    self.notes.lock().unwrap().may_stay.push((self.name.clone(), None));
                }
                count(&self.notes, "dropped");
            }
            2 => {
                // Its own transaction, whose answer is awaited until it is known.
                let done = self.store.multi(lease.deletion().ops()).await;
                if done.is_ok() {
                    lease.forget();
                } else if lease.release().await.is_err() {
                    self.may_stay(lifetime);
                }
            }
            3 => {
                let _ = timeout(Duration::from_millis(1), lease.release()).await;
                self.may_stay(lifetime);
            }
            _ => {
                if lease.release().await.is_err() {
                    self.may_stay(lifetime);
                }
            }
        }
    }

    async fn force(&mut self) {
        let over = self.dice.random_bool(0.3);
        let name = if over { OVER } else { &self.name };
        let identifier = Identifier::new(name).unwrap();
        let holders = self.semaphore.holders().await.unwrap_or_default();
        let victims: Vec<Fence> = holders
            .iter()
            .filter(|holder| holder.identifier != OVER && holder.identifier != "garbage")
            .map(|holder| holder.fence)
            .take(self.dice.random_range(1..=2))
            .collect();
        let breaking = if over { &[][..] } else { &victims };
        if !over && victims.is_empty() {
            return;
        }
        match force(&self.semaphore, &identifier, Lifetime::Ephemeral, breaking, &alone).await {
            Ok(lease) => {
                count(&self.notes, if over { "forced over" } else { "taken over" });
                let _ = timeout(up_to_ms(&mut self.dice, 60), lease.lost()).await;
                // An error is the session's end, which takes the lease along.
                let _ = lease.release().await;
            }
            Err(ForceError::Held { .. }) => count(&self.notes, "held already"),
            Err(ForceError::Conflict { .. }) => count(&self.notes, "conflict"),
            Err(ForceError::Deleted { .. }) => count(&self.notes, "deleted at once"),
            Err(ForceError::SessionOver { .. }) => count(&self.notes, "session over"),
            Err(error) => panic!("{}: {error:?}", self.name),
        }
    }
}

fn fresh(store: &Arc<MemoryStore>, slots: NonZeroU32, dice: &mut Xoshiro256PlusPlus) -> Semaphore {
    Semaphore::seeded(Arc::clone(store) as Arc<dyn Store>, path(POOL), slots, dice.random())
}

/// A caller that does as kazoo does, and whose program ends at the first fault.
async fn kazoo(memory: Memory, draw_slots: usize, rounds: u32, mut dice: Xoshiro256PlusPlus, notes: Shared) {
    for _ in 0..rounds {
        sleep(up_to_ms(&mut dice, 300)).await;
        let store = memory.open();
        let work = up_to_ms(&mut dice, 40);
        let name = format!("{:032x}", dice.random::<u128>());
        // kazoo's own timeout; whatever it had goes with the session.
        let done = timeout(Duration::from_secs(60), as_kazoo(&store, draw_slots, &name, work)).await;
        count(&notes, if matches!(done, Ok(Ok(()))) { "kazoo served" } else { "kazoo failed" });
        let _ = store.close().await;
    }
}

async fn as_kazoo(store: &MemoryStore, slots: usize, name: &str, work: Duration) -> Result<(), StoreError> {
    let (pool, queue) = (path(POOL), path(QUEUE));
    let lease = pool.child(name);
    store.stat(&lease).await?;
    store.stat(&queue).await?;
    let entry = queue.child(&format!("{name}__lock__"));
    let entry = store.create(&entry, Bytes::from_static(b"b'kazoo'"), NodeKind::EphemeralSequential).await?;
    loop {
        let names = store.children(&queue).await?;
        let contenders = super::names::contenders(&names);
        let Some(place) = contenders.iter().position(|name| *name == entry.name()) else { return Ok(()) };
        if place == 0 {
            break;
        }
        let (stat, mut watch) = store.stat_and_watch(&queue.child(contenders[place - 1])).await?;
        if stat.is_some() {
            watch.fired().await;
        }
    }
    loop {
        let (leases, mut watch) = store.children_and_watch(&pool).await?;
        if leases.len() < slots {
            store.create(&lease, Bytes::from_static(b"kazoo"), NodeKind::Ephemeral).await?;
        }
        if store.stat(&lease).await?.is_some() {
            break;
        }
        watch.fired().await;
    }
    store.delete(&entry, Version::Any).await?;
    sleep(work).await;
    store.delete(&lease, Version::Any).await
}

/// Once the faults have stopped, an operator unlocks what sessions that ended may have left: nothing else ever would.
async fn operate(memory: Memory, slots: NonZeroU32, notes: Shared) {
    sleep(FAULTS_STOP).await;
    let store = memory.open();
    let semaphore = fresh(&store, slots, &mut Xoshiro256PlusPlus::seed_from_u64(0));
    loop {
        sleep(Duration::from_secs(5)).await;
        let names = notes.lock().unwrap().may_stay();
        for name in names {
            let unlocked = semaphore.unlock(&Identifier::new(name).unwrap()).await.unwrap();
            if unlocked.released > 0 {
                count(&notes, "unlocked");
            }
        }
    }
}

/// Judges the history: at every change no more leases than slots, those over the limit by order apart.
fn judge(history: &[Change], slots: usize) -> Result<(), String> {
    let pool = path(POOL);
    let mut leases: BTreeMap<NodePath, Bytes> = BTreeMap::new();
    for change in history {
        for effect in &change.effects {
            match effect {
                Effect::Created { path, data, stat } if path.parent().as_ref() == Some(&pool) => {
                    if stat.czxid != change.zxid {
                        return Err(format!("`{path}` has fence {} in change {}", stat.czxid, change.zxid));
                    }
                    leases.insert(path.clone(), data.clone());
                }
                Effect::Deleted { path, .. } => {
                    leases.remove(path);
                }
                Effect::Created { .. } | Effect::Set { .. } => {}
            }
        }
        let held = leases.values().filter(|data| **data != OVER.as_bytes()).count();
        if held > slots {
            return Err(format!("{held} leases on {slots} slots at change {}: {leases:?}", change.zxid));
        }
    }
    Ok(())
}

/// Fences grow in the order in which leases were had.
fn judge_fences(grants: &[(Instant, Instant, Fence)]) -> Result<(), String> {
    for (asked, _, later) in grants {
        for (_, had, earlier) in grants {
            if had < asked && earlier >= later {
                return Err(format!("fence {later} was granted after {earlier} was held"));
            }
        }
    }
    Ok(())
}

/// One lease at most under the identifier that is claimed, at any moment.
fn judge_claims(history: &[Change]) -> Result<(), String> {
    let mut held: BTreeSet<NodePath> = BTreeSet::new();
    for change in history {
        for effect in &change.effects {
            match effect {
                Effect::Created { path: lease, data, .. }
                    if lease.parent().as_ref() == Some(&path(POOL)) && data == ONE.as_bytes() =>
                {
                    held.insert(lease.clone());
                }
                Effect::Deleted { path, .. } => drop(held.remove(path)),
                _ => {}
            }
        }
        if held.len() > 1 {
            return Err(format!("in change {} `{ONE}` has {held:?}", change.zxid));
        }
    }
    Ok(())
}

fn there(memory: &Memory, below: &str) -> Vec<(NodePath, Bytes, Option<SessionId>)> {
    let above = path(below);
    let nodes = memory.snapshot().into_iter().filter(|(node, _)| node.parent().as_ref() == Some(&above));
    nodes.map(|(path, node)| (path, node.data, node.stat.ephemeral_owner)).collect()
}

/// Runs one seed. What it gives is how often what happened, and the history.
async fn run(seed: u64) -> Result<(BTreeMap<&'static str, u64>, Vec<Change>), String> {
    let draw = draw(seed);
    let memory = Memory::new(draw.options.clone());
    memory.set_chaos(None);
    let notes = Shared::default();
    let slots = usize::try_from(draw.slots).unwrap();

    // The path is there, as kazoo's callers expect.
    let ground = memory.open();
    let maker = fresh(&ground, NonZeroU32::new(draw.slots).unwrap(), &mut Xoshiro256PlusPlus::seed_from_u64(!seed));
    let first = maker.acquire(&Identifier::new("ground").unwrap(), Lifetime::Ephemeral, Patience::Once).await;
    first.map_err(|error| format!("{error:?}"))?.lease.release().await.map_err(|error| format!("{error:?}"))?;
    for number in 0..draw.garbage {
        let node = path(POOL).child(&format!("garbage-{number}"));
        ground.create(&node, Bytes::from_static(b"garbage"), NodeKind::Persistent).await.unwrap();
    }

    memory.set_chaos(draw.options.chaos);
    let begun = Instant::now();
    let stopping = memory.clone();
    tokio::spawn(async move {
        sleep(FAULTS_STOP).await;
        stopping.set_chaos(None);
    });
    tokio::spawn(operate(memory.clone(), NonZeroU32::new(draw.slots).unwrap(), Arc::clone(&notes)));
    let mut clients = Vec::new();
    for number in 0..draw.clients {
        let client = Client::new(number, seed, &draw, &memory, &notes);
        clients.push(tokio::spawn(client.live(draw.rounds)));
    }
    let mut kazoos = Vec::new();
    for number in 0..draw.kazoos {
        let dice = Xoshiro256PlusPlus::seed_from_u64(seed.wrapping_mul(7919) + number);
        kazoos.push(tokio::spawn(kazoo(memory.clone(), slots, draw.rounds, dice, Arc::clone(&notes))));
    }

    let stuck =
        |who: &str| format!("{who} is not through: pool {:?}, queue {:?}", there(&memory, POOL), there(&memory, QUEUE));
    let end = begun + FAULTS_STOP + ALL_THROUGH;
    let mut semaphores = Vec::new();
    for client in clients {
        let done = timeout_at(end, client).await.map_err(|_| stuck("a client"))?;
        semaphores.extend(done.map_err(|error| format!("a client failed: {error}"))?);
    }
    for kazoo in kazoos {
        let done = timeout_at(end, kazoo).await.map_err(|_| stuck("a kazoo"))?;
        done.map_err(|error| format!("a kazoo failed: {error}"))?;
    }
    memory.set_chaos(None);
    for (_, semaphore) in &semaphores {
        timeout_at(end, semaphore.settled()).await.map_err(|_| stuck("a clean-up"))?;
    }
    // Ended sessions' nodes go; those of living sessions are judged.
    sleep(2 * draw.options.session_timeout).await;

    let entries = there(&memory, QUEUE);
    if !entries.is_empty() {
        return Err(format!("queue entries are left: {entries:?}"));
    }
    let may_stay = notes.lock().unwrap().may_stay();
    for (node, data, owner) in there(&memory, POOL) {
        let name = String::from_utf8_lossy(&data).into_owned();
        if name != "garbage" && (owner.is_some() || !may_stay.contains(&name)) {
            return Err(format!("lease `{node}` of `{name}` is left, session {owner:?}"));
        }
    }
    let history = memory.history();
    judge(&history, slots)?;
    judge_claims(&history)?;
    judge_fences(&notes.lock().unwrap().grants)?;
    let mut counts = notes.lock().unwrap().counts.clone();
    counts.insert("safety-net finds", semaphores.iter().map(|(_, semaphore)| semaphore.safety_net_finds()).sum());
    counts.insert("changes", history.len() as u64);
    Ok((counts, history))
}

/// Runs one seed in a runtime of its own.
fn run_alone(seed: u64) -> Result<(BTreeMap<&'static str, u64>, Vec<Change>), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(run(seed))
}

fn wanted(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn under_faults_at_random_the_limit_holds_and_everybody_gets_through() {
    if let Some(seed) = wanted("LOCKKEEPER_SEED") {
        println!("{:#?}", draw(seed));
        let (counts, history) = run_alone(seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        for change in history {
            println!(
                "{} ms, {}: {:?}",
                change.at_ms - MemoryOptions::default().start_ms,
                change.session,
                change.effects
            );
        }
        println!("{counts:?}");
        return;
    }
    let seeds = wanted("LOCKKEEPER_SEEDS").unwrap_or(SEEDS);
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    let mut failed = Vec::new();
    for seed in 0..seeds {
        match run_alone(seed) {
            Ok((counts, _)) => {
                for (what, count) in counts {
                    *totals.entry(what).or_default() += count;
                }
            }
            Err(why) => failed.push(format!("LOCKKEEPER_SEED={seed}: {why}")),
        }
    }
    println!("{seeds} seeds: {totals:?}");
    assert!(
        failed.is_empty(),
        "{} of {seeds} seeds failed:\n{}",
        failed.len(),
        failed[..failed.len().min(10)].join("\n")
    );
    // A simulation in which something never happens shows nothing about it.
    for what in [
        "fresh",
        "reentered",
        "cancelled",
        "timed out",
        "full",
        "held by another",
        "session over",
        "dropped",
        "expired while holding",
        "forced over",
        "unlocked",
        "taken over",
        "conflict",
        "kazoo served",
        "kazoo failed",
        "sessions renewed",
    ] {
        assert!(totals.get(what).is_some_and(|count| *count > 0), "in {seeds} seeds nothing was ever `{what}`");
    }
}

#[test]
fn the_same_seed_tells_the_same_story() {
    for seed in 0..60 {
        let (first, second) = (run_alone(seed), run_alone(seed));
        let (Ok((_, first)), Ok((_, second))) = (first, second) else { continue };
        let same = first.iter().zip(&second).take_while(|(first, second)| first == second).count();
        let lengths = (first.len(), second.len());
        assert_eq!((same, same), lengths, "seed {seed}: another story from change {same} on");
    }
}
