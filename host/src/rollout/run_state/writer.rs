//! A run's state, written by its runner.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;

use super::commit::{self, Write, commit};
use super::error::RunStateError;
use super::layout::RunPaths;
use super::read::{self, StatusOf};
use super::records::{Ended, Memory, RunRecord};
use super::unwritten::{Sight, Unsaved, Unwritten};
use crate::job::Target;
use crate::rollout::model::{LeaseRecord, RecordedStatus, TargetRecord};
use lockkeeper_coordination::recipe::{Deletion, Lease};
use lockkeeper_coordination::store::{Clock, NodePath, Op, Store, StoreError, Version};

/// Where each target of a run stands, written down before the effect that it announces.
///
/// About one target only one caller writes at a time.
///
/// # Guarantees
/// Each write is one transaction: our lease of the run is there, the target's node is as we left it, and what goes along
/// (a lease that is made or deleted) happens with it or not at all.
/// # On session loss
/// [`LedgerError::SessionOver`]; whether the last write happened is for the next runner to read.
/// # Cancel safety
/// A write that was begun may happen.
#[derive(Debug)]
pub struct RunStateWriter {
    store: Arc<dyn Store>,
    clock: Clock,
    run: String,
    paths: RunPaths,
    /// Our lease of the job.
    runner: NodePath,
    record: Mutex<(RunRecord, i32)>,
    targets: Vec<Book>,
    /// What the policy's memory is by now.
    memory: Mutex<Remembered>,
    /// Which of it is in the store. Held over a write, so that older never overwrites newer.
    written: tokio::sync::Mutex<u64>,
    /// What was seen of each target's newest attempts, by their numbers.
    sights: Mutex<BTreeMap<usize, BTreeMap<u32, Sight>>>,
}

/// What is known of one target's node.
#[derive(Debug)]
struct Book {
    name: String,
    path: NodePath,
    known: Mutex<StatusOf>,
}

