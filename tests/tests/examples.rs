//! Every example, run as its README describes.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use lockkeeper_tests::{World, eventually, root, said, sshd};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::Value;

/// Runs a job of `examples/` and gives its events.
fn run(world: &World, example: &str) -> (Option<i32>, Vec<Value>) {
    let job = root().join("examples").join(example).join("job.toml");
    let mut command = world.lockkeeper(["run", "--format", "json"]);
    let answer = said(command.arg(job).current_dir(root()));
    assert!(answer.stderr.is_empty(), "{answer:?}");
    (answer.code, answer.stdout.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect())
}

/// Runs a job of `examples/` for a person, and finds each line that its README shows.
fn shows_its_transcript(world: &World, example: &str) {
    let job = format!("examples/{example}/job.toml");
    let answer = said(world.lockkeeper(["run", "--again", &job]).current_dir(root()));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    shows(example, &answer.stderr);
}

/// Each line of the first transcript in an example's README occurs in the output.
fn shows(example: &str, said: &str) {
    let readme = fs::read_to_string(root().join("examples").join(example).join("README.md")).unwrap();
    let transcript = readme.split("```text\n").nth(1).expect("a README has a transcript").split("```").next().unwrap();
    let lines: Vec<String> = said.lines().map(without_numbers).collect();
    for line in transcript.lines().filter(|line| *line != "…") {
        assert!(
            lines.contains(&without_numbers(line)),
            "{example}: its README shows `{line}`, and this was said:\n{said}"
        );
    }
}

/// A line with its times and counts replaced, adjacent ones by one: words that start with a digit, and units.
fn without_numbers(line: &str) -> String {
    let mut words: Vec<&str> = Vec::new();
    for word in line.split_whitespace() {
        let is_number = word.trim_start_matches('(').starts_with(|first: char| first.is_ascii_digit());
        let follows_one = words.last() == Some(&"#");
        match word {
            "ms" | "s" | "m" if follows_one => {}
            _ if is_number && follows_one => {}
            _ if is_number => words.push("#"),
            _ => words.push(word),
        }
    }
    words.join(" ")
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

fn position(events: &[Value], kind: &str, target: &str) -> usize {
    let found = events.iter().position(|event| event["event"] == kind && event["target"] == target);
    found.unwrap_or_else(|| panic!("{target} was never {kind}"))
}

/// `cargo xtask demo`, which is the example and looks from outside.
fn demo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["xtask", "demo"]).current_dir(root()).stdin(Stdio::null());
    command
}

#[test]
fn rolling_restart_keeps_two_slots_and_the_floor() {
    let demo = said(&mut demo());
    assert_eq!(demo.code, Some(0), "{demo:?}");
    assert!(demo.stdout.contains("10 of 10 restarted, at most"), "{demo:?}");
    assert!(demo.stdout.contains("The limits held."), "{demo:?}");
    shows("rolling-restart", &demo.stderr);
}

#[test]
fn ctrl_c_in_the_demo_leaves_no_server() {
    let world = World::new();
    let log = world.folder().join("said");
    let mut command = demo();
    // As a terminal does: the signal reaches the whole process group.
    command.process_group(0).env("TMPDIR", world.folder());
    command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap());
    let mut demo = command.spawn().unwrap();
    eventually("two are being restarted", || fs::read_to_string(&log).unwrap().contains("Leased"));
    killpg(Pid::from_raw(i32::try_from(demo.id()).unwrap()), Signal::SIGINT).unwrap();
    let status = demo.wait().unwrap();

    assert_eq!(status.code(), Some(1), "{}", fs::read_to_string(&log).unwrap());
    assert!(fs::read_to_string(&log).unwrap().contains("the servers are stopped too"));
    assert_eq!(processes_that_name(world.folder()), Vec::<String>::new());
    let left: Vec<_> = fs::read_dir(world.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["said"], "the demo's folder is removed");
}

