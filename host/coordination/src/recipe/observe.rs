//! Watches on several nodes as one.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use crate::store::{Watch, WatchEvent};

/// Tells when what was observed has changed.
#[derive(Debug)]
pub struct Changed {
    watches: Vec<Watch>,
    fired: bool,
}

impl Changed {
    pub(super) fn new(watches: Vec<Watch>) -> Self {
        Self { watches, fired: false }
    }

    /// Waits until something has changed since it was observed, or the session is over. Once that happened it
    /// resolves at once.
    ///
    /// # Cancel safety
    /// May be dropped and called again.
    pub async fn changed(&mut self) {
        if !self.fired {
            first(&mut self.watches).await;
            self.fired = true;
            self.watches.clear();
        }
    }
}

/// The first of `watches` to fire, by index, and what it saw. With none it waits for ever. Nothing is lost when it is
/// dropped: the event is there for the next call.
pub(super) async fn first(watches: &mut [Watch]) -> (usize, WatchEvent) {
    poll_fn(|context| {
        for (index, watch) in watches.iter_mut().enumerate() {
            if let Poll::Ready(event) = pin!(watch.fired()).poll(context) {
                return Poll::Ready((index, event));
            }
        }
        Poll::Pending
    })
    .await
}
