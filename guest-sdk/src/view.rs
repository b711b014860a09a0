//! Questions that policies ask of a view.

use crate::bindings::lockkeeper::policy::types::{Lease, Party, Semaphore, Target};
use crate::{Event, EventKind, View};

impl View {
    /// How many members the job's party has; 0 where the job names no party.
    #[must_use]
    pub fn members(&self) -> usize {
        self.party.as_ref().map_or(0, |party| party.members.len())
    }

    /// How many more failures until something is refused for them; `u32::MAX` where any number may fail.
    #[must_use]
    pub fn budget_left(&self) -> u32 {
        self.progress.budget_left.unwrap_or(u32::MAX)
    }

    /// The view's own events of one kind, oldest first.
    pub fn events_of(&self, kind: EventKind) -> impl Iterator<Item = &Event> {
        self.events.iter().filter(move |event| event.kind == kind)
    }
}

impl Semaphore {
    /// Slots that no lease holds; forced leases may make it 0 while more are held.
    #[must_use]
    pub fn free(&self) -> u32 {
        self.slots.saturating_sub(u32::try_from(self.leases.len()).unwrap_or(u32::MAX))
    }

    /// The lease of that identifier.
    #[must_use]
    pub fn lease_of(&self, identifier: &str) -> Option<&Lease> {
        self.leases.iter().find(|lease| lease.identifier == identifier)
    }
}

impl Party {
    /// Whether it has a member of that name.
    #[must_use]
    pub fn has(&self, identifier: &str) -> bool {
        self.count_of(identifier) > 0
    }

    /// Whether it is clear at a glance that no two members go by one name: they stand in the order of their identifiers, as
    /// the contract has it, each once.
    #[must_use]
    pub fn is_each_once(&self) -> bool {
        self.members.is_sorted_by(|one, next| one.identifier < next.identifier)
    }

    /// How many members go by that name: one process may join twice.
    #[must_use]
    pub fn count_of(&self, identifier: &str) -> usize {
        self.members.iter().filter(|member| member.identifier == identifier).count()
    }
}

impl Target {
    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.iter().find(|label| label.key == key).map(|label| label.value.as_str())
    }
}
