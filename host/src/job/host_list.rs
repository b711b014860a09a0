//! Targets that are listed while a job is planned: what a command prints, and the members of a party.
//!
//! A command prints a name a line, or JSON: an array of names, or of objects with `name` and `labels`; one such value a line
//! does as well. A name may be a range, as in a job.
//!
//! Whatever is not a host's name is refused: it is a heading, a table or an error page, and the rest of the list is then
//! not to be trusted either.

use std::fmt;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::name::{Labels, Target, TargetName, check_label};
use super::pattern::{NamePattern, PatternError};
use super::target_list::{MAX_TARGETS, NotAdded, TargetList, same_host};
use lockkeeper_coordination::store::NodePath;
use lockkeeper_locks::terminal;
use lockkeeper_locks::toml_reader::{At, Problems, Report, Source, quote, text_of};

/// What a listing is called in messages.
const LISTING: &str = "list of targets";

/// So many wrong lines are told: more are a page of something else.
const MAX_WRONG: usize = 10;

const HELP: &str =
    "print a name a line, or JSON: names, or objects such as `{\"name\": \"web01\", \"labels\": {\"rack\": \"a\"}}`";

/// Reads what a command printed; `origin` is the name that messages give it. Empty lines are skipped, and those that begin
/// with `#`.
///
/// No name at all is no problem here: the job says whether there may be none.
///
/// # Errors
/// [`Problems`]: what is not UTF-8, is not a host's name, or was there before, each with its line.
pub fn parse_listing(origin: &str, bytes: &[u8]) -> Result<Vec<Target>, Problems> {
    let source = Source::new(origin, text_of(LISTING, origin, bytes)?);
    let mut listing =
        Listing { report: Report::new(LISTING, &source), source: &source, list: TargetList::default(), wrong: 0 };
    match is_json(source.text()) {
        true => listing.values(),
        false => listing.lines(),
    }
    let Listing { report, list, .. } = listing;
    report.finish(Some(list.into_targets())).map(|(targets, _)| targets)
}

/// The targets that the members of a party are, by their identifiers; who is there twice is one.
///
/// # Errors
/// What is wrong with them.
pub fn parse_members(
    party: &NodePath,
    identifiers: impl IntoIterator<Item = String>,
) -> Result<Vec<Target>, Vec<String>> {
    let mut list = TargetList::default();
    let mut wrong = Vec::new();
    for identifier in identifiers {
        let name = match TargetName::parse(&identifier) {
            Ok(name) => name,
            Err(error) => {
                let identifier = quote(&identifier);
                wrong.push(format!("member {identifier} of the party `{party}` is not a host name: {error}"));
                continue;
            }
        };
        match list.add(Target::unlabelled(name.clone()), ()) {
            // A client that crashed and came back is there twice for a while.
            Ok(()) | Err(NotAdded::Twice(())) => {}
            Err(NotAdded::SameHost(first, ())) => {
                wrong.push(same_host(&format!("members of the party `{party}`:"), first, &name));
            }
            Err(NotAdded::TooMany) => {
                wrong
                    .push(format!("the party `{party}` has more than the {MAX_TARGETS} members that a job can act on"));
                break;
            }
        }
    }
    if wrong.is_empty() { Ok(list.into_targets()) } else { Err(wrong) }
}

/// Whether it begins as JSON does and a list of names does not: `[::1]` is a name, and `[db]` a heading.
fn is_json(text: &str) -> bool {
    let text = text.trim_start();
    match text.as_bytes() {
        [b'{' | b'"', ..] => true,
        [b'[', ..] => {
            text[1..].trim_start().starts_with(['"', '{', '[', ']']) || serde_json::from_str::<IgnoredAny>(text).is_ok()
        }
        _ => false,
    }
}

/// A listing while it is read.
struct Listing<'a> {
    source: &'a Source,
    report: Report,
    list: TargetList<At>,
    /// How many names were no names.
    wrong: usize,
}

