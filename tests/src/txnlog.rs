//! The decisions of a ZooKeeper server, read from its transaction log: the history against which grants are checked.
//!
//! The format is the server's own (`FileTxnLog`): a header, then for each transaction a checksum, a length and the
//! bytes of a header and a body in ZooKeeper's serialisation, and the byte `B`. Numbers are big-endian. The file is
//! padded with zeros, and its last transaction may be incomplete.

use std::collections::BTreeMap;
use std::path::Path;
use std::{fs, io};

/// One change of one node, in the order of the servers' transaction numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Number of the transaction; the changes of one `multi`, or of a session's end, share it.
    pub zxid: i64,
    /// When the leader decided it, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// The session that requested it, or that ended.
    pub session: i64,
    /// Path of the node.
    pub path: String,
    /// The change.
    pub what: What,
}

/// A change of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// It was created.
    Created {
        /// Its data.
        data: Vec<u8>,
        /// Whether it is deleted with its session.
        is_ephemeral: bool,
    },
    /// Its data was set.
    Set {
        /// Its new data.
        data: Vec<u8>,
    },
    /// It was deleted.
    Deleted,
    /// It was deleted with its session.
    Expired,
}

/// The changes that a majority of the servers have in their logs, in order; `folders` are their data folders.
///
/// # Errors
/// If a folder or a file cannot be read.
pub fn history<P: AsRef<Path>>(folders: &[P]) -> io::Result<Vec<Change>> {
    let mut seen: BTreeMap<i64, (usize, Vec<Change>)> = BTreeMap::new();
    for folder in folders {
        let mut logged: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        for entry in fs::read_dir(folder.as_ref().join("version-2"))? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with("log.") {
                for (zxid, changes) in transactions(&fs::read(entry.path())?) {
                    logged.insert(zxid, changes);
                }
            }
        }
        for (zxid, changes) in logged {
            seen.entry(zxid).or_insert((0, changes)).0 += 1;
        }
    }
    let majority = folders.len() / 2 + 1;
    Ok(seen.into_values().filter(|(servers, _)| *servers >= majority).flat_map(|(_, changes)| changes).collect())
}

/// A part that cannot be read ends the log: the server was killed there.
fn transactions(log: &[u8]) -> Vec<(i64, Vec<Change>)> {
    let mut reader = Reader(log);
    let mut found = Vec::new();
    if reader.take(4) != Some(b"ZKLG") || reader.take(12).is_none() {
        return found;
    }
    while let Some((_checksum, body)) = reader.long().zip(reader.buffer()) {
        if body.is_empty() || reader.take(1) != Some(b"B") {
            break;
        }
        found.extend(transaction(body));
    }
    found
}

fn transaction(body: &[u8]) -> Option<(i64, Vec<Change>)> {
    let mut reader = Reader(body);
    let (session, _cxid, zxid, at_ms) = (reader.long()?, reader.int()?, reader.long()?, reader.long()?);
    let kind = reader.int()?;
    let change = |(path, what)| Change { zxid, at_ms, session, path, what };
    Some((zxid, changes(kind, reader)?.into_iter().map(change).collect()))
}

/// Operation codes (`ZooDefs.OpCode`).
mod op {
    pub(super) const CREATE: [i32; 4] = [1, 15, 19, 21];
    pub(super) const DELETE: [i32; 2] = [2, 20];
    pub(super) const SET: i32 = 5;
    pub(super) const MULTI: i32 = 14;
    pub(super) const CLOSE_SESSION: i32 = -11;
    pub(super) const ERROR: i32 = -1;
}

fn changes(kind: i32, mut reader: Reader<'_>) -> Option<Vec<(String, What)>> {
    match kind {
        kind if op::CREATE.contains(&kind) => {
            let (path, data) = (reader.text()?, reader.buffer()?.to_vec());
            for _ in 0..reader.int()? {
                let (_permissions, _scheme, _id) = (reader.int()?, reader.text()?, reader.text()?);
            }
            // Containers and nodes with a time to live are not ephemeral, and have other fields from here on.
            let is_ephemeral = matches!(kind, 1 | 15) && reader.take(1)? == [1];
            Some(vec![(path, What::Created { data, is_ephemeral })])
        }
        kind if op::DELETE.contains(&kind) => Some(vec![(reader.text()?, What::Deleted)]),
        op::SET => Some(vec![(reader.text()?, What::Set { data: reader.buffer()?.to_vec() })]),
        op::MULTI => {
            let mut all = Vec::new();
            for _ in 0..reader.int()? {
                let (kind, body) = (reader.int()?, reader.buffer()?);
                if kind == op::ERROR {
                    // It was refused as a whole.
                    return Some(Vec::new());
                }
                all.extend(changes(kind, Reader(body))?);
            }
            Some(all)
        }
        op::CLOSE_SESSION => {
            let count = reader.int().unwrap_or(0);
            Some((0..count).map_while(|_| reader.text()).map(|path| (path, What::Expired)).collect())
        }
        _ => Some(Vec::new()),
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn int(&mut self) -> Option<i32> {
        Some(i32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn long(&mut self) -> Option<i64> {
        Some(i64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    /// A length and that many bytes; a length of -1 means no buffer.
    fn buffer(&mut self) -> Option<&'a [u8]> {
        let length = self.int()?.max(0);
        self.take(usize::try_from(length).ok()?)
    }

    fn text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.buffer()?).into_owned())
    }
}
