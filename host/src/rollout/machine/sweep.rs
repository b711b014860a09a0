//! Which target the policy decides about next: sweeps over the open targets in the plan's order.

use crate::policy::types::Cause;
use crate::rollout::model::{Blocker, EpochMs, TargetIndex};

/// After so many waits the next sweep, counted from the start of this one, is a millisecond later. With ten targets that is
/// not noticeable; with 10,000 that wait, changes lead to one sweep a second and not to one sweep each.
const WAITS_EACH_MS: u64 = 10;

/// The sweep in progress, and what is known of the next.
#[derive(Debug)]
pub(super) struct Sweep {
    /// The next target of this sweep, unless it is not open.
    cursor: TargetIndex,
    /// Why this sweep began.
    cause: Cause,
    /// A change is waiting for a sweep from the front.
    is_due: bool,
    began: EpochMs,
    /// How many waits this sweep came to.
    waits: u64,
    /// The floor refused a target in this sweep: whether a member would have gone down with it. Targets that would take a
    /// member down as well need no decision.
    floor_refused: Option<bool>,
    hold: Option<Hold>,
    /// The last reason that was reported for all targets at once, so that it is reported once.
    pub(super) reported: String,
    /// What blocked the last target that the policy decided about.
    pub(super) blocker: Option<Blocker>,
}

/// No target may start now, from one target on.
#[derive(Debug, Clone, Copy)]
struct Hold {
    /// When the hold ends by itself.
    until: Option<EpochMs>,
    /// The first target that it is about: the first of all, or of a wave.
    from: TargetIndex,
}

impl Default for Sweep {
    fn default() -> Self {
        Self {
            cursor: TargetIndex::new(0),
            cause: Cause::First,
            is_due: false,
            began: EpochMs::default(),
            waits: 0,
            floor_refused: None,
            hold: None,
            reported: String::new(),
            blocker: None,
        }
    }
}

impl Sweep {
    /// Something that views show has changed: a new sweep is due, and no hold remains.
    pub(super) fn changed(&mut self, cause: Cause) {
        self.hold = None;
        self.is_due = true;
        self.cause = cause;
    }

    /// Why the sweep in progress began.
    pub(super) fn cause(&self) -> Cause {
        self.cause.clone()
    }

    /// When the sweep that is due may begin. `None` if none is due.
    pub(super) fn next_at(&self) -> Option<EpochMs> {
        self.is_due.then(|| self.began.after_ms(self.waits / WAITS_EACH_MS))
    }

    /// Begins the sweep that is due, if it may begin by now.
    pub(super) fn begin_if_due(&mut self, now: EpochMs) {
        if self.next_at().is_some_and(|at| at <= now) {
            self.is_due = false;
            self.began = now;
            self.waits = 0;
            self.floor_refused = None;
            self.cursor = TargetIndex::new(0);
        }
    }

    /// The next target of this sweep, unless it is not open.
    pub(super) fn cursor(&self) -> TargetIndex {
        self.cursor
    }

    /// Continues at this target.
    pub(super) fn continue_at(&mut self, target: TargetIndex) {
        self.cursor = target;
    }

    /// Includes a target in the sweep in progress.
    pub(super) fn include(&mut self, target: TargetIndex) {
        self.cursor = self.cursor.min(target);
    }

    /// The policy answered `wait`.
    pub(super) fn waited(&mut self) {
        self.waits += 1;
    }

    /// The floor refused a target: whether a member would have gone down with it.
    pub(super) fn refused_by_floor(&mut self, takes_a_member: bool) {
        self.floor_refused = Some(takes_a_member);
    }

    /// Whether the floor may allow a target although it refused another one in this sweep.
    pub(super) fn may_pass_floor(&self, takes_a_member: impl FnOnce() -> bool) -> bool {
        self.floor_refused.is_none_or(|refused_a_member| refused_a_member && !takes_a_member())
    }

    /// No target from this one on may start until then, or until something changes.
    pub(super) fn hold(&mut self, from: TargetIndex, until: Option<EpochMs>) {
        self.hold = Some(Hold { until, from });
    }

    /// As [`Self::hold`], unless a hold is in force that includes more targets.
    pub(super) fn hold_at_least(&mut self, from: TargetIndex, until: Option<EpochMs>) {
        if self.hold.is_none_or(|hold| hold.from >= from) {
            self.hold(from, until);
        }
    }

    /// The first target that is held. `None` if there is no hold.
    pub(super) fn held_from(&self) -> Option<TargetIndex> {
        self.hold.map(|hold| hold.from)
    }

    /// When the hold ends by itself.
    pub(super) fn held_until(&self) -> Option<EpochMs> {
        self.hold?.until
    }

    /// The wall clock was set.
    pub(super) fn shift(&mut self, by_ms: i64) {
        self.began = self.began.shifted(by_ms);
    }
}
