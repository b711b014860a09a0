//! `lockkeeper policy`: what policies there are, what they say of themselves, and how one's own come about.

mod args;
mod inspect;

use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::{Value, json};

use super::Global;
use super::exit::{ErrorKind, Exit, Failure};
use super::holders::trimmed;
use super::output::Output;
use crate::policy::{Engine, Module, StandardPolicy, standard_policies};

pub(super) use args::PolicyCommand;

/// Carries out one of them.
pub(super) fn run(global: &Global, output: &Output, command: PolicyCommand) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::List => list(global, output),
        PolicyCommand::Inspect(args) => inspect::run(global, output, &args),
    }
}

fn list(global: &Global, output: &Output) -> Result<Exit, Failure> {
    let engine = global.engine()?;
    let policies =
        standard_policies().iter().map(|policy| engine.load_standard(policy.name)).collect::<Result<Vec<_>, _>>()?;
    if output.is_json() {
        output.json(&policies.iter().map(describe).collect::<Vec<_>>());
        return Ok(Exit::Done);
    }
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(["POLICY", "VERSION", "SUMMARY"]);
    for policy in &policies {
        let manifest = policy.manifest();
        table.add_row([&manifest.name, &manifest.version, &manifest.summary]);
    }
    output.data(&trimmed(&table));
    Ok(Exit::Done)
}

/// The policy that an argument names: a standard one, or a file.
pub(super) fn named(engine: &Engine, name: &str) -> Result<Module, Failure> {
    let is_standard = StandardPolicy::named(name).is_some();
    let looks_like_a_file = name.contains(['/', '.']) || Path::new(name).exists();
    let policy = match !is_standard && looks_like_a_file {
        true => engine.load_file(Path::new(name), None),
        false => engine.load_standard(name),
    };
    policy.map_err(|error| match Failure::from(error) {
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
        "verdicts": manifest.verdicts,
        "bytes": policy.bytes(),
        "sha256": policy.digest(),
        "settings-schema": serde_json::from_str::<Value>(&manifest.settings_schema).unwrap_or(Value::Null),
    })
}
