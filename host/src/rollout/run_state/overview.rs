//! A run as somebody sees it who only looks.

use std::collections::HashSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use super::blockers::{self, Blockers};
use super::calls::{self, Known};
use super::error::RunStateError;
use super::held_slots::{self, HeldSlot};
use super::layout::RunPaths;
use super::read::{self, Kept, StatusOf};
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

/// How many of those who queue are named.
const MOST_QUEUED: usize = 20;

/// What becomes of a run now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunPhase {
    /// Somebody runs it.
    Running,
    /// It is not finished, and nobody runs it.
    Abandoned,
    /// It is finished.
    Finished,
}

/// A run in a list of runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The run.
    pub kept: Kept,
    /// Who runs it; none: nobody, or it is finished.
    pub runner: Option<Holder>,
    /// How many stand by, to take it over.
    pub standing_by: u32,
    /// Who paused it.
    pub paused: Option<OperatorRequest>,
    /// How many targets stand where.
    pub counts: Counts,
    /// What there is to say while no runner drives it; `None` if one does, or it is finished.
    pub left: Option<Left>,
}

/// That no runner drives a run which is not finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Since when at the latest, in milliseconds since the Unix epoch: when its last runner wrote for the last time, which it does
    /// about once a second while it acts, by that runner's clock.
    pub since_ms: u64,
    /// What it holds still.
    pub slots: Vec<HeldSlot>,
}

/// All that there is to see of a run.
#[derive(Debug, Clone)]
pub struct Seen {
    /// As in a list.
    pub summary: Summary,
    /// What people want of it.
    pub requests: RequestsRecord,
    /// What its runner said last; of an earlier one's where nobody runs it.
    pub run_status: Option<RunStatus>,
    /// Its targets, in their order.
    pub targets: Vec<Target>,
    /// Where each of them stands.
    pub statuses: Vec<StatusOf>,
    /// Its job, as far as this program can read it.
    pub job: Option<JobSpec>,
    /// That job's plan of these targets.
    pub plan: Option<Plan>,
    /// Whose slots they take.
    pub semaphore: SemaphoreState,
    /// The first of those who queue for them.
    pub queue: Vec<String>,
    /// What its orchestration called; none: it has none.
    pub calls: Option<Known>,
    /// Whom that waits for.
    pub blockers: Option<Blockers>,
    /// When this was seen, in milliseconds since the Unix epoch, by our clock.
    pub at: u64,
}

/// A wave, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaveSeen<'a> {
    /// The wave.
    pub wave: &'a Wave,
    /// How many of its targets stand where.
    pub counts: Counts,
    /// How far it has come.
    pub state: WaveState,
    /// Who approved of it.
    pub approved: Option<&'a OperatorRequest>,
}

/// How far a wave has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WaveState {
    /// It is done with.
    Complete,
    /// It goes.
    Going,
    /// It is the next, and has not begun.
    Next,
    /// It is the next, and waits for somebody to approve of it.
    NeedsApproval,
    /// Others go before it.
    Later,
}

impl WaveState {
    /// A stable word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Going => "going",
            Self::Next => "next",
            Self::NeedsApproval => "needs-approval",
            Self::Later => "later",
        }
    }
}

/// What a run waits for until somebody does something about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Held {
    /// It is paused.
    Paused(OperatorRequest),
    /// So many failed that nothing new starts.
    BudgetSpent {
        /// How many failures count: of the run, or of the wave.
        charged: u32,
        /// How many stop the run.
        stop_at: u32,
        /// How many may fail at most. `None` if the job does not say.
        max_failed: Option<u32>,
        /// The wave whose `stop-at` that is. `None` if it is the job's.
        wave: Option<String>,
    },
    /// Nobody knows how it went on these targets.
    Unknown(Vec<String>),
    /// This wave is the next, and wants somebody to approve of it.
    Approval(String),
}

impl Summary {
    /// What becomes of it now.
    #[must_use]
    pub fn state(&self) -> RunPhase {
        match (&self.kept.record.ended, &self.runner) {
            (Some(_), _) => RunPhase::Finished,
            (None, Some(_)) => RunPhase::Running,
            (None, None) => RunPhase::Abandoned,
        }
    }

    async fn of(store: &Arc<dyn Store>, kept: Kept, is_newest: bool) -> Result<Self, RunStateError> {
        if let Some(ended) = &kept.record.ended {
            let counts = ended.counts;
            return Ok(Self { kept, runner: None, standing_by: 0, paused: None, counts, left: None });
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
            None => Some(Left::of(store, &kept, &touched).await?),
        };
        Ok(Self { kept, runner, standing_by, paused, counts, left })
    }
}

