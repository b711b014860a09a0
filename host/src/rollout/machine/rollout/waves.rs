//! One wave after the other: who may be asked, and when the next begins.

use super::Event;
use crate::policy::types::Cause;
use crate::rollout::machine::Rollout;
use crate::rollout::machine::rollout::{count, millis};
use crate::rollout::model::{Action, WaveGate};

/// How far the waves have come.
#[derive(Debug, Default)]
pub(super) struct Waves {
    /// The wave of each target.
    of: Vec<usize>,
    /// How many of each wave are not done with.
    left: Vec<u32>,
    /// How many of each are charged to the budget, accepted or not.
    charged: Vec<u32>,
    /// When the last of each became final, in milliseconds since the Unix epoch.
    last_ms: Vec<u64>,
    /// How many have begun.
    begun: usize,
    /// What was said of the next one.
    said: Option<Said>,
}

impl Waves {
    /// The number of a target's wave.
    pub(super) fn index_of(&self, target: usize) -> Option<usize> {
        self.of.get(target).copied()
    }

    /// How many of a wave are charged to the budget, accepted or not.
    pub(super) fn charged_of(&self, wave: usize) -> u32 {
        self.charged.get(wave).copied().unwrap_or(0)
    }

    /// How many of a wave are not done with.
    pub(super) fn left_of(&self, wave: usize) -> u32 {
        self.left.get(wave).copied().unwrap_or(0)
    }

    /// A target is charged from now on, or is not any more.
    pub(super) fn charge(&mut self, target: usize, was_charged: bool, is_charged: bool) {
        let Some(charged) = self.of.get(target).and_then(|wave| self.charged.get_mut(*wave)) else { return };
        match (was_charged, is_charged) {
            (false, true) => *charged += 1,
            (true, false) => *charged -= 1,
            _ => {}
        }
    }
}

/// Why the next wave has not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    Spent,
    Baking(u64),
    Blocker,
}

impl Waves {
    /// The wall clock was set.
    pub(super) fn shift(&mut self, shift: impl Fn(u64) -> u64) {
        // A wave of which nothing has ended has no time yet.
        self.last_ms.iter_mut().filter(|last| **last > 0).for_each(|last| *last = shift(*last));
    }
}

impl Rollout {
    pub(super) fn plan_waves(&mut self) {
        let waves = &self.setup.waves;
        self.waves.of = vec![0; self.slots.len()];
        for (index, wave) in waves.iter().enumerate() {
            self.waves.of[wave.targets.clone()].fill(index);
        }
        self.waves.left = waves.iter().map(|wave| count(wave.targets.len())).collect();
        self.waves.charged = vec![0; waves.len()];
        self.waves.last_ms = vec![0; waves.len()];
    }

    /// A target became final, or is not any more.
    pub(super) fn counted_in_wave(&mut self, target: usize, was_final: bool, is_final: bool) {
        let Some(left) = self.waves.of.get(target).and_then(|wave| self.waves.left.get_mut(*wave)) else { return };
        match (was_final, is_final) {
            (false, true) => {
                *left -= 1;
                let last = &mut self.waves.last_ms[self.waves.of[target]];
                *last = self.now_ms.max(*last);
            }
            (true, false) => *left += 1,
            _ => {}
        }
    }

    /// The name of a target's wave; none where the job has no waves.
    #[must_use]
    pub fn wave_of(&self, target: usize) -> Option<&str> {
        let wave = self.setup.waves.get(*self.waves.of.get(target)?)?;
        Some(&wave.name)
    }

    /// The wave that goes now: its name, and how many of its targets are done with, and of how many.
    #[must_use]
    pub fn wave_now(&self) -> Option<(&str, u32, u32)> {
        let index = self.waves.begun.checked_sub(1)?;
        let wave = self.setup.waves.get(index)?;
        let all = count(wave.targets.len());
        Some((&wave.name, all - self.waves.left[index], all))
    }

    pub(super) fn waves_begun(&self) -> usize {
        self.waves.begun
    }

    /// Targets from here on belong to waves that have not begun, or are held.
    pub(super) fn asked_until(&self) -> usize {
        let begun = match self.setup.waves.get(self.waves.begun) {
            Some(next) => next.targets.start,
            None => self.slots.len(),
        };
        self.hold.map_or(begun, |hold| begun.min(hold.from))
    }

    /// The first target of a target's wave.
    pub(super) fn wave_start(&self, target: usize) -> usize {
        let wave = self.waves.of.get(target).and_then(|wave| self.setup.waves.get(*wave));
        wave.map_or(0, |wave| wave.targets.start)
    }

