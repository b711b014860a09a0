//! One transaction, sent until it is decided.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::error::RunStateError;
use lockkeeper_coordination::store::{Node, NodeKind, NodePath, Op, Store, StoreError, Version};

/// The first pause before a transaction that was not taken is sent again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// The longest. A store that cannot be reached ends the session, and that ends the tries.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// A node as it is to be.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) path: NodePath,
    pub(super) data: Bytes,
    /// The version that we know; none: there is no node yet.
    pub(super) version: Option<i32>,
}

impl Write {
    fn op(&self) -> Op {
        let (path, data) = (self.path.clone(), self.data.clone());
        match self.version {
            Some(version) => Op::Set { path, data, version: Version::Exactly(version) },
            None => Op::Create { path, data, kind: NodeKind::Persistent },
        }
    }

    pub(super) fn version_after(&self) -> i32 {
        self.version.map_or(0, |version| version.wrapping_add(1))
    }

    /// Whether the node is as we wrote it, or as it was before; neither: somebody else wrote it.
    fn landed(&self, node: Option<&Node>) -> Option<bool> {
        match node {
            Some(node) if node.stat.version == self.version_after() && node.data == self.data => Some(true),
            Some(node) if Some(node.stat.version) == self.version => Some(false),
            None if self.version.is_none() => Some(false),
            _ => None,
        }
    }
}

/// The operations that make a write safe: only the current runner writes, and only over what it knew.
pub(super) fn ops(runner: &NodePath, write: &Write) -> Vec<Op> {
    vec![is_runner(runner), write.op()]
}

/// Checks that this process is still the runner.
fn is_runner(runner: &NodePath) -> Op {
    Op::Check { path: runner.clone(), version: Version::Any }
}

/// How many of them there are.
pub(super) const OWN_OPS: usize = 2;

/// Writes a node together with `along`, and gives its new version. Sent again until the store has answered; what it did
/// not answer is looked at, never sent blindly.
///
/// # Errors
/// [`LedgerError`]. With any of them but [`LedgerError::SessionOver`] nothing was written.
pub(super) async fn commit(
    store: &dyn Store,
    runner: &NodePath,
    write: &Write,
    along: &[Op],
) -> Result<i32, RunStateError> {
    commit_if(store, &is_runner(runner), write, along).await
}

/// As [`commit`], if `check` holds: an operation that writes nothing.
///
/// # Errors
/// As [`commit`]; [`LedgerError::Overtaken`] if it does not hold.
pub(super) async fn commit_if(
    store: &dyn Store,
    check: &Op,
    write: &Write,
    along: &[Op],
) -> Result<i32, RunStateError> {
    let mut pause = FIRST_PAUSE;
    // Bounded by the session's end.
    loop {
        let mut all = vec![check.clone(), write.op()];
        all.extend_from_slice(along);
        match store.multi(all).await {
            Ok(_) => return Ok(write.version_after()),
            Err(StoreError::Ambiguous { .. }) => {
                if look(store, write).await? {
                    return Ok(write.version_after());
                }
            }
            Err(error) if error.is_retryable() => {}
            Err(error) => return Err(refused(error, check.path(), write)),
        }
        let mut session = store.session();
        tokio::select! {
            biased;
            over = session.wait_for(|state| state.is_over()) => {
                drop(over);
                return Err(RunStateError::SessionOver);
            }
            () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// What a refusal of a transaction means that begins with a check of a node and then has the write.
fn refused(error: StoreError, checked: &NodePath, write: &Write) -> RunStateError {
    match error {
        StoreError::Multi { index, source } => match (index, *source) {
            (0, StoreError::NoNode { .. } | StoreError::BadVersion { .. }) => {
                RunStateError::Overtaken { path: checked.clone() }
            }
            (1, StoreError::BadVersion { .. } | StoreError::NodeExists { .. } | StoreError::NoNode { .. }) => {
                RunStateError::Overtaken { path: write.path.clone() }
            }
            (0 | 1, source) => source.into(),
            (index, source) => RunStateError::Together { index: index - OWN_OPS, source },
        },
        error => error.into(),
    }
}

/// Whether a write that was not answered has happened.
async fn look(store: &dyn Store, write: &Write) -> Result<bool, RunStateError> {
    // Bounded by the session's end.
    loop {
        let (sync, read) = (store.sync(&write.path), store.read(&write.path));
        let (sync, read) = (sync.await, read.await);
        let node = match sync.and(read) {
            Ok(node) => Some(node),
            Err(StoreError::NoNode { .. }) => None,
            Err(error) if error.is_retryable() || matches!(error, StoreError::Ambiguous { .. }) => {
                sleep(FIRST_PAUSE).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        return write.landed(node.as_ref()).ok_or_else(|| RunStateError::Overtaken { path: write.path.clone() });
    }
}
