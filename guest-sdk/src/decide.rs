//! Verdicts, and how they are made.

use std::time::Duration;

use crate::{Admission, Settlement};

/// An answer to `admit`: a verdict with a stable code, a sentence for a person, and when to ask again.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Admitted {
    pub(crate) answer: Result<Admission, String>,
    pub(crate) code: String,
    pub(crate) reason: String,
    pub(crate) wake_after: Option<Duration>,
}

/// An answer to `settle`: a verdict with a stable code and a sentence for a person.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Settled {
    pub(crate) verdict: Settlement,
    pub(crate) code: String,
    pub(crate) reason: String,
}

impl Admitted {
    fn new(answer: Result<Admission, String>, code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { answer, code: code.into(), reason: reason.into(), wake_after: None }
    }

    /// Ask again after this long even if nothing changes. Whole milliseconds count.
    pub fn ask_again_after(mut self, after: Duration) -> Self {
        self.wake_after = Some(after);
        self
    }

    /// The verdict; none where the policy gave up.
    #[must_use]
    pub fn verdict(&self) -> Option<&Admission> {
        self.answer.as_ref().ok()
    }

    /// The machine-readable code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence for a person.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// After how long it wants to be asked again.
    #[must_use]
    pub fn wake_after(&self) -> Option<Duration> {
        self.wake_after
    }

    /// Whether the verdict is `lock`.
    #[must_use]
    pub fn is_lock(&self) -> bool {
        matches!(self.answer, Ok(Admission::Lock))
    }

    /// Whether the verdict is `wait`.
    #[must_use]
    pub fn is_wait(&self) -> bool {
        matches!(self.answer, Ok(Admission::Wait))
    }

    /// Whether the verdict is `hold`.
    #[must_use]
    pub fn is_hold(&self) -> bool {
        matches!(self.answer, Ok(Admission::Hold))
    }
}

impl Settled {
    fn new(verdict: Settlement, code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { verdict, code: code.into(), reason: reason.into() }
    }

    /// The verdict.
    #[must_use]
    pub fn verdict(&self) -> &Settlement {
        &self.verdict
    }

    /// The machine-readable code.
    #[must_use]
    pub fn code(&self) -> &str {
        &self.code
    }

    /// The sentence for a person.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

/// Take a slot as soon as one is free.
pub fn lock(code: impl Into<String>, reason: impl Into<String>) -> Admitted {
    Admitted::new(Ok(Admission::Lock), code, reason)
}

/// Not this target, not now. Asked again when its view changes, or after [`Admitted::ask_again_after`].
pub fn wait(code: impl Into<String>, reason: impl Into<String>) -> Admitted {
    Admitted::new(Ok(Admission::Wait), code, reason)
}

/// Nobody now: the rollout starts nothing until it is woken or something changes.
pub fn hold(code: impl Into<String>, reason: impl Into<String>) -> Admitted {
    Admitted::new(Ok(Admission::Hold), code, reason)
}

/// Take a lease whatever the count, breaking those with these fences; none broken means one above the limit. Needs the
/// grant `force`.
pub fn force(breaking: Vec<u64>, code: impl Into<String>, reason: impl Into<String>) -> Admitted {
    Admitted::new(Ok(Admission::Force(breaking)), code, reason)
}

/// Leave this target out.
pub fn skip(code: impl Into<String>, reason: impl Into<String>) -> Admitted {
    Admitted::new(Ok(Admission::Skip), code, reason)
}

/// Start nothing more, in this run.
pub fn abort(code: impl Into<String>, reason: impl Into<String>) -> Admitted {
    Admitted::new(Ok(Admission::Abort), code, reason)
}

/// The policy cannot decide: a policy fault with this message.
pub fn fault(message: impl Into<String>) -> Admitted {
    Admitted::new(Err(message.into()), "", "")
}

/// Give the slot back.
pub fn release(code: impl Into<String>, reason: impl Into<String>) -> Settled {
    Settled::new(Settlement::Release, code, reason)
}

/// Keep the slot this long, then give it back. Whole milliseconds count.
pub fn keep(this_long: Duration, code: impl Into<String>, reason: impl Into<String>) -> Settled {
    Settled::new(Settlement::Keep(millis(this_long)), code, reason)
}

/// Act on it once more, under the same slot, as far as the job's `attempts` allow.
pub fn retry(code: impl Into<String>, reason: impl Into<String>) -> Settled {
    Settled::new(Settlement::Retry, code, reason)
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
