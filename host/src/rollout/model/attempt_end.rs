//! What a runner sees of an attempt that the store says is running.

use super::target_record::RecordedStatus;

/// What a runner saw of an attempt whose node says that it is running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttemptEnd {
    /// It ended; the status is [`RecordedStatus::ActionEnded`] or [`RecordedStatus::RollBackEnded`].
    Ended(RecordedStatus),
    /// It was announced, and the runner did not start it.
    NotStarted,
}

impl std::fmt::Display for AttemptEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotStarted => write!(f, "not started"),
            Self::Ended(RecordedStatus::ActionEnded { ending, detail, .. }) if detail.is_empty() => {
                write!(f, "{}", ending.word())
            }
            Self::Ended(RecordedStatus::ActionEnded { ending, detail, .. }) => write!(f, "{}: {detail}", ending.word()),
            Self::Ended(RecordedStatus::RollBackEnded { becomes }) => write!(f, "{}", becomes.word()),
            Self::Ended(status) => write!(f, "{}", status.word()),
        }
    }
}
