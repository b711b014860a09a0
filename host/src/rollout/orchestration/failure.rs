//! Why a call fails.

use crate::policy::orchestration::CallError;
use crate::rollout::run_state::RunStateError;
use lockkeeper_coordination::store::StoreError;

/// Why one call failed.
pub(super) enum CallFailure {
    Error(CallError),
    Lost,
}

impl From<StoreError> for CallFailure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::SessionOver => Self::Lost,
            StoreError::Refused { .. } => Self::Error(CallError::Refused(error.to_string())),
            error => Self::Error(CallError::Unavailable(error.to_string())),
        }
    }
}

impl From<RunStateError> for CallFailure {
    fn from(error: RunStateError) -> Self {
        match error {
            error if error.is_lost() => Self::Lost,
            RunStateError::Store(error) => error.into(),
            error => Self::Error(CallError::Unavailable(error.to_string())),
        }
    }
}

pub(super) fn refused(why: String) -> CallFailure {
    CallFailure::Error(CallError::Refused(why))
}
