//! Waits until a run's runner acknowledges an operator request.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::RunStateError;
use super::read::{self, StoredRun};
use super::records::RunEnd;
use super::rerun::job_of;
use super::runner::Runner;
use crate::rollout::model::RunStatus;
use lockkeeper_coordination::recipe::Holder;
use lockkeeper_coordination::store::Store;

/// Interval between reads of the run status.
const READ_INTERVAL: Duration = Duration::from_millis(50);

/// What became of an operator request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acknowledgement {
    /// The runner has acknowledged it.
    Acknowledged(Holder, Box<RunStatus>),
    /// The run is finished.
    Ended(RunEnd),
    /// No runner drives the run.
    NoRunner,
    /// A runner drives the run and has not acknowledged the request yet.
    NotYet(Holder),
}

/// Waits until the runner acknowledges version `version` of the requests, the run is finished, no runner drives it, or
/// `patience` has passed.
///
/// # Errors
/// If the store cannot be read.
pub async fn await_acknowledgement(
    store: &Arc<dyn Store>,
    kept: &StoredRun,
    version: i32,
    patience: Duration,
) -> Result<Acknowledgement, RunStateError> {
    let job = job_of(kept)?;
    let deadline = Instant::now() + patience;
    loop {
        let record = read::run_in_any_layout(store, &kept.name).await?.record;
        if let Some(ended) = record.ended {
            return Ok(Acknowledgement::Ended(ended));
        }
        let (Some(holder), _) = Runner::of(store, &job).await? else { return Ok(Acknowledgement::NoRunner) };
        if let Some(run_status) = read::run_status(store, &kept.name).await?
            && run_status.requests >= version
            && record.is_written_by(&holder, &run_status)
        {
            return Ok(Acknowledgement::Acknowledged(holder, Box::new(run_status)));
        }
        if Instant::now() >= deadline {
            return Ok(Acknowledgement::NotYet(holder));
        }
        sleep(READ_INTERVAL).await;
    }
}
