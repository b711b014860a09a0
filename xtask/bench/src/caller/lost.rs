//! A lease that is held until it is lost, and what is said on the way.

use std::sync::Arc;

use anyhow::Result;
use lockkeeper_coordination::recipe::{Identifier, Patience, Semaphore};
use lockkeeper_coordination::store::{Lifetime, SessionState, Store};

use super::{Arguments, heard, say};

pub(super) async fn wait(arguments: &Arguments, sessions: &[Arc<dyn Store>]) -> Result<()> {
    let session = &sessions[0];
    let semaphore = Semaphore::new(Arc::clone(session), arguments.path.clone(), arguments.slots);
    let acquired = semaphore.acquire(&Identifier::new("holder")?, Lifetime::Ephemeral, Patience::Forever).await?;
    let mut state = session.session();
    say("ready")?;
    tokio::select! {
        heard = heard("close") => return heard,
        _ = state.wait_for(|state| *state == SessionState::Suspended || state.is_over()) => say("suspended")?,
    }
    acquired.lease.lost().await;
    say("lost")?;
    heard("close").await?;
    // Nobody hears us any more: there is nothing to close.
    std::process::exit(0);
}
