//! The leases that a guest has in hand: taken, followed, given back.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::{Conductor, Failed, refused, unsigned};
use crate::policy::orchestration::{Answer, Fault};
use crate::policy::types as contract;
use crate::recipe::{
    AcquireError, Acquired, ForceError, Forced, ForcedRecords, Holder, Lease, Loss, Patience, Semaphore,
};
use crate::store::Lifetime;

/// The leases that a guest has in hand, by their semaphores: of each one at most.
#[derive(Debug, Default)]
pub(in crate::rollout) struct Claimed(BTreeMap<String, Claim>);

#[derive(Debug)]
struct Claim {
    fence: u64,
    /// What follows it; none: an earlier runner took it, and nobody has looked for it yet.
    lease: Option<Arc<Lease>>,
}

impl Claimed {
    fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// What was taken just now, followed from here on. It is persistent: to drop it does not give it back.
    fn taken(&mut self, path: &str, lease: Lease) -> u64 {
        let fence = unsigned(lease.fence());
        self.0.insert(path.to_owned(), Claim { fence, lease: Some(Arc::new(lease)) });
        fence
    }

    /// The guest was handed one with this fence.
    pub(super) fn hand_over(&mut self, path: &str, fence: u64) {
        let claim = self.0.entry(path.to_owned()).or_insert(Claim { fence, lease: None });
        if claim.fence != fence {
            *claim = Claim { fence, lease: None };
        }
    }

    /// The guest has let go of it.
    pub(super) fn let_go(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// It has nothing in hand.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Conductor {
    /// What follows each lease that the guest has in hand.
    ///
    /// # Errors
    /// [`Fault::LeaseLost`] when one is not there any more.
    pub(super) async fn followed(&mut self) -> Result<Vec<(String, Arc<Lease>)>, Failed> {
        let unseen = self.claimed.0.iter().filter(|(_, claim)| claim.lease.is_none());
        let unseen: Vec<(String, u64)> = unseen.map(|(path, claim)| (path.clone(), claim.fence)).collect();
        for (path, fence) in unseen {
            let semaphore = self.semaphore(&path)?;
            let node = self.own(&semaphore).await?.filter(|held| unsigned(held.fence) == fence).map(|held| held.path);
            let lease = match node {
                Some(node) => semaphore.adopt(&node, &self.who).await?,
                None => None,
            };
            let lease = lease.ok_or_else(|| Failed::Fault(Fault::LeaseLost(path.clone())))?;
            self.claimed.taken(&path, lease);
        }
        let followed = self.claimed.0.iter();
        Ok(followed.filter_map(|(path, claim)| Some((path.clone(), Arc::clone(claim.lease.as_ref()?)))).collect())
    }

    fn not_in_hand(&self, path: &str) -> Result<(), Failed> {
        match self.claimed.has(path) {
            true => Err(refused(format!("the run holds a slot of `{path}` already"))),
            false => Ok(()),
        }
    }

    pub(super) async fn lock(&mut self, path: &str, patience: Patience) -> Result<Answer, Failed> {
        let semaphore = self.semaphore(path)?;
        self.not_in_hand(path)?;
        match semaphore.acquire(&self.who, Lifetime::Persistent, patience).await {
            Ok(Acquired { lease, .. }) => Ok(Answer::Held(self.claimed.taken(path, lease))),
            Err(AcquireError::Full { .. }) => Ok(Answer::NotFree),
            Err(AcquireError::TimedOut { .. }) => Err(Failed::Fault(Fault::TimedOut)),
            Err(error @ AcquireError::SlotsDiffer { .. }) => Err(refused(error.to_string())),
            Err(AcquireError::SessionOver { .. }) => Err(Failed::Lost),
            Err(AcquireError::Store { source, .. }) => Err(source.into()),
            Err(error) => Err(Failed::Fault(Fault::Unavailable(error.to_string()))),
        }
    }

    pub(super) async fn force(&mut self, path: &str, breaking: &[u64], reason: &str) -> Result<Answer, Failed> {
        let semaphore = self.semaphore(path)?;
        if !self.spec.may_force {
            return Err(refused("the job's `orchestration.grants` do not list `force`".to_owned()));
        }
        self.not_in_hand(path)?;
        if let Some(held) = self.own(&semaphore).await? {
            // What was taken before it was cut off.
            return Ok(Answer::Held(unsigned(held.fence)));
        }
        let breaking: Vec<i64> = breaking.iter().filter_map(|fence| i64::try_from(*fence).ok()).collect();
        match semaphore.force(&self.who, Lifetime::Persistent, &breaking).await {
            Ok(lease) => {
                let by = format!("run `{}`", self.who);
                let at = self.store.clock().now_ms();
                let record = Forced { lease: lease.path().to_string(), by, reason: reason.to_owned(), at };
                // A record that cannot be kept stops nobody.
                let _ = ForcedRecords::new(Arc::clone(&self.store)).keep(lease.path(), &record).await;
                Ok(Answer::Held(self.claimed.taken(path, lease)))
            }
            Err(error @ (ForceError::Conflict { .. } | ForceError::Deleted { .. })) => {
                Err(Failed::Fault(Fault::Conflict(error.to_string())))
            }
            Err(ForceError::SessionOver { .. }) => Err(Failed::Lost),
            Err(ForceError::Store { source, .. } | ForceError::Along { source, .. }) => Err(source.into()),
        }
    }

    pub(super) async fn release(&self, path: &str) -> Result<Answer, Failed> {
        self.semaphore(path)?.unlock(&self.who).await?;
        Ok(Answer::Done)
    }

    pub(super) async fn still_held(&self, path: &str) -> Result<Answer, Failed> {
        let semaphore = self.semaphore(path)?;
        Ok(Answer::Flag(self.own(&semaphore).await?.is_some()))
    }

    async fn own(&self, semaphore: &Semaphore) -> Result<Option<Holder>, Failed> {
        let holders = semaphore.holders().await?;
        Ok(holders.into_iter().find(|holder| !holder.ephemeral && holder.identifier == self.who.as_str()))
    }

    pub(super) async fn found_leases(&self) -> Result<Answer, Failed> {
        let mut found = Vec::new();
        for (path, _) in &self.spec.semaphores {
            if self.claimed.has(path.as_str()) {
                continue;
            }
            if let Some(held) = self.own(&self.semaphore(path.as_str())?).await? {
                found.push((path.to_string(), unsigned(held.fence)));
            }
        }
        Ok(Answer::Leases(found))
    }

    pub(super) async fn holders(&self, path: &str) -> Result<Answer, Failed> {
        let semaphore = self.semaphore(path)?;
        let (state, _) = semaphore.observe().await?;
        let lease = |holder: Holder| contract::Lease {
            mine: holder.identifier == self.who.as_str(),
            identifier: holder.identifier,
            fence: unsigned(holder.fence),
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

/// Waits until one of them is gone.
pub(super) async fn gone(leases: Vec<(String, Arc<Lease>)>) -> Failed {
    let mut all: FuturesUnordered<_> =
        leases.into_iter().map(|(path, lease)| async move { (lease.lost().await, path) }).collect();
    match all.next().await {
        Some((Loss::Deleted, path)) => Failed::Fault(Fault::LeaseLost(path)),
        Some((Loss::SessionOver, _)) => Failed::Lost,
        None => std::future::pending().await,
    }
}
