//! A run as a command reads it that does not drive it.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::blockers::{self, SlotBlockers};
use super::calls::{self, RecordedCalls};
use super::error::RunStateError;
use super::held_slots::{self, HeldSlot};
use super::layout::RunPaths;
use super::read::{self, StoredRun, VersionedTarget};
use super::records::{AboutVersion, RequestsRecord};
use super::rerun::job_of;
use super::runner::Runner;
use crate::job::{JobSpec, OnUnknown, Target};
use crate::policy::types::Ending;
use crate::rollout::model::{
    Counts, Facts, OperatorRequest, Plan, RecordedStatus, Refusal, RunStatus, TargetRecord, Wave, WaveSpent,
};
use lockkeeper_coordination::recipe::{Holder, Semaphore, SemaphoreState};
use lockkeeper_coordination::store::Store;

/// Names of queued callers that are read at most.
const MOST_QUEUED: usize = 20;

/// What a run is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunPhase {
    /// A runner drives it.
    Running,
    /// It is unfinished, and no runner drives it.
    Abandoned,
    /// Its end is recorded.
    Finished,
}

/// A run in a list of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunSummary {
    /// Name and record of the run.
    pub stored: StoredRun,
    /// The runner. `None` if no runner drives the run.
    pub runner: Option<Holder>,
    /// Number of standby runners, which take over when the runner ends.
    pub standing_by: u32,
    /// The request that paused it. `None` if it is not paused.
    pub paused: Option<OperatorRequest>,
    /// Number of targets in each status.
    pub counts: Counts,
    /// What the run left behind. `None` if a runner drives it, or it is finished.
    pub left: Option<AbandonedRun>,
}

/// What an unfinished run without a runner leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbandonedRun {
    /// The last sign of its last runner, in milliseconds since the Unix epoch, by that runner's clock. A runner writes
    /// about once a second while actions are running.
    pub since_ms: u64,
    /// The slots that it still holds.
    pub slots: Vec<HeldSlot>,
}

/// Everything that the store has of a run.
#[derive(Debug, Clone)]
pub struct RunOverview {
    /// The same as in a list of runs.
    pub summary: RunSummary,
    /// The operator requests.
    pub requests: RequestsRecord,
    /// The last run status that a runner wrote, even if that runner has ended.
    pub run_status: Option<RunStatus>,
    /// The targets in the plan's order.
    pub targets: Vec<Target>,
    /// The record of each target, in the same order.
    pub statuses: Vec<VersionedTarget>,
    /// The job. `None` if this program cannot read it.
    pub job: Option<JobSpec>,
    /// The job's plan of these targets. `None` without a job.
    pub plan: Option<Plan>,
    /// The semaphore of the job.
    pub semaphore: SemaphoreState,
    /// The first entries of that semaphore's queue.
    pub queue: Vec<String>,
    /// The calls of its orchestration. `None` if it has no orchestration.
    pub calls: Option<RecordedCalls>,
    /// What blocks the orchestration. `None` if nothing blocks it.
    pub blockers: Option<SlotBlockers>,
    /// When this was read, in milliseconds since the Unix epoch, by this machine's clock.
    pub at: u64,
}

/// A wave and its progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveOverview<'a> {
    /// The wave in the plan.
    pub wave: &'a Wave,
    /// Number of the wave's targets in each status.
    pub counts: Counts,
    /// Progress of the wave.
    pub state: WaveState,
    /// The approval. `None` if it was not approved.
    pub approved: Option<&'a OperatorRequest>,
}

/// Progress of a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaveState {
    /// All its targets have a final status.
    Complete,
    /// At least one of its targets was started.
    Running,
    /// It is next and has not started.
    Next,
    /// It is next and waits for approval.
    NeedsApproval,
    /// Earlier waves come first.
    Later,
}

impl WaveState {
    /// The stable word for JSON and text.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Running => "running",
            Self::Next => "next",
            Self::NeedsApproval => "needs-approval",
            Self::Later => "later",
        }
    }
}

