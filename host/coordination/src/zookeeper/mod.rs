//! A ZooKeeper ensemble as a store, for fleets, by way of the `zookeeper-client` crate. Its types stay in this module.
//!
//! The crate answers one session's requests in order and reconnects by itself; the rest is done here:
//!
//! - Its errors of a lost connection have many names. All of them make a write [`StoreError::Ambiguous`].
//! - It learns of an expiry after the server. A session here is over by our own clock, before the server can give its
//!   nodes away (`keeper`, `pulse`).
//! - It waits for ever for an answer, and for a connection. A request here ends with the session, or its time-out later.
//! - It leaves Nagle's algorithm on (`nagle`).
//! - It takes a watch away from the server, with a request, when its owner drops it. Here that waits (`keeper`).
//! - It has no way to close a session but to drop everything that uses it (`flight`).
//! - Its persistent watches are lost at a reconnect, and its lock leaves nodes behind: neither is used.
//!
//! [`StoreError::Ambiguous`]: crate::store::StoreError::Ambiguous

mod acl;
mod connect;
mod convert;
mod hosts;
mod options;
mod probe;
mod request;
mod session;
mod session_task;
mod tcp_nodelay;

pub use acl::{Acl, AclEntry, AclError, Permissions};
pub use connect::ZooKeeper;
pub use hosts::{DEFAULT_PORT, Hosts, HostsError};
pub use options::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_SESSION_TIMEOUT, Login, LoginError, Secret, TlsOptions, ZooKeeperOptions,
};
