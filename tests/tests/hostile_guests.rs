//! No policy can panic, hang or bloat the host: each of these ends in its own named error, the same with pooled memory
//! and without.
//!
//! Times are printed, not judged: what bounds them is fuel and, behind it, the epoch, and which of the two struck is
//! asserted. The peak memory of the whole process is asserted.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod decide;
mod hostile;

use lockkeeper::job::{Grant, Grants};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use decide::{engine, outcome, patient, typical_view, view};
use hostile::{Guest, WIT, rust_guest, with_types};
use lockkeeper::policy::types::{Admission, Admitted, Ending, Outcome, Settlement};
use lockkeeper::policy::{
    Allocation, Compiler, Decision, Engine, EngineOptions, Limits, Module, PolicyError, StandardPolicy,
};
use serde_json::{Value, json};

/// What the whole process may have had at its worst.
const MOST_MEMORY_KIB: u64 = 200 * 1024;

fn on_demand() -> Engine {
    Engine::with_allocation(&patient(), Allocation::OnDemand).unwrap()
}

/// As `lockkeeper` does it.
fn compiling_in_a_child() -> Engine {
    let compiler = Compiler::Child(lockkeeper_tests::binaries().join("lockkeeper"));
    Engine::new(&EngineOptions { compiler, ..patient() }).unwrap()
}

fn locks() -> Grants {
    Grants::NONE.with(Grant::Lock)
}

/// The Rust guest in an engine of the usual limits.
fn hostile() -> Module {
    static LOADED: OnceLock<Module> = OnceLock::new();
    LOADED.get_or_init(|| engine().load(rust_guest()).unwrap()).clone()
}

fn admit(module: &Module, settings: &Value) -> Decision<Admitted> {
    module.admit(&settings.to_string(), &typical_view(), &[], locks())
}

/// Loads it and, if that works, has it decide.
fn fate(engine: &Engine, wasm: &[u8], settings: &Value) -> Result<Admitted, PolicyError> {
    let module = engine.load(wasm)?;
    admit(&module, settings).answer
}

/// Name, bytes, settings and the kind of error that must come of it.
struct Case {
    name: &'static str,
    /// None: the Rust guest.
    wasm: Option<Vec<u8>>,
    settings: Value,
    kind: &'static str,
}

fn wat(name: &'static str, guest: Guest, kind: &'static str) -> Case {
    Case { name, wasm: Some(guest.module()), settings: json!({}), kind }
}

fn bytes(name: &'static str, wasm: impl Into<Vec<u8>>, kind: &'static str) -> Case {
    Case { name, wasm: Some(wasm.into()), settings: json!({}), kind }
}

fn rust(mode: &'static str, size: usize, kind: &'static str) -> Case {
    Case { name: mode, wasm: None, settings: json!({ "mode": mode, "size": size }), kind }
}

