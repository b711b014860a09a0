//! The floor: which members of the party the targets are, how many would remain, and for how long that alone has kept the
//! run from going on. It is measured after every step, whatever the policy answers.

use std::collections::{HashMap, HashSet};

use super::{End, Gate, Refusal};
use crate::job::{Opening, PartyCounts, Target};
use crate::policy::types as contract;
use crate::rollout::machine::Rollout;
use crate::rollout::machine::rollout::{count, millis};
use crate::rollout::model::{Action, Floor, SeenMember};

/// The party as last read, and the targets that its members are.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// Which of `names` each target is; empty if the job has no party.
    of_target: Vec<usize>,
    /// The names that targets have in the party, each once.
    names: Vec<String>,
    /// The targets of each name: one, unless several targets share a member.
    targets: Vec<Vec<usize>>,
    by_name: HashMap<String, usize>,
    by_target: HashMap<String, usize>,
    /// Which of `names` are members now.
    is_here: Vec<bool>,
    members: Vec<SeenMember>,
    identifiers: HashSet<String>,
    /// What a policy is shown, unless targets share members.
    shown: Vec<contract::Member>,
    is_shared: bool,
    is_known: bool,
    /// A target was a member, or the run had begun before: the names fit.
    is_vouched: bool,
}

/// For how long the floor alone has kept the run from going on.
#[derive(Debug, Default)]
pub(super) struct FloorClock {
    /// Since when it has done so without a break, in milliseconds since the Unix epoch. `None` if it does not now.
    since_ms: Option<u64>,
    /// When a window closes, or a freeze begins: from then on it is not alone any more.
    until_ms: Option<u64>,
    /// For how long before that: something else, such as a pause, came between.
    before_ms: u64,
    /// When the clock alone ends what keeps the run from going on as well, in milliseconds since the Unix epoch.
    alone_at_ms: Option<u64>,
    /// Whether something of this runner's has been under way.
    has_begun: bool,
}

/// What the floor does to the run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FloorNow {
    /// It is met by a target that may go next, or something is under way.
    Met,
    /// It alone keeps every target from going: so many members would remain.
    Missed { remaining: u32, until_ms: Option<u64> },
    /// Something else keeps the run from going on as well, or who is in the party is not known.
    Beside { until_ms: Option<u64> },
}

/// A target that would be next.
#[derive(Debug, Clone, Copy)]
enum Next {
    /// To be acted on.
    Forward(usize),
    /// To be rolled back.
    Back(usize),
}

impl Next {
    fn target(self) -> usize {
        match self {
            Self::Forward(target) | Self::Back(target) => target,
        }
    }
}

impl Roster {
    pub(super) fn new(targets: &[Target], party: Option<&Floor>) -> Self {
        let mut roster = Self::default();
        let Some(party) = party else { return roster };
        for (index, target) in targets.iter().enumerate() {
            let name = party.member.member(target).expect("a target without a label of the template is refused before");
            let known = roster.names.len();
            let of = *roster.by_name.entry(name.clone()).or_insert(known);
            if of == known {
                roster.names.push(name);
                roster.targets.push(Vec::new());
            }
            roster.targets[of].push(index);
            roster.of_target.push(of);
            roster.by_target.insert(target.name.to_string(), index);
        }
        roster.is_shared = roster.targets.iter().any(|targets| targets.len() > 1);
        roster.is_here = vec![false; roster.names.len()];
        roster
    }

