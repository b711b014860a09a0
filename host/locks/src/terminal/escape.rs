//! Escapes for what is hidden, and bounds.

use std::fmt::Write as _;

use super::is_hidden;

/// The longest single value that is shown, in characters: some lines of a terminal, and longer than a sensible reason or path.
pub const MAX_VALUE: usize = 500;

/// The longest line that is shown, in characters: it holds several values, and no single line fills more than a screen.
pub const MAX_LINE: usize = 4_000;

/// Ends a text that was cut.
const CUT: char = '…';

/// A name or other short text within a message: what is hidden is escaped as in Rust (`\n`, `\u{1b}`), and what is longer than
/// `max_chars` characters, escapes included, is cut and ends with `…`.
#[must_use]
pub fn shown(text: &str, max_chars: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(max_chars));
    let mut room = max_chars;
    for c in text.chars() {
        let width = if is_hidden(c) { c.escape_default().count() } else { 1 };
        if width > room {
            shown.push(CUT);
            break;
        }
        room -= width;
        push(&mut shown, c);
    }
    shown
}

/// [`shown`] for a value that has no bound of its own.
#[must_use]
pub fn value(text: &str) -> String {
    shown(text, MAX_VALUE)
}

/// [`shown`] for sentences, such as a reason or what a program said: line breaks and tabs become blanks.
#[must_use]
pub fn prose(text: &str, max_chars: usize) -> String {
    let text = text.replace("\r\n", "\n");
    shown(&text.replace(['\n', '\t'], " "), max_chars)
}

/// A line of a command's log within a message: as [`prose`], without the colours that many programs write.
#[must_use]
pub fn log_line(text: &str, max_chars: usize) -> String {
    let mut rest = text.trim_end();
    let mut plain = String::with_capacity(rest.len());
    while let Some(at) = rest.find('\u{1b}') {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        let length = colour(rest).unwrap_or_else(|| {
            plain.push('\u{1b}');
            1
        });
        rest = &rest[length..];
    }
    plain.push_str(rest);
    prose(&plain, max_chars)
}

/// A whole line of output: [`shown`], as long as a line may be.
#[must_use]
pub fn line(text: &str) -> String {
    shown(text, MAX_LINE)
}

/// Several lines of output, such as a table: line breaks stay, and each line is as [`line()`] makes it. The caller has escaped
/// the values, whose own line breaks look like ours here.
#[must_use]
pub fn block(text: &str) -> String {
    text.split('\n').map(line).collect::<Vec<_>>().join("\n")
}

/// Lines that a library of ours has coloured: as [`block`], and sequences that set a colour or a weight (`ESC [ … m`) stay.
/// Values must have been escaped before the colours came.
#[must_use]
pub fn styled(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = colour(rest).unwrap_or(c.len_utf8());
        match (length == c.len_utf8(), c) {
            (true, '\n') => out.push(c),
            (true, c) => push(&mut out, c),
            (false, _) => out.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    out
}

/// The same JSON with all that is hidden written as `\uXXXX`. JSON's own escapes end at U+001F, and a terminal obeys more.
#[must_use]
pub fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Line breaks stand between members only: in a string they are escaped already.
        match c {
            '\n' => out.push(c),
            c if is_hidden(c) => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
            c => out.push(c),
        }
    }
    out
}

/// The same TOML with all that is hidden in its basic strings (`"…"`) written as TOML writes it.
#[must_use]
pub fn toml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        let _ = match (is_hidden(c), u32::from(c)) {
            (true, code @ 0x1_0000..) => write!(out, "\\U{code:08x}"),
            (true, code) if c != '\n' => write!(out, "\\u{code:04x}"),
            _ => out.write_char(c),
        };
    }
    out
}

fn push(to: &mut String, c: char) {
    if is_hidden(c) { to.extend(c.escape_default()) } else { to.push(c) }
}

/// The length of the sequence for colours that a text begins with.
fn colour(text: &str) -> Option<usize> {
    let parameters = text.strip_prefix("\u{1b}[")?;
    let end = parameters.find(|c: char| !c.is_ascii_digit() && c != ';')?;
    parameters[end..].starts_with('m').then_some("\u{1b}[m".len() + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_hidden_is_escaped_and_nothing_else() {
        assert_eq!(shown("a\u{1b}[31m\u{202e}b\n\r\u{9b}", 80), "a\\u{1b}[31m\\u{202e}b\\n\\r\\u{9b}");
        assert_eq!(shown("é 日本 🚀 \\n", 80), "é 日本 🚀 \\n");
    }

    #[test]
    fn a_text_is_no_longer_than_its_bound_escapes_included() {
        assert_eq!(shown("abcdef", 6), "abcdef");
        assert_eq!(shown("abcdefg", 6), "abcdef…");
        assert_eq!(shown("ab\u{1b}c", 6), "ab…");
        assert_eq!(value(&"x".repeat(1_000_000)).chars().count(), MAX_VALUE + 1);
        let bombs = "\u{e0041}".repeat(1_000_000);
        assert!(line(&bombs).chars().count() <= MAX_LINE + 1);
    }

    #[test]
    fn prose_is_on_one_line() {
        assert_eq!(prose("panicked at lib.rs:3:\r\n\tno\u{8}", 80), "panicked at lib.rs:3:  no\\u{8}");
    }

    #[test]
    fn a_log_loses_its_colours_and_no_other_sequence_is_obeyed() {
        assert_eq!(log_line("\u{1b}[1;31merror\u{1b}[0m: x\r", 80), "error: x");
        assert_eq!(log_line("\u{1b}[2J\u{1b}]0;t\u{7}\u{1b}", 80), "\\u{1b}[2J\\u{1b}]0;t\\u{7}\\u{1b}");
    }

    #[test]
    fn a_block_keeps_its_lines_and_what_is_styled_its_colours() {
        assert_eq!(block("a\nb\u{1b}[31m\n"), "a\nb\\u{1b}[31m\n");
        assert_eq!(
            styled("\u{1b}[1;31mx\u{1b}[0m\n\u{1b}[2J\u{1b}[?25l\r"),
            "\u{1b}[1;31mx\u{1b}[0m\n\\u{1b}[2J\\u{1b}[?25l\\r"
        );
    }

    #[test]
    fn toml_stays_the_same_value() {
        let hidden = "\u{9b}\u{202e}\u{e0041}\u{7f}é";
        let escaped = toml(&format!("a = \"{hidden}\"\n"));
        assert_eq!(escaped.parse::<toml::Table>().unwrap()["a"].as_str(), Some(hidden));
        assert!(!escaped.trim_end().contains(is_hidden), "{escaped:?}");
    }

    #[test]
    fn json_stays_the_same_value() {
        let value = serde_json::json!({ "a\u{9b}\u{202e}": ["\u{1b}[2J\u{7f}\n\u{2028}\u{e0041}é"] });
        for written in [value.to_string(), format!("{value:#}")] {
            let escaped = json(&written);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
            assert!(!escaped.contains(|c: char| c != '\n' && is_hidden(c)), "{escaped:?}");
        }
    }
}
