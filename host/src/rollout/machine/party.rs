//! The party as last read, and which of its members the targets are.

use std::collections::{HashMap, HashSet};

use crate::job::{PartyCounts, Target};
use crate::policy::types as contract;
use crate::rollout::machine::rollout::count;
use crate::rollout::model::{Floor, SeenMember, TargetIndex};

/// The party as last read, and the targets that its members are.
#[derive(Debug, Default)]
pub(super) struct Roster {
    /// The position in `names` of each target's name; empty if the job has no party.
    of_target: Vec<usize>,
    /// The names that targets have in the party, each once.
    names: Vec<String>,
    /// The targets of each name: one, unless several targets share a member.
    targets: Vec<Vec<TargetIndex>>,
    by_name: HashMap<String, usize>,
    by_target: HashMap<String, TargetIndex>,
    /// Whether each of `names` is a member now.
    is_here: Vec<bool>,
    members: Vec<SeenMember>,
    identifiers: HashSet<String>,
    /// The members that a policy sees, unless targets share members.
    shown: Vec<contract::Member>,
    is_shared: bool,
    is_known: bool,
    /// A target was a member, or the run had started before: the names fit.
    is_vouched: bool,
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
            roster.targets[of].push(TargetIndex::new(index));
            roster.of_target.push(of);
            roster.by_target.insert(target.name.to_string(), TargetIndex::new(index));
        }
        roster.is_shared = roster.targets.iter().any(|targets| targets.len() > 1);
        roster.is_here = vec![false; roster.names.len()];
        roster
    }

    /// Whether the members are known: read since the session began, and readable since.
    pub(super) fn is_known(&self) -> bool {
        self.is_known
    }

    /// The members are not known until the next reading.
    pub(super) fn forget(&mut self) {
        self.is_known = false;
    }

    /// Takes a reading over. Whether anything is new.
    pub(super) fn read(&mut self, mut members: Vec<SeenMember>, targets: impl Fn(TargetIndex) -> String) -> bool {
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

    /// The names are known to fit, if they do.
    pub(super) fn vouch(&mut self, names_fit: bool) {
        self.is_vouched |= names_fit;
    }

    /// The number of members if none of them can be what the floor counts, because no target has been a member. `None` if not.
    pub(super) fn strangers(&self, party: &Floor) -> Option<u32> {
        let is_strange = self.is_known && !self.is_vouched && party.counts == PartyCounts::Targets;
        Some(count(self.members.len())).filter(|members| is_strange && *members > 0)
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether a target is a member now.
    pub(super) fn is_member(&self, target: TargetIndex) -> bool {
        self.of_target.get(target.get()).is_some_and(|of| self.is_here[*of])
    }

    /// How many members remain without those that these targets are.
    pub(super) fn remaining(&self, leaving: impl Iterator<Item = TargetIndex>) -> u32 {
        let mut leaving: Vec<usize> =
            leaving.filter(|target| self.is_member(*target)).map(|target| self.of_target[target.get()]).collect();
        leaving.sort_unstable();
        leaving.dedup();
        count(self.members.len()).saturating_sub(count(leaving.len()))
    }

    /// Whether two targets are one member.
    pub(super) fn is_same(&self, target: TargetIndex, other: TargetIndex) -> bool {
        self.is_shared && self.of_target.get(target.get()) == self.of_target.get(other.get())
    }

    /// Whether a lease's holder is a member. `None` if the party does not say: it counts other machines than the targets.
    pub(super) fn is_alive(&self, party: &Floor, identifier: &str) -> Option<bool> {
        let target = self.by_target.get(identifier);
        let of_target = target.is_some_and(|target| self.is_member(*target));
        // Another tool's identifier may be what the template makes of a target's name.
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
    /// A member that several targets share has the name of the target `subject`, if it is one of them, else of one that holds a
    /// slot.
    pub(super) fn shown(
        &self,
        subject: TargetIndex,
        holds: impl Fn(TargetIndex) -> bool,
        name: impl Fn(TargetIndex) -> String,
    ) -> Vec<contract::Member> {
        if !self.is_shared {
            return self.shown.clone();
        }
        self.shown_by(|of| {
            let targets = &self.targets[of];
            let about = targets.iter().find(|target| **target == subject);
            let held = || targets.iter().find(|target| holds(**target));
            about.or_else(held).or(targets.first()).map(|target| name(*target))
        })
    }

    fn shown_by(&self, name: impl Fn(usize) -> Option<String>) -> Vec<contract::Member> {
        let shown = |member: &SeenMember| {
            let target = self.by_name.get(&member.identifier).and_then(|of| name(*of));
            // No two members get one name: the policy counts them.
            let target = target.filter(|target| !self.identifiers.contains(target));
            let identifier = target.unwrap_or_else(|| member.identifier.clone());
            contract::Member { identifier, since: member.since_ms }
        };
        let mut members: Vec<contract::Member> = self.members.iter().map(shown).collect();
        members.sort_by(|one, other| one.identifier.cmp(&other.identifier));
        members
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
        assert!(roster.read(members.iter().map(seen).collect(), |index| targets[index.get()].name.to_string()));
        roster
    }

    fn at(index: usize) -> TargetIndex {
        TargetIndex::new(index)
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
        assert_eq!((roster.remaining([at(0)].into_iter()), roster.remaining([0, 1, 1].map(at).into_iter())), (2, 1));
        let alive = |identifier: &str| roster.is_alive(&party, identifier);
        assert_eq!([alive("web01"), alive("db1"), alive("db1.example.com")], [Some(true); 3]);
        assert_eq!(alive("db2"), Some(false));
    }

    #[test]
    fn a_member_that_is_listed_twice_counts_once() {
        let targets = [target("a", "h1"), target("b", "h2")];
        let party = floor("{target}", PartyCounts::Targets);
        let roster = roster(&party, &targets, &["a", "a", "b"]);
        assert_eq!((names(&roster.shown), roster.remaining([at(1)].into_iter())), (vec!["a", "b"], 1));
    }

    #[test]
    fn a_name_that_another_member_has_is_not_given_twice() {
        let targets = [target("web01", "h1")];
        let roster = roster(&floor("{target}.x", PartyCounts::Targets), &targets, &["web01", "web01.x"]);
        assert_eq!((names(&roster.shown), roster.remaining([at(0)].into_iter())), (vec!["web01", "web01.x"], 1));
    }

    #[test]
    fn targets_on_one_host_are_one_member() {
        let targets = [target("app-a", "h1"), target("app-b", "h1"), target("app-c", "h2")];
        let roster = roster(&floor("{label.host}", PartyCounts::Targets), &targets, &["h1", "h2"]);
        assert_eq!(roster.remaining([0, 1].map(at).into_iter()), 1);
        let name = |index: TargetIndex| targets[index.get()].name.to_string();
        assert_eq!(names(&roster.shown(at(1), |_| false, name)), ["app-b", "app-c"]);
        assert_eq!(names(&roster.shown(at(2), |target| target == at(1), name)), ["app-b", "app-c"]);
        assert_eq!(names(&roster.shown(at(2), |_| false, name)), ["app-a", "app-c"]);
        assert!(roster.is_same(at(0), at(1)) && !roster.is_same(at(0), at(2)));
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
