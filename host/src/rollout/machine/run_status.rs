//! What is reported of the run as it is now.

use crate::policy::types::Ending;
use crate::rollout::machine::Rollout;
use crate::rollout::machine::rollout::count;
use crate::rollout::model::{
    ActionResult, AttemptEnd, Blocker, Course, RecordedStatus, Refusal, RunStatus, TargetIndex, TargetStatus, WaveNow,
};

impl Rollout {
    /// What this runner saw when a command ended. `None` if it did not see the end.
    #[must_use]
    pub fn attempt_end(&self, target: TargetIndex, result: &ActionResult) -> Option<AttemptEnd> {
        let ActionResult { ending, course, exit_code, took_ms, detail, .. } = result;
        let (ending, exit_code, took_ms, detail) = (*ending, *exit_code, *took_ms, detail.clone());
        match (course, self.status(target)) {
            (Course::RunnerFailed, TargetStatus::Running) => Some(AttemptEnd::NotStarted),
            (Course::NotStarted | Course::Unreachable, TargetStatus::Running) if ending == Ending::Unknown => {
                Some(AttemptEnd::NotStarted)
            }
            // How far a command got that was stopped is not known.
            _ if ending == Ending::Unknown => None,
            (_, TargetStatus::Running) => {
                Some(AttemptEnd::Ended(RecordedStatus::ActionEnded { ending, exit_code, took_ms, detail }))
            }
            (_, TargetStatus::RollingBack) => {
                let becomes = Box::new(self.record_after_roll_back(target, ending, detail));
                Some(AttemptEnd::Ended(RecordedStatus::RollBackEnded { becomes }))
            }
            _ => None,
        }
    }

    /// The run's status, for the store.
    #[must_use]
    pub fn run_status(&self) -> RunStatus {
        let wave = self.wave_now().map(|(name, done, of)| WaveNow { name: name.to_owned(), done, of });
        let (stopping, counts) = (self.ending.as_ref().map(|end| end.reason()), self.counts());
        let waits = match (&stopping, counts.pending + counts.waiting) {
            (None, 1..) => self.between_waves().or_else(|| self.sweep.blocker.clone()),
            _ => None,
        };
        RunStatus {
            at: self.now.get(),
            requests: self.requests.version,
            counts,
            wave,
            waits,
            calls: self.orchestration.call(),
            stopping,
            estimated_end: self.estimated_end(),
        }
    }

    /// What blocks the next wave while none is in progress. The policy decides about no target then, and no limit refuses one.
    fn between_waves(&self) -> Option<Blocker> {
        let next = self.setup.waves.get(self.waves.started())?;
        let is_complete = self.wave_now().is_some_and(|(_, done, of)| done == of);
        if !is_complete {
            return None;
        }
        let refusal = match self.refused_for_budget(self.waves.started()) {
            Some((_, refused)) => refused.refusal,
            None => Refusal::Wave { gate: self.wave_gate(TargetIndex::new(next.targets.start))? },
        };
        Some(Blocker { code: refusal.code().to_owned(), reason: refusal.to_string(), until: refusal.changes_ms() })
    }

    /// When the run may be over if as many targets run at once as there are slots, each for the mean time so far. Bakes and
    /// windows are not included.
    fn estimated_end(&self) -> Option<u64> {
        let mean = self.totals.took_ms.checked_div(u64::from(self.totals.succeeded))?;
        let at_once = self.setup.limits.slots.max(1);
        let left = match self.ending {
            None => self.counts().open(),
            Some(_) => count(self.targets.in_flight().len()),
        };
        Some(self.now.after_ms(mean.saturating_mul(u64::from(left.div_ceil(at_once)))).get())
    }
}
