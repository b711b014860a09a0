//! Carries out what an orchestration calls: by the recipes, and by the machine, which alone lets a target act.
//!
//! # Durability
//! A call is carried out, written down ([`Calls`]) and then answered. A guest that is run again is answered from what was
//! written until it calls what was not; that is carried out, and finds what it did before it was cut off: a lease under the
//! run's name, a target that acts already. A call that is another than the one written down ends the run.
//!
//! # Leases
//! They are persistent, have the run's name for an identifier and are named by the run's state, so that the next runner finds
//! them; it is the run's end that gives back what the guest has left. While one that the guest has in hand is gone, nothing that waits or
//! lets a target go is carried out: each such call is answered with that.

mod leases;
mod targets;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

pub(in crate::rollout) use leases::Claimed;
use leases::gone;

use crate::job::OrchestrationSpec;
use crate::policy::PolicyError;
use crate::policy::orchestration::{
    Advice, Answer, Answered, Asked, Beginning, Call, CallError, MOST_CALLS, Orchestration,
    TargetStatus as ContractStatus,
};
use crate::policy::types::{self as contract, Outcome};
use crate::rollout::model::{Begun, Called, Fault, Input, OrchestrationEnd, OrchestrationEvent, TargetStatus};
use crate::rollout::run_state::{Calls, OwnLeases, RunStateError};
use lockkeeper_coordination::recipe::{Identifier, Member, Owner, Party, Patience, Semaphore, WaitError};
use lockkeeper_coordination::store::{NodePath, Store, StoreError, millis};

/// What a job says of its orchestration.
#[derive(Debug, Clone)]
pub struct OrchestrationJob {
    /// The guest.
    pub orchestration: Orchestration,
    /// Its settings, as JSON.
    pub settings: String,
    /// The semaphores of which it may hold a slot.
    pub semaphores: Vec<(NodePath, NonZeroU32)>,
    /// The parties at which it may look.
    pub parties: Vec<NodePath>,
    /// How long one of its calls may wait; none: as long as it takes.
    pub timeout: Option<Duration>,
    /// Whether it may force.
    pub may_force: bool,
}

impl OrchestrationJob {
    /// What a job says of it, and the guest that it names.
    #[must_use]
    pub fn new(spec: &OrchestrationSpec, orchestration: Orchestration) -> Self {
        Self {
            orchestration,
            settings: spec.settings.to_string(),
            semaphores: spec.semaphores.clone(),
            parties: spec.parties.clone(),
            timeout: spec.timeout,
            may_force: spec.may_force,
        }
    }
}

/// Where every target stands, as the conductor sees it.
#[derive(Debug, Clone)]
pub(in crate::rollout) struct Stands {
    pub(in crate::rollout) state: TargetStatus,
    pub(in crate::rollout) outcome: Option<Outcome>,
    /// What the policy said of it last when the orchestration asked.
    pub(in crate::rollout) advice: Option<Advice>,
    /// How often it did.
    pub(in crate::rollout) advised: u64,
    /// How often the machine has heard that it is waited for no longer.
    pub(in crate::rollout) taken_back: u64,
    /// How often something was begun on it.
    pub(in crate::rollout) attempt: u32,
    /// How its last roll-back ended.
    pub(in crate::rollout) undone_as: Option<Outcome>,
    /// How often one did.
    pub(in crate::rollout) undone: u64,
}

impl Stands {
    pub(in crate::rollout) fn new(state: TargetStatus, attempt: u32) -> Self {
        Self { state, outcome: None, advice: None, advised: 0, taken_back: 0, attempt, undone_as: None, undone: 0 }
    }
}

