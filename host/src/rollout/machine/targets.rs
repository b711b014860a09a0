//! The table of targets: the status of each, with the data that only this status has, and the indices over all of them.
//!
//! A status changes in [`Targets::advance`] alone, which keeps the indices.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};

use crate::job::Target;
use crate::policy::types::{Ending, Outcome};
use crate::rollout::machine::recovery::Recovery;
use crate::rollout::model::{
    Counts, EpochMs, FinalStatus, HeldElsewhere, RecordedStatus, TargetEvent, TargetIndex, TargetStatus,
};
use lockkeeper_coordination::store::Fence;

/// Every target of the run, in the plan's order.
#[derive(Debug)]
pub(super) struct Targets {
    entries: Vec<TargetEntry>,
    counts: Counts,
    /// Targets that a sweep includes: open, not pausing, and allowed to start.
    open: BTreeSet<TargetIndex>,
    in_flight: BTreeSet<TargetIndex>,
    /// Targets whose outcome is unknown.
    unknown: BTreeSet<TargetIndex>,
}

/// One target.
#[derive(Debug)]
pub(super) struct TargetEntry {
    pub(super) target: Target,
    status: Status,
    /// Whether the orchestration, or an operator, lets it start; always if the job has no orchestration.
    may_start: bool,
    pub(super) attempts: Attempts,
    pub(super) last_run: LastRun,
    pub(super) waiting: Waiting,
}

/// A target's status, with what only this status has.
#[derive(Debug)]
enum Status {
    Pending,
    Waiting,
    InFlight {
        /// The lease that it holds. `None` before it has one, and once that is lost.
        lease: Option<HeldLease>,
        stage: Stage,
    },
    Final {
        status: FinalStatus,
        since: EpochMs,
    },
}

/// How far a target in flight is.
#[derive(Debug)]
enum Stage {
    Queued(SlotRequest),
    Leased(SlotRequest),
    Running,
    Unsettled(Unsettled),
    ActionEnded(ActionEnded),
    RollingBack,
    RollBackEnded(Ending),
}

/// A lease of this run.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeldLease {
    pub(super) fence: Fence,
    pub(super) since: EpochMs,
}

/// A slot that a target queues for, or holds unused.
#[derive(Debug, Default)]
pub(super) struct SlotRequest {
    pub(super) purpose: Purpose,
    /// It gives up its place in the queue, or its slot. `None` if it does not.
    pub(super) leaving: Option<Leaving>,
}

/// What a slot is for.
#[derive(Debug, Clone, Default)]
pub(super) enum Purpose {
    #[default]
    Action,
    /// An action, under a slot that the policy takes by force.
    ForcedAction(Forcing),
    /// The roll-back of a target that was final before.
    RollBack { was: FinalStatus },
}

/// A `force` verdict.
#[derive(Debug, Clone)]
pub(super) struct Forcing {
    /// The fences of the leases that it breaks.
    pub(super) broken: Vec<u64>,
    pub(super) code: String,
    pub(super) reason: String,
}

/// What becomes of a target that gives up its place in the queue, or its slot.
#[derive(Debug, Clone)]
pub(super) enum Leaving {
    ToWait,
    ToSkip { code: String, reason: String },
}

/// A command was started, and its end is not known yet.
#[derive(Debug, Default)]
pub(super) struct Unsettled {
    /// How its end is found out. `None` once that is known.
    pub(super) recovery: Option<Recovery>,
    /// It is written down that it may start again.
    pub(super) is_reopening: bool,
}

/// An action ended, and its slot is held.
#[derive(Debug)]
pub(super) struct ActionEnded {
    ending: Ending,
    /// The next runner finds out how the action ended.
    pub(super) is_left_to_next_runner: bool,
    /// An earlier runner's lease was gone when the action was settled.
    pub(super) is_without_slot: bool,
    /// It is written down that the target may start again.
    pub(super) is_reopening: bool,
}

/// What was started on a target in this run.
#[derive(Debug)]
pub(super) struct Attempts {
    /// How many commands were started, roll-backs included.
    pub(super) started: u32,
    /// How many of these the job's limit does not count.
    not_counted: u32,
    /// The fence under which the last one was started, whatever became of the lease since.
    pub(super) fence: Fence,
    /// How often in a row the far end refused the fence as stale.
    pub(super) stale_in_a_row: u32,
    /// How often in a row the target starts again although its outcome is unknown.
    pub(super) unknown_in_a_row: u32,
}

