//! Every example, run as its README says.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::fs;
use std::process::Command;

use lockkeeper_tests::{World, eventually, root, said};
use serde_json::Value;

/// Runs a job of `examples/` and gives its events.
fn run(world: &World, example: &str) -> (Option<i32>, Vec<Value>) {
    let job = root().join("examples").join(example).join("job.toml");
    let mut command = world.lockkeeper(["run", "--format", "json"]);
    let answer = said(command.arg(job).current_dir(root()));
    assert!(answer.stderr.is_empty(), "{answer:?}");
    (answer.code, answer.stdout.lines().map(|line| serde_json::from_str(line).expect("an event a line")).collect())
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == kind).collect()
}

fn position(events: &[Value], kind: &str, target: &str) -> usize {
    let found = events.iter().position(|event| event["event"] == kind && event["target"] == target);
    found.unwrap_or_else(|| panic!("{target} was never {kind}"))
}

#[test]
fn rolling_restart_keeps_two_slots_and_the_floor() {
    // `cargo xtask demo` is the example, and looks from outside.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let demo = said(Command::new(cargo).args(["xtask", "demo"]).current_dir(root()));
    assert_eq!(demo.code, Some(0), "{demo:?}");
    assert!(demo.stdout.contains("10 of 10 restarted, at most"), "{demo:?}");
    assert!(demo.stdout.contains("The limits held."), "{demo:?}");
}

#[test]
fn canary_goes_alone_and_bakes() {
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
    assert_eq!(of(&events, "finished")[0]["done"], 6);
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
    let (mut acting, mut most): (Vec<String>, usize) = (Vec::new(), 0);
    for event in &events {
        let target = event["target"].as_str().unwrap_or_default();
        match event["event"].as_str() {
            Some("started") => {
                assert!(!acting.iter().any(|other| rack(other) == rack(target)), "{target} beside {acting:?}");
                acting.push(target.to_owned());
                most = most.max(acting.len());
            }
            Some("succeeded") => acting.retain(|other| other != target),
            _ => {}
        }
    }
    assert_eq!(most, 3, "one of each rack at once");
    assert_eq!(of(&events, "finished")[0]["done"], 6);
}

#[test]
fn custom_policy_waits_until_somebody_is_in() {
    let world = World::new();
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = said(Command::new(cargo).args(["xtask", "guest", "examples/custom-policy/policy"]).current_dir(root()));
    assert_eq!(built.code, Some(0), "{built:?}");

    let job = root().join("examples/custom-policy/job.toml");
    let log = world.folder().join("events");
    let mut rollout = world.lockkeeper(["run", "--format", "json"]);
    let mut rollout = rollout.arg(&job).stdout(fs::File::create(&log).unwrap()).spawn().unwrap();
    let events = || fs::read_to_string(&log).unwrap();
    eventually("the policy waits", || events().contains("nobody-is-in"));
    assert!(!events().contains("\"started\""));

    let mut somebody = world.lockkeeper("party join /party/office --identifier ann".split(' ')).spawn().unwrap();
    assert!(rollout.wait().unwrap().success());
    assert!(events().contains("\"done\":3"));
    somebody.kill().unwrap();
    somebody.wait().unwrap();
}
