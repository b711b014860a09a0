//! The host's side of what a policy may import: `trace`, write-only.

use super::bindings::lockkeeper::policy::trace;
use super::evaluate::{Guest, TraceLine};
use crate::terminal::prose;

/// Lines that one decision may say; the rest is dropped, and one line says so.
const MAX_LINES: usize = 64;

/// The longest line kept, in characters.
const MAX_CHARACTERS: usize = 2_000;

impl trace::Host for Guest {
    fn emit(&mut self, level: trace::Level, message: String) {
        if self.said.len() < MAX_LINES {
            self.said.push(TraceLine { level: word(level), message: prose(&message, MAX_CHARACTERS) });
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
