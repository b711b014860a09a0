//! A run's state, written by its runner.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;

use super::commit::{self, Write, commit};
use super::error::RunStateError;
use super::json;
use super::layout::RunPaths;
use super::read::VersionedTarget;
use super::records::{Memory, RunEnd, RunRecord};
use super::unsaved_endings::{UnsavedEndings, UnsavedTarget};
use crate::job::Target;
use crate::rollout::model::{AttemptEnd, LeaseRecord, RecordedStatus, TargetRecord};
use lockkeeper_coordination::recipe::{Deletion, Lease};
use lockkeeper_coordination::store::{Clock, NodePath, Op, Store, StoreError, Version};

/// Writes the status of each target before the effect that it announces.
///
/// For each target, only one caller writes at a time.
///
/// # Guarantees
/// Each write is one transaction: it checks the runner's lease of the job and the version of the target's node, and the
/// operations that go along (a lease that is created or deleted) happen with it or not at all.
/// # On session loss
/// [`RunStateError::SessionEnded`]; the next runner reads whether the last write happened.
/// # Cancel safety
/// A write that was started may happen.
#[derive(Debug)]
pub struct RunStateWriter {
    store: Arc<dyn Store>,
    clock: Clock,
    run: String,
    paths: RunPaths,
    /// Path of this runner's lease of the job.
    runner: NodePath,
    record: Mutex<(RunRecord, i32)>,
    targets: Vec<TargetNode>,
    /// The policy's present memory.
    memory: Mutex<PolicyMemory>,
    /// The generation of the memory that the store has. Locked during a write, so that an older memory never overwrites
    /// a newer one.
    written: tokio::sync::Mutex<u64>,
    /// What the runner saw of each target's newest attempts, by attempt number.
    attempt_ends: Mutex<BTreeMap<usize, BTreeMap<u32, AttemptEnd>>>,
}

/// The last known content of one target's node.
#[derive(Debug)]
struct TargetNode {
    name: String,
    path: NodePath,
    known: Mutex<VersionedTarget>,
}

#[derive(Debug, Default)]
struct PolicyMemory {
    /// Grows with each change.
    generation: u64,
    memory: Vec<u8>,
}

impl RunStateWriter {
    pub(super) fn new(
        store: &Arc<dyn Store>,
        runner: &NodePath,
        run: &str,
        record: (RunRecord, i32),
        targets: &[Target],
        known: Vec<VersionedTarget>,
    ) -> Self {
        let paths = RunPaths::new(run);
        let books = targets.iter().zip(known).map(|(target, known)| {
            let name = target.name.to_string();
            TargetNode { path: paths.target(&name), name, known: Mutex::new(known) }
        });
        Self {
            store: Arc::clone(store),
            clock: store.clock(),
            run: run.to_owned(),
            runner: runner.clone(),
            record: Mutex::new(record),
            targets: books.collect(),
            memory: Mutex::default(),
            written: tokio::sync::Mutex::new(0),
            attempt_ends: Mutex::default(),
            paths,
        }
    }

    /// What another writer of the same run needs: the store, the runner's lease and the run's paths.
    pub(super) fn location(&self) -> (Arc<dyn Store>, NodePath, RunPaths) {
        (Arc::clone(&self.store), self.runner.clone(), self.paths.clone())
    }

