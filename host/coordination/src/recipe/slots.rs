//! The number of slots in force: how it is first written, compared, followed and changed.
//!
//! The number is the data of the semaphore's path, as kazoo has it. Each grant of Lockkeeper's checks the version of that
//! data in the transaction that creates the lease, so that a number that was lowered in between grants nothing.
//!
//! | what | where | data |
//! |---|---|---|
//! | the number | the semaphore's path | decimal ASCII; other data belongs to another application and is left alone |
//! | who wrote it | `/lockkeeper/semaphores/<path, escaped>` | JSON: [`NumberRecord`] |

use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::claim::ROOT;
use super::names;
use super::nested_semaphores::{self, Nested};
use super::semaphore::unless_missing;
use crate::store::{NodeKind, NodePath, Op, Stat, Store, StoreError, Version, create_all, node_name};

/// How long a resize waits for the front of the queue.
const MOST_TURN: Duration = Duration::from_secs(3);

/// As many reservations are made at most: each is a node, and all are made in one transaction.
const MOST_RESERVED: i64 = 1_000;

/// How often a number that changes between look and write is looked at again.
const MOST_TRIES: u32 = 20;

/// What a caller does about a stored number that is not its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SlotsRule {
    /// Refuses it when it first sees the path, with [`SlotsDiffer`](super::AcquireError::SlotsDiffer); later changes are
    /// followed.
    Same,
    /// Goes by the stored number: its own number was compared before, or it has none.
    Stored,
}

/// The number in force, as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) slots: NonZeroU32,
    /// The version of the path's data.
    pub(super) version: i32,
}

/// Who wrote the number last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct NumberRecord {
    /// The number that was written.
    pub slots: u32,
    /// The job whose run wrote it; `None` if an operator did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// Who: user and host.
    pub by: String,
    /// Why; `None` if no reason was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, in milliseconds since the Unix epoch.
    pub at: u64,
}

/// A number as the store has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct SeenNumber {
    /// The number; `None` if the data is empty or no number.
    pub slots: Option<i64>,
    /// Who wrote it last, if it was Lockkeeper and the number is still that one.
    pub record: Option<NumberRecord>,
    /// The version of the path's data.
    #[serde(skip)]
    pub version: i32,
    #[serde(skip)]
    pub(super) is_empty: bool,
}

/// "1 slot", "4 slots".
pub(super) fn so_many_slots(number: i64) -> String {
    format!("{number} {}", if number == 1 { "slot" } else { "slots" })
}

/// "1 is", "4 are".
pub(super) fn so_many_are(number: NonZeroU32) -> String {
    format!("{number} {}", if number.get() == 1 { "is" } else { "are" })
}

/// Why a number could not be written.
#[derive(Debug, Error)]
pub enum ResizeError {
    /// The data belongs to another application.
    #[error("`{path}` holds data that is no number of slots: another application may own it")]
    NotANumber {
        /// The path.
        path: NodePath,
    },
    /// There is no such path.
    #[error("there is no semaphore `{path}`")]
    Missing {
        /// The path.
        path: NodePath,
    },
    /// A different number is stored, and this caller may not change it.
    #[error("semaphore `{path}` has {}, and {} wanted{}", so_many_slots(*stored), so_many_are(*wanted), by(record.as_ref()))]
    Differs {
        /// The path.
        path: NodePath,
        /// The number in the path's data.
        stored: i64,
        /// The caller's number.
        wanted: NonZeroU32,
        /// Who wrote the stored number; `None` if that is not known.
        record: Option<NumberRecord>,
    },
    /// The path has no number, and lies below a semaphore or above one.
    #[error(transparent)]
    Nested(Nested),
    /// More reservations than one transaction makes.
    #[error("lowering `{path}` by {lowered} needs as many reservations: {MOST_RESERVED} is the most")]
    TooManyReservations {
        /// The path.
        path: NodePath,
        /// By how many the number is lowered.
        lowered: i64,
    },
    /// The number changed again and again while it was to be written.
    #[error("the number of slots of `{path}` keeps changing")]
    Contended {
        /// The path.
        path: NodePath,
    },
    /// The store refused or could not be reached.
    #[error("cannot write the number of slots of `{path}`")]
    Store {
        /// The path.
        path: NodePath,
        /// The cause.
        #[source]
        source: StoreError,
    },
}

