//! Replays decisions: asks a policy the recorded questions again and compares the answers.
//!
//! With the policy that made the decisions, every answer is the same, byte for byte: a decision is a function of
//! settings, view and memory. With another policy it is a back-test: each view is as recorded, although the run would
//! have continued differently.

use serde_json::{Value, json};

mod calls;

pub use calls::{CallDifference, NextStep, ReplayedCalls, Script, replay_calls};

use crate::job::Grants;
use crate::policy::{Decision, PolicyError, TraceLine};
use crate::rollout::driver::Decide;
use crate::rollout::journal::{QuestionKind, RecordedDecision, Written};

/// Faults that say nothing about the policy: the host's time limit ended the decision, or the host itself failed.
const HOST_FAULTS: [&str; 2] = ["out-of-time", "engine"];

/// Parts of an answer that are compared, in the order in which differences are shown.
const FIELDS: [&str; 6] = ["verdict", "code", "reason", "wake-after", "fault", "message"];

/// Asks a policy the questions of a journal in order; its memory passes from one to the next.
#[derive(Debug)]
pub struct Replay<'a, P> {
    policy: &'a P,
    settings: String,
    grants: Grants,
    memory: Vec<u8>,
}

/// A repeated decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedDecision {
    /// The verdict. `None` if the policy failed.
    pub verdict: Option<&'static str>,
    /// The answer, or the fault.
    pub answer: Value,
    /// Fuel that the policy used.
    pub fuel: u64,
    /// Trace lines of the policy.
    pub said: Vec<TraceLine>,
    /// The memory after the decision, if it has changed.
    pub memory: Option<Vec<u8>>,
}

/// A difference between two answers; a part that is missing is null.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Name of the part.
    pub field: &'static str,
    /// The recorded value.
    pub recorded: Value,
    /// The repeated value.
    pub again: Value,
}

impl<'a, P: Decide> Replay<'a, P> {
    /// Starts with empty memory, and with these settings and grants.
    pub fn new(policy: &'a P, settings: &Value, grants: Grants) -> Self {
        Self { policy, settings: settings.to_string(), grants, memory: Vec::new() }
    }

    /// Starts with the memory that a runner epoch started with.
    #[must_use]
    pub fn from(mut self, memory: Vec<u8>) -> Self {
        self.memory = memory;
        self
    }

    /// The memory after the last decision.
    #[must_use]
    pub fn into_memory(self) -> Vec<u8> {
        self.memory
    }

    /// Repeats a decision. Blocks for as long as the policy's limits allow.
    pub fn repeat(&mut self, recorded: &RecordedDecision) -> ReplayedDecision {
        let (settings, view, grants) = (&self.settings, &recorded.view, self.grants);
        match (recorded.question, &recorded.outcome) {
            (QuestionKind::Settle, Some(outcome)) => {
                let decision = self.policy.settle(settings, view, outcome, &self.memory, grants);
                self.taken(&decision)
            }
            // The reader rejects a `settle` without an outcome.
            (QuestionKind::Admit | QuestionKind::Settle, _) => {
                let decision = self.policy.admit(settings, view, &self.memory, grants);
                self.taken(&decision)
            }
        }
    }

    fn taken<'d, A>(&mut self, decision: &'d Decision<A>) -> ReplayedDecision
    where
        Written<'d>: From<&'d Result<A, PolicyError>>,
    {
        let Written { verdict, answer, memory } = Written::from(&decision.answer);
        let memory = memory.filter(|memory| *memory != self.memory).map(<[u8]>::to_vec);
        if let Some(memory) = &memory {
            self.memory.clone_from(memory);
        }
        ReplayedDecision { verdict, answer, fuel: decision.fuel, said: decision.trace.clone(), memory }
    }
}

/// Whether repeating a decision gives the same answer: not if the host's time limit ended it.
#[must_use]
pub fn is_repeatable(recorded: &RecordedDecision) -> bool {
    !recorded.answer["fault"].as_str().is_some_and(|fault| HOST_FAULTS.contains(&fault))
}

/// Every difference, including the fuel; empty if the decisions are identical.
#[must_use]
pub fn differences(recorded: &RecordedDecision, again: &ReplayedDecision) -> Vec<Difference> {
    let mut pairs: Vec<(&'static str, Value, Value)> =
        FIELDS.map(|field| (field, recorded.answer[field].clone(), again.answer[field].clone())).to_vec();
    pairs.push(("fuel", recorded.fuel.into(), again.fuel.into()));
    pairs.push(("memory", in_hex(recorded.memory.as_deref()), in_hex(again.memory.as_deref())));
    let said = again.said.iter().map(|line| json!(line)).collect();
    pairs.push(("said", Value::Array(recorded.said.clone()), Value::Array(said)));
    if recorded.answer["verdict"] == again.answer["verdict"] {
        // The verdict is repeated beside the answer.
        pairs.push(("verdict", recorded.verdict.as_deref().into(), again.verdict.into()));
    }
    let mut found: Vec<Difference> = pairs
        .into_iter()
        .filter(|(_, recorded, again)| recorded != again)
        .map(|(field, recorded, again)| Difference { field, recorded, again })
        .collect();
    // An answer has no other parts; a journal with others was not written by a run.
    if found.is_empty() && recorded.answer != again.answer {
        found.push(Difference { field: "answer", recorded: recorded.answer.clone(), again: again.answer.clone() });
    }
    found
}

/// Whether another policy decides differently: another verdict, code or fault.
#[must_use]
pub fn is_changed(recorded: &RecordedDecision, again: &ReplayedDecision) -> bool {
    ["verdict", "code", "fault"].iter().any(|field| recorded.answer[field] != again.answer[field])
}

fn in_hex(memory: Option<&[u8]>) -> Value {
    memory.map(hex::encode).into()
}