#[derive(Debug, Default)]
struct Remembered {
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
        known: Vec<StatusOf>,
    ) -> Self {
        let paths = RunPaths::new(run);
        let books = targets.iter().zip(known).map(|(target, known)| {
            let name = target.name.to_string();
            Book { path: paths.target(&name), name, known: Mutex::new(known) }
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
            sights: Mutex::default(),
            paths,
        }
    }

    /// Where else of the run is written, and under which lease.
    pub(super) fn place(&self) -> (Arc<dyn Store>, NodePath, RunPaths) {
        (Arc::clone(&self.store), self.runner.clone(), self.paths.clone())
    }

    /// The run's name.
    #[must_use]
    pub fn run(&self) -> &str {
        &self.run
    }

    /// When the run began, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn started(&self) -> u64 {
        unpoisoned(&self.record).0.started
    }

    /// Who ran it before; none: nobody.
    #[must_use]
    pub fn previous_runner(&self) -> Option<String> {
        let record = unpoisoned(&self.record);
        record.0.runner_epochs.iter().rev().nth(1).map(|runner_epoch| runner_epoch.runner.clone())
    }

    /// Which stint this is, from 1.
    #[must_use]
    pub fn runner_epoch(&self) -> u32 {
        unpoisoned(&self.record).0.runner_epoch
    }

    /// The version of a target's node, which wishes about it name.
    #[must_use]
    pub fn version(&self, target: usize) -> Option<i32> {
        unpoisoned(&self.targets[target].known).1
    }

    /// The lease that a target's node names.
    #[must_use]
    pub fn lease(&self, target: usize) -> Option<LeaseRecord> {
        unpoisoned(&self.targets[target].known).0.lease.clone()
    }

    /// What goes into the transaction that makes a target's lease: where the target stands under it, [`Standing::Leased`] or
    /// [`Standing::Recalled`]. Once that was made, [`Ledger::was_leased`] is told.
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

    /// The transaction of [`Ledger::along_with_lease`] happened.
    pub fn was_leased(&self, target: usize, status: RecordedStatus, lease: &Lease) {
        let saved = LeaseRecord { path: lease.path().clone(), fence: None };
        let (write, saved) = self.next(target, |next| (next.status, next.lease) = (status, Some(saved)));
        *unpoisoned(&self.targets[target].known) = (saved, Some(write.version_after()));
    }

    /// What a refusal of the transaction means that [`Ledger::along_with_lease`] went into.
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

    /// Reads a target's node anew: a transaction of [`Ledger::along_with_lease`] was given up before it was answered, and may
    /// have happened.
    ///
    /// # Errors
    /// [`LedgerError`]; [`LedgerError::Overtaken`] if somebody else wrote the node.
    pub async fn look_again(&self, target: usize) -> Result<(), RunStateError> {
        let book = &self.targets[target];
        let (sync, read) = (self.store.sync(&book.path), self.store.read(&book.path));
        let (sync, read) = (sync.await, read.await);
        let found: StatusOf = match sync.and(read) {
            Ok(node) => (read::parse(&book.path, &node.data)?, Some(node.stat.version)),
            Err(StoreError::NoNode { .. }) => StatusOf::default(),
            Err(error) => return Err(error.into()),
        };
        let mut known = unpoisoned(&book.known);
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
            _ => Err(RunStateError::Overtaken { path: book.path.clone() }),
        }
    }

    /// Something is about to start: [`Standing::Acting`] or [`Standing::Reverting`], under that lease.
    ///
    /// # Errors
    /// [`LedgerError`]: then it must not start.
    pub async fn starts(
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

    /// Where a target stands now; its lease stays what it was.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn save(&self, target: usize, status: RecordedStatus) -> Result<(), RunStateError> {
        self.write(target, &[], |next| next.status = status).await
    }

    /// Where a target stands once its slot is free, and in the same transaction the slot becomes free, with its claim. A lease
    /// that was deleted before is no error.
    ///
    /// # Errors
    /// [`LedgerError`]; then the lease is held still.
    pub async fn release(&self, target: usize, status: RecordedStatus, lease: &Lease) -> Result<(), RunStateError> {
        self.release_by(target, status, lease.deletion()).await
    }

    /// As [`Ledger::release`], for a lease that is known by what deletes it.
    ///
    /// # Errors
    /// [`LedgerError`]; then the lease is held still.
    pub async fn release_by(
        &self,
        target: usize,
        status: RecordedStatus,
        mut deletion: Deletion,
    ) -> Result<(), RunStateError> {
        let change = |next: &mut TargetRecord| {
            // Whoever asks later how the action went that is under way still needs the fence.
            if !status.is_under_way() {
                next.lease = None;
            }
            next.status = status.clone();
        };
        // Bounded by what there is to delete: each refusal takes some away.
        loop {
            let ops = deletion.ops();
            match self.write(target, &ops, change).await {
                Err(RunStateError::Together { index, source: StoreError::NoNode { .. } }) if index < ops.len() => {
                    deletion.was_gone(index);
                }
                answer => return answer,
            }
        }
    }

    /// What the runner sees of a target's attempt, kept in memory until the store has it.
    pub fn saw(&self, target: usize, attempt: u32, sight: Sight) {
        let mut sights = unpoisoned(&self.sights);
        let of_target = sights.entry(target).or_default();
        of_target.insert(attempt, sight);
        // An attempt that was announced and not started leaves the one before it the last that ran.
        of_target.retain(|seen, _| *seen + 1 >= attempt);
    }

    /// The endings that were seen and that the store does not have, as far as this runner knows.
    #[must_use]
    pub fn unwritten(&self) -> Unwritten {
        let mut endings = Vec::new();
        for (target, sights) in unpoisoned(&self.sights).iter() {
            let Book { name, known, .. } = &self.targets[*target];
            let (saved, _) = &*unpoisoned(known);
            // The announcement of an attempt may have happened although nothing was heard of it.
            let newest = sights.keys().next_back().copied().unwrap_or_default();
            if saved.attempt < newest || (saved.attempt == newest && saved.status.is_under_way()) {
                endings.push(Unsaved { target: name.clone(), sights: sights.clone() });
            }
        }
        Unwritten { run: self.run.clone(), version: unpoisoned(&self.record).1, endings }
    }

    /// The targets whose actions did not succeed as far as the store has it, what was rolled back since included.
    #[must_use]
    pub fn failures(&self) -> Vec<(String, RecordedStatus)> {
        let all = self.targets.iter().map(|book| (book, unpoisoned(&book.known).0.status.clone()));
        let failed = all.filter(|(_, status)| status.did_not_succeed());
        failed.map(|(book, status)| (book.name.clone(), status)).collect()
    }

    /// The policy's memory is this from now on: it is written with the next transition.
    pub fn remember(&self, memory: &[u8]) {
        let mut remembered = unpoisoned(&self.memory);
        if remembered.memory != memory {
            remembered.memory = memory.to_vec();
            remembered.generation += 1;
        }
    }

    /// What the run waits for, for whoever looks.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn say_now(&self, now: &impl Serialize) -> Result<(), RunStateError> {
        let (path, data) = (self.paths.now(), read::bytes(now));
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

    /// The run is finished.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn end(&self, ended: Ended) -> Result<(), RunStateError> {
        let (mut record, version) = unpoisoned(&self.record).clone();
        record.ended = Some(ended);
        let write = Write { path: self.paths.run().clone(), data: read::bytes(&record), version: Some(version) };
        let version = commit(self.store.as_ref(), &self.runner, &write, &[]).await?;
        *unpoisoned(&self.record) = (record, version);
        Ok(())
    }

    /// What a target's node is to hold next.
    fn next(&self, target: usize, change: impl FnOnce(&mut TargetRecord)) -> (Write, TargetRecord) {
        let book = &self.targets[target];
        let (mut saved, version) = unpoisoned(&book.known).clone();
        saved.at = self.clock.now_ms();
        change(&mut saved);
        (Write { path: book.path.clone(), data: read::bytes(&saved), version }, saved)
    }

    async fn write(
        &self,
        target: usize,
        along: &[Op],
        change: impl FnOnce(&mut TargetRecord),
    ) -> Result<(), RunStateError> {
        let (write, saved) = self.next(target, change);
        let mut along = along.to_vec();
        // The caller's operations keep their numbers: memory goes last.
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

    /// What writes the memory, if it changed since that was done last; nobody else writes it meanwhile.
    async fn unwritten_memory(&self) -> Option<(Op, tokio::sync::MutexGuard<'_, u64>, u64)> {
        if unpoisoned(&self.memory).generation == 0 {
            return None;
        }
        let written = self.written.lock().await;
        let (generation, data): (u64, Bytes) = {
            let remembered = unpoisoned(&self.memory);
            if remembered.generation == *written {
                return None;
            }
            (remembered.generation, read::bytes(&Memory { memory: hex::encode(&remembered.memory) }))
        };
        let op = Op::Set { path: self.paths.memory(), data, version: Version::Any };
        Some((op, written, generation))
    }
}

/// What a thread that panicked left is as whole as any: no step in between can panic.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
