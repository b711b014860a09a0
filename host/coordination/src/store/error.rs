//! Why a request to a store failed.

use thiserror::Error;

use super::NodePath;

/// Why a text is no node path.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PathError {
    /// Nothing, or only slashes, where a node below the root is meant.
    #[error("path `{0}` names no node: expected something like `/locks/reboot`")]
    Empty(String),
    /// `.` and `..` mean nothing to a store, and hide where a lock really is.
    #[error("path `{path}` has a part `{part}`: a store knows no relative paths")]
    Relative {
        /// As given.
        path: String,
        /// The part.
        part: String,
    },
    /// A control character or another that ZooKeeper refuses.
    #[error("path {path:?} has the character {character:?}, which a store refuses")]
    Character {
        /// As given.
        path: String,
        /// The first such character.
        character: char,
    },
    /// `/zookeeper` is the server's own.
    #[error("path `{0}` is inside `/zookeeper`, which is the server's own")]
    Reserved(String),
    /// [`NodePath::OWN`] is Lockkeeper's own.
    #[error("path `{0}` is inside `/lockkeeper`, which is Lockkeeper's own")]
    Own(String),
    /// Longer than [`NodePath::MAX_BYTES`].
    #[error("the path is {bytes} bytes long: {max} is the most")]
    TooLong {
        /// How long.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
}

/// Why a request failed. Only [`StoreError::Ambiguous`] leaves open whether it happened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// There is no such node (for a create: no such parent).
    #[error("there is no node `{path}`")]
    NoNode {
        /// Which.
        path: NodePath,
    },
    /// There is one already.
    #[error("there is a node `{path}` already")]
    NodeExists {
        /// Which.
        path: NodePath,
    },
    /// It changed since its version was read.
    #[error("node `{path}` has changed since it was read")]
    BadVersion {
        /// Which.
        path: NodePath,
    },
    /// It has children.
    #[error("node `{path}` has children")]
    NotEmpty {
        /// Which.
        path: NodePath,
    },
    /// The parent is ephemeral and can have no children.
    #[error("node `{path}` cannot be made below an ephemeral one")]
    ParentEphemeral {
        /// Which.
        path: NodePath,
    },
    /// More data than a node may hold.
    #[error("{bytes} bytes for node `{path}`: {max} is the most", max = super::MAX_DATA_BYTES)]
    TooLarge {
        /// Which.
        path: NodePath,
        /// How many.
        bytes: usize,
    },
    /// An operation of a `multi` could not be done, so none was.
    #[error("operation {index} of a transaction was refused")]
    Multi {
        /// Which, from 0.
        index: usize,
        /// Why.
        #[source]
        source: Box<StoreError>,
    },
    /// The store turns us away: login or access control. Names what is missing.
    #[error("the store refuses: {reason}")]
    Refused {
        /// What it refused, on which path, and which permission is missing where that is known.
        reason: String,
    },
    /// The servers want a login of another kind than ours, such as SASL.
    #[error("the store refuses: {reason}")]
    OtherLogin {
        /// What they want, as far as they say.
        reason: String,
    },
    /// What the store was asked with can never be right, such as an access control list that its servers do not take.
    #[error("{reason}")]
    BadOptions {
        /// Which part, and what is wrong with it.
        reason: String,
    },
    /// The request may or may not have happened.
    #[error("the connection was lost while `{path}` was being written")]
    Ambiguous {
        /// Which node it was about; the first, for a `multi`.
        path: NodePath,
    },
    /// The store could not be reached; the request did not happen.
    #[error("the store cannot be reached: {reason}")]
    Unavailable {
        /// What was tried and what happened.
        reason: String,
    },
    /// The session ended; the request did not happen.
    #[error("the session with the store is over")]
    SessionOver,
    /// The store's file or server broke its own rules.
    #[error("the store is broken: {reason}")]
    Broken {
        /// What was found.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same request in the same session may yet succeed, with nothing else done. An ambiguous one may not
    /// be sent again before it was resolved.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Unavailable { .. } => true,
            Self::Multi { source, .. } => source.is_retryable(),
            Self::NoNode { .. }
            | Self::NodeExists { .. }
            | Self::BadVersion { .. }
            | Self::NotEmpty { .. }
            | Self::ParentEphemeral { .. }
            | Self::TooLarge { .. }
            | Self::Refused { .. }
            | Self::OtherLogin { .. }
            | Self::BadOptions { .. }
            | Self::Ambiguous { .. }
            | Self::SessionOver
            | Self::Broken { .. } => false,
        }
    }
}
