//! How much of a job may fail: what `[budget]` and a wave's `stop-at` mean, and what of it does not fit together.

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use super::limit::{Limit, Rounding};
use super::spec::OnExhausted;
use lockkeeper_locks::toml_reader::{At, Found, FromToml, Report, quote};

/// What to do about a `max-failed` that is less than `stop-at`.
pub(super) const CONTRADICTION_HELP: &str =
    "`max-failed` is at least `stop-at`: the run stops at `stop-at`, and never exceeds `max-failed`";

/// The word for no limit.
const UNLIMITED: &str = "unlimited";

/// How many failures stop a run, or a wave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StopAt {
    /// So many: a share is rounded down, but to at least 1.
    Failures(Limit),
    /// No number of failures.
    Unlimited,
}

impl StopAt {
    /// The number, for that many targets. `None` if no number of failures stops anything.
    #[must_use]
    pub fn of(self, total: u32) -> Option<u32> {
        match self {
            Self::Failures(limit) => Some(limit.of(total, Rounding::Limit)),
            Self::Unlimited => None,
        }
    }
}

/// How much may fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BudgetSpec {
    /// Nothing new starts once so many targets have failed. `None` if only `max-failed` is given: then that is the number.
    pub stop_at: Option<StopAt>,
    /// So many may fail and no more, so each running target reserves a failure. A share is rounded down, to 0 too. `None` if
    /// nothing is reserved.
    pub max_failed: Option<Limit>,
    /// What happens at `stop-at`.
    pub on_exhausted: OnExhausted,
}

impl BudgetSpec {
    /// What is wrong with the two numbers, if both are given; `total` is how many targets there are, once that is known.
    pub(super) fn contradiction(&self, total: Option<u32>) -> Option<String> {
        let (Some(StopAt::Failures(stop_at)), Some(max_failed)) = (self.stop_at, self.max_failed) else { return None };
        let is_less = match (stop_at, max_failed, total) {
            // With 0, targets run one at a time and the first failure is the last.
            (Limit::Count(stop_at), Limit::Count(max_failed), _) => max_failed.max(1) < stop_at,
            // Both are rounded down, and `stop-at` to 1 at least.
            (Limit::Share(stop_at), Limit::Share(max_failed), _) => max_failed < stop_at,
            (_, _, Some(total @ 1..)) => {
                max_failed.of(total, Rounding::Budget).max(1) < stop_at.of(total, Rounding::Limit)
            }
            (_, _, None | Some(0)) => false,
        };
        let number = |limit: Limit, rounding| match (limit, total) {
            (Limit::Share(_), Some(total)) => format!("{limit} ({} of {total} targets)", limit.of(total, rounding)),
            _ => limit.to_string(),
        };
        is_less.then(|| {
            let (max_failed, stop_at) = (number(max_failed, Rounding::Budget), number(stop_at, Rounding::Limit));
            format!("`max-failed` is {max_failed}, less than `stop-at`, which is {stop_at}")
        })
    }

    /// That `max-failed` keeps slots from being used, and what to write instead; `total` is how many targets there are, if
    /// that is known.
    pub(super) fn throttles(&self, slots: Limit, total: Option<u32>) -> Option<(String, String)> {
        let max_failed = self.max_failed?;
        let numbers = match (max_failed, slots, total) {
            (_, _, Some(total)) => {
                // More targets than there are run no more at once.
                let slots = slots.of(total, Rounding::Limit).min(total.max(1));
                Some((max_failed.of(total, Rounding::Budget), slots))
            }
            (Limit::Count(max_failed), Limit::Count(slots), None) => Some((max_failed, slots)),
            _ => None,
        };
        let shares = match (max_failed, slots) {
            (Limit::Share(max_failed), Limit::Share(slots)) if numbers.is_none() => max_failed < slots,
            _ => false,
        };
        let stop_at = match self.stop_at {
            Some(StopAt::Failures(stop_at)) => stop_at,
            _ => max_failed,
        };
        let written = |limit: Limit| match limit {
            Limit::Count(count) => count.max(1).to_string(),
            Limit::Share(share) => format!("\"{share}\""),
        };
        let message = match numbers {
            Some((max_failed, slots)) if max_failed < slots => format!(
                "each running target reserves a failure, so at most {} of {slots} slots are used at once, and fewer after \
                 each failure",
                max_failed.max(1)
            ),
            None if shares => format!(
                "each running target reserves a failure: {max_failed} of the targets may fail, so fewer than the slots, \
                 {slots}, run at once, and fewer still after each failure"
            ),
            _ => return None,
        };
        let enough = match (numbers, stop_at, total) {
            (Some((_, slots)), Limit::Count(stop_at), _) => Some(stop_at.max(1).saturating_add(slots)),
            (Some((_, slots)), share, Some(total)) => Some(share.of(total, Rounding::Limit).saturating_add(slots)),
            _ => None,
        };
        let enough = match enough {
            Some(enough) => format!("`max-failed = {enough}`, which is `stop-at` + slots"),
            None => "a `max-failed` of `stop-at` + slots".to_owned(),
        };
        let instead = match self.stop_at {
            Some(_) => format!("leave it out and keep `stop-at = {}`", written(stop_at)),
            None => format!("write `stop-at = {}` in its place", written(stop_at)),
        };
        Some((message, format!("to use all slots, {instead}, or raise it: {enough}")))
    }
}