fn corpus() -> Vec<Case> {
    let fine = || Guest::default();
    let rolling = StandardPolicy::named("rolling").unwrap().wasm;
    let spins = "(loop $again (br $again)) unreachable";
    // An answer whose reason is at the given (pointer, length).
    let reason = |at: u32, length: u32| {
        format!(
            "(i32.store (i32.const 532) (i32.const {})) (i32.store (i32.const 536) (i32.const {})) i32.const 512",
            at as i32, length as i32
        )
    };
    let zeros_to_trace = "(import \"lockkeeper:policy/trace@1.0.0\" \"emit\" (func $emit (param i32 i32 i32)))";
    vec![
        // Not a policy at all.
        bytes("empty file", [], "malformed"),
        bytes("text", "#!/bin/sh\nrm -rf /\n", "malformed"),
        bytes("garbage", (0..4096_u32).map(|index| (index * 167 % 251) as u8).collect::<Vec<u8>>(), "malformed"),
        bytes("garbage after the magic number", [b"\0asm\x01\0\0\0".as_slice(), &[0xff; 64]].concat(), "malformed"),
        bytes("truncated component", &rolling[..rolling.len() / 2], "malformed"),
        bytes("truncated module", &rust_guest()[..rust_guest().len() - 1000], "malformed"),
        bytes("a component in another format", b"\0asm\x0e\0\x01\0".as_slice(), "malformed"),
        bytes("a module without the contract", wat::parse_str("(module)").unwrap(), "wrong-world"),
        bytes(
            "a component without the contract",
            wat::parse_str("(component (core module $m) (export \"m\" (core module $m)))").unwrap(),
            "wrong-world",
        ),
        bytes("another world", other_world(), "wrong-world"),
        bytes("a decider that is a function", wat::parse_str(DECIDER_FUNCTION).unwrap(), "wrong-world"),
        bytes("a decider with nothing in it", wat::parse_str(EMPTY_DECIDER).unwrap(), "wrong-world"),
        bytes("another version", other_version(), "wrong-version"),
        bytes("WASI preview 1", wat::parse_str(WASI_MODULE).unwrap(), "forbidden-import"),
        bytes("WASI preview 2", wat::parse_str(WASI_COMPONENT).unwrap(), "forbidden-import"),
        // A policy that does not come up.
        wat("4 GiB at first", Guest { memory: "(memory (export \"memory\") 65536)", ..fine() }, "out-of-memory"),
        wat("65 MiB at first", Guest { memory: "(memory (export \"memory\") 1040)", ..fine() }, "out-of-memory"),
        wat("a huge table", Guest { fields: "(table 4000000000 funcref)".into(), ..fine() }, "out-of-memory"),
        wat("a large table", Guest { fields: "(table 100001 funcref)".into(), ..fine() }, "out-of-memory"),
        wat("64-bit memory", Guest { memory: "(memory (export \"memory\") i64 16)", ..fine() }, "malformed"),
        wat("two memories", Guest { fields: "(memory $second 1)".into(), ..fine() }, "malformed"),
        wat(
            "a start function that loops",
            Guest { fields: "(func $start (loop $again (br $again))) (start $start)".into(), ..fine() },
            "out-of-fuel",
        ),
        wat(
            "a start function that traps",
            Guest { fields: "(func $start unreachable) (start $start)".into(), ..fine() },
            "trap",
        ),
        wat("describe loops", Guest { describe: spins.into(), ..fine() }, "out-of-fuel"),
        wat("describe traps", Guest { describe: "unreachable".into(), ..fine() }, "trap"),
        wat("a manifest without a name", Guest { name: "", ..fine() }, "bad-manifest"),
        wat("a verdict that there is not", Guest { verdicts: &["explode"], ..fine() }, "bad-manifest"),
        wat("a schema that is no JSON", Guest { schema: "{".into(), ..fine() }, "bad-manifest"),
        wat("a schema that is no schema", Guest { schema: r#"{"type":"spoon"}"#.into(), ..fine() }, "bad-manifest"),
        wat("a schema without an end", Guest { schema: r##"{"$ref":"#"}"##.into(), ..fine() }, "bad-manifest"),
        wat("a schema that doubles", Guest { schema: doubling_schema(), ..fine() }, "bad-manifest"),
        wat("a schema nested deeply", Guest { schema: "[".repeat(100_000), ..fine() }, "bad-manifest"),
        wat(
            "a schema from elsewhere",
            Guest { schema: r#"{"$ref":"http://127.0.0.1:9/schema"}"#.into(), ..fine() },
            "bad-manifest",
        ),
        // A policy that does not decide.
        wat("unreachable", Guest { admit: "unreachable".into(), ..fine() }, "trap"),
        wat("an answer beyond its memory", Guest { admit: "i32.const -8".into(), ..fine() }, "trap"),
        wat("a reason beyond its memory", Guest { admit: reason(0, 100_000_000), ..fine() }, "trap"),
        wat("a reason at the very end", Guest { admit: reason(u32::MAX, u32::MAX), ..fine() }, "trap"),
        wat("a reason that is no UTF-8", not_utf8(), "trap"),
        wat("a verdict number 200", Guest { admit: "(i32.store8 (i32.const 520) (i32.const 200)) i32.const 512".into(), ..fine() }, "trap"),
        wat("a stack of locals", deep_stack(), "trap"),
        wat(
            "grow, and never mind the answer",
            Guest { admit: "(loop $again (drop (memory.grow (i32.const 1))) (br $again)) unreachable".into(), ..fine() },
            "out-of-fuel",
        ),
        wat(
            "fill its memory for ever",
            Guest {
                admit: "(loop $again (memory.fill (i32.const 600000) (i32.const 0) (i32.const 400000)) (br $again)) unreachable".into(),
                ..fine()
            },
            "out-of-fuel",
        ),
        wat(
            "grow a table for ever",
            Guest {
                fields: "(table $t 0 funcref)".into(),
                admit: "(loop $again (br_if $again (i32.ne (table.grow $t (ref.null func) (i32.const 1000)) (i32.const -1)))) unreachable".into(),
                ..fine()
            },
            "out-of-memory",
        ),
        Case {
            name: "trace from beyond its memory",
            wasm: Some(with_types(
                &Guest { admit: "(call $emit (i32.const 0) (i32.const -16) (i32.const 100)) unreachable".into(), ..fine() }
                    .wat()
                    .replacen("(module", &format!("(module {zeros_to_trace}"), 1),
                WIT,
                "policy",
            )),
            settings: json!({}),
            kind: "trap",
        },
        // What the compiler and the linker meet.
        bytes("a section longer than the file", b"\0asm\x01\0\0\0\x0a\xff\xff\xff\xff\x0f".as_slice(), "malformed"),
        bytes("a number without an end", [b"\0asm\x01\0\0\0\x01".as_slice(), &[0x80; 40]].concat(), "malformed"),
        bytes("a name that is no UTF-8", b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x02\x07\x01\x01\xff\x01a\0\0".as_slice(), "malformed"),
        bytes("an import that moves the cursor", wat::parse_str("(module (import \"\\1b[2J\" \"\\1b]0;x\\07\" (func)))").unwrap(), "forbidden-import"),
        bytes("ten thousand imports", wat::parse_str(format!("(module {})", "(import \"a\" \"b\" (func))".repeat(10_000))).unwrap(), "forbidden-import"),
        bytes("a component in a component, 900 times", nested_components(900), "wrong-world"),
        bytes("modules without number", wat::parse_str(format!("(component {})", "(core module)".repeat(30_000))).unwrap(), "malformed"),
        bytes("a type of types", wat::parse_str(nested_type()).unwrap(), "malformed"),
        bytes("threads", wat::parse_str("(module (memory 1 1 shared) (func (drop (memory.atomic.wait32 (i32.const 0) (i32.const 0) (i64.const -1)))))").unwrap(), "malformed"),
        bytes("an admit without an answer", with_types(&Guest::default().wat().replace("#admit\") (param i32) (result i32)", "#admit\") (param i32) (result i64) i64.const 0 return"), WIT, "policy"), "malformed"),
        wat("data beyond its memory", Guest { fields: "(data (i32.const 2000000) \"x\")".into(), ..fine() }, "trap"),
        wat("a name of a megabyte", Guest { describe: format!("(i32.store (i32.const 1028) (i32.const 900000)) {}", fine().describe), ..fine() }, "answer-too-big"),
        wat("a million verdicts", Guest { describe: format!("(i32.store (i32.const 1060) (i32.const 1000000)) {}", fine().describe), ..fine() }, "trap"),
        // Where the host asks for room.
        wat("room beyond its memory", Guest { realloc: "i32.const -64", ..fine() }, "trap"),
        wat("room that is not aligned", Guest { realloc: "i32.const 300001", ..fine() }, "trap"),
        wat("room that never comes", Guest { realloc: "(loop $again (br $again)) unreachable", ..fine() }, "out-of-fuel"),
        wat("no room", Guest { realloc: "unreachable", ..fine() }, "trap"),
        wat(
            "a clean-up that loops",
            Guest {
                fields: "(func (export \"cabi_post_lockkeeper:policy/decider@1.0.0#admit\") (param i32) (loop $again (br $again)))".into(),
                ..fine()
            },
            "out-of-fuel",
        ),
        wat(
            "a clean-up that traps",
            Guest {
                fields: "(func (export \"cabi_post_lockkeeper:policy/decider@1.0.0#admit\") (param i32) unreachable)".into(),
                ..fine()
            },
            "trap",
        ),
        rust("loop", 0, "out-of-fuel"),
        rust("fill", 0, "out-of-fuel"),
        rust("recurse", 0, "trap"),
        rust("allocate", 0, "out-of-memory"),
        rust("answer", 100_000_000, "out-of-memory"),
        rust("answer", 8_000_000, "answer-too-big"),
        rust("answer", 600_000, "answer-too-big"),
        rust("fences", 1_000_000, "answer-too-big"),
        rust("memory", 8_000_000, "answer-too-big"),
        rust("memory", 64 * 1024 + 1, "memory-too-big"),
        rust("panic", 0, "trap"),
        rust("index", 7, "trap"),
        rust("skip", 0, "not-in-manifest"),
        rust("force", 0, "not-granted"),
        rust("give-up", 0, "gave-up"),
        Case {
            name: "settings it cannot read",
            wasm: None,
            settings: json!({ "no": "mode" }),
            kind: "gave-up",
        },
    ]
}

#[test]
fn each_ends_in_its_own_error_and_the_host_lives() {
    let corpus = corpus();
    let mut wrong = Vec::new();
    for (how, engine) in [("pooled", engine()), ("on demand", on_demand()), ("child", compiling_in_a_child())] {
        let rust = engine.load(rust_guest()).unwrap();
        for Case { name, wasm, settings, kind } in &corpus {
            let started = Instant::now();
            let answer = match wasm {
                // Compiled once: a debug build's compiler takes longer than anything that the guest can do.
                None => admit(&rust, settings).answer,
                Some(wasm) => fate(&engine, wasm, settings),
            };
            let error = answer.expect_err(name);
            println!("{how:9} {:7.1} ms  {name}: {error}", started.elapsed().as_secs_f64() * 1000.0);
            if error.kind() != *kind {
                wrong.push(format!("{how}, {name}: {kind} was expected, not {error:?}"));
            }
        }
        // The engine that has seen all this still decides.
        let answer = admit(&rust, &json!({ "mode": "lock" })).answer.unwrap();
        assert_eq!(answer.verdict, Admission::Lock);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let peak = peak_memory_kib();
    println!("peak memory {} MiB, {} cases", peak / 1024, corpus.len());
    assert!(peak < MOST_MEMORY_KIB, "{peak} KiB");
}

#[test]
fn the_well_behaved_module_in_wat_decides() {
    // Else the cases above might fail for another reason than theirs.
    let answer = fate(&engine(), &Guest::default().module(), &json!({})).unwrap();
    assert_eq!(answer.verdict, Admission::Lock);
}

fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

const WASI_MODULE: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1))"#;

const WASI_COMPONENT: &str = r#"(component
    (import "wasi:cli/environment@2.0.0" (instance
        (export "get-arguments" (func (result (list string)))))))"#;

const DECIDER_FUNCTION: &str = r#"(component
    (core module $m (func (export "f")))
    (core instance $i (instantiate $m))
    (func $f (canon lift (core func $i "f")))
    (export "lockkeeper:policy/decider" (func $f)))"#;

const EMPTY_DECIDER: &str = r#"(component
    (instance $empty)
    (export "lockkeeper:policy/decider@1.0.0" (instance $empty)))"#;

/// Components in components, as no text may have them.
fn nested_components(depth: usize) -> Vec<u8> {
    const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
    (0..depth).fold(HEADER.to_vec(), |inner, _| {
        let mut outer = [HEADER, &[4]].concat();
        let mut length = inner.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        [outer, inner].concat()
    })
}

/// Records in records, deeper than any contract.
fn nested_type() -> String {
    let types = (1..200).map(|depth| format!("(type $t{depth} (record (field \"a\" $t{})))", depth - 1));
    format!("(component (type $t0 (record (field \"a\" u8))) {})", types.collect::<String>())
}

/// A component that exports something else under the same package.
fn other_world() -> Vec<u8> {
    let wit = "package lockkeeper:policy@1.0.0; interface orchestrate { run: func(); } world w { export orchestrate; }";
    let wat = r#"(module (func (export "lockkeeper:policy/orchestrate@1.0.0#run")))"#;
    with_types(wat, wit, "w")
}

/// The contract of a version to come.
fn other_version() -> Vec<u8> {
    let wit = WIT.replace("policy@1.0.0", "policy@2.0.0");
    with_types(&Guest::default().wat().replace("@1.0.0", "@2.0.0"), &wit, "policy")
}

/// Each definition names the next one twice: 2^40 visits.
fn doubling_schema() -> String {
    let definitions: serde_json::Map<String, Value> = (0..40)
        .map(|index| {
            let next = json!({ "$ref": format!("#/$defs/d{}", index + 1) });
            (format!("d{index}"), json!({ "allOf": [next, next] }))
        })
        .chain([("d40".to_owned(), json!({}))])
        .collect();
    json!({ "$ref": "#/$defs/d0", "$defs": definitions }).to_string()
}

fn not_utf8() -> Guest {
    Guest {
        fields: "(data (i32.const 3000) \"\\ff\\fe\\ff\")".into(),
        admit: "(i32.store (i32.const 532) (i32.const 3000)) (i32.store (i32.const 536) (i32.const 3)) i32.const 512"
            .into(),
        ..Guest::default()
    }
}

/// Recursion with large frames: the stack is exhausted before much fuel is used.
fn deep_stack() -> Guest {
    let locals = "(local i64 i64 i64 i64 i64 i64 i64 i64)".repeat(100);
    let function = format!("(func $deep (param i32) (result i32) {locals} (call $deep (call $deep (local.get 0))))");
    Guest { fields: function, admit: "(call $deep (i32.const 1))".into(), ..Guest::default() }
}

// ------------------------------------------------------------------------------------------- what the errors say

#[test]
fn a_panic_is_reported_with_message_place_and_backtrace() {
    let error = admit(&hostile(), &json!({ "mode": "panic" })).answer.unwrap_err();
    let PolicyError::Trap { reason, backtrace } = &error else { panic!("{error:?}") };
    assert!(reason.contains("no slot for web07"), "{reason}");
    assert!(reason.contains("hostile/src/lib.rs:"), "{reason}");
    assert!(backtrace.iter().any(|frame| frame.contains("admit")), "{backtrace:?}");
    assert!(error.hint().is_some_and(|hint| hint.contains("admit")));
}

#[test]
fn an_answer_of_100_mb_is_too_big() {
    // With memory enough to make it, what refuses it is the host's reader, before it copies.
    let limits =
        Limits { memory: 256 * 1024 * 1024, fuel: 10_000_000_000, time: Duration::from_secs(20), ..Limits::DEFAULT };
    let module = Engine::new(&EngineOptions { limits, ..EngineOptions::default() }).unwrap();
    let guest = Guest {
        memory: "(memory (export \"memory\") 2000)",
        admit:
            "(i32.store (i32.const 532) (i32.const 0)) (i32.store (i32.const 536) (i32.const 100000000)) i32.const 512"
                .into(),
        ..Guest::default()
    };
    let error = fate(&module, &guest.module(), &json!({})).unwrap_err();
    assert!(matches!(error, PolicyError::AnswerTooBig { .. }), "{error:?}");
}

#[test]
fn a_foreign_import_is_named() {
    let import = |wasm: &str| match engine().load(&wat::parse_str(wasm).unwrap()) {
        Err(error @ PolicyError::ForbiddenImport { .. }) => (error.to_string(), error.hint()),
        other => panic!("{other:?}"),
    };
    assert!(import(WASI_MODULE).0.contains("wasi_snapshot_preview1#fd_write"));
    let (message, hint) = import(WASI_COMPONENT);
    assert!(message.contains("wasi:cli/environment@2.0.0"), "{message}");
    assert!(hint.is_some_and(|hint| hint.contains("wasm32-unknown-unknown")));
}

#[test]
fn a_schema_may_refer_to_its_own_parts() {
    let schema =
        r##"{"$defs":{"n":{"type":"integer"}},"properties":{"a":{"$ref":"#/$defs/n"},"b":{"$ref":"#/$defs/n"}}}"##;
    let module = engine().load(&Guest { schema: schema.into(), ..Guest::default() }.module()).unwrap();
    let found = module.validate(&json!({ "a": 1, "b": "one" })).unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].at, "b");
}

