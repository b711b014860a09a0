//! The nearest world in which a target would go: one fact changed at a time, by as little as it takes, and the same policy
//! and the same limits asked again. What is reported has been seen to hold.

use crate::audit::explain::decision::Case;
use crate::audit::explain::situation::{Change, Knob, World};
use crate::policy::types::Admission;
use crate::rollout::driver::Decide;

/// Times that the policy is asked for one answer. Pairs are tried as long as these last.
const MOST_TRIED: u32 = 2_000;

/// As many more members, leases fewer and so on are tried one by one.
const MOST_STEPS: u64 = 32;

/// Later by so much, in seconds, besides what the verdict and the limit name: then hourly, up to a week.
const SOONER: [u64; 5] = [1, 60, 300, 900, 1800];
const HOUR_MS: u64 = 3_600_000;
const HOURS: u64 = 7 * 24;

/// So many changes of each fact are paired with those of the others.
const IN_PAIRS: usize = 4;

/// Other changes that do it as well, and are told.
const MOST_ALSO: usize = 2;

/// Something that would let the target go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterfactual {
    /// What were different, as it follows `would go if`.
    pub change: String,
    /// What the policy answers then: `lock` or `force`.
    pub verdict: &'static str,
    /// When that is so, if time alone does it; in milliseconds since the Unix epoch.
    pub at: Option<u64>,
}

/// What changing facts came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nearest {
    /// It would go.
    Found {
        /// With this, the least of all.
        nearest: Counterfactual,
        /// Or with one of these.
        also: Vec<Counterfactual>,
        /// How often the policy was asked.
        tried: u32,
    },
    /// With nothing that was tried.
    Nothing {
        /// How often the policy was asked.
        tried: u32,
    },
    /// It would go as it is: what was in the way is not in the facts that were written down.
    Already,
    /// The policy answers otherwise than it did: nothing can be said.
    Otherwise,
}

/// Changes facts of a decision until the answer is that the target may go. Asks the policy up to 2,000 times.
pub fn nearest<P: Decide>(policy: &P, case: &Case) -> Nearest {
    let mut trial = Trial { policy, settings: case.header.settings.to_string(), case, tried: 0 };
    let world = World { view: case.recorded.view.clone(), facts: case.facts.clone(), limits: case.limits.clone() };
    let said = trial.verdict(&world);
    if said != case.recorded.verdict.as_deref() && case.recorded.verdict.is_some() {
        return Nearest::Otherwise;
    }
    if trial.goes(&world).is_some() {
        return Nearest::Already;
    }
    let changes = changes(case);
    let mut found = trial.singles(&world, &changes);
    if found.is_empty() {
        found.extend(trial.pairs(&world, &changes));
    }
    let tried = trial.tried;
    match found.is_empty() {
        true => Nearest::Nothing { tried },
        false => {
            let nearest = found.remove(0);
            found.truncate(MOST_ALSO);
            Nearest::Found { nearest, also: found, tried }
        }
    }
}

/// What is tried of each fact, the least first.
fn changes(case: &Case) -> Vec<Vec<Change>> {
    let view = &case.recorded.view;
    let steps = |knob: Knob, most: u64| (1..=most.min(MOST_STEPS)).map(|by| Change { knob, by }).collect::<Vec<_>>();
    let lists = [
        if view.party.is_some() { steps(Knob::Members, MOST_STEPS) } else { Vec::new() },
        steps(Knob::Leases, view.semaphore.leases.len() as u64),
        steps(Knob::UnderWay, queueing(case).into()),
        steps(Knob::Store, 1),
        steps(Knob::Paused, 1),
        steps(Knob::Unknown, 1),
        steps(Knob::Held, 1),
        steps(Knob::Wave, 1),
        later(case).into_iter().map(|by| Change { knob: Knob::Time, by }).collect(),
        steps(Knob::Failures, case.facts.failed.into()),
        later(case).into_iter().map(|by| Change { knob: Knob::Waited, by }).collect(),
        steps(Knob::Attempt, 3),
        steps(Knob::Slots, MOST_STEPS),
        steps(Knob::Floor, case.limits.floor.unwrap_or(0).into()),
        if case.facts.wave_spent.is_some() { steps(Knob::WaveStopAt, MOST_STEPS) } else { Vec::new() },
        if case.limits.budget.stop_at.is_some() { steps(Knob::StopAt, MOST_STEPS) } else { Vec::new() },
        if case.limits.budget.max_failed.is_some() { steps(Knob::MaxFailed, MOST_STEPS) } else { Vec::new() },
    ];
    let others = view.other_semaphores.iter().enumerate();
    let others = others.map(|(at, other)| steps(Knob::OtherLeases(at), other.leases.len() as u64));
    let parties = (0..view.other_parties.len()).map(|at| steps(Knob::OtherMembers(at), MOST_STEPS));
    lists.into_iter().chain(others).chain(parties).filter(|list| !list.is_empty()).collect()
}

