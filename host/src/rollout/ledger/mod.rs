//! A run's state in the store: what a runner that takes over goes on from.
//!
//! | what | where | data |
//! |---|---|---|
//! | job | `/lockkeeper/jobs/<job>` | JSON: its newest run |
//! | runner | `/lockkeeper/jobs/<job>/runner`, a [semaphore](crate::recipe) with one slot, beside it its queue | who runs the job; who stands by |
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
mod again;
mod calls;
mod clocks;
mod commit;
mod error;
mod find;
mod layout;
mod leases;
mod look;
mod notice;
mod prune;
mod read;
mod records;
mod runner;
mod saved;
mod seen;
mod slots;
#[cfg(test)]
mod tests;
mod waits;
mod wish;
mod writer;

pub use abort::{Freed, abort};
pub use again::reopen;
pub use calls::{Begun, Called, Calls, Checkpoint, Known, calls};
pub use error::LedgerError;
pub use find::{FindError, LATEST, find};
pub use leases::{OwnLease, OwnLeases};
pub use look::{Held, Left, RunState, Seen, Summary, WaveSeen, WaveState, summaries};
pub use notice::{Notice, notice};
pub use prune::{delete, delete_stillborn, forget_jobs, stillborn};
pub(crate) use read::wishes_and_watch;
pub use read::{Kept, StandingOf, all, job_text, newest, now, outlook, run, standings_of, targets, wishes};
pub use records::{AboutVersion, Ended, LAYOUT, RunRecord, Stint, Wishes};
pub use runner::{NewRun, Opened, Runner, SEQUENCES_OF_A_STINT};
pub use saved::{Saved, SavedLease, Standing};
pub use seen::{Rewritten, Sight, Unwritten};
pub use slots::HeldSlot;
pub use waits::{Blocking, WaitsFor};
pub use wish::{Wished, wish};
pub use writer::Ledger;
