//! `lockkeeper policy`: what policies there are, and what they say of themselves.

use std::path::Path;

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::{Value, json};

use super::exit::{ErrorKind, Exit, Failure};
use super::holders::{plain, trimmed};
use super::output::Output;
use super::{Global, InspectArgs};
use crate::policy::{Engine, Module, StandardPolicy, standard_policies};

pub(super) fn list(global: &Global, output: &Output) -> Result<Exit, Failure> {
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

pub(super) fn inspect(global: &Global, output: &Output, args: &InspectArgs) -> Result<Exit, Failure> {
    let policy = named(&global.engine()?, &args.policy)?;
    if output.is_json() {
        output.json(&describe(&policy));
        return Ok(Exit::Done);
    }
    let manifest = policy.manifest();
    let mut table = Table::new();
    table.load_style(NOTHING);
    let rows = [
        ("name", manifest.name.clone()),
        ("version", manifest.version.clone()),
        ("summary", manifest.summary.clone()),
        ("contract", policy.contract()),
        ("verdicts", manifest.verdicts.join(", ")),
        ("size", format!("{} bytes", policy.bytes())),
        ("sha256", policy.digest().to_owned()),
    ];
    for (key, value) in rows {
        table.add_row([key.to_owned(), value]);
    }
    output.data(&trimmed(&table));
    let settings = settings(&policy);
    if !settings.is_empty() {
        let mut table = Table::new();
        table.load_style(NOTHING).set_header(["SETTING", "TYPE", "MEANING"]);
        for row in settings {
            table.add_row(row);
        }
        output.data(&format!("\n{}", trimmed(&table)));
    }
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

/// The settings that the schema names: key, type, description.
fn settings(policy: &Module) -> Vec<[String; 3]> {
    let schema: Value = serde_json::from_str(&policy.manifest().settings_schema).unwrap_or(Value::Null);
    let required = |key: &str| schema["required"].as_array().is_some_and(|keys| keys.iter().any(|one| one == key));
    let Some(properties) = schema["properties"].as_object() else { return Vec::new() };
    properties
        .iter()
        .map(|(key, of)| {
            let kind = of["type"].as_str().unwrap_or("any");
            let kind = if required(key) { format!("{kind}, required") } else { kind.to_owned() };
            [plain(key), kind, plain(of["description"].as_str().unwrap_or_default())]
        })
        .collect()
}
