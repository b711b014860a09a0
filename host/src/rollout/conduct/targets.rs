//! What a guest wants of the job's targets: said to the machine, and waited for.

use tokio::time::Instant;

use super::{Conductor, Failed, Stands, refused, until};
use crate::policy::orchestration::{Answer, Fault, Standing};
use crate::policy::types::{Ending, Outcome};
use crate::rollout::messages::Input;
use crate::rollout::state::{Final, TargetState};

impl Conductor {
    pub(super) fn known(&self, target: &str) -> Result<usize, Failed> {
        let unknown = || refused(format!("the job has no target `{target}`"));
        self.targets.get(target).copied().ok_or_else(unknown)
    }

    pub(super) fn standing(&self, target: usize) -> Standing {
        standing(self.board.borrow()[target].state)
    }

    pub(super) async fn admit(&mut self, name: &str) -> Result<Answer, Failed> {
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

    pub(super) async fn start(&mut self, name: &str, deadline: Option<Instant>) -> Result<Answer, Failed> {
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
        self.take_back(name, Failed::Fault(Fault::TimedOut)).await
    }

    /// Waits no longer for a target to begin: for this reason, unless it has begun by then.
    pub(super) async fn take_back(&mut self, name: &str, why: Failed) -> Result<Answer, Failed> {
        let target = self.known(name)?;
        self.say(Input::TakeBack { target }).await?;
        // It may be about to begin, and then it has.
        let is_settled =
            |board: &Vec<Stands>| !matches!(board[target].state, TargetState::Queued | TargetState::Leased);
        until(&mut self.board, None, is_settled).await?;
        match self.standing(target) {
            Standing::Open => Err(why),
            _ => Ok(Answer::Done),
        }
    }

    pub(super) async fn wait_any(&mut self, among: &[String], deadline: Option<Instant>) -> Result<Answer, Failed> {
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

    pub(super) async fn skip(&mut self, name: &str, reason: &str) -> Result<Answer, Failed> {
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
