//! Views by their difference from a base, as the contract's JSON.

use serde_json::{Map, Value, json};

use crate::node::{Node, Problem, Report, Spot, below};
use crate::shape::{CAUSES, CAUSES_WITH_TEXT, Field, Shape, VIEW};

/// The time of a view that is not told one: some day in 2025, in milliseconds since the Unix epoch.
pub const NOON: u64 = 1_750_000_000_000;

/// Stands for what is made out of the rest once a view is whole.
const LEFT_OUT: &str = "\0";

/// The view that differences are from: the first target of ten, asked about for the first time; one free slot, no party,
/// nothing happened yet.
#[must_use]
pub fn base() -> Value {
    json!({
        "sequence": 0,
        "now": NOON,
        "seed": 0,
        "cause": "first",
        "target": { "name": "web01", "labels": [], "wave": "", "attempt": 1, "waiting-since": NOON },
        "semaphore": { "path": "/locks/job", "slots": 1, "leases": [], "queued": 0 },
        "party": null,
        "other-semaphores": [],
        "other-parties": [],
        "progress": {
            "job": "job", "run": "run-1", "started": NOON, "total": 10, "pending": 9, "waiting": 1, "running": 0,
            "succeeded": 0, "failed": 0, "rolled-back": 0, "skipped": 0, "unknown": 0, "budget-left": null,
        },
        "events": [],
    })
}

/// A view written in TOML, by its difference from [`base`].
///
/// # Errors
/// Everything that is wrong with it.
pub fn view_of_toml(text: &str) -> Result<Value, Vec<Problem>> {
    let spot = Spot::of_toml(text).map_err(|problem| vec![problem])?;
    one(&spot)
}

/// A view as JSON, whole or by its difference from [`base`].
///
/// # Errors
/// Everything that is wrong with it, without places.
pub fn view_of_json(value: &Value) -> Result<Value, Vec<Problem>> {
    one(&Spot::of_json(value))
}

fn one(spot: &Spot) -> Result<Value, Vec<Problem>> {
    let mut report = Report::default();
    let mut view = base();
    change(&mut view, spot, "", &mut report);
    finish(&mut view);
    if report.0.is_empty() { Ok(view) } else { Err(report.0) }
}

/// Changes a view as a difference says. [`finish`] belongs after the last one.
pub(crate) fn change(view: &mut Value, difference: &Spot, key: &str, report: &mut Report) {
    let mut now = view["now"].as_u64().unwrap_or(NOON);
    if let Node::Table(members) = &difference.node
        && let Some((_, _, spot)) = members.iter().find(|(name, ..)| name == "now")
        && let Some(told) = instant(spot, now)
    {
        // Whatever else is told by its distance is told from there.
        now = told;
    }
    record(view, difference, &VIEW, key, now, report);
}

/// Puts lists into the contract's order, and fills in what follows from the rest: whether holders are alive, and the
/// target's own lease where its slot is granted.
pub(crate) fn finish(view: &mut Value) {
    let name = view["target"]["name"].as_str().unwrap_or_default().to_owned();
    let now = view["now"].clone();
    let granted = view["cause"] == "granted";
    let members: Option<Vec<String>> = view["party"]["members"].as_array().map(|members| {
        members.iter().map(|member| member["identifier"].as_str().unwrap_or_default().to_owned()).collect()
    });
    if let Some(leases) = view["semaphore"]["leases"].as_array_mut()
        && granted
        && leases.iter().all(|lease| lease["identifier"] != name.as_str())
    {
        let newest = leases.iter().filter_map(|lease| lease["fence"].as_u64()).max();
        let mut own = lease(newest.map_or(101, |fence| fence + 1), 0);
        (own["identifier"], own["since"], own["mine"]) = (name.into(), now, true.into());
        leases.push(own);
    }
    let mut semaphores: Vec<&mut Value> = Vec::new();
    let mut parties: Vec<&mut Value> = Vec::new();
    let Some(view) = view.as_object_mut() else { return };
    for (key, value) in view.iter_mut() {
        match key.as_str() {
            "semaphore" => semaphores.push(value),
            "party" => parties.push(value),
            "other-semaphores" => semaphores.extend(value.as_array_mut().into_iter().flatten()),
            "other-parties" => parties.extend(value.as_array_mut().into_iter().flatten()),
            "target" => order(value, "labels", |label| label["key"].as_str().unwrap_or_default().to_owned()),
            _ => {}
        }
    }
    for semaphore in semaphores {
        order(semaphore, "leases", |lease| lease["fence"].as_u64().unwrap_or_default());
        for lease in semaphore["leases"].as_array_mut().into_iter().flatten() {
            if lease["alive"] == LEFT_OUT {
                let holder = lease["identifier"].as_str().unwrap_or_default();
                lease["alive"] =
                    members.as_ref().map_or(Value::Null, |members| members.iter().any(|one| one == holder).into());
            }
        }
    }
    for party in parties.into_iter().filter(|party| !party.is_null()) {
        order(party, "members", |member| member["identifier"].as_str().unwrap_or_default().to_owned());
    }
}