    /// Whether the members are those of now, as far as anybody can know.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    pub(super) fn forget(&mut self) {
        self.is_known = false;
    }

    /// The party was read. Whether anything is new.
    pub(super) fn read(&mut self, mut members: Vec<SeenMember>, targets: impl Fn(usize) -> String) -> bool {
        let was_known = std::mem::replace(&mut self.is_known, true);
        members.sort_by(|one, other| one.identifier.cmp(&other.identifier));
        members.dedup_by(|one, other| one.identifier == other.identifier);
        if was_known && self.members == members {
            return false;
        }
        self.identifiers = members.iter().map(|member| member.identifier.clone()).collect();
        self.is_here = self.names.iter().map(|name| self.identifiers.contains(name)).collect();
        self.vouch(self.is_here.contains(&true));
        self.members = members;
        self.shown = self.shown_by(|of| self.targets[of].first().map(|target| targets(*target)));
        true
    }

    pub(super) fn vouch(&mut self, names_fit: bool) {
        self.is_vouched |= names_fit;
    }

    /// How many members there are if they cannot be what the floor is to count: no target has been one.
    pub(super) fn strangers(&self, party: &Floor) -> Option<u32> {
        let is_strange = self.is_known && !self.is_vouched && party.counts == PartyCounts::Targets;
        Some(count(self.members.len())).filter(|members| is_strange && *members > 0)
    }

    /// Whether a target is a member now.
    pub(super) fn is_member(&self, target: usize) -> bool {
        self.of_target.get(target).is_some_and(|of| self.is_here[*of])
    }

    /// How many members remain without those that these targets are.
    pub(super) fn remaining(&self, leaving: impl Iterator<Item = usize>) -> u32 {
        let mut leaving: Vec<usize> =
            leaving.filter(|target| self.is_member(*target)).map(|target| self.of_target[target]).collect();
        leaving.sort_unstable();
        leaving.dedup();
        count(self.members.len()).saturating_sub(count(leaving.len()))
    }

    /// Whether both are one member.
    pub(super) fn is_same(&self, target: usize, other: usize) -> bool {
        self.is_shared && self.of_target.get(target) == self.of_target.get(other)
    }

    /// Whether a lease's holder is a member. `None` if the party does not say: it counts other machines than the targets.
    pub(super) fn is_alive(&self, party: &Floor, identifier: &str) -> Option<bool> {
        let target = self.by_target.get(identifier);
        let of_target = target.is_some_and(|target| self.is_member(*target));
        // Another tool calls its host as we would call a target.
        let named = || party.member.member_named(identifier).is_some_and(|name| self.identifiers.contains(&name));
        if of_target || self.identifiers.contains(identifier) || named() {
            return Some(true);
        }
        match (target, party.counts) {
            (Some(_), PartyCounts::Others) => None,
            _ => Some(false),
        }
    }

    /// The members as a policy sees them: a target's member has the target's name, so that the policy can compare the two.
    /// A member that several targets share has the name of the one that is asked about, else of one that holds a slot.
    fn shown(
        &self,
        about: usize,
        holds: impl Fn(usize) -> bool,
        name: impl Fn(usize) -> String,
    ) -> Vec<contract::Member> {
        if !self.is_shared {
            return self.shown.clone();
        }
        self.shown_by(|of| {
            let targets = &self.targets[of];
            let asked = targets.iter().find(|target| **target == about);
            let held = || targets.iter().find(|target| holds(**target));
            asked.or_else(held).or(targets.first()).map(|target| name(*target))
        })
    }

    fn shown_by(&self, name: impl Fn(usize) -> Option<String>) -> Vec<contract::Member> {
        let shown = |member: &SeenMember| {
            let target = self.by_name.get(&member.identifier).and_then(|of| name(*of));
            // No two members of one name: they are counted.
            let target = target.filter(|target| !self.identifiers.contains(target));
            let identifier = target.unwrap_or_else(|| member.identifier.clone());
            contract::Member { identifier, since: member.since_ms }
        };
        let mut members: Vec<contract::Member> = self.members.iter().map(shown).collect();
        members.sort_by(|one, other| one.identifier.cmp(&other.identifier));
        members
    }
}

impl FloorClock {
    /// The wall clock was set.
    pub(super) fn shift(&mut self, shift: impl Fn(u64) -> u64) {
        self.since_ms = self.since_ms.map(shift);
        // They are times of day, and are looked up anew with the next measurement.
        (self.until_ms, self.alone_at_ms) = (None, None);
    }

    fn measure(&mut self, now_ms: u64, floor: FloorNow) {
        self.alone_at_ms = None;
        match floor {
            FloorNow::Met => (self.since_ms, self.before_ms) = (None, 0),
            FloorNow::Missed { until_ms, .. } => {
                self.since_ms.get_or_insert(now_ms);
                self.until_ms = until_ms;
            }
            FloorNow::Beside { until_ms } => {
                self.alone_at_ms = until_ms;
                let since_ms = self.since_ms.take().unwrap_or(now_ms);
                let ended_ms = self.until_ms.take().map_or(now_ms, |until_ms| until_ms.min(now_ms));
                self.before_ms = self.before_ms.saturating_add(ended_ms.saturating_sub(since_ms));
            }
        }
    }

    /// When the run's patience with its floor ends, in milliseconds since the Unix epoch.
    fn deadline(&self, party: &Floor) -> Option<u64> {
        let since_ms = self.since_ms?;
        if !party.blocking && !self.has_begun {
            return Some(since_ms);
        }
        Some(since_ms.saturating_add(millis(party.patience?).saturating_sub(self.before_ms)))
    }
}

