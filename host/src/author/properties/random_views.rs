//! Views made up.

use std::collections::BTreeSet;

use lockkeeper_cases::EVENT_KINDS;
use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Map, Value, json};

use super::random_view;
use crate::author::cases::view;
use crate::policy::types::{Ending, Outcome, View};

const ENDINGS: [Ending; 5] = [Ending::Succeeded, Ending::Failed, Ending::TimedOut, Ending::LeaseLost, Ending::Unknown];

/// Members and leases of a view that is large, such as a fleet shows.
const MANY_MEMBERS: usize = 500;
const MANY_LEASES: usize = 50;
const MANY_EVENTS: usize = 64;

/// Settings with larger numbers than this are not meant for a party or a semaphore of any size that is made up.
pub(super) const MODEST: u64 = 500;

/// Whether views that are made up can be on both sides of whatever number is set.
pub(super) fn is_modest(settings: &Value) -> bool {
    match settings {
        Value::Number(number) => number.as_u64().is_some_and(|number| number <= MODEST),
        Value::Array(items) => items.iter().all(is_modest),
        Value::Object(members) => members.values().all(is_modest),
        _ => true,
    }
}

/// Makes up views.
pub(super) struct Maker {
    /// Those of the cases.
    near: Vec<Value>,
    /// Keys of labels that may mean something to the policy.
    keys: Vec<String>,
    /// The values that these have in cases.
    values: Vec<String>,
}

