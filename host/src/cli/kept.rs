//! Runs as the store has them: found by whatever somebody calls them.

use std::sync::Arc;

use super::exit::{ErrorKind, Failure};
use super::output::{of, shown};
use crate::rollout::ledger::{self, Kept};
use crate::store::Store;

/// The newest run, for whoever does not want to type its name.
const LATEST: &str = "latest";

/// How many runs an error names.
const MOST_NAMED: usize = 10;

/// The run that is meant: by its name, the beginning of one, its job's name for the newest of that, or `latest`.
pub(super) async fn find(store: &Arc<dyn Store>, wanted: &str) -> Result<Kept, Failure> {
    let mut runs = ledger::all(store).await?;
    if let Some(exact) = runs.iter().position(|run| run.name == wanted) {
        return Ok(runs.swap_remove(exact));
    }
    if let Some(newest) = runs.iter().rposition(|run| wanted == LATEST || run.record.job == wanted) {
        return Ok(runs.swap_remove(newest));
    }
    let meant: Vec<usize> = (0..runs.len()).filter(|run| runs[*run].name.starts_with(wanted)).collect();
    match meant.as_slice() {
        [only] => Ok(runs.swap_remove(*only)),
        [] => {
            let hint = match runs.is_empty() {
                true => String::from(
                    "there is none in this store; `lockkeeper run JOB` makes one, and --store, --zk-hosts or --profile name another store",
                ),
                false => format!("there is {}", named(runs.iter().rev().map(|run| run.name.as_str()))),
            };
            let text = format!("the store has no run `{}`", shown(wanted));
            Err(Failure::message(ErrorKind::NoSuchRun, text).hint(hint))
        }
        several => {
            let text = format!("the names of {} begin with `{}`", of(several.len(), "run"), shown(wanted));
            let names = named(several.iter().map(|run| runs[*run].name.as_str()));
            Err(Failure::message(ErrorKind::NoSuchRun, text).hint(format!("say which: {names}")))
        }
    }
}

/// The first of some names, and how many more there are.
fn named<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{}`", super::holders::plain(name))).collect();
    match names.len().saturating_sub(MOST_NAMED) {
        0 => names.join(", "),
        more => format!("{}, and {more} more", names[..MOST_NAMED].join(", ")),
    }
}
