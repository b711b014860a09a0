//! Text that is not TOML everywhere: what can be read of it is, so that one slip hides no other mistake.
//!
//! After the first slip a TOML parser guesses, and complains of its own guesses. Here the statement with the slip is told,
//! blanked out, and the rest is read again, until it is TOML. Offsets stay what they are.

use std::ops::Range;

use toml::de::{DeTable, Error};

use super::problem::Source;

/// How many slips are told: each costs one more reading of the text.
const MAX_SLIPS: usize = 20;

/// Something that is not TOML.
#[derive(Debug)]
pub(super) struct SyntaxError {
    pub span: Range<usize>,
    /// The key that seems to be set there; empty where none can be made out.
    pub key: String,
    pub message: String,
    pub help: Option<&'static str>,
}

/// A text, the slips in it, and what of it is TOML.
pub(super) struct RecoveredToml {
    pub slips: Vec<SyntaxError>,
    /// As long as the text, with spaces for each statement that is not TOML.
    pub rest: String,
    /// Keys that are written twice: the first was taken.
    pub twice: Vec<SyntaxError>,
}

/// Finds the slips of a text.
pub(super) fn mend(source: &Source) -> RecoveredToml {
    let mut recovering = RecoveredToml { slips: Vec::new(), rest: source.text().to_owned(), twice: Vec::new() };
    while recovering.slips.len() < MAX_SLIPS {
        let (_, errors) = DeTable::parse_recoverable(&recovering.rest);
        let (twice, errors): (Vec<_>, Vec<_>) =
            errors.into_iter().partition(|error| error.message() == "duplicate key");
        let Some(error) = errors.into_iter().min_by_key(|error| start_of(error, source)) else {
            recovering.twice = twice.iter().map(|error| written_twice(error, source)).collect();
            return recovering;
        };
        let lines = Lines { source, text: &recovering.rest };
        let (slip, blank) = lines.explain(&error);
        recovering.slips.push(slip);
        if recovering.rest[blank.clone()].trim().is_empty() {
            break; // The slip is elsewhere, and nobody knows where.
        }
        blank_out(&mut recovering.rest, blank);
    }
    blank_out(&mut recovering.rest, 0..source.text().len());
    recovering
}

fn start_of(error: &Error, source: &Source) -> usize {
    error.span().map_or(source.text().len(), |span| span.start)
}

fn written_twice(error: &Error, source: &Source) -> SyntaxError {
    let end = source.text().len();
    let span = error.span().unwrap_or(end..end);
    let lines = Lines { source, text: source.text() };
    let key = lines.key_near(source.line_of(span.start));
    SyntaxError { span, key, message: String::from("written twice"), help: Some("keep one of the two") }
}

/// Spaces for everything but the ends of lines.
fn blank_out(text: &mut String, span: Range<usize>) {
    let blanks = text[span.clone()].bytes().map(|b| if matches!(b, b'\n' | b'\r') { char::from(b) } else { ' ' });
    let blanks: String = blanks.collect();
    text.replace_range(span, &blanks);
}

/// What a line begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begins {
    Table,
    Key,
    /// It goes on with what is above.
    Nothing,
}

struct Lines<'a> {
    source: &'a Source,
    text: &'a str,
}

