//! Two runners of one job, with the real binary: one drives it, the other stands by and takes over.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::process::{Child, Command, Stdio};

use lockkeeper_tests::zookeeper::{self, available};
use lockkeeper_tests::{Said, World, binaries, eventually, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// Each target's command waits for a gate of its own, and runs through the guard.
const JOB: &str = r#"
name = "takeover"
[semaphore]
path = "/locks/takeover"
max-concurrency = 2
[targets]
hosts = ["a", "b", "c", "d"]
[policy]
use = "rolling"
[action]
run = ["lockkeeper", "guard", "--fence-file", "{job-dir}/token-{target}", "--fence", "{fence}", "--attempt", "{attempt}",
       "--", "sh", "-c", "echo {target} >> {job-dir}/begun; until test -e {job-dir}/go; do sleep 0.02; done; echo {target} >> {job-dir}/acted"]
probe = ["lockkeeper", "guard", "--fence-file", "{job-dir}/token-{target}", "--fence", "{fence}", "--outcome", "{attempt}", "--settle"]
attempts = 3
"#;

/// A job's folder, and the flags that name its store.
struct Ground {
    world: World,
    store: Vec<String>,
}

impl Ground {
    fn embedded() -> Self {
        let world = World::new();
        world.file("job.toml", JOB);
        Self { store: vec!["--session-timeout".to_owned(), "2s".to_owned()], world }
    }

    fn on_zookeeper(chroot: &str) -> Self {
        let hosts = format!("{}/{chroot}", zookeeper::shared().address());
        let ground = Self::embedded();
        Self { store: ["--zk-hosts", &hosts, "--session-timeout", "2s"].map(str::to_owned).to_vec(), ..ground }
    }

    fn run(&self, more: &[&str]) -> Command {
        let mut command = self.world.lockkeeper(["run", "job.toml"]);
        command.args(&self.store).args(more).current_dir(self.world.folder());
        command
    }

    fn starts(&self) -> Child {
        self.run(&["--format", "json"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    fn lines(&self, file: &str) -> BTreeMap<String, usize> {
        let mut lines = BTreeMap::new();
        for line in fs::read_to_string(self.world.folder().join(file)).unwrap_or_default().lines() {
            *lines.entry(line.to_owned()).or_default() += 1;
        }
        lines
    }

    fn opens_the_gate(&self) {
        self.world.file("go", "");
    }

    fn each_acted_once(&self) {
        let once: BTreeMap<String, usize> = ["a", "b", "c", "d"].map(|target| (target.to_owned(), 1)).into();
        assert_eq!(self.lines("acted"), once);
        let mut holders = self.world.lockkeeper(["holders", "/locks/takeover", "--format", "json"]);
        assert!(said(holders.args(&self.store)).stdout.contains("\"holders\":[]"));
    }
}

fn signal(child: &Child, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
}

fn ended(mut child: Child) -> (Option<i32>, Vec<Value>, String) {
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let code = child.wait().unwrap().code();
    (code, stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), stderr)
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

fn a_standby_takes_over(ground: &Ground) {
    let mut first = ground.starts();
    eventually("two are under way", || ground.lines("begun").len() == 2);
    // A runner that does not wait names the present one.
    let refused: Said = said(&mut ground.run(&["--no-wait", "--format", "json"]));
    let error: Value = serde_json::from_str(&refused.stderr).unwrap_or_else(|_| panic!("{refused:?}"));
    assert_eq!((refused.code, &error["error"]), (Some(75), &"running".into()), "{refused:?}");
    assert!(
        error["message"].as_str().unwrap().contains(&format!(":{} has been running job `takeover`", first.id())),
        "{error}"
    );

    let second = ground.starts();
    first.kill().unwrap();
    first.wait().unwrap();
    // Actions of the first runner continue without it, behind the guards.
    ground.opens_the_gate();
    let (code, events, stderr) = ended(second);
    assert_eq!(code, Some(0), "{events:#?}\n{stderr}");
    let going_on = of(&events, "run-resumed");
    assert_eq!(going_on.len(), 1, "{events:#?}");
    assert_eq!((&going_on[0]["runner-epoch"], &going_on[0]["remaining"]), (&2.into(), &4.into()));
    ground.each_acted_once();

    // Once the run is finished, there is nothing to do.
    let again = said(&mut ground.run(&[]));
    assert!(again.code == Some(0) && again.stderr.contains("Nothing to do: run `takeover-"), "{again:?}");
    ground.each_acted_once();
}

#[test]
fn a_standby_takes_over_on_the_embedded_store() {
    a_standby_takes_over(&Ground::embedded());
}

#[test]
fn a_standby_takes_over_on_zookeeper() {
    if available() {
        a_standby_takes_over(&Ground::on_zookeeper("takeover"));
    }
}

/// The first runner is stopped past its session, the second takes over and finishes the run; then the first wakes up.
fn a_runner_that_wakes_up_late_starts_nothing(ground: &Ground) {
    let first = ground.starts();
    eventually("two are under way", || ground.lines("begun").len() == 2);
    signal(&first, Signal::SIGSTOP);
    let second = ground.starts();
    ground.opens_the_gate();
    let (code, events, stderr) = ended(second);
    assert_eq!(code, Some(0), "{events:#?}\n{stderr}");
    ground.each_acted_once();
    signal(&first, Signal::SIGCONT);
    let (code, events, stderr) = ended(first);
    // It reports that the run is finished, and how it ended.
    assert_eq!(code, Some(0), "{events:#?}\n{stderr}");
    assert_eq!(of(&events, "started").len(), 2, "only what it had started before: {events:#?}");
    assert_eq!(of(&events, "finished-before").len(), 1, "{events:#?}");
    ground.each_acted_once();
}

#[test]
fn a_runner_that_wakes_up_late_starts_nothing_on_the_embedded_store() {
    a_runner_that_wakes_up_late_starts_nothing(&Ground::embedded());
}

#[test]
fn a_runner_that_wakes_up_late_starts_nothing_on_zookeeper() {
    if available() {
        a_runner_that_wakes_up_late_starts_nothing(&Ground::on_zookeeper("late"));
    }
}

/// Stopped between recording that a target is running and its command: the late command is refused at the far end.
fn a_late_command_does_no_harm(server: &str) {
    let world = World::new();
    world.file("job.toml", &JOB.replace("\"lockkeeper\"", &format!("\"{}\"", binaries().join("lockkeeper").display())));
    world.file("go", "");
    let folder = world.folder().display().to_string();
    let runner = |write: u32, crash: &str| {
        let place = format!("{server}/late-command{write}");
        let mut command = world.command("runner-process");
        command.args([&folder, &place, "2000", crash]).stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().unwrap()
    };
    // Some write in the middle; whichever it is, the runner is stopped when it was answered.
    for write in [18, 22, 24, 26, 28] {
        let late = runner(write, &format!("stop:{write}"));
        let stat = format!("/proc/{}/stat", late.id());
        eventually("it is stopped", || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T ")));
        let mut next = runner(write, "never");
        assert!(next.wait().unwrap().success(), "stopped at {write}");
        let acted = |world: &World| fs::read_to_string(world.folder().join("acted")).unwrap().lines().count();
        assert_eq!(acted(&world), 4, "stopped at {write}");
        signal(&late, Signal::SIGCONT);
        let mut late = late;
        late.wait().unwrap();
        assert_eq!(acted(&world), 4, "woken after {write}");
        // A new run.
        for file in ["acted", "begun"] {
            let _ = fs::remove_file(world.folder().join(file));
        }
        for target in ["a", "b", "c", "d"] {
            for more in ["", ".lock", ".running", ".command"] {
                let _ = fs::remove_file(world.folder().join(format!("token-{target}{more}")));
            }
        }
        let _ = fs::remove_dir_all(world.folder().join("run"));
    }
}

/// Not on the embedded store: a process that is stopped within a transaction keeps its file locked.
#[test]
fn a_late_command_does_no_harm_on_zookeeper() {
    if available() {
        a_late_command_does_no_harm(&zookeeper::shared().address().to_string());
    }
}
