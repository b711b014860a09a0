//! The JSON Schema of a job file, for editors and other tools. It comes from the tables that the reader itself reads by.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Value, json};

use super::file::JobFile;

/// The JSON Schema of a job file, draft 2020-12.
///
/// It has each key in the spelling with `-`; the reader takes `_` as well.
#[must_use]
pub fn schema() -> Value {
    let generator = SchemaGenerator::new(SchemaSettings::draft2020_12());
    let mut schema = generator.into_root_schema_for::<JobFile>().to_value();
    schema["title"] = json!("Lockkeeper job");
    only_one_of(&mut schema["$defs"]["TargetsTable"], &["hosts", "inventory", "party", "command"]);
    only_one_of(&mut schema["$defs"]["PolicyTable"], &["use", "path"]);
    schema
}

/// The same where `[policy.settings]` is what a policy's own schema says: an editor then completes them, too.
#[must_use]
pub fn schema_with_settings(settings: &Value) -> Value {
    const OWN: &str = "PolicySettings";
    let mut schema = schema();
    let mut settings = settings.clone();
    let is_required = settings["required"].as_array().is_some_and(|keys| !keys.is_empty());
    if let Some(members) = settings.as_object_mut() {
        members.remove("$schema");
    }
    // Its own definitions stand below it now.
    move_references(&mut settings, &format!("#/$defs/{OWN}"));
    schema["$defs"][OWN] = settings;
    let policy = &mut schema["$defs"]["PolicyTable"];
    policy["properties"]["settings"] = json!({ "$ref": format!("#/$defs/{OWN}") });
    if is_required && let Some(required) = policy["required"].as_array_mut() {
        required.push(json!("settings"));
    }
    schema
}

fn move_references(part: &mut Value, to: &str) {
    match part {
        Value::Array(items) => items.iter_mut().for_each(|item| move_references(item, to)),
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::String(reference) if key == "$ref" => {
                        if let Some(below) = reference.strip_prefix('#') {
                            *reference = format!("{to}{below}");
                        }
                    }
                    value => move_references(value, to),
                }
            }
        }
        _ => {}
    }
}

/// Says of a table that exactly one of these keys must be there.
fn only_one_of(table: &mut Value, keys: &[&str]) {
    table["oneOf"] = keys.iter().map(|key| json!({ "required": [key] })).collect();
}

#[cfg(test)]
mod tests {
    use super::super::JobSpec;
    use super::*;
    use lockkeeper_locks::toml_reader::{FromToml, Key};

    /// Each key of a schema's objects, by its path from the top.
    fn keys_of(schema: &Value, root: &Value, above: &str, found: &mut Vec<String>) {
        if let Some(name) = schema["$ref"].as_str().and_then(|target| target.strip_prefix("#/$defs/")) {
            keys_of(&root["$defs"][name], root, above, found);
        }
        for option in schema["anyOf"].as_array().into_iter().flatten().chain([&schema["items"]]) {
            if !option.is_null() {
                keys_of(option, root, above, found);
            }
        }
        for (key, below) in schema["properties"].as_object().into_iter().flatten() {
            let key = format!("{above}{key}");
            found.push(key.clone());
            keys_of(below, root, &format!("{key}."), found);
        }
    }

    fn keys_read(keys: &[Key], above: &str, found: &mut Vec<String>) {
        for key in keys {
            let name = format!("{above}{}", key.name);
            found.push(name.clone());
            keys_read(&(key.below)(), &format!("{name}."), found);
        }
    }

    #[test]
    fn a_policys_settings_are_part_of_the_jobs_schema() {
        let own = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "additionalProperties": false,
            "properties": { "pace": { "$ref": "#/$defs/Pace" }, "people": { "type": "integer", "minimum": 1 } },
            "required": ["people"],
            "$defs": { "Pace": { "enum": ["slow", "quick"] } },
        });
        let whole = schema_with_settings(&own);
        let validator = jsonschema::validator_for(&whole).unwrap();
        let job = |settings: Value| {
            let policy = match settings.is_null() {
                true => json!({ "path": "mine.wasm" }),
                false => json!({ "path": "mine.wasm", "settings": settings }),
            };
            json!({
                "name": "job",
                "semaphore": { "path": "/locks/job" },
                "targets": { "hosts": ["a"] },
                "policy": policy,
                "action": { "run": ["true"] },
            })
        };
        assert!(validator.is_valid(&job(json!({ "people": 1, "pace": "slow" }))));
        for wrong in [json!({ "people": 0 }), json!({ "people": 1, "pace": "fast" }), json!({ "x": 1 }), Value::Null] {
            assert!(!validator.is_valid(&job(wrong.clone())), "{wrong}");
        }
    }

    #[test]
    fn the_schema_has_the_keys_that_the_reader_reads() {
        let schema = schema();
        let (mut told, mut read) = (Vec::new(), Vec::new());
        keys_of(&schema, &schema, "", &mut told);
        keys_read(&JobFile::keys(), "", &mut read);
        told.sort();
        read.sort();
        assert_eq!(told, read);
        assert!(told.contains(&String::from("targets.hosts.labels")), "{told:?}");
    }

    #[test]
    fn jobs_with_every_key_of_the_schema_are_read() {
        let mut written = std::collections::BTreeSet::new();
        let [full, other] = [include_str!("testdata/full.toml"), include_str!("testdata/other.toml")];
        let by_source = |source| other.replace("inventory = \"web.toml\"", source);
        let [party, command] =
            ["party = \"/party/web\"", "command = [\"list-hosts\", \"web\"]\nallow-empty = true"].map(by_source);
        let names =
            format!("{other}[party]\npath = \"/p\"\nmin-nodes = 1\nmember = \"{{target}}.x\"\ncounts = \"others\"\n");
        let roll_back = "roll-back = [\"true\"]\nroll-back-probe = [\"true\"]";
        let undone = other.replace("[action]", &format!("[action]\n{roll_back}"));
        for text in [full, other, &party, &command, &names, &undone] {
            JobSpec::parse("job.toml", text).unwrap();
            collect_written(&toml::from_str::<Value>(text).unwrap(), "", &mut written);
        }
        let schema = schema();
        let mut told = Vec::new();
        keys_of(&schema, &schema, "", &mut told);
        let missing: Vec<_> = told.iter().filter(|key| !written.contains(*key)).collect();
        assert!(missing.is_empty(), "no example has {missing:?}");
    }

    fn collect_written(value: &Value, above: &str, written: &mut std::collections::BTreeSet<String>) {
        for item in value.as_array().into_iter().flatten() {
            collect_written(item, above, written);
        }
        for (key, below) in value.as_object().into_iter().flatten() {
            let key = format!("{above}{key}");
            collect_written(below, &format!("{key}."), written);
            written.insert(key);
        }
    }

    #[test]
    fn every_key_is_described_and_nothing_else_is_allowed() {
        let schema = schema();
        let tables = schema["$defs"].as_object().unwrap().values().chain([&schema]);
        for table in tables {
            assert_eq!(table["additionalProperties"], json!(false), "{table}");
            assert!(table["description"].as_str().is_some_and(|text| text.len() > 10), "{table}");
            for (key, property) in table["properties"].as_object().unwrap() {
                assert!(property["description"].as_str().is_some_and(|text| text.len() > 10), "{key}");
            }
        }
        assert_eq!(schema["$defs"]["ActionTable"]["required"], json!(["run"]));
    }
}
