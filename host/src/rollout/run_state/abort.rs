//! The end of a run that nobody runs: whoever aborts it ends it in the runner's place.

use std::sync::Arc;

use super::error::RunStateError;
use super::held_slots::{self, HeldSlot};
use super::leases::OwnLeases;
use super::overview::counts;
use super::read::{self, Kept};
use super::records::Ended;
use super::rerun::job_of;
use super::runner::{Opened, Runner};
use crate::policy::types::Ending;
use crate::rollout::model::{OperatorRequest, RecordedStatus, TargetRecord};
use lockkeeper_coordination::recipe::{Claims, Identifier, Patience};
use lockkeeper_coordination::store::Store;

/// A run that was ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Freed {
    /// How.
    pub ended: Ended,
    /// Whose slots were given back.
    pub freed: Vec<String>,
    /// Of whom nobody knows now how it went.
    pub unknown: Vec<String>,
    /// The slots that were held until then.
    pub slots: Vec<HeldSlot>,
}

/// Ends a run that is not finished and that nobody runs: each slot that its state names is given back, in one transaction with
/// where its target stands then. The run's job need not be understood. What was under way when its last runner went is unknown. `who` is the job's runner for
/// as long as this takes.
///
/// # Errors
/// [`LedgerError::Runner`] if somebody runs the job. With any other, the run is not finished, and to say it again goes on.
pub async fn abort(
    store: &Arc<dyn Store>,
    run: &str,
    who: Identifier,
    by: &OperatorRequest,
) -> Result<Freed, RunStateError> {
    let job = job_of(&read::run_in_any_layout(store, run).await?)?;
    let runner = Runner::become_one(store, &job, who, Patience::Once).await?;
    let done = abort_as(store, run, &runner, by).await;
    runner.step_down().await;
    done
}

async fn abort_as(
    store: &Arc<dyn Store>,
    run: &str,
    runner: &Runner,
    by: &OperatorRequest,
) -> Result<Freed, RunStateError> {
    // The run may have finished before this process became the runner.
    let kept = read::run_in_any_layout(store, run).await?;
    if let Kept { record, .. } = &kept
        && let Some(ended) = &record.ended
    {
        return Ok(Freed { ended: ended.clone(), freed: Vec::new(), unknown: Vec::new(), slots: Vec::new() });
    }
    let semaphore = kept.record.semaphore.clone();
    let Opened { run_state, targets, resumed, .. } = runner.go_on(kept, String::new()).await?;
    let saved = resumed.map(|resumed| resumed.targets).unwrap_or_default();
    let slots = held_slots::held(store, run, &semaphore, targets.iter().zip(&saved)).await?;
    let mut ends = Vec::with_capacity(saved.len());
    let (mut freed, mut unknown) = (Vec::new(), Vec::new());
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
            freed.push(name);
        } else {
            run_state.save(index, end.clone()).await?;
        }
        ends.push(end);
    }
    let (released, mut held) = OwnLeases::open(&run_state).await?.release_all().await?;
    freed.extend(released.into_iter().map(|path| path.to_string()));
    if let Some((_, error)) = held.pop() {
        return Err(error);
    }
    let OperatorRequest { by, at: _, reason } = by;
    let why = reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let total = u32::try_from(targets.len()).unwrap_or(u32::MAX);
    let ended = Ended {
        end: "aborted".to_owned(),
        reason: format!("aborted by {by}{why}"),
        at: store.clock().now_ms(),
        counts: counts(total, ends.iter()),
    };
    run_state.end(ended.clone()).await?;
    Ok(Freed { ended, freed, unknown, slots })
}

/// Where a target stands once its run is aborted; none: where it stood.
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
        // That try has ended, and no other was begun.
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
        (Ending::LeaseLost, _) => "its lease was lost while it acted".to_owned(),
        (Ending::Unknown, _) => "nobody saw how its action ended".to_owned(),
    };
    let reason = format!("{what}; then the run was aborted");
    match ending {
        Ending::Unknown => RecordedStatus::Unknown { reason, was: None },
        _ => RecordedStatus::Failed { reason, was: None },
    }
}
