//! Reads TOML into declared tables and continues after a mistake, so that every problem is reported at once.
//!
//! [`table!`] declares a table once: from that come its struct, its reading, the keys that a misspelt one is compared
//! with, and its JSON Schema. Values are read by [`FromToml`].

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Place, Problem, Problems, Source, quote};
use super::recovering;

/// Where something stands.
#[derive(Debug, Clone)]
pub struct At {
    /// Its key from the top, such as `targets.hosts[1].name`.
    pub key: String,
    /// Its value in the text; of a `[table]`, its header.
    pub span: Range<usize>,
}

/// A value, and where it stands.
#[derive(Debug, Clone)]
pub struct Found<T> {
    /// What was read.
    pub value: T,
    /// Its place.
    pub at: At,
}

/// What can be read from a TOML value.
pub trait FromToml: Sized {
    /// Whether a key of this type is written as `[key]`.
    const IS_TABLE: bool = false;

    /// Reads it; none after a complaint.
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self>;

    /// What a JSON Schema says of it.
    fn schema(generator: &mut SchemaGenerator) -> Schema;

    /// Its keys, where it is a table.
    fn keys() -> Vec<Key> {
        Vec::new()
    }
}

/// A key that a table may have.
#[derive(Debug)]
pub struct Key {
    /// As it should be written; with `_` for each `-` it is taken, too.
    pub name: String,
    /// Whether the table is wrong without it.
    pub required: bool,
    /// Its docs.
    pub doc: String,
    /// Its JSON Schema.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// The keys below it.
    pub below: fn() -> Vec<Key>,
}

