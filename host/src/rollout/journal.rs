//! Decisions as JSON lines, chained by hashes: append, read, verify.
//!
//! A journal is one file of a run. Its first line says what the run was made of; each line after it is one decision, with
//! everything that the policy was shown and everything that it answered, so that it can be taken again; the last says how
//! the run ended, so that lines missing at the end are missed.
//!
//! A line begins with `prev`, the `hash` of the line before (empty in the first), and ends with its own `hash`: the sha256
//! in lower-case hex of all its bytes before `,"hash"`. So every byte is covered, those of the last line, too.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::state::Counts;
use crate::policy::TraceLine;
use crate::policy::types::{Outcome, View};

/// The first line.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Header {
    /// The format's version.
    pub journal: u32,
    /// The job's name.
    pub job: String,
    /// The run's name.
    pub run: String,
    /// When it started, in milliseconds since the Unix epoch.
    pub started: u64,
    /// The job file's sha256.
    pub job_digest: String,
    /// The policy's name, as its manifest has it.
    pub policy: String,
    /// The policy's sha256.
    pub policy_digest: String,
    /// The contract that it speaks.
    pub contract: String,
    /// The program that wrote this.
    pub host: String,
    /// The policy's settings.
    pub settings: Value,
}

/// The format's version.
pub const VERSION: u32 = 1;

/// One decision.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Record<'a> {
    /// `admit` or `settle`.
    pub question: &'static str,
    /// The view's sequence number.
    pub sequence: u64,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
    /// About which target.
    pub target: &'a str,
    /// The verdict; none where the policy failed.
    pub verdict: Option<&'static str>,
    /// The answer, or the fault.
    pub answer: Value,
    /// Fuel burnt.
    pub fuel: u64,
    /// What the policy said meanwhile.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub said: &'a [TraceLine],
    /// The sha256 of the policy.
    pub policy_digest: &'a str,
    /// The sha256 of `view` as it stands here.
    pub view_digest: String,
    /// What the policy was shown.
    pub view: &'a View,
    /// The party's members are left out of `view`: they are those of the decision with this sequence number. A fleet's
    /// thousands are written down when they change, and not with every decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub members_as_of: Option<u64>,
    /// How the action ended, in a `settle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'a Outcome>,
    /// The memory that the decision left, in hex, where it is another than before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// The last line.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Closing {
    /// How the run ended: the word of [`Event::Finished`](super::Event::Finished).
    pub end: &'static str,
    /// When, in milliseconds since the Unix epoch.
    pub ended: u64,
    /// How many targets stand where.
    pub counts: Counts,
}

/// What comes between a line's content and its hash.
const BEFORE_HASH: &[u8] = br#","hash":""#;

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    file: File,
    previous: String,
}

impl Journal {
    /// Begins a journal; the file must not be there yet.
    ///
    /// # Errors
    /// As the file system has them.
    pub fn create(path: &Path, header: &Header) -> io::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let mut journal = Self { file, previous: String::new() };
        journal.write(header)?;
        Ok(journal)
    }

    /// Appends a decision, in one write.
    ///
    /// # Errors
    /// As the file system has them; the run cannot go on without its journal.
    pub fn append(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.write(record)
    }

    /// Writes the last line, and sees it all to the disk.
    ///
    /// # Errors
    /// As the file system has them.
    pub fn close(mut self, closing: &Closing) -> io::Result<()> {
        self.write(closing)?;
        self.file.sync_all()
    }

    fn write(&mut self, content: &impl Serialize) -> io::Result<()> {
        #[derive(Serialize)]
        struct Chained<'a, T> {
            prev: &'a str,
            #[serde(flatten)]
            content: &'a T,
        }
        let mut line = serde_json::to_vec(&Chained { prev: &self.previous, content })?;
        let brace = line.pop();
        debug_assert_eq!(brace, Some(b'}'), "a struct is a JSON object");
        let hash = digest(&line);
        line.extend_from_slice(BEFORE_HASH);
        line.extend_from_slice(hash.as_bytes());
        line.extend_from_slice(b"\"}\n");
        self.file.write_all(&line)?;
        self.previous = hash;
        Ok(())
    }
}

/// The sha256 of bytes, in lower-case hex.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Why a journal is not what was written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// It cannot be read.
    #[error("cannot read the journal")]
    Unreadable(#[from] io::Error),
    /// It is empty.
    #[error("the journal is empty")]
    Empty,
    /// A line is not what was written.
    #[error("line {line} of the journal was changed or torn: {why}")]
    Changed {
        /// Which line, from 1.
        line: usize,
        /// What gives it away.
        why: &'static str,
    },
    /// A line does not follow from the one before it.
    #[error("line {line} of the journal does not follow from the line before it: lines are missing or were moved")]
    Broken {
        /// Which line, from 1.
        line: usize,
    },
}

/// What a journal that is whole holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// How many decisions.
    pub decisions: usize,
    /// Whether the run wrote its last line. Without it the run goes on, was killed, or lines are missing at the end.
    pub closed: bool,
}

/// Checks every byte: each line against its hash, and against the line before.
///
/// # Errors
/// The first line that does not fit.
pub fn verify(path: &Path) -> Result<Verified, JournalError> {
    let mut previous = String::new();
    let mut verified = None;
    for (index, line) in BufReader::new(File::open(path)?).split(b'\n').enumerate() {
        let number = index + 1;
        let line = Line::read(&line?).map_err(|why| JournalError::Changed { line: number, why })?;
        if line.prev != previous {
            return Err(JournalError::Broken { line: number });
        }
        previous = line.hash;
        verified = match (verified, line.is_closing) {
            (None, _) => Some(Verified { decisions: 0, closed: false }),
            (Some(Verified { closed: true, .. }), _) => return Err(JournalError::Broken { line: number }),
            (Some(before), true) => Some(Verified { closed: true, ..before }),
            (Some(before), false) => Some(Verified { decisions: before.decisions + 1, ..before }),
        };
    }
    verified.ok_or(JournalError::Empty)
}

struct Line {
    prev: String,
    hash: String,
    is_closing: bool,
}

impl Line {
    fn read(line: &[u8]) -> Result<Self, &'static str> {
        /// What of a line its reader looks at; the rest is skipped.
        #[derive(Deserialize)]
        struct Frame {
            prev: String,
            hash: String,
            end: Option<String>,
        }
        let Frame { prev, hash, end } =
            serde_json::from_slice(line).map_err(|_| "it is no JSON with `prev` and `hash`")?;
        let tail = BEFORE_HASH.len() + hash.len() + b"\"}".len();
        let content = line.len().checked_sub(tail).map(|at| line.split_at(at));
        match content {
            Some((content, tail)) if tail.starts_with(BEFORE_HASH) && digest(content) == hash => {
                Ok(Self { prev, hash, is_closing: end.is_some() })
            }
            _ => Err("its hash is another"),
        }
    }
}
