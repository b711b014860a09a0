//! From events and errors to lines for people or for programs.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::args::{Format, Global};
use super::exit::{ErrorKind, Failure};
use super::invocation::{Invocation, OPENING, PROGRAM};
use super::sink::{self, Bar, Tone};
use super::table::Table;
use crate::terminal;

/// The width of the verb that leads each line.
const VERB_WIDTH: usize = 11;

/// Where data and talk go, and how.
#[derive(Debug, Clone)]
pub struct Output {
    /// The name by which messages call this program.
    program: &'static str,
    format: Format,
    quiet: bool,
    bar: Option<Bar>,
    /// How what is said calls this program, once the store is chosen.
    invocation: Arc<OnceLock<Invocation>>,
    /// Why data could not be written, when that was first so.
    lost: Arc<OnceLock<io::Error>>,
}

impl Output {
    /// The output of a command of `program`, such as `lockkeeper`.
    #[must_use]
    pub fn new(program: &'static str, global: &Global) -> Self {
        Self {
            program,
            format: global.format,
            quiet: global.quiet,
            bar: None,
            invocation: Arc::default(),
            lost: Arc::default(),
        }
    }

    /// The format of data and errors.
    #[must_use]
    pub fn format(&self) -> Format {
        self.format
    }

    /// Whether data is one JSON value a line.
    #[must_use]
    pub fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether talk is heard.
    pub fn is_talking(&self) -> bool {
        !self.quiet && !self.is_json()
    }

    /// The same without talk.
    pub fn hushed(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// Keeps how commands name the store in use. The first store of a command is the one that is meant.
    pub fn remember(&self, invocation: Invocation) {
        // A later one is the same.
        let _ = self.invocation.set(invocation);
    }

    /// A text whose commands can be pasted: see [`Invocation::completed`].
    pub fn completed(&self, text: &str) -> String {
        let text = self.invocation.get().map_or_else(|| text.to_owned(), |invocation| invocation.completed(text));
        if self.program == PROGRAM { text } else { text.replace(OPENING, &format!("`{} ", self.program)) }
    }

    /// A line of data.
    pub fn data(&self, line: &str) {
        self.keep(sink::line(line));
    }

    /// Lines of data whose values have been escaped.
    pub fn block(&self, text: &str) {
        self.keep(sink::block(text));
    }

    /// A table of data.
    pub fn table(&self, table: &Table) {
        self.block(&table.text());
    }

    /// TOML to paste into a file.
    pub fn source(&self, text: &str) {
        self.keep(sink::source(text));
    }

    /// Bytes that our own sources determine.
    pub fn own_bytes(&self, bytes: &[u8]) {
        self.keep(sink::own_bytes(bytes));
    }

    fn keep(&self, written: io::Result<()>) {
        match written {
            // Whoever closed the pipe has what they want.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                // The first error is the one to tell.
                let _ = self.lost.set(error);
            }
            _ => {}
        }
    }

    /// Whether all data was written that somebody wants to read.
    pub fn complete(&self) -> Result<(), Failure> {
        match self.lost.get() {
            Some(error) => Err(Failure::message(ErrorKind::Io, format!("cannot write to stdout: {error}"))),
            None => Ok(()),
        }
    }

    /// A JSON value of data, on one line.
    pub fn json(&self, value: &impl Serialize) {
        self.keep(sink::json(value));
    }

    /// A JSON value for people and programs.
    pub fn pretty_json(&self, value: &impl Serialize) {
        self.keep(sink::pretty_json(value));
    }

    /// A line of talk, led by a verb.
    pub fn talk(&self, verb: &str, text: &str) {
        self.say(Tone::Good, verb, text);
    }

    /// A line of talk that somebody should look at.
    pub fn warn(&self, text: &str) {
        self.say(Tone::Bad, "Warning", text);
    }

    /// A line of talk, led by a verb of that tone.
    pub fn say(&self, tone: Tone, verb: &str, text: &str) {
        if self.quiet || self.is_json() {
            return;
        }
        let verb = format!("{verb:>VERB_WIDTH$}");
        let text = self.completed(text);
        let print = || sink::talk(tone, &verb, &text);
        match &self.bar {
            Some(bar) => bar.above(print),
            None => print(),
        }
    }

    /// An error, its causes and its hint; one object on stderr for programs.
    pub fn failure(&self, failure: &Failure) {
        let hint = failure.hint.as_deref().map(|hint| self.completed(hint));
        write_failure(self.format, failure, hint.as_deref());
    }

    /// Shows a bar of `targets` from now on, where a person looks.
    pub fn with_bar(self, targets: usize) -> Self {
        self.bar("Rolling out", targets as u64, "{pos}/{len}")
    }

    /// Likewise, of something that is read, in bytes.
    pub fn with_byte_bar(self, what: &'static str, bytes: u64) -> Self {
        self.bar(what, bytes, "{bytes}/{total_bytes}")
    }

    fn bar(mut self, what: &'static str, length: u64, count: &'static str) -> Self {
        if self.is_talking() {
            self.bar = Bar::new(what, length, count);
        }
        self
    }

    /// Moves the bar.
    pub fn progress(&self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set(position);
        }
    }

    /// Takes the bar away.
    pub fn end_bar(&self) {
        if let Some(bar) = &self.bar {
            bar.end();
        }
    }
}

/// Shows an error of a command line that names no store.
pub fn failure(format: Format, failure: &Failure) {
    write_failure(format, failure, failure.hint.as_deref());
}

/// Shows an error, its causes and its hint on stderr, for people or as one object for programs.
fn write_failure(format: Format, failure: &Failure, hint: Option<&str>) {
    if format == Format::Json {
        return sink::json_on_stderr(&failure.json(hint));
    }
    if let Some(rendered) = &failure.rendered {
        sink::rendered(rendered);
    }
    sink::message(Tone::Bad, "error:", &failure.text());
    if let Some(hint) = hint {
        sink::talk(Tone::Plain, "hint:", hint);
    }
}

/// A user's text for a message: without control characters, and not longer than a line bears.
pub fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    terminal::shown(text, MAX_CHARS)
}

/// A span of milliseconds as people read it.
pub fn span(ms: u64) -> String {
    let rounded = match ms {
        0..10_000 => ms,
        // Past ten seconds nobody counts milliseconds.
        _ => ms - ms % 1000,
    };
    humantime::format_duration(Duration::from_millis(rounded)).to_string()
}

/// A moment as people read it, and how long ago it was or how far off it is.
pub fn moment(ms: u64, now_ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(|| ms.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    let far = ms.abs_diff(now_ms);
    let far = span(far - far % 1000);
    if ms > now_ms { format!("{at} (in {far})") } else { format!("{at} ({far} ago)") }
}

/// A number of things: `1 slot`, `2 batches`.
pub fn of(number: usize, what: &str) -> String {
    let plural = if what.ends_with("ch") { "es" } else { "s" };
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}{plural}"),
    }
}
