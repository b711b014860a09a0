//! Which token may start, and how each attempt went: data and decisions, no I/O.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::process::Process;
use crate::rollout::model::stale_mark;

/// How many attempts are remembered.
pub const KEPT: usize = 20;

/// How many resets are remembered.
const KEPT_RESETS: usize = 20;

/// How the file's shape is counted: 1 without the id of a store, 2 with it.
const WITHOUT_STORE: u32 = 1;
const VERSION: u32 = 2;

/// What an attempt is known by: its lease's fence first, then which try it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptId {
    /// Grows with every grant of a lease.
    pub fence: u64,
    /// 1 for the first try under it.
    pub attempt: u64,
}

impl AttemptId {
    /// The least of all.
    const FIRST: Self = Self { fence: 1, attempt: 1 };

    /// The least that is greater.
    fn next(self) -> Self {
        match self.attempt.checked_add(1) {
            Some(attempt) => Self { attempt, ..self },
            None => Self { fence: self.fence.saturating_add(1), attempt: 1 },
        }
    }
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fence {}, attempt {}", self.fence, self.attempt)
    }
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// By itself, with this code.
    Exit(i32),
    /// By a signal: its name.
    Signal(String),
    /// It never began: why.
    NotRun(String),
}

impl Outcome {
    /// Whether it did what it was to do.
    #[must_use]
    pub fn is_success(&self) -> bool {
        *self == Self::Exit(0)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exit(code) => write!(f, "exited with {code}"),
            Self::Signal(name) => write!(f, "was ended by {name}"),
            Self::NotRun(why) => write!(f, "did not run: {why}"),
        }
    }
}

/// The end of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// How.
    pub how: Outcome,
}

/// An attempt that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AcceptedAttempt {
    /// What it is known by.
    pub attempt_id: AttemptId,
    /// The run that it belongs to, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// The target, where that was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// What is run, without its arguments: they may hold secrets.
    pub program: String,
    /// Who runs it.
    pub guard: Process,
    /// When it was accepted, which is just before it began.
    pub started: Timestamp,
    /// For which later token it was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_for: Option<AttemptId>,
    /// Its end; none: it runs, or nobody saw the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// Whether somebody holds the right to run commands at this moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// A guard, or what is left of one, is alive.
    Alive,
    /// Nobody.
    Nobody,
}

/// Whether a token may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Start,
    /// Never again.
    Stale(Stale),
    /// Not while an earlier one runs; none where it is not known which.
    Busy(Option<AcceptedAttempt>),
}

/// Why a token may never start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Stale {
    /// It did already.
    #[error("{} was started already, {}", .0.attempt_id, .0.started.strftime("%Y-%m-%d %H:%M:%SZ"))]
    Started(Box<AcceptedAttempt>),
    /// A later lease was here.
    #[error("{}: fence {newest} was here", stale_mark(.attempt_id.fence))]
    Fence {
        /// Who came too late.
        attempt_id: AttemptId,
        /// The greatest that was here.
        newest: u64,
    },
    /// A later try was here, or this one was settled.
    #[error("attempt {} of fence {} is stale: only attempt {least} or a later one may start", .attempt_id.attempt, .attempt_id.fence)]
    AcceptedAttempt {
        /// Who came too late.
        attempt_id: AttemptId,
        /// The first that still may.
        least: u64,
    },
}

/// What is known of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It succeeded.
    Succeeded(AcceptedAttempt),
    /// It failed.
    Failed(AcceptedAttempt),
    /// It still runs.
    Running(AcceptedAttempt),
    /// It was not started.
    NotStarted {
        /// Whether it still may be.
        may_start: bool,
    },
    /// It started, and nobody saw its end; or it is too long ago to be remembered, then without a record.
    Unknown(Option<AcceptedAttempt>),
}

/// Why a ledger contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Incoherent {
    /// A later version wrote it.
    #[error("it is of version {0}, and this lockkeeper knows version {VERSION}")]
    Version(u32),
    /// A token of zero.
    #[error("fences and attempts begin at 1")]
    Zero,
    /// Each attempt is greater than the one before, and all are less than what may start.
    #[error("its tokens are not in order")]
    Order,
}

/// Why a fence may not be compared with those that were here.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OtherStore {
    /// It is from another store.
    #[error("the fence is from store `{given}`, and the fences that were here are from store `{known}`")]
    Differs {
        /// The store that the fence is from.
        given: String,
        /// The store whose fences were here.
        known: String,
    },
    /// Nothing says which store it is from.
    #[error("the fence does not say which store it is from, and the fences that were here are from store `{known}`")]
    Unnamed {
        /// The store whose fences were here.
        known: String,
    },
}

