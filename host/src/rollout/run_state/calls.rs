//! An orchestration's calls and their answers, so that whoever goes on with the run answers them again.
//!
//! A node each, below `…/calls`, in the order of their numbers; that folder's own data is the last checkpoint. A call is
//! written once it was carried out and before its guest hears of it: one that was carried out and not written is carried out
//! again, and each of them finds what it did before.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::commit::{Write, commit};
use super::error::RunStateError;
use super::layout::RunPaths;
use super::read;
use super::writer::RunStateWriter;
use crate::policy::orchestration::MOST_CALLS;
use crate::rollout::model::{Begun, Called};
use lockkeeper_coordination::store::{NodePath, Store, StoreError, Version};

/// Bytes of one call and its answer.
const MOST_BYTES: usize = 600_000;

/// What is known of a run's calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// Where it begins again.
    pub checkpoint: Checkpoint,
    /// What was called since, in that order.
    pub called: Vec<Called>,
    /// What came after that, and was not answered.
    pub begun: Option<Begun>,
}

/// Where an orchestration begins again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checkpoint {
    /// The number of the first call after it.
    pub from: u32,
    /// What it begins from, in hex; none: from the start.
    pub state: Option<String>,
    /// When that was, in milliseconds since the Unix epoch; none: when the run began.
    pub at: Option<u64>,
}

/// The calls of a run, written by its runner.
#[derive(Debug)]
pub struct Calls {
    store: Arc<dyn Store>,
    runner: NodePath,
    paths: RunPaths,
    checkpoint: Checkpoint,
    /// The version of the checkpoint's node; none: there is none yet.
    version: Option<i32>,
    /// The number of the next call.
    next: u32,
    /// The version of its node; none: there is none yet.
    begun: Option<i32>,
}

impl Calls {
    /// What is known of a run's calls, and where to write what follows.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn open(run_state: &RunStateWriter) -> Result<(Self, Known), RunStateError> {
        let (store, runner, paths) = run_state.place();
        let Look { known, version } = look(&store, &paths).await?;
        let checkpoint = known.checkpoint.clone();
        let next = checkpoint.from + u32::try_from(known.called.len()).unwrap_or(u32::MAX);
        // A call is begun once, and whoever finds it begun answers it.
        let begun = known.begun.is_some().then_some(0);
        Ok((Self { store, runner, paths, checkpoint, version, next, begun }, known))
    }

    /// How many more may be called before a checkpoint is due.
    #[must_use]
    pub fn left(&self) -> u32 {
        MOST_CALLS.saturating_sub(self.next - self.checkpoint.from)
    }

    /// Whether a call and its answer fit into a node.
    #[must_use]
    pub fn fits(called: &Called) -> bool {
        read::bytes(called).len() <= MOST_BYTES
    }

    /// Writes down that a call begins.
    ///
    /// # Errors
    /// [`LedgerError`]; then it may have been written.
    pub async fn begin(&mut self, begun: &Begun) -> Result<(), RunStateError> {
        self.make_folder().await?;
        let write = Write { path: self.paths.call(self.next), data: read::bytes(begun), version: None };
        self.begun = Some(commit(self.store.as_ref(), &self.runner, &write, &[]).await?);
        Ok(())
    }

    /// Writes a call and its answer down.
    ///
    /// # Errors
    /// [`LedgerError`]; then it may have been written.
    pub async fn write(&mut self, called: &Called) -> Result<(), RunStateError> {
        self.make_folder().await?;
        let write = Write { path: self.paths.call(self.next), data: read::bytes(called), version: self.begun };
        commit(self.store.as_ref(), &self.runner, &write, &[]).await?;
        self.begun = None;
        self.next += 1;
        Ok(())
    }

    /// From now on the run begins from this state: what was called before is forgotten.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn checkpoint(&mut self, state: String, at: u64) -> Result<(), RunStateError> {
        self.make_folder().await?;
        let before = self.checkpoint.from..self.next;
        self.checkpoint = Checkpoint { from: self.next, state: Some(state), at: Some(at) };
        let write = Write { path: self.paths.calls(), data: read::bytes(&self.checkpoint), version: self.version };
        self.version = Some(commit(self.store.as_ref(), &self.runner, &write, &[]).await?);
        for number in before {
            // What stays is before the checkpoint, where nobody looks.
            let _ = self.store.delete(&self.paths.call(number), Version::Any).await;
        }
        Ok(())
    }

    async fn make_folder(&mut self) -> Result<(), RunStateError> {
        if self.version.is_none() {
            let write = Write { path: self.paths.calls(), data: read::bytes(&self.checkpoint), version: None };
            self.version = Some(commit(self.store.as_ref(), &self.runner, &write, &[]).await?);
        }
        Ok(())
    }
}

/// The calls of a run since its last checkpoint, for whoever looks.
///
/// # Errors
/// [`LedgerError`].
pub async fn calls(store: &Arc<dyn Store>, run: &str) -> Result<Known, RunStateError> {
    Ok(look(store, &RunPaths::new(run)).await?.known)
}

struct Look {
    known: Known,
    /// The version of the folder; none: there is none yet.
    version: Option<i32>,
}

async fn look(store: &Arc<dyn Store>, paths: &RunPaths) -> Result<Look, RunStateError> {
    let folder = paths.calls();
    let (checkpoint, version): (Checkpoint, i32) = match store.read(&folder).await {
        Ok(node) => (read::parse(&folder, &node.data)?, node.stat.version),
        Err(StoreError::NoNode { .. }) => return Ok(Look { known: Known::default(), version: None }),
        Err(error) => return Err(error.into()),
    };
    let mut known = Known { checkpoint, ..Known::default() };
    loop {
        let number = known.checkpoint.from + u32::try_from(known.called.len()).unwrap_or(u32::MAX);
        let path = paths.call(number);
        let node = match store.read(&path).await {
            Ok(node) => node,
            Err(StoreError::NoNode { .. }) => break,
            Err(error) => return Err(error.into()),
        };
        let value: Value = read::parse(&path, &node.data)?;
        if value.get("answer").is_none() {
            known.begun = Some(read::parse(&path, &node.data)?);
            break;
        }
        known.called.push(read::parse(&path, &node.data)?);
    }
    Ok(Look { known, version: Some(version) })
}
