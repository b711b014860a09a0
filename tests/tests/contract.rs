//! The contract does not change for its users: `docs/contract.md` has the rule.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]
#![allow(clippy::print_stdout, reason = "what was measured, and what was left out, is said")]

mod decide;

use std::fs;
use std::path::{Path, PathBuf};

use decide::engine;
use lockkeeper::author::{read_cases, try_cases};
use lockkeeper_guest_build::{Build, Stderr, Toolchain, with_short_names, without_component_names};
use lockkeeper_tests::root;
use wit_component::{OutputToString, WitPrinter};
use wit_parser::Resolve;

/// The contract, its one copy.
const WIT: &str = include_str!("../../guest-sdk/wit/policy.wit");

/// The contract as its types are, without comments and in one way of writing.
fn printed() -> (String, String) {
    let mut resolve = Resolve::default();
    let package = resolve.push_source("policy.wit", WIT).unwrap();
    let version = resolve.packages[package].name.version.clone().expect("the contract has a version").to_string();
    let mut printer = WitPrinter::new(OutputToString::default());
    printer.emit_docs(false).print(&resolve, package, &[]).unwrap();
    (version, printer.output.to_string())
}

fn versions() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> =
        fs::read_dir(root().join("tests/contract")).unwrap().map(|entry| entry.unwrap().path()).collect();
    folders.sort();
    folders
}

#[test]
fn the_contract_is_what_was_released() {
    let (version, printed) = printed();
    let golden = root().join("tests/contract").join(&version).join("policy.wit");
    if std::env::var_os("UPDATE_CONTRACT").is_some() && !golden.exists() {
        fs::write(&golden, &printed).unwrap();
    }
    let released = fs::read_to_string(&golden).unwrap_or_default();
    assert!(
        printed == released,
        "guest-sdk/wit/policy.wit is not what {version} was released as. Policies out there were built against that: a change \
         needs a version of its own (docs/contract.md). Now it is:\n{printed}"
    );
}

#[test]
fn guests_of_every_released_version_run() {
    let (engine, mut ran) = (engine(), 0);
    for folder in versions() {
        for file in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if file.extension().is_none_or(|kind| kind != "wasm") {
                continue;
            }
            let told = file.display();
            let policy = engine.load_file(&file, None).unwrap_or_else(|error| panic!("{told}: {error}"));
            assert!(!policy.manifest().name.is_empty() && !policy.manifest().verdicts.is_empty(), "{told}");
            let cases = fs::read_to_string(file.with_extension("cases.toml")).unwrap();
            let cases = read_cases(&told.to_string(), &cases).unwrap();
            for tried in try_cases(&policy, &cases).unwrap() {
                let name = &cases.cases[tried.index].name;
                assert!(tried.differences.is_empty(), "{told}: {name}: {:?}", tried.differences);
                ran += 1;
            }
        }
    }
    assert!(ran >= 15, "{ran} cases of fixtures ran");
}

#[test]
fn a_policy_stays_small() {
    let guests = std::env::current_exe().unwrap().ancestors().nth(3).unwrap().join("guests");
    let toolchain = Toolchain::find().unwrap();
    let manifest = root().join("Cargo.toml");
    let packages = ["hello", "typed"];
    let build =
        Build { manifest: &manifest, packages: &packages, profile: "small", target_dir: &guests, stderr: Stderr::Kept };
    let modules = toolchain.build(&build).unwrap_or_else(|error| panic!("{error}"));
    let bytes = |module: &Path| {
        let core = with_short_names(&fs::read(module).unwrap()).expect("what was built can be read");
        without_component_names(lockkeeper::policy::componentise(&core).unwrap()).len()
    };
    let (hello, typed) = (bytes(&modules[0]), bytes(&modules[1]));
    println!("hello {hello} bytes, with typed settings {typed} bytes");
    let author = fs::read_to_string(root().join("tests/guests/hello/src/lib.rs")).unwrap();
    assert!(author.lines().count() <= 8, "hello has {} lines", author.lines().count());
    // What they come to, with some room: what makes them larger than that is worth a look.
    assert!(hello <= 25_000, "hello has {hello} bytes");
    assert!(typed <= 60_000, "a policy with typed settings has {typed} bytes");

    // And what is built today answers as what was built then.
    let (engine, newest) = (engine(), versions().pop().unwrap());
    for (module, name) in modules.iter().zip(packages) {
        let policy = engine.load(&fs::read(module).unwrap()).unwrap();
        let file = newest.join(name).with_extension("cases.toml");
        let cases = read_cases(name, &fs::read_to_string(file).unwrap()).unwrap();
        for tried in try_cases(&policy, &cases).unwrap() {
            assert!(tried.differences.is_empty(), "{name}: {}", cases.cases[tried.index].name);
        }
    }
}
