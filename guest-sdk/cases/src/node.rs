//! A value as read, TOML's or JSON's, and where it stood; and what is wrong with it.

use std::fmt;
use std::ops::Range;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// What is wrong with a file of cases or a view, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The bytes of the text that it is about.
    pub span: Range<usize>,
    /// The key from the top, such as `case[2].view.party.members`; empty for the whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.key.is_empty() {
            true => f.write_str(&self.message)?,
            false => write!(f, "`{}`: {}", self.key, self.message)?,
        }
        self.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
    }
}

/// A value without its place.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// JSON's `null`; TOML has none and says `"none"`.
    None,
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Whole(i128),
    /// Another number.
    Other(f64),
    /// Text; TOML's dates and times are texts, too.
    Text(String),
    /// In order.
    List(Vec<Spot>),
    /// In the order of the text, or of the keys.
    Table(Vec<(String, Range<usize>, Spot)>),
}

/// A value, and the bytes of the text where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Spot {
    /// The value.
    pub node: Node,
    /// Where.
    pub span: Range<usize>,
}

impl Spot {
    /// A whole TOML document.
    pub(crate) fn of_toml(text: &str) -> Result<Self, Problem> {
        let document = DeTable::parse(text).map_err(|error| Problem {
            span: error.span().unwrap_or(0..0),
            key: String::new(),
            message: format!("this is no TOML: {}", error.message().replace('\n', "; ")),
            help: None,
        })?;
        Ok(Self { span: document.span(), node: table(document.get_ref()) })
    }

    /// JSON, which knows no places.
    pub(crate) fn of_json(value: &Value) -> Self {
        let node = match value {
            Value::Null => Node::None,
            Value::Bool(flag) => Node::Flag(*flag),
            Value::Number(number) => match number.as_i128() {
                Some(whole) => Node::Whole(whole),
                None => Node::Other(number.as_f64().unwrap_or(f64::NAN)),
            },
            Value::String(text) => Node::Text(text.clone()),
            Value::Array(items) => Node::List(items.iter().map(Self::of_json).collect()),
            Value::Object(members) => {
                Node::Table(members.iter().map(|(key, value)| (key.clone(), 0..0, Self::of_json(value))).collect())
            }
        };
        Self { node, span: 0..0 }
    }

    /// The same as JSON.
    pub(crate) fn json(&self) -> Value {
        match &self.node {
            Node::None => Value::Null,
            Node::Flag(flag) => (*flag).into(),
            Node::Whole(whole) => i64::try_from(*whole).map_or_else(
                |_| u64::try_from(*whole).map_or_else(|_| Value::from(*whole as f64), Value::from),
                Value::from,
            ),
            Node::Other(number) => (*number).into(),
            Node::Text(text) => text.clone().into(),
            Node::List(items) => items.iter().map(Self::json).collect(),
            Node::Table(members) => {
                Value::Object(members.iter().map(|(key, _, value)| (key.clone(), value.json())).collect())
            }
        }
    }

    /// What it is, for a person.
    pub(crate) fn kind(&self) -> String {
        match &self.node {
            Node::None => "null".to_owned(),
            Node::Flag(flag) => format!("`{flag}`"),
            Node::Whole(number) => format!("`{number}`"),
            Node::Other(number) => format!("`{number}`"),
            Node::Text(text) => format!("the text {text:?}"),
            Node::List(_) => "a list".to_owned(),
            Node::Table(_) => "a table".to_owned(),
        }
    }

    /// Whether it says that there is nothing.
    pub(crate) fn is_none(&self) -> bool {
        matches!(&self.node, Node::None) || matches!(&self.node, Node::Text(text) if text == "none")
    }
}

fn table(table: &DeTable<'_>) -> Node {
    let mut members: Vec<_> =
        table.iter().map(|(key, value)| (key.get_ref().to_string(), key.span(), spot(value))).collect();
    members.sort_by_key(|(_, key, _)| key.start);
    Node::Table(members)
}

fn spot(value: &Spanned<DeValue<'_>>) -> Spot {
    let node = match value.get_ref() {
        DeValue::String(text) => Node::Text(text.to_string()),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).map_or(Node::Other(f64::NAN), Node::Whole)
        }
        DeValue::Float(number) => Node::Other(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => Node::Flag(*flag),
        DeValue::Datetime(date) => Node::Text(date.to_string()),
        DeValue::Array(items) => Node::List(items.iter().map(spot).collect()),
        DeValue::Table(below) => table(below),
    };
    Spot { node, span: value.span() }
}

/// Complaints as they come up.
#[derive(Debug, Default)]
pub(crate) struct Report(pub(crate) Vec<Problem>);

impl Report {
    pub(crate) fn say(&mut self, span: &Range<usize>, key: &str, message: impl Into<String>) {
        self.0.push(Problem { span: span.clone(), key: key.to_owned(), message: message.into(), help: None });
    }

    pub(crate) fn expected(&mut self, spot: &Spot, key: &str, what: &str) {
        self.say(&spot.span, key, format!("expected {what}, found {}", spot.kind()));
    }

    /// A key that nobody knows, with the one that was probably meant.
    pub(crate) fn unknown<'a>(
        &mut self,
        span: &Range<usize>,
        key: &str,
        name: &str,
        known: impl Iterator<Item = &'a str> + Clone,
    ) {
        let likeness = |known: &str| strsim::jaro_winkler(known, &name.replace('_', "-"));
        let nearest = known.clone().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
        let help = match nearest.filter(|nearest| likeness(nearest) > 0.8) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("there is {}", known.map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")),
        };
        let message = "nothing is called so here".to_owned();
        self.0.push(Problem { span: span.clone(), key: key.to_owned(), message, help: Some(help) });
    }
}

/// A key below another.
pub(crate) fn below(key: &str, name: &str) -> String {
    match key.is_empty() {
        true => name.to_owned(),
        false => format!("{key}.{name}"),
    }
}
