//! The job's hard limits: every grant and every start is checked here, whatever a policy answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::job::{Calendar, Opening, Shut};
use crate::rollout::model::OperatorRequest;

/// What a job allows; its shares are numbers, for the targets that it has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HardLimits {
    /// How many targets of this run may be in flight at once, forced ones included.
    pub slots: u32,
    /// How many members of the party must remain while targets run. `None` if the job names no party.
    pub floor: Option<u32>,
    /// How many targets may fail.
    pub budget: Budget,
    /// When anything may start.
    pub calendar: Arc<Calendar>,
}

/// How many targets may fail. Without either number, any number may.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Budget {
    /// Nothing new starts once so many targets have failed. Reserves nothing: targets that run by then may fail, too.
    pub stop_at: Option<u32>,
    /// At most so many targets may fail: each running target reserves a failure. Without `stop_at`, nothing new starts after so
    /// many either. With 0, targets run one at a time, and the first failure is the last.
    pub max_failed: Option<u32>,
}

impl Budget {
    /// How many failures stop the run. `None` if no number does.
    #[must_use]
    pub fn stop_at(&self) -> Option<u32> {
        [self.stop_at, self.max_failed].into_iter().flatten().min().map(|failed| failed.max(1))
    }

    /// Whether nothing new may start after so many failures.
    #[must_use]
    pub fn is_spent(&self, failed: u32) -> bool {
        self.stop_at().is_some_and(|stop_at| failed >= stop_at)
    }

    /// Whether more failed than the job allows a run that has nothing left to start.
    #[must_use]
    pub fn is_exceeded(&self, failed: u32) -> bool {
        self.max_failed.map_or_else(|| self.is_spent(failed), |max_failed| failed > max_failed)
    }

    /// How many targets may run at once after so many failures. `None` if nothing is reserved.
    #[must_use]
    pub fn at_once(&self, failed: u32) -> Option<u32> {
        match self.is_spent(failed) {
            true => Some(0),
            false => self.max_failed.map(|max_failed| max_failed.saturating_sub(failed).max(1)),
        }
    }

    /// How many more may fail before a target is refused for that. `None` if any number may.
    #[must_use]
    pub fn left(&self, failed: u32, reserved: u32) -> Option<u32> {
        let until_it_stops = self.stop_at().map(|stop_at| stop_at.saturating_sub(failed));
        let not_reserved = self.max_failed.map(|most| most.saturating_sub(failed).saturating_sub(reserved));
        [until_it_stops, not_reserved].into_iter().flatten().min()
    }
}

/// What the limits are checked against. The journal has it with each refusal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Facts {
    /// Targets of this run that queue, hold a slot or run, without the target itself.
    pub in_flight: u32,
    /// Targets whose actions run or are not settled, without the target itself: each may still fail.
    pub reserved: u32,
    /// Targets that failed, are unknown or were rolled back, after their last attempt.
    pub failed: u32,
    /// Members of the party that would remain: neither in flight nor the target itself. `None` if the party was not read.
    pub remaining: Option<u32>,
    /// How many members the party has, if no target is or was a member and nothing has started: a floor of other names protects
    /// no target. `None` if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strangers: Option<u32>,
    /// Whether the store is connected.
    pub connected: bool,
    /// The time of the check, in milliseconds since the Unix epoch.
    pub now_ms: u64,
    /// How long an action is expected to take, in milliseconds. `None` if that is not known.
    pub usual_ms: Option<u64>,
    /// The request that pauses the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<OperatorRequest>,
    /// A target whose outcome is unknown, and that blocks all others until an operator retries or accepts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
    /// A wave that has reached its own `stop-at`: nothing new starts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wave_spent: Option<WaveSpent>,
    /// Why it is not the turn of the target's wave.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wave: Option<WaveGate>,
    /// Another holder's lease under the target's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<HeldElsewhere>,
}

/// The code of [`Refusal::Held`]: like the floor it is about one target, and every other limit is about all.
pub const HELD: &str = "held";

/// Another holder of the semaphore with a target's name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct HeldElsewhere {
    /// The run and its job, the process and its host, or the operator; for a lease without a claim, its data.
    pub by: String,
    /// When it acquired its lease, in milliseconds since the Unix epoch. `None` if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<u64>,
}