/// One orchestration at work.
pub(in crate::rollout) struct OrchestrationDriver {
    pub(in crate::rollout) spec: OrchestrationJob,
    pub(in crate::rollout) store: Arc<dyn Store>,
    /// The run's name: whose leases they are.
    pub(in crate::rollout) who: Identifier,
    /// The same, for the claims of its leases.
    pub(in crate::rollout) owner: Owner,
    /// Its leases, as the run's state names them.
    pub(in crate::rollout) own_leases: OwnLeases,
    pub(in crate::rollout) calls: Calls,
    /// What was called before, and not yet again.
    pub(in crate::rollout) recorded: VecDeque<Called>,
    /// What came after that, and was not answered.
    pub(in crate::rollout) begun: Option<Begun>,
    /// Whether an earlier runner may have carried out what is called next.
    pub(in crate::rollout) again: bool,
    pub(in crate::rollout) targets: HashMap<String, usize>,
    /// Whether the job says how a target is rolled back.
    pub(in crate::rollout) can_roll_back: bool,
    pub(in crate::rollout) board: watch::Receiver<Vec<Stands>>,
    pub(in crate::rollout) inputs: mpsc::Sender<Input>,
    /// The leases that the guest has in hand.
    pub(in crate::rollout) claimed: Claimed,
    /// Targets that the guest has let go since it began: called again, that is refused.
    pub(in crate::rollout) started: BTreeSet<usize>,
    /// Those of them that may have to go again: an earlier runner announced them, and they never began. They do once nothing
    /// that the guest holds is gone.
    pub(in crate::rollout) recalled: Vec<usize>,
    /// Whether it has called anything since it began: nobody writes checkpoints alone, as fast as the store takes them.
    pub(in crate::rollout) has_called: bool,
}

/// Why nothing more is answered.
enum Over {
    /// The guest calls otherwise than before, or too much.
    Failed(Fault),
    /// The guest begins again from here: what it holds, it finds.
    Again { state: Vec<u8>, at: u64 },
    /// The run is somebody else's, or may be: whoever that is goes on.
    Lost,
}

impl From<RunStateError> for Over {
    fn from(error: RunStateError) -> Self {
        match error.is_lost() {
            true => Self::Lost,
            false => Self::Failed(Fault { kind: "calls", message: error.to_string(), hint: None }),
        }
    }
}

impl OrchestrationDriver {
    /// Runs the guest to its end, however often it begins again from a checkpoint, and says how that was.
    pub(in crate::rollout) async fn orchestration(mut self, mut beginning: Beginning) {
        let how = loop {
            match self.follow(beginning.clone()).await {
                Ok(how) => break how,
                Err(Over::Again { state, at }) => {
                    (beginning.state, beginning.now) = (Some(state), at);
                    // It has nothing in hand: the same as whoever begins there after a crash.
                    self.claimed.clear();
                    self.started.clear();
                    self.invite_recalled().await;
                    self.has_called = false;
                }
                Err(Over::Failed(fault)) => break OrchestrationEnd::Failed(fault),
                Err(Over::Lost) => return,
            }
        };
        // The loop ends after its last input.
        let _ = self.inputs.send(Input::OrchestrationEnded(how)).await;
    }

