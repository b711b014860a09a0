//! Tasks that watch the semaphore, the party and the session, and tell the engine what they see.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::sessions::{Recipes, Sessions};
use super::step::{Input, SeenLease, SeenMember};
use crate::store::{SessionState, StoreError};

/// Changes that follow each other within this time are read together. Our own leases are known at once; this is about
/// other people's.
const TOGETHER: Duration = Duration::from_millis(20);

/// How long after a failed reading the next is tried.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

/// Reads the semaphore now and after each change.
pub(super) async fn semaphore(sessions: Arc<Sessions>, inputs: mpsc::Sender<Input>) {
    loop {
        let seen = async {
            let Recipes { semaphore, .. } = sessions.recipes().await?;
            semaphore.observe().await
        };
        match seen.await {
            Ok((state, mut changed)) => {
                let leases = state
                    .holders
                    .into_iter()
                    .map(|holder| SeenLease {
                        identifier: holder.identifier,
                        fence: holder.fence,
                        since_ms: holder.since_ms,
                        ephemeral: holder.ephemeral,
                    })
                    .collect();
                if inputs.send(Input::Semaphore { leases, queued: state.queued }).await.is_err() {
                    return;
                }
                changed.changed().await;
                sleep(TOGETHER).await;
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// Reads the party now and after each change.
pub(super) async fn party(sessions: Arc<Sessions>, inputs: mpsc::Sender<Input>) {
    loop {
        let seen = async {
            let recipes = sessions.recipes().await?;
            match recipes.party {
                Some(party) => party.observe().await.map(Some),
                None => Ok(None),
            }
        };
        match seen.await {
            Ok(Some((members, mut changed))) => {
                let members = members
                    .into_iter()
                    .map(|member| SeenMember { identifier: member.identifier, since_ms: member.since_ms })
                    .collect();
                if inputs.send(Input::Party(members)).await.is_err() {
                    return;
                }
                changed.changed().await;
                sleep(TOGETHER).await;
            }
            Ok(None) => return,
            Err(error) => pause(&error).await,
        }
    }
}

/// Tells whether the store hears us, from session to session.
pub(super) async fn session(sessions: Arc<Sessions>, inputs: mpsc::Sender<Input>) {
    loop {
        let recipes = match sessions.recipes().await {
            Ok(recipes) => recipes,
            Err(error) => {
                pause(&error).await;
                continue;
            }
        };
        let mut states = recipes.store.session();
        loop {
            let state = *states.borrow_and_update();
            if inputs.send(Input::Connected(state == SessionState::Connected)).await.is_err() {
                return;
            }
            if state.is_over() || states.changed().await.is_err() {
                break;
            }
        }
    }
}

async fn pause(_: &StoreError) {
    // Whatever it was, whoever acts on the store meets it too and says so.
    sleep(AFTER_FAILURE).await;
}
