//! From a job's file to a job whose policy is loaded and whose settings the policy accepts.

use std::path::{Path, PathBuf};

use super::exit::{ErrorKind, Failure};
use super::output::problems_failure;
use super::{Global, output};
use crate::job::{JobSpec, PolicySource, Problem};
use crate::policy::types::Severity;
use crate::policy::{Engine, Module, PolicyError};

/// A job that was read, and its policy.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) job: JobSpec,
    /// The file's folder: what relative paths in the job are relative to.
    pub(super) folder: PathBuf,
    pub(super) policy: Module,
    /// What the policy says against its settings without refusing them.
    pub(super) warnings: Vec<Problem>,
}

/// Reads a job, loads its policy, and has the policy look at its settings.
pub(super) fn load(global: &Global, file: &Path) -> Result<Loaded, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::message(ErrorKind::BadJob, format!("cannot read the job `{}`: {error}", file.display()))
    })?;
    let name = file.display().to_string();
    let job = JobSpec::parse(&name, &text).map_err(|problems| problems_failure(&problems))?;
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let policy = policy(&global.engine()?, &job, &folder)?;
    let warnings = check_settings(&job, &policy)?;
    Ok(Loaded { job, folder, policy, warnings })
}

fn policy(engine: &Engine, job: &JobSpec, folder: &Path) -> Result<Module, Failure> {
    let (loaded, key) = match &job.policy.source {
        PolicySource::Standard(name) => (engine.load_standard(name), "policy.use"),
        PolicySource::File { path, sha256 } => (engine.load_file(&folder.join(path), sha256.as_deref()), "policy.path"),
    };
    loaded.map_err(|error| match error {
        // What the job itself has wrong is shown in the job.
        PolicyError::NoSuchPolicy { .. } | PolicyError::Unreadable { .. } => {
            let hint = error.hint();
            let message = anyhow::Error::new(error).chain().map(ToString::to_string).collect::<Vec<_>>().join(": ");
            problems_failure(&job.problems(vec![job.problem_with(key, message, hint)]))
        }
        PolicyError::WrongDigest { .. } => {
            let problem = job.problem_with("policy.sha256", error.to_string(), error.hint());
            Failure { kind: ErrorKind::PolicyFault, ..output::problems_failure(&job.problems(vec![problem])) }
        }
        error => {
            let place = job.place_of(key);
            let mut failure = Failure::from(error);
            failure.error = failure.error.context(format!("{place}: `{key}` cannot be used"));
            failure
        }
    })
}

/// What is wrong with the settings is an error; the rest is given back.
fn check_settings(job: &JobSpec, policy: &Module) -> Result<Vec<Problem>, Failure> {
    let found = policy.validate(&job.policy.settings)?;
    let (errors, warnings): (Vec<_>, Vec<_>) =
        found.into_iter().partition(|diagnostic| diagnostic.severity == Severity::Error);
    let problem = |diagnostic: crate::policy::types::Diagnostic| {
        job.problem_at(&diagnostic.at, diagnostic.message, diagnostic.help)
    };
    if errors.is_empty() {
        return Ok(warnings.into_iter().map(|diagnostic| problem(diagnostic).into_warning()).collect());
    }
    Err(problems_failure(&job.problems(errors.into_iter().map(problem).collect())))
}
