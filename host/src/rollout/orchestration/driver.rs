//! Runs the guest and carries out its calls.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::failure::{CallFailure, refused};
use super::held_leases::{HeldLeases, any_lost};
use super::job::OrchestrationJob;
use super::requests::Requests;
use crate::policy::PolicyError;
use crate::policy::orchestration::{Answer, Answered, Asked, Beginning, Call, CallError, MOST_CALLS};
use crate::policy::types as contract;
use crate::rollout::model::{
    Begun, Called, Fault, Input, OrchestrationEnd, OrchestrationEvent, OrchestrationRequest, TargetIndex,
};
use crate::rollout::run_state::{Calls, OwnLeases, RunStateError};
use lockkeeper_coordination::recipe::{Identifier, Member, Owner, Party, Patience, Semaphore, WaitError};
use lockkeeper_coordination::store::{Store, millis};

/// Carries out the calls of one orchestration.
pub(in crate::rollout) struct OrchestrationDriver {
    pub(in crate::rollout) spec: OrchestrationJob,
    pub(in crate::rollout) store: Arc<dyn Store>,
    /// Identifier of its leases: the run's name.
    pub(in crate::rollout) who: Identifier,
    /// The run as owner of its leases, for their claims.
    pub(in crate::rollout) owner: Owner,
    /// Its leases, as the run's state names them.
    pub(in crate::rollout) own_leases: OwnLeases,
    pub(in crate::rollout) calls: Calls,
    /// Recorded calls that the guest has not repeated yet.
    pub(in crate::rollout) recorded: VecDeque<Called>,
    /// The recorded call after those, which has no answer.
    pub(in crate::rollout) begun: Option<Begun>,
    /// Whether an earlier runner may have carried out the next call.
    pub(in crate::rollout) again: bool,
    pub(in crate::rollout) targets: HashMap<String, TargetIndex>,
    /// Whether the job has a roll-back.
    pub(in crate::rollout) can_roll_back: bool,
    /// Requests to the machine.
    pub(in crate::rollout) requests: Requests,
    /// The leases that the guest holds.
    pub(in crate::rollout) held_leases: HeldLeases,
    /// Targets that the guest has started since it began; starting one of them again is refused.
    pub(in crate::rollout) started: BTreeSet<TargetIndex>,
    /// Those of them that may have to start again: an earlier runner announced them, and they never ran. They start
    /// once the guest holds every lease that it believes to hold.
    pub(in crate::rollout) to_restart: Vec<TargetIndex>,
    /// Whether the guest has made a call since it began: a guest that only writes checkpoints would write them without
    /// end.
    pub(in crate::rollout) has_called: bool,
}

/// Why no more calls are answered.
enum Interrupted {
    /// The guest's calls differ from the recorded ones, or it makes too many.
    Failed(Fault),
    /// The guest starts again from this checkpoint and recovers its leases.
    Restart { state: Vec<u8>, at: u64 },
    /// Another process drives the run, or may drive it, and continues.
    Lost,
}

impl From<RunStateError> for Interrupted {
    fn from(error: RunStateError) -> Self {
        match error.is_lost() {
            true => Self::Lost,
            false => Self::Failed(Fault { kind: "calls", message: error.to_string(), hint: None }),
        }
    }
}

impl OrchestrationDriver {
    /// Runs the guest to its end, restarting it from each checkpoint, and reports how it ended.
    pub(in crate::rollout) async fn orchestration(mut self, mut beginning: Beginning) {
        let how = loop {
            match self.follow(beginning.clone()).await {
                Ok(how) => break how,
                Err(Interrupted::Restart { state, at }) => {
                    (beginning.state, beginning.now) = (Some(state), at);
                    // It holds nothing, the same as after a crash at this point.
                    self.held_leases.clear();
                    self.started.clear();
                    self.start_again().await;
                    self.has_called = false;
                }
                Err(Interrupted::Failed(fault)) => break OrchestrationEnd::Failed(fault),
                Err(Interrupted::Lost) => return,
            }
        };
        // The loop ends after its last input.
        let _ = self.requests.input(Input::OrchestrationEnded(how)).await;
    }

