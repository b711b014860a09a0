//! Waves, one after the other: which targets may start, and when the next wave starts.

use std::ops::Range;

use crate::policy::types::Cause;
use crate::rollout::machine::Rollout;
use crate::rollout::machine::budget::is_charged;
use crate::rollout::machine::rollout::count;
use crate::rollout::machine::targets::StatusChange;
use crate::rollout::model::{EpochMs, Event, TargetIndex, TargetStatus, Wave, WaveGate};

/// How far the waves are.
#[derive(Debug, Default)]
pub(super) struct Waves {
    /// The wave of each target; empty if the job has no waves.
    of: Vec<usize>,
    progress: Vec<WaveProgress>,
    /// How many waves have started.
    started: usize,
    /// What was reported of the next one.
    reported: Option<Reported>,
}

/// How far one wave is.
#[derive(Debug)]
struct WaveProgress {
    /// How many of its targets are not final.
    left: u32,
    /// How many are charged to the budget, accepted or not.
    charged: u32,
    /// When the last one became final. `None` before the first.
    last_final: Option<EpochMs>,
}

/// Why the next wave has not started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reported {
    BudgetSpent,
    Baking(u64),
    Unapproved,
}

/// The targets of a wave.
pub(super) fn range(wave: &Wave) -> Range<TargetIndex> {
    TargetIndex::new(wave.targets.start)..TargetIndex::new(wave.targets.end)
}

impl Waves {
    pub(super) fn new(waves: &[Wave], targets: usize) -> Self {
        let mut of = if waves.is_empty() { Vec::new() } else { vec![0; targets] };
        for (index, wave) in waves.iter().enumerate() {
            of[wave.targets.clone()].fill(index);
        }
        let progress =
            waves.iter().map(|wave| WaveProgress { left: count(wave.targets.len()), charged: 0, last_final: None });
        Self { of, progress: progress.collect(), started: 0, reported: None }
    }

    /// The number of a target's wave.
    pub(super) fn of(&self, target: TargetIndex) -> Option<usize> {
        self.of.get(target.get()).copied()
    }

    /// How many targets of a wave are charged to the budget, accepted or not.
    pub(super) fn charged(&self, wave: usize) -> u32 {
        self.progress.get(wave).map_or(0, |progress| progress.charged)
    }

    /// How many targets of a wave are not final.
    pub(super) fn left(&self, wave: usize) -> u32 {
        self.progress.get(wave).map_or(0, |progress| progress.left)
    }

    /// How many waves have started.
    pub(super) fn started(&self) -> usize {
        self.started
    }

    /// The first target of the first wave that has not started. `None` if every wave has.
    pub(super) fn started_until(&self, waves: &[Wave]) -> Option<TargetIndex> {
        waves.get(self.started).map(|next| range(next).start)
    }

    /// A target's status changed.
    pub(super) fn follow(&mut self, target: TargetIndex, change: StatusChange, now: EpochMs) {
        let Some(progress) = self.of.get(target.get()).and_then(|wave| self.progress.get_mut(*wave)) else { return };
        let is_final = |status| matches!(status, TargetStatus::Final(_));
        match (is_final(change.before), is_final(change.after)) {
            (false, true) => {
                progress.left -= 1;
                progress.last_final = progress.last_final.max(Some(now));
            }
            (true, false) => progress.left += 1,
            _ => {}
        }
        match (is_charged(change.before), is_charged(change.after)) {
            (false, true) => progress.charged += 1,
            (true, false) => progress.charged -= 1,
            _ => {}
        }
    }

    /// The wall clock was set.
    pub(super) fn shift(&mut self, by_ms: i64) {
        for WaveProgress { last_final, .. } in &mut self.progress {
            *last_final = last_final.map(|at| at.shifted(by_ms));
        }
    }
}

impl Rollout {
    /// The name of a target's wave. `None` if the job has no waves.
    #[must_use]
    pub fn wave_of(&self, target: TargetIndex) -> Option<&str> {
        Some(&self.setup.waves.get(self.waves.of(target)?)?.name)
    }

    /// The wave in progress: its name, how many of its targets are final, and how many it has.
    #[must_use]
    pub fn wave_now(&self) -> Option<(&str, u32, u32)> {
        let index = self.waves.started.checked_sub(1)?;
        let wave = self.setup.waves.get(index)?;
        let all = count(wave.targets.len());
        Some((&wave.name, all - self.waves.left(index), all))
    }

    /// The first target of a target's wave.
    pub(super) fn wave_start(&self, target: TargetIndex) -> TargetIndex {
        let wave = self.waves.of(target).and_then(|wave| self.setup.waves.get(wave));
        wave.map_or(TargetIndex::new(0), |wave| range(wave).start)
    }

