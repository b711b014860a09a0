//! What a job allows a policy: every answer passes here first.

use super::PolicyError;
use super::types::Manifest;
use crate::job::{Grant, Grants};

/// Refuses what the manifest does not list or the job does not grant. Only the verdicts that change something outside
/// the rollout need a grant: waiting, holding, skipping and aborting only make it stricter.
pub(super) fn check(verdict: &'static str, manifest: &Manifest, grants: Grants) -> Result<(), PolicyError> {
    if !manifest.verdicts.iter().any(|listed| listed == verdict) {
        return Err(PolicyError::NotInManifest { verdict });
    }
    let needed = Grant::ALL.into_iter().find(|grant| grant.as_str() == verdict);
    if needed.is_some_and(|grant| !grants.allows(grant)) {
        return Err(PolicyError::NotGranted { verdict });
    }
    Ok(())
}
