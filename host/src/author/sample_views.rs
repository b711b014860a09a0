//! A view to look at: what a rollout in the middle of its work shows.

use std::fmt::Write;

use lockkeeper_cases::{Field, Shape, VIEW, difference, view_of_toml};
use serde_json::Value;

use super::cases::view;
use crate::policy::types::View;
use lockkeeper_locks::terminal;

/// What is different from the base.
const SAMPLE: &str = r#"
sequence = 17
seed = 42
cause = "leases-changed"
target = { name = "web03", labels = { rack = "r1", zone = "eu-1" }, waiting-since = "-5m" }
semaphore = { slots = 2, leases = [{ identifier = "web01", mine = true }, "db07"], queued = 1 }
party = { min-members = 3, members = ["web01", "web02", "web03", "web04"] }
other-semaphores = [{ path = "/locks/database", leases = ["db07"] }]
progress = { started = "-10m", pending = 6, waiting = 1, running = 1, succeeded = 2, budget-left = 1 }

[[events]]
at = "-2m"
target = "web02"
kind = "released"

[[events]]
at = "-1m"
target = "web01"
kind = "started"
"#;

/// The view whose decision `policy build` measures, and that `policy views` shows.
#[must_use]
pub fn sample_view() -> View {
    view(&whole())
}

fn whole() -> Value {
    view_of_toml(SAMPLE).unwrap_or_else(|problems| unreachable!("the sample is read by a test: {problems:?}"))
}

/// The same in TOML with every key and what it means: a start for views and cases of one's own.
#[must_use]
pub fn sample_text() -> String {
    let told = difference(&whole());
    let mut text = String::from(
        "# A view: what a policy is shown. What is left out is as in the base: the first target of ten, one free slot, no\n\
         # party, nothing happened yet. In a file of cases the same stands below `view` or `[base]`.\n",
    );
    table(&mut text, "", &VIEW, &told, &whole());
    text
}

/// Single values first, then the tables.
fn table(text: &mut String, path: &str, fields: &'static [Field], told: &Value, whole: &Value) {
    let is_table = |field: &Field| matches!(field.shape, Shape::Record(_) | Shape::MaybeRecord(_));
    for field in fields.iter().filter(|field| !is_table(field)) {
        let value = told.get(field.name).map_or_else(|| blank(&whole[field.name]), inline);
        wrapped(text, field.doc);
        let _ = writeln!(text, "{} = {value}", field.name);
        if let Shape::List(below, bare) = field.shape {
            let names = below.iter().map(|field| field.name).collect::<Vec<_>>().join(", ");
            let bare = bare.map_or(String::new(), |bare| format!("; a bare text is its {bare}"));
            let _ = writeln!(text, "# each with: {names}{bare}");
        }
    }
    for field in fields.iter().filter(|field| is_table(field)) {
        let (Shape::Record(below) | Shape::MaybeRecord(below)) = field.shape else { continue };
        let path = if path.is_empty() { field.name.to_owned() } else { format!("{path}.{}", field.name) };
        text.push('\n');
        wrapped(text, field.doc);
        let _ = writeln!(text, "[{path}]");
        table(text, &path, below, &told[field.name], &whole[field.name]);
    }
}

fn wrapped(text: &mut String, doc: &str) {
    let mut line = String::from("#");
    for word in doc.split(' ') {
        if line.len() + word.len() > 110 {
            let _ = writeln!(text, "{line}");
            line = String::from("#");
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(text, "{line}");
}

/// A value that is as in the base.
fn blank(value: &Value) -> String {
    match value {
        Value::Null => "\"none\"".to_owned(),
        value => inline(value),
    }
}

/// JSON as TOML on one line, as cases and views are read: there a number may be beyond what TOML's own integers are, and
/// `none` is nothing.
pub(super) fn inline(value: &Value) -> String {
    let text = |text: &str| match text.contains(terminal::is_hidden) {
        true => one_line(text),
        false => toml::Value::from(text).to_string(),
    };
    let is_bare =
        |key: &str| !key.is_empty() && key.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_".contains(&it));
    match value {
        Value::Null => text("none"),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => match number.as_f64().filter(|_| number.is_f64()) {
            Some(number) => toml::Value::from(number).to_string(),
            None => number.to_string(),
        },
        Value::String(said) => text(said),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(members) if members.is_empty() => "{}".to_owned(),
        Value::Object(members) => {
            let member = |(key, value): (&String, &Value)| match is_bare(key) {
                true => format!("{key} = {}", inline(value)),
                false => format!("{} = {}", one_line(key), inline(value)),
            };
            format!("{{ {} }}", members.iter().map(member).collect::<Vec<_>>().join(", "))
        }
    }
}

/// A text in quotes on one line, of which a terminal shows all.
fn one_line(text: &str) -> String {
    // JSON's escapes are TOML's, but for those that JSON need not write.
    terminal::toml(&Value::from(text).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_as_what_it_was_made_of() {
        let text = sample_text();
        assert_eq!(view_of_toml(&text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}")), whole());
        for field in &VIEW {
            assert!(text.contains(field.name), "{} is missing:\n{text}", field.name);
        }
    }
}
