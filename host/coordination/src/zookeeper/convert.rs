//! The client's types and errors as ours.

use client::{CreateMode, EventType, MultiWriteResult};
use zookeeper_client as client;

use super::acl::{Acl, Permissions};
use crate::store::{Made, NodeKind, NodePath, Op, SessionId, Stat, StoreError, Version, WatchEvent};

/// What a request is for: what it needs, and what an answer to it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    Create,
    Delete,
    Set,
    Read,
    Children,
    /// A stat or a sync: these need no permission.
    Look,
    Multi,
}

impl Purpose {
    fn writes(self) -> bool {
        match self {
            Self::Create | Self::Delete | Self::Set | Self::Multi => true,
            Self::Read | Self::Children | Self::Look => false,
        }
    }

    /// What is said when a node's access control list does not allow it.
    fn refusal(self, path: &NodePath) -> String {
        let parent = path.parent().unwrap_or_else(|| path.clone());
        match self {
            Self::Create => format!("creating `{path}` needs permission `create` on `{parent}`"),
            Self::Delete => format!("deleting `{path}` needs permission `delete` on `{parent}`"),
            Self::Set => format!("writing `{path}` needs permission `write` on it"),
            Self::Read => format!("reading `{path}` needs permission `read` on it"),
            Self::Children => format!("listing `{path}` needs permission `read` on it"),
            Self::Look | Self::Multi => format!("no permission for `{path}`"),
        }
    }
}

pub(super) fn purpose(op: &Op) -> Purpose {
    match op {
        Op::Create { .. } => Purpose::Create,
        Op::Set { .. } => Purpose::Set,
        Op::Delete { .. } => Purpose::Delete,
        Op::Check { .. } => Purpose::Read,
    }
}

pub(super) fn mode(kind: NodeKind) -> CreateMode {
    match kind {
        NodeKind::Persistent => CreateMode::Persistent,
        NodeKind::PersistentSequential => CreateMode::PersistentSequential,
        NodeKind::Ephemeral => CreateMode::Ephemeral,
        NodeKind::EphemeralSequential => CreateMode::EphemeralSequential,
    }
}

pub(super) fn version(version: Version) -> Option<i32> {
    match version {
        Version::Any => None,
        Version::Exactly(version) => Some(version),
    }
}

pub(super) fn stat(stat: client::Stat) -> Stat {
    Stat {
        czxid: stat.czxid,
        mzxid: stat.mzxid,
        version: stat.version,
        ctime_ms: u64::try_from(stat.ctime).unwrap_or_default(),
        mtime_ms: u64::try_from(stat.mtime).unwrap_or_default(),
        ephemeral_owner: (stat.ephemeral_owner != 0).then_some(SessionId(stat.ephemeral_owner)),
        children: u32::try_from(stat.num_children).unwrap_or_default(),
        data_length: u32::try_from(stat.data_length).unwrap_or_default(),
    }
}

pub(super) fn made(result: MultiWriteResult) -> Result<Made, StoreError> {
    Ok(match result {
        MultiWriteResult::Create { path, .. } => Made::Created(made_path(&path)?),
        MultiWriteResult::SetData { stat: set } => Made::Set(stat(set)),
        MultiWriteResult::Delete => Made::Deleted,
        MultiWriteResult::Check => Made::Checked,
        other => return Err(StoreError::Broken { reason: format!("an answer of an unknown kind: {other:?}") }),
    })
}

/// A path that the server gave.
pub(super) fn made_path(path: &str) -> Result<NodePath, StoreError> {
    NodePath::parse(path).map_err(|error| StoreError::Broken { reason: format!("the server made a node: {error}") })
}

pub(super) fn event(event: EventType) -> WatchEvent {
    match event {
        EventType::NodeCreated => WatchEvent::Created,
        EventType::NodeDataChanged => WatchEvent::Changed,
        EventType::NodeDeleted => WatchEvent::Deleted,
        EventType::NodeChildrenChanged => WatchEvent::ChildrenChanged,
        EventType::Session => WatchEvent::SessionOver,
    }
}

