//! Plays, as people write them in TOML: a world, settings, and what must come of it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use serde_json::{Value, json};

use super::ScenarioResult;
use super::fleet::{Fleet, Member, Scripted, Semaphore, Target};
use crate::Difference;
use crate::node::{Node, Problem, Report, Spot, below};
use crate::read::{ENDINGS, get, length, settings, table, text, word};

/// What stands in a table.
type Members<'a> = &'a [(String, Range<usize>, Spot)];

const TOP: [&str; 3] = ["settings", "world", "case"];
const CASE: [&str; 6] = ["name", "settings", "world", "answers", "state", "expect"];
const WORLD: [&str; 5] = ["targets", "semaphores", "parties", "slots", "grants"];
const TARGET: [&str; 6] = ["name", "labels", "takes", "ends", "roll-back", "admitted"];
const SEMAPHORE: [&str; 3] = ["slots", "held-by", "lost"];
const HOLDER: [&str; 2] = ["identifier", "until"];
const MEMBER: [&str; 3] = ["identifier", "joins", "leaves"];
const ANSWER: [&str; 5] = ["to", "error", "answer", "is", "after"];
const ANSWERS: [&str; 10] =
    ["done", "held", "not-free", "flag", "leases", "semaphore", "party", "status", "advice", "ended"];
const FAULTS: [&str; 1] = ["timed-out"];
const FAULTS_WITH_TEXT: [&str; 4] = ["lease-lost", "refused", "conflict", "unavailable"];
const EXPECT: [&str; 7] = ["ends", "reason", "calls", "acted", "rolled-back", "held", "took"];

/// The plays of a file, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct ScenarioFile {
    /// Settings of the plays that have none of their own.
    pub settings: Value,
    /// The plays.
    pub scenarios: Vec<Scenario>,
}

/// One play.
#[derive(Debug, Clone, PartialEq)]
pub struct Scenario {
    /// Its name, the only one of that name in its file.
    pub name: String,
    /// The bytes of the file where the name stands.
    pub span: Range<usize>,
    /// The orchestration's settings.
    pub settings: Value,
    /// Where it is played.
    pub world: Fleet,
    /// What its last checkpoint holds.
    pub state: Option<Vec<u8>>,
    /// What must come of it; none: the play says nothing yet.
    pub expect: Option<ScenarioExpect>,
}

/// How a play ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// It did what it wanted to.
    Succeeded,
    /// It said that it cannot go on.
    GaveUp,
    /// It failed.
    Fault,
    /// It waits for what never happens.
    Waits,
}

impl Ends {
    const ALL: [(&'static str, Self); 4] =
        [("succeeded", Self::Succeeded), ("gave-up", Self::GaveUp), ("fault", Self::Fault), ("waits", Self::Waits)];

    /// As files have it.
    #[must_use]
    pub fn word(self) -> &'static str {
        Self::ALL.iter().find(|(_, ends)| *ends == self).map_or("", |(word, _)| word)
    }
}

/// What a play says of its end; what it does not say may be anything.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ScenarioExpect {
    /// How it ends.
    pub ends: Option<Ends>,
    /// What it says then contains this.
    pub reason: Option<String>,
    /// Everything that it calls, in the calls' words.
    pub calls: Option<Vec<String>>,
    /// The targets that it lets go, in that order.
    pub acted: Option<Vec<String>>,
    /// The targets that it rolls back, in that order.
    pub rolled_back: Option<Vec<String>>,
    /// The semaphores of which it has a lease in the end.
    pub held: Option<Vec<String>>,
    /// How long it takes, in milliseconds of its world.
    pub took: Option<u64>,
}

impl ScenarioFile {
    /// Reads a file of plays.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let document = Spot::of_toml(text).map_err(|problem| vec![problem])?;
        let mut report = Report::default();
        let scenarios = read(&document, &mut report);
        report.0.sort_by_key(|problem| problem.span.start);
        if report.0.is_empty() { Ok(scenarios) } else { Err(report.0) }
    }
}

impl Fleet {
    /// Reads a world alone, as it stands in a file of plays.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let document = Spot::of_toml(text).map_err(|problem| vec![problem])?;
        let (mut report, mut world) = (Report::default(), Self::default());
        change(&mut world, &document, "", &mut report);
        report.0.sort_by_key(|problem| problem.span.start);
        if report.0.is_empty() { Ok(world) } else { Err(report.0) }
    }
}

