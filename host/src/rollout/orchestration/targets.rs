//! Carries out a guest's calls about targets: passes them to the machine and waits for the result.

use tokio::time::Instant;

use super::{CallFailure, OrchestrationDriver, TargetView, refused, until};
use crate::policy::orchestration::{Answer, Call, CallError, TargetStatus as ContractStatus};
use crate::policy::types::{Ending, Outcome};
use crate::rollout::model::{FinalStatus, Input, TargetStatus};

impl OrchestrationDriver {
    pub(super) fn known(&self, target: &str) -> Result<usize, CallFailure> {
        let unknown = || refused(format!("the job has no target `{target}`"));
        self.targets.get(target).copied().ok_or_else(unknown)
    }

    pub(super) fn status(&self, target: usize) -> ContractStatus {
        status(self.board.borrow()[target].state)
    }

    pub(super) async fn admit(&mut self, name: &str) -> Result<Answer, CallFailure> {
        let target = self.known(name)?;
        if self.status(target) != ContractStatus::Open {
            return Err(refused(format!("`{name}` already has the status {}", self.status(target).word())));
        }
        let before = self.board.borrow()[target].advised;
        self.send(Input::Consult { target }).await?;
        until(&mut self.board, None, |board| board[target].advised != before).await?;
        let advice = self.board.borrow()[target].advice.clone();
        advice.map(Answer::Advice).ok_or(CallFailure::Lost)
    }