#[test]
fn other_versions_are_named() {
    let error = engine().load(&other_version()).unwrap_err();
    assert_eq!(error.to_string(), "the policy was made for version 2.0.0 of the contract, this host speaks 1.0.0");
}

#[test]
fn what_a_guest_says_cannot_move_the_cursor() {
    let answer = admit(&hostile(), &json!({ "mode": "escape", "size": 2_000 })).answer.unwrap();
    assert_eq!(answer.code, "a\\u{7} ");
    assert!(answer.reason.starts_with("\\u{1b}[31myyy") && answer.reason.chars().count() <= 501, "{}", answer.reason);
    let error = admit(&hostile(), &json!({ "mode": "give-up" })).answer.unwrap_err();
    assert_eq!(error.to_string(), "the policy gave up: cannot\\u{1b}[2J decide");
    let found = hostile().validate(&json!({ "mode": "escape" })).unwrap();
    assert_eq!((found[0].at.as_str(), found[0].message.as_str()), ("\\u{1b}[2Jmode", "\\u{1b}[31mred"));
}

#[test]
fn a_policy_that_talks_too_much_is_cut_short() {
    let decision = admit(&hostile(), &json!({ "mode": "trace", "size": 1_000 }));
    assert!(decision.answer.is_ok());
    assert_eq!(decision.trace.len(), 65);
    assert_eq!(decision.trace[63].message, "line 63");
    assert!(decision.trace[64].message.contains("the rest is dropped"));
    let shouted = admit(&hostile(), &json!({ "mode": "shout", "size": 70 }));
    assert!(shouted.trace.iter().all(|line| line.message.chars().count() <= 2_001));
    let complaints = hostile().validate(&json!({ "mode": "many", "size": 1_000 })).unwrap();
    assert!(complaints.len() <= 100, "{}", complaints.len());
}