fn by(record: Option<&NumberRecord>) -> String {
    match record {
        Some(NumberRecord { job: Some(job), .. }) => format!(" (job `{job}` wrote {})", record.map_or(0, |r| r.slots)),
        Some(NumberRecord { by, slots, reason: Some(reason), .. }) => format!(" ({by} wrote {slots}: {reason})"),
        Some(NumberRecord { by, slots, .. }) => format!(" ({by} wrote {slots})"),
        None => String::new(),
    }
}

/// What became of a number that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resized {
    /// It was that number already.
    Same,
    /// It was written; with the number before, if there was one.
    Written(Option<i64>),
}

/// Who writes a number for a job.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The job.
    pub job: &'a str,
    /// Whether its number is a share of its targets: then it may replace a number that the same job wrote.
    pub is_share: bool,
    /// User and host.
    pub by: &'a str,
}

fn record_place(path: &NodePath) -> NodePath {
    let root = NodePath::parse(ROOT).expect("the root is a path");
    root.child("semaphores").child(&node_name(path.as_str()))
}

/// Reads the number of a path, and who wrote it; `None` if there is no such path. One round trip.
///
/// # Errors
/// As the store's.
pub async fn read_number(store: &dyn Store, path: &NodePath) -> Result<Option<SeenNumber>, StoreError> {
    let (number, record) = (store.read(path), store.read(&record_place(path)));
    let (number, record) = (number.await, record.await);
    let Some(node) = unless_missing(number)? else { return Ok(None) };
    let slots = names::slots(&node.data);
    let record = match record {
        Ok(node) => serde_json::from_slice::<NumberRecord>(&node.data).ok(),
        // Not every caller may read below the root.
        Err(StoreError::NoNode { .. } | StoreError::Refused { .. }) => None,
        Err(error) => return Err(error),
    };
    // Another tool may have written the number since.
    let record = record.filter(|record| slots == Some(i64::from(record.slots)));
    let is_empty = node.data.trim_ascii().is_empty();
    Ok(Some(SeenNumber { slots, record, version: node.stat.version, is_empty }))
}

/// Who changes a number, why, and for whom.
#[derive(Debug, Clone, Copy)]
pub struct Resize<'a> {
    /// User and host.
    pub by: &'a str,
    /// Why; `None` if no reason was given.
    pub reason: Option<&'a str>,
    /// Whether callers that keep the old number are to be bound by a lowered one, too.
    pub old_callers: OldCallers,
}

/// What a lowered number is to callers that have compared the old one before and keep it: objects of kazoo's, and so Salt's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OldCallers {
    /// They keep the old number until they start anew.
    KeepTheirs,
    /// As many reservations as the number is lowered by keep the slots from them. They stay until the next resize, and keep slots
    /// from callers of theirs that start anew, too.
    AreBound,
}

/// Writes another number, with a record of who and why, in one transaction. Refused if the path's data is no number. Every
/// waiting caller of Lockkeeper's looks again. Earlier reservations are deleted.
///
/// # Errors
/// [`ResizeError`]; then nothing was written.
pub async fn resize(
    store: &dyn Store,
    path: &NodePath,
    slots: NonZeroU32,
    resize: Resize<'_>,
) -> Result<Resized, ResizeError> {
    let Resize { by, reason, old_callers } = resize;
    let record =
        NumberRecord { slots: slots.get(), job: None, by: by.to_owned(), reason: reason.map(str::to_owned), at: 0 };
    let turn = match old_callers {
        OldCallers::AreBound => Turn::take(store, path).await.map_err(|source| failed(path, source))?,
        OldCallers::KeepTheirs => Turn(None),
    };
    let resized = resize_in_turn(store, path, slots, old_callers, &record).await;
    turn.give_up(store).await;
    resized
}

