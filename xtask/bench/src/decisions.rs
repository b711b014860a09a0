//! What a decision of a policy costs.
//!
//! A decision is everything between a view and a verdict: a fresh store and instance, the view copied in, the policy,
//! the answer copied out and checked, the instance dropped. The typical view has 10 leases, 20 members and 16 events.
//!
//! Each answer is checked while it is measured: it is the verdict of the first decision, and the guest used the same fuel. A
//! policy that did not run used none.

use std::fmt::Write;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use lockkeeper::job::Grant;
use lockkeeper::policy::types::{
    Admitted, Cause, Event, EventKind, Label, Lease, Member, Party, Progress, Semaphore, Target, View,
};
use lockkeeper::policy::{Allocation, Engine, EngineOptions, Module, standard_policies};
use tempfile::TempDir;

use crate::figures::quantile;
use crate::machine;
use crate::report::{self, grouped};

/// Decisions that warm up, and that are measured.
const WARM_UP: usize = 2_000;
const MEASURED: usize = 20_000;

/// Rounds of what takes milliseconds.
const FEW: usize = 9;

/// The time of the views, in milliseconds since the Unix epoch.
const NOON: u64 = 1_750_000_000_000;

/// How it is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Measure this policy instead of the standard ones: a component's file
    policy: Option<PathBuf>,
    /// Settings of that policy, as JSON
    #[arg(default_value = "{}", requires = "policy")]
    settings: String,
    /// Write the result into this file, between its markers
    #[arg(long, conflicts_with = "policy")]
    write: Option<PathBuf>,
}

/// One row: a figure in microseconds, the same at the 99th percentile, and how it came about.
struct Row {
    what: String,
    median_us: f64,
    p99_us: f64,
    times: usize,
    fuel: Option<u64>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let mut rows = Vec::new();
    if let Some(file) = &options.policy {
        let module = engine(None, Allocation::PooledIfPossible)?.load_file(file, None)?;
        rows.push(decisions("bare view", &module, &options.settings, &bare_view())?);
        rows.push(decisions("typical view", &module, &options.settings, &typical_view())?);
    } else {
        standard(&mut rows)?;
    }
    let text = text(&rows);
    println!("{text}");
    match &options.write {
        Some(file) => report::write("decisions", &text, file),
        None => Ok(()),
    }
}

