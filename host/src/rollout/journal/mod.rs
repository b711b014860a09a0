//! Decisions as JSON lines, chained by hashes: what a line holds, how lines are written, how they are read and trusted.
//!
//! A journal is one file of a run. Its first line says what the run was made of; each line after it is one decision, with
//! everything that the policy was shown and everything that it answered, so that it can be taken again; the last says how
//! the run ended, so that lines missing at the end are missed.
//!
//! A line begins with `prev`, the `hash` of the line before (empty in the first), and ends with its own `hash`: the sha256
//! in lower-case hex of all its bytes before `,"hash"`. So every byte is covered, those of the last line, too.

mod read;
mod record;
mod write;

pub use read::{JournalError, Reader, Recorded, Verified, verify};
pub use record::{Asked, Closing, FILE, Header, Record, VERSION, Written, digest};
pub use write::Journal;
