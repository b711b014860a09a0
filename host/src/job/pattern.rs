//! Names written as a range: `web[01:12].example.com` stands for twelve.
//!
//! `[01:12]` and `[01-12]` count, and keep the width of zeros; `[a:f]` goes through letters; `[01:12:2]` takes every second;
//! `[01-04,07]` joins several. A name may have several ranges: the last changes fastest. Brackets at a name's beginning hold
//! an IPv6 address and are no range.

use super::name::{NameError, TargetName};

/// A name, or several written as one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NamePattern {
    text: String,
    /// What stands before each range, and the range; empty for a plain name.
    ranges: Vec<(String, Vec<Steps>)>,
    /// What stands behind the last range; the whole of a plain name.
    tail: String,
    /// How many names it stands for.
    count: u64,
}

/// Numbers or letters at equal distances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Steps {
    begin: u64,
    count: u64,
    step: u64,
    form: Form,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A number with zeros before it up to that width.
    Number { width: usize },
    /// A letter, by its ASCII code.
    Letter,
}

/// Why a text stands for no names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum PatternError {
    /// What it stands for is no name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A `[` that no `]` follows.
    #[error("`[` is not closed")]
    NotClosed,
    /// A `]` that no `[` precedes.
    #[error("`]` closes nothing")]
    NotOpened,
    /// Something else between brackets.
    #[error("`[{0}]` is not a range")]
    NotRange(String),
    /// One of its ends is not there.
    #[error("the range `[{range}]` has no {end}")]
    Open {
        /// What stands between the brackets.
        range: String,
        /// Which: `beginning` or `end`.
        end: &'static str,
    },
    /// It would count down.
    #[error("the range `[{0}]` ends before it begins")]
    Backwards(String),
    /// Zeros that could be meant in two ways.
    #[error("the numbers of the range `[{0}]` differ in width")]
    Widths(String),
    /// A step that is none.
    #[error("the step of the range `[{0}]` is not a number from 1")]
    Step(String),
    /// More digits than are counted with.
    #[error("the range `[{0}]` has a number of more than {MAX_DIGITS} digits")]
    TooLong(String),
}

/// The most digits that a number of a range has.
const MAX_DIGITS: usize = 18;

impl PatternError {
    /// What to write instead.
    pub(super) fn help(&self) -> Option<&'static str> {
        match self {
            Self::Name(NameError::Brackets) => Some("a range stands behind a name's beginning: `web[01:12]`"),
            Self::Name(_) => None,
            Self::Widths(_) => Some("zeros before a number stand for its width: `[001:120]`, or `[1:120]` without"),
            _ => Some("a range is `web[01:12]`, `web[a:f]` or, with a step, `web[01:12:2]`"),
        }
    }
}

impl NamePattern {
    /// Reads a name or a pattern. Of a pattern only its first name is made; [`Self::names`] makes all.
    ///
    /// # Errors
    /// [`PatternError`].
    pub(super) fn parse(text: &str) -> Result<Self, PatternError> {
        let host = text.rfind('@').map_or(text, |at| &text[at + 1..]);
        let mut pattern = Self { text: text.to_owned(), ranges: Vec::new(), tail: text.to_owned(), count: 1 };
        if !host.starts_with('[') {
            let mut rest = text;
            while let Some(at) = rest.find(['[', ']']) {
                let (before, brackets) = rest.split_at(at);
                let inside = brackets.strip_prefix('[').ok_or(PatternError::NotOpened)?;
                let (inside, after) = inside.split_once(']').ok_or(PatternError::NotClosed)?;
                let range = range(inside)?;
                let values = range.iter().fold(0, |sum: u64, steps| sum.saturating_add(steps.count));
                pattern.count = pattern.count.saturating_mul(values);
                pattern.ranges.push((before.to_owned(), range));
                rest = after;
            }
            pattern.tail = rest.to_owned();
        }
        pattern.name(0)?;
        Ok(pattern)
    }

