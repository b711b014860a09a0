//! What a guest wants of the job's targets: said to the machine, and waited for.

use tokio::time::Instant;

use super::{Failed, OrchestrationDriver, Stands, refused, until};
use crate::policy::orchestration::{Answer, Call, CallError, TargetStatus as ContractStatus};
use crate::policy::types::{Ending, Outcome};
use crate::rollout::model::{FinalStatus, Input, TargetStatus};

impl OrchestrationDriver {
    pub(super) fn known(&self, target: &str) -> Result<usize, Failed> {
        let unknown = || refused(format!("the job has no target `{target}`"));
        self.targets.get(target).copied().ok_or_else(unknown)
    }

    pub(super) fn status(&self, target: usize) -> ContractStatus {
        status(self.board.borrow()[target].state)
    }

    pub(super) async fn admit(&mut self, name: &str) -> Result<Answer, Failed> {
        let target = self.known(name)?;
        if self.status(target) != ContractStatus::Open {
            return Err(refused(format!("`{name}` is {} already", self.status(target).word())));
        }
        let before = self.board.borrow()[target].advised;
        self.say(Input::Consult { target }).await?;
        until(&mut self.board, None, |board| board[target].advised != before).await?;
        let advice = self.board.borrow()[target].advice.clone();
        advice.map(Answer::Advice).ok_or(Failed::Lost)
    }

    pub(super) async fn start(&mut self, name: &str, deadline: Option<Instant>) -> Result<Answer, Failed> {
        let target = self.known(name)?;
        match self.status(target) {
            ContractStatus::Open => {}
            ContractStatus::Running => return Ok(Answer::Done),
            ContractStatus::Succeeded
            | ContractStatus::Failed
            | ContractStatus::Unknown
            | ContractStatus::RolledBack
                if self.again && !self.started.contains(&target) =>
            {
                return Ok(Answer::Done);
            }
            over => return Err(refused(format!("`{name}` is {} already", over.word()))),
        }
        self.say(Input::Invite { target }).await?;
        let has_begun = |board: &Vec<Stands>| status(board[target].state) != ContractStatus::Open;
        if until(&mut self.board, deadline, has_begun).await? {
            return match self.status(target) {
                ContractStatus::Skipped => Err(refused(format!("`{name}` was left out before it began"))),
                _ => Ok(Answer::Done),
            };
        }
        self.take_back(name, Failed::Error(CallError::TimedOut)).await
    }

    /// Waits no longer for a target to begin: for this reason, unless it has begun by then.
    pub(super) async fn take_back(&mut self, name: &str, why: Failed) -> Result<Answer, Failed> {
        let target = self.known(name)?;
        self.no_longer(target).await?;
        match self.status(target) {
            ContractStatus::Open => Err(why),
            _ => Ok(Answer::Done),
        }
    }

    pub(super) async fn wait_any(&mut self, among: &[String], deadline: Option<Instant>) -> Result<Answer, Failed> {
        let among: Vec<(String, usize)> =
            among.iter().map(|name| Ok((name.clone(), self.known(name)?))).collect::<Result<_, Failed>>()?;
        let is_over = |board: &Vec<Stands>, target: usize| matches!(board[target].state, TargetStatus::Final(_));
        let any = |board: &Vec<Stands>| among.iter().any(|(_, target)| is_over(board, *target));
        if !until(&mut self.board, deadline, any).await? {
            return Ok(Answer::Ended(None));
        }
        let board = self.board.borrow();
        let first = among.iter().find(|(_, target)| is_over(&board, *target));
        Ok(Answer::Ended(first.map(|(name, target)| (name.clone(), outcome(&board[*target])))))
    }

    /// How often something was begun on the target of a roll-back before it is called.
    pub(super) fn attempts_before(&self, call: &Call) -> Option<u32> {
        match call {
            Call::RollBack { target, .. } => self.known(target).ok().map(|target| self.board.borrow()[target].attempt),
            _ => None,
        }
    }