impl fmt::Display for HeldElsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.since {
            Some(since) => write!(f, "{} since {}", self.by, moment(since)),
            None => f.write_str(&self.by),
        }
    }
}

/// A wave that has reached its own `stop-at`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WaveSpent {
    /// The wave's name.
    pub wave: String,
    /// How many of its targets failed, are unknown or were rolled back.
    pub failed: u32,
    /// The wave's `stop-at`.
    pub stop_at: u32,
}

/// Why no target of a wave may start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum WaveGate {
    /// An earlier wave is not complete.
    Earlier {
        /// Name of the earlier wave.
        wave: String,
        /// How many of its targets are final.
        done: u32,
        /// How many targets it has.
        of: u32,
    },
    /// An earlier wave bakes.
    Baking {
        /// Name of the wave.
        wave: String,
        /// When it has baked, in milliseconds since the Unix epoch.
        until: u64,
    },
    /// An operator has to approve the wave.
    Approval {
        /// Name of the wave.
        wave: String,
    },
    /// As many targets of the wave are in flight as it allows.
    Full {
        /// Name of the wave.
        wave: String,
        /// How many the wave allows.
        slots: u32,
    },
}

/// The limit that refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// As many targets are in flight as the semaphore has slots.
    Slots {
        /// Number of slots.
        slots: u32,
    },
    /// Too few members of the party would remain.
    Floor {
        /// How many would remain.
        remaining: u32,
        /// The floor.
        floor: u32,
    },
    /// The party has members, and no target is one.
    Strangers {
        /// How many there are.
        members: u32,
    },
    /// So many targets have failed that nothing new starts.
    BudgetSpent {
        /// How many failed: of the run, or of the wave.
        failed: u32,
        /// How many stop the run.
        stop_at: u32,
        /// The wave whose `stop-at` that is. `None` if it is the job's.
        wave: Option<String>,
    },
    /// Every failure that the budget still allows is reserved by a running target.
    BudgetReserved {
        /// Number of reserved failures.
        reserved: u32,
        /// Number of failures that the budget still allows.
        left: u32,
    },
    /// The store is not connected: the leases may have changed.
    Suspended,
    /// An operator has paused the run.
    Paused {
        /// The operator's request.
        request: OperatorRequest,
    },
    /// A target's outcome is unknown, and the job says to hold the others.
    UnknownHeld {
        /// Which.
        target: String,
    },
    /// It is not the turn of the target's wave.
    Wave {
        /// The reason.
        gate: WaveGate,
    },
    /// Another holder has a lease under the target's name.
    Held {
        /// The holder.
        by: HeldElsewhere,
    },
    /// No window is open, or a freeze is in force.
    Shut {
        /// Until when, in milliseconds since the Unix epoch. `None` if no end can be determined.
        until_ms: Option<u64>,
        /// Why.
        why: Shut,
    },
    /// The action may not end before its window does, as the job demands.
    WontFit {
        /// How long it is expected to take, in milliseconds.
        usual_ms: u64,
        /// When the window ends, in milliseconds since the Unix epoch.
        ends_ms: u64,
    },
}

impl HardLimits {
    /// Whether one more target may acquire a slot and start.
    ///
    /// # Errors
    /// The first limit that refuses.
    pub fn allow_one_more(&self, facts: &Facts) -> Result<(), Refusal> {
        if !facts.connected {
            return Err(Refusal::Suspended);
        }
        if let Some(request) = &facts.paused {
            return Err(Refusal::Paused { request: request.clone() });
        }
        if let Some(target) = &facts.unknown {
            return Err(Refusal::UnknownHeld { target: target.clone() });
        }
        // Before whatever passes by itself: this needs an operator.
        if let Some(refusal) = self.spent(facts) {
            return Err(refusal);
        }
        if let Some(gate) = &facts.wave {
            return Err(Refusal::Wave { gate: gate.clone() });
        }
        self.is_the_time(facts)?;
        if let Some(by) = &facts.held {
            return Err(Refusal::Held { by: by.clone() });
        }
        if facts.in_flight >= self.slots {
            return Err(Refusal::Slots { slots: self.slots });
        }
        if let Some(left) = self.budget.at_once(facts.failed)
            && facts.reserved >= left
        {
            return Err(Refusal::BudgetReserved { reserved: facts.reserved, left });
        }
        if let (Some(1..), Some(members)) = (self.floor, facts.strangers) {
            return Err(Refusal::Strangers { members });
        }
        match (self.floor, facts.remaining) {
            (Some(floor), remaining) if remaining.unwrap_or(0) < floor => {
                Err(Refusal::Floor { remaining: remaining.unwrap_or(0), floor })
            }
            _ => Ok(()),
        }
    }

