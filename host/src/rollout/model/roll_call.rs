//! Whether a job's targets are members of its party. A floor that counts members of other names protects no target, and no
//! other check notices that.

use std::collections::{BTreeSet, HashSet};

use crate::job::{MissingLabel, PartyCounts, PartySpec, Target};
use lockkeeper_coordination::recipe::Member;
use lockkeeper_coordination::store::NodePath;

/// How many targets' names the search for a template uses.
const TARGETS_SEARCHED: usize = 20;

/// How many templates it tries at most, against every target: a short name is a part of many members'.
const TEMPLATES_TRIED: usize = 200;

/// How many names a message lists.
const NAMES_SHOWN: usize = 2;

/// The targets of a job, compared with the members of its party.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RollCall {
    /// The party's path.
    pub path: NodePath,
    /// The members' identifiers.
    pub members: Vec<String>,
    /// Each target, and its name as a member.
    pub targets: Vec<(String, String)>,
    /// The targets that are not members now, by their names.
    pub absent: Vec<String>,
}

/// What does not fit between targets and members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mismatch {
    /// No target is a member: the floor would count other machines.
    NoTarget {
        /// The mistake in one sentence.
        message: String,
        /// What to write instead.
        help: String,
    },
    /// Some targets are not members.
    SomeAbsent {
        /// How many, and two of them.
        message: String,
    },
}

impl RollCall {
    /// Looks for each target among the members.
    ///
    /// # Errors
    /// [`MissingLabel`], for a target whose labels were not known when the job was checked.
    pub fn new(party: &PartySpec, targets: &[Target], members: &[Member]) -> Result<Self, MissingLabel> {
        let here: HashSet<&str> = members.iter().map(|member| member.identifier.as_str()).collect();
        let named = |target: &Target| Ok((target.name.to_string(), party.member.member(target)?));
        let targets = targets.iter().map(named).collect::<Result<Vec<_>, _>>()?;
        let is_absent = |(_, member): &&(String, String)| !here.contains(member.as_str());
        Ok(Self {
            path: party.path.clone(),
            members: members.iter().map(|member| member.identifier.clone()).collect(),
            absent: targets.iter().filter(is_absent).map(|(target, _)| target.clone()).collect(),
            targets,
        })
    }

    /// What does not fit. `None` if every target is a member, if the party is empty, or if the floor counts other machines.
    #[must_use]
    pub fn mismatch(&self, counts: PartyCounts) -> Option<Mismatch> {
        let (total, absent) = (self.targets.len(), self.absent.len());
        if counts == PartyCounts::Others || self.members.is_empty() || absent == 0 {
            return None;
        }
        let path = &self.path;
        if absent < total {
            let are = if absent == 1 { "is no member" } else { "are no members" };
            let names = listed(&self.absent);
            return Some(Mismatch::SomeAbsent {
                message: format!("{absent} of {total} targets {are} of the party `{path}`: {names}"),
            });
        }
        let called = |(target, member): &(String, String)| match target == member {
            true => target.clone(),
            false => format!("{target}` as `{member}"),
        };
        let targets: Vec<String> = self.targets.iter().map(called).collect();
        let message = format!(
            "no target is a member of the party `{path}`, so that its floor would protect none: the members are {}, the \
             targets {}",
            listed(&self.members),
            listed(&targets)
        );
        let template = self.template().unwrap_or_else(|| "{label.member}".to_owned());
        let labels = if template.contains("{label.") { ", and give each target that label" } else { "" };
        let help = format!(
            "say what a target is called in the party: `member = \"{template}\"` in `[party]`{labels}; if the floor is \
             meant to count other machines: `counts = \"others\"`"
        );
        Some(Mismatch::NoTarget { message, help })
    }