impl OtherStore {
    /// The store whose fences were here.
    #[must_use]
    pub fn known(&self) -> &str {
        let (Self::Differs { known, .. } | Self::Unnamed { known }) = self;
        known
    }
}

/// That an operator had fences counted anew.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reset {
    /// User and host.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: String,
    /// The store whose fences counted until then; `None` if it was not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The store whose fences count from then on.
    pub to: String,
    /// The least token that might have started until then.
    pub least: AttemptId,
}

/// All that is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AcceptedFences {
    version: u32,
    /// The store that all fences here are from; `None` as long as no caller has named one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    /// The last resets, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resets: Vec<Reset>,
    /// The least token that may start: beyond all that were accepted or settled, and none below one that was here.
    least: AttemptId,
    /// The greatest that was accepted and is remembered no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forgotten: Option<AttemptId>,
    /// The last that were accepted, oldest first.
    attempts: Vec<AcceptedAttempt>,
}

impl Default for AcceptedFences {
    fn default() -> Self {
        Self {
            // Earlier versions read it as long as nothing in it is new to them.
            version: WITHOUT_STORE,
            store: None,
            resets: Vec::new(),
            least: AttemptId::FIRST,
            forgotten: None,
            attempts: Vec::new(),
        }
    }
}

impl AcceptedFences {
    /// Whether a file of this version can be read.
    ///
    /// # Errors
    /// When it cannot.
    pub fn knows(version: u32) -> Result<(), Incoherent> {
        if (WITHOUT_STORE..=VERSION).contains(&version) { Ok(()) } else { Err(Incoherent::Version(version)) }
    }

    /// Whether it says what a ledger can say.
    ///
    /// # Errors
    /// Where it does not.
    pub fn check(&self) -> Result<(), Incoherent> {
        Self::knows(self.version)?;
        let started = self.forgotten.into_iter().chain(self.attempts.iter().map(|attempt| attempt.attempt_id));
        let attempt_ids: Vec<AttemptId> = started.chain([self.least]).collect();
        if attempt_ids.iter().any(|attempt_id| attempt_id.fence == 0 || attempt_id.attempt == 0) {
            return Err(Incoherent::Zero);
        }
        if !attempt_ids.is_sorted_by(|one, next| one < next) {
            return Err(Incoherent::Order);
        }
        Ok(())
    }

    /// The store that the fences here are from; `None` if that is not known.
    #[must_use]
    pub fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// Whether a fence of that store may be compared with those that were here. `None` if the caller does not know the store: as
    /// long as the file does not either, all are taken to be from one.
    ///
    /// # Errors
    /// When it may not.
    pub fn compares_with(&self, store: Option<&str>) -> Result<(), OtherStore> {
        match (&self.store, store) {
            (None, _) => Ok(()),
            (Some(known), Some(given)) if known == given => Ok(()),
            (Some(known), Some(given)) => Err(OtherStore::Differs { given: given.to_owned(), known: known.clone() }),
            (Some(known), None) => Err(OtherStore::Unnamed { known: known.clone() }),
        }
    }

    /// Remembers the store of a fence that [compares](Self::compares_with), if it is the first that is named.
    pub fn name_store(&mut self, store: Option<&str>) {
        if let (None, Some(store)) = (&self.store, store) {
            self.store = Some(store.to_owned());
            self.version = VERSION;
        }
    }

    /// Counts fences anew, from the first of that store on. The attempts under earlier fences are forgotten.
    pub fn reset(&mut self, store: &str, by: String, reason: String, at: Timestamp) {
        let from = self.store.take();
        self.resets.push(Reset { by, at, reason, from, to: store.to_owned(), least: self.least });
        self.resets.drain(..self.resets.len().saturating_sub(KEPT_RESETS));
        let resets = std::mem::take(&mut self.resets);
        *self = Self { version: VERSION, store: Some(store.to_owned()), resets, ..Self::default() };
    }

    /// The greatest fence that was here.
    #[must_use]
    pub fn newest_fence(&self) -> Option<u64> {
        (self.least > AttemptId::FIRST).then_some(self.least.fence)
    }

    /// Whether a token may start now.
    #[must_use]
    pub fn admit(&self, attempt_id: AttemptId, liveness: Liveness) -> Verdict {
        if attempt_id < self.least {
            return Verdict::Stale(self.stale(attempt_id));
        }
        match liveness {
            Liveness::Alive => Verdict::Busy(self.running().cloned()),
            Liveness::Nobody => Verdict::Start,
        }
    }

