//! Who runs a job: one process at a time, and its runs.

use std::num::NonZeroU32;
use std::sync::Arc;

use bytes::Bytes;

use super::clocks::Clocks;
use super::commit::{Write, commit};
use super::error::RunStateError;
use super::layout::{self, RunPaths};
use super::read::{self, Kept};
use super::records::{EPOCHS_KEPT, JobRecord, LAYOUT, Memory, Planned, RequestsRecord, RunRecord, RunnerEpoch};
use super::writer::RunStateWriter;
use crate::job::{JobName, Target};
use crate::rollout::model::{Resumed, TargetRecord};
use lockkeeper_coordination::recipe::{Acquired, Holder, Identifier, Lease, Loss, Patience, Semaphore};
use lockkeeper_coordination::store::{Lifetime, NodeKind, NodePath, Op, Store, StoreError, Version, create_all};

/// As many bytes of targets go into one node of the plan.
const PART_BYTES: usize = 400_000;

/// Decisions of a stint are numbered from here, times the stints before it: two that took over from each other do not give
/// one number twice.
pub const SEQUENCES_PER_EPOCH: u64 = 10_000_000;

/// The one process that runs a job: while this lives and its session does, nobody else writes what the job's runs are.
///
/// # Guarantees
/// Every write is one transaction with a look at our lease: it happens only while we are the runner.
/// # On session loss
/// The lease is gone, and somebody else may become the runner. [`Runner::lost`] resolves.
#[derive(Debug)]
pub struct Runner {
    store: Arc<dyn Store>,
    semaphore: Semaphore,
    job: JobName,
    who: Identifier,
    lease: Lease,
    job_file: Option<String>,
}

/// A run of this runner's, and what is known of it.
#[derive(Debug)]
pub struct Opened {
    /// Where its state is written.
    pub run_state: Arc<RunStateWriter>,
    /// Its targets, in their order.
    pub targets: Vec<Target>,
    /// What an earlier runner left; none: it is new.
    pub resumed: Option<Resumed>,
    /// How far this machine's clock is ahead of the store's, in milliseconds.
    pub clock_ahead_ms: i64,
}

/// A run that is to begin.
#[derive(Debug)]
pub struct NewRun {
    /// Its name; no other run has it.
    pub name: String,
    /// What it is; its stints are filled in.
    pub record: RunRecord,
    /// The job's text.
    pub job_text: String,
    /// The targets, in their order.
    pub targets: Vec<Target>,
    /// Where its journal is.
    pub journal: String,
}

impl Runner {
    /// The semaphore whose holder runs a job.
    fn semaphore(store: &Arc<dyn Store>, job: &JobName) -> Semaphore {
        Semaphore::new(Arc::clone(store), layout::runner(job), NonZeroU32::MIN)
    }

    /// Who runs a job now, and who stands by, by their numbers.
    ///
    /// # Errors
    /// As the store's.
    pub async fn of(store: &Arc<dyn Store>, job: &JobName) -> Result<(Option<Holder>, u32), RunStateError> {
        let (state, _) = Self::semaphore(store, job).observe().await?;
        Ok((state.holders.into_iter().next(), state.queued))
    }

    /// Waits until nobody else runs the job, or not, as `patience` says.
    ///
    /// # Errors
    /// [`LedgerError::Runner`]: somebody else runs it still.
    ///
    /// # Cancel safety
    /// Dropped, it leaves nothing behind.
    pub async fn become_one(
        store: &Arc<dyn Store>,
        job: &JobName,
        who: Identifier,
        patience: Patience,
    ) -> Result<Self, RunStateError> {
        let semaphore = Self::semaphore(store, job);
        let Acquired { lease, .. } = semaphore.acquire(&who, Lifetime::Ephemeral, patience).await?;
        Ok(Self { store: Arc::clone(store), semaphore, job: job.clone(), who, lease, job_file: None })
    }

    /// The same, which records where the job's file is on this host, for the command that resumes its run.
    #[must_use]
    pub fn with_job_file(self, file: String) -> Self {
        Self { job_file: Some(file), ..self }
    }

    /// Who we are: host and process.
    #[must_use]
    pub fn who(&self) -> &Identifier {
        &self.who
    }

    /// Waits until we are not the runner any more, and says how.
    pub async fn lost(&self) -> Loss {
        self.lease.lost().await
    }

    /// Until when nobody else can be the runner: see [`Lease::safe_until`].
    #[must_use]
    pub fn safe_until(&self, loss: Loss) -> tokio::time::Instant {
        self.lease.safe_until(loss)
    }