    pub(super) async fn start(&mut self, name: &str, deadline: Option<Instant>) -> Result<Answer, CallFailure> {
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
            over => return Err(refused(format!("`{name}` already has the status {}", over.word()))),
        }
        self.send(Input::Invite { target }).await?;
        let has_begun = |board: &Vec<TargetView>| status(board[target].state) != ContractStatus::Open;
        if until(&mut self.board, deadline, has_begun).await? {
            return match self.status(target) {
                ContractStatus::Skipped => Err(refused(format!("`{name}` was skipped before it started"))),
                _ => Ok(Answer::Done),
            };
        }
        self.stop_waiting(name, CallFailure::Error(CallError::TimedOut)).await
    }

    /// Stops waiting for a target to start, with this error, unless it has started by then.
    pub(super) async fn stop_waiting(&mut self, name: &str, why: CallFailure) -> Result<Answer, CallFailure> {
        let target = self.known(name)?;
        self.withdraw_target(target).await?;
        match self.status(target) {
            ContractStatus::Open => Err(why),
            _ => Ok(Answer::Done),
        }
    }

    pub(super) async fn wait_any(
        &mut self,
        among: &[String],
        deadline: Option<Instant>,
    ) -> Result<Answer, CallFailure> {
        let among: Vec<(String, usize)> =
            among.iter().map(|name| Ok((name.clone(), self.known(name)?))).collect::<Result<_, CallFailure>>()?;
        let is_over = |board: &Vec<TargetView>, target: usize| matches!(board[target].state, TargetStatus::Final(_));
        let any = |board: &Vec<TargetView>| among.iter().any(|(_, target)| is_over(board, *target));
        if !until(&mut self.board, deadline, any).await? {
            return Ok(Answer::Ended(None));
        }
        let board = self.board.borrow();
        let first = among.iter().find(|(_, target)| is_over(&board, *target));
        Ok(Answer::Ended(first.map(|(name, target)| (name.clone(), outcome(&board[*target])))))
    }

    /// Number of attempts on a roll-back's target before the call.
    pub(super) fn attempts_before(&self, call: &Call) -> Option<u32> {
        match call {
            Call::RollBack { target, .. } => self.known(target).ok().map(|target| self.board.borrow()[target].attempt),
            _ => None,
        }
    }

    /// Waits until a roll-back's target has the status from before an earlier runner acquired a slot for it.
    pub(super) async fn wait_until_settled(&mut self, call: &Call) -> Result<(), CallFailure> {
        match call {
            Call::RollBack { target, .. } => match self.known(target) {
                Ok(target) => until(&mut self.board, None, |board| !is_about_to_start(&board[target])).await.map(drop),
                Err(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Number of roll-backs of a target that have ended before the call.
    pub(super) fn roll_backs(&self, call: &Call) -> u64 {
        match call {
            Call::RollBack { target, .. } => {
                self.known(target).map_or(0, |target| self.board.borrow()[target].roll_backs)
            }
            _ => 0,
        }
    }

    /// Whether a target's roll-back is still to start: no earlier runner started the one that was called.
    pub(super) fn is_roll_back_pending(&self, target: usize, attempts: Option<u32>) -> bool {
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
    ) -> Result<Answer, CallFailure> {
        let target = self.known(name)?;
        if !self.can_roll_back {
            return Err(refused("the job has no `action.roll-back`".to_owned()));
        }
        let roll_backs = self.board.borrow()[target].roll_backs;
        if !self.is_roll_back_pending(target, attempts) {
            if attempts.is_some_and(|attempts| self.board.borrow()[target].attempt > attempts) {
                return self.roll_back_outcome(name, target).await;
            }
            let word = self.status(target).word();
            return Err(refused(format!("`{name}` is {word}: there is nothing to roll back")));
        }
        self.send(Input::Undo { target, reason: reason.to_owned() }).await?;
        let has_begun = |board: &Vec<TargetView>| is_rolled_back(&board[target], roll_backs);
        if until(&mut self.board, deadline, has_begun).await? {
            return self.roll_back_outcome(name, target).await;
        }
        self.stop_waiting_for_roll_back(name, roll_backs, CallFailure::Error(CallError::TimedOut)).await
    }

    /// Stops waiting for a roll-back to start, with this error, unless it has started by then.
    pub(super) async fn stop_waiting_for_roll_back(
        &mut self,
        name: &str,
        roll_backs: u64,
        why: CallFailure,
    ) -> Result<Answer, CallFailure> {
        let target = self.known(name)?;
        self.withdraw_target(target).await?;
        let has_begun = is_rolled_back(&self.board.borrow()[target], roll_backs);
        match has_begun {
            true => self.roll_back_outcome(name, target).await,
            false => Err(why),
        }
    }

    /// Waits until the target that is rolled back is final, and returns the outcome.
    async fn roll_back_outcome(&mut self, name: &str, target: usize) -> Result<Answer, CallFailure> {
        until(&mut self.board, None, |board| matches!(board[target].state, TargetStatus::Final(_))).await?;
        let board = self.board.borrow();
        let view = &board[target];
        let ending = match status(view.state) {
            ContractStatus::RolledBack => Ending::Succeeded,
            ContractStatus::Failed => Ending::Failed,
            _ => Ending::Unknown,
        };
        let known = view.roll_back_outcome.filter(|outcome| outcome.ending == ending || ending == Ending::Failed);
        let attempt = view.attempt;
        let outcome = known.unwrap_or(Outcome { ending, exit_code: None, took: 0, attempt });
        Ok(Answer::Ended(Some((name.to_owned(), outcome))))
    }

    pub(super) async fn skip(&mut self, name: &str, reason: &str) -> Result<Answer, CallFailure> {
        let target = self.known(name)?;
        match self.status(target) {
            ContractStatus::Open => {}
            ContractStatus::Skipped if self.again => return Ok(Answer::Done),
            over => return Err(refused(format!("`{name}` already has the status {}", over.word()))),
        }
        self.send(Input::LeaveOut { target, reason: reason.to_owned() }).await?;
        until(&mut self.board, None, |board| status(board[target].state) != ContractStatus::Open).await?;
        Ok(Answer::Done)
    }

    /// Withdraws a target and waits for the effect: it may have been about to start.
    async fn withdraw_target(&mut self, target: usize) -> Result<(), CallFailure> {
        let before = self.board.borrow()[target].withdrawn;
        self.send(Input::TakeBack { target }).await?;
        let is_settled =
            |board: &Vec<TargetView>| board[target].withdrawn != before && !is_about_to_start(&board[target]);
        until(&mut self.board, None, is_settled).await.map(drop)
    }

    async fn send(&self, input: Input) -> Result<(), CallFailure> {
        self.inputs.send(input).await.map_err(|_| CallFailure::Lost)
    }
}

/// Whether a target queues for a slot, or holds one without a running command.
fn is_about_to_start(view: &TargetView) -> bool {
    matches!(view.state, TargetStatus::Queued | TargetStatus::Leased)
}

/// Whether a target is being rolled back, or has been since the given number of roll-backs.
fn is_rolled_back(view: &TargetView, roll_backs: u64) -> bool {
    view.roll_backs != roll_backs || matches!(view.state, TargetStatus::RollingBack | TargetStatus::RollBackEnded(_))
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

/// Outcome of a target's action; of a target that an earlier runner finished, as far as it is recorded.
fn outcome(view: &TargetView) -> Outcome {
    let ending = match status(view.state) {
        ContractStatus::Succeeded => Ending::Succeeded,
        ContractStatus::Failed | ContractStatus::RolledBack | ContractStatus::Skipped => Ending::Failed,
        ContractStatus::Open | ContractStatus::Running | ContractStatus::Unknown => Ending::Unknown,
    };
    view.outcome.filter(|outcome| outcome.ending == ending || ending == Ending::Failed).unwrap_or(Outcome {
        ending,
        exit_code: None,
        took: 0,
        attempt: 0,
    })
}
