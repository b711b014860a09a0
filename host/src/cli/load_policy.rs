//! The policy engine, and the policies that an argument or a journal names.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::Global;
use super::runs;
use crate::job::parse_settings;
use crate::policy::types::{Diagnostic, Severity};
use crate::policy::{
    Compiler, Either, Engine, EngineOptions, Limits, Module, OnCompile, PolicyError, StandardPolicy, standard_policies,
};
use crate::rollout::journal::{self, Header};
use lockkeeper_coordination::files::{self, MAX_TEXT_BYTES};
use lockkeeper_locks::cli::exit::{ErrorKind, Failure};
use lockkeeper_locks::cli::output::{Output, shown};
use lockkeeper_locks::cli::own_program;
use lockkeeper_locks::cli::problems::problems_failure;
use lockkeeper_locks::terminal;
use lockkeeper_locks::toml_reader::text_of;

/// A policy of this many bytes takes seconds to compile, and that is reported.
const LONG_TO_COMPILE: u64 = 2_000_000;

/// The limits of decisions that no target waits for. Fuel ends a decision the same everywhere; the clock must not end one
/// here that it did not end in the run.
pub(super) const OFFLINE_LIMITS: Limits = Limits { time: Duration::from_secs(60), ..Limits::DEFAULT };

impl Global {
    /// The policy engine, with the limits of a run.
    pub(super) fn engine(&self) -> Result<Engine, Failure> {
        self.engine_with(Limits::DEFAULT)
    }

    /// The policy engine, with other limits.
    pub(super) fn engine_with(&self, limits: Limits) -> Result<Engine, Failure> {
        let cache = if self.no_cache { None } else { Some(self.common.state_dir()?.join("compiled")) };
        let compiler = Compiler::Child(own_program::running_file()?);
        let output = Output::new("lockkeeper", &self.common);
        let on_compile: OnCompile = Arc::new(move |bytes| {
            if bytes >= LONG_TO_COMPILE {
                output.talk("Compiling", &format!("the policy, {} MB; what comes of it is kept", bytes / 1_000_000));
            }
        });
        Ok(Engine::new(&EngineOptions { limits, cache, compiler, on_compile: Some(on_compile) })?)
    }
}

/// The policy that an argument names: a standard one, or a file.
pub(super) fn named(engine: &Engine, name: &str) -> Result<Module, Failure> {
    match either(engine, name)? {
        Either::Policy(policy) => Ok(policy),
        Either::Orchestration(_) => {
            let text = format!("`{}` is an orchestration, and this is for policies", shown(name));
            Err(Failure::message(ErrorKind::BadArgument, text)
                .hint("`lockkeeper policy inspect`, `decide` and `test` take both"))
        }
    }
}

/// The policy or the orchestration that an argument names.
pub(super) fn either(engine: &Engine, name: &str) -> Result<Either, Failure> {
    let is_standard = StandardPolicy::named(name).is_some();
    let looks_like_a_file = name.contains(['/', '.']) || Path::new(name).exists();
    let guest = if !is_standard && looks_like_a_file {
        engine.load_either(Path::new(name))
    } else {
        engine.load_standard(name).map(Either::Policy)
    };
    guest.map_err(|error| match Failure::from(error) {
        // There is no job here that could be bad.
        failure @ Failure { kind: ErrorKind::BadJob, .. } => Failure { kind: ErrorKind::BadArgument, ..failure },
        failure => failure,
    })
}

/// The policy that the run asked.
pub(super) fn policy_of_run(engine: &Engine, header: &Header, folder: &Path) -> Result<(Module, String), Failure> {
    let wanted = &header.policy_digest;
    let standard = standard_policies();
    if let Some(same) = standard.iter().find(|policy| journal::digest(policy.wasm) == *wanted) {
        return Ok((engine.load(same.wasm)?, "of this program".to_owned()));
    }
    let kept = runs::policy_file(folder, wanted);
    // What a journal says is no path.
    if wanted.bytes().all(|byte| byte.is_ascii_hexdigit()) && kept.exists() {
        return match engine.load_file(&kept, Some(wanted)) {
            Ok(policy) => Ok((policy, "saved with the run".to_owned())),
            Err(PolicyError::WrongDigest { found, .. }) => {
                let text = format!(
                    "the policy saved with the run was changed: the SHA-256 of `{}` is {found}, the journal has {wanted}",
                    kept.display()
                );
                Err(Failure::message(ErrorKind::BadJournal, text).hint("select an unchanged copy with `--policy FILE`"))
            }
            Err(error) => Err(error.into()),
        };
    }
    let ours = standard.iter().find(|policy| policy.name == header.policy);
    let ours = ours.map_or(String::new(), |ours| format!(", and this program's is {}", journal::digest(ours.wasm)));
    let text = format!(
        "the run's policy is missing: the SHA-256 of its `{}` is {}{ours}",
        terminal::value(&header.policy),
        terminal::value(wanted)
    );
    Err(Failure::message(ErrorKind::BadArgument, text)
        .hint("select its file with `--policy FILE`; `--policy NAME` shows what a standard policy would have decided"))
}

/// The settings in a file of their own.
pub(super) fn settings_of(file: &Path) -> Result<Value, Failure> {
    let bytes = files::read_given(file, MAX_TEXT_BYTES).map_err(|error| {
        Failure::message(ErrorKind::BadArgument, format!("cannot read the settings `{}`: {error}", file.display()))
    })?;
    let name = file.display().to_string();
    let parsed = text_of("settings", &name, &bytes).and_then(|text| parse_settings(&name, text));
    parsed.map_err(|problems| Failure { kind: ErrorKind::BadArgument, ..problems_failure(&problems) })
}

/// Whether a policy accepts settings; `whose` says of which.
pub(super) fn accepts(policy: &Module, settings: &Value, whose: &str) -> Result<(), Failure> {
    accepted_by(&policy.manifest().name, policy.validate(settings)?, whose)
}

/// What keeps a job with these settings from running.
pub(super) fn complaints(found: Vec<Diagnostic>) -> Vec<String> {
    let errors = found.into_iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let told =
        errors.map(|Diagnostic { at, message, .. }| if at.is_empty() { message } else { format!("`{at}`: {message}") });
    told.collect()
}

/// Whether what a policy or an orchestration says of settings lets a job with them run.
pub(super) fn accepted_by(name: &str, found: Vec<Diagnostic>, whose: &str) -> Result<(), Failure> {
    let is_error = |diagnostic: &&Diagnostic| diagnostic.severity == Severity::Error;
    let errors: Vec<Diagnostic> = found.iter().filter(is_error).cloned().collect();
    if errors.is_empty() {
        return Ok(());
    }
    let text = format!("`{name}` does not accept {whose}: {}", complaints(found).join("; "));
    Err(Failure {
        more: Some(json!({ "problems": errors })),
        ..Failure::message(ErrorKind::BadArgument, text)
            .hint(format!("`--settings FILE` gives its own; `lockkeeper policy inspect {name}` shows which there are"))
    })
}