fn order<K: Ord>(of: &mut Value, list: &str, key: impl Fn(&Value) -> K) {
    if let Some(items) = of.get_mut(list).and_then(Value::as_array_mut) {
        items.sort_by_key(|item| key(item));
    }
}

fn record(into: &mut Value, spot: &Spot, fields: &'static [Field], key: &str, now: u64, report: &mut Report) {
    let Node::Table(members) = &spot.node else { return report.expected(spot, key, "a table") };
    for (name, name_span, spot) in members {
        let key = below(key, name);
        let Some(field) = fields.iter().find(|field| field.name == name.replace('_', "-")) else {
            report.unknown(name_span, &key, name, fields.iter().map(|field| field.name));
            continue;
        };
        set(&mut into[field.name], spot, field, &key, now, report);
    }
}

fn set(into: &mut Value, spot: &Spot, field: &'static Field, key: &str, now: u64, report: &mut Report) {
    match field.shape {
        Shape::Whole(most) => match whole(spot, most) {
            Some(number) => *into = number.into(),
            None => report.expected(spot, key, &format!("a whole number from 0 to {most}")),
        },
        Shape::MaybeWhole(_) | Shape::MaybeFlag if spot.is_none() => *into = Value::Null,
        Shape::MaybeWhole(most) => match whole(spot, most) {
            Some(number) => *into = number.into(),
            None => report.expected(spot, key, &format!("a whole number from 0 to {most}, or \"none\"")),
        },
        Shape::Instant => match instant(spot, now) {
            // Told already, by its distance from what it was.
            Some(_) if field.name == "now" => *into = now.into(),
            Some(at) => *into = at.into(),
            None => report.expected(
                spot,
                key,
                "milliseconds since 1970, a time such as \"2025-06-15T15:06:40Z\", or a distance from `now` such as \"-5m\"",
            ),
        },
        Shape::Text => match &spot.node {
            Node::Text(text) => *into = text.clone().into(),
            _ => report.expected(spot, key, "a text"),
        },
        Shape::Flag | Shape::MaybeFlag => match spot.node {
            Node::Flag(flag) => *into = flag.into(),
            _ => report.expected(spot, key, "`true` or `false`"),
        },
        Shape::Word(words) => match &spot.node {
            Node::Text(text) if words.contains(&text.as_str()) => *into = text.clone().into(),
            Node::Text(text) => report.unknown(&spot.span, key, text, words.iter().copied()),
            _ => report.expected(spot, key, "a word"),
        },
        Shape::Cause => cause(into, spot, key, report),
        Shape::Record(fields) => record(into, spot, fields, key, now, report),
        Shape::MaybeRecord(_) if spot.is_none() => *into = Value::Null,
        Shape::MaybeRecord(fields) => {
            if into.is_null() {
                *into = item(fields, now, 0);
                into["path"] = "/party/job".into();
            }
            record(into, spot, fields, key, now, report);
        }
        Shape::Labels => labels(into, spot, key, report),
        Shape::List(fields, bare) => {
            let Node::List(items) = &spot.node else { return report.expected(spot, key, "a list") };
            let mut values = Vec::with_capacity(items.len());
            for (index, spot) in items.iter().enumerate() {
                let key = format!("{key}[{index}]");
                let newest = values.last().and_then(|last: &Value| last["fence"].as_u64());
                let mut value = item(fields, now, newest.map_or(101, |fence| fence.saturating_add(1)));
                match (&spot.node, bare) {
                    (Node::Text(text), Some(bare)) => value[bare] = text.clone().into(),
                    (Node::Table(_), _) => record(&mut value, spot, fields, &key, now, report),
                    (_, Some(bare)) => report.expected(spot, &key, &format!("a table, or its `{bare}` alone")),
                    _ => report.expected(spot, &key, "a table"),
                }
                values.push(value);
            }
            *into = values.into();
        }
    }
}

