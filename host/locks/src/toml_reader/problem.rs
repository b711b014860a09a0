//! What is wrong with a file, and where: for people as diagnostics over the source, for programs as plain fields.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use miette::{Diagnostic, LabeledSpan, MietteError, MietteSpanContents, SourceCode, SourceSpan, SpanContents};
use serde::Serialize;

use crate::terminal;

/// The most bytes of lines that a problem shows: nobody reads more, and a whole page may stand on one line.
const MAX_SHOWN_BYTES: usize = 4000;

/// A file's name and text, shared by every problem in it.
#[derive(Clone)]
pub struct Source(Arc<Text>);

struct Text {
    name: String,
    text: String,
    /// Where each line begins; the first begins at 0.
    lines: Vec<usize>,
    /// The text for a terminal: `None` if it is the same. Every place is what it is in the text.
    shown: OnceLock<Option<String>>,
}

/// A place in a file, as an editor counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The file's name, as given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

impl Source {
    /// A text, and the name that messages give it.
    #[must_use]
    pub fn new(name: &str, text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        Self(Arc::new(Text { name: name.to_owned(), text: text.to_owned(), lines, shown: OnceLock::new() }))
    }

    /// The same file for people's eyes: on each line that `may_tell` says so of, what stands behind the first `=` is hidden,
    /// or all of it where there is none. Places stay what they are.
    pub fn hiding(&self, may_tell: impl Fn(&str) -> bool) -> Self {
        let mut text = String::with_capacity(self.text().len());
        let mut has_hidden = false;
        for number in 0..self.line_count() {
            let line = self.line(number);
            // With the end of the line before.
            text.push_str(&self.text()[text.len()..line.start]);
            let shown = &self.text()[line];
            let is_header = shown.starts_with('[') && !shown.contains(['"', '\'']);
            if is_header || !may_tell(shown) {
                text.push_str(shown);
                continue;
            }
            let (key, value) = shown.split_at(shown.find('=').map_or(0, |equals| equals + 1));
            text.push_str(key);
            text.extend(value.chars().map(|c| if c.is_whitespace() { c } else { as_wide_as(c) }));
            has_hidden = true;
        }
        if has_hidden { Self::new(self.name(), &text) } else { self.clone() }
    }

    /// The file's name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The file's text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// The place of a byte; of the end of the text for anything behind it.
    pub fn place(&self, offset: usize) -> Place {
        let text = self.text();
        let offset = text.floor_char_boundary(offset);
        let line = self.line_of(offset);
        let column = text[self.0.lines[line]..offset].chars().count();
        Place { file: self.0.name.clone(), line: line + 1, column: column + 1 }
    }

    /// The number of the line that a byte is in, from 0.
    pub fn line_of(&self, offset: usize) -> usize {
        self.0.lines.partition_point(|start| *start <= offset).saturating_sub(1)
    }

    /// The bytes of a line, from 0, without its end.
    pub fn line(&self, number: usize) -> Range<usize> {
        let start = self.0.lines[number];
        let end = self.0.lines.get(number + 1).map_or(self.text().len(), |next| next - 1);
        start..end
    }

    /// How many lines there are.
    pub fn line_count(&self) -> usize {
        self.0.lines.len()
    }

    /// The text without what a terminal would obey or not show.
    fn shown(&self) -> &str {
        let text = self.text();
        let is_shown = |at: usize, c: char| match c {
            '\n' | '\t' => true,
            '\r' => text[at + 1..].starts_with('\n'),
            c => !terminal::is_hidden(c),
        };
        let shown = self.0.shown.get_or_init(|| {
            let is_plain = text.char_indices().all(|(at, c)| is_shown(at, c));
            let each = |(at, c)| if is_shown(at, c) { c } else { as_wide_as(c) };
            (!is_plain).then(|| text.char_indices().map(each).collect())
        });
        shown.as_deref().unwrap_or(text)
    }

    /// Whether the lines of a span, and those beside it, are short enough to be shown.
    fn can_show(&self, span: &Range<usize>) -> bool {
        let first = self.line_of(span.start).saturating_sub(1);
        let last = (self.line_of(span.end) + 1).min(self.line_count() - 1);
        self.line(last).end - self.line(first).start <= MAX_SHOWN_BYTES
    }

    /// The same span where it lies in the text and on its characters, else the nearest that does.
    fn clamp(&self, span: Range<usize>) -> Range<usize> {
        let start = self.text().floor_char_boundary(span.start);
        start..self.text().ceil_char_boundary(span.end).max(start)
    }
}

/// A character that says nothing and takes as many bytes.
fn as_wide_as(c: char) -> char {
    match c.len_utf8() {
        1 => '*',
        2 => '·',
        3 => '•',
        _ => '\u{1d7cf}',
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({:?}, {} bytes)", self.0.name, self.0.text.len())
    }
}

