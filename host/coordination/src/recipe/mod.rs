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
//! | reservation | `PATH/reserved-<32 hex>`, persistent | it keeps a slot from callers that know an older, larger number |
//! | claim | `/lockkeeper/claims/<PATH, escaped>/<identifier, escaped>`, as its lease | JSON: who owns the lease |
//! | claim's record | `/lockkeeper/records/<the lease's name>`, as its lease | empty |
//! | who wrote the number | `/lockkeeper/semaphores/<PATH, escaped>` | JSON |
//! | id of the store | `/lockkeeper/store-id` | up to 64 letters and digits: fences of another store are no fences here |
//! | broken lease | `/lockkeeper/broken/<the lease's name>` | JSON: who broke it, and why |
//! | member, shallow | `PATH/<32 hex>-<identifier>`, ephemeral | the identifier |
//! | member, full | `PATH/<32 hex>__party__`, ephemeral | the identifier |
//!
//! A [`Semaphore`] and a [`Party`] belong to one session. When that is over they answer `SessionOver`, and whoever
//! still wants a lease opens a new session and asks again.

mod acquire;
pub mod behaviour;
mod broken_lease;
mod claim;
mod identifier;
mod lease;
mod names;
mod nested_semaphores;
mod observe;
mod own_node;
mod party;
mod request;
mod semaphore;
mod session;
mod slots;
mod store_id;
mod wait;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use broken_lease::{Broken, broken_lease};
pub use claim::{Claim, Claims, Deletion, Forced, Owner, ROOT, SeenClaim};
pub use identifier::{Identifier, IdentifierError};
pub use lease::{Lease, ReleaseError, Released};
pub use nested_semaphores::{Nested, nested_semaphore};
pub use observe::Changed;
pub use own_node::Loss;
pub use party::{JoinError, LeaveError, Member, MemberKind, Membership, Party, WaitError};
pub use request::{HeldBy, IfHeld, Ownership, Request};
pub use semaphore::{
    AcquireError, Acquired, Acquisition, Along, Force, ForceError, Holder, Semaphore, SemaphoreState, Unlocked,
};
pub use slots::{
    NumberRecord, OldCallers, Resize, ResizeError, Resized, SeenNumber, SlotsRule, Writer, agree, is_semaphore,
    queue_of, read_number, resize, would_agree,
};
pub use store_id::StoreId;
pub use wait::Patience;
