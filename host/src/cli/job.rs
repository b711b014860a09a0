//! From a job's file to a job whose policy is loaded and whose settings the policy accepts, and to its targets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::Global;
use crate::job::{
    Complaint, JobSpec, Listed, Look, OrchestrationSpec, PartyCounts, PolicyPlace, PolicySource, PolicySpec, Target,
    ValueSource,
};
use crate::policy::orchestration::Orchestration;
use crate::policy::types::{Diagnostic, Severity};
use crate::policy::{Engine, Module, PolicyError};
use crate::rollout::driver::{TargetsError, read_inventory, resolve};
use crate::rollout::model::RollCall;
use crate::rollout::orchestration::OrchestrationJob;
use lockkeeper_coordination::files::{self, MAX_TEXT_BYTES};
use lockkeeper_coordination::recipe::Party;
use lockkeeper_coordination::store::{Store, StoreError};
use lockkeeper_coordination::zookeeper::Secret;
use lockkeeper_locks::cli::exit::{ErrorKind, Failure};
use lockkeeper_locks::cli::output::Output;
use lockkeeper_locks::cli::problems::problems_failure;
use lockkeeper_locks::config::StoreSpec;
use lockkeeper_locks::toml_reader::{Problem, Problems, text_of};

/// A job that was read, and its policy.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) job: JobSpec,
    /// The file's folder: what relative paths in the job are relative to.
    pub(super) folder: PathBuf,
    pub(super) policy: Module,
    /// Its orchestration, if it has one.
    pub(super) orchestration: Option<Orchestration>,
    /// What the policy says against its settings without refusing them.
    warnings: Vec<Diagnostic>,
    /// The values of the commands' environment that do not stand in the job.
    values: BTreeMap<String, Secret>,
    /// Those that this process's environment does not have, each with what it should be.
    unset: Vec<Unset>,
}

/// A variable of our own environment that the job needs and that is not there.
#[derive(Debug)]
struct Unset {
    key: String,
    message: String,
}

/// Reads a job, loads its policy, has the policy look at its settings, and reads its inventory: everything that is wrong
/// comes at once.
pub(super) fn load(global: &Global, file: &Path) -> Result<Loaded, Failure> {
    let bytes = read(file).map_err(|error| {
        Failure::message(ErrorKind::BadJob, format!("cannot read the job `{}`: {error}", file.display()))
    })?;
    let name = file.display().to_string();
    let text = text_of("job", &name, &bytes).map_err(|problems| problems_failure(&problems))?;
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let engine = global.engine()?;
    let mut looked = Looked {
        engine: &engine,
        folder: &folder,
        policy: None,
        orchestration: None,
        fault: None,
        warnings: Vec::new(),
        values: BTreeMap::new(),
        unset: Vec::new(),
    };
    let parsed = JobSpec::parse_and_look(&name, text, &mut looked);
    let Looked { policy, orchestration, fault, warnings, values, unset, .. } = looked;
    let job = parsed.map_err(|problems| bad_job(&problems, fault))?;
    match policy {
        Some(policy) => Ok(Loaded { job, folder, policy, orchestration, warnings, values, unset }),
        None => Err(Failure::message(ErrorKind::Internal, "the job's policy was not looked at")),
    }
}

/// The job itself, which may come through a pipe: its name stands on the command line, where the caller sees it. What a job
/// names must be a regular file.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_TEXT_BYTES {
        Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it has more than {MAX_TEXT_BYTES} bytes")))
    } else {
        Ok(bytes)
    }
}

/// The longest value that is read for a variable, in bytes: the kernel takes twice as much for a variable.
const MAX_VALUE_BYTES: u64 = 64 * 1024;

/// A variable's value, without the line break at its end; what is wrong with it, without the value.
fn value_of(bytes: Vec<u8>) -> Result<Secret, String> {
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    match text {
        "" => Err("is empty".to_owned()),
        text if text.contains('\0') => Err("contains the character 0".to_owned()),
        text => Ok(Secret::new(text)),
    }
}

