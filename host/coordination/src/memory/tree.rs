//! The tree of nodes, its transactions and its watches.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::store::{
    MAX_DATA_BYTES, Made, Node, NodeKind, NodePath, Op, SessionId, Stat, StoreError, Version, Watch, WatchEvent,
    WatchSender,
};

/// One thing that a change did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// A node came.
    Created {
        /// Which.
        path: NodePath,
        /// What it holds.
        data: Bytes,
        /// Its stat.
        stat: Stat,
    },
    /// A node's data was set.
    Set {
        /// Which.
        path: NodePath,
        /// What it holds from now on.
        data: Bytes,
        /// Its stat from now on.
        stat: Stat,
    },
    /// A node went.
    Deleted {
        /// Which.
        path: NodePath,
        /// The session that it would have ended with.
        owner: Option<SessionId>,
    },
}

/// What a transaction is stamped with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) zxid: i64,
    pub(super) now_ms: u64,
    pub(super) session: SessionId,
}

/// A watch that was set off, for this session.
#[derive(Debug)]
pub(super) struct Fired {
    pub(super) session: SessionId,
    pub(super) watch: WatchSender,
    pub(super) event: WatchEvent,
}

/// All nodes, and who watches them.
#[derive(Debug)]
pub(super) struct Tree {
    nodes: BTreeMap<NodePath, Entry>,
    on_nodes: Watchers,
    on_children: Watchers,
}

#[derive(Debug, Clone)]
struct Entry {
    data: Bytes,
    stat: Stat,
    children: BTreeSet<String>,
    /// The number that the next child made here gets; ZooKeeper's `cversion` serves so too.
    counter: i32,
}

/// How to take back one operation of a transaction that failed later on.
enum Undo {
    Create(NodePath),
    Set(NodePath, Bytes, Stat),
    Delete(NodePath, Entry),
}

impl Tree {
    pub(super) fn new(now_ms: u64) -> Self {
        let root =
            Entry { data: Bytes::new(), stat: fresh_stat(0, now_ms, None, 0), children: BTreeSet::new(), counter: 0 };
        Self {
            nodes: BTreeMap::from([(NodePath::root(), root)]),
            on_nodes: Watchers::default(),
            on_children: Watchers::default(),
        }
    }

    /// The same nodes, watched by nobody.
    pub(super) fn copy(&self) -> Self {
        Self { nodes: self.nodes.clone(), on_nodes: Watchers::default(), on_children: Watchers::default() }
    }

    pub(super) fn read(&self, path: &NodePath) -> Result<Node, StoreError> {
        self.nodes.get(path).map(Entry::node).ok_or_else(|| StoreError::NoNode { path: path.clone() })
    }

    pub(super) fn stat(&self, path: &NodePath) -> Option<Stat> {
        self.nodes.get(path).map(Entry::stat)
    }

    pub(super) fn children(&self, path: &NodePath) -> Result<Vec<String>, StoreError> {
        let entry = self.nodes.get(path).ok_or_else(|| StoreError::NoNode { path: path.clone() })?;
        Ok(entry.children.iter().cloned().collect())
    }

    /// Everything below the root.
    pub(super) fn all(&self) -> BTreeMap<NodePath, Node> {
        self.nodes.iter().skip(1).map(|(path, entry)| (path.clone(), entry.node())).collect()
    }

    pub(super) fn set_counter(&mut self, path: &NodePath, next: i32) -> Result<(), StoreError> {
        let entry = self.nodes.get_mut(path).ok_or_else(|| StoreError::NoNode { path: path.clone() })?;
        entry.counter = next;
        Ok(())
    }

    pub(super) fn watch_node(&mut self, session: SessionId, path: &NodePath) -> Watch {
        self.on_nodes.add(session, path)
    }

    pub(super) fn watch_children(&mut self, session: SessionId, path: &NodePath) -> Watch {
        self.on_children.add(session, path)
    }

    /// Drops a session's watches, which ends them with `SessionOver`.
    pub(super) fn forget(&mut self, session: SessionId) {
        self.on_nodes.forget(session);
        self.on_children.forget(session);
    }

