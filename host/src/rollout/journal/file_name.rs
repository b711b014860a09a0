//! File names of the journals in a run's folder: one journal for each runner epoch.

/// Beginning of every name.
const NAME: &str = "journal";
const SUFFIX: &str = ".jsonl";

/// Name of a runner epoch's journal.
#[must_use]
pub fn file_name(runner_epoch: u32) -> String {
    match runner_epoch {
        0 | 1 => format!("{NAME}{SUFFIX}"),
        _ => format!("{NAME}-{runner_epoch}{SUFFIX}"),
    }
}

/// The runner epoch whose journal has this name.
#[must_use]
pub fn number(name: &str) -> Option<u32> {
    let middle = name.strip_prefix(NAME)?.strip_suffix(SUFFIX)?;
    let runner_epoch = if middle.is_empty() { 1 } else { middle.strip_prefix('-')?.parse().ok()? };
    (file_name(runner_epoch) == name).then_some(runner_epoch)
}
