//! Which attempt may start, and how each attempt ended: data and decisions, no I/O.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::process::Process;
use super::stale_mark::stale_mark;

/// Attempts that the file keeps.
pub const KEPT: usize = 20;

/// Resets that the file keeps.
const KEPT_RESETS: usize = 20;

/// Version of the file's format: 1 without a store's ID, 2 with one.
const WITHOUT_STORE: u32 = 1;
const VERSION: u32 = 2;

/// Identifies an attempt: ordered by the lease's fence, then by the attempt under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttemptId {
    /// Grows with every lease.
    pub fence: u64,
    /// Number of the attempt under the fence, from 1.
    pub attempt: u64,
}

impl AttemptId {
    /// The smallest attempt.
    const FIRST: Self = Self { fence: 1, attempt: 1 };

    /// The next greater attempt.
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
    /// It exited with this code.
    Exit(i32),
    /// A signal of this name ended it.
    Signal(String),
    /// It never started; with the reason.
    NotRun(String),
}

impl Outcome {
    /// Whether it exited with 0.
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
    /// When it ended.
    pub at: Timestamp,
    /// How it ended.
    pub how: Outcome,
}

/// An accepted attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AcceptedAttempt {
    /// Fence and number.
    #[serde(alias = "token")]
    pub attempt_id: AttemptId,
    /// Name of the run, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Name of the target, if given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The program without its arguments, which may contain secrets.
    pub program: String,
    /// The guard that runs it.
    pub guard: Process,
    /// When it was accepted, just before it started.
    pub started: Timestamp,
    /// The later attempt that it was stopped for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped_for: Option<AttemptId>,
    /// Its end. `None` if it is running, or no guard saw the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Ended>,
}

/// Whether a process holds the right to run commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// A guard, or what is left of one, is alive.
    Alive,
    /// No process holds it.
    Free,
}

/// Whether an attempt may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It may start now.
    Start,
    /// It may never start.
    Stale(Stale),
    /// It may not start while an earlier one is running. `None` if the earlier one is unknown.
    Busy(Option<AcceptedAttempt>),
}

/// Why an attempt may never start.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Stale {
    /// It was already started.
    #[error("{} was already started, {}", .0.attempt_id, .0.started.strftime("%Y-%m-%d %H:%M:%SZ"))]
    Started(Box<AcceptedAttempt>),
    /// A greater fence has arrived.
    #[error("{}: fence {newest} has arrived before", stale_mark(.attempt_id.fence))]
    Fence {
        /// The refused attempt.
        attempt_id: AttemptId,
        /// The greatest fence that has arrived.
        newest: u64,
    },
    /// A later attempt has arrived, or this one was settled.
    #[error("attempt {} of fence {} is stale: only attempt {least} or a later one may \
     start", .attempt_id.attempt, .attempt_id.fence)]
    AcceptedAttempt {
        /// The refused attempt.
        attempt_id: AttemptId,
        /// The first attempt that may still start.
        least: u64,
    },
}

/// What is known of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Its command exited with 0.
    Succeeded(AcceptedAttempt),
    /// Its command failed or never started.
    Failed(AcceptedAttempt),
    /// Its command is running.
    Running(AcceptedAttempt),
    /// It was not started.
    NotStarted {
        /// Whether it may still start.
        may_start: bool,
    },
    /// It started and no guard saw its end; or it is too old to be recorded, then without a record.
    Unknown(Option<AcceptedAttempt>),
}

/// How a fence file contradicts itself.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Incoherent {
    /// A later version wrote it.
    #[error("it has version {0}, this lockkeeper reads versions up to {VERSION}")]
    Version(u32),
    /// A fence or an attempt is zero.
    #[error("fences and attempts start at 1")]
    Zero,
    /// The attempts are not ascending, or one is not below the next that may start.
    #[error("its attempts are not in order")]
    Order,
}

/// Why a fence may not be compared with those in the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OtherStore {
    /// It is from another store.
    #[error("the fence is from store `{given}`, and this file accepts fences of store `{known}`")]
    Differs {
        /// The store of the given fence.
        given: String,
        /// The store of the file's fences.
        known: String,
    },
    /// The store of the given fence is unknown.
    #[error("the store of the fence is unknown, and this file accepts fences of store `{known}`")]
    Unnamed {
        /// The store of the file's fences.
        known: String,
    },
}