fn cause(into: &mut Value, spot: &Spot, key: &str, report: &mut Report) {
    match &spot.node {
        Node::Text(word) if CAUSES.contains(&word.as_str()) => *into = word.clone().into(),
        Node::Text(word) if CAUSES_WITH_TEXT.contains(&word.as_str()) => {
            report.say(&spot.span, key, format!("`{word}` comes with a text: `{{ {word} = \"…\" }}`"));
        }
        Node::Text(word) => {
            report.unknown(&spot.span, key, word, CAUSES.into_iter().chain(CAUSES_WITH_TEXT));
        }
        Node::Table(members) => match members.as_slice() {
            [(word, _, Spot { node: Node::Text(text), .. })] if CAUSES_WITH_TEXT.contains(&word.as_str()) => {
                *into = json!({ word.as_str(): text });
            }
            _ => report.expected(spot, key, "`{ refused = \"why\" }` or `{ operator = \"who\" }`"),
        },
        _ => report.expected(spot, key, "a word such as \"granted\""),
    }
}

fn labels(into: &mut Value, spot: &Spot, key: &str, report: &mut Report) {
    match &spot.node {
        Node::Table(members) => {
            let mut labels = Vec::new();
            for (name, _, spot) in members {
                match &spot.node {
                    Node::Text(text) => labels.push(json!({ "key": name, "value": text })),
                    _ => report.expected(spot, &below(key, name), "a text"),
                }
            }
            *into = labels.into();
        }
        // As the contract and a journal have them.
        Node::List(items) => {
            let labels: Vec<Value> = items.iter().map(Spot::json).collect();
            let is_label = |label: &Value| {
                label.as_object().is_some_and(|of| of.len() == 2)
                    && label["key"].is_string()
                    && label["value"].is_string()
            };
            match labels.iter().all(is_label) {
                true => *into = labels.into(),
                false => report.say(&spot.span, key, "expected a table such as `{ rack = \"r1\" }`"),
            }
        }
        _ => report.expected(spot, key, "a table such as `{ rack = \"r1\" }`"),
    }
}

/// A record of a list before anything is told of it.
fn item(fields: &'static [Field], now: u64, fence: u64) -> Value {
    let mut value = Map::new();
    for field in fields {
        let blank = match field.shape {
            Shape::Whole(_) if field.name == "fence" => fence.into(),
            Shape::Whole(_) if field.name == "slots" => 1.into(),
            Shape::Whole(_) => 0.into(),
            // A member has been there for an hour, a lease for a minute, an event is of now.
            Shape::Instant if fields.len() == 2 => now.saturating_sub(3_600_000).into(),
            Shape::Instant if field.name == "since" => now.saturating_sub(60_000).into(),
            Shape::Instant => now.into(),
            Shape::Flag => false.into(),
            Shape::MaybeFlag => LEFT_OUT.into(),
            Shape::Word(words) => words[0].into(),
            Shape::List(..) | Shape::Labels => json!([]),
            Shape::Text | Shape::Cause => "".into(),
            Shape::MaybeWhole(_) | Shape::Record(_) | Shape::MaybeRecord(_) => Value::Null,
        };
        value.insert(field.name.to_owned(), blank);
    }
    Value::Object(value)
}

fn lease(fence: u64, now: u64) -> Value {
    item(&crate::shape::LEASE, now, fence)
}

