//! The leases that an orchestration's guest holds: acquired, watched, released.

use std::sync::Arc;

use super::driver::OrchestrationDriver;
use super::failure::{CallFailure, refused};
use crate::policy::orchestration::{Answer, CallError};
use crate::policy::types as contract;
use crate::rollout::run_state::owners;
use lockkeeper_coordination::recipe::{
    AcquireError, Acquired, Force, ForceError, Forced, Holder, IfHeld, Lease, Ownership, Patience, Request, Semaphore,
};
use lockkeeper_coordination::store::{Fence, Lifetime, StoreError};

impl OrchestrationDriver {
    /// Watches each lease that the guest holds.
    ///
    /// # Errors
    /// [`CallError::LeaseLost`] if one no longer exists.
    pub(super) async fn watched(&mut self) -> Result<Vec<(String, Arc<Lease>)>, CallFailure> {
        for (path, fence) in self.held_leases.unwatched() {
            let semaphore = self.semaphore(&path)?;
            let (_, lease) = self.own(&semaphore).await?;
            let lease = lease.filter(|lease| lease.fence().get() == fence);
            let lease = lease.ok_or_else(|| CallFailure::Error(CallError::LeaseLost(path.clone())))?;
            self.held_leases.add(&path, lease);
        }
        Ok(self.held_leases.watched())
    }

    fn not_in_hand(&self, path: &str) -> Result<(), CallFailure> {
        match self.held_leases.has(path) {
            true => Err(refused(format!("the run holds a slot of `{path}` already"))),
            false => Ok(()),
        }
    }

    pub(super) async fn lock(&mut self, path: &str, patience: Patience) -> Result<Answer, CallFailure> {
        let semaphore = self.semaphore(path)?;
        self.not_in_hand(path)?;
        let (known, found) = self.own(&semaphore).await?;
        if let Some(lease) = found {
            // It was acquired before the runner was interrupted.
            return Ok(Answer::Held(self.held_leases.add(path, lease)));
        }
        let along = self.own_leases.along(semaphore.path(), self.who.as_str(), known);
        let ownership = Ownership::Exclusive(self.owner.clone(), IfHeld::Wait);
        let (identifier, lifetime) = (&self.who, Lifetime::Persistent);
        let request = Request { identifier, lifetime, patience, ownership: &ownership, along: &along };
        match semaphore.acquire_as(request).await {
            Ok(Acquired { lease, .. }) => Ok(Answer::Held(self.held_leases.add(path, lease))),
            Err(AcquireError::Full { .. } | AcquireError::Held { .. }) => Ok(Answer::NotFree),
            Err(AcquireError::TimedOut { .. }) => Err(CallFailure::Error(CallError::TimedOut)),
            Err(error @ (AcquireError::SlotsDiffer { .. } | AcquireError::Nested(_))) => {
                Err(refused(error.to_string()))
            }
            Err(AcquireError::SessionOver { .. }) => Err(CallFailure::Lost),
            Err(AcquireError::Along { source: StoreError::NoNode { .. }, .. }) => Err(CallFailure::Lost),
            Err(
                AcquireError::Store { source, .. }
                | AcquireError::Claim { source, .. }
                | AcquireError::Along { source, .. },
            ) => Err(source.into()),
            Err(error) => Err(CallFailure::Error(CallError::Unavailable(error.to_string()))),
        }
    }

    pub(super) async fn force(&mut self, path: &str, breaking: &[u64], reason: &str) -> Result<Answer, CallFailure> {
        let semaphore = self.semaphore(path)?;
        if !self.spec.may_force {
            return Err(refused("the job's `orchestration.grants` do not list `force`".to_owned()));
        }
        self.not_in_hand(path)?;
        let (known, found) = self.own(&semaphore).await?;
        if let Some(lease) = found {
            // It was acquired before the runner was interrupted.
            return Ok(Answer::Held(self.held_leases.add(path, lease)));
        }
        let breaking: Vec<Fence> = breaking.iter().copied().map(Fence::new).collect();
        if let Some(living) = owners::living(&self.store, semaphore.path(), &breaking).await? {
            return Err(CallFailure::Error(CallError::Conflict(living)));
        }
        let at = self.store.clock().now_ms();
        let record = Forced { by: format!("run `{}`", self.who), reason: reason.to_owned(), at };
        let along = self.own_leases.along(semaphore.path(), self.who.as_str(), known);
        let force = Force {
            identifier: &self.who,
            lifetime: Lifetime::Persistent,
            breaking: &breaking,
            owner: &self.owner,
            record: Some(&record),
            along: &along,
        };
        match semaphore.force(force).await {
            Ok(lease) => Ok(Answer::Held(self.held_leases.add(path, lease))),
            Err(error @ (ForceError::Conflict { .. } | ForceError::Deleted { .. } | ForceError::Held { .. })) => {
                Err(CallFailure::Error(CallError::Conflict(error.to_string())))
            }
            Err(ForceError::SessionOver { .. }) => Err(CallFailure::Lost),
            Err(ForceError::Along { source: StoreError::NoNode { .. }, .. }) => Err(CallFailure::Lost),
            Err(
                ForceError::Store { source, .. } | ForceError::Along { source, .. } | ForceError::Claim { source, .. },
            ) => Err(source.into()),
        }
    }

    pub(super) async fn release(&self, path: &str) -> Result<Answer, CallFailure> {
        let semaphore = self.semaphore(path)?;
        if let (_, Some(lease)) = self.own(&semaphore).await? {
            self.own_leases.release(semaphore.path(), &lease).await?;
            lease.forget();
        }
        Ok(Answer::Done)
    }

    pub(super) async fn still_held(&self, path: &str) -> Result<Answer, CallFailure> {
        let semaphore = self.semaphore(path)?;
        Ok(Answer::Flag(self.own(&semaphore).await?.1.is_some()))
    }

    /// Whether the run's state names a lease of that semaphore, and the lease, if it still exists.
    async fn own(&self, semaphore: &Semaphore) -> Result<(bool, Option<Lease>), CallFailure> {
        match self.own_leases.of(semaphore.path()).await? {
            None => Ok((false, None)),
            Some(own) => Ok((true, semaphore.adopt(&own.lease, None, &self.who).await?)),
        }
    }

    pub(super) async fn recovered_leases(&self) -> Result<Answer, CallFailure> {
        let mut found = Vec::new();
        for (path, _) in &self.spec.semaphores {
            if self.held_leases.has(path.as_str()) {
                continue;
            }
            if let (_, Some(held)) = self.own(&self.semaphore(path.as_str())?).await? {
                found.push((path.to_string(), held.fence().get()));
            }
        }
        Ok(Answer::Leases(found))
    }

    pub(super) async fn holders(&self, path: &str) -> Result<Answer, CallFailure> {
        let semaphore = self.semaphore(path)?;
        let (state, _) = semaphore.observe().await?;
        let lease = |holder: Holder| contract::Lease {
            mine: holder.identifier == self.who.as_str(),
            identifier: holder.identifier,
            fence: holder.fence.get(),
            since: holder.since_ms,
            ephemeral: holder.ephemeral,
            alive: None,
        };
        Ok(Answer::Semaphore(contract::Semaphore {
            path: path.to_owned(),
            slots: state.slots.unwrap_or(semaphore.slots().get()),
            leases: state.holders.into_iter().map(lease).collect(),
            queued: state.queued,
        }))
    }
}