impl Rollout {
    /// When the floor is to be measured though nothing happens, in milliseconds since the Unix epoch.
    pub(super) fn floor_wake_ms(&self) -> Option<u64> {
        self.floor.deadline(self.setup.party.as_ref()?).or(self.floor.alone_at_ms)
    }

    /// The party as a policy sees it that is asked about a target.
    pub(super) fn party_view(&self, about: usize) -> Option<contract::Party> {
        let party = self.setup.party.as_ref()?;
        let holds = |target: usize| self.slots[target].lease.is_some();
        Some(contract::Party {
            path: party.path.clone(),
            min_members: self.setup.limits.floor.unwrap_or(0),
            members: self.roster.shown(about, holds, |target| self.name(target)),
        })
    }

    /// Measures the floor, and ends the run if that alone has kept it from going on for too long.
    pub(super) fn measure_floor(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        let Some(party) = self.setup.party.as_ref() else { return };
        let floor = self.floor_now(now_ms);
        self.floor.has_begun |= !self.in_flight.is_empty();
        self.floor.measure(now_ms, floor);
        let FloorNow::Missed { remaining, .. } = floor else { return };
        if self.floor.deadline(party).is_none_or(|deadline| deadline > now_ms) {
            return;
        }
        let lasted = match (party.blocking || self.floor.has_begun, party.patience) {
            (true, Some(patience)) => format!("stayed below its floor for {}", humantime::format_duration(patience)),
            _ => "is below its floor".to_owned(),
        };
        let (path, floor) = (&party.path, self.setup.limits.floor.unwrap_or(0));
        let why = match self.roster.strangers(party) {
            Some(members) => Refusal::Strangers { members }.to_string(),
            None => format!("{remaining} of `{path}` would remain, the floor is {floor}"),
        };
        let reason = format!("the party {lasted}: {why}");
        self.cut_short(End::FloorMissed(reason), out);
    }

    /// Whether a member goes with a target that starts now: not if the target is none, or shares one with a target that is
    /// under way.
    pub(super) fn takes_a_member(&self, target: usize) -> bool {
        let is_taken = || self.in_flight.iter().any(|other| *other != target && self.roster.is_same(target, *other));
        self.roster.is_member(target) && !is_taken()
    }

    fn floor_now(&self, now_ms: u64) -> FloorNow {
        let Some(floor) = self.setup.limits.floor else { return FloorNow::Met };
        if !self.in_flight.is_empty() || (self.ending.is_some() && !self.undoing) {
            return FloorNow::Met;
        }
        if !self.roster.is_known {
            return FloorNow::Beside { until_ms: None };
        }
        let are_strangers = self.setup.party.as_ref().is_some_and(|party| self.roster.strangers(party).is_some());
        if count(self.roster.members.len()) > floor && !are_strangers {
            // Whoever may go next, and though nobody may.
            return FloorNow::Met;
        }
        let next = [self.next_to_go(floor).map(Next::Forward), self.next_undone().map(Next::Back)];
        let next: Vec<Next> = next.into_iter().flatten().collect();
        if next.is_empty() {
            return FloorNow::Beside { until_ms: None };
        }
        let remaining = |next: &Next| match are_strangers {
            true => 0,
            false => self.roster.remaining(std::iter::once(next.target())),
        };
        let most = next.iter().map(remaining).max().unwrap_or(0);
        if most >= floor {
            return FloorNow::Met;
        }
        for next in next {
            let refusal = match next {
                Next::Back(target) if self.is_undone_but_for_floor(target) => continue,
                Next::Forward(target) if self.can_ask() => self.may(now_ms, Gate::Queue, target).err(),
                Next::Back(_) | Next::Forward(_) => None,
            };
            match refusal.map(|refused| refused.refusal) {
                Some(Refusal::Floor { .. } | Refusal::Strangers { .. }) => {}
                other => return FloorNow::Beside { until_ms: other.and_then(|refusal| refusal.changes_ms()) },
            }
        }
        let until_ms = match self.setup.limits.calendar.at(now_ms) {
            Opening::Open { until_ms, .. } => until_ms,
            Opening::Shut { .. } => None,
        };
        FloorNow::Missed { remaining: most, until_ms }
    }

