//! Endings that a runner saw and could not write before its session was over: written by the same process once the store is
//! back, before anything else happens.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::commit::{Write, commit_if};
use super::error::RunStateError;
use super::layout::RunPaths;
use super::read;
use crate::rollout::model::{RecordedStatus, TargetRecord};
use lockkeeper_coordination::store::{Op, Store, StoreError, Version};

/// What a runner knows of a target whose node says that something runs on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// It ended, and the target stands so: [`Standing::Ended`] or [`Standing::RollBackEnded`].
    Ended(RecordedStatus),
    /// It was announced, and the runner did not start it.
    NotStarted,
}

/// What was seen of a target and is not in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unsaved {
    pub(super) target: String,
    /// By the numbers of its newest attempts.
    pub(super) sights: BTreeMap<u32, Sight>,
}

/// The endings of a run that its runner saw and that are not in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwritten {
    pub(super) run: String,
    /// The version of the run's node: another runner, or who ends the run, writes that node first.
    pub(super) version: i32,
    pub(super) endings: Vec<Unsaved>,
}

/// What became of the endings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewritten {
    /// The targets whose endings are in the store now, in order.
    pub written: Vec<String>,
    /// The targets that another runner settled first, or has taken over, and the state that the store has for each. That
    /// state stays.
    pub settled: Vec<(String, RecordedStatus)>,
    /// The runner that settled them. `None` if nothing was settled, or the run is not in the store any more.
    pub by: Option<String>,
}

impl Unwritten {
    /// Whether there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.endings.is_empty()
    }

    /// The targets, and what the runner saw of each, in a few words.
    pub fn targets(&self) -> impl Iterator<Item = (&str, String)> {
        self.endings.iter().map(|unsaved| (unsaved.target.as_str(), unsaved.last_that_ran()))
    }

    /// Writes the endings, unless the run is another runner's by now. No lease of the job is needed: each write checks that
    /// neither the run's node nor the target's was written by anyone else.
    ///
    /// # Errors
    /// As the store's. Called again with the same endings, it goes on: what was written is not written twice.
    pub async fn write(&self, store: &Arc<dyn Store>) -> Result<Rewritten, RunStateError> {
        let paths = RunPaths::new(&self.run);
        let own = Op::Check { path: paths.run().clone(), version: Version::Exactly(self.version) };
        let mut done = Rewritten::default();
        for unsaved in &self.endings {
            unsaved.write(store, &paths, &own, &mut done).await?;
        }
        match read::run(store, &self.run).await {
            // No other runner has written the run: this one's own last writes happened.
            Ok(kept) if kept.version == self.version => done.settled.clear(),
            Ok(kept) => done.by = kept.record.newest_epoch().map(|runner_epoch| runner_epoch.runner.clone()),
            Err(error) if error.is_gone() => {}
            Err(error) => return Err(error),
        }
        Ok(done)
    }
}

impl Unsaved {
    /// What was seen of the last attempt that ran, in a few words.
    fn last_that_ran(&self) -> String {
        let ran = self.sights.values().rev().find(|sight| matches!(sight, Sight::Ended(_)));
        ran.or(self.sights.values().next_back()).map(ToString::to_string).unwrap_or_default()
    }

    async fn write(
        &self,
        store: &Arc<dyn Store>,
        paths: &RunPaths,
        own: &Op,
        done: &mut Rewritten,
    ) -> Result<(), RunStateError> {
        let Self { target, sights } = self;
        let path = paths.target(target);
        // Bounded by the writes of this process that were on their way when its session ended: one for a target.
        loop {
            let node = match store.read(&path).await {
                Ok(node) => node,
                // The run was deleted, or this target was never written.
                Err(StoreError::NoNode { .. }) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let saved: TargetRecord = read::parse(&path, &node.data)?;
            let Some(sight) = sights.get(&saved.attempt).filter(|_| saved.status.is_under_way()) else {
                // What this runner wrote last happened after all, or another runner has settled it.
                done.settled.push((target.clone(), saved.status));
                return Ok(());
            };
            let (attempt, status) = match sight {
                Sight::Ended(status) => (saved.attempt, status.clone()),
                // What never ran was no attempt: the one before it counts, if its end is not settled yet either.
                Sight::NotStarted => {
                    let before = saved.attempt.saturating_sub(1);
                    match sights.get(&before) {
                        Some(Sight::Ended(status)) => (before, status.clone()),
                        _ => (before, RecordedStatus::Leased),
                    }
                }
            };
            let next = TargetRecord { status, attempt, ..saved.clone() };
            let write = Write { path: path.clone(), data: read::bytes(&next), version: Some(node.stat.version) };
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

impl std::fmt::Display for Sight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotStarted => write!(f, "not started"),
            Self::Ended(RecordedStatus::ActionEnded { ending, detail, .. }) if detail.is_empty() => {
                write!(f, "{}", ending.word())
            }
            Self::Ended(RecordedStatus::ActionEnded { ending, detail, .. }) => write!(f, "{}: {detail}", ending.word()),
            Self::Ended(RecordedStatus::RollBackEnded { becomes }) => write!(f, "{}", becomes.word()),
            Self::Ended(status) => write!(f, "{}", status.word()),
        }
    }
}