fn standard(rows: &mut Vec<Row>) -> Result<()> {
    let settings = [
        ("break-stale", r#"{"older-than":"2h"}"#),
        ("canary", r#"{"bake":"0s"}"#),
        ("rolling", "{}"),
        ("spread", r#"{"label":"rack"}"#),
    ];
    let folder = TempDir::with_prefix("lockkeeper-bench-")?;
    let (bare, typical) = (bare_view(), typical_view());
    let pooled = engine(None, Allocation::PooledIfPossible)?;
    let on_demand = engine(None, Allocation::OnDemand)?;
    let how = if pooled.is_pooled() { "pooled" } else { "this machine has no room for a pool" };

    for (name, settings) in settings {
        let module = pooled.load_standard(name)?;
        rows.push(decisions(&format!("{name}, typical view, {how}"), &module, settings, &typical)?);
        if name == "rolling" {
            rows.push(decisions(&format!("rolling, bare view, {how}"), &module, settings, &bare)?);
            let module = on_demand.load_standard(name)?;
            rows.push(decisions("rolling, typical view, memory on demand", &module, settings, &typical)?);
        }
    }

    rows.push(few("set up the engine", || engine(None, Allocation::PooledIfPossible).map(drop))?);
    for policy in standard_policies() {
        rows.push(few(&format!("compile {} ({} KB)", policy.name, policy.wasm.len() / 1000), || {
            pooled.load_standard(policy.name)?;
            Ok(())
        })?);
    }
    engine(Some(folder.path()), Allocation::PooledIfPossible)?.load_standard("rolling")?;
    rows.push(few("first decision of a process, policy cached", || {
        let module = engine(Some(folder.path()), Allocation::PooledIfPossible)?.load_standard("rolling")?;
        decide(&module, "{}", &typical).map(drop)
    })?);
    Ok(())
}

fn engine(cache: Option<&Path>, allocation: Allocation) -> Result<Engine> {
    let options = EngineOptions { cache: cache.map(Path::to_owned), ..EngineOptions::default() };
    Ok(Engine::with_allocation(&options, allocation)?)
}

/// The answer, and the fuel that the guest used.
fn decide(module: &Module, settings: &str, view: &View) -> Result<(Admitted, u64)> {
    let decision = module.admit(settings, black_box(view), &[], [Grant::Lock, Grant::Force].into_iter().collect());
    Ok((black_box(decision.answer?), decision.fuel))
}

fn decisions(what: &str, module: &Module, settings: &str, view: &View) -> Result<Row> {
    let first = decide(module, settings, view)?;
    ensure!(first.1 > 0, "{what}: the policy used no fuel, so it did not run");
    for _ in 1..WARM_UP {
        decide(module, settings, view)?;
    }
    let mut times = Vec::with_capacity(MEASURED);
    for _ in 0..MEASURED {
        let started = Instant::now();
        let decision = decide(module, settings, view)?;
        times.push(started.elapsed());
        ensure!(decision == first, "{what}: the same view was decided in two ways: {first:?} and {decision:?}");
    }
    row(what, &times, Some(first.1))
}

fn few(what: &str, mut work: impl FnMut() -> Result<()>) -> Result<Row> {
    let mut times = Vec::with_capacity(FEW);
    for _ in 0..FEW {
        let started = Instant::now();
        work()?;
        times.push(started.elapsed());
    }
    row(what, &times, None)
}

fn row(what: &str, times: &[Duration], fuel: Option<u64>) -> Result<Row> {
    let micros = |share: f64| quantile(times.iter().map(|time| time.as_secs_f64() * 1e6), share);
    let (Some(median_us), Some(p99_us)) = (micros(0.5), micros(0.99)) else {
        anyhow::bail!("{what}: nothing was measured");
    };
    eprintln!("{what}: p50 {median_us:.1} µs, p99 {p99_us:.1} µs");
    Ok(Row { what: what.to_owned(), median_us, p99_us, times: times.len(), fuel })
}

fn text(rows: &[Row]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "Measured on {}.\n", jiff::Zoned::now().date());
    let _ = writeln!(text, "- {}\n", machine::machine());
    let _ = writeln!(text, "| what | µs, p50 | µs, p99 | times | fuel |");
    let _ = writeln!(text, "|---|---:|---:|---:|---:|");
    for Row { what, median_us, p99_us, times, fuel } in rows {
        let fuel = fuel.map_or_else(String::new, |fuel| grouped(fuel as f64, 0));
        let (median, p99) = (grouped(*median_us, 1), grouped(*p99_us, 1));
        let _ = writeln!(text, "| {what} | {median} | {p99} | {} | {fuel} |", grouped(*times as f64, 0));
    }
    text
}

fn bare_view() -> View {
    View {
        sequence: 0,
        now: NOON,
        seed: 0,
        cause: Cause::First,
        target: Target {
            name: "web07".to_owned(),
            labels: vec![label("rack", "r2"), label("zone", "eu-1")],
            wave: String::new(),
            attempt: 1,
            waiting_since: NOON,
        },
        semaphore: Semaphore { path: "/locks/web".to_owned(), slots: 12, leases: Vec::new(), queued: 0 },
        party: None,
        other_semaphores: Vec::new(),
        other_parties: Vec::new(),
        progress: Progress {
            job: "restart".to_owned(),
            run: "run-1".to_owned(),
            started: NOON,
            total: 40,
            pending: 25,
            waiting: 2,
            running: 10,
            succeeded: 3,
            failed: 0,
            rolled_back: 0,
            skipped: 0,
            unknown: 0,
            budget_left: None,
        },
        events: Vec::new(),
    }
}

fn typical_view() -> View {
    let mut view = bare_view();
    let name = |index: u64| format!("web{index:02}.example.org");
    view.semaphore.leases = (0..10)
        .map(|index| Lease {
            identifier: name(index),
            fence: 100 + index,
            since: NOON - 60_000,
            ephemeral: false,
            alive: Some(true),
            mine: true,
        })
        .collect();
    let members = (0..20).map(|index| Member { identifier: name(index), since: NOON - 3_600_000 }).collect();
    view.party = Some(Party { path: "/party/web".to_owned(), min_members: 4, members });
    view.events = (0..16)
        .map(|index| Event { at: NOON + index, target: name(index), kind: EventKind::Started, detail: String::new() })
        .collect();
    view
}

fn label(key: &str, value: &str) -> Label {
    Label { key: key.to_owned(), value: value.to_owned() }
}
