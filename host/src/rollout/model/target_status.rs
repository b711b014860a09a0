//! A target's status, and the events that change it.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::types::Ending;

/// A target's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetStatus {
    /// The policy has not decided about it.
    Pending,
    /// The policy or a hard limit does not let it start now.
    Waiting,
    /// The policy answered `lock`: it queues for its slot.
    Queued,
    /// Its slot is held; no command was started under it.
    Leased,
    /// Its action runs.
    Running,
    /// Its action or its roll-back was started, and this runner did not see the end: that is being found out.
    Unsettled,
    /// Its action ended; its slot is still held.
    ActionEnded(Ending),
    /// Its roll-back runs.
    RollingBack,
    /// Its roll-back ended; its slot is still held.
    RollBackEnded(Ending),
    /// Nothing more happens to it in this run.
    Final(FinalStatus),
}

/// The status of a target that is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FinalStatus {
    /// Its action succeeded.
    Succeeded,
    /// Its action failed, was stopped by its time-out, or lost its lease.
    Failed,
    /// The outcome of its action or its roll-back is unknown.
    Unknown,
    /// It was rolled back.
    RolledBack,
    /// It was skipped.
    Skipped,
}

/// What happens to a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TargetEvent {
    /// It does not start now: the policy answered `wait` or `hold`, or a hard limit refused.
    Deferred,
    /// The policy answered `lock` or `force`.
    Queued,
    /// It left the queue, or released its slot unused.
    ReleasedUnused,
    /// Its slot is held.
    Leased,
    /// Its action started.
    Started,
    /// Its action, or its roll-back, ended.
    Ended(Ending),
    /// A command was started by an earlier runner, or over a connection that broke, and its end is not known.
    Unsettled,
    /// Its roll-back started.
    RollBackStarted,
    /// It may start again, as if it never had.
    Reopened,
    /// It queues for a slot for its roll-back.
    RollBackQueued,
    /// It was final under an earlier runner, or is again because its roll-back did not start.
    Restored(FinalStatus),
    /// Its slot is free again.
    Released,
    /// It is skipped.
    Skipped,
}

/// A pair of status and event that the machine must never produce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a target that is {state:?} cannot be {event:?}")]
pub struct IllegalEvent {
    state: TargetStatus,
    event: TargetEvent,
}

impl TargetStatus {
    /// The status after `event`. A pair that is not listed is a bug in the machine, not in the job.
    ///
    /// # Errors
    /// [`IllegalEvent`].
    pub fn after(self, event: TargetEvent) -> Result<Self, IllegalEvent> {
        use {TargetEvent as E, TargetStatus as S};
        match (self, event) {
            (S::Pending | S::Waiting, E::Deferred) => Ok(S::Waiting),
            (S::Pending | S::Waiting, E::Queued) => Ok(S::Queued),
            (S::Queued | S::Leased, E::ReleasedUnused) => Ok(S::Waiting),
            (S::Queued, E::Leased) => Ok(S::Leased),
            // Its roll-back did not run: it leaves that slot, and is final again.
            (S::Unsettled, E::Leased) => Ok(S::Leased),
            // A retry runs under the same slot.
            (S::Leased | S::ActionEnded(_), E::Started) => Ok(S::Running),
            // Started by an earlier runner, or by this one until the connection broke.
            (S::Pending | S::Running | S::RollingBack, E::Unsettled) => Ok(S::Unsettled),
            (S::Running | S::Unsettled, E::Ended(ending)) => Ok(S::ActionEnded(ending)),
            (S::ActionEnded(ending), E::Released) => Ok(S::Final(FinalStatus::of(ending))),
            (S::Leased | S::ActionEnded(_) | S::Unsettled, E::RollBackStarted) => Ok(S::RollingBack),
            (S::RollingBack, E::Ended(ending)) => Ok(S::RollBackEnded(ending)),
            (S::RollBackEnded(Ending::Succeeded), E::Released) => Ok(S::Final(FinalStatus::RolledBack)),
            (S::RollBackEnded(ending), E::Released) => Ok(S::Final(FinalStatus::of_roll_back(ending))),
            (S::Unsettled | S::ActionEnded(_) | S::Final(_), E::Reopened) => Ok(S::Waiting),
            (S::Final(FinalStatus::Succeeded | FinalStatus::Failed | FinalStatus::Unknown), E::RollBackQueued) => {
                Ok(S::Queued)
            }
            (S::Pending | S::Queued | S::Leased, E::Restored(last)) => Ok(S::Final(last)),
            (S::Pending | S::Waiting | S::Queued | S::Leased, E::Skipped) => Ok(S::Final(FinalStatus::Skipped)),
            (state, event) => Err(IllegalEvent { state, event }),
        }
    }

    /// Whether it takes one of the run's slots: it queues for one, or holds one.
    #[must_use]
    pub fn is_in_flight(self) -> bool {
        match self {
            Self::Queued
            | Self::Leased
            | Self::Running
            | Self::Unsettled
            | Self::ActionEnded(_)
            | Self::RollingBack
            | Self::RollBackEnded(_) => true,
            Self::Pending | Self::Waiting | Self::Final(_) => false,
        }
    }

