//! A finished run that is open again.

use std::sync::Arc;

use super::error::RunStateError;
use super::layout::RunPaths;
use super::read::{self, Kept};
use super::runner::Runner;
use crate::job::JobName;
use lockkeeper_coordination::recipe::{Identifier, Patience};
use lockkeeper_coordination::store::{Store, StoreError, Version};

/// A finished run is open again: whoever runs its job next goes on with it. Nobody runs the job meanwhile: `who` is its
/// runner for as long as this takes.
///
/// # Errors
/// [`LedgerError`]: [`LedgerError::Runner`] if somebody runs the job, [`LedgerError::NotNewest`] if a later run of it has
/// begun, [`LedgerError::Overtaken`] if the run changed since it was read.
pub async fn reopen(store: &Arc<dyn Store>, kept: &Kept, who: Identifier) -> Result<(), RunStateError> {
    let job = job_of(kept)?;
    let runner = Runner::become_one(store, &job, who, Patience::Once).await?;
    let done = reopen_as(store, kept, &runner).await;
    runner.step_down().await;
    done
}

async fn reopen_as(store: &Arc<dyn Store>, kept: &Kept, runner: &Runner) -> Result<(), RunStateError> {
    match runner.newest().await? {
        Some(newest) if newest.name != kept.name => {
            return Err(RunStateError::NotNewest { run: kept.name.clone(), newest: newest.name });
        }
        _ => {}
    }
    let path = RunPaths::new(&kept.name).run().clone();
    let mut record = kept.record.clone();
    record.ended = None;
    match store.set(&path, read::bytes(&record), Version::Exactly(kept.version)).await {
        Ok(_) => Ok(()),
        Err(StoreError::BadVersion { path }) => Err(RunStateError::Overtaken { path }),
        Err(error) => Err(error.into()),
    }
}

/// The name of a run's job.
pub(super) fn job_of(kept: &Kept) -> Result<JobName, RunStateError> {
    JobName::parse(&kept.record.job).map_err(|error| RunStateError::Strange {
        path: RunPaths::new(&kept.name).run().clone(),
        reason: error.to_string(),
    })
}
