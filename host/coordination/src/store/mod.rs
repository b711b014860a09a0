//! The store: ZooKeeper's model of nodes, versions, watches and sessions as one small trait.
//!
//! A [`Store`] value is one session. Everything above this module, the recipes and the rollouts, is written against
//! the trait alone; which backend stands behind it is decided in `cli/context.rs` and nowhere else. What the trait
//! promises is written down as tests in [`conformance`], which every backend passes unchanged.

pub(crate) mod boot_clock;
pub(crate) mod clock;
pub mod conformance;
mod error;
mod milliseconds;
mod path;
pub mod process_liveness;
pub(crate) mod session_liveness;
pub(crate) mod transaction_gate;
mod types;
mod watch;

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

pub use clock::Clock;
pub use error::{PathError, StoreError};
pub use milliseconds::{difference, millis};
pub use path::{NodePath, node_name};
pub use transaction_gate::between_transactions;
pub use types::{Fence, Lifetime, MAX_DATA_BYTES, Made, Node, NodeKind, Op, SessionId, SessionState, Stat, Version};
pub use watch::{Watch, WatchEvent, WatchSender};
/// The answer to a request that is already on its way.
///
/// Awaiting it yields the answer; dropping it gives up the answer and not the request.
pub type Reply<T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'static>>;

/// Opens sessions. A session that ended is never revived: what needs one again asks for a new one.
pub trait Connect: Debug + Send + Sync {
    /// Opens a new session.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store cannot be reached, [`StoreError::Refused`] when it turns us away.
    fn connect(&self) -> Reply<Arc<dyn Store>>;
}

/// One session of a store with ZooKeeper's model.
///
/// # Guarantees
/// - **Order.** A request is issued when its method is *called*, not when its reply is polled. Requests of one
///   session take effect and are answered in the order of the calls, so whatever does not depend on an answer can be
///   sent at once. Reads see every earlier write of the same session.
/// - **Atomicity.** Each request, [`Store::multi`] included, happens whole or not at all, and is durable when it is
///   answered.
/// - **Versions.** Each change takes the next number of one store-wide sequence (ZooKeeper's zxid): a node's `czxid` is
///   unique, and later creates have larger ones.
/// - **Ambiguity is told.** [`StoreError::Ambiguous`] means that the request may or may not have happened; every other
///   error means that it did not. Who gets it calls [`Store::sync`] and looks for a name that only it can have made.
/// - **Watches** fire once, for a change after the read that set them, and never for one before it.
///
/// # On session loss
/// [`Store::session`] turns to [`SessionState::Suspended`] when the store cannot be heard, and to
/// [`SessionState::Expired`] *before* the store can give the session's ephemeral nodes away: by our own clock, at the
/// latest 0.9 of the session time-out after the last moment that the store is known to have heard us. `Expired` and
/// `Closed` are final: every later request fails with [`StoreError::SessionOver`], and every watch ends with
/// [`WatchEvent::SessionOver`].
///
/// # Cancel safety
/// Dropping a [`Reply`] does not take the request back.
pub trait Store: Debug + Send + Sync + 'static {
    /// Creates a node and says which: for the sequential kinds the name got ten digits from its parent's counter.
    ///
    /// # Errors
    /// `NodeExists`, `NoNode` (of the parent, which is not made), `ParentEphemeral`, `TooLarge`.
    fn create(&self, path: &NodePath, data: Bytes, kind: NodeKind) -> Reply<NodePath>;

    /// Deletes a node that has no children.
    ///
    /// # Errors
    /// `NoNode`, `BadVersion`, `NotEmpty`.
    fn delete(&self, path: &NodePath, version: Version) -> Reply<()>;

    /// Replaces a node's data and gives its new stat.
    ///
    /// # Errors
    /// `NoNode`, `BadVersion`, `TooLarge`.
    fn set(&self, path: &NodePath, data: Bytes, version: Version) -> Reply<Stat>;

    /// A node's data and stat.
    ///
    /// # Errors
    /// `NoNode`.
    fn read(&self, path: &NodePath) -> Reply<Node>;

    /// As [`Store::read`], with a watch that fires when the data changes or the node is deleted. `NoNode` sets none.
    fn read_and_watch(&self, path: &NodePath) -> Reply<(Node, Watch)>;

    /// A node's stat; `None` where there is no such node.
    fn stat(&self, path: &NodePath) -> Reply<Option<Stat>>;

    /// As [`Store::stat`], with a watch that fires when the node is created, changed or deleted.
    fn stat_and_watch(&self, path: &NodePath) -> Reply<(Option<Stat>, Watch)>;

    /// The names of a node's children, sorted.
    ///
    /// # Errors
    /// `NoNode`.
    fn children(&self, path: &NodePath) -> Reply<Vec<String>>;

    /// As [`Store::children`], with a watch that fires when a child is created or deleted, or the node itself is
    /// deleted. `NoNode` sets none.
    fn children_and_watch(&self, path: &NodePath) -> Reply<(Vec<String>, Watch)>;

    /// Does all of `ops`, in order, or nothing.
    ///
    /// # Errors
    /// [`StoreError::Multi`] names the first operation that could not be done, and why.
    fn multi(&self, ops: Vec<Op>) -> Reply<Vec<Made>>;

    /// Waits until this session sees everything that was decided before the call.
    fn sync(&self, path: &NodePath) -> Reply<()>;

    /// This session's number: the `ephemeral_owner` of what it creates.
    fn session_id(&self) -> SessionId;

    /// How long the store keeps a silent session's ephemeral nodes.
    fn session_timeout(&self) -> Duration;

    /// Until when, by our own clock, nobody else can be given what this session's ephemeral nodes hold. It moves on as the
    /// store hears us, lies a little after [`SessionState::Expired`], and is past once that is no longer certain: what acts
    /// under such a node must have stopped by then.
    fn safe_until(&self) -> Instant;

    /// The session's state now, and a way to wait for the next.
    fn session(&self) -> tokio::sync::watch::Receiver<SessionState>;

    /// The wall clock that this store's times are read from.
    fn clock(&self) -> Clock;

    /// Ends the session: its ephemeral nodes are gone when this is answered. Closing twice is fine.
    fn close(&self) -> Reply<()>;
}

/// Creates `path` and whatever is missing above it as empty persistent nodes. What is there already is left alone.
///
/// # Errors
/// As [`Store::create`], but never `NodeExists` or `NoNode`.
pub async fn create_all(store: &dyn Store, path: &NodePath) -> Result<(), StoreError> {
    let mut missing = Vec::new();
    let mut here = path.clone();
    while store.stat(&here).await?.is_none() {
        missing.push(here.clone());
        match here.parent() {
            Some(parent) => here = parent,
            None => break,
        }
    }
    for path in missing.into_iter().rev() {
        match store.create(&path, Bytes::new(), NodeKind::Persistent).await {
            Ok(_) | Err(StoreError::NodeExists { .. }) => {}
            // An empty persistent node says the same whoever made it: it is there now or the next request says so.
            Err(StoreError::Ambiguous { .. }) => store.sync(&path).await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