    /// The attempt that runs if any does: the last one without an end.
    #[must_use]
    pub fn running(&self) -> Option<&AcceptedAttempt> {
        self.attempts.last().filter(|last| last.ended.is_none())
    }

    fn stale(&self, attempt_id: AttemptId) -> Stale {
        match self.find(attempt_id) {
            Some(attempt) => Stale::Started(Box::new(attempt.clone())),
            None if attempt_id.fence < self.least.fence => Stale::Fence { attempt_id, newest: self.least.fence },
            None => Stale::AcceptedAttempt { attempt_id, least: self.least.attempt },
        }
    }

    fn find(&self, attempt_id: AttemptId) -> Option<&AcceptedAttempt> {
        self.attempts.iter().find(|attempt| attempt.attempt_id == attempt_id)
    }

    /// Remembers that a token was here, though it could not start: whoever is below it never will.
    pub fn see(&mut self, attempt_id: AttemptId) {
        self.least = self.least.max(attempt_id);
    }

    /// Remembers that an attempt is about to start, or how it stands now.
    pub fn record(&mut self, attempt: AcceptedAttempt) {
        self.least = self.least.max(attempt.attempt_id.next());
        match self.attempts.iter().position(|one| one.attempt_id >= attempt.attempt_id) {
            Some(place) if self.attempts[place].attempt_id == attempt.attempt_id => self.attempts[place] = attempt,
            Some(place) => self.attempts.insert(place, attempt),
            None => self.attempts.push(attempt),
        }
        let too_many = self.attempts.len().saturating_sub(KEPT);
        if let Some(last) = self.attempts.drain(..too_many).next_back() {
            self.forgotten = self.forgotten.max(Some(last.attempt_id));
        }
    }

