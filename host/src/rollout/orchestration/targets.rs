//! Carries out a guest's calls about targets: requests them of the machine and waits for its replies.

use tokio::time::Instant;

use super::driver::OrchestrationDriver;
use super::failure::{CallFailure, refused};
use crate::policy::orchestration::{Answer, Call, CallError, TargetStatus as ContractStatus};
use crate::policy::types::{Ending, Outcome};
use crate::rollout::model::{
    FinalStatus, OrchestrationReply, OrchestrationRequest, TargetIndex, TargetReport, TargetStatus,
};

impl OrchestrationDriver {
    pub(super) fn known(&self, target: &str) -> Result<TargetIndex, CallFailure> {
        let unknown = || refused(format!("the job has no target `{target}`"));
        self.targets.get(target).copied().ok_or_else(unknown)
    }

    async fn report(&mut self, target: TargetIndex) -> Result<TargetReport, CallFailure> {
        self.requests.ask_status(OrchestrationRequest::Report { target }).await
    }

    pub(super) async fn status(&mut self, target: TargetIndex) -> Result<ContractStatus, CallFailure> {
        self.report(target).await.map(|report| status(report.status))
    }

    /// Whether a call waits, or lets a target start, under the leases that the guest has in hand.
    pub(super) async fn is_under_leases(&mut self, call: &Call, attempts: Option<u32>) -> Result<bool, CallFailure> {
        let (Call::Start { target, .. } | Call::RollBack { target, .. }) = call else { return Ok(call.waits()) };
        let Ok(target) = self.known(target) else { return Ok(false) };
        let report = self.report(target).await?;
        Ok(match call {
            // Of one that has started, only that is to be answered.
            Call::Start { .. } => status(report.status) == ContractStatus::Open,
            _ => is_roll_back_pending(&report, attempts),
        })
    }

    pub(super) async fn admit(&mut self, name: &str) -> Result<Answer, CallFailure> {
        let target = self.known(name)?;
        match self.status(target).await? {
            ContractStatus::Open => {}
            over => return Err(refused(format!("`{name}` already has the status {}", over.word()))),
        }
        match self.requests.ask(OrchestrationRequest::Consult { target }).await? {
            OrchestrationReply::Advice(advice) => Ok(Answer::Advice(advice)),
            OrchestrationReply::Target(_) => Err(CallFailure::Lost),
        }
    }

    pub(super) async fn start(&mut self, name: &str, deadline: Option<Instant>) -> Result<Answer, CallFailure> {
        let target = self.known(name)?;
        match self.status(target).await? {
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
        match self.requests.ask_status_until(deadline, OrchestrationRequest::Start { target }).await? {
            Some(report) if status(report.status) == ContractStatus::Skipped => {
                Err(refused(format!("`{name}` was skipped before it started")))
            }
            Some(_) => Ok(Answer::Done),
            None => self.stop_waiting(name, CallFailure::Error(CallError::TimedOut)).await,
        }
    }

    /// Stops waiting for a target to start, with this error, unless it has started by then.
    pub(super) async fn stop_waiting(&mut self, name: &str, why: CallFailure) -> Result<Answer, CallFailure> {
        let target = self.known(name)?;
        let report = self.requests.ask_status(OrchestrationRequest::TakeBack { target }).await?;
        match status(report.status) {
            ContractStatus::Open => Err(why),
            _ => Ok(Answer::Done),
        }
    }

    pub(super) async fn wait_any(
        &mut self,
        names: &[String],
        deadline: Option<Instant>,
    ) -> Result<Answer, CallFailure> {
        let among: Vec<TargetIndex> = names.iter().map(|name| self.known(name)).collect::<Result<_, CallFailure>>()?;
        let request = OrchestrationRequest::AwaitFinal { among: among.clone() };
        let Some(report) = self.requests.ask_status_until(deadline, request).await? else {
            return Ok(Answer::Ended(None));
        };
        let name = names.iter().zip(among).find(|(_, target)| *target == report.target).map(|(name, _)| name.clone());
        Ok(Answer::Ended(name.map(|name| (name, action_outcome(&report)))))
    }

    /// Number of attempts on a roll-back's target so far. `None` for any other call.
    pub(super) async fn attempts_before(&mut self, call: &Call) -> Result<Option<u32>, CallFailure> {
        let Call::RollBack { target, .. } = call else { return Ok(None) };
        match self.known(target) {
            Ok(target) => self.report(target).await.map(|report| Some(report.attempt)),
            Err(_) => Ok(None),
        }
    }

    /// Waits until a roll-back's target has the status from before an earlier runner acquired a slot for it.
    pub(super) async fn wait_until_settled(&mut self, call: &Call) -> Result<(), CallFailure> {
        let Call::RollBack { target, .. } = call else { return Ok(()) };
        match self.known(target) {
            Ok(target) => self.requests.ask_status(OrchestrationRequest::AwaitRest { target }).await.map(drop),
            Err(_) => Ok(()),
        }
    }

    /// Rolls a target back, unless an earlier runner has started that after the given number of attempts.
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
        let report = self.report(target).await?;
        if !is_roll_back_pending(&report, attempts) {
            if has_begun_since(&report, attempts) {
                return self.roll_back_outcome(name, target).await;
            }
            let word = status(report.status).word();
            return Err(refused(format!("`{name}` is {word}: there is nothing to roll back")));
        }
        let request = OrchestrationRequest::RollBack { target, reason: reason.to_owned() };
        match self.requests.ask_status_until(deadline, request).await? {
            Some(_) => self.roll_back_outcome(name, target).await,
            None => {
                self.stop_waiting_for_roll_back(name, report.attempt, CallFailure::Error(CallError::TimedOut)).await
            }
        }
    }

