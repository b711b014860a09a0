//! Replays an orchestration's calls: runs the guest of a runner epoch again with the recorded answers.

use crate::policy::PolicyError;
use crate::policy::orchestration::{Answer, Answered, Beginning, Call, Orchestration};
use crate::rollout::journal::RecordedOrchestration;
use crate::rollout::model::Called;

/// The calls of an orchestration in one runner epoch, as recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// The answered calls in order, including those that were answered before this epoch.
    pub called: Vec<Called>,
    /// The call without an answer.
    pub waiting: Option<Call>,
}

/// The result of a replay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedCalls {
    /// Number of identical calls.
    pub identical: usize,
    /// The first call that differs from the record.
    pub difference: Option<CallDifference>,
    /// What the guest does after the last recorded call.
    pub then: NextStep,
}

/// A call that differs from the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallDifference {
    /// Number of the call in its epoch, from 1.
    pub number: usize,
    /// The recorded call.
    pub recorded: Call,
    /// What the guest does now.
    pub again: NextStep,
}

/// The next step of an orchestration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextStep {
    /// It makes this call.
    Calls(Call),
    /// It returns.
    Done,
    /// It returns an error, or fails.
    Failed {
        /// Kind of the failure.
        kind: &'static str,
        /// The error's message.
        message: String,
    },
}

impl std::fmt::Display for NextStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Calls(call) => write!(f, "{call}"),
            Self::Done => f.write_str("it returns"),
            Self::Failed { kind, message } => write!(f, "{message} ({kind})"),
        }
    }
}

/// Replays the calls of a runner epoch. Blocks for as long as the limits allow between two calls.
#[must_use]
pub fn replay_calls(orchestration: &Orchestration, began: &RecordedOrchestration, script: &Script) -> ReplayedCalls {
    let mut beginning = Beginning {
        settings: began.settings.to_string(),
        state: began.state.as_ref().and_then(|state| hex::decode(state).ok()),
        targets: began.targets.clone(),
        now: began.now,
    };
    let mut identical = 0;
    let then = loop {
        match once(orchestration, beginning.clone(), script, &mut identical) {
            Ok(then) => break then,
            Err(Again { state, at }) => (beginning.state, beginning.now) = (hex::decode(state).ok(), at),
        }
    };
    let recorded = script.called.get(identical).map(|called| &called.call);
    let recorded = recorded.or(script.waiting.as_ref().filter(|waiting| then != NextStep::Calls((*waiting).clone())));
    let difference = recorded.map(|recorded| CallDifference {
        number: identical + 1,
        recorded: recorded.clone(),
        again: then.clone(),
    });
    ReplayedCalls { identical, difference, then }
}

/// The guest starts again from a checkpoint, with this state and time.
struct Again {
    state: String,
    at: u64,
}

/// Runs the guest until it makes a call that is not recorded, or writes a checkpoint.
fn once(
    orchestration: &Orchestration,
    beginning: Beginning,
    script: &Script,
    identical: &mut usize,
) -> Result<NextStep, Again> {
    let (mut last, mut again) = (None, None);
    let done = orchestration.answered(beginning, |call| {
        let Some(called) = script.called.get(*identical).filter(|called| called.call == call) else {
            last = Some(call);
            return None;
        };
        *identical += 1;
        match (&called.call, &called.answer) {
            (Call::Checkpoint { state }, Answer::Done) => {
                again = Some(Again { state: state.clone(), at: called.answered });
                None
            }
            (_, answer) => Some(Answered { answer: answer.clone(), at: called.answered }),
        }
    });
    if let Some(again) = again {
        return Err(again);
    }
    Ok(match (last, done) {
        (Some(call), _) => NextStep::Calls(call),
        (None, Ok(())) => NextStep::Done,
        (None, Err(error)) => failed(&error),
    })
}

fn failed(error: &PolicyError) -> NextStep {
    let message = match error {
        PolicyError::GaveUp { message } => message.clone(),
        error => error.of_orchestration(),
    };
    NextStep::Failed { kind: error.kind(), message }
}
