//! The time axis: positions of times on the drawing, and its labels.

use jiff::Timestamp;

/// Distances between labels, in seconds.
const STEPS: [u64; 22] = [
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
    2_592_000, 31_536_000,
];

/// Labels on the axis, at most.
const MOST_NAMED: u64 = 10;

const DAY_MS: u64 = 86_400_000;

/// Time from left to right.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) left: f64,
    pub(super) width: f64,
}

impl Axis {
    pub(super) fn x(&self, at: u64) -> f64 {
        let all = self.to.saturating_sub(self.from).max(1);
        let part = at.clamp(self.from, self.to) - self.from;
        // Hundredths of a pixel are enough, and the same on every machine.
        let hundredths = u128::from(part) * (self.width * 100.0) as u128 / u128::from(all);
        self.left + hundredths as f64 / 100.0
    }

    /// The labelled times with their labels.
    pub(super) fn ticks(&self) -> Vec<(u64, String)> {
        let all = self.to.saturating_sub(self.from);
        let step =
            STEPS.into_iter().find(|step| all / (step * 1000) < MOST_NAMED).unwrap_or(STEPS[STEPS.len() - 1]) * 1000;
        let format = match (all > DAY_MS, step < 60_000) {
            (true, _) => "%m-%d %H:%M",
            (false, true) => "%H:%M:%S",
            (false, false) => "%H:%M",
        };
        let mut at = self.from.div_ceil(step) * step;
        let mut ticks = Vec::new();
        while at <= self.to {
            ticks.push((at, clock(at, format)));
            at += step;
        }
        ticks
    }
}

/// Formats a time in UTC.
pub(super) fn clock(ms: u64, format: &str) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    at.map_or_else(|| ms.to_string(), |at| at.strftime(format).to_string())
}