    /// Does all of `ops` or nothing. Fires no watch: [`Tree::fire`] does.
    pub(super) fn transact(
        &mut self,
        stamp: Stamp,
        ops: &[Op],
    ) -> Result<(Vec<Made>, Vec<Effect>), (usize, StoreError)> {
        let mut made = Vec::with_capacity(ops.len());
        let mut effects = Vec::with_capacity(ops.len());
        let mut undo = Vec::with_capacity(ops.len());
        for (index, op) in ops.iter().enumerate() {
            match self.operate(stamp, op, &mut undo) {
                Ok((done, effect)) => {
                    made.push(done);
                    effects.extend(effect);
                }
                Err(error) => {
                    for step in undo.into_iter().rev() {
                        self.take_back(step);
                    }
                    return Err((index, error));
                }
            }
        }
        Ok((made, effects))
    }

    fn operate(&mut self, stamp: Stamp, op: &Op, undo: &mut Vec<Undo>) -> Result<(Made, Option<Effect>), StoreError> {
        match op {
            Op::Create { path, data, kind } => {
                fits(path, data)?;
                let path = self.room_for(path, *kind)?;
                let owner = kind.is_ephemeral().then_some(stamp.session);
                let stat = fresh_stat(stamp.zxid, stamp.now_ms, owner, data.len());
                let effect = Effect::Created { path: path.clone(), data: data.clone(), stat };
                self.put(&effect);
                undo.push(Undo::Create(path.clone()));
                Ok((Made::Created(path), Some(effect)))
            }
            Op::Set { path, data, version } => {
                fits(path, data)?;
                let entry = self.expect(path, *version)?;
                let mut stat = entry.stat;
                stat.mzxid = stamp.zxid;
                stat.mtime_ms = stamp.now_ms;
                stat.version = stat.version.wrapping_add(1);
                stat.data_length = u32::try_from(data.len()).unwrap_or(u32::MAX);
                undo.push(Undo::Set(path.clone(), entry.data.clone(), entry.stat));
                let effect = Effect::Set { path: path.clone(), data: data.clone(), stat };
                self.put(&effect);
                Ok((Made::Set(self.stat(path).unwrap_or(stat)), Some(effect)))
            }
            Op::Delete { path, version } => {
                let entry = self.expect(path, *version)?;
                if !entry.children.is_empty() || path.parent().is_none() {
                    return Err(StoreError::NotEmpty { path: path.clone() });
                }
                undo.push(Undo::Delete(path.clone(), entry.clone()));
                let effect = Effect::Deleted { path: path.clone(), owner: entry.stat.ephemeral_owner };
                self.put(&effect);
                Ok((Made::Deleted, Some(effect)))
            }
            Op::Check { path, version } => self.expect(path, *version).map(|_| (Made::Checked, None)),
        }
    }

    /// The name that a new node gets, if it may be made.
    fn room_for(&self, path: &NodePath, kind: NodeKind) -> Result<NodePath, StoreError> {
        let exists = || StoreError::NodeExists { path: path.clone() };
        let above = path.parent().ok_or_else(exists)?;
        let parent = self.nodes.get(&above).ok_or_else(|| StoreError::NoNode { path: above.clone() })?;
        if parent.stat.ephemeral_owner.is_some() {
            return Err(StoreError::ParentEphemeral { path: path.clone() });
        }
        let path =
            if kind.is_sequential() { path.with_suffix(&format!("{:010}", parent.counter)) } else { path.clone() };
        if self.nodes.contains_key(&path) {
            return Err(StoreError::NodeExists { path });
        }
        Ok(path)
    }

    fn expect(&self, path: &NodePath, version: Version) -> Result<&Entry, StoreError> {
        let entry = self.nodes.get(path).ok_or_else(|| StoreError::NoNode { path: path.clone() })?;
        match version {
            Version::Exactly(version) if version != entry.stat.version => {
                Err(StoreError::BadVersion { path: path.clone() })
            }
            Version::Exactly(_) | Version::Any => Ok(entry),
        }
    }

    /// Puts one effect into the nodes; also how a follower hears of it.
    pub(super) fn put(&mut self, effect: &Effect) {
        match effect {
            Effect::Created { path, data, stat } => {
                if let Some(parent) = path.parent().and_then(|above| self.nodes.get_mut(&above)) {
                    parent.children.insert(path.name().to_owned());
                    parent.counter = parent.counter.wrapping_add(1);
                }
                let entry = Entry { data: data.clone(), stat: *stat, children: BTreeSet::new(), counter: 0 };
                self.nodes.insert(path.clone(), entry);
            }
            Effect::Set { path, data, stat } => {
                if let Some(entry) = self.nodes.get_mut(path) {
                    entry.data = data.clone();
                    entry.stat = *stat;
                }
            }
            Effect::Deleted { path, .. } => {
                self.nodes.remove(path);
                if let Some(parent) = path.parent().and_then(|above| self.nodes.get_mut(&above)) {
                    parent.children.remove(path.name());
                }
            }
        }
    }

