//! The JSON of the run state's nodes, read and written.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::RunStateError;
use lockkeeper_coordination::store::NodePath;

/// The record that a node's data holds.
pub(super) fn parse<T: DeserializeOwned>(path: &NodePath, data: &[u8]) -> Result<T, RunStateError> {
    let strange = |error: serde_json::Error| RunStateError::Malformed { path: path.clone(), reason: error.to_string() };
    serde_json::from_slice(data).map_err(strange)
}

/// JSON of a record of the run state; these consist of text, numbers and lists.
pub(super) fn bytes(value: &impl Serialize) -> Bytes {
    Bytes::from(serde_json::to_vec(value).expect("plain data is JSON"))
}