impl Listing<'_> {
    fn lines(&mut self) {
        for number in 0..self.source.line_count() {
            let line = self.source.line(number);
            let written = &self.source.text()[line.clone()];
            let name = written.trim();
            if name.is_empty() || name.starts_with('#') {
                continue;
            }
            let start = line.start + (written.len() - written.trim_start().len());
            let at = At { key: String::new(), span: start..start + name.len() };
            if self.wrong == MAX_WRONG {
                self.report.complain(&at, "too many lines are not host names: the rest is not read").help(HELP);
                return;
            }
            let name = name.to_owned();
            self.add(&name, &Labels::new(), &at);
        }
    }

    fn add(&mut self, name: &str, labels: &Labels, at: &At) {
        match NamePattern::parse(name) {
            Ok(pattern) => self.list.add_all(&pattern, labels, at, &mut self.report),
            Err(error) => {
                self.wrong += 1;
                let help = match &error {
                    PatternError::Name(_) => HELP,
                    range => range.help().unwrap_or(HELP),
                };
                self.report.complain(at, format!("{} is not a host name: {error}", quote(name))).help(help);
            }
        }
    }

    /// JSON values one after the other; what stands behind the first that is not JSON is not read.
    fn values(&mut self) {
        let text = self.source.text();
        let mut at = skip_space(text, 0);
        while at < text.len() {
            let next = match text[at..].starts_with('[') {
                true => self.array(at),
                false => self.target(at),
            };
            match next {
                Some(next) => at = skip_space(text, next),
                None => return,
            }
        }
    }

    /// Reads an array of targets; where it ends, `None` if it is not JSON.
    fn array(&mut self, start: usize) -> Option<usize> {
        let text = self.source.text();
        let mut at = skip_space(text, start + 1);
        if text[at..].starts_with(']') {
            return Some(at + 1);
        }
        loop {
            at = skip_space(text, self.target(at)?);
            match text.as_bytes().get(at) {
                Some(b']') => return Some(at + 1),
                Some(b',') => at = skip_space(text, at + 1),
                Some(_) => return self.not_json(at, "expected `,` or `]`"),
                None => return self.not_json(at, "the array is not closed"),
            }
        }
    }

    /// Reads a name, or an object with its labels; where it ends, `None` if it is not JSON.
    fn target(&mut self, start: usize) -> Option<usize> {
        let text = &self.source.text()[start..];
        let read = match text.as_bytes().first() {
            Some(b'"') => {
                first::<String>(text).map(|(name, end)| (HostObject { name, labels: UniqueLabels::default() }, end))
            }
            Some(b'{') => first::<HostObject>(text),
            _ => first::<NoTarget>(text).map(|(never, _)| match never {}),
        };
        let (HostObject { name, labels: UniqueLabels(labels) }, length) = match read {
            Ok(read) => read,
            Err(error) => return self.wrong_value(start, &error),
        };
        let at = At { key: String::new(), span: start..start + length };
        let wrong = labels.iter().find_map(|(key, value)| check_label(key, value).err());
        match wrong {
            Some(error) => {
                self.report.complain(&at, error.to_string());
            }
            None => self.add(&name, &labels, &at),
        }
        Some(start + length)
    }

    /// Complains of a value; where it ends, `None` if it is not JSON.
    fn wrong_value(&mut self, start: usize, error: &serde_json::Error) -> Option<usize> {
        let text = &self.source.text()[start..];
        let line_start = match error.line() {
            0 | 1 => 0,
            line => text.match_indices('\n').nth(line - 2).map_or(0, |(at, _)| at + 1),
        };
        let at = start + line_start + error.column().saturating_sub(1);
        let told = error.to_string();
        // Where it is stands beside it, counted from the file's beginning.
        let told = terminal::shown(told.rsplit_once(" at line ").map_or(told.as_str(), |(told, _)| told), 200);
        if error.classify() != Category::Data {
            return self.not_json(at, &told);
        }
        self.wrong += 1;
        self.report.complain(&At { key: String::new(), span: at..at }, told).help(HELP);
        if self.wrong == MAX_WRONG {
            return None;
        }
        first::<IgnoredAny>(text).ok().map(|(_, length)| start + length)
    }

    fn not_json(&mut self, at: usize, why: &str) -> Option<usize> {
        self.report.complain(&At { key: String::new(), span: at..at }, format!("not JSON: {why}")).help(HELP);
        None
    }
}

/// The first JSON value of a text, and how many bytes it takes.
fn first<'a, T: Deserialize<'a>>(text: &'a str) -> Result<(T, usize), serde_json::Error> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<T>();
    match values.next() {
        Some(value) => Ok((value?, values.byte_offset())),
        None => Err(serde_json::Error::custom("a value is missing")),
    }
}

fn skip_space(text: &str, at: usize) -> usize {
    text.len() - text[at..].trim_start().len()
}

/// A target as an object.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a target with `name` and `labels`")]
struct HostObject {
    name: String,
    #[serde(default)]
    labels: UniqueLabels,
}

/// Labels, none of them twice.
#[derive(Default)]
struct UniqueLabels(Labels);

impl<'de> Deserialize<'de> for UniqueLabels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;
        impl<'de> Visitor<'de> for Keys {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("labels such as `{\"rack\": \"a\"}`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Labels, A::Error> {
                let mut labels = Labels::new();
                while let Some((key, value)) = entries.next_entry::<String, String>()? {
                    if labels.contains_key(&key) {
                        return Err(A::Error::custom(format!("the label {} is written twice", quote(&key))));
                    }
                    labels.insert(key, value);
                }
                Ok(labels)
            }
        }
        deserializer.deserialize_map(Keys).map(Self)
    }
}

