//! The names of the journals in the folder of a run: one journal for each runner epoch.

/// What the names of all of them begin and end with.
const NAME: &str = "journal";
const SUFFIX: &str = ".jsonl";

/// The name of a stint's journal in the run's folder: each stint has one of its own.
#[must_use]
pub fn file_name(runner_epoch: u32) -> String {
    match runner_epoch {
        0 | 1 => format!("{NAME}{SUFFIX}"),
        _ => format!("{NAME}-{runner_epoch}{SUFFIX}"),
    }
}

/// Which stint's journal has this name.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    let middle = name.strip_prefix(NAME)?.strip_suffix(SUFFIX)?;
    let runner_epoch = if middle.is_empty() { 1 } else { middle.strip_prefix('-')?.parse().ok()? };
    (file_name(runner_epoch) == name).then_some(runner_epoch)
}
