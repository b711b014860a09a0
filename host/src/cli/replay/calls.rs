//! The calls of a run's orchestration, made again.

use std::path::Path;

use serde_json::{Value, json};

use super::distrusted;
use crate::cli::exit::{ErrorKind, Failure};
use crate::cli::output::{Output, of};
use crate::cli::runs;
use crate::policy::orchestration::Orchestration;
use crate::policy::{Engine, PolicyError};
use crate::rollout::Event;
use crate::rollout::journal::{Orchestrated, Page, Stints, Story, Want};
use crate::rollout::replay::{Otherwise, Recalled, Script, recall};
use crate::terminal;

/// A stint's calls, and what came of them.
struct Again {
    stint: u32,
    recorded: usize,
    recalled: Recalled,
}

/// What came of all of them.
pub(super) struct Calls {
    name: String,
    digest: String,
    is_own: bool,
    stints: Vec<Again>,
}

/// Makes the calls of every stint that is here again, with the run's own orchestration or with another; none: the run has
/// none.
pub(super) fn again(stints: &Stints, engine: &Engine, named: Option<&Path>) -> Result<Option<Calls>, Failure> {
    let mut story = Story::new(stints.clone(), Want::Everything);
    let mut scripts: Vec<(u32, Orchestrated, Script)> = Vec::new();
    while let Some(page) = story.page().map_err(|error| distrusted(error, None))? {
        match page {
            Page::Stint(header) => {
                let Some(orchestrated) = &header.orchestration else { return Ok(None) };
                scripts.push((header.stint, orchestrated.clone(), Script::default()));
            }
            Page::Event(stamped) => {
                let Some((.., script)) = scripts.last_mut() else { continue };
                match stamped.event {
                    Event::Calling { call, .. } => script.waiting = Some(call),
                    Event::Answered { called } | Event::Recalled { called } => {
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
        None => own(engine, first, &stints.folder)?,
    };
    let is_own = orchestration.digest() == first.digest;
    let made = scripts.iter().map(|(stint, orchestrated, script)| Again {
        stint: *stint,
        recorded: script.called.len(),
        recalled: recall(&orchestration, orchestrated, script),
    });
    let stints = made.collect();
    let name = orchestration.manifest().name.clone();
    Ok(Some(Calls { name, digest: orchestration.digest().to_owned(), is_own, stints }))
}

/// The orchestration of the run: a run has one.
fn own(engine: &Engine, orchestrated: &Orchestrated, folder: &Path) -> Result<Orchestration, Failure> {
    let Orchestrated { name, digest, .. } = orchestrated;
    let kept = runs::policy_file(folder, digest);
    if !(digest.bytes().all(|byte| byte.is_ascii_hexdigit()) && kept.exists()) {
        let text = format!(
            "the run's orchestration is not there: the sha256 of its `{}` is {}",
            terminal::value(name),
            terminal::value(digest)
        );
        return Err(Failure::message(ErrorKind::BadArgument, text).hint("`--orchestration FILE` names its file"));
    }
    engine.load_orchestration_file(&kept, Some(digest)).map_err(|error| match error {
        PolicyError::WrongDigest { found, .. } => {
            let text = format!(
                "the orchestration kept with the run was changed: the sha256 of `{}` is {found}, the journal says {digest}",
                kept.display()
            );
            Failure::message(ErrorKind::BadJournal, text)
                .hint("`--orchestration FILE` names a file that is still the same")
        }
        error => error.into(),
    })
}

impl Calls {
    /// Whether some call is another one.
    pub(super) fn differ(&self) -> bool {
        self.stints.iter().any(|stint| stint.recalled.difference.is_some())
    }

    pub(super) fn json(&self) -> Value {
        let stint = |Again { stint, recorded, recalled: Recalled { identical, difference, then } }: &Again| {
            let difference = difference.as_ref().map(|Otherwise { number, recorded, again }| {
                json!({ "number": number, "journal": recorded.to_string(), "replay": again.to_string() })
            });
            json!({
                "stint": stint, "calls": recorded, "identical": identical, "difference": difference,
                "then": then.to_string(),
            })
        };
        json!({
            "name": self.name,
            "sha256": self.digest,
            "own": self.is_own,
            "stints": self.stints.iter().map(stint).collect::<Vec<_>>(),
        })
    }

    pub(super) fn show(&self, output: &Output) {
        let whose = if self.is_own { "the run's own" } else { "as you say" };
        output.talk(
            "Calls",
            &format!("of orchestration {}, {whose}, sha256 {}", terminal::value(&self.name), self.digest),
        );
        for Again { stint, recorded, recalled: Recalled { identical, difference, then } } in &self.stints {
            let at = if self.stints.len() == 1 { String::new() } else { format!(" of stint {stint}") };
            match difference {
                None => {
                    let all = of(*recorded, "call");
                    output.data(&format!(
                        "Made {all}{at} again: {identical} of {recorded} identical; then {}",
                        terminal::value(&then.to_string())
                    ));
                }
                Some(Otherwise { number, recorded, again }) => output.block(&format!(
                    "Call {number}{at} differs\n  journal  {}\n  replay   {}",
                    terminal::value(&recorded.to_string()),
                    terminal::value(&again.to_string())
                )),
            }
        }
    }
}
