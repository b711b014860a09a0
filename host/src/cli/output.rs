//! From events and errors to lines for people or for programs.

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use serde::Serialize;
use serde_json::json;

use super::exit::{ErrorKind, Failure};
use super::invocation::Invocation;
use super::sink::{self, Bar, Tone};
use super::table::Table;
use super::{Format, Global};
use crate::job::{Problem, Problems};
use crate::policy::types::Ending;
use crate::rollout::model::{Called, Event, Stamped};
use crate::terminal;

/// The width of the verb that leads each line.
const VERB_WIDTH: usize = 11;

/// Where data and talk go, and how.
#[derive(Debug, Clone)]
pub(super) struct Output {
    format: Format,
    quiet: bool,
    bar: Option<Bar>,
    /// How what is said calls this program, once the store is chosen.
    invocation: Arc<OnceLock<Invocation>>,
    /// Why data could not be written, when that was first so.
    lost: Arc<OnceLock<io::Error>>,
}

impl Output {
    pub(super) fn new(global: &Global) -> Self {
        Self { format: global.format, quiet: global.quiet, bar: None, invocation: Arc::default(), lost: Arc::default() }
    }

    pub(super) fn format(&self) -> Format {
        self.format
    }

    pub(super) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether talk is heard.
    pub(super) fn is_talking(&self) -> bool {
        !self.quiet && !self.is_json()
    }

