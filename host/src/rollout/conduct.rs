//! Carries out what an orchestration calls: by the recipes, and by the machine, which alone lets a target act.
//!
//! # Durability
//! A call is carried out, written down ([`Calls`]) and then answered. A guest that is run again is answered from what was
//! written until it calls what was not; that is carried out, and finds what it did before it was cut off: a lease under the
//! run's name, a target that acts already. A call that is another than the one written down ends the run.
//!
//! # Leases
//! They are persistent and have the run's name for an identifier, so that whoever goes on with the run finds them; it is the
//! run's end that gives back what the guest has left.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::ledger::{Begun, Called, Calls, LedgerError, MOST_CALLS};
use super::messages::{Conducted, Conducts, Fault, Input};
use super::state::{Final, TargetState};
use crate::job::OrchestrationSpec;
use crate::policy::PolicyError;
use crate::policy::orchestration::{
    Advice, Answer, Answered, Asked, Beginning, Call, Fault as CallFault, Orchestration, Standing,
};
use crate::policy::types::{self as contract, Ending, Outcome};
use crate::recipe::{
    AcquireError, Acquired, ForceError, Forced, ForcedRecords, Holder, Identifier, Member, Party, Patience, Semaphore,
    WaitError,
};
use crate::store::{Lifetime, NodePath, Store, StoreError};

/// What a job says of its orchestration.
#[derive(Debug, Clone)]
pub struct Conducting {
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

impl Conducting {
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
pub(super) struct Stands {
    pub(super) state: TargetState,
    pub(super) outcome: Option<Outcome>,
    /// What the policy said of it last when the orchestration asked.
    pub(super) advice: Option<Advice>,
    /// How often it did.
    pub(super) advised: u64,
}

/// One orchestration at work.
pub(super) struct Conductor {
    pub(super) spec: Conducting,
    pub(super) store: Arc<dyn Store>,
    /// The run's name: whose leases they are.
    pub(super) who: Identifier,
    pub(super) calls: Calls,
    /// What was called before, and not yet again.
    pub(super) recorded: VecDeque<Called>,
    /// What came after that, and was not answered.
    pub(super) begun: Option<Begun>,
    /// Whether an earlier runner may have carried out what is called next.
    pub(super) again: bool,
    pub(super) targets: HashMap<String, usize>,
    pub(super) board: watch::Receiver<Vec<Stands>>,
    pub(super) inputs: mpsc::Sender<Input>,
    /// Semaphores of which the guest has a lease in hand.
    pub(super) claimed: BTreeSet<String>,
    /// Whether it has called anything since it began: nobody writes checkpoints alone, as fast as the store takes them.
    pub(super) has_called: bool,
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

impl From<LedgerError> for Over {
    fn from(error: LedgerError) -> Self {
        match error.is_lost() {
            true => Self::Lost,
            false => Self::Failed(Fault { kind: "calls", message: error.to_string(), hint: None }),
        }
    }
}

impl Conductor {
    /// Runs the guest to its end, however often it begins again from a checkpoint, and says how that was.
    pub(super) async fn conduct(mut self, mut beginning: Beginning) {
        let how = loop {
            match self.follow(beginning.clone()).await {
                Ok(how) => break how,
                Err(Over::Again { state, at }) => {
                    (beginning.state, beginning.now) = (Some(state), at);
                    // It has nothing in hand: the same as whoever begins there after a crash.
                    self.claimed.clear();
                    self.has_called = false;
                }
                Err(Over::Failed(fault)) => break Conducted::Failed(fault),
                Err(Over::Lost) => return,
            }
        };
        // The loop ends after its last input.
        let _ = self.inputs.send(Input::Conducted(how)).await;
    }

    /// Runs the guest once.
    async fn follow(&mut self, beginning: Beginning) -> Result<Conducted, Over> {
        let (calls, mut asked) = mpsc::channel(1);
        let orchestration = self.spec.orchestration.clone();
        let mut guest = std::pin::pin!(orchestration.conduct(beginning, calls));
        loop {
            let Asked { call, said, answer } = tokio::select! {
                biased;
                done = &mut guest => return Ok(self.ended(done)),
                Some(asked) = asked.recv() => asked,
            };
            for line in said {
                let _ = self.inputs.send(Input::Conducts(Conducts::Says(line))).await;
            }
            // A guest that is gone meanwhile needs none.
            let _ = answer.send(self.answer(call).await?);
        }
    }

