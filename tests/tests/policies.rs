//! The standard policies through wasm: their answers, and invariants of any rollout.
//!
//! Native tests beside the policies cover their rules case by case. Here the embedded component answers, and a small
//! simulation drives it in random orders: late slots, withdrawn grants, failing actions.

#![allow(clippy::unwrap_used, reason = "a test says by panicking what is wrong")]

mod decide;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::OnceLock;

use decide::{NOON, engine, label, lease, outcome, party, typical_view, view};
use lockkeeper::job::{Grant, Grants, JobSpec, PolicySource};
use lockkeeper::policy::types::{Admission, Admitted, Cause, Ending, Event, EventKind, Settlement, View};
use lockkeeper::policy::{Engine, Module, PolicyError, standard_policies};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

fn policy(name: &str) -> Module {
    static LOADED: OnceLock<(Engine, BTreeMap<&'static str, Module>)> = OnceLock::new();
    let (_, loaded) = LOADED.get_or_init(|| {
        let engine = engine();
        let modules = standard_policies()
            .into_iter()
            .map(|policy| (policy.name, engine.load_standard(policy.name).unwrap()))
            .collect();
        (engine, modules)
    });
    loaded[name].clone()
}

fn both() -> Grants {
    [Grant::Lock, Grant::Force].into_iter().collect()
}

fn ask(name: &str, settings: &Value, view: &View) -> Admitted {
    policy(name).admit(&settings.to_string(), view, &[], both()).answer.unwrap()
}

#[test]
fn every_standard_policy_says_what_it_is() {
    let names: Vec<&str> = standard_policies().iter().map(|policy| policy.name).collect();
    assert_eq!(names, ["break-stale", "canary", "rolling", "spread"]);
    for name in names {
        let module = policy(name);
        let manifest = module.manifest();
        assert_eq!(manifest.name, name);
        assert!(!manifest.summary.is_empty());
        assert!(manifest.verdicts.iter().any(|verdict| verdict == "lock"));
        assert_eq!(manifest.verdicts.contains(&"force".to_owned()), name == "break-stale");
        let schema: Value = serde_json::from_str(&manifest.settings_schema).unwrap();
        for (key, property) in schema["properties"].as_object().unwrap() {
            let described = property.get("description").is_some();
            assert!(described, "{name}: `{key}` has no description");
        }
    }
}

#[test]
fn every_standard_policy_has_its_page() {
    for found in standard_policies() {
        let path = format!("{}/../docs/policies/{}.md", env!("CARGO_MANIFEST_DIR"), found.name);
        let page = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let schema: Value = serde_json::from_str(&policy(found.name).manifest().settings_schema).unwrap();
        for key in schema["properties"].as_object().unwrap().keys() {
            assert!(page.contains(&format!("`{key}`")), "{path} does not mention `{key}`");
        }
    }
}

#[test]
fn the_jobs_in_the_pages_are_jobs() {
    for found in standard_policies() {
        let path = format!("{}/../docs/policies/{}.md", env!("CARGO_MANIFEST_DIR"), found.name);
        let page = std::fs::read_to_string(&path).unwrap();
        let (_, rest) = page.split_once("```toml\n").unwrap();
        let (job, _) = rest.split_once("```").unwrap();
        let spec = JobSpec::parse(&path, job).unwrap_or_else(|problems| panic!("{path}: {problems:?}"));
        assert_eq!(spec.policy.source, PolicySource::Standard(found.name.to_owned()));
        let complaints = policy(found.name).validate(&spec.policy.settings).unwrap();
        assert!(complaints.is_empty(), "{path}: {complaints:?}");
    }
}

#[test]
fn wrong_settings_are_reported_with_their_place() {
    for (name, settings, at, part) in [
        ("rolling", json!({ "max-failure": 1 }), "max-failure", "unknown setting"),
        ("rolling", json!({ "max-failures": -1 }), "max-failures", "-1"),
        ("rolling", json!({ "on-failure": "carry-on" }), "on-failure", "carry-on"),
        ("rolling", json!({ "keep-slot": "soon" }), "keep-slot", "soon"),
        ("canary", json!({}), "", "missing setting `bake`"),
        ("canary", json!({ "bake": "10m", "canaries": 0 }), "canaries", "0"),
        ("spread", json!({}), "", "missing setting `label`"),
        ("spread", json!({ "label": "" }), "label", "a label has a name"),
        ("break-stale", json!({ "older-than": "0s" }), "older-than", "any age"),
    ] {
        let found = policy(name).validate(&settings).unwrap();
        assert_eq!(found.len(), 1, "{name} {settings}: {found:?}");
        assert_eq!(found[0].at, at, "{name} {settings}: {found:?}");
        assert!(found[0].message.contains(part), "{name} {settings}: {found:?}");
    }
    let keep_slot = &policy("rolling").validate(&json!({ "keep-slot": "soon" })).unwrap()[0];
    assert!(keep_slot.help.as_deref().is_some_and(|help| help.contains("10m")), "{keep_slot:?}");
    for (name, settings) in [
        ("rolling", json!({ "max-failures": 3, "keep-members": 2, "keep-slot": "1m 30s" })),
        ("canary", json!({ "bake": "10m", "on-canary-failure": "hold" })),
        ("spread", json!({ "label": "rack", "per-value": 2, "missing": "own" })),
        ("break-stale", json!({ "older-than": "2h" })),
    ] {
        assert!(policy(name).validate(&settings).unwrap().is_empty(), "{name}");
    }
}

#[test]
fn rolling_locks_keeps_the_floor_and_stops_at_failures() {
    let free = ask("rolling", &json!({}), &typical_view());
    assert_eq!((free.verdict, free.code.as_str()), (Admission::Lock, "slot-free"));
    assert_eq!(free.reason, "2 of 12 slots are free");

    let mut low = view("web01");
    low.party = Some(party(&["web01", "web02", "web03"], 3));
    let waits = ask("rolling", &json!({}), &low);
    assert_eq!((waits.verdict, waits.code.as_str()), (Admission::Wait, "below-floor"));
    assert_eq!(waits.reason, "2 of 3 members would remain, the floor is 3");

    let mut failed = view("web01");
    failed.progress.failed = 2;
    assert_eq!(ask("rolling", &json!({ "max-failures": 2 }), &failed).verdict, Admission::Abort);
    assert_eq!(ask("rolling", &json!({ "max-failures": 2, "on-failure": "hold" }), &failed).verdict, Admission::Hold);

    let settle = |settings: Value, ending| {
        let decision = policy("rolling").settle(&settings.to_string(), &view("a"), &outcome(ending), &[], both());
        decision.answer.unwrap().verdict
    };
    assert_eq!(settle(json!({}), Ending::Succeeded), Settlement::Release);
    assert_eq!(settle(json!({ "keep-slot": "30s" }), Ending::Succeeded), Settlement::Keep(30_000));
    assert_eq!(settle(json!({}), Ending::Failed), Settlement::Retry);
}

#[test]
fn break_stale_forces_only_with_the_grant() {
    let mut full = view("a");
    full.semaphore.slots = 1;
    full.party = Some(party(&["a"], 0));
    let mut dead = lease("dead", 42);
    (dead.since, dead.alive) = (NOON - 3 * 3_600_000, Some(false));
    full.semaphore.leases.push(dead);
    let settings = json!({ "older-than": "2h" });
    let answer = ask("break-stale", &settings, &full);
    assert_eq!((answer.verdict, answer.code.as_str()), (Admission::Force(vec![42]), "stale"));

    let decision = policy("break-stale").admit(&settings.to_string(), &full, &[], Grants::NONE.with(Grant::Lock));
    assert!(matches!(decision.answer, Err(PolicyError::NotGranted { verdict: "force" })));
}

#[test]
fn a_fleet_of_ten_thousand_is_decided_within_the_fuel() {
    let mut large = view("host05000");
    let names: Vec<String> = (0..10_000).map(|index| format!("host{index:05}")).collect();
    large.party = Some(party(&names, 9_000));
    large.semaphore.slots = 500;
    large.semaphore.leases = (0..500).map(|index| lease(&format!("host{:05}", index * 7), index)).collect();
    for (name, settings) in [
        ("rolling", json!({})),
        ("canary", json!({ "bake": "1m" })),
        ("spread", json!({ "label": "rack" })),
        ("break-stale", json!({ "older-than": "1h" })),
    ] {
        let decision = policy(name).admit(&settings.to_string(), &large, &[], both());
        let answer = decision.answer.unwrap();
        assert!(decision.fuel < 20_000_000, "{name}: {} units of fuel", decision.fuel);
        assert_ne!(answer.code, "", "{name}");
    }
}

// ---------------------------------------------------------------------------------------------- a rollout, simulated

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Open,
    Queued,
    Leased,
    Running,
    Kept { until: u64 },
    Done,
    Failed,
    Skipped,
}

