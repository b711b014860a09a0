//! What a target's node holds.

use serde::{Deserialize, Serialize};

use crate::policy::types::Ending;
use lockkeeper_coordination::store::{Fence, NodePath};

/// A target's node: written before the effect that it announces, and read by whoever takes the run over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct TargetRecord {
    /// Since when it stands so, in milliseconds since the Unix epoch, by the runner's clock.
    pub at: u64,
    /// How often its action was started in this run, the one under way included: 0 before the first time. It only grows.
    pub attempt: u32,
    /// The lease under which that was, or is about to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease: Option<LeaseRecord>,
    /// Where it stands.
    #[serde(flatten)]
    pub status: RecordedStatus,
}

/// A lease, as a target's node names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LeaseRecord {
    /// Its node.
    pub path: NodePath,
    /// Its fence; none where that was not known yet when the node was written: in the transaction that made the lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fence: Option<Fence>,
}

/// Where a target stands between two requests to the store.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum RecordedStatus {
    /// Nothing is under way; it goes when its turn comes.
    #[default]
    Pending,
    /// Its slot is held, and nothing was started under it.
    Leased,
    /// It was done with, and a slot is held to undo it under; nothing was started under that.
    RollBackLeased {
        /// Where it stood before, and stands when nothing comes of it.
        was: Box<RecordedStatus>,
    },
    /// Its action is under way, or about to start. Whoever finds this and did not start it does not know how it went on.
    Running,
    /// Its action ended, and its runner saw that; the session was over before the runner could write down what follows. The
    /// policy is asked once more, and the slot is still held.
    ActionEnded {
        /// How it ended.
        ending: Ending,
        /// The exit code, where there was one.
        exit_code: Option<i32>,
        /// How long it took, in milliseconds.
        took_ms: u64,
        /// What is said of it; empty after a success.
        detail: String,
    },
    /// Its action ended; its slot is kept.
    KeepingSlot {
        /// How it ended.
        ending: Ending,
        /// The exit code, where there was one.
        exit_code: Option<i32>,
        /// How long it took.
        took_ms: u64,
        /// Until when it is kept, in milliseconds since the Unix epoch.
        until: u64,
    },
    /// Its action failed, and is tried again under the same slot.
    Retrying {
        /// How it ended.
        ending: Ending,
        /// When the next try is due, in milliseconds since the Unix epoch.
        until: u64,
    },
    /// What undoes its action is under way, or about to start.
    RollingBack {
        /// Why it is rolled back.
        #[serde(default)]
        reason: String,
        /// Where it stood before. `None` if an earlier version wrote it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Box<RecordedStatus>>,
    },
    /// What undoes its action ended, and its runner saw that; the session was over before the slot was released.
    RollBackEnded {
        /// Where the target stands once its slot is free.
        becomes: Box<RecordedStatus>,
    },
    /// It is done.
    Succeeded {
        /// How long its action took; none where nobody saw it end.
        took_ms: Option<u64>,
    },
    /// It failed.
    Failed {
        /// How.
        reason: String,
        /// Where it stood before its roll-back, if that is what failed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Box<RecordedStatus>>,
    },
    /// How its action ended is not known.
    Unknown {
        /// Why not.
        reason: String,
        /// Where it stood before its roll-back, if that is what is not known to have ended.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Box<RecordedStatus>>,
    },
    /// It was rolled back.
    RolledBack {
        /// Why.
        reason: String,
        /// Where it stood before. `None` if an earlier version wrote it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        was: Option<Box<RecordedStatus>>,
    },
    /// It was left out.
    Skipped {
        /// A stable code.
        code: String,
        /// Why.
        reason: String,
    },
}

impl Default for TargetRecord {
    /// A target that nobody has touched: it has no node yet.
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

    /// Whether somebody may ask for it to go again: it did not go well, was left out, or has not gone.
    #[must_use]
    pub fn may_be_retried(&self) -> bool {
        matches!(
            self,
            Self::Pending | Self::Failed { .. } | Self::Unknown { .. } | Self::RolledBack { .. } | Self::Skipped { .. }
        )
    }

    /// Whether a command may run on it as far as its node says: no end is written down.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        matches!(self, Self::Running | Self::RollingBack { .. })
    }

    /// Whether it is charged to the failure budget.
    #[must_use]
    pub fn is_charged(&self) -> bool {
        matches!(self, Self::Failed { .. } | Self::Unknown { .. } | Self::RolledBack { .. })
    }

    /// Why it stands so, where that was written down.
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

    /// Why it stands so, with what it was before it was rolled back.
    #[must_use]
    pub fn account(&self) -> Option<String> {
        let reason = self.reason()?;
        Some(match self.had() {
            Some(had) => format!("{reason}; {had}"),
            None => reason.to_owned(),
        })
    }

    /// What became of its action before it was rolled back, in a few words. `None` if that is not known, or nothing was.
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

    /// Whether its action failed, or was not seen to succeed, whatever was rolled back since.
    #[must_use]
    pub fn did_not_succeed(&self) -> bool {
        match self {
            Self::RolledBack { was, .. } => was.as_ref().is_none_or(|was| was.did_not_succeed()),
            status => status.is_charged(),
        }
    }

    /// Whether nothing more happens to it in this run, unless somebody asks for it.
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
