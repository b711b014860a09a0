//! A wall clock that is set under a run. What waits for a span waits as long as before; what waits for a time of day looks at
//! the clock anew.

use super::Event;
use crate::policy::types::Cause;
use crate::rollout::machine::Rollout;
use crate::rollout::model::Action;

impl Rollout {
    /// The clock was set by so many milliseconds: forward if that is above zero.
    pub(super) fn clock_was_set(&mut self, by_ms: i64, out: &mut Vec<Action>) {
        let shift = |at: u64| at.saturating_add_signed(by_ms);
        for set in [&mut self.wakes, &mut self.pauses, &mut self.keeps, &mut self.give_ups, &mut self.retries] {
            *set = std::mem::take(set).into_iter().map(|(at, target)| (shift(at), target)).collect();
        }
        for slot in &mut self.slots {
            let found = slot.found.as_mut().and_then(|found| found.since_mut());
            let instants = [
                slot.waiting_since_ms.as_mut(),
                slot.wake_ms.as_mut(),
                slot.keep_until_ms.as_mut(),
                slot.wants_slot_since_ms.as_mut(),
                slot.retry_at_ms.as_mut(),
                found,
            ];
            instants.into_iter().flatten().for_each(|at| *at = shift(*at));
            slot.final_ms = shift(slot.final_ms);
        }
        self.waves.shift(shift);
        self.floor.shift(shift);
        self.sweep_began_ms = shift(self.sweep_began_ms);
        // Whatever held for a time of day is measured again.
        self.changed(Cause::Progressed);
        out.push(Action::Emit(Event::ClockSet { by_ms }));
    }
}
