//! Targets as they are listed, wherever that is: each host once, in one spelling, and not too many.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::name::{Labels, Target, TargetName};
use super::pattern::NamePattern;
use lockkeeper_locks::toml_reader::{At, Report, quote};

/// The most targets of one job: a range that stands for more is probably a slip.
pub const MAX_TARGETS: usize = 100_000;

/// Targets in the order in which they are listed; `P` is where each stands.
#[derive(Debug)]
pub(super) struct TargetList<P> {
    targets: Vec<Target>,
    /// By what all spellings of a host have in common: which target it is, and where it stands.
    listed: HashMap<String, (usize, P)>,
    is_full: bool,
}

/// Why a target is not added to a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotAdded<'a, P> {
    /// The list has that name; where it stands.
    Twice(&'a P),
    /// The list has the same host under another spelling; where that stands.
    SameHost(&'a TargetName, &'a P),
    /// The list has [`MAX_TARGETS`].
    TooMany,
}

impl<P> Default for TargetList<P> {
    fn default() -> Self {
        Self { targets: Vec::new(), listed: HashMap::new(), is_full: false }
    }
}

impl<P> TargetList<P> {
    /// Adds a target that stands at `place`.
    ///
    /// # Errors
    /// [`NotAdded`]: then the list is as it was.
    pub(super) fn add(&mut self, target: Target, place: P) -> Result<(), NotAdded<'_, P>> {
        let is_full = self.targets.len() >= MAX_TARGETS;
        match self.listed.entry(target.name.host_key()) {
            Entry::Occupied(entry) => {
                let (index, first) = entry.into_mut();
                let listed = &self.targets[*index].name;
                Err(if *listed == target.name { NotAdded::Twice(first) } else { NotAdded::SameHost(listed, first) })
            }
            Entry::Vacant(_) if is_full => Err(NotAdded::TooMany),
            Entry::Vacant(entry) => {
                entry.insert((self.targets.len(), place));
                self.targets.push(target);
                Ok(())
            }
        }
    }

    /// The targets.
    #[must_use]
    pub(super) fn into_targets(self) -> Vec<Target> {
        self.targets
    }
}

impl TargetList<At> {
    /// Adds each name that a pattern stands for, with the same labels; complains, at most once, of one that it cannot add.
    pub(super) fn add_all(&mut self, pattern: &NamePattern, labels: &Labels, at: &At, report: &mut Report) {
        let room = u64::try_from(MAX_TARGETS.saturating_sub(self.targets.len())).unwrap_or(u64::MAX);
        if pattern.count() > room {
            // Of a list that is too long it is said once.
            if !std::mem::replace(&mut self.is_full, true) {
                complain_of_too_many(pattern, at, report);
            }
            return;
        }
        for name in pattern.names() {
            let name = match name {
                Ok(name) => name,
                Err(error) => {
                    let message =
                        format!("{} stands for something that is not a host name: {error}", quote(pattern.as_str()));
                    report.complain(at, message);
                    return;
                }
            };
            let target = Target { name: name.clone(), labels: labels.clone() };
            let (message, first) = match self.add(target, at.clone()) {
                Ok(()) => continue,
                Err(NotAdded::Twice(first)) => (format!("target `{name}` is listed twice"), first.clone()),
                Err(NotAdded::SameHost(other, first)) => (same_host("targets", other, &name), first.clone()),
                Err(NotAdded::TooMany) => return complain_of_too_many(pattern, at, report),
            };
            let place = report.place_of(&first);
            report
                .complain(at, message)
                .help(format!("it is listed at line {}, column {} already", place.line, place.column))
                .other(first.span, "listed first");
            return;
        }
    }
}

/// That two names are of one host; `what` they are, such as `targets`.
pub(super) fn same_host(what: &str, first: &TargetName, second: &TargetName) -> String {
    let plain = |name: &TargetName| name.as_str().replace(['.'], "").to_lowercase();
    let why = match plain(first) == plain(second) {
        true => "their names differ only in case or a trailing dot",
        false => "they are spellings of one address",
    };
    format!("{what} `{first}` and `{second}` are the same host: {why}")
}

fn complain_of_too_many(pattern: &NamePattern, at: &At, report: &mut Report) {
    let message = match pattern.count() {
        1 => format!("a job has at most {MAX_TARGETS} targets"),
        u64::MAX => format!("{} stands for more than {MAX_TARGETS} names", quote(pattern.as_str())),
        count => {
            format!("{} stands for {count} names; a job has at most {MAX_TARGETS} targets", quote(pattern.as_str()))
        }
    };
    report.complain(at, message).help("a shorter range, or several jobs");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str) -> Target {
        Target::unlabelled(TargetName::parse(name).unwrap())
    }

    #[test]
    fn a_host_is_listed_once_in_one_spelling() {
        let mut list = TargetList::default();
        for (place, name) in ["web01", "web1", "web01:22", "::1"].into_iter().enumerate() {
            list.add(target(name), place).unwrap();
        }
        assert_eq!(list.add(target("web1"), 9), Err(NotAdded::Twice(&1)));
        assert_eq!(list.add(target("WEB01."), 9), Err(NotAdded::SameHost(&target("web01").name, &0)));
        assert_eq!(list.add(target("[0::1]"), 9), Err(NotAdded::SameHost(&target("::1").name, &3)));
        let names: Vec<_> = list.into_targets().into_iter().map(|target| target.name.to_string()).collect();
        assert_eq!(names, ["web01", "web1", "web01:22", "::1"]);
    }

    #[test]
    fn what_two_spellings_differ_in_is_said() {
        for (first, second, why) in [
            ("web01", "WEB01.", "their names differ only in case or a trailing dot"),
            ("::1", "[0::1]", "they are spellings of one address"),
        ] {
            let message = same_host("targets", &target(first).name, &target(second).name);
            assert_eq!(message, format!("targets `{first}` and `{second}` are the same host: {why}"));
        }
    }

    #[test]
    fn a_list_has_an_end() {
        let mut list = TargetList::default();
        for number in 0..MAX_TARGETS {
            list.add(target(&format!("h{number}")), ()).unwrap();
        }
        assert_eq!(list.add(target("h1"), ()), Err(NotAdded::Twice(&())));
        assert_eq!(list.add(target("one-more"), ()), Err(NotAdded::TooMany));
    }
}
