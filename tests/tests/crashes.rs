//! `kill -9` of a runner at every write to the store, before it is sent and after it was answered: the next runner
//! brings every target to its end, each action runs exactly once, and nothing stays held.
//!
//! A run of 30 targets makes some two hundred writes. Without `LOCKKEEPER_LONG=1` a random part of them is tested;
//! `LOCKKEEPER_SEED` repeats a choice.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]
#![allow(clippy::print_stdout, reason = "a seed that is not printed is lost")]

#[allow(dead_code, reason = "its way to build a guest alone")]
mod hostile;

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, OnceLock};
use std::{fs, thread};

use lockkeeper::rollout::run_state;
use lockkeeper_coordination::embedded::{Embedded, EmbeddedOptions};
use lockkeeper_coordination::recipe::{Identifier, MemberKind, Membership, Party};
use lockkeeper_coordination::store::{Connect, NodePath, Store, StoreError};
use lockkeeper_coordination::zookeeper::{ZooKeeper, ZooKeeperOptions};
use lockkeeper_tests::zookeeper::{self, available};
use lockkeeper_tests::{World, binaries, root, said, target_dir};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tempfile::TempDir;

const TARGETS: usize = 30;

/// Of an orchestration that runs two targets at a time.
const FEW_TARGETS: usize = 6;

/// The session's time-out, in milliseconds: as long as a dead runner keeps others waiting.
const TIMEOUT: &str = "2000";

/// As many crashes are played at once: each mostly waits for a session to end.
const AT_ONCE: usize = 6;

/// As many are played where it is not to take long.
const SAMPLE: usize = 20;

/// Runs through the guard, so that each action happens once at the far end; the guard reports the outcome.
const JOB: &str = r#"
name = "crashes"
[semaphore]
path = "/locks/crashes"
max-concurrency = 5
[targets]
hosts = [HOSTS]
[policy]
use = "rolling"
[action]
run = ["GUARD", "guard", "--fence-file", "{job-dir}/tokens/{target}", "--fence", "{fence}", "--attempt", "{attempt}",
       "--", "sh", "-c", "echo $LOCKKEEPER_TARGET >> {job-dir}/acted"]
roll-back = ["GUARD", "guard", "--fence-file", "{job-dir}/tokens/{target}", "--fence", "{fence}", "--attempt", "{attempt}",
             "--", "sh", "-c", "echo $LOCKKEEPER_TARGET >> {job-dir}/undone"]
probe = ["GUARD", "guard", "--fence-file", "{job-dir}/tokens/{target}", "--fence", "{fence}", "--outcome", "{attempt}", "--settle"]
attempts = 3
[budget]
stop-at = "unlimited"
"#;

/// A run's folder, and its store.
struct Ground {
    folder: TempDir,
    place: String,
    targets: usize,
    /// Whether the first is rolled back.
    undoes: bool,
}

impl Ground {
    fn new(place: impl FnOnce(&Path) -> String) -> Self {
        Self::with(TARGETS, place)
    }

    /// With an orchestration that acquires two leases, runs an action, rolls one back, releases a lease, and starts
    /// again from a checkpoint.
    fn conducted(place: impl FnOnce(&Path) -> String) -> Self {
        let ground = Self { undoes: true, ..Self::with(FEW_TARGETS, place) };
        ground.with_orchestration(
            &hostile::built("orchestrated"),
            "semaphores = [{ path = \"/locks/a\" }, { path = \"/locks/b\" }]\nsettings.mode = \"crash\"\n",
        );
        ground
    }

    fn with_orchestration(&self, wasm: &[u8], orchestration: &str) {
        fs::write(self.folder.path().join("orchestration.wasm"), wasm).unwrap();
        let file = self.folder.path().join("job.toml");
        let job = fs::read_to_string(&file).unwrap();
        fs::write(file, format!("{job}\n[orchestration]\npath = \"orchestration.wasm\"\n{orchestration}")).unwrap();
    }

    /// One of the examples, as its own job has it, but with the guard around what it does.
    fn of_example(example: &Example, place: impl FnOnce(&Path) -> String) -> Self {
        let folder = root().join("examples").join(example.name);
        let text = fs::read_to_string(folder.join("job.toml")).unwrap();
        let section = text.split("[orchestration]").nth(1).unwrap().split("[policy]").next().unwrap();
        let section: Vec<&str> = section.lines().filter(|line| !line.starts_with("path =")).collect();
        let ground = Self::with(example.targets, place);
        ground.with_orchestration(example.wasm(), &section.join("\n"));
        ground
    }