impl Lines<'_> {
    fn line(&self, number: usize) -> &str {
        &self.text[self.source.line(number)]
    }

    fn begins(&self, number: usize) -> Begins {
        let line = self.line(number).trim_start();
        let is_key = |text: &str| {
            let text = text.trim();
            !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\''))
        };
        match line.split_once('=') {
            Some((key, _)) if is_key(key) => Begins::Key,
            _ if line.starts_with("[[") => Begins::Table,
            // A list in a list begins so too, but holds more than a name.
            _ if line.starts_with('[') && is_key(line[1..].split([']', '#']).next().unwrap_or_default()) => {
                Begins::Table
            }
            _ => Begins::Nothing,
        }
    }

    /// What is wrong, and how much of the text to do without.
    fn explain(&self, error: &Error) -> (SyntaxError, Range<usize>) {
        let end = self.source.text().len();
        let span = error.span().unwrap_or(end..end);
        let line = self.source.line_of(span.start);
        if error.message().contains("multi-line")
            && let Some(slip) = self.open_text(line)
        {
            let from = self.source.line_of(slip.span.start);
            return (slip, self.source.line(from).start..end);
        }
        let above = (0..line).rev().find(|line| self.begins(*line) != Begins::Nothing);
        let open = above.filter(|above| {
            let is_next = line > *above && (self.begins(line) != Begins::Nothing || span.start >= end);
            is_next && self.begins(*above) == Begins::Key && self.is_open(*above..line)
        });
        if let Some(start) = open {
            let from = self.source.line(start).start;
            let bracket = self.line(start).find(['[', '{']).unwrap_or(0);
            let slip = SyntaxError {
                span: from + bracket..from + bracket + 1,
                key: self.key_near(start),
                message: String::from("not TOML: this is not closed"),
                help: Some("a list ends with `]`, a table in one line with `}`"),
            };
            let blank_end = if self.begins(line) == Begins::Nothing { end } else { self.source.line(line).start };
            return (slip, from..blank_end);
        }
        let start = match self.begins(line) {
            Begins::Nothing => above.filter(|above| self.is_open(*above..line)).unwrap_or(line),
            _ => line,
        };
        let is_quote = error.message().contains("must be quoted");
        let slip = SyntaxError {
            span,
            key: self.key_near(start),
            message: format!("not TOML: {}", error.message()),
            help: is_quote.then_some("write text in quotes: `\"…\"`"),
        };
        // Keys below a header that cannot be read would be taken for another table's.
        let is_header = self.line(line).trim_start().starts_with('[');
        let mut depth = self.depth(start..line);
        let last = (line + 1..self.source.line_count()).find(|next| {
            depth += self.depth(*next - 1..*next);
            match self.begins(*next) {
                Begins::Table => true,
                Begins::Key => !is_header,
                Begins::Nothing => !is_header && (start == line || depth <= 0),
            }
        });
        (slip, self.source.line(start).start..last.map_or(end, |last| self.source.line(last).start))
    }

    /// A text of several lines that begins at or above this one and has no end.
    fn open_text(&self, line: usize) -> Option<SyntaxError> {
        let start = |line: usize| {
            let quotes =
                ["\"\"\"", "'''"].into_iter().find(|quotes| self.line(line).matches(quotes).count() % 2 == 1)?;
            let from = self.source.line(line).start + self.line(line).find(quotes)?;
            let key = self.key_near(line);
            let message = String::from("not TOML: this text has no end");
            Some(SyntaxError {
                span: from..from + quotes.len(),
                key,
                message,
                help: Some("it ends with the same three quotes"),
            })
        };
        (0..=line).rev().find_map(start)
    }

    /// Whether lists or tables that begin on these lines are still open behind them.
    fn is_open(&self, lines: Range<usize>) -> bool {
        self.depth(lines) > 0
    }

    /// How many more lists and tables these lines open than they close. Brackets in quotes are text.
    fn depth(&self, lines: Range<usize>) -> i32 {
        let mut depth = 0_i32;
        for line in lines {
            let mut quote = None;
            for c in self.line(line).chars() {
                match (quote, c) {
                    (None, '"' | '\'') => quote = Some(c),
                    (Some(open), c) if open == c => quote = None,
                    (None, '#') => break,
                    (None, '[' | '{') => depth += 1,
                    (None, ']' | '}') => depth -= 1,
                    _ => {}
                }
            }
        }
        depth
    }

    /// The key that a line seems to set: what stands before its `=`, below the last header.
    fn key_near(&self, line: usize) -> String {
        let is_table =
            |line: &usize| self.line(*line).trim_start().starts_with('[') && self.begins(*line) != Begins::Key;
        let table = (0..=line).rev().find(is_table).map(|line| {
            let name = self.line(line).trim().trim_start_matches('[');
            name.split([']', '#']).next().unwrap_or_default().trim()
        });
        let own = match self.begins(line) {
            Begins::Key => self.line(line).split('=').next().map(str::trim),
            Begins::Table | Begins::Nothing => None,
        };
        [table, own].into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(".")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each slip with its line and key, and the lines that are left.
    fn mended(text: &str) -> (Vec<String>, Vec<String>) {
        let source = Source::new("x.toml", text);
        let recovering = mend(&source);
        assert_eq!(recovering.rest.len(), text.len());
        let slips = recovering.slips.iter().chain(&recovering.twice);
        let slips = slips.map(|slip| format!("{} {} {}", source.line_of(slip.span.start) + 1, slip.key, slip.message));
        let left = recovering.rest.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty());
        (slips.collect(), left.collect())
    }

    #[test]
    fn one_slip_costs_one_statement() {
        for (text, told, left) in [
            ("x = 1\na = '''b", "2 a not TOML: this text has no end", "x = 1"),
            ("a = b\nc = 1", "1 a not TOML: string values must be quoted, expected literal string", "c = 1"),
            ("x = 1\na = [\n  1,\nc = 1", "2 a not TOML: this is not closed", "x = 1|c = 1"),
            ("x = 1\na = [\n  1,\n[t]\nc = 1", "2 a not TOML: this is not closed", "x = 1|[t]|c = 1"),
            ("x = 1\na = [\n  1,\n", "3 a not TOML: unclosed array, expected `]`", "x = 1"),
            ("[t]\na = [\n  \"b,\n  2,\n]\nc = 1", "3 t.a not TOML: invalid basic string, expected `\"`", "[t]|c = 1"),
            ("[t\na = 1\n[u]\nb = 1", "1 t not TOML: unclosed table, expected `]`", "[u]|b = 1"),
            ("a = \"\"\"\nb = 1\n[c]", "1 a not TOML: this text has no end", ""),
            ("a = 1\na = 2\n", "2 a written twice", "a = 1|a = 2"),
        ] {
            let (slips, rest) = mended(text);
            assert_eq!((slips.join("|"), rest.join("|")), (told.to_owned(), left.to_owned()), "{text}");
        }
    }

    #[test]
    fn slips_without_end_come_to_an_end() {
        let (slips, left) = mended(&"a = b\n".repeat(1000));
        assert_eq!((slips.len(), left.len()), (MAX_SLIPS, 0));
    }
}
