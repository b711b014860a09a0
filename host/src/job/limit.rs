//! How many of something: a count, or a share of the targets.

use std::fmt;
use std::num::NonZeroU32;

/// A share, exact to a hundredth of a percent: `2.5%` is 250 basis points.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Share(u16);

/// The basis points of the whole.
const WHOLE: u16 = 10_000;

impl Share {
    /// All of them, `100%`.
    pub const ALL: Self = Self(WHOLE);

    /// Reads `5%` or `2.5%`: at most two decimals, at most `100%`.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment for a message.
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        let number = text.trim().strip_suffix('%').ok_or(ShareError::NoPercent)?.trim_end();
        let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
        let is_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !is_digits(whole) || !is_digits(decimals) {
            return Err(ShareError::NotANumber);
        }
        if decimals.len() > 2 {
            return Err(ShareError::TooFine);
        }
        let hundredths: u16 = format!("{decimals:0<2}").parse().map_err(|_| ShareError::NotANumber)?;
        whole
            .parse::<u16>()
            .ok()
            .and_then(|whole| whole.checked_mul(100)?.checked_add(hundredths))
            .filter(|points| *points <= WHOLE)
            .map(Self)
            .ok_or(ShareError::AboveAll)
    }

    /// In hundredths of a percent: 0 to 10,000.
    #[must_use]
    pub fn basis_points(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, hundredths) = (self.0 / 100, self.0 % 100);
        match (hundredths, hundredths % 10) {
            (0, _) => write!(f, "{whole}%"),
            (_, 0) => write!(f, "{whole}.{}%", hundredths / 10),
            _ => write!(f, "{whole}.{hundredths:02}%"),
        }
    }
}

/// Why a text is no share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// It does not end in `%`.
    #[error("a share ends in `%`")]
    NoPercent,
    /// There is no plain number before the `%`.
    #[error("a share is a plain number and `%`")]
    NotANumber,
    /// It has more than two decimals.
    #[error("a share has at most two decimals")]
    TooFine,
    /// It is above `100%`.
    #[error("a share is at most `100%`")]
    AboveAll,
}

/// How many: a count, or a share of the targets that is known once they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Limit {
    /// As many as that.
    Count(u32),
    /// That share of the targets.
    Share(Share),
}

/// What a number limits, which says how a share of the targets is rounded: always to the safe side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// How many may act at once: down, yet at least 1, or nothing would ever start.
    Limit,
    /// How many must be there: up.
    Floor,
    /// How many may fail: down, and 0 is a budget too.
    Budget,
}

impl Limit {
    /// The number, for that many targets.
    ///
    /// A count stays itself; only as a [`Rounding::Limit`] is it, too, at least 1.
    #[must_use]
    pub fn of(self, total: u32, rounding: Rounding) -> u32 {
        let number = match self {
            Self::Count(count) => count,
            Self::Share(share) => {
                let parts = u64::from(total) * u64::from(share.0);
                let rounded = match rounding {
                    Rounding::Limit | Rounding::Budget => parts / u64::from(WHOLE),
                    Rounding::Floor => parts.div_ceil(u64::from(WHOLE)),
                };
                u32::try_from(rounded).expect("a share of `total` is at most `total`")
            }
        };
        match rounding {
            Rounding::Limit => number.max(1),
            Rounding::Floor | Rounding::Budget => number,
        }
    }

    /// The number of slots for that many targets: [`Rounding::Limit`] in the type that a semaphore takes.
    #[must_use]
    pub fn slots(self, total: u32) -> NonZeroU32 {
        NonZeroU32::new(self.of(total, Rounding::Limit)).unwrap_or(NonZeroU32::MIN)
    }

    /// Whether it is none, whatever the total.
    #[must_use]
    pub fn is_zero(self) -> bool {
        matches!(self, Self::Count(0) | Self::Share(Share(0)))
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Share(share) => share.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(text: &str) -> Limit {
        Limit::Share(Share::parse(text).unwrap())
    }

    #[test]
    fn a_share_is_exact_to_a_hundredth_of_a_percent() {
        for (text, points) in [("5%", 500), ("2.5%", 250), ("0.01%", 1), ("100%", 10_000), ("0%", 0), (" 7.25 % ", 725)]
        {
            assert_eq!(Share::parse(text).unwrap().basis_points(), points, "{text}");
        }
        for points in 0..=WHOLE {
            let share = Share(points);
            assert_eq!(Share::parse(&share.to_string()), Ok(share));
        }
    }

    #[test]
    fn what_is_no_share_is_refused_for_its_reason() {
        for (text, error) in [
            ("5", ShareError::NoPercent),
            ("", ShareError::NoPercent),
            ("%", ShareError::NotANumber),
            ("-5%", ShareError::NotANumber),
            ("+5%", ShareError::NotANumber),
            ("5.%", ShareError::NotANumber),
            (".5%", ShareError::NotANumber),
            ("٥%", ShareError::NotANumber),
            ("1.005%", ShareError::TooFine),
            ("100.01%", ShareError::AboveAll),
            ("101%", ShareError::AboveAll),
            ("99999999999999999999%", ShareError::AboveAll),
        ] {
            assert_eq!(Share::parse(text), Err(error), "{text:?}");
        }
    }

    #[test]
    fn a_limit_rounds_down_but_is_at_least_one() {
        for (text, total, number) in
            [("5%", 100, 5), ("5%", 39, 1), ("5%", 10, 1), ("5%", 0, 1), ("100%", 7, 7), ("99.99%", 7, 6)]
        {
            assert_eq!(share(text).of(total, Rounding::Limit), number, "{text} of {total}");
            assert_eq!(share(text).slots(total).get(), number, "{text} of {total}");
        }
        assert_eq!(Limit::Count(4).of(2, Rounding::Limit), 4);
        assert_eq!(Limit::Count(0).of(2, Rounding::Limit), 1);
    }

    #[test]
    fn a_floor_rounds_up() {
        for (text, total, number) in [("85%", 10, 9), ("0.01%", 1, 1), ("100%", 7, 7), ("50%", 0, 0), ("0%", 9, 0)] {
            assert_eq!(share(text).of(total, Rounding::Floor), number, "{text} of {total}");
        }
        assert_eq!(Limit::Count(8).of(2, Rounding::Floor), 8);
    }

    #[test]
    fn a_budget_rounds_down_and_may_be_none() {
        for (text, total, number) in [("2%", 100, 2), ("2%", 99, 1), ("2%", 49, 0), ("100%", 7, 7), ("2%", 0, 0)] {
            assert_eq!(share(text).of(total, Rounding::Budget), number, "{text} of {total}");
        }
        assert_eq!(Limit::Count(0).of(9, Rounding::Budget), 0);
    }

    #[test]
    fn the_largest_total_does_not_overflow() {
        for rounding in [Rounding::Limit, Rounding::Floor, Rounding::Budget] {
            assert_eq!(Limit::Share(Share::ALL).of(u32::MAX, rounding), u32::MAX);
        }
    }
}
