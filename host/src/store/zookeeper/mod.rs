//! A store on ZooKeeper servers, for fleets.
//!
//! What people say of one, where it is, how to log in, who may touch what is made there, is typed data here; nothing of it
//! is looked at again when a session is opened.

mod acl;
mod hosts;
mod options;

pub use acl::{Acl, AclEntry, AclError, Permissions};
pub use hosts::{DEFAULT_PORT, Hosts, HostsError};
pub use options::{
    DEFAULT_CONNECT_TIMEOUT, DEFAULT_SESSION_TIMEOUT, Login, LoginError, Secret, TlsOptions, ZooKeeperOptions,
};