impl Maker {
    pub(super) fn new<'a>(near: Vec<Value>, settings: impl Iterator<Item = &'a Value>) -> Self {
        let mut keys: BTreeSet<String> = ["rack", "zone"].map(str::to_owned).into();
        let mut values: BTreeSet<String> = ["r1", "r2", "r3", ""].map(str::to_owned).into();
        for label in near.iter().filter_map(|view| view["target"]["labels"].as_array()).flatten() {
            keys.extend(label["key"].as_str().map(str::to_owned));
            values.extend(label["value"].as_str().map(str::to_owned));
        }
        // A text in the settings is often a label's key.
        settings.for_each(|settings| texts(settings, &mut keys));
        Self { near, keys: keys.into_iter().collect(), values: values.into_iter().collect() }
    }

    /// Views on the edge: whatever can be empty is, and whatever can be many is; made without a seed.
    pub(super) fn edges(&self) -> Vec<View> {
        let names: Vec<String> = (0..MANY_MEMBERS).map(|index| format!("web{index:04}")).collect();
        let leases: Vec<Value> =
            names[..MANY_LEASES].iter().map(|name| json!({ "identifier": name, "mine": true })).collect();
        let events: Vec<Value> = names[..MANY_EVENTS]
            .iter()
            .map(|name| json!({ "target": name, "kind": "succeeded", "at": "-1m" }))
            .collect();
        let labels: Map<String, Value> = self.keys.iter().map(|key| (key.clone(), "r1".into())).collect();
        let target = json!({ "name": "web0000", "labels": labels });
        let empty = [
            json!({}),
            json!({ "party": { "members": [] } }),
            json!({ "party": { "members": [], "min-members": 3 } }),
            json!({ "semaphore": { "slots": 0 }, "progress": { "total": 0, "pending": 0, "waiting": 0 } }),
            json!({ "cause": "granted", "party": { "members": [] } }),
            json!({ "progress": { "total": 4_294_967_295_u32, "succeeded": 4_294_967_295_u32, "failed": 4_294_967_295_u32 } }),
            json!({ "now": 0, "target": { "waiting-since": 0, "name": "" }, "progress": { "started": 0 } }),
            json!({ "target": target, "party": { "members": names, "min-members": 100 } }),
            json!({
                "target": target, "semaphore": { "slots": 51, "leases": leases, "queued": 50 },
                "party": { "members": names, "min-members": 100 }, "events": events,
                "progress": { "total": 500, "pending": 449, "running": 50 },
            }),
        ];
        let near = self.near.iter().map(|of| {
            let mut of = view(of);
            clear(&mut of);
            of
        });
        empty.iter().map(random_view).chain(near).collect()
    }

    /// One more view.
    pub(super) fn view(&self, rng: &mut StdRng) -> View {
        let name = name(rng);
        let now = lockkeeper_cases::NOON + rng.random_range(0..7 * 24 * 60) * 60_000;
        let slots = rng.random_range(1..6_u32);
        let members = rng.random_range(0..4_u8) > 0;
        let wave = *["", "", "canary", "rest"].choose(rng).expect("there are four");
        let mut view = json!({
            "now": now,
            "sequence": rng.random_range(0..1_000_u32),
            "seed": rng.random::<u64>() >> 12,
            "cause": cause(rng),
            "target": {
                "name": name,
                "labels": self.labels(rng),
                "attempt": rng.random_range(1..4),
                "wave": wave,
                "waiting-since": now - rng.random_range(0..7_200_000_u64),
            },
            "semaphore": {
                "slots": slots,
                "leases": leases(rng, now, &name, slots),
                "queued": rng.random_range(0..4),
            },
            "progress": progress(rng, now),
            "events": events(rng, now),
        });
        if members {
            view["party"] = json!({ "members": party(rng, now, &name), "min-members": rng.random_range(0..8) });
        }
        let Some(near) = self.near.choose(rng).filter(|_| rng.random_bool(0.6)) else { return random_view(&view) };
        // Near a case: its own but for a part or two.
        let mut mixed = near.clone();
        for key in ["now", "cause", "target", "semaphore", "party", "progress", "events"] {
            if rng.random_bool(0.3) && !view[key].is_null() {
                mixed[key] = view[key].clone();
            }
        }
        for (list, items) in [("other-semaphores", "leases"), ("other-parties", "members")] {
            for other in mixed[list].as_array_mut().into_iter().flatten() {
                if rng.random_bool(0.5) {
                    other[items] =
                        if items == "leases" { leases(rng, now, &name, slots) } else { party(rng, now, &name) };
                }
            }
        }
        // Differences are small: the base's keys are there already.
        if let (Some(slots), Some(slots_near)) =
            (view["semaphore"]["slots"].as_u64(), near["semaphore"]["slots"].as_u64())
            && rng.random_bool(0.5)
        {
            mixed["semaphore"]["slots"] = slots.max(slots_near).into();
        }
        random_view(&mixed)
    }

    fn labels(&self, rng: &mut StdRng) -> Value {
        let mut labels = Map::new();
        for key in &self.keys {
            if rng.random_bool(0.7) {
                labels.insert(key.clone(), self.values.choose(rng).cloned().unwrap_or_default().into());
            }
        }
        Value::Object(labels)
    }
}

/// What makes room: nobody holds a slot but the target itself, where it does, every member is there, nothing failed.
pub(super) fn clear(view: &mut View) {
    let name = view.target.name.clone();
    for semaphore in std::iter::once(&mut view.semaphore).chain(&mut view.other_semaphores) {
        semaphore.leases.retain(|lease| lease.identifier == name);
        semaphore.queued = 0;
    }
    for party in view.party.iter_mut().chain(&mut view.other_parties) {
        // A floor beyond any party that is made up is out of reach: it is no reason to make up billions of members.
        let enough = (party.min_members as usize).min(MANY_MEMBERS) + 2 * MODEST as usize;
        let since = view.now.saturating_sub(86_400_000);
        for index in party.members.len()..enough {
            let identifier = format!("zz{index:04}");
            party.members.push(crate::policy::types::Member { identifier, since });
        }
    }
    let progress = &mut view.progress;
    (progress.failed, progress.rolled_back, progress.unknown, progress.running) = (0, 0, 0, 0);
    (progress.pending, progress.succeeded) = (progress.total / 2, progress.total / 2);
    progress.budget_left = progress.budget_left.map(|_| 1_000);
    view.events.clear();
}

