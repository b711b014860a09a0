//! The host's side of what a policy may import: `trace`, write-only.

use super::bindings::lockkeeper::policy::trace;
use super::evaluate::{Guest, TraceLevel, TraceLine};
use lockkeeper_locks::terminal::prose;

/// Lines that one decision may say; the rest is dropped, and one line says so.
const MAX_LINES: usize = 64;

/// The longest line kept, in characters.
const MAX_CHARACTERS: usize = 2_000;

impl trace::Host for Guest {
    fn emit(&mut self, level: trace::Level, message: String) {
        if self.said.len() < MAX_LINES {
            self.said.push(TraceLine { level: level.into(), message: prose(&message, MAX_CHARACTERS) });
        } else if self.said.len() == MAX_LINES {
            self.said.push(TraceLine {
                level: TraceLevel::Warn,
                message: format!("more than {MAX_LINES} lines: the rest is dropped"),
            });
        }
    }
}

impl From<trace::Level> for TraceLevel {
    fn from(level: trace::Level) -> Self {
        match level {
            trace::Level::Debug => Self::Debug,
            trace::Level::Info => Self::Info,
            trace::Level::Warn => Self::Warn,
            trace::Level::Error => Self::Error,
        }
    }
}