    /// When the wave that bakes next has baked.
    pub(super) fn next_baked(&self) -> Option<EpochMs> {
        // A wave that has started waits again if a target of an earlier wave was rolled back since.
        let started_or_next = 0..self.setup.waves.len().min(self.waves.started + 1);
        let baking = started_or_next.filter_map(|wave| match self.turn(wave) {
            Some(WaveGate::Baking { until, .. }) => Some(EpochMs::new(until)),
            _ => None,
        });
        baking.min()
    }

    fn bakes_until(&self, wave: usize) -> EpochMs {
        self.waves.progress[wave].last_final.unwrap_or_default().after(self.setup.waves[wave].bake)
    }

    /// Starts every wave that may start.
    pub(super) fn start_waves(&mut self) {
        if self.ending.is_some() {
            return;
        }
        while let Some(next) = self.setup.waves.get(self.waves.started) {
            let (name, targets) = (next.name.clone(), next.targets.len());
            let turn = self.turn(self.waves.started);
            if let Some(WaveGate::Earlier { .. } | WaveGate::Full { .. }) = turn {
                self.waves.reported.take_if(|reported| *reported == Reported::BudgetSpent);
                return;
            }
            if let Some((first, refused)) = self.refused_for_budget(self.waves.started) {
                if self.waves.reported.replace(Reported::BudgetSpent) != Some(Reported::BudgetSpent) {
                    self.sweep.reported.clear();
                }
                return self.report_refused(first, &refused);
            }
            if let Some(gate) = turn {
                return self.report_gate(gate);
            }
            self.waves.started += 1;
            self.waves.reported = None;
            // A wave that an earlier runner completed needs no report.
            if self.waves.left(self.waves.started - 1) > 0 {
                self.emit(Event::WaveStarted { wave: name, targets });
            }
            self.sweep.changed(Cause::Progressed);
        }
    }

    fn report_gate(&mut self, gate: WaveGate) {
        let (reported, event) = match gate {
            WaveGate::Baking { wave, until } => (Reported::Baking(until), Event::WaveBaking { wave, until }),
            WaveGate::Approval { wave } => {
                (Reported::Unapproved, Event::WaveAwaitsApproval { wave, run: self.setup.run.to_string() })
            }
            WaveGate::Earlier { .. } | WaveGate::Full { .. } => return,
        };
        if self.waves.reported.replace(reported) != Some(reported) {
            self.emit(event);
        }
    }

    /// Why it is not a wave's turn. `None` if those before it are complete and have baked, and it is approved.
    fn turn(&self, index: usize) -> Option<WaveGate> {
        let waves = &self.setup.waves;
        let wave = waves.get(index)?;
        // An operator may have requested a retry of a target of an earlier wave.
        if let Some(earlier) = (0..index).find(|earlier| self.waves.left(*earlier) > 0) {
            let of = count(waves[earlier].targets.len());
            let done = of - self.waves.left(earlier);
            return Some(WaveGate::Earlier { wave: waves[earlier].name.clone(), done, of });
        }
        if let Some(before) = (0..index).find(|before| self.now < self.bakes_until(*before)) {
            let until = self.bakes_until(before).get();
            return Some(WaveGate::Baking { wave: waves[before].name.clone(), until });
        }
        let is_approved = !wave.approve || self.requests.approved.contains_key(&wave.name);
        (!is_approved).then(|| WaveGate::Approval { wave: wave.name.clone() })
    }

    /// The targets whose wave's turn it is; all of them if the job has no waves.
    pub(super) fn targets_in_turn(&self) -> impl Iterator<Item = TargetIndex> {
        let waves = self.setup.waves.iter().enumerate();
        let in_turn = waves.filter(|(index, _)| self.turn(*index).is_none());
        let all = self.setup.waves.is_empty().then_some(0..self.targets.len());
        in_turn.map(|(_, wave)| wave.targets.clone()).chain(all).flatten().map(TargetIndex::new)
    }

    /// Why it is not the turn of a target's wave.
    pub(super) fn wave_gate(&self, target: TargetIndex) -> Option<WaveGate> {
        self.turn(self.waves.of(target)?).or_else(|| self.wave_full(target))
    }

    /// Whether as many targets of a target's wave are in flight as the wave allows.
    pub(super) fn wave_full(&self, target: TargetIndex) -> Option<WaveGate> {
        let wave = self.setup.waves.get(self.waves.of(target)?)?;
        let slots = wave.slots?;
        let others = self.targets.in_flight().range(range(wave)).filter(|other| **other != target).count();
        (count(others) >= slots).then(|| WaveGate::Full { wave: wave.name.clone(), slots })
    }
}
