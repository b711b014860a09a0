//! From a job's file to a job whose policy is loaded and whose settings the policy accepts, and to its targets.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Global;
use super::exit::{ErrorKind, Failure};
use super::output::{Output, problems_failure};
use crate::job::{Complaint, JobSpec, PolicyPlace, PolicySource, PolicySpec, Target};
use crate::policy::types::{Diagnostic, Severity};
use crate::policy::{Engine, Module, PolicyError};
use crate::rollout::{TargetsError, resolve};
use crate::store::Store;

/// A job that was read, and its policy.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) job: JobSpec,
    /// The file's folder: what relative paths in the job are relative to.
    pub(super) folder: PathBuf,
    pub(super) policy: Module,
    /// What the policy says against its settings without refusing them.
    warnings: Vec<Diagnostic>,
}

/// Reads a job, loads its policy, and has the policy look at its settings: everything that is wrong comes at once.
pub(super) fn load(global: &Global, file: &Path) -> Result<Loaded, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| {
        Failure::message(ErrorKind::BadJob, format!("cannot read the job `{}`: {error}", file.display()))
    })?;
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let engine = global.engine()?;
    let mut looked = Looked::default();
    let name = file.display().to_string();
    let parsed = JobSpec::parse_and_look(&name, &text, &mut |spec| looked.look(&engine, spec, &folder));
    let job = parsed.map_err(|problems| problems_failure(&problems))?;
    match (looked.policy, looked.fault) {
        (_, Some((key, error))) => Err(fault(&job, key, error)),
        (Some(policy), None) => Ok(Loaded { job, folder, policy, warnings: looked.warnings }),
        (None, None) => Err(Failure::message(ErrorKind::Internal, "the job's policy was not looked at")),
    }
}

impl Loaded {
    /// Shows what the policy says against its settings without refusing them.
    pub(super) fn warn(&self, output: &Output) {
        for Diagnostic { at, message, help, .. } in &self.warnings {
            let problem = self.job.problem_at(at, message.clone(), help.clone());
            output.warn(&format!("{}: {problem}", problem.place));
        }
    }

    /// The warnings for programs.
    pub(super) fn warnings(&self) -> Vec<serde_json::Value> {
        let shown = |Diagnostic { at, message, help, .. }: &Diagnostic| {
            serde_json::json!(self.job.problem_at(at, message.clone(), help.clone()).into_warning())
        };
        self.warnings.iter().map(shown).collect()
    }

    /// The job's targets, as listed.
    pub(super) async fn targets(&self, store: Option<&Arc<dyn Store>>) -> Result<Vec<Target>, Failure> {
        resolve(&self.job, &self.folder, store).await.map_err(|error| match error {
            TargetsError::Inventory { ref source, .. } => {
                let message = format!("{error}: {source}");
                let help = Some("a relative path is relative to the job's file".to_owned());
                problems_failure(&self.job.problems(vec![self.job.problem_with("targets.inventory", message, help)]))
            }
            error => error.into(),
        })
    }
}

/// What became of a job's policy while the job was read.
#[derive(Debug, Default)]
struct Looked {
    policy: Option<Module>,
    /// What is wrong with the policy itself and not with the job, and the key that names it.
    fault: Option<(&'static str, PolicyError)>,
    warnings: Vec<Diagnostic>,
}

impl Looked {
    fn look(&mut self, engine: &Engine, spec: &PolicySpec, folder: &Path) -> Vec<Complaint> {
        let (loaded, key) = match &spec.source {
            PolicySource::Standard(name) => (engine.load_standard(name), "use"),
            PolicySource::File { path, sha256 } => (engine.load_file(&folder.join(path), sha256.as_deref()), "path"),
        };
        let policy = match loaded {
            Ok(policy) => policy,
            Err(error @ (PolicyError::NoSuchPolicy { .. } | PolicyError::Unreadable { .. })) => {
                let help = error.hint();
                let message = Failure::from(error).text();
                return vec![Complaint { about: PolicyPlace::Key(key), message, help }];
            }
            Err(error) => {
                self.fault = Some((key, error));
                return Vec::new();
            }
        };
        match policy.validate(&spec.settings) {
            Ok(found) => {
                let is_error = |diagnostic: &Diagnostic| diagnostic.severity == Severity::Error;
                let (errors, warnings) = found.into_iter().partition::<Vec<_>, _>(is_error);
                self.warnings = warnings;
                self.policy = Some(policy);
                let complaint =
                    |Diagnostic { at, message, help, .. }| Complaint { about: PolicyPlace::Setting(at), message, help };
                errors.into_iter().map(complaint).collect()
            }
            Err(error) => {
                self.fault = Some((key, error));
                Vec::new()
            }
        }
    }
}

/// A policy that cannot be used, with the place that names it.
fn fault(job: &JobSpec, key: &'static str, error: PolicyError) -> Failure {
    let key = match error {
        PolicyError::WrongDigest { .. } => "policy.sha256".to_owned(),
        _ => format!("policy.{key}"),
    };
    let place = job.place_of(&key);
    let mut failure = Failure::from(error);
    failure.error = failure.error.context(format!("{place}: `{key}` cannot be used"));
    failure
}
