//! What a caller asks of a semaphore, and who may be in its way.

use std::fmt;

use super::claim::{Owner, SeenClaim};
use super::identifier::Identifier;
use super::semaphore::{Along, Holder};
use super::wait::Patience;
use crate::store::{Lifetime, NodePath};

/// One acquisition.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The lease's data.
    pub identifier: &'a Identifier,
    /// Whether the lease ends with the session.
    pub lifetime: Lifetime,
    /// How long to wait: one deadline for all steps together.
    pub patience: Patience,
    /// What other leases of the same identifier are to this caller.
    pub ownership: &'a Ownership,
    /// What else is written in the transaction that creates the lease.
    pub along: Along<'a>,
}

/// What another lease of the same identifier is to a caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// A holder like any other: the caller takes a slot of its own beside it, without a claim.
    Own,
    /// A holder that excludes the caller: nobody else may act under the identifier meanwhile. The lease gets a claim.
    Exclusive(Owner, IfHeld),
    /// The caller's own, if it is persistent and neither a run nor a process owns it: it is found again, as Salt does it. A new
    /// lease gets a claim, unless the caller has no rights below Lockkeeper's root.
    ByHand(Owner),
}

/// What an exclusive caller does while another holder acts under its identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfHeld {
    /// Waits, outside the queue, as long as its patience lasts.
    Wait,
    /// Waits, unless the holder's process has certainly ended and left the lease behind.
    WaitWhileItLives,
    /// Fails at once.
    Refuse,
}

impl Ownership {
    /// Who owns the lease that is to come; `None` if it gets no claim.
    pub(super) fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Own => None,
            Self::Exclusive(owner, _) | Self::ByHand(owner) => Some(owner),
        }
    }

    pub(super) fn excludes(&self) -> bool {
        matches!(self, Self::Exclusive(..))
    }

    pub(super) fn blockers(&self, by: &HeldBy) -> bool {
        match self {
            Self::Own | Self::ByHand(_) | Self::Exclusive(_, IfHeld::Wait) => true,
            Self::Exclusive(_, IfHeld::WaitWhileItLives) => !by.stays_until_unlocked(),
            Self::Exclusive(_, IfHeld::Refuse) => false,
        }
    }
}

impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { identifier, lifetime, patience, ownership, along: _ } = self;
        f.debug_struct("Request")
            .field("identifier", identifier)
            .field("lifetime", lifetime)
            .field("patience", patience)
            .field("ownership", ownership)
            .finish_non_exhaustive()
    }
}

/// Another holder that acts under an identifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBy {
    /// Its lease; `None` if that is gone and its owner has not yet deleted the claim.
    pub lease: Option<Holder>,
    /// Who owns it, if it has a claim.
    pub claim: Option<SeenClaim>,
    /// Where the identifier's claim is.
    pub(super) place: NodePath,
    /// The version of what stood there, whichever lease it names; `None` if nothing did.
    pub(super) place_version: Option<i32>,
}

impl HeldBy {
    /// Since when, in milliseconds since the Unix epoch; `None` if that is not known.
    #[must_use]
    pub fn since_ms(&self) -> Option<u64> {
        self.lease.as_ref().map(|lease| lease.since_ms).or(self.claim.as_ref().map(|claim| claim.since_ms))
    }

    /// Whether the lease outlived its owner: a persistent one of a process of this host that has certainly ended.
    #[must_use]
    pub fn was_left_behind(&self) -> bool {
        let owner = self.claim.as_ref().map(|seen| &seen.claim.owner);
        self.is_persistent() && owner.is_some_and(Owner::has_certainly_ended)
    }

    /// Whether the lease ends only if somebody deletes it: one that outlived its owner, that a person took by hand, or that has no
    /// claim.
    #[must_use]
    pub fn stays_until_unlocked(&self) -> bool {
        let is_kept = match self.claim.as_ref().map(|seen| &seen.claim.owner) {
            Some(owner @ Owner::Process { .. }) => owner.has_certainly_ended(),
            Some(Owner::ByHand { .. }) | None => true,
            Some(Owner::Run { .. }) => false,
        };
        self.is_persistent() && is_kept
    }

    fn is_persistent(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| !lease.ephemeral)
    }
}

impl fmt::Display for HeldBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.claim, &self.lease) {
            (Some(seen), _) => seen.claim.owner.fmt(f),
            (None, Some(lease)) if lease.ephemeral => write!(f, "an ephemeral lease of `{}`", lease.identifier),
            (None, Some(lease)) => write!(f, "a persistent lease of `{}`", lease.identifier),
            (None, None) => f.write_str("an unknown owner"),
        }
    }
}
