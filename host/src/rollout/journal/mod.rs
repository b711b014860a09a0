//! What happened and what was decided, as JSON lines chained by hashes: what a line holds, how lines are written, how they
//! are read and trusted.
//!
//! A journal is one file of a run: that of one stint, for as long as one runner had it. Its first line says what the run was
//! made of; each line after it is one event, or one decision with everything that the policy was shown and everything that
//! it answered, so that it can be taken again; the last says how the stint ended, so that lines missing at the end are
//! missed.
//!
//! A line begins with `prev`, the `hash` of the line before (empty in the first), and ends with its own `hash`: the sha256
//! in lower-case hex of all its bytes before `,"hash"`. So every byte is covered, those of the last line, too.

mod bounds;
mod error;
mod file_name;
mod read;
mod record;
mod segments;
mod write;

pub use bounds::{Bounds, Lasting, Open, Together};
pub use error::JournalError;
pub use file_name::{file_name, number};
pub use read::{Entry, LineKind, Reader, Recorded, Verified, verify};
pub use record::{Asked, Closing, Header, Orchestrated, Record, VERSION, Written, digest};
pub use segments::{Segment, Segments};
pub use write::Journal;