fn whole(spot: &Spot, most: u64) -> Option<u64> {
    match spot.node {
        Node::Whole(number) => u64::try_from(number).ok().filter(|number| *number <= most),
        _ => None,
    }
}

/// A time, told as such or by its distance from `now`.
fn instant(spot: &Spot, now: u64) -> Option<u64> {
    let Node::Text(text) = &spot.node else { return whole(spot, u64::MAX) };
    let distance =
        |text: &str| humantime::parse_duration(text).ok().and_then(|distance| u64::try_from(distance.as_millis()).ok());
    match text.split_at_checked(1) {
        _ if text == "now" => Some(now),
        Some(("-", rest)) => distance(rest).map(|before| now.saturating_sub(before)),
        Some(("+", rest)) => distance(rest).map(|after| now.saturating_add(after)),
        _ => text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok()),
    }
}

/// What must be said of [`base`] so that it becomes `view`, as short as it can be told: the inverse of reading one, for who
/// prints a view as a case.
#[must_use]
pub fn difference(view: &Value) -> Value {
    let now = view["now"].as_u64().unwrap_or(NOON);
    let is_member = |identifier: &Value| {
        view["party"]["members"].as_array().map(|members| members.iter().any(|one| one["identifier"] == *identifier))
    };
    let mut view = view.clone();
    let mut told = view["semaphore"]["leases"].clone();
    for lease in told.as_array_mut().into_iter().flatten() {
        if lease["alive"].as_bool() == is_member(&lease["identifier"]) {
            lease["alive"] = LEFT_OUT.into();
        }
    }
    view["semaphore"]["leases"] = told;
    let changed = differing(&VIEW, &base(), &view, now);
    Value::Object(changed)
}

fn differing(fields: &'static [Field], from: &Value, to: &Value, now: u64) -> Map<String, Value> {
    let mut changed = Map::new();
    for field in fields {
        let (from, to) = (&from[field.name], &to[field.name]);
        if from == to {
            continue;
        }
        let told = match field.shape {
            _ if to.is_null() => "none".into(),
            Shape::Record(below) => Value::Object(differing(below, from, to, now)),
            Shape::MaybeRecord(below) => {
                let mut blank = item(below, now, 0);
                blank["path"] = "/party/job".into();
                let from = if from.is_null() { &blank } else { from };
                Value::Object(differing(below, from, to, now))
            }
            Shape::Labels => {
                let labels = to.as_array().into_iter().flatten();
                Value::Object(
                    labels
                        .map(|label| (label["key"].as_str().unwrap_or_default().to_owned(), label["value"].clone()))
                        .collect(),
                )
            }
            Shape::List(below, bare) => {
                let mut fence = 101;
                let items = to.as_array().into_iter().flatten().map(|one| {
                    let blank = item(below, now, fence);
                    fence = one["fence"].as_u64().map_or(fence, |fence| fence.saturating_add(1));
                    let told = differing(below, &blank, one, now);
                    match bare.filter(|bare| told.len() == 1 && told.contains_key(*bare)) {
                        Some(bare) => told[bare].clone(),
                        None => Value::Object(told),
                    }
                });
                items.collect()
            }
            Shape::Instant if field.name != "now" => distance(to, now),
            _ => to.clone(),
        };
        changed.insert(field.name.to_owned(), told);
    }
    changed
}

