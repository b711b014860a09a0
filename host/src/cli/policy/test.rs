//! `lockkeeper policy test`: a policy's cases, and the properties that every policy has.

use std::path::Path;

use lockkeeper_cases::Cases;
use serde_json::{Value, json};

use super::case_files::{CasesFile, case_files};
use super::scenario;
use crate::author::{Broken, Looked, Search, Tried, case_text, look, try_cases, update_cases};
use crate::cli::args::{Global, TestArgs};
use crate::cli::load_policy::{OFFLINE_LIMITS, either};
use crate::policy::{Either, Module, PolicyError};
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::{Output, of, shown};
use lockkeeper_locks::terminal;

/// The longest case that is shown to people, in bytes.
const MAX_PASTED: usize = 4_000;

/// What came of a test.
pub(super) struct Tested {
    files: Vec<(CasesFile, Vec<Tried>)>,
    looked: Option<Looked>,
    search: Search,
}

pub(super) fn run(global: &Global, output: &Output, args: &TestArgs) -> Result<Exit, Failure> {
    let engine = global.engine_with(OFFLINE_LIMITS)?;
    let policy = match either(&engine, &args.policy)? {
        Either::Policy(policy) => policy,
        Either::Orchestration(orchestration) => return scenario::test(&orchestration, args, output),
    };
    let files = case_files(&args.policy, &args.cases, output)?;
    if args.update {
        return write(&policy, files, output);
    }
    let views = if args.no_properties { 0 } else { args.views };
    let tested = test(&policy, files, Search { views, seed: args.seed })?;
    tested.show(output);
    if output.is_json() {
        output.json(&tested.json(&policy))
    } else {
        output.data(&tested.sum())
    }
    Ok(if tested.failures() == 0 { Exit::Done } else { Exit::Failed })
}

/// Tries the cases, and looks for the properties unless no views are wanted.
pub(super) fn test(policy: &Module, files: Vec<CasesFile>, search: Search) -> Result<Tested, Failure> {
    let mut tried = Vec::with_capacity(files.len());
    for file in files {
        let of_file = try_cases(policy, &file.cases)?;
        tried.push((file, of_file));
    }
    let looked = match search.views {
        0 => None,
        _ => {
            let cases: Vec<Cases> = tried.iter().map(|(file, _)| file.cases.clone()).collect();
            let looked = look(policy, &cases, search).map_err(|why| {
                Failure::message(ErrorKind::BadArgument, why)
                    .hint("name a file of cases, or leave the properties out with --no-properties")
            });
            Some(looked?)
        }
    };
    Ok(Tested { files: tried, looked, search })
}

/// `--update`.
fn write(policy: &Module, files: Vec<CasesFile>, output: &Output) -> Result<Exit, Failure> {
    if files.is_empty() {
        return Err(Failure::message(ErrorKind::BadArgument, "--update needs a file of cases").hint(
            "begin one: a `[[case]]` with a `name` and a `view`; `lockkeeper policy views` shows what a view has",
        ));
    }
    for file in files {
        let tried = try_cases(policy, &file.cases)?;
        for one in tried.iter().filter(|one| one.differences.iter().any(|difference| difference.key == "settings")) {
            let name = &file.cases.cases[one.index].name;
            output.warn(&format!(
                "{}:{}: {}: its settings are refused; left as it is",
                file.path.display(),
                file.line(one.index),
                terminal::value(name)
            ));
        }
        match update_cases(&file.text, &file.cases, &tried) {
            None => output.talk("Unchanged", &file.path.display().to_string()),
            Some(text) => {
                replace(&file.path, &text)?;
                let changed = tried.iter().filter(|one| !one.differences.is_empty()).count();
                output.talk(
                    "Updated",
                    &format!("{}: {}; read them before you keep them", file.path.display(), of(changed, "case")),
                );
            }
        }
    }
    Ok(Exit::Done)
}

/// Writes a file anew: a reader sees the old or the new one, whole.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let temporary = path.with_extension(format!("{}.tmp", uuid::Uuid::new_v4().simple()));
    let written = std::fs::write(&temporary, text).and_then(|()| std::fs::rename(&temporary, path));
    written.map_err(|error| {
        let _ = std::fs::remove_file(&temporary);
        Failure::message(ErrorKind::Io, format!("cannot write `{}`: {error}", path.display()))
    })
}

impl Tested {
    /// How many cases failed, and how many properties do not hold.
    pub(super) fn failures(&self) -> usize {
        self.cases().filter(|(.., one)| !one.differences.is_empty()).count() + self.broken().len()
    }

    fn broken(&self) -> &[Broken] {
        self.looked.as_ref().map_or(&[], |looked| &looked.broken)
    }

    fn cases(&self) -> impl Iterator<Item = (&CasesFile, &Tried)> {
        self.files.iter().flat_map(|(file, tried)| tried.iter().map(move |one| (file, one)))
    }

