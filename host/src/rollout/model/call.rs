//! An orchestration's calls, as the run state and the journal record them.

use serde::{Deserialize, Serialize};

use crate::policy::orchestration::{Answer, Call};

/// A call that was carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Called {
    /// What was called.
    #[serde(flatten)]
    pub call: Call,
    /// What was answered.
    #[serde(flatten)]
    pub answer: Answer,
    /// When it began, in milliseconds since the Unix epoch.
    pub since: u64,
    /// When it was answered, likewise.
    pub answered: u64,
}

/// A call that is not answered yet. One that waits by the clock is written down before it is carried out: its time is that
/// of its beginning, whoever goes on with it. So is a roll-back: what a target looks like does not say whether it has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Begun {
    /// What is called.
    #[serde(flatten)]
    pub call: Call,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
    /// Of a roll-back: how often something was begun on its target before. One more says that it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
}
