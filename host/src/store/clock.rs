//! What time it is.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

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

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        match self {
            Self::System => millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()),
            Self::Virtual { at, start_ms } => start_ms.saturating_add(millis(at.elapsed())),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
