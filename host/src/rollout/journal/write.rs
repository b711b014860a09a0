//! Appends lines to a journal, each in one write.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::record::{BEFORE_HASH, Closing, Header, Record, digest};
use crate::rollout::model::{Event, Stamped};
use lockkeeper_coordination::files;

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal {
    file: File,
    previous: String,
    /// Length of all complete lines, in bytes.
    length: u64,
}

impl Journal {
    /// Creates a journal; the file must not exist.
    ///
    /// # Errors
    /// If the file cannot be created or written.
    pub fn create(path: &Path, header: &Header) -> io::Result<Self> {
        let file = files::create_new(path)?;
        let mut journal = Self { file, previous: String::new(), length: 0 };
        journal.write(header)?;
        Ok(journal)
    }

    /// Appends a decision, in one write.
    ///
    /// # Errors
    /// If the file cannot be written; the run must not continue without its journal.
    pub fn append(&mut self, record: &Record<'_>) -> io::Result<()> {
        self.write(record)
    }

    /// Appends an event, in one write. A policy's trace lines are left out: its decision has them already.
    ///
    /// # Errors
    /// If the file cannot be written; the run must not continue without its journal.
    pub fn append_event(&mut self, stamped: &Stamped) -> io::Result<()> {
        #[derive(Serialize)]
        struct EventLine<'a> {
            event: &'a Stamped,
        }
        match stamped.event {
            Event::PolicyLog { .. } => Ok(()),
            _ => self.write(&EventLine { event: stamped }),
        }
    }

    /// Writes the closing line and syncs the file to the disk.
    ///
    /// # Errors
    /// If the file cannot be written or synced.
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
        if let Err(error) = self.file.write_all(&line) {
            // Removes an incomplete line, if possible.
            let _ = self.file.set_len(self.length);
            return Err(error);
        }
        self.length += line.len() as u64;
        self.previous = hash;
        Ok(())
    }
}