/// Why a run waits for an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldReason {
    /// An operator paused the run.
    Paused(OperatorRequest),
    /// The failure budget is used up, so nothing new starts.
    BudgetSpent {
        /// Number of failures that count, of the run or of the wave.
        charged: u32,
        /// Number of failures that stops the run or the wave.
        stop_at: u32,
        /// Number of failures that is never exceeded. `None` if the job sets no `max-failed`.
        max_failed: Option<u32>,
        /// The wave whose `stop-at` was reached. `None` if it is the job's.
        wave: Option<String>,
    },
    /// The outcome on these targets is unknown.
    Unknown(Vec<String>),
    /// This wave waits for approval.
    Approval(String),
}

impl RunSummary {
    /// What the run is doing, by its record and its runner.
    #[must_use]
    pub fn state(&self) -> RunPhase {
        match (&self.stored.record.ended, &self.runner) {
            (Some(_), _) => RunPhase::Finished,
            (None, Some(_)) => RunPhase::Running,
            (None, None) => RunPhase::Abandoned,
        }
    }

    async fn of(store: &Arc<dyn Store>, kept: StoredRun, is_newest: bool) -> Result<Self, RunStateError> {
        if let Some(ended) = &kept.record.ended {
            let counts = ended.counts;
            return Ok(Self { stored: kept, runner: None, standing_by: 0, paused: None, counts, left: None });
        }
        let (runner, standing_by) = match is_newest {
            true => Runner::of(store, &job_of(&kept)?).await?,
            false => (None, 0),
        };
        let paused = read::requests(store, &kept.name).await?.paused;
        let touched = read::touched(store, &RunPaths::new(&kept.name)).await?;
        let counts = counts(kept.record.targets, touched.iter().map(|saved| &saved.status));
        let left = match runner {
            Some(_) => None,
            None => Some(AbandonedRun::of(store, &kept, &touched).await?),
        };
        Ok(Self { stored: kept, runner, standing_by, paused, counts, left })
    }
}

impl AbandonedRun {
    async fn of(store: &Arc<dyn Store>, kept: &StoredRun, touched: &[TargetRecord]) -> Result<Self, RunStateError> {
        let said = read::run_status(store, &kept.name).await?.map(|run_status| run_status.at);
        let began = kept.record.newest_epoch().map_or(kept.record.started, |runner_epoch| runner_epoch.began);
        let since_ms = touched.iter().map(|saved| saved.at).chain(said).fold(began, u64::max);
        let targets = read::targets(store, &kept.name).await?;
        let statuses = read::statuses_of(store, &kept.name, &targets).await?;
        let each = targets.iter().zip(statuses.iter().map(|(saved, _)| saved));
        let slots = held_slots::held(store, &kept.name, &kept.record.semaphore, each).await?;
        Ok(Self { since_ms, slots })
    }
}

/// Every run, oldest first.
///
/// # Errors
/// If the store cannot be read.
pub async fn summaries(store: &Arc<dyn Store>) -> Result<Vec<RunSummary>, RunStateError> {
    let all = read::all(store).await?;
    let mut summaries = Vec::with_capacity(all.len());
    for (at, kept) in all.iter().enumerate() {
        let is_newest = !all[at + 1..].iter().any(|later| later.record.job == kept.record.job);
        match RunSummary::of(store, kept.clone(), is_newest).await {
            // The run was pruned meanwhile.
            Err(error) if error.is_gone() => {}
            summary => summaries.push(summary?),
        }
    }
    Ok(summaries)
}

