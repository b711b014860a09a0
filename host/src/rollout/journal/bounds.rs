//! A job's hard limits in a journal's first line, for readers that evaluate them again.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};

use crate::job::{Calendar, Fit, Freeze, Window};
use crate::rollout::model::{Budget, HardLimits, Wave};
use lockkeeper_coordination::store::millis;

/// [`HardLimits`] as written in a journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Bounds {
    /// Number of slots.
    pub slots: u32,
    /// Minimum of party members.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<u32>,
    /// Number of failed targets that stops the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<u32>,
    /// Number of failed targets that is never exceeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed: Option<u32>,
    /// The windows in which targets may start; empty if they may start at any time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<RecordedWindow>,
    /// The periods in which no target starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub freezes: Vec<RecordedFreeze>,
    /// Time-out of the job's action, in milliseconds: the expected duration of an action as long as none has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usual_ms: Option<u64>,
}

/// A wave as written in a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RecordedWave {
    /// Name of the wave.
    pub name: String,
    /// Number of targets; they follow those of the waves before.
    pub targets: usize,
    /// Number of failed targets that stops the wave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_at: Option<u32>,
}

/// A [`Window`] as written in a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RecordedWindow {
    /// Days of the week, 1 for Monday; empty if every day.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub days: Vec<i8>,
    /// Start in local time.
    pub start: Time,
    /// Length in milliseconds.
    pub duration_ms: u64,
    /// Time zone of `start`.
    #[serde(with = "jiff::fmt::serde::tz::required")]
    pub zone: TimeZone,
    /// Whether actions that start in it must end in it.
    pub finish: bool,
}

/// A [`Freeze`] as written in a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RecordedFreeze {
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
    /// Reason given in the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Bounds {
    /// Converts a job's limits; `timeout` is that of its action.
    #[must_use]
    pub fn new(limits: &HardLimits, timeout: Option<Duration>) -> Self {
        let Calendar { windows, freezes } = &*limits.calendar;
        Self {
            slots: limits.slots,
            floor: limits.floor,
            stop_at: limits.budget.stop_at,
            max_failed: limits.budget.max_failed,
            windows: windows.iter().map(RecordedWindow::from).collect(),
            freezes: freezes.iter().map(RecordedFreeze::from).collect(),
            usual_ms: timeout.map(millis),
        }
    }
}

impl From<&Wave> for RecordedWave {
    fn from(wave: &Wave) -> Self {
        Self { name: wave.name.clone(), targets: wave.targets.len(), stop_at: wave.stop_at }
    }
}

impl From<&Window> for RecordedWindow {
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

impl From<&Freeze> for RecordedFreeze {
    fn from(freeze: &Freeze) -> Self {
        Self { from: freeze.from, until: freeze.until, reason: freeze.reason.clone() }
    }
}

impl Bounds {
    /// The limits that were written.
    #[must_use]
    pub fn limits(&self) -> HardLimits {
        let window = |open: &RecordedWindow| Window {
            days: open.days.iter().filter_map(|day| Weekday::from_monday_one_offset(*day).ok()).collect(),
            start: open.start,
            duration: Duration::from_millis(open.duration_ms),
            zone: open.zone.clone(),
            fit: if open.finish { Fit::Finish } else { Fit::Start },
        };
        let freeze = |lasting: &RecordedFreeze| Freeze {
            from: lasting.from,
            until: lasting.until,
            reason: lasting.reason.clone(),
        };
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
