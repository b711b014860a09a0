//! What people want of a run, said from anywhere.

use std::sync::Arc;

use super::error::LedgerError;
use super::layout::RunPaths;
use super::read::{self, Kept};
use super::records::Wishes;
use crate::store::{Store, StoreError, Version};

/// How often somebody else may change the same wishes under our hands.
const MOST_TRIES: u32 = 50;

/// Changes what people want of a run; its runner hears of it at once. `change` may be asked more than once.
///
/// # Errors
/// [`LedgerError`]. Where the answer got lost, the wish may be there: to say it again does no harm.
pub async fn wish(store: &Arc<dyn Store>, run: &str, change: impl Fn(&mut Wishes)) -> Result<Wishes, LedgerError> {
    let path = RunPaths::new(run).wishes();
    for _ in 0..MOST_TRIES {
        let node = match store.read(&path).await {
            Err(StoreError::NoNode { .. }) => return Err(LedgerError::NoSuchRun { run: run.to_owned() }),
            node => node?,
        };
        let mut wishes: Wishes = read::parse(&path, &node.data)?;
        change(&mut wishes);
        match store.set(&path, read::bytes(&wishes), Version::Exactly(node.stat.version)).await {
            Ok(_) => return Ok(wishes),
            Err(StoreError::BadVersion { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let reason = format!("`{path}` changed {MOST_TRIES} times while it was being changed");
    Err(LedgerError::Store(StoreError::Unavailable { reason }))
}

/// A finished run is open again: whoever runs its job next goes on with it.
///
/// # Errors
/// [`LedgerError`]; [`LedgerError::Overtaken`] if it changed since it was read.
pub async fn reopen(store: &Arc<dyn Store>, kept: &Kept) -> Result<(), LedgerError> {
    let path = RunPaths::new(&kept.name).run().clone();
    let mut record = kept.record.clone();
    record.ended = None;
    match store.set(&path, read::bytes(&record), Version::Exactly(kept.version)).await {
        Ok(_) => Ok(()),
        Err(StoreError::BadVersion { path }) => Err(LedgerError::Overtaken { path }),
        Err(error) => Err(error.into()),
    }
}