/// What the host does with a policy's answers, without a store: the order in which things happen is random.
struct Simulation {
    module: Module,
    settings: String,
    rng: StdRng,
    now: u64,
    sequence: u64,
    slots: u32,
    racks: Vec<Option<String>>,
    stands: Vec<Stands>,
    fences: Vec<u64>,
    wakes: Vec<Option<u64>>,
    asked: BTreeSet<usize>,
    hold: Option<Option<u64>>,
    cursor: usize,
    memory: Vec<u8>,
    events: Vec<Event>,
    floor: u32,
    with_party: bool,
    failing: f64,
    aborted: bool,
}

impl Simulation {
    fn new(name: &str, settings: Value, seed: u64, targets: usize) -> Self {
        Self {
            module: policy(name),
            settings: settings.to_string(),
            rng: StdRng::seed_from_u64(seed),
            now: NOON,
            sequence: 0,
            slots: 4,
            racks: vec![None; targets],
            stands: vec![Stands::Open; targets],
            fences: vec![0; targets],
            wakes: vec![None; targets],
            asked: BTreeSet::new(),
            hold: None,
            cursor: 0,
            memory: Vec::new(),
            events: Vec::new(),
            floor: 0,
            with_party: false,
            failing: 0.0,
            aborted: false,
        }
    }

