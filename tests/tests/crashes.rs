//! `kill -9` of a runner at every write to the store, before it is sent and once it was answered: the next runner brings
//! every target to its end, each acts exactly once, and nothing stays held.
//!
//! A run of 30 targets makes some two hundred writes. Without `LOCKKEEPER_LONG=1` a part of them is taken, another each
//! time: `LOCKKEEPER_SEED` repeats it.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]
#![allow(clippy::print_stdout, reason = "a seed that is not printed is lost")]

#[allow(dead_code, reason = "its way to build a guest alone")]
mod hostile;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::thread;

use lockkeeper::rollout::ledger;
use lockkeeper::store::embedded::{Embedded, EmbeddedOptions};
use lockkeeper::store::zookeeper::ZooKeeper;
use lockkeeper::store::{Connect, NodePath, Store, StoreError, ZooKeeperOptions};
use lockkeeper_tests::binaries;
use lockkeeper_tests::zookeeper::{self, available};
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use tempfile::TempDir;

const TARGETS: usize = 30;

/// Of an orchestration, which acts on two at a time.
const FEW_TARGETS: usize = 6;

/// The session's time-out, in milliseconds: as long as a dead runner keeps others waiting.
const TIMEOUT: &str = "2000";

/// As many crashes are played at once: each mostly waits for a session to end.
const AT_ONCE: usize = 6;

/// As many are played where it is not to take long.
const SAMPLE: usize = 20;

/// Acts through the guard, so that what happens at the far end happens once; and the guard says how it went.
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
run = ["GUARD", "guard", "--token-file", "{job-dir}/tokens/{target}", "--fence", "{fence}", "--attempt", "{attempt}",
       "--", "sh", "-c", "echo $LOCKKEEPER_TARGET >> {job-dir}/acted"]
probe = ["GUARD", "guard", "--token-file", "{job-dir}/tokens/{target}", "--fence", "{fence}", "--outcome", "{attempt}", "--settle"]
attempts = 3
"#;

/// A run's folder, and its store.
struct Ground {
    folder: TempDir,
    place: String,
    targets: usize,
}

impl Ground {
    fn new(place: impl FnOnce(&Path) -> String) -> Self {
        Self::with(TARGETS, place)
    }

    /// With an orchestration that takes two leases, acts, gives one back, and begins again from a checkpoint.
    fn conducted(place: impl FnOnce(&Path) -> String) -> Self {
        let ground = Self::with(FEW_TARGETS, place);
        fs::write(ground.folder.path().join("orchestration.wasm"), hostile::built("conducted")).unwrap();
        fs::write(ground.folder.path().join("orchestration.json"), r#"{"mode":"crash"}"#).unwrap();
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
        Self { folder, place, targets }
    }

    fn runs(&self, crash: &str) -> Output {
        let mut command = Command::new(binaries().join("runner-process"));
        command.arg(self.folder.path()).arg(&self.place).args([TIMEOUT, crash]);
        command.env_remove("LOCKKEEPER_SEED").output().unwrap()
    }

    /// How often each target acted.
    fn acted(&self) -> BTreeMap<String, usize> {
        let mut acted = BTreeMap::new();
        for target in fs::read_to_string(self.folder.path().join("acted")).unwrap_or_default().lines() {
            *acted.entry(target.to_owned()).or_default() += 1;
        }
        acted
    }

    /// What is held or stands in the store when all is over; and where each target stands.
    fn left(&self) -> (Vec<String>, Vec<&'static str>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let connect: Arc<dyn Connect> = match self.place.starts_with('/') {
                true => Arc::new(Embedded::new(PathBuf::from(&self.place), EmbeddedOptions::default())),
                false => Arc::new(ZooKeeper::new(ZooKeeperOptions::new(self.place.parse().unwrap()))),
            };
            let store = connect.connect().await.unwrap();
            let mut held = Vec::new();
            let semaphores = ["/locks/crashes", "/locks/a", "/locks/b"];
            let queues = semaphores.map(|path| format!("{path}-__lock__"));
            let queues = queues.iter().map(String::as_str);
            for path in semaphores.into_iter().chain(queues).chain(["/lockkeeper/jobs/crashes/runner"]) {
                held.extend(children(&store, path).await.into_iter().map(|child| format!("{path}/{child}")));
            }
            let runs = ledger::all(&store).await.unwrap();
            let [run] = runs.as_slice() else { panic!("one run, and not {runs:?}") };
            assert!(run.record.ended.is_some(), "{:?} is finished", run.record);
            let targets = ledger::targets(&store, &run.name).await.unwrap();
            let standings = ledger::standings_of(&store, &run.name, &targets).await.unwrap();
            store.close().await.unwrap();
            (held, standings.into_iter().map(|(saved, _)| saved.standing.word()).collect())
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

/// One crash: killed there, and then gone on with.
fn survives(ground: &Ground, crash: &str) {
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
    let acted = ground.acted();
    let targets = ground.targets;
    assert!(acted.len() == targets && acted.values().all(|times| *times == 1), "{crash}: {acted:?}\n{}", told(&killed));
    let (held, standings) = ground.left();
    assert_eq!((held, standings), (Vec::new(), vec!["done"; targets]), "{crash}");
}

/// Plays crashes of a kind of store, several at once.
fn play(kind: &str, ground: impl Fn(usize) -> Ground + Send + Sync) {
    let whole = ground(0);
    let output = whole.runs("never");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    let writes: usize = told.lines().last().and_then(|line| line.strip_suffix(" writes")).unwrap().parse().unwrap();
    // Queue, lease and state of each target, at the least.
    assert!(writes >= 4 * whole.targets, "{writes} writes are too few to be all");
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
    let points = Mutex::new(points.into_iter().enumerate().collect::<VecDeque<_>>());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = points.lock().unwrap().pop_front();
                    let Some((index, crash)) = next else { return };
                    survives(&ground(index + 1), &crash);
                }
            });
        }
    });
}

#[test]
fn killed_at_any_write_to_the_embedded_store_an_orchestration_is_gone_on_with() {
    play("embedded", |_| Ground::conducted(|folder| folder.join("store.db").display().to_string()));
}

#[test]
fn killed_at_any_write_to_zookeeper_an_orchestration_is_gone_on_with() {
    if !available() {
        return;
    }
    let server = zookeeper::shared();
    play("zookeeper", |index| Ground::conducted(|_| format!("{}/conducted{index}", server.address())));
}

#[test]
fn killed_at_any_write_to_the_embedded_store_a_run_is_gone_on_with() {
    play("embedded", |_| Ground::new(|folder| folder.join("store.db").display().to_string()));
}

#[test]
fn killed_at_any_write_to_zookeeper_a_run_is_gone_on_with() {
    if !available() {
        return;
    }
    let server = zookeeper::shared();
    play("zookeeper", |index| Ground::new(|_| format!("{}/crash{index}", server.address())));
}
