//! Lines are read, and believed only if every byte is as it was written.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use thiserror::Error;

use super::record::{Asked, BEFORE_HASH, Closing, Header, VERSION, digest};
use crate::policy::types::{Member, Outcome, View};

/// The longest line taken, in bytes: a view of 100,000 members comes to a tenth of it.
const MAX_LINE: u64 = 64 * 1024 * 1024;

/// What every line begins with.
const BEFORE_PREV: &[u8] = br#"{"prev":""#;

/// What follows the hash of the line before, in the line that closes a journal.
const CLOSES: &[u8] = br#"","end":"#;

/// Characters of a hash.
const HASH: usize = 64;

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
    #[error("its format is {found}, this program reads {VERSION}")]
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
    /// A line without an end.
    #[error("line {line} has no end: it is being written, the run died while it wrote, or the file was cut")]
    Torn {
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
            | Self::Torn { line }
            | Self::TooLong { line }
            | Self::Broken { line }
            | Self::AfterEnd { line }
            | Self::Unknown { line, .. }
            | Self::Contradiction { line, .. } => Some(*line),
        }
    }
}

/// One decision, as it was written down.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Recorded {
    /// Which question it answers.
    pub question: Asked,
    /// The view's sequence number.
    pub sequence: u64,
    /// About which target.
    pub target: String,
    /// The verdict; none where the policy failed.
    pub verdict: Option<String>,
    /// The answer, or the fault.
    pub answer: Value,
    /// Fuel burnt.
    pub fuel: u64,
    /// What the policy said meanwhile.
    #[serde(default)]
    pub said: Vec<Value>,
    /// What the policy was shown, all members included.
    pub view: View,
    /// How the action ended, in a `settle`.
    pub outcome: Option<Outcome>,
    /// The memory that the decision left, where it is another than before.
    #[serde(default, deserialize_with = "from_hex")]
    pub memory: Option<Vec<u8>>,
    /// On which line it stands, from 1.
    #[serde(skip)]
    pub line: usize,
    policy_digest: String,
    view_digest: String,
    members_as_of: Option<u64>,
}

fn from_hex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<u8>>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| hex::decode(text).map_err(D::Error::custom)).transpose()
}

/// A journal that is being read, one decision after the other; everything that was read is as it was written.
#[derive(Debug)]
pub struct Reader<R> {
    lines: Lines<R>,
    header: Header,
    decision: Option<Recorded>,
    /// The party's members and since which decision they are the same. While there is a decision with a party, it has
    /// them: they change hands and are never copied.
    members: Option<(u64, Vec<Member>)>,
    closing: Option<Closing>,
}

impl Reader<BufReader<File>> {
    /// Opens a journal's file and reads its first line.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::new(BufReader::new(File::open(path)?))
    }
}

impl<R: BufRead> Reader<R> {
    /// Reads the first line.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn new(from: R) -> Result<Self, JournalError> {
        #[derive(Deserialize)]
        struct Format {
            journal: u32,
        }
        let mut lines = Lines { from, text: Vec::new(), number: 0, bytes: 0, previous: String::new() };
        let unknown = |source| JournalError::Unknown { line: 1, source };
        if !lines.next()? {
            return Err(JournalError::Empty);
        }
        let Format { journal: found } = serde_json::from_slice(lines.text()).map_err(unknown)?;
        if found != VERSION {
            return Err(JournalError::Version { found });
        }
        let header = serde_json::from_slice(lines.text()).map_err(unknown)?;
        Ok(Self { lines, header, decision: None, members: None, closing: None })
    }

    /// What the run was made of.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next decision; none at the end.
    ///
    /// # Errors
    /// [`JournalError`]: the first line that cannot be believed. Nothing behind it can be, either.
    pub fn decision(&mut self) -> Result<Option<&Recorded>, JournalError> {
        self.take_members_back();
        if !self.lines.next()? {
            return Ok(None);
        }
        let (line, text) = (self.lines.number, self.lines.text());
        if self.closing.is_some() {
            return Err(JournalError::AfterEnd { line });
        }
        let unknown = |source| JournalError::Unknown { line, source };
        if is_closing(text) {
            self.closing = Some(serde_json::from_slice(text).map_err(unknown)?);
            // A line that follows is an error, and no decision.
            return self.decision();
        }
        let mut decision: Recorded = serde_json::from_slice(text).map_err(unknown)?;
        decision.line = line;
        self.check(&mut decision)?;
        Ok(Some(self.decision.insert(decision)))
    }

    /// How the run ended, once everything was read; none: it goes on, was killed, or lines are missing at the end.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// How many bytes were read.
    pub fn bytes(&self) -> u64 {
        self.lines.bytes
    }

    fn take_members_back(&mut self) {
        let party = self.decision.take().and_then(|decision| decision.view.party);
        if let (Some((_, members)), Some(party)) = (&mut self.members, party) {
            *members = party.members;
        }
    }

    /// Whether a decision agrees with itself and with what was before it; and its members, where they are left out.
    fn check(&mut self, decision: &mut Recorded) -> Result<(), JournalError> {
        let line = self.lines.number;
        let contradicts = |what| Err(JournalError::Contradiction { line, what });
        if decision.policy_digest != self.header.policy_digest {
            return contradicts("line 1: its policy is another");
        }
        if decision.sequence != decision.view.sequence || decision.target != decision.view.target.name {
            return contradicts("its own view");
        }
        let view = serde_json::to_vec(&decision.view).map_err(|source| JournalError::Unknown { line, source })?;
        if digest(&view) != decision.view_digest {
            return contradicts("its own `view-digest`");
        }
        if (decision.question == Asked::Settle) != decision.outcome.is_some() {
            return contradicts("its own `outcome`");
        }
        match (&mut decision.view.party, decision.members_as_of, &mut self.members) {
            (Some(party), Some(since), Some((known, members))) if since == *known && party.members.is_empty() => {
                party.members = std::mem::take(members);
            }
            // They are taken over when the next decision is read.
            (Some(_), None, members) => *members = Some((decision.sequence, Vec::new())),
            (None, None, _) => {}
            _ => return contradicts("what was said of the party's members before it"),
        }
        Ok(())
    }
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
    let mut reader = Reader::open(path)?;
    let mut decisions = 0;
    while reader.decision()?.is_some() {
        decisions += 1;
    }
    Ok(Verified { decisions, closed: reader.closing().is_some() })
}