impl ScenarioExpect {
    /// What is not as expected.
    #[must_use]
    pub fn differences(&self, result: &ScenarioResult) -> Vec<Difference> {
        let mut found = Vec::new();
        let mut differ = |key, expected: String, seen: String| {
            if expected != seen {
                found.push(Difference { key, expected, seen });
            }
        };
        if let Some(ends) = self.ends {
            let is = result.ends();
            let seen = if is == ends { is.word().to_owned() } else { result.told() };
            differ("ends", ends.word().to_owned(), seen);
        }
        if let Some(reason) = &self.reason {
            let told = result.told();
            let seen = if told.contains(reason) { reason.clone() } else { told };
            differ("reason", reason.clone(), seen);
        }
        if let Some(calls) = &self.calls {
            let seen: Vec<String> = result.spoken.iter().map(|spoken| spoken.call.to_string()).collect();
            let at = calls.iter().zip(&seen).take_while(|(a, b)| a == b).count();
            let which =
                |of: &[String]| of.get(at).map_or_else(|| "no more".to_owned(), |call| format!("{}. {call}", at + 1));
            if *calls != seen {
                differ("calls", which(calls), which(&seen));
            }
        }
        if let Some(acted) = &self.acted {
            differ("acted", listed(acted), listed(&result.acted()));
        }
        if let Some(rolled_back) = &self.rolled_back {
            differ("rolled-back", listed(rolled_back), listed(&result.rolled_back()));
        }
        if let Some(held) = &self.held {
            differ("held", listed(held), listed(&result.held));
        }
        if let Some(took) = self.took {
            let told = |millis| humantime::format_duration(Duration::from_millis(millis)).to_string();
            differ("took", told(took), told(result.took));
        }
        found
    }
}

fn listed<T: AsRef<str>>(names: &[T]) -> String {
    match names.is_empty() {
        true => "nobody".to_owned(),
        false => names.iter().map(AsRef::as_ref).collect::<Vec<&str>>().join(", "),
    }
}

fn read(document: &Spot, report: &mut Report) -> ScenarioFile {
    let members = table(document, "", &TOP, report);
    let of_all = get(members, "settings").and_then(|spot| settings(spot, "settings", report)).unwrap_or(json!({}));
    let mut base = Fleet::default();
    if let Some(spot) = get(members, "world") {
        change(&mut base, spot, "world", report);
    }
    let mut scenarios: Vec<Scenario> = Vec::new();
    match get(members, "case").map(|spot| (spot, &spot.node)) {
        None => {}
        Some((_, Node::List(items))) => {
            for (index, spot) in items.iter().enumerate() {
                let scenario = one(spot, &format!("case[{index}]"), &base, &of_all, &scenarios, report);
                scenarios.push(scenario);
            }
        }
        Some((spot, _)) => report.say(&spot.span, "case", "each case is a table of its own: `[[case]]`"),
    }
    ScenarioFile { settings: of_all, scenarios }
}

fn one(spot: &Spot, key: &str, base: &Fleet, usual: &Value, earlier: &[Scenario], report: &mut Report) -> Scenario {
    let members = table(spot, key, &CASE, report);
    let at = |name: &str| below(key, name);
    let names: Vec<&str> = earlier.iter().map(|scenario| scenario.name.as_str()).collect();
    let (name, span) = crate::read::name(spot, members, key, &names, report);
    let settings =
        get(members, "settings").and_then(|spot| settings(spot, &at("settings"), report)).unwrap_or(usual.clone());
    let mut world = base.clone();
    if let Some(spot) = get(members, "world") {
        change(&mut world, spot, &at("world"), report);
    }
    for (spot, key) in items(get(members, "answers"), &at("answers"), report) {
        world.answers.extend(scripted(spot, &key, report));
    }
    let state = get(members, "state").and_then(|spot| text(spot, &at("state"), report)).map(String::into_bytes);
    let expect = get(members, "expect").map(|spot| expect(spot, &at("expect"), report));
    Scenario { name, span, settings, world, state, expect }
}

