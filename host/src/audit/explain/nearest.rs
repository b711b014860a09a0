//! Finds the nearest situation in which a target would be admitted: it changes one fact at a time by the smallest
//! amount, asks the same policy and checks the same limits. Every change that it reports has been tried.

use crate::audit::explain::decision::Case;
use crate::audit::explain::situation::{Change, Fact, Situation};
use crate::policy::types::Admission;
use crate::rollout::driver::Decide;

/// Decisions of the policy for one explanation, at most. Pairs are tried within this limit.
const MOST_TRIED: u32 = 2_000;

/// Steps of each counted fact (members, leases and so on) that are tried one by one.
const MOST_STEPS: u64 = 32;

/// Later times that are tried, in seconds, besides those that the verdict and the limit name; after these, every hour
/// up to a week.
const SOONER: [u64; 5] = [1, 60, 300, 900, 1800];
const HOUR_MS: u64 = 3_600_000;
const HOURS: u64 = 7 * 24;

/// Changes of each fact that are combined with those of the others.
const IN_PAIRS: usize = 4;

/// Alternatives to the nearest change that are reported.
const MOST_ALSO: usize = 2;

/// A change after which the target would be admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counterfactual {
    /// The difference as a clause that follows "if".
    pub change: String,
    /// The policy's verdict after the change: `lock` or `force`.
    pub verdict: &'static str,
    /// The time from which it is admitted, if time alone is enough; in milliseconds since the Unix epoch.
    pub at: Option<u64>,
}

/// The result of the search.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nearest {
    /// The target would be admitted.
    Found {
        /// The smallest change.
        nearest: Counterfactual,
        /// Alternatives.
        also: Vec<Counterfactual>,
        /// Number of decisions that were evaluated.
        tried: u32,
    },
    /// No tried change is enough.
    Nothing {
        /// Number of decisions that were evaluated.
        tried: u32,
    },
    /// The target is admitted without a change: the cause is not among the recorded facts.
    Already,
    /// The policy does not repeat its recorded answer, so nothing can be concluded.
    Irreproducible,
}

