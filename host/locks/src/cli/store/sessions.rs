//! The sessions that a command has open, so that none is left to the servers when the command ends.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use lockkeeper_coordination::store::{SessionState, Store};

/// How long the end of a command waits until its sessions are closed.
const CLOSING: Duration = Duration::from_secs(1);

/// The sessions that one command has opened.
#[derive(Debug, Clone, Default)]
pub struct OpenSessions(Arc<Mutex<Vec<OpenSession>>>);

#[derive(Debug)]
struct OpenSession {
    store: Weak<dyn Store>,
    state: watch::Receiver<SessionState>,
}

impl OpenSessions {
    pub(super) fn add(&self, store: &Arc<dyn Store>) {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|session| !session.state.borrow().is_over());
        open.push(OpenSession { store: Arc::downgrade(store), state: store.session() });
    }

    /// Waits until the unused sessions are closed, for at most `CLOSING`: a process that ends before would leave each with
    /// its ephemeral nodes until its time-out.
    pub async fn closed(&self) {
        let open = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let closing = open.into_iter().filter(|session| session.store.strong_count() == 0);
        let all = futures::future::join_all(closing.map(|mut session| async move {
            // Its sender is gone: so is the session.
            let _ = session.state.wait_for(|state| state.is_over()).await;
        }));
        // A server that does not answer ends the session by itself.
        let _ = timeout(CLOSING, all).await;
    }
}
