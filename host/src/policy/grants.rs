//! What a job allows a policy.

use std::collections::BTreeSet;

use super::PolicyError;
use super::types::Manifest;

/// The verdicts that change something outside the rollout, and so must be granted by the job: `lock` and `force`.
/// Waiting, holding, skipping and aborting are always allowed: a policy can only be stricter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grants {
    verdicts: BTreeSet<&'static str>,
}

impl Grants {
    /// Verdicts that need a grant.
    pub const NEEDED: [&'static str; 2] = ["lock", "force"];

    /// Grants these; what needs no grant is left out.
    #[must_use]
    pub fn new<'a>(granted: impl IntoIterator<Item = &'a str>) -> Self {
        let granted: Vec<&str> = granted.into_iter().collect();
        Self { verdicts: Self::NEEDED.into_iter().filter(|verdict| granted.contains(verdict)).collect() }
    }

    /// Whether a verdict may be carried out, as far as the job's grants go.
    #[must_use]
    pub fn allow(&self, verdict: &str) -> bool {
        !Self::NEEDED.contains(&verdict) || self.verdicts.contains(verdict)
    }
}

/// Refuses what the manifest does not list or the job does not grant.
pub(super) fn check(verdict: &'static str, manifest: &Manifest, grants: &Grants) -> Result<(), PolicyError> {
    if !manifest.verdicts.iter().any(|listed| listed == verdict) {
        return Err(PolicyError::NotInManifest { verdict });
    }
    if !grants.allow(verdict) {
        return Err(PolicyError::NotGranted { verdict });
    }
    Ok(())
}