    fn name(target: usize) -> String {
        format!("t{target:03}")
    }

    fn all(&self, which: impl Fn(Stands) -> bool) -> Vec<usize> {
        (0..self.stands.len()).filter(|target| which(self.stands[*target])).collect()
    }

    fn holding(stands: Stands) -> bool {
        matches!(stands, Stands::Leased | Stands::Running | Stands::Kept { .. })
    }

    fn running(&self) -> Vec<usize> {
        self.all(|stands| stands == Stands::Running)
    }

    fn count(&self, which: impl Fn(Stands) -> bool) -> u32 {
        u32::try_from(self.all(which).len()).unwrap()
    }

    /// The party: every target that is not running.
    fn members(&self) -> Vec<String> {
        self.all(|stands| stands != Stands::Running).into_iter().map(Self::name).collect()
    }

    fn view(&mut self, target: usize, cause: Cause) -> View {
        let mut view = view(&Self::name(target));
        (view.now, view.sequence, view.cause) = (self.now, self.sequence, cause);
        self.sequence += 1;
        view.target.labels.extend(self.racks[target].as_deref().map(|rack| label("rack", rack)));
        view.semaphore.slots = self.slots;
        for holder in self.all(Self::holding) {
            let mut lease = lease(&Self::name(holder), self.fences[holder]);
            lease.mine = true;
            view.semaphore.leases.push(lease);
        }
        view.semaphore.leases.sort_by_key(|lease| lease.fence);
        if self.with_party {
            view.party = Some(party(&self.members(), self.floor));
        }
        let progress = &mut view.progress;
        progress.total = u32::try_from(self.stands.len()).unwrap();
        progress.running = self.count(|stands| matches!(stands, Stands::Running | Stands::Kept { .. }));
        progress.succeeded = self.count(|stands| stands == Stands::Done);
        progress.failed = self.count(|stands| stands == Stands::Failed);
        progress.skipped = self.count(|stands| stands == Stands::Skipped);
        view.events = self.events.iter().rev().take(16).rev().cloned().collect();
        view
    }

    fn happened(&mut self, target: usize, what: EventKind) {
        self.events.push(Event { at: self.now, target: Self::name(target), kind: what, detail: String::new() });
        self.changed();
    }

    fn changed(&mut self) {
        (self.cursor, self.hold) = (0, None);
    }

