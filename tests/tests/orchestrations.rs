//! Orchestrations as users run them: the examples on both stores, and failures.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

#[allow(dead_code, reason = "its way to build a guest alone")]
mod hostile;

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Once;
use std::{fs, thread};

use lockkeeper::rollout::run_state;
use lockkeeper_coordination::embedded::{Embedded, EmbeddedOptions};
use lockkeeper_coordination::store::{Connect, NodePath, Version};
use lockkeeper_tests::zookeeper::{self, available};
use lockkeeper_tests::{Said, World, eventually, root, said, target_dir};
use serde_json::Value;

/// Each example's orchestration, built once.
fn built() {
    static BUILT: Once = Once::new();
    BUILT.call_once(|| {
        let world = World::new();
        for (example, wasm) in [("failover", "failover.wasm"), ("two-datacentres", "two_datacentres.wasm")] {
            let folder = root().join("examples").join(example);
            let mut build = world.lockkeeper(["policy", "build", "orchestration", "--out", wasm]);
            let answer = said(build.current_dir(&folder).env("CARGO_TARGET_DIR", target_dir()));
            assert_eq!(answer.code, Some(0), "{answer:?}");
            let told = world.json(&format!("policy inspect {}", folder.join(wasm).display()));
            assert_eq!(told["contract"], "lockkeeper:orchestration@0.1.0", "{told}");
        }
    });
}

/// A store: flags that say which.
type Place = Vec<String>;

fn places() -> Vec<Place> {
    let mut places = vec![Vec::new()];
    if available() {
        let chroot = format!("{}/orchestrations-{}", zookeeper::shared().address(), uuid::Uuid::new_v4().simple());
        places.push(vec!["--zk-hosts".to_owned(), chroot]);
    }
    places
}

fn example(world: &World, name: &str, replace: &[(&str, &str)]) -> String {
    built();
    let folder = root().join("examples").join(name);
    let mut job = fs::read_to_string(folder.join("job.toml")).unwrap();
    job = job.replace("path = \"failover.wasm\"", &format!("path = \"{}\"", folder.join("failover.wasm").display()));
    let wasm = folder.join("two_datacentres.wasm");
    job = job.replace("path = \"two_datacentres.wasm\"", &format!("path = \"{}\"", wasm.display()));
    for (from, to) in replace {
        assert!(job.contains(from), "{from}");
        job = job.replace(from, to);
    }
    let file = format!("{}.toml", uuid::Uuid::new_v4().simple());
    world.file(&file, &job).display().to_string()
}

fn run(world: &World, place: &Place, job: &str) -> (Said, Vec<Value>) {
    let answer = said(world.lockkeeper(["run", job, "--format", "json"]).args(place));
    let events = answer.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    (answer, events)
}

/// What was called and answered, without what no two runs have the same: times and fences.
fn without_times(calls: &Value) -> Vec<Value> {
    let mut calls = calls.as_array().unwrap().clone();
    for call in &mut calls {
        let object = call.as_object_mut().unwrap();
        for key in ["since", "answered"] {
            object.remove(key);
        }
        match call["answer"].as_str().unwrap() {
            "held" => call["is"] = Value::Null,
            "party" => call["is"] = call["is"]["members"].as_array().unwrap().len().into(),
            "ended" => call["is"][1]["took"] = Value::Null,
            "done" => drop(call.as_object_mut().unwrap().remove("is")),
            _ => {}
        }
    }
    calls
}

fn json_of(world: &World, place: &Place, words: &str) -> Value {
    let mut command = world.lockkeeper(words.split(' '));
    serde_json::from_str(&said(command.args(["--format", "json"]).args(place)).stdout).unwrap()
}

/// What comes of it in a made-up world.
fn decided(world: &World, wasm: &Path, view: &str, settings: &str) -> Value {
    let (view, settings) = (world.file("view.toml", view), world.file("settings.toml", settings));
    world.json(&format!("policy decide {} --view {} --settings {}", wasm.display(), view.display(), settings.display()))
}

