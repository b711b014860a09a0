//! No semaphore lies below another: every tool reads each child of a semaphore as a lease.
//!
//! It is checked before a number or a queue is written to a path that has none. A check that came later would leave both
//! behind, and turn a mistyped path into a semaphore that refuses all those below it.

use thiserror::Error;

use super::names;
use super::semaphore::{read_all, unless_missing};
use super::slots::queue_of;
use crate::store::{NodePath, Reply, Stat, Store, StoreError};

/// Why a path cannot be a semaphore.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{path}` cannot be a semaphore: {}, and every tool reads the children of a semaphore as leases",
    if self.is_below() { format!("it lies below the semaphore `{other}`") } else { format!("`{other}` lies below it") }
)]
pub struct Nested {
    /// The path.
    pub path: NodePath,
    /// The semaphore above it, or what lies below it: a semaphore, or a node with children.
    pub other: NodePath,
}

impl Nested {
    /// Whether the path lies below the other, and not above it.
    #[must_use]
    pub fn is_below(&self) -> bool {
        self.path.as_str().len() > self.other.as_str().len()
    }
}

/// The nodes above a path, nearest first, each with a look for the queue of a semaphore beside it.
pub(super) type Above = Vec<(NodePath, Reply<Option<Stat>>)>;

/// Asks for the queues beside the nodes above a path, in one flight.
pub(super) fn ask_above(store: &dyn Store, path: &NodePath) -> Above {
    let mut above = Vec::new();
    let mut here = path.parent();
    while let Some(ancestor) = here.filter(|ancestor| *ancestor != NodePath::root()) {
        let queue = store.stat(&queue_of(&ancestor));
        here = ancestor.parent();
        above.push((ancestor, queue));
    }
    above
}

/// The nearest of them that is a semaphore. One that this caller may not read is none to it.
pub(super) async fn nearest_above(store: &dyn Store, above: Above) -> Result<Option<NodePath>, StoreError> {
    let mut nearest = None;
    for (path, queue) in above {
        match queue.await {
            Ok(Some(_)) if nearest.is_none() => {}
            Ok(_) | Err(StoreError::Refused { .. }) => continue,
            Err(error) => return Err(error),
        }
        match store.read(&path).await {
            Ok(node) if names::slots(&node.data).is_some() => nearest = Some(path),
            Ok(_) | Err(StoreError::NoNode { .. } | StoreError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(nearest)
}

/// A child of a path that has its queue beside it, and so is a semaphore.
pub(super) fn among<'a>(path: &NodePath, children: impl Iterator<Item = &'a str> + Clone) -> Option<NodePath> {
    children.clone().find_map(|name| {
        let of_queue = name.strip_suffix(names::LOCK)?.strip_suffix('-')?;
        children.clone().any(|other| other == of_queue).then(|| path.child(of_queue))
    })
}

/// What lies below a path that has no number: a semaphore, or a node with children, which no lease has.
pub(super) async fn below(store: &dyn Store, path: &NodePath) -> Result<Option<NodePath>, StoreError> {
    let names = unless_missing(store.children(path).await)?.unwrap_or_default();
    if let Some(semaphore) = among(path, names.iter().map(String::as_str)) {
        return Ok(Some(semaphore));
    }
    let nodes = read_all(store, path, names).await?;
    Ok(nodes.into_iter().find(|(_, node)| node.stat.children > 0).map(|(path, _)| path))
}

/// What keeps a path that has no number yet from being a semaphore.
///
/// # Errors
/// As the store's.
pub async fn nested_semaphore(store: &dyn Store, path: &NodePath) -> Result<Option<Nested>, StoreError> {
    let above = ask_above(store, path);
    let other = match nearest_above(store, above).await? {
        None => below(store, path).await?,
        above => above,
    };
    Ok(other.map(|other| Nested { path: path.clone(), other }))
}
