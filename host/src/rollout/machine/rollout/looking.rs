//! What can be said of the run as it stands.

use super::TargetStatus;
use crate::policy::types::Ending;
use crate::rollout::machine::Rollout;
use crate::rollout::machine::rollout::count;
use crate::rollout::model::{ActionResult, AttemptEnd, Blocker, Course, RecordedStatus, RunStatus, WaveNow};

impl Rollout {
    /// What a runner that sees an action end so has seen. `None` if it has not seen the end.
    #[must_use]
    pub fn sight(&self, target: usize, result: &ActionResult) -> Option<AttemptEnd> {
        let ActionResult { ending, course, exit_code, took_ms, detail, .. } = result;
        let (ending, exit_code, took_ms, detail) = (*ending, *exit_code, *took_ms, detail.clone());
        match (course, self.slots[target].state) {
            (Course::RunnerFailed, TargetStatus::Running) => Some(AttemptEnd::NotStarted),
            (Course::NotStarted | Course::Unreachable, TargetStatus::Running) if ending == Ending::Unknown => {
                Some(AttemptEnd::NotStarted)
            }
            // What was stopped half-way has done no one knows how much.
            _ if ending == Ending::Unknown => None,
            (_, TargetStatus::Running) => {
                Some(AttemptEnd::Ended(RecordedStatus::ActionEnded { ending, exit_code, took_ms, detail }))
            }
            (_, TargetStatus::RollingBack) => {
                let becomes = Box::new(self.rolled_back_status(target, ending, detail));
                Some(AttemptEnd::Ended(RecordedStatus::RollBackEnded { becomes }))
            }
            _ => None,
        }
    }

    /// Where the run stands now.
    #[must_use]
    pub fn run_status(&self) -> RunStatus {
        let wave = self.wave_now().map(|(name, done, of)| WaveNow { name: name.to_owned(), done, of });
        let stopping = self.ending.as_ref().map(|end| end.reason());
        let waits = match (&stopping, self.counts.pending + self.counts.waiting) {
            (None, 1..) => self.baking().or_else(|| self.waits.clone()),
            _ => None,
        };
        let estimated_end = self.estimated_end();
        let (requests, counts) = (self.requests.version, self.counts);
        RunStatus {
            at: self.now_ms,
            requests,
            counts,
            wave,
            waits,
            calls: self.invited.calls(),
            stopping,
            estimated_end,
        }
    }

    /// Between two waves nobody is asked, and so nobody is refused.
    fn baking(&self) -> Option<Blocker> {
        let next = self.setup.waves.get(self.waves_begun())?;
        let is_complete = self.wave_now().is_some_and(|(_, done, of)| done == of);
        if !is_complete {
            return None;
        }
        let refusal = match self.refused_for_budget(self.now_ms, self.waves_begun()) {
            Some((_, refused)) => refused.refusal,
            None => super::Refusal::Wave { gate: self.wave_gate(self.now_ms, next.targets.start)? },
        };
        Some(Blocker { code: refusal.code().to_owned(), reason: refusal.to_string(), until: refusal.changes_ms() })
    }

    /// As many at once as there are slots, each as long as the mean so far; bakes and windows are not foreseen.
    fn estimated_end(&self) -> Option<u64> {
        let (times, sum) = self.took;
        let mean = sum.checked_div(u64::from(times))?;
        let at_once = self.setup.limits.slots.max(1);
        let left = match self.ending {
            None => self.counts.open(),
            Some(_) => count(self.in_flight.len()),
        };
        Some(self.now_ms.saturating_add(mean.saturating_mul(u64::from(left.div_ceil(at_once)))))
    }
}
