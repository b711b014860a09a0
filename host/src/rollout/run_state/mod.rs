//! A run's state in the store: a runner that takes over resumes from it.
//!
//! | What | Where | Data |
//! |---|---|---|
//! | job | `/lockkeeper/jobs/<job>` | JSON: its newest run |
//! | runner | `/lockkeeper/jobs/<job>/runner`, a [semaphore](lockkeeper_coordination::recipe) with one slot, with its queue beside it | the job's runner; the standby runners |
//! | run | `/lockkeeper/runs/<run>` | JSON: [`RunRecord`]; empty until the run has started |
//! | job's text | `…/job` | the text of the job's file |
//! | plan | `…/plan/<6 digits>` | JSON: targets with their labels, in order |
//! | target | `…/targets/<target>` | JSON: [`TargetRecord`](crate::rollout::model::TargetRecord); missing while the target is pending |
//! | memory | `…/memory` | JSON: the policy's memory, in hex |
//! | requests | `…/requests` | JSON: [`RequestsRecord`], the operator requests |
//! | calls | `…/calls`, `…/calls/<8 digits>` | JSON: an orchestration's last [`Checkpoint`]; each [`Called`](crate::rollout::model::Called) since |
//! | leases | `…/leases/<semaphore's path, escaped>` | JSON: an [`OwnLease`] of its orchestration |
//! | now | `…/now` | JSON: [`RunStatus`](crate::rollout::model::RunStatus) |
//!
//! Except for `requests`, and for a record that is reopened, only the runner writes, in transactions that check its
//! lease of the job. That lease is ephemeral: it ends with its session, and a standby runner takes over.

mod abort;
mod acknowledgement;
mod blockers;
mod calls;
mod clocks;
mod commit;
mod error;
mod find;
mod held_slots;
mod json;
mod layout;
mod layout_1;
mod leases;
mod overview;
pub(crate) mod owners;
mod prune;
mod read;
mod records;
mod request;
mod rerun;
mod runner;
#[cfg(test)]
mod tests;
mod unsaved_endings;
mod writer;

pub use abort::{AbortedRun, abort};
pub use acknowledgement::{Acknowledgement, await_acknowledgement};
pub use blockers::{BlockingHolder, SlotBlockers};
pub use calls::{Calls, Checkpoint, RecordedCalls, calls};
pub use error::RunStateError;
pub use find::{FindError, LATEST, find};
pub use held_slots::HeldSlot;
pub use leases::{OwnLease, OwnLeases};
pub use overview::{AbandonedRun, HoldReason, RunOverview, RunPhase, RunSummary, WaveOverview, WaveState, summaries};
pub use prune::{delete, delete_never_started, delete_unused_jobs, never_started};
pub(crate) use read::requests_and_watch;
pub use read::{
    StoredRun, VersionedTarget, all, job_text, newest, now, requests, run, run_status, statuses_of, targets,
};
pub use records::{AboutVersion, LAYOUT, RequestsRecord, RunEnd, RunRecord, RunnerEpoch};
pub use request::{RecordedRequests, request};
pub use rerun::reopen;
pub use runner::{NewRun, OpenedRun, Runner, SEQUENCES_PER_EPOCH};
pub use unsaved_endings::{SavedEndings, UnsavedEndings};
pub use writer::RunStateWriter;
