//! Whether a session is alive, by our own clock.
//!
//! The server does not tell a client that is cut off when its session ends, so the client has to know by itself, and
//! before the server can give anything away. Times are the machine's time since boot, which goes on during a suspend and
//! which nobody can set.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::milliseconds::millis;
use super::{SessionState, boot_clock};

/// When a session was last heard, and its state from that.
#[derive(Debug)]
pub(crate) struct SessionLiveness {
    timeout_ms: u64,
    /// How long after it was last heard the session is over.
    over_after_ms: u64,
    /// How long after it was last heard nobody can be given its nodes.
    safe_for_ms: u64,
    /// When the store last heard of us for certain, by the clock since boot.
    heard_ms: AtomicU64,
    state: watch::Sender<SessionState>,
}

impl SessionLiveness {
    /// A session that was heard at `heard_ms`. It is over when it was not heard for `over_after`, and nobody is given its
    /// nodes before `safe_for`.
    pub(crate) fn new(timeout: Duration, over_after: Duration, safe_for: Duration, heard_ms: u64) -> Self {
        let (state, _) = watch::channel(SessionState::Connected);
        Self {
            timeout_ms: millis(timeout),
            over_after_ms: millis(over_after),
            safe_for_ms: millis(safe_for),
            heard_ms: AtomicU64::new(heard_ms),
            state,
        }
    }

    /// As [`super::Store::safe_until`].
    pub(crate) fn safe_until(&self) -> Instant {
        let (now, now_ms, until_ms) = (Instant::now(), boot_clock::now_ms(), self.heard_ms() + self.safe_for_ms);
        let past = Duration::from_millis(now_ms.saturating_sub(until_ms));
        now.checked_sub(past).unwrap_or(now) + Duration::from_millis(until_ms.saturating_sub(now_ms))
    }

    pub(crate) fn timeout_ms(&self) -> u64 {
        self.timeout_ms
    }

    pub(crate) fn heard_ms(&self) -> u64 {
        self.heard_ms.load(Ordering::Relaxed)
    }

    /// The store heard something that we sent at that moment or later.
    pub(crate) fn heard(&self, at_ms: u64) {
        self.heard_ms.fetch_max(at_ms, Ordering::Relaxed);
    }

    /// Draws the conclusions from what time it is: suspended at half of the time-out without being heard, over in time
    /// before anybody else may take the session's nodes away. Says whether it is over.
    pub(crate) fn look_at_clock(&self) -> bool {
        let silence = boot_clock::now_ms().saturating_sub(self.heard_ms());
        if silence >= self.over_after_ms {
            self.turn(SessionState::Expired);
        } else if silence >= self.timeout_ms / 2 {
            self.turn(SessionState::Suspended);
        }
        self.is_over()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state.borrow().is_over()
    }

    pub(crate) fn is_suspended(&self) -> bool {
        *self.state.borrow() == SessionState::Suspended
    }

    pub(crate) fn state(&self) -> watch::Receiver<SessionState> {
        self.state.subscribe()
    }

    /// Goes to `state`, unless the session is over.
    pub(crate) fn turn(&self, state: SessionState) {
        self.state.send_if_modified(|now| {
            let turns = !now.is_over() && *now != state;
            if turns {
                *now = state;
            }
            turns
        });
    }
}

/// The pulses that a thread of their own looks at, so that no busy runtime delays the end of a session.
static GUARDED: Mutex<Vec<Weak<SessionLiveness>>> = Mutex::new(Vec::new());

/// There is one more of them, which may have a shorter time-out than all others.
static ONE_MORE: Condvar = Condvar::new();

/// Has the guard look at a session's clock as long as there is one.
///
/// # Errors
/// When the guard's thread cannot be started.
pub(crate) fn guard(session_liveness: &Arc<SessionLiveness>) -> std::io::Result<()> {
    let mut guarded = GUARDED.lock().unwrap_or_else(PoisonError::into_inner);
    if guarded.is_empty() {
        thread::Builder::new().name(String::from("session-guard")).spawn(watch_clocks)?;
    }
    guarded.push(Arc::downgrade(session_liveness));
    ONE_MORE.notify_one();
    Ok(())
}

/// Who waits costs next to nothing: a look a second, and more often only where a session's time-out is below 20 s. A suspend
/// of the machine is no part of a nap, which is short enough to end in time behind it.
fn watch_clocks() {
    const LONGEST_NAP: Duration = Duration::from_secs(1);
    let mut guarded = GUARDED.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        guarded.retain(|session_liveness| {
            session_liveness.upgrade().is_some_and(|session_liveness| !session_liveness.look_at_clock())
        });
        let shortest =
            guarded.iter().filter_map(Weak::upgrade).map(|session_liveness| session_liveness.timeout_ms / 20).min();
        let Some(shortest) = shortest else {
            // The next session starts another thread.
            guarded.clear();
            return;
        };
        let nap = Duration::from_millis(shortest).min(LONGEST_NAP);
        (guarded, _) = ONE_MORE.wait_timeout(guarded, nap).unwrap_or_else(PoisonError::into_inner);
    }
}
