//! The sessions that a command opens, so that none is left to the servers when it ends.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use lockkeeper_coordination::store::{Connect, Reply, SessionState, Store};

/// How long the end of a command waits for its sessions to be closed.
const CLOSING: Duration = Duration::from_secs(1);

/// The sessions that one command has opened.
#[derive(Debug, Clone, Default)]
pub(super) struct Sessions(Arc<Mutex<Vec<Opened>>>);

#[derive(Debug)]
struct Opened {
    store: Weak<dyn Store>,
    state: watch::Receiver<SessionState>,
}

impl Sessions {
    /// What opens sessions by `connect`, and is kept in mind here.
    pub(super) fn of(&self, connect: Arc<dyn Connect>) -> Arc<dyn Connect> {
        Arc::new(Minded { connect, sessions: self.clone() })
    }

    fn add(&self, store: &Arc<dyn Store>) {
        let mut opened = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        opened.retain(|session| !session.state.borrow().is_over());
        opened.push(Opened { store: Arc::downgrade(store), state: store.session() });
    }

    /// Waits until the sessions that nobody uses any more are closed, for a second at most: a process that ends before
    /// would leave them, with their ephemeral nodes, for a whole time-out.
    pub(super) async fn closed(&self) {
        let opened = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let closing = opened.into_iter().filter(|session| session.store.strong_count() == 0);
        let all = futures::future::join_all(closing.map(|mut session| async move {
            // Its sender is gone: so is the session.
            let _ = session.state.wait_for(|state| state.is_over()).await;
        }));
        // A server that does not answer ends the session by itself.
        let _ = timeout(CLOSING, all).await;
    }
}

#[derive(Debug)]
struct Minded {
    connect: Arc<dyn Connect>,
    sessions: Sessions,
}

impl Connect for Minded {
    fn connect(&self) -> Reply<Arc<dyn Store>> {
        let (session, sessions) = (self.connect.connect(), self.sessions.clone());
        Box::pin(async move {
            let session = session.await?;
            sessions.add(&session);
            Ok(session)
        })
    }
}
