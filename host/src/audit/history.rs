//! Reads a run from its beginning: its journals, one after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use thiserror::Error;

use crate::rollout::journal::JournalError;
use crate::rollout::journal::{Closing, Header};
use crate::rollout::journal::{Entry, LineKind, Reader, RecordedDecision};
use crate::rollout::journal::{Segment, Segments};
use crate::rollout::model::Stamped;

/// What is returned. Every line is verified in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Decisions only.
    Decisions,
    /// Decisions and events.
    Everything,
}

/// The next item of a history.
#[derive(Debug)]
pub enum Page<'a> {
    /// A runner epoch starts; with its first line.
    Segment(&'a Header),
    /// A decision of the policy.
    Decision(&'a RecordedDecision),
    /// An event of the run.
    Event(Stamped),
}

/// A journal that cannot be read or trusted.
#[derive(Debug, Error)]
#[error("journal `{}`", path.display())]
pub struct HistoryError {
    /// Path of the journal.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub source: JournalError,
}

/// The journal of one runner epoch, as far as it was read.
#[derive(Debug, Clone)]
pub struct SegmentSummary {
    /// Number of the runner epoch.
    pub runner_epoch: u32,
    /// Path of the journal.
    pub path: PathBuf,
    /// Its first line. `None` if its runner ended before that was written.
    pub header: Option<Header>,
    /// Number of decisions.
    pub decisions: u64,
    /// Its closing line. `None` if the run is in progress, was killed, or lines are missing at the end.
    pub closing: Option<Closing>,
    /// Number of the incomplete last line.
    pub incomplete_line: Option<usize>,
}

/// Reads a run's journals one after the other.
#[derive(Debug)]
pub struct History {
    segments: Segments,
    want: Want,
    rest: VecDeque<Segment>,
    now: Option<Reader<BufReader<File>>>,
    summaries: Vec<SegmentSummary>,
    bytes: u64,
}

impl History {
    /// Starts with the first runner epoch whose journal is on this host.
    #[must_use]
    pub fn new(segments: Segments, want: Want) -> Self {
        let rest = segments.here.iter().cloned().collect();
        Self { segments, want, rest, now: None, summaries: Vec::new(), bytes: 0 }
    }

    /// The next item. `None` at the end of the last journal.
    ///
    /// # Errors
    /// [`HistoryError`] for the first line that cannot be trusted. The lines after it cannot be trusted, either.
    pub fn page(&mut self) -> Result<Option<Page<'_>>, HistoryError> {
        let kind = loop {
            let Some(reader) = &mut self.now else {
                if !self.open_next()? {
                    return Ok(None);
                }
                return Ok(self.now.as_ref().map(|reader| Page::Segment(reader.header())));
            };
            match reader.line() {
                Ok(Some(LineKind::Event)) if self.want == Want::Decisions => {}
                Ok(Some(kind)) => break kind,
                Ok(None) => self.close(),
                Err(source) => return Err(self.distrust(source)),
            }
        };
        let path = self.summaries.last().map(|latest| latest.path.clone()).unwrap_or_default();
        if let (LineKind::Decision, Some(latest)) = (kind, self.summaries.last_mut()) {
            latest.decisions += 1;
        }
        let reader = self.now.as_mut().expect("a line of it was just read");
        match reader.read(kind) {
            Ok(Entry::Decision(decision)) => Ok(Some(Page::Decision(decision))),
            Ok(Entry::Event(stamped)) => Ok(Some(Page::Event(stamped))),
            Err(source) => Err(HistoryError { path, source }),
        }
    }

    /// The journals as far as they were read; the last may be unfinished.
    #[must_use]
    pub fn summaries(&self) -> &[SegmentSummary] {
        &self.summaries
    }

    /// The journals on this host.
    #[must_use]
    pub fn segments(&self) -> &Segments {
        &self.segments
    }

    /// Bytes that were read.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes + self.now.as_ref().map_or(0, Reader::bytes)
    }

    /// Whether the last journal has its closing line. If not, the run is in progress, was killed, or lines are missing
    /// at the end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.rest.is_empty() && self.summaries.last().is_some_and(|latest| latest.closing.is_some())
    }

    fn open_next(&mut self) -> Result<bool, HistoryError> {
        while let Some(segment) = self.rest.pop_front() {
            let opened = match self.segments.alone {
                true => Reader::open(&segment.path),
                false => Reader::of_epoch(&segment.path, segment.number),
            };
            let mut summary = SegmentSummary {
                runner_epoch: segment.number,
                path: segment.path,
                header: None,
                decisions: 0,
                closing: None,
                incomplete_line: None,
            };
            match opened {
                Ok(reader) => {
                    summary.runner_epoch = reader.header().runner_epoch;
                    summary.header = Some(reader.header().clone());
                    self.summaries.push(summary);
                    self.now = Some(reader);
                    return Ok(true);
                }
                // Its runner was killed before it started; other epochs may have more.
                Err(JournalError::Empty | JournalError::Incomplete { line: 1 }) if self.segments.here.len() > 1 => {
                    summary.incomplete_line = Some(1);
                    self.summaries.push(summary);
                }
                Err(source) => return Err(HistoryError { path: summary.path, source }),
            }
        }
        Ok(false)
    }

    fn close(&mut self) {
        if let (Some(reader), Some(latest)) = (self.now.take(), self.summaries.last_mut()) {
            latest.closing = reader.closing().cloned();
            latest.incomplete_line = reader.incomplete_line();
            self.bytes += reader.bytes();
        }
    }

    fn distrust(&self, source: JournalError) -> HistoryError {
        let path = self.summaries.last().map(|latest| latest.path.clone()).unwrap_or_default();
        HistoryError { path, source }
    }
}
