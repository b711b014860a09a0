//! A policy's settings against its JSON Schema.

use std::fmt;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::types::{Diagnostic, Severity};

/// Parts that a schema may have once its references are written out: the validator follows each, and a few hundred
/// bytes of references can stand for 2^40 parts.
const MAX_SCHEMA_PARTS: usize = 50_000;

/// How deep parts may be nested, references followed: the validator's own recursion has no limit.
const MAX_SCHEMA_DEPTH: usize = 100;

/// The schema that a policy's manifest carries, ready to check settings.
pub(super) struct SettingsSchema {
    validator: Validator,
    schema: Value,
}

impl fmt::Debug for SettingsSchema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SettingsSchema")
    }
}

impl SettingsSchema {
    /// Reads a schema. References to elsewhere are refused: nothing is fetched.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let schema: Value =
            serde_json::from_str(text).map_err(|error| format!("its settings-schema is no JSON: {error}"))?;
        let mut parts_left = MAX_SCHEMA_PARTS;
        check_references(&schema, &schema, 0, &mut parts_left)?;
        let validator = jsonschema::validator_for(&schema)
            .map_err(|error| format!("its settings-schema is no JSON Schema: {error}"))?;
        Ok(Self { validator, schema })
    }

    /// Everything that the schema has against settings, each with its place.
    pub(super) fn complaints(&self, settings: &Value) -> Vec<Diagnostic> {
        self.validator.iter_errors(settings).flat_map(|error| diagnostics(&error, &self.schema)).collect()
    }
}

/// Refuses references that lead elsewhere, in circles, or to more than anybody can check.
fn check_references(part: &Value, whole: &Value, depth: usize, left: &mut usize) -> Result<(), String> {
    *left = left.checked_sub(1).ok_or("its settings-schema is too large, or refers to itself without end")?;
    if depth > MAX_SCHEMA_DEPTH {
        return Err("its settings-schema is nested too deeply, or refers to itself without end".to_owned());
    }
    match part {
        Value::Array(items) => items.iter().try_for_each(|item| check_references(item, whole, depth + 1, left)),
        Value::Object(members) => members.iter().try_for_each(|(key, value)| match (key.as_str(), value) {
            ("$ref", Value::String(reference)) => {
                let target = reference.strip_prefix('#').and_then(|pointer| whole.pointer(pointer));
                let target = target.ok_or_else(|| format!("its settings-schema refers to `{reference}`"))?;
                check_references(target, whole, depth + 1, left)
            }
            ("$dynamicRef" | "$recursiveRef" | "$id" | "$anchor" | "$dynamicAnchor", Value::String(_)) => {
                Err(format!("its settings-schema uses `{key}`: only references such as `#/$defs/name` are followed"))
            }
            _ => check_references(value, whole, depth + 1, left),
        }),
        _ => Ok(()),
    }
}

fn diagnostics(error: &jsonschema::ValidationError<'_>, schema: &Value) -> Vec<Diagnostic> {
    let at = error.instance_path().as_str().trim_start_matches('/').replace('/', ".");
    let complaint = |at: String, message: String| Diagnostic { severity: Severity::Error, at, message, help: None };
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => unexpected
            .iter()
            .map(|key| {
                let place = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
                Diagnostic { help: meant(error, schema, key), ..complaint(place, format!("unknown setting `{key}`")) }
            })
            .collect(),
        ValidationErrorKind::Required { property } => {
            vec![complaint(at, format!("missing setting `{}`", property.as_str().unwrap_or_default()))]
        }
        _ => vec![Diagnostic { help: examples(error, schema), ..complaint(at, error.to_string()) }],
    }
}

/// What a misspelt setting was probably meant to be, or what there is.
fn meant(error: &jsonschema::ValidationError<'_>, schema: &Value, key: &str) -> Option<String> {
    let (rules, _) = error.schema_path().as_str().rsplit_once('/')?;
    let known = schema.pointer(rules)?.get("properties")?.as_object()?;
    let likeness = |known: &str| strsim::jaro_winkler(known, key);
    let nearest = known.keys().max_by(|a, b| likeness(a).total_cmp(&likeness(b)))?;
    match likeness(nearest) > 0.8 {
        true => Some(format!("did you mean `{nearest}`?")),
        false => {
            Some(format!("there is {}", known.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")))
        }
    }
}

/// What the schema itself gives as examples, beside the rule that was broken.
fn examples(error: &jsonschema::ValidationError<'_>, schema: &Value) -> Option<String> {
    let (rules, _) = error.schema_path().as_str().rsplit_once('/')?;
    let examples = schema.pointer(rules)?.get("examples")?.as_array()?;
    let shown: Vec<String> =
        examples.iter().take(3).map(|example| format!("`{}`", example.to_string().trim_matches('"'))).collect();
    (!shown.is_empty()).then(|| format!("write it such as {}", shown.join(", ")))
}
