//! Policies in Python and JavaScript, built by one command each, tested and run as their READMEs say.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]
#![allow(clippy::print_stdout, reason = "what was measured, and what was left out, is said")]

use std::fs;
use std::process::{Command, Stdio};

use lockkeeper_tests::{World, eventually, root, said};
use serde_json::Value;

/// Whether a package registry's client and packages are available here; reports it if not. CI always has them.
fn can_build(world: &World, example: &str) -> bool {
    let built = said(world.lockkeeper(["policy", "build", example, "--format", "json"]).current_dir(root()));
    if built.code == Some(0) {
        let told: Value = serde_json::from_str(&built.stdout).unwrap();
        println!(
            "{example}: {} bytes, built in {} ms, loaded in {} ms, {}",
            told["bytes"], told["built-ms"], told["loaded-ms"], told["sample"]
        );
        return true;
    }
    assert!(std::env::var_os("CI").is_none(), "{built:?}");
    println!("{example} could not be built, so it is not tested: {}", built.stderr.trim());
    false
}

fn passes_its_tests(world: &World, wasm: &str) {
    let tested =
        said(world.lockkeeper(["policy", "test", wasm, "--views", "60", "--format", "json"]).current_dir(root()));
    assert_eq!(tested.code, Some(0), "{tested:?}");
    let told: Value = serde_json::from_str(&tested.stdout).unwrap();
    assert!(told["cases"].as_array().unwrap().len() >= 4, "{told}");
}

/// From the cache: compiled once, it is loaded in a moment. Whether that was quick is for people to judge.
fn is_in_the_cache(world: &World) {
    let kept = fs::read_dir(world.folder().join("state/compiled")).unwrap().count();
    assert!(kept > 0, "no compiled policy is kept");
}

#[test]
fn in_python() {
    let world = World::new();
    if !can_build(&world, "examples/policy-python") {
        return;
    }
    is_in_the_cache(&world);
    passes_its_tests(&world, "examples/policy-python/policy_python.wasm");
    let job = root().join("examples/policy-python/job.toml");
    let wrong = fs::read_to_string(&job).unwrap().replace("label = \"rack\"", "label = \" rack\"");
    let beside = root().join("examples/policy-python/wrong-label.toml");
    fs::write(&beside, wrong).unwrap();
    let checked = world.run(&format!("check {}", beside.display()));
    fs::remove_file(&beside).unwrap();
    assert_eq!(checked.code, Some(2), "{checked:?}");
    assert!(checked.stderr.contains("is no label's key") && checked.stderr.contains("write it such as"), "{checked:?}");

    let ran = said(world.lockkeeper(["run", "--format", "json"]).arg(&job).current_dir(root()));
    let events: Vec<Value> = ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let waits = |target: &str| {
        events
            .iter()
            .any(|event| event["event"] == "waiting" && event["target"] == target && event["code"] == "cooling-down")
    };
    assert!(waits("db3"), "{ran:?}");
    assert!(!waits("db4"), "another rack goes on: {ran:?}");
    let last = events.last().unwrap();
    assert_eq!((&last["succeeded"], &last["failed"]), (&3.into(), &1.into()), "{ran:?}");
}

#[test]
fn in_javascript() {
    let world = World::new();
    if !can_build(&world, "examples/policy-javascript") {
        return;
    }
    is_in_the_cache(&world);
    passes_its_tests(&world, "examples/policy-javascript/policy_javascript.wasm");
    let job = root().join("examples/policy-javascript/job.toml");
    let mut backup: Command =
        world.lockkeeper("lock /locks/backup --ephemeral-lease --identifier db07 -- sleep 60".split(' '));
    let mut backup = backup.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    eventually("the backup has its slot", || !world.holders("/locks/backup").is_empty());
    let log = world.folder().join("said");
    let mut rollout = world.lockkeeper(["run"]);
    let mut rollout = rollout.arg(&job).stderr(fs::File::create(&log).unwrap()).spawn().unwrap();
    let so_far = || fs::read_to_string(&log).unwrap();
    eventually("the policy waits for the backup", || so_far().contains("others-first"));
    assert!(!so_far().contains("Leased"), "{}", so_far());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(backup.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    backup.wait().unwrap();
    assert!(rollout.wait().unwrap().success(), "{}", so_far());
    assert!(so_far().contains("3 succeeded, 0 failed"), "{}", so_far());
}