    fn ended(&self, done: Result<(), PolicyError>) -> Conducted {
        match done {
            Ok(()) => match self.expected() {
                Some(next) => Conducted::Failed(diverged(next, None)),
                None => Conducted::Done,
            },
            Err(PolicyError::GaveUp { message }) => Conducted::GaveUp(message),
            Err(error) => {
                Conducted::Failed(Fault { kind: error.kind(), message: error.of_orchestration(), hint: error.hint() })
            }
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
            self.remember(&known).await;
            let answered = Answered { answer: known.answer.clone(), at: known.answered };
            let _ = self.inputs.send(Input::Conducts(Conducts::Recalled(known))).await;
            return Ok(answered);
        }
        if let Call::Checkpoint { state } = &call
            && self.has_called
        {
            let at = self.store.clock().now_ms();
            self.calls.checkpoint(state.clone(), at).await?;
            let state = hex::decode(state).unwrap_or_default();
            let called = Called { call, answer: Answer::Done, since: at, answered: at };
            let _ = self.inputs.send(Input::Conducts(Conducts::Answered(called))).await;
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
                let begun = Begun { since: self.store.clock().now_ms(), call };
                if self.is_timed(&begun.call) {
                    self.calls.begin(&begun).await?;
                }
                begun
            }
        };
        let _ = self.inputs.send(Input::Conducts(Conducts::Calls(begun.clone()))).await;
        let answer = self.carry_out(&begun).await?;
        self.again = false;
        let Begun { call, since } = begun;
        let mut called = Called { call, answer, since, answered: self.store.clock().now_ms() };
        if !Calls::fits(&called) {
            called.answer = Answer::Fault(CallFault::Refused("the answer is larger than a run keeps".to_owned()));
        }
        self.calls.write(&called).await?;
        self.remember(&called).await;
        let answered = Answered { answer: called.answer.clone(), at: called.answered };
        let _ = self.inputs.send(Input::Conducts(Conducts::Answered(called))).await;
        Ok(answered)
    }

    /// Whether a call's time may run out.
    fn is_timed(&self, call: &Call) -> bool {
        match call {
            Call::Lock { timeout, .. }
            | Call::WaitMembers { timeout, .. }
            | Call::Start { timeout, .. }
            | Call::WaitAny { timeout, .. } => self.within(*timeout).is_some(),
            Call::Sleep { .. } => true,
            _ => false,
        }
    }

    /// What an answer means for those that follow, given now or before.
    async fn remember(&mut self, called: &Called) {
        self.has_called |= !matches!(called.call, Call::Checkpoint { .. });
        match (&called.call, &called.answer) {
            (Call::Lock { path, .. } | Call::TryLock { path } | Call::Force { path, .. }, Answer::Held(_)) => {
                self.claimed.insert(path.clone());
            }
            (Call::Release { path }, _) => {
                self.claimed.remove(path);
            }
            (Call::FoundLeases, Answer::Leases(leases)) => {
                self.claimed.extend(leases.iter().map(|(path, _)| path.clone()));
            }
            // It may have to go again: an earlier runner announced it, and it never began.
            (Call::Start { target, .. }, Answer::Done) => {
                if let Some(&target) = self.targets.get(target) {
                    let _ = self.inputs.send(Input::Invite { target }).await;
                }
            }
            _ => {}
        }
    }

    // ------------------------------------------------------------------ the calls