    /// Stops waiting for a roll-back to start, with this error, unless it has started by then: `attempts` is the number of
    /// attempts before it.
    pub(super) async fn stop_waiting_for_roll_back(
        &mut self,
        name: &str,
        attempts: u32,
        why: CallFailure,
    ) -> Result<Answer, CallFailure> {
        let target = self.known(name)?;
        let report = self.requests.ask_status(OrchestrationRequest::TakeBack { target }).await?;
        let is_rolling_back = matches!(report.status, TargetStatus::RollingBack | TargetStatus::RollBackEnded(_));
        let has_ended = report.roll_back.is_some_and(|outcome| outcome.attempt > attempts);
        match is_rolling_back || has_ended {
            true => self.roll_back_outcome(name, target).await,
            false => Err(why),
        }
    }

    /// Waits until the target that is rolled back is final, and returns the outcome.
    async fn roll_back_outcome(&mut self, name: &str, target: TargetIndex) -> Result<Answer, CallFailure> {
        let request = OrchestrationRequest::AwaitFinal { among: vec![target] };
        let report = self.requests.ask_status(request).await?;
        let ending = match status(report.status) {
            ContractStatus::RolledBack => Ending::Succeeded,
            ContractStatus::Failed => Ending::Failed,
            _ => Ending::Unknown,
        };
        let known = report.roll_back.filter(|outcome| outcome.ending == ending || ending == Ending::Failed);
        let attempt = report.attempt;
        let outcome = known.unwrap_or(Outcome { ending, exit_code: None, took: 0, attempt });
        Ok(Answer::Ended(Some((name.to_owned(), outcome))))
    }

    pub(super) async fn skip(&mut self, name: &str, reason: &str) -> Result<Answer, CallFailure> {
        let target = self.known(name)?;
        match self.status(target).await? {
            ContractStatus::Open => {}
            ContractStatus::Skipped if self.again => return Ok(Answer::Done),
            over => return Err(refused(format!("`{name}` already has the status {}", over.word()))),
        }
        self.requests.ask_status(OrchestrationRequest::Skip { target, reason: reason.to_owned() }).await?;
        Ok(Answer::Done)
    }
}

/// Whether another attempt was started on a target after the given number of attempts.
fn has_begun_since(report: &TargetReport, attempts: Option<u32>) -> bool {
    attempts.is_some_and(|attempts| report.attempt > attempts)
}

/// Whether a target's roll-back is still to start: no earlier runner started the one that was called.
fn is_roll_back_pending(report: &TargetReport, attempts: Option<u32>) -> bool {
    let may_be =
        matches!(status(report.status), ContractStatus::Succeeded | ContractStatus::Failed | ContractStatus::Unknown);
    may_be && !has_begun_since(report, attempts)
}

fn status(status: TargetStatus) -> ContractStatus {
    match status {
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
fn action_outcome(report: &TargetReport) -> Outcome {
    let ending = match status(report.status) {
        ContractStatus::Succeeded => Ending::Succeeded,
        ContractStatus::Failed | ContractStatus::RolledBack | ContractStatus::Skipped => Ending::Failed,
        ContractStatus::Open | ContractStatus::Running | ContractStatus::Unknown => Ending::Unknown,
    };
    let known = report.action.filter(|outcome| outcome.ending == ending || ending == Ending::Failed);
    known.unwrap_or(Outcome { ending, exit_code: None, took: 0, attempt: 0 })
}