fn join(world: &World, place: &Place, party: &str, who: &str) -> Child {
    let mut command = world.lockkeeper(["party", "join", party, "--identifier", who]);
    command.args(place).args(["--", "sleep", "60"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn assert_no_holders(world: &World, place: &Place, paths: &[&str]) {
    for path in paths {
        let answer = said(world.lockkeeper(["holders", path, "--format", "json"]).args(place));
        assert!(answer.stdout.contains("\"holders\":[]"), "{path}: {answer:?}");
    }
}

#[test]
fn a_floor_that_is_missed_ends_a_run_that_an_orchestration_drives() {
    for place in places() {
        let world = World::new();
        let floor = "[party]\npath = \"/party/floor\"\nmin-nodes = 3\ntimeout = \"1s\"\n\n[targets]";
        let job = example(&world, "two-datacentres", &[("[targets]", floor)]);
        let (ended, events) = run(&world, &place, &job);
        assert_eq!(ended.code, Some(75), "{ended:?}");
        assert!(events.iter().all(|event| event["event"] != "started"), "{ended:?}");
        // With enough members the same run continues.
        let mut members = ["ams1", "ams2", "fra1", "fra2"].map(|member| join(&world, &place, "/party/floor", member));
        let there = || json_of(&world, &place, "party members /party/floor").as_array().map_or(0, Vec::len);
        eventually("all are members", || there() == 4);
        let (resumed, _) = run(&world, &place, &job);
        assert_eq!(resumed.code, Some(0), "{resumed:?}");
        for member in &mut members {
            member.kill().unwrap();
            member.wait().unwrap();
        }
        assert_no_holders(&world, &place, &["/locks/dc/ams", "/locks/dc/fra", "/locks/datacentres"]);
    }
}

#[test]
fn a_fail_over_waits_for_members_runs_in_order_and_leaves_nothing_held() {
    for place in places() {
        let world = World::new();
        let job = example(&world, "failover", &[]);
        let mut first = join(&world, &place, "/party/db", "db1");
        let (answer, events) = thread::scope(|scope| {
            let running = scope.spawn(|| run(&world, &place, &job));
            let holders =
                || said(world.lockkeeper(["holders", "/locks/failover", "--format", "json"]).args(&place)).stdout;
            eventually("the lease is held", || holders().contains("failover-"));
            // `explain` shows what it waits for.
            eventually("it waits for members", || {
                let told = world.run("explain latest db2").stdout;
                told.contains(
                    "orchestration `failover` has not started it: it has been waiting for an answer to `wait for 2 members",
                )
            });
            let mut second = join(&world, &place, "/party/db", "db2");
            let ran = running.join().unwrap();
            second.kill().unwrap();
            second.wait().unwrap();
            ran
        });
        first.kill().unwrap();
        first.wait().unwrap();
        assert_eq!(answer.code, Some(0), "{answer:?}");
        let started: Vec<&str> = events
            .iter()
            .filter(|event| event["event"] == "started")
            .map(|event| event["target"].as_str().unwrap())
            .collect();
        assert_eq!(started, ["db1", "db2", "db3"]);
        // The world of `policy test` answers as the real one does.
        let seen = json_of(&world, &place, "status failover --all");
        let view = "targets = [\"db1\", \"db2\", \"db3\"]\nsemaphores.\"/locks/failover\" = {}\n\
            parties.\"/party/db\" = [\"db1\", { identifier = \"db2\", joins = \"5s\" }]\n";
        let settings = "lock = \"/locks/failover\"\nparty = \"/party/db\"\nmembers = 2\npatience = \"1m\"\n";
        let wasm = root().join("examples/failover/failover.wasm");
        let result = decided(&world, &wasm, view, settings);
        assert_eq!(without_times(&seen["calls"]), without_times(&result["calls"]));
        // The same calls come from the same answers.
        let replayed = world.json("replay latest");
        let calls = &replayed["orchestration"]["runner-epochs"][0];
        let identical = calls["calls"].as_u64().unwrap();
        assert!(identical >= 12 && calls["identical"] == identical && calls["then"] == "it returns", "{replayed}");
        let other = root().join("examples/two-datacentres/two_datacentres.wasm");
        let other = world.run(&format!("replay latest --orchestration {}", other.display()));
        assert!(other.code == Some(1) && other.stdout.contains("Call 1 differs"), "{other:?}");
        assert_no_holders(&world, &place, &["/locks/failover", "/locks/failover-hosts"]);
    }
}

#[test]
fn two_that_take_two_leases_in_opposite_order_both_come_to_an_end() {
    for place in places() {
        let world = World::new();
        let one = example(&world, "two-datacentres", &[]);
        let swapped = [
            ("name = \"two-datacentres\"", "name = \"the-other-way-round\""),
            ("first = \"/locks/dc/ams\"", "first = \"/locks/dc/fra\""),
            ("second = \"/locks/dc/fra\"", "second = \"/locks/dc/ams\""),
            ("rest = \"300ms\"", "rest = \"1200ms\""),
        ];
        let other = example(&world, "two-datacentres", &swapped);
        thread::scope(|scope| {
            let runs = [&one, &other].map(|job| scope.spawn(|| run(&world, &place, job)));
            for running in runs {
                let (answer, events) = running.join().unwrap();
                assert_eq!(answer.code, Some(0), "{answer:?}");
                assert_eq!(events.last().unwrap()["succeeded"], 4, "{answer:?}");
            }
        });
        assert_no_holders(&world, &place, &["/locks/dc/ams", "/locks/dc/fra", "/locks/datacentres"]);
    }
}

#[test]
fn a_failure_ends_it_and_what_is_left_is_left_out() {
    let world = World::new();
    let failing = [("run = [\"sleep\", \"0.05\"]", "run = [\"sh\", \"-c\", \"test {target} != ams2\"]")];
    let job = example(&world, "two-datacentres", &failing);
    let (answer, events) = run(&world, &Vec::new(), &job);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    let last = events.last().unwrap();
    assert_eq!((&last["succeeded"], &last["failed"]), (&1.into(), &1.into()), "{answer:?}");
    assert!(answer.stdout.contains("the orchestration gave up: ams2 did not succeed: failed"), "{answer:?}");
    assert_no_holders(&world, &Vec::new(), &["/locks/dc/ams", "/locks/dc/fra"]);
}

#[test]
fn what_the_job_does_not_list_is_refused_by_name() {
    let world = World::new();
    let job = example(&world, "failover", &[("semaphores = [{ path = \"/locks/failover\" }]\n", "")]);
    let (answer, _) = run(&world, &Vec::new(), &job);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(answer.stdout.contains("the job's `orchestration.semaphores` do not list `/locks/failover`"), "{answer:?}");
}

/// A job of the guest that does as its settings say.
fn misbehaving(world: &World, mode: &str, more: &str) -> String {
    let wasm = world.folder().join("orchestrated.wasm");
    if !wasm.exists() {
        fs::write(&wasm, hostile::built("orchestrated")).unwrap();
    }
    let job = format!(
        "name = \"{mode}\"\nsemaphore.path = \"/locks/own\"\ntargets.hosts = [\"a\"]\naction.run = [\"true\"]\npolicy.use = \"rolling\"\n\
         budget.stop-at = \"unlimited\"\n\
         [orchestration]\npath = \"orchestrated.wasm\"\nsemaphores = [{{ path = \"/locks/a\" }}, {{ path = \"/locks/b\" }}]\n{more}\n\
         settings.mode = \"{mode}\"\n"
    );
    world.file(&format!("{mode}.toml"), &job).display().to_string()
}

#[test]
fn whatever_an_orchestration_does_it_is_bounded_and_named_and_nothing_stays_held() {
    let world = World::new();
    let here = Vec::new();
    for (mode, more, code, said) in [
        // On a busy machine its time ends first.
        ("hog", "", 70, "used up its fuel|the host is overloaded"),
        ("chatty", "", 70, "has made 2000 calls since its last checkpoint"),
        ("deaf", "", 0, "do not list `/locks/7`"),
        ("panic", "", 70, "no lease for"),
        ("forge", "", 70, "the orchestration trapped: unknown handle index"),
        ("twice", "", 70, "the orchestration trapped: unknown handle index"),
        ("long", "", 1, "a state of 70000 bytes: 65536 is the most"),
        ("checkpoints", "", 1, "no call was made since the last checkpoint"),
        ("days", "", 0, "\"state\":\"07070707\""),
        ("nothing", "", 1, "the orchestration gave up: no mode `nothing`"),
        ("sleepy", "timeout = \"1s\"", 1, "a sleep longer than the job's `orchestration.timeout`"),
    ] {
        let job = misbehaving(&world, mode, more);
        let (answer, events) = run(&world, &here, &job);
        // A target that is left out is not done.
        assert_eq!(answer.code, Some(code), "{mode}: {:?}", events.last());
        assert!(said.split('|').any(|said| answer.stdout.contains(said)), "{mode}: {:?}", events.last());
        assert_no_holders(&world, &here, &["/locks/a", "/locks/b", "/locks/own"]);
        // Made again, its calls are the same.
        let replayed = world.json(&format!("replay {mode}"));
        let calls = &replayed["orchestration"]["runner-epochs"][0];
        assert!(calls["difference"].is_null() && calls["calls"] == calls["identical"], "{mode}: {replayed}");
    }
}

#[test]
fn one_that_waits_for_ever_is_seen_and_ended_from_elsewhere() {
    let world = World::new();
    let job = misbehaving(&world, "sleepy", "");
    let here = Vec::new();
    thread::scope(|scope| {
        let running = scope.spawn(|| run(&world, &here, &job));
        eventually("it sleeps", || world.run("status latest").stdout.contains("sleep 5"));
        assert_eq!(world.holders("/locks/a").len(), 1);
        let aborted = world.run("abort latest --reason enough");
        assert_eq!(aborted.code, Some(0), "{aborted:?}");
        let (answer, _) = running.join().unwrap();
        assert_eq!(answer.code, Some(1), "{answer:?}");
    });
    assert_no_holders(&world, &here, &["/locks/a"]);
}

#[test]
fn two_that_wait_for_each_other_are_shown_and_one_gives_way() {
    for place in places() {
        let world = World::new();
        let jobs = ["cross-a", "cross-b"].map(|mode| misbehaving(&world, mode, ""));
        let status = |run: &str| {
            let said = said(world.lockkeeper(["status", run]).args(&place));
            said.stdout
        };
        thread::scope(|scope| {
            let [one, other] = jobs.each_ref().map(|job| scope.spawn(|| run(&world, &place, job)));
            eventually("each is shown what it waits for", || {
                let told = ["cross-a", "cross-b"].map(&status);
                told.iter()
                    .all(|told| told.contains("position 1 of 1 in the queue") && told.contains("waits for this run"))
            });
            let told = status("cross-b");
            assert!(told.contains("`/locks/a` is held by cross-a-"), "{told}");
            assert!(told.contains("which waits for this run: lock /locks/b within 4s"), "{told}");
            assert!(told.contains("sleep 2s"), "its calls are listed: {told}");
            let (gave_way, _) = one.join().unwrap();
            assert_eq!(gave_way.code, Some(1), "{gave_way:?}");
            assert!(gave_way.stdout.contains("the time ran out"), "{gave_way:?}");
            let (went_on, _) = other.join().unwrap();
            assert_eq!(went_on.code, Some(0), "{went_on:?}");
        });
        assert_no_holders(&world, &place, &["/locks/a", "/locks/b", "/locks/own"]);
    }
}

#[test]
fn the_policy_can_be_asked_before_a_target_is_let_go() {
    let world = World::new();
    let here = Vec::new();
    let (answer, events) = run(&world, &here, &misbehaving(&world, "advised", ""));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    let advice = events.iter().find(|event| event["event"] == "call-answered" && event["call"] == "admit").unwrap();
    assert_eq!((&advice["is"]["verdict"], &advice["target"]), (&"lock".into(), &"a".into()), "{advice}");
    // Nothing followed from the question itself: the target was let go by the call that came after it.
    let place =
        |what: &str, call: &str| events.iter().position(|event| event["event"] == what && event["call"] == call);
    let started = events.iter().position(|event| event["event"] == "started").unwrap();
    assert!(place("call-started", "start").unwrap() < started, "{answer:?}");
    // The same policy refuses while its window is closed.
    let job = misbehaving(&world, "advised", "");
    let text = fs::read_to_string(&job).unwrap().replacen("name = \"advised\"", "name = \"closed\"", 1);
    let text = text.replace(
        "policy.use = \"rolling\"",
        "policy.use = \"rolling\"\npolicy.settings.keep-members = 3\nparty.path = \"/party/none\"\nparty.min-nodes = 0",
    );
    fs::write(&job, text).unwrap();
    let (answer, events) = run(&world, &here, &job);
    let skipped = events.iter().find(|event| event["event"] == "skipped").unwrap_or_else(|| panic!("{answer:?}"));
    assert!(skipped["reason"].as_str().unwrap().starts_with("the policy says Admission::Wait"), "{skipped}");
}

#[test]
fn a_lease_is_forced_where_the_job_grants_that() {
    for place in places() {
        let world = World::new();
        let locked = said(world.lockkeeper(["lock", "/locks/a", "--identifier", "gone"]).args(&place));
        assert_eq!(locked.code, Some(0), "{locked:?}");
        let (answer, _) = run(&world, &place, &misbehaving(&world, "force", ""));
        assert!(answer.code == Some(1) && answer.stdout.contains("grants` do not list `force`"), "{answer:?}");
        let holders = json_of(&world, &place, "holders /locks/a");
        assert_eq!(holders["holders"][0]["identifier"], "gone", "{holders}");
        let (answer, events) = run(&world, &place, &misbehaving(&world, "force", "grants = [\"force\"]"));
        assert_eq!(answer.code, Some(0), "{answer:?}");
        assert_eq!(events.last().unwrap()["succeeded"], 1, "{answer:?}");
        let forced: Vec<_> = events.iter().filter(|event| event["event"] == "slot-forced").collect();
        assert_eq!(
            (forced.len(), &events.last().unwrap()["forced"]),
            (1, &1.into()),
            "it counts as a force: {answer:?}"
        );
        assert!(
            forced[0]["semaphore"] == "/locks/a" && !forced[0]["reason"].as_str().unwrap().is_empty(),
            "{forced:?}"
        );
        assert_no_holders(&world, &place, &["/locks/a", "/locks/own"]);
    }
}

#[test]
fn what_was_done_is_rolled_back_when_one_fails() {
    for place in places() {
        let world = World::new();
        let (acted, undone) = (world.folder().join("acted"), world.folder().join("undone"));
        let job = misbehaving(&world, "undo", "");
        let text = fs::read_to_string(&job).unwrap();
        let log = |file: &Path| format!("echo {{target}} >> {}", file.display());
        let text = text
            .replace("targets.hosts = [\"a\"]", "targets.hosts = [\"a\", \"b\", \"c\", \"d\"]")
            .replace(
                "action.run = [\"true\"]",
                &format!(
                    "action.run = [\"sh\", \"-c\", \"{}; test {{target}} != c\"]\naction.roll-back = [\"sh\", \"-c\", \"{}\"]",
                    log(&acted),
                    log(&undone)
                ),
            );
        fs::write(&job, &text).unwrap();
        let (answer, _) = run(&world, &place, &job);
        assert_eq!(answer.code, Some(1), "{answer:?}");
        assert!(answer.stdout.contains("c did not succeed: failed"), "{answer:?}");
        assert_eq!(fs::read_to_string(&acted).unwrap(), "a\nb\nc\n", "{answer:?}");
        assert_eq!(fs::read_to_string(&undone).unwrap(), "b\na\n", "{answer:?}");
        let seen = json_of(&world, &place, "status latest --all");
        // So it is in a made-up world.
        let view = "targets = [\"a\", \"b\", { name = \"c\", ends = \"failed\" }, \"d\"]\n\
             semaphores = { \"/locks/a\" = {}, \"/locks/b\" = {} }\n";
        let settings = "mode = \"undo\"\n";
        let wasm = world.folder().join("orchestrated.wasm");
        let result = decided(&world, &wasm, view, settings);
        assert_eq!(without_times(&seen["calls"]), without_times(&result["calls"]));
        // The same calls come from the same answers.
        let calls = &world.json("replay latest")["orchestration"]["runner-epochs"][0];
        assert!(calls["calls"] == calls["identical"] && calls["calls"].as_u64() >= Some(15), "{calls}");
        assert_no_holders(&world, &place, &["/locks/own"]);
        // Where the job does not say how, nothing is.
        let text = text.replace("action.roll-back", "action.probe").replace("name = \"undo\"", "name = \"no-undo\"");
        fs::write(&job, text).unwrap();
        let (answer, _) = run(&world, &place, &job);
        assert!(answer.code == Some(1) && answer.stdout.contains("the job has no `action.roll-back`"), "{answer:?}");
    }
}

#[test]
fn nothing_continues_under_a_broken_lease() {
    for place in places() {
        let world = World::new();
        let folder = world.folder().display().to_string();
        for (number, (members, is_killed)) in [(2, false), (2, true), (1, false)].into_iter().enumerate() {
            let job = example(
                &world,
                "failover",
                &[
                    ("name = \"failover\"", &format!("name = \"failover{number}\"")),
                    ("/locks/failover", &format!("/locks/failover{number}")),
                    ("/party/db", &format!("/party/db{number}")),
                    ("members = 2", &format!("members = {members}")),
                    (
                        "run = [\"true\"]",
                        &format!("run = [\"sh\", \"-c\", \"echo {{target}} >> {folder}/{number}; sleep 2\"]"),
                    ),
                ],
            );
            let lock = format!("/locks/failover{number}");
            let mut member = join(&world, &place, &format!("/party/db{number}"), "db1");
            let mut running = world.lockkeeper(["run", &job, "--session-timeout", "2s", "--format", "json"]);
            let mut running = running.args(&place).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
            // It waits for a member, or db1 is running.
            eventually("it waits under its lease", || {
                let told = said(world.lockkeeper(["status", &format!("failover{number}")]).args(&place)).stdout;
                told.contains("wait for 2 members") || told.contains("wait for one of db1")
            });
            if is_killed {
                running.kill().unwrap();
            }
            let holders = json_of(&world, &place, &format!("holders {lock}"));
            let run_name = holders["holders"][0]["identifier"].as_str().unwrap();
            let unlock = ["unlock", &lock, "--identifier", run_name];
            let refused = said(world.lockkeeper(unlock).args(&place));
            assert_eq!(refused.code, Some(77), "it is the run's: {refused:?}");
            for words in [
                &[&unlock[..], &["--force", "--reason", "a test"]].concat()[..],
                &["lock", &lock, "--identifier", "thief"],
            ] {
                let stolen = said(world.lockkeeper(words).args(&place));
                assert_eq!(stolen.code, Some(0), "{stolen:?}");
            }
            let answer = match is_killed {
                true => run(&world, &place, &job).0,
                false => {
                    let output = running.wait_with_output().unwrap();
                    Said {
                        code: output.status.code(),
                        stdout: String::from_utf8(output.stdout).unwrap(),
                        stderr: String::new(),
                    }
                }
            };
            member.kill().unwrap();
            member.wait().unwrap();
            assert_eq!(answer.code, Some(1), "{number}: {answer:?}");
            assert!(answer.stdout.contains(&format!("the lease of {lock} was lost")), "{number}: {answer:?}");
            let acted = fs::read_to_string(world.folder().join(number.to_string())).unwrap_or_default();
            assert_eq!(acted, ["", "", "db1\n"][number], "{number}: {answer:?}");
            // What is the thief's stays the thief's.
            let holders = json_of(&world, &place, &format!("holders {lock}"));
            assert_eq!(
                (holders["holders"].as_array().unwrap().len(), &holders["holders"][0]["identifier"]),
                (1, &"thief".into()),
                "{holders}"
            );
        }
    }
}

#[test]
fn one_whose_runner_is_gone_is_ended_with_its_leases() {
    let world = World::new();
    let job = misbehaving(&world, "sleepy", "");
    let mut running = world.lockkeeper(["run", &job, "--session-timeout", "2s"]);
    let mut running = running.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("it sleeps", || world.run("status latest").stdout.contains("sleep 5"));
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(world.holders("/locks/a").len(), 1, "it outlives its runner");
    eventually("nobody runs it any more", || world.run("abort latest --reason gone").code == Some(0));
    assert_no_holders(&world, &Vec::new(), &["/locks/a"]);
}

#[test]
fn one_that_does_other_than_before_is_stopped_and_both_calls_are_shown() {
    let world = World::new();
    let job = misbehaving(&world, "sleepy", "");
    let file = world.folder().join("store.db");
    let place = vec!["--store".to_owned(), file.display().to_string()];
    let mut running = world.lockkeeper(["run", &job, "--session-timeout", "2s"]);
    let mut running = running.args(&place).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let status = || said(world.lockkeeper(["status", "latest"]).args(&place)).stdout;
    eventually("it sleeps", || status().contains("sleep 5"));
    running.kill().unwrap();
    running.wait().unwrap();
    // As if it had taken another lease first.
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let store = Embedded::new(file, EmbeddedOptions::default()).connect().await.unwrap();
        let run = run_state::all(&store).await.unwrap().remove(0).name;
        let node = NodePath::parse(&format!("/lockkeeper/runs/{run}/calls/00000000")).unwrap();
        let before = String::from_utf8(store.read(&node).await.unwrap().data.to_vec()).unwrap();
        assert!(before.contains("/locks/a"), "{before}");
        store.set(&node, before.replace("/locks/a", "/locks/b").into(), Version::Any).await.unwrap();
        store.close().await.unwrap();
    });
    let (answer, events) = run(&world, &place, &job);
    assert_eq!(answer.code, Some(70), "{answer:?}");
    let fault = events.iter().find(|event| event["event"] == "orchestration-fault").unwrap();
    assert_eq!(fault["kind"], "diverged", "{fault}");
    let told = "the orchestration calls `lock /locks/a` instead of `lock /locks/b`";
    assert!(fault["message"].as_str().unwrap().contains(told), "{fault}");
    assert_no_holders(&world, &place, &["/locks/a", "/locks/b"]);
}

#[test]
fn mistakes_are_reported_with_their_place() {
    let world = World::new();
    for (from, to, message, hint) in [
        ("members = 2", "members = \"two\"", "members", ""),
        (
            "path = \"/locks/failover\" }",
            "path = \"/locks/failover-hosts\" }",
            "is the job's own semaphore",
            "leave it out",
        ),
        (
            "[orchestration]\n",
            "[orchestration]\nuse = \"x\"\n",
            "there are no standard orchestrations",
            "name its file",
        ),
    ] {
        let job = example(&world, "failover", &[(from, to)]);
        let checked = world.run(&format!("check {job}"));
        assert_eq!(checked.code, Some(2), "{checked:?}");
        assert!(checked.stderr.contains(message) && checked.stderr.contains(hint), "{checked:?}");
    }
    // A policy is no orchestration.
    let policy = world.folder().join("rolling.wasm");
    fs::write(&policy, lockkeeper::policy::StandardPolicy::named("rolling").unwrap().wasm).unwrap();
    let wasm = root().join("examples/failover/failover.wasm").display().to_string();
    let job = example(&world, "failover", &[]);
    let text = fs::read_to_string(&job).unwrap().replace(&wasm, &policy.display().to_string());
    fs::write(&job, text).unwrap();
    let checked = world.run(&format!("check {job}"));
    assert!(checked.code == Some(70) && checked.stderr.contains("orchestration/driver"), "{checked:?}");
}

#[test]
fn the_examples_cases_pass_and_a_wrong_one_is_reported() {
    built();
    let world = World::new();
    for (example, wasm, cases) in [("failover", "failover.wasm", 5), ("two-datacentres", "two_datacentres.wasm", 4)] {
        let file = root().join("examples").join(example).join(wasm);
        let tested = world.json(&format!("policy test {}", file.display()));
        assert_eq!((&tested["failures"], tested["cases"].as_array().unwrap().len()), (&0.into(), cases), "{tested}");
    }
    // So do those of the documentation.
    let folder = root().join("examples/failover");
    let wasm = folder.join("failover.wasm").display().to_string();
    let docs = fs::read_to_string(root().join("docs/how-to/orchestrations.md")).unwrap();
    let shown = docs.split("```toml\n").nth(2).unwrap().split("```").next().unwrap();
    let tested = world.json(&format!("policy test {wasm} {}", world.file("docs.toml", shown).display()));
    assert_eq!((&tested["failures"], tested["cases"].as_array().unwrap().len()), (&0.into(), 1), "{tested}");
    let text = fs::read_to_string(folder.join("cases.toml")).unwrap();
    let wrong = text.replace("took = \"30s\"", "took = \"29s\"").replace("reason = \"db2 did", "reason = \"db3 did");
    let wrong = world.file("wrong.toml", &wrong).display().to_string();
    let tested = said(&mut world.lockkeeper(["--format", "human", "policy", "test", &wasm, &wrong]));
    assert_eq!(tested.code, Some(1), "{tested:?}");
    for told in ["took: expected 29s, seen 30s", "reason: expected db3 did", "3 of 5 cases passed", "start db1 → done"]
    {
        assert!(tested.stdout.contains(told), "{told}: {tested:?}");
    }
    let decided = world.json(&format!(
        "policy decide {wasm} --settings {}",
        world.file("s.toml", "lock = \"/locks/x\"\nparty = \"/party/x\"\nmembers = 1\npatience = \"1s\"\n").display()
    ));
    assert!(decided["told"].as_str().unwrap().contains("do not list `/locks/x`"), "{decided}");
}

#[test]
fn cases_are_played_through_checkpoints_and_faults() {
    let world = World::new();
    let wasm = world.folder().join("orchestrated.wasm");
    fs::write(&wasm, hostile::built("orchestrated")).unwrap();
    let case = |settings: &str, ends: &str| {
        format!(
            "[[case]]\nname = \"{settings}\"\nsettings.mode = \"{settings}\"\nexpect.ends = \"{ends}\"\n\
             world.targets = [\"a\", \"b\"]\nworld.semaphores = {{ \"/locks/a\" = {{}}, \"/locks/b\" = {{}} }}\n"
        )
    };
    let cases = [
        ("crash", "succeeded"),
        ("drop", "succeeded"),
        ("resume", "succeeded"),
        ("days", "succeeded"),
        ("checkpoints", "gave-up"),
        ("chatty", "fault"),
        ("spin", "fault"),
        ("panic", "fault"),
    ];
    let good: String = cases.iter().map(|(mode, ends)| case(mode, ends)).collect();
    let good = world.file("good.toml", &good).display().to_string();
    let tested = world.json(&format!("policy test {} {good}", wasm.display()));
    assert_eq!(tested["failures"], 0, "{tested}");
}
