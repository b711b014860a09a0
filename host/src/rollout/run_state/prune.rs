//! Deletes runs that are no longer needed.

use std::sync::Arc;

use super::error::RunStateError;
use super::layout::{self, RunPaths};
use super::read::StoredRun;
use lockkeeper_coordination::store::{NodePath, Op, Store, StoreError, Version, node_name};

/// Nodes that one transaction deletes at most.
const AT_ONCE: usize = 200;

/// Deletes a run and everything below it. The run's own node is deleted last, so that the next prune continues an
/// interrupted one.
///
/// # Errors
/// If the store refuses or is unreachable.
pub async fn delete(store: &Arc<dyn Store>, run: &StoredRun) -> Result<(), RunStateError> {
    delete_below(store, RunPaths::new(&run.name).run()).await
}

/// Runs that were created before `until_ms` and never started.
///
/// # Errors
/// If the store cannot be read.
pub async fn never_started(store: &Arc<dyn Store>, until_ms: u64) -> Result<Vec<String>, RunStateError> {
    let mut found = Vec::new();
    for name in missing_is_none(store.children(&layout::runs()).await)?.unwrap_or_default() {
        let path = layout::runs().child(&name);
        let Some(node) = missing_is_none(store.read(&path).await)? else { continue };
        if node.data.is_empty() && node.stat.ctime_ms < until_ms {
            found.push(name);
        }
    }
    Ok(found)
}

/// Deletes one of [`never_started`].
///
/// # Errors
/// If the store refuses or is unreachable.
pub async fn delete_never_started(store: &Arc<dyn Store>, name: &str) -> Result<(), RunStateError> {
    delete_below(store, &layout::runs().child(name)).await
}

/// Deletes the nodes of jobs that have no runs left, no runner and no queue.
///
/// # Errors
/// If the store refuses or is unreachable.
pub async fn delete_unused_jobs(store: &Arc<dyn Store>, kept: &[StoredRun]) -> Result<(), RunStateError> {
    for name in missing_is_none(store.children(&layout::jobs()).await)?.unwrap_or_default() {
        if kept.iter().any(|run| node_name(&run.record.job) == name) {
            continue;
        }
        let job = layout::jobs().child(&name);
        let children = missing_is_none(store.children(&job).await)?.unwrap_or_default();
        let mut all: Vec<NodePath> = children.iter().map(|child| job.child(child)).collect();
        all.push(job);
        let ops = all.into_iter().map(|path| Op::Delete { path, version: Version::Any }).collect();
        match store.multi(ops).await {
            Ok(_) | Err(StoreError::Ambiguous { .. }) => {}
            // A runner exists or is about to exist: the node has children and stays.
            Err(StoreError::Multi { source, .. })
                if matches!(*source, StoreError::NotEmpty { .. } | StoreError::NoNode { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Deletes a node and everything below it, deepest first.
async fn delete_below(store: &Arc<dyn Store>, top: &NodePath) -> Result<(), RunStateError> {
    let mut found = vec![top.clone()];
    let mut next = 0;
    // Bounded by the number of nodes: no process creates nodes below a finished run.
    while next < found.len() {
        let here = found[next].clone();
        let children = missing_is_none(store.children(&here).await)?.unwrap_or_default();
        found.extend(children.iter().map(|child| here.child(child)));
        next += 1;
    }
    found.reverse();
    for some in found.chunks(AT_ONCE) {
        let delete = |path: &NodePath| Op::Delete { path: path.clone(), version: Version::Any };
        match store.multi(some.iter().map(delete).collect()).await {
            Ok(_) => {}
            // Another process prunes at the same time: delete one by one, and ignore missing nodes.
            Err(StoreError::Multi { .. } | StoreError::Ambiguous { .. }) => {
                for path in some {
                    match store.delete(path, Version::Any).await {
                        Ok(()) | Err(StoreError::NoNode { .. }) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn missing_is_none<T>(answer: Result<T, StoreError>) -> Result<Option<T>, RunStateError> {
    match answer {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::NoNode { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
