//! Whether a run's runner has heard what people want.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::error::RunStateError;
use super::read::{self, Kept};
use super::records::Ended;
use super::rerun::job_of;
use super::runner::Runner;
use crate::rollout::model::RunStatus;
use lockkeeper_coordination::recipe::Holder;
use lockkeeper_coordination::store::Store;

/// How often it is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Its runner goes by it.
    Heard(Holder, Box<RunStatus>),
    /// The run is finished.
    Ended(Ended),
    /// Nobody runs it.
    Nobody,
    /// Somebody is said to run it, and has not said anything of it yet.
    NotYet(Holder),
}

/// Waits until the runner goes by the wishes of `version`, or the run is finished, or it shows that nobody runs it.
///
/// # Errors
/// As the store's.
pub async fn await_acknowledgement(
    store: &Arc<dyn Store>,
    kept: &Kept,
    version: i32,
    patience: Duration,
) -> Result<Notice, RunStateError> {
    let job = job_of(kept)?;
    let deadline = Instant::now() + patience;
    loop {
        let record = read::run_in_any_layout(store, &kept.name).await?.record;
        if let Some(ended) = record.ended {
            return Ok(Notice::Ended(ended));
        }
        let (Some(holder), _) = Runner::of(store, &job).await? else { return Ok(Notice::Nobody) };
        if let Some(run_status) = read::run_status(store, &kept.name).await?
            && run_status.requests >= version
            && record.is_said_by(&holder, &run_status)
        {
            return Ok(Notice::Heard(holder, Box::new(run_status)));
        }
        if Instant::now() >= deadline {
            return Ok(Notice::NotYet(holder));
        }
        sleep(BETWEEN_LOOKS).await;
    }
}