/// How an action may have ended.
pub(super) fn outcome(rng: &mut StdRng) -> Outcome {
    let ending = *ENDINGS.choose(rng).expect("there are five");
    let exit_code = match ending {
        Ending::Succeeded => Some(0),
        Ending::Failed => Some(rng.random_range(1..256)),
        _ => None,
    };
    Outcome { ending, exit_code, took: rng.random_range(0..600_000), attempt: rng.random_range(1..4) }
}

fn name(rng: &mut StdRng) -> String {
    format!("web{:02}", rng.random_range(1..13))
}

/// Names, each once.
fn names(rng: &mut StdRng, count: usize) -> Vec<String> {
    let mut names: Vec<String> = (1..13).map(|number| format!("web{number:02}")).collect();
    names.extend(["db07", "ann"].map(str::to_owned));
    names.shuffle(rng);
    names.truncate(count);
    names
}

fn cause(rng: &mut StdRng) -> Value {
    match rng.random_range(0..9_u8) {
        0 => json!({ "refused": "the floor: 2 of 3 members would remain" }),
        1 => json!({ "operator": "root@admin" }),
        2 | 3 => json!("granted"),
        other => json!(["first", "leases-changed", "members-changed", "progressed", "woken"][other as usize - 4]),
    }
}

fn leases(rng: &mut StdRng, now: u64, name: &str, slots: u32) -> Value {
    let count = rng.random_range(0..=slots as usize + 1);
    let mut fence = 100;
    let mut leases: Vec<Value> = Vec::new();
    for identifier in names(rng, count) {
        if identifier == name {
            continue;
        }
        fence += rng.random_range(1..50_u64);
        leases.push(json!({
            "identifier": identifier,
            "fence": fence,
            "since": now.saturating_sub(rng.random_range(0..3_600_000_u64)),
            "ephemeral": rng.random_bool(0.3),
            "mine": rng.random_bool(0.6),
        }));
    }
    leases.into()
}

fn party(rng: &mut StdRng, now: u64, name: &str) -> Value {
    let count = *[0, 1, 2, 3, 5, 8, 12].choose(rng).expect("there are seven");
    let mut identifiers = names(rng, count);
    if count > 0 && rng.random_bool(0.6) && !identifiers.iter().any(|one| one == name) {
        identifiers.push(name.to_owned());
    }
    // As the host shows them: each once.
    identifiers.sort();
    identifiers.dedup();
    identifiers
        .into_iter()
        .map(|identifier| json!({ "identifier": identifier, "since": now.saturating_sub(rng.random_range(0..86_400_000_u64)) }))
        .collect()
}

fn progress(rng: &mut StdRng, now: u64) -> Value {
    let keys = ["pending", "waiting", "running", "succeeded", "failed", "rolled-back", "skipped", "unknown"];
    let mut progress = Map::new();
    let mut total = 0;
    for key in keys {
        let bad = ["failed", "rolled-back", "unknown"].contains(&key);
        let count = match bad {
            true if rng.random_bool(0.6) => 0,
            true => rng.random_range(0..4_u32),
            false => rng.random_range(0..8_u32),
        };
        total += count;
        progress.insert(key.to_owned(), count.into());
    }
    progress.insert("total".to_owned(), total.into());
    progress.insert("started".to_owned(), now.saturating_sub(rng.random_range(0..7_200_000_u64)).into());
    if rng.random_bool(0.4) {
        progress.insert("budget-left".to_owned(), rng.random_range(0..4_u32).into());
    }
    Value::Object(progress)
}

fn events(rng: &mut StdRng, now: u64) -> Value {
    let mut at = now.saturating_sub(3_600_000);
    (0..rng.random_range(0..8))
        .map(|_| {
            at = (at + rng.random_range(0..600_000_u64)).min(now);
            let what = *EVENT_KINDS.choose(rng).expect("there are ten");
            json!({ "at": at, "target": name(rng), "kind": what })
        })
        .collect()
}

fn texts(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.len() < 32 && text.starts_with(char::is_alphabetic) => {
            into.insert(text.clone());
        }
        Value::Array(items) => items.iter().for_each(|item| texts(item, into)),
        Value::Object(members) => members.values().for_each(|value| texts(value, into)),
        _ => {}
    }
}
