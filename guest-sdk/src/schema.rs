//! The JSON Schema of settings.

use std::collections::BTreeMap;
use std::fmt::Write;

/// A type that settings may be made of. [`crate::settings`] implements it for structs and for enums without fields.
pub trait Schema {
    /// Whether a field of this type must be there.
    const REQUIRED: bool = true;

    /// Writes the members of the type's JSON Schema, without the braces around them.
    fn write_schema(out: &mut String);
}

/// The JSON Schema (draft 2020-12) of settings.
#[must_use]
pub fn schema_of<S: Schema>() -> String {
    let mut out = String::from("{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",");
    S::write_schema(&mut out);
    out.push('}');
    out
}

impl Schema for bool {
    fn write_schema(out: &mut String) {
        out.push_str("\"type\":\"boolean\"");
    }
}

impl Schema for String {
    fn write_schema(out: &mut String) {
        out.push_str("\"type\":\"string\"");
    }
}

impl Schema for f64 {
    fn write_schema(out: &mut String) {
        out.push_str("\"type\":\"number\"");
    }
}

macro_rules! integers {
    ($($kind:ty),*) => {$(
        impl Schema for $kind {
            fn write_schema(out: &mut String) {
                let (least, most) = (<$kind>::MIN, <$kind>::MAX);
                write!(out, "\"type\":\"integer\",\"minimum\":{least},\"maximum\":{most}").expect("a string takes all");
            }
        }
    )*};
}

// 64 bits wide ones among them: TOML's integers end at 2^63 - 1, which the host's reader says by itself.
integers!(
    u8,
    u16,
    u32,
    u64,
    usize,
    i8,
    i16,
    i32,
    i64,
    isize,
    std::num::NonZeroU8,
    std::num::NonZeroU16,
    std::num::NonZeroU32,
    std::num::NonZeroU64,
    std::num::NonZeroUsize
);

impl<S: Schema> Schema for Option<S> {
    const REQUIRED: bool = false;

    fn write_schema(out: &mut String) {
        S::write_schema(out);
    }
}

impl<S: Schema> Schema for Vec<S> {
    fn write_schema(out: &mut String) {
        out.push_str("\"type\":\"array\",\"items\":{");
        S::write_schema(out);
        out.push('}');
    }
}

impl<S: Schema> Schema for BTreeMap<String, S> {
    fn write_schema(out: &mut String) {
        out.push_str("\"type\":\"object\",\"additionalProperties\":{");
        S::write_schema(out);
        out.push('}');
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;
    use crate::testing::{json, settings, try_settings};
    use crate::{Admitted, Memory, Period, Policy, View, lock};

    /// How fast.
    #[crate::settings]
    #[derive(PartialEq, Eq, Default)]
    enum Pace {
        #[default]
        Slow,
        AsFastAsItGets,
    }

    /// Has a "quoted" word.
    #[crate::settings]
    struct Sample {
        /// One line,
        /// and another.
        at_most: NonZeroU32,
        #[serde(default)]
        pace: Pace,
        bake: Option<Period>,
        #[serde(rename = "type")]
        kind: String,
        #[serde(default)]
        shares: BTreeMap<String, f64>,
        #[serde(default)]
        hosts: Vec<String>,
    }

    impl Policy for Sample {
        fn admit(&self, _: &View, _: &mut Memory) -> Admitted {
            lock("", "")
        }
    }

    #[test]
    fn the_schema_says_what_serde_reads() {
        let schema: serde_json::Value = serde_json::from_str(&schema_of::<Sample>()).unwrap();
        let expected = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "description": "Has a \"quoted\" word.",
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "at-most": {
                    "description": "One line, and another.", "type": "integer", "minimum": 1, "maximum": u32::MAX
                },
                "pace": { "type": "string", "enum": ["slow", "as-fast-as-it-gets"] },
                "bake": {
                    "type": "string",
                    "pattern": "^\\s*([0-9]+\\s*(d|h|m|s|ms)\\s*)+$",
                    "examples": ["90s", "10m", "1h 30m"]
                },
                "type": { "type": "string" },
                "shares": { "type": "object", "additionalProperties": { "type": "number" } },
                "hosts": { "type": "array", "items": { "type": "string" } },
            },
            "required": ["at-most", "type"],
        });
        assert_eq!(schema, expected);
    }

    #[test]
    fn settings_are_read_as_the_schema_says() {
        let read: Sample = settings(json!({
            "at-most": 3, "pace": "as-fast-as-it-gets", "bake": "10m", "type": "x", "shares": { "a": 0.5 },
        }));
        assert_eq!(read.at_most.get(), 3);
        assert_eq!(read.pace, Pace::AsFastAsItGets);
        assert_eq!(read.bake, Some(Period::from_secs(600)));
        assert_eq!((read.kind.as_str(), read.shares["a"]), ("x", 0.5));
        assert!(read.hosts.is_empty());
        let short: Sample = settings(r#"{ "at-most": 1, "type": "x" }"#);
        assert_eq!((short.pace, short.bake), (Pace::Slow, None));
    }

    #[test]
    fn wrong_settings_are_told_without_a_place_in_the_hosts_json() {
        for (json, part) in [
            (json!({ "type": "x" }), "missing field `at-most`"),
            (json!({ "at-most": 0, "type": "x" }), "expected a nonzero u32"),
            (json!({ "at-most": 1, "type": "x", "at_most": 1 }), "unknown field `at_most`"),
            (json!({ "at-most": 1, "type": "x", "bake": "soon" }), "`soon` is no length of time"),
        ] {
            let message = try_settings::<Sample>(&json).unwrap_err();
            assert!(message.contains(part) && !message.contains("column"), "{json}: {message}");
        }
    }
}
