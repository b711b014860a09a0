//! Converts the times in a run's state to the clock of the machine that resumes the run.

use crate::rollout::model::{RecordedStatus, TargetRecord};
use lockkeeper_coordination::store::{Stat, difference};

/// How times in the run state are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clocks {
    /// Unchanged, by the clock of the runner that wrote them: for commands that only read.
    AsWritten,
    /// Converted to this machine's clock: for a runner that resumes. Node times are the store's.
    Local {
        /// How far this machine's clock is ahead of the store's, in milliseconds.
        ahead_ms: i64,
        /// The time on this machine, in milliseconds since the Unix epoch.
        now_ms: u64,
    },
}

impl Clocks {
    /// Compares the clocks with a node that this machine wrote between `before_ms` and `after_ms` of its own clock.
    pub(super) fn of_write(stat: &Stat, before_ms: u64, after_ms: u64) -> Self {
        let ahead_ms = match stat.mtime_ms {
            written if written < before_ms => difference(before_ms, written),
            written if written > after_ms => difference(after_ms, written),
            // The difference is within the time that the write took.
            _ => 0,
        };
        Self::Local { ahead_ms, now_ms: after_ms }
    }

    /// How far this machine's clock is ahead of the store's, in milliseconds; 0 if unknown.
    pub(super) fn ahead_ms(self) -> i64 {
        match self {
            Self::AsWritten => 0,
            Self::Local { ahead_ms, .. } => ahead_ms,
        }
    }

    /// A target's record with its times by this clock. Periods keep their length.
    pub(super) fn ours(self, mut saved: TargetRecord, stat: &Stat) -> TargetRecord {
        let Self::Local { ahead_ms, now_ms } = self else { return saved };
        let at = stat.mtime_ms.saturating_add_signed(ahead_ms).min(now_ms);
        let by_ms = difference(at, saved.at);
        saved.at = at;
        if let RecordedStatus::KeepingSlot { until, .. } | RecordedStatus::Retrying { until, .. } = &mut saved.status {
            *until = until.saturating_add_signed(by_ms);
        }
        saved
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::types::Ending;

    fn stat(mtime_ms: u64) -> Stat {
        let (ctime_ms, ephemeral_owner) = (0, None);
        Stat { czxid: 1, mzxid: 1, version: 1, ctime_ms, mtime_ms, ephemeral_owner, children: 0, data_length: 0 }
    }

    fn retrying(at: u64, until: u64) -> TargetRecord {
        TargetRecord {
            at,
            status: RecordedStatus::Retrying { ending: Ending::Failed, until },
            ..TargetRecord::default()
        }
    }

    #[test]
    fn a_back_off_is_as_long_by_every_clock() {
        // The store's clock says 1,000,000; the writer's was an hour behind, ours is two hours ahead.
        let hour = 3_600_000;
        let written = retrying(10 * hour - hour, 10 * hour - hour + 30_000);
        let clocks = Clocks::of_write(&stat(10 * hour + 5_000), 12 * hour + 5_000, 12 * hour + 5_100);
        assert_eq!(clocks.ahead_ms(), 2 * hour as i64);
        let TargetRecord { at, status, .. } = clocks.ours(written, &stat(10 * hour));
        assert_eq!(
            (at, status),
            (12 * hour, RecordedStatus::Retrying { ending: Ending::Failed, until: 12 * hour + 30_000 })
        );
    }

    #[test]
    fn a_clock_that_agrees_changes_nothing_and_no_time_is_to_come() {
        let clocks = Clocks::of_write(&stat(5_010), 5_000, 5_020);
        assert_eq!(clocks.ahead_ms(), 0);
        assert_eq!(clocks.ours(retrying(4_000, 9_000), &stat(4_000)), retrying(4_000, 9_000));
        assert_eq!(clocks.ours(retrying(4_000, 9_000), &stat(7_000)), retrying(5_020, 10_020));
        assert_eq!(Clocks::AsWritten.ours(retrying(4_000, 9_000), &stat(7_000)), retrying(4_000, 9_000));
    }
}