async fn resize_in_turn(
    store: &dyn Store,
    path: &NodePath,
    slots: NonZeroU32,
    old_callers: OldCallers,
    record: &NumberRecord,
) -> Result<Resized, ResizeError> {
    for _ in 0..MOST_TRIES {
        let seen = read_number(store, path).await.map_err(|source| failed(path, source))?;
        let seen = seen.ok_or_else(|| ResizeError::Missing { path: path.clone() })?;
        if seen.slots.is_none() && !seen.is_empty {
            return Err(ResizeError::NotANumber { path: path.clone() });
        }
        if seen.slots.is_none() {
            refuse_nested(store, path).await?;
        }
        let lowered = seen.slots.unwrap_or(0).saturating_sub(i64::from(slots.get()));
        let reserve = match old_callers {
            OldCallers::AreBound if lowered > MOST_RESERVED => {
                return Err(ResizeError::TooManyReservations { path: path.clone(), lowered });
            }
            OldCallers::AreBound => lowered,
            OldCallers::KeepTheirs => 0,
        };
        let more = reservations(store, path, reserve).await.map_err(|source| failed(path, source))?;
        if more.is_empty() && seen.slots == Some(i64::from(slots.get())) {
            return Ok(Resized::Same);
        }
        let written = write(store, path, Some(seen.version), record, more).await;
        if written.map_err(|source| failed(path, source))? {
            return Ok(Resized::Written(seen.slots));
        }
    }
    Err(ResizeError::Contended { path: path.clone() })
}

/// Makes the number of a path that of a job before its run begins, or refuses the difference: a path that is missing or
/// empty gets the job's number; a share that came to another number replaces the number that the same job wrote.
///
/// # Errors
/// [`ResizeError::Differs`] if another number is in force; other [`ResizeError`]. Then nothing was written.
pub async fn agree(
    store: &dyn Store,
    path: &NodePath,
    slots: NonZeroU32,
    writer: Writer<'_>,
) -> Result<Resized, ResizeError> {
    let (job, by) = (Some(writer.job.to_owned()), writer.by.to_owned());
    let record = NumberRecord { slots: slots.get(), job, by, reason: None, at: 0 };
    for _ in 0..MOST_TRIES {
        let seen = read_number(store, path).await.map_err(|source| failed(path, source))?;
        let from = match would_agree(path, seen.as_ref(), slots, writer)? {
            Resized::Same => return Ok(Resized::Same),
            Resized::Written(from) => from,
        };
        if from.is_none() {
            refuse_nested(store, path).await?;
        }
        let version = seen.map(|seen| seen.version);
        let written = write(store, path, version, &record, Vec::new()).await;
        if written.map_err(|source| failed(path, source))? {
            return Ok(Resized::Written(from));
        }
    }
    Err(ResizeError::Contended { path: path.clone() })
}

async fn refuse_nested(store: &dyn Store, path: &NodePath) -> Result<(), ResizeError> {
    let nested = nested_semaphores::nested_semaphore(store, path).await.map_err(|source| failed(path, source))?;
    nested.map_or(Ok(()), |nested| Err(ResizeError::Nested(nested)))
}

/// What [`agree`] would do about a number that was read. Pure.
///
/// # Errors
/// [`ResizeError::Differs`].
pub fn would_agree(
    path: &NodePath,
    seen: Option<&SeenNumber>,
    slots: NonZeroU32,
    writer: Writer<'_>,
) -> Result<Resized, ResizeError> {
    let Some(seen) = seen else { return Ok(Resized::Written(None)) };
    let Some(stored) = seen.slots else {
        // Other data is another application's: the number is then not compared, as in kazoo.
        return Ok(if seen.is_empty { Resized::Written(None) } else { Resized::Same });
    };
    if stored == i64::from(slots.get()) {
        return Ok(Resized::Same);
    }
    let is_own = seen.record.as_ref().is_some_and(|record| record.job.as_deref() == Some(writer.job));
    match writer.is_share && is_own {
        true => Ok(Resized::Written(Some(stored))),
        false => {
            let (path, record) = (path.clone(), seen.record.clone());
            Err(ResizeError::Differs { path, stored, wanted: slots, record })
        }
    }
}

/// The front of the queue. Only the caller there counts leases and creates one in kazoo's recipe, in two requests: while the
/// front is ours, no caller of kazoo's is in between, with a count that a lowered number makes wrong.
struct Turn(Option<NodePath>);

