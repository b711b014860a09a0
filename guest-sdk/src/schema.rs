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
