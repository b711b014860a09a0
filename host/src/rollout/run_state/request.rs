//! Records operator requests; any process may do so.

use std::sync::Arc;

use super::error::RunStateError;
use super::json;
use super::layout::RunPaths;
use super::records::RequestsRecord;
use lockkeeper_coordination::store::{NodeKind, Store, StoreError, Version};

/// Attempts of a request while other processes change the same node.
const MOST_ATTEMPTS: u32 = 50;

/// The operator requests before and after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedRequests {
    /// The requests before the change.
    pub before: RequestsRecord,
    /// The requests after the change.
    pub now: RequestsRecord,
    /// Version of the requests' node. A runner that has acknowledged the change reports this or a later version.
    pub version: i32,
}

impl RecordedRequests {
    /// Whether the change had an effect.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.before != self.now
    }
}

/// Changes the operator requests of a run; a watch notifies the runner. `change` may be called several times. Nothing
/// is written if it changes nothing.
///
/// # Errors
/// [`RunStateError`]. If the store did not answer, the request may be recorded; repeating it is harmless.
pub async fn request(
    store: &Arc<dyn Store>,
    run: &str,
    change: impl Fn(&mut RequestsRecord),
) -> Result<RecordedRequests, RunStateError> {
    let path = RunPaths::new(run).requests();
    for _ in 0..MOST_ATTEMPTS {
        let node = match store.read(&path).await {
            // A run in an earlier layout has no such node; a deleted run has no node above it either.
            Err(StoreError::NoNode { .. }) => {
                match store.create(&path, json::bytes(&RequestsRecord::default()), NodeKind::Persistent).await {
                    Ok(_) | Err(StoreError::NodeExists { .. }) => continue,
                    Err(StoreError::NoNode { .. }) => return Err(RunStateError::NoSuchRun { run: run.to_owned() }),
                    Err(error) => return Err(error.into()),
                }
            }
            node => node?,
        };
        let before: RequestsRecord = json::parse(&path, &node.data)?;
        let mut now = before.clone();
        change(&mut now);
        if now == before {
            return Ok(RecordedRequests { before, now, version: node.stat.version });
        }
        match store.set(&path, json::bytes(&now), Version::Exactly(node.stat.version)).await {
            Ok(stat) => return Ok(RecordedRequests { before, now, version: stat.version }),
            Err(StoreError::BadVersion { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let reason = format!("`{path}` changed {MOST_ATTEMPTS} times while it was being changed");
    Err(RunStateError::Store(StoreError::Unavailable { reason }))
}
