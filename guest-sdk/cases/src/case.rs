//! A file of cases.

use std::collections::BTreeMap;
use std::ops::Range;

use serde_json::{Value, json};

use crate::answer::{Expect, Remembered};
use crate::node::{Node, Problem, Report, Spot, below};
use crate::read::{ENDINGS, get, length, name, settings, table, text, word};
use crate::view::{base, change, finish};

/// The verdicts that `admit` and `settle` may give.
const ADMISSIONS: [&str; 6] = ["lock", "wait", "hold", "force", "skip", "abort"];
const SETTLEMENTS: [&str; 5] = ["release", "keep", "retry", "roll-back", "abort"];

const TOP: [&str; 4] = ["settings", "base", "leave-out", "case"];
const CASE: [&str; 7] = ["name", "view", "settings", "outcome", "memory", "after", "expect"];
const EXPECT: [&str; 8] = ["verdict", "breaking", "keep", "code", "reason", "wake-after", "memory", "fault"];
const OUTCOME: [&str; 4] = ["ending", "exit-code", "took", "attempt"];

/// The cases of a file, in its order.
#[derive(Debug, Clone, PartialEq)]
pub struct Cases {
    /// Settings of the cases that have none of their own.
    pub settings: Value,
    /// Properties that are not looked at, and why.
    pub leave_out: BTreeMap<String, String>,
    /// The cases.
    pub cases: Vec<Case>,
}

/// One case.
#[derive(Debug, Clone, PartialEq)]
pub struct Case {
    /// Its name, the only one of that name in its file.
    pub name: String,
    /// The bytes of the file where the name stands.
    pub span: Range<usize>,
    /// The policy's settings.
    pub settings: Value,
    /// The whole view.
    pub view: Value,
    /// How the action ended: `settle` is asked; none: `admit`.
    pub outcome: Option<Value>,
    /// What the policy remembers.
    pub memory: Memory,
    /// What it must answer; none: the case says nothing yet.
    pub expect: Option<Expect>,
}

/// Where a case's memory comes from.
#[derive(Debug, Clone, PartialEq)]
pub enum Memory {
    /// The case tells it; empty unless told.
    Told(Vec<u8>),
    /// What the case with this index, an earlier one, left.
    After(usize),
}

impl Cases {
    /// Reads a file of cases.
    ///
    /// # Errors
    /// Everything that is wrong with it, in the order of the text.
    pub fn parse(text: &str) -> Result<Self, Vec<Problem>> {
        let document = Spot::of_toml(text).map_err(|problem| vec![problem])?;
        let mut report = Report::default();
        let cases = read(&document, &mut report);
        report.0.sort_by_key(|problem| problem.span.start);
        if report.0.is_empty() { Ok(cases) } else { Err(report.0) }
    }
}

fn read(document: &Spot, report: &mut Report) -> Cases {
    let members = table(document, "", &TOP, report);
    let of_all = get(members, "settings").and_then(|spot| settings(spot, "settings", report)).unwrap_or(json!({}));
    let mut leave_out = BTreeMap::new();
    if let Some(spot) = get(members, "leave-out") {
        let Node::Table(left) = &spot.node else {
            report.expected(spot, "leave-out", "a table of properties, each with the reason");
            return Cases { settings: of_all, leave_out, cases: Vec::new() };
        };
        for (name, _, spot) in left {
            match &spot.node {
                Node::Text(reason) if !reason.trim().is_empty() => {
                    leave_out.insert(name.clone(), reason.clone());
                }
                _ => report.expected(spot, &below("leave-out", name), "the reason, in a few words"),
            }
        }
    }
    if let Some(spot) = get(members, "base") {
        change(&mut base(), spot, "base", report);
    }
    let mut cases = Vec::new();
    match get(members, "case").map(|spot| (spot, &spot.node)) {
        None => {}
        Some((_, Node::List(items))) => {
            for (index, spot) in items.iter().enumerate() {
                let case = one(spot, &format!("case[{index}]"), get(members, "base"), &of_all, &cases, report);
                cases.push(case);
            }
        }
        Some((spot, _)) => report.say(&spot.span, "case", "each case is a table of its own: `[[case]]`"),
    }
    Cases { settings: of_all, leave_out, cases }
}