/// A time by its distance from `now`, as people say it.
fn distance(at: &Value, now: u64) -> Value {
    let Some(told) = at.as_u64() else { return at.clone() };
    let length = humantime::format_duration(std::time::Duration::from_millis(told.abs_diff(now))).to_string();
    match told.cmp(&now) {
        std::cmp::Ordering::Equal => "now".into(),
        std::cmp::Ordering::Less => format!("-{length}").into(),
        std::cmp::Ordering::Greater => format!("+{length}").into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Value {
        view_of_toml(text).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    fn problems(text: &str) -> Vec<String> {
        view_of_toml(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn nothing_said_is_the_base() {
        assert_eq!(read(""), base());
        assert_eq!(difference(&base()), json!({}));
    }

    #[test]
    fn bare_names_are_leases_and_members_in_their_order() {
        let view = read("semaphore = { slots = 2, leases = ['web02'] }\nparty.members = ['web09', 'web02']");
        assert_eq!(view["party"]["members"][0], json!({ "identifier": "web02", "since": NOON - 3_600_000 }));
        let lease = json!({
            "identifier": "web02", "fence": 101, "since": NOON - 60_000, "ephemeral": false, "alive": true, "mine": false,
        });
        assert_eq!(view["semaphore"]["leases"], json!([lease]));
        assert_eq!(view["semaphore"]["path"], "/locks/job");
        assert_eq!(view["party"]["path"], "/party/job");
    }

    #[test]
    fn without_a_party_nobody_knows_who_is_alive() {
        assert_eq!(read("semaphore.leases = ['a']")["semaphore"]["leases"][0]["alive"], Value::Null);
        let told = read("semaphore.leases = [{ identifier = 'a', alive = true }]");
        assert_eq!(told["semaphore"]["leases"][0]["alive"], true);
    }

    #[test]
    fn who_is_granted_holds_a_lease() {
        let view = read("cause = 'granted'\nsemaphore.leases = ['a']");
        let own = &view["semaphore"]["leases"][1];
        assert_eq!((&own["identifier"], &own["fence"], &own["mine"]), (&json!("web01"), &json!(102), &json!(true)));
    }

    #[test]
    fn times_are_told_by_their_distance() {
        let view = read("now = 2025-01-01T00:00:00Z\nevents = [{ at = '-10m', target = 'a', kind = 'failed' }]");
        assert_eq!(view["now"], 1_735_689_600_000_u64);
        assert_eq!(view["events"][0]["at"], 1_735_689_000_000_u64);
    }

    #[test]
    fn now_is_told_by_its_distance_once() {
        let view = read("now = '+20s'\ntarget.waiting-since = '-5s'");
        assert_eq!((&view["now"], &view["target"]["waiting-since"]), (&json!(NOON + 20_000), &json!(NOON + 15_000)));
    }

    #[test]
    fn what_is_wrong_is_said_with_what_was_meant() {
        assert_eq!(
            problems("semaphor.slots = 2\nsemaphore.slot = 2\nparty = 3\nprogress.failed = -1\ncause = 'granting'"),
            [
                "`semaphor`: nothing is called so here (did you mean `semaphore`?)",
                "`semaphore.slot`: nothing is called so here (did you mean `slots`?)",
                "`party`: expected a table, found `3`",
                "`progress.failed`: expected a whole number from 0 to 4294967295, found `-1`",
                "`cause`: nothing is called so here (did you mean `granted`?)",
            ]
        );
        let problem = view_of_toml("now = 1\nsemaphore.leases = [1]").unwrap_err().remove(0);
        assert_eq!((problem.key.as_str(), problem.span), ("semaphore.leases[0]", 28..29));
    }

    #[test]
    fn a_difference_is_read_as_what_it_was_made_of() {
        for text in [
            "cause = 'granted'\nsemaphore.leases = ['a', { identifier = 'b', mine = true }]\nparty.members = ['a']",
            "target = { name = 'x', labels = { rack = 'r1' } }\nparty = { min-members = 3, path = '/p' }",
            "events = [{ at = '-5m', target = 'a', kind = 'failed', detail = 'x' }]\nprogress.budget-left = 2",
            "other-semaphores = [{ path = '/s', leases = [{ identifier = 'q', alive = false }] }]\nnow = 5",
            "semaphore.leases = [{ identifier = 'q', alive = true, fence = 7 }]\ncause = { refused = 'no' }",
        ] {
            let view = read(text);
            let told = difference(&view);
            assert_eq!(view_of_json(&told).unwrap(), view, "{told}");
            // It is TOML, too.
            let toml = toml::to_string(&told).unwrap();
            assert_eq!(read(&toml), view, "{toml}");
        }
        assert_eq!(difference(&read("semaphore.leases = ['a']")), json!({ "semaphore": { "leases": ["a"] } }));
    }
}
