//! The one place that writes to stdout and stderr. Every text passes through `terminal` here, so that no caller can forget it:
//! what reaches a terminal is text, line breaks, and the colours that this file adds. `host/tests/layers.rs` sees to it that no
//! other file writes there; it names the exceptions.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::OwoColorize;
use serde::Serialize;

use crate::terminal;

/// The most lines of one message: what a tool said when it failed may be long.
const MAX_LINES: usize = 200;

/// How the word that leads a line is coloured.
#[derive(Debug, Clone, Copy)]
pub enum Tone {
    /// Green: something went well.
    Good,
    /// Cyan: something to know.
    Plain,
    /// Red: something to look at.
    Bad,
}

/// Whether a person looks at stdout.
pub fn is_stdout_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person looks at stderr.
pub fn is_stderr_terminal() -> bool {
    io::stderr().is_terminal()
}

// -------------------------------------------------------------------------------------------------------------- stdout

/// A line of data.
pub fn line(text: &str) -> io::Result<()> {
    stdout(format!("{}\n", terminal::line(text)).as_bytes())
}

/// Lines of data. The values in them have been escaped, or a line break of theirs looks like ours.
pub fn block(text: &str) -> io::Result<()> {
    stdout(format!("{}\n", terminal::block(text)).as_bytes())
}

/// TOML to paste into a file: never cut.
pub fn source(text: &str) -> io::Result<()> {
    stdout(terminal::toml(text).as_bytes())
}

/// A JSON value, on one line.
pub fn json(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string(value).map_err(io::Error::from)?;
    stdout(format!("{}\n", terminal::json(&text)).as_bytes())
}

/// A JSON value on as many lines as people read best.
pub fn pretty_json(value: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_string_pretty(value).map_err(io::Error::from)?;
    stdout(format!("{}\n", terminal::json(&text)).as_bytes())
}

/// Help and version, which clap has coloured; nothing in them is a stranger's.
pub fn help_on_stdout(text: &clap::builder::StyledStr) {
    // A closed stdout has no reader.
    let _ = write!(anstream::stdout().lock(), "{}", terminal::styled(&text.ansi().to_string()));
}

/// Bytes that this program's own sources determine, for another program: a shell's completions, a manual page.
pub fn own_bytes(bytes: &[u8]) -> io::Result<()> {
    stdout(bytes)
}

fn stdout(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush())
}

// -------------------------------------------------------------------------------------------------------------- stderr
// A closed stderr has no reader: what cannot be written there is dropped.

/// A line of talk, led by a word.
pub fn talk(tone: Tone, lead: &str, text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{} {}", painted(tone, lead), terminal::line(text));
}

/// A message that may have several lines: those after the first are set off, so that none looks like one of ours.
pub fn message(tone: Tone, lead: &str, text: &str) {
    let mut lines = text.lines();
    talk(tone, lead, lines.next().unwrap_or_default());
    let mut stderr = anstream::stderr().lock();
    for line in lines.by_ref().take(MAX_LINES) {
        let _ = writeln!(stderr, "  | {}", terminal::log_line(line, terminal::MAX_LINE));
    }
    let more = lines.count();
    if more > 0 {
        let _ = writeln!(stderr, "  | … and {more} more lines");
    }
}

/// Lines that a library has coloured, whose values were escaped before.
pub fn rendered(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{}", terminal::styled(text));
}

/// One JSON object for programs.
pub fn json_on_stderr(value: &serde_json::Value) {
    let _ = writeln!(io::stderr().lock(), "{}", terminal::json(&value.to_string()));
}

/// Help in place of an error.
pub fn help_on_stderr(text: &clap::builder::StyledStr) {
    rendered(&text.ansi().to_string());
}

fn painted(tone: Tone, word: &str) -> String {
    match tone {
        Tone::Good => word.green().bold().to_string(),
        Tone::Plain => word.cyan().bold().to_string(),
        Tone::Bad => word.red().bold().to_string(),
    }
}

/// Makes a panic's message harmless, too: it may hold what it stumbled over.
pub fn tame_panics() {
    std::panic::set_hook(Box::new(|panic| {
        message(Tone::Bad, "panic:", &panic.to_string());
        let backtrace = std::backtrace::Backtrace::capture();
        if backtrace.status() == std::backtrace::BacktraceStatus::Captured {
            message(Tone::Plain, "backtrace:", &format!("\n{backtrace}"));
        }
    }));
}

// ---------------------------------------------------------------------------------------------------------------- bars

/// A bar on stderr that moves, and takes itself away for each line.
#[derive(Debug, Clone)]
pub struct Bar(ProgressBar);

impl Bar {
    /// `None` where no person looks. `what` and `count` are ours.
    pub fn new(what: &'static str, length: u64, count: &'static str) -> Option<Self> {
        if !is_stderr_terminal() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::stderr());
        let template = format!("{{prefix:>11}} [{{bar:30}}] {count} {{wide_msg}} {{elapsed}}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(what);
        bar.enable_steady_tick(Duration::from_millis(500));
        Some(Self(bar))
    }

    /// Moves the bar to a position.
    pub fn set(&self, position: u64) {
        self.0.set_position(position);
    }

    /// Prints above the bar.
    pub fn above(&self, print: impl FnOnce()) {
        self.0.suspend(print);
    }

    /// Removes the bar.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}

/// Lines on stdout that are drawn over what was there before.
#[derive(Debug)]
pub struct Drawing(ProgressBar);

impl Drawing {
    /// `None` where no person looks.
    pub fn new() -> Option<Self> {
        if !is_stdout_terminal() {
            return None;
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stdout());
        if let Ok(style) = ProgressStyle::with_template("{msg}") {
            bar.set_style(style);
        }
        Some(Self(bar))
    }

    /// As [`block`].
    pub fn draw(&self, text: &str) {
        self.0.set_message(terminal::block(text));
        self.0.tick();
    }

    /// Takes it away.
    pub fn clear(&self) {
        self.0.finish_and_clear();
    }

    /// What was drawn last stays.
    pub fn leave(&self) {
        self.0.abandon();
    }
}
