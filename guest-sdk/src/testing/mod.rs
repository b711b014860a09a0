//! A policy tested natively, by plain `cargo test`: views, settings and outcomes in a line each.
//!
//! ```
//! use lockkeeper_sdk::prelude::*;
//! use lockkeeper_sdk::testing::{settings, view};
//!
//! #[settings]
//! struct Quorum {
//!     min: usize,
//! }
//!
//! #[policy]
//! impl Policy for Quorum {
//!     fn admit(&self, view: &View, _memory: &mut Memory) -> Admitted {
//!         if view.members() < self.min {
//!             return wait("below-floor", format!("{} of {} members", view.members(), self.min));
//!         }
//!         lock("slot-wanted", "the party is large enough")
//!     }
//! }
//!
//! let quorum: Quorum = settings(r#"{ "min": 2 }"#);
//! let alone = view("web01").members(["web01"]).build();
//! assert_eq!(quorum.admit(&alone, &mut Memory::default()).code(), "below-floor");
//!
//! let pair = view("web01").members(["web02", "web01"]).build();
//! assert!(quorum.admit(&pair, &mut Memory::default()).is_lock());
//! ```
//!
//! A view from here keeps the contract's promises: lists are in its order, fences grow with every lease, and
//! [`Lease::alive`] says whether the holder is a member where the view has a party.

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod cases;
#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod read;

use std::fmt::Display;

pub use serde_json::json;

#[cfg(not(target_arch = "wasm32"))]
pub use cases::cases;

use crate::{
    Cause, Ending, Event, EventKind, Label, Lease, Member, Outcome, Party, Policy, Progress, Semaphore, Settings,
    Target, View,
};

/// The time of a view that is not told one: some day in 2025, in milliseconds since the Unix epoch.
pub const NOON: u64 = 1_750_000_000_000;

/// A policy's settings as the host would hand them over: a JSON text, or [`json!`]'s value.
///
/// # Panics
/// When the settings cannot be read, with the message that a job's author would see. [`try_settings`] gives it.
#[must_use]
pub fn settings<P: Policy + Settings>(json: impl Display) -> P {
    try_settings(json).unwrap_or_else(|message| panic!("these settings cannot be read: {message}"))
}

/// As [`settings`], for settings that may be wrong.
///
/// # Errors
/// What is wrong, as a job's author would see it.
pub fn try_settings<P: Policy + Settings>(json: impl Display) -> Result<P, String> {
    P::read(&json.to_string())
}

/// An outcome of the first try, after one second. Exit code 0 goes with success and 1 with failure; other endings have
/// none.
#[must_use]
pub fn outcome(ending: Ending) -> Outcome {
    let exit_code = match ending {
        Ending::Succeeded => Some(0),
        Ending::Failed => Some(1),
        Ending::TimedOut | Ending::LeaseLost | Ending::Unknown => None,
    };
    Outcome { ending, exit_code, took: 1_000, attempt: 1 }
}

/// A view of the first target of ten, asked about for the first time: one free slot, no party, nothing happened yet.
pub fn view(target: &str) -> ViewBuilder {
    let progress = Progress {
        job: "job".to_owned(),
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
    };
    let target =
        Target { name: target.to_owned(), labels: Vec::new(), wave: String::new(), attempt: 1, waiting_since: NOON };
    ViewBuilder {
        view: View {
            sequence: 0,
            now: NOON,
            seed: 0,
            cause: Cause::First,
            target,
            semaphore: semaphore("/locks/job", 1),
            party: None,
            other_semaphores: Vec::new(),
            other_parties: Vec::new(),
            progress,
            events: Vec::new(),
        },
        granted: false,
    }
}

/// A semaphore without leases, for [`ViewBuilder::observe_semaphore`].
#[must_use]
pub fn semaphore(path: &str, slots: u32) -> Semaphore {
    Semaphore { path: path.to_owned(), slots, leases: Vec::new(), queued: 0 }
}

