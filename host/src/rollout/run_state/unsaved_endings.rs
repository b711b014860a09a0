//! Endings that a runner saw but could not write before its session ended. The same process writes them before anything
//! else once the store is back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::commit::{Write, commit_if};
use super::error::RunStateError;
use super::json;
use super::layout::RunPaths;
use super::read;
use crate::rollout::model::{AttemptEnd, RecordedStatus, TargetRecord};
use lockkeeper_coordination::store::{Op, Store, StoreError, Version};

/// What the runner saw of one target and the store does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UnsavedTarget {
    pub(super) target: String,
    /// By attempt number; only the newest attempts.
    pub(super) attempt_ends: BTreeMap<u32, AttemptEnd>,
}

/// The endings of a run that its runner saw and the store does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsavedEndings {
    pub(super) run: String,
    /// Version of the run's node: another runner, or a process that aborts the run, writes that node first.
    pub(super) version: i32,
    pub(super) endings: Vec<UnsavedTarget>,
}

/// The result of writing the endings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedEndings {
    /// The targets whose endings are in the store now, in order.
    pub written: Vec<String>,
    /// The targets that another runner settled first or has taken over, with the status that the store has. That status
    /// stays.
    pub settled: Vec<(String, RecordedStatus)>,
    /// The runner that settled them. `None` if nothing was settled, or the store no longer has the run.
    pub by: Option<String>,
}

impl UnsavedEndings {
    /// Whether nothing is left to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.endings.is_empty()
    }

    /// Each target with a short text of what the runner saw.
    pub fn targets(&self) -> impl Iterator<Item = (&str, String)> {
        self.endings.iter().map(|unsaved| (unsaved.target.as_str(), unsaved.last_that_ran()))
    }

    /// Writes the endings, unless another runner has taken over the run. No lease of the job is needed: each write
    /// checks that no other process wrote the run's node or the target's.
    ///
    /// # Errors
    /// If the store refuses or is unreachable. Calling it again with the same endings continues; nothing is written
    /// twice.
    pub async fn write(&self, store: &Arc<dyn Store>) -> Result<SavedEndings, RunStateError> {
        let paths = RunPaths::new(&self.run);
        let own = Op::Check { path: paths.run().clone(), version: Version::Exactly(self.version) };
        let mut done = SavedEndings::default();
        for unsaved in &self.endings {
            unsaved.write(store, &paths, &own, &mut done).await?;
        }
        match read::run(store, &self.run).await {
            // No other runner has written the run: this runner's own last writes happened.
            Ok(kept) if kept.version == self.version => done.settled.clear(),
            Ok(kept) => done.by = kept.record.newest_epoch().map(|runner_epoch| runner_epoch.runner.clone()),
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
        Ok(done)
    }
}

impl UnsavedTarget {
    /// A short text of the last attempt that ran.
    fn last_that_ran(&self) -> String {
        let ran = self.attempt_ends.values().rev().find(|attempt_end| matches!(attempt_end, AttemptEnd::Ended(_)));
        ran.or(self.attempt_ends.values().next_back()).map(ToString::to_string).unwrap_or_default()
    }

    async fn write(
        &self,
        store: &Arc<dyn Store>,
        paths: &RunPaths,
        own: &Op,
        done: &mut SavedEndings,
    ) -> Result<(), RunStateError> {
        let Self { target, attempt_ends } = self;
        let path = paths.target(target);
        // Bounded by the writes that were in flight when the session ended: one for each target.
        loop {
            let node = match store.read(&path).await {
                Ok(node) => node,
                // The run was deleted, or this target was never written.
                Err(StoreError::NoNode { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let saved: TargetRecord = json::parse(&path, &node.data)?;
            let Some(attempt_end) = attempt_ends.get(&saved.attempt).filter(|_| saved.status.is_under_way()) else {
                // This runner's last write happened after all, or another runner has settled the target.
                done.settled.push((target.clone(), saved.status));
                return Ok(());
            };
            let (attempt, status) = match attempt_end {
                AttemptEnd::Ended(status) => (saved.attempt, status.clone()),
                // An attempt that never ran does not count: the previous one does, if its end is not settled yet
                // either.
                AttemptEnd::NotStarted => {
                    let before = saved.attempt.saturating_sub(1);
                    match attempt_ends.get(&before) {
                        Some(AttemptEnd::Ended(status)) => (before, status.clone()),
                        _ => (before, RecordedStatus::Leased),
                    }
                }
            };
            let next = TargetRecord { status, attempt, ..saved.clone() };
            let write = Write { path: path.clone(), data: json::bytes(&next), version: Some(node.stat.version) };
            match commit_if(store.as_ref(), own, &write, &[]).await {
                Ok(_) => done.written.push(target.clone()),
                Err(RunStateError::Overtaken { path: by }) if by == path => continue,
                Err(RunStateError::Overtaken { .. }) => done.settled.push((target.clone(), saved.status)),
                Err(error) => return Err(error),
            }
            return Ok(());
        }
    }
}
