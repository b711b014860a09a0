//! Three jobs over the same six hosts, a script for each host and an operator, all on one semaphore of two slots, while
//! any of them is killed. The limit is measured from outside, by kernel locks that end with their processes.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test")]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread::{sleep, spawn};
use std::time::{Duration, Instant};

use lockkeeper_tests::zookeeper::{Server, available};
use lockkeeper_tests::{Said, World, said};

const HOSTS: [&str; 6] = ["web1", "web2", "web3", "web4", "web5", "web6"];

/// How long everything may take: far beyond what it does.
const MOST: Duration = Duration::from_secs(150);

/// `act FOLDER WHO HOST SECONDS`: one action on a host. Reports if another action is running on that host, or more
/// actions than slots.
const ACT: &str = r#"exec 7>"$1/acting.$2.$3"; flock -n 7 || echo "$2 acts on $3 twice" >>"$1/violations"
exec 8>"$1/host.$3"; flock -n 8 || echo "two act on $3, one is $2" >>"$1/violations"
exec 9>"$1/slot.1"; flock -n 9 || { exec 9>"$1/slot.2"; flock -n 9 || echo "more than two act, one is $2 on $3" >>"$1/violations"; }
sleep "$4"
echo "$2 $3" >>"$1/acted"
"#;

/// `probe FOLDER WHO HOST`: 75 while that action is running, 0 if it finished, 66 if it did not.
const PROBE: &str = r#"exec 7>"$1/acting.$2.$3"; flock -n 7 || exit 75
grep -qx "$2 $3" "$1/acted" && exit 0
exit 66
"#;

struct Ground {
    world: World,
    store: Vec<String>,
    guarded: bool,
}

impl Ground {
    fn new(server: Option<&Server>, guarded: bool) -> Self {
        let world = World::new();
        let store = server.map_or_else(Vec::new, |server| vec!["--zk-hosts".to_owned(), server.hosts()]);
        world.file("act", ACT);
        world.file("probe", PROBE);
        world.file("acted", "");
        for (job, ephemeral) in [("deploy", false), ("patch", true), ("reboot", false)] {
            world.file(&format!("{job}.toml"), &Self::job(job, ephemeral, guarded));
        }
        Self { world, store, guarded }
    }

    /// With `guard`, the next action stops an earlier one; without it, the probe reports that it is still running.
    fn job(name: &str, ephemeral: bool, guarded: bool) -> String {
        let guard = "\"lockkeeper\", \"guard\", \"--fence-file\", \"{job-dir}/token.{target}\", \"--fence\", \"{fence}\", \
                     \"--attempt\", \"{attempt}\", \"--wait\", \"20s\", \"--\", ";
        format!(
            "name = \"{name}\"\n[semaphore]\npath = \"/locks/hosts\"\nmax-concurrency = 2\nephemeral-lease = {ephemeral}\n\
             [targets]\nhosts = {HOSTS:?}\n[policy]\nuse = \"rolling\"\n[budget]\nmax-failed = 100\n\
             [action]\nrun = [{}\"sh\", \"{{job-dir}}/act\", \"{{job-dir}}\", \"{name}\", \"{{target}}\", \"0.4\"]\n\
             probe = [\"sh\", \"{{job-dir}}/probe\", \"{{job-dir}}\", \"{name}\", \"{{target}}\"]\n\
             timeout = \"30s\"\nattempts = 20\non-unknown = \"retry\"\n",
            if guarded { guard } else { "" }
        )
    }

    fn lockkeeper(&self, line: &[&str]) -> Command {
        let mut command = self.world.lockkeeper(line);
        if self.store.is_empty() {
            command.args(["--session-timeout", "2s"]);
        } else {
            command.args(&self.store).args(["--session-timeout", "4s"]);
        }
        command
    }

    fn path(&self, name: &str) -> String {
        self.world.folder().join(name).display().to_string()
    }

