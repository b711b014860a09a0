//! What blocks an orchestration that waits for a slot: the holders of the slots, and what they wait for themselves.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde::Serialize;

use super::error::RunStateError;
use super::read;
use crate::policy::orchestration::Call;
use crate::rollout::model::Begun;
use lockkeeper_coordination::recipe::{Holder, Semaphore};
use lockkeeper_coordination::store::{NodePath, Store};

/// Entries of the queue that are read at most.
const MOST_QUEUED: usize = 1_000;

/// A slot that a run waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SlotBlockers {
    /// Path of the semaphore.
    pub semaphore: String,
    /// Position in the queue, from 1. `None` if the run is not in the queue.
    pub place: Option<usize>,
    /// Length of the queue.
    pub queued: u32,
    /// The holders of the semaphore's slots.
    pub holders: Vec<BlockingHolder>,
}

/// A holder of a slot that the run waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct BlockingHolder {
    /// The lease.
    #[serde(flatten)]
    pub holder: Holder,
    /// The call that the holding run waits for. `None` if the holder is not a run, or does not wait.
    pub waits: Option<Begun>,
    /// Whether the holder waits for a slot of this run: both wait for each other until a timeout ends.
    pub mutual: bool,
}

/// What blocks the call `begun`. `None` if the call does not wait for a slot.
///
/// # Errors
/// If the store cannot be read.
pub(super) async fn blockers(
    store: &Arc<dyn Store>,
    run: &str,
    begun: &Begun,
) -> Result<Option<SlotBlockers>, RunStateError> {
    let Some(semaphore) = wanted(store, begun) else { return Ok(None) };
    let (state, _) = semaphore.observe().await?;
    let queue = if state.queued > 0 { semaphore.queue(MOST_QUEUED).await? } else { Vec::new() };
    let mut holders = Vec::with_capacity(state.holders.len());
    for holder in state.holders {
        // An identifier that is a run's name belongs to that run's orchestration.
        let waits = read::run_status(store, &holder.identifier).await?.and_then(|run_status| run_status.calls);
        let mutual = match waits.as_ref().and_then(|waits| wanted(store, waits)) {
            Some(other) => other.holders().await?.iter().any(|held| held.identifier == run),
            None => false,
        };
        holders.push(BlockingHolder { holder, waits, mutual });
    }
    Ok(Some(SlotBlockers {
        semaphore: semaphore.path().to_string(),
        place: queue.iter().position(|identifier| identifier == run).map(|before| before + 1),
        queued: state.queued,
        holders,
    }))
}

fn wanted(store: &Arc<dyn Store>, begun: &Begun) -> Option<Semaphore> {
    let Call::Lock { path, .. } = &begun.call else { return None };
    let path = NodePath::parse(path).ok()?;
    Some(Semaphore::new(Arc::clone(store), path, NonZeroU32::MIN))
}
