//! The end of a run that nobody runs.

use super::error::LedgerError;
use super::read::StandingOf;
use super::records::Ended;
use super::runner::Opened;
use super::saved::{Saved, Standing};
use crate::policy::types::Ending;
use crate::rollout::state::Counts;

/// Ends a run that somebody left: nothing of it is held afterwards, and what was under way is unknown.
///
/// # Errors
/// [`LedgerError`]; what was written by then stays so, and the same call goes on.
pub async fn abandon(opened: &Opened, reason: &str, now_ms: u64) -> Result<Ended, LedgerError> {
    let standings = opened.resumed.as_ref().map(|resumed| resumed.targets.as_slice()).unwrap_or_default();
    let mut counts = Counts { total: u32::try_from(opened.targets.len()).unwrap_or(u32::MAX), ..Counts::default() };
    for (target, saved) in standings.iter().enumerate() {
        let standing = left_as(&saved.standing);
        match (&standing, &saved.lease) {
            (Some(standing), Some(lease)) => opened.ledger.release(target, standing.clone(), &lease.path).await?,
            (Some(standing), None) => opened.ledger.save(target, standing.clone()).await?,
            (None, _) => {}
        }
        count(&mut counts, standing.as_ref().unwrap_or(&saved.standing));
    }
    let ended = Ended { end: "aborted".to_owned(), reason: reason.to_owned(), at: now_ms, counts };
    opened.ledger.end(ended.clone()).await?;
    Ok(ended)
}

/// How many targets stand where.
#[must_use]
pub fn counts_of(standings: &[StandingOf]) -> Counts {
    let mut counts = Counts { total: u32::try_from(standings.len()).unwrap_or(u32::MAX), ..Counts::default() };
    standings.iter().for_each(|(Saved { standing, .. }, _)| count(&mut counts, standing));
    counts
}

/// Where a target stands once nobody goes on with it; none: it stays where it is.
fn left_as(standing: &Standing) -> Option<Standing> {
    let unknown = |what: &str| Some(Standing::Unknown { reason: format!("the run was aborted while {what}") });
    match standing {
        Standing::Leased => Some(Standing::Pending),
        Standing::Kept { ending: Ending::Succeeded, took_ms, .. } => Some(Standing::Done { took_ms: Some(*took_ms) }),
        Standing::Kept { ending, .. } | Standing::Retrying { ending, .. } => {
            Some(Standing::Failed { reason: format!("its last try ended as {}", ending.word()) })
        }
        Standing::Acting => unknown("nobody saw its action end"),
        Standing::Reverting => unknown("it was being undone"),
        Standing::Pending
        | Standing::Done { .. }
        | Standing::Failed { .. }
        | Standing::Unknown { .. }
        | Standing::RolledBack { .. }
        | Standing::Skipped { .. } => None,
    }
}

fn count(counts: &mut Counts, standing: &Standing) {
    let place = match standing {
        Standing::Pending => &mut counts.pending,
        Standing::Leased => &mut counts.waiting,
        Standing::Acting | Standing::Kept { .. } | Standing::Retrying { .. } | Standing::Reverting => {
            &mut counts.acting
        }
        Standing::Done { .. } => &mut counts.done,
        Standing::Failed { .. } => &mut counts.failed,
        Standing::Unknown { .. } => &mut counts.unknown,
        Standing::RolledBack { .. } => &mut counts.rolled_back,
        Standing::Skipped { .. } => &mut counts.skipped,
    };
    *place += 1;
}
