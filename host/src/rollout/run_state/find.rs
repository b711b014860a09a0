//! Finds the run that a command line names.

use thiserror::Error;

use super::read::StoredRun;
use lockkeeper_locks::toml_reader::closest;

/// Names the newest run.
pub const LATEST: &str = "latest";

/// Why a name does not identify one run.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FindError {
    /// The store has no runs.
    #[error("there is no run")]
    Nothing,
    /// Several runs start with the name.
    #[error("`{wanted}` matches {} runs", names.len())]
    Ambiguous {
        /// The name as given.
        wanted: String,
        /// The matching runs, newest first.
        names: Vec<String>,
    },
    /// No run has that name.
    #[error("there is no run `{wanted}`")]
    NoSuchRun {
        /// The name as given.
        wanted: String,
        /// The most similar name of a run or job, if any is similar.
        nearest: Option<String>,
        /// All runs, newest first.
        names: Vec<String>,
    },
}

/// Finds a run by its full name, by `latest`, by its job's name (the job's newest run), or by an unambiguous prefix.
/// `runs` are as [`all`](super::all) lists them: oldest first.
///
/// # Errors
/// [`FindError`].
pub fn find<'a>(runs: &'a [StoredRun], wanted: &str) -> Result<&'a StoredRun, FindError> {
    let Some(newest) = runs.last() else { return Err(FindError::Nothing) };
    if let Some(run) = runs.iter().find(|run| run.name == wanted) {
        return Ok(run);
    }
    if wanted == LATEST {
        return Ok(newest);
    }
    if let Some(run) = runs.iter().rev().find(|run| run.record.job == wanted) {
        return Ok(run);
    }
    let begin_so: Vec<&StoredRun> = runs.iter().rev().filter(|run| run.name.starts_with(wanted)).collect();
    let names = |runs: &[&StoredRun]| runs.iter().map(|run| run.name.clone()).collect();
    match begin_so.as_slice() {
        [only] => Ok(only),
        [] => {
            let newest_first: Vec<&StoredRun> = runs.iter().rev().collect();
            let mut known: Vec<&str> =
                runs.iter().flat_map(|run| [run.record.job.as_str(), run.name.as_str()]).collect();
            known.push(LATEST);
            known.dedup();
            let nearest = closest(wanted, &known).map(str::to_owned);
            Err(FindError::NoSuchRun { wanted: wanted.to_owned(), nearest, names: names(&newest_first) })
        }
        some => Err(FindError::Ambiguous { wanted: wanted.to_owned(), names: names(some) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::run_state::{LAYOUT, RunRecord};
    use lockkeeper_coordination::store::NodePath;

    fn run(job: &str, name: &str) -> StoredRun {
        let record = RunRecord {
            layout: LAYOUT,
            job: job.to_owned(),
            digest: String::new(),
            policy: String::new(),
            policy_digest: String::new(),
            started: 0,
            targets: 0,
            semaphore: NodePath::parse("/x").unwrap(),
            slots: 1,
            runner_epoch: 1,
            runner_epochs: Vec::new(),
            ended: None,
        };
        StoredRun { name: name.to_owned(), record, version: 0 }
    }

    #[test]
    fn a_run_is_found_by_name_prefix_job_or_latest() {
        let runs = [run("web", "web-1"), run("db", "db-1"), run("web", "web-2"), run("db", "db-22")];
        for (wanted, name) in
            [("web-1", "web-1"), ("web", "web-2"), ("latest", "db-22"), ("db-2", "db-22"), ("db-1", "db-1")]
        {
            assert_eq!(find(&runs, wanted).unwrap().name, name, "{wanted}");
        }
    }

    #[test]
    fn an_unknown_or_ambiguous_name_lists_the_candidates() {
        assert_eq!(find(&[], "latest"), Err(FindError::Nothing));
        let runs = [run("web", "web-1"), run("web", "web-2")];
        assert_eq!(
            find(&runs, "web-"),
            Err(FindError::Ambiguous {
                wanted: "web-".to_owned(),
                names: vec!["web-2".to_owned(), "web-1".to_owned()]
            })
        );
        let Err(FindError::NoSuchRun { nearest, names, .. }) = find(&runs, "lastest") else { panic!("there is none") };
        assert_eq!((nearest.as_deref(), names.len()), (Some("latest"), 2));
    }
}