/// Changes facts of a decision until the target is admitted. Asks the policy up to 2,000 times.
pub fn nearest<P: Decide>(policy: &P, case: &Case) -> Nearest {
    let mut trial = Trial { policy, settings: case.header.settings.to_string(), case, tried: 0 };
    let situation =
        Situation { view: case.recorded.view.clone(), facts: case.facts.clone(), limits: case.limits.clone() };
    let verdict = trial.verdict(&situation);
    if verdict != case.recorded.verdict.as_deref() && case.recorded.verdict.is_some() {
        return Nearest::Irreproducible;
    }
    if trial.admitted(&situation).is_some() {
        return Nearest::Already;
    }
    let changes = changes(case);
    let mut found = trial.singles(&situation, &changes);
    if found.is_empty() {
        found.extend(trial.pairs(&situation, &changes));
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

/// The changes of each fact that are tried, smallest first.
fn changes(case: &Case) -> Vec<Vec<Change>> {
    let view = &case.recorded.view;
    let steps = |fact: Fact, most: u64| (1..=most.min(MOST_STEPS)).map(|by| Change { fact, by }).collect::<Vec<_>>();
    let lists = [
        if view.party.is_some() { steps(Fact::Members, MOST_STEPS) } else { Vec::new() },
        steps(Fact::Leases, view.semaphore.leases.len() as u64),
        steps(Fact::Queued, queueing(case).into()),
        steps(Fact::Store, 1),
        steps(Fact::Paused, 1),
        steps(Fact::Unknown, 1),
        steps(Fact::Held, 1),
        steps(Fact::Wave, 1),
        later(case).into_iter().map(|by| Change { fact: Fact::Time, by }).collect(),
        steps(Fact::Failures, case.facts.failed.into()),
        later(case).into_iter().map(|by| Change { fact: Fact::Waited, by }).collect(),
        steps(Fact::Attempt, 3),
        steps(Fact::Slots, MOST_STEPS),
        steps(Fact::Floor, case.limits.floor.unwrap_or(0).into()),
        if case.facts.wave_spent.is_some() { steps(Fact::WaveStopAt, MOST_STEPS) } else { Vec::new() },
        if case.limits.budget.stop_at.is_some() { steps(Fact::StopAt, MOST_STEPS) } else { Vec::new() },
        if case.limits.budget.max_failed.is_some() { steps(Fact::MaxFailed, MOST_STEPS) } else { Vec::new() },
    ];
    let others = view.other_semaphores.iter().enumerate();
    let others = others.map(|(at, other)| steps(Fact::OtherLeases(at), other.leases.len() as u64));
    let parties = (0..view.other_parties.len()).map(|at| steps(Fact::OtherMembers(at), MOST_STEPS));
    lists.into_iter().chain(others).chain(parties).filter(|list| !list.is_empty()).collect()
}

/// Number of the run's other targets in flight without a lease.
fn queueing(case: &Case) -> u32 {
    let mine = case.recorded.view.semaphore.leases.iter().filter(|lease| lease.mine).count();
    case.facts.in_flight.saturating_sub(u32::try_from(mine).unwrap_or(u32::MAX))
}

/// Later times in milliseconds: those that the policy and the calendar name, and a ladder up to a week.
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
    fn verdict(&mut self, situation: &Situation) -> Option<&'static str> {
        self.tried += 1;
        let (view, memory, grants) = (&situation.view, &self.case.memory, self.case.header.grants());
        let decision = self.policy.admit(&self.settings, view, memory, grants);
        decision.answer.ok().map(|answer| answer.verdict.word())
    }

    /// The policy's verdict, if it and the limits admit the target.
    fn admitted(&mut self, situation: &Situation) -> Option<&'static str> {
        situation.limits.allow_one_more(&situation.facts).ok()?;
        let word = self.verdict(situation)?;
        let admits = [Admission::Lock.word(), Admission::Force(Vec::new()).word()];
        admits.contains(&word).then_some(word)
    }

    fn with(&mut self, situation: &Situation, changes: &[Change]) -> Option<Counterfactual> {
        let mut situation = situation.clone();
        let mut clauses = Vec::new();
        for change in changes {
            clauses.push(change.apply(&mut situation, &self.case.header.targets)?);
        }
        let verdict = self.admitted(&situation)?;
        let at = matches!(changes, [Change { fact: Fact::Time, .. }]).then_some(situation.view.now);
        Some(Counterfactual { change: clauses.join(", and "), verdict, at })
    }

    /// The smallest sufficient change of each fact, in the order in which people think of them; the smallest changes
    /// come first.
    fn singles(&mut self, situation: &Situation, lists: &[Vec<Change>]) -> Vec<Counterfactual> {
        let mut found = Vec::new();
        for list in lists {
            let mut before = 0;
            for change in list {
                if let Some(counterfactual) = self.with(situation, &[*change]) {
                    found.push(self.least(situation, before, *change, counterfactual));
                    break;
                }
                before = change.by;
            }
        }
        found.sort_by_key(|(change, _)| (cost(*change), change.fact));
        found.into_iter().map(|(_, counterfactual)| counterfactual).collect()
    }

    /// For times, narrows the change down to the second.
    fn least(
        &mut self,
        situation: &Situation,
        before: u64,
        change: Change,
        found: Counterfactual,
    ) -> (Change, Counterfactual) {
        let (mut low, mut best) = (before, (change, found));
        while matches!(change.fact, Fact::Time | Fact::Waited) && best.0.by - low > 1000 {
            let middle = Change { by: low + (best.0.by - low) / 2, ..change };
            match self.with(situation, &[middle]) {
                Some(found) => best = (middle, found),
                None => low = middle.by,
            }
        }
        best
    }

    fn pairs(&mut self, situation: &Situation, lists: &[Vec<Change>]) -> Option<Counterfactual> {
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
            if let Some(found) = self.with(situation, &pair) {
                return Some(found);
            }
        }
        None
    }
}

/// The first, the last and some in between.
fn spread(list: &[Change]) -> Vec<Change> {
    let last = list.len() - 1;
    let mut places: Vec<usize> = (0..IN_PAIRS).map(|part| last * part / (IN_PAIRS - 1)).collect();
    places.dedup();
    places.into_iter().map(|position| list[position]).collect()
}