    fn admit(&mut self, target: usize, cause: Cause) {
        let view = self.view(target, cause.clone());
        self.asked.insert(target);
        let answer = self.module.admit(&self.settings, &view, &self.memory, both()).answer.unwrap();
        self.memory = answer.memory;
        self.wakes[target] = answer.wake_after.map(|after| self.now + after);
        let granted = cause == Cause::Granted;
        match answer.verdict {
            Admission::Lock if granted => {
                self.stands[target] = Stands::Running;
                self.happened(target, EventKind::Started);
            }
            Admission::Lock => self.stands[target] = Stands::Queued,
            Admission::Skip => {
                self.stands[target] = Stands::Skipped;
                self.happened(target, EventKind::Skipped);
            }
            Admission::Abort => {
                self.aborted = true;
                for stands in self.stands.iter_mut().filter(|stands| matches!(stands, Stands::Queued | Stands::Leased))
                {
                    *stands = Stands::Open;
                }
            }
            Admission::Wait | Admission::Hold => {
                self.stands[target] = Stands::Open;
                if granted {
                    self.changed();
                } else if answer.verdict == Admission::Hold {
                    self.hold = Some(self.wakes[target]);
                }
            }
            Admission::Force(_) => panic!("nobody forces here"),
        }
    }

    fn settle(&mut self, target: usize) {
        let ending = if self.rng.random_bool(self.failing) { Ending::Failed } else { Ending::Succeeded };
        let view = self.view(target, Cause::Progressed);
        let answer = self.module.settle(&self.settings, &view, &outcome(ending), &self.memory, both()).answer.unwrap();
        self.memory = answer.memory;
        self.stands[target] = match (ending, answer.verdict) {
            (Ending::Succeeded, Settlement::Keep(keep)) => Stands::Kept { until: self.now + keep },
            (Ending::Succeeded, _) => Stands::Done,
            // The job allows one attempt.
            _ => Stands::Failed,
        };
        self.happened(target, EventKind::Released);
    }

    /// One random thing happens; false: nothing is left that could.
    fn step(&mut self) -> bool {
        let now = self.now;
        let has_room = self.count(|stands| stands == Stands::Queued || Self::holding(stands)) < self.slots;
        let open = self.all(|stands| stands == Stands::Open);
        let next_open = open.iter().copied().find(|target| *target >= self.cursor);
        let queued = self.all(|stands| stands == Stands::Queued);
        let leased = self.all(|stands| stands == Stands::Leased);
        let running = self.running();
        let kept = self.all(|stands| matches!(stands, Stands::Kept { until } if until <= now));
        let slot_free = self.count(Self::holding) < self.slots;

        let mut choices: Vec<u8> = Vec::new();
        if !leased.is_empty() {
            choices.extend([0, 0, 0]);
        }
        if has_room && self.hold.is_none() && next_open.is_some() && !self.aborted {
            choices.extend([1, 1, 1, 1]);
        }
        if slot_free && !queued.is_empty() {
            choices.extend([2, 2]);
        }
        if !running.is_empty() {
            choices.push(3);
        }
        if !kept.is_empty() {
            choices.push(4);
        }
        // A slot's time-out: rare.
        if !queued.is_empty() && self.rng.random_bool(0.05) {
            choices.push(5);
        }
        if choices.is_empty() {
            return self.time_passes();
        }
        let pick = |rng: &mut StdRng, from: &[usize]| from[rng.random_range(0..from.len())];
        self.now += self.rng.random_range(0..200);
        match choices[self.rng.random_range(0..choices.len())] {
            0 => {
                let target = pick(&mut self.rng, &leased);
                self.admit(target, Cause::Granted);
            }
            1 => {
                let target = next_open.unwrap();
                self.cursor = target + 1;
                let cause = if self.asked.contains(&target) { Cause::Progressed } else { Cause::First };
                self.admit(target, cause);
            }
            2 => {
                let target = pick(&mut self.rng, &queued);
                self.stands[target] = Stands::Leased;
                self.fences[target] = self.sequence + 1_000_000;
                self.sequence += 1;
                self.happened(target, EventKind::Leased);
            }
            3 => {
                let target = pick(&mut self.rng, &running);
                self.settle(target);
            }
            4 => {
                self.stands[kept[0]] = Stands::Done;
                self.happened(kept[0], EventKind::Released);
            }
            _ => {
                let target = pick(&mut self.rng, &queued);
                self.stands[target] = Stands::Skipped;
                self.happened(target, EventKind::Skipped);
            }
        }
        true
    }

    /// Nothing can happen now: on to the next wake. False: there is none.
    fn time_passes(&mut self) -> bool {
        let kept = self.stands.iter().filter_map(|stands| match stands {
            Stands::Kept { until } => Some(*until),
            _ => None,
        });
        let open = self.all(|stands| stands == Stands::Open);
        let wakes = open.iter().filter_map(|target| self.wakes[*target]);
        let held = self.hold.flatten();
        let Some(next) = kept.chain(wakes).chain(held).min() else { return false };
        self.now = self.now.max(next);
        for target in open {
            self.wakes[target] = self.wakes[target].filter(|at| *at > next);
        }
        self.changed();
        !self.aborted || self.stands.iter().any(|stands| matches!(stands, Stands::Kept { .. }))
    }