fn one(spot: &Spot, key: &str, of_all: Option<&Spot>, usual: &Value, earlier: &[Case], report: &mut Report) -> Case {
    let members = table(spot, key, &CASE, report);
    let at = |name: &str| below(key, name);
    let names: Vec<&str> = earlier.iter().map(|case| case.name.as_str()).collect();
    let (name, name_span) = name(spot, members, key, &names, report);
    let mut view = base();
    if let Some(of_all) = of_all {
        // Its mistakes have been told.
        change(&mut view, of_all, "base", &mut Report::default());
    }
    if let Some(spot) = get(members, "view") {
        change(&mut view, spot, &at("view"), report);
    }
    finish(&mut view);
    let settings =
        get(members, "settings").and_then(|spot| settings(spot, &at("settings"), report)).unwrap_or(usual.clone());
    let outcome = get(members, "outcome").and_then(|spot| outcome(spot, &at("outcome"), report));
    let memory = match (get(members, "memory"), get(members, "after")) {
        (Some(spot), None) => Memory::Told(remembered(spot).bytes()),
        (None, Some(spot)) => {
            let of = text(spot, &at("after"), report).unwrap_or_default();
            match earlier.iter().position(|case| case.name == of) {
                Some(index) => Memory::After(index),
                None => {
                    report.say(
                        &spot.span,
                        &at("after"),
                        "no case above has this name: it is the one whose memory this goes on with",
                    );
                    Memory::Told(Vec::new())
                }
            }
        }
        (Some(spot), Some(_)) => {
            report.say(&spot.span, &at("memory"), "`after` says already what is remembered");
            Memory::Told(Vec::new())
        }
        (None, None) => Memory::Told(Vec::new()),
    };
    let verdicts: &[&str] = if get(members, "outcome").is_some() { &SETTLEMENTS } else { &ADMISSIONS };
    let expect = get(members, "expect").map(|spot| expect(spot, &at("expect"), verdicts, report));
    Case { name, span: name_span, settings, view, outcome, memory, expect }
}

fn remembered(spot: &Spot) -> Remembered {
    match &spot.node {
        Node::Text(text) => Remembered::Text(text.clone()),
        _ => Remembered::Json(spot.json()),
    }
}

fn outcome(spot: &Spot, key: &str, report: &mut Report) -> Option<Value> {
    let members = table(spot, key, &OUTCOME, report);
    let at = |name: &str| below(key, name);
    let Some(ending) = get(members, "ending") else {
        report.say(&spot.span, key, "an outcome has an `ending`, such as \"failed\"");
        return None;
    };
    let ending = word(ending, &at("ending"), &ENDINGS, report)?;
    let exit_code = match get(members, "exit-code") {
        Some(spot) if spot.is_none() => Value::Null,
        Some(spot) => match spot.node {
            Node::Whole(code) if i32::try_from(code).is_ok() => spot.json(),
            _ => {
                report.expected(spot, &at("exit-code"), "an exit code");
                Value::Null
            }
        },
        None if ending == "succeeded" => 0.into(),
        None if ending == "failed" => 1.into(),
        None => Value::Null,
    };
    let took = get(members, "took").and_then(|spot| length(spot, &at("took"), report)).unwrap_or(1_000);
    let attempt = match get(members, "attempt") {
        None => 1,
        Some(spot) => match spot.node {
            Node::Whole(number) if u32::try_from(number).is_ok_and(|number| number > 0) => {
                u32::try_from(number).unwrap_or(1)
            }
            _ => {
                report.expected(spot, &at("attempt"), "a whole number from 1");
                1
            }
        },
    };
    Some(json!({ "ending": ending, "exit-code": exit_code, "took": took, "attempt": attempt }))
}

