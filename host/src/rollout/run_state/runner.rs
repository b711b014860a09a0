//! The process that drives a job: one at a time.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;

use super::clocks::Clocks;
use super::commit::{Write, commit};
use super::error::RunStateError;
use super::json;
use super::layout::{self, RunPaths};
use super::read::{self, StoredRun};
use super::records::{JobRecord, LAYOUT, MOST_EPOCHS, Memory, Planned, RequestsRecord, RunRecord, RunnerEpoch};
use super::writer::RunStateWriter;
use crate::job::{JobName, Target};
use crate::rollout::model::{Resumed, TargetRecord};
use lockkeeper_coordination::recipe::{Acquired, Holder, Identifier, Lease, Loss, Patience, Semaphore};
use lockkeeper_coordination::store::{Lifetime, NodeKind, NodePath, Op, Store, StoreError, Version, create_all};

/// Bytes of targets in one node of the plan: below ZooKeeper's limit of 1 MiB for a node.
const PART_BYTES: usize = 400_000;

/// Difference between the first decision numbers of consecutive runner epochs, so that two runners never use the same
/// number.
pub const SEQUENCES_PER_EPOCH: u64 = 10_000_000;

/// The one process that drives a job. While this value and its session exist, no other process writes the state of the
/// job's runs.
///
/// # Guarantees
/// Every write is one transaction with a check of the lease: it happens only while this process is the runner.
/// # On session loss
/// The lease is gone, and another process may become the runner. [`Runner::lost`] resolves.
#[derive(Debug)]
pub struct Runner {
    store: Arc<dyn Store>,
    semaphore: Semaphore,
    job: JobName,
    who: Identifier,
    lease: Lease,
    job_file: Option<String>,
}

/// A run that this process drives.
#[derive(Debug)]
pub struct OpenedRun {
    /// Writes the run's state.
    pub run_state: Arc<RunStateWriter>,
    /// The targets in the plan's order.
    pub targets: Vec<Target>,
    /// What an earlier runner recorded. `None` if the run is new.
    pub resumed: Option<Resumed>,
    /// How far this machine's clock is ahead of the store's, in milliseconds.
    pub clock_ahead_ms: i64,
}

/// A run to start.
#[derive(Debug)]
pub struct NewRun {
    /// Name of the run; no other run has it.
    pub name: String,
    /// The record, without runner epochs.
    pub record: RunRecord,
    /// Text of the job's file.
    pub job_text: String,
    /// The targets in the plan's order.
    pub targets: Vec<Target>,
    /// Folder of the journal.
    pub journal: String,
}

impl Runner {
    /// The semaphore whose holder is the job's runner.
    fn semaphore(store: &Arc<dyn Store>, job: &JobName) -> Semaphore {
        Semaphore::new(Arc::clone(store), layout::runner(job), NonZeroU32::MIN)
    }