    /// A template by which most targets would be members, if each member's name only has something around the target's.
    fn template(&self) -> Option<String> {
        let members: HashSet<&str> = self.members.iter().map(String::as_str).collect();
        let around: BTreeSet<(&str, &str)> = self
            .targets
            .iter()
            .take(TARGETS_SEARCHED)
            .flat_map(|(target, _)| self.members.iter().filter_map(|member| member.split_once(target.as_str())))
            .take(TEMPLATES_TRIED)
            .collect();
        let fits = |(before, after): &(&str, &str)| {
            let is_member =
                |(target, _): &&(String, String)| members.contains(format!("{before}{target}{after}").as_str());
            self.targets.iter().filter(is_member).count()
        };
        let (before, after) = around.into_iter().max_by_key(fits)?;
        let literal = |text: &str| text.replace('{', "{{").replace('}', "}}");
        Some(format!("{}{{target}}{}", literal(before), literal(after)))
    }
}

/// Two of the names, and how many there are beside.
fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(NAMES_SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown.join(" and "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Limit, MemberTemplate, TargetName, Template};

    fn mismatch_of(template: &str, targets: &[&str], members: &[&str], counts: PartyCounts) -> Option<Mismatch> {
        let party = PartySpec {
            path: NodePath::parse("/party/web").unwrap(),
            min_nodes: Limit::Count(3),
            blocking: true,
            timeout: None,
            member: MemberTemplate::new(Template::parse(template).unwrap()).unwrap(),
            counts,
        };
        let targets: Vec<Target> =
            targets.iter().map(|name| Target::unlabelled(TargetName::parse(name).unwrap())).collect();
        let member = |name: &&str| Member { identifier: (*name).to_owned(), since_ms: 1, fence: 1 };
        let members: Vec<Member> = members.iter().map(member).collect();
        RollCall::new(&party, &targets, &members).unwrap().mismatch(counts)
    }

    fn help_of(targets: &[&str], members: &[&str]) -> String {
        match mismatch_of("{target}", targets, members, PartyCounts::Targets) {
            Some(Mismatch::NoTarget { help, .. }) => help,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_party_of_strangers_is_refused_with_two_names_of_each() {
        let targets = ["web01.example.com", "web02.example.com", "web03.example.com"];
        let refused = mismatch_of("{target}", &targets, &["web01", "web02"], PartyCounts::Targets);
        let Some(Mismatch::NoTarget { message, help }) = refused else { panic!("{refused:?}") };
        assert_eq!(
            message,
            "no target is a member of the party `/party/web`, so that its floor would protect none: the members are `web01` \
             and `web02`, the targets `web01.example.com`, `web02.example.com` and 1 more"
        );
        assert_eq!(
            help,
            "say what a target is called in the party: `member = \"{label.member}\"` in `[party]`, and give each target \
             that label; if the floor is meant to count other machines: `counts = \"others\"`"
        );
        let renamed = mismatch_of("{target}.x", &["a"], &["b"], PartyCounts::Targets);
        assert!(
            matches!(renamed, Some(Mismatch::NoTarget { message, .. }) if message.ends_with("the targets `a` as `a.x`"))
        );
    }

    #[test]
    fn a_template_by_which_targets_would_be_members_is_offered() {
        assert!(help_of(&["web1", "web2"], &["web1.x", "web2.x", "db.x"]).contains("`member = \"{target}.x\"`"));
        assert!(help_of(&["1", "21"], &["web-21-x", "web-1-x"]).contains("`member = \"web-{target}-x\"`"));
        assert!(help_of(&["a"], &["{a}"]).contains("`member = \"{{{target}}}\"`"));
        // No template takes a part of a name away, or changes its case.
        assert!(help_of(&["WEB1"], &["web1"]).contains("{label.member}"));
    }

    #[test]
    fn some_who_are_absent_are_told_and_nobody_in_a_party_is_not() {
        let some = mismatch_of("{target}", &["a", "b", "c", "d"], &["b", "x"], PartyCounts::Targets);
        let message = "3 of 4 targets are no members of the party `/party/web`: `a`, `c` and 1 more".to_owned();
        assert_eq!(some, Some(Mismatch::SomeAbsent { message }));
        assert_eq!(mismatch_of("{target}", &["a", "b"], &[], PartyCounts::Targets), None);
        assert_eq!(mismatch_of("{target}.x", &["a"], &["a.x", "b"], PartyCounts::Targets), None);
        for members in [["a", "x"], ["y", "x"]] {
            assert_eq!(mismatch_of("{target}", &["a", "b"], &members, PartyCounts::Others), None);
        }
    }
}