/// A key that is known and yet refused: it is never ignored.
#[derive(Debug)]
pub enum Refused {
    /// A later release brings it; what to do until then.
    NotYet(&'static str),
    /// It stands elsewhere or means nothing here: what is wrong, and what to do.
    Never(&'static str, &'static str),
    /// It is what others call another key.
    Meant(&'static str),
}

/// The complaints about a file, and the place of every key in it.
#[derive(Debug)]
pub struct Report {
    what: &'static str,
    source: Source,
    /// The same without what may be a password: complaints show it.
    shown: Source,
    drafts: Vec<Draft>,
    places: BTreeMap<String, Range<usize>>,
    /// Each table, by its place from the top, with its keys.
    known: Vec<(String, Vec<String>)>,
    /// Keys that an unknown one was probably meant to be: they are not missing, too.
    meant: BTreeSet<String>,
    /// Whether some of it is not TOML, so that keys may only seem to be missing.
    has_syntax_errors: bool,
}

#[derive(Debug)]
struct Draft {
    problem: Problem,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Something is not there.
    Missing,
    /// Anything else.
    Wrong,
}

impl Report {
    /// An empty report of a file; `what` is the kind of file, such as `job`.
    #[must_use]
    pub fn new(what: &'static str, source: &Source) -> Self {
        let may_tell = |line: &str| {
            let line = line.to_ascii_lowercase();
            line.contains("passw") || line.contains("digest:") || line.contains("hosts") && line.contains('@')
        };
        Self::showing(what, source, source.hiding(may_tell))
    }

    /// Of a file that has passwords: no complaint shows any of its values.
    pub fn of_secrets(what: &'static str, source: &Source) -> Self {
        Self::showing(what, source, source.hiding(|_| true))
    }

    fn showing(what: &'static str, source: &Source, shown: Source) -> Self {
        Self {
            what,
            source: source.clone(),
            shown,
            drafts: Vec::new(),
            places: BTreeMap::new(),
            known: Vec::new(),
            meant: BTreeSet::new(),
            has_syntax_errors: false,
        }
    }

    /// Reads the whole text; none where nothing of the shape is there.
    pub fn read<T: FromToml>(&mut self) -> Option<T> {
        collect_known("", &T::keys(), &mut self.known);
        let recovering = recovering::mend(&self.source);
        self.has_syntax_errors = !recovering.slips.is_empty();
        for slip in recovering.slips.into_iter().chain(recovering.twice) {
            let problem = self.draft(Kind::Wrong, &slip.key, slip.span, slip.message);
            problem.help = slip.help.map(str::to_owned);
        }
        let (root, _) = DeTable::parse_recoverable(&recovering.rest);
        let at = At { key: String::new(), span: 0..0 };
        T::from_toml(&DeValue::Table(root.into_inner()), &at, self)
    }

    /// One thing more that is wrong.
    pub fn complain(&mut self, at: &At, message: impl Into<String>) -> &mut Problem {
        self.draft(Kind::Wrong, &at.key, at.span.clone(), message.into())
    }

    /// As [`Self::complain`], of what is not there: a text that could not be read to its end is not blamed for it.
    pub fn complain_of_missing(&mut self, at: &At, message: impl Into<String>) -> &mut Problem {
        self.draft(Kind::Missing, &at.key, at.span.clone(), message.into())
    }

    fn draft(&mut self, kind: Kind, key: &str, span: Range<usize>, message: String) -> &mut Problem {
        let problem = Problem::new(&self.shown, key, span, message);
        self.drafts.push(Draft { problem, kind });
        &mut self.drafts.last_mut().expect("it was just pushed").problem
    }

    /// Whether the file has that key at all, well written or not.
    pub fn has(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Whether something is wrong with the value of that key.
    pub fn has_complaint(&self, key: &str) -> bool {
        self.drafts.iter().any(|draft| draft.problem.key == key)
    }

    /// Whether something is wrong with the value of that key, or with a part of it.
    pub fn has_complaint_below(&self, key: &str) -> bool {
        let is_below =
            |other: &str| other.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']));
        self.drafts.iter().any(|draft| is_below(&draft.problem.key))
    }

    /// Whether the file has a misspelt key instead of that one.
    pub fn has_misspelt(&self, key: &str) -> bool {
        self.meant.contains(key)
    }

    /// Where a key stands that the file has, else the nearest one above it, else the file's beginning.
    pub fn at(&self, key: &str) -> At {
        At { key: key.to_owned(), span: nearest(&self.places, key) }
    }

    /// Reports a problem of a part of the table `table`, at a path into it such as `window.start`.
    pub fn complain_of_part(&mut self, table: &str, path: &str, message: String, help: Option<String>) {
        let at = self.at(&key_of_path(&self.places, table, path));
        let mut alike = self.places.range(at.key.clone()..).map_while(|(key, _)| key.strip_prefix(&at.key));
        // Of a table it may be said that a key is missing.
        let is_table = path.is_empty() || alike.any(|rest| rest.starts_with(['.', '[']));
        let kind = if is_table { Kind::Missing } else { Kind::Wrong };
        self.draft(kind, &at.key, at.span, message).help = help;
    }

    /// What is wrong in a file that this one names.
    pub fn adopt(&mut self, problems: &Problems) {
        let adopted = problems.problems().iter().map(|problem| Draft { problem: problem.clone(), kind: Kind::Wrong });
        self.drafts.extend(adopted);
    }

    /// Where that is, for a message about something else.
    pub fn place_of(&self, at: &At) -> Place {
        self.source.place(at.span.start)
    }

    /// Remembers where a key stands.
    pub fn note(&mut self, at: &At) {
        self.places.entry(at.key.clone()).or_insert_with(|| at.span.clone());
    }

    /// What was made of the file, with the place of each key.
    ///
    /// # Errors
    /// [`Problems`]: everything that is wrong with it.
    ///
    /// Where some of it is not TOML, nothing is said to be missing: it may stand there.
    pub fn finish<T>(mut self, made: Option<T>) -> Result<(T, BTreeMap<String, Range<usize>>), Problems> {
        match made {
            Some(made) if self.drafts.is_empty() => return Ok((made, self.places)),
            None if self.drafts.is_empty() => {
                self.draft(Kind::Wrong, "", 0..0, format!("cannot be read as a {}", self.what));
            }
            _ => {}
        }
        let is_told = |draft: &Draft| draft.kind != Kind::Missing || !self.has_syntax_errors;
        let problems = self.drafts.into_iter().filter(is_told).map(|draft| draft.problem).collect();
        Err(Problems::new(self.what, self.shown, problems))
    }
}

/// The key of a path into the table `table`, such as `window.start`.
#[must_use]
pub fn key_of_path(places: &BTreeMap<String, Range<usize>>, table: &str, path: &str) -> String {
    let mut key = String::from(table);
    for part in path.split('.').filter(|part| !part.is_empty()) {
        if part.bytes().all(|b| b.is_ascii_digit()) && !places.contains_key(&join(&key, part)) {
            key.push_str(&format!("[{part}]"));
        } else {
            key.push_str(&format!(".{part}"));
        }
    }
    key
}

/// The place of a key, else of the nearest one above it, else the beginning.
pub fn nearest(places: &BTreeMap<String, Range<usize>>, key: &str) -> Range<usize> {
    let mut key = key;
    loop {
        if let Some(span) = places.get(key) {
            return span.clone();
        }
        match key.rfind(['.', '[']) {
            Some(end) => key = &key[..end],
            None => return 0..0,
        }
    }
}

fn collect_known(table: &str, keys: &[Key], known: &mut Vec<(String, Vec<String>)>) {
    if keys.is_empty() {
        return;
    }
    known.push((table.to_owned(), keys.iter().map(|key| key.name.clone()).collect()));
    for key in keys {
        collect_known(&join(table, &key.name), &(key.below)(), known);
    }
}

/// The key of `name` below `table`, quoted where TOML would want it.
pub fn join(table: &str, name: &str) -> String {
    let is_bare = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let name = if is_bare { name.to_owned() } else { format!("{name:?}") };
    if table.is_empty() { name } else { format!("{table}.{name}") }
}

/// What a TOML value is, for people.
pub fn kind_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "a truth value",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// A whole number that is not negative, in any of TOML's spellings.
pub fn unsigned(value: &DeValue<'_>) -> Option<u64> {
    value.as_integer().and_then(|integer| u64::from_str_radix(integer.as_str(), integer.radix()).ok())
}

/// The entries of a table, each key in one spelling and known.
#[derive(Debug)]
pub struct Table<'a> {
    at: At,
    entries: BTreeMap<String, (At, &'a DeValue<'a>)>,
}

impl<'a> Table<'a> {
    /// Takes a table apart, and complains of each key that it should not have.
    pub fn open(
        value: &'a DeValue<'a>,
        at: &At,
        keys: &[Key],
        refused: &[(&str, Refused)],
        report: &mut Report,
    ) -> Option<Self> {
        let Some(table) = value.as_table() else {
            let names: Vec<_> = keys.iter().map(|key| format!("`{}`", key.name)).collect();
            report
                .complain(at, format!("expected a table, found {}", kind_of(value)))
                .help(format!("a table with {}", names.join(", ")));
            return None;
        };
        let mut entries = BTreeMap::<String, (At, &DeValue<'_>)>::new();
        for (written, value) in in_file_order(table) {
            let name = written.get_ref().replace('_', "-");
            let entry = At { key: join(&at.key, &name), span: value.span() };
            let key_at = At { key: join(&at.key, written.get_ref()), span: written.span() };
            if let Some((_, refused)) = refused.iter().find(|(key, _)| *key == name) {
                refuse(&key_at, at, value.get_ref(), refused, report);
            } else if !keys.iter().any(|key| key.name == name) {
                complain_of_unknown(&key_at, at, written.get_ref(), keys, report);
            } else if let Some((first, _)) = entries.get(&name) {
                let first = first.span.clone();
                report
                    .complain(&key_at, format!("written twice: `{name}` is the same as `{}`", name.replace('-', "_")))
                    .help("keep one of the two")
                    .other(first, "and here");
            } else {
                report.note(&entry);
                entries.insert(name, (entry, value.get_ref()));
            }
        }
        Some(Self { at: at.clone(), entries })
    }

    /// A key that must be there.
    pub fn required<T: FromToml>(&mut self, key: &Key, report: &mut Report) -> Option<Found<T>> {
        if !self.entries.contains_key(&key.name) {
            let at = At { key: join(&self.at.key, &key.name), span: self.at.span.clone() };
            if report.has_misspelt(&at.key) {
                return None;
            }
            let message =
                if T::IS_TABLE { format!("missing table `[{}]`", at.key) } else { String::from("missing key") };
            report.complain_of_missing(&at, message).help(as_hint(&key.doc));
            return None;
        }
        self.optional(key, report)
    }

    /// A key that may be there.
    pub fn optional<T: FromToml>(&mut self, key: &Key, report: &mut Report) -> Option<Found<T>> {
        let (at, value) = self.entries.remove(&key.name)?;
        let value = T::from_toml(value, &at, report)?;
        Some(Found { value, at })
    }
}

/// Docs as the fragment that hints are.
fn as_hint(doc: &str) -> String {
    let doc = doc.trim_end_matches('.');
    let mut chars = doc.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

/// TOML's tables are sorted by key; people read them as they wrote them.
pub fn in_file_order<'a>(
    table: &'a DeTable<'a>,
) -> Vec<(&'a Spanned<toml::de::DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    entries
}

fn refuse(at: &At, table: &At, value: &DeValue<'_>, refused: &Refused, report: &mut Report) {
    match refused {
        Refused::NotYet(help) => {
            let written = match value {
                DeValue::Array(array) if array.iter().any(|item| item.get_ref().is_table()) => {
                    format!("[[{}]]", at.key)
                }
                DeValue::Table(_) => format!("[{}]", at.key),
                _ => at.key.clone(),
            };
            report.complain(at, format!("`{written}` is not supported yet")).help(*help);
        }
        Refused::Never(message, help) => {
            report.complain(at, *message).help(*help);
        }
        Refused::Meant(name) => {
            report.meant.insert(join(&table.key, name));
            report.complain(at, "unknown key").help(format!("did you mean `{name}`?"));
        }
    }
}

fn complain_of_unknown(at: &At, table: &At, name: &str, keys: &[Key], report: &mut Report) {
    let name = name.replace('_', "-");
    let names: Vec<_> = keys.iter().map(|key| key.name.as_str()).collect();
    let elsewhere = report.known.iter().find(|(other, keys)| *other != table.key && keys.contains(&name)).cloned();
    let help = match (closest(&name, &names), elsewhere) {
        (Some(close), _) => {
            report.meant.insert(join(&table.key, close));
            format!("did you mean `{close}`?")
        }
        (None, Some((other, _))) if other.is_empty() => format!("`{name}` belongs to the top, above every `[table]`"),
        (None, Some((other, _))) => format!("`{name}` belongs to `[{other}]`"),
        (None, None) => {
            format!("the keys here are {}", listed(&names))
        }
    };
    report.complain(at, "unknown key").help(help);
}

/// The name that was probably meant, if any is near enough.
pub fn closest<'a>(name: &str, names: &[&'a str]) -> Option<&'a str> {
    /// Above this, two words look alike to a reader: `max-concurency`, `min-node`, `semafore`.
    const ALIKE: f64 = 0.87;
    let scored = names.iter().map(|candidate| (strsim::jaro_winkler(name, candidate), *candidate));
    let typo = |candidate: &str| strsim::damerau_levenshtein(name, candidate) <= candidate.len().min(name.len()) / 4;
    scored
        .filter(|(score, candidate)| *score >= ALIKE || typo(candidate))
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

/// Names for a message: `` `a`, `b` and `c` ``.
pub fn listed(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, rest)) => format!("{} and {last}", rest.join(", ")),
        None => String::new(),
    }
}