    /// Name of the run.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// When the run started, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn started(&self) -> u64 {
        unpoisoned(&self.record).0.started
    }

    /// The runner of the previous epoch. `None` in the first epoch.
    #[must_use]
    pub fn previous_runner(&self) -> Option<String> {
        let record = unpoisoned(&self.record);
        record.0.runner_epochs.iter().rev().nth(1).map(|runner_epoch| runner_epoch.runner.clone())
    }

    /// Number of this runner epoch, from 1.
    #[must_use]
    pub fn runner_epoch(&self) -> u32 {
        unpoisoned(&self.record).0.runner_epoch
    }

    /// Version of a target's node, which operator requests about the target name.
    #[must_use]
    pub fn version(&self, target: usize) -> Option<i32> {
        unpoisoned(&self.targets[target].known).1
    }

    /// The lease that a target's node names.
    #[must_use]
    pub fn lease(&self, target: usize) -> Option<LeaseRecord> {
        unpoisoned(&self.targets[target].known).0.lease.clone()
    }

    /// The operations that belong into the transaction that creates a target's lease: the target's status under it,
    /// [`RecordedStatus::Leased`] or [`RecordedStatus::RollBackLeased`]. After the transaction, call
    /// [`RunStateWriter::was_leased`].
    pub fn along_with_lease<'a>(
        &'a self,
        target: usize,
        status: &'a RecordedStatus,
    ) -> impl Fn(&NodePath) -> Vec<Op> + Send + Sync + 'a {
        move |lease| {
            let (saved, status) = (LeaseRecord { path: lease.clone(), fence: None }, status.clone());
            let (write, _) = self.next(target, |next| (next.status, next.lease) = (status, Some(saved)));
            commit::ops(&self.runner, &write)
        }
    }

    /// Notes that the transaction of [`RunStateWriter::along_with_lease`] happened.
    pub fn was_leased(&self, target: usize, status: RecordedStatus, lease: &Lease) {
        let saved = LeaseRecord { path: lease.path().clone(), fence: None };
        let (write, saved) = self.next(target, |next| (next.status, next.lease) = (status, Some(saved)));
        *unpoisoned(&self.targets[target].known) = (saved, Some(write.version_after()));
    }

    /// Translates the refusal of the transaction that [`RunStateWriter::along_with_lease`] is part of.
    #[must_use]
    pub fn refused(&self, target: usize, source: StoreError) -> RunStateError {
        match source {
            StoreError::NoNode { path } | StoreError::BadVersion { path } | StoreError::NodeExists { path }
                if path == self.runner || path == self.targets[target].path =>
            {
                RunStateError::Overtaken { path }
            }
            source => source.into(),
        }
    }

    /// Reads a target's node again after a transaction of [`RunStateWriter::along_with_lease`] was cancelled: it may
    /// have happened.
    ///
    /// # Errors
    /// [`RunStateError`]; [`RunStateError::Overtaken`] if another process wrote the node.
    pub async fn reread(&self, target: usize) -> Result<(), RunStateError> {
        let target_node = &self.targets[target];
        let (sync, read) = (self.store.sync(&target_node.path), self.store.read(&target_node.path));
        let (sync, read) = (sync.await, read.await);
        let found: VersionedTarget = match sync.and(read) {
            Ok(node) => (json::parse(&target_node.path, &node.data)?, Some(node.stat.version)),
            Err(StoreError::NoNode { .. }) => VersionedTarget::default(),
            Err(error) => return Err(error.into()),
        };
        let mut known = unpoisoned(&target_node.known);
        let ours = known.1.map_or(0, |version| version.wrapping_add(1));
        match found {
            found if found.1 == known.1 => Ok(()),
            found
                if found.1 == Some(ours)
                    && matches!(found.0.status, RecordedStatus::Leased | RecordedStatus::RollBackLeased { .. }) =>
            {
                *known = found;
                Ok(())
            }
            _ => Err(RunStateError::Overtaken { path: target_node.path.clone() }),
        }
    }

    /// Records that an action or a roll-back is about to start under that lease: [`RecordedStatus::Running`] or
    /// [`RecordedStatus::RollingBack`].
    ///
    /// # Errors
    /// [`RunStateError`]; the command must not be started.
    pub async fn record_start(
        &self,
        target: usize,
        status: RecordedStatus,
        attempt: u32,
        lease: &Lease,
    ) -> Result<(), RunStateError> {
        let saved = LeaseRecord { path: lease.path().clone(), fence: Some(lease.fence()) };
        self.write(target, &[], |next| {
            (next.status, next.attempt, next.lease) = (status, attempt, Some(saved));
        })
        .await
    }

    /// Records a target's status; its lease stays.
    ///
    /// # Errors
    /// [`RunStateError`].
    pub async fn save(&self, target: usize, status: RecordedStatus) -> Result<(), RunStateError> {
        self.write(target, &[], |next| next.status = status).await
    }

    /// Records a target's status and releases its slot with its claim, in one transaction. A lease that no longer
    /// exists is not an error.
    ///
    /// # Errors
    /// [`RunStateError`]; the lease is still held.
    pub async fn release(&self, target: usize, status: RecordedStatus, lease: &Lease) -> Result<(), RunStateError> {
        self.release_by(target, status, lease.deletion()).await
    }

    /// Same as [`RunStateWriter::release`], for a lease that is known only by the operations that delete it.
    ///
    /// # Errors
    /// [`RunStateError`]; the lease is still held.
    pub async fn release_by(
        &self,
        target: usize,
        status: RecordedStatus,
        mut deletion: Deletion,
    ) -> Result<(), RunStateError> {
        let change = |next: &mut TargetRecord| {
            // A later probe of a running action still needs the fence.
            if !status.is_under_way() {
                next.lease = None;
            }
            next.status = status.clone();
        };
        // Bounded by the number of deletions: each refusal removes one.
        loop {
            let ops = deletion.ops();
            match self.write(target, &ops, change).await {
                Err(RunStateError::OperationRefused { index, source: StoreError::NoNode { .. } })
                    if index < ops.len() =>
                {
                    deletion.was_gone(index);
                }
                answer => return answer,
            }
        }
    }

    /// Keeps what the runner saw of a target's attempt in memory, until the store has it.
    pub fn keep_attempt_end(&self, target: usize, attempt: u32, attempt_end: AttemptEnd) {
        let mut attempt_ends = unpoisoned(&self.attempt_ends);
        let of_target = attempt_ends.entry(target).or_default();
        of_target.insert(attempt, attempt_end);
        // If the newest attempt was announced and not started, the previous one is the last that ran.
        of_target.retain(|seen, _| *seen + 1 >= attempt);
    }

    /// The endings that this runner saw and, as far as it knows, the store does not have.
    #[must_use]
    pub fn unsaved_endings(&self) -> UnsavedEndings {
        let mut endings = Vec::new();
        for (target, attempt_ends) in unpoisoned(&self.attempt_ends).iter() {
            let TargetNode { name, known, .. } = &self.targets[*target];
            let (saved, _) = &*unpoisoned(known);
            // The announcement of an attempt may have happened although the store did not answer.
            let newest = attempt_ends.keys().next_back().copied().unwrap_or_default();
            if saved.attempt < newest || (saved.attempt == newest && saved.status.is_under_way()) {
                endings.push(UnsavedTarget { target: name.clone(), attempt_ends: attempt_ends.clone() });
            }
        }
        UnsavedEndings { run: self.run.clone(), version: unpoisoned(&self.record).1, endings }
    }

    /// The targets whose actions did not succeed, as far as the store has it; rolled-back ones are included.
    #[must_use]
    pub fn failures(&self) -> Vec<(String, RecordedStatus)> {
        let all = self.targets.iter().map(|node| (node, unpoisoned(&node.known).0.status.clone()));
        let failed = all.filter(|(_, status)| status.did_not_succeed());
        failed.map(|(node, status)| (node.name.clone(), status)).collect()
    }

    /// Sets the policy's memory; the next transition writes it.
    pub fn set_memory(&self, memory: &[u8]) {
        let mut policy_memory = unpoisoned(&self.memory);
        if policy_memory.memory != memory {
            policy_memory.memory = memory.to_vec();
            policy_memory.generation += 1;
        }
    }

    /// Writes the run status, for commands that read the run.
    ///
    /// # Errors
    /// [`RunStateError`].
    pub async fn write_run_status(&self, now: &impl Serialize) -> Result<(), RunStateError> {
        let (path, data) = (self.paths.now(), json::bytes(now));
        let check = Op::Check { path: self.runner.clone(), version: Version::Any };
        let set = Op::Set { path: path.clone(), data: data.clone(), version: Version::Any };
        match self.store.multi(vec![check.clone(), set]).await {
            Err(StoreError::Multi { index: 1, source }) if matches!(*source, StoreError::NoNode { .. }) => {
                let create = Op::Create { path, data, kind: lockkeeper_coordination::store::NodeKind::Persistent };
                self.store.multi(vec![check, create]).await?;
                Ok(())
            }
            Err(error) => Err(error.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Records the end of the run.
    ///
    /// # Errors
    /// [`RunStateError`].
    pub async fn end(&self, ended: RunEnd) -> Result<(), RunStateError> {
        let (mut record, version) = unpoisoned(&self.record).clone();
        record.ended = Some(ended);
        let write = Write { path: self.paths.run().clone(), data: json::bytes(&record), version: Some(version) };
        let version = commit(self.store.as_ref(), &self.runner, &write, &[]).await?;
        *unpoisoned(&self.record) = (record, version);
        Ok(())
    }

    /// The next content of a target's node.
    fn next(&self, target: usize, change: impl FnOnce(&mut TargetRecord)) -> (Write, TargetRecord) {
        let node = &self.targets[target];
        let (mut saved, version) = unpoisoned(&node.known).clone();
        saved.at = self.clock.now_ms();
        change(&mut saved);
        (Write { path: node.path.clone(), data: json::bytes(&saved), version }, saved)
    }

    async fn write(
        &self,
        target: usize,
        along: &[Op],
        change: impl FnOnce(&mut TargetRecord),
    ) -> Result<(), RunStateError> {
        let (write, saved) = self.next(target, change);
        let mut along = along.to_vec();
        // The caller's operations keep their positions: the memory comes last.
        let memory = self.unwritten_memory().await;
        if let Some((op, ..)) = &memory {
            along.push(op.clone());
        }
        let version = commit(self.store.as_ref(), &self.runner, &write, &along).await?;
        if let Some((_, mut written, generation)) = memory {
            *written = generation;
        }
        *unpoisoned(&self.targets[target].known) = (saved, Some(version));
        Ok(())
    }

    /// The operation that writes the memory, if it has changed since the last write. The lock keeps other writers away.
    async fn unwritten_memory(&self) -> Option<(Op, tokio::sync::MutexGuard<'_, u64>, u64)> {
        if unpoisoned(&self.memory).generation == 0 {
            return None;
        }
        let written = self.written.lock().await;
        let (generation, data): (u64, Bytes) = {
            let policy_memory = unpoisoned(&self.memory);
            if policy_memory.generation == *written {
                return None;
            }
            (policy_memory.generation, json::bytes(&Memory { memory: hex::encode(&policy_memory.memory) }))
        };
        let op = Op::Set { path: self.paths.memory(), data, version: Version::Any };
        Some((op, written, generation))
    }
}

/// Ignores poisoning: no code that holds these locks can panic halfway.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
