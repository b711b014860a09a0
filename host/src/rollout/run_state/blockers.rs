//! Whom an orchestration waits for: who holds the slots that it wants, and what those wait for themselves.

use std::num::NonZeroU32;
use std::sync::Arc;

use serde::Serialize;

use super::error::RunStateError;
use super::read;
use crate::policy::orchestration::Call;
use crate::rollout::model::Begun;
use lockkeeper_coordination::recipe::{Holder, Semaphore};
use lockkeeper_coordination::store::{NodePath, Store};

/// How many places of a queue are looked at.
const MOST_QUEUED: usize = 1_000;

/// A slot that a run waits for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Blockers {
    /// Of which semaphore.
    pub semaphore: String,
    /// Its place in the queue, from 1; none: it has none any more, or not yet.
    pub place: Option<usize>,
    /// How many queue.
    pub queued: u32,
    /// Who holds its slots.
    pub holders: Vec<Blocking>,
}

/// Somebody who holds a slot that is waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Blocking {
    /// The lease.
    #[serde(flatten)]
    pub holder: Holder,
    /// What a run that holds it waits for itself; none: it is no run, or does not wait for an answer.
    pub waits: Option<Begun>,
    /// Whether that is a slot which the one who waits holds: both wait for each other until a timeout runs out.
    pub circle: bool,
}

/// Who keeps a run from what it calls; none: that is no slot.
///
/// # Errors
/// As the store's.
pub(super) async fn blockers(
    store: &Arc<dyn Store>,
    run: &str,
    begun: &Begun,
) -> Result<Option<Blockers>, RunStateError> {
    let Some(semaphore) = wanted(store, begun) else { return Ok(None) };
    let (state, _) = semaphore.observe().await?;
    let queue = if state.queued > 0 { semaphore.queue(MOST_QUEUED).await? } else { Vec::new() };
    let mut holders = Vec::with_capacity(state.holders.len());
    for holder in state.holders {
        // Whoever has a run's name for an identifier is that run's orchestration.
        let waits = read::run_status(store, &holder.identifier).await?.and_then(|run_status| run_status.calls);
        let circle = match waits.as_ref().and_then(|waits| wanted(store, waits)) {
            Some(other) => other.holders().await?.iter().any(|held| held.identifier == run),
            None => false,
        };
        holders.push(Blocking { holder, waits, circle });
    }
    Ok(Some(Blockers {
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