    /// Waits until a roll-back's target is where it was before an earlier runner took a slot for it.
    pub(super) async fn come_to_rest(&mut self, call: &Call) -> Result<(), Failed> {
        match call {
            Call::RollBack { target, .. } => match self.known(target) {
                Ok(target) => until(&mut self.board, None, |board| !is_about_to(&board[target])).await.map(drop),
                Err(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// How many roll-backs of a roll-back's target have ended before it is called.
    pub(super) fn undone(&self, call: &Call) -> u64 {
        match call {
            Call::RollBack { target, .. } => self.known(target).map_or(0, |target| self.board.borrow()[target].undone),
            _ => 0,
        }
    }

    /// Whether a target's roll-back is still to begin: no earlier runner began the one that was called then.
    pub(super) fn is_to_be_undone(&self, target: usize, attempts: Option<u32>) -> bool {
        let has_begun = attempts.is_some_and(|attempts| self.board.borrow()[target].attempt > attempts);
        !has_begun
            && matches!(
                self.status(target),
                ContractStatus::Succeeded | ContractStatus::Failed | ContractStatus::Unknown
            )
    }

    pub(super) async fn roll_back(
        &mut self,
        name: &str,
        reason: &str,
        deadline: Option<Instant>,
        attempts: Option<u32>,
    ) -> Result<Answer, Failed> {
        let target = self.known(name)?;
        if !self.can_roll_back {
            return Err(refused("the job has no `action.roll-back`".to_owned()));
        }
        let undone = self.board.borrow()[target].undone;
        if !self.is_to_be_undone(target, attempts) {
            if attempts.is_some_and(|attempts| self.board.borrow()[target].attempt > attempts) {
                return self.undone_as(name, target).await;
            }
            let word = self.status(target).word();
            return Err(refused(format!("`{name}` is {word}: nothing is to be rolled back")));
        }
        self.say(Input::Undo { target, reason: reason.to_owned() }).await?;
        let has_begun = |board: &Vec<Stands>| is_undone(&board[target], undone);
        if until(&mut self.board, deadline, has_begun).await? {
            return self.undone_as(name, target).await;
        }
        self.leave_done(name, undone, Failed::Error(CallError::TimedOut)).await
    }

    /// Waits no longer for a roll-back to begin: for this reason, unless it has begun by then.
    pub(super) async fn leave_done(&mut self, name: &str, undone: u64, why: Failed) -> Result<Answer, Failed> {
        let target = self.known(name)?;
        self.no_longer(target).await?;
        let has_begun = is_undone(&self.board.borrow()[target], undone);
        match has_begun {
            true => self.undone_as(name, target).await,
            false => Err(why),
        }
    }

    /// Waits until the job is done with a target that is rolled back, and says how that went.
    async fn undone_as(&mut self, name: &str, target: usize) -> Result<Answer, Failed> {
        until(&mut self.board, None, |board| matches!(board[target].state, TargetStatus::Final(_))).await?;
        let board = self.board.borrow();
        let stands = &board[target];
        let ending = match status(stands.state) {
            ContractStatus::RolledBack => Ending::Succeeded,
            ContractStatus::Failed => Ending::Failed,
            _ => Ending::Unknown,
        };
        let known = stands.undone_as.filter(|outcome| outcome.ending == ending || ending == Ending::Failed);
        let attempt = stands.attempt;
        let outcome = known.unwrap_or(Outcome { ending, exit_code: None, took: 0, attempt });
        Ok(Answer::Ended(Some((name.to_owned(), outcome))))
    }

    pub(super) async fn skip(&mut self, name: &str, reason: &str) -> Result<Answer, Failed> {
        let target = self.known(name)?;
        match self.status(target) {
            ContractStatus::Open => {}
            ContractStatus::Skipped if self.again => return Ok(Answer::Done),
            over => return Err(refused(format!("`{name}` is {} already", over.word()))),
        }
        self.say(Input::LeaveOut { target, reason: reason.to_owned() }).await?;
        until(&mut self.board, None, |board| status(board[target].state) != ContractStatus::Open).await?;
        Ok(Answer::Done)
    }

    /// Takes a target back, and waits until what follows from that is known: it may be about to begin, and then it has.
    async fn no_longer(&mut self, target: usize) -> Result<(), Failed> {
        let before = self.board.borrow()[target].taken_back;
        self.say(Input::TakeBack { target }).await?;
        let is_settled = |board: &Vec<Stands>| board[target].taken_back != before && !is_about_to(&board[target]);
        until(&mut self.board, None, is_settled).await.map(drop)
    }

    async fn say(&self, input: Input) -> Result<(), Failed> {
        self.inputs.send(input).await.map_err(|_| Failed::Lost)
    }
}

/// Whether a target queues for a slot, or has one and does nothing under it yet.
fn is_about_to(stands: &Stands) -> bool {
    matches!(stands.state, TargetStatus::Queued | TargetStatus::Leased)
}

/// Whether a target is being rolled back, or was since so many were.
fn is_undone(stands: &Stands, undone: u64) -> bool {
    stands.undone != undone || matches!(stands.state, TargetStatus::RollingBack | TargetStatus::RollBackEnded(_))
}

fn status(state: TargetStatus) -> ContractStatus {
    match state {
        TargetStatus::Pending | TargetStatus::Waiting | TargetStatus::Queued | TargetStatus::Leased => {
            ContractStatus::Open
        }
        TargetStatus::Running
        | TargetStatus::Unsettled
        | TargetStatus::ActionEnded(_)
        | TargetStatus::RollingBack
        | TargetStatus::RollBackEnded(_) => ContractStatus::Running,
        TargetStatus::Final(FinalStatus::Succeeded) => ContractStatus::Succeeded,
        TargetStatus::Final(FinalStatus::Failed) => ContractStatus::Failed,
        TargetStatus::Final(FinalStatus::Unknown) => ContractStatus::Unknown,
        TargetStatus::Final(FinalStatus::RolledBack) => ContractStatus::RolledBack,
        TargetStatus::Final(FinalStatus::Skipped) => ContractStatus::Skipped,
    }
}

/// How a target's action ended; of one that an earlier runner was done with, what is known still.
fn outcome(stands: &Stands) -> Outcome {
    let ending = match status(stands.state) {
        ContractStatus::Succeeded => Ending::Succeeded,
        ContractStatus::Failed | ContractStatus::RolledBack | ContractStatus::Skipped => Ending::Failed,
        ContractStatus::Open | ContractStatus::Running | ContractStatus::Unknown => Ending::Unknown,
    };
    stands.outcome.filter(|outcome| outcome.ending == ending || ending == Ending::Failed).unwrap_or(Outcome {
        ending,
        exit_code: None,
        took: 0,
        attempt: 0,
    })
}
