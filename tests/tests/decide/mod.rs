//! Views for tests that ask policies through wasm.

use std::time::Duration;

use lockkeeper::policy::types::{
    Cause, Event, EventKind, Label, Lease, Member, Outcome, Party, Progress, Semaphore, Target, View,
};
use lockkeeper::policy::{Engine, EngineOptions, Limits};

/// The time of these views, in milliseconds since the Unix epoch.
pub(crate) const NOON: u64 = 1_750_000_000_000;

/// A view of one target of ten: two slots, no lease, no party, nothing happened yet.
pub(crate) fn view(target: &str) -> View {
    View {
        sequence: 0,
        now: NOON,
        seed: 0,
        cause: Cause::First,
        target: Target {
            name: target.to_owned(),
            labels: Vec::new(),
            wave: String::new(),
            attempt: 1,
            waiting_since: NOON,
        },
        semaphore: Semaphore { path: "/locks/web".to_owned(), slots: 2, leases: Vec::new(), queued: 0 },
        party: None,
        other_semaphores: Vec::new(),
        other_parties: Vec::new(),
        progress: Progress {
            job: "restart".to_owned(),
            run: "run-1".to_owned(),
            started: NOON,
            total: 10,
            pending: 9,
            waiting: 1,
            running: 0,
            succeeded: 0,
            failed: 0,
            rolled_back: 0,
            skipped: 0,
            unknown: 0,
            budget_left: None,
        },
        events: Vec::new(),
    }
}

/// A view such as a rollout in progress has: 10 leases, 20 members, 16 events, two labels.
#[allow(dead_code, reason = "not every test that has views wants this one")]
pub(crate) fn typical_view() -> View {
    let mut view = view("web07");
    view.target.labels = vec![label("rack", "r2"), label("zone", "eu-1")];
    view.semaphore.slots = 12;
    view.semaphore.leases = (0..10).map(|index| lease(&format!("web{index:02}"), 100 + index)).collect();
    view.party = Some(party(&(0..20).map(|index| format!("web{index:02}")).collect::<Vec<_>>(), 4));
    for index in 0..16 {
        let target = format!("web{index:02}");
        view.events.push(Event { at: NOON + index, target, kind: EventKind::Started, detail: "as planned".to_owned() });
    }
    view
}

pub(crate) fn label(key: &str, value: &str) -> Label {
    Label { key: key.to_owned(), value: value.to_owned() }
}

/// A persistent lease of another holder, one minute old.
pub(crate) fn lease(identifier: &str, fence: u64) -> Lease {
    Lease { identifier: identifier.to_owned(), fence, since: NOON - 60_000, ephemeral: false, alive: None, mine: false }
}

/// A party; identifiers must come in their order.
pub(crate) fn party<S: AsRef<str>>(identifiers: &[S], min_members: u32) -> Party {
    let member = |identifier: &S| Member { identifier: identifier.as_ref().to_owned(), since: NOON - 3_600_000 };
    Party { path: "/party/web".to_owned(), min_members, members: identifiers.iter().map(member).collect() }
}

/// An outcome of the first attempt.
#[allow(dead_code, reason = "as above")]
pub(crate) fn outcome(ending: lockkeeper::policy::types::Ending) -> Outcome {
    Outcome { ending, exit_code: None, took: 1_000, attempt: 1 }
}

/// An engine with the usual limits and no cache.
pub(crate) fn engine() -> Engine {
    Engine::new(&patient()).unwrap()
}

/// With more time than the busiest machine takes to use up a guest's fuel: that is what ends it, each time.
#[allow(dead_code, reason = "as above")]
pub(crate) fn patient() -> EngineOptions {
    let limits = Limits { time: Duration::from_secs(60), ..Limits::DEFAULT };
    EngineOptions { limits, ..EngineOptions::default() }
}