fn expect(spot: &Spot, key: &str, verdicts: &[&str], report: &mut Report) -> Expect {
    let before = report.0.len();
    let members = table(spot, key, &EXPECT, report);
    let at = |name: &str| below(key, name);
    let mut expect = Expect::default();
    for (name, _, spot) in members {
        let (name, key) = (name.replace('_', "-"), at(name));
        match name.as_str() {
            "verdict" => expect.verdict = word(spot, &key, verdicts, report),
            "breaking" => {
                let fences = match &spot.node {
                    Node::List(items) => items
                        .iter()
                        .map(|item| match item.node {
                            Node::Whole(fence) => u64::try_from(fence).ok(),
                            _ => None,
                        })
                        .collect(),
                    _ => None,
                };
                if fences.is_none() {
                    report.expected(spot, &key, "a list of fences");
                }
                expect.breaking = fences;
            }
            "keep" => expect.keep = length(spot, &key, report),
            "code" => expect.code = text(spot, &key, report),
            "reason" => expect.reason = text(spot, &key, report),
            "wake-after" => {
                expect.wake_after = if spot.is_none() { Some(None) } else { length(spot, &key, report).map(Some) };
            }
            "memory" => expect.memory = Some(remembered(spot)),
            "fault" => expect.fault = text(spot, &key, report),
            _ => {}
        }
    }
    if expect.fault.is_some() && members.len() > 1 {
        report.say(&spot.span, key, "a policy that fails answers nothing: `fault` stands alone");
    }
    if expect.is_empty() && report.0.len() == before {
        report.say(&spot.span, key, "nothing is expected, so nothing could fail: say a `verdict` or a `fault`, or leave `expect` out and let `--update` write it");
    }
    expect
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer::{Answer, Fault};

    fn problems(text: &str) -> Vec<String> {
        Cases::parse(text).unwrap_err().iter().map(ToString::to_string).collect()
    }

    fn answer() -> Answer {
        Answer {
            verdict: "wait".to_owned(),
            breaking: None,
            keep: None,
            code: "below-floor".to_owned(),
            reason: "too few".to_owned(),
            wake_after: Some(30_000),
            memory: br#"{"b":1,"a":2}"#.to_vec(),
        }
    }

    #[test]
    fn a_case_is_the_base_changed_twice() {
        let cases = Cases::parse(
            "[settings]\nmin = 2\n[base]\nsemaphore.slots = 3\n[[case]]\nname = 'a'\nview.semaphore.queued = 1\n\
             [[case]]\nname = 'b'\nsettings = {}\nafter = 'a'\nexpect.verdict = 'lock'\n\
             [[case]]\nname = 'c'\noutcome.ending = 'failed'\nmemory = { x = 1 }\nexpect = { verdict = 'retry' }\n",
        )
        .unwrap();
        let [a, b, c] = cases.cases.as_slice() else { panic!("{cases:?}") };
        assert_eq!((&a.view["semaphore"]["slots"], &a.view["semaphore"]["queued"]), (&json!(3), &json!(1)));
        assert_eq!((&a.settings, &b.settings), (&json!({ "min": 2 }), &json!({})));
        assert_eq!((a.expect.as_ref(), &b.memory), (None, &Memory::After(0)));
        assert_eq!(c.outcome, Some(json!({ "ending": "failed", "exit-code": 1, "took": 1000, "attempt": 1 })));
        assert_eq!(c.memory, Memory::Told(br#"{"x":1}"#.to_vec()));
    }

    #[test]
    fn mistakes_are_told_all_at_once_in_the_order_of_the_text() {
        let text = "[[case]]\nview.party.member = []\nexpect = {}\n[[case]]\nname = 'x'\nexpect.verdict = 'release'\n\
                    [[case]]\nname = 'x'\nafter = 'y'\noutcome = {}\nexpect = { fault = 'trap', code = 'c', wake = '1s' }\n";
        assert_eq!(
            problems(text),
            [
                "`case[0]`: a case has a `name`: what must be so",
                "`case[0].view.party.member`: nothing is called so here (did you mean `members`?)",
                "`case[0].expect`: nothing is expected, so nothing could fail: say a `verdict` or a `fault`, or leave `expect` out and let `--update` write it",
                "`case[1].expect.verdict`: nothing is called so here (there is `lock`, `wait`, `hold`, `force`, `skip`, `abort`)",
                "`case[2].name`: another case above has this name",
                "`case[2].after`: no case above has this name: it is the one whose memory this goes on with",
                "`case[2].outcome`: an outcome has an `ending`, such as \"failed\"",
                "`case[2].expect`: a policy that fails answers nothing: `fault` stands alone",
                "`case[2].expect.wake`: nothing is called so here (did you mean `wake-after`?)",
            ]
        );
    }

    #[test]
    fn the_bases_mistakes_are_told_once() {
        let text = "[base]\nparty = 1\n[[case]]\nname = 'a'\n[[case]]\nname = 'b'\n";
        assert_eq!(problems(text), ["`base.party`: expected a table, found `1`"]);
        assert_eq!(problems("[base]\nparty = 1\n").len(), 1);
    }

    #[test]
    fn what_is_not_said_may_be_anything() {
        let expect = Expect { verdict: Some("wait".to_owned()), ..Expect::default() };
        assert_eq!(expect.differences(&Ok(answer())), []);
        let expect = Expect {
            verdict: Some("lock".to_owned()),
            code: Some("free".to_owned()),
            wake_after: Some(None),
            memory: Some(Remembered::Json(json!({ "a": 2, "b": 1 }))),
            ..Expect::default()
        };
        let found: Vec<_> = expect.differences(&Ok(answer())).iter().map(|one| (one.key, one.seen.clone())).collect();
        assert_eq!(found, [("verdict", "wait".into()), ("code", "below-floor".into()), ("wake-after", "30s".into())]);
    }

    #[test]
    fn a_fault_is_an_answer_only_where_it_is_expected() {
        let trap = || Err(Fault { kind: "trap".to_owned(), message: "boom".to_owned() });
        let expected = |kind: &str| Expect { fault: Some(kind.to_owned()), ..Expect::default() };
        assert_eq!(expected("trap").differences(&trap()), []);
        assert_eq!(expected("out-of-fuel").differences(&trap())[0].seen, "trap: boom");
        assert_eq!(expected("trap").differences(&Ok(answer()))[0].key, "fault");
        let locks = Expect { verdict: Some("lock".to_owned()), ..Expect::default() };
        assert_eq!(locks.differences(&trap())[0].seen, "the fault trap: boom");
    }
}