    /// The job's runner and the number of standby runners.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn of(store: &Arc<dyn Store>, job: &JobName) -> Result<(Option<Holder>, u32), RunStateError> {
        let (state, _) = Self::semaphore(store, job).observe().await?;
        Ok((state.holders.into_iter().next(), state.queued))
    }

    /// Becomes the job's runner; waits for the present runner to end as `patience` allows.
    ///
    /// # Errors
    /// [`RunStateError::Runner`] if another process is still the runner.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn acquire(
        store: &Arc<dyn Store>,
        job: &JobName,
        who: Identifier,
        patience: Patience,
    ) -> Result<Self, RunStateError> {
        let semaphore = Self::semaphore(store, job);
        let Acquired { lease, .. } = semaphore.acquire(&who, Lifetime::Ephemeral, patience).await?;
        Ok(Self { store: Arc::clone(store), semaphore, job: job.clone(), who, lease, job_file: None })
    }

    /// Records the path of the job's file on this host, for the hint that resumes the run.
    #[must_use]
    pub fn with_job_file(self, file: String) -> Self {
        Self { job_file: Some(file), ..self }
    }

    /// This runner's identifier: host and process ID.
    #[must_use]
    pub fn who(&self) -> &Identifier {
        &self.who
    }

    /// Resolves when this process is no longer the runner.
    pub async fn lost(&self) -> Loss {
        self.lease.lost().await
    }

    /// Until when no other process can be the runner: see [`Lease::safe_until`].
    #[must_use]
    pub fn safe_until(&self, loss: Loss) -> tokio::time::Instant {
        self.lease.safe_until(loss)
    }

    /// The store session.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Releases the lease, so that another process can become the runner.
    pub async fn step_down(self) {
        // The end of the session releases the lease as well.
        let _ = self.lease.release().await;
        self.semaphore.settled().await;
    }

    /// The job's newest run. `None` if it has none.
    ///
    /// # Errors
    /// If the store cannot be read; [`RunStateError::Malformed`].
    pub async fn newest(&self) -> Result<Option<StoredRun>, RunStateError> {
        read::newest(&self.store, &self.job).await
    }

    /// Starts a run. The last transaction makes it visible; until then, readers see the previous run.
    ///
    /// # Errors
    /// [`RunStateError`]; [`delete_never_started`](super::delete_never_started) deletes what was created.
    pub async fn begin(&self, new: NewRun) -> Result<OpenedRun, RunStateError> {
        let NewRun { name, mut record, job_text, targets, journal } = new;
        let paths = RunPaths::new(&name);
        self.make(paths.run(), Bytes::new()).await?;
        for folder in [paths.plan(), paths.targets()] {
            self.make(&folder, Bytes::new()).await?;
        }
        self.make(&paths.job_text(), Bytes::from(job_text)).await?;
        self.make(&paths.memory(), json::bytes(&Memory::default())).await?;
        self.make(&paths.requests(), json::bytes(&RequestsRecord::default())).await?;
        for (part, targets) in parts(&targets).into_iter().enumerate() {
            self.make(&paths.plan_part(part), targets).await?;
        }
        self.add_runner_epoch(&mut record, journal);
        let run = Write { path: paths.run().clone(), data: json::bytes(&record), version: Some(0) };
        let pointer = Op::Set {
            path: layout::job(&self.job),
            data: json::bytes(&JobRecord { run: name.clone() }),
            version: Version::Any,
        };
        let (version, clocks) = self.announce(&run, &[pointer]).await?;
        let saved = vec![(TargetRecord::default(), None); targets.len()];
        let run_state = RunStateWriter::new(&self.store, self.lease.path(), &name, (record, version), &targets, saved);
        Ok(OpenedRun { run_state: Arc::new(run_state), targets, resumed: None, clock_ahead_ms: clocks.ahead_ms() })
    }

    /// Resumes an unfinished run.
    ///
    /// # Errors
    /// [`RunStateError`].
    pub async fn resume(&self, kept: StoredRun, journal: String) -> Result<OpenedRun, RunStateError> {
        let StoredRun { name, mut record, version } = kept;
        let paths = RunPaths::new(&name);
        let targets = read::plan(&self.store, &paths).await?;
        self.add_runner_epoch(&mut record, journal);
        record.ended = None;
        record.layout = LAYOUT;
        let run = Write { path: paths.run().clone(), data: json::bytes(&record), version: Some(version) };
        let (version, clocks) = self.announce(&run, &[]).await?;
        // From here on no other process writes.
        let saved = read::statuses(&self.store, &paths, &targets, clocks).await?;
        let memory = read::memory(&self.store, &paths).await?;
        let sequence = u64::from(record.runner_epoch.saturating_sub(1)) * SEQUENCES_PER_EPOCH;
        let statuses = saved.iter().map(|(saved, _)| saved.clone()).collect();
        let resumed = Resumed { targets: statuses, memory, sequence };
        let run_state = RunStateWriter::new(&self.store, self.lease.path(), &name, (record, version), &targets, saved);
        let clock_ahead_ms = clocks.ahead_ms();
        Ok(OpenedRun { run_state: Arc::new(run_state), targets, resumed: Some(resumed), clock_ahead_ms })
    }

    /// Writes the run's node, and compares the store's time of the write with this machine's clock.
    async fn announce(&self, run: &Write, along: &[Op]) -> Result<(i32, Clocks), RunStateError> {
        let before_ms = self.store.clock().now_ms();
        let version = commit(self.store.as_ref(), self.lease.path(), run, along).await?;
        let after_ms = self.store.clock().now_ms();
        let node = self.store.read(&run.path).await?;
        Ok((version, Clocks::of_write(&node.stat, before_ms, after_ms)))
    }

    fn add_runner_epoch(&self, record: &mut RunRecord, journal: String) {
        record.runner_epoch += 1;
        let began = self.store.clock().now_ms();
        let (number, job_file) = (record.runner_epoch, self.job_file.clone());
        let runner_epoch = RunnerEpoch { number, runner: self.who.to_string(), journal, job_file, began };
        record.runner_epochs.push(runner_epoch);
        let many = record.runner_epochs.len().saturating_sub(MOST_EPOCHS);
        record.runner_epochs.drain(..many);
    }

    /// Creates a node below a run's own name, so no other process can have created it.
    async fn make(&self, path: &NodePath, data: Bytes) -> Result<(), RunStateError> {
        for _ in 0..2 {
            match self.store.create(path, data.clone(), NodeKind::Persistent).await {
                Ok(_) | Err(StoreError::NodeExists { .. }) => return Ok(()),
                Err(StoreError::NoNode { .. }) => {
                    let above = path.parent().unwrap_or_else(NodePath::root);
                    create_all(self.store.as_ref(), &above).await?;
                }
                // Sending the request again shows whether it happened.
                Err(StoreError::Ambiguous { .. }) => self.store.sync(path).await?,
                Err(error) => return Err(error.into()),
            }
        }
        match self.store.create(path, data, NodeKind::Persistent).await {
            Ok(_) | Err(StoreError::NodeExists { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// The targets in parts that fit into nodes.
fn parts(targets: &[Target]) -> Vec<Bytes> {
    let mut parts = Vec::new();
    let mut part: Vec<Planned> = Vec::new();
    let mut bytes = 0;
    for target in targets {
        let planned = Planned::from(target);
        bytes += planned.name.len() + planned.labels.iter().map(|(k, v)| k.len() + v.len() + 8).sum::<usize>() + 32;
        part.push(planned);
        if bytes >= PART_BYTES {
            parts.push(json::bytes(&std::mem::take(&mut part)));
            bytes = 0;
        }
    }
    parts.push(json::bytes(&part));
    parts
}