    /// Runs the guest once.
    async fn follow(&mut self, beginning: Beginning) -> Result<OrchestrationEnd, Interrupted> {
        let (calls, mut asked) = mpsc::channel(1);
        let orchestration = self.spec.orchestration.clone();
        let mut guest = std::pin::pin!(orchestration.run(beginning, calls));
        loop {
            let Asked { call, said, answer } = tokio::select! {
                biased;
                done = &mut guest => {
                    if done.is_ok() {
                        self.start_again().await;
                    }
                    return Ok(self.ended(done));
                }
                Some(asked) = asked.recv() => asked,
            };
            for line in said {
                let _ = self.requests.input(Input::OrchestrationEvent(OrchestrationEvent::Log(line))).await;
            }
            // A guest that has ended meanwhile needs no answer.
            let _ = answer.send(self.answer(call).await?);
        }
    }

    fn ended(&self, done: Result<(), PolicyError>) -> OrchestrationEnd {
        match done {
            Ok(()) => match self.expected() {
                Some(next) => OrchestrationEnd::Failed(diverged(next, None)),
                None => OrchestrationEnd::Completed,
            },
            Err(PolicyError::GaveUp { message }) => OrchestrationEnd::GaveUp(message),
            Err(error) => OrchestrationEnd::Failed(Fault {
                kind: error.kind(),
                message: error.of_orchestration(),
                hint: error.hint(),
            }),
        }
    }

    /// The guest's next recorded call.
    fn expected(&self) -> Option<&Call> {
        let recorded = self.recorded.front().map(|called| &called.call);
        recorded.or_else(|| self.begun.as_ref().map(|begun| &begun.call))
    }

    async fn answer(&mut self, call: Call) -> Result<Answered, Interrupted> {
        if let Some(known) = self.expected().filter(|known| **known != call) {
            return Err(Interrupted::Failed(diverged(known, Some(&call))));
        }
        if let Some(known) = self.recorded.pop_front() {
            self.update_from(&known);
            let answered = Answered { answer: known.answer.clone(), at: known.answered };
            let _ = self.requests.input(Input::OrchestrationEvent(OrchestrationEvent::Replayed(known))).await;
            return Ok(answered);
        }
        if let Call::Checkpoint { state } = &call
            && self.has_called
        {
            let at = self.store.clock().now_ms();
            self.calls.checkpoint(state.clone(), at).await?;
            let state = hex::decode(state).unwrap_or_default();
            let called = Called { call, answer: Answer::Done, since: at, answered: at };
            let _ = self.requests.input(Input::OrchestrationEvent(OrchestrationEvent::Answered(called))).await;
            return Err(Interrupted::Restart { state, at });
        }
        if self.calls.left() == 0 {
            return Err(Interrupted::Failed(Fault {
                kind: "too-many-calls",
                message: format!("the orchestration has made {MOST_CALLS} calls since its last checkpoint"),
                hint: Some("call `checkpoint(state)` from time to time; the guest starts again from there".to_owned()),
            }));
        }
        let begun = match self.begun.take() {
            Some(begun) => begun,
            None => {
                let attempts = self.attempts_before(&call).await.map_err(|_| Interrupted::Lost)?;
                let begun = Begun { since: self.store.clock().now_ms(), call, attempts };
                if self.is_timed(&begun.call) || begun.attempts.is_some() {
                    self.calls.begin(&begun).await?;
                }
                begun
            }
        };
        let _ = self.requests.input(Input::OrchestrationEvent(OrchestrationEvent::Started(begun.clone()))).await;
        let answer = self.carry_out(&begun).await?;
        self.again = false;
        let Begun { call, since, .. } = begun;
        let mut called = Called { call, answer, since, answered: self.store.clock().now_ms() };
        if !Calls::fits(&called) {
            called.answer =
                Answer::Error(CallError::Refused("the answer exceeds the size limit of a run's record".to_owned()));
        }
        self.calls.write(&called).await?;
        self.update_from(&called);
        let answered = Answered { answer: called.answer.clone(), at: called.answered };
        let _ = self.requests.input(Input::OrchestrationEvent(OrchestrationEvent::Answered(called))).await;
        Ok(answered)
    }

