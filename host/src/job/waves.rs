//! The waves of a job: which there are, and that no target is left without one.

use std::collections::BTreeMap;
use std::time::Duration;

use super::budget::{self, StopAt};
use super::limit::{Limit, Rounding, Share};
use super::name::JobName;
use super::spec::WaveSpec;
use lockkeeper_locks::table;
use lockkeeper_locks::toml_reader::{At, Found, Refused, Report};

/// What to do about targets that no wave takes.
pub(super) const LEFT_OUT_HELP: &str = "end with a wave that has a `name` and no `size`: it takes all that are left";

table! {
    /// Targets that go together, after those of the wave before.
    WaveTable {
        /// What it is called: `name = "canary"`.
        required name: JobName,
        /// How many targets: a count, or a share of all of them such as `"10%"`, rounded down but at least 1. Left out, in
        /// the last wave: all that are left.
        optional size: Limit,
        /// How many of them may be under way at once: a count, or a share of the wave, rounded down but at least 1. Left
        /// out: as many as the semaphore allows.
        optional max_concurrency: Limit,
        /// Nothing new starts, in any wave, once so many of this wave have failed: a count, or a share of the wave, rounded
        /// down but at least 1. Left out: only the job's budget counts.
        optional stop_at: StopAt,
        /// How long nothing starts after the last of them is done with, such as `"30m"`. Left out: no time.
        optional bake: Duration,
        /// Whether it begins only when somebody approves of it. Left out: `false`.
        optional approve: bool,
    }
    refused {
        "targets" => Refused::Never("a wave takes the next targets in their order", "say how many with `size`"),
        "wait" => Refused::Meant("bake"),
    }
}

/// The waves, each checked, and all of them together as far as that needs no target.
pub(super) fn waves(tables: Option<Found<Vec<Found<WaveTable>>>>, report: &mut Report) -> Vec<WaveSpec> {
    let Some(Found { value: tables, at }) = tables else { return Vec::new() };
    let count = tables.len();
    let mut names = BTreeMap::<_, At>::new();
    let mut waves = Vec::with_capacity(count);
    for (index, Found { value: table, at }) in tables.into_iter().enumerate() {
        let place = if index + 1 == count { Place::Last } else { Place::Before };
        if let Some(name) = &table.name {
            if let Some(first) = names.get(name.value.as_str()) {
                let line = report.place_of(first).line;
                report
                    .complain(&name.at, format!("wave `{}` is there twice", name.value))
                    .help(format!("its name is that of the wave at line {line}; give it another"))
                    .other(first.span.clone(), "named first");
            } else {
                names.insert(name.value.to_string(), name.at.clone());
            }
        }
        waves.extend(wave(table, &at, place, report));
    }
    // What cannot be read may be what is missing.
    if waves.len() == count && shares_leave_some_out(&waves) {
        let last = At { key: format!("{}[{}]", at.key, count - 1), span: at.span };
        let at = report.at(&format!("{}.size", last.key));
        report.complain(&at, "the shares of the waves do not add up to all targets").help(LEFT_OUT_HELP);
    }
    waves
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Before,
    Last,
}

fn wave(table: WaveTable, at: &At, place: Place, report: &mut Report) -> Option<WaveSpec> {
    let size_key = format!("{}.size", at.key);
    match &table.size {
        Some(size) if size.value.is_zero() => {
            report.complain(&size.at, "a wave of no targets").help("at least 1; the last wave may leave it out");
        }
        None if place == Place::Before && !report.has(&size_key) && !report.has_misspelt(&size_key) => {
            let at = At { key: size_key, span: at.span.clone() };
            report
                .complain_of_missing(&at, "missing key: only the last wave may leave it out")
                .help("how many targets: a count such as `4`, or a share of all of them such as `\"10%\"`");
        }
        _ => {}
    }
    if let Some(limit) = table.max_concurrency.as_ref().filter(|limit| limit.value.is_zero()) {
        report.complain(&limit.at, "nothing could ever start").help("at least 1 must be allowed to act");
    }
    if let (Some(bake), Place::Last) = (&table.bake, place) {
        report
            .complain(&bake.at, "means nothing in the last wave: no other waits for it")
            .help("leave it out; a policy such as `canary` can watch what is done");
    }
    let stop_at = budget::stop_at(table.stop_at, report);
    Some(WaveSpec {
        name: table.name?.value.to_string(),
        size: table.size.map(|size| size.value),
        max_concurrency: table.max_concurrency.map(|limit| limit.value),
        stop_at,
        bake: table.bake.map(|bake| bake.value).unwrap_or_default(),
        approve: table.approve.is_some_and(|approve| approve.value),
    })
}

/// Whether all sizes are shares of less than the whole together: then enough targets are more than they take.
fn shares_leave_some_out(waves: &[WaveSpec]) -> bool {
    let points = |wave: &WaveSpec| match wave.size {
        Some(Limit::Share(share)) => Some(u32::from(share.basis_points())),
        Some(Limit::Count(_)) | None => None,
    };
    let sum = waves.iter().map(points).sum::<Option<u32>>();
    !waves.is_empty() && sum.is_some_and(|sum| sum < u32::from(Share::ALL.basis_points()))
}

/// What is wrong where the waves take fewer than that many targets.
pub(super) fn left_out(waves: &[WaveSpec], total: usize) -> Option<String> {
    let targets = u32::try_from(total).unwrap_or(u32::MAX);
    let sizes = waves.iter().map(|wave| Some(u64::from(wave.size?.of(targets, Rounding::Limit))));
    let taken = sizes.sum::<Option<u64>>()?;
    let left = u64::try_from(total).unwrap_or(u64::MAX).checked_sub(taken).filter(|left| *left > 0)?;
    let are = if left == 1 { "is" } else { "are" };
    (!waves.is_empty()).then(|| format!("the waves take {taken} of {total} targets: {left} {are} left out"))
}

/// The key that such a complaint is about.
pub(super) fn last_size(waves: usize) -> String {
    format!("wave[{}].size", waves.saturating_sub(1))
}
