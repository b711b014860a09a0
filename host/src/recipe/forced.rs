//! Who took a lease by force, why and when: a record beside the semaphores, since a lease's own data is the identifier
//! and nothing else.
//!
//! A record is a persistent node `/lockkeeper/forced/<the lease's name>` with JSON in it. Tools that know nothing of it
//! delete leases without deleting records, so what has no lease any more is swept when the next one is written.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::store::{NodeKind, NodePath, Store, StoreError, Version, create_all};

/// Where records are kept.
const FOLDER: &str = "/lockkeeper/forced";

/// Why a lease is there although no slot was free.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Forced {
    /// The lease's node.
    pub lease: String,
    /// Who did it: user and host.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// The records of one store.
#[derive(Debug, Clone)]
pub struct ForcedRecords {
    store: Arc<dyn Store>,
}

impl ForcedRecords {
    /// The records of this store.
    #[must_use]
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    /// Keeps a record, and sweeps those of leases that are gone.
    ///
    /// # Errors
    /// As the store's.
    pub async fn keep(&self, lease: &NodePath, record: &Forced) -> Result<(), StoreError> {
        create_all(&*self.store, &folder()).await?;
        let data = serde_json::to_vec(record).map_err(|error| StoreError::Broken { reason: error.to_string() })?;
        match self.store.create(&place(lease), Bytes::from(data), NodeKind::Persistent).await {
            Ok(_) | Err(StoreError::NodeExists { .. }) => {}
            // The name is the lease's own: whether this came through does not matter to anybody else.
            Err(StoreError::Ambiguous { .. }) => self.store.sync(lease).await?,
            Err(error) => return Err(error),
        }
        self.sweep().await
    }

    /// The record of a lease, if it was forced.
    ///
    /// # Errors
    /// As the store's. A record that cannot be read as one is none.
    pub async fn of(&self, lease: &NodePath) -> Result<Option<Forced>, StoreError> {
        match self.store.read(&place(lease)).await {
            Ok(node) => Ok(serde_json::from_slice(&node.data).ok()),
            Err(StoreError::NoNode { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes the record of a lease, if there is one.
    ///
    /// # Errors
    /// As the store's.
    pub async fn forget(&self, lease: &NodePath) -> Result<(), StoreError> {
        match self.store.delete(&place(lease), Version::Any).await {
            Ok(()) | Err(StoreError::NoNode { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        for name in self.store.children(&folder()).await? {
            let record = folder().child(&name);
            let Ok(node) = self.store.read(&record).await else { continue };
            let lease = serde_json::from_slice::<Forced>(&node.data)
                .ok()
                .and_then(|forced| NodePath::parse(&forced.lease).ok());
            let is_there = match lease {
                Some(lease) => self.store.stat(&lease).await?.is_some(),
                None => false,
            };
            if !is_there
                && let Err(error) = self.store.delete(&record, Version::Any).await
                && !matches!(error, StoreError::NoNode { .. })
            {
                return Err(error);
            }
        }
        Ok(())
    }
}

fn folder() -> NodePath {
    NodePath::parse(FOLDER).expect("the folder's path is a path")
}

fn place(lease: &NodePath) -> NodePath {
    folder().child(lease.name())
}