/// As [`listed`], of words of which one is to be chosen.
pub fn one_of(names: &[&str]) -> String {
    match names {
        [only] => format!("it can only be `{only}`"),
        _ => format!("it is one of {}", listed(names).replace(" and ", " or ")),
    }
}

/// Complains that a value is of another type than its key wants.
pub fn wrong_type(at: &At, expected: &str, value: &DeValue<'_>, report: &mut Report) {
    report.complain(at, format!("expected {expected}, found {}", kind_of(value)));
}

impl FromToml for String {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        match value {
            DeValue::String(text) => Some(text.to_string()),
            DeValue::Integer(number) => {
                let help = format!("write it in quotes: `\"{number}\"`");
                report.complain(at, "expected text, found a whole number").help(help);
                None
            }
            _ => {
                wrong_type(at, "text", value, report);
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string" })
    }
}

impl FromToml for bool {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let read = value.as_bool();
        if read.is_none() {
            wrong_type(at, "`true` or `false`", value, report);
        }
        read
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "boolean" })
    }
}

impl<T: FromToml> FromToml for Vec<Found<T>> {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let Some(array) = value.as_array() else {
            let problem = report.complain(at, format!("expected a list, found {}", kind_of(value)));
            match value {
                DeValue::String(text) if !text.contains(char::is_control) => {
                    let words: Vec<_> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
                    problem.help(format!("write `[{}]`", words.join(", ")));
                }
                DeValue::Table(_) if !T::keys().is_empty() => {
                    problem.help(format!("write `[[{}]]` for each", at.key));
                }
                _ => {}
            }
            return None;
        };
        let before = report.drafts.len();
        let mut read = Vec::with_capacity(array.len());
        for (index, item) in array.iter().enumerate() {
            let at = At { key: format!("{}[{index}]", at.key), span: item.span() };
            report.note(&at);
            if let Some(value) = T::from_toml(item.get_ref(), &at, report) {
                read.push(Found { value, at });
            }
        }
        // A list of nothing but mistakes is not an empty list.
        (report.drafts.len() == before || !read.is_empty()).then_some(read)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": T::schema(generator) })
    }

    fn keys() -> Vec<Key> {
        T::keys()
    }
}

