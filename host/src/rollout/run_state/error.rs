//! Why a run's state cannot be written or read.

use thiserror::Error;

use super::records::LAYOUT;
use lockkeeper_coordination::recipe::AcquireError;
use lockkeeper_coordination::store::{NodePath, StoreError};

/// Why a run's state cannot be written or read.
#[derive(Debug, Error)]
pub enum RunStateError {
    /// The run is somebody else's: our lease of it is gone, or a node was written by another.
    #[error("somebody else runs it now: `{path}` is not as we left it")]
    Overtaken {
        /// What gave it away.
        path: NodePath,
    },
    /// The session ended: somebody else may run it by now.
    #[error("the session with the store ended")]
    SessionOver,
    /// Something that belongs into the same transaction was refused, so that nothing was written.
    #[error("the store refused what was to be written together")]
    Together {
        /// Which of the operations that were to go along, from 0.
        index: usize,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// A node holds what this program does not write.
    #[error("node `{path}` does not hold what it should: {reason}")]
    Strange {
        /// Which.
        path: NodePath,
        /// What is wrong with it.
        reason: String,
    },
    /// Another version of this program wrote the run.
    #[error("another version of lockkeeper wrote run `{run}` (layout {found}, this version reads layout {LAYOUT})")]
    Layout {
        /// Which.
        run: String,
        /// What it says.
        found: u32,
    },
    /// There is no such run.
    #[error("the store has no run `{run}`")]
    NoSuchRun {
        /// Which.
        run: String,
    },
    /// A later run of the job has begun.
    #[error("run `{run}` is not the newest of its job: `{newest}` is")]
    NotNewest {
        /// Which.
        run: String,
        /// Which one is.
        newest: String,
    },
    /// Who may run it cannot be settled.
    #[error("cannot become the runner")]
    Runner(#[from] AcquireError),
    /// The store refused or could not be reached.
    #[error("cannot reach the state of the run")]
    Store(#[source] StoreError),
}

impl RunStateError {
    /// Whether it is not there any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::NoSuchRun { .. } | Self::Store(StoreError::NoNode { .. }))
    }

    /// Whether the same may yet succeed: the store cannot be reached, or did not answer.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Store(error) if error.is_retryable() || matches!(error, StoreError::Ambiguous { .. }))
    }

    /// Whether the run is lost to somebody else, or may be.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        matches!(self, Self::Overtaken { .. } | Self::SessionOver | Self::Runner(AcquireError::SessionOver { .. }))
    }
}

impl From<StoreError> for RunStateError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::SessionOver => Self::SessionOver,
            error => Self::Store(error),
        }
    }
}