    /// What failed, and how; the rest in a line each.
    fn show(&self, output: &Output) {
        if output.is_json() {
            return;
        }
        for (file, one) in self.cases().filter(|(.., one)| one.differences.is_empty()) {
            output.data(&format!("     ok  {}", terminal::value(&file.cases.cases[one.index].name)));
        }
        if let Some(looked) = &self.looked {
            for property in &looked.held {
                output.data(&format!("     ok  {}: {}", property.name(), property.promise()));
            }
            for (property, why) in &looked.left_out {
                output.data(&format!("left out {}: {}", property.name(), terminal::value(why)));
            }
        }
        self.show_failures(output);
    }

    /// What failed, and how.
    pub(super) fn show_failures(&self, output: &Output) {
        if output.is_json() {
            return;
        }
        for (file, one) in self.cases().filter(|(.., one)| !one.differences.is_empty()) {
            let name = terminal::value(&file.cases.cases[one.index].name);
            output.data(&format!(" FAILED  {name}  ({}:{})", file.path.display(), file.line(one.index)));
            for difference in &one.differences {
                output.data(&format!(
                    "         {}: expected {}, seen {}",
                    difference.key,
                    shown(&difference.expected),
                    terminal::value(&difference.seen)
                ));
            }
            if let Ok(answer) = &one.said.answer {
                output.data(&format!("         it said: {}", terminal::value(&answer.reason)));
            }
            if let Some(PolicyError::Trap { backtrace, .. }) = &one.said.error {
                for frame in backtrace {
                    output.data(&format!("           at {frame}"));
                }
            }
            for line in &one.said.trace {
                output.data(&format!("         {}: {}", line.level, line.message));
            }
        }
        let Some(looked) = &self.looked else { return };
        for broken in &looked.broken {
            output.data(&format!(" FAILED  {}: {}", broken.property.name(), broken.property.promise()));
            output.data(&format!("         {}", terminal::value(&broken.why)));
            let case = pasted(broken);
            if case.len() > MAX_PASTED {
                output.data(&format!("         {}; as JSON the view is shown, too", broken.property.remedy()));
                continue;
            }
            output.data(&format!(
                "         {}; the smallest view found, to paste into a file of cases:",
                broken.property.remedy()
            ));
            output.data("");
            for line in case.lines() {
                output.source(&format!("    {line}\n"));
            }
            output.data("");
        }
    }

    /// One line.
    pub(super) fn sum(&self) -> String {
        let all = self.cases().count();
        let passed = self.cases().filter(|(.., one)| one.differences.is_empty()).count();
        let cases = match all {
            0 => "no cases".to_owned(),
            _ => format!("{passed} of {} passed", of(all, "case")),
        };
        match &self.looked {
            None => format!("{cases}; no properties looked for"),
            Some(looked) => format!(
                "{cases}; {} of {} hold over {} decisions (seed {}){}",
                looked.held.len(),
                properties(looked.held.len() + looked.broken.len()),
                looked.decisions,
                self.search.seed,
                match looked.cut_short {
                    Some(views) => format!("; it burns so much that this was enough after {}", of(views, "view")),
                    None => String::new(),
                }
            ),
        }
    }

    pub(super) fn json(&self, policy: &Module) -> Value {
        let cases = self.cases().map(|(file, one)| {
            let differences = one.differences.iter().map(
                |difference| json!({ "key": difference.key, "expected": difference.expected, "seen": difference.seen }),
            );
            json!({
                "file": file.path,
                "line": file.line(one.index),
                "name": file.cases.cases[one.index].name,
                "passed": one.differences.is_empty(),
                "differences": differences.collect::<Vec<_>>(),
                "fuel": one.said.fuel,
            })
        });
        let mut properties: Vec<Value> = Vec::new();
        if let Some(looked) = &self.looked {
            properties.extend(looked.held.iter().map(|property| json!({ "name": property.name(), "holds": true })));
            properties.extend(
                looked.left_out.iter().map(|(property, why)| json!({ "name": property.name(), "left-out": why })),
            );
            properties.extend(looked.broken.iter().map(|broken| {
                json!({
                    "name": broken.property.name(),
                    "holds": false,
                    "why": broken.why,
                    "help": broken.property.remedy(),
                    "case": pasted(broken),
                })
            }));
        }
        json!({
            "policy": policy.manifest().name,
            "sha256": policy.digest(),
            "cases": cases.collect::<Vec<_>>(),
            "properties": properties,
            "decisions": self.looked.as_ref().map(|looked| looked.decisions),
            "seed": self.search.seed,
            "cut-short-after": self.looked.as_ref().and_then(|looked| looked.cut_short),
            "failures": self.failures(),
        })
    }
}

fn pasted(broken: &Broken) -> String {
    let name = format!("{}: {}", broken.property.name(), broken.why);
    case_text(&name, &broken.question, broken.answer.as_ref())
}

fn properties(number: usize) -> String {
    if number == 1 { "1 property".to_owned() } else { format!("{number} properties") }
}
