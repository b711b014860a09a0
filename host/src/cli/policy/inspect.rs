//! `lockkeeper policy inspect`: what a policy says of itself.

use comfy_table::Table;
use comfy_table::presets::NOTHING;
use serde_json::Value;

use super::args::InspectArgs;
use super::{describe, named};
use crate::cli::Global;
use crate::cli::exit::{Exit, Failure};
use crate::cli::holders::{plain, trimmed};
use crate::cli::output::Output;
use crate::policy::Module;

pub(super) fn run(global: &Global, output: &Output, args: &InspectArgs) -> Result<Exit, Failure> {
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
