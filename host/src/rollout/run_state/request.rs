//! What people want of a run, said from anywhere.

use std::sync::Arc;

use super::error::RunStateError;
use super::layout::RunPaths;
use super::read;
use super::records::RequestsRecord;
use lockkeeper_coordination::store::{NodeKind, Store, StoreError, Version};

/// How often somebody else may change the same wishes under our hands.
const MOST_TRIES: u32 = 50;

/// What people want of a run, once it was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// What it was before.
    pub before: RequestsRecord,
    /// What it is now.
    pub now: RequestsRecord,
    /// The version of the node that says so: a runner that has heard of it names this or a later one.
    pub version: i32,
}

impl Recorded {
    /// Whether anything is otherwise than before.
    #[must_use]
    pub fn is_new(&self) -> bool {
        self.before != self.now
    }
}

/// Changes what people want of a run; its runner hears of it at once. `change` may be asked more than once. Where it
/// changes nothing, nothing is written.
///
/// # Errors
/// [`LedgerError`]. Where the answer got lost, the wish may be there: to say it again does no harm.
pub async fn request(
    store: &Arc<dyn Store>,
    run: &str,
    change: impl Fn(&mut RequestsRecord),
) -> Result<Recorded, RunStateError> {
    let path = RunPaths::new(run).requests();
    for _ in 0..MOST_TRIES {
        let node = match store.read(&path).await {
            // A run in an earlier layout has no such node; a run that is gone has no node above it either.
            Err(StoreError::NoNode { .. }) => {
                match store.create(&path, read::bytes(&RequestsRecord::default()), NodeKind::Persistent).await {
                    Ok(_) | Err(StoreError::NodeExists { .. }) => continue,
                    Err(StoreError::NoNode { .. }) => return Err(RunStateError::NoSuchRun { run: run.to_owned() }),
                    Err(error) => return Err(error.into()),
                }
            }
            node => node?,
        };
        let before: RequestsRecord = read::parse(&path, &node.data)?;
        let mut now = before.clone();
        change(&mut now);
        if now == before {
            return Ok(Recorded { before, now, version: node.stat.version });
        }
        match store.set(&path, read::bytes(&now), Version::Exactly(node.stat.version)).await {
            Ok(stat) => return Ok(Recorded { before, now, version: stat.version }),
            Err(StoreError::BadVersion { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let reason = format!("`{path}` changed {MOST_TRIES} times while it was being changed");
    Err(RunStateError::Store(StoreError::Unavailable { reason }))
}
