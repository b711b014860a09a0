//! Errors of reading and writing a run's state.

use thiserror::Error;

use super::records::LAYOUT;
use lockkeeper_coordination::recipe::AcquireError;
use lockkeeper_coordination::store::{NodePath, StoreError};

/// Why a run's state cannot be written or read.
#[derive(Debug, Error)]
pub enum RunStateError {
    /// Another process drives the run: this runner's lease of the job is gone, or another process wrote a node.
    #[error("another process drives the run now: it has changed `{path}`")]
    Overtaken {
        /// The node that shows it.
        path: NodePath,
    },
    /// The session ended; another process may drive the run by now.
    #[error("the session with the store ended")]
    SessionEnded,
    /// The store refused an operation of the same transaction, so nothing was written.
    #[error("the store refused an operation of the transaction")]
    OperationRefused {
        /// Position of the refused operation among those given, from 0.
        index: usize,
        /// The store's reason.
        #[source]
        source: StoreError,
    },
    /// A node's content is not in this program's format.
    #[error("node `{path}` has unexpected content: {reason}")]
    Malformed {
        /// The node in question.
        path: NodePath,
        /// What is wrong with the content.
        reason: String,
    },
    /// Another version of this program wrote the run.
    #[error("another version of lockkeeper wrote run `{run}` (layout {found}, this version reads layout {LAYOUT})")]
    Layout {
        /// Name of the run.
        run: String,
        /// The layout that the run has.
        found: u32,
    },
    /// The store has no run of this name.
    #[error("the store has no run `{run}`")]
    NoSuchRun {
        /// Name of the run.
        run: String,
    },
    /// The job has a newer run.
    #[error("run `{run}` is not the newest of its job: `{newest}` is")]
    NotNewest {
        /// Name of the run.
        run: String,
        /// The newest run of the job.
        newest: String,
    },
    /// Becoming the job's runner failed.
    #[error("cannot become the runner")]
    Runner(#[from] AcquireError),
    /// The store refused or could not be reached.
    #[error("cannot read or write the run state")]
    Store(#[source] StoreError),
}

impl RunStateError {
    /// Whether the run no longer exists.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::NoSuchRun { .. } | Self::Store(StoreError::NoNode { .. }))
    }

    /// Whether the same call may succeed later: the store is unreachable or did not answer.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable() || matches!(error, StoreError::Ambiguous { .. }))
    }

    /// Whether another process drives the run, or may drive it.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Overtaken { .. } | Self::SessionEnded | Self::Runner(AcquireError::SessionOver { .. }))
    }
}

impl From<StoreError> for RunStateError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::SessionOver => Self::SessionEnded,
            error => Self::Store(error),
        }
    }
}
