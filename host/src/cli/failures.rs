//! The errors of policies and runs, as failures of a command.

use serde_json::json;

use crate::policy::PolicyError;
use crate::rollout::driver::{RunError, TargetsError};
use crate::rollout::run_state::RunStateError;
use lockkeeper_locks::cli::exit::{ErrorKind, Failure, store_hint, store_kind};
use lockkeeper_locks::cli::problems::problems_failure;

impl From<PolicyError> for Failure {
    fn from(error: PolicyError) -> Self {
        let kind = match &error {
            PolicyError::Unreadable { .. } | PolicyError::NoSuchPolicy { .. } => ErrorKind::BadJob,
            _ => ErrorKind::PolicyFault,
        };
        let more = json!({ "fault": error.kind() });
        Self { hint: error.hint(), more: Some(more), ..Self::new(kind, error) }
    }
}

impl From<TargetsError> for Failure {
    fn from(error: TargetsError) -> Self {
        match error {
            TargetsError::Problems(problems) => problems_failure(&problems),
            TargetsError::Store(source) => source.into(),
            error => Self::new(ErrorKind::BadJob, error),
        }
    }
}

impl From<RunStateError> for Failure {
    fn from(error: RunStateError) -> Self {
        let (kind, hint) = match &error {
            RunStateError::Overtaken { .. } => {
                (ErrorKind::Running, Some("repeat the command: the run has changed meanwhile"))
            }
            RunStateError::SessionEnded => (ErrorKind::Unavailable, None),
            RunStateError::OperationRefused { source, .. } | RunStateError::Store(source) => {
                return Self { hint: store_hint(source), ..Self::new(store_kind(source), error) };
            }
            RunStateError::Runner(_) => match error {
                RunStateError::Runner(error) => return error.into(),
                error => return Self::new(ErrorKind::Internal, error),
            },
            RunStateError::Malformed { .. } => {
                (ErrorKind::BadRun, Some("check which other program writes below `/lockkeeper`"))
            }
            RunStateError::Layout { run, .. } => {
                let hint = format!("`lockkeeper abort {run}` aborts the run and releases its slots");
                return Self::new(ErrorKind::BadRun, anyhow::Error::new(error)).hint(hint);
            }
            RunStateError::NotNewest { .. } => {
                (ErrorKind::Finished, Some("`lockkeeper run JOB` resumes only the newest run of a job"))
            }
            RunStateError::NoSuchRun { .. } => (ErrorKind::NoSuchRun, Some("`lockkeeper status` lists the runs")),
        };
        let failure = Self::new(kind, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Self {
        if let RunError::RunState(error) = error {
            return error.into();
        }
        let kind = match &error {
            RunError::Journal { .. } => ErrorKind::Io,
            RunError::RunState(_) => ErrorKind::Unavailable,
            RunError::Command(_) | RunError::Identifier { .. } => ErrorKind::BadJob,
        };
        if matches!(error, RunError::Journal { .. }) {
            let hint = "free space there, or fix the cause in the error; no target is counted as failed, and `lockkeeper run JOB` \
                        resumes the run";
            return Self::new(kind, error).hint(hint);
        }
        Self::new(kind, error)
    }
}
