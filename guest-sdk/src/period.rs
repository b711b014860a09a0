//! Durations in settings.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, Deserialize, Deserializer};

use crate::Schema;

/// Units from large to small, in milliseconds.
const UNITS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// A length of time in settings, written as jobs write it: `"90s"`, `"10m"`, `"1h 30m"`. Whole milliseconds; for a
/// person it reads `10 m` or `1 h 30 m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Period(u64);

impl Period {
    /// So many seconds.
    #[must_use]
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1_000))
    }

    /// So many milliseconds: what two of a view's times differ by.
    #[must_use]
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(milliseconds)
    }

    /// In milliseconds, as a view has its times.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whether it is no time at all.
    #[must_use]
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl From<Period> for Duration {
    fn from(period: Period) -> Self {
        Self::from_millis(period.0)
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no length of time: write it such as `90s`, `10m` or `1h 30m`");
        let mut rest = text.trim();
        if rest.is_empty() {
            return Err(wrong());
        }
        let mut total: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
            let number: u64 = rest[..digits].parse().map_err(|_| wrong())?;
            let after = rest[digits..].trim_start();
            let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
            let (_, unit) = UNITS.into_iter().find(|(name, _)| *name == &after[..letters]).ok_or_else(wrong)?;
            total = number.checked_mul(unit).and_then(|part| total.checked_add(part)).ok_or_else(wrong)?;
            rest = after[letters..].trim_start();
        }
        Ok(Self(total))
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0 s");
        }
        // Two units are as much as anybody reads: `1 d 2 h`, `4 m 10 s`.
        let mut rest = self.0;
        let mut written = 0;
        for (name, unit) in UNITS {
            if rest >= unit && written < 2 {
                let space = if written == 0 { "" } else { " " };
                write!(f, "{space}{} {name}", rest / unit)?;
                rest %= unit;
                written += 1;
            }
        }
        Ok(())
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl Schema for Period {
    fn write_schema(out: &mut String) {
        out.push_str(
            r#""type":"string","pattern":"^\\s*([0-9]+\\s*(d|h|m|s|ms)\\s*)+$","examples":["90s","10m","1h 30m"]"#,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_as_jobs_write_them() {
        for (text, milliseconds) in
            [("90s", 90_000), ("10m", 600_000), ("1h 30m", 5_400_000), ("1d2h", 93_600_000), ("500 ms", 500), ("0s", 0)]
        {
            assert_eq!(text.parse(), Ok(Period::from_millis(milliseconds)), "{text}");
        }
    }

    #[test]
    fn what_is_no_period_is_refused() {
        for text in ["", "10", "m", "10x", "-1s", "1.5h", "10m and", "99999999999999999999s", "999999999999999999d"] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_person_reads_two_units() {
        for (seconds, text) in [(0, "0 s"), (30, "30 s"), (250, "4 m 10 s"), (93_661, "1 d 2 h")] {
            assert_eq!(Period::from_secs(seconds).to_string(), text);
        }
        assert_eq!(Period::from_millis(1_500).to_string(), "1 s 500 ms");
    }
}
