//! The watches of one process, by node.

use std::collections::HashMap;

use crate::store::{NodePath, SessionId, WatchEvent, WatchSender};

/// What a watch was set on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aspect {
    /// The node and its data.
    Node,
    /// The list of its children.
    Children,
}

/// What happened to a node. The numbers stand in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeKind {
    Created = 1,
    Set = 2,
    Deleted = 3,
}

impl ChangeKind {
    pub(super) fn from_number(number: i64) -> Option<Self> {
        match number {
            1 => Some(Self::Created),
            2 => Some(Self::Set),
            3 => Some(Self::Deleted),
            _ => None,
        }
    }
}

/// A change of a node.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) zxid: i64,
    pub(super) path: NodePath,
    pub(super) kind: ChangeKind,
}

#[derive(Debug)]
struct Entry {
    session: SessionId,
    aspect: Aspect,
    sender: WatchSender,
}

/// Watches that have not fired.
#[derive(Debug, Default)]
pub(super) struct Watches {
    by_path: HashMap<NodePath, Vec<Entry>>,
    count: usize,
    /// How many there may be before those that were given up are looked for.
    sweep_at: usize,
}

impl Watches {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(super) fn add(&mut self, path: NodePath, session: SessionId, aspect: Aspect, sender: WatchSender) {
        // Who waits with a deadline sets watches and drops them: without this, they would pile up on a quiet node.
        if self.count >= self.sweep_at {
            self.retain(|entry| !entry.sender.is_given_up());
            self.sweep_at = (self.count * 2).max(64);
        }
        self.by_path.entry(path).or_default().push(Entry { session, aspect, sender });
        self.count += 1;
    }

    /// Fires what watches that.
    pub(super) fn fire(&mut self, change: &Change) {
        if self.is_empty() {
            return;
        }
        match change.kind {
            ChangeKind::Created => self.fire_at(&change.path, WatchEvent::Created, |_| true),
            ChangeKind::Set => self.fire_at(&change.path, WatchEvent::Changed, |aspect| aspect == Aspect::Node),
            ChangeKind::Deleted => self.fire_at(&change.path, WatchEvent::Deleted, |_| true),
        }
        if change.kind != ChangeKind::Set
            && let Some(parent) = change.path.parent()
        {
            self.fire_at(&parent, WatchEvent::ChildrenChanged, |aspect| aspect == Aspect::Children);
        }
    }

    /// Ends all watches of a session.
    pub(super) fn end(&mut self, session: SessionId) {
        // Dropped unfired, a watch ends with the event that says so.
        self.retain(|entry| entry.session != session);
    }

    fn fire_at(&mut self, path: &NodePath, event: WatchEvent, concerned: impl Fn(Aspect) -> bool) {
        let Some(entries) = self.by_path.get_mut(path) else { return };
        for entry in entries.extract_if(.., |entry| concerned(entry.aspect)) {
            self.count -= 1;
            entry.sender.fire(event);
        }
        if entries.is_empty() {
            self.by_path.remove(path);
        }
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.by_path.retain(|_, entries| {
            entries.retain(&keep);
            !entries.is_empty()
        });
        self.count = self.by_path.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Watch;

    #[test]
    fn watches_that_were_given_up_do_not_pile_up() {
        let mut watches = Watches::default();
        let path = NodePath::parse("/quiet").unwrap();
        let (sender, _kept) = Watch::channel();
        watches.add(path.clone(), SessionId(1), Aspect::Node, sender);
        for _ in 0..10_000 {
            watches.add(path.clone(), SessionId(1), Aspect::Node, Watch::channel().0);
        }
        assert!(watches.count <= 64, "{}", watches.count);
        watches.end(SessionId(1));
        assert!(watches.is_empty());
    }
}
