//! What a run waits for now, and when it may be over: for whoever looks from elsewhere.

use serde::{Deserialize, Serialize};

use crate::rollout::model::{Begun, Counts};

/// Where a run stands, as its runner says about once a second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct RunStatus {
    /// When this was so, in milliseconds since the Unix epoch.
    pub at: u64,
    /// The version of the wishes that it goes by.
    pub requests: i32,
    /// How many targets stand where.
    #[serde(flatten)]
    pub counts: Counts,
    /// The wave that goes now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wave: Option<WaveNow>,
    /// What kept the last from going who was asked about; none: nothing does.
    #[serde(rename = "blocker", skip_serializing_if = "Option::is_none")]
    pub waits: Option<Blocker>,
    /// What the orchestration waits for; none: there is none, or it computes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<Begun>,
    /// That nothing new starts any more, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopping: Option<String>,
    /// When it may be over, going by the time that actions have taken so far, in milliseconds since the Unix epoch; none:
    /// nobody can say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimated_end: Option<u64>,
}

/// The wave that goes now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct WaveNow {
    /// Its name.
    pub name: String,
    /// How many of its targets are done with.
    pub done: u32,
    /// Of how many.
    pub of: u32,
}

/// What keeps targets from going.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Blocker {
    /// A stable code: the policy's, or the hard limit's.
    pub code: String,
    /// In one sentence.
    pub reason: String,
    /// When the clock alone may change that, in milliseconds since the Unix epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}