    /// Runs the guest once.
    async fn follow(&mut self, beginning: Beginning) -> Result<OrchestrationEnd, Over> {
        let (calls, mut asked) = mpsc::channel(1);
        let orchestration = self.spec.orchestration.clone();
        let mut guest = std::pin::pin!(orchestration.run(beginning, calls));
        loop {
            let Asked { call, said, answer } = tokio::select! {
                biased;
                done = &mut guest => {
                    if done.is_ok() {
                        self.invite_recalled().await;
                    }
                    return Ok(self.ended(done));
                }
                Some(asked) = asked.recv() => asked,
            };
            for line in said {
                let _ = self.inputs.send(Input::Orchestration(OrchestrationEvent::Log(line))).await;
            }
            // A guest that is gone meanwhile needs none.
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

    /// What it called next the last time.
    fn expected(&self) -> Option<&Call> {
        let recorded = self.recorded.front().map(|called| &called.call);
        recorded.or_else(|| self.begun.as_ref().map(|begun| &begun.call))
    }

    async fn answer(&mut self, call: Call) -> Result<Answered, Over> {
        if let Some(known) = self.expected().filter(|known| **known != call) {
            return Err(Over::Failed(diverged(known, Some(&call))));
        }
        if let Some(known) = self.recorded.pop_front() {
            self.remember(&known);
            let answered = Answered { answer: known.answer.clone(), at: known.answered };
            let _ = self.inputs.send(Input::Orchestration(OrchestrationEvent::Replayed(known))).await;
            return Ok(answered);
        }
        if let Call::Checkpoint { state } = &call
            && self.has_called
        {
            let at = self.store.clock().now_ms();
            self.calls.checkpoint(state.clone(), at).await?;
            let state = hex::decode(state).unwrap_or_default();
            let called = Called { call, answer: Answer::Done, since: at, answered: at };
            let _ = self.inputs.send(Input::Orchestration(OrchestrationEvent::Answered(called))).await;
            return Err(Over::Again { state, at });
        }
        if self.calls.left() == 0 {
            return Err(Over::Failed(Fault {
                kind: "too-many-calls",
                message: format!("the orchestration has called {MOST_CALLS} times since its last checkpoint"),
                hint: Some("call `checkpoint(state)` now and then: it begins again from there".to_owned()),
            }));
        }
        let begun = match self.begun.take() {
            Some(begun) => begun,
            None => {
                let attempts = self.attempts_before(&call);
                let begun = Begun { since: self.store.clock().now_ms(), call, attempts };
                if self.is_timed(&begun.call) || begun.attempts.is_some() {
                    self.calls.begin(&begun).await?;
                }
                begun
            }
        };
        let _ = self.inputs.send(Input::Orchestration(OrchestrationEvent::Started(begun.clone()))).await;
        let answer = self.carry_out(&begun).await?;
        self.again = false;
        let Begun { call, since, .. } = begun;
        let mut called = Called { call, answer, since, answered: self.store.clock().now_ms() };
        if !Calls::fits(&called) {
            called.answer = Answer::Error(CallError::Refused("the answer is larger than a run keeps".to_owned()));
        }
        self.calls.write(&called).await?;
        self.remember(&called);
        let answered = Answered { answer: called.answer.clone(), at: called.answered };
        let _ = self.inputs.send(Input::Orchestration(OrchestrationEvent::Answered(called))).await;
        Ok(answered)
    }

    /// Whether a call's time may run out.
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

    /// What an answer means for those that follow, given now or before.
    fn remember(&mut self, called: &Called) {
        self.has_called |= !matches!(called.call, Call::Checkpoint { .. });
        match (&called.call, &called.answer) {
            (Call::Lock { path, .. } | Call::TryLock { path } | Call::Force { path, .. }, Answer::Held(fence)) => {
                self.claimed.hand_over(path, *fence);
            }
            (Call::Release { path }, _) => {
                self.claimed.let_go(path);
            }
            (Call::RecoveredLeases, Answer::Leases(leases)) => {
                leases.iter().for_each(|(path, fence)| self.claimed.hand_over(path, *fence));
            }
            (Call::Start { target, .. }, Answer::Done) => {
                if let Some(&target) = self.targets.get(target) {
                    self.started.insert(target);
                    self.recalled.push(target);
                }
            }
            _ => {}
        }
    }

    // ------------------------------------------------------------------ the calls

    /// How long a call may wait, in milliseconds: as long as it says, and no longer than the job lets it.
    fn within(&self, timeout: Option<u64>) -> Option<u64> {
        let most = self.spec.timeout.map(millis);
        match (timeout, most) {
            (Some(timeout), Some(most)) => Some(timeout.min(most)),
            (timeout, most) => timeout.or(most),
        }
    }

    /// When a call's time runs out that began then; none: never.
    fn deadline(&self, since: u64, timeout: Option<u64>) -> Option<Instant> {
        let left = self.within(timeout)?.saturating_sub(self.store.clock().now_ms().saturating_sub(since));
        // More than a clock can count is never, too.
        Instant::now().checked_add(Duration::from_millis(left))
    }

    async fn carry_out(&mut self, begun: &Begun) -> Result<Answer, Over> {
        if self.again && self.come_to_rest(&begun.call).await.is_err() {
            return Err(Over::Lost);
        }
        let is_under_leases = match &begun.call {
            // Of one that has begun only that is to be said.
            Call::Start { target, .. } => {
                self.known(target).is_ok_and(|target| self.status(target) == ContractStatus::Open)
            }
            Call::RollBack { target, .. } => {
                self.known(target).is_ok_and(|target| self.is_to_be_undone(target, begun.attempts))
            }
            call => call.waits(),
        };
        let carried = match is_under_leases {
            true => self.carry_out_while_held(begun).await,
            false => self.carried(begun).await,
        };
        match carried {
            Ok(answer) => Ok(answer),
            Err(Failed::Error(fault)) => Ok(Answer::Error(fault)),
            Err(Failed::Lost) => Err(Over::Lost),
        }
    }

    /// As long as no lease is gone that the guest has in hand: it would wait, or let targets go, under what is somebody
    /// else's.
    async fn carry_out_while_held(&mut self, begun: &Begun) -> Result<Answer, Failed> {
        let leases = self.followed().await?;
        if !leases.iter().any(|(_, lease)| lease.is_lost()) {
            self.invite_recalled().await;
        }
        let undone = self.undone(&begun.call);
        let why = tokio::select! {
            biased;
            why = gone(leases) => why,
            carried = self.carried(begun) => return carried,
        };
        match (&begun.call, why) {
            (Call::Start { target, .. }, why @ Failed::Error(_)) => self.take_back(target, why).await,
            (Call::RollBack { target, .. }, why @ Failed::Error(_)) => self.leave_done(target, undone, why).await,
            (_, why) => Err(why),
        }
    }

    async fn invite_recalled(&mut self) {
        for target in std::mem::take(&mut self.recalled) {
            // The loop ends after its last input.
            let _ = self.inputs.send(Input::Invite { target }).await;
        }
    }

    async fn carried(&mut self, &Begun { ref call, since, attempts }: &Begun) -> Result<Answer, Failed> {
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
            Call::StatusOf { target } => self.known(target).map(|target| Answer::Status(self.status(target))),
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
            // Any other is where it is answered.
            Call::Checkpoint { .. } => Err(refused("nothing was called since the last checkpoint".to_owned())),
        }
    }

    fn semaphore(&self, path: &str) -> Result<Semaphore, Failed> {
        let listed = self.spec.semaphores.iter().find(|(listed, _)| listed.as_str() == path);
        let Some((path, slots)) = listed else {
            return Err(refused(format!("the job's `orchestration.semaphores` do not list `{path}`")));
        };
        Ok(Semaphore::of_stored_slots(Arc::clone(&self.store), path.clone(), *slots))
    }

    async fn members(&self, path: &str, at_least: u32, patience: Patience) -> Result<Answer, Failed> {
        let Some(path) = self.spec.parties.iter().find(|listed| listed.as_str() == path) else {
            return Err(refused(format!("the job's `orchestration.parties` do not list `{path}`")));
        };
        let party = Party::new(Arc::clone(&self.store), path.clone());
        let found = match at_least {
            0 => party.members().await?,
            _ => match party.wait_for(at_least as usize, patience).await {
                Ok(members) => members,
                Err(WaitError::TooFew { .. }) => return Err(Failed::Error(CallError::TimedOut)),
                Err(WaitError::SessionOver { .. }) => return Err(Failed::Lost),
                Err(WaitError::Store { source, .. }) => return Err(source.into()),
            },
        };
        let member = |member: Member| contract::Member { identifier: member.identifier, since: member.since_ms };
        let mut members: Vec<contract::Member> = found.into_iter().map(member).collect();
        members.sort_by(|a, b| (&a.identifier, a.since).cmp(&(&b.identifier, b.since)));
        Ok(Answer::Party(contract::Party { path: path.to_string(), min_members: 0, members }))
    }
}

/// Why one call came to nothing.
enum Failed {
    Error(CallError),
    Lost,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::SessionOver => Self::Lost,
            StoreError::Refused { .. } => Self::Error(CallError::Refused(error.to_string())),
            error => Self::Error(CallError::Unavailable(error.to_string())),
        }
    }
}

