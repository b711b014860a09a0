//! The table, for people's eyes and for the documentation.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::cast::{Cast, EVERYBODY, Who};
use crate::measure::Results;
use crate::plan::{Better, Goal, Row, rows};

/// What is told.
pub(crate) struct Report<'a> {
    pub(crate) machine: &'a [String],
    pub(crate) cast: &'a Cast,
    pub(crate) results: &'a Results,
}

impl Report<'_> {
    /// The whole of it, in Markdown.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "Measured on {}.\n", jiff::Zoned::now().date());
        for line in self.machine {
            let _ = writeln!(text, "- {line}");
        }
        let rounds = self.results.rounds;
        let _ = writeln!(
            text,
            "- medians of {rounds} {}, everybody in turn in each{}\n",
            if rounds == 1 { "round" } else { "rounds" },
            if self.results.quick { "; **quick: whether it works, not how well**" } else { "" }
        );
        let here: Vec<Who> = EVERYBODY.into_iter().filter(|who| self.cast.is_here(*who)).collect();
        let names: Vec<String> = here.iter().map(|who| self.cast.name(*who)).collect();
        let _ = writeln!(text, "| what | {} | times better | goal | |", names.join(" | "));
        let _ = writeln!(text, "|---|{}---|---|---|", "---:|".repeat(here.len()));
        for row in rows().iter().filter(|row| self.results.runs.iter().any(|run| run.name == row.run)) {
            let _ = writeln!(text, "{}", self.line(row, &here));
        }
        let set_ups = self.set_ups(&here);
        if !set_ups.is_empty() {
            let _ = write!(text, "\n{set_ups}");
        }
        text
    }

    fn figure(&self, row: &Row, who: Who) -> Option<f64> {
        self.results.best(row.run, who)?.figures.get(row.figure).copied()
    }

    fn line(&self, row: &Row, here: &[Who]) -> String {
        let number = |number: f64| grouped(number, row.decimals);
        let figures: Vec<String> =
            here.iter().map(|who| self.figure(row, *who).map_or_else(|| "–".to_owned(), number)).collect();
        let ours = self.figure(row, Who::Lockkeeper);
        let ratios: Vec<f64> = here
            .iter()
            .filter(|who| **who != Who::Lockkeeper)
            .filter_map(|who| Some(ratio(ours?, self.figure(row, *who)?, row.better)))
            .collect();
        let shown = match (row.run, ratios.is_empty()) {
            ("lost", _) | (_, true) => String::new(),
            (_, false) => ratios.iter().map(|ratio| grouped(*ratio, 1)).collect::<Vec<_>>().join(" · "),
        };
        let (goal, verdict) = match (row.goal, ours) {
            (Goal::None, _) | (_, None) => (String::new(), ""),
            (Goal::AtMost(most), Some(ours)) => (format!("≤ {most}"), verdict(ours <= most)),
            (Goal::AtLeast(least), Some(ours)) => (format!("≥ {least}"), verdict(ours >= least)),
            (Goal::Times(times), Some(_)) => {
                (format!("≥ {times} times"), verdict(ratios.iter().all(|ratio| *ratio >= times)))
            }
        };
        format!("| {} | {} | {shown} | {goal} | {verdict} |", row.what, figures.join(" | "))
    }

    /// In how many sessions and processes those were who had a choice.
    fn set_ups(&self, here: &[Who]) -> String {
        let mut text = String::new();
        for run in &self.results.runs {
            let of = |who: Who| run.set_ups.iter().filter(move |set_up| set_up.who == who).count();
            let chosen: Vec<String> = here
                .iter()
                .filter(|who| of(**who) > 1)
                .filter_map(|who| {
                    let set_up = self.results.best(run.name, *who)?.set_up;
                    let sessions = counted(set_up.sessions, "session", "sessions");
                    let processes = counted(set_up.processes, "process", "processes");
                    Some(format!("{} with {sessions} in {processes}", self.cast.name(*who)))
                })
                .collect();
            if !chosen.is_empty() {
                let _ = writeln!(text, "Best of several set-ups, {}: {}.", run.title, chosen.join(", "));
            }
        }
        text
    }

    /// Writes it into a file of the documentation.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        write("zookeeper", &self.text(), file)
    }
}

/// Writes what a benchmark came to into a file of the documentation, between its markers.
pub(crate) fn write(bench: &str, text: &str, file: &Path) -> Result<()> {
    let before = fs::read_to_string(file).with_context(|| format!("cannot read `{}`", file.display()))?;
    let after = between(&before, bench, text).with_context(|| format!("`{}` has no markers", file.display()))?;
    fs::write(file, after).with_context(|| format!("cannot write `{}`", file.display()))
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "short" }
}

fn counted(count: u32, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// How many times better ours is.
fn ratio(ours: f64, peer: f64, better: Better) -> f64 {
    match better {
        Better::Less => peer / ours,
        Better::More => ours / peer,
    }
}

/// A number with so many decimals and its thousands apart.
pub(crate) fn grouped(number: f64, decimals: usize) -> String {
    let text = format!("{number:.decimals$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut out = String::new();
    for (index, digit) in whole.chars().enumerate() {
        let left = whole.len() - index;
        if index > 0 && left % 3 == 0 && !out.ends_with('-') {
            out.push(',');
        }
        out.push(digit);
    }
    match rest {
        Some(rest) => format!("{out}.{rest}"),
        None => out,
    }
}

/// `text` with what stands between the markers of a benchmark replaced.
fn between(text: &str, bench: &str, new: &str) -> Option<String> {
    let [begin, end] = ["begin", "end"].map(|edge| format!("<!-- bench {bench}: {edge} -->"));
    let (before, rest) = text.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}\n{new}{end}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let text = |inside: &str| {
            let of = |bench: &str, inside: &str| {
                format!("<!-- bench {bench}: begin -->\n{inside}\n<!-- bench {bench}: end -->\n")
            };
            format!("# Before\n{}{}After\n", of("other", "old"), of("this", inside))
        };
        assert_eq!(between(&text("old"), "this", "new\n").unwrap(), text("new"));
        assert_eq!(between("nothing", "this", "new"), None);
    }

    #[test]
    fn numbers_are_easy_to_read() {
        assert_eq!(grouped(1234567.0, 0), "1,234,567");
        assert_eq!(grouped(999.96, 1), "1,000.0");
        assert_eq!(grouped(-123.0, 0), "-123");
        assert_eq!(grouped(2.04, 2), "2.04");
    }

    #[test]
    fn better_is_less_or_more() {
        assert_eq!(ratio(2.0, 8.0, Better::Less), 4.0);
        assert_eq!(ratio(8.0, 2.0, Better::More), 4.0);
    }
}
