//! How an action or a probe ended.

use crate::policy::types::Ending;

/// How an action ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActionResult {
    /// The ending in the contract's terms.
    pub ending: Ending,
    /// What is known of the command beside its ending.
    pub course: Course,
    /// The exit code. `None` if the command did not exit by itself.
    pub exit_code: Option<i32>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// What happened, in words.
    pub detail: String,
    /// The last lines of its output.
    pub output: Vec<String>,
    /// The path of its complete output.
    pub log: String,
}

/// What is known of a command beside its ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Course {
    /// It ran to the reported ending, or was stopped and has exited.
    #[default]
    Ran,
    /// Certainly, no part of it ran.
    NotStarted,
    /// Certainly, no part of it ran: its host cannot be reached.
    Unreachable,
    /// No part of it ran: the runner's own machine could not start it.
    RunnerFailed,
    /// It was started and its end was not seen: the connection broke, or it could not be stopped.
    ContactLost,
}

/// What a probe reports of an action whose end no runner saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// The action succeeded (exit code 0).
    Succeeded,
    /// The action did not succeed.
    Failed {
        /// The probe's reason.
        detail: String,
    },
    /// The action never started, and never will (exit code 66, as from `lockkeeper guard --outcome --settle`).
    NotStarted,
    /// The action is still running (75): the probe runs again later.
    Running,
    /// The probe did not reach the target: it runs again later, as if the action were still running.
    Unreachable {
        /// Why it did not.
        detail: String,
    },
    /// The probe does not know either (76), or could not run.
    Unknown {
        /// The probe's reason.
        detail: String,
    },
}

/// What the far end prints when it refuses a fence and has started nothing.
#[must_use]
pub fn stale_mark(fence: u64) -> String {
    format!("fence {fence} is stale")
}
