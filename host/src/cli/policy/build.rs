//! `lockkeeper policy build`: from sources to a component, and what it came to.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::case_files::case_files;
use crate::author::project::{Built, Project, build};
use crate::author::{Question, Said, decide, questions, sample_view};
use crate::cli::args::BuildArgs;
use crate::cli::args::Global;
use crate::cli::load_policy::{OFFLINE_LIMITS, accepts};
use crate::policy::{Either, Engine, Module};
use lockkeeper_locks::cli::exit::{Exit, Failure};
use lockkeeper_locks::cli::output::Output;

pub(super) fn run(global: &Global, output: &Output, args: &BuildArgs) -> Result<Exit, Failure> {
    let project = Project::find(&args.folder)?;
    let out = args.out.clone().unwrap_or_else(|| project.wasm());
    let engine = global.engine_with(OFFLINE_LIMITS)?;
    let built = component(&project, &out, &engine, output)?;
    let decision = match &built.guest {
        Either::Policy(policy) => sample(policy, &project, output)?,
        Either::Orchestration(_) => None,
    };
    let manifest = built.guest.manifest();
    if output.is_json() {
        output.json(&json!({
            "wasm": built.wasm,
            "name": manifest.name,
            "version": manifest.version,
            "bytes": built.guest.bytes(),
            "sha256": built.guest.digest(),
            "sample": decision.as_ref().map(|(view, said)| in_json(view, said)),
            "built-ms": built.built_in.as_millis(),
            "loaded-ms": built.loaded_in.as_millis(),
        }));
        return Ok(Exit::Done);
    }
    output.talk(
        "Built",
        &format!("{} in {}: {} {}", out.display(), seconds(built.built_in), manifest.name, manifest.version),
    );
    output.data(&format!("size     {}", bytes(built.guest.bytes())));
    output.data(&format!("sha256   {}", built.guest.digest()));
    match decision {
        Some((view, Said { answer: Ok(answer), fuel, memory, .. })) => output.data(&format!(
            "decides  {} ({}) on {view}, with {fuel} fuel and {} KiB of memory",
            answer.verdict,
            answer.code,
            memory / 1024
        )),
        Some((view, Said { answer: Err(fault), .. })) => {
            output.warn(&format!("it fails on {view}: {}: {}", fault.kind, fault.message));
        }
        None if matches!(built.guest, Either::Orchestration(_)) => {
            output.data("conducts a job that names it: `[orchestration]` with `path`");
        }
        None => output
            .data("decides  not tried: no settings are known that it accepts; a `cases.toml` beside it tells some"),
    }
    Ok(Exit::Done)
}

/// Builds it, saying what takes long.
pub(super) fn component(project: &Project, out: &Path, engine: &Engine, output: &Output) -> Result<Built, Failure> {
    let say = |verb: &str, text: &str| output.talk(verb, text);
    Ok(build(project, out, engine, output.is_talking(), &say)?)
}

/// One decision: that of the first case, else on the sample view.
fn sample(policy: &Module, project: &Project, output: &Output) -> Result<Option<(String, Said)>, Failure> {
    let files = case_files(&project.wasm().display().to_string(), &[], &output.clone().hushed())?;
    let first = files.iter().flat_map(|file| questions(policy, &file.cases)).next();
    let (view, question) = match first {
        Some((name, question)) => (format!("\"{name}\""), question),
        None => ("the sample view".to_owned(), Question::admit(json!({}), sample_view())),
    };
    let accepted = accepts(policy, &question.settings, "these settings").is_ok();
    Ok(accepted.then(|| (view, decide(policy, &question))))
}

fn in_json(view: &str, said: &Said) -> Value {
    let answer = match &said.answer {
        Ok(answer) => json!({ "verdict": answer.verdict, "code": answer.code }),
        Err(fault) => json!({ "fault": fault.kind, "message": fault.message }),
    };
    json!({ "view": view, "answer": answer, "fuel": said.fuel, "memory": said.memory })
}

pub(super) fn seconds(length: Duration) -> String {
    format!("{:.1} s", length.as_secs_f64())
}

/// How long a file is.
pub(super) fn bytes(number: u64) -> String {
    match number {
        0..10_000 => format!("{number} bytes"),
        10_000..10_000_000 => format!("{:.1} KB", number as f64 / 1e3),
        _ => format!("{:.1} MB", number as f64 / 1e6),
    }
}
