//! When a rollout may start anything: windows that come every week, and freezes that come once.
//!
//! A window begins at a time of day in its own time zone and lasts as long by the clock on the wall of a physicist: two hours
//! are two hours, though the clocks be changed meanwhile. Where the clocks are put forward over a window's beginning, it begins
//! as much later as they were put forward; where they are put back, it begins the first time.

use std::fmt;
use std::time::Duration;

use jiff::civil::{Date, DateTime, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// The longest that a window may last: with more, the next week's would begin before it has ended.
pub const MAX_WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// As many steps are made to find the next moment that is in a window and in no freeze; beyond them it counts as never.
const MAX_STEPS: u32 = 1000;

/// When something may start. Without windows: always, freezes apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Calendar {
    /// Something may start while any of them is open.
    pub windows: Vec<Window>,
    /// Nothing starts while any of them lasts.
    pub freezes: Vec<Freeze>,
}

/// A time of some days of the week.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// The days on which it begins; none: every day.
    pub days: Vec<Weekday>,
    /// When it begins.
    pub start: Time,
    /// How long it lasts, at most [`MAX_WINDOW`].
    pub duration: Duration,
    /// Where it is that time.
    pub zone: TimeZone,
    /// What must happen before its end.
    pub fit: Fit,
}

/// What a window is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fit {
    /// Starting: what has started may end after it.
    Start,
    /// Ending, too: nothing starts that would as a rule still run at its end.
    Finish,
}

/// A time in which nothing starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freeze {
    /// Its first moment.
    pub from: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
    /// What it is for, in its author's words.
    pub reason: Option<String>,
}

/// Whether something may start at a moment. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// It may.
    Open {
        /// Until when; none: for ever.
        until_ms: Option<u64>,
        /// By when what starts must have ended; none: whenever.
        finish_by_ms: Option<u64>,
    },
    /// It may not.
    Shut {
        /// Until when; none: as far as anybody can see.
        until_ms: Option<u64>,
        /// Why.
        why: Shut,
    },
}

/// Why nothing may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shut {
    /// No window is open.
    Outside,
    /// A freeze lasts.
    Frozen {
        /// What it is for.
        reason: Option<String>,
    },
}

impl fmt::Display for Shut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Outside => f.write_str("no window is open"),
            Self::Frozen { reason: Some(reason) } => write!(f, "a freeze lasts: {reason}"),
            Self::Frozen { reason: None } => f.write_str("a freeze lasts"),
        }
    }
}

impl Window {
    /// When the window of a day begins and ends; none if the day has none.
    fn on(&self, date: Date) -> Option<(Timestamp, Timestamp)> {
        if !self.days.is_empty() && !self.days.contains(&date.weekday()) {
            return None;
        }
        // "Compatible": later by the gap where the time does not exist, the first where it exists twice.
        let begins = self.zone.to_ambiguous_timestamp(DateTime::from_parts(date, self.start)).compatible().ok()?;
        let ends = begins.checked_add(self.duration).ok()?;
        Some((begins, ends))
    }

    /// The dates, in the window's own zone, whose windows may be open at a moment or begin within eight days of it.
    fn around(&self, now: Timestamp) -> impl Iterator<Item = (Timestamp, Timestamp)> + '_ {
        let today = self.zone.to_datetime(now).date();
        (-8..=8).filter_map(move |days| self.on(today.checked_add(Span::new().days(days)).ok()?))
    }

    fn is_open(&self, now: Timestamp) -> Option<Timestamp> {
        self.around(now).filter(|(begins, ends)| *begins <= now && now < *ends).map(|(_, ends)| ends).max()
    }

    fn next(&self, now: Timestamp) -> Option<Timestamp> {
        self.around(now).map(|(begins, _)| begins).filter(|begins| *begins > now).min()
    }
}