/// A `stop-at` that lets something start.
pub(super) fn stop_at(found: Option<Found<StopAt>>, report: &mut Report) -> Option<StopAt> {
    let Found { value, at } = found?;
    if let StopAt::Failures(limit) = value
        && limit.is_zero()
    {
        let problem = report.complain(&at, "nothing could ever start");
        problem.help("at least 1, so that the first failure stops it; `\"unlimited\"` continues whatever fails");
    }
    Some(value)
}

impl FromToml for StopAt {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        match value {
            DeValue::String(text) if text.trim() == UNLIMITED => Some(Self::Unlimited),
            DeValue::String(text) if !text.contains(|c: char| c.is_ascii_digit() || c == '%') => {
                let problem = report.complain(at, format!("{} is no number of failures", quote(text)));
                problem.help("a count such as `1`, a share of the targets such as `\"1%\"`, or `\"unlimited\"`");
                None
            }
            _ => Limit::from_toml(value, at, report).map(Self::Failures),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let limit = Limit::schema(generator);
        json_schema!({ "anyOf": [limit, { "const": UNLIMITED }] })
    }
}

#[cfg(test)]
mod tests {
    use super::super::limit::Share;
    use super::*;

    fn limit(text: &str) -> Limit {
        text.parse().map_or_else(|_| Limit::Share(Share::parse(text).unwrap()), Limit::Count)
    }

    fn budget(stop_at: &str, max_failed: &str) -> BudgetSpec {
        let given = |text: &str| (!text.is_empty()).then(|| limit(text));
        BudgetSpec {
            stop_at: given(stop_at).map(StopAt::Failures),
            max_failed: given(max_failed),
            on_exhausted: OnExhausted::Abort,
        }
    }

    #[test]
    fn a_share_of_failures_rounds_down_but_is_at_least_one() {
        for (text, total, number) in [("1%", 4000, 40), ("1%", 199, 1), ("1%", 7, 1), ("2%", 4000, 80), ("3", 2, 3)] {
            assert_eq!(StopAt::Failures(limit(text)).of(total), Some(number), "{text} of {total}");
        }
        assert_eq!(StopAt::Unlimited.of(4000), None);
    }

    #[test]
    fn never_exceeding_fewer_than_what_stops_it_is_a_contradiction() {
        for (stop_at, max_failed, total) in
            [("3", "2", None), ("2%", "1.99%", None), ("3", "1%", Some(299)), ("2%", "1", Some(100)), ("2", "0", None)]
        {
            assert!(budget(stop_at, max_failed).contradiction(total).is_some(), "{stop_at}, {max_failed}, {total:?}");
        }
        for (stop_at, max_failed, total) in [
            ("3", "3", None),
            ("1", "0", None),
            ("1%", "1%", Some(5)),
            ("3", "1%", Some(300)),
            ("3", "1%", None),
            ("3", "", Some(2)),
            ("", "3", Some(2)),
        ] {
            assert_eq!(budget(stop_at, max_failed).contradiction(total), None, "{stop_at}, {max_failed}, {total:?}");
        }
        let said = budget("3", "1%").contradiction(Some(250)).unwrap();
        assert_eq!(said, "`max-failed` is 1% (2 of 250 targets), less than `stop-at`, which is 3");
    }

    #[test]
    fn a_budget_that_leaves_slots_unused_says_what_to_write_instead() {
        let said = |stop_at, max_failed, slots, total| budget(stop_at, max_failed).throttles(limit(slots), total);
        let (message, help) = said("", "3", "20", None).unwrap();
        assert!(message.contains("at most 3 of 20 slots"), "{message}");
        assert_eq!(
            help,
            "to use all slots, write `stop-at = 3` in its place, or raise it: `max-failed = 23`, which is `stop-at` + slots"
        );
        let (message, help) = said("", "2%", "5%", Some(4000)).unwrap();
        assert!(message.contains("at most 80 of 200 slots"), "{message}");
        assert!(help.contains("`stop-at = \"2%\"` in its place") && help.contains("`max-failed = 280`"), "{help}");
        let (_, help) = said("1", "3", "20", None).unwrap();
        assert!(help.contains("keep `stop-at = 1`, or raise it: `max-failed = 21`"), "{help}");
        let (message, help) = said("", "0", "2", None).unwrap();
        assert!(message.contains("at most 1 of 2 slots"), "{message}");
        assert!(help.contains("`stop-at = 1`") && help.contains("`max-failed = 3`"), "{help}");
        assert!(said("", "2%", "5%", None).is_some_and(|(message, _)| message.contains("2% of the targets")));
        for (stop_at, max_failed, slots, total) in [
            ("3", "", "20", Some(4000)),
            ("", "20", "20", None),
            ("", "5%", "2%", None),
            ("", "2%", "20", None),
            // With two targets no more than two run at once.
            ("", "2", "20", Some(2)),
        ] {
            assert_eq!(said(stop_at, max_failed, slots, total), None, "{stop_at}, {max_failed}, {slots}, {total:?}");
        }
    }
}
