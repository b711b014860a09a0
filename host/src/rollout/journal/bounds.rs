//! A job's hard limits as a journal's first line has them, so that they can be asked once more.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::job::{Calendar, Fit, Freeze, Window};
use crate::rollout::model::{Budget, HardLimits, Wave};
use lockkeeper_coordination::store::millis;

/// [`HardLimits`], written down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bounds {
    /// How many targets may be under way at once.
    pub slots: u32,
    /// How many members of the party must remain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<u32>,
    /// How many failed targets stop the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<u32>,
    /// How many targets may fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed: Option<u32>,
    /// When something may start; none: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<Open>,
    /// When nothing may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<Lasting>,
    /// The job's time-out of an action: how long one may be expected to take while none has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_ms: Option<u64>,
}

/// Targets that go together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Together {
    /// The wave's name.
    pub name: String,
    /// How many of the targets, after those of the waves before.
    pub targets: usize,
    /// How many of them stop the run when they have failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<u32>,
}

/// A [`Window`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Open {
    /// On which days of the week, 1 for Monday; none: on every one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<i8>,
    /// From when on.
    pub start: Time,
    /// For how many milliseconds.
    pub duration_ms: u64,
    /// Where it is that time.
    #[serde(with = "jiff::fmt::serde::tz::required")]
    pub zone: TimeZone,
    /// Whether what starts must end before its end.
    pub finish: bool,
}

/// A [`Freeze`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Lasting {
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Bounds {
    /// A job's limits, and the time-out of its action.
    #[must_use]
    pub fn new(limits: &HardLimits, timeout: Option<Duration>) -> Self {
        let Calendar { windows, freezes } = &*limits.calendar;
        Self {
            slots: limits.slots,
            floor: limits.floor,
            stop_at: limits.budget.stop_at,
            max_failed: limits.budget.max_failed,
            windows: windows.iter().map(Open::from).collect(),
            freezes: freezes.iter().map(Lasting::from).collect(),
            usual_ms: timeout.map(millis),
        }
    }
}

impl From<&Wave> for Together {
    fn from(wave: &Wave) -> Self {
        Self { name: wave.name.clone(), targets: wave.targets.len(), stop_at: wave.stop_at }
    }
}

impl From<&Window> for Open {
    fn from(window: &Window) -> Self {
        Self {
            days: window.days.iter().map(|day| day.to_monday_one_offset()).collect(),
            start: window.start,
            duration_ms: millis(window.duration),
            zone: window.zone.clone(),
            finish: window.fit == Fit::Finish,
        }
    }
}

impl From<&Freeze> for Lasting {
    fn from(freeze: &Freeze) -> Self {
        Self { from: freeze.from, until: freeze.until, reason: freeze.reason.clone() }
    }
}

impl Bounds {
    /// The limits as they were.
    #[must_use]
    pub fn limits(&self) -> HardLimits {
        let window = |open: &Open| Window {
            days: open.days.iter().filter_map(|day| Weekday::from_monday_one_offset(*day).ok()).collect(),
            start: open.start,
            duration: Duration::from_millis(open.duration_ms),
            zone: open.zone.clone(),
            fit: if open.finish { Fit::Finish } else { Fit::Start },
        };
        let freeze =
            |lasting: &Lasting| Freeze { from: lasting.from, until: lasting.until, reason: lasting.reason.clone() };
        HardLimits {
            slots: self.slots,
            floor: self.floor,
            budget: Budget { stop_at: self.stop_at, max_failed: self.max_failed },
            calendar: Arc::new(Calendar {
                windows: self.windows.iter().map(window).collect(),
                freezes: self.freezes.iter().map(freeze).collect(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_come_back_as_they_were() {
        let window = Window {
            days: vec![Weekday::Monday, Weekday::Sunday],
            start: "22:30:00".parse().unwrap(),
            duration: Duration::from_secs(7200),
            zone: TimeZone::get("Europe/Berlin").unwrap(),
            fit: Fit::Finish,
        };
        let freeze = Freeze {
            from: "2026-12-20T00:00:00Z".parse().unwrap(),
            until: "2027-01-02T00:00:00Z".parse().unwrap(),
            reason: Some("holidays".to_owned()),
        };
        let calendar = Arc::new(Calendar { windows: vec![window], freezes: vec![freeze] });
        for (stop_at, max_failed) in [(Some(1), Some(4)), (Some(2), None), (None, Some(0)), (None, None)] {
            let budget = Budget { stop_at, max_failed };
            let limits = HardLimits { slots: 3, floor: Some(9), budget, calendar: Arc::clone(&calendar) };
            let text = serde_json::to_string(&Bounds::new(&limits, None)).unwrap();
            assert_eq!(serde_json::from_str::<Bounds>(&text).unwrap().limits(), limits, "{text}");
        }
    }
}
