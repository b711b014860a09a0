//! The far end of a fence: what a host remembers of the attempts that ran on it, so that a superseded runner can do no
//! harm there.
//!
//! [`AcceptedFences`] decides which attempt may start and how an attempt ended, without I/O. [`FenceFile`] keeps it on
//! disk and orders concurrent guards. Running commands and reporting is the command line's part.
//!
//! # Guarantees
//! An attempt starts at most once, and only if it is greater than every attempt that has arrived before. Two never run
//! at once. A fence of another store starts nothing until an operator resets the file.
//! # After a crash
//! An accepted attempt stays accepted; an attempt whose end no guard saw stays unknown for ever.

mod accepted;
mod fence_file;
mod process;

pub use accepted::{
    AcceptedAttempt, AcceptedFences, Answer, AttemptId, Ended, Incoherent, KEPT, Liveness, OtherStore, Outcome, Reset,
    Stale, Verdict,
};
pub use fence_file::{CommandLock, FenceFile, FenceFileError, Hold, Locked};
pub use process::Process;