    /// When the wave that bakes has done so.
    pub(super) fn baked_ms(&self) -> Option<u64> {
        // A wave that has begun waits once more if one of an earlier wave was rolled back since.
        let begun_or_next = 0..self.setup.waves.len().min(self.waves.begun + 1);
        let baking = begun_or_next.filter_map(|wave| match self.turn(self.now_ms, wave) {
            Some(WaveGate::Baking { until, .. }) => Some(until),
            _ => None,
        });
        baking.min()
    }

    fn bakes_until(&self, wave: usize) -> u64 {
        self.waves.last_ms[wave].saturating_add(millis(self.setup.waves[wave].bake))
    }

    /// Begins every wave that may.
    pub(super) fn begin_waves(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        if self.ending.is_some() {
            return;
        }
        while let Some(next) = self.setup.waves.get(self.waves.begun) {
            let (name, targets) = (next.name.clone(), next.targets.len());
            let turn = self.turn(now_ms, self.waves.begun);
            if let Some(WaveGate::Earlier { .. } | WaveGate::Full { .. }) = turn {
                self.waves.said.take_if(|said| *said == Said::Spent);
                return;
            }
            if let Some((first, refused)) = self.refused_for_budget(now_ms, self.waves.begun) {
                if self.waves.said.replace(Said::Spent) != Some(Said::Spent) {
                    self.held_said.clear();
                }
                return self.say_refused(first, &refused, out);
            }
            let said = match turn {
                Some(WaveGate::Baking { wave, until }) => {
                    Some((Said::Baking(until), Event::WaveBaking { wave, until }))
                }
                Some(WaveGate::Approval { wave }) => {
                    Some((Said::Blocker, Event::WaveAwaitsApproval { wave, run: self.setup.run.clone() }))
                }
                Some(WaveGate::Earlier { .. } | WaveGate::Full { .. }) => return,
                None => None,
            };
            if let Some((said, event)) = said {
                if self.waves.said != Some(said) {
                    self.waves.said = Some(said);
                    out.push(Action::Emit(event));
                }
                return;
            }
            self.waves.begun += 1;
            self.waves.said = None;
            // A wave that an earlier runner saw to its end needs no word.
            if self.waves.left[self.waves.begun - 1] > 0 {
                out.push(Action::Emit(Event::WaveStarted { wave: name, targets }));
            }
            self.changed(Cause::Progressed);
        }
    }

    /// Why it is not a wave's turn: those before it are complete and have baked, and somebody approved of it.
    fn turn(&self, now_ms: u64, index: usize) -> Option<WaveGate> {
        let waves = &self.setup.waves;
        let wave = waves.get(index)?;
        // One of an earlier wave may have been asked to go again.
        if let Some(earlier) = (0..index).find(|earlier| self.waves.left[*earlier] > 0) {
            let of = count(waves[earlier].targets.len());
            let done = of - self.waves.left[earlier];
            return Some(WaveGate::Earlier { wave: waves[earlier].name.clone(), done, of });
        }
        if let Some(before) = (0..index).find(|before| now_ms < self.bakes_until(*before)) {
            return Some(WaveGate::Baking { wave: waves[before].name.clone(), until: self.bakes_until(before) });
        }
        let is_approved = !wave.approve || self.requests.approved.contains_key(&wave.name);
        (!is_approved).then(|| WaveGate::Approval { wave: wave.name.clone() })
    }

    /// The targets whose wave's turn it is; all of them if the job has no waves.
    pub(super) fn targets_in_turn(&self) -> impl Iterator<Item = usize> {
        let waves = self.setup.waves.iter().enumerate();
        let in_turn = waves.filter(|(index, _)| self.turn(self.now_ms, *index).is_none());
        let all = self.setup.waves.is_empty().then_some(0..self.slots.len());
        in_turn.map(|(_, wave)| wave.targets.clone()).chain(all).flatten()
    }

    /// Why it is not a target's wave's turn.
    pub(super) fn wave_gate(&self, now_ms: u64, target: usize) -> Option<WaveGate> {
        let index = *self.waves.of.get(target)?;
        self.turn(now_ms, index).or_else(|| self.wave_full(target))
    }

    /// Whether as many of a target's wave are under way as that allows.
    pub(super) fn wave_full(&self, target: usize) -> Option<WaveGate> {
        let wave = self.setup.waves.get(*self.waves.of.get(target)?)?;
        let slots = wave.slots?;
        let others = self.in_flight.range(wave.targets.clone()).filter(|other| **other != target).count();
        (count(others) >= slots).then(|| WaveGate::Full { wave: wave.name.clone(), slots })
    }
}
