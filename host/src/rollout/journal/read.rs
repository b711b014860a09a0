//! Reads journals and verifies every byte.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::error::JournalError;
use super::record::{BEFORE_HASH, Closing, Header, MAX_LINE, QuestionKind, VERSION, digest};
use crate::policy::types::{Member, Outcome, View};
use crate::rollout::model::Stamped;
use lockkeeper_coordination::files;

/// Beginning of every line.
const BEFORE_PREV: &[u8] = br#"{"prev":""#;

/// What follows the previous hash in the line that closes a journal.
const CLOSING: &[u8] = br#"","end":"#;

/// What follows the previous hash in the line of an event.
const EVENT: &[u8] = br#"","event":{"#;

/// Characters of a hash.
const HASH: usize = 64;

/// One decision as recorded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RecordedDecision {
    /// The question that it answers.
    pub question: QuestionKind,
    /// Sequence number of the view.
    pub sequence: u64,
    /// Name of the target.
    pub target: String,
    /// The verdict. `None` if the policy failed.
    pub verdict: Option<String>,
    /// The answer, or the fault.
    pub answer: Value,
    /// Fuel that the policy used.
    pub fuel: u64,
    /// Trace lines of the policy.
    #[serde(default)]
    pub said: Vec<Value>,
    /// The view that the policy was shown, with all party members.
    pub view: View,
    /// The outcome of the action, in a `settle`.
    pub outcome: Option<Outcome>,
    /// The memory after the decision, if it has changed.
    #[serde(default, deserialize_with = "from_hex")]
    pub memory: Option<Vec<u8>>,
    /// Number of the decision's line, from 1.
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

/// The content of a line between the first and the closing one.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A decision of the policy.
    Decision(&'a RecordedDecision),
    /// An event of the run.
    Event(Stamped),
}

/// Reads a journal line by line; everything it returns is verified.
#[derive(Debug)]
pub struct Reader<R> {
    lines: Lines<R>,
    header: Header,
    decision: Option<RecordedDecision>,
    /// The party's members, and the decision since which they are unchanged. While a decision with a party is kept, it
    /// holds the members: they are moved, never copied.
    members: Option<(u64, Vec<Member>)>,
    closing: Option<Closing>,
}

