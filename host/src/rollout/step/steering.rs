//! What people want of the run while it goes on.

use super::{Event, Final, Rollout, TargetEvent, TargetState};
use crate::policy::types::Cause;
use crate::rollout::ledger::Standing;
use crate::rollout::messages::{Action, End, Steer, Wish};

impl Rollout {
    pub(super) fn steered(&mut self, steer: Steer, out: &mut Vec<Action>) {
        if steer == self.steer {
            return;
        }
        let before = std::mem::replace(&mut self.steer, steer);
        let now = self.steer.clone();
        match (&before.paused, &now.paused) {
            (None, Some(Wish { by, reason, .. })) => {
                out.push(Action::Emit(Event::Paused { by: by.clone(), reason: reason.clone() }));
            }
            (Some(_), None) => out.push(Action::Emit(Event::Unpaused {})),
            _ => {}
        }
        for (&target, wish) in &now.retry {
            self.retried(target, wish, out);
        }
        for target in now.accepted.difference(&before.accepted) {
            if matches!(self.slots[*target].state, TargetState::Final(_)) {
                out.push(Action::Emit(Event::Accepted { target: self.name(*target) }));
            }
        }
        if let (None, Some(Wish { by, reason, .. })) = (&before.aborted, &now.aborted) {
            let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            self.cut_short(End::Aborted(format!("aborted by {by}{why}")), out);
        }
        // Of the wishes that are new, the newest; one that is not there any more says nothing.
        let is_new = |wish: &&Wish| !before.all().any(|known| known == *wish);
        let by = now.all().filter(is_new).max_by_key(|wish| wish.at).map(|wish| wish.by.clone());
        self.changed(Cause::Operator(by.unwrap_or_else(|| "somebody".to_owned())));
    }

    /// Only who is done with goes again: the same wish may come more than once.
    fn retried(&mut self, target: usize, wish: &Wish, out: &mut Vec<Action>) {
        let again = matches!(
            self.slots[target].state,
            TargetState::Final(Final::Failed | Final::Unknown | Final::RolledBack | Final::Skipped)
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
        out.push(Action::Save { target, standing: Standing::Pending });
        out.push(Action::Emit(Event::RetryAsked { target: self.name(target), by: wish.by.clone() }));
    }

    /// A target of which nobody knows, and which nobody has accepted.
    pub(super) fn unknown_held(&self) -> Option<usize> {
        match self.setup.on_unknown {
            crate::job::OnUnknown::Hold => self.unknown.difference(&self.steer.accepted).next().copied(),
            crate::job::OnUnknown::Fail | crate::job::OnUnknown::Retry => None,
        }
    }
}
