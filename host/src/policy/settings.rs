//! A policy's settings against its JSON Schema.

use std::fmt;

use jsonschema::Validator;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::types::{Diagnostic, Severity};

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
        let validator = jsonschema::validator_for(&schema)
            .map_err(|error| format!("its settings-schema is no JSON Schema: {error}"))?;
        Ok(Self { validator, schema })
    }

    /// Everything that the schema has against settings, each with its place.
    pub(super) fn complaints(&self, settings: &Value) -> Vec<Diagnostic> {
        self.validator.iter_errors(settings).flat_map(|error| diagnostics(&error, &self.schema)).collect()
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
                complaint(place, format!("unknown setting `{key}`"))
            })
            .collect(),
        ValidationErrorKind::Required { property } => {
            vec![complaint(at, format!("missing setting `{}`", property.as_str().unwrap_or_default()))]
        }
        _ => vec![Diagnostic { help: examples(error, schema), ..complaint(at, error.to_string()) }],
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
