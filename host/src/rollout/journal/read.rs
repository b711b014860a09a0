//! Lines are read, and believed only if every byte is as it was written.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::error::JournalError;
use super::record::{Asked, BEFORE_HASH, Closing, Header, VERSION, digest};
use super::segments::Segment;
use crate::policy::types::{Member, Outcome, View};
use crate::rollout::model::Stamped;
use lockkeeper_coordination::files;

/// The longest line taken, in bytes: a view of 100,000 members comes to a tenth of it.
pub(super) const MAX_LINE: u64 = 64 * 1024 * 1024;

/// What every line begins with.
const BEFORE_PREV: &[u8] = br#"{"prev":""#;

/// What follows the hash of the line before, in the line that closes a journal.
const CLOSES: &[u8] = br#"","end":"#;

/// Likewise, in a line that says what happened.
const TELLS: &[u8] = br#"","event":{"#;

/// Characters of a hash.
const HASH: usize = 64;

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

/// What a line says between the first and the one that closes the journal.
#[derive(Debug)]
pub enum Entry<'a> {
    /// A decision.
    Decision(&'a Recorded),
    /// What happened.
    Event(Stamped),
}

/// A journal that is being read, one line after the other; everything that was read is as it was written.
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
        Self::new(BufReader::new(files::open(path)?))
    }

    /// Opens the journal of a stint, which must say that it is this stint's.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn of(runner_epoch: &Segment) -> Result<Self, JournalError> {
        let reader = Self::open(&runner_epoch.path)?;
        match reader.header.runner_epoch == runner_epoch.number {
            true => Ok(reader),
            false => Err(JournalError::Contradiction { line: 1, what: "the file's name: it is another stint's" }),
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
            Lines { from, text: Vec::new(), number: 0, bytes: 0, previous: String::new(), recovering: None };
        let unknown = |source| JournalError::Unknown { line: 1, source };
        if !lines.next()? {
            return Err(lines.recovering.map_or(JournalError::Empty, |line| JournalError::RecoveredToml { line }));
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

    /// The next decision; none at the end. What happened in between is left out, and its lines are checked.
    ///
    /// # Errors
    /// [`JournalError`]: the first line that cannot be believed. Nothing behind it can be, either.
    pub fn decision(&mut self) -> Result<Option<&Recorded>, JournalError> {
        while let Some(kind) = self.line()? {
            if let LineKind::Decision = kind {
                return self.read_decision().map(Some);
            }
        }
        Ok(None)
    }

    /// The next line, whatever it says; none at the end.
    ///
    /// # Errors
    /// As of [`decision`](Self::decision).
    pub fn entry(&mut self) -> Result<Option<Entry<'_>>, JournalError> {
        match self.line()? {
            None => Ok(None),
            Some(kind) => self.read(kind).map(Some),
        }
    }

    /// How the stint ended, once everything was read; none: it goes on, was killed, or lines are missing at the end.
    pub fn closing(&self) -> Option<&Closing> {
        self.closing.as_ref()
    }

    /// The line that has no end, if the journal stops in the middle of one: it is being written, its run died while it
    /// wrote, or the file was cut. Nothing is read of it.
    pub fn recovering(&self) -> Option<usize> {
        self.lines.recovering
    }

    /// Which line was read last, from 1.
    pub fn line_number(&self) -> usize {
        self.lines.number
    }

    /// How many bytes were read.
    pub fn bytes(&self) -> u64 {
        self.lines.bytes
    }

    /// Goes on to the next line but the one that closes the journal.
    pub fn line(&mut self) -> Result<Option<LineKind>, JournalError> {
        self.take_members_back();
        while self.lines.next()? {
            let (line, text) = (self.lines.number, self.lines.text());
            if self.closing.is_some() {
                return Err(JournalError::AfterEnd { line });
            }
            let after = after_prev(text);
            if after.starts_with(TELLS) {
                return Ok(Some(LineKind::Event));
            }
            if !after.starts_with(CLOSES) {
                return Ok(Some(LineKind::Decision));
            }
            let unknown = |source| JournalError::Unknown { line, source };
            self.closing = Some(serde_json::from_slice(text).map_err(unknown)?);
        }
        match (self.lines.recovering, &self.closing) {
            (Some(line), Some(_)) => Err(JournalError::AfterEnd { line }),
            _ => Ok(None),
        }
    }

    /// The line that [`line`](Self::line) went on to.
    pub fn read(&mut self, kind: LineKind) -> Result<Entry<'_>, JournalError> {
        #[derive(Deserialize)]
        struct Told {
            event: Stamped,
        }
        let line = self.lines.number;
        match kind {
            LineKind::Decision => self.read_decision().map(Entry::Decision),
            LineKind::Event => match serde_json::from_slice(self.lines.text()) {
                Ok(Told { event }) => Ok(Entry::Event(event)),
                Err(source) => Err(JournalError::Unknown { line, source }),
            },
        }
    }

    fn read_decision(&mut self) -> Result<&Recorded, JournalError> {
        let line = self.lines.number;
        let read = serde_json::from_slice(self.lines.text());
        let mut decision: Recorded = read.map_err(|source| JournalError::Unknown { line, source })?;
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
    /// Whether the stint wrote its last line. Without it the run goes on, was killed, or lines are missing at the end.
    pub closed: bool,
    /// Whether it stops in the middle of a line.
    pub recovering: bool,
}

/// Checks every byte: each line against its hash, and against the line before.
///
/// # Errors
/// The first line that does not fit.
pub fn verify(path: &Path) -> Result<Verified, JournalError> {
    let mut reader = Reader::open(path)?;
    let mut decisions = 0;
    while let Some(entry) = reader.entry()? {
        decisions += usize::from(matches!(entry, Entry::Decision(_)));
    }
    Ok(Verified { decisions, closed: reader.closing().is_some(), recovering: reader.recovering().is_some() })
}

/// What a line holds, by its beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// A decision of the policy.
    Decision,
    /// An event of the run.
    Event,
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
    /// Which line has no end: the last.
    recovering: Option<usize>,
}

impl<R: BufRead> Lines<R> {
    /// Reads the next line, if there is one.
    fn next(&mut self) -> Result<bool, JournalError> {
        self.text.clear();
        let read = (&mut self.from).take(MAX_LINE).read_until(b'\n', &mut self.text)?;
        if read == 0 || self.recovering.is_some() {
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
            self.recovering = Some(line);
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

/// What of a line follows the hash of the line before, its quote first.
fn after_prev(line: &[u8]) -> &[u8] {
    let prev = line.strip_prefix(BEFORE_PREV);
    prev.and_then(|text| Some(&text[until_quote(text)?.len()..])).unwrap_or_default()
}

/// Whether a line without an end may be the beginning of one: it follows from the line before, as far as it goes, and
/// nothing stands where its end should.
fn could_go_on(text: &[u8], previous: &str) -> Result<(), &'static str> {
    let begins = [BEFORE_PREV, previous.as_bytes(), b"\""].concat();
    let common = begins.len().min(text.len());
    if begins[..common] != text[..common] {
        return Err("it has no end, and does not follow from the line before");
    }
    match text.split_last() {
        Some((_, line)) if Frame::of(line).is_ok() => Err("there is something else where its end should be"),
        _ => Ok(()),
    }
}