/// How the last command on a target ended.
#[derive(Debug, Default)]
pub(super) struct LastRun {
    /// In words.
    pub(super) detail: String,
    /// How long the action took, in milliseconds. `None` if that is not known.
    pub(super) took_ms: Option<u64>,
    /// Why it is rolled back.
    pub(super) roll_back_reason: String,
    /// The status before its last roll-back. `None` if it was not rolled back since its action ran.
    pub(super) before_roll_back: Option<RecordedStatus>,
    /// How the action ended that the policy decided about last.
    pub(super) action: Option<Outcome>,
    /// How the last roll-back ended.
    pub(super) roll_back: Option<Outcome>,
}

/// What is known of a target that waits.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// When the policy first decided about it.
    pub(super) since: Option<EpochMs>,
    /// Whether the policy has decided about it.
    pub(super) is_known_to_policy: bool,
    /// The refusal to show to the policy next. `None` if the next decision has another cause.
    pub(super) refused: Option<String>,
    /// Since when it wants a slot: it queues, or another holder acts under its name. `None` if it wants none.
    pub(super) wants_slot_since: Option<EpochMs>,
    /// The holder that acted under its name when it was refused last.
    pub(super) held_by: Option<HeldElsewhere>,
    /// How often in a row it left its place in the queue or its slot unused.
    pub(super) left_unused: u32,
    /// The last reason that was reported for it, so that it is reported once.
    pub(super) reported: String,
}

/// A change of a target's status.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatusChange {
    pub(super) before: TargetStatus,
    pub(super) after: TargetStatus,
}

impl Targets {
    /// Targets to which nothing has happened yet.
    pub(super) fn new(targets: &[Target], may_start: bool) -> Self {
        let entries: Vec<TargetEntry> =
            targets.iter().cloned().map(|target| TargetEntry::new(target, may_start)).collect();
        Self {
            counts: Counts::all_pending(u32::try_from(entries.len()).unwrap_or(u32::MAX)),
            open: (0..entries.len()).map(TargetIndex::new).filter(|_| may_start).collect(),
            in_flight: BTreeSet::new(),
            unknown: BTreeSet::new(),
            entries,
        }
    }

    /// Moves a target to the status that follows from `event`, and updates every index.
    pub(super) fn advance(&mut self, target: TargetIndex, event: TargetEvent, now: EpochMs) -> StatusChange {
        let entry = &mut self.entries[target.get()];
        let before = entry.status();
        let after = before.after(event).expect("the machine applies only events that the status allows");
        entry.status = std::mem::replace(&mut entry.status, Status::Pending).followed_by(after, now);
        let (may_start, change) = (entry.may_start, StatusChange { before, after });
        self.counts.moved(before, after);
        set(&mut self.open, target, after.is_open() && may_start);
        set(&mut self.in_flight, target, after.is_in_flight());
        set(&mut self.unknown, target, after == TargetStatus::Final(FinalStatus::Unknown));
        change
    }

    /// A target may start from now on. Whether that is new.
    pub(super) fn allow(&mut self, target: TargetIndex) -> bool {
        let entry = &mut self.entries[target.get()];
        let is_new = !std::mem::replace(&mut entry.may_start, true);
        if is_new && entry.status().is_open() {
            self.open.insert(target);
        }
        is_new
    }

    /// A target may not start any more.
    pub(super) fn disallow(&mut self, target: TargetIndex) {
        self.entries[target.get()].may_start = false;
        self.open.remove(&target);
    }

    /// No sweep includes a target until [`Self::end_pause`].
    pub(super) fn pause(&mut self, target: TargetIndex) {
        self.open.remove(&target);
    }

