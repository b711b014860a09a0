//! How long to wait, and how to wait between tries.

use std::time::Duration;

use tokio::time::Instant;

use super::session::Tools;
use crate::store::StoreError;

/// How long somebody is ready to wait for a slot or for members. One deadline for all steps together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Only if it is there now. For a slot: one that is free for us, the slots of those ahead in the queue apart; it
    /// does not mean that nobody queues.
    Once,
    /// Until then.
    Until(Instant),
    /// As long as the session lives.
    Forever,
}

/// Pauses between tries of a request that the store did not take: longer each time, with a random part, and an end.
#[derive(Debug)]
pub(super) struct Backoff {
    tries: u32,
    most: u32,
}

impl Backoff {
    /// The first pause.
    const FIRST: Duration = Duration::from_millis(10);

    /// The longest pause.
    const LONGEST: Duration = Duration::from_secs(1);

    /// The most tries of what someone waits for with patience: about a minute and a half. A store that cannot be
    /// reached ends the session long before.
    const PATIENT: u32 = 100;

    /// The most tries of a question that somebody wants answered now: about a third of a second.
    const BRIEF: u32 = 6;

    pub(super) fn patient() -> Self {
        Self { tries: 0, most: Self::PATIENT }
    }

    pub(super) fn brief() -> Self {
        Self { tries: 0, most: Self::BRIEF }
    }

    /// A request was answered: the next failure is the first of its kind.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }

    /// Waits before the request that failed with `error` is tried again.
    ///
    /// # Errors
    /// `error` itself when trying again is of no use: it is not that kind of error, or this was the last try.
    pub(super) async fn after(&mut self, error: StoreError, tools: &Tools) -> Result<(), StoreError> {
        if !error.is_retryable() || self.tries >= self.most {
            return Err(error);
        }
        let pause = Self::FIRST.saturating_mul(1 << self.tries.min(16)).min(Self::LONGEST);
        self.tries += 1;
        let mut session = tools.store.session();
        tokio::select! {
            biased;
            over = session.wait_for(|state| state.is_over()) => {
                drop(over);
                Err(StoreError::SessionOver)
            }
            () = tokio::time::sleep(tools.between(pause / 2, pause)) => Ok(()),
        }
    }
}
