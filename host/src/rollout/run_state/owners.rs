//! Whether the owners of other callers' leases are alive.

use std::sync::Arc;

use crate::job::JobName;
use crate::rollout::run_state::{RunStateError, Runner};
use lockkeeper_coordination::recipe::{Claims, Holder, Owner, Semaphore};
use lockkeeper_coordination::store::{Fence, NodePath, Store, StoreError};

/// The first of the leases with those fences whose owner is alive, as a reason not to break it. `None` if all may be
/// broken.
///
/// The owner of an ephemeral lease is alive: its session lives. The owner of a persistent one is alive while a runner
/// drives the run that owns it, or while the process on this host that owns it exists. Of a process on another host
/// nothing is known: the policy judges from the party whether that host is alive.
///
/// # Errors
/// If the store cannot be read.
pub(crate) async fn living(
    store: &Arc<dyn Store>,
    semaphore: &NodePath,
    breaking: &[Fence],
) -> Result<Option<String>, StoreError> {
    let holders = Semaphore::new(Arc::clone(store), semaphore.clone(), std::num::NonZeroU32::MIN).holders().await?;
    let victims: Vec<Holder> = holders.into_iter().filter(|holder| breaking.contains(&holder.fence)).collect();
    let claims = Claims::new(Arc::clone(store), semaphore.clone());
    let claims = claims.of_leases(victims.iter().map(|victim| victim.identifier.as_str())).await?;
    for victim in &victims {
        let identifier = &victim.identifier;
        if victim.ephemeral {
            return Ok(Some(format!("the lease of `{identifier}` is ephemeral: its owner is alive")));
        }
        let Some(owner) = claims.get(&victim.path).map(|seen| &seen.claim.owner) else { continue };
        let is_alive = match owner {
            Owner::Run { job, .. } => has_runner(store, job).await?,
            Owner::Process { .. } => owner.is_alive_here(),
            Owner::ByHand { .. } => false,
        };
        if is_alive {
            return Ok(Some(format!("{owner} owns the lease of `{identifier}` and is alive")));
        }
    }
    Ok(None)
}

async fn has_runner(store: &Arc<dyn Store>, job: &str) -> Result<bool, StoreError> {
    let Ok(job) = JobName::parse(job) else { return Ok(false) };
    match Runner::of(store, &job).await {
        Ok((runner, _)) => Ok(runner.is_some()),
        Err(RunStateError::Store(error)) => Err(error),
        Err(RunStateError::SessionEnded) => Err(StoreError::SessionOver),
        // Unknown, so the lease is not broken.
        Err(_) => Ok(true),
    }
}
