//! What people want of the run while it goes on.

use super::{Event, FinalStatus, TargetEvent, TargetStatus};
use crate::policy::types::Cause;
use crate::rollout::machine::Rollout;
use crate::rollout::model::{Action, End, OperatorRequest, OperatorRequests, RecordedStatus};

impl Rollout {
    pub(super) fn steered(&mut self, requests: OperatorRequests, out: &mut Vec<Action>) {
        if requests == self.requests {
            return;
        }
        let before = std::mem::replace(&mut self.requests, requests);
        let now = self.requests.clone();
        match (&before.paused, &now.paused) {
            (None, Some(OperatorRequest { by, reason, .. })) => {
                out.push(Action::Emit(Event::Paused { by: by.clone(), reason: reason.clone() }));
            }
            (Some(_), None) => out.push(Action::Emit(Event::Unpaused {})),
            _ => {}
        }
        for (&target, request) in &now.retry {
            self.retried(target, request, out);
        }
        for target in now.accepted.difference(&before.accepted) {
            if matches!(self.slots[*target].state, TargetStatus::Final(_)) {
                out.push(Action::Emit(Event::Accepted { target: self.name(*target) }));
            }
        }
        if let (None, Some(OperatorRequest { by, reason, .. })) = (&before.aborted, &now.aborted) {
            let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            self.cut_short(End::Aborted(format!("aborted by {by}{why}")), out);
        }
        // Of the wishes that are new, the newest; one that is not there any more says nothing.
        let is_new = |request: &&OperatorRequest| !before.all().any(|known| known == *request);
        let by = now.all().filter(is_new).max_by_key(|request| request.at).map(|request| request.by.clone());
        self.changed(Cause::Operator(by.unwrap_or_else(|| "somebody".to_owned())));
    }

    /// Only who is done with goes again: the same wish may come more than once.
    fn retried(&mut self, target: usize, request: &OperatorRequest, out: &mut Vec<Action>) {
        let again = matches!(
            self.slots[target].state,
            TargetStatus::Final(
                FinalStatus::Failed | FinalStatus::Unknown | FinalStatus::RolledBack | FinalStatus::Skipped
            )
        );
        if !again || self.ending.is_some() || self.undoing {
            return;
        }
        let slot = &mut self.slots[target];
        slot.tried_before = slot.attempt;
        slot.undecided = false;
        slot.before_roll_back = None;
        slot.said.clear();
        slot.waiting_since_ms = None;
        self.moved(target, TargetEvent::Reopened);
        // Whatever an orchestration wants: people said so.
        self.invite(target);
        out.push(Action::Save { target, status: RecordedStatus::Pending });
        out.push(Action::Emit(Event::RetryRequested { target: self.name(target), by: request.by.clone() }));
    }

    /// A target of which nobody knows, and which nobody has accepted.
    pub(super) fn unknown_held(&self) -> Option<usize> {
        match self.setup.on_unknown {
            crate::job::OnUnknown::Hold => self.unknown.difference(&self.requests.accepted).next().copied(),
            crate::job::OnUnknown::Fail | crate::job::OnUnknown::Retry => None,
        }
    }
}
