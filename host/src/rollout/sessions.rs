//! The run's session with the store, opened anew when one ends, and the recipes on it.

use std::num::NonZeroU32;
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::recipe::{Party, Semaphore};
use crate::store::{Connect, NodePath, Store, StoreError};

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
        store: Arc<dyn Store>,
        semaphore: NodePath,
        slots: NonZeroU32,
        party: Option<NodePath>,
    ) -> Self {
        let current = Mutex::new(Recipes::new(store, &semaphore, slots, party.as_ref()));
        Self { connect, semaphore, slots, party, current }
    }

    /// The recipes on the current session, or on a new one if that is over.
    pub(super) async fn recipes(&self) -> Result<Recipes, StoreError> {
        let mut current = self.current.lock().await;
        if current.store.session().borrow().is_over() {
            let store = self.connect.connect().await?;
            *current = Recipes::new(store, &self.semaphore, self.slots, self.party.as_ref());
        }
        Ok(current.clone())
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
