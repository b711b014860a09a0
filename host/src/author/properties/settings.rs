//! Settings made up from a schema.

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use serde_json::{Map, Number, Value, json};

/// How many different settings are made up, and how often that is tried.
pub(super) const MOST: usize = 24;
pub(super) const TRIES: usize = 200;

/// How deep a schema is followed.
const DEPTH: usize = 8;

/// Texts for settings that may be any.
const TEXTS: [&str; 7] =
    ["rack", "", "a", "web01", "ünïcode ✓", "-1", "a very long text that nobody expected to be set by anyone at all"];

/// Values that a schema allows as far as it can be seen; none where it cannot.
pub(super) fn made(schema: &Value, rng: &mut StdRng) -> Option<Value> {
    value(schema, schema, 0, rng).filter(Value::is_object)
}

fn value(part: &Value, whole: &Value, depth: usize, rng: &mut StdRng) -> Option<Value> {
    if depth > DEPTH {
        return None;
    }
    if let Some(reference) = part["$ref"].as_str() {
        return value(whole.pointer(reference.strip_prefix('#')?)?, whole, depth + 1, rng);
    }
    if !part["const"].is_null() {
        return Some(part["const"].clone());
    }
    for choice in ["enum", "examples"] {
        if let Some(values) = part[choice].as_array() {
            return values.choose(rng).cloned();
        }
    }
    for choice in ["oneOf", "anyOf"] {
        if let Some(parts) = part[choice].as_array() {
            return value(parts.choose(rng)?, whole, depth + 1, rng);
        }
    }
    let kind = match &part["type"] {
        Value::String(kind) => kind.clone(),
        Value::Array(kinds) => kinds.choose(rng)?.as_str()?.to_owned(),
        _ if part["properties"].is_object() => "object".to_owned(),
        _ => return None,
    };
    match kind.as_str() {
        "null" => Some(Value::Null),
        "boolean" => Some(rng.random_bool(0.5).into()),
        "integer" => Some(integer(part, rng)),
        "number" => {
            let least = part["minimum"].as_f64().unwrap_or(-1.0);
            let most = part["maximum"].as_f64().unwrap_or(1e6);
            let number = *[least, most, 0.0, 0.5, 1.0, f64::midpoint(least, most)].choose(rng)?;
            Number::from_f64(number.clamp(least, most.max(least))).map(Value::Number)
        }
        // What must match a pattern and gives no example cannot be made up.
        "string" if part["pattern"].is_string() || part["format"].is_string() => None,
        "string" => TEXTS.choose(rng).map(|text| (*text).into()),
        "array" => {
            let least = usize::try_from(part["minItems"].as_u64().unwrap_or(0)).unwrap_or(0).min(8);
            let count = least + rng.random_range(0..3);
            Some((0..count).filter_map(|_| value(&part["items"], whole, depth + 1, rng)).collect())
        }
        "object" => object(part, whole, depth, rng),
        _ => None,
    }
}

fn integer(part: &Value, rng: &mut StdRng) -> Value {
    let least =
        part["minimum"].as_i64().or_else(|| part["exclusiveMinimum"].as_i64().map(|least| least.saturating_add(1)));
    let most =
        part["maximum"].as_u64().or_else(|| part["exclusiveMaximum"].as_u64().map(|most| most.saturating_sub(1)));
    let least = i128::from(least.unwrap_or(i64::MIN));
    // TOML's integers end there.
    let most = i128::from(most.unwrap_or(u64::MAX)).min(i128::from(i64::MAX));
    let edges = [least, most, 0, 1, 2, 3, 5, 10, 100, least.saturating_add(1), most.saturating_sub(1)];
    let chosen = edges[rng.random_range(0..edges.len())].clamp(least, most.max(least));
    json!(i64::try_from(chosen).unwrap_or(0))
}

fn object(part: &Value, whole: &Value, depth: usize, rng: &mut StdRng) -> Option<Value> {
    let is_required = |key: &str| part["required"].as_array().is_some_and(|keys| keys.iter().any(|one| one == key));
    let mut object = Map::new();
    for (key, of) in part["properties"].as_object().into_iter().flatten() {
        if !is_required(key) && rng.random_bool(0.5) {
            continue;
        }
        match value(of, whole, depth + 1, rng) {
            Some(value) => {
                object.insert(key.clone(), value);
            }
            None if is_required(key) => return None,
            None => {}
        }
    }
    if part["additionalProperties"].is_object() {
        for _ in 0..rng.random_range(0..3) {
            if let Some(value) = value(&part["additionalProperties"], whole, depth + 1, rng) {
                object.insert((*TEXTS.choose(rng)?).to_owned(), value);
            }
        }
    }
    Some(Value::Object(object))
}