#[test]
fn validate_and_settle_are_bounded_too() {
    let error = hostile().validate(&json!({ "mode": "loop" })).unwrap_err();
    assert!(matches!(error, PolicyError::OutOfFuel { .. }), "{error:?}");
    let settle = |mode: &str| {
        let settings = json!({ "mode": mode }).to_string();
        hostile().settle(&settings, &view("a"), &outcome(Ending::Succeeded), &[], locks()).answer
    };
    assert!(matches!(settle("loop"), Err(PolicyError::OutOfFuel { .. })));
    assert!(matches!(settle("lock"), Err(PolicyError::NotInManifest { verdict: "retry" })));
    assert!(settle("keep").is_ok());
}

/// The SDK lifts what `settle` is given by hand: `lockkeeper_sdk::export::lean`.
#[test]
fn settle_is_given_what_it_was_asked() {
    let told = |outcome: Outcome, memory: &[u8]| {
        let settings = json!({ "mode": "tell", "size": 3 }).to_string();
        let settled = hostile().settle(&settings, &typical_view(), &outcome, memory, locks()).answer.unwrap();
        assert_eq!((settled.verdict, settled.code.as_str()), (Settlement::Release, "told"));
        assert_eq!(settled.memory, [7; 3]);
        settled.reason
    };
    let endings = [Ending::Succeeded, Ending::Failed, Ending::TimedOut, Ending::LeaseLost, Ending::Unknown];
    for (attempt, ending) in (4_000_000_000..).zip(endings) {
        for exit_code in [None, Some(0), Some(-7), Some(i32::MAX)] {
            for memory in [&[][..], &[1, 2, 255]] {
                let outcome = Outcome { ending, exit_code, took: u64::MAX - 1, attempt };
                let name = typical_view().target.name;
                let Outcome { took, .. } = outcome;
                let as_guests_write_it = format!(
                    "{name} Outcome {{ ending: Ending::{ending:?}, exit-code: {exit_code:?}, took: {took}, attempt: {attempt} }} {memory:?}"
                );
                assert_eq!(told(outcome, memory), as_guests_write_it);
            }
        }
    }
    let gave_up = hostile().settle("{}", &typical_view(), &outcome(Ending::Failed), &[], locks()).answer.unwrap_err();
    assert_eq!(gave_up.to_string(), "the policy gave up: these settings are not what the schema says");
}

