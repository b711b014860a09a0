//! What a job's and a run's nodes hold.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::job::{Labels, Target, TargetName};
use crate::rollout::model::{Counts, OperatorRequest, RunStatus};
use lockkeeper_coordination::recipe::Holder;
use lockkeeper_coordination::store::NodePath;

/// The layout's version.
pub const LAYOUT: u32 = 2;

/// As many stints are remembered; the number goes on.
pub(super) const EPOCHS_KEPT: usize = 20;

/// A job's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct JobRecord {
    /// Its newest run.
    pub run: String,
}

/// A run's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunRecord {
    /// The layout's version: [`LAYOUT`].
    pub layout: u32,
    /// The job's name.
    pub job: String,
    /// What makes it another run: see [`RunRecord::digest_of`].
    pub digest: String,
    /// The policy's name, as its manifest has it.
    pub policy: String,
    /// The policy's sha256.
    pub policy_digest: String,
    /// When it began, in milliseconds since the Unix epoch.
    pub started: u64,
    /// How many targets.
    pub targets: u32,
    /// The semaphore.
    pub semaphore: NodePath,
    /// How many slots.
    pub slots: u32,
    /// How often somebody began to run it or went on with it, the first time included.
    pub runner_epoch: u32,
    /// The newest of those, oldest first.
    pub runner_epochs: Vec<RunnerEpoch>,
    /// How it ended; none: it is not finished, whether somebody runs it now or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// Somebody running a run, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunnerEpoch {
    /// Which, from 1.
    pub number: u32,
    /// Who: host and process.
    pub runner: String,
    /// Where its journal is, on that host.
    pub journal: String,
    /// The job's file on that host; `None` if an earlier version wrote it, or the run was only ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_file: Option<String>,
    /// Since when, in milliseconds since the Unix epoch.
    pub began: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Ended {
    /// The word of [`Event::Finished`](crate::rollout::model::Event::Finished).
    pub end: String,
    /// In one sentence.
    pub reason: String,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// How many targets stand where.
    pub counts: Counts,
}

impl Ended {
    /// How it ended and why, in few words.
    #[must_use]
    pub fn told(&self) -> String {
        match self.reason.starts_with(&self.end) {
            true => self.reason.clone(),
            false => format!("{}: {}", self.end, self.reason),
        }
    }
}

impl RunRecord {
    /// What a run is told from another of the same job by: the job's text, its inventory and its policy. Targets that a
    /// command or a party lists are looked up once, when the run begins.
    #[must_use]
    pub fn digest_of(job: &str, policy: &str, inventory: Option<&[u8]>) -> String {
        let inventory = inventory.map(crate::rollout::journal::digest).unwrap_or_default();
        crate::rollout::journal::digest(format!("{job} {policy} {inventory}").as_bytes())
    }

    /// Whether it was this runner that said so, and not an earlier one: by the runner's own clock.
    #[must_use]
    pub fn is_said_by(&self, runner: &Holder, run_status: &RunStatus) -> bool {
        self.newest_epoch()
            .is_some_and(|runner_epoch| runner_epoch.runner == runner.identifier && run_status.at >= runner_epoch.began)
    }

    /// Who runs it, or ran it last.
    #[must_use]
    pub fn newest_epoch(&self) -> Option<&RunnerEpoch> {
        self.runner_epochs.last()
    }
}

/// What people want of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RequestsRecord {
    /// Nothing new is to start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<OperatorRequest>,
    /// It is to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted: Option<OperatorRequest>,
    /// Waves that may begin.
    pub approved: BTreeMap<String, OperatorRequest>,
    /// Targets that are to go again.
    pub retry: BTreeMap<String, AboutVersion>,
    /// Targets whose failure was accepted.
    pub accepted: BTreeMap<String, AboutVersion>,
}

/// A wish about a target as it stands: it is void once the target's node has another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AboutVersion {
    /// The version of the target's node; none: it has none.
    pub version: Option<i32>,
    /// Who wants it, and why.
    #[serde(flatten)]
    pub request: OperatorRequest,
}

/// The policy's memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Memory {
    /// In hex.
    pub memory: String,
}

/// A target in the plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Planned {
    pub name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

impl From<&Target> for Planned {
    fn from(target: &Target) -> Self {
        Self { name: target.name.to_string(), labels: target.labels.clone() }
    }
}

impl TryFrom<Planned> for Target {
    type Error = crate::job::NameError;

    fn try_from(planned: Planned) -> Result<Self, Self::Error> {
        Ok(Self { name: TargetName::recorded(&planned.name)?, labels: planned.labels })
    }
}