impl OtherStore {
    /// The store of the file's fences.
    #[must_use]
    pub fn known(&self) -> &str {
        let (Self::Differs { known, .. } | Self::Unnamed { known }) = self;
        known
    }
}

/// An operator's decision to accept the fences of another store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Reset {
    /// User and host.
    pub by: String,
    /// When it was decided.
    pub at: Timestamp,
    /// The operator's reason.
    pub reason: String,
    /// The store whose fences were accepted before. `None` if unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The store whose fences are accepted now.
    pub to: String,
    /// The smallest attempt that might have started before the reset.
    pub least: AttemptId,
}

/// The content of a fence file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct AcceptedFences {
    version: u32,
    /// The store of all fences in the file. `None` until a caller names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    store: Option<String>,
    /// The last resets, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    resets: Vec<Reset>,
    /// The smallest attempt that may start: greater than every accepted or settled one, and of no smaller fence than
    /// any that has arrived.
    least: AttemptId,
    /// The greatest accepted attempt that is no longer kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    forgotten: Option<AttemptId>,
    /// The last accepted attempts, oldest first.
    attempts: Vec<AcceptedAttempt>,
}

impl Default for AcceptedFences {
    fn default() -> Self {
        Self {
            // Earlier versions can read the file until it contains something new to them.
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
    /// Whether this program can read a file of this version.
    ///
    /// # Errors
    /// If it cannot.
    pub fn knows(version: u32) -> Result<(), Incoherent> {
        if (WITHOUT_STORE..=VERSION).contains(&version) { Ok(()) } else { Err(Incoherent::Version(version)) }
    }

    /// Checks the file for contradictions.
    ///
    /// # Errors
    /// The first contradiction.
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

    /// The store of the file's fences. `None` if unknown.
    #[must_use]
    pub fn store(&self) -> Option<&str> {
        self.store.as_deref()
    }

    /// Whether a fence of that store may be compared with those in the file. `None` if the caller does not know the
    /// store: while the file does not know it either, all fences count as from one store.
    ///
    /// # Errors
    /// If it may not.
    pub fn compares_with(&self, store: Option<&str>) -> Result<(), OtherStore> {
        match (&self.store, store) {
            (None, _) => Ok(()),
            (Some(known), Some(given)) if known == given => Ok(()),
            (Some(known), Some(given)) => Err(OtherStore::Differs { given: given.to_owned(), known: known.clone() }),
            (Some(known), None) => Err(OtherStore::Unnamed { known: known.clone() }),
        }
    }

    /// Keeps the store of a fence that [compares](Self::compares_with), if it is the first that is named.
    pub fn name_store(&mut self, store: Option<&str>) {
        if let (None, Some(store)) = (&self.store, store) {
            self.store = Some(store.to_owned());
            self.version = VERSION;
        }
    }

    /// Accepts the fences of that store from now on. Attempts under earlier fences are forgotten.
    pub fn reset(&mut self, store: &str, by: String, reason: String, at: Timestamp) {
        let from = self.store.take();
        self.resets.push(Reset { by, at, reason, from, to: store.to_owned(), least: self.least });
        self.resets.drain(..self.resets.len().saturating_sub(KEPT_RESETS));
        let resets = std::mem::take(&mut self.resets);
        *self = Self { version: VERSION, store: Some(store.to_owned()), resets, ..Self::default() };
    }

    /// The greatest fence that has arrived.
    #[must_use]
    pub fn newest_fence(&self) -> Option<u64> {
        (self.least > AttemptId::FIRST).then_some(self.least.fence)
    }

    /// Whether an attempt may start now.
    #[must_use]
    pub fn admit(&self, attempt_id: AttemptId, liveness: Liveness) -> Verdict {
        if attempt_id < self.least {
            return Verdict::Stale(self.stale(attempt_id));
        }
        match liveness {
            Liveness::Alive => Verdict::Busy(self.running().cloned()),
            Liveness::Free => Verdict::Start,
        }
    }

    /// The attempt that may be running: the last one without an end.
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

    /// Notes that an attempt arrived although it could not start: smaller ones never may.
    pub fn note_arrival(&mut self, attempt_id: AttemptId) {
        self.least = self.least.max(attempt_id);
    }

    /// Records that an attempt is about to start, or its present state.
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

    /// Records that an attempt was stopped for a later one; `killed` is the time if its guard was not involved.
    pub fn stopped(&mut self, attempt_id: AttemptId, by: AttemptId, killed: Option<Timestamp>) {
        let Some(attempt) = self.attempts.iter_mut().find(|attempt| attempt.attempt_id == attempt_id) else { return };
        attempt.stopped_for = Some(by);
        if let Some(at) = killed {
            attempt.ended.get_or_insert(Ended { at, how: Outcome::Signal("SIGKILL".to_owned()) });
        }
    }

    /// Ensures that an attempt that was not started never starts.
    pub fn settle(&mut self, attempt_id: AttemptId) {
        self.least = self.least.max(attempt_id.next());
    }

    /// What is known of an attempt.
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
        let says = |fence, attempt| accepted.admit(attempt_id(fence, attempt), Liveness::Free);
        assert_eq!(says(5, 3), Verdict::Start);
        assert_eq!(says(6, 1), Verdict::Start);
        assert_eq!(says(5, 2), Verdict::Stale(Stale::Started(Box::new(attempt(5, 2)))));
        assert_eq!(says(5, 1), Verdict::Stale(Stale::AcceptedAttempt { attempt_id: attempt_id(5, 1), least: 3 }));
        assert_eq!(says(4, 9), Verdict::Stale(Stale::Fence { attempt_id: attempt_id(4, 9), newest: 5 }));
        assert_eq!(AcceptedFences::default().admit(attempt_id(1, 1), Liveness::Free), Verdict::Start);
    }

    #[test]
    fn a_running_attempt_blocks_others_and_stale_ones_are_refused() {
        let accepted = with(&[attempt(5, 2)]);
        assert_eq!(accepted.admit(attempt_id(6, 1), Liveness::Alive), Verdict::Busy(Some(attempt(5, 2))));
        assert!(matches!(accepted.admit(attempt_id(5, 1), Liveness::Alive), Verdict::Stale(_)));
        let over = with(&[ended(attempt(5, 2), Outcome::Exit(0))]);
        assert_eq!(over.admit(attempt_id(6, 1), Liveness::Alive), Verdict::Busy(None));
    }

    #[test]
    fn a_waiting_attempt_supersedes_earlier_ones() {
        let mut accepted = with(&[attempt(5, 1)]);
        accepted.note_arrival(attempt_id(7, 1));
        accepted.note_arrival(attempt_id(6, 1));
        let says = |fence, attempt| accepted.admit(attempt_id(fence, attempt), Liveness::Free);
        assert_eq!(says(5, 2), Verdict::Stale(Stale::Fence { attempt_id: attempt_id(5, 2), newest: 7 }));
        assert_eq!(says(6, 1), Verdict::Stale(Stale::Fence { attempt_id: attempt_id(6, 1), newest: 7 }));
        assert_eq!(says(7, 1), Verdict::Start);
        assert_eq!(accepted.newest_fence(), Some(7));
    }

    #[test]
    fn a_settled_attempt_never_starts() {
        let mut accepted = with(&[attempt(5, 1)]);
        assert_eq!(accepted.answer(attempt_id(6, 1), Liveness::Alive), Answer::NotStarted { may_start: true });
        accepted.settle(attempt_id(6, 1));
        accepted.settle(attempt_id(5, 1));
        accepted.check().unwrap();
        assert_eq!(accepted.answer(attempt_id(6, 1), Liveness::Alive), Answer::NotStarted { may_start: false });
        assert!(matches!(
            accepted.admit(attempt_id(6, 1), Liveness::Free),
            Verdict::Stale(Stale::AcceptedAttempt { .. })
        ));
        assert_eq!(accepted.admit(attempt_id(6, 2), Liveness::Free), Verdict::Start);
    }

    #[test]
    fn the_outcome_of_an_attempt_is_reported() {
        let succeeded = ended(attempt(5, 1), Outcome::Exit(0));
        let failed = ended(attempt(5, 2), Outcome::Signal("SIGTERM".to_owned()));
        let accepted = with(&[succeeded.clone(), failed.clone(), attempt(5, 3), attempt(6, 1)]);
        let says = |fence, attempt, liveness| accepted.answer(attempt_id(fence, attempt), liveness);
        assert_eq!(says(5, 1, Liveness::Alive), Answer::Succeeded(succeeded));
        assert_eq!(says(5, 2, Liveness::Alive), Answer::Failed(failed));
        assert_eq!(says(5, 3, Liveness::Alive), Answer::Unknown(Some(attempt(5, 3))), "another is alive");
        assert_eq!(says(6, 1, Liveness::Alive), Answer::Running(attempt(6, 1)));
        assert_eq!(says(6, 1, Liveness::Free), Answer::Unknown(Some(attempt(6, 1))));
        assert_eq!(says(6, 2, Liveness::Free), Answer::NotStarted { may_start: true });
        assert_eq!(says(4, 1, Liveness::Free), Answer::NotStarted { may_start: false });
        assert_eq!(accepted.newest_fence(), Some(6));
        assert_eq!(AcceptedFences::default().newest_fence(), None);
    }

    #[test]
    fn a_forgotten_attempt_is_unknown_not_unstarted() {
        let attempts: Vec<AcceptedAttempt> =
            (1..=KEPT as u64 + 3).map(|fence| ended(attempt(fence, 1), Outcome::Exit(0))).collect();
        let accepted = with(&attempts);
        assert_eq!(accepted.attempts.len(), KEPT);
        assert_eq!(accepted.answer(attempt_id(3, 1), Liveness::Free), Answer::Unknown(None));
        assert_eq!(accepted.answer(attempt_id(3, 2), Liveness::Free), Answer::NotStarted { may_start: false });
        assert!(matches!(accepted.answer(attempt_id(4, 1), Liveness::Free), Answer::Succeeded(_)));
    }

    #[test]
    fn a_stopped_attempt_names_the_later_one() {
        let mut accepted = with(&[attempt(5, 1)]);
        accepted.stopped(attempt_id(5, 1), attempt_id(6, 1), None);
        assert!(accepted.find(attempt_id(5, 1)).is_some_and(|attempt| attempt.ended.is_none()));
        accepted.stopped(attempt_id(5, 1), attempt_id(6, 1), Some(Timestamp::UNIX_EPOCH));
        let stopped = accepted.find(attempt_id(5, 1)).unwrap();
        assert_eq!(stopped.stopped_for, Some(attempt_id(6, 1)));
        assert_eq!(stopped.ended.as_ref().map(|ended| &ended.how), Some(&Outcome::Signal("SIGKILL".to_owned())));
    }

    #[test]
    fn contradictions_are_found() {
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
    fn a_fence_of_another_store_compares_with_nothing_until_a_reset() {
        let mut accepted = with(&[attempt(5, 1)]);
        // The format without store IDs, as earlier versions write it.
        assert_eq!((accepted.compares_with(None), accepted.version), (Ok(()), WITHOUT_STORE));
        assert_eq!(accepted.compares_with(Some("a")), Ok(()));
        accepted.name_store(None);
        assert_eq!(accepted.version, WITHOUT_STORE);
        accepted.name_store(Some("a"));
        assert_eq!(
            accepted.admit(attempt_id(5, 1), Liveness::Free),
            with(&[attempt(5, 1)]).admit(attempt_id(5, 1), Liveness::Free)
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
        assert_eq!(accepted.admit(attempt_id(1, 1), Liveness::Free), Verdict::Start);
        assert_eq!(accepted.answer(attempt_id(5, 1), Liveness::Free), Answer::NotStarted { may_start: true });
        let text = serde_json::to_string(&accepted).unwrap();
        assert_eq!(serde_json::from_str::<AcceptedFences>(&text).unwrap(), accepted);
    }

    #[test]
    fn attempts_are_ordered_by_fence_and_then_by_number() {
        assert!(attempt_id(2, 1) > attempt_id(1, 9) && attempt_id(2, 2) > attempt_id(2, 1));
        assert_eq!(attempt_id(2, u64::MAX).next(), attempt_id(3, 1));
    }
}
