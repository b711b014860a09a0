//! Sends one transaction until its outcome is known.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::error::RunStateError;
use lockkeeper_coordination::store::{Node, NodeKind, NodePath, Op, Store, StoreError, Version};

/// First pause before a transaction is sent again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

/// Longest pause. A store that stays unreachable ends the session, and that ends the attempts.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// The intended data of a node.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) path: NodePath,
    pub(super) data: Bytes,
    /// The version that the node has now. `None` if the node does not exist.
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

    /// `Some(true)` if the write happened, `Some(false)` if the node is unchanged, `None` if another process wrote it.
    fn happened(&self, node: Option<&Node>) -> Option<bool> {
        match node {
            Some(node) if node.stat.version == self.version_after() && node.data == self.data => Some(true),
            Some(node) if Some(node.stat.version) == self.version => Some(false),
            None if self.version.is_none() => Some(false),
            _ => None,
        }
    }
}

/// The operations of a safe write: this process is the runner, and the node has the expected version.
pub(super) fn ops(runner: &NodePath, write: &Write) -> Vec<Op> {
    vec![is_runner(runner), write.op()]
}

/// Checks that this process is still the runner.
fn is_runner(runner: &NodePath) -> Op {
    Op::Check { path: runner.clone(), version: Version::Any }
}

/// Number of operations that [`ops`] returns.
pub(super) const OWN_OPS: usize = 2;

/// Writes a node together with `along` and returns its new version. A transaction without an answer is checked before
/// it is sent again.
///
/// # Errors
/// [`RunStateError`]. After any error except [`RunStateError::SessionEnded`], nothing was written.
pub(super) async fn commit(
    store: &dyn Store,
    runner: &NodePath,
    write: &Write,
    along: &[Op],
) -> Result<i32, RunStateError> {
    commit_if(store, &is_runner(runner), write, along).await
}

/// Same as [`commit`], on the condition that `check` (an operation that writes nothing) succeeds.
///
/// # Errors
/// As [`commit`]; [`RunStateError::Overtaken`] if `check` fails.
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
                if has_happened(store, write).await? {
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
                return Err(RunStateError::SessionEnded);
            }
            () = sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

/// Translates the refusal of a transaction that consists of a check of a node and the write.
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
            (index, source) => RunStateError::OperationRefused { index: index - OWN_OPS, source },
        },
        error => error.into(),
    }
}

/// Whether a write without an answer happened.
async fn has_happened(store: &dyn Store, write: &Write) -> Result<bool, RunStateError> {
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
        return write.happened(node.as_ref()).ok_or_else(|| RunStateError::Overtaken { path: write.path.clone() });
    }
}
