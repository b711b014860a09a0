//! The values that more than one kind of file has: times, paths, names of files.

use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use super::problem::quote;
use super::reader::{At, FromToml, Report, kind_of};
use lockkeeper_coordination::store::NodePath;

/// The longest time that any key takes, ten years: sums of times and the clock stay far from overflowing.
pub const MAX_DURATION: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// Reads text, and what the text stands for.
pub fn parsed<T, E: std::fmt::Display>(
    value: &DeValue<'_>,
    at: &At,
    report: &mut Report,
    parse: impl FnOnce(&str) -> Result<T, E>,
    help: impl FnOnce(&E) -> Option<String>,
) -> Option<T> {
    let text = String::from_toml(value, at, report)?;
    match parse(&text) {
        Ok(parsed) => Some(parsed),
        Err(error) => {
            let help = help(&error);
            let problem = report.complain(at, error.to_string());
            if let Some(help) = help {
                problem.help(help);
            }
            None
        }
    }
}

impl FromToml for NodePath {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        parsed(value, at, report, Self::parse_shared, |_| Some(String::from("a path looks like `\"/locks/reboot\"`")))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "maxLength": Self::MAX_BYTES })
    }
}

impl FromToml for Duration {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        const HELP: &str = "a number and its unit, such as `\"30s\"`, `\"5m\"` or `\"1h 30m\"`";
        let text = match value {
            DeValue::String(text) => text,
            DeValue::Integer(number) => {
                let help = format!("write a unit, in quotes: `\"{number}s\"`");
                report.complain(at, "expected a time, found a number without a unit").help(help);
                return None;
            }
            _ => {
                report.complain(at, format!("expected a time, found {}", kind_of(value))).help(HELP);
                return None;
            }
        };
        match humantime::parse_duration(text) {
            Ok(duration) if duration <= MAX_DURATION => Some(duration),
            Ok(_) => {
                report
                    .complain(at, format!("{} is longer than ten years", quote(text)))
                    .help("leave it out for no limit");
                None
            }
            Err(error) => {
                report.complain(at, format!("{} is no time: {error}", quote(text))).help(HELP);
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": r"^\s*(0|([0-9]+(\.[0-9]+)?\s*[A-Za-zµ]+\s*)+)\s*$",
            "examples": ["30s", "5m", "1h 30m"],
        })
    }
}

/// A file's path as written.
#[derive(Debug)]
pub struct FilePath(pub String);

impl FromToml for FilePath {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let text = String::from_toml(value, at, report)?;
        if text.is_empty() || text.contains('\0') {
            report.complain(at, format!("{} is no file's path", quote(&text)));
            return None;
        }
        Some(Self(text))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}
