//! One question to a policy, and all that came of it.

use std::time::{Duration, Instant};

use lockkeeper_cases::{Answer, Fault};
use serde_json::Value;

use crate::job::{Grant, Grants};
use crate::policy::types::{Admission, Admitted, Outcome, Settled, Settlement, View};
use crate::policy::{Decision, Module, PolicyError, TraceLine};

/// What a policy is asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Question {
    /// Its settings.
    pub settings: Value,
    /// What it is shown.
    pub view: View,
    /// How the action ended: `settle`; none: `admit`.
    pub outcome: Option<Outcome>,
    /// What it remembers.
    pub memory: Vec<u8>,
}

/// What came of a question.
#[derive(Debug)]
pub struct Said {
    /// The answer, or how the policy failed.
    pub answer: Result<Answer, Fault>,
    /// The same failure, with its backtrace.
    pub error: Option<PolicyError>,
    /// Fuel burnt: the same on every machine.
    pub fuel: u64,
    /// Bytes of linear memory that the instance had.
    pub memory: u64,
    /// How long it took, making the sandbox included.
    pub took: Duration,
    /// What it logged.
    pub trace: Vec<TraceLine>,
}

/// A job that grants whatever may be granted: what a policy may do is the job's business, not that of who tests it.
pub(super) fn every_grant() -> Grants {
    Grant::ALL.into_iter().fold(Grants::NONE, Grants::with)
}

/// Asks a policy in a fresh sandbox.
#[must_use]
pub fn decide(policy: &Module, question: &Question) -> Said {
    let Question { settings, view, outcome, memory } = question;
    let settings = settings.to_string();
    let begun = Instant::now();
    match outcome {
        None => {
            let decision = policy.admit(&settings, view, memory, every_grant());
            said(decision, begun.elapsed(), admitted)
        }
        Some(outcome) => {
            let decision = policy.settle(&settings, view, outcome, memory, every_grant());
            said(decision, begun.elapsed(), settled)
        }
    }
}

pub(super) fn said<A>(decision: Decision<A>, took: Duration, told: impl FnOnce(A) -> Answer) -> Said {
    let Decision { answer, fuel, memory, trace } = decision;
    let (answer, error) = match answer {
        Ok(answer) => (Ok(told(answer)), None),
        Err(error) => (Err(Fault { kind: error.kind().to_owned(), message: error.to_string() }), Some(error)),
    };
    Said { answer, error, fuel, memory, took, trace }
}

pub(super) fn admitted(answer: Admitted) -> Answer {
    let verdict = answer.verdict.word().to_owned();
    let breaking = match answer.verdict {
        Admission::Force(breaking) => Some(breaking),
        _ => None,
    };
    let Admitted { code, reason, wake_after, memory, .. } = answer;
    Answer { verdict, breaking, keep: None, code, reason, wake_after, memory }
}

fn settled(answer: Settled) -> Answer {
    let keep = match answer.verdict {
        Settlement::Keep(millis) => Some(millis),
        _ => None,
    };
    let verdict = answer.verdict.word().to_owned();
    let Settled { code, reason, memory, .. } = answer;
    Answer { verdict, breaking: None, keep, code, reason, wake_after: None, memory }
}
