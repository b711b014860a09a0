//! What an orchestration requests, and what it is told. The policy decides about no target that it has not started, and those
//! are skipped once the orchestration has ended.

use std::collections::{BTreeSet, VecDeque};

use crate::policy::orchestration::{Answer, Call};
use crate::rollout::machine::Rollout;
use crate::rollout::machine::targets::Leaving;
use crate::rollout::model::{
    Action, Begun, End, Event, Fault, OrchestrationEnd, OrchestrationEvent, OrchestrationReply, OrchestrationRequest,
    RequestId, TargetIndex, TargetReport, TargetStatus,
};
use lockkeeper_coordination::store::Fence;

/// The operator that a view names if the orchestration consults the policy.
pub const ORCHESTRATION: &str = "the orchestration";

/// The code with which a target is skipped that the orchestration has not started.
const NOT_ORCHESTRATED: &str = "not-orchestrated";

/// The run's orchestration, if its job has one.
#[derive(Debug, Default)]
pub(super) struct Orchestration {
    is_running: bool,
    /// Targets about which it consults the policy.
    consultations: VecDeque<(RequestId, TargetIndex)>,
    /// The request that waits for its reply, and what for.
    waiting: Option<(RequestId, Wait)>,
    /// The call that it waits for, for the run status.
    call: Option<Begun>,
    /// Targets that it had not started when it completed, until each is final.
    not_started: BTreeSet<TargetIndex>,
}

/// What a request waits for.
#[derive(Debug)]
enum Wait {
    /// The target has started, or is final.
    Begun(TargetIndex),
    /// The target neither queues for a slot nor holds one unused.
    AtRest(TargetIndex),
    /// The target's roll-back runs.
    RollBack(TargetIndex),
    /// One of the targets is final.
    Final(Vec<TargetIndex>),
}

impl Orchestration {
    pub(super) fn new(is_running: bool) -> Self {
        Self { is_running, ..Self::default() }
    }

    /// Whether it may start more targets.
    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    /// The call that it waits for. `None` if it waits for none.
    pub(super) fn call(&self) -> Option<Begun> {
        self.call.clone()
    }

    /// The next target about which it consults the policy.
    pub(super) fn next_consultation(&mut self) -> Option<(RequestId, TargetIndex)> {
        self.consultations.pop_front()
    }
}

impl Rollout {
    pub(super) fn orchestration_requested(&mut self, id: RequestId, request: OrchestrationRequest) {
        let wait = match request {
            OrchestrationRequest::Report { target } => return self.reply(id, target),
            OrchestrationRequest::Consult { target } => {
                return self.orchestration.consultations.push_back((id, target));
            }
            OrchestrationRequest::Start { target } => {
                self.allow_start(target);
                Wait::Begun(target)
            }
            OrchestrationRequest::TakeBack { target } => {
                self.take_back(target);
                Wait::AtRest(target)
            }
            OrchestrationRequest::RollBack { target, reason } => {
                self.roll_backs.requested.insert(target, reason);
                Wait::RollBack(target)
            }
            OrchestrationRequest::Skip { target, reason } => {
                self.skip_unless_started(target, reason);
                Wait::Begun(target)
            }
            OrchestrationRequest::AwaitFinal { among } => Wait::Final(among),
            OrchestrationRequest::AwaitRest { target } => Wait::AtRest(target),
        };
        self.orchestration.waiting = Some((id, wait));
    }

    /// Replies to the request that waits, if what it waits for is so after this step.
    pub(super) fn reply_to_orchestration(&mut self) {
        let Some((id, wait)) = &self.orchestration.waiting else { return };
        let status = |target: &TargetIndex| self.status(*target);
        let is_about_to = |status| matches!(status, TargetStatus::Queued | TargetStatus::Leased);
        let about = match wait {
            Wait::Begun(target) => {
                Some(*target).filter(|target| !status(target).is_open() && !is_about_to(status(target)))
            }
            Wait::AtRest(target) => Some(*target).filter(|target| !is_about_to(status(target))),
            Wait::RollBack(target) => Some(*target)
                .filter(|target| matches!(status(target), TargetStatus::RollingBack | TargetStatus::RollBackEnded(_))),
            Wait::Final(among) => among.iter().copied().find(|target| matches!(status(target), TargetStatus::Final(_))),
        };
        let (id, Some(target)) = (*id, about) else { return };
        self.orchestration.waiting = None;
        self.reply(id, target);
    }

