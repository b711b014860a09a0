//! Nodes in the tables: every operation, inside a transaction that somebody else began.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::watches::{Change, ChangeKind};
use crate::store::{MAX_DATA_BYTES, Made, Node, NodeKind, NodePath, Op, SessionId, Stat, StoreError, Version};

/// Why an operation was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// It could not be done; whatever else is in the transaction can.
    Refused(StoreError),
    /// The transaction is lost.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}

/// A node's row without its data.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Its `czxid`, too: no two nodes were created by the same change.
    id: i64,
    parent: Option<i64>,
    mzxid: i64,
    version: i32,
    ctime_ms: i64,
    mtime_ms: i64,
    owner: Option<i64>,
    children: u32,
    sequence: i64,
    data_length: u32,
}

impl Entry {
    const COLUMNS: &'static str =
        "id, parent, mzxid, version, ctime_ms, mtime_ms, owner, children, sequence, length(data)";

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            parent: row.get(1)?,
            mzxid: row.get(2)?,
            version: row.get(3)?,
            ctime_ms: row.get(4)?,
            mtime_ms: row.get(5)?,
            owner: row.get(6)?,
            children: row.get(7)?,
            sequence: row.get(8)?,
            data_length: row.get(9)?,
        })
    }

    fn stat(&self) -> Stat {
        Stat {
            czxid: self.id,
            mzxid: self.mzxid,
            version: self.version,
            ctime_ms: self.ctime_ms.unsigned_abs(),
            mtime_ms: self.mtime_ms.unsigned_abs(),
            ephemeral_owner: self.owner.map(SessionId),
            children: self.children,
            data_length: self.data_length,
        }
    }

    fn expect_version(&self, path: &NodePath, version: Version) -> Result<(), StoreError> {
        match version {
            Version::Exactly(expected) if expected != self.version => {
                Err(StoreError::BadVersion { path: path.clone() })
            }
            Version::Any | Version::Exactly(_) => Ok(()),
        }
    }
}

/// The root's row.
pub(super) const ROOT: i64 = 0;

/// The nodes as one transaction sees and changes them.
#[derive(Debug)]
pub(super) struct Tree<'t> {
    connection: &'t Connection,
    /// The last change's number.
    pub(super) zxid: i64,
    /// The wall clock.
    now_ms: i64,
}

impl<'t> Tree<'t> {
    pub(super) fn new(connection: &'t Connection, zxid: i64, now_ms: u64) -> Self {
        Self { connection, zxid, now_ms: i64::try_from(now_ms).unwrap_or(i64::MAX) }
    }

    pub(super) fn read(&self, path: &NodePath) -> Result<Node, Failure> {
        let entry = self.entry(path)?;
        let mut statement = self.connection.prepare_cached("SELECT data FROM nodes WHERE id = ?1")?;
        let data: Vec<u8> = statement.query_row([entry.id], |row| row.get(0))?;
        Ok(Node { data: Bytes::from(data), stat: entry.stat() })
    }

    pub(super) fn stat(&self, path: &NodePath) -> Result<Option<Stat>, Failure> {
        Ok(self.find(path)?.map(|entry| entry.stat()))
    }

    pub(super) fn children(&self, path: &NodePath) -> Result<Vec<String>, Failure> {
        let Some(id) = self.find_id(path)? else { return Err(missing(path)) };
        // Answered from the index alone, which is sorted by bytes, as strings are here.
        let mut statement = self.connection.prepare_cached("SELECT name FROM nodes WHERE parent = ?1 ORDER BY name")?;
        Ok(statement.query_map([id], |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?)
    }

    /// Does one operation and tells `changed` what did. One that is refused has changed nothing.
    pub(super) fn apply(
        &mut self,
        op: &Op,
        session: SessionId,
        mut changed: impl FnMut(Change),
    ) -> Result<Made, Failure> {
        match op {
            Op::Create { path, data, kind } => {
                let (path, change) = self.create(path, data, *kind, session)?;
                changed(change);
                Ok(Made::Created(path))
            }
            Op::Set { path, data, version } => {
                let (stat, change) = self.set(path, data, *version)?;
                changed(change);
                Ok(Made::Set(stat))
            }
            Op::Delete { path, version } => {
                changed(self.delete(path, *version)?);
                Ok(Made::Deleted)
            }
            Op::Check { path, version } => {
                self.entry(path)?.expect_version(path, *version)?;
                Ok(Made::Checked)
            }
        }
    }

    /// Does all operations or none. After a refusal, what `changed` was told of did not happen.
    pub(super) fn apply_all(
        &mut self,
        ops: &[Op],
        session: SessionId,
        mut changed: impl FnMut(Change),
    ) -> Result<Vec<Made>, Failure> {
        self.connection.prepare_cached("SAVEPOINT multi")?.execute([])?;
        let mut made = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            match self.apply(op, session, &mut changed) {
                Ok(one) => made.push(one),
                Err(Failure::Refused(source)) => {
                    self.connection.prepare_cached("ROLLBACK TO multi")?.execute([])?;
                    self.connection.prepare_cached("RELEASE multi")?.execute([])?;
                    return Err(StoreError::Multi { index, source: Box::new(source) }.into());
                }
                Err(Failure::Database(error)) => return Err(error.into()),
            }
        }
        self.connection.prepare_cached("RELEASE multi")?.execute([])?;
        Ok(made)
    }

