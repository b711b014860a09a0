//! Aborts a run that no runner drives: the process that aborts it ends it in the runner's place.

use std::sync::Arc;

use super::error::RunStateError;
use super::held_slots::{self, HeldSlot};
use super::leases::OwnLeases;
use super::overview::counts;
use super::read::{self, StoredRun};
use super::records::RunEnd;
use super::rerun::job_of;
use super::runner::{OpenedRun, Runner};
use crate::policy::types::Ending;
use crate::rollout::model::{OperatorRequest, RecordedStatus, TargetRecord};
use lockkeeper_coordination::recipe::{Claims, Identifier, Patience};
use lockkeeper_coordination::store::Store;

/// What aborting a run changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbortedRun {
    /// The end that was recorded.
    pub ended: RunEnd,
    /// Targets and semaphores whose slots were released.
    pub released: Vec<String>,
    /// Targets whose outcome is unknown, because no runner saw their command end.
    pub unknown: Vec<String>,
    /// The slots that the run held before it was aborted.
    pub slots: Vec<HeldSlot>,
}

/// Aborts an unfinished run that no runner drives. Each slot that its state names is released, in one transaction with
/// the target's new status. The run's job need not be readable. A target whose command was running when the last runner
/// ended becomes unknown. The process is the job's runner, as `who`, until this returns.
///
/// # Errors
/// [`RunStateError::Runner`] if another process runs the job. After any other error the run is unfinished, and calling
/// this again continues.
pub async fn abort(
    store: &Arc<dyn Store>,
    run: &str,
    who: Identifier,
    by: &OperatorRequest,
) -> Result<AbortedRun, RunStateError> {
    let job = job_of(&read::run_in_any_layout(store, run).await?)?;
    let runner = Runner::acquire(store, &job, who, Patience::Once).await?;
    let done = abort_as(store, run, &runner, by).await;
    runner.step_down().await;
    done
}

async fn abort_as(
    store: &Arc<dyn Store>,
    run: &str,
    runner: &Runner,
    by: &OperatorRequest,
) -> Result<AbortedRun, RunStateError> {
    // The run may have finished before this process became the runner.
    let kept = read::run_in_any_layout(store, run).await?;
    if let StoredRun { record, .. } = &kept
        && let Some(ended) = &record.ended
    {
        return Ok(AbortedRun { ended: ended.clone(), released: Vec::new(), unknown: Vec::new(), slots: Vec::new() });
    }
    let semaphore = kept.record.semaphore.clone();
    let OpenedRun { run_state, targets, resumed, .. } = runner.resume(kept, String::new()).await?;
    let saved = resumed.map(|resumed| resumed.targets).unwrap_or_default();
    let slots = held_slots::held(store, run, &semaphore, targets.iter().zip(&saved)).await?;
    let mut ends = Vec::with_capacity(saved.len());
    let (mut released, mut unknown) = (Vec::new(), Vec::new());
    for (index, (target, saved)) in targets.iter().zip(saved).enumerate() {
        let Some(end) = end_of(&saved) else {
            ends.push(saved.status);
            continue;
        };
        let name = target.name.to_string();
        if matches!(end, RecordedStatus::Unknown { .. }) {
            unknown.push(name.clone());
        }
        if let Some(lease) = &saved.lease {
            let claims = Claims::new(Arc::clone(store), semaphore.clone());
            let deletion = claims.deletion(&name, &lease.path).await?;
            run_state.release_by(index, end.clone(), deletion).await?;
            released.push(name);
        } else {
            run_state.save(index, end.clone()).await?;
        }
        ends.push(end);
    }
    let (of_orchestration, mut held) = OwnLeases::open(&run_state).await?.release_all().await?;
    released.extend(of_orchestration.into_iter().map(|path| path.to_string()));
    if let Some((_, error)) = held.pop() {
        return Err(error);
    }
    let OperatorRequest { by, at: _, reason } = by;
    let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let total = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    let ended = RunEnd {
        end: "aborted".to_owned(),
        reason: format!("aborted by {by}{why}"),
        at: store.clock().now_ms(),
        counts: counts(total, ends.iter()),
    };
    run_state.end(ended.clone()).await?;
    Ok(AbortedRun { ended, released, unknown, slots })
}

/// The final status of a target of an aborted run. `None` if its status stays.
fn end_of(saved: &TargetRecord) -> Option<RecordedStatus> {
    let unknown = |what: &str, was| {
        let reason = format!("{what} when its runner ended, and the run was aborted before its outcome was known");
        Some(RecordedStatus::Unknown { reason, was })
    };
    match &saved.status {
        RecordedStatus::RollBackLeased { was } => Some(was.as_ref().clone()),
        RecordedStatus::Leased => Some(RecordedStatus::Pending),
        RecordedStatus::Running => unknown("its action was under way", None),
        RecordedStatus::RollingBack { was, .. } => unknown("its roll-back was under way", was.clone()),
        RecordedStatus::RollBackEnded { becomes } => Some(becomes.as_ref().clone()),
        RecordedStatus::ActionEnded { ending, exit_code, took_ms, .. }
        | RecordedStatus::KeepingSlot { ending, exit_code, took_ms, .. } => Some(match ending {
            Ending::Succeeded => RecordedStatus::Succeeded { took_ms: Some(*took_ms) },
            ending => ended_badly(*ending, *exit_code),
        }),
        // That attempt has ended, and no other was started.
        RecordedStatus::Retrying { ending, .. } => Some(ended_badly(*ending, None)),
        RecordedStatus::Pending
        | RecordedStatus::Succeeded { .. }
        | RecordedStatus::Failed { .. }
        | RecordedStatus::Unknown { .. }
        | RecordedStatus::RolledBack { .. }
        | RecordedStatus::Skipped { .. } => None,
    }
}

fn ended_badly(ending: Ending, exit_code: Option<i32>) -> RecordedStatus {
    let what = match (ending, exit_code) {
        (Ending::Failed, Some(code)) => format!("its action ended with {code}"),
        (Ending::Failed | Ending::Succeeded, _) => "its action failed".to_owned(),
        (Ending::TimedOut, _) => "its action was stopped by its time-out".to_owned(),
        (Ending::LeaseLost, _) => "its lease was lost while it was running".to_owned(),
        (Ending::Unknown, _) => "no runner saw how its action ended".to_owned(),
    };
    let reason = format!("{what}; then the run was aborted");
    match ending {
        Ending::Unknown => RecordedStatus::Unknown { reason, was: None },
        _ => RecordedStatus::Failed { reason, was: None },
    }
}
