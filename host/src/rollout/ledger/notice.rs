//! Whether a run's runner has heard what people want.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::again::job_of;
use super::error::LedgerError;
use super::read::{self, Kept};
use super::records::Ended;
use super::runner::Runner;
use crate::recipe::Holder;
use crate::rollout::Outlook;
use crate::store::Store;

/// How often it is looked at.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// What became of a wish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// Its runner goes by it.
    Heard(Holder, Box<Outlook>),
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
pub async fn notice(
    store: &Arc<dyn Store>,
    kept: &Kept,
    version: i32,
    patience: Duration,
) -> Result<Notice, LedgerError> {
    let job = job_of(kept)?;
    let deadline = Instant::now() + patience;
    loop {
        let record = read::run(store, &kept.name).await?.record;
        if let Some(ended) = record.ended {
            return Ok(Notice::Ended(ended));
        }
        let (Some(holder), _) = Runner::of(store, &job).await? else { return Ok(Notice::Nobody) };
        if let Some(outlook) = read::outlook(store, &kept.name).await?
            && outlook.wishes >= version
            && record.is_said_by(&holder, &outlook)
        {
            return Ok(Notice::Heard(holder, Box::new(outlook)));
        }
        if Instant::now() >= deadline {
            return Ok(Notice::NotYet(holder));
        }
        sleep(BETWEEN_LOOKS).await;
    }
}
