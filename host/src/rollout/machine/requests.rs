//! What follows from the operators' requests.

use crate::job::OnUnknown;
use crate::policy::types::Cause;
use crate::rollout::machine::Rollout;
use crate::rollout::model::{
    Action, End, Event, FinalStatus, OperatorRequest, OperatorRequests, RecordedStatus, TargetEvent, TargetIndex,
    TargetStatus,
};

impl Rollout {
    pub(super) fn operator_requests_changed(&mut self, requests: OperatorRequests) {
        if requests == self.requests {
            return;
        }
        let before = std::mem::replace(&mut self.requests, requests);
        let now = self.requests.clone();
        match (&before.paused, &now.paused) {
            (None, Some(OperatorRequest { by, reason, .. })) => {
                self.emit(Event::Paused { by: by.clone(), reason: reason.clone() });
            }
            (Some(_), None) => self.emit(Event::Unpaused {}),
            _ => {}
        }
        for (&target, request) in &now.retry {
            self.retry_requested(target, request);
        }
        for &target in now.accepted.difference(&before.accepted) {
            if matches!(self.status(target), TargetStatus::Final(_)) {
                self.emit(Event::Accepted { target: self.name(target) });
            }
        }
        if let (None, Some(OperatorRequest { by, reason, .. })) = (&before.aborted, &now.aborted) {
            let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            self.cut_short(End::Aborted(format!("aborted by {by}{why}")));
        }
        // The operator of the newest request that is new. A request that was withdrawn names no operator.
        let is_new = |request: &&OperatorRequest| !before.all().any(|known| known == *request);
        let by = now.all().filter(is_new).max_by_key(|request| request.at).map(|request| request.by.clone());
        self.sweep.changed(Cause::Operator(by.unwrap_or_else(|| "an operator".to_owned())));
    }

    /// A final target may start again. The same request may come more than once: then the target is not final any more.
    fn retry_requested(&mut self, target: TargetIndex, request: &OperatorRequest) {
        let may_repeat = matches!(
            self.status(target),
            TargetStatus::Final(
                FinalStatus::Failed | FinalStatus::Unknown | FinalStatus::RolledBack | FinalStatus::Skipped
            )
        );
        if !may_repeat || self.ending.is_some() || self.roll_backs.is_of_run {
            return;
        }
        let entry = &mut self.targets[target];
        entry.attempts.discount_all();
        entry.last_run.before_roll_back = None;
        entry.waiting.reported.clear();
        entry.waiting.since = None;
        self.advance(target, TargetEvent::Reopened);
        // Even if the orchestration has not started it.
        self.allow_start(target);
        self.act(Action::Save { target, status: RecordedStatus::Pending });
        self.emit(Event::RetryRequested { target: self.name(target), by: request.by.clone() });
    }

    /// A target whose outcome is unknown and not accepted, if that blocks the others.
    pub(super) fn unknown_that_blocks(&self) -> Option<TargetIndex> {
        match self.setup.on_unknown {
            OnUnknown::Hold => self.targets.unknown().difference(&self.requests.accepted).next().copied(),
            OnUnknown::Fail | OnUnknown::Retry => None,
        }
    }
}
