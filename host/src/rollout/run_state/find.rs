//! Which run somebody means.

use thiserror::Error;

use super::read::Kept;
use crate::job::closest;

/// The newest run of all, for whoever does not want to type its name.
pub const LATEST: &str = "latest";

/// Why no run is meant, or more than one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FindError {
    /// There is none at all.
    #[error("there is no run")]
    Nothing,
    /// More than one begins so.
    #[error("the names of {} runs begin with `{wanted}`", names.len())]
    Ambiguous {
        /// What was said.
        wanted: String,
        /// Whose, the newest first.
        names: Vec<String>,
    },
    /// None has that name.
    #[error("there is no run `{wanted}`")]
    NoSuchRun {
        /// What was said.
        wanted: String,
        /// What was meant, perhaps: a run, or a job.
        nearest: Option<String>,
        /// What there is, the newest first.
        names: Vec<String>,
    },
}

/// The run that is meant by its name, `latest`, its job's name for the job's newest, or the beginning of its name where no
/// other begins so. `runs` are as [`all`](super::all) lists them: oldest first.
///
/// # Errors
/// [`FindError`].
pub fn find<'a>(runs: &'a [Kept], wanted: &str) -> Result<&'a Kept, FindError> {
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
    let begin_so: Vec<&Kept> = runs.iter().rev().filter(|run| run.name.starts_with(wanted)).collect();
    let names = |runs: &[&Kept]| runs.iter().map(|run| run.name.clone()).collect();
    match begin_so.as_slice() {
        [only] => Ok(only),
        [] => {
            let newest_first: Vec<&Kept> = runs.iter().rev().collect();
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

    fn run(job: &str, name: &str) -> Kept {
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
        Kept { name: name.to_owned(), record, version: 0 }
    }

    #[test]
    fn a_run_is_meant_by_its_name_its_beginning_its_job_or_as_the_latest() {
        let runs = [run("web", "web-1"), run("db", "db-1"), run("web", "web-2"), run("db", "db-22")];
        for (wanted, name) in
            [("web-1", "web-1"), ("web", "web-2"), ("latest", "db-22"), ("db-2", "db-22"), ("db-1", "db-1")]
        {
            assert_eq!(find(&runs, wanted).unwrap().name, name, "{wanted}");
        }
    }

    #[test]
    fn who_means_none_or_several_is_told_what_there_is() {
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
