//! The id of a store, which tells its fences from those of another store.
//!
//! A fence is the number of a change of one store, and a store that was rebuilt counts anew. Fences therefore travel with
//! this id: random, written at first use, the same for all callers of one chroot. Nothing here deletes it.

use std::fmt;

use bytes::Bytes;
use serde::Serialize;

use super::claim::ROOT;
use super::semaphore::unless_missing;
use crate::store::{Node, NodeKind, NodePath, Store, StoreError, create_all};

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
    pub async fn look(store: &dyn Store) -> Result<Option<Self>, StoreError> {
        match unless_missing(store.read(&place()).await) {
            Ok(node) => node.as_ref().map(read).transpose(),
            Err(StoreError::Refused { .. }) => Ok(None),
            Err(error) => Err(error),
        }
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
        let place = place();
        let made = match place.parent() {
            Some(above) => create_all(store, &above).await,
            None => Ok(()),
        };
        let new = Bytes::from(uuid::Uuid::new_v4().simple().to_string());
        let made = match made {
            Ok(()) => store.create(&place, new, NodeKind::Persistent).await.map(drop),
            Err(error) => Err(error),
        };
        match made {
            // Whichever of them was written, it is read.
            Ok(()) | Err(StoreError::NodeExists { .. }) => {}
            Err(StoreError::Ambiguous { .. }) => store.sync(&place).await?,
            Err(StoreError::Refused { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        Self::look(store).await
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
