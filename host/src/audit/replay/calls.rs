//! An orchestration's calls made again: the guest of a stint run once more, and answered what it was answered then.

use crate::policy::PolicyError;
use crate::policy::orchestration::{Answer, Answered, Beginning, Call, Orchestration};
use crate::rollout::journal::RecordedOrchestration;
use crate::rollout::model::Called;

/// What an orchestration called in one stint, as its journal has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Script {
    /// What was answered, in that order; what it was answered before that stint among it.
    pub called: Vec<Called>,
    /// What was not answered any more.
    pub waiting: Option<Call>,
}

/// What that comes to again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// How many calls are the same.
    pub identical: usize,
    /// What it does instead of the next that was recorded.
    pub difference: Option<Otherwise>,
    /// What it does once nothing more is recorded.
    pub then: Then,
}

/// Where it goes another way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Otherwise {
    /// The call's number in its stint, from 1.
    pub number: usize,
    /// What was recorded.
    pub recorded: Call,
    /// What it does now.
    pub again: Then,
}

/// What an orchestration does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Then {
    /// It calls this.
    Calls(Call),
    /// It is done.
    Done,
    /// It gave up, or failed: how.
    Failed {
        /// The kind of failure.
        kind: &'static str,
        /// What happened.
        message: String,
    },
}

impl std::fmt::Display for Then {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Calls(call) => write!(f, "{call}"),
            Self::Done => f.write_str("it is done"),
            Self::Failed { kind, message } => write!(f, "{message} ({kind})"),
        }
    }
}

/// Makes the calls of a stint again. Blocks for as long as the limits allow between any two of them.
#[must_use]
pub fn recall(orchestration: &Orchestration, began: &RecordedOrchestration, script: &Script) -> Recalled {
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
    let recorded = recorded.or(script.waiting.as_ref().filter(|waiting| then != Then::Calls((*waiting).clone())));
    let difference =
        recorded.map(|recorded| Otherwise { number: identical + 1, recorded: recorded.clone(), again: then.clone() });
    Recalled { identical, difference, then }
}

/// Behind a checkpoint it begins again, from this and then.
struct Again {
    state: String,
    at: u64,
}

/// Until it calls what is not recorded, or writes a checkpoint.
fn once(
    orchestration: &Orchestration,
    beginning: Beginning,
    script: &Script,
    identical: &mut usize,
) -> Result<Then, Again> {
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
        (Some(call), _) => Then::Calls(call),
        (None, Ok(())) => Then::Done,
        (None, Err(error)) => failed(&error),
    })
}

fn failed(error: &PolicyError) -> Then {
    let message = match error {
        PolicyError::GaveUp { message } => message.clone(),
        error => error.of_orchestration(),
    };
    Then::Failed { kind: error.kind(), message }
}
