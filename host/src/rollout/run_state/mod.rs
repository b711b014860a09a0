//! A run's state in the store: what a runner that takes over goes on from.
//!
//! | what | where | data |
//! |---|---|---|
//! | job | `/lockkeeper/jobs/<job>` | JSON: its newest run |
//! | runner | `/lockkeeper/jobs/<job>/runner`, a [semaphore](lockkeeper_coordination::recipe) with one slot, beside it its queue | who runs the job; who stands by |
//! | run | `/lockkeeper/runs/<run>` | JSON: [`RunRecord`]; empty until it has begun |
//! | its job | `…/job` | the text of the job's file |
//! | its plan | `…/plan/<6 digits>` | JSON: targets with their labels, in their order |
//! | a target | `…/targets/<target>` | JSON: [`Saved`]; no node: nobody has touched it yet |
//! | memory | `…/memory` | JSON: the policy's memory, in hex |
//! | wishes | `…/wishes` | JSON: [`Wishes`], what people want |
//! | calls | `…/calls`, `…/calls/<8 digits>` | JSON: an orchestration's last [`Checkpoint`]; each [`Called`] since |
//! | leases | `…/leases/<semaphore's path, escaped>` | JSON: an [`OwnLease`] of its orchestration |
//! | now | `…/now` | JSON: what its runner waits for |
//!
//! Everything but `wishes` and a record that is opened again is written by the runner alone, in transactions that look at
//! its lease of the job. That lease is ephemeral: it ends with its session, and whoever stands by takes over.

mod abort;
mod acknowledgement;
mod blockers;
mod calls;
mod clocks;
mod commit;
mod error;
mod find;
mod held_slots;
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
mod unwritten;
mod writer;

pub use abort::{Freed, abort};
pub use acknowledgement::{Notice, await_acknowledgement};
pub use blockers::{Blockers, Blocking};
pub use calls::{Calls, Checkpoint, Known, calls};
pub use error::RunStateError;
pub use find::{FindError, LATEST, find};
pub use held_slots::HeldSlot;
pub use leases::{OwnLease, OwnLeases};
pub use overview::{Held, Left, RunPhase, Seen, Summary, WaveSeen, WaveState, summaries};
pub use prune::{delete, delete_stillborn, forget_jobs, stillborn};
pub(crate) use read::requests_and_watch;
pub use read::{Kept, StatusOf, all, job_text, newest, now, requests, run, run_status, statuses_of, targets};
pub use records::{AboutVersion, Ended, LAYOUT, RequestsRecord, RunRecord, RunnerEpoch};
pub use request::{Recorded, request};
pub use rerun::reopen;
pub use runner::{NewRun, Opened, Runner, SEQUENCES_PER_EPOCH};
pub use unwritten::{Rewritten, Sight, Unwritten};
pub use writer::RunStateWriter;
