//! What a decision costs: fuel, which is exact; time and memory, which are this machine's.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

use super::{Question, decide};
use crate::policy::Module;

/// What one question costs.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Cost {
    /// The case's name.
    pub name: String,
    /// Fuel: the same on every machine.
    pub fuel: u64,
    /// Half of the decisions took at most so long, in microseconds.
    pub p50_us: f64,
    /// 99 of 100 took at most so long, in microseconds.
    pub p99_us: f64,
    /// Bytes of linear memory that the instance had in the end.
    pub memory: u64,
    /// What it answered: a verdict, or the kind of fault.
    pub answer: String,
}

/// What a policy costs over all questions.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Measured {
    /// The policy's name.
    pub policy: String,
    /// The sha256 of its file.
    pub sha256: String,
    /// Each question's.
    pub cases: Vec<Cost>,
    /// Over all decisions, in microseconds.
    pub p50_us: f64,
    /// The same.
    pub p99_us: f64,
    /// The most memory that an instance had.
    pub memory: u64,
    /// How many decisions were timed.
    pub decisions: usize,
}

/// Asks each question `rounds` times, in turn, so that whatever else the machine does meets all alike; a first round that
/// warms up is not counted.
#[must_use]
pub fn measure(policy: &Module, questions: &[(String, Question)], rounds: usize) -> Measured {
    let mut took = vec![Vec::with_capacity(rounds); questions.len()];
    let mut cases: Vec<Cost> = questions
        .iter()
        .map(|(name, question)| {
            let said = decide(policy, question);
            let answer = said.answer.map_or_else(|fault| fault.kind, |answer| answer.verdict);
            Cost { name: name.clone(), fuel: said.fuel, p50_us: 0.0, p99_us: 0.0, memory: said.memory, answer }
        })
        .collect();
    for _ in 0..rounds {
        for ((_, question), took) in questions.iter().zip(&mut took) {
            took.push(decide(policy, question).took);
        }
    }
    for (cost, took) in cases.iter_mut().zip(&mut took) {
        (cost.p50_us, cost.p99_us) = percentiles(took);
    }
    let mut all: Vec<Duration> = took.concat();
    let (p50_us, p99_us) = percentiles(&mut all);
    Measured {
        policy: policy.manifest().name.clone(),
        sha256: policy.digest().to_owned(),
        memory: cases.iter().map(|cost| cost.memory).max().unwrap_or(0),
        cases,
        p50_us,
        p99_us,
        decisions: all.len(),
    }
}

/// The times at 50 and 99 of 100, in microseconds, to a tenth.
fn percentiles(took: &mut [Duration]) -> (f64, f64) {
    took.sort_unstable();
    let at = |share: usize| {
        let index = (took.len() * share).div_ceil(100).saturating_sub(1);
        took.get(index).map_or(0.0, |took| (took.as_secs_f64() * 10_000_000.0).round() / 10.0)
    };
    (at(50), at(99))
}

/// What decisions cost before: the fuel of each case, as an earlier [`Measured`] has it in JSON.
#[derive(Debug, Clone)]
pub struct Baseline(BTreeMap<String, u64>);

/// Why something is no baseline.
#[derive(Debug, Error)]
#[error("this is no output of `lockkeeper policy bench --format json`")]
pub struct BaselineError(#[source] serde_json::Error);

/// A case that burns more fuel than it may.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Growth {
    /// The case's name.
    pub name: String,
    /// Fuel before.
    pub before: u64,
    /// Fuel now.
    pub now: u64,
    /// How many per cent more, to a tenth.
    pub percent: f64,
}

impl Baseline {
    /// Reads it.
    ///
    /// # Errors
    /// [`BaselineError`].
    pub fn parse(json: &str) -> Result<Self, BaselineError> {
        #[derive(Deserialize)]
        struct Before {
            cases: Vec<One>,
        }
        #[derive(Deserialize)]
        struct One {
            name: String,
            fuel: u64,
        }
        let before: Before = serde_json::from_str(json).map_err(BaselineError)?;
        Ok(Self(before.cases.into_iter().map(|one| (one.name, one.fuel)).collect()))
    }

    /// The cases that burn more than `percent` per cent more fuel than before.
    #[must_use]
    pub fn grown(&self, now: &Measured, percent: f64) -> Vec<Growth> {
        let growth = |cost: &Cost| {
            let before = *self.0.get(&cost.name)?;
            let may = before as f64 * (1.0 + percent / 100.0);
            let more = (cost.fuel as f64 / before.max(1) as f64 - 1.0) * 100.0;
            let percent_more = (more * 10.0).round() / 10.0;
            (cost.fuel as f64 > may).then(|| Growth {
                name: cost.name.clone(),
                before,
                now: cost.fuel,
                percent: percent_more,
            })
        };
        now.cases.iter().filter_map(growth).collect()
    }

    /// The names that the baseline has and the measurement has not, and the other way round.
    #[must_use]
    pub fn unmatched(&self, now: &Measured) -> (Vec<String>, Vec<String>) {
        let has = |name: &str| now.cases.iter().any(|cost| cost.name == name);
        let gone = self.0.keys().filter(|name| !has(name)).cloned().collect();
        let new = now.cases.iter().filter(|cost| !self.0.contains_key(&cost.name)).map(|cost| cost.name.clone());
        (gone, new.collect())
    }
}

/// The questions of a measurement whose view somebody gives.
impl Question {
    /// `admit` with these settings and an empty memory.
    #[must_use]
    pub fn admit(settings: Value, view: crate::policy::types::View) -> Self {
        Self { settings, view, outcome: None, memory: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(costs: &[(&str, u64)]) -> Measured {
        let cost = |(name, fuel): &(&str, u64)| Cost {
            name: (*name).to_owned(),
            fuel: *fuel,
            p50_us: 0.0,
            p99_us: 0.0,
            memory: 0,
            answer: "lock".to_owned(),
        };
        let cases = costs.iter().map(cost).collect();
        Measured {
            policy: String::new(),
            sha256: String::new(),
            cases,
            p50_us: 0.0,
            p99_us: 0.0,
            memory: 0,
            decisions: 0,
        }
    }

    #[test]
    fn fuel_may_grow_so_much_and_no_more() {
        let before = serde_json::to_string(&measured(&[("a", 1000), ("b", 1000), ("gone", 1)])).unwrap();
        let before = Baseline::parse(&before).unwrap();
        let now = measured(&[("a", 1100), ("b", 1101), ("new", 5)]);
        let grown = before.grown(&now, 10.0);
        assert_eq!(grown, [Growth { name: "b".to_owned(), before: 1000, now: 1101, percent: 10.1 }]);
        assert_eq!(before.unmatched(&now), (vec!["gone".to_owned()], vec!["new".to_owned()]));
        assert!(Baseline::parse("[]").is_err());
    }

    #[test]
    fn percentiles_are_those_of_the_sorted_times() {
        let mut took: Vec<Duration> = (1..=100).rev().map(Duration::from_micros).collect();
        assert_eq!(percentiles(&mut took), (50.0, 99.0));
        assert_eq!(percentiles(&mut []), (0.0, 0.0));
    }
}