/// Lines that are whole, each following from the one before it.
#[derive(Debug)]
struct Lines<R> {
    from: R,
    text: Vec<u8>,
    /// Of the line in `text`, from 1.
    number: usize,
    bytes: u64,
    /// The hash of the line in `text`.
    previous: String,
}

impl<R: BufRead> Lines<R> {
    /// Reads the next line, if there is one.
    fn next(&mut self) -> Result<bool, JournalError> {
        self.text.clear();
        let read = (&mut self.from).take(MAX_LINE).read_until(b'\n', &mut self.text)?;
        if read == 0 {
            return Ok(false);
        }
        self.number += 1;
        self.bytes += read as u64;
        let line = self.number;
        let Some(text) = self.text.strip_suffix(b"\n") else {
            return Err(match read as u64 == MAX_LINE {
                true => JournalError::TooLong { line },
                false => JournalError::Torn { line },
            });
        };
        let Frame { prev, hash } = Frame::of(text).map_err(|why| JournalError::Changed { line, why })?;
        if prev != self.previous.as_bytes() {
            return Err(match line {
                1 => JournalError::Headless,
                _ => JournalError::Broken { line },
            });
        }
        self.previous = hash;
        Ok(true)
    }

    /// The line that was read last.
    fn text(&self) -> &[u8] {
        &self.text
    }
}

/// What chains a line to others.
struct Frame<'a> {
    prev: &'a [u8],
    hash: String,
}

impl<'a> Frame<'a> {
    /// Reads it off the bytes as they stand: whoever writes the same JSON in another way has changed it.
    fn of(line: &'a [u8]) -> Result<Self, &'static str> {
        let parts = || {
            let prev = until_quote(line.strip_prefix(BEFORE_PREV)?)?;
            let rest = line.strip_suffix(b"\"}")?;
            let (content, hash) = rest.split_at_checked(rest.len().checked_sub(HASH)?)?;
            Some((prev, content.strip_suffix(BEFORE_HASH)?, hash))
        };
        let Some((prev, content, hash)) = parts() else {
            return Err(match serde_json::from_slice::<IgnoredAny>(line) {
                Ok(_) => "it does not begin with `prev` and end with `hash`",
                Err(_) => "it is no JSON",
            });
        };
        let found = digest(content);
        match found.as_bytes() == hash {
            true => Ok(Self { prev, hash: found }),
            false => Err("its hash does not fit its bytes"),
        }
    }
}

fn until_quote(text: &[u8]) -> Option<&[u8]> {
    text.iter().position(|byte| *byte == b'"').map(|end| &text[..end])
}

fn is_closing(line: &[u8]) -> bool {
    let prev = line.strip_prefix(BEFORE_PREV);
    prev.and_then(|text| Some(text[until_quote(text)?.len()..].starts_with(CLOSES))).unwrap_or(false)
}
