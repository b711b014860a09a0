//! The far end of a fence: what the host that is acted on remembers, so that whoever is superseded can do no harm there.
//!
//! [`Ledger`] decides, and touches nothing: which token may start, and how an attempt went. [`TokenFile`] keeps it on disk
//! and orders all who use it at once. What is run, and what is said of it, is the command line's.
//!
//! # Guarantees
//! A token starts at most once, and only if it is greater than every token that was here before. Two never run at once. A fence of
//! another store than theirs starts nothing until an operator resets the file.
//! # After a crash
//! What was accepted stays accepted; an attempt that nobody saw the end of is unknown, for ever.

mod accepted;
mod fence_file;
mod process;

pub use accepted::{
    AcceptedAttempt, AcceptedFences, Answer, AttemptId, Ended, Incoherent, KEPT, Liveness, OtherStore, Outcome, Reset,
    Stale, Verdict,
};
pub use fence_file::{CommandLock, FenceFile, FenceFileError, Hold, Locked};
pub use process::Process;
