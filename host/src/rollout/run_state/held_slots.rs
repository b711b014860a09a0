//! The slots that a run holds while no runner drives it.

use std::sync::Arc;

use serde::Serialize;

use super::error::RunStateError;
use super::json;
use super::layout::RunPaths;
use super::leases::OwnLease;
use crate::job::Target;
use crate::rollout::model::TargetRecord;
use lockkeeper_coordination::store::{Fence, NodePath, Store, StoreError};

/// A slot that a run's state names and whose lease exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct HeldSlot {
    /// The semaphore.
    pub semaphore: NodePath,
    /// The target that holds it. `None` if the run's orchestration holds it.
    pub target: Option<String>,
    /// Its fence.
    pub fence: Fence,
    /// When the lease was created, in milliseconds since the Unix epoch, by the store's clock.
    pub since: u64,
    /// Whether a command that was started under the lease may still be running: no runner has seen its end.
    pub may_run: bool,
}

/// The slots of a run with these targets.
pub(super) async fn held<'a>(
    store: &Arc<dyn Store>,
    run: &str,
    semaphore: &NodePath,
    targets: impl Iterator<Item = (&'a Target, &'a TargetRecord)>,
) -> Result<Vec<HeldSlot>, RunStateError> {
    let mut named: Vec<(NodePath, Option<String>, NodePath, bool)> = targets
        .filter_map(|(target, saved)| {
            let may_run = saved.status.is_under_way();
            let lease = saved.lease.as_ref()?.path.clone();
            Some((semaphore.clone(), Some(target.name.to_string()), lease, may_run))
        })
        .collect();
    let folder = RunPaths::new(run).leases();
    let nodes = match store.children(&folder).await {
        Ok(names) => names.iter().map(|name| folder.child(name)).collect(),
        Err(StoreError::NoNode { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    for path in nodes {
        match store.read(&path).await {
            Ok(node) => {
                let OwnLease { semaphore, lease, .. } = json::parse(&path, &node.data)?;
                named.push((semaphore, None, lease, false));
            }
            // It was released just now.
            Err(StoreError::NoNode { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // All requests are sent before the first answer is read.
    let stats: Vec<_> = named.iter().map(|(_, _, lease, _)| store.stat(lease)).collect();
    let mut held = Vec::new();
    for ((semaphore, target, _, may_run), stat) in named.into_iter().zip(stats) {
        if let Some(stat) = stat.await? {
            held.push(HeldSlot { semaphore, target, fence: stat.fence(), since: stat.ctime_ms, may_run });
        }
    }
    Ok(held)
}
