//! Who broke a lease, why and when: a record for the lease's owner, who finds its lease gone.
//!
//! A record is a persistent node `/lockkeeper/broken/<the lease's name>`, created in the transaction that deletes the lease.
//! Old records are deleted when the next one is written.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::claim::ROOT;
use super::semaphore::unless_missing;
use crate::store::{NodeKind, NodePath, Op, Store, StoreError, Version, create_all, millis};

/// How long a record is kept: whoever is to read it does so as soon as the lease is gone.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Why a lease is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Broken {
    /// The lease's node.
    pub lease: NodePath,
    /// Who broke it: user and host.
    pub by: String,
    /// Why.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

fn folder() -> NodePath {
    NodePath::parse(ROOT).expect("the root is a path").child("broken")
}

pub(super) fn create(record: &Broken) -> Op {
    let data = Bytes::from(serde_json::to_vec(record).expect("a record is plain data"));
    Op::Create { path: folder().child(record.lease.name()), data, kind: NodeKind::Persistent }
}

/// Makes the folder, and deletes the records that are old.
pub(super) async fn prepare(store: &dyn Store) -> Result<(), StoreError> {
    let folder = folder();
    create_all(store, &folder).await?;
    let now = store.clock().now_ms();
    for name in store.children(&folder).await? {
        let record = folder.child(&name);
        let Some(stat) = store.stat(&record).await? else { continue };
        if stat.ctime_ms.saturating_add(millis(KEPT)) < now {
            unless_missing(store.delete(&record, Version::Any).await)?;
        }
    }
    Ok(())
}

/// Who broke a lease; `None` if there is no record, or it cannot be read.
pub async fn broken_lease(store: &dyn Store, lease: &NodePath) -> Option<Broken> {
    let node = store.read(&folder().child(lease.name())).await.ok()?;
    serde_json::from_slice::<Broken>(&node.data).ok().filter(|record| record.lease == *lease)
}
