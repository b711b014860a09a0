//! The leases that the guest believes to hold.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::FuturesUnordered;

use super::failure::CallFailure;
use crate::policy::orchestration::CallError;
use lockkeeper_coordination::recipe::{Lease, Loss};

/// The leases that the guest holds, by semaphore; at most one of each.
#[derive(Debug, Default)]
pub(in crate::rollout) struct HeldLeases(BTreeMap<String, HeldLease>);

#[derive(Debug)]
struct HeldLease {
    fence: u64,
    /// The watched lease. `None` if an earlier runner acquired it and it has not been read yet.
    lease: Option<Arc<Lease>>,
}

impl HeldLeases {
    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path)
    }

    /// Adds a lease that was just acquired, and watches it. It is persistent: dropping the value does not release it.
    pub(super) fn add(&mut self, path: &str, lease: Lease) -> u64 {
        let fence = lease.fence().get();
        self.0.insert(path.to_owned(), HeldLease { fence, lease: Some(Arc::new(lease)) });
        fence
    }

    /// Notes that the guest received a lease with this fence.
    pub(super) fn hand_over(&mut self, path: &str, fence: u64) {
        let held = self.0.entry(path.to_owned()).or_insert(HeldLease { fence, lease: None });
        if held.fence != fence {
            *held = HeldLease { fence, lease: None };
        }
    }

    /// Notes that the guest released its lease.
    pub(super) fn remove(&mut self, path: &str) {
        self.0.remove(path);
    }

    /// Semaphore and fence of each lease that has not been read yet.
    pub(super) fn unwatched(&self) -> Vec<(String, u64)> {
        let unwatched = self.0.iter().filter(|(_, held)| held.lease.is_none());
        unwatched.map(|(path, held)| (path.clone(), held.fence)).collect()
    }

    /// The leases that are watched, with their semaphores.
    pub(super) fn watched(&self) -> Vec<(String, Arc<Lease>)> {
        self.0.iter().filter_map(|(path, held)| Some((path.clone(), Arc::clone(held.lease.as_ref()?)))).collect()
    }

    /// Notes that the guest holds nothing.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Waits until one of the leases is gone.
pub(super) async fn any_lost(leases: Vec<(String, Arc<Lease>)>) -> CallFailure {
    let mut all: FuturesUnordered<_> =
        leases.into_iter().map(|(path, lease)| async move { (lease.lost().await, path) }).collect();
    match all.next().await {
        Some((Loss::Deleted, path)) => CallFailure::Error(CallError::LeaseLost(path)),
        Some((Loss::SessionOver, _)) => CallFailure::Lost,
        None => std::future::pending().await,
    }
}