    /// Remembers that an attempt was stopped for a later one; `killed` says when, if that was without its guard's help.
    pub fn stopped(&mut self, attempt_id: AttemptId, by: AttemptId, killed: Option<Timestamp>) {
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.attempt_id == attempt_id) else { return };
        attempt.stopped_for = Some(by);
        if let Some(at) = killed {
            attempt.ended.get_or_insert(Ended { at, how: Outcome::Signal("SIGKILL".to_owned()) });
        }
    }

    /// Sees to it that a token that was not started never will be.
    pub fn settle(&mut self, attempt_id: AttemptId) {
        self.least = self.least.max(attempt_id.next());
    }

    /// How an attempt went.
    #[must_use]
    pub fn answer(&self, attempt_id: AttemptId, liveness: Liveness) -> Answer {
        let Some(attempt) = self.find(attempt_id) else {
            return match self.forgotten {
                Some(forgotten) if attempt_id <= forgotten => Answer::Unknown(None),
                _ => Answer::NotStarted { may_start: attempt_id >= self.least },
            };
        };
        let is_last = self.attempts.last() == Some(attempt);
        let attempt = attempt.clone();
        match &attempt.ended {
            Some(Ended { how: Outcome::NotRun(_), .. }) => Answer::Failed(attempt),
            Some(ended) if ended.how.is_success() => Answer::Succeeded(attempt),
            Some(_) => Answer::Failed(attempt),
            None if is_last && liveness == Liveness::Alive => Answer::Running(attempt),
            None => Answer::Unknown(Some(attempt)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt_id(fence: u64, attempt: u64) -> AttemptId {
        AttemptId { fence, attempt }
    }

    fn attempt(fence: u64, attempt: u64) -> AcceptedAttempt {
        AcceptedAttempt {
            attempt_id: attempt_id(fence, attempt),
            run: None,
            target: None,
            program: "true".to_owned(),
            guard: Process { pid: 1, started: None },
            started: Timestamp::UNIX_EPOCH,
            stopped_for: None,
            ended: None,
        }
    }

    fn ended(mut attempt: AcceptedAttempt, how: Outcome) -> AcceptedAttempt {
        attempt.ended = Some(Ended { at: Timestamp::UNIX_EPOCH, how });
        attempt
    }

    fn with(attempts: &[AcceptedAttempt]) -> AcceptedFences {
        let mut accepted = AcceptedFences::default();
        attempts.iter().for_each(|attempt| accepted.record(attempt.clone()));
        accepted.check().unwrap();
        accepted
    }

    #[test]
    fn only_a_later_attempt_starts() {
        let accepted = with(&[attempt(5, 2)]);
        let says = |fence, attempt| accepted.admit(attempt_id(fence, attempt), Liveness::Nobody);
        assert_eq!(says(5, 3), Verdict::Start);
        assert_eq!(says(6, 1), Verdict::Start);
        assert_eq!(says(5, 2), Verdict::Stale(Stale::Started(Box::new(attempt(5, 2)))));
        assert_eq!(says(5, 1), Verdict::Stale(Stale::AcceptedAttempt { attempt_id: attempt_id(5, 1), least: 3 }));
        assert_eq!(says(4, 9), Verdict::Stale(Stale::Fence { attempt_id: attempt_id(4, 9), newest: 5 }));
        assert_eq!(AcceptedFences::default().admit(attempt_id(1, 1), Liveness::Nobody), Verdict::Start);
    }

    #[test]
    fn nothing_starts_while_another_runs_but_what_is_stale_is_told_so() {
        let accepted = with(&[attempt(5, 2)]);
        assert_eq!(accepted.admit(attempt_id(6, 1), Liveness::Alive), Verdict::Busy(Some(attempt(5, 2))));
        assert!(matches!(accepted.admit(attempt_id(5, 1), Liveness::Alive), Verdict::Stale(_)));
        let over = with(&[ended(attempt(5, 2), Outcome::Exit(0))]);
        assert_eq!(over.admit(attempt_id(6, 1), Liveness::Alive), Verdict::Busy(None));
    }

    #[test]
    fn one_that_had_to_wait_supersedes_who_was_before_it() {
        let mut accepted = with(&[attempt(5, 1)]);
        accepted.see(attempt_id(7, 1));
        accepted.see(attempt_id(6, 1));
        let says = |fence, attempt| accepted.admit(attempt_id(fence, attempt), Liveness::Nobody);
        assert_eq!(says(5, 2), Verdict::Stale(Stale::Fence { attempt_id: attempt_id(5, 2), newest: 7 }));
        assert_eq!(says(6, 1), Verdict::Stale(Stale::Fence { attempt_id: attempt_id(6, 1), newest: 7 }));
        assert_eq!(says(7, 1), Verdict::Start);
        assert_eq!(accepted.newest_fence(), Some(7));
    }

    #[test]
    fn what_is_settled_never_starts() {
        let mut accepted = with(&[attempt(5, 1)]);
        assert_eq!(accepted.answer(attempt_id(6, 1), Liveness::Alive), Answer::NotStarted { may_start: true });
        accepted.settle(attempt_id(6, 1));
        accepted.settle(attempt_id(5, 1));
        accepted.check().unwrap();
        assert_eq!(accepted.answer(attempt_id(6, 1), Liveness::Alive), Answer::NotStarted { may_start: false });
        assert!(matches!(
            accepted.admit(attempt_id(6, 1), Liveness::Nobody),
            Verdict::Stale(Stale::AcceptedAttempt { .. })
        ));
        assert_eq!(accepted.admit(attempt_id(6, 2), Liveness::Nobody), Verdict::Start);
    }

    #[test]
    fn an_attempt_is_answered_for() {
        let succeeded = ended(attempt(5, 1), Outcome::Exit(0));
        let failed = ended(attempt(5, 2), Outcome::Signal("SIGTERM".to_owned()));
        let accepted = with(&[succeeded.clone(), failed.clone(), attempt(5, 3), attempt(6, 1)]);
        let says = |fence, attempt, liveness| accepted.answer(attempt_id(fence, attempt), liveness);
        assert_eq!(says(5, 1, Liveness::Alive), Answer::Succeeded(succeeded));
        assert_eq!(says(5, 2, Liveness::Alive), Answer::Failed(failed));
        assert_eq!(says(5, 3, Liveness::Alive), Answer::Unknown(Some(attempt(5, 3))), "another is alive");
        assert_eq!(says(6, 1, Liveness::Alive), Answer::Running(attempt(6, 1)));
        assert_eq!(says(6, 1, Liveness::Nobody), Answer::Unknown(Some(attempt(6, 1))));
        assert_eq!(says(6, 2, Liveness::Nobody), Answer::NotStarted { may_start: true });
        assert_eq!(says(4, 1, Liveness::Nobody), Answer::NotStarted { may_start: false });
        assert_eq!(accepted.newest_fence(), Some(6));
        assert_eq!(AcceptedFences::default().newest_fence(), None);
    }

    #[test]
    fn what_is_forgotten_is_unknown_and_not_taken_for_never_started() {
        let attempts: Vec<AcceptedAttempt> =
            (1..=KEPT as u64 + 3).map(|fence| ended(attempt(fence, 1), Outcome::Exit(0))).collect();
        let accepted = with(&attempts);
        assert_eq!(accepted.attempts.len(), KEPT);
        assert_eq!(accepted.answer(attempt_id(3, 1), Liveness::Nobody), Answer::Unknown(None));
        assert_eq!(accepted.answer(attempt_id(3, 2), Liveness::Nobody), Answer::NotStarted { may_start: false });
        assert!(matches!(accepted.answer(attempt_id(4, 1), Liveness::Nobody), Answer::Succeeded(_)));
    }

    #[test]
    fn who_was_stopped_for_a_later_one_says_so() {
        let mut accepted = with(&[attempt(5, 1)]);
        accepted.stopped(attempt_id(5, 1), attempt_id(6, 1), None);
        assert!(accepted.find(attempt_id(5, 1)).is_some_and(|attempt| attempt.ended.is_none()));
        accepted.stopped(attempt_id(5, 1), attempt_id(6, 1), Some(Timestamp::UNIX_EPOCH));
        let stopped = accepted.find(attempt_id(5, 1)).unwrap();
        assert_eq!(stopped.stopped_for, Some(attempt_id(6, 1)));
        assert_eq!(stopped.ended.as_ref().map(|ended| &ended.how), Some(&Outcome::Signal("SIGKILL".to_owned())));
    }

    #[test]
    fn what_contradicts_itself_is_told() {
        let accepted = with(&[attempt(5, 1), attempt(6, 1)]);
        let but = |change: &dyn Fn(&mut AcceptedFences)| {
            let mut changed = accepted.clone();
            change(&mut changed);
            changed.check()
        };
        assert_eq!(but(&|accepted| accepted.version = 3), Err(Incoherent::Version(3)));
        assert_eq!(but(&|accepted| accepted.attempts.swap(0, 1)), Err(Incoherent::Order));
        assert_eq!(but(&|accepted| accepted.least = attempt_id(6, 1)), Err(Incoherent::Order));
        assert_eq!(but(&|accepted| accepted.forgotten = Some(attempt_id(5, 1))), Err(Incoherent::Order));
        assert_eq!(but(&|accepted| accepted.attempts[0].attempt_id.fence = 0), Err(Incoherent::Zero));
    }

    #[test]
    fn a_fence_of_another_store_compares_with_nothing_until_fences_are_counted_anew() {
        let mut accepted = with(&[attempt(5, 1)]);
        // As it is without ids, and written by earlier versions.
        assert_eq!((accepted.compares_with(None), accepted.version), (Ok(()), WITHOUT_STORE));
        assert_eq!(accepted.compares_with(Some("a")), Ok(()));
        accepted.name_store(None);
        assert_eq!(accepted.version, WITHOUT_STORE);
        accepted.name_store(Some("a"));
        assert_eq!(
            accepted.admit(attempt_id(5, 1), Liveness::Nobody),
            with(&[attempt(5, 1)]).admit(attempt_id(5, 1), Liveness::Nobody)
        );
        assert_eq!(accepted.compares_with(Some("a")), Ok(()));
        let (given, known) = ("b".to_owned(), "a".to_owned());
        assert_eq!(accepted.compares_with(Some("b")), Err(OtherStore::Differs { given, known: known.clone() }));
        assert_eq!(accepted.compares_with(None), Err(OtherStore::Unnamed { known }));
        accepted.name_store(Some("b"));
        assert_eq!(accepted.store(), Some("a"), "the first counts");
        for n in 0..25 {
            accepted.reset("b", "root@h".to_owned(), format!("rebuilt {n}"), Timestamp::UNIX_EPOCH);
        }
        accepted.check().unwrap();
        assert_eq!((accepted.store(), accepted.resets.len(), accepted.version), (Some("b"), KEPT_RESETS, VERSION));
        assert_eq!(accepted.admit(attempt_id(1, 1), Liveness::Nobody), Verdict::Start);
        assert_eq!(accepted.answer(attempt_id(5, 1), Liveness::Nobody), Answer::NotStarted { may_start: true });
        let text = serde_json::to_string(&accepted).unwrap();
        assert_eq!(serde_json::from_str::<AcceptedFences>(&text).unwrap(), accepted);
    }

    #[test]
    fn tokens_are_ordered_by_fence_and_then_by_attempt() {
        assert!(attempt_id(2, 1) > attempt_id(1, 9) && attempt_id(2, 2) > attempt_id(2, 1));
        assert_eq!(attempt_id(2, u64::MAX).next(), attempt_id(3, 1));
    }
}
