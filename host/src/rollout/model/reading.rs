//! What the store shows of semaphores, parties and the session.

use lockkeeper_coordination::store::Fence;

/// A lease as the store shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLease {
    /// The identifier of its holder.
    pub identifier: String,
    /// Its fence.
    pub fence: Fence,
    /// When it was acquired, in milliseconds since the Unix epoch, by the store's clock.
    pub since_ms: u64,
    /// Whether it ends with its session.
    pub ephemeral: bool,
    /// Its owner in words. `None` if it has no claim, or its identifier is no target's.
    pub owner: Option<String>,
}

/// A member as the store shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenMember {
    /// The member's identifier.
    pub identifier: String,
    /// When it joined, in milliseconds since the Unix epoch, by the store's clock.
    pub since_ms: u64,
}

/// One semaphore or party of [`Setup::observe`](super::Setup::observe), as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observed {
    /// A semaphore.
    Semaphore {
        /// The number in its data. `None` if there is no such semaphore.
        slots: Option<u32>,
        /// Its leases.
        leases: Vec<SeenLease>,
        /// How many contenders queue.
        queued: u32,
    },
    /// A party's members.
    Party(Vec<SeenMember>),
}

/// Whether the session with the store is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connectivity {
    /// The store answers.
    Connected,
    /// The connection is lost; the session may still be alive.
    Suspended,
    /// The session has ended: whatever was read in it may have changed since.
    Over,
}