#[test]
fn a_fleet_that_stops_ends_its_starting_servers() {
    let world = World::new();
    let dir = world.folder().join("fleet");
    let fleet = |arguments: &[&str]| {
        let mut command = world.command("fleet");
        command.args(arguments).env("FLEET_DIR", &dir);
        command
    };
    // Sooner or later in its restart.
    for milliseconds in [0, 30, 100, 200] {
        assert_eq!(said(&mut fleet(&["up", "2"])).code, Some(0));
        let mut restart: Child = fleet(&["restart", "web01"]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        let down = said(&mut fleet(&["down"]));
        assert_eq!(down.code, Some(0), "{down:?}");
        let refused = said(&mut fleet(&["restart", "web02"]));
        assert_ne!(refused.code, Some(0), "nothing starts in a fleet that is closed: {refused:?}");
        restart.wait().unwrap();
        assert_eq!(processes_that_name(&dir), Vec::<String>::new(), "after {milliseconds} ms");
    }
}

/// The command lines, of processes that are alive, in which a folder occurs.
fn processes_that_name(folder: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path());
    let lines = processes.filter_map(|process| fs::read(process.join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(folder.to_str().unwrap())).collect()
}

#[test]
fn the_job_in_the_readme_is_one() {
    let world = World::new();
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let job = readme.split("```toml\n").nth(1).expect("the README has a job").split("```").next().unwrap();
    let job = world.file("job.toml", job);
    let answer = world.run(&format!("check {}", job.display()));
    assert_eq!(answer.code, Some(0), "{answer:?}");
}

#[test]
fn the_canary_runs_alone_and_bakes() {
    let world = World::new();
    let (code, events) = run(&world, "canary");
    assert_eq!(code, Some(0));
    let first = position(&events, "succeeded", "app1");
    let others = ["app2", "app3", "app4", "app5", "app6"];
    for other in others {
        assert!(position(&events, "started", other) > first, "{other} started before the canary was done");
        let baked =
            events[position(&events, "started", other)]["at"].as_u64().unwrap() - events[first]["at"].as_u64().unwrap();
        assert!(baked >= 1000, "{other} started {baked} ms after the canary");
    }
    assert_eq!(of(&events, "finished")[0]["succeeded"], 6);
    shows_its_transcript(&world, "canary");
}

#[test]
fn rack_spread_never_has_two_of_a_rack() {
    let world = World::new();
    let (code, events) = run(&world, "rack-spread");
    assert_eq!(code, Some(0));
    let rack = |target: &str| match target {
        "db1" | "db2" | "db3" => "a",
        "db4" | "db5" => "b",
        _ => "c",
    };
    let (mut running, mut most): (Vec<String>, usize) = (Vec::new(), 0);
    for event in &events {
        let target = event["target"].as_str().unwrap_or_default();
        match event["event"].as_str() {
            Some("started") => {
                assert!(!running.iter().any(|other| rack(other) == rack(target)), "{target} beside {running:?}");
                running.push(target.to_owned());
                most = most.max(running.len());
            }
            Some("succeeded") => running.retain(|other| other != target),
            _ => {}
        }
    }
    assert_eq!(most, 3, "one of each rack at once");
    assert_eq!(of(&events, "finished")[0]["succeeded"], 6);
    shows_its_transcript(&world, "rack-spread");
}

#[test]
fn the_custom_policy_waits_for_a_member() {
    let world = World::new();
    let words = "policy build examples/custom-policy/policy --out examples/custom-policy/office_hours.wasm";
    let built = said(world.lockkeeper(words.split(' ')).current_dir(root()));
    assert_eq!(built.code, Some(0), "{built:?}");

    let job = root().join("examples/custom-policy/job.toml");
    let log = world.folder().join("said");
    let mut rollout = world.lockkeeper(["run"]);
    let mut rollout = rollout.arg(&job).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let said_so_far = || fs::read_to_string(&log).unwrap();
    eventually("the policy waits", || said_so_far().contains("nobody-is-in"));
    assert!(!said_so_far().contains("Leased"));

    let mut somebody = world.lockkeeper("party join /party/office --identifier ann".split(' ')).spawn().unwrap();
    assert!(rollout.wait().unwrap().success());
    shows("custom-policy", &said_so_far());
    somebody.kill().unwrap();
    somebody.wait().unwrap();
}

#[test]
fn over_ssh_runs_on_the_targets() {
    if !sshd::available() {
        return;
    }
    let (world, server) = (World::new(), sshd::Sshd::start(""));
    let text = fs::read_to_string(root().join("examples/over-ssh/job.toml")).unwrap();
    let job = world.file("job.toml", &text);
    // The part that its README leaves to the reader.
    fs::copy(server.client_config(), world.folder().join("ssh_config")).unwrap();
    let plan = world.json(&format!("plan {}", job.display()));
    assert_eq!(plan["ssh"]["config"], "ssh_config");
    let answer = said(&mut world.lockkeeper(["run", &job.display().to_string()]));
    assert_eq!(answer.code, Some(0), "{answer:?}");
    shows("over-ssh", &answer.stderr);
    let journal = answer.stderr.lines().find_map(|line| Some(line.split_once("journal in ")?.1)).unwrap();
    let output = fs::read_to_string(Path::new(journal).join("output/web03.1.log")).unwrap();
    assert_eq!(output, "restarting cache; rm -rf $HOME\n", "{answer:?}");
}

#[test]
fn two_datacentres_shows_its_transcript() {
    let world = World::new();
    let words =
        "policy build examples/two-datacentres/orchestration --out examples/two-datacentres/two_datacentres.wasm";
    let built = said(world.lockkeeper(words.split(' ')).current_dir(root()));
    assert_eq!(built.code, Some(0), "{built:?}");
    shows_its_transcript(&world, "two-datacentres");
}

#[test]
fn failover_shows_its_transcript() {
    let world = World::new();
    let words = "policy build examples/failover/orchestration --out examples/failover/failover.wasm";
    let built = said(world.lockkeeper(words.split(' ')).current_dir(root()));
    assert_eq!(built.code, Some(0), "{built:?}");
    let mut members = ["db1", "db2"].map(|name| {
        let words = format!("party join /party/db --identifier {name} -- sleep 60");
        world.lockkeeper(words.split(' ')).spawn().unwrap()
    });
    shows_its_transcript(&world, "failover");
    for member in &mut members {
        member.kill().unwrap();
        member.wait().unwrap();
    }
}