impl Reader<BufReader<File>> {
    /// Opens a journal and reads its first line.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        Self::new(BufReader::new(files::open(path)?))
    }

    /// Opens the journal of a runner epoch, and checks that it belongs to this epoch.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn of_epoch(path: &Path, runner_epoch: u32) -> Result<Self, JournalError> {
        let reader = Self::open(path)?;
        match reader.header.runner_epoch == runner_epoch {
            true => Ok(reader),
            false => Err(JournalError::Contradiction {
                line: 1,
                what: "the file's name: it belongs to another runner epoch",
            }),
        }
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
        let mut lines =
            Lines { from, text: Vec::new(), number: 0, bytes: 0, previous: String::new(), incomplete_line: None };
        let unknown = |source| JournalError::Unknown { line: 1, source };
        if !lines.next()? {
            return Err(lines.incomplete_line.map_or(JournalError::Empty, |line| JournalError::Incomplete { line }));
        }
        let Format { journal: found } = serde_json::from_slice(lines.text()).map_err(unknown)?;
        if found != VERSION {
            return Err(JournalError::Version { found });
        }
        let header = serde_json::from_slice(lines.text()).map_err(unknown)?;
        Ok(Self { lines, header, decision: None, members: None, closing: None })
    }

    /// The first line: the inputs of the run.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next decision. `None` at the end. Events in between are skipped; their lines are verified.
    ///
    /// # Errors
    /// [`JournalError`] for the first line that cannot be trusted. The lines after it cannot be trusted, either.
    pub fn decision(&mut self) -> Result<Option<&RecordedDecision>, JournalError> {
        while let Some(kind) = self.line()? {
            if let LineKind::Decision = kind {
                return self.read_decision().map(Some);
            }
        }
        Ok(None)
    }

    /// The next line. `None` at the end.
    ///
    /// # Errors
    /// As [`decision`](Self::decision).
    pub fn entry(&mut self) -> Result<Option<Entry<'_>>, JournalError> {
        match self.line()? {
            None => Ok(None),
            Some(kind) => self.read(kind).map(Some),
        }
    }

    /// How the runner epoch ended, after everything was read. `None` if it is in progress, was killed, or lines are
    /// missing at the end.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// Number of the incomplete last line, if there is one: it is being written, the run was killed while it wrote, or
    /// the file was truncated. Its content is ignored.
    pub fn incomplete_line(&self) -> Option<usize> {
        self.lines.incomplete_line
    }

    /// Number of the line that was read last, from 1.
    pub fn line_number(&self) -> usize {
        self.lines.number
    }

    /// Bytes that were read.
    pub fn bytes(&self) -> u64 {
        self.lines.bytes
    }

    /// Advances to the next line, unless it closes the journal.
    pub fn line(&mut self) -> Result<Option<LineKind>, JournalError> {
        self.take_members_back();
        while self.lines.next()? {
            let (line, text) = (self.lines.number, self.lines.text());
            if self.closing.is_some() {
                return Err(JournalError::AfterEnd { line });
            }
            let after = after_prev(text);
            if after.starts_with(EVENT) {
                return Ok(Some(LineKind::Event));
            }
            if !after.starts_with(CLOSING) {
                return Ok(Some(LineKind::Decision));
            }
            let unknown = |source| JournalError::Unknown { line, source };
            self.closing = Some(serde_json::from_slice(text).map_err(unknown)?);
        }
        match (self.lines.incomplete_line, &self.closing) {
            (Some(line), Some(_)) => Err(JournalError::AfterEnd { line }),
            _ => Ok(None),
        }
    }

    /// The line that [`line`](Self::line) advanced to.
    pub fn read(&mut self, kind: LineKind) -> Result<Entry<'_>, JournalError> {
        #[derive(Deserialize)]
        struct EventLine {
            event: Stamped,
        }
        let line = self.lines.number;
        match kind {
            LineKind::Decision => self.read_decision().map(Entry::Decision),
            LineKind::Event => match serde_json::from_slice(self.lines.text()) {
                Ok(EventLine { event }) => Ok(Entry::Event(event)),
                Err(source) => Err(JournalError::Unknown { line, source }),
            },
        }
    }

    fn read_decision(&mut self) -> Result<&RecordedDecision, JournalError> {
        let line = self.lines.number;
        let read = serde_json::from_slice(self.lines.text());
        let mut decision: RecordedDecision = read.map_err(|source| JournalError::Unknown { line, source })?;
        decision.line = line;
        self.check(&mut decision)?;
        Ok(self.decision.insert(decision))
    }

    fn take_members_back(&mut self) {
        let party = self.decision.take().and_then(|decision| decision.view.party);
        if let (Some((_, members)), Some(party)) = (&mut self.members, party) {
            *members = party.members;
        }
    }

    /// Whether a decision is consistent with itself and with earlier lines; fills in members that are left out.
    fn check(&mut self, decision: &mut RecordedDecision) -> Result<(), JournalError> {
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
        if (decision.question == QuestionKind::Settle) != decision.outcome.is_some() {
            return contradicts("its own `outcome`");
        }
        match (&mut decision.view.party, decision.members_as_of, &mut self.members) {
            (Some(party), Some(since), Some((known, members))) if since == *known && party.members.is_empty() => {
                party.members = std::mem::take(members);
            }
            // They are moved out when the next decision is read.
            (Some(_), None, members) => *members = Some((decision.sequence, Vec::new())),
            (None, None, _) => {}
            _ => return contradicts("the party's members on the lines before it"),
        }
        Ok(())
    }
}

/// What an intact journal contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified {
    /// Number of decisions.
    pub decisions: usize,
    /// Whether the closing line was written. If not, the run is in progress, was killed, or lines are missing at the
    /// end.
    pub closed: bool,
    /// Whether the last line is incomplete.
    pub is_incomplete: bool,
}

