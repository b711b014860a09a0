//! The problems of a file as a failure: each with its place and the lines around it.

use miette::{Diagnostic, GraphicalReportHandler, GraphicalTheme};
use serde_json::json;

use super::exit::{ErrorKind, Failure};
use super::sink;
use crate::toml_reader::{Problem, Problems};

/// A failure that shows all of a job's problems, each with its place, and at last how many there are.
pub fn problems_failure(problems: &Problems) -> Failure {
    Failure {
        rendered: Some(rendered(problems.problems())),
        more: Some(json!({ "problems": problems.problems() })),
        ..Failure::message(ErrorKind::BadJob, problems.to_string())
    }
}

/// Problems as people read them, with the lines that they are in.
fn rendered(problems: &[Problem]) -> String {
    let theme = if sink::is_stderr_terminal() && std::env::var_os("NO_COLOR").is_none() {
        GraphicalTheme::unicode()
    } else {
        GraphicalTheme::unicode_nocolor()
    };
    let handler = GraphicalReportHandler::new_themed(theme).with_width(110);
    let one = |problem: &Problem| {
        let problem = &problem.for_terminal();
        let mut text = String::new();
        match problem.source_code().map(|_| handler.render_report(&mut text, problem)) {
            Some(Ok(())) => text,
            // Without the lines around it, the place must be said.
            _ => {
                let help = problem.help.iter().map(|help| format!("  help: {help}\n"));
                format!("  × {}: {problem}\n{}", problem.place, help.collect::<String>())
            }
        }
    };
    problems.iter().map(one).collect::<Vec<_>>().join("\n")
}
