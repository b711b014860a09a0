//! What a policy must answer, what it answered, and how the two differ.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// What a policy answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The contract's word.
    pub verdict: String,
    /// The fences of the leases that `force` breaks.
    pub breaking: Option<Vec<u64>>,
    /// How long `keep` keeps the slot, in milliseconds.
    pub keep: Option<u64>,
    /// The machine-readable code.
    pub code: String,
    /// The sentence for a person.
    pub reason: String,
    /// When it wants to be asked again, in milliseconds from now.
    pub wake_after: Option<u64>,
    /// What it leaves for the next decision.
    pub memory: Vec<u8>,
}

/// How a policy failed to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The stable word, such as `trap` or `out-of-fuel`.
    pub kind: String,
    /// More, for a person.
    pub message: String,
}

/// Memory as a case tells it.
#[derive(Debug, Clone, PartialEq)]
pub enum Remembered {
    /// These bytes.
    Text(String),
    /// This JSON, however it is written.
    Json(Value),
}

impl Remembered {
    /// The bytes that a policy is given.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Text(text) => text.clone().into_bytes(),
            Self::Json(json) => json.to_string().into_bytes(),
        }
    }

    fn is(&self, memory: &[u8]) -> bool {
        match self {
            Self::Text(text) => text.as_bytes() == memory,
            Self::Json(json) => serde_json::from_slice::<Value>(memory).is_ok_and(|seen| seen == *json),
        }
    }
}

impl fmt::Display for Remembered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Json(json) => write!(f, "{json}"),
        }
    }
}

/// What a case says of the answer; what it does not say may be anything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Expect {
    /// The verdict's word.
    pub verdict: Option<String>,
    /// The fences that `force` breaks, in any order.
    pub breaking: Option<Vec<u64>>,
    /// How long `keep` keeps, in milliseconds.
    pub keep: Option<u64>,
    /// The code.
    pub code: Option<String>,
    /// The reason, whole.
    pub reason: Option<String>,
    /// The wake in milliseconds; the inner none: that there is none.
    pub wake_after: Option<Option<u64>>,
    /// What is left for the next decision.
    pub memory: Option<Remembered>,
    /// The kind of fault.
    pub fault: Option<String>,
}

/// One thing that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key under `expect`.
    pub key: &'static str,
    /// As the case has it.
    pub expected: String,
    /// As it was answered.
    pub seen: String,
}

impl Expect {
    /// Whether nothing is expected, so that nothing could fail.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How an answer differs from what is expected; none: it does not.
    #[must_use]
    pub fn differences(&self, answer: &Result<Answer, Fault>) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut differ = |key, expected: String, seen: String| found.push(Difference { key, expected, seen });
        let answer = match (answer, &self.fault) {
            (Err(fault), Some(kind)) if fault.kind == *kind => return found,
            (Err(Fault { kind, message }), Some(expected)) => {
                differ("fault", expected.clone(), format!("{kind}: {message}"));
                return found;
            }
            (Err(Fault { kind, message }), None) => {
                let expected = self.verdict.clone().unwrap_or_else(|| "an answer".to_owned());
                differ("verdict", expected, format!("the fault {kind}: {message}"));
                return found;
            }
            (Ok(answer), Some(kind)) => {
                differ("fault", kind.clone(), format!("the verdict {} ({})", answer.verdict, answer.code));
                return found;
            }
            (Ok(answer), None) => answer,
        };
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        if self.verdict.as_ref().is_some_and(|verdict| *verdict != answer.verdict) {
            differ("verdict", text(&self.verdict), answer.verdict.clone());
        }
        if let Some(breaking) = &self.breaking {
            let sorted = |fences: &[u64]| {
                let mut fences = fences.to_vec();
                fences.sort_unstable();
                fences
            };
            let seen = sorted(answer.breaking.as_deref().unwrap_or_default());
            if sorted(breaking) != seen {
                differ("breaking", format!("{:?}", sorted(breaking)), format!("{seen:?}"));
            }
        }
        if self.keep.is_some_and(|keep| Some(keep) != answer.keep) {
            differ("keep", period(self.keep), period(answer.keep));
        }
        if self.code.as_ref().is_some_and(|code| *code != answer.code) {
            differ("code", text(&self.code), answer.code.clone());
        }
        if self.reason.as_ref().is_some_and(|reason| *reason != answer.reason) {
            differ("reason", text(&self.reason), answer.reason.clone());
        }
        if let Some(wake) = self.wake_after.filter(|wake| *wake != answer.wake_after) {
            differ("wake-after", period(wake), period(answer.wake_after));
        }
        if let Some(memory) = self.memory.as_ref().filter(|memory| !memory.is(&answer.memory)) {
            differ("memory", memory.to_string(), String::from_utf8_lossy(&answer.memory).into_owned());
        }
        found
    }
}

/// A length of time as people write it.
#[must_use]
pub(crate) fn period(millis: Option<u64>) -> String {
    millis.map_or("none".to_owned(), |millis| humantime::format_duration(Duration::from_millis(millis)).to_string())
}