    /// Deletes a session and the nodes that end with it.
    pub(super) fn end_session(
        &mut self,
        session: SessionId,
        mut changed: impl FnMut(Change),
    ) -> Result<(), rusqlite::Error> {
        let mut statement =
            self.connection.prepare_cached("SELECT id, parent, name FROM nodes WHERE owner = ?1 ORDER BY id")?;
        let rows = statement.query_map([session.0], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get::<_, String>(2)?))
        })?;
        for (id, parent, name) in rows.collect::<Result<Vec<_>, _>>()? {
            let path = self.path_of(parent)?.child(&name);
            let zxid = self.remove(id, Some(parent))?;
            changed(Change { zxid, path, kind: ChangeKind::Deleted });
        }
        self.connection.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([session.0])?;
        Ok(())
    }

    fn create(
        &mut self,
        path: &NodePath,
        data: &Bytes,
        kind: NodeKind,
        session: SessionId,
    ) -> Result<(NodePath, Change), Failure> {
        limit(path, data)?;
        let Some(above) = path.parent() else { return Err(StoreError::NodeExists { path: path.clone() }.into()) };
        let parent = self.entry(&above)?;
        if parent.owner.is_some() {
            return Err(StoreError::ParentEphemeral { path: path.clone() }.into());
        }
        let path =
            if kind.is_sequential() { path.with_suffix(&format!("{:010}", parent.sequence)) } else { path.clone() };
        let zxid = self.zxid + 1;
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO nodes (id, parent, name, mzxid, version, ctime_ms, mtime_ms, owner, children, sequence, data)
             VALUES (?1, ?2, ?3, ?1, 0, ?4, ?4, ?5, 0, 0, ?6) ON CONFLICT (parent, name) DO NOTHING",
        )?;
        let owner = kind.is_ephemeral().then_some(session.0);
        if statement.execute(params![zxid, parent.id, path.name(), self.now_ms, owner, data.as_ref()])? == 0 {
            return Err(StoreError::NodeExists { path }.into());
        }
        self.zxid = zxid;
        self.connection
            .prepare_cached("UPDATE nodes SET children = children + 1, sequence = sequence + 1 WHERE id = ?1")?
            .execute([parent.id])?;
        Ok((path.clone(), Change { zxid, path, kind: ChangeKind::Created }))
    }

    fn set(&mut self, path: &NodePath, data: &Bytes, version: Version) -> Result<(Stat, Change), Failure> {
        limit(path, data)?;
        let mut entry = self.entry(path)?;
        entry.expect_version(path, version)?;
        self.zxid += 1;
        entry.mzxid = self.zxid;
        entry.version = entry.version.wrapping_add(1);
        entry.mtime_ms = self.now_ms.max(entry.ctime_ms);
        entry.data_length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        self.connection
            .prepare_cached("UPDATE nodes SET data = ?2, mzxid = ?3, version = ?4, mtime_ms = ?5 WHERE id = ?1")?
            .execute(params![entry.id, data.as_ref(), entry.mzxid, entry.version, entry.mtime_ms])?;
        Ok((entry.stat(), Change { zxid: self.zxid, path: path.clone(), kind: ChangeKind::Set }))
    }

    fn delete(&mut self, path: &NodePath, version: Version) -> Result<Change, Failure> {
        let entry = self.entry(path)?;
        entry.expect_version(path, version)?;
        if entry.children > 0 {
            return Err(StoreError::NotEmpty { path: path.clone() }.into());
        }
        if entry.id == ROOT {
            return Err(StoreError::Refused { reason: String::from("the root cannot be deleted") }.into());
        }
        let zxid = self.remove(entry.id, entry.parent)?;
        Ok(Change { zxid, path: path.clone(), kind: ChangeKind::Deleted })
    }

    fn remove(&mut self, id: i64, parent: Option<i64>) -> Result<i64, rusqlite::Error> {
        self.connection.prepare_cached("DELETE FROM nodes WHERE id = ?1")?.execute([id])?;
        self.connection.prepare_cached("UPDATE nodes SET children = children - 1 WHERE id = ?1")?.execute([parent])?;
        self.zxid += 1;
        Ok(self.zxid)
    }

    fn entry(&self, path: &NodePath) -> Result<Entry, Failure> {
        self.find(path)?.ok_or_else(|| missing(path))
    }

    fn find(&self, path: &NodePath) -> Result<Option<Entry>, Failure> {
        let Some(id) = self.find_id(path)? else { return Ok(None) };
        let mut statement =
            self.connection.prepare_cached(&format!("SELECT {} FROM nodes WHERE id = ?1", Entry::COLUMNS))?;
        Ok(statement.query_row([id], Entry::read).optional()?)
    }

    fn find_id(&self, path: &NodePath) -> Result<Option<i64>, Failure> {
        let mut statement = self.connection.prepare_cached("SELECT id FROM nodes WHERE parent = ?1 AND name = ?2")?;
        let mut here = ROOT;
        for name in path.as_str().split('/').filter(|name| !name.is_empty()) {
            match statement.query_row(params![here, name], |row| row.get(0)).optional()? {
                Some(id) => here = id,
                None => return Ok(None),
            }
        }
        Ok(Some(here))
    }

    fn path_of(&self, id: i64) -> Result<NodePath, rusqlite::Error> {
        let mut statement = self.connection.prepare_cached("SELECT parent, name FROM nodes WHERE id = ?1")?;
        let (mut names, mut here) = (Vec::new(), id);
        while here != ROOT {
            let (parent, name): (i64, String) = statement.query_row([here], |row| Ok((row.get(0)?, row.get(1)?)))?;
            names.push(name);
            here = parent;
        }
        Ok(names.iter().rev().fold(NodePath::root(), |path, name| path.child(name)))
    }
}

fn limit(path: &NodePath, data: &Bytes) -> Result<(), StoreError> {
    match data.len() {
        bytes if bytes > MAX_DATA_BYTES => Err(StoreError::TooLarge { path: path.clone(), bytes }),
        _ => Ok(()),
    }
}

fn missing(path: &NodePath) -> Failure {
    Failure::Refused(StoreError::NoNode { path: path.clone() })
}
