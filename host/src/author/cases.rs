//! Cases: read from a file, and tried.

use std::collections::BTreeMap;

use lockkeeper_cases::{Case, Cases, Difference, Memory, Problem, view_of_json, view_of_toml};
use serde_json::Value;

use super::{Question, Said, decide};
use crate::policy::types::{Outcome, Severity, View};
use crate::policy::{Module, PolicyError};
use lockkeeper_locks::toml_reader::Problems;

/// A case that was tried.
#[derive(Debug)]
pub struct Tried {
    /// Its place among the file's cases.
    pub index: usize,
    /// What is not as expected; empty: it passed.
    pub differences: Vec<Difference>,
    /// What the policy said.
    pub said: Said,
}

/// Reads a file of cases; `name` is what messages call it.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn read_cases(name: &str, text: &str) -> Result<Cases, Problems> {
    Cases::parse(text).map_err(|found| problems("file of cases", name, text, found))
}

/// Reads a view: TOML by its difference from the base, or JSON, which may be whole, such as a journal's.
///
/// # Errors
/// Everything that is wrong with it, each with its place, as far as JSON has any.
pub fn read_view(name: &str, text: &str) -> Result<View, Problems> {
    let wrong = |found| problems("view", name, text, found);
    let read = match text.trim_start().starts_with('{') {
        true => match serde_json::from_str::<Value>(text) {
            Ok(json) => view_of_json(&json),
            Err(error) => {
                let message = format!("this is no JSON: {error}");
                Err(vec![Problem { span: 0..0, key: String::new(), message, help: None }])
            }
        },
        false => view_of_toml(text),
    };
    read.map(|json| view(&json)).map_err(wrong)
}

pub(super) fn problems(what: &'static str, name: &str, text: &str, found: Vec<Problem>) -> Problems {
    Problems::found(what, name, text, found.into_iter().map(|one| (one.span, one.key, one.message, one.help)))
}

/// A view from the crate that reads them, which makes nothing but whole ones.
pub(super) fn view(json: &Value) -> View {
    serde_json::from_value(json.clone()).expect("a view that was read has the contract's shape")
}

/// Tries every case in its own sandbox, in the file's order.
///
/// # Errors
/// The policy failed when it was shown settings. What it answers with those is told by the cases.
pub fn try_cases(policy: &Module, cases: &Cases) -> Result<Vec<Tried>, PolicyError> {
    let mut tried: Vec<Tried> = Vec::with_capacity(cases.cases.len());
    let mut complaints: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (index, case) in cases.cases.iter().enumerate() {
        let memory = remembered(case, |earlier| left(&tried[earlier].said));
        let said = decide(policy, &question(case, memory));
        let mut differences = case.expect.as_ref().map_or_else(unsaid, |expect| expect.differences(&said.answer));
        let key = case.settings.to_string();
        if !complaints.contains_key(&key) {
            let found = policy.validate(&case.settings)?.into_iter().filter(|one| one.severity == Severity::Error);
            let told = found.map(|one| match one.at.as_str() {
                "" => one.message,
                at => format!("{at}: {}", one.message),
            });
            complaints.insert(key.clone(), told.collect());
        }
        let expects_fault = case.expect.as_ref().is_some_and(|expect| expect.fault.is_some());
        if !complaints[&key].is_empty() && !expects_fault {
            // No job with these would run.
            let seen = complaints[&key].join("; ");
            differences
                .insert(0, Difference { key: "settings", expected: "settings that it accepts".to_owned(), seen });
        }
        tried.push(Tried { index, differences, said });
    }
    Ok(tried)
}

/// What every case asks, each with its name and with the memory that the policy has by then.
#[must_use]
pub fn questions(policy: &Module, cases: &Cases) -> Vec<(String, Question)> {
    let mut memories: Vec<Vec<u8>> = Vec::with_capacity(cases.cases.len());
    // Whose answer some other case goes on from; nobody else need be asked.
    let goes_on = |index: usize| cases.cases.iter().any(|case| case.memory == Memory::After(index));
    let of_case = |(index, case): (usize, &Case)| {
        let question = question(case, remembered(case, |earlier| memories[earlier].clone()));
        memories.push(if goes_on(index) { left(&decide(policy, &question)) } else { Vec::new() });
        (case.name.clone(), question)
    };
    cases.cases.iter().enumerate().map(of_case).collect()
}

/// The memory that a case begins with; `left` has what an earlier case's answer left.
fn remembered(case: &Case, left: impl FnOnce(usize) -> Vec<u8>) -> Vec<u8> {
    match &case.memory {
        Memory::Told(bytes) => bytes.clone(),
        Memory::After(earlier) => left(*earlier),
    }
}

/// What an answer leaves for the next decision.
fn left(said: &Said) -> Vec<u8> {
    said.answer.as_ref().map_or_else(|_| Vec::new(), |answer| answer.memory.clone())
}

/// What a case asks, with this memory.
#[must_use]
pub fn question(case: &Case, memory: Vec<u8>) -> Question {
    let outcome: Option<Outcome> = case
        .outcome
        .as_ref()
        .map(|json| serde_json::from_value(json.clone()).expect("an outcome that was read has the contract's shape"));
    Question { settings: case.settings.clone(), view: view(&case.view), outcome, memory }
}

fn unsaid() -> Vec<Difference> {
    let expected = "nothing yet: `--update` writes what is answered".to_owned();
    vec![Difference { key: "expect", expected, seen: "an answer".to_owned() }]
}