// ------------------------------------------------------------------------------------- determinism and the backstop

#[test]
fn each_decision_gets_a_fresh_instance() {
    for _ in 0..3 {
        assert_eq!(admit(&hostile(), &json!({ "mode": "count" })).answer.unwrap().reason, "0");
    }
}

#[test]
fn fuel_is_the_same_each_time_and_in_every_engine() {
    let rolling = StandardPolicy::named("rolling").unwrap().wasm;
    let fuel = |engine: &Engine| {
        let module = engine.load(rolling).unwrap();
        let burnt: Vec<u64> = (0..5).map(|_| admit(&module, &json!({})).fuel).collect();
        assert!(burnt.iter().all(|fuel| *fuel == burnt[0] && *fuel > 0), "{burnt:?}");
        burnt[0]
    };
    assert_eq!(fuel(&engine()), fuel(&on_demand()));
}

#[test]
fn without_fuel_to_stop_it_the_clock_does() {
    let limits = Limits { fuel: u64::MAX / 4, time: Duration::from_millis(50), ..Limits::DEFAULT };
    let module =
        Engine::new(&EngineOptions { limits, ..EngineOptions::default() }).unwrap().load(rust_guest()).unwrap();
    for _ in 0..2 {
        let error = admit(&module, &json!({ "mode": "loop" })).answer.unwrap_err();
        assert!(matches!(error, PolicyError::OutOfTime { .. }), "{error:?}");
    }
    // The deadline is set for each decision, not once.
    assert!(admit(&module, &json!({ "mode": "lock" })).answer.is_ok());
}

