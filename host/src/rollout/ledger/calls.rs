//! An orchestration's calls and their answers, so that whoever goes on with the run answers them again.
//!
//! A node each, below `…/calls`, in the order of their numbers; that folder's own data is the last checkpoint. A call is
//! written once it was carried out and before its guest hears of it: one that was carried out and not written is carried out
//! again, and each of them finds what it did before.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::commit::{Write, commit};
use super::error::LedgerError;
use super::layout::RunPaths;
use super::read;
use super::writer::Ledger;
use crate::policy::orchestration::{Answer, Call};
use crate::store::{NodePath, Store, StoreError, Version};

/// Calls that are kept since the last checkpoint. An orchestration that goes on for longer says where to begin again.
pub const MOST_CALLS: u32 = 2_000;

/// Bytes of one call and its answer.
const MOST_BYTES: usize = 600_000;

/// A call that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Called {
    /// What was called.
    #[serde(flatten)]
    pub call: Call,
    /// What was answered.
    #[serde(flatten)]
    pub answer: Answer,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// Where an orchestration begins again.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Checkpoint {
    /// The number of the first call after it.
    pub from: u32,
    /// What it begins from, in hex; none: from the start.
    pub state: Option<String>,
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
}

impl Calls {
    /// What is known of a run's calls, and where to write what follows.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn open(ledger: &Ledger) -> Result<(Self, Checkpoint, Vec<Called>), LedgerError> {
        let (store, runner, paths) = ledger.place();
        let (checkpoint, version, known) = look(&store, &paths).await?;
        let next = checkpoint.from + u32::try_from(known.len()).unwrap_or(u32::MAX);
        let calls = Self { store, runner, paths, checkpoint: checkpoint.clone(), version, next };
        Ok((calls, checkpoint, known))
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

    /// Writes a call and its answer down.
    ///
    /// # Errors
    /// [`LedgerError`]; then it may have been written.
    pub async fn write(&mut self, called: &Called) -> Result<(), LedgerError> {
        self.make_folder().await?;
        let write = Write { path: self.paths.call(self.next), data: read::bytes(called), version: None };
        commit(self.store.as_ref(), &self.runner, &write, &[]).await?;
        self.next += 1;
        Ok(())
    }

    /// From now on the run begins from this state: what was called before is forgotten.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn checkpoint(&mut self, state: String) -> Result<(), LedgerError> {
        self.make_folder().await?;
        let before = self.checkpoint.from..self.next;
        self.checkpoint = Checkpoint { from: self.next, state: Some(state) };
        let write = Write { path: self.paths.calls(), data: read::bytes(&self.checkpoint), version: self.version };
        self.version = Some(commit(self.store.as_ref(), &self.runner, &write, &[]).await?);
        for number in before {
            // What stays is before the checkpoint, where nobody looks.
            let _ = self.store.delete(&self.paths.call(number), Version::Any).await;
        }
        Ok(())
    }

    async fn make_folder(&mut self) -> Result<(), LedgerError> {
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
pub async fn calls(store: &Arc<dyn Store>, run: &str) -> Result<(Checkpoint, Vec<Called>), LedgerError> {
    let (checkpoint, _, called) = look(store, &RunPaths::new(run)).await?;
    Ok((checkpoint, called))
}

async fn look(store: &Arc<dyn Store>, paths: &RunPaths) -> Result<(Checkpoint, Option<i32>, Vec<Called>), LedgerError> {
    let folder = paths.calls();
    let (checkpoint, version): (Checkpoint, i32) = match store.read(&folder).await {
        Ok(node) => (read::parse(&folder, &node.data)?, node.stat.version),
        Err(StoreError::NoNode { .. }) => return Ok((Checkpoint::default(), None, Vec::new())),
        Err(error) => return Err(error.into()),
    };
    let mut called = Vec::new();
    loop {
        let number = checkpoint.from + u32::try_from(called.len()).unwrap_or(u32::MAX);
        let path = paths.call(number);
        match store.read(&path).await {
            Ok(node) => called.push(read::parse(&path, &node.data)?),
            Err(StoreError::NoNode { .. }) => return Ok((checkpoint, Some(version), called)),
            Err(error) => return Err(error.into()),
        }
    }
}
