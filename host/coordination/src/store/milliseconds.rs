//! Spans as whole milliseconds, in which the store keeps all times.

use std::time::Duration;

/// A duration in whole milliseconds, cut off; `u64::MAX` for one that is longer than that.
#[must_use]
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// How much later one time is than another, in milliseconds; negative if it is earlier, 0 beyond what an `i64` holds.
#[must_use]
pub fn difference(later_ms: u64, earlier_ms: u64) -> i64 {
    i64::try_from(i128::from(later_ms) - i128::from(earlier_ms)).unwrap_or_default()
}
