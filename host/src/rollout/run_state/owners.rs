//! Who owns other callers' leases, as far as that can be known.

use std::sync::Arc;

use crate::job::JobName;
use crate::rollout::run_state::{RunStateError, Runner};
use lockkeeper_coordination::recipe::{Claims, Holder, Owner, Semaphore};
use lockkeeper_coordination::store::{Fence, NodePath, Store, StoreError};

/// The first of the leases with those fences whose owner is alive, as a reason not to break it; `None` if all may be broken.
///
/// An ephemeral lease is there because its session lives. A persistent one is alive while a runner drives the run that owns
/// it, or while the process of this host that owns it exists. Of a process of another host nothing is known: whether its
/// host is alive is for the policy to judge, by the party.
///
/// # Errors
/// As the store's.
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
        Err(RunStateError::SessionOver) => Err(StoreError::SessionOver),
        // Nobody knows: it is not broken.
        Err(_) => Ok(true),
    }
}