/// A job with mistakes is bad; one whose only flaw is that its policy fails has a policy's fault.
fn bad_job(problems: &Problems, fault: Option<PolicyError>) -> Failure {
    let failure = problems_failure(problems);
    match (fault, problems.problems()) {
        (Some(error), [problem]) => {
            let Failure { kind, error, hint, more, .. } = Failure::from(error);
            let more = more.into_iter().chain(failure.more).filter_map(|more| more.as_object().cloned()).flatten();
            let error = error.context(format!("{}: `{}` cannot be used", problem.place, problem.key));
            Failure { kind, error, hint, more: Some(more.collect()), rendered: None }
        }
        _ => failure,
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

    /// The values of the commands' environment that do not stand in the job.
    ///
    /// # Errors
    /// When the environment of this process, the runner's, does not have one: nothing may start.
    pub(super) fn values(&self) -> Result<BTreeMap<String, Secret>, Failure> {
        if self.unset.is_empty() {
            Ok(self.values.clone())
        } else {
            Err(problems_failure(&self.job.problems(self.unset_here())))
        }
    }

    /// Variables of this process's environment that the runner's must have.
    pub(super) fn unset_here(&self) -> Vec<Problem> {
        let problem = |Unset { key, message }: &Unset| {
            let help = "set it in the environment of `lockkeeper run`, or use `from-file`".to_owned();
            self.job.problem_with(key, message.clone(), Some(help))
        };
        self.unset.iter().map(problem).collect()
    }

    /// The warnings for programs.
    pub(super) fn warnings(&self) -> Vec<serde_json::Value> {
        let shown = |Diagnostic { at, message, help, .. }: &Diagnostic| {
            serde_json::json!(self.job.problem_at(at, message.clone(), help.clone()).into_warning())
        };
        self.warnings.iter().map(shown).collect()
    }

    /// The orchestration and what the job allows it.
    pub(super) fn orchestration_job(&self) -> Option<OrchestrationJob> {
        let (spec, orchestration) = self.job.orchestration.as_ref().zip(self.orchestration.clone())?;
        Some(OrchestrationJob::new(spec, orchestration))
    }

    /// What the job says of its store.
    pub(super) fn store(&self) -> Option<StoreSpec> {
        self.job.store.clone().map(|store| store.below(&self.folder))
    }

    /// Looks for the targets among the members of the job's party. `None` if the job has none, or counts other machines.
    pub(super) async fn roll_call(
        &self,
        store: &Arc<dyn Store>,
        targets: &[Target],
    ) -> Result<Option<RollCall>, StoreError> {
        let Some(party) = self.job.party.as_ref().filter(|party| party.counts == PartyCounts::Targets) else {
            return Ok(None);
        };
        let members = Party::new(Arc::clone(store), party.path.clone()).members().await?;
        // A target without a label that the template names was refused when the targets were listed.
        Ok(RollCall::new(party, targets, &members).ok())
    }

    /// What is wrong with a party none of whose members is a target.
    pub(super) fn strangers(&self, message: String, help: String) -> Failure {
        let problem = self.job.problem_with("party.member", message, Some(help));
        problems_failure(&self.job.problems(vec![problem]))
    }

    /// The job's targets, as listed.
    pub(super) async fn targets(&self, store: Option<&Arc<dyn Store>>) -> Result<Vec<Target>, Failure> {
        Ok(resolve(&self.job, &self.folder, store).await?)
    }
}

/// Sees what a job names, and what became of that.
#[derive(Debug)]
struct Looked<'a> {
    engine: &'a Engine,
    folder: &'a Path,
    policy: Option<Module>,
    orchestration: Option<Orchestration>,
    /// What is wrong with the policy itself and not with the job.
    fault: Option<PolicyError>,
    warnings: Vec<Diagnostic>,
    values: BTreeMap<String, Secret>,
    unset: Vec<Unset>,
}