impl From<RunStateError> for Failed {
    fn from(error: RunStateError) -> Self {
        match error {
            error if error.is_lost() => Self::Lost,
            RunStateError::Store(error) => error.into(),
            error => Self::Error(CallError::Unavailable(error.to_string())),
        }
    }
}

fn refused(why: String) -> Failed {
    Failed::Error(CallError::Refused(why))
}

/// A guest that does not do again what it did.
fn diverged(known: &Call, called: Option<&Call>) -> Fault {
    let now = called.map_or_else(|| "ends".to_owned(), |called| format!("calls `{called}`"));
    Fault {
        kind: "diverged",
        message: format!("run again, the orchestration {now} where it called `{known}` before"),
        hint: Some("nothing but its settings, its answers and `now` may decide what it calls next".to_owned()),
    }
}

/// Waits until the board is so. False: the time ran out.
async fn until(
    board: &mut watch::Receiver<Vec<Stands>>,
    deadline: Option<Instant>,
    is_so: impl FnMut(&Vec<Stands>) -> bool,
) -> Result<bool, Failed> {
    let wait = board.wait_for(is_so);
    let found = match deadline {
        Some(deadline) => match timeout_at(deadline, wait).await {
            Ok(found) => found,
            Err(_) => return Ok(false),
        },
        None => wait.await,
    };
    found.map(|_| true).map_err(|_| Failed::Lost)
}

fn patience(deadline: Option<Instant>) -> Patience {
    deadline.map_or(Patience::Forever, Patience::Until)
}