    /// Of the targets that are next by their waves, one for which most members would remain. While nothing is under way,
    /// all of them are alike but for whether they are members themselves.
    fn next_to_go(&self, floor: u32) -> Option<usize> {
        if self.ending.is_some() {
            return None;
        }
        // Another holder keeps those back, whatever the party is.
        let held: HashSet<&str> = self.others.iter().flatten().map(|lease| lease.identifier.as_str()).collect();
        let is_next = |target: &usize| {
            let slot = &self.slots[*target];
            slot.state.is_open() && self.invited.is(*target) && !held.contains(slot.target.name.as_str())
        };
        let mut next = self.targets_in_turn().filter(is_next);
        let first = next.next()?;
        let differs = self.roster.members.len() == floor as usize && self.roster.is_member(first);
        let absent = if differs { next.find(|target| !self.roster.is_member(*target)) } else { None };
        Some(absent.unwrap_or(first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{MemberTemplate, TargetName, Template};

    fn floor(member: &str, counts: PartyCounts) -> Floor {
        let member = MemberTemplate::new(Template::parse(member).unwrap()).unwrap();
        Floor { path: "/p".to_owned(), blocking: true, patience: None, member, counts }
    }

    fn target(name: &str, host: &str) -> Target {
        let labels = [("host".to_owned(), host.to_owned())].into_iter().collect();
        Target { name: TargetName::parse(name).unwrap(), labels }
    }

    fn roster(party: &Floor, targets: &[Target], members: &[&str]) -> Roster {
        let mut roster = Roster::new(targets, Some(party));
        let seen = |name: &&str| SeenMember { identifier: (*name).to_owned(), since_ms: 1 };
        assert!(roster.read(members.iter().map(seen).collect(), |index| targets[index].name.to_string()));
        roster
    }

    fn names(members: &[contract::Member]) -> Vec<&str> {
        members.iter().map(|member| member.identifier.as_str()).collect()
    }

    #[test]
    fn a_member_has_the_name_of_its_target() {
        let targets = [target("web01", "h1"), target("web02", "h2")];
        let party = floor("{target}.example.com", PartyCounts::Targets);
        let roster = roster(&party, &targets, &["db1.example.com", "web01.example.com", "web02.example.com"]);
        assert_eq!(names(&roster.shown), ["db1.example.com", "web01", "web02"]);
        assert_eq!((roster.remaining([0].into_iter()), roster.remaining([0, 1, 1].into_iter())), (2, 1));
        let alive = |identifier: &str| roster.is_alive(&party, identifier);
        assert_eq!([alive("web01"), alive("db1"), alive("db1.example.com")], [Some(true); 3]);
        assert_eq!(alive("db2"), Some(false));
    }

    #[test]
    fn who_is_there_twice_counts_once() {
        let targets = [target("a", "h1"), target("b", "h2")];
        let party = floor("{target}", PartyCounts::Targets);
        let roster = roster(&party, &targets, &["a", "a", "b"]);
        assert_eq!((names(&roster.shown), roster.remaining([1].into_iter())), (vec!["a", "b"], 1));
    }

    #[test]
    fn a_name_that_another_member_has_is_not_given_twice() {
        let targets = [target("web01", "h1")];
        let roster = roster(&floor("{target}.x", PartyCounts::Targets), &targets, &["web01", "web01.x"]);
        assert_eq!((names(&roster.shown), roster.remaining([0].into_iter())), (vec!["web01", "web01.x"], 1));
    }

    #[test]
    fn targets_on_one_host_are_one_member() {
        let targets = [target("app-a", "h1"), target("app-b", "h1"), target("app-c", "h2")];
        let roster = roster(&floor("{label.host}", PartyCounts::Targets), &targets, &["h1", "h2"]);
        assert_eq!(roster.remaining([0, 1].into_iter()), 1);
        let name = |index: usize| targets[index].name.to_string();
        assert_eq!(names(&roster.shown(1, |_| false, name)), ["app-b", "app-c"]);
        assert_eq!(names(&roster.shown(2, |target| target == 1, name)), ["app-b", "app-c"]);
        assert_eq!(names(&roster.shown(2, |_| false, name)), ["app-a", "app-c"]);
        assert!(roster.is_same(0, 1) && !roster.is_same(0, 2));
    }

    #[test]
    fn a_party_of_other_machines_does_not_say_that_a_target_is_dead() {
        let targets = [target("web01", "h1")];
        let party = floor("{target}", PartyCounts::Others);
        let roster = roster(&party, &targets, &["db1"]);
        let alive = |identifier: &str| roster.is_alive(&party, identifier);
        assert_eq!((alive("web01"), alive("db1"), alive("db2")), (None, Some(true), Some(false)));
    }
}
