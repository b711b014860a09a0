//! The run's session with the store, opened anew when one ends, and the recipes on it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::recipe::{Party, Semaphore};
use crate::store::{Connect, NodePath, Store, StoreError};

/// How often a session is tried to be opened before the run counts as broken: for half a minute.
const MAX_TRIES: u32 = 60;

/// How long after one that could not be opened the next is tried.
const BETWEEN_TRIES: Duration = Duration::from_millis(500);

/// Hands out the recipes on a session that is not over.
///
/// A persistent lease outlives the session that took it, so a run goes on in a new session; what was ephemeral is lost,
/// and whoever held it is told by the lease itself.
#[derive(Debug)]
pub(super) struct Sessions {
    connect: Arc<dyn Connect>,
    semaphore: NodePath,
    slots: NonZeroU32,
    party: Option<NodePath>,
    first: Arc<dyn Store>,
    current: Mutex<Recipes>,
}

/// The recipes on one session.
#[derive(Debug, Clone)]
pub(super) struct Recipes {
    pub(super) store: Arc<dyn Store>,
    pub(super) semaphore: Semaphore,
    pub(super) party: Option<Arc<Party>>,
}

impl Sessions {
    pub(super) fn new(
        connect: Arc<dyn Connect>,
        first: Arc<dyn Store>,
        semaphore: NodePath,
        slots: NonZeroU32,
        party: Option<NodePath>,
    ) -> Self {
        let current = Mutex::new(Recipes::new(Arc::clone(&first), &semaphore, slots, party.as_ref()));
        Self { connect, semaphore, slots, party, first, current }
    }

    /// The recipes on the current session, or on a new one if that is over. A store that does not answer is tried for half
    /// a minute.
    pub(super) async fn recipes(&self) -> Result<Recipes, StoreError> {
        for _ in 1..MAX_TRIES {
            match self.try_once().await {
                Err(error) if error.is_retryable() => sleep(BETWEEN_TRIES).await,
                answer => return answer,
            }
        }
        self.try_once().await
    }

    async fn try_once(&self) -> Result<Recipes, StoreError> {
        let mut current = self.current.lock().await;
        if current.store.session().borrow().is_over() {
            let store = self.connect.connect().await?;
            *current = Recipes::new(store, &self.semaphore, self.slots, self.party.as_ref());
        }
        Ok(current.clone())
    }

    /// Waits until what was given up half-way is gone from the store, and closes the session if it was opened here.
    pub(super) async fn finish(&self) {
        let Recipes { store, semaphore, .. } = self.current.lock().await.clone();
        // Longer than its session nothing lives that is cleaned up; a store that hangs does not hold the run up.
        let _ = timeout(store.session_timeout(), semaphore.settled()).await;
        if !Arc::ptr_eq(&store, &self.first) {
            let _ = timeout(store.session_timeout(), store.close()).await;
        }
    }
}

impl Recipes {
    fn new(store: Arc<dyn Store>, semaphore: &NodePath, slots: NonZeroU32, party: Option<&NodePath>) -> Self {
        Self {
            semaphore: Semaphore::new(Arc::clone(&store), semaphore.clone(), slots),
            party: party.map(|path| Arc::new(Party::new(Arc::clone(&store), path.clone()))),
            store,
        }
    }
}
