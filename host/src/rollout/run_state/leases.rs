//! The leases that a run's orchestration holds, as the run's state names them.
//!
//! Each lease is a node, `…/leases/<semaphore's path, escaped>`, created in the transaction that creates the lease and
//! deleted in the one that deletes it. A process that resumes or aborts the run releases what is named here and nothing
//! else.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::error::RunStateError;
use super::json;
use super::layout::RunPaths;
use super::writer::RunStateWriter;
use lockkeeper_coordination::recipe::{Claims, Deletion, Lease};
use lockkeeper_coordination::store::{NodeKind, NodePath, Op, Store, StoreError, Version, create_all};

/// Pause before a transaction without an answer is checked.
const PAUSE: Duration = Duration::from_millis(50);

/// A lease of an orchestration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct OwnLease {
    /// The semaphore.
    pub semaphore: NodePath,
    /// Path of the lease's node.
    pub lease: NodePath,
    /// The lease's identifier: the run's name.
    pub identifier: String,
}

/// Writes the leases of a run's orchestration; used only by its runner.
#[derive(Debug, Clone)]
pub struct OwnLeases {
    store: Arc<dyn Store>,
    runner: NodePath,
    paths: RunPaths,
}

impl OwnLeases {
    /// Opens the leases of the run that this runner drives.
    ///
    /// # Errors
    /// [`RunStateError`].
    pub async fn open(run_state: &RunStateWriter) -> Result<Self, RunStateError> {
        let (store, runner, paths) = run_state.location();
        create_all(&*store, &paths.leases()).await?;
        Ok(Self { store, runner, paths })
    }

    /// The recorded lease of a semaphore. `None` if the run holds none.
    ///
    /// # Errors
    /// [`RunStateError`].
    pub async fn of(&self, semaphore: &NodePath) -> Result<Option<OwnLease>, RunStateError> {
        let path = self.paths.lease(semaphore);
        match self.store.read(&path).await {
            Ok(node) => Ok(Some(json::parse(&path, &node.data)?)),
            Err(StoreError::NoNode { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The operations that belong into the transaction that creates a lease of that semaphore. `known` says whether the
    /// state names an earlier lease, which no longer exists.
    pub fn along<'a>(
        &'a self,
        semaphore: &'a NodePath,
        identifier: &'a str,
        known: bool,
    ) -> impl Fn(&NodePath) -> Vec<Op> + Send + Sync + 'a {
        move |lease| {
            let (semaphore, lease) = (semaphore.clone(), lease.clone());
            let path = self.paths.lease(&semaphore);
            let data = json::bytes(&OwnLease { semaphore, lease, identifier: identifier.to_owned() });
            let write = match known {
                true => Op::Set { path, data, version: Version::Any },
                false => Op::Create { path, data, kind: NodeKind::Persistent },
            };
            vec![Op::Check { path: self.runner.clone(), version: Version::Any }, write]
        }
    }

    /// Releases a lease and deletes its record, in one transaction.
    ///
    /// # Errors
    /// [`RunStateError`]; the lease may still be held.
    pub async fn release(&self, semaphore: &NodePath, lease: &Lease) -> Result<(), RunStateError> {
        release(&self.store, &self.runner, &self.paths.lease(semaphore), lease.deletion()).await
    }

    /// Releases every recorded lease. Returns the released semaphores, and those that are still held with the error.
    ///
    /// # Errors
    /// [`RunStateError`] if the state cannot be read.
    pub async fn release_all(&self) -> Result<(Vec<NodePath>, Vec<(NodePath, RunStateError)>), RunStateError> {
        let folder = self.paths.leases();
        let names = match self.store.children(&folder).await {
            Ok(names) => names,
            Err(StoreError::NoNode { .. }) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let (mut released, mut held) = (Vec::new(), Vec::new());
        for name in names {
            let path = folder.child(&name);
            let node = self.store.read(&path).await?;
            let OwnLease { semaphore, lease, identifier } = json::parse(&path, &node.data)?;
            match self.release_named(&semaphore, &path, &lease, &identifier).await {
                Ok(()) => released.push(semaphore),
                Err(error) if error.is_lost() => return Err(error),
                Err(error) => held.push((semaphore, error)),
            }
        }
        Ok((released, held))
    }

    async fn release_named(
        &self,
        semaphore: &NodePath,
        path: &NodePath,
        lease: &NodePath,
        identifier: &str,
    ) -> Result<(), RunStateError> {
        let claims = Claims::new(Arc::clone(&self.store), semaphore.clone());
        let deletion = claims.deletion(identifier, lease).await?;
        release(&self.store, &self.runner, path, deletion).await
    }
}

/// Sends one transaction until its outcome is known: it deletes the lease, its claim (if there is one) and the state's
/// node.
async fn release(
    store: &Arc<dyn Store>,
    runner: &NodePath,
    path: &NodePath,
    mut deletion: Deletion,
) -> Result<(), RunStateError> {
    // Bounded by the session's end.
    loop {
        let mut all = vec![
            Op::Check { path: runner.clone(), version: Version::Any },
            Op::Delete { path: path.clone(), version: Version::Any },
        ];
        all.extend(deletion.ops());
        match store.multi(all).await {
            Ok(_) => return Ok(()),
            Err(StoreError::Multi { index, source }) => match (index, *source) {
                (0, StoreError::NoNode { path }) => return Err(RunStateError::Overtaken { path }),
                // It was released before.
                (1, StoreError::NoNode { .. }) => return Ok(()),
                (index, StoreError::NoNode { .. }) => deletion.was_gone(index - 2),
                (_, source) if source.is_retryable() => sleep(PAUSE).await,
                (_, source) => return Err(source.into()),
            },
            // Sending it again shows whether it happened: the state's node is then gone.
            Err(error) if error.is_retryable() || matches!(error, StoreError::Ambiguous { .. }) => sleep(PAUSE).await,
            Err(error) => return Err(error.into()),
        }
    }
}
