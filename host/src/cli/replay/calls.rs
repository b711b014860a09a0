//! The calls of a run's orchestration, made again.

use std::path::Path;

use serde_json::{Value, json};

use crate::audit::replay::{CallDifference, ReplayedCalls, Script, replay_calls};
use crate::audit::{History, Page, Segments, Want};
use crate::cli::history_report::untrusted;
use crate::cli::runs;
use crate::policy::orchestration::Orchestration;
use crate::policy::{Engine, PolicyError};
use crate::rollout::journal::RecordedOrchestration;
use crate::rollout::model::Event;
use lockkeeper_locks::cli::exit::{ErrorKind, Failure};
use lockkeeper_locks::cli::output::{Output, of};
use lockkeeper_locks::terminal;

/// The calls of one runner epoch, and how they compare.
struct Again {
    runner_epoch: u32,
    recorded: usize,
    recalled: ReplayedCalls,
}

/// What came of all of them.
pub(super) struct Calls {
    name: String,
    digest: String,
    is_own: bool,
    segments: Vec<Again>,
}

/// Repeats the calls of every runner epoch whose journal is here, with the orchestration of the run or with another. `None` if
/// the run has none.
pub(super) fn again(segments: &Segments, engine: &Engine, named: Option<&Path>) -> Result<Option<Calls>, Failure> {
    let mut history = History::new(segments.clone(), Want::Everything);
    let mut scripts: Vec<(u32, RecordedOrchestration, Script)> = Vec::new();
    while let Some(page) = history.page().map_err(untrusted)? {
        match page {
            Page::Segment(header) => {
                let Some(orchestrated) = &header.orchestration else { return Ok(None) };
                scripts.push((header.runner_epoch, orchestrated.clone(), Script::default()));
            }
            Page::Event(stamped) => {
                let Some((.., script)) = scripts.last_mut() else { continue };
                match stamped.event {
                    Event::CallStarted { call, .. } => script.waiting = Some(call),
                    Event::CallAnswered { called } | Event::CallReplayed { called } => {
                        script.waiting = None;
                        script.called.push(called);
                    }
                    _ => {}
                }
            }
            Page::Decision(_) => {}
        }
    }
    let Some((_, first, _)) = scripts.first() else { return Ok(None) };
    let orchestration = match named {
        Some(file) => engine
            .load_orchestration_file(file, None)
            .map_err(|error| Failure::message(ErrorKind::BadArgument, error.of_orchestration()))?,
        None => own(engine, first, &segments.folder)?,
    };
    let is_own = orchestration.digest() == first.digest;
    let made = scripts.iter().map(|(runner_epoch, orchestrated, script)| Again {
        runner_epoch: *runner_epoch,
        recorded: script.called.len(),
        recalled: replay_calls(&orchestration, orchestrated, script),
    });
    let segments = made.collect();
    let name = orchestration.manifest().name.clone();
    Ok(Some(Calls { name, digest: orchestration.digest().to_owned(), is_own, segments }))
}

/// The orchestration of the run: a run has one.
fn own(engine: &Engine, orchestrated: &RecordedOrchestration, folder: &Path) -> Result<Orchestration, Failure> {
    let RecordedOrchestration { name, digest, .. } = orchestrated;
    let kept = runs::policy_file(folder, digest);
    if !(digest.bytes().all(|byte| byte.is_ascii_hexdigit()) && kept.exists()) {
        let text = format!(
            "the run's orchestration is missing: the SHA-256 of its `{}` is {}",
            terminal::value(name),
            terminal::value(digest)
        );
        return Err(Failure::message(ErrorKind::BadArgument, text).hint("select its file with `--orchestration FILE`"));
    }
    engine.load_orchestration_file(&kept, Some(digest)).map_err(|error| match error {
        PolicyError::WrongDigest { found, .. } => {
            let text = format!(
                "the orchestration saved with the run was changed: the SHA-256 of `{}` is {found}, the journal has \
                 {digest}",
                kept.display()
            );
            Failure::message(ErrorKind::BadJournal, text).hint("select an unchanged copy with `--orchestration FILE`")
        }
        error => error.into(),
    })
}

impl Calls {
    /// Whether some call is another one.
    pub(super) fn differ(&self) -> bool {
        self.segments.iter().any(|runner_epoch| runner_epoch.recalled.difference.is_some())
    }

    pub(super) fn json(&self) -> Value {
        let runner_epoch =
            |Again { runner_epoch, recorded, recalled: ReplayedCalls { identical, difference, then } }: &Again| {
                let difference = difference.as_ref().map(|CallDifference { number, recorded, again }| {
                json!({ "number": number, "journal": recorded.to_string(), "replay": again.to_string() })
            });
                json!({
                    "runner-epoch": runner_epoch, "calls": recorded, "identical": identical, "difference": difference,
                    "then": then.to_string(),
                })
            };
        json!({
            "name": self.name,
            "sha256": self.digest,
            "own": self.is_own,
            "runner-epochs": self.segments.iter().map(runner_epoch).collect::<Vec<_>>(),
        })
    }

    pub(super) fn show(&self, output: &Output) {
        let whose = if self.is_own { "the run's own" } else { "as given" };
        output.talk(
            "Calls",
            &format!("of orchestration {}, {whose}, SHA-256 {}", terminal::value(&self.name), self.digest),
        );
        for Again { runner_epoch, recorded, recalled: ReplayedCalls { identical, difference, then } } in &self.segments
        {
            let at = if self.segments.len() == 1 { String::new() } else { format!(" of runner epoch {runner_epoch}") };
            match difference {
                None => {
                    let all = of(*recorded, "call");
                    output.data(&format!(
                        "Replayed {all}{at}: {identical} of {recorded} identical; then {}",
                        terminal::value(&then.to_string())
                    ));
                }
                Some(CallDifference { number, recorded, again }) => output.block(&format!(
                    "Call {number}{at} differs\n  journal  {}\n  replay   {}",
                    terminal::value(&recorded.to_string()),
                    terminal::value(&again.to_string())
                )),
            }
        }
    }
}