    fn is_the_time(&self, facts: &Facts) -> Result<(), Refusal> {
        match (self.calendar.at(facts.now_ms), facts.usual_ms) {
            (Opening::Shut { until_ms, why }, _) => Err(Refusal::Shut { until_ms, why }),
            (Opening::Open { finish_by_ms: Some(ends_ms), .. }, Some(usual_ms))
                if facts.now_ms.saturating_add(usual_ms) > ends_ms =>
            {
                Err(Refusal::WontFit { usual_ms, ends_ms })
            }
            (Opening::Open { .. }, _) => Ok(()),
        }
    }

    /// The refusal of every target, if so many have failed that the run stops.
    #[must_use]
    pub fn spent(&self, facts: &Facts) -> Option<Refusal> {
        if let Some(stop_at) = self.budget.stop_at().filter(|_| self.budget.is_spent(facts.failed)) {
            return Some(Refusal::BudgetSpent { failed: facts.failed, stop_at, wave: None });
        }
        let WaveSpent { wave, failed, stop_at } = facts.wave_spent.clone()?;
        Some(Refusal::BudgetSpent { failed, stop_at, wave: Some(wave) })
    }
}

impl Refusal {
    /// When time alone may change the refusal, in milliseconds since the Unix epoch. `None` if it takes something else.
    #[must_use]
    pub fn changes_ms(&self) -> Option<u64> {
        match self {
            Self::Shut { until_ms, .. } => *until_ms,
            // In the next window, and that is after the end of this one.
            Self::WontFit { ends_ms, .. } => Some(*ends_ms),
            Self::Wave { gate: WaveGate::Baking { until, .. } } => Some(*until),
            Self::Slots { .. }
            | Self::Held { .. }
            | Self::Floor { .. }
            | Self::Strangers { .. }
            | Self::BudgetSpent { .. }
            | Self::BudgetReserved { .. }
            | Self::Paused { .. }
            | Self::UnknownHeld { .. }
            | Self::Wave { .. }
            | Self::Suspended => None,
        }
    }

    /// The stable code of the limit.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Slots { .. } => "slots",
            Self::Held { .. } => HELD,
            Self::Floor { .. } | Self::Strangers { .. } => "floor",
            Self::BudgetSpent { .. } => "budget-spent",
            Self::BudgetReserved { .. } => "budget-reserved",
            Self::Suspended => "store-suspended",
            Self::Paused { .. } => "paused",
            Self::UnknownHeld { .. } => "unknown-held",
            Self::Wave { gate: WaveGate::Earlier { .. } } => "wave",
            Self::Wave { gate: WaveGate::Baking { .. } } => "wave-baking",
            Self::Wave { gate: WaveGate::Approval { .. } } => "wave-approval",
            Self::Wave { gate: WaveGate::Full { .. } } => "wave-full",
            Self::Shut { why: Shut::Outside, .. } => "window",
            Self::Shut { why: Shut::Frozen { .. }, .. } => "freeze",
            Self::WontFit { .. } => "window-end",
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Slots { slots } => write!(f, "all {slots} slots are this run's own already"),
            Self::Held { by } => write!(f, "another holder uses this name: {by}"),
            Self::Floor { remaining, floor } => {
                write!(f, "{remaining} of the party would remain, the floor is {floor}")
            }
            Self::Strangers { members } => {
                let plural = if *members == 1 { "" } else { "s" };
                write!(f, "the party has {members} member{plural}, and none is a target: see `member` in `[party]`")
            }
            Self::BudgetSpent { failed, stop_at, wave: None } => {
                write!(f, "{failed} failed, the budget stops at {stop_at}")
            }
            Self::BudgetSpent { failed, stop_at, wave: Some(wave) } => {
                write!(f, "{failed} of wave `{wave}` failed, the wave stops at {stop_at}")
            }
            Self::BudgetReserved { reserved, .. } => write!(f, "{reserved} under way could spend the failure budget"),
            Self::Suspended => f.write_str("the store is not connected"),
            Self::Paused { request: OperatorRequest { by, reason: Some(reason), .. } } => {
                write!(f, "paused by {by}: {reason}")
            }
            Self::Paused { request: OperatorRequest { by, reason: None, .. } } => write!(f, "paused by {by}"),
            Self::UnknownHeld { target } => {
                write!(f, "the outcome on {target} is unknown: retry or accept it to continue")
            }
            Self::Wave { gate: WaveGate::Earlier { wave, done, of } } => {
                write!(f, "wave `{wave}` is not complete: {done} of {of} are finished")
            }
            Self::Wave { gate: WaveGate::Baking { wave, until } } => {
                write!(f, "wave `{wave}` bakes until {}", moment(*until))
            }
            Self::Wave { gate: WaveGate::Approval { wave } } => write!(f, "wave `{wave}` waits for approval"),
            Self::Wave { gate: WaveGate::Full { wave, slots } } => {
                write!(f, "as many of wave `{wave}` are under way as it allows: {slots}")
            }
            Self::Shut { until_ms: Some(until), why } => write!(f, "{why}; nothing starts before {}", moment(*until)),
            Self::Shut { until_ms: None, why } => write!(f, "{why}; nothing will ever start again"),
            Self::WontFit { usual_ms, ends_ms } => {
                let usual = humantime::format_duration(Duration::from_millis(*usual_ms));
                write!(f, "it may take {usual}, and the window ends at {}", moment(*ends_ms))
            }
        }
    }
}

