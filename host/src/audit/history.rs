//! A run from its beginning: its journals, one after the other.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use thiserror::Error;

use crate::audit::{Segment, Segments};
use crate::rollout::journal::JournalError;
use crate::rollout::journal::{Closing, Header};
use crate::rollout::journal::{Entry, LineKind, Reader, RecordedDecision};
use crate::rollout::model::Stamped;

/// What is read of it. Every line is checked either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// Decisions alone.
    Decisions,
    /// Whatever happened, too.
    Everything,
}

/// What comes next.
#[derive(Debug)]
pub enum Page<'a> {
    /// A stint begins: with what its runner found.
    Segment(&'a Header),
    /// A decision.
    Decision(&'a RecordedDecision),
    /// What happened.
    Event(Stamped),
}

/// A journal that cannot be believed, or read.
#[derive(Debug, Error)]
#[error("journal `{}`", path.display())]
pub struct HistoryError {
    /// Which.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: JournalError,
}

/// What a stint's journal came to.
#[derive(Debug, Clone)]
pub struct Told {
    /// Which stint.
    pub runner_epoch: u32,
    /// Where its journal is.
    pub path: PathBuf,
    /// Its first line; none: its runner ended before that was written.
    pub header: Option<Header>,
    /// How many decisions.
    pub decisions: u64,
    /// How it ended; none: it goes on, was killed, or lines are missing at the end.
    pub closing: Option<Closing>,
    /// The line that has no end.
    pub incomplete_line: Option<usize>,
}

/// A run's journals that are read one after the other.
#[derive(Debug)]
pub struct History {
    runner_epochs: Segments,
    want: Want,
    rest: VecDeque<Segment>,
    now: Option<Reader<BufReader<File>>>,
    told: Vec<Told>,
    bytes: u64,
}

impl History {
    /// From the first stint that is here.
    #[must_use]
    pub fn new(runner_epochs: Segments, want: Want) -> Self {
        let rest = runner_epochs.here.iter().cloned().collect();
        Self { runner_epochs, want, rest, now: None, told: Vec::new(), bytes: 0 }
    }

    /// What comes next; none at the end of the last stint.
    ///
    /// # Errors
    /// [`StoryError`]: what cannot be believed. Nothing behind it can be, either.
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
        let path = self.told.last().map(|told| told.path.clone()).unwrap_or_default();
        if let (LineKind::Decision, Some(told)) = (kind, self.told.last_mut()) {
            told.decisions += 1;
        }
        let reader = self.now.as_mut().expect("a line of it was just read");
        match reader.read(kind) {
            Ok(Entry::Decision(decision)) => Ok(Some(Page::Decision(decision))),
            Ok(Entry::Event(stamped)) => Ok(Some(Page::Event(stamped))),
            Err(source) => Err(HistoryError { path, source }),
        }
    }

    /// The stints as far as they were read; the last may not be at its end.
    #[must_use]
    pub fn told(&self) -> &[Told] {
        &self.told
    }

    /// Which journals there are.
    #[must_use]
    pub fn runner_epochs(&self) -> &Segments {
        &self.runner_epochs
    }

    /// How many bytes were read.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes + self.now.as_ref().map_or(0, Reader::bytes)
    }

    /// Whether the last stint wrote its last line. Without it the run goes on, was killed, or lines are missing at the end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.rest.is_empty() && self.told.last().is_some_and(|told| told.closing.is_some())
    }

    fn open_next(&mut self) -> Result<bool, HistoryError> {
        while let Some(runner_epoch) = self.rest.pop_front() {
            let opened = match self.runner_epochs.alone {
                true => Reader::open(&runner_epoch.path),
                false => Reader::of(&runner_epoch),
            };
            let mut told = Told {
                runner_epoch: runner_epoch.number,
                path: runner_epoch.path,
                header: None,
                decisions: 0,
                closing: None,
                incomplete_line: None,
            };
            match opened {
                Ok(reader) => {
                    told.runner_epoch = reader.header().runner_epoch;
                    told.header = Some(reader.header().clone());
                    self.told.push(told);
                    self.now = Some(reader);
                    return Ok(true);
                }
                // Its runner died before it had begun; other stints have more to say.
                Err(JournalError::Empty | JournalError::Incomplete { line: 1 })
                    if self.runner_epochs.here.len() > 1 =>
                {
                    told.incomplete_line = Some(1);
                    self.told.push(told);
                }
                Err(source) => return Err(HistoryError { path: told.path, source }),
            }
        }
        Ok(false)
    }

    fn close(&mut self) {
        if let (Some(reader), Some(told)) = (self.now.take(), self.told.last_mut()) {
            told.closing = reader.closing().cloned();
            told.incomplete_line = reader.incomplete_line();
            self.bytes += reader.bytes();
        }
    }

    fn distrust(&self, source: JournalError) -> HistoryError {
        let path = self.told.last().map(|told| told.path.clone()).unwrap_or_default();
        HistoryError { path, source }
    }
}