    /// How long a call may wait, in milliseconds: as long as it says, and no longer than the job lets it.
    fn within(&self, timeout: Option<u64>) -> Option<u64> {
        let most = self.spec.timeout.map(|most| u64::try_from(most.as_millis()).unwrap_or(u64::MAX));
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

    async fn carry_out(&mut self, &Begun { ref call, since }: &Begun) -> Result<Answer, Over> {
        let carried = match call {
            Call::Lock { path, timeout } => self.lock(path, patience(self.deadline(since, *timeout))).await,
            Call::TryLock { path } => self.lock(path, Patience::Once).await,
            Call::Force { path, breaking, reason } => self.force(path, breaking, reason).await,
            Call::Release { path } => self.release(path).await,
            Call::StillHeld { path } => self.still_held(path).await,
            Call::FoundLeases => self.found_leases().await,
            Call::Holders { path } => self.holders(path).await,
            Call::Members { path } => self.members(path, 0, Patience::Once).await,
            Call::WaitMembers { path, at_least, timeout } => {
                self.members(path, *at_least, patience(self.deadline(since, *timeout))).await
            }
            Call::StandingOf { target } => self.known(target).map(|target| Answer::Standing(self.standing(target))),
            Call::Admit { target } => self.admit(target).await,
            Call::Start { target, timeout } => self.start(target, self.deadline(since, *timeout)).await,
            Call::WaitAny { among, timeout } => self.wait_any(among, self.deadline(since, *timeout)).await,
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
        };
        match carried {
            Ok(answer) => Ok(answer),
            Err(Failed::Fault(fault)) => Ok(Answer::Fault(fault)),
            Err(Failed::Lost) => Err(Over::Lost),
        }
    }

    fn semaphore(&self, path: &str) -> Result<Semaphore, Failed> {
        let listed = self.spec.semaphores.iter().find(|(listed, _)| listed.as_str() == path);
        let Some((path, slots)) = listed else {
            return Err(refused(format!("the job's `orchestration.semaphores` do not list `{path}`")));
        };
        Ok(Semaphore::new(Arc::clone(&self.store), path.clone(), *slots))
    }

    async fn lock(&self, path: &str, patience: Patience) -> Result<Answer, Failed> {
        let semaphore = self.semaphore(path)?;
        if self.claimed.contains(path) {
            return Err(refused(format!("the run holds a slot of `{path}` already")));
        }
        match semaphore.acquire(&self.who, Lifetime::Persistent, patience).await {
            Ok(Acquired { lease, .. }) => {
                let fence = unsigned(lease.fence());
                lease.forget();
                Ok(Answer::Held(fence))
            }
            Err(AcquireError::Full { .. }) => Ok(Answer::NotFree),
            Err(AcquireError::TimedOut { .. }) => Err(Failed::Fault(CallFault::TimedOut)),
            Err(error @ AcquireError::SlotsDiffer { .. }) => Err(refused(error.to_string())),
            Err(AcquireError::SessionOver { .. }) => Err(Failed::Lost),
            Err(AcquireError::Store { source, .. }) => Err(source.into()),
            Err(error) => Err(Failed::Fault(CallFault::Unavailable(error.to_string()))),
        }
    }

    async fn force(&self, path: &str, breaking: &[u64], reason: &str) -> Result<Answer, Failed> {
        let semaphore = self.semaphore(path)?;
        if !self.spec.may_force {
            return Err(refused("the job's `orchestration.grants` do not list `force`".to_owned()));
        }
        if let Some(held) = self.own(&semaphore).await? {
            // What was taken before it was cut off.
            return Ok(Answer::Held(unsigned(held.fence)));
        }
        let breaking: Vec<i64> = breaking.iter().filter_map(|fence| i64::try_from(*fence).ok()).collect();
        match semaphore.force(&self.who, Lifetime::Persistent, &breaking).await {
            Ok(lease) => {
                let by = format!("run `{}`", self.who);
                let at = self.store.clock().now_ms();
                let record = Forced { lease: lease.path().to_string(), by, reason: reason.to_owned(), at };
                // A record that cannot be kept stops nobody.
                let _ = ForcedRecords::new(Arc::clone(&self.store)).keep(lease.path(), &record).await;
                let fence = unsigned(lease.fence());
                lease.forget();
                Ok(Answer::Held(fence))
            }
            Err(error @ (ForceError::Conflict { .. } | ForceError::Deleted { .. })) => {
                Err(Failed::Fault(CallFault::Conflict(error.to_string())))
            }
            Err(ForceError::SessionOver { .. }) => Err(Failed::Lost),
            Err(ForceError::Store { source, .. } | ForceError::Along { source, .. }) => Err(source.into()),
        }
    }

    async fn release(&self, path: &str) -> Result<Answer, Failed> {
        self.semaphore(path)?.unlock(&self.who).await?;
        Ok(Answer::Done)
    }

    async fn still_held(&self, path: &str) -> Result<Answer, Failed> {
        let semaphore = self.semaphore(path)?;
        Ok(Answer::Flag(self.own(&semaphore).await?.is_some()))
    }

    async fn own(&self, semaphore: &Semaphore) -> Result<Option<Holder>, Failed> {
        let holders = semaphore.holders().await?;
        Ok(holders.into_iter().find(|holder| !holder.ephemeral && holder.identifier == self.who.as_str()))
    }

    async fn found_leases(&self) -> Result<Answer, Failed> {
        let mut found = Vec::new();
        for (path, _) in &self.spec.semaphores {
            if self.claimed.contains(path.as_str()) {
                continue;
            }
            if let Some(held) = self.own(&self.semaphore(path.as_str())?).await? {
                found.push((path.to_string(), unsigned(held.fence)));
            }
        }
        Ok(Answer::Leases(found))
    }

    async fn holders(&self, path: &str) -> Result<Answer, Failed> {
        let semaphore = self.semaphore(path)?;
        let (state, _) = semaphore.observe().await?;
        let lease = |holder: Holder| contract::Lease {
            mine: holder.identifier == self.who.as_str(),
            identifier: holder.identifier,
            fence: unsigned(holder.fence),
            since: holder.since_ms,
            ephemeral: holder.ephemeral,
            alive: None,
        };
        Ok(Answer::Semaphore(contract::Semaphore {
            path: path.to_owned(),
            slots: state.slots.unwrap_or(semaphore.slots().get()),
            leases: state.holders.into_iter().map(lease).collect(),
            queued: state.queued,
        }))
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
                Err(WaitError::TooFew { .. }) => return Err(Failed::Fault(CallFault::TimedOut)),
                Err(WaitError::SessionOver { .. }) => return Err(Failed::Lost),
                Err(WaitError::Store { source, .. }) => return Err(source.into()),
            },
        };
        let member = |member: Member| contract::Member { identifier: member.identifier, since: member.since_ms };
        let mut members: Vec<contract::Member> = found.into_iter().map(member).collect();
        members.sort_by(|a, b| (&a.identifier, a.since).cmp(&(&b.identifier, b.since)));
        Ok(Answer::Party(contract::Party { path: path.to_string(), min_members: 0, members }))
    }

