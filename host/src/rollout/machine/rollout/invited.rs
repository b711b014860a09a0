//! Whom an orchestration lets go. The policy is asked about nobody else, and who was never let go is left out in the end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Event, TargetStatus};
use crate::policy::orchestration::{Answer, Call};
use crate::rollout::machine::Rollout;
use crate::rollout::model::{Action, Begun, End, Fault, OrchestrationEnd, OrchestrationEvent};
use lockkeeper_coordination::store::Fence;

/// What a target that the orchestration never let go is left out for.
const NOT_ORCHESTRATED: &str = "not-conducted";

/// Who may go at all.
#[derive(Debug, Default)]
pub(super) struct Invited {
    /// Targets that were let go; none: there is no orchestration, and everybody may.
    by: Option<BTreeSet<usize>>,
    /// It goes on still.
    orchestration_job: bool,
    /// It has done what it wanted to: whom it did not let go by then is left out.
    is_done: bool,
    /// Those that moved since that was last asked.
    moved: BTreeSet<usize>,
    /// About whom it wants to know what the policy says.
    consulted: VecDeque<usize>,
    /// Those that it wants rolled back, and why, until that begins.
    pub(super) undo: BTreeMap<usize, String>,
    /// What it waits for.
    calls: Option<Begun>,
}

impl Invited {
    pub(super) fn calls(&self) -> Option<Begun> {
        self.calls.clone()
    }

    pub(super) fn new(has_orchestration: bool) -> Self {
        Self { by: has_orchestration.then(BTreeSet::new), orchestration_job: has_orchestration, ..Self::default() }
    }

    pub(super) fn is(&self, target: usize) -> bool {
        self.by.as_ref().is_none_or(|invited| invited.contains(&target))
    }

    pub(super) fn next_consulted(&mut self) -> Option<usize> {
        self.consulted.pop_front()
    }

    /// Whether somebody conducts, or did.
    pub(super) fn has_orchestration(&self) -> bool {
        self.by.is_some()
    }

    /// Whether more may be let go.
    pub(super) fn goes_on(&self) -> bool {
        self.orchestration_job
    }

    pub(super) fn has_moved(&mut self, target: usize) {
        if self.by.is_some() {
            self.moved.insert(target);
        }
    }
}

impl Rollout {
    /// Targets whose state is another than when this was last called; none where nobody conducts.
    pub fn moved_targets(&mut self) -> BTreeSet<usize> {
        std::mem::take(&mut self.invited.moved)
    }

    /// A target may go from now on. One that is done with, or under way, is let go already.
    pub(super) fn invite(&mut self, target: usize) {
        let Some(invited) = &mut self.invited.by else { return };
        if invited.insert(target) && self.slots[target].state.is_open() {
            self.open.insert(target);
            self.cursor = self.cursor.min(target);
        }
    }

    /// The orchestration wants to know what the policy says of a target.
    pub(super) fn consult(&mut self, target: usize) {
        self.invited.consulted.push_back(target);
    }

    /// The orchestration does not wait for a target any more that has not begun.
    pub(super) fn take_back(&mut self, target: usize, out: &mut Vec<Action>) {
        if self.invited.undo.remove(&target).is_some() {
            if matches!(self.slots[target].state, TargetStatus::Queued | TargetStatus::Leased) {
                self.leave(target, super::Then::Wait, "the orchestration waits for its roll-back no longer", out);
            }
            self.invited.moved.insert(target);
            return;
        }
        let Some(invited) = &mut self.invited.by else { return };
        invited.remove(&target);
        self.open.remove(&target);
        if matches!(self.slots[target].state, TargetStatus::Queued | TargetStatus::Leased) {
            self.leave(target, super::Then::Wait, "the orchestration waits for it no longer", out);
        }
        self.invited.moved.insert(target);
    }

    /// The orchestration leaves a target out. One that has begun stays what it is.
    pub(super) fn leave_out(&mut self, now_ms: u64, target: usize, reason: String, out: &mut Vec<Action>) {
        let code = NOT_ORCHESTRATED.to_owned();
        match self.slots[target].state {
            TargetStatus::Pending | TargetStatus::Waiting => self.skip(now_ms, target, code, reason, out),
            // One that queues to be rolled back has acted.
            TargetStatus::Queued | TargetStatus::Leased if self.slots[target].recalled.is_none() => {
                self.leave(target, super::Then::Skip { code, reason }, "the orchestration leaves it out", out);
            }
            _ => {}
        }
        self.invited.moved.insert(target);
    }

    /// What the orchestration does now.
    pub(super) fn conducts(&mut self, what: OrchestrationEvent, out: &mut Vec<Action>) {
        let event = match what {
            OrchestrationEvent::Started(begun) => {
                self.invited.calls = Some(begun.clone());
                let Begun { call, since, .. } = begun;
                Event::CallStarted { call, since }
            }
            OrchestrationEvent::Answered(called) => {
                self.invited.calls = None;
                if let (Call::Force { path, breaking, reason }, Answer::Held(fence)) = (&called.call, &called.answer) {
                    self.forced += 1;
                    out.push(Action::Emit(Event::SlotForced {
                        semaphore: path.clone(),
                        broken: breaking.clone(),
                        reason: reason.clone(),
                        fence: Fence::new(*fence),
                    }));
                }
                Event::CallAnswered { called }
            }
            OrchestrationEvent::Replayed(called) => Event::CallReplayed { called },
            OrchestrationEvent::Log(line) => {
                Event::OrchestrationLog { level: line.level.to_string(), message: line.message }
            }
        };
        out.push(Action::Emit(event));
    }

    /// The orchestration has ended: who was let go still goes, and nobody else.
    pub(super) fn orchestration_ended(&mut self, how: OrchestrationEnd, out: &mut Vec<Action>) {
        self.invited.orchestration_job = false;
        self.invited.calls = None;
        // It waits for none of them any more.
        self.invited.undo.clear();
        match how {
            OrchestrationEnd::Completed => {
                self.invited.is_done = true;
                self.invited.moved.extend(0..self.slots.len());
            }
            OrchestrationEnd::GaveUp(reason) => {
                self.cut_short(End::Aborted(format!("the orchestration gave up: {reason}")), out);
            }
            OrchestrationEnd::Failed(fault) => self.orchestration_failed(fault, out),
        }
    }

    /// Leaves out who was never let go, once nobody will be any more; who just gives its place in the queue back, when it has.
    pub(super) fn leave_out_the_uninvited(&mut self, now_ms: u64, out: &mut Vec<Action>) {
        if !self.invited.is_done || self.ending.is_some() {
            return;
        }
        let is_left = |target: &usize| {
            matches!(self.slots[*target].state, TargetStatus::Pending | TargetStatus::Waiting)
                && !self.invited.is(*target)
        };
        let left: Vec<usize> = self.invited.moved.iter().copied().filter(is_left).collect();
        for target in left {
            let reason = "the orchestration did not begin it".to_owned();
            self.skip(now_ms, target, NOT_ORCHESTRATED.to_owned(), reason, out);
        }
    }

    /// Run again it would fail again, so there is nothing to hold the run for: it ends, and its leases are given back.
    fn orchestration_failed(&mut self, fault: Fault, out: &mut Vec<Action>) {
        let Fault { kind, message, hint } = fault.clone();
        out.push(Action::Emit(Event::OrchestrationFault { kind: kind.to_owned(), message, hint }));
        self.cut_short(End::OrchestrationFailed(fault), out);
    }
}
