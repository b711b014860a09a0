//! The far end of a fence: what the host that is acted on records, so that a superseded runner can do no harm there.
//!
//! [`AcceptedFences`] decides, without I/O, which attempt may start and how an attempt ended. [`FenceFile`] keeps it on disk
//! and orders concurrent callers. The command line runs the command and reports.
//!
//! # Guarantees
//! An attempt starts at most once, and only if it is greater than every attempt that was recorded before. Two never run at once. A fence of
//! another store than theirs starts nothing until an operator resets the file.
//! # After a crash
//! What was accepted stays accepted; an attempt whose end was not seen stays unknown for ever.

mod accepted;
mod fence_file;
mod process;
mod stale_mark;

pub use accepted::{
    AcceptedAttempt, AcceptedFences, Answer, AttemptId, Ended, Incoherent, KEPT, Liveness, OtherStore, Outcome, Reset,
    Stale, Verdict,
};
pub use fence_file::{CommandLock, FenceFile, FenceFileError, Hold, Locked};
pub use process::Process;
pub use stale_mark::stale_mark;
