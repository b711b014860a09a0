//! Plays of an orchestration: read from a file, and played in its sandbox.

use lockkeeper_cases::simulation::{Entrance, Fleet, Judged, Outcome, Scenario, ScenarioFile, Simulation};
use serde_json::Value;

use super::cases::problems;
use crate::policy::PolicyError;
use crate::policy::orchestration::{Answered, Beginning, Orchestration};
use lockkeeper_locks::toml_reader::Problems;

/// Reads a file of plays; `name` is what messages call it.
///
/// # Errors
/// Everything that is wrong with it, each with its place.
pub fn read_scenarios(name: &str, text: &str) -> Result<ScenarioFile, Problems> {
    ScenarioFile::parse(text).map_err(|found| problems("file of cases", name, text, found))
}

/// Reads a world alone.
///
/// # Errors
/// Likewise.
pub fn read_world(name: &str, text: &str) -> Result<Fleet, Problems> {
    Fleet::parse(text).map_err(|found| problems("world", name, text, found))
}

/// Plays it whole, and cut off at each of its calls.
#[must_use]
pub fn judge(orchestration: &Orchestration, scenario: &Scenario) -> Judged {
    scenario.judge(&mut |entrance, simulation| run(orchestration, entrance, simulation))
}

/// Runs a guest in its sandbox, answered by the simulation.
pub fn run(orchestration: &Orchestration, entrance: &Entrance, simulation: &mut Simulation) -> Outcome {
    let beginning = Beginning {
        settings: entrance.settings.to_string(),
        state: entrance.state.clone(),
        targets: parsed(&entrance.targets),
        now: entrance.now,
    };
    let done = orchestration.answered(beginning, |call| {
        // Without an answer the guest ends; why is the simulation's to say.
        let (given, at) = simulation.call(call.clone())?;
        match serde_json::from_value(given) {
            Ok(answer) => Some(Answered { answer, at }),
            Err(_) => {
                simulation.unfit(call);
                None
            }
        }
    });
    match done {
        Ok(()) => Outcome::Succeeded,
        Err(PolicyError::GaveUp { message }) => Outcome::GaveUp(message),
        Err(error) => Outcome::Fault { kind: error.kind().to_owned(), message: error.of_orchestration() },
    }
}

fn parsed<T: serde::de::DeserializeOwned>(json: &Value) -> T {
    serde_json::from_value(json.clone()).expect("a world's targets have the contract's shape")
}