    /// As it is written.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    /// How many names it stands for: at least one.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Each of them, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = Result<TargetName, NameError>> + '_ {
        (0..self.count).map(|index| self.name(index))
    }

    fn name(&self, index: u64) -> Result<TargetName, NameError> {
        // From the last range to the first, as the digits of a number.
        let mut values = Vec::with_capacity(self.ranges.len());
        let mut left = index;
        for (_, range) in self.ranges.iter().rev() {
            let many: u64 = range.iter().map(|steps| steps.count).sum();
            values.push(value(range, left % many.max(1)));
            left /= many.max(1);
        }
        let mut name = String::new();
        for (before, _) in &self.ranges {
            name.push_str(before);
            name.push_str(&values.pop().unwrap_or_default());
        }
        name.push_str(&self.tail);
        TargetName::parse(&name)
    }
}

/// A range's value of that number, from 0.
fn value(range: &[Steps], mut number: u64) -> String {
    for Steps { begin, count, step, form } in range {
        if number < *count {
            let value = begin + number * step;
            return match form {
                Form::Number { width } => format!("{value:0width$}"),
                Form::Letter => u8::try_from(value).map(|letter| char::from(letter).to_string()).unwrap_or_default(),
            };
        }
        number -= count;
    }
    String::new()
}

/// What stands between two brackets.
fn range(inside: &str) -> Result<Vec<Steps>, PatternError> {
    let parts: Vec<_> = inside.split(',').collect();
    let is_list = parts.len() > 1;
    let range: Vec<_> = parts.into_iter().map(|part| steps(part, inside, is_list)).collect::<Result<_, _>>()?;
    // The sum is a number of names, and there are not as many.
    match range.iter().try_fold(0_u64, |sum, steps| sum.checked_add(steps.count)) {
        Some(_) => Ok(range),
        None => Err(PatternError::TooLong(inside.to_owned())),
    }
}