/// Verifies every byte: each line against its hash and against the line before.
///
/// # Errors
/// The first line that does not match.
pub fn verify(path: &Path) -> Result<Verified, JournalError> {
    let mut reader = Reader::open(path)?;
    let mut decisions = 0;
    while let Some(entry) = reader.entry()? {
        decisions += usize::from(matches!(entry, Entry::Decision(_)));
    }
    Ok(Verified { decisions, closed: reader.closing().is_some(), is_incomplete: reader.incomplete_line().is_some() })
}

/// The kind of a line, by its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// A decision of the policy.
    Decision,
    /// An event of the run.
    Event,
}

/// Verified lines, each following from the one before.
#[derive(Debug)]
struct Lines<R> {
    from: R,
    text: Vec<u8>,
    /// Number of the line in `text`, from 1.
    number: usize,
    bytes: u64,
    /// Hash of the line in `text`.
    previous: String,
    /// Number of the incomplete last line.
    incomplete_line: Option<usize>,
}

impl<R: BufRead> Lines<R> {
    /// Reads the next line, if there is one.
    fn next(&mut self) -> Result<bool, JournalError> {
        self.text.clear();
        let read = (&mut self.from).take(MAX_LINE).read_until(b'\n', &mut self.text)?;
        if read == 0 || self.incomplete_line.is_some() {
            return Ok(false);
        }
        self.number += 1;
        self.bytes += read as u64;
        let line = self.number;
        let Some(text) = self.text.strip_suffix(b"\n") else {
            if read as u64 == MAX_LINE {
                return Err(JournalError::TooLong { line });
            }
            could_go_on(&self.text, &self.previous).map_err(|why| JournalError::Changed { line, why })?;
            self.incomplete_line = Some(line);
            return Ok(false);
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

/// The fields that chain a line to others.
struct Frame<'a> {
    prev: &'a [u8],
    hash: String,
}

impl<'a> Frame<'a> {
    /// Reads them from the bytes as written: the same JSON in another notation counts as changed.
    fn of(line: &'a [u8]) -> Result<Self, &'static str> {
        let parts = || {
            let prev = until_quote(line.strip_prefix(BEFORE_PREV)?)?;
            let rest = line.strip_suffix(b"\"}")?;
            let (content, hash) = rest.split_at_checked(rest.len().checked_sub(HASH)?)?;
            Some((prev, content.strip_suffix(BEFORE_HASH)?, hash))
        };
        let Some((prev, content, hash)) = parts() else {
            return Err(match serde_json::from_slice::<IgnoredAny>(line) {
                Ok(_) => "it does not start with `prev` and end with `hash`",
                Err(_) => "it is not JSON",
            });
        };
        let found = digest(content);
        match found.as_bytes() == hash {
            true => Ok(Self { prev, hash: found }),
            false => Err("its hash does not match its bytes"),
        }
    }
}

fn until_quote(text: &[u8]) -> Option<&[u8]> {
    text.iter().position(|byte| *byte == b'"').map(|end| &text[..end])
}

/// The rest of a line after the previous hash, starting with a quotation mark.
fn after_prev(line: &[u8]) -> &[u8] {
    let prev = line.strip_prefix(BEFORE_PREV);
    prev.and_then(|text| Some(&text[until_quote(text)?.len()..])).unwrap_or_default()
}

/// Whether an incomplete line may be the beginning of a valid one: as far as it is there, it follows from the line
/// before, and nothing is in the place of its end.
fn could_go_on(text: &[u8], previous: &str) -> Result<(), &'static str> {
    let begins = [BEFORE_PREV, previous.as_bytes(), b"\""].concat();
    let common = begins.len().min(text.len());
    if begins[..common] != text[..common] {
        return Err("it is incomplete and does not follow from the line before");
    }
    match text.split_last() {
        Some((_, line)) if Frame::of(line).is_ok() => Err("it has other bytes in the place of its end"),
        _ => Ok(()),
    }
}
