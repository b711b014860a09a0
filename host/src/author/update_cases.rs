//! What was seen, written into a file of cases as what is expected.

use lockkeeper_cases::{Answer, Cases, Fault};
use toml_edit::{Array, DocumentMut, InlineTable, Item, TableLike, Value};

use super::Tried;

/// The text of a file of cases with what was seen in every case that differs: the keys that a case expects are set anew, one
/// that expects nothing yet gets the verdict, its code, and the wake where there is one. The rest of the text stays as it
/// is, comments included. None: nothing differs, or the text is not the one that the cases were read from.
#[must_use]
pub fn update_cases(text: &str, cases: &Cases, tried: &[Tried]) -> Option<String> {
    let mut document: DocumentMut = text.parse().ok()?;
    let mut changed = false;
    for one in tried.iter().filter(|one| !one.differences.is_empty()) {
        // Settings that are refused are nothing that could be expected.
        if one.differences.iter().any(|difference| difference.key == "settings") {
            continue;
        }
        let case = case_mut(&mut document, one.index)?;
        let told = cases.cases.get(one.index)?.expect.as_ref();
        let keys: Vec<String> = match case.get("expect").and_then(Item::as_table_like) {
            Some(expect) => expect.iter().map(|(key, _)| key.to_owned()).collect(),
            None => Vec::new(),
        };
        let is_same_kind = told.is_some_and(|told| told.fault.is_some() == one.said.answer.is_err());
        match case.get_mut("expect").and_then(Item::as_table_like_mut).filter(|_| is_same_kind) {
            Some(expect) => {
                for key in keys {
                    if let Some(value) = seen(&one.said.answer, &key.replace('_', "-")) {
                        set(expect, &key, value);
                    }
                }
            }
            None => {
                let mut expect = InlineTable::new();
                for key in ["fault", "verdict", "code", "wake-after", "keep", "breaking"] {
                    if let Some(value) = seen(&one.said.answer, key).filter(|value| value.as_str() != Some("none")) {
                        expect.insert(key, value);
                    }
                }
                case.insert("expect", Item::Value(Value::InlineTable(expect)));
            }
        }
        changed = true;
    }
    changed.then(|| document.to_string())
}

/// Keeps the white space and the comment around a value.
fn set(expect: &mut dyn TableLike, key: &str, mut value: Value) {
    if let Some(before) = expect.get(key).and_then(Item::as_value) {
        *value.decor_mut() = before.decor().clone();
    }
    expect.insert(key, Item::Value(value));
}

fn case_mut(document: &mut DocumentMut, index: usize) -> Option<&mut dyn TableLike> {
    match document.get_mut("case")? {
        Item::ArrayOfTables(cases) => cases.get_mut(index).map(|case| case as &mut dyn TableLike),
        Item::Value(Value::Array(cases)) => {
            cases.get_mut(index).and_then(Value::as_inline_table_mut).map(|case| case as &mut dyn TableLike)
        }
        _ => None,
    }
}

/// What was seen under a key of `expect`; none: nothing of the kind.
fn seen(answer: &Result<Answer, Fault>, key: &str) -> Option<Value> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(fault) => return (key == "fault").then(|| fault.kind.clone().into()),
    };
    let period = |millis| humantime::format_duration(std::time::Duration::from_millis(millis)).to_string();
    match key {
        "verdict" => Some(answer.verdict.clone().into()),
        "code" => Some(answer.code.clone().into()),
        "reason" => Some(answer.reason.clone().into()),
        "wake-after" => Some(answer.wake_after.map_or("none".to_owned(), period).into()),
        "keep" => answer.keep.map(|millis| period(millis).into()),
        "breaking" => answer.breaking.as_ref().map(|fences| {
            let fences = fences.iter().filter_map(|fence| i64::try_from(*fence).ok());
            Value::Array(fences.collect::<Array>())
        }),
        // As the policy wrote it, in a text.
        "memory" => Some(String::from_utf8_lossy(&answer.memory).into_owned().into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use lockkeeper_cases::Cases;

    use super::*;
    use crate::author::Said;

    fn tried(text: &str, answers: Vec<Result<Answer, Fault>>) -> (Cases, Vec<Tried>) {
        let cases = Cases::parse(text).unwrap();
        let tried = answers.into_iter().enumerate().map(|(index, answer)| {
            let differences = match &cases.cases[index].expect {
                Some(expect) => expect.differences(&answer),
                None => {
                    vec![lockkeeper_cases::Difference { key: "expect", expected: String::new(), seen: String::new() }]
                }
            };
            let said = Said { answer, error: None, fuel: 0, memory: 0, took: Duration::ZERO, trace: Vec::new() };
            Tried { index, differences, said }
        });
        let tried = tried.collect();
        (cases, tried)
    }

    fn answer(verdict: &str, code: &str, wake_after: Option<u64>) -> Result<Answer, Fault> {
        Ok(Answer {
            verdict: verdict.to_owned(),
            breaking: None,
            keep: None,
            code: code.to_owned(),
            reason: String::new(),
            wake_after,
            memory: Vec::new(),
        })
    }

    #[test]
    fn what_was_seen_is_written_and_the_rest_stays() {
        let text = "# mine\n[[case]]\nname = 'a'   # first\nexpect = { verdict = 'lock', wake-after = 'none' } # ?\n\n\
                    [[case]]\nname = 'b'\n\n[[case]]\nname = 'c'\n[case.expect]\nverdict = 'lock'  # yes\n\n\
                    [[case]]\nname = 'd'\nexpect.verdict = 'lock'\n";
        let trap = Err(Fault { kind: "trap".to_owned(), message: String::new() });
        let (cases, tried) = tried(
            text,
            vec![answer("wait", "x", Some(90_000)), answer("hold", "y", None), answer("lock", "z", None), trap],
        );
        let updated = update_cases(text, &cases, &tried).unwrap();
        assert_eq!(
            updated,
            "# mine\n[[case]]\nname = 'a'   # first\nexpect = { verdict = \"wait\", wake-after = \"1m 30s\" } # ?\n\n\
             [[case]]\nname = 'b'\nexpect = { verdict = \"hold\", code = \"y\" }\n\n[[case]]\nname = 'c'\n[case.expect]\nverdict = 'lock'  # yes\n\n\
             [[case]]\nname = 'd'\nexpect = { fault = \"trap\" }\n"
        );
        Cases::parse(&updated).unwrap();
    }

    #[test]
    fn a_file_in_which_nothing_differs_is_left_alone() {
        let text = "[[case]]\nname = 'a'\nexpect.verdict = 'lock'\n";
        let (cases, tried) = tried(text, vec![answer("lock", "", None)]);
        assert_eq!(update_cases(text, &cases, &tried), None);
    }
}
