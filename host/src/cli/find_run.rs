//! The run that a command is about, found in the store that its flags name.

use std::sync::Arc;

use super::args::Global;
use super::runs;
use crate::rollout::run_state::{self, FindError, LATEST, StoredRun};
use lockkeeper_coordination::store::Store;
use lockkeeper_locks::cli::exit::{ErrorKind, Failure};
use lockkeeper_locks::cli::output::{Output, shown};
use lockkeeper_locks::cli::store::{Purpose, StoreChoice};
use lockkeeper_locks::terminal;

/// Where others are.
pub(super) const ELSEWHERE: &str = "--store, --zk-hosts and --profile select another store; this command does not \
 read a job's [store]";

/// A run, and the session with its store.
pub(super) struct Found {
    pub(super) choice: StoreChoice,
    pub(super) store: Arc<dyn Store>,
    pub(super) kept: StoredRun,
}

/// Finds a run by its name, the beginning of it, its job's name, or `latest`. Refuses an unfinished run that another version of
/// this program wrote.
pub(super) async fn find(global: &Global, output: &Output, wanted: &str) -> Result<Found, Failure> {
    let found = find_in_any_layout(global, output, wanted).await?;
    found.kept.readable()?;
    Ok(found)
}

/// The same for `abort`, which ends runs of every layout.
pub(super) async fn find_in_any_layout(global: &Global, output: &Output, wanted: &str) -> Result<Found, Failure> {
    let choice = StoreChoice::new(&global.common, output, None, Purpose::Look)?;
    let store = choice.session().await?;
    let all = run_state::all(&store).await?;
    let kept = run_state::find(&all, wanted).map_err(|error| not_found(error, wanted, &choice))?.clone();
    Ok(Found { choice, store, kept })
}

fn not_found(error: FindError, wanted: &str, choice: &StoreChoice) -> Failure {
    let place = choice.place();
    let (text, hint) = match error {
        FindError::Nothing => (
            format!("{place} has no runs, and so no run `{}`", shown(wanted)),
            format!("`lockkeeper run JOB` starts one; {ELSEWHERE}"),
        ),
        FindError::Ambiguous { wanted, names } => {
            let named = runs::named(names.iter().map(String::as_str));
            (
                format!("`{}` matches {} runs", shown(&wanted), names.len()),
                format!("name one of them, or `{LATEST}` for the newest run: {named}"),
            )
        }
        FindError::NoSuchRun { wanted, nearest, names } => {
            let hint = match nearest {
                Some(nearest) => format!("did you mean `{}`?", terminal::value(&nearest)),
                None => format!("runs: {}; {ELSEWHERE}", runs::named(names.iter().map(String::as_str))),
            };
            (format!("{place} has no run `{}`", shown(&wanted)), hint)
        }
    };
    Failure::message(ErrorKind::NoSuchRun, text).hint(hint)
}
