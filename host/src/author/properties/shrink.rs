//! A question made smaller as long as it still shows what it shows.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::author::Question;
use crate::policy::types::View;

/// Questions that are tried at most, and for how long: those of a policy that is slow take a while.
const MOST_TRIES: usize = 600;
const PATIENCE: Duration = Duration::from_secs(3);

/// The smallest question found that `still_shows` it, the given one among them.
pub(super) fn smallest(question: Question, mut still_shows: impl FnMut(&Question) -> bool) -> Question {
    let mut best = question;
    let mut left = MOST_TRIES;
    let begun = Instant::now();
    loop {
        let before = left;
        let smaller = candidates(&best).into_iter().find(|candidate| {
            left = left.saturating_sub(1);
            left > 0 && begun.elapsed() < PATIENCE && still_shows(candidate)
        });
        match smaller {
            Some(smaller) => best = smaller,
            None => return best,
        }
        if left == 0 || before == left {
            return best;
        }
    }
}

/// Questions that are one step smaller, the largest steps first.
fn candidates(question: &Question) -> Vec<Question> {
    let mut found = Vec::new();
    if !question.memory.is_empty() {
        found.push(Question { memory: Vec::new(), ..question.clone() });
    }
    found.push(Question { view: usual(&question.view), ..question.clone() });
    let whole = serde_json::to_value(&question.view).unwrap_or(Value::Null);
    let base = lockkeeper_cases::base();
    for smaller in smaller(&whole, &base) {
        if let Ok(view) = serde_json::from_value(smaller) {
            found.push(Question { view, ..question.clone() });
        }
    }
    if question.settings != json!({}) {
        for settings in smaller(&question.settings, &json!({})) {
            found.push(Question { settings, ..question.clone() });
        }
    }
    // A view from the cases' own crate is whole; one that a step broke is none.
    found.retain(|candidate| {
        candidate.view != question.view
            || candidate.settings != question.settings
            || candidate.memory != question.memory
    });
    found
}

/// The view with times, fences and the like as a case has them that says nothing of them.
fn usual(of: &View) -> View {
    let mut view = of.clone();
    let now = view.now;
    let (minute_ago, hour_ago) = (now.saturating_sub(60_000), now.saturating_sub(3_600_000));
    (view.target.waiting_since, view.progress.started) = (now, now);
    for semaphore in std::iter::once(&mut view.semaphore).chain(&mut view.other_semaphores) {
        for (lease, fence) in semaphore.leases.iter_mut().zip(101..) {
            (lease.since, lease.fence, lease.ephemeral) = (minute_ago, fence, false);
        }
    }
    for party in view.party.iter_mut().chain(&mut view.other_parties) {
        party.members.iter_mut().for_each(|member| member.since = hour_ago);
    }
    view.events.iter_mut().for_each(|event| event.at = now);
    view
}

/// The value, one step nearer to `base`.
fn smaller(value: &Value, base: &Value) -> Vec<Value> {
    if value == base {
        return Vec::new();
    }
    let mut found = Vec::new();
    if !base.is_null() || value.is_object() {
        found.push(base.clone());
    }
    match value {
        Value::Object(members) => {
            for (key, below) in members {
                match base.get(key) {
                    Some(base) => {
                        for smaller in smaller(below, base) {
                            let mut object = members.clone();
                            object.insert(key.clone(), smaller);
                            found.push(Value::Object(object));
                        }
                    }
                    None => {
                        // A party keeps its keys, settings need not.
                        if !base.is_null() {
                            let mut object = members.clone();
                            object.remove(key);
                            found.push(Value::Object(object));
                        }
                        for smaller in smaller(below, &Value::Null) {
                            let mut object = members.clone();
                            object.insert(key.clone(), smaller);
                            found.push(Value::Object(object));
                        }
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            // Halves first: long lists get short soon.
            let half = items.len() / 2;
            found.push(Value::Array(items[..half].to_vec()));
            found.push(Value::Array(items[half..].to_vec()));
            for index in 0..items.len().min(16) {
                let mut fewer = items.clone();
                fewer.remove(index);
                found.push(Value::Array(fewer));
            }
        }
        Value::Number(number) => {
            if let Some(number) = number.as_u64().filter(|number| *number > 0 && *number < 1_000_000) {
                found.push((number / 2).into());
                found.push((number - 1).into());
            }
        }
        _ => {}
    }
    found.retain(|smaller| smaller != value);
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::author::cases::view;
    use crate::author::properties::random_view;

    #[test]
    fn what_does_not_matter_goes() {
        let large = random_view(&json!({
            "semaphore": { "slots": 5, "leases": ["a", "b", "c", "d"] },
            "party": { "members": ["a", "b", "web01"], "min-members": 7 },
            "progress": { "failed": 9, "succeeded": 3 },
            "events": [{ "target": "x", "kind": "failed" }],
        }));
        let question = Question { memory: vec![1, 2], ..Question::admit(json!({ "a": 1, "b": [1, 2, 3] }), large) };
        let small = smallest(question, |candidate| {
            let leases = &candidate.view.semaphore.leases;
            leases.iter().any(|lease| lease.identifier == "c")
                && candidate.view.party.as_ref().is_some_and(|party| !party.members.is_empty())
                && candidate.settings["b"].as_array().is_some_and(|items| items.len() > 1)
        });
        let told = lockkeeper_cases::difference(&serde_json::to_value(&small.view).unwrap());
        assert_eq!(small.view, view(&lockkeeper_cases::view_of_json(&told).unwrap()));
        assert_eq!(small.view.semaphore.leases.len(), 1);
        assert_eq!(small.view.party.unwrap().members.len(), 1);
        assert_eq!((small.view.progress.failed, small.view.events.len(), small.memory.len()), (0, 0, 0));
        assert_eq!(small.settings, json!({ "b": [2, 3] }));
    }
}