/// How many of the run's other targets were under way without a lease.
fn queueing(case: &Case) -> u32 {
    let mine = case.recorded.view.semaphore.leases.iter().filter(|lease| lease.mine).count();
    case.facts.in_flight.saturating_sub(u32::try_from(mine).unwrap_or(u32::MAX))
}

/// How much later, in milliseconds: what the policy and the calendar name, and a ladder up to a week.
fn later(case: &Case) -> Vec<u64> {
    let now = case.recorded.view.now;
    let wake = case.recorded.answer["wake-after"].as_u64();
    let limit = case.limits.allow_one_more(&case.facts).err().and_then(|refusal| refusal.changes_ms());
    let limit = limit.and_then(|at| at.checked_sub(now));
    let ladder = SOONER.iter().map(|seconds| seconds * 1000).chain((1..=HOURS).map(|hours| hours * HOUR_MS));
    let mut all: Vec<u64> = wake.into_iter().chain(limit).filter(|by| *by > 0).chain(ladder).collect();
    all.sort_unstable();
    all.dedup();
    all
}

struct Trial<'a, P> {
    policy: &'a P,
    settings: String,
    case: &'a Case,
    tried: u32,
}

impl<P: Decide> Trial<'_, P> {
    fn verdict(&mut self, world: &World) -> Option<&'static str> {
        self.tried += 1;
        let (view, memory, grants) = (&world.view, &self.case.memory, self.case.header.grants());
        let decision = self.policy.admit(&self.settings, view, memory, grants);
        decision.answer.ok().map(|answer| answer.verdict.word())
    }

    /// What the policy says, if that and the limits let the target go.
    fn goes(&mut self, world: &World) -> Option<&'static str> {
        world.limits.allow_one_more(&world.facts).ok()?;
        let word = self.verdict(world)?;
        let lets_go = [Admission::Lock.word(), Admission::Force(Vec::new()).word()];
        lets_go.contains(&word).then_some(word)
    }

    fn with(&mut self, world: &World, changes: &[Change]) -> Option<Counterfactual> {
        let mut world = world.clone();
        let mut said = Vec::new();
        for change in changes {
            said.push(change.apply(&mut world, &self.case.header.targets)?);
        }
        let verdict = self.goes(&world)?;
        let at = matches!(changes, [Change { knob: Knob::Time, .. }]).then_some(world.view.now);
        Some(Counterfactual { change: said.join(", and "), verdict, at })
    }

    /// The least change of each fact that does it, in the order in which a person would think of them; those that turn a
    /// knob by least come first.
    fn singles(&mut self, world: &World, lists: &[Vec<Change>]) -> Vec<Counterfactual> {
        let mut found = Vec::new();
        for list in lists {
            let mut before = 0;
            for change in list {
                if let Some(counterfactual) = self.with(world, &[*change]) {
                    found.push(self.least(world, before, *change, counterfactual));
                    break;
                }
                before = change.by;
            }
        }
        found.sort_by_key(|(change, _)| (cost(*change), change.knob));
        found.into_iter().map(|(_, counterfactual)| counterfactual).collect()
    }

    /// Of time, the first second between a moment at which it does not do and one at which it does.
    fn least(&mut self, world: &World, before: u64, change: Change, found: Counterfactual) -> (Change, Counterfactual) {
        let (mut low, mut best) = (before, (change, found));
        while matches!(change.knob, Knob::Time | Knob::Waited) && best.0.by - low > 1000 {
            let middle = Change { by: low + (best.0.by - low) / 2, ..change };
            match self.with(world, &[middle]) {
                Some(found) => best = (middle, found),
                None => low = middle.by,
            }
        }
        best
    }

    fn pairs(&mut self, world: &World, lists: &[Vec<Change>]) -> Option<Counterfactual> {
        let few: Vec<Vec<Change>> = lists.iter().map(|list| spread(list)).collect();
        let mut pairs: Vec<[Change; 2]> = Vec::new();
        for (at, list) in few.iter().enumerate() {
            for other in &few[at + 1..] {
                pairs.extend(list.iter().flat_map(|one| other.iter().map(|two| [*one, *two])));
            }
        }
        pairs.sort_by_key(|pair| pair.iter().map(|change| cost(*change)).sum::<u64>());
        for pair in pairs {
            if self.tried >= MOST_TRIED {
                return None;
            }
            if let Some(found) = self.with(world, &pair) {
                return Some(found);
            }
        }
        None
    }
}