pub(super) fn acls(acl: &Acl) -> Vec<client::Acl> {
    let entry = |entry: &super::acl::AclEntry| {
        let mut permission = client::Permission::NONE;
        for (ours, theirs) in [
            (Permissions::READ, client::Permission::READ),
            (Permissions::WRITE, client::Permission::WRITE),
            (Permissions::CREATE, client::Permission::CREATE),
            (Permissions::DELETE, client::Permission::DELETE),
            (Permissions::ADMIN, client::Permission::ADMIN),
        ] {
            if entry.permissions().contains(ours) {
                permission = permission | theirs;
            }
        }
        client::Acl::new(permission, client::AuthId::new(entry.scheme(), entry.id()))
    };
    acl.entries().iter().map(entry).collect()
}

/// Whether the server said this, about this request: then it heard us, and did nothing. Everything else that the client
/// says leaves that open, under many names: a closed connection, a reset one and one that fell silent differ.
pub(super) fn is_answer(error: &client::Error) -> bool {
    use client::Error as E;
    matches!(
        error,
        E::NoNode
            | E::NoAuth
            | E::BadVersion
            | E::NoChildrenForEphemerals
            | E::NodeExists
            | E::NotEmpty
            | E::InvalidAcl
            | E::NotReadOnly
            | E::QuotaExceeded
            | E::Throttled
            | E::MarshallingError
            | E::Unimplemented
            | E::UnexpectedErrorCode(_)
    )
}

/// What a server answers before it closes a connection that has no login by SASL.
const WANTS_SASL: client::Error = client::Error::UnexpectedErrorCode(-124);

/// Whether the server closes the connection for want of a login by SASL.
pub(super) fn wants_sasl(error: &client::Error) -> bool {
    *error == WANTS_SASL
}

/// What became of a request that the client or the server failed; `doubts` says which entries of the access control list
/// a server may not take.
pub(super) fn error(purpose: Purpose, path: &NodePath, error: &client::Error, doubts: &str) -> StoreError {
    use client::Error as E;
    let here = || path.clone();
    match error {
        // A create names the parent that is missing.
        E::NoNode if purpose == Purpose::Create => {
            StoreError::NoNode { path: path.parent().unwrap_or_else(|| path.clone()) }
        }
        E::NoNode => StoreError::NoNode { path: here() },
        E::NodeExists => StoreError::NodeExists { path: here() },
        E::BadVersion => StoreError::BadVersion { path: here() },
        E::NotEmpty => StoreError::NotEmpty { path: here() },
        E::NoChildrenForEphemerals => StoreError::ParentEphemeral { path: here() },
        E::NoAuth => StoreError::Refused { reason: purpose.refusal(path) },
        E::InvalidAcl => StoreError::BadOptions {
            reason: format!("the servers do not take the access control list for `{path}`: {doubts}"),
        },
        error if wants_sasl(error) => {
            StoreError::OtherLogin { reason: String::from("the servers want a login by SASL") }
        }
        E::QuotaExceeded => StoreError::Refused { reason: format!("`{path}` is past a quota") },
        E::NotReadOnly | E::Throttled => StoreError::Unavailable { reason: error.to_string() },
        // The client does not send what it finds wrong.
        E::BadArguments(_) | E::MarshallingError | E::Unimplemented | E::UnexpectedErrorCode(_) => {
            StoreError::Broken { reason: format!("`{path}`: {error}") }
        }
        error => lost(purpose, path, matches!(error, E::SessionExpired | E::ClientClosed), &error.to_string()),
    }
}

/// What is said of a request whose answer does not come.
pub(super) fn lost(purpose: Purpose, path: &NodePath, is_over: bool, reason: &str) -> StoreError {
    match (purpose.writes(), is_over) {
        (true, _) => StoreError::Ambiguous { path: path.clone() },
        (false, true) => StoreError::SessionOver,
        (false, false) => StoreError::Unavailable { reason: reason.to_owned() },
    }
}