    /// Whether a call has a time limit.
    fn is_timed(&self, call: &Call) -> bool {
        match call {
            Call::Lock { timeout, .. }
            | Call::WaitMembers { timeout, .. }
            | Call::Start { timeout, .. }
            | Call::WaitAny { timeout, .. }
            | Call::RollBack { timeout, .. } => self.within(*timeout).is_some(),
            Call::Sleep { .. } => true,
            _ => false,
        }
    }

    /// Updates the state for the calls that follow, from a new or a recorded answer.
    fn update_from(&mut self, called: &Called) {
        self.has_called |= !matches!(called.call, Call::Checkpoint { .. });
        match (&called.call, &called.answer) {
            (Call::Lock { path, .. } | Call::TryLock { path } | Call::Force { path, .. }, Answer::Held(fence)) => {
                self.held_leases.hand_over(path, *fence);
            }
            (Call::Release { path }, _) => {
                self.held_leases.remove(path);
            }
            (Call::RecoveredLeases, Answer::Leases(leases)) => {
                leases.iter().for_each(|(path, fence)| self.held_leases.hand_over(path, *fence));
            }
            (Call::Start { target, .. }, Answer::Done) => {
                if let Some(&target) = self.targets.get(target) {
                    self.started.insert(target);
                    self.to_restart.push(target);
                }
            }
            _ => {}
        }
    }

    // ------------------------------------------------------------------ the calls

    /// How long a call may wait, in milliseconds: as long as it asks, within the job's limit.
    fn within(&self, timeout: Option<u64>) -> Option<u64> {
        let most = self.spec.timeout.map(millis);
        match (timeout, most) {
            (Some(timeout), Some(most)) => Some(timeout.min(most)),
            (timeout, most) => timeout.or(most),
        }
    }

    /// When a call that started at `since` times out. `None` if never.
    fn deadline(&self, since: u64, timeout: Option<u64>) -> Option<Instant> {
        let left = self.within(timeout)?.saturating_sub(self.store.clock().now_ms().saturating_sub(since));
        // A time beyond the clock's range counts as never.
        Instant::now().checked_add(Duration::from_millis(left))
    }

    async fn carry_out(&mut self, begun: &Begun) -> Result<Answer, Interrupted> {
        if self.again && self.wait_until_settled(&begun.call).await.is_err() {
            return Err(Interrupted::Lost);
        }
        let is_under_leases = self.is_under_leases(&begun.call, begun.attempts).await.map_err(|_| Interrupted::Lost)?;
        let carry_out_call = match is_under_leases {
            true => self.carry_out_while_held(begun).await,
            false => self.carry_out_call(begun).await,
        };
        match carry_out_call {
            Ok(answer) => Ok(answer),
            Err(CallFailure::Error(fault)) => Ok(Answer::Error(fault)),
            Err(CallFailure::Lost) => Err(Interrupted::Lost),
        }
    }

    /// Carries out a call while every lease that the guest holds exists: without them it would wait, or start targets,
    /// under a lease of another holder.
    async fn carry_out_while_held(&mut self, begun: &Begun) -> Result<Answer, CallFailure> {
        let leases = self.watched().await?;
        if !leases.iter().any(|(_, lease)| lease.is_lost()) {
            self.start_again().await;
        }
        let attempts = self.attempts_before(&begun.call).await?.unwrap_or_default();
        let why = tokio::select! {
            biased;
            why = any_lost(leases) => why,
            carry_out_call = self.carry_out_call(begun) => return carry_out_call,
        };
        match (&begun.call, why) {
            (Call::Start { target, .. }, why @ CallFailure::Error(_)) => self.stop_waiting(target, why).await,
            (Call::RollBack { target, .. }, why @ CallFailure::Error(_)) => {
                self.stop_waiting_for_roll_back(target, attempts, why).await
            }
            (_, why) => Err(why),
        }
    }

    async fn start_again(&mut self) {
        for target in std::mem::take(&mut self.to_restart) {
            // The loop ends after its last input.
            let _ = self.requests.send(OrchestrationRequest::Start { target }).await;
        }
    }