    fn run(&mut self, mut holds: impl FnMut(&Self)) {
        // Far more than any of these runs needs: a policy that acquires and releases in an endless loop fails here.
        for _ in 0..20_000 {
            if !self.step() {
                return;
            }
            holds(self);
        }
        panic!("it goes round in circles: {:?}", self.stands);
    }

    fn is_over(&self) -> bool {
        self.stands.iter().all(|stands| matches!(stands, Stands::Done | Stands::Failed | Stands::Skipped))
    }
}

const SEEDS: std::ops::Range<u64> = 0..60;

#[test]
fn spread_never_exceeds_its_limit_per_rack_and_ends() {
    for seed in SEEDS {
        let per_value = 1 + seed % 2;
        let mut run = Simulation::new("spread", json!({ "label": "rack", "per-value": per_value }), seed, 24);
        run.failing = 0.2;
        for target in 0..24 {
            // Neighbours in the order share a rack, which is the hardest; some have no label.
            run.racks[target] = (target % 9 != 8).then(|| format!("r{}", target / 6));
        }
        run.run(|run| {
            let mut per_rack: BTreeMap<Option<&str>, u64> = BTreeMap::new();
            for target in run.running() {
                *per_rack.entry(run.racks[target].as_deref()).or_default() += 1;
            }
            assert!(per_rack.values().all(|count| *count <= per_value), "seed {seed}: {per_rack:?}");
        });
        assert!(run.is_over(), "seed {seed}: {:?}", run.stands);
    }
}

#[test]
fn the_simulation_sees_a_policy_that_does_not_spread() {
    let mut most = 0;
    let mut run = Simulation::new("rolling", json!({}), 0, 24);
    for target in 0..24 {
        run.racks[target] = Some(format!("r{}", target / 6));
    }
    run.run(|run| most = most.max(run.running().iter().filter(|target| **target < 6).count()));
    assert!(most > 1, "at most {most} of the first rack at once");
}

#[test]
fn canaries_act_alone_and_the_rest_only_after_the_bake() {
    for seed in SEEDS {
        let canaries = 1 + u32::try_from(seed % 3).unwrap();
        let mut run = Simulation::new("canary", json!({ "canaries": canaries, "bake": "10m" }), seed, 12);
        let mut passed_at = None;
        run.run(|run| {
            let done = run.count(|stands| stands == Stands::Done);
            let running = run.count(|stands| stands == Stands::Running);
            if done < canaries {
                assert!(done + running <= canaries, "seed {seed}: {done} done and {running} act");
            } else {
                let since = *passed_at.get_or_insert(run.now);
                assert!(run.now >= since + 600_000 || done + running <= canaries, "seed {seed}: too early");
            }
        });
        assert!(run.is_over(), "seed {seed}: {:?}", run.stands);
    }
}

#[test]
fn a_failed_canary_is_the_last_to_act() {
    for seed in SEEDS {
        let mut run = Simulation::new("canary", json!({ "bake": "1m" }), seed, 8);
        run.failing = 1.0;
        run.run(|run| assert!(run.count(|stands| stands == Stands::Failed) <= 1, "seed {seed}"));
        assert!(run.aborted, "seed {seed}");
    }
}

#[test]
fn rolling_never_drops_below_the_floor_and_ends() {
    for seed in SEEDS {
        let mut run = Simulation::new("rolling", json!({ "keep-slot": "30s" }), seed, 10);
        (run.with_party, run.floor) = (true, 8);
        run.run(|run| assert!(run.members().len() >= 8, "seed {seed}: {:?}", run.members()));
        assert!(run.is_over(), "seed {seed}: {:?}", run.stands);
    }
}

#[test]
fn rolling_stops_at_the_failures_allowed_but_for_those_under_way() {
    for seed in SEEDS {
        let mut run = Simulation::new("rolling", json!({ "max-failures": 2 }), seed, 20);
        run.failing = 1.0;
        run.run(|_| {});
        let failed = run.count(|stands| stands == Stands::Failed);
        // Four slots: when the second fails, three others may be running.
        assert!(run.aborted && (2..=5).contains(&failed), "seed {seed}: {failed}");
    }
}
