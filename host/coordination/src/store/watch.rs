//! One-shot watches.

use tokio::sync::oneshot;

/// What a watch saw.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WatchEvent {
    /// The node was created.
    Created,
    /// Its data was set.
    Changed,
    /// It was deleted.
    Deleted,
    /// A child came or went.
    ChildrenChanged,
    /// The session ended; nobody knows what happens to the node from now on.
    SessionOver,
}

/// A watch on one node: it fires once. Dropping it gives it up.
#[derive(Debug)]
pub struct Watch(oneshot::Receiver<WatchEvent>);

/// The end of a [`Watch`] that a backend keeps. Dropping it unfired ends the watch with [`WatchEvent::SessionOver`].
#[derive(Debug)]
pub struct WatchSender(oneshot::Sender<WatchEvent>);

impl Watch {
    /// A watch and the end that fires it.
    #[must_use]
    pub fn channel() -> (WatchSender, Self) {
        let (sender, receiver) = oneshot::channel();
        (WatchSender(sender), Self(receiver))
    }

    /// Waits for the event.
    ///
    /// # Cancel safety
    /// Nothing is lost when this is dropped before it is ready: the next call returns the event.
    pub async fn fired(&mut self) -> WatchEvent {
        if self.0.is_terminated() {
            return WatchEvent::SessionOver;
        }
        (&mut self.0).await.unwrap_or(WatchEvent::SessionOver)
    }
}

impl WatchSender {
    /// Fires it.
    pub fn fire(self, event: WatchEvent) {
        // Nobody listens any more: that is how a watch is given up.
        let _ = self.0.send(event);
    }

    /// Whether the watch was dropped, so that nobody would hear it.
    #[must_use]
    pub fn is_given_up(&self) -> bool {
        self.0.is_closed()
    }
}
