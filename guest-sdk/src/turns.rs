//! Whom a policy has let go.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{EventKind, View};

/// A target that was told `lock` and still holds no slot after this long no longer counts: if it queues it is asked
/// once more anyway before it starts, and if it does not nobody should wait for it.
const PATIENCE_MS: u64 = 60_000;

/// The targets that a policy told `lock`, with a note each: what it must know of the others, since a view shows no
/// target's labels but its own.
///
/// Kept in [`crate::Memory`], and held against the view at each decision by [`Turns::reconcile`]: what counts is who
/// holds a lease of this rollout, so an entry whose grant was refused, withdrawn, skipped or settled does not linger.
/// An entry takes some 30 bytes and its name and note: memory has room for about a thousand.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Turns(BTreeMap<String, Turn>);

/// One target's turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Turn {
    /// What the policy noted.
    #[serde(rename = "n")]
    pub note: String,
    /// When it was told `lock`, in milliseconds since the Unix epoch.
    #[serde(rename = "t")]
    told: u64,
    /// Whether it was told `lock` with its slot held: it started.
    #[serde(rename = "s")]
    pub started: bool,
}

impl Turns {
    /// Forgets who neither holds a lease of this rollout nor was told `lock` within the last minute.
    pub fn reconcile(&mut self, view: &View) {
        self.0.retain(|name, turn| {
            let holds = view.semaphore.leases.iter().any(|lease| lease.mine && lease.identifier == *name);
            // A turn that started held its lease then: without one it is over.
            holds || (!turn.started && view.now < turn.told.saturating_add(PATIENCE_MS) && !left_out(view, name, turn))
        });
    }

    /// The target is told `lock`.
    pub fn told(&mut self, view: &View, note: &str) {
        let started = view.cause == crate::Cause::Granted;
        self.0.insert(view.target.name.clone(), Turn { note: note.to_owned(), told: view.now, started });
    }

    /// The target is told otherwise, or is settled.
    pub fn over(&mut self, view: &View) {
        self.0.remove(&view.target.name);
    }

    /// The turns of other targets than the view's, in the order of their names.
    pub fn others<'a>(&'a self, view: &'a View) -> impl Iterator<Item = (&'a str, &'a Turn)> {
        self.0.iter().map(|(name, turn)| (name.as_str(), turn)).filter(|(name, _)| *name != view.target.name)
    }

    /// Whether the target was told `lock` before.
    #[must_use]
    pub fn has(&self, view: &View) -> bool {
        self.0.contains_key(&view.target.name)
    }

    /// When the first turn of another target that holds no lease yet stops to count, in milliseconds from now.
    #[must_use]
    pub fn patience(&self, view: &View) -> Option<u64> {
        self.others(view)
            .filter(|(name, _)| !view.semaphore.leases.iter().any(|lease| lease.mine && lease.identifier == *name))
            .map(|(_, turn)| turn.told.saturating_add(PATIENCE_MS).saturating_sub(view.now))
            .min()
    }
}

/// Whether the run left it out since.
fn left_out(view: &View, name: &str, turn: &Turn) -> bool {
    view.events_of(EventKind::Skipped).any(|event| event.target == name && event.at >= turn.told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{NOON, view};

    fn names(turns: &Turns, view: &View) -> Vec<String> {
        turns.others(view).map(|(name, _)| name.to_owned()).collect()
    }

    #[test]
    fn a_turn_lasts_as_long_as_its_lease() {
        let mut turns = Turns::default();
        turns.told(&view("a").at(NOON).granted().build(), "r1");
        let an_hour_later = view("b").at(NOON + 3_600_000);
        let held = an_hour_later.clone().my_lease("a").build();
        turns.reconcile(&held);
        assert_eq!(names(&turns, &held), ["a"]);
        let gone = an_hour_later.build();
        turns.reconcile(&gone);
        assert!(names(&turns, &gone).is_empty());
    }

    #[test]
    fn a_lease_of_somebody_else_under_the_same_name_is_no_turn() {
        let mut turns = Turns::default();
        turns.told(&view("a").granted().build(), "");
        let foreign = view("b").lease("a").build();
        turns.reconcile(&foreign);
        assert!(names(&turns, &foreign).is_empty());
    }

    #[test]
    fn who_queues_counts_for_a_minute() {
        let mut turns = Turns::default();
        turns.told(&view("a").at(NOON).build(), "");
        let soon = view("b").at(NOON + 59_000).build();
        turns.reconcile(&soon);
        assert_eq!((names(&turns, &soon), turns.patience(&soon)), (vec!["a".to_owned()], Some(1_000)));
        let late = view("b").at(NOON + 60_000).build();
        turns.reconcile(&late);
        assert_eq!((names(&turns, &late), turns.patience(&late)), (vec![], None));
    }

    #[test]
    fn who_was_left_out_does_not_count() {
        let mut turns = Turns::default();
        turns.told(&view("a").at(NOON).build(), "");
        let skipped = view("b").at(NOON + 10).event(NOON + 5, "a", EventKind::Skipped).build();
        turns.reconcile(&skipped);
        assert!(names(&turns, &skipped).is_empty());
    }
}
