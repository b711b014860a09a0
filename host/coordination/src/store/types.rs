//! The trait's vocabulary: kinds of node, stats, operations, sessions.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::NodePath;

/// The most bytes that a node may hold, as on a ZooKeeper server with its usual `jute.maxbuffer`.
pub const MAX_DATA_BYTES: usize = 1_048_000;

/// A session's number. Zero is nobody's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub i64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:x}", self.0)
    }
}

/// A lease's number: the czxid of its node. Unique in one store, and larger than that of every lease granted before; what a
/// lease protects can remember the largest that it has seen and refuse smaller ones.
///
/// Any `u64` can be asked for; a store has none beyond `i64::MAX`, so that such a fence is that of no lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fence(u64);

impl Fence {
    /// A fence that was handed to us.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// As the contract, the environment and JSON have it.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How long a node lives and how it gets its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeKind {
    /// Lives until it is deleted.
    Persistent,
    /// As `Persistent`; the parent's counter is appended to the name.
    PersistentSequential,
    /// Lives as long as the session that made it.
    Ephemeral,
    /// As `Ephemeral`; the parent's counter is appended to the name.
    EphemeralSequential,
}

impl NodeKind {
    /// Whether the node ends with its session.
    #[must_use]
    pub fn is_ephemeral(self) -> bool {
        matches!(self, Self::Ephemeral | Self::EphemeralSequential)
    }

    /// Whether the store appends ten digits to the name.
    #[must_use]
    pub fn is_sequential(self) -> bool {
        matches!(self, Self::PersistentSequential | Self::EphemeralSequential)
    }
}

/// Which version of a node a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Whatever is there.
    Any,
    /// This one, or the write is refused with `BadVersion`.
    Exactly(i32),
}

/// What the store knows of a node beside its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// The change that created it: unique, and larger for later ones. A lease's fence.
    pub czxid: i64,
    /// The change that last set its data.
    pub mzxid: i64,
    /// How often its data was set: 0 for a new node.
    pub version: i32,
    /// When it was created, in milliseconds since the Unix epoch, by the store's clock.
    pub ctime_ms: u64,
    /// When its data was last set, likewise.
    pub mtime_ms: u64,
    /// The session that it ends with.
    pub ephemeral_owner: Option<SessionId>,
    /// How many children it has.
    pub children: u32,
    /// Bytes of data.
    pub data_length: u32,
}

impl Stat {
    /// The node's number as a lease's fence.
    #[must_use]
    pub fn fence(&self) -> Fence {
        // No store counts below zero.
        Fence(u64::try_from(self.czxid).unwrap_or_default())
    }
}

/// A node's data and stat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it holds.
    pub data: Bytes,
    /// What the store knows of it.
    pub stat: Stat,
}

/// One operation of a [`super::Store::multi`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// As [`super::Store::create`].
    Create {
        /// Where.
        path: NodePath,
        /// What it holds.
        data: Bytes,
        /// What kind.
        kind: NodeKind,
    },
    /// As [`super::Store::set`].
    Set {
        /// Where.
        path: NodePath,
        /// What it holds from now on.
        data: Bytes,
        /// Which version is expected.
        version: Version,
    },
    /// As [`super::Store::delete`].
    Delete {
        /// Where.
        path: NodePath,
        /// Which version is expected.
        version: Version,
    },
    /// Fails unless the node is there in this version; changes nothing.
    Check {
        /// Where.
        path: NodePath,
        /// Which version is expected.
        version: Version,
    },
}

impl Op {
    /// The node that it is about.
    #[must_use]
    pub fn path(&self) -> &NodePath {
        match self {
            Self::Create { path, .. }
            | Self::Set { path, .. }
            | Self::Delete { path, .. }
            | Self::Check { path, .. } => path,
        }
    }
}

/// What one operation of a `multi` did.
///
/// A created node's stat is not among it: ZooKeeper before 3.8.2 does not give one there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Made {
    /// Created, under this name.
    Created(NodePath),
    /// Set; the stat from then on.
    Set(Stat),
    /// Deleted.
    Deleted,
    /// Checked.
    Checked,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SessionState {
    /// The store hears us.
    Connected,
    /// It may not; nothing new should start. Ends in `Connected` or `Expired`.
    Suspended,
    /// Over: its ephemeral nodes are gone or about to go. Final.
    Expired,
    /// Closed by ourselves. Final.
    Closed,
}

impl SessionState {
    /// Whether it will never be `Connected` again.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Expired | Self::Closed)
    }
}

/// How long something kept in the store lives: a lease, say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lifetime {
    /// Until somebody deletes it; it outlives its maker.
    Persistent,
    /// As long as the session that made it.
    Ephemeral,
}

impl From<Lifetime> for NodeKind {
    fn from(lifetime: Lifetime) -> Self {
        match lifetime {
            Lifetime::Persistent => Self::Persistent,
            Lifetime::Ephemeral => Self::Ephemeral,
        }
    }
}
