//! How a run ends before every target is final.

use crate::policy::types::Ending;
use crate::rollout::machine::Rollout;
use crate::rollout::machine::targets::Leaving;
use crate::rollout::model::{Action, End, Event, Stop, Takeover, TargetIndex, TargetStatus};

impl Rollout {
    /// From now on nothing starts: queues are left and unused slots released. The first reason stays.
    pub(super) fn end(&mut self, end: End) {
        if self.ending.is_none() {
            self.emit(Event::Stopping { reason: end.reason(), running: self.counts().running });
            self.ending = Some(end);
        }
        let is_unused = |status| matches!(status, TargetStatus::Queued | TargetStatus::Leased);
        for target in self.targets.in_flight_as(is_unused) {
            self.leave(target, Leaving::ToWait, "the run is stopping");
        }
        // There is no other attempt to wait for.
        for target in self.schedule.retries.take_all() {
            self.release(target);
        }
    }

    /// As [`Self::end`], and the roll-back of the run ends, too: a later runner continues with what remains.
    pub(super) fn cut_short(&mut self, end: End) {
        if self.roll_backs.is_of_run {
            self.roll_backs.is_of_run = false;
            self.ending = None;
        }
        self.end(end);
    }

    /// Whether another runner has taken the run over, or may.
    pub(super) fn is_lost(&self) -> bool {
        matches!(self.ending, Some(End::Lost(_)))
    }

    /// The operator at the terminal stops the runner.
    pub(super) fn stopped(&mut self, stop: Stop) {
        if self.stop >= Some(stop) {
            return;
        }
        self.stop = Some(stop);
        self.cut_short(End::Interrupted);
        if stop == Stop::Now {
            self.kill_all(None);
            self.leave_unsettled_to_next_runner();
            self.release_all_to_settle();
        }
        self.release_all_kept_slots();
    }

    /// Every command stops before another runner may act.
    pub(super) fn lost(&mut self, reason: String, takeover: Takeover) {
        if !self.is_lost() {
            // Whatever it ended for before, another runner continues it.
            self.ending = None;
            self.roll_backs.is_of_run = false;
            self.end(End::Lost(reason));
        }
        self.kill_all(Some(takeover));
        // The next runner knows as much from the store.
        self.stop = self.stop.max(Some(Stop::Gently));
        self.leave_unsettled_to_next_runner();
        self.release_all_kept_slots();
        self.release_all_to_settle();
    }

    fn kill_all(&mut self, takeover: Option<Takeover>) {
        let is_running = |status| matches!(status, TargetStatus::Running | TargetStatus::RollingBack);
        for target in self.targets.in_flight_as(is_running) {
            self.act(Action::Kill { target, ending: Ending::Unknown, takeover });
        }
    }

    fn leave_unsettled_to_next_runner(&mut self) {
        for target in self.targets.in_flight_as(|status| status == TargetStatus::Unsettled) {
            self.leave_to_next_runner(target);
        }
    }

    /// The policy does not decide any more what follows an action.
    fn release_all_to_settle(&mut self) {
        let left: Vec<TargetIndex> = self.decisions.to_settle.drain(..).map(|(target, _)| target).collect();
        left.into_iter().for_each(|target| self.release(target));
    }

    /// No target bakes any more.
    fn release_all_kept_slots(&mut self) {
        self.schedule.keeps.take_all().into_iter().for_each(|target| self.release(target));
    }
}