/// As for a text, yet without what a terminal would obey, with the name, and the columns in characters rather than bytes.
impl SourceCode for Source {
    fn read_span<'a>(
        &'a self,
        span: &SourceSpan,
        lines_before: usize,
        lines_after: usize,
    ) -> Result<Box<dyn SpanContents<'a> + 'a>, MietteError> {
        let contents = self.shown().read_span(span, lines_before, lines_after)?;
        let column = if lines_before == 0 { self.place(span.offset()).column - 1 } else { contents.column() };
        Ok(Box::new(MietteSpanContents::new_named(
            terminal::value(self.name()),
            contents.data(),
            *contents.span(),
            contents.line(),
            column,
            contents.line_count(),
        )))
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The file cannot be used.
    Error,
    /// It can, but probably does not say what was meant.
    Warning,
}

/// One thing that is wrong in a file.
#[derive(Debug, Clone, Serialize)]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// Where it is.
    #[serde(flatten)]
    pub place: Place,
    /// The key that it is about, such as `semaphore.max-concurrency`; empty where no key could be made out.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead; `hint` for programs, as in every error.
    #[serde(rename = "hint")]
    pub help: Option<String>,
    #[serde(skip)]
    source: Source,
    #[serde(skip)]
    span: Range<usize>,
    /// Another place that it has to do with, and how.
    #[serde(skip)]
    other: Option<(Range<usize>, String)>,
}

impl Problem {
    /// A problem of `key`, at a span of the file; an error until [`Self::into_warning`].
    #[must_use]
    pub fn new(source: &Source, key: &str, span: Range<usize>, message: String) -> Self {
        let span = source.clamp(span);
        Self {
            severity: Severity::Error,
            place: source.place(span.start),
            key: key.to_owned(),
            message,
            help: None,
            source: source.clone(),
            span,
            other: None,
        }
    }

    /// Says what to write instead.
    pub fn help(&mut self, help: impl Into<String>) -> &mut Self {
        self.help = Some(help.into());
        self
    }

    /// Shows another place, too.
    pub fn other(&mut self, span: Range<usize>, label: &str) -> &mut Self {
        self.other = Some((self.source.clamp(span), label.to_owned()));
        self
    }

    /// The same as a warning.
    #[must_use]
    pub fn into_warning(self) -> Self {
        Self { severity: Severity::Warning, ..self }
    }

    /// The same with every text escaped; the lines of the file are, where they are shown.
    #[must_use]
    pub fn for_terminal(&self) -> Self {
        let mut shown = self.clone();
        shown.message = terminal::line(&self.message);
        shown.key = terminal::value(&self.key);
        shown.place.file = terminal::value(&self.place.file);
        shown.help = self.help.as_deref().map(terminal::line);
        shown.other = self.other.as_ref().map(|(span, label)| (span.clone(), terminal::value(label)));
        shown
    }

    /// The byte in the file at which it begins.
    #[must_use]
    pub fn start(&self) -> usize {
        self.span.start
    }

    /// The file that it is in.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.as_str() {
            "" => f.write_str(&self.message),
            key => write!(f, "{key}: {}", self.message),
        }
    }
}

impl std::error::Error for Problem {}

impl Diagnostic for Problem {
    fn severity(&self) -> Option<miette::Severity> {
        Some(match self.severity {
            Severity::Error => miette::Severity::Error,
            Severity::Warning => miette::Severity::Warning,
        })
    }

    fn help(&self) -> Option<Box<dyn fmt::Display + '_>> {
        self.help.as_ref().map(|help| Box::new(help) as Box<dyn fmt::Display>)
    }

    /// `None` if the lines around it are too long to be shown.
    fn source_code(&self) -> Option<&dyn SourceCode> {
        let other = self.other.as_ref().map(|(span, _)| span);
        let can_show = [&self.span].into_iter().chain(other).all(|span| self.source.can_show(span));
        can_show.then_some(&self.source as &dyn SourceCode)
    }

    fn labels(&self) -> Option<Box<dyn Iterator<Item = LabeledSpan> + '_>> {
        let here =
            LabeledSpan::new_primary_with_span(self.other.as_ref().map(|_| String::from("here")), self.span.clone());
        let other =
            self.other.iter().map(|(span, label)| LabeledSpan::new_with_span(Some(label.clone()), span.clone()));
        Some(Box::new(std::iter::once(here).chain(other)))
    }
}

/// Everything that is wrong with a file, in its order.
#[derive(Debug, Clone)]
pub struct Problems {
    what: &'static str,
    source: Source,
    problems: Vec<Problem>,
    total: usize,
}

impl Problems {
    /// The most that are kept of one file: whoever has more fixes these first, and a listing stays readable.
    pub const MAX: usize = 100;

    /// Sorted by their places, those in other files last; `what` is the kind of file, such as `job`.
    pub fn new(what: &'static str, source: Source, mut problems: Vec<Problem>) -> Self {
        problems.sort_by_key(|problem| (problem.place.file != source.name(), problem.start()));
        let total = problems.len();
        problems.truncate(Self::MAX);
        Self { what, source, problems, total }
    }

