//! `lockkeeper policy`: what policies there are, what they say of themselves, and how one's own come about.

mod args;
mod bench;
mod build;
mod decide;
mod digest;
mod inspect;
mod new;
mod scenario;
mod test;
mod views;
mod watch;

use std::io;
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::Global;
use super::exit::{ErrorKind, Exit, Failure};
use super::output::{Output, problems_failure, shown};
use crate::cli::table::Table;
use crate::job::{parse_settings, text_of};
use crate::policy::types::{Diagnostic, Severity};
use crate::policy::{COMPILE, Either, Engine, Module, StandardPolicy, compile_for_parent, standard_policies};
use lockkeeper_coordination::files::{self, MAX_TEXT_BYTES};

pub(super) use args::PolicyCommand;

/// Carries out one of them.
pub(super) fn run(global: &Global, output: &Output, command: PolicyCommand) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::List => list(global, output),
        PolicyCommand::Inspect(args) => inspect::run(global, output, &args),
        PolicyCommand::New(args) => new::run(global, output, &args),
        PolicyCommand::Build(args) => build::run(global, output, &args),
        PolicyCommand::Watch(args) => global.block_on(watch::run(global, output, args)),
        PolicyCommand::Digest(args) => digest::run(output, &args),
        PolicyCommand::Views => views::run(output),
        PolicyCommand::Decide(args) => decide::run(global, output, &args),
        PolicyCommand::Test(args) => test::run(global, output, &args),
        PolicyCommand::Bench(args) => bench::run(global, output, &args),
    }
}

/// What the compiler of a policy does, where we are one: this program, started by itself.
pub(super) fn compiler() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == COMPILE).then(|| compile_for_parent(arguments, io::stdin(), io::stdout()))
}

fn list(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let engine = global.engine()?;
    let policies =
        standard_policies().iter().map(|policy| engine.load_standard(policy.name)).collect::<Result<Vec<_>, _>>()?;
    if output.is_json() {
        output.json(&policies.iter().map(describe).collect::<Vec<_>>());
        return Ok(Exit::Done);
    }
    let mut table = Table::with_header(["POLICY", "VERSION", "SUMMARY"]);
    for policy in &policies {
        let manifest = policy.manifest();
        table.row([&manifest.name, &manifest.version, &manifest.summary]);
    }
    output.table(&table);
    Ok(Exit::Done)
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
fn either(engine: &Engine, name: &str) -> Result<Either, Failure> {
    let is_standard = StandardPolicy::named(name).is_some();
    let looks_like_a_file = name.contains(['/', '.']) || Path::new(name).exists();
    let guest = match !is_standard && looks_like_a_file {
        true => engine.load_either(Path::new(name)),
        false => engine.load_standard(name).map(Either::Policy),
    };
    guest.map_err(|error| match Failure::from(error) {
        // There is no job here that could be bad.
        failure @ Failure { kind: ErrorKind::BadJob, .. } => Failure { kind: ErrorKind::BadArgument, ..failure },
        failure => failure,
    })
}

fn describe(policy: &Module) -> Value {
    let manifest = policy.manifest();
    json!({
        "name": manifest.name,
        "version": manifest.version,
        "summary": manifest.summary,
        "contract": policy.contract(),
        "imports": policy.imports(),
        "verdicts": manifest.verdicts,
        "bytes": policy.bytes(),
        "sha256": policy.digest(),
        "settings-schema": serde_json::from_str::<Value>(&manifest.settings_schema).unwrap_or(Value::Null),
    })
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
fn complaints(found: Vec<Diagnostic>) -> Vec<String> {
    let errors = found.into_iter().filter(|diagnostic| diagnostic.severity == Severity::Error);
    let told = errors.map(|Diagnostic { at, message, .. }| match at.is_empty() {
        true => message,
        false => format!("`{at}`: {message}"),
    });
    told.collect()
}

/// Whether what a policy or an orchestration says of settings lets a job with them run.
fn accepted_by(name: &str, found: Vec<Diagnostic>, whose: &str) -> Result<(), Failure> {
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
