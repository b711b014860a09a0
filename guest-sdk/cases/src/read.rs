//! What files of cases have in common: keys, and what stands behind them.

use std::ops::Range;

use serde_json::Value;

use crate::node::{Node, Report, Spot, below};

/// How an action may have ended.
pub(crate) const ENDINGS: [&str; 5] = ["succeeded", "failed", "timed-out", "lease-lost", "unknown"];

/// The value of a key.
pub(crate) fn get<'a>(members: &'a [(String, Range<usize>, Spot)], name: &str) -> Option<&'a Spot> {
    members.iter().find(|(key, ..)| key.replace('_', "-") == name).map(|(_, _, spot)| spot)
}

/// The members of a table, after a complaint about each that is not known.
pub(crate) fn table<'a>(
    spot: &'a Spot,
    key: &str,
    known: &[&str],
    report: &mut Report,
) -> &'a [(String, Range<usize>, Spot)] {
    let Node::Table(members) = &spot.node else {
        report.expected(spot, key, "a table");
        return &[];
    };
    for (name, span, _) in members {
        if !known.contains(&name.replace('_', "-").as_str()) {
            report.unknown(span, &below(key, name), name, known.iter().copied());
        }
    }
    members
}

pub(crate) fn text(spot: &Spot, key: &str, report: &mut Report) -> Option<String> {
    match &spot.node {
        Node::Text(text) => Some(text.clone()),
        _ => {
            report.expected(spot, key, "a text");
            None
        }
    }
}

pub(crate) fn word(spot: &Spot, key: &str, words: &[&str], report: &mut Report) -> Option<String> {
    let word = text(spot, key, report)?;
    if words.contains(&word.as_str()) {
        return Some(word);
    }
    report.unknown(&spot.span, key, &word, words.iter().copied());
    None
}

/// A length of time in milliseconds.
pub(crate) fn length(spot: &Spot, key: &str, report: &mut Report) -> Option<u64> {
    let read = match &spot.node {
        Node::Text(text) => humantime::parse_duration(text).ok().and_then(|it| u64::try_from(it.as_millis()).ok()),
        _ => None,
    };
    if read.is_none() {
        report.say(&spot.span, key, "expected a length of time such as \"30s\" or \"1h 30m\"");
    }
    read
}

pub(crate) fn settings(spot: &Spot, key: &str, report: &mut Report) -> Option<Value> {
    match spot.node {
        Node::Table(_) => Some(spot.json()),
        _ => {
            report.expected(spot, key, "a table");
            None
        }
    }
}

/// The name of a case, and where it stands; `earlier` are those above it.
pub(crate) fn name(
    spot: &Spot,
    members: &[(String, Range<usize>, Spot)],
    key: &str,
    earlier: &[&str],
    report: &mut Report,
) -> (String, Range<usize>) {
    let Some(spot) = get(members, "name") else {
        report.say(&spot.span, key, "a case has a `name`: what must be so");
        return (String::new(), spot.span.clone());
    };
    let key = below(key, "name");
    let name = text(spot, &key, report).unwrap_or_default();
    if name.trim().is_empty() {
        report.say(&spot.span, &key, "expected what must be so, in a few words");
    } else if earlier.contains(&name.as_str()) {
        report.say(&spot.span, &key, "another case above has this name");
    }
    (name, spot.span.clone())
}