    /// What somebody else found in a file that is no job: for each the bytes that it is about, the key, what is wrong and
    /// what to write instead.
    #[must_use]
    pub fn found(
        what: &'static str,
        name: &str,
        text: &str,
        found: impl IntoIterator<Item = (Range<usize>, String, String, Option<String>)>,
    ) -> Self {
        let source = Source::new(name, text);
        let problem = |(span, key, message, help): (Range<usize>, String, String, Option<String>)| Problem {
            help,
            ..Problem::new(&source, &key, span, message)
        };
        let problems = found.into_iter().map(problem).collect();
        Self::new(what, source, problems)
    }

    /// Each of them.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// How many more there were than [`Self::problems`] has.
    #[must_use]
    pub fn left_out(&self) -> usize {
        self.total - self.problems.len()
    }

    /// The file that they are in.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.total == 1 { "" } else { "s" };
        write!(f, "{} `{}` has {} problem{plural}", self.what, self.source.name(), self.total)?;
        let mut elsewhere = self.problems.iter().filter(|problem| problem.place.file != self.source.name());
        if let Some(first) = elsewhere.next() {
            match 1 + elsewhere.count() {
                all if all == self.total => write!(f, ", in `{}`", first.place.file)?,
                some => write!(f, ", {some} of them in `{}`", first.place.file)?,
            }
        }
        if self.left_out() > 0 {
            write!(f, ", of which these are the first {}", self.problems.len())?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

impl Diagnostic for Problems {
    fn related<'a>(&'a self) -> Option<Box<dyn Iterator<Item = &'a dyn Diagnostic> + 'a>> {
        Some(Box::new(self.problems.iter().map(|problem| problem as &dyn Diagnostic)))
    }
}

/// The text of a file whose bytes these are, without the mark that some programs put before UTF-8; `what` is the kind of
/// file, such as `job`.
///
/// # Errors
/// [`Problems`]: the place of the first byte that is no UTF-8.
pub fn text_of<'a>(what: &'static str, file: &str, bytes: &'a [u8]) -> Result<&'a str, Problems> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        let source = Source::new(file, &String::from_utf8_lossy(bytes));
        let (message, help) = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => (String::from("the text is UTF-16"), "write it as UTF-8"),
            _ => (format!("the byte 0x{:02x} is no UTF-8", bytes[at]), "save the file as UTF-8"),
        };
        let mut problem = Problem::new(&source, "", at..at + 1, message);
        problem.help = Some(String::from(help));
        Problems::new(what, source, vec![problem])
    })?;
    Ok(text.strip_prefix('\u{feff}').unwrap_or(text))
}

/// A user's text for a message: in backticks, and not longer than a line bears.
pub fn quote(text: &str) -> String {
    const MAX_CHARS: usize = 60;
    format!("`{}`", terminal::shown(text, MAX_CHARS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_shown_nothing_that_it_would_obey() {
        assert_eq!(quote("a\u{1b}[31m\u{202e}b"), "`a\\u{1b}[31m\\u{202e}b`");
        let text = "ab\r\n\tc\u{1b}[2J\u{202e}é\rd\n";
        let source = Source::new("list", text);
        assert_eq!(source.shown(), "ab\r\n\tc*[2J•é*d\n");
        assert_eq!(source.shown().len(), text.len());
        let problem = Problem::new(&source, "", 5..8, String::from("wrong"));
        let mut rendered = String::new();
        miette::NarratableReportHandler::new().render_report(&mut rendered, &problem).unwrap();
        assert!(rendered.contains("c*[2J") && !rendered.contains('\u{1b}'), "{rendered}");
    }

    #[test]
    fn a_line_that_nobody_could_read_is_not_shown() {
        let long = "x".repeat(MAX_SHOWN_BYTES);
        let source = Source::new("list", &format!("a\n{long}\nb\nc\nd\n"));
        let is_shown = |span: Range<usize>| Problem::new(&source, "", span, String::new()).source_code().is_some();
        let end = source.text().len();
        assert!(!is_shown(0..1) && !is_shown(10..11) && !is_shown(end - 6..end - 5));
        assert!(is_shown(end - 4..end - 3) && is_shown(end..end));
    }

    #[test]
    fn a_text_begins_behind_its_mark_and_is_utf_8() {
        assert_eq!(text_of("job", "j", b"\xef\xbb\xbfname").unwrap(), "name");
        for (bytes, told) in [
            (&b"a\nb\xffc"[..], "j:2:2 the byte 0xff is no UTF-8"),
            (b"\xff\xfea\0", "j:1:1 the text is UTF-16"),
            (b"\xfe\xff\0a", "j:1:1 the text is UTF-16"),
        ] {
            let problems = text_of("job", "j", bytes).unwrap_err();
            let [problem] = problems.problems() else { panic!("{problems:?}") };
            assert_eq!(format!("{} {problem}", problem.place), told);
        }
    }
}