impl Look for Looked<'_> {
    fn policy(&mut self, spec: &PolicySpec) -> Vec<Complaint> {
        let (loaded, key) = match &spec.source {
            PolicySource::Standard(name) => (self.engine.load_standard(name), "use"),
            PolicySource::File { path, sha256 } => {
                (self.engine.load_file(&self.folder.join(path), sha256.as_deref()), "path")
            }
        };
        let checked = loaded.and_then(|policy| Ok((policy.validate(&spec.settings)?, policy)));
        let (found, policy) = match checked {
            Ok(checked) => checked,
            Err(error) => return vec![self.unusable(key, error.to_string(), error)],
        };
        self.policy = Some(policy);
        self.complaints(found)
    }

    fn orchestration(&mut self, spec: &OrchestrationSpec) -> Vec<Complaint> {
        let loaded = self.engine.load_orchestration_file(&self.folder.join(&spec.path), spec.sha256.as_deref());
        let checked = loaded.and_then(|loaded| Ok((loaded.validate(&spec.settings)?, loaded)));
        let (found, loaded) = match checked {
            Ok(checked) => checked,
            Err(error) => return vec![self.unusable("path", error.of_orchestration(), error)],
        };
        self.orchestration = Some(loaded);
        self.complaints(found)
    }

    fn value(&mut self, name: &str, source: &ValueSource) -> Option<(String, String)> {
        match source {
            ValueSource::File(path) => {
                let file = self.folder.join(path);
                match files::read(&file, MAX_VALUE_BYTES).map_err(|error| error.to_string()).and_then(value_of) {
                    Ok(value) => {
                        self.values.insert(name.to_owned(), value);
                        None
                    }
                    Err(error) => Some((
                        format!("cannot read the value from `{}`: {error}", file.display()),
                        "the file must contain only the value; a relative path is relative to the job's file"
                            .to_owned(),
                    )),
                }
            }
            // Another process may look at the job than the one that runs it, with another environment.
            ValueSource::Variable(variable) => {
                let value = std::env::var_os(variable).ok_or_else(|| "is not set".to_owned());
                match value.and_then(|value| value_of(value.into_vec())) {
                    Ok(value) => drop(self.values.insert(name.to_owned(), value)),
                    Err(error) => self.unset.push(Unset {
                        key: format!("action.env.{name}"),
                        message: format!("the environment variable `{variable}` of the runner {error}"),
                    }),
                }
                None
            }
        }
    }

    fn file_of_ssh(&mut self, path: &Path) -> Option<String> {
        let file = self.folder.join(path);
        // What begins with `~` is ssh's to find, what is missing ssh's to tell, and `/dev/null` says that there is none.
        if path.starts_with("~") || path == Path::new("/dev/null") {
            return None;
        }
        let error = files::open(&file).err().filter(|error| error.kind() == io::ErrorKind::InvalidInput)?;
        Some(format!("ssh cannot use `{}`: {error}", file.display()))
    }

    fn inventory(&mut self, path: &Path) -> Listed {
        match read_inventory(&self.folder.join(path)) {
            Ok(targets) => Listed::Targets(targets),
            Err(TargetsError::Problems(problems)) => Listed::Wrong(problems),
            Err(error) => Listed::Unreadable {
                message: Failure::from(error).text(),
                help: Some("a relative path is relative to the job's file".to_owned()),
            },
        }
    }
}

impl Looked<'_> {
    /// What keeps the job from running; what does not is kept.
    fn complaints(&mut self, found: Vec<Diagnostic>) -> Vec<Complaint> {
        let is_error = |diagnostic: &Diagnostic| diagnostic.severity == Severity::Error;
        let (errors, warnings) = found.into_iter().partition::<Vec<_>, _>(is_error);
        self.warnings.extend(warnings);
        let complaint =
            |Diagnostic { at, message, help, .. }| Complaint { about: PolicyPlace::Setting(at), message, help };
        errors.into_iter().map(complaint).collect()
    }

    /// A policy or an orchestration that cannot be loaded, or fails already when it is shown its settings.
    fn unusable(&mut self, key: &'static str, message: String, error: PolicyError) -> Complaint {
        let key = match error {
            PolicyError::WrongDigest { .. } => "sha256",
            _ => key,
        };
        let help = error.hint();
        let message = match error {
            // It is the job that names what is not there.
            error @ (PolicyError::NoSuchPolicy { .. } | PolicyError::Unreadable { .. }) => Failure::from(error).text(),
            error => {
                self.fault = Some(error);
                message
            }
        };
        Complaint { about: PolicyPlace::Key(key), message, help }
    }
}
