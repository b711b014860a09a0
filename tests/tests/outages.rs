//! A store that becomes unreachable during a run, with the real binary: the outcomes that the runner saw meanwhile are
//! kept.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};

use lockkeeper_tests::proxy::Proxy;
use lockkeeper_tests::zookeeper::{self, Options, Server, available};
use lockkeeper_tests::{World, eventually, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rusqlite::Connection;

/// Short commands that could run twice as far as the job is concerned; the runner prevents it.
const JOB: &str = r#"
name = "outage"
[semaphore]
path = "/locks/outage"
max-concurrency = 2
[targets]
hosts = ["a", "b", "c", "d", "e", "f"]
[policy]
use = "rolling"
[action]
run = ["sh", "-c", "echo {target} >> begun; until test -e go; do sleep 0.02; done; echo {target} >> ended"]
on-unknown = "retry"
"#;

struct Ground {
    world: World,
    store: Vec<String>,
}

impl Ground {
    fn new(store: &[&str]) -> Self {
        let world = World::new();
        world.file("job.toml", JOB);
        let store = store.iter().map(|&word| word.to_owned()).chain(["--session-timeout".into(), "2s".into()]);
        Self { store: store.collect(), world }
    }

    fn starts(&self, log: &str) -> Child {
        self.starts_at(&self.store, log)
    }

    fn starts_at(&self, store: &[String], log: &str) -> Child {
        // A runner with `--no-wait` resumes its own run all the same.
        let no_wait: &[&str] = if store[0] == "--store" { &["--no-wait"] } else { &[] };
        let log = fs::File::create(self.world.folder().join(log)).unwrap();
        let mut command: Command = self.world.lockkeeper(["run", "job.toml"]);
        command.args(no_wait);
        command.args(store).current_dir(self.world.folder());
        command.stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn lines(&self, file: &str) -> BTreeMap<String, usize> {
        let mut lines = BTreeMap::new();
        for line in self.text(file).lines() {
            *lines.entry(line.to_owned()).or_default() += 1;
        }
        lines
    }

    fn text(&self, file: &str) -> String {
        fs::read_to_string(self.world.folder().join(file)).unwrap_or_default()
    }

    /// Two commands run, the store becomes unreachable, they end, and the runner's session ends.
    fn outage(&self, log: &str, goes_away: impl FnOnce()) {
        eventually("two are under way", || self.lines("begun").len() == 2);
        goes_away();
        self.world.file("go", "");
        eventually("both have ended", || self.lines("ended").len() == 2);
        eventually("the session ends", || self.text(log).contains("the session with the store ended"));
    }

    fn each_ran_once(&self) {
        let once: BTreeMap<String, usize> = ["a", "b", "c", "d", "e", "f"].map(|target| (target.to_owned(), 1)).into();
        assert_eq!(self.lines("begun"), once);
        let mut holders = self.world.lockkeeper(["holders", "/locks/outage", "--format", "json"]);
        assert!(said(holders.args(&self.store)).stdout.contains("\"holders\":[]"));
    }
}

#[test]
fn what_ended_while_the_servers_were_down_does_not_run_again() {
    if !available() {
        return;
    }
    let server = Server::start_with(&Options::default());
    let ground = Ground::new(&["--zk-hosts", &server.hosts()]);
    let mut runner = ground.starts("log");
    let mut other = None;
    ground.outage("log", || {
        other = Some(ground.starts("other"));
        eventually("the other stands by", || ground.text("other").contains("Standby"));
        server.kill();
    });
    server.launch();
    assert_eq!(runner.wait().unwrap().code(), Some(0), "{}", ground.text("log"));
    assert_eq!(other.unwrap().wait().unwrap().code(), Some(0), "{}", ground.text("other"));
    ground.each_ran_once();
    // Whether its own last request got there after all, or it wrote once more: no one asks how they ended.
    let log = ground.text("log") + &ground.text("other");
    assert!(!log.contains("unknown") && !log.contains("Recovered"), "{log}");
}

#[test]
fn what_ended_while_another_process_held_the_file_does_not_run_again() {
    let ground = Ground::new(&["--store", "store.db"]);
    let ground =
        Ground { store: ground.store.iter().map(|word| word.replace("store.db", &file(&ground))).collect(), ..ground };
    let mut runner = ground.starts("log");
    let mut connection = None;
    ground.outage("log", || {
        let opened = connection.insert(Connection::open(file(&ground)).unwrap());
        eventually("the file is ours", || opened.execute_batch("BEGIN IMMEDIATE").is_ok());
    });
    connection.unwrap().execute_batch("ROLLBACK").unwrap();
    assert_eq!(runner.wait().unwrap().code(), Some(0), "{}", ground.text("log"));
    ground.each_ran_once();
    let log = ground.text("log");
    assert!(log.contains("Recorded the outcomes that this runner saw on "), "{log}");
}

fn file(ground: &Ground) -> String {
    ground.world.folder().join("store.db").display().to_string()
}

/// Only the first runner is cut off; the second takes over and settles the targets; the first accepts that.
#[test]
fn what_another_runner_has_settled_stays() {
    if !available() {
        return;
    }
    let server = zookeeper::shared();
    let proxy = Proxy::start(server.address());
    let ground = Ground::new(&["--zk-hosts", &format!("{}/overtaken", server.address())]);
    ground.world.file(
        "job.toml",
        &JOB.replace("\"retry\"", "\"fail\"").replace("[policy]", "[budget]\nstop-at = \"unlimited\"\n[policy]"),
    );
    let cut_off: Vec<String> = ground
        .store
        .iter()
        .map(|word| word.replace(&server.address().to_string(), &proxy.address().to_string()))
        .collect();
    let mut first = ground.starts_at(&cut_off, "log");
    ground.outage("log", || proxy.partition());
    let mut second = ground.starts("other");
    assert_eq!(second.wait().unwrap().code(), Some(1), "{}", ground.text("other"));
    proxy.heal();
    assert_eq!(first.wait().unwrap().code(), Some(1), "{}", ground.text("log"));
    ground.each_ran_once();
    let log = ground.text("log");
    assert!(log.contains("Settled a is failed, recorded by "), "{log}");
    assert!(!log.contains("Recorded"), "{log}");
}

/// A runner that is stopped while the store is away lists what is lost with the process.
#[test]
fn a_runner_stopped_before_the_store_is_back_lists_unsaved_outcomes() {
    if !available() {
        return;
    }
    let server = Server::start_with(&Options::default());
    let ground = Ground::new(&["--zk-hosts", &server.hosts()]);
    let mut runner = ground.starts("log");
    ground.outage("log", || server.kill());
    eventually("it waits for the store", || ground.text("log").contains("Keeping the outcomes on a, b"));
    kill(Pid::from_raw(i32::try_from(runner.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_ne!(runner.wait().unwrap().code(), Some(0));
    let log = ground.text("log");
    assert!(log.contains("the store does not have the outcome on a (succeeded)"), "{log}");
}

/// The servers stop answering and keep the connection: attempts end meanwhile, and the next ones fall due, which are not started.
#[test]
fn a_retry_that_falls_due_in_an_outage_does_not_hide_how_the_attempt_before_it_ended() {
    if !available() {
        return;
    }
    let server = Server::start_with(&Options::default());
    let ground = Ground::new(&["--zk-hosts", &server.hosts()]);
    let run = "echo {target} >> begun; until test -e go; do sleep 0.02; done; echo {target} >> ended; \
               grep -c {target} begun | grep -q 2";
    let job = JOB.replace("on-unknown = \"retry\"", "on-unknown = \"hold\"\nattempts = 2");
    let old = job.lines().find(|line| line.starts_with("run = ")).unwrap().to_owned();
    ground.world.file("job.toml", &job.replace(&old, &format!("run = [\"sh\", \"-c\", \"{run}\"]")));
    let mut runner = ground.starts("log");
    ground.outage("log", || server.pause());
    server.resume();
    assert_eq!(runner.wait().unwrap().code(), Some(0), "{}", ground.text("log"));
    let twice: BTreeMap<String, usize> = ["a", "b", "c", "d", "e", "f"].map(|target| (target.to_owned(), 2)).into();
    assert_eq!(ground.lines("begun"), twice, "{}", ground.text("log"));
    assert!(!ground.text("log").contains("unknown"), "{}", ground.text("log"));
}