#[test]
fn each_engine_has_a_ticker_of_its_own() {
    let limits = Limits { fuel: u64::MAX / 4, time: Duration::from_millis(50), ..Limits::DEFAULT };
    let options = EngineOptions { limits, ..EngineOptions::default() };
    let modules: Vec<Module> = (0..3).map(|_| Engine::new(&options).unwrap().load(rust_guest()).unwrap()).collect();
    let stopped = |module: &Module| {
        let error = admit(module, &json!({ "mode": "loop" })).answer.unwrap_err();
        assert!(matches!(error, PolicyError::OutOfTime { .. }), "{error:?}");
    };
    std::thread::scope(|scope| {
        for module in &modules {
            scope.spawn(|| stopped(module));
        }
    });
    // Dropping an engine stops its own ticker and no other.
    let mut modules = modules.into_iter();
    let last = modules.next_back().unwrap();
    drop(modules);
    stopped(&last);
}

#[test]
fn many_decisions_at_once_are_as_good_as_one() {
    let module = hostile();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    assert!(admit(&module, &json!({ "mode": "lock" })).answer.is_ok());
                }
            });
        }
    });
}

// ---------------------------------------------------------------------------------------------------------- the cache

/// An engine that keeps its compiled policies there.
fn caching(folder: &Path) -> Engine {
    Engine::new(&EngineOptions { cache: Some(folder.to_owned()), ..EngineOptions::default() }).unwrap()
}