/// One of a few words.
pub trait Choice: Copy + 'static {
    /// Each word, and what it means.
    const CHOICES: &'static [(&'static str, Self)];
    /// What to say of a word that is none of them.
    fn help(_word: &str) -> Option<String> {
        None
    }
}

impl<T: Choice> FromToml for T {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let names: Vec<_> = T::CHOICES.iter().map(|(name, _)| *name).collect();
        let Some(word) = value.as_str() else {
            report.complain(at, format!("expected text, found {}", kind_of(value))).help(one_of(&names));
            return None;
        };
        if let Some((_, choice)) = T::CHOICES.iter().find(|(name, _)| *name == word.replace('_', "-")) {
            return Some(*choice);
        }
        let help = T::help(word).or_else(|| closest(word, &names).map(|close| format!("did you mean `{close}`?")));
        report.complain(at, format!("unknown word {}", quote(word))).help(help.unwrap_or_else(|| one_of(&names)));
        None
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<_> = T::CHOICES.iter().map(|(name, _)| *name).collect();
        json_schema!({ "type": "string", "enum": names })
    }
}

/// Docs as one text.
pub fn doc(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

/// What a JSON Schema says of a table.
pub fn table_schema(about: String, keys: &[Key], generator: &mut SchemaGenerator) -> Schema {
    let mut properties = serde_json::Map::new();
    for key in keys {
        let mut schema = (key.schema)(generator);
        schema.insert(String::from("description"), key.doc.clone().into());
        properties.insert(key.name.clone(), schema.into());
    }
    let required: Vec<_> = keys.iter().filter(|key| key.required).map(|key| key.name.clone()).collect();
    json_schema!({
        "type": "object",
        "description": about,
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// Declares a table: a struct whose every field is `None` where the key was left out or could not be read.
///
/// The table is visible in the module above unless its name follows `pub`. A field's name with `-` for `_` is its key. `refused` lists keys that are known and may not be used.
#[macro_export]
macro_rules! table {
    (
        @ [$vis:vis]
        $(#[doc = $about:literal])*
        $table:ident {
            $( $(#[doc = $doc:literal])* $need:ident $field:ident: $type:ty, )*
        }
        $( refused { $( $refused:literal => $why:expr, )* } )?
    ) => {
        $(#[doc = $about])*
        #[derive(Debug)]
        $vis struct $table {
            $( $(#[doc = $doc])* pub(super) $field: Option<$crate::toml_reader::Found<$type>>, )*
        }

        impl $crate::toml_reader::FromToml for $table {
            const IS_TABLE: bool = true;

            fn from_toml(
                value: &toml::de::DeValue<'_>,
                at: &$crate::toml_reader::At,
                report: &mut $crate::toml_reader::Report,
            ) -> Option<Self> {
                let keys = Self::keys();
                let refused = [ $( $( ($refused, $why), )* )? ];
                let mut table = $crate::toml_reader::Table::open(value, at, &keys, &refused, report)?;
                let mut keys = keys.iter();
                Some(Self {
                    // Fields and keys come from one list, so they are in one order.
                    $( $field: table.$need(keys.next().expect("a key for each field"), report), )*
                })
            }

            fn schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                generator.subschema_for::<Self>()
            }

            fn keys() -> Vec<$crate::toml_reader::Key> {
                vec![ $( $crate::toml_reader::Key {
                    name: stringify!($field).trim_start_matches("r#").replace('_', "-"),
                    required: stringify!($need) == "required",
                    doc: $crate::toml_reader::doc(&[ $( $doc ),* ]),
                    schema: <$type as $crate::toml_reader::FromToml>::schema,
                    below: <$type as $crate::toml_reader::FromToml>::keys,
                } ),* ]
            }
        }

        impl schemars::JsonSchema for $table {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($table).into()
            }

            fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
                let about = $crate::toml_reader::doc(&[ $( $about ),* ]);
                $crate::toml_reader::table_schema(about, &<Self as $crate::toml_reader::FromToml>::keys(), generator)
            }
        }
    };
    ( $(#[doc = $about:literal])* pub $table:ident { $($keys:tt)* } $($more:tt)* ) => {
        $crate::table! { @ [pub] $(#[doc = $about])* $table { $($keys)* } $($more)* }
    };
    ( $(#[doc = $about:literal])* $table:ident { $($keys:tt)* } $($more:tt)* ) => {
        $crate::table! { @ [pub(super)] $(#[doc = $about])* $table { $($keys)* } $($more)* }
    };
}
