//! Events and decisions of a run, as JSON lines chained by hashes: their format, how they are written, read and
//! verified.
//!
//! A journal is one file of a run and covers one runner epoch. Its first line has the inputs of the run; each following
//! line is one event, or one decision with everything that the policy was shown and everything that it answered, so
//! that it can be evaluated again; the last line says how the epoch ended, so that lines missing at the end are
//! noticed.
//!
//! A line begins with `prev`, the `hash` of the line before (empty in the first), and ends with its own `hash`: the
//! SHA-256 in lower-case hex of all its bytes before `,"hash"`. So every byte is covered, those of the last line, too.

mod bounds;
mod error;
mod file_name;
mod read;
mod record;
mod segments;
mod write;

pub use bounds::{Bounds, RecordedFreeze, RecordedWave, RecordedWindow};
pub use error::JournalError;
pub use file_name::{file_name, number};
pub use read::{Entry, LineKind, Reader, RecordedDecision, Verified, verify};
pub use record::{Closing, Header, QuestionKind, Record, RecordedOrchestration, VERSION, Written, digest};
pub use segments::{Segment, Segments};
pub use write::Journal;