impl RunOverview {
    /// Reads a run.
    ///
    /// # Errors
    /// If the store cannot be read.
    pub async fn read(store: &Arc<dyn Store>, run: &str) -> Result<Self, RunStateError> {
        let kept = read::run(store, run).await?;
        let is_newest = read::newest(store, &job_of(&kept)?).await?.is_some_and(|newest| newest.name == kept.name);
        let semaphore = Semaphore::new(Arc::clone(store), kept.record.semaphore.clone(), NonZeroU32::MIN);
        let targets = read::targets(store, run).await?;
        let text = read::job_text(store, run).await?;
        let job = JobSpec::parse("job", &text).ok();
        let plan = job.as_ref().map(|job| Plan::of(job, targets.clone()));
        let mut summary = RunSummary::of(store, kept, is_newest).await?;
        let statuses = read::statuses_of(store, run, &targets).await?;
        let total = u32::try_from(targets.len()).unwrap_or(u32::MAX);
        summary.counts = counts(total, statuses.iter().map(|(saved, _)| &saved.status));
        let (state, _) = semaphore.observe().await?;
        let has_orchestration = job.as_ref().is_some_and(|job| job.orchestration.is_some());
        let mut seen = Self {
            requests: read::requests(store, run).await?,
            run_status: read::run_status(store, run).await?,
            calls: if has_orchestration { Some(calls::calls(store, run).await?) } else { None },
            blockers: None,
            queue: if state.queued > 0 { semaphore.queue(MOST_QUEUED).await? } else { Vec::new() },
            semaphore: state,
            at: store.clock().now_ms(),
            summary,
            targets,
            statuses,
            job,
            plan,
        };
        if let Some(begun) = seen.run_status_of_runner().and_then(|run_status| run_status.calls.clone()) {
            seen.blockers = blockers::blockers(store, run, &begun).await?;
        }
        Ok(seen)
    }

    /// The status that the present runner wrote. `None` if no runner drives the run, or the present one has not written
    /// yet.
    #[must_use]
    pub fn run_status_of_runner(&self) -> Option<&RunStatus> {
        let runner = self.summary.runner.as_ref()?;
        let record = &self.summary.stored.record;
        self.run_status.as_ref().filter(|run_status| record.is_written_by(runner, run_status))
    }

    /// Each target's name with its record.
    pub fn each(&self) -> impl Iterator<Item = (&str, &VersionedTarget)> {
        self.targets.iter().map(|target| target.name.as_str()).zip(&self.statuses)
    }

    /// The targets with a request that is in force: their record has not changed since the request.
    #[must_use]
    pub fn in_force<'a>(
        &'a self,
        about: &'a std::collections::BTreeMap<String, AboutVersion>,
    ) -> Vec<(&'a str, &'a OperatorRequest)> {
        let still = |(name, (_, version)): (&'a str, &VersionedTarget)| {
            about.get(name).filter(|about| about.version == *version).map(|about| (name, &about.request))
        };
        self.each().filter_map(still).collect()
    }

    /// The target of this run that holds this lease.
    #[must_use]
    pub fn target_of(&self, holder: &Holder) -> Option<&TargetRecord> {
        let mut all = self.statuses.iter().map(|(saved, _)| saved);
        all.find(|saved| saved.lease.as_ref().is_some_and(|lease| lease.path == holder.path))
    }

    /// The waves in order; empty if the job has none.
    #[must_use]
    pub fn waves(&self) -> Vec<WaveOverview<'_>> {
        let waves = self.plan.as_ref().map_or(&[][..], |plan| &plan.waves);
        let mut is_complete_before = true;
        let seen = waves.iter().map(|wave| {
            let of = self.statuses.get(wave.targets.clone()).unwrap_or_default();
            let total = u32::try_from(of.len()).unwrap_or(u32::MAX);
            let counts = counts(total, of.iter().map(|(saved, _)| &saved.status));
            let approved = self.requests.approved.get(&wave.name);
            let has_begun = of.iter().any(|(_, version)| version.is_some());
            let state = match (counts.open(), is_complete_before) {
                (0, _) => WaveState::Complete,
                (_, false) => WaveState::Later,
                _ if has_begun => WaveState::Running,
                _ if wave.approve && approved.is_none() => WaveState::NeedsApproval,
                _ => WaveState::Next,
            };
            is_complete_before &= state == WaveState::Complete;
            WaveOverview { wave, counts, state, approved }
        });
        seen.collect()
    }

    /// The name of the target's wave.
    #[must_use]
    pub fn wave_of(&self, target: usize) -> Option<&str> {
        self.plan.as_ref()?.wave_of(target).map(|wave| wave.name.as_str())
    }

    /// Why the run waits for an operator; empty if it does not.
    #[must_use]
    pub fn hold_reasons(&self) -> Vec<HoldReason> {
        let mut held: Vec<HoldReason> = self.requests.paused.iter().cloned().map(HoldReason::Paused).collect();
        if self.summary.counts.open() == 0 {
            return held;
        }
        let waves = self.waves().into_iter().filter(|wave| wave.state == WaveState::NeedsApproval);
        held.extend(waves.map(|wave| HoldReason::Approval(wave.wave.name.to_string())));
        let requests = [&self.requests.accepted, &self.requests.retry];
        let taken: Vec<&str> =
            requests.into_iter().flat_map(|about| self.in_force(about)).map(|(name, _)| name).collect();
        let left = |is: fn(&RecordedStatus) -> bool| {
            let of = self.each().filter(move |(_, (saved, _))| is(&saved.status));
            of.map(|(name, _)| name).filter(|name| !taken.contains(name)).map(str::to_owned).collect::<Vec<_>>()
        };
        let unknown = left(|status| matches!(status, RecordedStatus::Unknown { .. }));
        let holds = self.job.as_ref().is_some_and(|job| job.action.on_unknown == OnUnknown::Hold);
        // An unknown target that holds the run is retried or accepted first, and counts only after that.
        let charged = match holds {
            true => left(|status| status.is_charged() && !matches!(status, RecordedStatus::Unknown { .. })),
            false => left(RecordedStatus::is_charged),
        };
        held.extend(self.plan.as_ref().and_then(|plan| self.spent(plan, &charged)));
        if !unknown.is_empty() && holds {
            held.push(HoldReason::Unknown(unknown));
        }
        held
    }
}

