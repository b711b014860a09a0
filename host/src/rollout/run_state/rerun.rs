//! Reopens a finished run.

use std::sync::Arc;

use super::error::RunStateError;
use super::json;
use super::layout::RunPaths;
use super::read::StoredRun;
use super::runner::Runner;
use crate::job::JobName;
use lockkeeper_coordination::recipe::{Identifier, Patience};
use lockkeeper_coordination::store::{Store, StoreError, Version};

/// Reopens a finished run: the job's next runner resumes it. The process is the job's runner, as `who`, until this
/// returns, so no other process drives the job meanwhile.
///
/// # Errors
/// [`RunStateError::Runner`] if another process runs the job, [`RunStateError::NotNewest`] if the job has a newer run,
/// [`RunStateError::Overtaken`] if the run changed since it was read.
pub async fn reopen(store: &Arc<dyn Store>, kept: &StoredRun, who: Identifier) -> Result<(), RunStateError> {
    let job = job_of(kept)?;
    let runner = Runner::acquire(store, &job, who, Patience::Once).await?;
    let done = reopen_as(store, kept, &runner).await;
    runner.step_down().await;
    done
}

async fn reopen_as(store: &Arc<dyn Store>, kept: &StoredRun, runner: &Runner) -> Result<(), RunStateError> {
    match runner.newest().await? {
        Some(newest) if newest.name != kept.name => {
            return Err(RunStateError::NotNewest { run: kept.name.clone(), newest: newest.name });
        }
        _ => {}
    }
    let path = RunPaths::new(&kept.name).run().clone();
    let mut record = kept.record.clone();
    record.ended = None;
    match store.set(&path, json::bytes(&record), Version::Exactly(kept.version)).await {
        Ok(_) => Ok(()),
        Err(StoreError::BadVersion { path }) => Err(RunStateError::Overtaken { path }),
        Err(error) => Err(error.into()),
    }
}

/// The name of a run's job.
pub(super) fn job_of(kept: &StoredRun) -> Result<JobName, RunStateError> {
    JobName::parse(&kept.record.job).map_err(|error| RunStateError::Malformed {
        path: RunPaths::new(&kept.name).run().clone(),
        reason: error.to_string(),
    })
}
