//! Faults of servers, networks and clients, on real servers with the real binary. What is true is read from outside: from
//! the servers' own transaction logs, and from locks that the kernel keeps.
//!
//! `LOCKKEEPER_SEED` repeats a run as far as real processes allow, `LOCKKEEPER_SECONDS` lets the contention last.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lockkeeper_tests::proxy::{Break, Caught, Direction, Proxy, Request, opcode};
use lockkeeper_tests::txnlog::{Change, What, history};
use lockkeeper_tests::zookeeper::{Ensemble, Server, available};
use lockkeeper_tests::{World, eventually, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// The lives of a semaphore's leases, in the servers' order.
struct Leases {
    /// The most at once.
    most: usize,
    granted: usize,
    left: BTreeSet<String>,
    /// When each was gone, in milliseconds since the Unix epoch, and how.
    ended: BTreeMap<String, (i64, What)>,
}

fn leases(history: &[Change], semaphore: &str) -> Leases {
    let mut leases = Leases { most: 0, granted: 0, left: BTreeSet::new(), ended: BTreeMap::new() };
    let mut changes = history.iter().peekable();
    while let Some(change) = changes.next() {
        let is_lease = change.path.rsplit_once('/').is_some_and(|(parent, _)| parent == semaphore);
        match &change.what {
            What::Created { .. } if is_lease => {
                leases.granted += 1;
                leases.left.insert(change.path.clone());
            }
            What::Deleted | What::Expired if is_lease => {
                leases.left.remove(&change.path);
                leases.ended.insert(change.path.clone(), (change.at_ms, change.what.clone()));
            }
            _ => {}
        }
        // A transaction is seen whole or not at all.
        if changes.peek().is_none_or(|next| next.zxid != change.zxid) {
            leases.most = leases.most.max(leases.left.len());
        }
    }
    leases
}

/// The queue's entries that are still there.
fn queued(history: &[Change], semaphore: &str) -> BTreeSet<String> {
    let queue = format!("{semaphore}-__lock__/");
    let mut left = BTreeSet::new();
    for change in history.iter().filter(|change| change.path.starts_with(&queue)) {
        match change.what {
            What::Created { .. } => drop(left.insert(change.path.clone())),
            What::Deleted | What::Expired => drop(left.remove(&change.path)),
            What::Set { .. } => {}
        }
    }
    left
}

fn lock(world: &World, hosts: &str, rest: &str) -> Command {
    let mut command = world.lockkeeper(["lock", "--zk-hosts", hosts, "--session-timeout", "2s"]);
    command.args(rest.split(' ')).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Meets the next request of a kind with a cut, after or before the server has it.
fn trap(proxy: &Proxy, operation: i32, after: bool) -> Caught {
    let matches = move |request: &Request| request.opcode == operation;
    match after {
        true => proxy.cut_after_request(Break::Fin, matches),
        false => proxy.drop_request(Break::Reset, matches),
    }
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn an_answer_that_is_lost_is_found_out_and_nothing_is_done_twice() {
    if !available() {
        return;
    }
    let (world, server) = (World::new(), Server::start());
    let proxy = Proxy::start(server.address());
    let hosts = proxy.address().to_string();
    for (index, (request, after)) in
        [(opcode::CREATE2, true), (opcode::CREATE2, false), (opcode::MULTI, true), (opcode::MULTI, false)]
            .into_iter()
            .enumerate()
    {
        let path = format!("/lost{index}");
        assert_eq!(
            said(&mut lock(&world, &hosts, &format!("{path} --identifier first --max-concurrency 2"))).code,
            Some(0)
        );
        let caught = trap(&proxy, request, after);
        let second = said(&mut lock(&world, &hosts, &format!("{path} --identifier second --max-concurrency 2")));
        assert_eq!(second.code, Some(0), "{second:?}");
        assert!(caught.now().is_some(), "request {request} was not met");
        let history = history(&[server.data()]).unwrap();
        let leases = leases(&history, &path);
        assert_eq!((leases.granted, leases.left.len()), (2, 2), "request {request}, after {after}");
        eventually("an empty queue", || {
            queued(&lockkeeper_tests::txnlog::history(&[server.data()]).unwrap(), &path).is_empty()
        });
    }
}

#[test]
fn a_command_is_gone_before_its_lease_can_be_given_away() {
    if !available() {
        return;
    }
    let (world, server) = (World::new(), Server::start());
    let proxy = Proxy::start(server.address());
    for (index, stubborn) in [false, true].into_iter().enumerate() {
        let (path, dead) = (format!("/cut{index}"), world.folder().join(format!("dead{index}")));
        let script = match stubborn {
            true => "trap '' TERM; while :; do sleep 0.01; done",
            false => "while :; do sleep 0.01; done",
        };
        let mut line = world.lockkeeper(["lock", &path, "--ephemeral-lease", "--kill-after", "60s"]);
        line.args(["--zk-hosts", &proxy.address().to_string(), "--session-timeout", "2s", "--", "sh", "-c"]);
        let beat = world.folder().join(format!("beat{index}"));
        line.arg(format!("touch {}; {script}", beat.display())).stdout(Stdio::piped()).stderr(Stdio::piped());
        let holder = line.spawn().unwrap();
        eventually("the command", || beat.exists());
        let group = group_of(&holder);
        proxy.partition();
        eventually("the command's end", || !lives(group));
        let gone_ms = now_ms();
        fs::write(&dead, "").unwrap();
        let ended = holder.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(79), "{stderr}");
        assert!(
            stderr.contains("the session with the store ended") && !stderr.contains("after another holder"),
            "{stderr}"
        );
        let mut expired = None;
        eventually("the lease's end", || {
            let leases = leases(&history(&[server.data()]).unwrap(), &path);
            expired = leases.ended.values().next().cloned();
            expired.is_some()
        });
        let (at_ms, how) = expired.unwrap();
        assert_eq!(how, What::Expired);
        assert!(gone_ms <= at_ms, "gone at {gone_ms}, the server gave the lease away at {at_ms}");
        proxy.heal();
    }
}

/// The process group of a lock's command: its guard leads one.
fn group_of(holder: &Child) -> i32 {
    let holder = holder.id();
    let mut child = None;
    eventually("a guard", || {
        let children = fs::read_to_string(format!("/proc/{holder}/task/{holder}/children")).unwrap_or_default();
        child = children.split(' ').find_map(|pid| pid.parse().ok());
        child.is_some()
    });
    child.unwrap()
}

fn lives(group: i32) -> bool {
    !lockkeeper_locks::process::process_group::is_gone(Pid::from_raw(group))
}

#[test]
fn a_waiter_outlives_the_loss_of_its_server_and_of_its_session() {
    if !available() {
        return;
    }
    let (world, ensemble) = (World::new(), Ensemble::start(3));
    let hosts = ensemble.hosts();
    assert_eq!(said(&mut lock(&world, &hosts, "/wait --identifier holder")).code, Some(0));
    let waiting = lock(&world, &hosts, "/wait --identifier waiter --timeout 60s").spawn().unwrap();
    eventually("a waiter", || !queued(&history(&ensemble.data()).unwrap(), "/wait").is_empty());
    let leader = ensemble.leader();
    ensemble.server(leader).kill();
    ensemble.leader();
    ensemble.server(leader).restart();
    ensemble.wait();
    // All of them, for longer than the session can last.
    ensemble.servers().iter().for_each(Server::kill);
    sleep(Duration::from_secs(3));
    ensemble.servers().iter().for_each(Server::launch);
    ensemble.wait();
    let unlock = ["unlock", "/wait", "--identifier", "holder", "--zk-hosts", &hosts];
    assert_eq!(said(&mut world.lockkeeper(unlock)).code, Some(0));
    let ended = waiting.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(0), "{}", String::from_utf8_lossy(&ended.stderr));
    let leases = leases(&history(&ensemble.data()).unwrap(), "/wait");
    assert_eq!((leases.most, leases.granted, leases.left.len()), (1, 2, 1));
}

#[test]
fn a_rollout_survives_the_loss_of_servers() {
    if !available() {
        return;
    }
    let (world, ensemble) = (World::new(), Ensemble::start(3));
    let folder = world.folder().display().to_string();
    let targets: Vec<String> = (0..16).map(|n| format!("\"t{n:02}\"")).collect();
    for (index, ephemeral) in [false, true].into_iter().enumerate() {
        let job = world.file(
            &format!("job{index}.toml"),
            &format!(
                "name = \"survive{index}\"\n[store]\nzk-hosts = \"{}/fleet\"\nsession-timeout = \"6s\"\n\
                 [semaphore]\npath = \"/roll{index}\"\nmax-concurrency = 3\nephemeral-lease = {ephemeral}\n\
                 [targets]\nhosts = [{}]\n[policy]\nuse = \"rolling\"\n[budget]\nmax-failed = 5\n\
                 [action]\nrun = [\"sh\", \"-c\", \"echo {{target}} >> {folder}/done{index}; sleep 0.7\"]\n",
                ensemble.hosts(),
                targets.join(", ")
            ),
        );
        let run = world
            .lockkeeper(["run", job.to_str().unwrap(), "--format", "json"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let done = world.folder().join(format!("done{index}"));
        eventually("a first target", || fs::read_to_string(&done).is_ok_and(|done| done.lines().count() > 2));
        let leader = ensemble.leader();
        ensemble.server(leader).kill();
        let ended = run.wait_with_output().unwrap();
        let (stdout, stderr) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert_eq!(ended.status.code(), Some(0), "{stdout}\n{stderr}");
        let mut acted: Vec<String> = fs::read_to_string(&done).unwrap().lines().map(str::to_owned).collect();
        acted.sort();
        let expected: Vec<String> = (0..16).map(|n| format!("t{n:02}")).collect();
        assert_eq!(acted, expected, "each target once");
        ensemble.server(leader).restart();
        ensemble.wait();
        let history = history(&ensemble.data()).unwrap();
        let path = format!("/fleet/roll{index}");
        let leases = leases(&history, &path);
        assert!(leases.most <= 3 && leases.granted >= 16, "{} at once, {} granted", leases.most, leases.granted);
        assert_eq!((leases.left, queued(&history, &path)), (BTreeSet::new(), BTreeSet::new()));
    }
}

/// A holder's command: it takes one of as many kernel locks as there are slots, and reports if none is free. The locks
/// end with the process.
const WORK: &str = "for pass in 1 2 3 4 5; do for slot in 1 2 3; do exec 9>\"$1/slot$slot\"; \
    if flock -n 9; then echo $2 >> \"$1/worked\"; sleep 0.0$3; exit 0; fi; done; done; echo $2 >> \"$1/over\"";

const SLOTS: usize = 3;
const CONTENDERS: usize = 20;

#[test]
fn contention_under_every_fault_never_passes_the_limit_and_always_ends() {
    if !available() {
        return;
    }
    let seed = std::env::var("LOCKKEEPER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    let seconds = std::env::var("LOCKKEEPER_SECONDS").ok().and_then(|seconds| seconds.parse().ok()).unwrap_or(25);
    println!("LOCKKEEPER_SEED={seed} LOCKKEEPER_SECONDS={seconds}");
    let world = Arc::new(World::new());
    let ensemble = Ensemble::start(3);
    // Four ways to the servers, each with its own faults.
    let ways: Vec<Vec<Proxy>> =
        (0..4).map(|_| ensemble.servers().iter().map(|server| Proxy::start(server.address())).collect()).collect();
    let over = Arc::new(AtomicBool::new(false));
    let running: Arc<Mutex<BTreeMap<usize, i32>>> = Arc::default();
    let mut contenders = Vec::new();
    for index in 0..CONTENDERS {
        let hosts: Vec<String> = ways[index % ways.len()].iter().map(|proxy| proxy.address().to_string()).collect();
        let (world, over, running) = (Arc::clone(&world), Arc::clone(&over), Arc::clone(&running));
        contenders.push(thread::spawn(move || contend(&world, index, &hosts.join(","), &over, &running)));
    }
    let mut dice = StdRng::seed_from_u64(seed);
    let ends = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < ends {
        trouble(&mut dice, &ensemble, &ways, &running);
    }
    ways.iter().flatten().for_each(Proxy::heal);
    ensemble.servers().iter().for_each(Server::resume);
    over.store(true, Ordering::Relaxed);
    let mut ended: BTreeMap<String, usize> = BTreeMap::new();
    for contender in contenders {
        for (how, count) in contender.join().unwrap() {
            *ended.entry(how).or_default() += count;
        }
    }
    ensemble.wait();
    // The sessions of the killed processes end.
    let mut all = Vec::new();
    eventually("nothing left behind", || {
        all = history(&ensemble.data()).unwrap();
        leases(&all, "/busy").left.is_empty() && queued(&all, "/busy").is_empty()
    });
    let leases = leases(&all, "/busy");
    let worked = fs::read_to_string(world.folder().join("worked")).unwrap_or_default();
    println!(
        "{} leases, {} at once, {} commands; ends: {ended:?}",
        leases.granted,
        leases.most,
        worked.lines().count()
    );
    assert!(leases.most <= SLOTS, "{} leases at once; seed {seed}", leases.most);
    let above = fs::read_to_string(world.folder().join("over")).unwrap_or_default();
    assert_eq!(above, "", "commands that found {SLOTS} others; seed {seed}");
    let who: BTreeSet<&str> = worked.lines().collect();
    assert_eq!(who.len(), CONTENDERS, "everybody had a turn; seed {seed}");
}

/// Takes the lock again and again, and once more after the faults: that one must be had.
fn contend(
    world: &World,
    index: usize,
    hosts: &str,
    over: &AtomicBool,
    running: &Mutex<BTreeMap<usize, i32>>,
) -> BTreeMap<String, usize> {
    let mut ended: BTreeMap<String, usize> = BTreeMap::new();
    let mut millis = 10 + index;
    loop {
        let last = over.load(Ordering::Relaxed);
        millis = 10 + (millis * 7) % 40;
        let mut line = world.lockkeeper(["lock", "/busy", "--max-concurrency", "3", "--ephemeral-lease"]);
        line.args(["--identifier", &format!("c{index}"), "--session-timeout", "2s", "--connect-timeout", "20s"]);
        line.args(["--zk-hosts", hosts, "--timeout", "60s", "--", "sh", "-c", WORK, "sh"]);
        line.arg(world.folder()).arg(index.to_string()).arg(millis.to_string());
        let child = line.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        running.lock().unwrap().insert(index, i32::try_from(child.id()).unwrap());
        let said = child.wait_with_output().unwrap();
        running.lock().unwrap().remove(&index);
        let stderr = String::from_utf8_lossy(&said.stderr);
        let how = match said.status.code() {
            Some(0) => String::from("done"),
            None => String::from("killed"),
            Some(79) if stderr.contains("was lost") => String::from("lease lost"),
            Some(code) => format!("{code}: {}", stderr.lines().last().unwrap_or_default()),
        };
        if last {
            assert_eq!(how, "done", "contender {index} after the faults: {stderr}");
            return ended;
        }
        *ended.entry(how).or_default() += 1;
    }
}

/// One fault and its end.
fn trouble(dice: &mut StdRng, ensemble: &Ensemble, ways: &[Vec<Proxy>], running: &Mutex<BTreeMap<usize, i32>>) {
    let pause = Duration::from_millis(dice.random_range(100..700));
    // From far below the session's time-out to beyond it.
    let long = Duration::from_millis(dice.random_range(200..4000));
    let server = dice.random_range(0..ensemble.servers().len());
    let way = &ways[dice.random_range(0..ways.len())];
    let proxy = &way[dice.random_range(0..way.len())];
    match dice.random_range(0..12) {
        0 => {
            ensemble.server(server).kill();
            sleep(pause);
            ensemble.server(server).restart();
        }
        1 => {
            let leader = ensemble.leader();
            ensemble.server(leader).kill();
            sleep(pause);
            ensemble.server(leader).restart();
        }
        2 => {
            ensemble.server(server).pause();
            sleep(long);
            ensemble.server(server).resume();
        }
        3 => way.iter().for_each(Proxy::cut),
        4 => way.iter().for_each(Proxy::reset),
        5 | 6 => {
            way.iter().for_each(Proxy::partition);
            sleep(long);
            way.iter().for_each(Proxy::heal);
        }
        7 => {
            let direction = if dice.random() { Direction::ToServer } else { Direction::ToClient };
            way.iter().for_each(|proxy| proxy.hole(direction));
            sleep(long);
            way.iter().for_each(Proxy::heal);
        }
        8 => drop(trap(proxy, if dice.random() { opcode::MULTI } else { opcode::CREATE2 }, true)),
        9 => drop(trap(proxy, if dice.random() { opcode::MULTI } else { opcode::CREATE2 }, false)),
        10 => proxy.delay(Duration::from_millis(dice.random_range(1..20))),
        _ => {
            let victims: Vec<i32> = running.lock().unwrap().values().copied().collect();
            if !victims.is_empty() {
                // It may have ended by itself; it is waited for, so that its number is not reused.
                let _ = kill(Pid::from_raw(victims[dice.random_range(0..victims.len())]), Signal::SIGKILL);
            }
        }
    }
    sleep(pause);
}
