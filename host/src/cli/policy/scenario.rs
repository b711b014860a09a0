//! `lockkeeper policy test` and `decide` of an orchestration: plays in a made-up world.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockkeeper_cases::simulation::{Ends, Fleet, Judged, Scenario, ScenarioFile, ScenarioResult, Spoken};
use lockkeeper_cases::{NOON, answer_told};
use serde_json::{Value, json};

use super::case_files::{beside, line_of};
use crate::author::{judge, read_scenarios, read_world, run_scenario_once};
use crate::cli::args::{DecideArgs, TestArgs};
use crate::cli::load_policy::{accepted_by, complaints, settings_of};
use crate::policy::orchestration::Orchestration;
use lockkeeper_coordination::files::{self, MAX_TEXT_BYTES};
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::{Output, of, shown};
use lockkeeper_locks::cli::problems::problems_failure;
use lockkeeper_locks::terminal;

/// Calls that are shown of a play that failed.
const MOST_SHOWN: usize = 60;

/// A file of plays that was read.
pub(super) struct TestedScenarios {
    path: PathBuf,
    text: String,
    scenarios: ScenarioFile,
}

/// The files of plays that are named, else the one beside the orchestration where there is one.
pub(super) fn files(wasm: &str, named: &[PathBuf], output: &Output) -> Result<Vec<TestedScenarios>, Failure> {
    beside(wasm, named, output).into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Result<TestedScenarios, Failure> {
    let text = text_of(&path, "cases")?;
    let scenarios = read_scenarios(&path.display().to_string(), &text)
        .map_err(|problems| Failure { kind: ErrorKind::BadArgument, ..problems_failure(&problems) })?;
    Ok(TestedScenarios { path, text, scenarios })
}

fn text_of(path: &Path, what: &str) -> Result<String, Failure> {
    files::read_to_string(path, MAX_TEXT_BYTES).map_err(|error| {
        Failure::message(ErrorKind::BadArgument, format!("cannot read the {what} `{}`: {error}", path.display()))
    })
}

/// What came of a test.
pub(super) struct Tested {
    files: Vec<(TestedScenarios, Vec<One>)>,
}

/// A case that was played.
struct One {
    judged: Judged,
    /// What the orchestration has against its settings.
    refused: Vec<String>,
}

impl One {
    fn passed(&self) -> bool {
        self.judged.differences.is_empty() && self.refused.is_empty()
    }
}

pub(super) fn test(orchestration: &Orchestration, args: &TestArgs, output: &Output) -> Result<Exit, Failure> {
    if args.update {
        return Err(Failure::message(
            ErrorKind::BadArgument,
            "--update writes what a policy answers, and this is an orchestration",
        )
        .hint("`lockkeeper policy decide FILE --view WORLD --case NAME` prints a case as it is played"));
    }
    let tested = try_all(orchestration, files(&args.policy, &args.cases, output)?)?;
    tested.show(output, true);
    if output.is_json() {
        output.json(&tested.json(orchestration))
    } else {
        output.data(&tested.sum())
    }
    Ok(if tested.failures() == 0 { Exit::Done } else { Exit::Failed })
}

/// Plays every case, and once more for each of its calls.
pub(super) fn try_all(orchestration: &Orchestration, files: Vec<TestedScenarios>) -> Result<Tested, Failure> {
    let mut all = Vec::with_capacity(files.len());
    for file in files {
        let mut judged = Vec::with_capacity(file.scenarios.scenarios.len());
        for scenario in &file.scenarios.scenarios {
            let refused = refused(orchestration, scenario)?;
            judged.push(One { judged: judge(orchestration, scenario), refused });
        }
        all.push((file, judged));
    }
    Ok(Tested { files: all })
}

/// What the orchestration has against a case's settings: no job with these would run.
fn refused(orchestration: &Orchestration, scenario: &Scenario) -> Result<Vec<String>, Failure> {
    let expects_failure =
        scenario.expect.as_ref().is_some_and(|expect| matches!(expect.ends, Some(Ends::GaveUp | Ends::Fault)));
    if expects_failure {
        return Ok(Vec::new());
    }
    Ok(complaints(orchestration.validate(&scenario.settings)?))
}

impl Tested {
    fn cases(&self) -> impl Iterator<Item = (&TestedScenarios, &Scenario, &One)> {
        self.files.iter().flat_map(|(file, tried)| {
            let scenarios = file.scenarios.scenarios.iter().zip(tried);
            scenarios.map(move |(scenario, one)| (file, scenario, one))
        })
    }

    /// How many cases failed.
    pub(super) fn failures(&self) -> usize {
        self.cases().filter(|(.., one)| !one.passed()).count()
    }

    /// What failed, and how; the rest in a line each if that is wanted.
    pub(super) fn show(&self, output: &Output, all: bool) {
        if output.is_json() {
            return;
        }
        for (file, scenario, one) in self.cases() {
            let One { judged, refused } = one;
            let name = terminal::value(&scenario.name);
            if one.passed() {
                if all {
                    output.data(&format!("     ok  {name}"));
                }
                continue;
            }
            output.data(&format!(" FAILED  {name}  ({}:{})", file.path.display(), line_of(&file.text, &scenario.span)));
            for complaint in refused {
                output.data(&format!("         settings: {}", terminal::value(complaint)));
            }
            for difference in &judged.differences {
                output.data(&format!(
                    "         {}: expected {}, seen {}",
                    difference.key,
                    shown(&difference.expected),
                    terminal::value(&difference.seen)
                ));
            }
            let spoken = &judged.result.spoken;
            for one in spoken.iter().take(MOST_SHOWN) {
                output.data(&format!("           {}", line(one)));
            }
            if spoken.len() > MOST_SHOWN {
                output.data(&format!("           and {}", of(spoken.len() - MOST_SHOWN, "more call")));
            }
        }
    }

    /// One line.
    pub(super) fn sum(&self) -> String {
        let all = self.cases().count();
        if all == 0 {
            return "no cases".to_owned();
        }
        let passed = self.cases().filter(|(.., one)| one.passed()).count();
        let cuts: usize = self.cases().map(|(.., one)| one.judged.result.spoken.len()).sum();
        format!(
            "{passed} of {} passed, each played whole and killed at each of its calls, {cuts} in all",
            of(all, "case")
        )
    }

    fn json(&self, orchestration: &Orchestration) -> Value {
        let cases = self.cases().map(|(file, scenario, one)| {
            let One { judged, refused } = one;
            let differences = judged.differences.iter().map(
                |difference| json!({ "key": difference.key, "expected": difference.expected, "seen": difference.seen }),
            );
            json!({
                "file": file.path,
                "line": line_of(&file.text, &scenario.span),
                "name": scenario.name,
                "passed": one.passed(),
                "differences": differences.collect::<Vec<_>>(),
                "settings": refused,
                "calls": judged.result.spoken.len(),
            })
        });
        json!({
            "orchestration": orchestration.manifest().name,
            "sha256": orchestration.digest(),
            "cases": cases.collect::<Vec<_>>(),
            "failures": self.failures(),
        })
    }
}

/// As ` 30s  lock /locks/db → held, fence 101`.
fn line(Spoken { call, answer, answered, .. }: &Spoken) -> String {
    let at = humantime::format_duration(Duration::from_millis(answered.saturating_sub(NOON))).to_string();
    terminal::line(&format!("{at:>7}  {call} → {}", answer_told(answer)))
}

/// Plays it once in a world, and shows what it calls.
pub(super) fn decide(orchestration: &Orchestration, args: &DecideArgs, output: &Output) -> Result<Exit, Failure> {
    let foreign =
        [("--from", args.from.is_some()), ("--ending", args.ending.is_some()), ("--memory", args.memory.is_some())];
    if let Some((flag, _)) = foreign.iter().find(|(_, given)| *given) {
        return Err(Failure::message(
            ErrorKind::BadArgument,
            format!("{flag} is for policies, and this is an orchestration"),
        )
        .hint(
            "`--view` gives the world in which it is played; `lockkeeper replay RUN` calls again what a run called",
        ));
    }
    let (world, text) = match &args.view {
        Some(file) => {
            let text = text_of(file, "world")?;
            let world = read_world(&file.display().to_string(), &text)
                .map_err(|problems| Failure { kind: ErrorKind::BadArgument, ..problems_failure(&problems) })?;
            (world, text)
        }
        None => {
            output.talk(
                "Fleet",
                "empty: --view gives one, such as `targets = [\"db1\"]`, `semaphores.\"/locks/db\" = {}`",
            );
            (Fleet::default(), String::new())
        }
    };
    let mut scenario = Scenario::new(world);
    if let Some(file) = &args.settings {
        scenario.settings = settings_of(file)?;
    }
    accepted_by(&orchestration.manifest().name, orchestration.validate(&scenario.settings)?, "these settings")?;
    let result = scenario.whole(&mut |entrance, simulation| run_scenario_once(orchestration, entrance, simulation));
    if let Some(name) = &args.case {
        output.source(&pasted(name, &text, &scenario, &result)?);
        return Ok(Exit::Done);
    }
    if output.is_json() {
        output.json(&in_json(&result));
    } else {
        for spoken in &result.spoken {
            output.data(&line(spoken));
        }
        let took = humantime::format_duration(Duration::from_millis(result.took)).to_string();
        output.data(&format!("{took:>7}  {}", terminal::value(&result.told())));
    }
    Ok(if result.is_fault() { Exit::PolicyFault } else { Exit::Done })
}

fn in_json(result: &ScenarioResult) -> Value {
    let call = |Spoken { call, answer, since, answered }: &Spoken| {
        let mut object = json!(call);
        object["answer"] = answer["answer"].clone();
        object["is"] = answer["is"].clone();
        (object["since"], object["answered"]) = (json!(since - NOON), json!(answered - NOON));
        object
    };
    json!({
        "calls": result.spoken.iter().map(call).collect::<Vec<_>>(),
        "ends": result.ends().word(),
        "told": result.told(),
        "acted": result.acted(),
        "held": result.held,
        "took": result.took,
    })
}

/// The play as a case to paste.
fn pasted(name: &str, world: &str, scenario: &Scenario, result: &ScenarioResult) -> Result<String, Failure> {
    let world: toml::Table = toml::from_str(world).unwrap_or_default();
    let calls: Vec<String> = result.spoken.iter().map(|spoken| spoken.call.to_string()).collect();
    let took = humantime::format_duration(Duration::from_millis(result.took)).to_string();
    let expect = json!({
        "ends": result.ends().word(), "calls": calls, "acted": result.acted(), "held": result.held, "took": took,
    });
    let case = json!({ "case": [{ "name": name, "settings": scenario.settings, "world": world, "expect": expect }] });
    toml::to_string_pretty(&case).map_err(|error| {
        Failure::message(ErrorKind::BadArgument, format!("these settings cannot be written as TOML: {error}"))
    })
}
