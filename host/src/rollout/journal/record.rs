//! The content of a journal's lines.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::bounds::{Bounds, RecordedWave};
use crate::job::{Grant, Grants};
use crate::policy::types::{Admitted, Outcome, Settled, Target, View};
use crate::policy::{PolicyError, TraceLine};
use crate::rollout::model::Counts;

/// Version of the journal's format.
pub const VERSION: u32 = 3;

/// Longest accepted line, in bytes: a view of 100,000 members takes a tenth of it.
pub(super) const MAX_LINE: u64 = 64 * 1024 * 1024;

/// The text between a line's content and its hash.
pub(super) const BEFORE_HASH: &[u8] = br#","hash":""#;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// Version of the format: [`VERSION`].
    pub journal: u32,
    /// Name of the job.
    pub job: String,
    /// Name of the run.
    pub run: String,
    /// When the run started, in milliseconds since the Unix epoch.
    pub started: u64,
    /// SHA-256 of the job file, in hex.
    pub job_digest: String,
    /// Name of the policy in its manifest.
    pub policy: String,
    /// SHA-256 of the policy's component, in hex.
    pub policy_digest: String,
    /// Version of the policy contract.
    pub contract: String,
    /// Name and version of the program that wrote the journal.
    pub host: String,
    /// The policy's grants, spelled as in a job.
    pub grants: Vec<String>,
    /// The policy's settings.
    pub settings: Value,
    /// Number of the runner epoch, from 1.
    pub runner_epoch: u32,
    /// Number of the epoch's first decision.
    pub sequence: u64,
    /// The policy's memory before that decision.
    #[serde(default, with = "in_hex", skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<u8>,
    /// The job's hard limits, in absolute numbers.
    pub limits: Bounds,
    /// The targets in the plan's order.
    pub targets: Vec<String>,
    /// The orchestration. `None` if the job has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orchestration: Option<RecordedOrchestration>,
    /// The waves, which together contain all targets; empty if the job has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<RecordedWave>,
}

/// An orchestration and what its guest starts from in a runner epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RecordedOrchestration {
    /// Name in its manifest.
    pub name: String,
    /// SHA-256 of its component, in hex.
    pub digest: String,
    /// The orchestration's settings.
    pub settings: Value,
    /// The state in its last checkpoint, in hex. `None` if it starts from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// The time that its first call of `now` returns, in milliseconds since the Unix epoch.
    pub now: u64,
    /// The targets, as passed to the guest.
    pub targets: Vec<Target>,
}

impl Header {
    /// The policy's grants, parsed.
    #[must_use]
    pub fn grants(&self) -> Grants {
        Grant::ALL.into_iter().filter(|grant| self.grants.iter().any(|word| word == grant.as_str())).collect()
    }
}

/// Which of the contract's two questions was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuestionKind {
    /// Whether a target may start.
    Admit,
    /// What follows the end of an action.
    Settle,
}

/// One decision as written in a journal.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record<'a> {
    /// The question that it answers.
    pub question: QuestionKind,
    /// Sequence number of the view.
    pub sequence: u64,
    /// When it was made, in milliseconds since the Unix epoch.
    pub at: u64,
    /// Name of the target.
    pub target: &'a str,
    /// The verdict. `None` if the policy failed.
    pub verdict: Option<&'static str>,
    /// The answer, or the fault.
    pub answer: Value,
    /// Fuel that the policy used.
    pub fuel: u64,
    /// Trace lines of the policy.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub said: &'a [TraceLine],
    /// SHA-256 of the policy's component, in hex.
    pub policy_digest: &'a str,
    /// SHA-256 of `view` as written in this line.
    pub view_digest: String,
    /// The view that the policy was shown.
    pub view: &'a View,
    /// If present, `view` leaves out the party's members: they are those of the decision with this sequence number. The
    /// thousands of members of a fleet are written only when they change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members_as_of: Option<u64>,
    /// The outcome of the action, in a `settle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'a Outcome>,
    /// The memory after the decision, in hex, if it has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// A decision in a journal's words. The same decision always has the same words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<'a> {
    /// The verdict. `None` for a fault.
    pub verdict: Option<&'static str>,
    /// The answer, or the fault.
    pub answer: Value,
    /// The memory after the decision. `None` for a fault, which leaves the memory unchanged.
    pub memory: Option<&'a [u8]>,
}

impl<'a> From<&'a Result<Admitted, PolicyError>> for Written<'a> {
    fn from(answer: &'a Result<Admitted, PolicyError>) -> Self {
        let Admitted { verdict, code, reason, wake_after, memory } = match answer {
            Ok(answer) => answer,
            Err(error) => return Self::of_fault(error),
        };
        let answer = json!({ "verdict": verdict, "code": code, "reason": reason, "wake-after": wake_after });
        Self { verdict: Some(verdict.word()), answer, memory: Some(memory) }
    }
}

impl<'a> From<&'a Result<Settled, PolicyError>> for Written<'a> {
    fn from(answer: &'a Result<Settled, PolicyError>) -> Self {
        let Settled { verdict, code, reason, memory } = match answer {
            Ok(answer) => answer,
            Err(error) => return Self::of_fault(error),
        };
        let answer = json!({ "verdict": verdict, "code": code, "reason": reason });
        Self { verdict: Some(verdict.word()), answer, memory: Some(memory) }
    }
}

impl Written<'_> {
    fn of_fault(error: &PolicyError) -> Self {
        Self { verdict: None, answer: json!({ "fault": error.kind(), "message": error.to_string() }), memory: None }
    }
}

/// The closing line: how the runner epoch ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Closing {
    /// The stable word of the run's end, as in [`Event::Finished`](crate::rollout::model::Event::Finished).
    pub end: String,
    /// When the epoch ended, in milliseconds since the Unix epoch.
    pub ended: u64,
    /// Number of targets in each status.
    pub counts: Counts,
}

/// SHA-256 of bytes, in lower-case hex.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Serialises bytes as hex.
mod in_hex {
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        hex::decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