/// In UTC, to the second.
fn moment(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| ms.to_string(), |at| at.strftime("%F %TZ").to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    const FREE: Facts = Facts {
        in_flight: 0,
        reserved: 0,
        failed: 0,
        remaining: None,
        strangers: None,
        connected: true,
        now_ms: 0,
        usual_ms: None,
        paused: None,
        unknown: None,
        wave_spent: None,
        wave: None,
        held: None,
    };
    static SLOTS: LazyLock<HardLimits> = LazyLock::new(|| HardLimits { slots: 4, ..HardLimits::default() });

    fn with(slots: u32, stop_at: Option<u32>, max_failed: Option<u32>) -> HardLimits {
        HardLimits { slots, budget: Budget { stop_at, max_failed }, ..SLOTS.clone() }
    }

    #[test]
    fn the_run_never_takes_more_than_its_slots() {
        assert_eq!(SLOTS.allow_one_more(&Facts { in_flight: 3, ..FREE }), Ok(()));
        assert_eq!(SLOTS.allow_one_more(&Facts { in_flight: 4, ..FREE }), Err(Refusal::Slots { slots: 4 }));
    }

    #[test]
    fn failures_are_reserved_before_they_happen() {
        let limits = with(20, None, Some(3));
        for (failed, reserved) in [(0, 2), (1, 1), (2, 0)] {
            assert_eq!(limits.allow_one_more(&Facts { failed, reserved, ..FREE }), Ok(()));
            let full = Facts { failed, reserved: reserved + 1, ..FREE };
            assert!(matches!(limits.allow_one_more(&full), Err(Refusal::BudgetReserved { .. })));
        }
        let spent = limits.allow_one_more(&Facts { failed: 3, ..FREE });
        assert_eq!(spent, Err(Refusal::BudgetSpent { failed: 3, stop_at: 3, wave: None }));
    }

    #[test]
    fn what_only_stops_reserves_nothing() {
        let limits = with(20, Some(3), None);
        for failed in 0..3 {
            assert_eq!(limits.allow_one_more(&Facts { failed, in_flight: 19, reserved: 19, ..FREE }), Ok(()));
        }
        let spent = limits.allow_one_more(&Facts { failed: 3, ..FREE });
        assert_eq!(spent, Err(Refusal::BudgetSpent { failed: 3, stop_at: 3, wave: None }));
        assert!(limits.allow_one_more(&Facts { failed: 22, ..FREE }).is_err());
    }

    #[test]
    fn with_both_it_stops_at_the_one_and_never_exceeds_the_other() {
        let limits = with(20, Some(2), Some(5));
        for (failed, at_once) in [(0, 5), (1, 4)] {
            let running = |reserved| Facts { failed, in_flight: reserved, reserved, ..FREE };
            assert_eq!(limits.allow_one_more(&running(at_once - 1)), Ok(()));
            let refused = Refusal::BudgetReserved { reserved: at_once, left: at_once };
            assert_eq!(limits.allow_one_more(&running(at_once)), Err(refused));
        }
        assert!(matches!(limits.allow_one_more(&Facts { failed: 2, ..FREE }), Err(Refusal::BudgetSpent { .. })));
        // What no checked job says: the stricter of the two holds.
        assert_eq!(with(20, Some(9), Some(2)).budget.stop_at(), Some(2));
    }

    #[test]
    fn a_wave_that_has_failed_stops_every_wave() {
        let limits = with(20, Some(100), None);
        let wave_spent = Some(WaveSpent { wave: "canary".to_owned(), failed: 1, stop_at: 1 });
        let gate = Some(WaveGate::Approval { wave: "rest".to_owned() });
        let refusal = limits.allow_one_more(&Facts { failed: 1, wave_spent, wave: gate, ..FREE }).unwrap_err();
        assert_eq!((refusal.code(), refusal.changes_ms()), ("budget-spent", None));
        assert_eq!(refusal.to_string(), "1 of wave `canary` failed, the wave stops at 1");
    }

    #[test]
    fn without_a_number_nothing_stops_it() {
        assert_eq!(SLOTS.allow_one_more(&Facts { failed: u32::MAX, reserved: 3, in_flight: 3, ..FREE }), Ok(()));
        assert_eq!(SLOTS.budget.left(7, 3), None);
    }

    #[test]
    fn what_is_left_is_what_may_fail_before_something_is_refused() {
        let left = |stop_at, max_failed, failed, reserved| with(9, stop_at, max_failed).budget.left(failed, reserved);
        assert_eq!(left(Some(3), None, 1, 5), Some(2));
        assert_eq!(left(None, Some(3), 1, 1), Some(1));
        assert_eq!(left(Some(2), Some(9), 1, 2), Some(1));
        assert_eq!(left(Some(2), Some(3), 0, 2), Some(1));
        assert_eq!(left(Some(2), None, 5, 0), Some(0));
    }

    #[test]
    fn nothing_left_to_start_is_judged_by_what_may_fail() {
        let exceeded = |stop_at, max_failed, failed| with(9, stop_at, max_failed).budget.is_exceeded(failed);
        assert!(!exceeded(None, Some(2), 2) && exceeded(None, Some(2), 3));
        assert!(!exceeded(Some(1), Some(2), 2) && exceeded(Some(1), Some(2), 3));
        assert!(!exceeded(Some(2), None, 1) && exceeded(Some(2), None, 2));
        assert!(exceeded(None, Some(0), 1));
    }

    #[test]
    fn with_a_budget_of_none_targets_go_one_at_a_time_until_the_first_fails() {
        let limits = with(4, None, Some(0));
        assert_eq!(limits.allow_one_more(&FREE), Ok(()));
        assert!(limits.allow_one_more(&Facts { reserved: 1, ..FREE }).is_err());
        assert!(limits.allow_one_more(&Facts { failed: 1, ..FREE }).is_err());
    }

    #[test]
    fn a_floor_that_was_never_read_is_not_kept() {
        let limits = HardLimits { floor: Some(1), ..SLOTS.clone() };
        assert!(limits.allow_one_more(&FREE).is_err());
        assert_eq!(limits.allow_one_more(&Facts { remaining: Some(1), ..FREE }), Ok(()));
    }

    #[test]
    fn a_floor_of_strangers_is_not_kept() {
        let limits = HardLimits { floor: Some(1), ..SLOTS.clone() };
        let strangers = Facts { remaining: Some(4), strangers: Some(4), ..FREE };
        assert_eq!(limits.allow_one_more(&strangers), Err(Refusal::Strangers { members: 4 }));
        // Without a floor nobody is counted.
        let no_floor = HardLimits { floor: Some(0), ..limits };
        assert_eq!(no_floor.allow_one_more(&strangers), Ok(()));
    }

    #[test]
    fn nothing_starts_while_the_store_does_not_hear_us() {
        assert_eq!(SLOTS.allow_one_more(&Facts { connected: false, ..FREE }), Err(Refusal::Suspended));
    }
}