impl Calendar {
    /// Whether something may start at `now_ms`, and until when that holds.
    #[must_use]
    pub fn at(&self, now_ms: u64) -> Opening {
        let Some(now) = timestamp(now_ms) else {
            return Opening::Shut { until_ms: None, why: Shut::Outside };
        };
        if let Some(freeze) = self.frozen(now) {
            let why = Shut::Frozen { reason: freeze.reason.clone() };
            return Opening::Shut { until_ms: self.opens(freeze.until).map(epoch_ms), why };
        }
        if self.windows.is_empty() {
            return Opening::Open { until_ms: self.next_freeze(now).map(epoch_ms), finish_by_ms: None };
        }
        match self.open_until(now) {
            None => Opening::Shut { until_ms: self.opens(now).map(epoch_ms), why: Shut::Outside },
            Some(until) => {
                let until = self.next_freeze(now).map_or(until, |freeze| freeze.min(until));
                // Whoever may end later has the last word.
                let open = || self.windows.iter().filter_map(|window| Some((window.fit, window.is_open(now)?)));
                let any_start = open().any(|(fit, _)| fit == Fit::Start);
                let finish_by_ms = (!any_start).then(|| epoch_ms(until));
                Opening::Open { until_ms: Some(epoch_ms(until)), finish_by_ms }
            }
        }
    }

    fn frozen(&self, now: Timestamp) -> Option<&Freeze> {
        let lasting = self.freezes.iter().filter(|freeze| freeze.from <= now && now < freeze.until);
        lasting.max_by_key(|freeze| freeze.until)
    }

    fn next_freeze(&self, now: Timestamp) -> Option<Timestamp> {
        self.freezes
            .iter()
            .filter(|freeze| freeze.until > freeze.from)
            .map(|freeze| freeze.from)
            .filter(|from| *from > now)
            .min()
    }

    /// The end of the windows that are open, and of those that open before that.
    fn open_until(&self, now: Timestamp) -> Option<Timestamp> {
        let mut until = self.windows.iter().filter_map(|window| window.is_open(now)).max()?;
        for _ in 0..MAX_STEPS {
            match self.windows.iter().filter_map(|window| window.is_open(until)).max() {
                Some(later) if later > until => until = later,
                _ => return Some(until),
            }
        }
        Some(until)
    }

    /// The first moment from `from` on at which something may start.
    fn opens(&self, from: Timestamp) -> Option<Timestamp> {
        let mut at = from;
        for _ in 0..MAX_STEPS {
            if let Some(freeze) = self.frozen(at) {
                at = freeze.until;
            } else if self.windows.is_empty() || self.windows.iter().any(|window| window.is_open(at).is_some()) {
                return Some(at);
            } else {
                at = self.windows.iter().filter_map(|window| window.next(at)).min()?;
            }
        }
        None
    }
}

fn timestamp(ms: u64) -> Option<Timestamp> {
    Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()
}