    fn run(&self, job: &str) -> Child {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.path(&format!("{job}.log"))).unwrap();
        let errors = log.try_clone().unwrap();
        self.lockkeeper(&["run", &self.path(&format!("{job}.toml"))]).stdout(log).stderr(errors).spawn().unwrap()
    }

    /// The log of a job, for the message of a failure.
    fn log(&self, job: &str) -> String {
        fs::read_to_string(self.path(&format!("{job}.log"))).unwrap_or_default()
    }

    /// What a host's own script does: one action at a time under the host's name.
    fn script(&self, host: &str) -> Command {
        let (act, folder) = (self.path("act"), self.path(""));
        let line = ["lock", "/locks/hosts", "--max-concurrency", "2", "--identifier", host, "--one-per-identifier"];
        let mut command = self.lockkeeper(&line);
        command.args(["--timeout", "60s", "--", "sh", &act, &folder, "script", host, "0.2"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// An operator who acquires a slot by hand, checks it, and releases it.
    fn operator(&self) -> Said {
        let line = ["lock", "/locks/hosts", "--max-concurrency", "2", "--identifier", "operator", "--timeout", "60s"];
        let locked = said(&mut self.lockkeeper(&line));
        let _ = said(&mut self.lockkeeper(&["holders", "/locks/hosts"]));
        let _ = said(&mut self.lockkeeper(&["unlock", "/locks/hosts", "--identifier", "operator"]));
        locked
    }

    fn violations(&self) -> String {
        fs::read_to_string(self.path("violations")).unwrap_or_default()
    }
}

/// A small generator of numbers, so that a run can be repeated.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % most
    }
}

fn side_by_side(server: Option<&Server>, guarded: bool) {
    let seed = std::env::var("LOCKKEEPER_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("LOCKKEEPER_SEED={seed} guarded={guarded}");
    let mut dice = Dice(seed);
    let ground = Ground::new(server, guarded);
    let begun = Instant::now();
    let mut running: BTreeMap<&str, Child> = ["deploy", "patch", "reboot"].map(|job| (job, ground.run(job))).into();
    let mut scripts: Vec<Child> = Vec::new();
    let mut kills = 6;
    let mut ended: BTreeMap<&str, Option<i32>> = BTreeMap::new();
    while !running.is_empty() {
        assert!(
            begun.elapsed() < MOST,
            "{:?} never end\n{}",
            running.keys(),
            running.keys().map(|job| ground.log(job)).collect::<String>()
        );
        sleep(Duration::from_millis(100 + dice.below(400)));
        if scripts.len() < 12 {
            let host = HOSTS[usize::try_from(dice.below(6)).unwrap()];
            scripts.push(ground.script(host).spawn().unwrap());
        }
        if kills > 0 && dice.below(3) == 0 {
            kills -= 1;
            let jobs: Vec<&str> = running.keys().copied().collect();
            let job = jobs[usize::try_from(dice.below(jobs.len() as u64)).unwrap()];
            let mut child = running.remove(job).unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            running.insert(job, ground.run(job));
        }
        if dice.below(6) == 0 {
            let locked = ground.operator();
            assert_eq!(locked.code, Some(0), "{locked:?}");
        }
        let done: Vec<&str> =
            running.iter_mut().filter_map(|(job, child)| child.try_wait().unwrap().map(|_| *job)).collect();
        for job in done {
            ended.insert(job, running.remove(job).unwrap().wait().unwrap().code());
        }
        assert_eq!(ground.violations(), "", "after {:?}", begun.elapsed());
    }
    for script in &mut scripts {
        assert_eq!(script.wait().unwrap().code(), Some(0));
    }
    assert_eq!(ground.violations(), "");
    for (job, code) in &ended {
        assert_eq!(*code, Some(0), "{job}: {}", ground.log(job));
    }
    let acted = fs::read_to_string(ground.path("acted")).unwrap();
    for job in ["deploy", "patch", "reboot"] {
        for host in HOSTS {
            let line = format!("{job} {host}");
            assert!(acted.lines().any(|acted| acted == line), "{line} is missing");
        }
    }
    println!("{:?}, guarded {}", begun.elapsed(), ground.guarded);
}

#[test]
fn on_the_embedded_store() {
    let guarded = spawn(|| side_by_side(None, true));
    side_by_side(None, false);
    guarded.join().unwrap();
}

#[test]
fn on_zookeeper() {
    if !available() {
        return;
    }
    let server = Server::start();
    side_by_side(Some(&server), false);
    side_by_side(Some(&server), true);
}