    fn reply(&mut self, id: RequestId, target: TargetIndex) {
        let entry = &self.targets[target];
        let report = TargetReport {
            target,
            status: entry.status(),
            attempt: entry.attempts.started,
            action: entry.last_run.action,
            roll_back: entry.last_run.roll_back,
        };
        self.act(Action::Reply { id, reply: OrchestrationReply::Target(report) });
    }

    /// A target may start from now on. Nothing changes for one that is final or in flight.
    pub(super) fn allow_start(&mut self, target: TargetIndex) {
        if self.targets.allow(target) && self.status(target).is_open() {
            self.sweep.include(target);
        }
    }

    /// A target may not start, or be rolled back, unless it has begun. While a roll-back is requested, that is taken back,
    /// although an operator may have requested a retry.
    fn take_back(&mut self, target: TargetIndex) {
        let reason = match self.roll_backs.requested.remove(&target) {
            Some(_) => "the orchestration no longer waits for its roll-back",
            None => {
                self.targets.disallow(target);
                "the orchestration no longer waits for it"
            }
        };
        if matches!(self.status(target), TargetStatus::Queued | TargetStatus::Leased) {
            self.leave(target, Leaving::ToWait, reason);
        }
    }

    fn skip_unless_started(&mut self, target: TargetIndex, reason: String) {
        let code = NOT_ORCHESTRATED.to_owned();
        match self.status(target) {
            TargetStatus::Pending | TargetStatus::Waiting => self.skip(target, code, reason),
            // One that queues for its roll-back has started before.
            TargetStatus::Queued | TargetStatus::Leased if self.targets[target].roll_back_from().is_none() => {
                self.leave(target, Leaving::ToSkip { code, reason }, "the orchestration skips it");
            }
            _ => {}
        }
    }

    /// What the orchestration did.
    pub(super) fn orchestration_event(&mut self, event: OrchestrationEvent) {
        let event = match event {
            OrchestrationEvent::Started(begun) => {
                self.orchestration.call = Some(begun.clone());
                let Begun { call, since, .. } = begun;
                Event::CallStarted { call, since }
            }
            OrchestrationEvent::Answered(called) => {
                self.orchestration.call = None;
                if let (Call::Force { path, breaking, reason }, Answer::Held(fence)) = (&called.call, &called.answer) {
                    self.totals.forced += 1;
                    self.emit(Event::SlotForced {
                        semaphore: path.clone(),
                        broken: breaking.clone(),
                        reason: reason.clone(),
                        fence: Fence::new(*fence),
                    });
                }
                Event::CallAnswered { called }
            }
            OrchestrationEvent::Replayed(called) => Event::CallReplayed { called },
            OrchestrationEvent::Log(line) => {
                Event::OrchestrationLog { level: line.level.to_string(), message: line.message }
            }
        };
        self.emit(event);
    }

    /// The orchestration ended: the targets that it has started continue, and no others start.
    pub(super) fn orchestration_ended(&mut self, end: OrchestrationEnd) {
        self.orchestration.is_running = false;
        self.orchestration.call = None;
        self.orchestration.waiting = None;
        // It waits for none of them any more.
        self.roll_backs.requested.clear();
        match end {
            OrchestrationEnd::Completed => {
                let not_started = self.targets.indices().filter(|target| !self.targets[*target].may_start());
                self.orchestration.not_started = not_started.collect();
            }
            OrchestrationEnd::GaveUp(reason) => {
                self.cut_short(End::Aborted(format!("the orchestration gave up: {reason}")));
            }
            OrchestrationEnd::Failed(fault) => self.orchestration_failed(fault),
        }
    }

    /// Skips the targets that the orchestration has not started, once it has completed. A target that is giving up its place in
    /// the queue is skipped afterwards.
    pub(super) fn skip_unstarted(&mut self) {
        if self.orchestration.not_started.is_empty() || self.ending.is_some() {
            return;
        }
        let not_started = std::mem::take(&mut self.orchestration.not_started);
        for target in not_started {
            match self.status(target) {
                // An operator requested a retry.
                _ if self.targets[target].may_start() => {}
                TargetStatus::Final(_) => {}
                TargetStatus::Pending | TargetStatus::Waiting => {
                    let reason = "the orchestration did not start it".to_owned();
                    self.skip(target, NOT_ORCHESTRATED.to_owned(), reason);
                }
                _ => drop(self.orchestration.not_started.insert(target)),
            }
        }
    }

    /// Repeated, it would fail again, so the run does not wait: it ends, and its leases are released.
    fn orchestration_failed(&mut self, fault: Fault) {
        let Fault { kind, message, hint } = fault.clone();
        self.emit(Event::OrchestrationFault { kind: kind.to_owned(), message, hint });
        self.cut_short(End::OrchestrationFailed(fault));
    }
}
