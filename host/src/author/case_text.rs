//! A question as a case in TOML, to paste into a file of cases.

use std::fmt::Write;

use lockkeeper_cases::{Answer, difference};
use serde_json::{Value, json};

use super::Question;
use super::sample_views::inline;

/// A case that asks `question`, and expects `answer` where there is one. `name` says what must be so.
#[must_use]
pub fn case_text(name: &str, question: &Question, answer: Option<&Answer>) -> String {
    let mut text = String::from("[[case]]\n");
    let _ = writeln!(text, "name = {}", inline(&name.into()));
    let whole = serde_json::to_value(&question.view).unwrap_or(Value::Null);
    let told = difference(&whole);
    for (key, value) in told.as_object().into_iter().flatten() {
        let _ = writeln!(text, "view.{key} = {}", inline(value));
    }
    if question.settings != json!({}) {
        let _ = writeln!(text, "settings = {}", inline(&question.settings));
    }
    if let Some(outcome) = &question.outcome {
        let took = humantime::format_duration(std::time::Duration::from_millis(outcome.took)).to_string();
        let code = outcome.exit_code.map_or(json!("none"), |code| json!(code));
        let told =
            json!({ "ending": outcome.ending.word(), "exit-code": code, "took": took, "attempt": outcome.attempt });
        let _ = writeln!(text, "outcome = {}", inline(&told));
    }
    if !question.memory.is_empty() {
        let memory = String::from_utf8_lossy(&question.memory);
        let _ = writeln!(text, "memory = {}", inline(&json!(memory)));
    }
    if let Some(answer) = answer {
        let _ = writeln!(text, "expect = {}", inline(&json!({ "verdict": answer.verdict, "code": answer.code })));
    }
    text
}

#[cfg(test)]
mod tests {
    use lockkeeper_cases::Cases;

    use super::*;
    use crate::author::sample_view;
    use crate::policy::types::{Ending, Outcome};

    #[test]
    fn what_is_pasted_asks_the_same() {
        let question = Question {
            settings: json!({ "people": 2, "racks": ["a"] }),
            view: sample_view(),
            outcome: Some(Outcome { ending: Ending::TimedOut, exit_code: None, took: 1_500, attempt: 2 }),
            memory: br#"{"a":1}"#.to_vec(),
        };
        let text = case_text("a \"quoted\" name", &question, None);
        let cases = Cases::parse(&text).unwrap_or_else(|problems| panic!("{problems:?}\n{text}"));
        assert_eq!(crate::author::cases::question(&cases.cases[0], question.memory.clone()), question);
        assert_eq!(cases.cases[0].memory, lockkeeper_cases::Memory::Told(question.memory.clone()));
    }
}