    /// Sweeps include a target again, if it is still open: it may have been skipped meanwhile.
    pub(super) fn end_pause(&mut self, target: TargetIndex) {
        let entry = &self.entries[target.get()];
        if entry.may_start && entry.status().is_open() {
            self.open.insert(target);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Every index, in the plan's order.
    pub(super) fn indices(&self) -> impl Iterator<Item = TargetIndex> + use<> {
        (0..self.entries.len()).map(TargetIndex::new)
    }

    pub(super) fn entries_mut(&mut self) -> impl Iterator<Item = &mut TargetEntry> {
        self.entries.iter_mut()
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Targets that a sweep includes.
    pub(super) fn open(&self) -> &BTreeSet<TargetIndex> {
        &self.open
    }

    pub(super) fn in_flight(&self) -> &BTreeSet<TargetIndex> {
        &self.in_flight
    }

    /// Targets whose outcome is unknown.
    pub(super) fn unknown(&self) -> &BTreeSet<TargetIndex> {
        &self.unknown
    }

    /// Targets in flight with one of these statuses.
    pub(super) fn in_flight_as(&self, is_meant: impl Fn(TargetStatus) -> bool) -> Vec<TargetIndex> {
        self.in_flight.iter().copied().filter(|target| is_meant(self[*target].status())).collect()
    }

    /// The leases that this run holds, with their targets.
    pub(super) fn leases(&self) -> impl Iterator<Item = (&Target, HeldLease)> {
        self.in_flight.iter().filter_map(|target| {
            let entry = &self[*target];
            Some((&entry.target, entry.lease()?))
        })
    }
}

impl Index<TargetIndex> for Targets {
    type Output = TargetEntry;

    fn index(&self, target: TargetIndex) -> &TargetEntry {
        &self.entries[target.get()]
    }
}

impl IndexMut<TargetIndex> for Targets {
    fn index_mut(&mut self, target: TargetIndex) -> &mut TargetEntry {
        &mut self.entries[target.get()]
    }
}

impl TargetEntry {
    fn new(target: Target, may_start: bool) -> Self {
        Self {
            target,
            status: Status::Pending,
            may_start,
            attempts: Attempts::default(),
            last_run: LastRun::default(),
            waiting: Waiting::default(),
        }
    }

    /// The status without its data.
    pub(super) fn status(&self) -> TargetStatus {
        match &self.status {
            Status::Pending => TargetStatus::Pending,
            Status::Waiting => TargetStatus::Waiting,
            Status::InFlight { stage, .. } => match stage {
                Stage::Queued(_) => TargetStatus::Queued,
                Stage::Leased(_) => TargetStatus::Leased,
                Stage::Running => TargetStatus::Running,
                Stage::Unsettled(_) => TargetStatus::Unsettled,
                Stage::ActionEnded(ended) => TargetStatus::ActionEnded(ended.ending),
                Stage::RollingBack => TargetStatus::RollingBack,
                Stage::RollBackEnded(ending) => TargetStatus::RollBackEnded(*ending),
            },
            Status::Final { status, .. } => TargetStatus::Final(*status),
        }
    }

    /// Whether the orchestration, or an operator, lets it start.
    pub(super) fn may_start(&self) -> bool {
        self.may_start
    }

    /// The lease that it holds.
    pub(super) fn lease(&self) -> Option<HeldLease> {
        match &self.status {
            Status::InFlight { lease, .. } => *lease,
            _ => None,
        }
    }

    /// It holds a lease from now on.
    pub(super) fn hold(&mut self, held: HeldLease) {
        if let Status::InFlight { lease, .. } = &mut self.status {
            *lease = Some(held);
        }
    }

    /// It holds no lease any more. The one that it held.
    pub(super) fn drop_lease(&mut self) -> Option<HeldLease> {
        match &mut self.status {
            Status::InFlight { lease, .. } => lease.take(),
            _ => None,
        }
    }

    fn stage(&self) -> Option<&Stage> {
        match &self.status {
            Status::InFlight { stage, .. } => Some(stage),
            _ => None,
        }
    }

    fn stage_mut(&mut self) -> Option<&mut Stage> {
        match &mut self.status {
            Status::InFlight { stage, .. } => Some(stage),
            _ => None,
        }
    }

    /// The slot that it queues for, or holds unused.
    pub(super) fn slot_request(&self) -> Option<&SlotRequest> {
        match self.stage()? {
            Stage::Queued(request) | Stage::Leased(request) => Some(request),
            _ => None,
        }
    }

    pub(super) fn slot_request_mut(&mut self) -> Option<&mut SlotRequest> {
        match self.stage_mut()? {
            Stage::Queued(request) | Stage::Leased(request) => Some(request),
            _ => None,
        }
    }

    /// The status from which it is to be rolled back, while it queues for a slot or holds one unused.
    pub(super) fn roll_back_from(&self) -> Option<FinalStatus> {
        match self.slot_request()?.purpose {
            Purpose::RollBack { was } => Some(was),
            _ => None,
        }
    }

    pub(super) fn unsettled_mut(&mut self) -> Option<&mut Unsettled> {
        match self.stage_mut()? {
            Stage::Unsettled(unsettled) => Some(unsettled),
            _ => None,
        }
    }

    /// How the end of its command is found out.
    pub(super) fn recovery(&self) -> Option<&Recovery> {
        match self.stage()? {
            Stage::Unsettled(unsettled) => unsettled.recovery.as_ref(),
            _ => None,
        }
    }

    pub(super) fn recovery_mut(&mut self) -> Option<&mut Recovery> {
        self.unsettled_mut()?.recovery.as_mut()
    }

    pub(super) fn action_ended(&self) -> Option<&ActionEnded> {
        match self.stage()? {
            Stage::ActionEnded(ended) => Some(ended),
            _ => None,
        }
    }

    pub(super) fn action_ended_mut(&mut self) -> Option<&mut ActionEnded> {
        match self.stage_mut()? {
            Stage::ActionEnded(ended) => Some(ended),
            _ => None,
        }
    }

    /// Whether it gives up its place in the queue or its slot, or is about to start again: what it becomes is being written.
    pub(super) fn is_leaving(&self) -> bool {
        match self.stage() {
            Some(Stage::Queued(request) | Stage::Leased(request)) => request.leaving.is_some(),
            Some(Stage::Unsettled(unsettled)) => unsettled.is_reopening,
            Some(Stage::ActionEnded(ended)) => ended.is_reopening,
            _ => false,
        }
    }

    /// It is written down that it may start again.
    pub(super) fn reopen(&mut self) {
        match self.stage_mut() {
            Some(Stage::Queued(request) | Stage::Leased(request)) => request.leaving = Some(Leaving::ToWait),
            Some(Stage::Unsettled(unsettled)) => unsettled.is_reopening = true,
            Some(Stage::ActionEnded(ended)) => ended.is_reopening = true,
            _ => {}
        }
    }

    /// Since when it is final.
    pub(super) fn final_since(&self) -> Option<EpochMs> {
        match self.status {
            Status::Final { since, .. } => Some(since),
            _ => None,
        }
    }

    /// The wall clock was set.
    pub(super) fn shift(&mut self, by_ms: i64) {
        let Waiting { since, wants_slot_since, .. } = &mut self.waiting;
        [since, wants_slot_since].into_iter().flatten().for_each(|at| *at = at.shifted(by_ms));
        match &mut self.status {
            Status::InFlight { stage: Stage::Unsettled(Unsettled { recovery: Some(recovery), .. }), .. } => {
                recovery.shift(by_ms);
            }
            Status::Final { since, .. } => *since = since.shifted(by_ms),
            _ => {}
        }
    }
}

impl Status {
    /// The status after a change, with the data that lasts: the lease while it is in flight, and the request for its slot.
    fn followed_by(self, after: TargetStatus, now: EpochMs) -> Self {
        let (lease, request) = match self {
            Self::InFlight { lease, stage: Stage::Queued(request) | Stage::Leased(request) } => (lease, request),
            Self::InFlight { lease, .. } => (lease, SlotRequest::default()),
            Self::Pending | Self::Waiting | Self::Final { .. } => (None, SlotRequest::default()),
        };
        let stage = match after {
            TargetStatus::Pending => return Self::Pending,
            TargetStatus::Waiting => return Self::Waiting,
            TargetStatus::Final(status) => return Self::Final { status, since: now },
            TargetStatus::Queued => Stage::Queued(request),
            TargetStatus::Leased => Stage::Leased(request),
            TargetStatus::Running => Stage::Running,
            TargetStatus::Unsettled => Stage::Unsettled(Unsettled::default()),
            TargetStatus::ActionEnded(ending) => Stage::ActionEnded(ActionEnded::new(ending)),
            TargetStatus::RollingBack => Stage::RollingBack,
            TargetStatus::RollBackEnded(ending) => Stage::RollBackEnded(ending),
        };
        Self::InFlight { lease, stage }
    }
}

impl ActionEnded {
    fn new(ending: Ending) -> Self {
        Self { ending, is_left_to_next_runner: false, is_without_slot: false, is_reopening: false }
    }
}

impl Default for Attempts {
    fn default() -> Self {
        Self { started: 0, not_counted: 0, fence: Fence::new(0), stale_in_a_row: 0, unknown_in_a_row: 0 }
    }
}

impl Attempts {
    /// How many count against the job's limit.
    pub(super) fn counted(&self) -> u32 {
        self.started - self.not_counted
    }

    /// The last one does not count: nothing of it ran.
    pub(super) fn discount_last(&mut self) {
        self.not_counted = (self.not_counted + 1).min(self.started);
    }

    /// None of those so far counts: an operator asked for more.
    pub(super) fn discount_all(&mut self) {
        self.not_counted = self.started;
    }
}

fn set(index: &mut BTreeSet<TargetIndex>, target: TargetIndex, is_in: bool) {
    match is_in {
        true => index.insert(target),
        false => index.remove(&target),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::TargetName;
    use TargetEvent as E;

    const NOW: EpochMs = EpochMs::new(1_000);

    fn targets(names: &[&str]) -> Targets {
        let target = |name: &&str| Target::unlabelled(TargetName::parse(name).unwrap());
        Targets::new(&names.iter().map(target).collect::<Vec<_>>(), true)
    }

    #[test]
    fn every_change_updates_the_indices() {
        let mut table = targets(&["a", "b"]);
        let a = TargetIndex::new(0);
        table.advance(a, E::Queued, NOW);
        assert_eq!((table.open().len(), table.in_flight().len(), table.counts().waiting), (1, 1, 1));
        for event in [E::Leased, E::Started, E::Ended(Ending::Unknown), E::Released] {
            table.advance(a, event, NOW);
        }
        assert_eq!((table.open().len(), table.in_flight().len(), table.unknown().contains(&a)), (1, 0, true));
        assert_eq!(table[a].final_since(), Some(NOW));
        table.advance(a, E::Reopened, NOW);
        assert_eq!((table.open().len(), table.unknown().len()), (2, 0));
    }

    #[test]
    fn a_lease_lasts_while_its_target_is_in_flight() {
        let mut table = targets(&["a"]);
        let a = TargetIndex::new(0);
        table.advance(a, E::Queued, NOW);
        table[a].hold(HeldLease { fence: Fence::new(7), since: NOW });
        for event in [E::Leased, E::Started, E::Unsettled, E::Ended(Ending::Failed)] {
            table.advance(a, event, NOW);
            assert_eq!(table[a].lease().map(|lease| lease.fence), Some(Fence::new(7)), "{event:?}");
        }
        table.advance(a, E::Reopened, NOW);
        assert!(table[a].lease().is_none());
    }

    #[test]
    fn what_a_slot_is_for_lasts_until_it_is_used() {
        let mut table = targets(&["a"]);
        let a = TargetIndex::new(0);
        table.advance(a, E::Restored(FinalStatus::Failed), NOW);
        table.advance(a, E::RollBackQueued, NOW);
        table[a].slot_request_mut().unwrap().purpose = Purpose::RollBack { was: FinalStatus::Failed };
        table.advance(a, E::Leased, NOW);
        assert_eq!(table[a].roll_back_from(), Some(FinalStatus::Failed));
        table.advance(a, E::RollBackStarted, NOW);
        assert_eq!(table[a].roll_back_from(), None);
    }

    #[test]
    fn a_target_that_is_skipped_while_it_pauses_is_in_no_sweep_afterwards() {
        let mut table = targets(&["a"]);
        let a = TargetIndex::new(0);
        table.advance(a, E::Queued, NOW);
        table.advance(a, E::ReleasedUnused, NOW);
        table.pause(a);
        table.advance(a, E::Skipped, NOW);
        table.end_pause(a);
        assert!(table.open().is_empty());
    }

    #[test]
    fn a_target_that_may_not_start_is_in_no_sweep() {
        let mut table = targets(&["a"]);
        let a = TargetIndex::new(0);
        table.disallow(a);
        table.advance(a, E::Deferred, NOW);
        assert!(table.open().is_empty());
        assert!(table.allow(a) && !table.allow(a));
        assert!(table.open().contains(&a));
    }
}
