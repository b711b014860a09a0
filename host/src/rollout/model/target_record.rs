//! A target's record in the run state.

use serde::{Deserialize, Serialize};

use crate::policy::types::Ending;
use lockkeeper_coordination::store::{Fence, NodePath};

/// A target's record: written before the effect that it announces, and read by the next runner.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TargetRecord {
    /// Since when the target has this status, in milliseconds since the Unix epoch, by the runner's clock.
    pub at: u64,
    /// The number of attempts in this run, roll-backs and the running one included. It only grows.
    pub attempt: u32,
    /// The lease under which the last attempt was started, or the next one is to be. `None` if it holds none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseRecord>,
    /// The target's status.
    #[serde(flatten)]
    pub status: RecordedStatus,
}

/// A lease, as a target's record names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeaseRecord {
    /// The path of its node.
    pub path: NodePath,
    /// Its fence. `None` in the transaction that creates the lease, because the fence is not known before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

/// A target's status, as the run state has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum RecordedStatus {
    /// No command runs; the target starts when its turn comes.
    #[default]
    Pending,
    /// Its slot is held, and no command was started under it.
    Leased,
    /// It was final, and a slot is held for its roll-back, which was not started.
    RollBackLeased {
        /// The status before, which it has again if the roll-back does not start.
        was: Box<RecordedStatus>,
    },
    /// Its action runs, or is about to start. A runner that did not start it does not know how it ended.
    Running,
    /// Its action ended, and its runner saw that, but its session ended before it could write down what follows. The slot is
    /// still held, and the policy decides again.
    ActionEnded {
        /// How it ended.
        ending: Ending,
        /// The exit code. `None` if the command did not exit by itself.
        exit_code: Option<i32>,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// What happened, in words; empty after a success.
        detail: String,
    },
    /// Its action ended; its slot is kept while it bakes.
    KeepingSlot {
        /// How it ended.
        ending: Ending,
        /// The exit code. `None` if the command did not exit by itself.
        exit_code: Option<i32>,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// Until when it is kept, in milliseconds since the Unix epoch.
        until: u64,
    },
    /// Its action failed, and another attempt follows under the same slot.
    Retrying {
        /// How it ended.
        ending: Ending,
        /// When that is due, in milliseconds since the Unix epoch.
        until: u64,
    },
    /// Its roll-back runs, or is about to start.
    RollingBack {
        /// Why it is rolled back.
        #[serde(default)]
        reason: String,
        /// The status before. `None` if an earlier version wrote the record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Box<RecordedStatus>>,
    },
    /// Its roll-back ended, and its runner saw that, but its session ended before the slot was released.
    RollBackEnded {
        /// The status once the slot is free.
        becomes: Box<RecordedStatus>,
    },
    /// Its action succeeded.
    Succeeded {
        /// How long its action took, in milliseconds. `None` if no runner saw it end.
        took_ms: Option<u64>,
    },
    /// Its action or its roll-back failed.
    Failed {
        /// What happened.
        reason: String,
        /// The status before its roll-back, if that is what failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Box<RecordedStatus>>,
    },
    /// The outcome of its action or its roll-back is unknown.
    Unknown {
        /// Why it is unknown.
        reason: String,
        /// The status before its roll-back, if that is what is unknown.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Box<RecordedStatus>>,
    },
    /// It was rolled back.
    RolledBack {
        /// Why.
        reason: String,
        /// The status before. `None` if an earlier version wrote the record.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Box<RecordedStatus>>,
    },
    /// It was skipped.
    Skipped {
        /// A stable code.
        code: String,
        /// Why.
        reason: String,
    },
}

impl Default for TargetRecord {
    /// The record of a target without one: no runner has started it.
    fn default() -> Self {
        Self { at: 0, attempt: 0, lease: None, status: RecordedStatus::Pending }
    }
}

impl RecordedStatus {
    /// The stable word for it, as in its JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Leased => "leased",
            Self::RollBackLeased { .. } => "roll-back-leased",
            Self::Running => "running",
            Self::ActionEnded { .. } => "action-ended",
            Self::KeepingSlot { .. } => "keeping-slot",
            Self::Retrying { .. } => "retrying",
            Self::RollingBack { .. } => "rolling-back",
            Self::RollBackEnded { .. } => "roll-back-ended",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Unknown { .. } => "unknown",
            Self::RolledBack { .. } => "rolled-back",
            Self::Skipped { .. } => "skipped",
        }
    }

    /// Whether an operator may request a retry: it did not succeed, was skipped, or has not started.
    #[must_use]
    pub fn may_be_retried(&self) -> bool {
        matches!(
            self,
            Self::Pending | Self::Failed { .. } | Self::Unknown { .. } | Self::RolledBack { .. } | Self::Skipped { .. }
        )
    }

    /// Whether a command may run on it: a start is recorded, and no end.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        matches!(self, Self::Running | Self::RollingBack { .. })
    }

    /// Whether it is charged to the failure budget.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Unknown { .. } | Self::RolledBack { .. })
    }

    /// The recorded reason for the status. `None` if the status needs none.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Failed { reason, .. }
            | Self::Unknown { reason, .. }
            | Self::RolledBack { reason, .. }
            | Self::Skipped { reason, .. } => Some(reason),
            _ => None,
        }
    }

    /// The recorded reason, with the status before its roll-back.
    #[must_use]
    pub fn account(&self) -> Option<String> {
        let reason = self.reason()?;
        Some(match self.had() {
            Some(had) => format!("{reason}; {had}"),
            None => reason.to_owned(),
        })
    }

    /// How its action had ended before its roll-back, in a few words. `None` if that is not known, or it was not rolled back.
    #[must_use]
    pub fn had(&self) -> Option<String> {
        let (Self::Failed { was, .. } | Self::Unknown { was, .. } | Self::RolledBack { was, .. }) = self else {
            return None;
        };
        match was.as_deref()? {
            Self::Succeeded { .. } => Some("had succeeded".to_owned()),
            Self::Failed { reason, .. } => Some(format!("had failed: {reason}")),
            Self::Unknown { reason, .. } => Some(format!("its outcome was unknown: {reason}")),
            _ => None,
        }
    }

    /// Whether its action failed, or no runner saw it succeed, whether it was rolled back since or not.
    #[must_use]
    pub fn did_not_succeed(&self) -> bool {
        match self {
            Self::RolledBack { was, .. } => was.as_ref().is_none_or(|was| was.did_not_succeed()),
            status => status.is_charged(),
        }
    }

    /// Whether it has a final status: nothing more happens to it in this run, unless an operator requests it.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Succeeded { .. }
                | Self::Failed { .. }
                | Self::Unknown { .. }
                | Self::RolledBack { .. }
                | Self::Skipped { .. }
        )
    }
}
