//! Semaphore and party, written once against the store trait.
//!
//! The layout is kazoo's, node for node, so that whoever names the same path shares the same limit, whatever tool they
//! use: Salt's `zk_concurrency`, a kazoo script, another rollout.
//!
//! | what | where | data |
//! |---|---|---|
//! | slots | `PATH` | the number, decimal ASCII; anything else is somebody else's and left alone |
//! | lease | `PATH/<32 hex>`, ephemeral or persistent | the identifier; **every** child of `PATH` counts as a lease |
//! | queue | `PATH-__lock__/<32 hex>__lock__<10 digits>`, ephemeral sequential | the identifier |
//! | member, shallow | `PATH/<32 hex>-<identifier>`, ephemeral | the identifier |
//! | member, full | `PATH/<32 hex>__party__`, ephemeral | the identifier |
//!
//! A [`Semaphore`] and a [`Party`] belong to one session. When that is over they answer `SessionOver`, and whoever
//! still wants a lease opens a new session and asks again.

mod acquire;
pub mod behaviour;
mod forced;
mod identifier;
mod lease;
mod names;
mod observe;
mod own;
mod party;
mod patience;
mod semaphore;
mod tools;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use forced::{Forced, ForcedRecords};
pub use identifier::{Identifier, IdentifierError};
pub use lease::{Lease, ReleaseError, Released};
pub use observe::Changed;
pub use own::Loss;
pub use party::{JoinError, LeaveError, Member, MemberKind, Membership, Party, WaitError};
pub use patience::Patience;
pub use semaphore::{
    AcquireError, Acquired, Acquisition, Along, ForceError, Holder, Semaphore, SemaphoreState, Unlocked,
};
