//! Ten policies with a mistake each that people make: every one is caught before it runs, by name.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

use std::path::PathBuf;

use lockkeeper_guest_build::{Build, PROFILE, Stderr, Toolchain};
use lockkeeper_tests::{World, root, said};
use serde_json::Value;

/// Position of the mistake in the guest.
const NONE: &str = "MISTAKE:none                    ";

/// A mistake, and the property that it breaks.
const MISTAKES: [(&str, &str); 8] = [
    ("another-map-each-time", "repeatable"),
    ("waits-without-a-wake", "wakes"),
    ("traps-on-an-empty-party", "faults"),
    ("ignores-the-floor", "floor"),
    ("answers-outside-its-list", "verdicts"),
    ("slow", "frugal"),
    ("hungry", "frugal"),
    ("depends-on-the-order", "order"),
];

fn guest() -> Vec<u8> {
    let guests = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("guests");
    let modules = Toolchain::find()
        .unwrap()
        .build(&Build {
            manifest: &root().join("Cargo.toml"),
            packages: &["bad"],
            profile: PROFILE,
            target_dir: &guests,
            stderr: Stderr::Kept,
        })
        .unwrap_or_else(|error| panic!("{error}"));
    std::fs::read(&modules[0]).unwrap()
}

/// The guest with a mistake, in a world.
fn with_mistake(world: &World, guest: &[u8], mistake: &str) -> PathBuf {
    let at = guest.windows(NONE.len()).position(|bytes| bytes == NONE.as_bytes()).expect("the guest has its place");
    let mut wasm = guest.to_vec();
    let text = format!("{:32}", format!("MISTAKE:{mistake}"));
    assert_eq!(text.len(), NONE.len(), "{mistake} is too long");
    wasm[at..at + NONE.len()].copy_from_slice(text.as_bytes());
    let path = world.folder().join(format!("{mistake}.wasm"));
    std::fs::write(&path, wasm).unwrap();
    path
}

/// The result of `policy test`: the names of the violated properties, and the whole output.
fn broken(world: &World, wasm: &str) -> (Vec<String>, Value) {
    let cases = world.folder().join("usual.toml");
    let tested =
        said(world.lockkeeper(["policy", "test", wasm]).arg(&cases).args(["--views", "60", "--format", "json"]));
    let told: Value = serde_json::from_str(&tested.stdout).unwrap_or_else(|error| panic!("{error}: {tested:?}"));
    let properties = told["properties"].as_array().unwrap();
    let broken: Vec<String> = properties
        .iter()
        .filter(|property| property["holds"] == false)
        .map(|property| property["name"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(tested.code, Some(i32::from(!broken.is_empty())), "{tested:?}");
    (broken, told)
}

#[test]
fn each_mistake_is_caught_by_the_property_that_it_breaks() {
    let (world, guest) = (World::new(), guest());
    world.file(
        "usual.toml",
        "settings.per = 10\n[[case]]\nname = \"the first goes\"\nexpect = { verdict = \"lock\" }\n",
    );
    let (none, told) = broken(&world, with_mistake(&world, &guest, "none").to_str().unwrap());
    assert!(none.is_empty(), "the guest without a mistake: {told}");
    for (mistake, property) in MISTAKES {
        let wasm = with_mistake(&world, &guest, mistake);
        let wasm = wasm.to_str().unwrap();
        let cases = "settings.per = 10\n";
        world.file("usual.toml", cases);
        let (found, told) = broken(&world, wasm);
        assert!(found.iter().any(|one| one == property), "{mistake} breaks {found:?} and not {property}: {told}");
        // What is printed to paste shows the same again.
        let case =
            told["properties"].as_array().unwrap().iter().find(|one| one["name"] == property).unwrap()["case"].clone();
        let pasted = world.file("pasted.toml", case.as_str().unwrap());
        let again = said(world.lockkeeper(["policy", "test", wasm]).arg(&pasted).arg("--no-properties"));
        assert_ne!(again.code, Some(2), "{mistake}: what is to be pasted is no case: {again:?}\n{case}");
    }
}

#[test]
fn settings_that_make_it_panic_are_made_up() {
    let (world, guest) = (World::new(), guest());
    world.file("usual.toml", "settings.per = 10\n");
    let wasm = with_mistake(&world, &guest, "panics-on-odd-settings");
    let (found, told) = broken(&world, wasm.to_str().unwrap());
    assert_eq!(found, ["settings"], "{told}");
    let why = told["properties"].as_array().unwrap().iter().find(|one| one["holds"] == false).unwrap();
    assert!(why["case"].as_str().unwrap().contains("per = 0"), "{why}");
    assert!(why["why"].as_str().unwrap().contains("attempt to divide by zero"), "{why}");
}

#[test]
fn another_world_is_refused_when_it_is_loaded() {
    let world = World::new();
    let path = world.file("other.wasm", "");
    std::fs::write(&path, wat::parse_str("(component (core module $m) (export \"m\" (core module $m)))").unwrap())
        .unwrap();
    for command in ["test", "inspect", "bench", "decide"] {
        let answer = world.run(&format!("policy {command} {} --format json", path.display()));
        let told: Value = serde_json::from_str(answer.stderr.lines().last().unwrap()).unwrap();
        assert_eq!((answer.code, told["fault"].as_str()), (Some(70), Some("wrong-world")), "{command}: {answer:?}");
        assert!(told["hint"].as_str().is_some_and(|hint| hint.contains("lockkeeper-sdk")), "{told}");
    }
}