impl Turn {
    /// Queues, and waits for the front for [`MOST_TURN`] at most: a caller that waits there for a slot may stay for hours, and
    /// counts anew when it is woken.
    async fn take(store: &dyn Store, path: &NodePath) -> Result<Self, StoreError> {
        let queue = queue_of(path);
        let place = queue.child(&format!("{}{}", uuid::Uuid::new_v4().simple(), names::LOCK));
        let data = Bytes::from_static(b"resize");
        let entry = match store.create(&place, data, NodeKind::EphemeralSequential).await {
            Ok(entry) => entry,
            // Nobody has ever queued here.
            Err(StoreError::NoNode { .. }) => return Ok(Self(None)),
            Err(error) => return Err(error),
        };
        let turn = Self(Some(entry.clone()));
        let front = async {
            loop {
                let queued = store.children(&queue).await?;
                let contenders = names::contenders(&queued);
                let ahead = contenders.iter().position(|name| *name == entry.name()).and_then(|at| at.checked_sub(1));
                let Some(ahead) = ahead else { return Ok(()) };
                if let (Some(_), mut watch) = store.stat_and_watch(&queue.child(contenders[ahead])).await? {
                    watch.fired().await;
                }
            }
        };
        match tokio::time::timeout(MOST_TURN, front).await {
            Ok(Err(error)) => {
                turn.give_up(store).await;
                Err(error)
            }
            Ok(Ok(())) | Err(_) => Ok(turn),
        }
    }

    /// The end of the session deletes what cannot be deleted now.
    async fn give_up(self, store: &dyn Store) {
        if let Some(entry) = self.0 {
            let _ = store.delete(&entry, Version::Any).await;
        }
    }
}

/// What replaces the reservations of a semaphore by so many others.
async fn reservations(store: &dyn Store, path: &NodePath, count: i64) -> Result<Vec<Op>, StoreError> {
    let children = unless_missing(store.children(path).await)?.unwrap_or_default();
    let earlier = children.iter().filter(|name| names::is_reservation(name));
    let mut ops: Vec<Op> = earlier.map(|name| Op::Delete { path: path.child(name), version: Version::Any }).collect();
    ops.extend((0..count).map(|_| {
        let name = format!("{}{}", names::RESERVED, uuid::Uuid::new_v4().simple());
        let data = Bytes::from_static(b"reserved by a resize");
        Op::Create { path: path.child(&name), data, kind: NodeKind::Persistent }
    }));
    Ok(ops)
}

/// Writes number and record together, with `more`; `false` if anything changed since it was read.
async fn write(
    store: &dyn Store,
    path: &NodePath,
    version: Option<i32>,
    record: &NumberRecord,
    more: Vec<Op>,
) -> Result<bool, StoreError> {
    let data = Bytes::from(record.slots.to_string());
    let number = match version {
        Some(version) => Op::Set { path: path.clone(), data, version: Version::Exactly(version) },
        None => Op::Create { path: path.clone(), data, kind: NodeKind::Persistent },
    };
    let place = record_place(path);
    let record = NumberRecord { at: store.clock().now_ms(), ..record.clone() };
    let data = Bytes::from(serde_json::to_vec(&record).expect("a record is plain data"));
    let record = match unless_missing(store.read(&place).await)? {
        Some(node) => Op::Set { path: place.clone(), data, version: Version::Exactly(node.stat.version) },
        None => Op::Create { path: place.clone(), data, kind: NodeKind::Persistent },
    };
    let mut ops = vec![number, record];
    ops.extend(more);
    match store.multi(ops).await {
        Ok(_) => Ok(true),
        Err(StoreError::Multi { index, source }) => match *source {
            StoreError::NodeExists { .. } | StoreError::BadVersion { .. } => Ok(false),
            // A reservation that is gone.
            StoreError::NoNode { .. } if index > 1 => Ok(false),
            StoreError::NoNode { .. } => {
                let missing = if index == 0 { path } else { &place };
                if let Some(above) = missing.parent() {
                    create_all(store, &above).await?;
                }
                Ok(false)
            }
            source => Err(source),
        },
        // The next look tells whether it happened.
        Err(StoreError::Ambiguous { .. }) => store.sync(path).await.map(|()| false),
        Err(error) => Err(error),
    }
}

fn failed(path: &NodePath, source: StoreError) -> ResizeError {
    ResizeError::Store { path: path.clone(), source }
}

/// Whether a node is a semaphore: numeric data, and a queue beside it or leases below it.
#[must_use]
pub fn is_semaphore(data: &[u8], stat: &Stat, has_queue: bool) -> bool {
    names::slots(data).is_some() && (has_queue || stat.children > 0)
}

/// The queue beside a semaphore's path.
#[must_use]
pub fn queue_of(path: &NodePath) -> NodePath {
    path.with_suffix(&format!("-{}", names::LOCK))
}
