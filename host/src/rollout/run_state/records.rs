//! The content of a job's and a run's nodes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::job::{Labels, Target, TargetName};
use crate::rollout::model::{Counts, OperatorRequest, RunStatus};
use lockkeeper_coordination::recipe::Holder;
use lockkeeper_coordination::store::NodePath;

/// Version of the run state's layout.
pub const LAYOUT: u32 = 2;

/// Runner epochs that a run's record keeps; older ones are dropped, and their numbers are not used again.
pub(super) const MOST_EPOCHS: usize = 20;

/// A job's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct JobRecord {
    /// Name of the job's newest run.
    pub run: String,
}

/// A run's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunRecord {
    /// Version of the layout: [`LAYOUT`].
    pub layout: u32,
    /// Name of the job.
    pub job: String,
    /// Distinguishes runs with different inputs: see [`RunRecord::digest_of`].
    pub digest: String,
    /// Name of the policy in its manifest.
    pub policy: String,
    /// SHA-256 of the policy's component, in hex.
    pub policy_digest: String,
    /// When the run started, in milliseconds since the Unix epoch.
    pub started: u64,
    /// Number of targets.
    pub targets: u32,
    /// Path of the job's semaphore.
    pub semaphore: NodePath,
    /// Slots of that semaphore.
    pub slots: u32,
    /// Number of the newest runner epoch, from 1.
    pub runner_epoch: u32,
    /// The newest epochs, oldest first.
    pub runner_epochs: Vec<RunnerEpoch>,
    /// How the run ended. `None` if it is unfinished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<RunEnd>,
}

/// The tenure of one runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunnerEpoch {
    /// Number of the epoch, from 1.
    pub number: u32,
    /// The runner: host and process ID.
    pub runner: String,
    /// Folder of its journal, on that host.
    pub journal: String,
    /// The job's file on that host. `None` if an earlier version wrote the record, or the process only aborted the run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job_file: Option<String>,
    /// When the epoch started, in milliseconds since the Unix epoch.
    pub began: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunEnd {
    /// The stable word, as in [`Event::Finished`](crate::rollout::model::Event::Finished).
    pub end: String,
    /// The reason in one sentence.
    pub reason: String,
    /// When the run ended, in milliseconds since the Unix epoch.
    pub at: u64,
    /// Number of targets in each status.
    pub counts: Counts,
}

impl RunEnd {
    /// The end and its reason in one line.
    #[must_use]
    pub fn text(&self) -> String {
        match self.reason.starts_with(&self.end) {
            true => self.reason.clone(),
            false => format!("{}: {}", self.end, self.reason),
        }
    }
}

impl RunRecord {
    /// The digest of a run's inputs: the job's text, its inventory and its policy. A different digest means a new run.
    /// Targets that a command or a party lists are read once, when the run starts, and are not part of it.
    #[must_use]
    pub fn digest_of(job: &str, policy: &str, inventory: Option<&[u8]>) -> String {
        let inventory = inventory.map(crate::rollout::journal::digest).unwrap_or_default();
        crate::rollout::journal::digest(format!("{job} {policy} {inventory}").as_bytes())
    }

    /// Whether this runner wrote the status, not an earlier one: compares times by the runner's own clock.
    #[must_use]
    pub fn is_written_by(&self, runner: &Holder, run_status: &RunStatus) -> bool {
        self.newest_epoch()
            .is_some_and(|runner_epoch| runner_epoch.runner == runner.identifier && run_status.at >= runner_epoch.began)
    }

    /// The present runner epoch, or the last one.
    #[must_use]
    pub fn newest_epoch(&self) -> Option<&RunnerEpoch> {
        self.runner_epochs.last()
    }
}

/// The operator requests of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RequestsRecord {
    /// Start nothing new.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<OperatorRequest>,
    /// Abort the run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aborted: Option<OperatorRequest>,
    /// Approved waves.
    pub approved: BTreeMap<String, OperatorRequest>,
    /// Targets to retry.
    pub retry: BTreeMap<String, AboutVersion>,
    /// Targets whose failure is accepted.
    pub accepted: BTreeMap<String, AboutVersion>,
}

/// A request about one version of a target's record: it is void once the target's node has another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct AboutVersion {
    /// Version of the target's node. `None` if the node does not exist.
    pub version: Option<i32>,
    /// The operator, the time and the reason.
    #[serde(flatten)]
    pub request: OperatorRequest,
}

/// The policy's memory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Memory {
    /// Hexadecimal.
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