    fn with(targets: usize, place: impl FnOnce(&Path) -> String) -> Self {
        let folder = TempDir::new().unwrap();
        fs::create_dir(folder.path().join("tokens")).unwrap();
        let hosts: Vec<String> = (0..targets).map(|number| format!("\"t{number:02}\"")).collect();
        let job = JOB.replace("HOSTS", &hosts.join(", "));
        let job = job.replace("GUARD", &binaries().join("lockkeeper").display().to_string());
        fs::write(folder.path().join("job.toml"), job).unwrap();
        let place = place(folder.path());
        Self { folder, place, targets, undoes: false }
    }

    fn runs(&self, crash: &str) -> Output {
        let mut command = Command::new(binaries().join("runner-process"));
        command.arg(self.folder.path()).arg(&self.place).args([TIMEOUT, crash]);
        command.env_remove("LOCKKEEPER_SEED").output().unwrap()
    }

    /// Runs it whole, and gives how many of these there were.
    fn result(&self, of: &str) -> u64 {
        let output = self.runs("never");
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
        let number = told.lines().rev().find_map(|line| line.strip_suffix(of));
        number.unwrap().trim().parse().unwrap()
    }

    /// How often each target's action or roll-back ran.
    fn did(&self, what: &str) -> BTreeMap<String, usize> {
        let mut acted = BTreeMap::new();
        for target in fs::read_to_string(self.folder.path().join(what)).unwrap_or_default().lines() {
            *acted.entry(target.to_owned()).or_default() += 1;
        }
        acted
    }

    /// The leases and nodes at the end, and the status of each target.
    fn left(&self) -> (Vec<String>, Vec<&'static str>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connect: Arc<dyn Connect> = match self.place.starts_with('/') {
                true => Arc::new(Embedded::new(PathBuf::from(&self.place), EmbeddedOptions::default())),
                false => Arc::new(ZooKeeper::new(ZooKeeperOptions::new(self.place.parse().unwrap()))),
            };
            let store = connect.connect().await.unwrap();
            let mut held = Vec::new();
            let semaphores =
                ["/locks/crashes", "/locks/a", "/locks/b", "/locks/failover", "/locks/dc/ams", "/locks/dc/fra"];
            let queues = semaphores.map(|path| format!("{path}-__lock__"));
            let queues = queues.iter().map(String::as_str);
            for path in semaphores.into_iter().chain(queues).chain(["/lockkeeper/jobs/crashes/runner"]) {
                held.extend(children(&store, path).await.into_iter().map(|child| format!("{path}/{child}")));
            }
            let runs = run_state::all(&store).await.unwrap();
            let [run] = runs.as_slice() else { panic!("one run, and not {runs:?}") };
            assert!(run.record.ended.is_some(), "{:?} is finished", run.record);
            let targets = run_state::targets(&store, &run.name).await.unwrap();
            let statuses = run_state::statuses_of(&store, &run.name, &targets).await.unwrap();
            store.close().await.unwrap();
            (held, statuses.into_iter().map(|(saved, _)| saved.status.word()).collect())
        })
    }
}

async fn children(store: &Arc<dyn Store>, path: &str) -> Vec<String> {
    match store.children(&NodePath::parse(path).unwrap()).await {
        Ok(children) => children,
        Err(StoreError::NoNode { .. }) => Vec::new(),
        Err(error) => panic!("{path}: {error}"),
    }
}

/// One crash: killed there, then resumed. Returns whether that place was reached.
fn survives(ground: &Ground, crash: &str) -> bool {
    let killed = ground.runs(crash);
    let told = |output: &Output| {
        format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let died = killed.status.signal() == Some(9);
    assert!(died || killed.status.success(), "{crash}: {:?}\n{}", killed.status, told(&killed));
    if died {
        let next = ground.runs("never");
        assert!(next.status.success(), "{crash}: {:?}\n{}\n--- and then\n{}", next.status, told(&killed), told(&next));
    }
    let acted = ground.did("acted");
    let targets = ground.targets;
    assert!(acted.len() == targets && acted.values().all(|times| *times == 1), "{crash}: {acted:?}\n{}", told(&killed));
    let (held, statuses) = ground.left();
    let mut expected = vec!["succeeded"; targets];
    if ground.undoes {
        let undone: Vec<(String, usize)> = ground.did("undone").into_iter().collect();
        // A roll-back whose end no runner saw has no probe, so it is not retried.
        expected[0] = if statuses[0] == "unknown" { "unknown" } else { "rolled-back" };
        let once = [("t00".to_owned(), 1)];
        assert!(
            undone == once || (undone.is_empty() && expected[0] == "unknown"),
            "{crash}: {undone:?}\n{}",
            told(&killed)
        );
        assert!(died || expected[0] == "rolled-back", "{crash}");
    }
    assert_eq!((held, statuses), (Vec::new(), expected), "{crash}");
    died
}

/// Plays crashes of a kind of store, several at once.
fn scenario(kind: &str, ground: impl Fn(usize) -> Ground + Send + Sync) {
    let whole = ground(0);
    let writes = whole.result("writes");
    // Queue, lease and state of each target, at the least.
    assert!(writes >= 4 * whole.targets as u64, "{writes} writes are too few to be all");
    let mut points: Vec<String> =
        (1..=writes).flat_map(|number| [format!("before:{number}"), format!("after:{number}")]).collect();
    if std::env::var_os("LOCKKEEPER_LONG").is_none() {
        let seed =
            std::env::var("LOCKKEEPER_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
        println!("{kind}: {SAMPLE} of {} crashes, LOCKKEEPER_SEED={seed}", points.len());
        points.shuffle(&mut StdRng::seed_from_u64(seed));
        points.truncate(SAMPLE);
    }
    if let Ok(only) = std::env::var("LOCKKEEPER_CRASH") {
        points = vec![only];
    }
    all(points, |index, crash| {
        survives(&ground(index), crash);
    });
}

/// Plays each, several at once; they are counted from 1.
fn all(points: Vec<String>, scenario: impl Fn(usize, &str) + Send + Sync) {
    let points = Mutex::new(points.into_iter().enumerate().collect::<VecDeque<_>>());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = points.lock().unwrap().pop_front();
                    let Some((index, crash)) = next else { return };
                    scenario(index + 1, &crash);
                }
            });
        }
    });
}

