//! What time it is.

use std::time::{SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::boot_clock;
use super::milliseconds::{difference, millis};

/// A wall clock: the system's, or one that follows tokio's clock, which stands still in tests and simulations.
#[derive(Debug, Clone, Copy)]
pub enum Clock {
    /// The machine's.
    System,
    /// `start_ms` at the instant `at`, and as much later as tokio's clock says.
    Virtual {
        /// When it stood at `start_ms`.
        at: Instant,
        /// Milliseconds since the Unix epoch then.
        start_ms: u64,
    },
}

impl Clock {
    /// A clock that starts at `start_ms` now and follows tokio's. Needs a tokio runtime.
    #[must_use]
    pub fn starting_at(start_ms: u64) -> Self {
        Self::Virtual { at: Instant::now(), start_ms }
    }

    /// How far this clock is ahead of one that nobody sets, in milliseconds: it changes only when this one is set.
    #[must_use]
    pub fn set_ms(&self) -> i64 {
        match self {
            Self::System => difference(self.now_ms(), boot_clock::now_ms()),
            Self::Virtual { .. } => 0,
        }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match self {
            Self::System => millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            Self::Virtual { at, start_ms } => start_ms.saturating_add(millis(at.elapsed())),
        }
    }
}

/// The system's clock, as the kernel has it: the clock of a store in a file of this machine, whatever a library that is
/// preloaded makes of the process's own clock.
pub(crate) fn kernel_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1_000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000_000)
}
