//! Numbers, times and lists for people.

use std::time::Duration;

use jiff::Timestamp;

/// Names that a list shows.
const MOST_NAMED: usize = 5;

/// A period; to the second if it is longer than ten seconds.
pub(super) fn span(ms: u64) -> String {
    let rounded = if ms < 10_000 { ms } else { ms - ms % 1000 };
    humantime::format_duration(Duration::from_millis(rounded)).to_string()
}

/// A time, with its distance from now.
pub(super) fn moment(ms: u64, now_ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(|| ms.to_string(), |at| at.strftime("%F %TZ").to_string());
    let far = ms.abs_diff(now_ms) / 1000 * 1000;
    match (far, ms > now_ms) {
        (0, _) => format!("{at} (now)"),
        (far, true) => format!("{at} (in {})", span(far)),
        (far, false) => format!("{at} ({} ago)", span(far)),
    }
}

/// `1 slot`, `2 slots`.
pub(super) fn of(number: usize, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}

/// The first names, and the number of further ones.
pub(super) fn named(names: &[String]) -> String {
    match names.len().saturating_sub(MOST_NAMED) {
        0 | 1 => names.join(", "),
        more => format!("{} and {more} more", names[..MOST_NAMED].join(", ")),
    }
}