    /// Whether the policy may still let it start.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Self::Pending | Self::Waiting)
    }
}

impl FinalStatus {
    /// The stable word for it, as in its JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
            Self::RolledBack => "rolled-back",
            Self::Skipped => "skipped",
        }
    }

    fn of(ending: Ending) -> Self {
        match ending {
            Ending::Succeeded => Self::Succeeded,
            Ending::Failed | Ending::TimedOut | Ending::LeaseLost => Self::Failed,
            Ending::Unknown => Self::Unknown,
        }
    }

    /// The status of a target whose roll-back ended.
    fn of_roll_back(ending: Ending) -> Self {
        match ending {
            Ending::Succeeded => Self::RolledBack,
            Ending::Failed | Ending::TimedOut | Ending::LeaseLost => Self::Failed,
            Ending::Unknown => Self::Unknown,
        }
    }
}

/// How many targets have each status: updated with every change, so that a view costs the same for ten targets and for ten
/// thousand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Counts {
    /// All of them.
    pub total: u32,
    /// [`TargetStatus::Pending`].
    pub pending: u32,
    /// [`TargetStatus::Waiting`], [`TargetStatus::Queued`] and [`TargetStatus::Leased`].
    pub waiting: u32,
    /// [`TargetStatus::Running`], [`TargetStatus::Unsettled`] and [`TargetStatus::RollingBack`], and ended with the slot still
    /// held.
    pub running: u32,
    /// [`FinalStatus::Succeeded`].
    pub succeeded: u32,
    /// [`FinalStatus::Failed`].
    pub failed: u32,
    /// [`FinalStatus::Unknown`].
    pub unknown: u32,
    /// [`FinalStatus::RolledBack`].
    #[serde(default)]
    pub rolled_back: u32,
    /// [`FinalStatus::Skipped`].
    pub skipped: u32,
}

impl Counts {
    /// Counts of `total` pending targets.
    #[must_use]
    pub fn all_pending(total: u32) -> Self {
        Self { total, pending: total, ..Self::default() }
    }

    /// Whether every target succeeded.
    #[must_use]
    pub fn all_succeeded(&self) -> bool {
        self.succeeded == self.total
    }

    /// Moves one target from one status to another.
    pub fn moved(&mut self, from: TargetStatus, to: TargetStatus) {
        *self.place(from) -= 1;
        *self.place(to) += 1;
    }

    /// How many are not final.
    #[must_use]
    pub fn open(&self) -> u32 {
        self.pending + self.waiting + self.running
    }

    fn place(&mut self, state: TargetStatus) -> &mut u32 {
        match state {
            TargetStatus::Pending => &mut self.pending,
            TargetStatus::Waiting | TargetStatus::Queued | TargetStatus::Leased => &mut self.waiting,
            TargetStatus::Running
            | TargetStatus::Unsettled
            | TargetStatus::ActionEnded(_)
            | TargetStatus::RollingBack
            | TargetStatus::RollBackEnded(_) => &mut self.running,
            TargetStatus::Final(FinalStatus::Succeeded) => &mut self.succeeded,
            TargetStatus::Final(FinalStatus::Failed) => &mut self.failed,
            TargetStatus::Final(FinalStatus::Unknown) => &mut self.unknown,
            TargetStatus::Final(FinalStatus::RolledBack) => &mut self.rolled_back,
            TargetStatus::Final(FinalStatus::Skipped) => &mut self.skipped,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use {TargetEvent as E, TargetStatus as S};

    #[test]
    fn a_target_moves_from_pending_to_succeeded() {
        let events = [E::Deferred, E::Queued, E::Leased, E::Started, E::Ended(Ending::Succeeded), E::Released];
        let end = events.into_iter().try_fold(S::Pending, S::after).unwrap();
        assert_eq!(end, S::Final(FinalStatus::Succeeded));
    }

    #[test]
    fn a_slot_that_is_released_unused_leaves_the_target_waiting() {
        assert_eq!(S::Leased.after(E::ReleasedUnused), Ok(S::Waiting));
        assert_eq!(S::Queued.after(E::ReleasedUnused), Ok(S::Waiting));
    }

    #[test]
    fn nothing_happens_to_a_target_that_is_final() {
        let all = [E::Deferred, E::Queued, E::ReleasedUnused, E::Leased, E::Started, E::Released, E::Skipped];
        for last in [FinalStatus::Succeeded, FinalStatus::Failed, FinalStatus::Unknown, FinalStatus::Skipped] {
            assert!(all.into_iter().all(|event| S::Final(last).after(event).is_err()), "{last:?}");
        }
    }

    #[test]
    fn nothing_starts_without_a_slot() {
        for state in [S::Pending, S::Waiting, S::Queued, S::Final(FinalStatus::Succeeded)] {
            assert!(state.after(E::Started).is_err(), "{state:?}");
        }
    }

    #[test]
    fn a_lost_lease_is_a_failure_and_an_unknown_end_is_not_a_success() {
        assert_eq!(S::ActionEnded(Ending::LeaseLost).after(E::Released), Ok(S::Final(FinalStatus::Failed)));
        assert_eq!(S::ActionEnded(Ending::Unknown).after(E::Released), Ok(S::Final(FinalStatus::Unknown)));
    }
}
