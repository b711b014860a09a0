//! `lockkeeper policy inspect`: what a policy says of itself.

use serde_json::{Value, json};

use super::describe::describe;
use crate::cli::args::Global;
use crate::cli::args::InspectArgs;
use crate::cli::load_policy::either;
use crate::policy::Either;
use crate::policy::orchestration::{Orchestration, contract};
use crate::policy::types::Manifest;
use lockkeeper_locks::cli::exit::{Exit, Failure};
use lockkeeper_locks::cli::output::Output;
use lockkeeper_locks::cli::table::Table;
use lockkeeper_locks::terminal;

/// How deep settings are shown.
const MAX_DEPTH: usize = 6;

pub(super) fn run(global: &Global, output: &Output, args: &InspectArgs) -> Result<Exit, Failure> {
    let engine = global.engine()?;
    let policy = match either(&engine, &args.policy)? {
        Either::Policy(policy) => policy,
        Either::Orchestration(orchestration) => return Ok(inspect_orchestration(&orchestration, output)),
    };
    if output.is_json() {
        output.json(&describe(&policy));
        return Ok(Exit::Done);
    }
    let imports = if policy.imports().is_empty() { "nothing".to_owned() } else { policy.imports().join(", ") };
    let manifest = policy.manifest();
    let rows = [("contract", policy.contract()), ("imports", imports), ("verdicts", manifest.verdicts.join(", "))];
    show(manifest, &rows, policy.bytes(), policy.digest(), output);
    Ok(Exit::Done)
}

/// The same of an orchestration.
fn inspect_orchestration(orchestration: &Orchestration, output: &Output) -> Exit {
    let manifest = orchestration.manifest();
    if output.is_json() {
        output.json(&json!({
            "name": manifest.name,
            "version": manifest.version,
            "summary": manifest.summary,
            "contract": contract(),
            "bytes": orchestration.bytes(),
            "sha256": orchestration.digest(),
            "settings-schema": serde_json::from_str::<Value>(&manifest.settings_schema).unwrap_or(Value::Null),
        }));
        return Exit::Done;
    }
    let rows = [("contract", format!("{}: an orchestration", contract()))];
    show(manifest, &rows, orchestration.bytes(), orchestration.digest(), output);
    Exit::Done
}

fn show(manifest: &Manifest, rows: &[(&str, String)], bytes: u64, digest: &str, output: &Output) {
    let mut table = Table::new();
    for (key, value) in [("name", &manifest.name), ("version", &manifest.version), ("summary", &manifest.summary)] {
        table.row([key, value.as_str()]);
    }
    for (key, value) in rows {
        table.row([*key, value.as_str()]);
    }
    table.row(["size", &format!("{bytes} bytes")]);
    table.row(["sha256", digest]);
    output.table(&table);
    show_settings(manifest, output);
}

fn show_settings(manifest: &Manifest, output: &Output) {
    let settings = settings(manifest);
    if !settings.is_empty() {
        let mut table = Table::with_header(["SETTING", "TYPE", "MEANING"]);
        for row in settings {
            table.row(row);
        }
        output.data("");
        output.table(&table);
    }
}

/// The settings that the schema names: key, type, description; those of a table below it.
fn settings(manifest: &Manifest) -> Vec<[String; 3]> {
    let schema: Value = serde_json::from_str(&manifest.settings_schema).unwrap_or(Value::Null);
    let mut rows = Vec::new();
    list(&schema, &schema, "", 0, &mut rows);
    rows
}

fn list(schema: &Value, table: &Value, below: &str, depth: usize, rows: &mut Vec<[String; 3]>) {
    let is_required = |key: &str| table["required"].as_array().is_some_and(|keys| keys.iter().any(|one| one == key));
    for (key, of) in table["properties"].as_object().into_iter().flatten() {
        let path = format!("{below}{}", terminal::value(key));
        let found = resolved(schema, of);
        let mut kind = kind(schema, found, 0);
        if is_required(key) {
            kind.push_str(", required");
        }
        let told = of["description"].as_str().or(found["description"].as_str()).unwrap_or_default();
        let default = of.get("default").or(found.get("default")).filter(|default| !default.is_null());
        let default =
            default.map(|default| format!(" [default: {}]", terminal::value(&default.to_string()))).unwrap_or_default();
        rows.push([path.clone(), kind, format!("{}{default}", terminal::value(told)).trim().to_owned()]);
        if depth < MAX_DEPTH {
            list(schema, found, &format!("{path}."), depth + 1, rows);
            list(schema, resolved(schema, &found["items"]), &format!("{path}[]."), depth + 1, rows);
        }
    }
}

/// What a part of the schema that is named elsewhere is.
fn resolved<'a>(schema: &'a Value, of: &'a Value) -> &'a Value {
    let mut found = of;
    // A name may stand for a name, but a schema that goes in circles was refused.
    for _ in 0..MAX_DEPTH {
        // Where something may be left out, what it else is.
        let something = |of: &'a Value| {
            let choices = of["anyOf"].as_array().into_iter().flatten();
            let mut choices = choices.filter(|choice| choice["type"] != "null");
            choices.next().filter(|_| choices.next().is_none())
        };
        let named = found["$ref"].as_str().and_then(|name| schema.pointer(name.strip_prefix('#')?));
        match named.or_else(|| something(found)) {
            Some(next) => found = next,
            None => break,
        }
    }
    found
}

/// The type of a setting, in a few words.
fn kind(schema: &Value, of: &Value, depth: usize) -> String {
    let choices = of["enum"].as_array().or(of["oneOf"].as_array());
    let constants: Option<Vec<String>> = choices.and_then(|choices| {
        let constant = |choice: &Value| match choice {
            Value::Object(choice) => choice.get("const").map(ToString::to_string),
            constant => Some(constant.to_string()),
        };
        choices.iter().map(constant).collect()
    });
    if let Some(constants) = constants {
        return terminal::value(&constants.join(" | "));
    }
    let one = |name: &str| match name {
        "object" => "table".to_owned(),
        "array" if depth < MAX_DEPTH && of["items"].is_object() => {
            format!("list of {}", kind(schema, resolved(schema, &of["items"]), depth + 1))
        }
        "array" => "list".to_owned(),
        name => terminal::value(name),
    };
    match &of["type"] {
        Value::String(name) => one(name),
        Value::Array(names) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null").map(one);
            names.collect::<Vec<_>>().join(" or ")
        }
        _ => "any".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_in_tables_are_listed_below_each_other() {
        let schema = json!({
            "$defs": { "window": {
                "type": "object",
                "description": "When.",
                "properties": { "start": { "type": "string" }, "days": { "type": "array", "items": { "$ref": "#/$defs/day" } } },
                "required": ["start"]
            }, "day": { "enum": ["mon", "tue"] } },
            "properties": {
                "limit": { "type": ["integer", "null"], "description": "How many.", "default": 3 },
                "windows": { "type": "array", "items": { "$ref": "#/$defs/window" } },
                "window": { "anyOf": [{ "$ref": "#/$defs/window" }, { "type": "null" }] }
            }
        });
        let mut rows = Vec::new();
        list(&schema, &schema, "", 0, &mut rows);
        let rows: Vec<String> = rows.iter().map(|row| row.join("|")).collect();
        assert_eq!(
            rows,
            [
                "limit|integer|How many. [default: 3]",
                "window|table|When.",
                r#"window.days|list of "mon" | "tue"|"#,
                "window.start|string, required|",
                "windows|list of table|",
                r#"windows[].days|list of "mon" | "tue"|"#,
                "windows[].start|string, required|",
            ]
        );
    }
}
