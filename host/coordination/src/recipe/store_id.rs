//! The id of a store, which tells its fences from those of another store.
//!
//! A fence is the number of a change of one store, and a store that was rebuilt counts anew. Fences therefore travel with
//! this id: random, written at first use, the same for all callers of one chroot. Nothing here deletes it.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use super::claim::ROOT;
use super::semaphore::unless_missing;
use crate::store::{Node, NodeKind, NodePath, Op, Reply, Store, StoreError};

/// The most characters that an id has.
const MAX_CHARACTERS: usize = 64;

/// The id of a store.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct StoreId(String);

impl StoreId {
    /// An id as it is written: letters, digits and `-`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_id = |text: &&str| {
            (1..=MAX_CHARACTERS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        };
        Some(text).filter(is_id).map(|text| Self(text.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of this store; `None` if none was written yet, or this caller may not read it. One round trip.
    ///
    /// # Errors
    /// As the store's.
    pub fn look(store: &dyn Store) -> Reply<Option<Self>> {
        // Asked now, as every request is.
        let asked = store.read(&place());
        Box::pin(async move {
            match unless_missing(asked.await) {
                Ok(node) => node.as_ref().map(read).transpose(),
                Err(StoreError::Refused { .. }) => Ok(None),
                Err(error) => Err(error),
            }
        })
    }

    /// The id of this store, which is written if there is none. `None` if this caller may not read or write it. As a rule one
    /// round trip. Of several first callers one writes it, and all get the same.
    ///
    /// # Errors
    /// As the store's.
    pub async fn of(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        if let Some(id) = Self::look(store).await? {
            return Ok(Some(id));
        }
        let id = Self(uuid::Uuid::new_v4().simple().to_string());
        match id.write(store).await {
            Ok(()) => return Ok(Some(id)),
            // Whichever of them was written, it is read.
            Err(StoreError::NodeExists { .. }) => {}
            Err(StoreError::Ambiguous { .. }) => store.sync(&place()).await?,
            Err(StoreError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        Self::look(store).await
    }

    /// Writes it where no other is, together with the folder if that is missing.
    async fn write(&self, store: &dyn Store) -> Result<(), StoreError> {
        let (place, data) = (place(), Bytes::from(self.0.clone()));
        let kind = NodeKind::Persistent;
        let missing = match store.create(&place, data.clone(), kind).await {
            Err(StoreError::NoNode { .. }) => place.parent(),
            made => return made.map(drop),
        };
        let folder = missing.map(|path| Op::Create { path, data: Bytes::new(), kind });
        let id = Op::Create { path: place.clone(), data: data.clone(), kind };
        match store.multi(folder.into_iter().chain([id]).collect()).await {
            // Another caller has made the folder just now.
            Err(StoreError::Multi { source, .. }) if matches!(*source, StoreError::NodeExists { .. }) => {
                store.create(&place, data, kind).await.map(drop)
            }
            Err(StoreError::Multi { source, .. }) => Err(*source),
            made => made.map(drop),
        }
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn place() -> NodePath {
    NodePath::parse(ROOT).expect("it is a path").child("store-id")
}

fn read(node: &Node) -> Result<StoreId, StoreError> {
    let text = std::str::from_utf8(&node.data).ok();
    text.and_then(StoreId::parse)
        .ok_or_else(|| StoreError::Broken { reason: format!("the data of `{}` is no id of a store", place()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_one_short_word() {
        for text in ["a", "0123456789abcdef0123456789ABCDEF", "prod-eu-1"] {
            assert_eq!(StoreId::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "a b", "é", "a/b", "{store-id}", &"x".repeat(65)] {
            assert_eq!(StoreId::parse(text), None, "{text}");
        }
    }
}