fn steps(part: &str, inside: &str, is_list: bool) -> Result<Steps, PatternError> {
    let whole = || inside.to_owned();
    let (ends, step) = match part.split_once('-') {
        Some((begin, rest)) => match rest.split_once(':') {
            Some((end, step)) => (Some((begin, end)), Some(step)),
            None => (Some((begin, rest)), None),
        },
        None => match part.split_once(':') {
            Some((begin, rest)) => match rest.split_once(':') {
                Some((end, step)) => (Some((begin, end)), Some(step)),
                None => (Some((begin, rest)), None),
            },
            None => (None, None),
        },
    };
    let (begin, end) = match ends {
        Some(ends) => ends,
        None if is_list && !part.is_empty() => (part, part),
        None => return Err(PatternError::NotRange(whole())),
    };
    for (text, end) in [(begin, "beginning"), (end, "end")] {
        if text.is_empty() {
            return Err(PatternError::Open { range: whole(), end });
        }
    }
    let step = match step {
        None => 1,
        Some(step) if step.len() <= MAX_DIGITS && is_number(step) => step.parse().unwrap_or(0),
        Some(_) => 0,
    };
    if step == 0 {
        return Err(PatternError::Step(whole()));
    }
    let (first, last, form) = match (letter(begin), letter(end)) {
        (Some(first), Some(last)) if first.is_ascii_lowercase() == last.is_ascii_lowercase() => {
            (u64::from(first), u64::from(last), Form::Letter)
        }
        _ if is_number(begin) && is_number(end) => {
            if begin.len().max(end.len()) > MAX_DIGITS {
                return Err(PatternError::TooLong(whole()));
            }
            let is_padded = |text: &str| text.len() > 1 && text.starts_with('0');
            if (is_padded(begin) || is_padded(end)) && begin.len() != end.len() {
                return Err(PatternError::Widths(whole()));
            }
            let width = if is_padded(begin) { begin.len() } else { 1 };
            let number = |text: &str| text.parse::<u64>().map_err(|_| PatternError::NotRange(whole()));
            (number(begin)?, number(end)?, Form::Number { width })
        }
        _ => return Err(PatternError::NotRange(whole())),
    };
    match last.checked_sub(first) {
        Some(distance) => Ok(Steps { begin: first, count: distance / step + 1, step, form }),
        None => Err(PatternError::Backwards(whole())),
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

fn letter(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [letter] if letter.is_ascii_alphabetic() => Some(*letter),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let pattern = NamePattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let names: Vec<_> = pattern.names().map(|name| name.unwrap().to_string()).collect();
        assert_eq!(names.len() as u64, pattern.count(), "{text}");
        names
    }

    #[test]
    fn a_range_stands_for_its_names() {
        for (text, meant) in [
            ("web01", "web01"),
            ("web[01:03]", "web01 web02 web03"),
            ("web[01-03]", "web01 web02 web03"),
            ("web[8:11]", "web8 web9 web10 web11"),
            ("web[08:11].example.com", "web08.example.com web09.example.com web10.example.com web11.example.com"),
            ("web[098:101]", "web098 web099 web100 web101"),
            ("db-[a:c]", "db-a db-b db-c"),
            ("db-[A-B]1", "db-A1 db-B1"),
            ("web[01:06:2]", "web01 web03 web05"),
            ("web[1-6:3]", "web1 web4"),
            ("web[0:0]", "web0"),
            ("n[01-03,07,10-11]", "n01 n02 n03 n07 n10 n11"),
            ("r[1:2]-[a:b]", "r1-a r1-b r2-a r2-b"),
            ("root@web[1:2]:22", "root@web1:22 root@web2:22"),
            ("2001:db8::[1:2]", "2001:db8::1 2001:db8::2"),
        ] {
            assert_eq!(names(text).join(" "), meant, "{text}");
        }
    }

    #[test]
    fn brackets_at_a_names_beginning_are_no_range() {
        for text in ["[::1]", "[2001:db8::1]:22", "root@[::1]", "root@[fe80::1%eth0]:22"] {
            assert_eq!(names(text), [text]);
        }
        for text in ["[01:12]", "[1:2].example.com", "root@[1:2]", "[db]", "[a:c]web"] {
            assert_eq!(NamePattern::parse(text), Err(NameError::Brackets.into()), "{text}");
        }
    }

    #[test]
    fn a_range_that_cannot_be_counted_says_why() {
        for (text, why) in [
            ("web[12:01]", "the range `[12:01]` ends before it begins"),
            ("web[c:a]", "the range `[c:a]` ends before it begins"),
            ("web[01:]", "the range `[01:]` has no end"),
            ("web[:12]", "the range `[:12]` has no beginning"),
            ("web[-12]", "the range `[-12]` has no beginning"),
            ("web[01-]", "the range `[01-]` has no end"),
            ("web[:]", "the range `[:]` has no beginning"),
            ("web[]", "`[]` is not a range"),
            ("web[7]", "`[7]` is not a range"),
            ("web[db]", "`[db]` is not a range"),
            ("web[1,]", "`[1,]` is not a range"),
            ("web[a:3]", "`[a:3]` is not a range"),
            ("web[a:C]", "`[a:C]` is not a range"),
            ("web[aa:bb]", "`[aa:bb]` is not a range"),
            ("web[1:2:3:4]", "the step of the range `[1:2:3:4]` is not a number from 1"),
            ("web[1..3]", "`[1..3]` is not a range"),
            ("web[1-2-3]", "`[1-2-3]` is not a range"),
            ("web[1:9:0]", "the step of the range `[1:9:0]` is not a number from 1"),
            ("web[1:9:]", "the step of the range `[1:9:]` is not a number from 1"),
            ("web[1:9:x]", "the step of the range `[1:9:x]` is not a number from 1"),
            ("web[01:100]", "the numbers of the range `[01:100]` differ in width"),
            ("web[1:012]", "the numbers of the range `[1:012]` differ in width"),
            ("web[1:9999999999999999999]", "the range `[1:9999999999999999999]` has a number of more than 18 digits"),
            ("web[1:2", "`[` is not closed"),
            ("web1:2]", "`]` closes nothing"),
            ("web[[1:2]]", "`[[1:2]` is not a range"),
            ("web[1:2] x", "a name cannot hold ' '"),
            ("-[1:2]", "a name cannot begin with `-`: a command would read it as an option"),
        ] {
            let error = NamePattern::parse(text).expect_err(text);
            assert_eq!(error.to_string(), why, "{text}");
        }
    }

    #[test]
    fn huge_ranges_are_counted_without_being_made() {
        let pattern = NamePattern::parse("a[1:999999999999999999]b[1:999999999999999999]").unwrap();
        assert_eq!(pattern.count(), u64::MAX);
        assert_eq!(pattern.names().next().unwrap().unwrap().as_str(), "a1b1");
    }

    #[test]
    fn a_name_of_a_range_that_is_none_is_found_when_it_is_made() {
        let pattern = NamePattern::parse("::[a:h]").unwrap();
        assert_eq!(pattern.names().filter(Result::is_ok).count(), 6);
    }
}
