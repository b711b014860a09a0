//! An orchestration's calls and their answers. A runner that resumes the run answers these calls from here.
//!
//! Each call is a node below `…/calls`, in the order of the call numbers; the folder's own data is the last checkpoint.
//! A call is written after it was carried out and before its guest gets the answer. A call that was carried out but not
//! written is carried out again; carrying a call out twice has the effect of once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::commit::{Write, commit};
use super::error::RunStateError;
use super::json;
use super::layout::RunPaths;
use super::writer::RunStateWriter;
use crate::policy::orchestration::MOST_CALLS;
use crate::rollout::model::{Begun, Called};
use lockkeeper_coordination::store::{NodePath, Store, StoreError, Version};

/// Bytes of one call with its answer, at most: below ZooKeeper's limit of 1 MiB for a node.
const MOST_BYTES: usize = 600_000;

/// The recorded calls of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecordedCalls {
    /// The point from which the guest is started again.
    pub checkpoint: Checkpoint,
    /// The answered calls since the checkpoint, in order.
    pub called: Vec<Called>,
    /// The call that has no answer yet.
    pub begun: Option<Begun>,
}

/// The point from which an orchestration is started again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checkpoint {
    /// The number of the first call after it.
    pub from: u32,
    /// The guest's state, in hex. `None` if the guest starts from the beginning.
    pub state: Option<String>,
    /// When the checkpoint was written, in milliseconds since the Unix epoch. `None` if the guest starts from the
    /// beginning.
    pub at: Option<u64>,
}

/// Writes the calls of a run; used only by its runner.
#[derive(Debug)]
pub struct Calls {
    store: Arc<dyn Store>,
    runner: NodePath,
    paths: RunPaths,
    checkpoint: Checkpoint,
    /// Version of the checkpoint's node. `None` if the node does not exist.
    version: Option<i32>,
    /// The number of the next call.
    next: u32,
    /// Version of the next call's node. `None` if the node does not exist.
    begun: Option<i32>,
}

impl Calls {
    /// Reads the recorded calls of a run and returns a writer for the calls that follow.
    ///
    /// # Errors
    /// [`RunStateError`].
    pub async fn open(run_state: &RunStateWriter) -> Result<(Self, RecordedCalls), RunStateError> {
        let (store, runner, paths) = run_state.location();
        let VersionedCalls { known, version } = read_calls(&store, &paths).await?;
        let checkpoint = known.checkpoint.clone();
        let next = checkpoint.from + u32::try_from(known.called.len()).unwrap_or(u32::MAX);
        // The node of an unanswered call was written once, so its version is 0.
        let begun = known.begun.is_some().then_some(0);
        Ok((Self { store, runner, paths, checkpoint, version, next, begun }, known))
    }

    /// How many more calls fit before a checkpoint is due.
    #[must_use]
    pub fn left(&self) -> u32 {
        MOST_CALLS.saturating_sub(self.next - self.checkpoint.from)
    }

    /// Whether a call with its answer fits into a node.
    #[must_use]
    pub fn fits(called: &Called) -> bool {
        json::bytes(called).len() <= MOST_BYTES
    }

    /// Records that a call starts.
    ///
    /// # Errors
    /// [`RunStateError`]; the record may have been written nevertheless.
    pub async fn begin(&mut self, begun: &Begun) -> Result<(), RunStateError> {
        self.make_folder().await?;
        let write = Write { path: self.paths.call(self.next), data: json::bytes(begun), version: None };
        self.begun = Some(commit(self.store.as_ref(), &self.runner, &write, &[]).await?);
        Ok(())
    }

    /// Records a call and its answer.
    ///
    /// # Errors
    /// [`RunStateError`]; the record may have been written nevertheless.
    pub async fn write(&mut self, called: &Called) -> Result<(), RunStateError> {
        self.make_folder().await?;
        let write = Write { path: self.paths.call(self.next), data: json::bytes(called), version: self.begun };
        commit(self.store.as_ref(), &self.runner, &write, &[]).await?;
        self.begun = None;
        self.next += 1;
        Ok(())
    }

    /// Records a checkpoint: the guest is started again from `state`, and earlier calls are deleted.
    ///
    /// # Errors
    /// [`RunStateError`].
    pub async fn checkpoint(&mut self, state: String, at: u64) -> Result<(), RunStateError> {
        self.make_folder().await?;
        let before = self.checkpoint.from..self.next;
        self.checkpoint = Checkpoint { from: self.next, state: Some(state), at: Some(at) };
        let write = Write { path: self.paths.calls(), data: json::bytes(&self.checkpoint), version: self.version };
        self.version = Some(commit(self.store.as_ref(), &self.runner, &write, &[]).await?);
        for number in before {
            // A call that could not be deleted is older than the checkpoint and is never read.
            let _ = self.store.delete(&self.paths.call(number), Version::Any).await;
        }
        Ok(())
    }

    async fn make_folder(&mut self) -> Result<(), RunStateError> {
        if self.version.is_none() {
            let write = Write { path: self.paths.calls(), data: json::bytes(&self.checkpoint), version: None };
            self.version = Some(commit(self.store.as_ref(), &self.runner, &write, &[]).await?);
        }
        Ok(())
    }
}

/// The calls of a run since its last checkpoint.
///
/// # Errors
/// [`RunStateError`].
pub async fn calls(store: &Arc<dyn Store>, run: &str) -> Result<RecordedCalls, RunStateError> {
    Ok(read_calls(store, &RunPaths::new(run)).await?.known)
}

struct VersionedCalls {
    known: RecordedCalls,
    /// Version of the folder. `None` if the folder does not exist.
    version: Option<i32>,
}

async fn read_calls(store: &Arc<dyn Store>, paths: &RunPaths) -> Result<VersionedCalls, RunStateError> {
    let folder = paths.calls();
    let (checkpoint, version): (Checkpoint, i32) = match store.read(&folder).await {
        Ok(node) => (json::parse(&folder, &node.data)?, node.stat.version),
        Err(StoreError::NoNode { .. }) => return Ok(VersionedCalls { known: RecordedCalls::default(), version: None }),
        Err(error) => return Err(error.into()),
    };
    let mut known = RecordedCalls { checkpoint, ..RecordedCalls::default() };
    loop {
        let number = known.checkpoint.from + u32::try_from(known.called.len()).unwrap_or(u32::MAX);
        let path = paths.call(number);
        let node = match store.read(&path).await {
            Ok(node) => node,
            Err(StoreError::NoNode { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        let value: Value = json::parse(&path, &node.data)?;
        if value.get("answer").is_none() {
            known.begun = Some(json::parse(&path, &node.data)?);
            break;
        }
        known.called.push(json::parse(&path, &node.data)?);
    }
    Ok(VersionedCalls { known, version: Some(version) })
}
