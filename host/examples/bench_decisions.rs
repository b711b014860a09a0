//! What a decision costs: `cargo run --release --package lockkeeper --example bench_decisions`. Run by
//! `cargo xtask bench decisions`. With a file, and its settings as JSON, it measures that policy.
//!
//! A decision is everything between a view and a verdict: a fresh store and instance, the view copied in, the policy,
//! the answer copied out and checked, the instance dropped. The view is a typical one: 10 leases, 20 members, 16 events.

use lockkeeper::job::Grant;
use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use lockkeeper::policy::types::{
    Cause, Event, EventKind, Label, Lease, Member, Party, Progress, Semaphore, Target, View,
};
use lockkeeper::policy::{Allocation, Engine, EngineOptions, Module, standard_policies};

/// Decisions that warm up, and that are measured.
const WARM_UP: usize = 2_000;
const MEASURED: usize = 20_000;

/// How often what takes milliseconds is measured.
const FEW: usize = 9;

const NOON: u64 = 1_750_000_000_000;

fn main() -> anyhow::Result<()> {
    if let Some(file) = std::env::args_os().nth(1) {
        // One's own policy: its file, then its settings as JSON.
        let settings = std::env::args().nth(2).unwrap_or_else(|| "{}".to_owned());
        let module = engine(None, Allocation::PooledIfPossible)?.load_file(Path::new(&file), None)?;
        decisions("bare view", &module, &settings, &bare_view())?;
        return decisions("typical view", &module, &settings, &typical_view());
    }
    let folder = std::env::temp_dir().join(format!("lockkeeper-bench-{}", std::process::id()));
    let done = measure(&folder);
    // The folder is private to this process; what stays behind is a nuisance, no failure.
    let _ = std::fs::remove_dir_all(&folder);
    done
}

fn measure(folder: &Path) -> anyhow::Result<()> {
    let settings = [
        ("break-stale", r#"{"older-than":"2h"}"#),
        ("canary", r#"{"bake":"0s"}"#),
        ("rolling", "{}"),
        ("spread", r#"{"label":"rack"}"#),
    ];
    let small = bare_view();
    let typical = typical_view();
    let pooled = engine(None, Allocation::PooledIfPossible)?;
    let on_demand = engine(None, Allocation::OnDemand)?;
    say(&format!("pool: {}", if pooled.is_pooled() { "yes" } else { "no, this machine has no room for one" }));

    for (name, settings) in settings {
        let module = pooled.load_standard(name)?;
        decisions(&format!("{name}, typical view, pooled"), &module, settings, &typical)?;
        if name == "rolling" {
            decisions("rolling, bare view, pooled", &module, settings, &small)?;
            let module = on_demand.load_standard(name)?;
            decisions("rolling, typical view, on demand", &module, settings, &typical)?;
        }
    }

    few("engine set up", || engine(None, Allocation::PooledIfPossible).map(drop))?;
    for policy in standard_policies() {
        few(&format!("{} compiled ({} KB)", policy.name, policy.wasm.len() / 1000), || {
            pooled.load_standard(policy.name)?;
            Ok(())
        })?;
    }
    engine(Some(folder), Allocation::PooledIfPossible)?.load_standard("rolling")?;
    few("first decision of a process, policy cached", || {
        let module = engine(Some(folder), Allocation::PooledIfPossible)?.load_standard("rolling")?;
        decide(&module, "{}", &typical)
    })
}

fn engine(cache: Option<&Path>, allocation: Allocation) -> anyhow::Result<Engine> {
    let options = EngineOptions { cache: cache.map(Path::to_owned), ..EngineOptions::default() };
    Ok(Engine::with_allocation(&options, allocation)?)
}

fn decide(module: &Module, settings: &str, view: &View) -> anyhow::Result<()> {
    let decision = module.admit(settings, black_box(view), &[], [Grant::Lock, Grant::Force].into_iter().collect());
    black_box(decision.answer?);
    Ok(())
}

fn decisions(what: &str, module: &Module, settings: &str, view: &View) -> anyhow::Result<()> {
    for _ in 0..WARM_UP {
        decide(module, settings, view)?;
    }
    let mut times = Vec::with_capacity(MEASURED);
    for _ in 0..MEASURED {
        let started = Instant::now();
        decide(module, settings, view)?;
        times.push(started.elapsed());
    }
    let fuel = module.admit(settings, view, &[], [Grant::Lock, Grant::Force].into_iter().collect()).fuel;
    print(what, &mut times, &format!(", fuel {fuel}"));
    Ok(())
}

fn few(what: &str, mut work: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut times = Vec::with_capacity(FEW);
    for _ in 0..FEW {
        let started = Instant::now();
        work()?;
        times.push(started.elapsed());
    }
    print(what, &mut times, "");
    Ok(())
}

fn print(what: &str, times: &mut [Duration], more: &str) {
    times.sort_unstable();
    let micros = |share: f64| {
        let rank = ((times.len() as f64 * share).ceil() as usize).clamp(1, times.len());
        times[rank - 1].as_secs_f64() * 1e6
    };
    say(&format!("{what}: p50 {:.1} µs, p99 {:.1} µs ({} times{more})", micros(0.5), micros(0.99), times.len()));
}

#[expect(clippy::print_stdout, reason = "what this program is for")]
fn say(line: &str) {
    println!("{line}");
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