    async fn carry_out_call(&mut self, &Begun { ref call, since, attempts }: &Begun) -> Result<Answer, CallFailure> {
        match call {
            Call::Lock { path, timeout } => self.lock(path, patience(self.deadline(since, *timeout))).await,
            Call::TryLock { path } => self.lock(path, Patience::Once).await,
            Call::Force { path, breaking, reason } => self.force(path, breaking, reason).await,
            Call::Release { path } => self.release(path).await,
            Call::StillHeld { path } => self.still_held(path).await,
            Call::RecoveredLeases => self.recovered_leases().await,
            Call::Holders { path } => self.holders(path).await,
            Call::Members { path } => self.members(path, 0, Patience::Once).await,
            Call::WaitMembers { path, at_least, timeout } => {
                self.members(path, *at_least, patience(self.deadline(since, *timeout))).await
            }
            Call::StatusOf { target } => {
                let target = self.known(target)?;
                self.status(target).await.map(Answer::Status)
            }
            Call::Admit { target } => self.admit(target).await,
            Call::Start { target, timeout } => self.start(target, self.deadline(since, *timeout)).await,
            Call::WaitAny { among, timeout } => self.wait_any(among, self.deadline(since, *timeout)).await,
            Call::RollBack { target, reason, timeout } => {
                self.roll_back(target, reason, self.deadline(since, *timeout), attempts).await
            }
            Call::Skip { target, reason } => self.skip(target, reason).await,
            Call::Sleep { duration } if self.within(Some(*duration)) != Some(*duration) => {
                Err(refused("a sleep longer than the job's `orchestration.timeout`".to_owned()))
            }
            Call::Sleep { duration } => {
                match self.deadline(since, Some(*duration)) {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
                Ok(Answer::Done)
            }
            // Other checkpoints are handled where calls are answered.
            Call::Checkpoint { .. } => Err(refused("no call was made since the last checkpoint".to_owned())),
        }
    }

    pub(super) fn semaphore(&self, path: &str) -> Result<Semaphore, CallFailure> {
        let listed = self.spec.semaphores.iter().find(|(listed, _)| listed.as_str() == path);
        let Some((path, slots)) = listed else {
            return Err(refused(format!("the job's `orchestration.semaphores` do not list `{path}`")));
        };
        Ok(Semaphore::of_stored_slots(Arc::clone(&self.store), path.clone(), *slots))
    }

    async fn members(&self, path: &str, at_least: u32, patience: Patience) -> Result<Answer, CallFailure> {
        let Some(path) = self.spec.parties.iter().find(|listed| listed.as_str() == path) else {
            return Err(refused(format!("the job's `orchestration.parties` do not list `{path}`")));
        };
        let party = Party::new(Arc::clone(&self.store), path.clone());
        let found = match at_least {
            0 => party.members().await?,
            _ => match party.wait_for(at_least as usize, patience).await {
                Ok(members) => members,
                Err(WaitError::TooFew { .. }) => return Err(CallFailure::Error(CallError::TimedOut)),
                Err(WaitError::SessionOver { .. }) => return Err(CallFailure::Lost),
                Err(WaitError::Store { source, .. }) => return Err(source.into()),
            },
        };
        let member = |member: Member| contract::Member { identifier: member.identifier, since: member.since_ms };
        let mut members: Vec<contract::Member> = found.into_iter().map(member).collect();
        members.sort_by(|a, b| (&a.identifier, a.since).cmp(&(&b.identifier, b.since)));
        Ok(Answer::Party(contract::Party { path: path.to_string(), min_members: 0, members }))
    }
}

/// The error for a guest whose calls differ from the recorded ones.
fn diverged(known: &Call, called: Option<&Call>) -> Fault {
    let now = called.map_or_else(|| "ends".to_owned(), |called| format!("calls `{called}`"));
    Fault {
        kind: "diverged",
        message: format!("run again, the orchestration {now} instead of `{known}`"),
        hint: Some(
            "orchestrations must be deterministic: only settings, answers and `now` may decide the next call"
                .to_owned(),
        ),
    }
}

fn patience(deadline: Option<Instant>) -> Patience {
    deadline.map_or(Patience::Forever, Patience::Until)
}
