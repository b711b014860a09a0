//! Reads the semaphore and the party after every change, and tells the loop, session after session.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::keeper::broken;
use super::messages::{Hearing, Input, SeenLease, SeenMember};
use super::sessions::{Recipes, Sessions};
use crate::recipe::{Party, Semaphore};
use crate::store::{SessionState, Store, StoreError};

/// Changes that follow each other within this time are read together. Our own leases are known at once; this is about
/// other people's.
const TOGETHER: Duration = Duration::from_millis(20);

/// How long after a failed reading the next is tried.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Tells what is seen until the run is over or the store cannot be read any more, which it says, too. One task, so that
/// what it tells of one session comes before what it tells of the next.
pub(super) async fn everything(sessions: Arc<Sessions>, inputs: mpsc::Sender<Input>) {
    loop {
        let Recipes { store, semaphore, party } = match sessions.recipes().await {
            Ok(recipes) => recipes,
            Err(error) => return tell(&inputs, Input::Broken(broken(&error))).await,
        };
        let failed = tokio::select! {
            () = hearing(store.as_ref(), &inputs) => None,
            error = watch_semaphore(&semaphore, &inputs) => Some(error),
            error = watch_party(party.as_deref(), &inputs) => Some(error),
        };
        match failed {
            // Said by the session as well, which is about to be looked at.
            None | Some(StoreError::SessionOver) => tell(&inputs, Input::Session(Hearing::Over)).await,
            Some(error) => return tell(&inputs, Input::Broken(broken(&error))).await,
        }
    }
}

/// Ends when the session does.
async fn hearing(store: &dyn Store, inputs: &mpsc::Sender<Input>) {
    let mut states = store.session();
    loop {
        let hearing = match *states.borrow_and_update() {
            SessionState::Connected => Hearing::Connected,
            SessionState::Suspended => Hearing::Suspended,
            SessionState::Expired | SessionState::Closed => return,
        };
        tell(inputs, Input::Session(hearing)).await;
        if states.changed().await.is_err() {
            return;
        }
    }
}

/// Ends with what no later reading could mend.
async fn watch_semaphore(semaphore: &Semaphore, inputs: &mpsc::Sender<Input>) -> StoreError {
    loop {
        match semaphore.observe().await {
            Ok((state, mut changed)) => {
                let seen = state.holders.into_iter().map(|holder| SeenLease {
                    identifier: holder.identifier,
                    fence: holder.fence,
                    since_ms: holder.since_ms,
                    ephemeral: holder.ephemeral,
                });
                tell(inputs, Input::Semaphore { leases: seen.collect(), queued: state.queued }).await;
                changed.changed().await;
                sleep(TOGETHER).await;
            }
            Err(error) if may_pass(&error) => sleep(AFTER_FAILURE).await,
            Err(error) => return error,
        }
    }
}

/// Likewise; without a party it never ends.
async fn watch_party(party: Option<&Party>, inputs: &mpsc::Sender<Input>) -> StoreError {
    let Some(party) = party else { return std::future::pending().await };
    loop {
        match party.observe().await {
            Ok((members, mut changed)) => {
                let seen = members
                    .into_iter()
                    .map(|member| SeenMember { identifier: member.identifier, since_ms: member.since_ms });
                tell(inputs, Input::Party(seen.collect())).await;
                changed.changed().await;
                sleep(TOGETHER).await;
            }
            Err(error) if may_pass(&error) => {
                // The floor is not kept by members that were there once.
                tell(inputs, Input::PartyUnread).await;
                sleep(AFTER_FAILURE).await;
            }
            Err(error) => return error,
        }
    }
}

async fn tell(inputs: &mpsc::Sender<Input>, input: Input) {
    // The loop is gone only when the run is over, and this task with it.
    let _ = inputs.send(input).await;
}

/// What a later reading may mend. A reading that was not answered has changed nothing.
fn may_pass(error: &StoreError) -> bool {
    error.is_retryable() || matches!(error, StoreError::Ambiguous { .. })
}