    // ------------------------------------------------------------------ targets

    fn known(&self, target: &str) -> Result<usize, Failed> {
        let unknown = || refused(format!("the job has no target `{target}`"));
        self.targets.get(target).copied().ok_or_else(unknown)
    }

    fn standing(&self, target: usize) -> Standing {
        standing(self.board.borrow()[target].state)
    }

    async fn admit(&mut self, name: &str) -> Result<Answer, Failed> {
        let target = self.known(name)?;
        if self.standing(target) != Standing::Open {
            return Err(refused(format!("`{name}` is {} already", self.standing(target).word())));
        }
        let before = self.board.borrow()[target].advised;
        self.say(Input::Consult { target }).await?;
        until(&mut self.board, None, |board| board[target].advised != before).await?;
        let advice = self.board.borrow()[target].advice.clone();
        advice.map(Answer::Advice).ok_or(Failed::Lost)
    }

    async fn start(&mut self, name: &str, deadline: Option<Instant>) -> Result<Answer, Failed> {
        let target = self.known(name)?;
        match self.standing(target) {
            Standing::Open => {}
            Standing::Acting => return Ok(Answer::Done),
            Standing::Done | Standing::Failed | Standing::Unknown | Standing::RolledBack if self.again => {
                return Ok(Answer::Done);
            }
            over => return Err(refused(format!("`{name}` is {} already", over.word()))),
        }
        self.say(Input::Invite { target }).await?;
        let has_begun = |board: &Vec<Stands>| standing(board[target].state) != Standing::Open;
        if until(&mut self.board, deadline, has_begun).await? {
            return match self.standing(target) {
                Standing::Skipped => Err(refused(format!("`{name}` was left out before it began"))),
                _ => Ok(Answer::Done),
            };
        }
        self.say(Input::TakeBack { target }).await?;
        // It may be about to begin, and then it has.
        let is_settled =
            |board: &Vec<Stands>| !matches!(board[target].state, TargetState::Queued | TargetState::Leased);
        until(&mut self.board, None, is_settled).await?;
        match self.standing(target) {
            Standing::Open => Err(Failed::Fault(CallFault::TimedOut)),
            _ => Ok(Answer::Done),
        }
    }

