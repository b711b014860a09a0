//! Gives every verdict, as its settings say, and counts its decisions: what a fixture of the contract must show.

use lockkeeper_sdk::prelude::*;

/// Settings of `typed`.
#[settings]
struct Typed {
    /// What `admit` answers.
    #[serde(default)]
    answer: Answer,
    /// When it wants to be asked again.
    wake: Option<Period>,
    /// For how long `settle` keeps the slot; left out: it tries again after a failure.
    keep: Option<Period>,
}

#[settings]
#[derive(Default)]
enum Answer {
    #[default]
    Lock,
    Wait,
    Hold,
    Force,
    Skip,
    Abort,
    Fault,
}

#[policy("lock", "wait", "hold", "force", "skip", "abort", "release", "keep", "retry")]
impl Policy for Typed {
    fn admit(&self, view: &View, memory: &mut Memory) -> Admitted {
        let seen = memory.clone().into_bytes().first().copied().unwrap_or_default();
        *memory = Memory::from_bytes(vec![seen.wrapping_add(1)]);
        let reason =
            format!("{} of {} slots, {} members", view.semaphore.leases.len(), view.semaphore.slots, view.members());
        let fences = || view.semaphore.leases.iter().map(|lease| lease.fence).collect();
        let answer = match self.answer {
            Answer::Lock => lock("told", reason),
            Answer::Wait => wait("told", reason),
            Answer::Hold => hold("told", reason),
            Answer::Force => force(fences(), "told", reason),
            Answer::Skip => skip("told", reason),
            Answer::Abort => abort("told", reason),
            Answer::Fault => fault(reason),
        };
        match self.wake {
            Some(wake) => answer.ask_again_after(wake.into()),
            None => answer,
        }
    }

    fn settle(&self, _: &View, outcome: &Outcome, _: &mut Memory) -> Settled {
        match (outcome.ending, self.keep) {
            (Ending::Succeeded, Some(length)) => keep(length.into(), "kept", "as told"),
            (Ending::Failed, None) => retry("again", "as told"),
            _ => release("over", "as told"),
        }
    }

    fn check(&self) -> Vec<Diagnostic> {
        match self.keep {
            Some(keep) if keep.is_zero() => vec![problem("keep", "no time is not to be kept")],
            _ => Vec::new(),
        }
    }
}
