//! Floors that protect: with the binary, on the embedded store and on a ZooKeeper server.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use lockkeeper_tests::zookeeper::{available, shared};
use lockkeeper_tests::{Said, World, binaries, eventually, said};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// A process that ends with the test.
struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.0.try_wait().is_ok_and(|ended| ended.is_none()) {
            // So that a member leaves.
            self.signal(Signal::SIGTERM);
        }
        let _ = self.0.wait();
    }
}

/// Where a test's store is: flags for the commands, and a table for the jobs.
struct Place {
    world: World,
    hosts: Option<String>,
}

impl Place {
    fn embedded() -> Self {
        Self { world: World::new(), hosts: None }
    }

    /// The paths that a test uses there are its own.
    fn zookeeper() -> Self {
        Self { world: World::new(), hosts: Some(shared().address().to_string()) }
    }

    fn flags(&self) -> Vec<String> {
        self.hosts.iter().flat_map(|hosts| ["--zk-hosts".to_owned(), hosts.clone()]).collect()
    }

    fn lockkeeper(&self, line: &str) -> std::process::Command {
        let mut command = self.world.lockkeeper(line.split(' '));
        command.args(self.flags());
        command
    }

    fn run(&self, line: &str) -> Said {
        said(self.lockkeeper(line).current_dir(self.world.folder()))
    }

    fn members(&self, path: &str) -> Vec<String> {
        let members: Vec<serde_json::Value> =
            serde_json::from_str(&self.run(&format!("party members {path} --format json")).stdout).unwrap();
        members.iter().map(|member| member["identifier"].as_str().unwrap().to_owned()).collect()
    }

    fn join(&self, path: &str, identifier: &str) -> Running {
        let mut command = self.lockkeeper(&format!("party join {path} --identifier {identifier}"));
        let member = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
        eventually(identifier, || self.members(path).iter().any(|member| member == identifier));
        member
    }

    /// A job of that name over two hosts of two racks, followed by the given text.
    fn job(&self, name: &str, party: &str, policy: &str, rest: &str) {
        let text = format!(
            r#"
            name = "{name}"
            [semaphore]
            path = "/locks/{name}"
            max-concurrency = 2
            [party]
            path = "/party/{name}"
            {party}
            [policy]
            {policy}
            {rest}
            "#
        );
        self.world.file(&format!("{name}.toml"), &text);
    }
}