    /// The same without talk.
    pub(super) fn hushed(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// Keeps how commands name the store in use. The first store of a command is the one that is meant.
    pub(super) fn remember(&self, invocation: Invocation) {
        // A later one is the same.
        let _ = self.invocation.set(invocation);
    }

    /// A text whose commands can be pasted: see [`Invocation::completed`].
    pub(super) fn completed(&self, text: &str) -> String {
        self.invocation.get().map_or_else(|| text.to_owned(), |invocation| invocation.completed(text))
    }

    /// A line of data.
    pub(super) fn data(&self, line: &str) {
        self.keep(sink::line(line));
    }

    /// Lines of data whose values have been escaped.
    pub(super) fn block(&self, text: &str) {
        self.keep(sink::block(text));
    }

    /// A table of data.
    pub(super) fn table(&self, table: &Table) {
        self.block(&table.text());
    }

    /// TOML to paste into a file.
    pub(super) fn source(&self, text: &str) {
        self.keep(sink::source(text));
    }

    /// Bytes that our own sources determine.
    pub(super) fn own_bytes(&self, bytes: &[u8]) {
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
    pub(super) fn complete(&self) -> Result<(), Failure> {
        match self.lost.get() {
            Some(error) => Err(Failure::message(ErrorKind::Io, format!("cannot write to stdout: {error}"))),
            None => Ok(()),
        }
    }

    /// A JSON value of data, on one line.
    pub(super) fn json(&self, value: &impl Serialize) {
        self.keep(sink::json(value));
    }

    /// A JSON value for people and programs.
    pub(super) fn pretty_json(&self, value: &impl Serialize) {
        self.keep(sink::pretty_json(value));
    }

    /// A line of talk, led by a verb.
    pub(super) fn talk(&self, verb: &str, text: &str) {
        self.say(Tone::Good, verb, text);
    }

    /// A line of talk that somebody should look at.
    pub(super) fn warn(&self, text: &str) {
        self.say(Tone::Bad, "Warning", text);
    }

    fn say(&self, tone: Tone, verb: &str, text: &str) {
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
    pub(super) fn failure(&self, failure: &Failure) {
        let hint = failure.hint.as_deref().map(|hint| self.completed(hint));
        write_failure(self.format, failure, hint.as_deref());
    }

    // ------------------------------------------------------------------ a rollout

    /// Shows a bar of `targets` from now on, where a person looks.
    pub(super) fn with_bar(self, targets: usize) -> Self {
        self.bar("Rolling out", targets as u64, "{pos}/{len}")
    }

    /// Likewise, of something that is read, in bytes.
    pub(super) fn with_byte_bar(self, what: &'static str, bytes: u64) -> Self {
        self.bar(what, bytes, "{bytes}/{total_bytes}")
    }

    fn bar(mut self, what: &'static str, length: u64, count: &'static str) -> Self {
        if self.is_talking() {
            self.bar = Bar::new(what, length, count);
        }
        self
    }

    /// Moves the bar.
    pub(super) fn progress(&self, position: u64) {
        if let Some(bar) = &self.bar {
            bar.set(position);
        }
    }

    /// Takes the bar away.
    pub(super) fn end_bar(&self) {
        if let Some(bar) = &self.bar {
            bar.end();
        }
    }

    /// One event: a line for people, or a JSON object on stdout.
    pub(super) fn event(&self, stamped: &Stamped) {
        if self.is_json() {
            return self.json(stamped);
        }
        let again =
            |ms: &Option<u64>| ms.map_or(String::new(), |ms| format!("; the policy decides again in {}", span(ms)));
        match &stamped.event {
            Event::Planned { run, targets, batches, slots, semaphore, journal, .. } => {
                let text = format!(
                    "{} in {}, {} of `{semaphore}`",
                    of(*targets, "target"),
                    of(*batches, "round"),
                    of(*slots as usize, "slot")
                );
                self.say(Tone::Good, "Planned", &text);
                self.say(Tone::Plain, "Run", &format!("{run}, journal in {journal}"));
            }
            Event::RunResumed { run, previous_runner, runner_epoch, finished, remaining } => {
                let text = format!(
                    "run {run} (epoch {runner_epoch}, previous runner {previous_runner}): {finished} finished, \
                     {remaining} remaining"
                );
                self.say(Tone::Good, "Resuming", &text);
            }
            Event::Waiting { target, code, reason, ask_again_ms } => {
                self.say(Tone::Plain, "Waiting", &format!("{target}: {reason} ({code}){}", again(ask_again_ms)));
            }
            Event::Holding { code, reason, ask_again_ms } => {
                self.say(Tone::Plain, "Holding", &format!("all: {reason} ({code}){}", again(ask_again_ms)));
            }
            Event::Refused { target, reason, limit, .. } => {
                self.say(Tone::Plain, "Refused", &format!("{target} by the job's limits: {reason} ({limit})"));
            }
            Event::Queued { .. } | Event::Started { .. } | Event::Released { .. } => {}
            Event::Leased { target, held, slots, again, .. } => {
                let note = if *again { ", already held" } else { "" };
                self.say(Tone::Good, "Leased", &format!("{target} ({held} of {slots}{note})"));
            }
            Event::SlotForced { semaphore, broken, reason, .. } => {
                let what = match broken.as_slice() {
                    [] => "above the limit".to_owned(),
                    fences => format!("breaking {}", list(fences)),
                };
                let text = format!("a slot of `{semaphore}` for the orchestration, {what}: {reason}");
                self.say(Tone::Bad, "Forced", &terminal::line(&text));
            }
            Event::SlotsChanged { from, to } => {
                self.say(Tone::Plain, "Resized", &format!("the semaphore from {from} to {}", of(*to as usize, "slot")));
            }
            Event::Forced { target, broken, code, reason, .. } => {
                let what = match broken.as_slice() {
                    [] => "above the limit".to_owned(),
                    fences => format!("breaking {}", list(fences)),
                };
                self.say(Tone::Bad, "Forced", &format!("{target}, {what}: {reason} ({code})"));
            }
            Event::ReleasedUnused { target, reason } => {
                self.say(Tone::Plain, "Released", &format!("{target} before it started: {reason}"))
            }
            Event::Succeeded { target, took_ms } => {
                self.say(Tone::Good, "Succeeded", &format!("{target} in {}", span(*took_ms)))
            }
            Event::Failed { target, attempt, ending, detail, took_ms, output, log } => {
                let verb = if *ending == Ending::Unknown { "Unknown" } else { "Failed" };
                let text = format!("{target}, attempt {attempt}: {detail} after {}; output in {log}", span(*took_ms));
                self.say(Tone::Bad, verb, &text);
                for line in output {
                    self.say(Tone::Plain, "|", line);
                }
            }
            Event::KeepingSlot { target, keep_ms, reason } => {
                self.say(Tone::Plain, "Keeping", &format!("the slot of {target} for {}: {reason}", span(*keep_ms)));
            }
            Event::Retrying { target, attempt, reason, after_ms } => {
                let after = if *after_ms == 0 { String::new() } else { format!(" in {}", span(*after_ms)) };
                self.say(Tone::Plain, "Retrying", &format!("{target}, attempt {attempt}{after}: {reason}"));
            }
            Event::Recovered { target, attempt, roll_back } => {
                let what = if *roll_back { "being rolled back" } else { "running" };
                self.say(
                    Tone::Plain,
                    "Recovered",
                    &format!("{target}, {what} since an earlier runner, attempt {attempt}"),
                );
            }
            Event::Probed { target, answer, detail, roll_back } => {
                let said = match (answer.as_ref(), *roll_back) {
                    ("succeeded", false) => "its action had succeeded",
                    ("succeeded", true) => "its roll-back had succeeded",
                    ("not-started", false) => "its action never started and will start in its turn",
                    ("not-started", true) => "its roll-back never started",
                    ("failed", false) => "its action failed",
                    ("failed", true) => "its roll-back failed",
                    (_, true) => "the outcome of its roll-back is unknown",
                    _ => "its outcome is unknown",
                };
                let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
                let tone = if answer == "succeeded" { Tone::Good } else { Tone::Bad };
                self.say(tone, "Settled", &format!("{target}: {said}{detail}"));
            }
            Event::ClockSet { by_ms } => {
                let direction = if *by_ms > 0 { "forward" } else { "back" };
                let text = format!(
                    "this machine's clock was set {direction} by {}",
                    span(by_ms.unsigned_abs().saturating_add(500) / 1_000 * 1_000)
                );
                self.say(Tone::Bad, "Clock", &text);
            }
            Event::ContactLost { target, attempt, detail, asked_ms, log, .. } => {
                let next = match asked_ms {
                    Some(asked) => format!("its probe runs for up to {}", span(*asked)),
                    None => "it has no probe".to_owned(),
                };
                self.say(
                    Tone::Bad,
                    "Lost",
                    &format!(
                        "contact with {target}, attempt {attempt}: {detail}; {next}; \
                 output in {log}"
                    ),
                );
            }
            Event::EndingRestored { target, attempt, ending, detail, roll_back } => {
                let what = if *roll_back { "its roll-back" } else { "its action" };
                let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
                let (tone, how) = match ending {
                    Ending::Succeeded => (Tone::Good, "succeeded"),
                    Ending::TimedOut => (Tone::Bad, "timed out"),
                    _ => (Tone::Bad, "failed"),
                };
                let text = format!("{target}, attempt {attempt}: this runner saw that {what} {how}{detail}");
                self.say(tone, "Restored", &text);
            }
            Event::Paused { by, reason } => {
                let reason = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
                self.say(Tone::Bad, "Paused", &format!("by {by}{reason}"));
            }
            Event::Unpaused {} => self.say(Tone::Good, "Resumed", "the run"),
            Event::RetryRequested { target, by } => {
                self.say(Tone::Plain, "Retry", &format!("{target}, requested by {by}"));
            }
            Event::Accepted { target } => self.say(Tone::Plain, "Accepted", &format!("the outcome on {target}")),
            // A call that does not wait is shown with its answer.
            Event::CallStarted { call, .. } if !call.waits() => {}
            Event::CallStarted { call, .. } => {
                self.say(Tone::Plain, "Calling", &terminal::line(&call.to_string()));
            }
            Event::CallAnswered { called: Called { call, answer, .. } } => {
                let text = if call.waits() { answer.to_string() } else { format!("{call}: {answer}") };
                self.say(Tone::Good, if call.waits() { "Answered" } else { "Called" }, &terminal::line(&text));
            }
            // Replayed calls were shown when they were new.
            Event::CallReplayed { .. } => {}
            Event::OrchestrationFault { message, hint, .. } => {
                self.say(Tone::Bad, "Fault", message);
                if let Some(hint) = hint {
                    self.say(Tone::Plain, "Hint", hint);
                }
            }
            Event::OrchestrationLog { level, message } => self.say(Tone::Plain, "Log", &format!("{level}: {message}")),
            Event::WaveStarted { wave, targets } => {
                self.say(Tone::Good, "Wave", &format!("`{wave}` starts with {}", of(*targets, "target")));
            }
            Event::WaveBaking { wave, until } => {
                let until = moment(*until, stamped.at);
                self.say(Tone::Good, "Baking", &format!("wave `{wave}` is complete; the next wave starts {until}"));
            }
            Event::WaveAwaitsApproval { wave, run } => {
                let how = format!("`lockkeeper approve {run} {wave}` approves it");
                self.say(Tone::Bad, "Waiting", &format!("wave `{wave}` needs approval: {how}"));
            }
            Event::RollingBack { target, reason, .. } => {
                self.say(Tone::Bad, "Rolling", &format!("back {target}: {reason}"));
            }
            Event::RolledBack { target, took_ms, had } => {
                let had = had.as_ref().map(|had| format!("; {had}")).unwrap_or_default();
                self.say(Tone::Plain, "Rolled", &format!("back {target} in {}{had}", span(*took_ms)));
            }
            Event::RollingBackRun { targets } => {
                self.say(Tone::Bad, "Rolling", &format!("back {}, latest first", of(*targets, "target")));
            }
            Event::NotReleased { target, reason } => {
                self.say(Tone::Bad, "Still held", &format!("the slot of {target}: {reason}"));
            }
            Event::Skipped { target, code, reason } => {
                self.say(Tone::Plain, "Skipped", &format!("{target}: {reason} ({code})"));
            }
            Event::LeaseLost { target, reason } => {
                self.say(Tone::Bad, "Lost", &format!("the lease of {target}: {reason}"))
            }
            Event::PolicyLog { target, line } => {
                self.say(Tone::Plain, "Policy", &format!("{target}, {}: {}", line.level, line.message));
            }
            Event::PolicyFault { target, kind, message, hint } => {
                self.say(Tone::Bad, "Fault", &format!("{target}: {message} ({kind})"));
                if let Some(hint) = hint {
                    self.say(Tone::Plain, "Hint", hint);
                }
            }
            Event::Stopping { reason, running } => {
                let rest = if *running > 0 { format!("; {running} running") } else { String::new() };
                self.say(Tone::Bad, "Stopping", &format!("{reason}{rest}"));
            }
            Event::Store { state } => self.say(Tone::Bad, "Store", state),
            Event::Finished { counts, forced, took_ms, end } => {
                let mut parts = vec![format!("{} succeeded", counts.succeeded), format!("{} failed", counts.failed)];
                let rest = counts.pending + counts.waiting;
                for (number, word) in [
                    (counts.unknown, "unknown"),
                    (counts.rolled_back, "rolled back"),
                    (counts.skipped, "skipped"),
                    (*forced, "forced"),
                    (rest, "not started"),
                ] {
                    if number > 0 {
                        parts.push(format!("{number} {word}"));
                    }
                }
                let tone = if *end == "succeeded" { Tone::Good } else { Tone::Bad };
                let counts = parts.join(", ");
                match end.as_ref() {
                    // This process opens another session and resumes the run, unless another runner has it.
                    "lost" => self.say(tone, "Lost", &format!("the session with the store; so far {counts}")),
                    _ => self.say(tone, "Finished", &format!("{counts} in {}", span(*took_ms))),
                }
            }
        }
    }
}

/// Shows an error of a command line that names no store.
pub(super) fn failure(format: Format, failure: &Failure) {
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

/// A failure that shows all of a job's problems, each with its place, and at last how many there are.
pub(super) fn problems_failure(problems: &Problems) -> Failure {
    Failure {
        rendered: Some(rendered(problems.problems())),
        more: Some(json!({ "problems": problems.problems() })),
        ..Failure::message(ErrorKind::BadJob, problems.to_string())
    }
}

/// Problems as people read them, with the lines that they are in.
fn rendered(problems: &[Problem]) -> String {
    let theme = match sink::is_stderr_terminal() && std::env::var_os("NO_COLOR").is_none() {
        true => GraphicalTheme::unicode(),
        false => GraphicalTheme::unicode_nocolor(),
    };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110);
    let one = |problem: &Problem| {
        let problem = &problem.for_terminal();
        let mut text = String::new();
        match problem.source_code().map(|_| handler.render_report(&mut text, problem)) {
            Some(Ok(())) => text,
            // Without the lines around it, the place must be said.
            _ => {
                let help = problem.help.iter().map(|help| format!("  help: {help}\n"));
                format!("  × {}: {problem}\n{}", problem.place, help.collect::<String>())
            }
        }
    };
    problems.iter().map(one).collect::<Vec<_>>().join("\n")
}

/// A user's text for a message: without control characters, and not longer than a line bears.
pub(super) fn shown(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    terminal::shown(text, MAX_CHARS)
}

/// A span of milliseconds as people read it.
pub(super) fn span(ms: u64) -> String {
    let rounded = match ms {
        0..10_000 => ms,
        // Past ten seconds nobody counts milliseconds.
        _ => ms - ms % 1000,
    };
    humantime::format_duration(Duration::from_millis(rounded)).to_string()
}

/// A moment as people read it, and how long ago it was or how far off it is.
pub(super) fn moment(ms: u64, now_ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    let at = at.map_or_else(|| ms.to_string(), |at| at.strftime("%Y-%m-%d %H:%M:%SZ").to_string());
    let far = ms.abs_diff(now_ms);
    let far = span(far - far % 1000);
    match ms > now_ms {
        true => format!("{at} (in {far})"),
        false => format!("{at} ({far} ago)"),
    }
}

/// A number of things: `1 slot`, `2 batches`.
pub(super) fn of(number: usize, what: &str) -> String {
    let plural = if what.ends_with("ch") { "es" } else { "s" };
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}{plural}"),
    }
}

fn list(fences: &[u64]) -> String {
    fences.iter().map(|fence| format!("fence {fence}")).collect::<Vec<_>>().join(", ")
}
