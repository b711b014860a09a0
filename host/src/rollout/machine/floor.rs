//! The floor: how many members of the party would remain, and for how long that alone has blocked the run. It is measured
//! after every step, whatever the policy answers.

use std::collections::HashSet;

use crate::job::Opening;
use crate::policy::types as contract;
use crate::rollout::machine::Rollout;
use crate::rollout::machine::checks::LimitCheck;
use crate::rollout::machine::rollout::count;
use crate::rollout::model::{End, EpochMs, Floor, Refusal, TargetIndex};

/// For how long the floor alone has blocked the run.
#[derive(Debug, Default)]
pub(super) struct FloorClock {
    /// Since when it has done so without a break. `None` if it does not now.
    since: Option<EpochMs>,
    /// When a window closes, or a freeze begins: from then on the floor is not alone any more.
    until: Option<EpochMs>,
    /// For how long before that, in milliseconds: something else, such as a pause, came between.
    before_ms: u64,
    /// When time alone ends what blocks the run beside the floor.
    alone_at: Option<EpochMs>,
    /// Whether a target of this runner's has been in flight.
    has_begun: bool,
}

/// What the floor does to the run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FloorNow {
    /// It is met by a target that may be next, or a target is in flight.
    Met,
    /// It alone blocks every target.
    Missed {
        /// How many members would remain.
        remaining: u32,
        until: Option<EpochMs>,
    },
    /// Something else blocks the run as well, or the party's members are not known.
    Beside { until: Option<EpochMs> },
}

/// A target that would be next.
#[derive(Debug, Clone, Copy)]
enum Next {
    ToStart(TargetIndex),
    ToRollBack(TargetIndex),
}

impl Next {
    fn target(self) -> TargetIndex {
        match self {
            Self::ToStart(target) | Self::ToRollBack(target) => target,
        }
    }
}

impl FloorClock {
    /// The wall clock was set.
    pub(super) fn shift(&mut self, by_ms: i64) {
        self.since = self.since.map(|at| at.shifted(by_ms));
        // They are times of day, and are determined again with the next measurement.
        (self.until, self.alone_at) = (None, None);
    }

    fn measure(&mut self, now: EpochMs, floor: FloorNow) {
        self.alone_at = None;
        match floor {
            FloorNow::Met => (self.since, self.before_ms) = (None, 0),
            FloorNow::Missed { until, .. } => {
                self.since.get_or_insert(now);
                self.until = until;
            }
            FloorNow::Beside { until } => {
                self.alone_at = until;
                let since = self.since.take().unwrap_or(now);
                let ended = self.until.take().map_or(now, |until| until.min(now));
                self.before_ms = self.before_ms.saturating_add(ended.ms_since(since));
            }
        }
    }

    /// When the run's patience with its floor ends.
    fn deadline(&self, party: &Floor) -> Option<EpochMs> {
        let since = self.since?;
        if !party.blocking && !self.has_begun {
            return Some(since);
        }
        let patience_ms = EpochMs::default().after(party.patience?).get();
        Some(since.after_ms(patience_ms.saturating_sub(self.before_ms)))
    }
}

impl Rollout {
    /// When the floor is to be measured although nothing happens.
    pub(super) fn floor_wake(&self) -> Option<EpochMs> {
        self.floor.deadline(self.setup.party.as_ref()?).or(self.floor.alone_at)
    }

    /// The party that the policy sees when it decides about a target.
    pub(super) fn party_view(&self, subject: TargetIndex) -> Option<contract::Party> {
        let party = self.setup.party.as_ref()?;
        let holds = |target: TargetIndex| self.targets[target].lease().is_some();
        Some(contract::Party {
            path: party.path.clone(),
            min_members: self.setup.limits.floor.unwrap_or(0),
            members: self.store_view.roster.shown(subject, holds, |target| self.name(target)),
        })
    }