impl RunOverview {
    /// Whether the failure budget is used up; `charged` are the targets whose failures count.
    fn spent(&self, plan: &Plan, charged: &[String]) -> Option<HoldReason> {
        let names: HashSet<&str> = charged.iter().map(String::as_str).collect();
        let wave_spent = plan.waves.iter().find_map(|wave| {
            let stop_at = wave.stop_at?;
            let of = self.targets.get(wave.targets.clone()).unwrap_or_default();
            let failed = count(of.iter().filter(|target| names.contains(target.name.as_str())).count());
            (failed >= stop_at).then(|| WaveSpent { wave: wave.name.clone(), failed, stop_at })
        });
        match plan.limits.spent(&Facts { failed: count(charged.len()), wave_spent, ..Facts::default() })? {
            Refusal::BudgetSpent { failed: charged, stop_at, wave } => {
                Some(HoldReason::BudgetSpent { charged, stop_at, max_failed: plan.limits.budget.max_failed, wave })
            }
            _ => None,
        }
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// Counts the statuses of `total` targets, of which only `touched` have a record.
pub(super) fn counts<'a>(total: u32, touched: impl Iterator<Item = &'a RecordedStatus>) -> Counts {
    let mut counts = Counts { total, ..Counts::default() };
    let mut known = 0;
    for status in touched {
        known += 1;
        let status = match status {
            RecordedStatus::RollBackEnded { becomes } => becomes,
            status => status,
        };
        *match status {
            // What follows the end is not decided yet; the ending is known.
            RecordedStatus::ActionEnded { ending: Ending::Succeeded, .. } => &mut counts.succeeded,
            RecordedStatus::ActionEnded { .. } => &mut counts.failed,
            RecordedStatus::Pending => &mut counts.pending,
            RecordedStatus::Leased | RecordedStatus::RollBackLeased { .. } => &mut counts.waiting,
            RecordedStatus::Running
            | RecordedStatus::KeepingSlot { .. }
            | RecordedStatus::Retrying { .. }
            | RecordedStatus::RollingBack { .. }
            | RecordedStatus::RollBackEnded { .. } => &mut counts.running,
            RecordedStatus::Succeeded { .. } => &mut counts.succeeded,
            RecordedStatus::Failed { .. } => &mut counts.failed,
            RecordedStatus::Unknown { .. } => &mut counts.unknown,
            RecordedStatus::RolledBack { .. } => &mut counts.rolled_back,
            RecordedStatus::Skipped { .. } => &mut counts.skipped,
        } += 1;
    }
    counts.pending += total.saturating_sub(known);
    counts
}