    fn take_back(&mut self, step: Undo) {
        match step {
            Undo::Create(path) => {
                self.nodes.remove(&path);
                if let Some(parent) = path.parent().and_then(|above| self.nodes.get_mut(&above)) {
                    parent.children.remove(path.name());
                    parent.counter = parent.counter.wrapping_sub(1);
                }
            }
            Undo::Set(path, data, stat) => {
                if let Some(entry) = self.nodes.get_mut(&path) {
                    entry.data = data;
                    entry.stat = stat;
                }
            }
            Undo::Delete(path, entry) => {
                if let Some(parent) = path.parent().and_then(|above| self.nodes.get_mut(&above)) {
                    parent.children.insert(path.name().to_owned());
                }
                self.nodes.insert(path, entry);
            }
        }
    }

    /// The watches that one effect sets off.
    pub(super) fn fire(&mut self, effect: &Effect) -> Vec<Fired> {
        let mut fired = Vec::new();
        match effect {
            Effect::Created { path, .. } => {
                self.on_nodes.fire(path, WatchEvent::Created, &mut fired);
                self.fire_parent(path, &mut fired);
            }
            Effect::Set { path, .. } => self.on_nodes.fire(path, WatchEvent::Changed, &mut fired),
            Effect::Deleted { path, .. } => {
                self.on_nodes.fire(path, WatchEvent::Deleted, &mut fired);
                self.on_children.fire(path, WatchEvent::Deleted, &mut fired);
                self.fire_parent(path, &mut fired);
            }
        }
        fired
    }

    fn fire_parent(&mut self, path: &NodePath, fired: &mut Vec<Fired>) {
        if let Some(above) = path.parent() {
            self.on_children.fire(&above, WatchEvent::ChildrenChanged, fired);
        }
    }
}

impl Entry {
    fn stat(&self) -> Stat {
        Stat { children: u32::try_from(self.children.len()).unwrap_or(u32::MAX), ..self.stat }
    }

    fn node(&self) -> Node {
        Node { data: self.data.clone(), stat: self.stat() }
    }
}

fn fresh_stat(zxid: i64, now_ms: u64, ephemeral_owner: Option<SessionId>, bytes: usize) -> Stat {
    Stat {
        czxid: zxid,
        mzxid: zxid,
        version: 0,
        ctime_ms: now_ms,
        mtime_ms: now_ms,
        ephemeral_owner,
        children: 0,
        data_length: u32::try_from(bytes).unwrap_or(u32::MAX),
    }
}

fn fits(path: &NodePath, data: &Bytes) -> Result<(), StoreError> {
    if data.len() > MAX_DATA_BYTES {
        return Err(StoreError::TooLarge { path: path.clone(), bytes: data.len() });
    }
    Ok(())
}

/// One-shot watches by path.
#[derive(Debug, Default)]
struct Watchers {
    by_path: BTreeMap<NodePath, Vec<(SessionId, WatchSender)>>,
    added: usize,
}

impl Watchers {
    /// How many watches are set between two searches for those that were given up.
    const SWEEP_EVERY: usize = 4096;

    fn add(&mut self, session: SessionId, path: &NodePath) -> Watch {
        self.added += 1;
        if self.added.is_multiple_of(Self::SWEEP_EVERY) {
            self.retain(|_, sender| !sender.is_given_up());
        }
        let (sender, watch) = Watch::channel();
        let here = self.by_path.entry(path.clone()).or_default();
        here.retain(|(_, sender)| !sender.is_given_up());
        here.push((session, sender));
        watch
    }

    fn fire(&mut self, path: &NodePath, event: WatchEvent, fired: &mut Vec<Fired>) {
        for (session, watch) in self.by_path.remove(path).unwrap_or_default() {
            fired.push(Fired { session, watch, event });
        }
    }

    fn forget(&mut self, session: SessionId) {
        self.retain(|owner, _| owner != session);
    }

    fn retain(&mut self, keep: impl Fn(SessionId, &WatchSender) -> bool) {
        self.by_path.retain(|_, here| {
            here.retain(|(session, sender)| keep(*session, sender));
            !here.is_empty()
        });
    }
}
