//! A wall clock that is set during a run. What waits for a span waits as long as before; what waits for a time of day is
//! determined again by the new clock.

use crate::policy::types::Cause;
use crate::rollout::machine::Rollout;
use crate::rollout::model::Event;

impl Rollout {
    /// The clock was set by so many milliseconds: forward if above zero.
    pub(super) fn clock_was_set(&mut self, by_ms: i64) {
        self.schedule.shift(by_ms);
        self.targets.entries_mut().for_each(|entry| entry.shift(by_ms));
        self.waves.shift(by_ms);
        self.floor.shift(by_ms);
        self.sweep.shift(by_ms);
        // Whatever waits for a time of day is measured again.
        self.sweep.changed(Cause::Progressed);
        self.emit(Event::ClockSet { by_ms });
    }
}
