//! Decisions taken again: the recorded question put to a policy once more, and what is different then.
//!
//! With the policy that took them, every answer is the same, byte for byte: a decision is a function of settings, view
//! and memory. With another policy it is a back-test: each view is as it was recorded, however differently the run would
//! have gone on.

use serde_json::{Value, json};

mod calls;

pub use calls::{Otherwise, Recalled, Script, Then, recall};

use crate::job::Grants;
use crate::policy::{Decision, PolicyError, TraceLine};
use crate::rollout::driver::Decide;
use crate::rollout::journal::{QuestionKind, RecordedDecision, Written};

/// Faults that say nothing about the policy: the host's clock ended it, or the host itself failed.
const OF_THE_HOST: [&str; 2] = ["out-of-time", "engine"];

/// What of an answer can differ, in the order in which it is told.
const FIELDS: [&str; 6] = ["verdict", "code", "reason", "wake-after", "fault", "message"];

/// Puts a journal's questions to a policy, in their order: its memory passes from one to the next.
#[derive(Debug)]
pub struct Replay<'a, P> {
    policy: &'a P,
    settings: String,
    grants: Grants,
    memory: Vec<u8>,
}

/// What a decision comes to when it is taken again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Again {
    /// The verdict; none where the policy failed.
    pub verdict: Option<&'static str>,
    /// The answer, or the fault.
    pub answer: Value,
    /// Fuel burnt.
    pub fuel: u64,
    /// What the policy said meanwhile.
    pub said: Vec<TraceLine>,
    /// The memory that the decision left, where it is another than before.
    pub memory: Option<Vec<u8>>,
}

/// One thing that is different; null: it was not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What.
    pub field: &'static str,
    /// As recorded.
    pub recorded: Value,
    /// As it comes to now.
    pub again: Value,
}

impl<'a, P: Decide> Replay<'a, P> {
    /// From the beginning, with these settings and grants.
    pub fn new(policy: &'a P, settings: &Value, grants: Grants) -> Self {
        Self { policy, settings: settings.to_string(), grants, memory: Vec::new() }
    }

    /// Likewise, but with the memory that a stint began with.
    #[must_use]
    pub fn from(mut self, memory: Vec<u8>) -> Self {
        self.memory = memory;
        self
    }

    /// The memory that the last decision left.
    #[must_use]
    pub fn into_memory(self) -> Vec<u8> {
        self.memory
    }

    /// Takes a decision again. Blocks for as long as the policy's limits allow.
    pub fn again(&mut self, recorded: &RecordedDecision) -> Again {
        let (settings, view, grants) = (&self.settings, &recorded.view, self.grants);
        match (recorded.question, &recorded.outcome) {
            (QuestionKind::Settle, Some(outcome)) => {
                let decision = self.policy.settle(settings, view, outcome, &self.memory, grants);
                self.taken(&decision)
            }
            // The reader lets no `settle` pass that has no outcome.
            (QuestionKind::Admit | QuestionKind::Settle, _) => {
                let decision = self.policy.admit(settings, view, &self.memory, grants);
                self.taken(&decision)
            }
        }
    }

    fn taken<'d, A>(&mut self, decision: &'d Decision<A>) -> Again
    where
        Written<'d>: From<&'d Result<A, PolicyError>>,
    {
        let Written { verdict, answer, memory } = Written::from(&decision.answer);
        let memory = memory.filter(|memory| *memory != self.memory).map(<[u8]>::to_vec);
        if let Some(memory) = &memory {
            self.memory.clone_from(memory);
        }
        Again { verdict, answer, fuel: decision.fuel, said: decision.trace.clone(), memory }
    }
}

/// Whether a decision comes to the same each time: not one that the host's clock ended.
#[must_use]
pub fn is_repeatable(recorded: &RecordedDecision) -> bool {
    !recorded.answer["fault"].as_str().is_some_and(|fault| OF_THE_HOST.contains(&fault))
}

/// Everything that is different, down to the fuel; nothing: they are identical.
#[must_use]
pub fn differences(recorded: &RecordedDecision, again: &Again) -> Vec<Difference> {
    let mut pairs: Vec<(&'static str, Value, Value)> =
        FIELDS.map(|field| (field, recorded.answer[field].clone(), again.answer[field].clone())).to_vec();
    pairs.push(("fuel", recorded.fuel.into(), again.fuel.into()));
    pairs.push(("memory", in_hex(recorded.memory.as_deref()), in_hex(again.memory.as_deref())));
    let said = again.said.iter().map(|line| json!(line)).collect();
    pairs.push(("said", Value::Array(recorded.said.clone()), Value::Array(said)));
    if recorded.answer["verdict"] == again.answer["verdict"] {
        // Its word stands once more beside the answer.
        pairs.push(("verdict", recorded.verdict.as_deref().into(), again.verdict.into()));
    }
    let mut found: Vec<Difference> = pairs
        .into_iter()
        .filter(|(_, recorded, again)| recorded != again)
        .map(|(field, recorded, again)| Difference { field, recorded, again })
        .collect();
    // An answer has nothing else; whatever there is was not written by a run.
    if found.is_empty() && recorded.answer != again.answer {
        found.push(Difference { field: "answer", recorded: recorded.answer.clone(), again: again.answer.clone() });
    }
    found
}

/// Whether another policy decides otherwise: another verdict, another code, or another fault.
#[must_use]
pub fn is_changed(recorded: &RecordedDecision, again: &Again) -> bool {
    ["verdict", "code", "fault"].iter().any(|field| recorded.answer[field] != again.answer[field])
}

fn in_hex(memory: Option<&[u8]>) -> Value {
    memory.map(hex::encode).into()
}