fn epoch_ms(at: Timestamp) -> u64 {
    u64::try_from(at.as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> u64 {
        epoch_ms(text.parse().unwrap())
    }

    fn window(days: &[Weekday], start: &str, hours: u64, zone: &str) -> Window {
        let duration = Duration::from_secs(hours * 3600);
        let zone = TimeZone::get(zone).unwrap();
        Window { days: days.to_vec(), start: start.parse().unwrap(), duration, zone, fit: Fit::Start }
    }

    fn calendar(windows: &[Window]) -> Calendar {
        Calendar { windows: windows.to_vec(), freezes: Vec::new() }
    }

    fn open(until: &str) -> Opening {
        Opening::Open { until_ms: Some(at(until)), finish_by_ms: None }
    }

    fn shut(until: &str) -> Opening {
        Opening::Shut { until_ms: Some(at(until)), why: Shut::Outside }
    }

    #[test]
    fn without_windows_everything_may_start_at_any_time() {
        let always = Opening::Open { until_ms: None, finish_by_ms: None };
        assert_eq!(Calendar::default().at(at("2026-11-23T12:00:00Z")), always);
    }

    #[test]
    fn a_window_is_open_from_its_first_moment_to_before_its_last() {
        let calendar = calendar(&[window(&[Weekday::Tuesday, Weekday::Thursday], "01:00", 4, "Europe/Berlin")]);
        // Tuesday, winter: Berlin is an hour ahead.
        assert_eq!(calendar.at(at("2026-11-23T23:59:59.999Z")), shut("2026-11-24T00:00:00Z"));
        assert_eq!(calendar.at(at("2026-11-24T00:00:00Z")), open("2026-11-24T04:00:00Z"));
        assert_eq!(calendar.at(at("2026-11-24T03:59:59.999Z")), open("2026-11-24T04:00:00Z"));
        assert_eq!(calendar.at(at("2026-11-24T04:00:00Z")), shut("2026-11-26T00:00:00Z"));
        assert_eq!(calendar.at(at("2026-11-27T12:00:00Z")), shut("2026-12-01T00:00:00Z"));
    }

    #[test]
    fn a_window_goes_over_midnight_and_over_the_end_of_a_year() {
        let calendar = calendar(&[window(&[Weekday::Thursday], "22:00", 6, "UTC")]);
        // 31 December 2026 is a Thursday.
        assert_eq!(calendar.at(at("2027-01-01T03:30:00Z")), open("2027-01-01T04:00:00Z"));
        assert_eq!(calendar.at(at("2026-12-31T21:59:00Z")), shut("2026-12-31T22:00:00Z"));
        assert_eq!(calendar.at(at("2027-01-01T04:00:00Z")), shut("2027-01-07T22:00:00Z"));
    }

    #[test]
    fn a_beginning_that_the_clocks_skip_is_as_much_later() {
        // 28 March 2027: at 02:00 in Berlin it becomes 03:00.
        let calendar = calendar(&[window(&[Weekday::Sunday], "02:30", 2, "Europe/Berlin")]);
        assert_eq!(calendar.at(at("2027-03-28T01:00:00Z")), shut("2027-03-28T01:30:00Z"));
        assert_eq!(calendar.at(at("2027-03-28T01:30:00Z")), open("2027-03-28T03:30:00Z"));
    }

    #[test]
    fn a_beginning_that_comes_twice_is_the_first_and_two_hours_are_two_hours() {
        // 25 October 2026: at 03:00 in Berlin it becomes 02:00 again.
        let calendar = calendar(&[window(&[Weekday::Sunday], "02:30", 2, "Europe/Berlin")]);
        assert_eq!(calendar.at(at("2026-10-25T00:30:00Z")), open("2026-10-25T02:30:00Z"));
        assert_eq!(calendar.at(at("2026-10-25T02:30:00Z")), shut("2026-11-01T01:30:00Z"));
    }

    #[test]
    fn windows_that_meet_are_one() {
        let calendar =
            calendar(&[window(&[], "08:00", 4, "UTC"), window(&[], "12:00", 1, "UTC"), window(&[], "12:30", 2, "UTC")]);
        assert_eq!(calendar.at(at("2026-11-23T08:00:00Z")), open("2026-11-23T14:30:00Z"));
        let all_day = Calendar { windows: vec![window(&[], "00:00", 24, "UTC")], freezes: Vec::new() };
        assert!(matches!(all_day.at(at("2026-11-23T08:00:00Z")), Opening::Open { .. }));
    }

    #[test]
    fn a_freeze_wins_over_windows_and_ends_in_one() {
        let freeze = Freeze {
            from: "2026-11-23T10:00:00Z".parse().unwrap(),
            until: "2026-11-24T20:00:00Z".parse().unwrap(),
            reason: Some(String::from("the sale")),
        };
        let calendar = Calendar { windows: vec![window(&[], "08:00", 4, "UTC")], freezes: vec![freeze.clone()] };
        assert_eq!(calendar.at(at("2026-11-23T09:00:00Z")), open("2026-11-23T10:00:00Z"));
        let frozen = Shut::Frozen { reason: Some(String::from("the sale")) };
        let until_ms = Some(at("2026-11-25T08:00:00Z"));
        assert_eq!(calendar.at(at("2026-11-23T11:00:00Z")), Opening::Shut { until_ms, why: frozen });
        assert_eq!(calendar.at(at("2026-11-23T07:00:00Z")), shut("2026-11-23T08:00:00Z"));
        let only = Calendar { windows: Vec::new(), freezes: vec![freeze] };
        assert_eq!(only.at(at("2026-11-23T09:00:00Z")), open("2026-11-23T10:00:00Z"));
    }

    #[test]
    fn a_window_that_wants_the_end_inside_says_when_that_is() {
        let window = Window { fit: Fit::Finish, ..window(&[], "08:00", 4, "UTC") };
        let end = Some(at("2026-11-23T12:00:00Z"));
        let opening = calendar(&[window]).at(at("2026-11-23T09:00:00Z"));
        assert_eq!(opening, Opening::Open { until_ms: end, finish_by_ms: end });
    }
}