/// An error on one line.
fn unwrapped(said: &Said) -> String {
    said.stderr.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

const HOSTS: &str = r#"
    [targets]
    hosts = [{ name = "web01", labels = { rack = "a", host = "h1" } }, { name = "web02", labels = { rack = "b", host = "h2" } }]
    [action]
    run = ["true"]
"#;

/// The standard policies, each as it lets two targets go.
const POLICIES: [(&str, &str); 4] = [
    ("rolling", r#"use = "rolling""#),
    ("canary", "use = \"canary\"\nsettings = { bake = \"0s\" }"),
    ("spread", "use = \"spread\"\nsettings = { label = \"rack\" }"),
    ("break-stale", "use = \"break-stale\"\ngrants = [\"lock\", \"force\"]\nsettings = { older-than = \"2h\" }"),
];

fn a_floor_ends_a_run_in_time(place: &Place) {
    // Not to be built while the time is taken.
    binaries();
    for (name, policy) in POLICIES {
        for (kind, party, least) in [
            ("empty", "min-nodes = 1\ntimeout = \"1s\"", Duration::from_secs(1)),
            ("at-once", "min-nodes = 1\nblocking = false", Duration::ZERO),
            ("too-few", "min-nodes = 2\ntimeout = \"1s\"", Duration::from_secs(1)),
        ] {
            let name = format!("{kind}-{name}");
            place.job(&name, party, policy, HOSTS);
            let path = format!("/party/{name}");
            let members = (kind == "too-few").then(|| ["web01", "web02"].map(|member| place.join(&path, member)));
            let began = Instant::now();
            let ended = place.run(&format!("run {name}.toml"));
            assert_eq!(ended.code, Some(75), "{name}: {ended:?}");
            assert!(began.elapsed() >= least && began.elapsed() < least + Duration::from_secs(20), "{name}: {ended:?}");
            assert!(ended.stderr.contains("below its floor"), "{name}: {ended:?}");
            assert!(!ended.stderr.contains("Leased"), "{name}: {ended:?}");
            // It continues once there are enough.
            let _others = ["web01", "web02", "db1", "db2"]
                .iter()
                .filter(|member| members.is_none() || member.starts_with("db"))
                .map(|member| place.join(&path, member))
                .collect::<Vec<_>>();
            let resumed = place.run(&format!("run {name}.toml"));
            assert_eq!(resumed.code, Some(0), "{name}: {resumed:?}");
            assert!(resumed.stderr.contains("Resuming"), "{name}: {resumed:?}");
        }
    }
}

#[test]
fn a_floor_that_is_missed_ends_a_run_in_time_under_every_standard_policy() {
    a_floor_ends_a_run_in_time(&Place::embedded());
}

#[test]
fn a_floor_that_is_missed_ends_a_run_in_time_on_zookeeper() {
    if available() {
        a_floor_ends_a_run_in_time(&Place::zookeeper());
    }
}

#[test]
fn a_member_that_leaves_in_the_middle_ends_a_run_in_time() {
    let place = Place::embedded();
    // The first target's action takes the party below its floor for good.
    let rest = r#"
        [targets]
        hosts = ["web01", "web02"]
        [action]
        run = ["sh", "-c", "kill $(cat db1.pid); while lockkeeper party members /party/middle | grep -q db1; do :; done; sleep 0.3"]
    "#;
    place.job("middle", "min-nodes = 2\ntimeout = \"1s\"", "use = \"rolling\"", rest);
    let members = ["web01", "web02", "db1"].map(|member| place.join("/party/middle", member));
    place.world.file("db1.pid", &members[2].0.id().to_string());
    let ended = place.run("run middle.toml");
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(ended.stderr.contains("Succeeded web01") && !ended.stderr.contains("Succeeded web02"), "{ended:?}");
}

fn names_that_do_not_fit(place: &Place, name: &str) {
    let rest = |targets: &str| format!("[targets]\nhosts = {targets}\n[action]\nrun = [\"true\"]");
    let fully = r#"["web01.example.com", "web02.example.com", "web03.example.com", "web04.example.com"]"#;
    let (party, policy) = ("min-nodes = 1\ntimeout = \"1s\"", "use = \"rolling\"");
    let path = format!("/party/{name}");
    let job = |party: &str, targets: &str| place.job(name, party, policy, &rest(targets));
    let [plan, run] = [format!("plan {name}.toml"), format!("run {name}.toml")];

    // An empty party does not satisfy the floor.
    job(party, fully);
    assert_eq!(place.run(&plan).code, Some(0));
    let _members = ["web01", "web02", "web03", "web04"].map(|member| place.join(&path, member));
    for command in [&plan, &run] {
        let refused = place.run(command);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        let said = unwrapped(&refused);
        for named in
            ["web01`", "web02`", "`web01.example.com`", "`web02.example.com`", "2 more", "member =", "counts ="]
        {
            assert!(said.contains(named), "{named}: {refused:?}");
        }
        assert!(said.contains(&format!("{name}.toml:")), "{refused:?}");
    }
    assert!(!place.run("status").stdout.contains(name), "no run has begun");
    let error = place.run(&format!("{run} --format json"));
    let error: serde_json::Value = serde_json::from_str(&error.stderr).unwrap();
    assert_eq!((&error["error"], &error["problems"][0]["key"]), (&json!("bad-job"), &json!("party.member")), "{error}");

    // The floor is meant to count others.
    job(&format!("{party}\ncounts = \"others\""), fully);
    assert_eq!(place.run(&plan).code, Some(0));
    assert_eq!(place.run(&run).code, Some(0));

    // Some are members.
    job(party, r#"["web01", "web02", "web03", "other1", "other2", "other3"]"#);
    for command in [&plan, &run] {
        let warned = place.run(command);
        assert_eq!(warned.code, Some(0), "{warned:?}");
        assert!(warned.stderr.contains("3 of 6 targets are no members of the party"), "{warned:?}");
        assert!(warned.stderr.contains("`other1`, `other2` and 1 more"), "{warned:?}");
    }
    let planned: serde_json::Value = serde_json::from_str(&place.run(&format!("{plan} --format json")).stdout).unwrap();
    let party_of_plan = json!({ "path": path, "members": 4, "targets": 3, "absent": ["other1", "other2", "other3"] });
    assert_eq!(planned["party"], party_of_plan, "{planned}");
}

#[test]
fn a_job_none_of_whose_targets_is_a_member_is_refused() {
    names_that_do_not_fit(&Place::embedded(), "mismatch");
    if available() {
        names_that_do_not_fit(&Place::zookeeper(), "mismatch");
    }
}

#[test]
fn a_floor_knows_its_targets_by_what_the_party_calls_them() {
    let place = Place::embedded();
    // Two of three must stay: one at a time, though two slots are there.
    for (name, member, names) in [
        ("domain", "{target}.example.com", ["web01.example.com", "web02.example.com", "db1.example.com"]),
        ("label", "{label.host}", ["h1", "h2", "db1"]),
    ] {
        let rest = HOSTS.replace(r#"["true"]"#, r#"["sh", "-c", "mkdir down && sleep 0.3 && rmdir down"]"#);
        let party = format!("min-nodes = 2\ntimeout = \"10s\"\nmember = \"{member}\"");
        place.job(name, &party, "use = \"rolling\"", &rest);
        let _members = names.map(|member| place.join(&format!("/party/{name}"), member));
        let done = place.run(&format!("run {name}.toml"));
        // `mkdir` fails if two actions run at once.
        assert_eq!(done.code, Some(0), "{name}: {done:?}");
        assert!(!done.stderr.contains("Warning"), "{name}: {done:?}");
        // The policy saw the targets under their own names.
        let explained = place.run("explain latest web02");
        assert_eq!(explained.code, Some(0), "{explained:?}");
    }
}

#[test]
fn what_a_target_is_called_is_checked_with_the_job() {
    let place = Place::embedded();
    for (member, what) in [
        ("{target}-{attempt}", "a member's name cannot depend on `{attempt}`"),
        ("web", "every target would be the same member"),
        ("{label.zone}", "target `web01` and 1 more have no label `zone`"),
        ("{taget}", "did you mean `{target}`?"),
    ] {
        place.job("checked", &format!("min-nodes = 1\nmember = \"{member}\""), "use = \"rolling\"", HOSTS);
        let refused = place.run("check checked.toml");
        let said = unwrapped(&refused);
        assert_eq!(refused.code, Some(2), "{refused:?}");
        assert!(said.contains(what) && said.contains("checked.toml:9:"), "{member}: {refused:?}");
    }
}

#[test]
fn a_run_whose_own_targets_are_down_continues() {
    let place = Place::embedded();
    // Each action removes its target from the party, and runs until a file allows it to end.
    let rest = r#"
        [targets]
        hosts = ["web01", "web02"]
        [action]
        run = ["sh", "-c", "kill $(cat $LOCKKEEPER_TARGET.pid) 2>/dev/null; echo >> down; test -e go || sleep 60"]
        on-unknown = "retry"
    "#;
    place.job("own", "min-nodes = 1", "use = \"rolling\"", rest);
    let members = ["web01", "web02", "db1"].map(|member| place.join("/party/own", member));
    for (member, name) in members.iter().zip(["web01", "web02"]) {
        place.world.file(&format!("{name}.pid"), &member.0.id().to_string());
    }
    let mut run = place.lockkeeper("run own.toml");
    let run = run.current_dir(place.world.folder()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut run = Running(run);
    let down = || std::fs::read_to_string(place.world.folder().join("down")).unwrap_or_default().lines().count();
    eventually("both act and are no members", || down() == 2 && place.members("/party/own") == ["db1"]);
    run.signal(Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(300));
    run.signal(Signal::SIGINT);
    assert_eq!(run.0.wait().unwrap().code(), Some(1));
    place.world.file("go", "");
    let resumed = place.run("run own.toml");
    assert_eq!(resumed.code, Some(0), "{resumed:?}");
    assert!(resumed.stderr.contains("Warning no target is a member of the party `/party/own`"), "{resumed:?}");
}

#[test]
fn a_plan_is_made_without_the_store() {
    let place = Place::embedded();
    place.job("far", "min-nodes = 1", "use = \"rolling\"", HOSTS);
    let mut plan = place.world.lockkeeper("plan far.toml --zk-hosts 127.0.0.1:1 --connect-timeout 200ms".split(' '));
    let planned = said(plan.current_dir(place.world.folder()));
    assert_eq!(planned.code, Some(0), "{planned:?}");
    assert!(
        planned.stderr.contains("cannot check whether the targets are members of the party `/party/far`"),
        "{planned:?}"
    );
}

fn a_member_that_came_back_counts_once(place: &Place, session: &str) {
    let join = |identifier: &str| {
        let mut command = place.lockkeeper(&format!("party join /party/stale --identifier {identifier} {session}"));
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    };
    let [_web02, mut web01] = [join("web02"), join("web01")];
    eventually("both are members", || place.members("/party/stale") == ["web01", "web02"]);
    let since = |place: &Place| {
        let members: serde_json::Value =
            serde_json::from_str(&place.run("party members /party/stale --format json").stdout).unwrap();
        members[0]["since"].as_u64().unwrap()
    };
    let before = since(place);
    // Its client crashes, and is started again.
    web01.0.kill().unwrap();
    web01.0.wait().unwrap();
    let _again = join("web01");
    eventually("it has come back", || since(place) > before);
    assert_eq!(place.members("/party/stale"), ["web01", "web02"]);
    let three = place.run("party members /party/stale --min-nodes 3 --timeout 300ms");
    assert_eq!(three.code, Some(75), "{three:?}");
    assert!(three.stderr.contains("has 2 members, 3 are wanted"), "{three:?}");
    let rest = r#"
        [targets]
        hosts = ["web02"]
        [action]
        run = ["true"]
    "#;
    place.job("stale", "min-nodes = 2\ntimeout = \"500ms\"", "use = \"rolling\"", rest);
    let ended = place.run("run stale.toml");
    assert_eq!(ended.code, Some(75), "{ended:?}");
    assert!(!ended.stderr.contains("Leased"), "{ended:?}");
}

#[test]
fn a_member_that_crashed_and_came_back_counts_once() {
    a_member_that_came_back_counts_once(&Place::embedded(), "--session-timeout 30s");
}

#[test]
fn a_member_that_crashed_and_came_back_counts_once_on_zookeeper() {
    if available() {
        a_member_that_came_back_counts_once(&Place::zookeeper(), "--session-timeout 30s");
    }
}
