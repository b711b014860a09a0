//! What a job says about its orchestration.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::job::OrchestrationSpec;
use crate::policy::orchestration::Orchestration;
use lockkeeper_coordination::store::NodePath;

/// A job's orchestration.
#[derive(Debug, Clone)]
pub struct OrchestrationJob {
    /// The guest.
    pub orchestration: Orchestration,
    /// The settings as JSON.
    pub settings: String,
    /// The semaphores of which it may hold a slot.
    pub semaphores: Vec<(NodePath, NonZeroU32)>,
    /// The parties that it may read.
    pub parties: Vec<NodePath>,
    /// Longest wait of one call. `None` if there is no limit.
    pub timeout: Option<Duration>,
    /// Whether it may force.
    pub may_force: bool,
}

impl OrchestrationJob {
    /// Combines a job's `[orchestration]` with the guest that it names.
    #[must_use]
    pub fn new(spec: &OrchestrationSpec, orchestration: Orchestration) -> Self {
        Self {
            orchestration,
            settings: spec.settings.to_string(),
            semaphores: spec.semaphores.clone(),
            parties: spec.parties.clone(),
            timeout: spec.timeout,
            may_force: spec.may_force,
        }
    }
}
