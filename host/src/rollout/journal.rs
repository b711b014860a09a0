//! Decisions as JSON lines, each with the hash of the line before it: append, read, verify.
//!
//! A journal is one file of a run. Its first line says what the run was made of; each line after it is one decision, with
//! everything that the policy was shown and everything that it answered, so that it can be taken again. `prev` is the
//! sha256 of the line before, without its newline, in lower-case hex; the first line's is empty.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};
use thiserror::Error;

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
    /// The sha256 of the view's JSON.
    pub view_digest: String,
    /// What the policy was shown.
    pub view: &'a View,
    /// How the action ended, in a `settle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outcome: Option<&'a Outcome>,
    /// The memory that the decision left, in hex, where it is another than before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

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

    fn write(&mut self, content: &impl Serialize) -> io::Result<()> {
        #[derive(Serialize)]
        struct Chained<'a, T> {
            prev: &'a str,
            #[serde(flatten)]
            content: &'a T,
        }
        let mut line = serde_json::to_vec(&Chained { prev: &self.previous, content })?;
        self.previous = digest(&line);
        line.push(b'\n');
        self.file.write_all(&line)
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
    /// A line is no JSON.
    #[error("line {line} of the journal is no JSON")]
    NoJson {
        /// Which line, from 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// A line does not follow from the one before it.
    #[error("line {line} of the journal does not follow from the line before it: one of the two was changed")]
    Broken {
        /// Which line, from 1.
        line: usize,
    },
}

/// Checks that every line follows from the one before, and gives how many decisions there are.
///
/// # Errors
/// The first line that does not fit. A change to the very last line is not noticed: nothing follows from it.
pub fn verify(path: &Path) -> Result<usize, JournalError> {
    let mut previous = String::new();
    let mut lines = 0;
    for (index, line) in BufReader::new(File::open(path)?).split(b'\n').enumerate() {
        let line = line?;
        let number = index + 1;
        let value: Value =
            serde_json::from_slice(&line).map_err(|source| JournalError::NoJson { line: number, source })?;
        if value.get("prev").and_then(Value::as_str) != Some(previous.as_str()) {
            return Err(JournalError::Broken { line: number });
        }
        previous = digest(&line);
        lines += 1;
    }
    match lines {
        0 => Err(JournalError::Empty),
        lines => Ok(lines - 1),
    }
}