/// Loads `rolling`, asks for a decision, and returns whether it had to be compiled.
fn compiles(folder: &Path) -> bool {
    let engine = caching(folder);
    let module = engine.load_standard("rolling").unwrap();
    assert_eq!(admit(&module, &json!({})).answer.unwrap().verdict, Admission::Lock);
    engine.compilations() == 1
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.file_name().is_some_and(|name| name != "key")).collect()
}

#[test]
fn a_second_engine_finds_what_the_first_compiled() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("policies");
    assert!(compiles(&folder));
    assert!(!compiles(&folder));
    assert_eq!(entries(&folder).len(), 1);
}

#[test]
fn an_entry_that_was_touched_is_compiled_again() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("policies");
    assert!(compiles(&folder));
    let entry = entries(&folder).remove(0);
    let whole = std::fs::read(&entry).unwrap();
    for at in [0, 31, 32, whole.len() / 2, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        std::fs::write(&entry, &flipped).unwrap();
        assert!(compiles(&folder), "byte {at}");
        assert!(!compiles(&folder), "byte {at}: sealed again");
    }
    for length in [0, 10, 32, whole.len() - 1] {
        std::fs::write(&entry, &whole[..length]).unwrap();
        assert!(compiles(&folder), "{length} bytes");
    }
}