/// A party whose members all joined an hour before [`NOON`], for [`ViewBuilder::observe_party`].
#[must_use]
pub fn party<'a>(path: &str, members: impl IntoIterator<Item = &'a str>) -> Party {
    let members = members.into_iter().map(|identifier| member(identifier, NOON - 3_600_000)).collect();
    Party { path: path.to_owned(), min_members: 0, members }
}

fn member(identifier: &str, since: u64) -> Member {
    Member { identifier: identifier.to_owned(), since }
}

/// Builds a [`View`]; see [`view`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ViewBuilder {
    view: View,
    granted: bool,
}

impl ViewBuilder {
    /// When the policy is asked, in milliseconds since the Unix epoch.
    pub fn at(mut self, now: u64) -> Self {
        self.view.now = now;
        self
    }

    /// The decision's position in the journal.
    pub fn sequence(mut self, sequence: u64) -> Self {
        self.view.sequence = sequence;
        self
    }

    /// The seed.
    pub fn seed(mut self, seed: u64) -> Self {
        self.view.seed = seed;
        self
    }

    /// Why the policy is asked; [`Cause::First`] unless told. See [`ViewBuilder::granted`] too.
    pub fn cause(mut self, cause: Cause) -> Self {
        self.view.cause = cause;
        self
    }

    /// The slot is held and the policy is asked once more: cause `granted`, with the target's own lease among the
    /// others.
    pub fn granted(mut self) -> Self {
        self.granted = true;
        self.cause(Cause::Granted)
    }