    async fn wait_any(&mut self, among: &[String], deadline: Option<Instant>) -> Result<Answer, Failed> {
        let among: Vec<(String, usize)> =
            among.iter().map(|name| Ok((name.clone(), self.known(name)?))).collect::<Result<_, Failed>>()?;
        let is_over = |board: &Vec<Stands>, target: usize| matches!(board[target].state, TargetState::Final(_));
        let any = |board: &Vec<Stands>| among.iter().any(|(_, target)| is_over(board, *target));
        if !until(&mut self.board, deadline, any).await? {
            return Ok(Answer::Ended(None));
        }
        let board = self.board.borrow();
        let first = among.iter().find(|(_, target)| is_over(&board, *target));
        Ok(Answer::Ended(first.map(|(name, target)| (name.clone(), outcome(&board[*target])))))
    }

    async fn skip(&mut self, name: &str, reason: &str) -> Result<Answer, Failed> {
        let target = self.known(name)?;
        match self.standing(target) {
            Standing::Open => {}
            Standing::Skipped if self.again => return Ok(Answer::Done),
            over => return Err(refused(format!("`{name}` is {} already", over.word()))),
        }
        self.say(Input::LeaveOut { target, reason: reason.to_owned() }).await?;
        until(&mut self.board, None, |board| standing(board[target].state) != Standing::Open).await?;
        Ok(Answer::Done)
    }

    async fn say(&self, input: Input) -> Result<(), Failed> {
        self.inputs.send(input).await.map_err(|_| Failed::Lost)
    }
}

/// Why one call came to nothing.
enum Failed {
    Fault(CallFault),
    Lost,
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::SessionOver => Self::Lost,
            StoreError::Refused { .. } => Self::Fault(CallFault::Refused(error.to_string())),
            error => Self::Fault(CallFault::Unavailable(error.to_string())),
        }
    }
}

fn refused(why: String) -> Failed {
    Failed::Fault(CallFault::Refused(why))
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

fn standing(state: TargetState) -> Standing {
    match state {
        TargetState::Pending | TargetState::Waiting | TargetState::Queued | TargetState::Leased => Standing::Open,
        TargetState::Acting
        | TargetState::Unsettled
        | TargetState::Acted(_)
        | TargetState::Reverting
        | TargetState::Reverted(_) => Standing::Acting,
        TargetState::Final(Final::Done) => Standing::Done,
        TargetState::Final(Final::Failed) => Standing::Failed,
        TargetState::Final(Final::Unknown) => Standing::Unknown,
        TargetState::Final(Final::RolledBack) => Standing::RolledBack,
        TargetState::Final(Final::Skipped) => Standing::Skipped,
    }
}

/// How a target's action ended; of one that an earlier runner was done with, what is known still.
fn outcome(stands: &Stands) -> Outcome {
    let ending = match standing(stands.state) {
        Standing::Done => Ending::Succeeded,
        Standing::Failed | Standing::RolledBack | Standing::Skipped => Ending::Failed,
        Standing::Open | Standing::Acting | Standing::Unknown => Ending::Unknown,
    };
    stands.outcome.filter(|outcome| outcome.ending == ending || ending == Ending::Failed).unwrap_or(Outcome {
        ending,
        exit_code: None,
        took: 0,
        attempt: 0,
    })
}

fn unsigned(fence: i64) -> u64 {
    u64::try_from(fence).unwrap_or(0)
}
