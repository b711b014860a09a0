//! From what callers tell to figures. Pure.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;

/// Figures of one run, by name.
pub(crate) type Figures = BTreeMap<&'static str, f64>;

/// One slot taken and given back, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cycle {
    pub(crate) asked: u64,
    pub(crate) got: u64,
    pub(crate) releasing: u64,
    pub(crate) released: u64,
}

/// What callers did between two moments.
#[derive(Debug)]
pub(crate) struct Window {
    begin: u64,
    end: u64,
    /// In the order of `got`.
    cycles: Vec<Cycle>,
}

impl Window {
    pub(crate) fn read(told: &Value) -> Result<Self> {
        let moment = |name: &str| told[name].as_u64().with_context(|| format!("no {name}"));
        let mut cycles = Vec::new();
        for told in told["cycles"].as_array().context("no cycles")? {
            let at = |index: usize| told[index].as_u64().context("a cycle is four moments");
            cycles.push(Cycle { asked: at(0)?, got: at(1)?, releasing: at(2)?, released: at(3)? });
        }
        cycles.sort_unstable_by_key(|cycle| cycle.got);
        Ok(Self { begin: moment("begin")?, end: moment("end")?, cycles })
    }

    pub(crate) fn acquisitions(&self) -> f64 {
        self.cycles.len() as f64
    }

    pub(crate) fn per_second(&self) -> f64 {
        self.acquisitions() * 1e6 / (self.end - self.begin).max(1) as f64
    }

    /// Milliseconds from asking to having, which so many of all acquisitions did not exceed.
    pub(crate) fn acquire_ms(&self, share: f64) -> Option<f64> {
        quantile(self.cycles.iter().map(|cycle| millis(cycle.asked, cycle.got)), share)
    }

    /// Milliseconds from giving back to having given back, in the middle.
    pub(crate) fn release_ms(&self) -> Option<f64> {
        quantile(self.cycles.iter().map(|cycle| millis(cycle.releasing, cycle.released)), 0.5)
    }

    /// How many slots were at work at a time: from when a caller had one to when it began to give it back.
    pub(crate) fn at_work(&self) -> f64 {
        let clipped = |cycle: &Cycle| cycle.releasing.min(self.end).saturating_sub(cycle.got.max(self.begin));
        self.cycles.iter().map(clipped).sum::<u64>() as f64 / (self.end - self.begin).max(1) as f64
    }

    /// Milliseconds from the beginning of a release to when the next caller, which was waiting, had the only slot; in the
    /// middle.
    pub(crate) fn hand_over_ms(&self) -> Option<f64> {
        let pairs = self.cycles.iter().zip(self.cycles.iter().skip(1));
        let waited = pairs.filter(|(before, next)| next.asked < before.releasing && before.releasing <= next.got);
        quantile(waited.map(|(before, next)| millis(before.releasing, next.got)), 0.5)
    }
}

fn millis(from: u64, to: u64) -> f64 {
    to.saturating_sub(from) as f64 / 1000.0
}

/// The number that so many of all do not exceed; none of none.
pub(crate) fn quantile(numbers: impl Iterator<Item = f64>, share: f64) -> Option<f64> {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    let rank = (numbers.len() as f64 * share).ceil() as usize;
    numbers.get(rank.clamp(1, numbers.len().max(1)) - 1).copied()
}

/// Each figure's middle over several runs.
pub(crate) fn medians(runs: &[Figures]) -> Figures {
    let names: std::collections::BTreeSet<&'static str> = runs.iter().flat_map(|run| run.keys().copied()).collect();
    let middle = |name| quantile(runs.iter().filter_map(|run: &Figures| run.get(name).copied()), 0.5);
    names.into_iter().filter_map(|name| Some((name, middle(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn figures_come_from_moments() {
        // One slot, two callers: 2 ms of work each, 1 ms to hand over.
        let told = json!({"begin": 0, "end": 10_000, "cycles": [
            [2_500, 4_000, 6_000, 6_500], [500, 1_000, 3_000, 3_500], [6_600, 7_000, 9_000, 9_500]
        ]});
        let window = Window::read(&told).unwrap();
        assert_eq!(window.per_second(), 300.0);
        assert_eq!(window.acquire_ms(0.5), Some(0.5));
        assert_eq!(window.acquire_ms(0.99), Some(1.5));
        assert_eq!(window.release_ms(), Some(0.5));
        assert_eq!(window.at_work(), 0.6);
        assert_eq!(window.hand_over_ms(), Some(1.0), "the third was not waiting when the second began to release");
    }

    #[test]
    fn the_middle_is_taken_figure_by_figure() {
        let runs = [Figures::from([("a", 3.0), ("b", 1.0)]), Figures::from([("a", 1.0)]), Figures::from([("a", 2.0)])];
        assert_eq!(medians(&runs), Figures::from([("a", 2.0), ("b", 1.0)]));
    }
}