#[test]
fn an_entry_under_another_name_or_key_is_not_taken() {
    let parent = tempfile::tempdir().unwrap();
    let (ours, theirs) = (parent.path().join("ours"), parent.path().join("theirs"));
    assert!(compiles(&ours) && compiles(&theirs));
    let (entry, foreign) = (entries(&ours).remove(0), entries(&theirs).remove(0));
    // Sealed under another key.
    std::fs::copy(&foreign, &entry).unwrap();
    assert!(compiles(&ours));
    // Sealed by us, for another policy.
    let engine = caching(&ours);
    engine.load_standard("canary").unwrap();
    let other = entries(&ours).into_iter().find(|path| *path != entry).unwrap();
    std::fs::copy(&other, &entry).unwrap();
    assert!(compiles(&ours));
}

#[test]
fn a_folder_that_others_can_write_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let parent = tempfile::tempdir().unwrap();
    for mode in [0o777, 0o750] {
        let folder = parent.path().join(format!("{mode:o}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        assert!(compiles(&folder) && compiles(&folder), "{mode:o}");
        assert!(entries(&folder).is_empty());
    }
    // Nor a link to a private one, nor a key that others can read.
    let folder = parent.path().join("private");
    assert!(compiles(&folder));
    let link = parent.path().join("link");
    std::os::unix::fs::symlink(&folder, &link).unwrap();
    assert!(compiles(&link));
    std::fs::set_permissions(folder.join("key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(compiles(&folder));
}

#[test]
fn engines_that_start_at_once_share_one_key() {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("policies");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| compiles(&folder));
        }
    });
    assert!(!compiles(&folder));
    assert_eq!(entries(&folder).len(), 1);
}
