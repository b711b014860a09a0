//! An orchestration's calls, as the run state and the journal record them.

use serde::{Deserialize, Serialize};

use crate::policy::orchestration::{Answer, Call};

/// A call that was carried out, with its answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Called {
    /// The call.
    #[serde(flatten)]
    pub call: Call,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
    /// When the call was made, in milliseconds since the Unix epoch.
    pub since: u64,
    /// When it was answered, in milliseconds since the Unix epoch.
    pub answered: u64,
}

/// A call that is not answered yet. A call with a time-out is written down before it is carried out, so that its time counts
/// from its beginning under every runner. So is a roll-back, because a target's status does not tell whether it has begun.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Begun {
    /// The call.
    #[serde(flatten)]
    pub call: Call,
    /// When the call was made, in milliseconds since the Unix epoch.
    pub since: u64,
    /// Of a roll-back: the number of attempts on its target before. One more means that it has begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
}