/// Any other value: none can be read as a target.
enum NoTarget {}

impl<'de> Deserialize<'de> for NoTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Nothing;
        impl Visitor<'_> for Nothing {
            type Value = NoTarget;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a name or an object with `name`")
            }
        }
        deserializer.deserialize_any(Nothing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Vec<String> {
        let targets =
            parse_listing("list", text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {:?}", error.problems()));
        let one = |target: Target| {
            let labels = target.labels.iter().map(|(key, value)| format!(" {key}={value}"));
            format!("{}{}", target.name, labels.collect::<String>())
        };
        targets.into_iter().map(one).collect()
    }

    fn told(text: &str) -> Vec<String> {
        let problems = parse_listing("list", text.as_bytes()).expect_err(text);
        problems.problems().iter().map(|problem| format!("{} {problem}", problem.place)).collect()
    }

    #[test]
    fn lines_are_names() {
        assert_eq!(listed("# web\nweb01\r\n\n  web02  \nwéb03"), ["web01", "web02", "wéb03"]);
        assert_eq!(listed("\u{feff}web01\nweb[02:03].de\n[::1]:22\n"), ["web01", "web02.de", "web03.de", "[::1]:22"]);
        for nothing in ["", "\n\r\n", "# none\n", "\u{feff}", "\u{feff}# none"] {
            assert!(listed(nothing).is_empty(), "{nothing:?}");
        }
    }

    #[test]
    fn a_line_that_is_not_a_host_name_is_named() {
        assert_eq!(
            told("a\n -b\na b\n a\n\0\nA.\nweb[2:1]\nweb\t10.0.0.1\n"),
            [
                "list:2:2 `-b` is not a host name: a name cannot begin with `-`: a command would read it as an option",
                "list:3:1 `a b` is not a host name: a name cannot hold ' '",
                "list:4:2 target `a` is listed twice",
                "list:5:1 `\\u{0}` is not a host name: a name cannot hold '\\0'",
                "list:6:1 targets `a` and `A.` are the same host: their names differ only in case or a trailing dot",
                "list:7:1 `web[2:1]` is not a host name: the range `[2:1]` ends before it begins",
                "list:8:1 `web\\t10.0.0.1` is not a host name: a name cannot hold '\\t'",
            ]
        );
    }

    #[test]
    fn headings_tables_and_error_pages_are_not_names() {
        for (text, line) in [
            ("\u{feff}web01\n[db]\ndb01\n", "list:2:1 `[db]` is not a host name"),
            ("[web:children]\nweb01\n", "list:1:1 `[web:children]` is not a host name"),
            ("[web:1]\nweb01\n", "list:1:1 `[web:1]` is not a host name"),
            ("<html>\n<body>502 Bad Gateway</body>\n", "list:1:1 `<html>` is not a host name"),
            ("NAME\tSTATUS\nweb01\tok\n", "list:1:1 `NAME\\tSTATUS` is not a host name"),
            ("web01,rack-a\n", "list:1:1 `web01,rack-a` is not a host name"),
            ("web01\nall:\n  hosts:\n", "list:2:1 `all:` is not a host name"),
            ("---\n- web01\n", "list:1:1 `---` is not a host name"),
            ("web01\nError: no such group\n", "list:2:1 `Error: no such group` is not a host name"),
            ("web01\nweb\u{1b}[31m02\n", "list:2:1 `web\\u{1b}[31m02` is not a host name"),
            ("web01\nweb\u{202e}20\n", "list:2:1 `web\\u{202e}20` is not a host name"),
        ] {
            let told = told(text);
            assert!(told[0].starts_with(line), "{text:?}: {told:?}");
            assert!(!told[0].contains(char::is_control), "{told:?}");
        }
    }

    #[test]
    fn a_page_of_something_else_is_not_read_to_its_end() {
        let told = told(&"<p>\n".repeat(1000));
        assert_eq!(told.len(), MAX_WRONG + 1);
        assert_eq!(told[MAX_WRONG], "list:11:1 too many lines are not host names: the rest is not read");
    }

    #[test]
    fn json_lists_targets_with_labels() {
        let objects = "{\"name\": \"a\", \"labels\": {\"rack\": \"1\"}}";
        assert_eq!(listed("[\"a\", \"b[1:2]\"]"), ["a", "b1", "b2"]);
        assert_eq!(
            listed(&format!("\u{feff}\r\n[{objects},\n {{\"name\": \"b\"}}, \"c\" ]\r\n")),
            ["a rack=1", "b", "c"]
        );
        assert_eq!(listed(&format!("{objects}\n{{\"name\":\"b\"}}\n")), ["a rack=1", "b"]);
        assert_eq!(listed(&format!("[\n{}\n]", objects.replace(' ', "\n"))), ["a rack=1"]);
        assert_eq!(listed("\"a\"\n\"b\"\n"), ["a", "b"]);
        for nothing in ["[]", " [ ]\n", "[]\n[]"] {
            assert!(listed(nothing).is_empty(), "{nothing:?}");
        }
    }

    #[test]
    fn json_that_lists_no_targets_says_where_it_does_not() {
        for (text, line) in [
            ("[\"a\",\n \"a\"]", "list:2:2 target `a` is listed twice"),
            (
                "[\"a\",\n \"A\"]",
                "list:2:2 targets `a` and `A` are the same host: their names differ only in case or a trailing dot",
            ),
            ("[\"a\",\n \"b c\"]", "list:2:2 `b c` is not a host name: a name cannot hold ' '"),
            ("[\"\"]", "list:1:2 `` is not a host name: a name is not empty"),
            ("[\"a\",\n 3]", "list:2:2 invalid type: integer `3`, expected a name or an object with `name`"),
            ("[\"a\", [\"b\"]]", "list:1:7 invalid type: sequence, expected a name or an object with `name`"),
            ("[null]", "list:1:5 invalid type: null, expected a name or an object with `name`"),
            ("[1, 2]", "list:1:2 invalid type: integer `1`, expected a name or an object with `name`"),
            ("[{\"name\":\"a\",\n\"ip\":\"b\"}]", "list:2:4 unknown field `ip`, expected `name` or `labels`"),
            ("[{\"labels\": {}}]", "list:1:15 missing field `name`"),
            ("[{\"name\":\"a\",\"name\":\"b\"}]", "list:1:19 duplicate field `name`"),
            ("[{\"name\":\"a\",\"labels\":{\"x\":\"1\",\"x\":\"2\"}}]", "list:1:39 the label `x` is written twice"),
            ("[{\"name\":\"a\",\"labels\":{\"x\":1}}]", "list:1:28 invalid type: integer `1`, expected a string"),
            (
                "[{\"name\":\"a\",\"labels\":[]}]",
                "list:1:22 invalid type: sequence, expected labels such as `{\"rack\": \"a\"}`",
            ),
            ("[{\"name\":\"a\",\"labels\":{\"a b\":\"1\"}}]", "list:1:2 `a b` is no key of a label"),
            ("[\"a\",\n\"b\"", "list:2:4 not JSON: the array is not closed"),
            ("[\"a\"\n\"b\"]", "list:2:1 not JSON: expected `,` or `]`"),
            ("[\"a\",]", "list:1:6 not JSON: expected value"),
            ("[\"a\"]\nb", "list:2:1 not JSON: expected value"),
            ("[\"a", "list:1:3 not JSON: EOF while parsing a string"),
            ("{\"_meta\": {\"hostvars\": {}}}", "list:1:8 unknown field `_meta`, expected `name` or `labels`"),
        ] {
            assert_eq!(told(text)[0], line, "{text}");
        }
        // What is only of a wrong shape hides nothing behind it.
        assert_eq!(told("[3, \"a\", \"a\", {}, \"b c\"]").len(), 4);
        assert_eq!(told(&format!("[{}\"a\"]", "3,".repeat(1000))).len(), MAX_WRONG);
    }

    #[test]
    fn what_is_not_utf_8_is_refused_with_its_line() {
        for (bytes, line) in [
            (&b"web01\nweb\xff02\n"[..], "list:2:4 the byte 0xff is no UTF-8"),
            (b"\xff\xfew\0e\0b\0", "list:1:1 the text is UTF-16"),
        ] {
            let problems = parse_listing("list", bytes).unwrap_err();
            let [problem] = problems.problems() else { panic!("{problems:?}") };
            assert_eq!(format!("{} {problem}", problem.place), line);
        }
    }

    #[test]
    fn members_are_targets_by_their_distinct_identifiers() {
        let party = NodePath::parse("/party/web").unwrap();
        let members = |identifiers: &[&str]| parse_members(&party, identifiers.iter().map(ToString::to_string));
        let names: Vec<_> =
            members(&["a", "a", "b"]).unwrap().into_iter().map(|target| target.name.to_string()).collect();
        assert_eq!(names, ["a", "b"]);
        assert_eq!(
            members(&["WEB01", "a b", "web01."]).unwrap_err(),
            [
                "member `a b` of the party `/party/web` is not a host name: a name cannot hold ' '",
                "members of the party `/party/web`: `WEB01` and `web01.` are the same host: their names differ only in case or a trailing dot",
            ]
        );
    }
}