/// The first, the last and some between.
fn spread(list: &[Change]) -> Vec<Change> {
    let last = list.len() - 1;
    let mut places: Vec<usize> = (0..IN_PAIRS).map(|part| last * part / (IN_PAIRS - 1)).collect();
    places.dedup();
    places.into_iter().map(|place| list[place]).collect()
}

/// How far a change is from what was. What happens by itself is near; what somebody would have to decide otherwise is far.
fn cost(change: Change) -> u64 {
    match change.knob {
        Knob::Members
        | Knob::Leases
        | Knob::UnderWay
        | Knob::Store
        | Knob::Paused
        | Knob::Unknown
        | Knob::Held
        | Knob::Wave
        | Knob::OtherLeases(_)
        | Knob::OtherMembers(_) => change.by,
        Knob::Time => 1 + change.by / HOUR_MS,
        Knob::Failures => 2 + change.by,
        Knob::Waited => 3 + change.by / HOUR_MS,
        Knob::Attempt => 4 + change.by,
        Knob::Slots | Knob::Floor | Knob::WaveStopAt | Knob::StopAt | Knob::MaxFailed => 6 + change.by,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::job::Grants;
    use crate::policy::Decision;
    use crate::policy::types::{Admitted, Outcome, Settled, View};
    use crate::rollout::model::Budget;
    use crate::rollout::model::{Facts, HardLimits, WaveSpent};

    /// Answers by its function.
    struct Script(fn(&View) -> Admission);

    impl Decide for Script {
        fn name(&self) -> &str {
            "script"
        }

        fn digest(&self) -> &str {
            "none"
        }

        fn contract(&self) -> String {
            "none".to_owned()
        }

        fn admit(&self, _: &str, view: &View, memory: &[u8], _: Grants) -> Decision<Admitted> {
            let (code, reason, memory) = (String::new(), String::new(), memory.to_vec());
            let answer = Admitted { verdict: (self.0)(view), code, reason, wake_after: None, memory };
            Decision { answer: Ok(answer), fuel: 0, memory: 0, trace: Vec::new() }
        }

        fn settle(&self, _: &str, _: &View, _: &Outcome, _: &[u8], _: Grants) -> Decision<Settled> {
            unreachable!("nobody settles here")
        }
    }

    /// Two of three slots held, two of three members there, one of ten targets failed: and what the policy said.
    fn case(verdict: &str, limits: HardLimits) -> Case {
        let lease = |name: &str, fence: u64| json!({ "identifier": name, "fence": fence, "since": fence, "ephemeral": false, "alive": true, "mine": true });
        let member = |name: &str| json!({ "identifier": name, "since": 1 });
        let now = 1_000_000_000_000_u64;
        let view = json!({
            "sequence": 7, "now": now, "seed": 1, "cause": "progressed",
            "target": { "name": "c", "labels": [], "wave": "", "attempt": 1, "waiting-since": now - 5000 },
            "semaphore": { "path": "/s", "slots": 3, "leases": [lease("a", 1), lease("b", 2)], "queued": 0 },
            "party": { "path": "/p", "min-members": limits.floor.unwrap_or(0), "members": [member("x"), member("y")] },
            "other-semaphores": [], "other-parties": [],
            "progress": {
                "job": "j", "run": "r", "started": 1, "total": 10, "pending": 5, "waiting": 0, "running": 2, "succeeded": 2,
                "failed": 1, "rolled-back": 0, "skipped": 0, "unknown": 0, "budget-left": null
            },
            "events": []
        });
        let recorded = json!({
            "question": "admit", "sequence": 7, "target": "c", "verdict": verdict,
            "answer": { "verdict": verdict, "code": "", "reason": "", "wake-after": null },
            "fuel": 0, "view": view, "policy-digest": "none", "view-digest": "none"
        });
        let header = json!({
            "journal": 2, "job": "j", "run": "r", "started": 1, "job-digest": "", "policy": "script",
            "policy-digest": "none", "contract": "none", "host": "", "grants": ["lock"], "settings": {}, "runner-epoch": 1,
            "sequence": 0, "limits": { "slots": limits.slots }, "targets": ["a", "b", "c", "d"]
        });
        let facts = Facts {
            in_flight: 2,
            reserved: 2,
            failed: 1,
            remaining: Some(2),
            connected: true,
            now_ms: now,
            usual_ms: None,
            ..Facts::default()
        };
        Case {
            header: serde_json::from_value(header).unwrap(),
            recorded: serde_json::from_value(recorded).unwrap(),
            memory: Vec::new(),
            facts,
            limits,
        }
    }

    fn limits() -> HardLimits {
        HardLimits { slots: 3, ..HardLimits::default() }
    }

    fn changes(policy: fn(&View) -> Admission, case: &Case) -> Vec<String> {
        match nearest(&Script(policy), case) {
            Nearest::Found { nearest, also, .. } => {
                [vec![nearest], also].concat().into_iter().map(|f| f.change).collect()
            }
            other => panic!("{other:?}"),
        }
    }

    fn if_so(so: bool) -> Admission {
        if so { Admission::Lock } else { Admission::Wait }
    }

    #[test]
    fn the_least_change_that_does_is_found() {
        let members = |view: &View| if_so(view.party.as_ref().is_some_and(|party| party.members.len() >= 5));
        assert_eq!(changes(members, &case("wait", limits()))[0], "the party had 5 members; it has 2");
        let leases = |view: &View| if_so(view.semaphore.leases.len() < 2);
        let expected = "a were done and had given its slot back: 1 of 3 held, not 2";
        assert_eq!(changes(leases, &case("wait", limits()))[0], expected);
        let failures = |view: &View| if_so(view.progress.failed == 0);
        assert_eq!(changes(failures, &case("wait", limits())), ["no target had failed; 1 has"]);
    }

    #[test]
    fn of_time_it_is_found_to_the_second() {
        let later = |view: &View| if_so(view.now >= 1_000_000_000_000 + 5 * HOUR_MS + 1_234_000);
        let Nearest::Found { nearest, .. } = nearest(&Script(later), &case("wait", limits())) else { panic!("none") };
        let off = nearest.at.unwrap() - (1_000_000_000_000 + 5 * HOUR_MS + 1_234_000);
        assert!(off < 1000, "{off} ms late: {nearest:?}");
    }

    #[test]
    fn a_floor_that_refuses_what_the_policy_allows_is_met_by_members() {
        let limits = HardLimits { floor: Some(4), ..limits() };
        let found = changes(|_| Admission::Lock, &case("lock", limits));
        assert_eq!(found, ["the party had 4 members; it has 2", "the job's floor were 2; it is 4"]);
    }

    #[test]
    fn a_budget_that_is_spent_is_met_by_fewer_failures_or_a_larger_number() {
        let with = |stop_at, max_failed| HardLimits { budget: Budget { stop_at, max_failed }, ..limits() };
        let found = changes(|_| Admission::Lock, &case("lock", with(Some(1), None)));
        assert_eq!(found, ["no target had failed; 1 has", "the job's `stop-at` were 2; it is 1"]);
        let mut free = case("lock", with(None, Some(3)));
        (free.facts.in_flight, free.facts.reserved) = (1, 2);
        let found = changes(|_| Admission::Lock, &free);
        assert_eq!(found[1..], ["no target had failed; 1 has", "the job's `max-failed` were 4; it is 3"]);
        let mut canary = case("lock", with(Some(9), None));
        canary.facts.wave_spent = Some(WaveSpent { wave: "canary".to_owned(), failed: 1, stop_at: 1 });
        let found = changes(|_| Admission::Lock, &canary);
        let raised = "the `stop-at` of wave `canary` were 2; it is 1";
        assert_eq!(found, ["no target of wave `canary` had failed; 1 has", raised]);
    }

    #[test]
    fn what_takes_two_changes_is_found_in_pairs() {
        let both = |view: &View| {
            let members = view.party.as_ref().map_or(0, |party| party.members.len());
            if_so(members >= 3 && view.semaphore.leases.is_empty())
        };
        let found = changes(both, &case("wait", limits()));
        let expected =
            "the party had 3 members; it has 2, and a, b were done and had given their slots back: 0 of 3 held, not 2";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn nothing_is_invented() {
        let never = nearest(&Script(|_| Admission::Wait), &case("wait", limits()));
        assert!(matches!(never, Nearest::Nothing { tried } if tried > 100 && tried <= MOST_TRIED), "{never:?}");
        assert_eq!(nearest(&Script(|_| Admission::Lock), &case("lock", limits())), Nearest::Already);
        assert_eq!(nearest(&Script(|_| Admission::Lock), &case("wait", limits())), Nearest::Otherwise);
    }
}