    /// One label of the target.
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.view.target.labels.push(Label { key: key.to_owned(), value: value.to_owned() });
        self
    }

    /// The target's wave.
    pub fn wave(mut self, wave: &str) -> Self {
        wave.clone_into(&mut self.view.target.wave);
        self
    }

    /// The target's try, 1 for the first.
    pub fn attempt(mut self, attempt: u32) -> Self {
        self.view.target.attempt = attempt;
        self
    }

    /// Since when the target has been waiting, in milliseconds since the Unix epoch.
    pub fn waiting_since(mut self, since: u64) -> Self {
        self.view.target.waiting_since = since;
        self
    }

    /// How many slots the semaphore has.
    pub fn slots(mut self, slots: u32) -> Self {
        self.view.semaphore.slots = slots;
        self
    }

    /// How many contenders queue for it.
    pub fn queued(mut self, queued: u32) -> Self {
        self.view.semaphore.queued = queued;
        self
    }

    /// A lasting lease that somebody else took a minute ago.
    pub fn lease(self, identifier: &str) -> Self {
        self.lease_with(identifier, |_| {})
    }

    /// A lease that this rollout took a minute ago, for the target of that name.
    pub fn my_lease(self, target: &str) -> Self {
        self.lease_with(target, |lease| lease.mine = true)
    }

    /// As [`ViewBuilder::lease`], changed as told: `.lease_with("web02", |lease| lease.since = 5)`. Set
    /// [`ViewBuilder::at`] first: "a minute ago" is counted from it.
    pub fn lease_with(mut self, identifier: &str, change: impl FnOnce(&mut Lease)) -> Self {
        let newest = self.view.semaphore.leases.iter().map(|lease| lease.fence).max();
        let mut lease = Lease {
            identifier: identifier.to_owned(),
            fence: newest.map_or(101, |fence| fence + 1),
            since: self.view.now.saturating_sub(60_000),
            ephemeral: false,
            alive: None,
            mine: false,
        };
        change(&mut lease);
        self.view.semaphore.leases.push(lease);
        self
    }

    /// The job's party has these members, all there since an hour before [`NOON`].
    pub fn members<'a>(mut self, identifiers: impl IntoIterator<Item = &'a str>) -> Self {
        let members = party("", identifiers).members;
        self.party_mut().members.extend(members);
        self
    }

    /// One member that joined then, in milliseconds since the Unix epoch.
    pub fn member_since(mut self, identifier: &str, since: u64) -> Self {
        self.party_mut().members.push(member(identifier, since));
        self
    }

    /// The floor that the job sets.
    pub fn floor(mut self, min_members: u32) -> Self {
        self.party_mut().min_members = min_members;
        self
    }

    /// Where the rollout stands: `.progress(|progress| progress.succeeded = 3)`.
    pub fn progress(mut self, change: impl FnOnce(&mut Progress)) -> Self {
        change(&mut self.view.progress);
        self
    }

    /// Something that happened then, in milliseconds since the Unix epoch.
    pub fn event(mut self, at: u64, target: &str, kind: EventKind) -> Self {
        self.view.events.push(Event { at, target: target.to_owned(), kind, detail: String::new() });
        self
    }

    /// A further semaphore that the job observes.
    pub fn observe_semaphore(mut self, semaphore: Semaphore) -> Self {
        self.view.other_semaphores.push(semaphore);
        self
    }

    /// A further party that the job observes.
    pub fn observe_party(mut self, party: Party) -> Self {
        self.view.other_parties.push(party);
        self
    }

    /// The view, with its lists in the contract's order.
    #[must_use]
    pub fn build(mut self) -> View {
        if self.granted && self.view.semaphore.leases.iter().all(|lease| lease.identifier != self.view.target.name) {
            let name = self.view.target.name.clone();
            let now = self.view.now;
            self = self.lease_with(&name, |lease| (lease.mine, lease.since) = (true, now));
        }
        let mut view = self.view;
        view.target.labels.sort_by(|a, b| a.key.cmp(&b.key));
        view.events.sort_by_key(|event| event.at);
        for party in view.party.iter_mut().chain(&mut view.other_parties) {
            party.members.sort_by(|a, b| a.identifier.cmp(&b.identifier));
        }
        for semaphore in std::iter::once(&mut view.semaphore).chain(&mut view.other_semaphores) {
            semaphore.leases.sort_by_key(|lease| lease.fence);
            for lease in &mut semaphore.leases {
                lease.alive = view.party.as_ref().map(|party| party.has(&lease.identifier));
            }
        }
        view
    }

    fn party_mut(&mut self) -> &mut Party {
        self.view.party.get_or_insert_with(|| party("/party/job", []))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_come_out_in_the_contracts_order() {
        let view = view("t")
            .label("zone", "z")
            .label("rack", "r")
            .lease_with("late", |lease| lease.fence = 9)
            .lease_with("early", |lease| lease.fence = 3)
            .members(["c", "a"])
            .member_since("b", 5)
            .event(20, "x", EventKind::Succeeded)
            .event(10, "x", EventKind::Started)
            .build();
        let keys: Vec<&str> = view.target.labels.iter().map(|label| label.key.as_str()).collect();
        assert_eq!(keys, ["rack", "zone"]);
        let fences: Vec<u64> = view.semaphore.leases.iter().map(|lease| lease.fence).collect();
        assert_eq!(fences, [3, 9]);
        let members: Vec<&str> =
            view.party.iter().flat_map(|party| &party.members).map(|member| member.identifier.as_str()).collect();
        assert_eq!(members, ["a", "b", "c"]);
        assert_eq!(view.events[0].kind, EventKind::Started);
    }

    #[test]
    fn a_holder_is_alive_if_it_is_a_member() {
        let with_party = view("t").lease("a").lease("b").members(["a"]).build();
        let alive: Vec<_> = with_party.semaphore.leases.iter().map(|lease| lease.alive).collect();
        assert_eq!(alive, [Some(true), Some(false)]);
        assert_eq!(view("t").lease("a").build().semaphore.leases[0].alive, None);
    }

    #[test]
    fn a_granted_target_holds_one_lease() {
        let granted = view("t").lease("other").granted().build();
        assert_eq!(granted.cause, Cause::Granted);
        assert!(granted.semaphore.lease_of("t").unwrap().mine);
        assert!(granted.semaphore.lease_of("t").unwrap().fence > granted.semaphore.lease_of("other").unwrap().fence);
        assert_eq!(view("t").my_lease("t").granted().build().semaphore.leases.len(), 1);
    }
}
