//! What can go wrong with a request.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::Xoshiro256PlusPlus;

use crate::store::millis;

/// One thing that goes wrong with one request.
///
/// A lost connection takes every request of the session that is on its way with it: those behind the failed one are
/// not done. Reads that were lost answer `Unavailable`, writes `Ambiguous`, whether they happened or not: who asks
/// cannot know either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Not sent: `Unavailable`, for reads and writes alike, and the connection stays.
    Unreachable,
    /// The connection is lost before the request took effect, and is back after `outage`.
    LostBefore {
        /// How long the session is suspended.
        outage: Duration,
    },
    /// The connection is lost after the request took effect and before it was answered.
    LostAfter {
        /// How long the session is suspended.
        outage: Duration,
    },
    /// The session expires before the request took effect.
    ExpireBefore,
    /// The session expires after the request took effect and before it was answered.
    ExpireAfter,
    /// The request reaches the store late; those behind it wait.
    Late(Duration),
    /// The answer comes late; those behind it wait.
    Delay(Duration),
    /// The session is suspended for so long, and nothing is lost: the answer comes when it is connected again.
    Suspend(Duration),
}

/// Faults at random: for each request the chance, from 0 to 1, that it meets this one.
#[derive(Debug, Clone, Copy)]
pub struct Chaos {
    /// Where the dice start.
    pub seed: u64,
    /// Chance of [`Fault::Unreachable`].
    pub unreachable: f64,
    /// Chance of [`Fault::LostBefore`].
    pub lost_before: f64,
    /// Chance of [`Fault::LostAfter`].
    pub lost_after: f64,
    /// Chance of [`Fault::ExpireBefore`].
    pub expire_before: f64,
    /// Chance of [`Fault::ExpireAfter`].
    pub expire_after: f64,
    /// Chance of [`Fault::Late`].
    pub late: f64,
    /// Chance of [`Fault::Delay`].
    pub delay: f64,
    /// Chance of [`Fault::Suspend`].
    pub suspend: f64,
    /// The longest delay or outage; each is drawn evenly up to it.
    pub longest: Duration,
}

impl Chaos {
    /// No fault at all, from which to set some.
    #[must_use]
    pub fn none(seed: u64) -> Self {
        Self {
            seed,
            unreachable: 0.0,
            lost_before: 0.0,
            lost_after: 0.0,
            expire_before: 0.0,
            expire_after: 0.0,
            late: 0.0,
            delay: 0.0,
            suspend: 0.0,
            longest: Duration::from_secs(1),
        }
    }

    /// Every fault, each with the chance `rate`; expiry a quarter as often, because it ends all that came before.
    #[must_use]
    pub fn all(seed: u64, rate: f64, longest: Duration) -> Self {
        Self {
            seed,
            unreachable: rate,
            lost_before: rate,
            lost_after: rate,
            expire_before: rate / 4.0,
            expire_after: rate / 4.0,
            late: rate,
            delay: rate,
            suspend: rate,
            longest,
        }
    }

    /// Draws for one request.
    pub(super) fn draw(&self, dice: &mut Xoshiro256PlusPlus) -> Option<Fault> {
        let mut left: f64 = dice.random();
        let long = up_to(self.longest, dice);
        let table = [
            (self.unreachable, Fault::Unreachable),
            (self.lost_before, Fault::LostBefore { outage: long }),
            (self.lost_after, Fault::LostAfter { outage: long }),
            (self.expire_before, Fault::ExpireBefore),
            (self.expire_after, Fault::ExpireAfter),
            (self.late, Fault::Late(long)),
            (self.delay, Fault::Delay(long)),
            (self.suspend, Fault::Suspend(long)),
        ];
        for (chance, fault) in table {
            left -= chance;
            if left < 0.0 {
                return Some(fault);
            }
        }
        None
    }
}

/// A duration of whole milliseconds, evenly from 0 to `longest`.
pub(super) fn up_to(longest: Duration, dice: &mut Xoshiro256PlusPlus) -> Duration {
    let most = millis(longest);
    Duration::from_millis(dice.random_range(0..=most))
}
