//! The host's side of what a policy may import: `trace`, write-only.

use super::bindings::lockkeeper::policy::trace;
use super::evaluate::{Guest, TraceLine};

/// Lines that one decision may say; the rest is dropped, and one line says so.
const MAX_LINES: usize = 64;

/// The longest line kept, in characters.
const MAX_CHARACTERS: usize = 2_000;

impl trace::Host for Guest {
    fn emit(&mut self, level: trace::Level, message: String) {
        if self.said.len() < MAX_LINES {
            self.said.push(TraceLine { level: word(level), message: harmless(&message, MAX_CHARACTERS) });
        } else if self.said.len() == MAX_LINES {
            self.said.push(TraceLine {
                level: "warn",
                message: format!("more than {MAX_LINES} lines: the rest is dropped"),
            });
        }
    }
}

fn word(level: trace::Level) -> &'static str {
    match level {
        trace::Level::Debug => "debug",
        trace::Level::Info => "info",
        trace::Level::Warn => "warn",
        trace::Level::Error => "error",
    }
}

/// A guest's text, cut to a length and without what could move a terminal's cursor.
pub(super) fn harmless(text: &str, max_characters: usize) -> String {
    let mut out: String = text.chars().take(max_characters).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(max_characters).is_some() {
        out.push('…');
    }
    out
}
