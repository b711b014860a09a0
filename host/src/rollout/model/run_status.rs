//! The run status: what blocks a run and when it may end, for commands that read the store.

use serde::{Deserialize, Serialize};

use crate::rollout::model::{Begun, Counts};

/// A run's status, as its runner writes it about once a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RunStatus {
    /// The time of this status, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The version of the operator requests that the runner follows: it acknowledges them.
    pub requests: i32,
    /// How many targets have each status.
    #[serde(flatten)]
    pub counts: Counts,
    /// The wave in progress. `None` if the job has no waves, or none has started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wave: Option<WaveNow>,
    /// What blocked the last target that the policy decided about. `None` if nothing blocks targets.
    #[serde(rename = "blocker", skip_serializing_if = "Option::is_none")]
    pub waits: Option<Blocker>,
    /// The call that the orchestration waits for. `None` if it waits for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<Begun>,
    /// Why nothing new starts any more. `None` while targets may start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping: Option<String>,
    /// When the run may be over, by the mean time of actions so far, in milliseconds since the Unix epoch. `None` before the
    /// first action has succeeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_end: Option<u64>,
}

/// The wave in progress.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WaveNow {
    /// Its name.
    pub name: String,
    /// How many of its targets are final.
    pub done: u32,
    /// How many targets it has.
    pub of: u32,
}

/// What blocks targets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Blocker {
    /// A stable code: the policy's, or the hard limit's.
    pub code: String,
    /// The reason in one sentence.
    pub reason: String,
    /// When time alone may change that, in milliseconds since the Unix epoch. `None` if it takes something else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}
