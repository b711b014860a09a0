//! kazoo's sequence of requests, sent by our client: what kazoo's way costs without Python.
//!
//! The path is known. Each request waits for the answer of the one before.

use std::num::NonZeroU32;
use std::sync::Arc;

use anyhow::{Context, Result};
use bytes::Bytes;
use lockkeeper_coordination::store::{NodeKind, NodePath, Store, StoreError, Version, create_all};

pub(super) struct Sequence {
    session: Arc<dyn Store>,
    path: NodePath,
    queue: NodePath,
    slots: usize,
    identifier: Bytes,
    is_known: bool,
}

impl Sequence {
    pub(super) fn new(session: Arc<dyn Store>, path: NodePath, slots: NonZeroU32, identifier: String) -> Self {
        let queue = path.with_suffix("-__lock__");
        let slots = usize::try_from(slots.get()).unwrap_or(usize::MAX);
        Self { session, path, queue, slots, identifier: Bytes::from(identifier), is_known: false }
    }

    pub(super) async fn acquire(&mut self) -> Result<NodePath> {
        if !self.is_known {
            create_all(&*self.session, &self.path).await?;
            self.session.set(&self.path, Bytes::from(self.slots.to_string()), Version::Any).await?;
            create_all(&*self.session, &self.queue).await?;
            self.is_known = true;
        }
        let lease = self.path.child(&uuid::Uuid::new_v4().simple().to_string());
        self.session.stat(&lease).await?;
        self.session.stat(&self.queue).await?;
        let entry = self.queue.child(&format!("{}__lock__", uuid::Uuid::new_v4().simple()));
        let entry = self.session.create(&entry, self.identifier.clone(), NodeKind::EphemeralSequential).await?;
        self.be_first(&entry).await?;
        loop {
            let (leases, mut changed) = self.session.children_and_watch(&self.path).await?;
            if leases.len() < self.slots {
                self.session.create(&lease, self.identifier.clone(), NodeKind::Ephemeral).await?;
            }
            if self.session.stat(&lease).await?.is_some() {
                break;
            }
            changed.fired().await;
        }
        self.session.delete(&entry, Version::Any).await?;
        Ok(lease)
    }

    async fn be_first(&self, entry: &NodePath) -> Result<()> {
        fn number(name: &str) -> &str {
            name.len().checked_sub(10).and_then(|at| name.get(at..)).unwrap_or_default()
        }
        loop {
            let queue = self.session.children(&self.queue).await?;
            let mine = number(entry.name());
            let ahead = queue.iter().filter(|name| number(name) < mine).max_by_key(|name| number(name));
            let Some(ahead) = ahead else {
                queue.iter().find(|name| *name == entry.name()).context("our place in the queue is gone")?;
                return Ok(());
            };
            match self.session.read_and_watch(&self.queue.child(ahead)).await {
                Ok((_, mut watch)) => {
                    watch.fired().await;
                }
                Err(StoreError::NoNode { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    pub(super) async fn release(&self, lease: &NodePath) -> Result<()> {
        Ok(self.session.delete(lease, Version::Any).await?)
    }
}