/// Each of a list, with its key.
fn items<'a>(spot: Option<&'a Spot>, key: &str, report: &mut Report) -> Vec<(&'a Spot, String)> {
    match spot.map(|spot| (spot, &spot.node)) {
        None => Vec::new(),
        Some((_, Node::List(items))) => {
            items.iter().enumerate().map(|(index, spot)| (spot, format!("{key}[{index}]"))).collect()
        }
        Some((spot, _)) => {
            report.expected(spot, key, "a list");
            Vec::new()
        }
    }
}

fn number(spot: &Spot, key: &str, report: &mut Report) -> Option<u32> {
    let number = match spot.node {
        Node::Whole(number) => u32::try_from(number).ok().filter(|number| *number > 0),
        _ => None,
    };
    if number.is_none() {
        report.expected(spot, key, "a whole number from 1");
    }
    number
}

/// A length of time, or `never`.
fn moment(spot: &Spot, key: &str, report: &mut Report) -> Option<u64> {
    match &spot.node {
        Node::Text(text) if text == "never" => None,
        _ => length(spot, key, report),
    }
}

fn change(world: &mut Fleet, spot: &Spot, key: &str, report: &mut Report) {
    for (name, _, spot) in table(spot, key, &WORLD, report) {
        let key = below(key, name);
        match name.replace('_', "-").as_str() {
            "targets" => {
                world.targets = items(Some(spot), &key, report)
                    .iter()
                    .filter_map(|(spot, key)| target(spot, key, report))
                    .collect();
            }
            "semaphores" => {
                for (path, _, spot) in any_table(spot, &key, report) {
                    let semaphore = semaphore(spot, &below(&key, path), report);
                    world.semaphores.insert(path.clone(), semaphore);
                }
            }
            "parties" => {
                for (path, _, spot) in any_table(spot, &key, report) {
                    let key = below(&key, path);
                    let members = items(Some(spot), &key, report);
                    let members = members.iter().filter_map(|(spot, key)| member(spot, key, report)).collect();
                    world.parties.insert(path.clone(), members);
                }
            }
            "slots" => world.slots = number(spot, &key, report),
            "grants" => {
                let grants = items(Some(spot), &key, report);
                world.may_force = grants.iter().any(|(spot, key)| word(spot, key, &["force"], report).is_some());
            }
            _ => {}
        }
    }
}

/// A table whose keys may be anything.
fn any_table<'a>(spot: &'a Spot, key: &str, report: &mut Report) -> Members<'a> {
    match &spot.node {
        Node::Table(members) => members,
        _ => {
            report.expected(spot, key, "a table by paths");
            &[]
        }
    }
}

/// What has a name, which may stand for it alone.
fn named<'a>(
    spot: &'a Spot,
    name: &str,
    key: &str,
    known: &[&str],
    report: &mut Report,
) -> Option<(String, Members<'a>)> {
    if let Node::Text(name) = &spot.node {
        return Some((name.clone(), &[]));
    }
    let members = table(spot, key, known, report);
    match get(members, name) {
        Some(spot) => Some((text(spot, &below(key, name), report)?, members)),
        None => {
            report.say(&spot.span, key, format!("it has a `{name}`"));
            None
        }
    }
}

fn target(spot: &Spot, key: &str, report: &mut Report) -> Option<Target> {
    let (name, members) = named(spot, "name", key, &TARGET, report)?;
    let mut target = Target::new(&name);
    for (name, _, spot) in members {
        let key = below(key, name);
        match name.as_str() {
            "labels" => {
                let labels = any_table(spot, &key, report).iter();
                let labels: BTreeMap<String, String> = labels
                    .filter_map(|(name, _, spot)| Some((name.clone(), text(spot, &below(&key, name), report)?)))
                    .collect();
                target.labels = labels;
            }
            "takes" => target.takes = length(spot, &key, report).unwrap_or_default(),
            "ends" => target.ends = word(spot, &key, &ENDINGS, report).unwrap_or_default(),
            "roll-back" => {
                let ends = word(spot, &key, &[&["none"], ENDINGS.as_slice()].concat(), report);
                target.roll_back = ends.filter(|ends| ends != "none");
            }
            "admitted" => target.admitted = moment(spot, &key, report),
            _ => {}
        }
    }
    Some(target)
}

