//! What is wrong with a journal.

use std::io;

use thiserror::Error;

use super::read::MAX_LINE;
use super::record::VERSION;

/// Why a journal is not what was written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[from] io::Error),
    /// There is nothing in it.
    #[error("it is empty")]
    Empty,
    /// Made by a program that writes journals in another way.
    #[error("its format is {found}, this program reads {VERSION}: use the version of lockkeeper that wrote it")]
    Version {
        /// What its first line says.
        found: u32,
    },
    /// A line is not what was written.
    #[error("line {line} was changed: {why}")]
    Changed {
        /// Which line, from 1.
        line: usize,
        /// What gives it away.
        why: &'static str,
    },
    /// The first line has no end: nothing was written, or nothing is left.
    #[error("line {line}, the first, has no end: the run died while it wrote it, or the file was cut")]
    RecoveredToml {
        /// Which line, from 1.
        line: usize,
    },
    /// A line longer than any that is written.
    #[error("line {line} is longer than {MAX_LINE} bytes")]
    TooLong {
        /// Which line, from 1.
        line: usize,
    },
    /// The first line follows another.
    #[error("line 1 is not the first that was written: the beginning is missing, or was moved")]
    Headless,
    /// A line does not follow from the one before it.
    #[error("the chain is broken between lines {} and {line}: a line is missing there, or was moved or put in", line - 1)]
    Broken {
        /// Which line, from 1.
        line: usize,
    },
    /// A line after the last.
    #[error("line {line} stands behind the line that closes the journal")]
    AfterEnd {
        /// Which line, from 1.
        line: usize,
    },
    /// A line that is whole and says nothing that is known.
    #[error("line {line} is none that this program writes")]
    Unknown {
        /// Which line, from 1.
        line: usize,
        /// What is different.
        #[source]
        source: serde_json::Error,
    },
    /// A line that is whole and cannot be true.
    #[error("line {line} contradicts {what}")]
    Contradiction {
        /// Which line, from 1.
        line: usize,
        /// What it contradicts.
        what: &'static str,
    },
}

impl JournalError {
    /// Which line it is about, from 1; none: the whole.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        match self {
            Self::Unreadable(_) | Self::Empty | Self::Version { .. } => None,
            Self::Headless => Some(1),
            Self::Changed { line, .. }
            | Self::RecoveredToml { line }
            | Self::TooLong { line }
            | Self::Broken { line }
            | Self::AfterEnd { line }
            | Self::Unknown { line, .. }
            | Self::Contradiction { line, .. } => Some(*line),
        }
    }
}
