//! `lockkeeper policy test` and `decide` of an orchestration: plays in a made-up world.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockkeeper_cases::stage::{Ends, Judged, Play, Played, Plays, Spoken, World};
use lockkeeper_cases::{NOON, answer_told};
use serde_json::{Value, json};

use super::args::{DecideArgs, TestArgs};
use super::test::{beside, line_of};
use super::{accepted_by, settings_of};
use crate::author::{judge, play_once, read_plays, read_world};
use crate::cli::exit::{ErrorKind, Exit, Failure};
use crate::cli::output::{Output, of, problems_failure, shown};
use crate::files::{self, MAX_TEXT_BYTES};
use crate::policy::orchestration::Orchestration;
use crate::terminal;

/// Calls that are shown of a play that failed.
const MOST_SHOWN: usize = 60;

/// A file of plays that was read.
pub(super) struct PlaysFile {
    path: PathBuf,
    text: String,
    plays: Plays,
}

/// The files of plays that are named, else the one beside the orchestration where there is one.
pub(super) fn files(wasm: &str, named: &[PathBuf], output: &Output) -> Result<Vec<PlaysFile>, Failure> {
    beside(wasm, named, output).into_iter().map(read).collect()
}

fn read(path: PathBuf) -> Result<PlaysFile, Failure> {
    let text = text_of(&path, "cases")?;
    let plays = read_plays(&path.display().to_string(), &text)
        .map_err(|problems| Failure { kind: ErrorKind::BadArgument, ..problems_failure(&problems) })?;
    Ok(PlaysFile { path, text, plays })
}

fn text_of(path: &Path, what: &str) -> Result<String, Failure> {
    files::read_to_string(path, MAX_TEXT_BYTES).map_err(|error| {
        Failure::message(ErrorKind::BadArgument, format!("cannot read the {what} `{}`: {error}", path.display()))
    })
}

/// What came of a test.
pub(super) struct Tested {
    files: Vec<(PlaysFile, Vec<One>)>,
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
    match output.is_json() {
        true => output.json(&tested.json(orchestration)),
        false => output.data(&tested.sum()),
    }
    Ok(if tested.failures() == 0 { Exit::Done } else { Exit::Failed })
}

/// Plays every case, and once more for each of its calls.
pub(super) fn try_all(orchestration: &Orchestration, files: Vec<PlaysFile>) -> Result<Tested, Failure> {
    let mut all = Vec::with_capacity(files.len());
    for file in files {
        let mut judged = Vec::with_capacity(file.plays.plays.len());
        for play in &file.plays.plays {
            let refused = refused(orchestration, play)?;
            judged.push(One { judged: judge(orchestration, play), refused });
        }
        all.push((file, judged));
    }
    Ok(Tested { files: all })
}

/// What the orchestration has against a case's settings: no job with these would run.
fn refused(orchestration: &Orchestration, play: &Play) -> Result<Vec<String>, Failure> {
    let expects_failure =
        play.expect.as_ref().is_some_and(|expect| matches!(expect.ends, Some(Ends::GaveUp | Ends::Fault)));
    if expects_failure {
        return Ok(Vec::new());
    }
    Ok(super::complaints(orchestration.validate(&play.settings)?))
}

impl Tested {
    fn cases(&self) -> impl Iterator<Item = (&PlaysFile, &Play, &One)> {
        self.files.iter().flat_map(|(file, tried)| {
            let plays = file.plays.plays.iter().zip(tried);
            plays.map(move |(play, one)| (file, play, one))
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
        for (file, play, one) in self.cases() {
            let One { judged, refused } = one;
            let name = terminal::value(&play.name);
            if one.passed() {
                if all {
                    output.data(&format!("     ok  {name}"));
                }
                continue;
            }
            output.data(&format!(" FAILED  {name}  ({}:{})", file.path.display(), line_of(&file.text, &play.span)));
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
            let spoken = &judged.played.spoken;
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
        let cuts: usize = self.cases().map(|(.., one)| one.judged.played.spoken.len()).sum();
        format!(
            "{passed} of {} passed, each played whole and killed at each of its calls, {cuts} in all",
            of(all, "case")
        )
    }

    fn json(&self, orchestration: &Orchestration) -> Value {
        let cases = self.cases().map(|(file, play, one)| {
            let One { judged, refused } = one;
            let differences = judged.differences.iter().map(
                |difference| json!({ "key": difference.key, "expected": difference.expected, "seen": difference.seen }),
            );
            json!({
                "file": file.path,
                "line": line_of(&file.text, &play.span),
                "name": play.name,
                "passed": one.passed(),
                "differences": differences.collect::<Vec<_>>(),
                "settings": refused,
                "calls": judged.played.spoken.len(),
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
                "World",
                "empty: --view gives one, such as `targets = [\"db1\"]`, `semaphores.\"/locks/db\" = {}`",
            );
            (World::default(), String::new())
        }
    };
    let mut play = Play::new(world);
    if let Some(file) = &args.settings {
        play.settings = settings_of(file)?;
    }
    accepted_by(&orchestration.manifest().name, orchestration.validate(&play.settings)?, "these settings")?;
    let played = play.whole(&mut |entrance, stage| play_once(orchestration, entrance, stage));
    if let Some(name) = &args.case {
        output.source(&pasted(name, &text, &play, &played)?);
        return Ok(Exit::Done);
    }
    if output.is_json() {
        output.json(&in_json(&played));
    } else {
        for spoken in &played.spoken {
            output.data(&line(spoken));
        }
        let took = humantime::format_duration(Duration::from_millis(played.took)).to_string();
        output.data(&format!("{took:>7}  {}", terminal::value(&played.told())));
    }
    Ok(if played.is_fault() { Exit::PolicyFault } else { Exit::Done })
}

fn in_json(played: &Played) -> Value {
    let call = |Spoken { call, answer, since, answered }: &Spoken| {
        let mut object = json!(call);
        object["answer"] = answer["answer"].clone();
        object["is"] = answer["is"].clone();
        (object["since"], object["answered"]) = (json!(since - NOON), json!(answered - NOON));
        object
    };
    json!({
        "calls": played.spoken.iter().map(call).collect::<Vec<_>>(),
        "ends": played.ends().word(),
        "told": played.told(),
        "acted": played.acted(),
        "held": played.held,
        "took": played.took,
    })
}

/// The play as a case to paste.
fn pasted(name: &str, world: &str, play: &Play, played: &Played) -> Result<String, Failure> {
    let world: toml::Table = toml::from_str(world).unwrap_or_default();
    let calls: Vec<String> = played.spoken.iter().map(|spoken| spoken.call.to_string()).collect();
    let took = humantime::format_duration(Duration::from_millis(played.took)).to_string();
    let expect = json!({
        "ends": played.ends().word(), "calls": calls, "acted": played.acted(), "held": played.held, "took": took,
    });
    let case = json!({ "case": [{ "name": name, "settings": play.settings, "world": world, "expect": expect }] });
    toml::to_string_pretty(&case).map_err(|error| {
        Failure::message(ErrorKind::BadArgument, format!("these settings cannot be written as TOML: {error}"))
    })
}