    /// The session.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    /// Lets somebody else run it.
    pub async fn step_down(self) {
        // The end of the session does it as well.
        let _ = self.lease.release().await;
        self.semaphore.settled().await;
    }

    /// The job's newest run.
    ///
    /// # Errors
    /// As the store's; a node that is none of ours.
    pub async fn newest(&self) -> Result<Option<Kept>, RunStateError> {
        read::newest(&self.store, &self.job).await
    }

    /// Begins a run. Until the last request it is nothing: whoever looks finds the run before it.
    ///
    /// # Errors
    /// [`LedgerError`]; what was made of it is swept by [`delete_stillborn`](super::delete_stillborn).
    pub async fn begin(&self, new: NewRun) -> Result<Opened, RunStateError> {
        let NewRun { name, mut record, job_text, targets, journal } = new;
        let paths = RunPaths::new(&name);
        self.make(paths.run(), Bytes::new()).await?;
        for folder in [paths.plan(), paths.targets()] {
            self.make(&folder, Bytes::new()).await?;
        }
        self.make(&paths.job_text(), Bytes::from(job_text)).await?;
        self.make(&paths.memory(), read::bytes(&Memory::default())).await?;
        self.make(&paths.requests(), read::bytes(&RequestsRecord::default())).await?;
        for (part, targets) in parts(&targets).into_iter().enumerate() {
            self.make(&paths.plan_part(part), targets).await?;
        }
        self.add_runner_epoch(&mut record, journal);
        let run = Write { path: paths.run().clone(), data: read::bytes(&record), version: Some(0) };
        let pointer = Op::Set {
            path: layout::job(&self.job),
            data: read::bytes(&JobRecord { run: name.clone() }),
            version: Version::Any,
        };
        let (version, clocks) = self.announce(&run, &[pointer]).await?;
        let saved = vec![(TargetRecord::default(), None); targets.len()];
        let run_state = RunStateWriter::new(&self.store, self.lease.path(), &name, (record, version), &targets, saved);
        Ok(Opened { run_state: Arc::new(run_state), targets, resumed: None, clock_ahead_ms: clocks.ahead_ms() })
    }

    /// Goes on with a run that is not finished.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub async fn go_on(&self, kept: Kept, journal: String) -> Result<Opened, RunStateError> {
        let Kept { name, mut record, version } = kept;
        let paths = RunPaths::new(&name);
        let targets = read::plan(&self.store, &paths).await?;
        self.add_runner_epoch(&mut record, journal);
        record.ended = None;
        record.layout = LAYOUT;
        let run = Write { path: paths.run().clone(), data: read::bytes(&record), version: Some(version) };
        let (version, clocks) = self.announce(&run, &[]).await?;
        // Only now nobody else writes any more.
        let saved = read::statuses(&self.store, &paths, &targets, clocks).await?;
        let memory = read::memory(&self.store, &paths).await?;
        let sequence = u64::from(record.runner_epoch.saturating_sub(1)) * SEQUENCES_PER_EPOCH;
        let statuses = saved.iter().map(|(saved, _)| saved.clone()).collect();
        let resumed = Resumed { targets: statuses, memory, sequence };
        let run_state = RunStateWriter::new(&self.store, self.lease.path(), &name, (record, version), &targets, saved);
        let clock_ahead_ms = clocks.ahead_ms();
        Ok(Opened { run_state: Arc::new(run_state), targets, resumed: Some(resumed), clock_ahead_ms })
    }

    /// Writes the run's node, and compares the time that the store puts to it with this machine's.
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
        let many = record.runner_epochs.len().saturating_sub(EPOCHS_KEPT);
        record.runner_epochs.drain(..many);
    }

    /// Makes a node below a run's own name: nobody else can have made it.
    async fn make(&self, path: &NodePath, data: Bytes) -> Result<(), RunStateError> {
        for _ in 0..2 {
            match self.store.create(path, data.clone(), NodeKind::Persistent).await {
                Ok(_) | Err(StoreError::NodeExists { .. }) => return Ok(()),
                Err(StoreError::NoNode { .. }) => {
                    let above = path.parent().unwrap_or_else(NodePath::root);
                    create_all(self.store.as_ref(), &above).await?;
                }
                // The same request tells whether it happened.
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
            parts.push(read::bytes(&std::mem::take(&mut part)));
            bytes = 0;
        }
    }
    parts.push(read::bytes(&part));
    parts
}