fn semaphore(spot: &Spot, key: &str, report: &mut Report) -> Semaphore {
    let mut semaphore = Semaphore::default();
    for (name, _, spot) in table(spot, key, &SEMAPHORE, report) {
        let key = below(key, name);
        match name.replace('_', "-").as_str() {
            "slots" => semaphore.slots = number(spot, &key, report).unwrap_or(1),
            "held-by" => {
                for (spot, key) in items(Some(spot), &key, report) {
                    if let Some((who, members)) = named(spot, "identifier", &key, &HOLDER, report) {
                        let until = get(members, "until").and_then(|spot| moment(spot, &below(&key, "until"), report));
                        semaphore.others.push((who, until));
                    }
                }
            }
            "lost" => semaphore.lost = length(spot, &key, report),
            _ => {}
        }
    }
    semaphore
}

fn member(spot: &Spot, key: &str, report: &mut Report) -> Option<Member> {
    let (identifier, members) = named(spot, "identifier", key, &MEMBER, report)?;
    let joins = get(members, "joins").and_then(|spot| length(spot, &below(key, "joins"), report)).unwrap_or(0);
    let leaves = get(members, "leaves").and_then(|spot| moment(spot, &below(key, "leaves"), report));
    Some(Member { identifier, joins, leaves })
}

fn scripted(spot: &Spot, key: &str, report: &mut Report) -> Option<Scripted> {
    let members = table(spot, key, &ANSWER, report);
    let at = |name: &str| below(key, name);
    let to = match get(members, "to") {
        Some(spot) => text(spot, &at("to"), report)?,
        None => {
            report.say(&spot.span, key, "an answer says `to` which call: how that begins, such as \"lock /locks/a\"");
            return None;
        }
    };
    let after = get(members, "after").and_then(|spot| length(spot, &at("after"), report)).unwrap_or(0);
    let answer = match (get(members, "error"), get(members, "answer")) {
        (Some(error), None) => json!({ "answer": "error", "is": call_error(error, &at("error"), report)? }),
        (None, Some(answer)) => {
            let mut answer = json!({ "answer": word(answer, &at("answer"), &ANSWERS, report)? });
            if let Some(is) = get(members, "is") {
                answer["is"] = is.json();
            }
            answer
        }
        _ => {
            report.say(&spot.span, key, "it has either an `error` or an `answer`");
            return None;
        }
    };
    Some(Scripted { to, answer, after })
}

fn call_error(spot: &Spot, key: &str, report: &mut Report) -> Option<Value> {
    match &spot.node {
        Node::Text(_) => word(spot, key, &FAULTS, report).map(Value::from),
        Node::Table(_) => {
            let members = table(spot, key, &FAULTS_WITH_TEXT, report);
            let (kind, _, why) = members.first()?;
            Some(json!({ kind: text(why, &below(key, kind), report)? }))
        }
        _ => {
            report.expected(spot, key, "\"timed-out\", or such as { refused = \"why\" }");
            None
        }
    }
}

fn expect(spot: &Spot, key: &str, report: &mut Report) -> ScenarioExpect {
    let mut expect = ScenarioExpect::default();
    let before = report.0.len();
    let members = table(spot, key, &EXPECT, report);
    for (name, _, spot) in members {
        let key = below(key, name);
        let mut texts = || -> Vec<String> {
            let items = items(Some(spot), &key, report);
            items.iter().filter_map(|(spot, key)| text(spot, key, report)).collect()
        };
        match name.as_str() {
            "calls" => expect.calls = Some(texts()),
            "acted" => expect.acted = Some(texts()),
            "rolled-back" => expect.rolled_back = Some(texts()),
            "held" => expect.held = Some(texts()),
            "ends" => {
                let words = Ends::ALL.map(|(word, _)| word);
                let word = word(spot, &key, &words, report);
                expect.ends =
                    word.and_then(|word| Ends::ALL.iter().find(|(one, _)| *one == word).map(|(_, ends)| *ends));
            }
            "reason" => expect.reason = text(spot, &key, report),
            "took" => expect.took = length(spot, &key, report),
            _ => {}
        }
    }
    if members.is_empty() && report.0.len() == before {
        report.say(
            &spot.span,
            key,
            "nothing is expected, so nothing could fail: say how it `ends`, or whom it `acted` on",
        );
    }
    expect
}