impl Left {
    async fn of(store: &Arc<dyn Store>, kept: &Kept, touched: &[TargetRecord]) -> Result<Self, RunStateError> {
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
/// As the store's.
pub async fn summaries(store: &Arc<dyn Store>) -> Result<Vec<Summary>, RunStateError> {
    let all = read::all(store).await?;
    let mut summaries = Vec::with_capacity(all.len());
    for (at, kept) in all.iter().enumerate() {
        let is_newest = !all[at + 1..].iter().any(|later| later.record.job == kept.record.job);
        match Summary::of(store, kept.clone(), is_newest).await {
            // Pruned meanwhile.
            Err(error) if error.is_gone() => {}
            summary => summaries.push(summary?),
        }
    }
    Ok(summaries)
}

impl Seen {
    /// Looks at a run.
    ///
    /// # Errors
    /// As the store's.
    pub async fn look(store: &Arc<dyn Store>, run: &str) -> Result<Self, RunStateError> {
        let kept = read::run(store, run).await?;
        let is_newest = read::newest(store, &job_of(&kept)?).await?.is_some_and(|newest| newest.name == kept.name);
        let semaphore = Semaphore::new(Arc::clone(store), kept.record.semaphore.clone(), NonZeroU32::MIN);
        let targets = read::targets(store, run).await?;
        let text = read::job_text(store, run).await?;
        let job = JobSpec::parse("job", &text).ok();
        let plan = job.as_ref().map(|job| Plan::of(job, targets.clone()));
        let mut summary = Summary::of(store, kept, is_newest).await?;
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

    /// What the runner said that there is now; none where nobody runs it.
    #[must_use]
    pub fn run_status_of_runner(&self) -> Option<&RunStatus> {
        let runner = self.summary.runner.as_ref()?;
        let record = &self.summary.kept.record;
        self.run_status.as_ref().filter(|run_status| record.is_said_by(runner, run_status))
    }

    /// Each target by its name, with where it stands.
    pub fn each(&self) -> impl Iterator<Item = (&str, &StatusOf)> {
        self.targets.iter().map(|target| target.name.as_str()).zip(&self.statuses)
    }

    /// The targets that a wish about them is in force for: they stand as they did when it was said.
    #[must_use]
    pub fn in_force<'a>(
        &'a self,
        about: &'a std::collections::BTreeMap<String, AboutVersion>,
    ) -> Vec<(&'a str, &'a OperatorRequest)> {
        let still = |(name, (_, version)): (&'a str, &StatusOf)| {
            about.get(name).filter(|about| about.version == *version).map(|about| (name, &about.request))
        };
        self.each().filter_map(still).collect()
    }

    /// The target of this run that holds a lease of the semaphore.
    #[must_use]
    pub fn target_of(&self, holder: &Holder) -> Option<&TargetRecord> {
        let mut all = self.statuses.iter().map(|(saved, _)| saved);
        all.find(|saved| saved.lease.as_ref().is_some_and(|lease| lease.path == holder.path))
    }

    /// Its waves, in their order; none where its job has none.
    #[must_use]
    pub fn waves(&self) -> Vec<WaveSeen<'_>> {
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
                _ if has_begun => WaveState::Going,
                _ if wave.approve && approved.is_none() => WaveState::NeedsApproval,
                _ => WaveState::Next,
            };
            is_complete_before &= state == WaveState::Complete;
            WaveSeen { wave, counts, state, approved }
        });
        seen.collect()
    }

    /// The wave that a target is in.
    #[must_use]
    pub fn wave_of(&self, target: usize) -> Option<&str> {
        self.plan.as_ref()?.wave_of(target).map(|wave| wave.name.as_str())
    }

    /// What it waits for until somebody does something about it.
    #[must_use]
    pub fn held(&self) -> Vec<Held> {
        let mut held: Vec<Held> = self.requests.paused.iter().cloned().map(Held::Paused).collect();
        if self.summary.counts.open() == 0 {
            return held;
        }
        let waves = self.waves().into_iter().filter(|wave| wave.state == WaveState::NeedsApproval);
        held.extend(waves.map(|wave| Held::Approval(wave.wave.name.to_string())));
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
            held.push(Held::Unknown(unknown));
        }
        held
    }
}

impl Seen {
    /// That so many failed that nothing new starts; `charged` are the targets whose failures count.
    fn spent(&self, plan: &Plan, charged: &[String]) -> Option<Held> {
        let names: HashSet<&str> = charged.iter().map(String::as_str).collect();
        let wave_spent = plan.waves.iter().find_map(|wave| {
            let stop_at = wave.stop_at?;
            let of = self.targets.get(wave.targets.clone()).unwrap_or_default();
            let failed = count(of.iter().filter(|target| names.contains(target.name.as_str())).count());
            (failed >= stop_at).then(|| WaveSpent { wave: wave.name.clone(), failed, stop_at })
        });
        match plan.limits.spent(&Facts { failed: count(charged.len()), wave_spent, ..Facts::default() })? {
            Refusal::BudgetSpent { failed: charged, stop_at, wave } => {
                Some(Held::BudgetSpent { charged, stop_at, max_failed: plan.limits.budget.max_failed, wave })
            }
            _ => None,
        }
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

/// How many targets stand where, of so many of which these were touched.
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
            // What follows from the end is not decided yet; how it ended is known.
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
