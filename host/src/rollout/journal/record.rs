//! What the lines hold.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::bounds::{Bounds, Together};
use crate::job::{Grant, Grants};
use crate::policy::types::{Admitted, Outcome, Settled, Target, View};
use crate::policy::{PolicyError, TraceLine};
use crate::rollout::model::Counts;

/// The format's version.
pub const VERSION: u32 = 3;

/// What comes between a line's content and its hash.
pub(super) const BEFORE_HASH: &[u8] = br#","hash":""#;

/// The first line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// The format's version.
    pub journal: u32,
    /// The job's name.
    pub job: String,
    /// The run's name.
    pub run: String,
    /// When it started, in milliseconds since the Unix epoch.
    pub started: u64,
    /// The job file's sha256.
    pub job_digest: String,
    /// The policy's name, as its manifest has it.
    pub policy: String,
    /// The policy's sha256.
    pub policy_digest: String,
    /// The contract that it speaks.
    pub contract: String,
    /// The program that wrote this.
    pub host: String,
    /// What the job grants the policy, as a job spells it.
    pub grants: Vec<String>,
    /// The policy's settings.
    pub settings: Value,
    /// Which stint this is of the run: 1, and one more with every runner that goes on with it.
    pub runner_epoch: u32,
    /// The number of its first decision.
    pub sequence: u64,
    /// The policy's memory before that, in hex.
    #[serde(default, with = "in_hex", skip_serializing_if = "Vec::is_empty")]
    pub memory: Vec<u8>,
    /// The job's hard limits, in numbers for its targets.
    pub limits: Bounds,
    /// The targets, in the plan's order.
    pub targets: Vec<String>,
    /// What its orchestration begins with; none: the job has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orchestration: Option<Orchestrated>,
    /// The waves, which have all of them among them; none where the job has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Together>,
}

/// An orchestration, and what it begins with in a stint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Orchestrated {
    /// Its name, as its manifest has it.
    pub name: String,
    /// Its sha256.
    pub digest: String,
    /// Its settings.
    pub settings: Value,
    /// What its last checkpoint holds, in hex; none: it begins from the start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// What time it is then, in milliseconds since the Unix epoch.
    pub now: u64,
    /// The targets, as it is given them.
    pub targets: Vec<Target>,
}

impl Header {
    /// What the job grants the policy.
    #[must_use]
    pub fn grants(&self) -> Grants {
        Grant::ALL.into_iter().filter(|grant| self.grants.iter().any(|word| word == grant.as_str())).collect()
    }
}

/// Which of the contract's two questions was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asked {
    /// May this target go?
    Admit,
    /// It acted; what now?
    Settle,
}

/// One decision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record<'a> {
    /// Which question it answers.
    pub question: Asked,
    /// The view's sequence number.
    pub sequence: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// About which target.
    pub target: &'a str,
    /// The verdict; none where the policy failed.
    pub verdict: Option<&'static str>,
    /// The answer, or the fault.
    pub answer: Value,
    /// Fuel burnt.
    pub fuel: u64,
    /// What the policy said meanwhile.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub said: &'a [TraceLine],
    /// The sha256 of the policy.
    pub policy_digest: &'a str,
    /// The sha256 of `view` as it stands here.
    pub view_digest: String,
    /// What the policy was shown.
    pub view: &'a View,
    /// The party's members are left out of `view`: they are those of the decision with this sequence number. A fleet's
    /// thousands are written down when they change, and not with every decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members_as_of: Option<u64>,
    /// How the action ended, in a `settle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'a Outcome>,
    /// The memory that the decision left, in hex, where it is another than before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// What a decision came to, in a journal's words: the same words whenever it is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<'a> {
    /// The verdict's word; none for a fault.
    pub verdict: Option<&'static str>,
    /// The answer, or the fault.
    pub answer: Value,
    /// The memory that it leaves; none for a fault, which leaves what was there.
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

/// The last line, with how the stint ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Closing {
    /// How the run ended: the word of [`Event::Finished`](crate::rollout::model::Event::Finished).
    pub end: String,
    /// When, in milliseconds since the Unix epoch.
    pub ended: u64,
    /// How many targets stand where.
    pub counts: Counts,
}

/// The sha256 of bytes, in lower-case hex.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Bytes, as a line has them.
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