/// The distance of a change from the facts. What happens by itself is near; what an operator has to decide is far.
fn cost(change: Change) -> u64 {
    match change.fact {
        Fact::Members
        | Fact::Leases
        | Fact::Queued
        | Fact::Store
        | Fact::Paused
        | Fact::Unknown
        | Fact::Held
        | Fact::Wave
        | Fact::OtherLeases(_)
        | Fact::OtherMembers(_) => change.by,
        Fact::Time => 1 + change.by / HOUR_MS,
        Fact::Failures => 2 + change.by,
        Fact::Waited => 3 + change.by / HOUR_MS,
        Fact::Attempt => 4 + change.by,
        Fact::Slots | Fact::Floor | Fact::WaveStopAt | Fact::StopAt | Fact::MaxFailed => 6 + change.by,
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

    /// A policy that answers with its function.
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
            unreachable!("these tests only ask `admit`")
        }
    }

    /// Two of three slots held, two of three members present, one of ten targets failed; with the policy's verdict.
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
    fn the_smallest_sufficient_change_is_found() {
        let members = |view: &View| if_so(view.party.as_ref().is_some_and(|party| party.members.len() >= 5));
        assert_eq!(changes(members, &case("wait", limits()))[0], "the party had 5 members; it has 2");
        let leases = |view: &View| if_so(view.semaphore.leases.len() < 2);
        let expected = "a had finished and released its slot: 1 of 3 held, not 2";
        assert_eq!(changes(leases, &case("wait", limits()))[0], expected);
        let failures = |view: &View| if_so(view.progress.failed == 0);
        assert_eq!(changes(failures, &case("wait", limits())), ["no target had failed; 1 has"]);
    }

    #[test]
    fn times_are_accurate_to_the_second() {
        let later = |view: &View| if_so(view.now >= 1_000_000_000_000 + 5 * HOUR_MS + 1_234_000);
        let Nearest::Found { nearest, .. } = nearest(&Script(later), &case("wait", limits())) else { panic!("none") };
        let off = nearest.at.unwrap() - (1_000_000_000_000 + 5 * HOUR_MS + 1_234_000);
        assert!(off < 1000, "{off} ms late: {nearest:?}");
    }

    #[test]
    fn a_floor_that_blocks_is_satisfied_by_more_members() {
        let limits = HardLimits { floor: Some(4), ..limits() };
        let found = changes(|_| Admission::Lock, &case("lock", limits));
        assert_eq!(found, ["the party had 4 members; it has 2", "the job's floor was 2; it is 4"]);
    }

    #[test]
    fn a_spent_budget_is_satisfied_by_fewer_failures_or_a_larger_number() {
        let with = |stop_at, max_failed| HardLimits { budget: Budget { stop_at, max_failed }, ..limits() };
        let found = changes(|_| Admission::Lock, &case("lock", with(Some(1), None)));
        assert_eq!(found, ["no target had failed; 1 has", "the job's `stop-at` was 2; it is 1"]);
        let mut free = case("lock", with(None, Some(3)));
        (free.facts.in_flight, free.facts.reserved) = (1, 2);
        let found = changes(|_| Admission::Lock, &free);
        assert_eq!(found[1..], ["no target had failed; 1 has", "the job's `max-failed` was 4; it is 3"]);
        let mut canary = case("lock", with(Some(9), None));
        canary.facts.wave_spent = Some(WaveSpent { wave: "canary".to_owned(), failed: 1, stop_at: 1 });
        let found = changes(|_| Admission::Lock, &canary);
        let raised = "the `stop-at` of wave `canary` was 2; it is 1";
        assert_eq!(found, ["no target of wave `canary` had failed; 1 has", raised]);
    }

    #[test]
    fn pairs_of_changes_are_found() {
        let both = |view: &View| {
            let members = view.party.as_ref().map_or(0, |party| party.members.len());
            if_so(members >= 3 && view.semaphore.leases.is_empty())
        };
        let found = changes(both, &case("wait", limits()));
        let expected =
            "the party had 3 members; it has 2, and a, b had finished and released their slots: 0 of 3 held, not 2";
        assert_eq!(found, [expected]);
    }

    #[test]
    fn no_change_is_reported_if_none_is_enough() {
        let never = nearest(&Script(|_| Admission::Wait), &case("wait", limits()));
        assert!(matches!(never, Nearest::Nothing { tried } if tried > 100 && tried <= MOST_TRIED), "{never:?}");
        assert_eq!(nearest(&Script(|_| Admission::Lock), &case("lock", limits())), Nearest::Already);
        assert_eq!(nearest(&Script(|_| Admission::Lock), &case("wait", limits())), Nearest::Irreproducible);
    }
}
