//! What was read of the store: other holders' leases, the party, what the job observes, and the session.

use std::collections::HashSet;

use crate::policy::types::Cause;
use crate::rollout::machine::Rollout;
use crate::rollout::machine::party::Roster;
use crate::rollout::model::{Connectivity, Event, HeldElsewhere, Observed, SeenLease, SeenMember, Setup, TargetIndex};
use lockkeeper_coordination::store::Fence;

/// The most holders that a reason names if a target got no slot in time.
const MOST_HOLDERS: usize = 3;

/// The latest readings.
#[derive(Debug)]
pub(super) struct StoreView {
    /// Leases of other holders. `None` before the first reading.
    other_leases: Option<Vec<SeenLease>>,
    /// Fences of leases that the run released and that a reading may still show.
    released: HashSet<Fence>,
    /// How many contenders queue for the semaphore.
    pub(super) queued: u32,
    pub(super) roster: Roster,
    has_party: bool,
    /// The latest reading of each semaphore and party of [`Setup::observe`]. `None` if it is not known now.
    observed: Vec<Option<Observed>>,
    connectivity: Connectivity,
}

impl StoreView {
    pub(super) fn new(setup: &Setup) -> Self {
        Self {
            other_leases: None,
            released: HashSet::new(),
            queued: 0,
            roster: Roster::new(&setup.targets, setup.party.as_ref()),
            has_party: setup.party.is_some(),
            observed: vec![None; setup.observe.len()],
            connectivity: Connectivity::Connected,
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connectivity == Connectivity::Connected
    }

    /// Whether everything that a policy sees is known.
    pub(super) fn is_complete(&self) -> bool {
        self.is_connected()
            && self.other_leases.is_some()
            && self.is_party_known()
            && self.observed.iter().all(Option::is_some)
    }

    /// Whether the party's members are known, if the job has a party.
    pub(super) fn is_party_known(&self) -> bool {
        self.roster.is_known() || !self.has_party
    }

    /// Leases of other holders, as last read.
    pub(super) fn other_leases(&self) -> impl Iterator<Item = &SeenLease> {
        self.other_leases.iter().flatten()
    }

    pub(super) fn observed(&self) -> &[Option<Observed>] {
        &self.observed
    }

    /// The run acquired a lease, which a reading may have shown already.
    pub(super) fn acquired(&mut self, fence: Fence) {
        if let Some(others) = &mut self.other_leases {
            others.retain(|lease| lease.fence != fence);
        }
    }

    /// The run released a lease, which readings may show for a while.
    pub(super) fn released(&mut self, fence: Fence) {
        self.released.insert(fence);
    }

    /// Takes a reading of the semaphore over. Whether another holder's lease is new or gone.
    fn read_semaphore(&mut self, mut leases: Vec<SeenLease>, queued: u32, ours: &HashSet<Fence>) -> bool {
        self.queued = queued;
        let seen: HashSet<Fence> = leases.iter().map(|lease| lease.fence).collect();
        self.released.retain(|fence| seen.contains(fence));
        leases.retain(|lease| !ours.contains(&lease.fence) && !self.released.contains(&lease.fence));
        let is_new = self.other_leases.as_ref() != Some(&leases);
        self.other_leases = Some(leases);
        is_new
    }

    /// The oldest lease of another holder with this identifier, among those that count.
    pub(super) fn held_by_another(
        &self,
        identifier: &str,
        counts: impl Fn(&SeenLease) -> bool,
    ) -> Option<HeldElsewhere> {
        let lease = self.other_leases().find(|lease| lease.identifier == identifier && counts(lease))?;
        let kind = if lease.ephemeral { "an ephemeral lease" } else { "a persistent lease" };
        let by = lease.owner.clone().unwrap_or_else(|| format!("{kind} of `{identifier}`"));
        Some(HeldElsewhere { by, since: Some(lease.since_ms) })
    }

    /// Which other holders had slots when the semaphore was read last, as the end of a reason.
    pub(super) fn holders_now(&self) -> String {
        let others: Vec<&SeenLease> = self.other_leases().collect();
        let names: Vec<String> =
            others.iter().take(MOST_HOLDERS).map(|lease| format!("`{}`", lease.identifier)).collect();
        match (names.as_slice(), others.len().saturating_sub(MOST_HOLDERS)) {
            ([], _) => String::new(),
            (names, 0) => format!(": held by {}", names.join(", ")),
            (names, more) => format!(": held by {} and {more} more", names.join(", ")),
        }
    }
}

impl Rollout {
    /// The semaphore was read. The run's own leases are known before any reading shows them. A queue that grew or shrank starts
    /// no sweep: most of that is the run's own doing.
    pub(super) fn semaphore_read(&mut self, leases: Vec<SeenLease>, queued: u32, slots: Option<u32>) {
        self.follow_slots(slots);
        let ours: HashSet<Fence> = self.targets.leases().map(|(_, held)| held.fence).collect();
        if self.store_view.read_semaphore(leases, queued, &ours) {
            self.sweep.changed(Cause::LeasesChanged);
        }
    }

    /// Applies the number of slots in force, whichever caller changed it.
    fn follow_slots(&mut self, slots: Option<u32>) {
        let from = self.setup.limits.slots;
        if let Some(to) = slots.filter(|to| *to > 0 && *to != from) {
            self.setup.limits.slots = to;
            self.emit(Event::SlotsChanged { from, to });
            self.sweep.changed(Cause::LeasesChanged);
        }
    }

    /// The party was read.
    pub(super) fn party_read(&mut self, members: Vec<SeenMember>) {
        let targets = &self.targets;
        let name = |target: TargetIndex| targets[target].target.name.to_string();
        if self.store_view.roster.read(members, name) {
            self.sweep.changed(Cause::MembersChanged);
        }
    }

    /// A semaphore or party of [`Setup::observe`] was read, or cannot be.
    pub(super) fn observed(&mut self, index: usize, seen: Option<Observed>) {
        let Some(before) = self.store_view.observed.get_mut(index) else { return };
        if *before != seen {
            let cause = match seen {
                Some(Observed::Party(_)) => Cause::MembersChanged,
                _ => Cause::LeasesChanged,
            };
            *before = seen;
            self.sweep.changed(cause);
        }
    }

    /// The session with the store is in another state.
    pub(super) fn session_changed(&mut self, connectivity: Connectivity) {
        let view = &mut self.store_view;
        if connectivity == Connectivity::Over {
            // Until the next session has read them.
            view.roster.forget();
            view.other_leases = None;
            view.observed.fill(None);
        }
        let before = std::mem::replace(&mut view.connectivity, connectivity);
        if before == connectivity {
            return;
        }
        let state = match (before, connectivity) {
            (Connectivity::Over, Connectivity::Connected) => "reopened",
            (_, Connectivity::Connected) => "connected",
            (_, Connectivity::Suspended) => "suspended",
            (_, Connectivity::Over) => "lost",
        };
        self.emit(Event::Store { state: state.into() });
        self.sweep.changed(Cause::Progressed);
    }
}
