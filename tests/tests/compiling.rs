//! Policies from outside are compiled by a process of its own: what that costs at most, and what becomes of it.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]
#![allow(clippy::print_stdout, reason = "what was measured is said")]

#[allow(dead_code, reason = "its guests in WAT alone")]
mod hostile;

use std::time::Instant;

use hostile::Guest;
use lockkeeper::policy::{Compiler, Engine, EngineOptions};

/// As `lockkeeper` does it.
fn compiling_in_a_child() -> Engine {
    let compiler = Compiler::Child(lockkeeper_tests::binaries().join("lockkeeper"));
    Engine::new(&EngineOptions { compiler, ..EngineOptions::default() }).unwrap()
}

/// A component whose only module has that function, which is valid and too expensive for the compiler.
fn bomb(locals: usize, body: &str) -> Vec<u8> {
    let locals = "i32 ".repeat(locals);
    wat::parse_str(format!("(component (core module (func (param i32) (local {locals}) {body})))")).unwrap()
}

#[test]
fn what_the_compiler_cannot_bear_costs_a_child_and_not_the_host() {
    let chain: String = (1..20_000)
        .map(|local| format!("(if (local.get 0) (then (local.set {local} (i32.const {local}))))"))
        .chain((1..20_000).map(|local| format!("(drop (local.get {local}))")))
        .collect();
    let changes = |depth: usize| {
        format!("(local.set {} (i32.add (local.get {}) (local.get 0)))", 1 + depth * 7 % 200, 1 + depth % 200)
    };
    let loops: String = (0..5_000).map(|depth| format!("loop {}", changes(depth))).collect();
    let loops = format!("{loops} {}", "(br_if 0 (local.get 0)) end ".repeat(5_000));
    let engine = compiling_in_a_child();
    for (name, wasm, kind) in [
        ("memory", bomb(20_000, &chain), "compiler-out-of-memory"),
        ("time", bomb(200, &loops), "compiler-out-of-time"),
    ] {
        let started = Instant::now();
        let error = engine.load(&wasm).unwrap_err();
        println!("{:7.1} ms  {} bytes, {name}: {error}", started.elapsed().as_secs_f64() * 1000.0, wasm.len());
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.hint().is_some());
    }
    assert!(engine.load(&Guest::default().module()).is_ok(), "the next one is compiled");
}

#[test]
fn a_killed_compiler_is_reported() {
    let died = |program: &str| {
        let options = EngineOptions { compiler: Compiler::Child(program.into()), ..EngineOptions::default() };
        let error = Engine::new(&options).unwrap().load(&Guest::default().module()).unwrap_err();
        assert_eq!(error.kind(), "compiler-died");
        error.to_string()
    };
    assert_eq!(
        died("/nowhere/lockkeeper"),
        "the policy's compiler died: it cannot be started: No such file or directory (os error 2)"
    );
    assert!(died("/bin/false").contains("exit status: 1"), "one that says nothing");
    // An output that no compiler produces.
    assert!(died("/bin/echo").contains("exit status: 0"));
}
