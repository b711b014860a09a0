//! Errors of reading a journal.

use std::io;

use thiserror::Error;

use super::record::{MAX_LINE, VERSION};

/// Why a journal cannot be read or trusted.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The system refused to read the file.
    #[error("the file cannot be read")]
    Unreadable(#[from] io::Error),
    /// The file has no lines.
    #[error("the file is empty")]
    Empty,
    /// The journal has another format.
    #[error("its format is {found}, this program reads {VERSION}: use the version of lockkeeper that wrote it")]
    Version {
        /// The format in its first line.
        found: u32,
    },
    /// A line was changed.
    #[error("line {line} was changed: {why}")]
    Changed {
        /// Number of the line, from 1.
        line: usize,
        /// What shows it.
        why: &'static str,
    },
    /// The first line has no end: it was never finished, or was cut.
    #[error("line {line} is incomplete: the run was killed while it wrote the first line, or the file was truncated")]
    Incomplete {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A line is longer than any that this program writes.
    #[error("line {line} is longer than {MAX_LINE} bytes")]
    TooLong {
        /// Number of the line, from 1.
        line: usize,
    },
    /// The first line refers to an earlier one.
    #[error("line 1 is not the journal's first line: the beginning was removed or moved")]
    Headless,
    /// A line does not follow from the one before it.
    #[error("the chain is broken between lines {} and {line}: a line was removed, moved or inserted there", line - 1)]
    Broken {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A line follows the closing one.
    #[error("line {line} comes after the line that closes the journal")]
    AfterEnd {
        /// Number of the line, from 1.
        line: usize,
    },
    /// A line is intact and has unknown content.
    #[error("line {line} has content that this program does not write")]
    Unknown {
        /// Number of the line, from 1.
        line: usize,
        /// What is unknown.
        #[source]
        source: serde_json::Error,
    },
    /// A line is intact and contradicts others.
    #[error("line {line} contradicts {what}")]
    Contradiction {
        /// Number of the line, from 1.
        line: usize,
        /// What it contradicts.
        what: &'static str,
    },
}

impl JournalError {
    /// Number of the line in question, from 1. `None` if the error concerns the whole file.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Unreadable(_) | Self::Empty | Self::Version { .. } => None,
            Self::Headless => Some(1),
            Self::Changed { line, .. }
            | Self::Incomplete { line }
            | Self::TooLong { line }
            | Self::Broken { line }
            | Self::AfterEnd { line }
            | Self::Unknown { line, .. }
            | Self::Contradiction { line, .. } => Some(*line),
        }
    }
}