struct Example {
    name: &'static str,
    targets: usize,
    built: OnceLock<Vec<u8>>,
}

impl Example {
    fn wasm(&self) -> &[u8] {
        self.built.get_or_init(|| {
            let world = World::new();
            let wasm = world.folder().join("built.wasm");
            let folder = root().join("examples").join(self.name).join("orchestration");
            let mut build = world.lockkeeper(["policy", "build"]);
            build.arg(&folder).arg("--out").arg(&wasm).env("CARGO_TARGET_DIR", target_dir());
            let answer = said(&mut build);
            assert_eq!(answer.code, Some(0), "{answer:?}");
            fs::read(wasm).unwrap()
        })
    }
}

/// Members of the party that an example waits for, for as long as this lives.
struct Members {
    _runtime: tokio::runtime::Runtime,
    _store: Arc<dyn Store>,
    _members: Vec<Membership>,
}

impl Members {
    fn join(place: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (store, members) = runtime.block_on(async {
            let store = ZooKeeper::new(ZooKeeperOptions::new(place.parse().unwrap())).connect().await.unwrap();
            let party = Party::new(Arc::clone(&store), NodePath::parse("/party/db").unwrap());
            let mut members = Vec::new();
            for name in ["db1", "db2"] {
                members.push(party.join(&Identifier::new(name).unwrap(), MemberKind::Shallow).await.unwrap());
            }
            (store, members)
        });
        Self { _runtime: runtime, _store: store, _members: members }
    }
}

#[test]
fn killed_behind_any_of_its_calls_an_example_ends_as_if_nothing_had_happened() {
    if !available() {
        return;
    }
    let server = zookeeper::shared();
    for (name, targets) in [("failover", 3), ("two-datacentres", 4)] {
        let example = Example { name, targets, built: OnceLock::new() };
        let ground = |index: usize| {
            let ground = Ground::of_example(&example, |_| format!("{}/{name}{index}", server.address()));
            let members = Members::join(&ground.place);
            (ground, members)
        };
        let (whole, _members) = ground(0);
        let calls = whole.result("calls");
        // At the least each target's standing, start and end.
        assert!(calls >= 3 * targets as u64, "{name}: {calls} calls");
        all((1..=calls).map(|number| format!("call:{number}")).collect(), |index, crash| {
            let (ground, _members) = ground(index);
            assert!(survives(&ground, crash), "{name}: {crash} was not reached");
        });
    }
}

#[test]
fn killed_at_any_write_to_the_embedded_store_an_orchestration_is_gone_on_with() {
    scenario("embedded", |_| Ground::conducted(|folder| folder.join("store.db").display().to_string()));
}

#[test]
fn killed_at_any_write_to_zookeeper_an_orchestration_is_gone_on_with() {
    if !available() {
        return;
    }
    let server = zookeeper::shared();
    scenario("zookeeper", |index| Ground::conducted(|_| format!("{}/conducted{index}", server.address())));
}

#[test]
fn killed_at_any_write_to_the_embedded_store_a_run_is_gone_on_with() {
    scenario("embedded", |_| Ground::new(|folder| folder.join("store.db").display().to_string()));
}

#[test]
fn killed_at_any_write_to_zookeeper_a_run_is_gone_on_with() {
    if !available() {
        return;
    }
    let server = zookeeper::shared();
    scenario("zookeeper", |index| Ground::new(|_| format!("{}/crash{index}", server.address())));
}