    /// Measures the floor, and ends the run if it alone has blocked the run for too long.
    pub(super) fn measure_floor(&mut self) {
        let Some(party) = self.setup.party.as_ref() else { return };
        let floor = self.floor_now();
        self.floor.has_begun |= !self.targets.in_flight().is_empty();
        self.floor.measure(self.now, floor);
        let FloorNow::Missed { remaining, .. } = floor else { return };
        if self.floor.deadline(party).is_none_or(|deadline| deadline > self.now) {
            return;
        }
        let lasted = match (party.blocking || self.floor.has_begun, party.patience) {
            (true, Some(patience)) => format!("stayed below its floor for {}", humantime::format_duration(patience)),
            _ => "is below its floor".to_owned(),
        };
        let (path, floor) = (&party.path, self.setup.limits.floor.unwrap_or(0));
        let why = match self.store_view.roster.strangers(party) {
            Some(members) => Refusal::Strangers { members }.to_string(),
            None => format!("{remaining} of `{path}` would remain, the floor is {floor}"),
        };
        let reason = format!("the party {lasted}: {why}");
        self.cut_short(End::FloorMissed(reason));
    }

    /// Whether a member goes down with a target that starts now: not if the target is none, or shares one with a target that
    /// is in flight.
    pub(super) fn takes_a_member(&self, target: TargetIndex) -> bool {
        let roster = &self.store_view.roster;
        let is_taken =
            || self.targets.in_flight().iter().any(|other| *other != target && roster.is_same(target, *other));
        roster.is_member(target) && !is_taken()
    }

    fn floor_now(&self) -> FloorNow {
        let Some(floor) = self.setup.limits.floor else { return FloorNow::Met };
        if !self.targets.in_flight().is_empty() || (self.ending.is_some() && !self.roll_backs.is_of_run) {
            return FloorNow::Met;
        }
        let roster = &self.store_view.roster;
        if !roster.is_known() {
            return FloorNow::Beside { until: None };
        }
        let are_strangers = self.setup.party.as_ref().is_some_and(|party| roster.strangers(party).is_some());
        if count(roster.len()) > floor && !are_strangers {
            // Whichever target is next, and even if none is.
            return FloorNow::Met;
        }
        let next = [self.next_to_start(floor).map(Next::ToStart), self.next_to_roll_back().map(Next::ToRollBack)];
        let next: Vec<Next> = next.into_iter().flatten().collect();
        if next.is_empty() {
            return FloorNow::Beside { until: None };
        }
        let remaining = |next: &Next| match are_strangers {
            true => 0,
            false => roster.remaining(std::iter::once(next.target())),
        };
        let most = next.iter().map(remaining).max().unwrap_or(0);
        if most >= floor {
            return FloorNow::Met;
        }
        for next in next {
            let refusal = match next {
                Next::ToRollBack(target) if self.may_be_rolled_back_but_for_floor(target) => continue,
                Next::ToStart(target) if self.can_decide() => self.check_limits(LimitCheck::ToQueue, target).err(),
                Next::ToRollBack(_) | Next::ToStart(_) => None,
            };
            match refusal.map(|refused| refused.refusal) {
                Some(Refusal::Floor { .. } | Refusal::Strangers { .. }) => {}
                other => {
                    let until = other.and_then(|refusal| refusal.changes_ms()).map(EpochMs::new);
                    return FloorNow::Beside { until };
                }
            }
        }
        let until = match self.setup.limits.calendar.at(self.now.get()) {
            Opening::Open { until_ms, .. } => until_ms.map(EpochMs::new),
            Opening::Shut { .. } => None,
        };
        FloorNow::Missed { remaining: most, until }
    }

    /// Of the targets that are next by their waves, one with which most members would remain. While no target is in flight,
    /// they differ only in whether they are members themselves.
    fn next_to_start(&self, floor: u32) -> Option<TargetIndex> {
        if self.ending.is_some() {
            return None;
        }
        // Another holder blocks these, whatever the party is.
        let held: HashSet<&str> = self.store_view.other_leases().map(|lease| lease.identifier.as_str()).collect();
        let is_next = |target: &TargetIndex| {
            let entry = &self.targets[*target];
            entry.status().is_open() && entry.may_start() && !held.contains(entry.target.name.as_str())
        };
        let mut next = self.targets_in_turn().filter(is_next);
        let first = next.next()?;
        let roster = &self.store_view.roster;
        let differs = roster.len() == floor as usize && roster.is_member(first);
        let absent = if differs { next.find(|target| !roster.is_member(*target)) } else { None };
        Some(absent.unwrap_or(first))
    }
}
