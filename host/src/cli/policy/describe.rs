//! A policy as an object for programs.

use serde_json::{Value, json};

use crate::policy::Module;

/// Its manifest, its contract, its size and its digest.
pub(super) fn describe(policy: &Module) -> Value {
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
