//! A policy that fails at every decision costs the host nothing that lasts. It runs in a process of its own, because
//! its memory is measured.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]
#![allow(clippy::print_stdout, reason = "what was measured is said")]

#[allow(dead_code, reason = "one guest of several, and one view")]
mod decide;
#[allow(dead_code, reason = "as above")]
mod hostile;

use std::time::Instant;

use decide::{engine, view};
use hostile::rust_guest;
use lockkeeper::job::{Grant, Grants};
use serde_json::json;

/// Memory that is in use now, in KiB.
fn in_use_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// `LOCKKEEPER_LONG=1` takes a million decisions.
#[test]
fn decisions_that_trap_leave_memory_flat() {
    let module = engine().load(rust_guest()).unwrap();
    let all = if std::env::var_os("LOCKKEEPER_LONG").is_some() { 1_000_000 } else { 20_000 };
    let settings = json!({ "mode": "panic", "size": 0 }).to_string();
    let view = view("web01");
    let trap = |times: u32| {
        for _ in 0..times {
            let error = module.admit(&settings, &view, &[], Grants::NONE.with(Grant::Lock)).answer.unwrap_err();
            assert_eq!(error.kind(), "trap");
        }
    };
    // Until every slot of the pool has been used.
    trap(2_000);
    let before = in_use_kib();
    let begun = Instant::now();
    trap(all);
    let after = in_use_kib();
    println!("{all} trapping decisions in {:?}: {before} KiB before, {after} KiB after", begun.elapsed());
    assert!(after < before + 4 * 1024, "{before} KiB before {all} trapping decisions, {after} KiB after");
}
