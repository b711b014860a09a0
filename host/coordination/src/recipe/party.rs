//! Who is there.

use std::sync::Arc;

use serde::Serialize;
use thiserror::Error;
use tokio::time::Instant;

use super::identifier::Identifier;
use super::names::{self, MemberName};
use super::observe::Changed;
use super::own_node::{self, Loss, Monitor, Placed};
use super::semaphore::{Unsure, unless_missing};
use super::session::{Entry, Leftovers, Tools};
use super::wait::{Backoff, Patience};
use crate::store::{
    Lifetime, Node, NodeKind, NodePath, Op, PathError, Reply, Stat, Store, StoreError, Version, create_all,
};

/// A group that one is a member of for as long as one's session lives, in the layout of kazoo's two recipes.
///
/// # Guarantees
/// Members of both kinds are listed, each identifier once; a barrier's nodes and other children are not. Looking creates
/// nothing.
/// # On session loss
/// [`Membership::lost`] resolves. A new session has to join anew.
/// # Cancel safety
/// Dropping the future of [`Party::join`] leaves no node behind.
#[derive(Debug, Clone)]
pub struct Party {
    tools: Arc<Tools>,
    path: NodePath,
}

/// How a member is written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum MemberKind {
    /// With its identifier in its node's name, as Salt lists it (kazoo's `ShallowParty`).
    #[default]
    Shallow,
    /// With its identifier in its node's data alone (kazoo's `Party`).
    Full,
}

/// Somebody who is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Who.
    pub identifier: String,
    /// Since when, in milliseconds since the Unix epoch, by the store's clock.
    pub since_ms: u64,
    /// Its node's czxid: later members have larger ones.
    pub fence: i64,
}

/// A membership of our own. Dropping it leaves: the deletion is sent off and seen to in the background.
#[derive(Debug)]
pub struct Membership {
    tools: Arc<Tools>,
    path: NodePath,
    fence: i64,
    monitor: Monitor,
    left: bool,
}

/// Why a party could not be joined.
#[derive(Debug, Error)]
pub enum JoinError {
    /// A member's identifier becomes a part of a path, where a slash would be another level.
    #[error("identifier `{identifier}` has a slash, which a member's must not have")]
    Slash {
        /// Who.
        identifier: Identifier,
    },
    /// The identifier holds what a store refuses in a path, or is too long for one.
    #[error("identifier `{identifier}` cannot be a member's")]
    Identifier {
        /// Who.
        identifier: Identifier,
        /// Why.
        #[source]
        source: PathError,
    },
    /// The session ended.
    #[error("the session ended before party `{path}` was joined")]
    SessionOver {
        /// Which.
        path: NodePath,
    },
    /// The store refused or could not be reached.
    #[error("cannot join party `{path}`")]
    Store {
        /// Which.
        path: NodePath,
        /// Why.
        #[source]
        source: StoreError,
    },
}

/// Why a party could not be left by request. It is left with the session at the latest.
#[derive(Debug, Error)]
#[error("cannot leave: `{path}` could not be deleted")]
pub struct LeaveError {
    /// The member's node.
    pub path: NodePath,
    /// Why.
    #[source]
    pub source: StoreError,
}

/// Why enough members were not seen.
#[derive(Debug, Error)]
pub enum WaitError {
    /// The deadline passed, or we were to look once.
    #[error("party `{path}` has {have} members, {want} are wanted")]
    TooFew {
        /// Which.
        path: NodePath,
        /// Members seen last.
        have: usize,
        /// Members wanted.
        want: usize,
    },
    /// The session ended.
    #[error("the session ended while party `{path}` was watched")]
    SessionOver {
        /// Which.
        path: NodePath,
    },
    /// The store refused or could not be reached.
    #[error("cannot see the members of party `{path}`")]
    Store {
        /// Which.
        path: NodePath,
        /// Why.
        #[source]
        source: StoreError,
    },
}

impl Party {
    /// How often [`Party::join`] starts again because something changed under its hands.
    const MOST_ROUNDS: u32 = 50;

    /// The party at `path`. Asks the store nothing.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, path: NodePath) -> Self {
        Self { tools: Tools::new(store), path }
    }

    /// As [`Party::new`], with names and pauses drawn from `seed`, so that a simulation can be repeated.
    #[must_use]
    pub fn seeded(store: Arc<dyn Store>, path: NodePath, seed: u64) -> Self {
        Self { tools: Tools::seeded(store, seed), path }
    }

    /// Its path.
    #[must_use]
    pub fn path(&self) -> &NodePath {
        &self.path
    }

    /// Becomes a member. One round trip where the path is there.
    ///
    /// # Errors
    /// [`JoinError`]. A failed join leaves nothing behind, like a cancelled one.
    pub async fn join(&self, identifier: &Identifier, kind: MemberKind) -> Result<Membership, JoinError> {
        if identifier.as_str().contains('/') {
            return Err(JoinError::Slash { identifier: identifier.clone() });
        }
        let mut backoff = Backoff::patient();
        for _ in 0..Self::MOST_ROUNDS {
            let unique = self.tools.unique();
            let node = match kind {
                MemberKind::Shallow => {
                    // Checked, because the identifier is a person's.
                    NodePath::parse(&format!("{}/{unique}-{identifier}", self.path))
                        .map_err(|source| JoinError::Identifier { identifier: identifier.clone(), source })?
                }
                MemberKind::Full => self.path.child(&format!("{unique}{}", names::PARTY)),
            };
            let create = Op::Create { path: node.clone(), data: identifier.data(), kind: NodeKind::Ephemeral };
            let mut unsure = Unsure::new(&self.tools, node.clone(), None);
            let placed =
                own_node::place(&self.tools, vec![create], &node, Lifetime::Ephemeral, None, &mut backoff).await;
            let placed = placed.map_err(|source| self.join_error(source))?;
            unsure.sure();
            match placed {
                Placed::There(stat, watch, _) => {
                    let monitor = Monitor::start(&self.tools, node.clone(), watch);
                    let tools = Arc::clone(&self.tools);
                    return Ok(Membership { tools, path: node, fence: stat.czxid, monitor, left: false });
                }
                Placed::Gone | Placed::Not => {}
                Placed::Refused(_, StoreError::NoNode { .. }) => {
                    if let Err(error) = create_all(self.tools.store.as_ref(), &self.path).await {
                        backoff.after(error, &self.tools).await.map_err(|source| self.join_error(source))?;
                    }
                }
                Placed::Refused(_, source) => return Err(self.join_error(source)),
            }
        }
        let reason = format!("joining was undecided {} times", Self::MOST_ROUNDS);
        Err(self.join_error(StoreError::Unavailable { reason }))
    }

    fn join_error(&self, source: StoreError) -> JoinError {
        let path = self.path.clone();
        match source {
            StoreError::SessionOver => JoinError::SessionOver { path },
            source => JoinError::Store { path, source },
        }
    }

    /// The members in the order of their identifiers; none where there is no such path. Two round trips: the names, then
    /// all their stats at once.
    ///
    /// # Errors
    /// What the store says, after a few tries.
    pub async fn members(&self) -> Result<Vec<Member>, StoreError> {
        let mut backoff = Backoff::brief();
        // Bounded by the back-off.
        loop {
            let read = async {
                let names = unless_missing(self.tools.store.children(&self.path).await)?;
                self.read_members(names.unwrap_or_default()).await
            };
            match read.await {
                Err(error) => backoff.after(error, &self.tools).await?,
                members => return members,
            }
        }
    }

    /// The members, and what tells when somebody came or went. Creates nothing. Two round trips.
    ///
    /// # Errors
    /// What the store says, after a few tries.
    pub async fn observe(&self) -> Result<(Vec<Member>, Changed), StoreError> {
        let mut backoff = Backoff::brief();
        // Bounded by the back-off.
        loop {
            match self.observe_once().await {
                Err(error) => backoff.after(error, &self.tools).await?,
                seen => return seen,
            }
        }
    }

    async fn observe_once(&self) -> Result<(Vec<Member>, Changed), StoreError> {
        let store = &self.tools.store;
        // A watching look tells of a path that is not there yet.
        let (path, children) = (store.stat_and_watch(&self.path), store.children_and_watch(&self.path));
        let (path, children) = (path.await, children.await);
        let (_, path_watch) = path?;
        let mut watches = vec![path_watch];
        let mut names = Vec::new();
        if let Some((seen, watch)) = unless_missing(children)? {
            names = seen;
            watches.push(watch);
        }
        let members = self.read_members(names).await?;
        Ok((members, Changed::new(watches)))
    }

    /// Waits until at least `min` members are there, and gives them.
    ///
    /// # Errors
    /// [`WaitError`].
    ///
    /// # Cancel safety
    /// May be dropped at any time; nothing is left.
    pub async fn wait_for(&self, min: usize, patience: Patience) -> Result<Vec<Member>, WaitError> {
        let mut have = 0;
        let wait = self.wait(min, patience == Patience::Once, &mut have);
        let done = match patience {
            Patience::Until(deadline) => tokio::time::timeout_at(deadline, wait).await,
            Patience::Forever => Ok(wait.await),
            Patience::Once => tokio::time::timeout_at(Instant::now() + self.tools.store.session_timeout(), wait).await,
        };
        done.unwrap_or_else(|_| Err(WaitError::TooFew { path: self.path.clone(), have, want: min }))
    }

    async fn wait(&self, min: usize, once: bool, have: &mut usize) -> Result<Vec<Member>, WaitError> {
        let mut backoff = Backoff::patient();
        // Each round follows a change or a back-off; the caller's deadline and the session bound it.
        loop {
            let (members, mut changed) = match self.observe_once().await {
                Ok(seen) => seen,
                Err(error) => {
                    backoff.after(error, &self.tools).await.map_err(|source| self.wait_error(source))?;
                    continue;
                }
            };
            backoff.reset();
            *have = members.len();
            if members.len() >= min {
                return Ok(members);
            }
            if once {
                return Err(WaitError::TooFew { path: self.path.clone(), have: *have, want: min });
            }
            changed.changed().await;
        }
    }

    fn wait_error(&self, source: StoreError) -> WaitError {
        let path = self.path.clone();
        match source {
            StoreError::SessionOver => WaitError::SessionOver { path },
            source => WaitError::Store { path, source },
        }
    }

    /// Reads what the names do not say, in one flight; who is gone is left out.
    async fn read_members(&self, names: Vec<String>) -> Result<Vec<Member>, StoreError> {
        enum Asked {
            Stat(String, Reply<Option<Stat>>),
            Node(Reply<Node>),
        }
        let store = &self.tools.store;
        let asked: Vec<Asked> = names
            .iter()
            .filter_map(|name| {
                let node = self.path.child(name);
                match names::member(name) {
                    MemberName::Shallow(identifier) => Some(Asked::Stat(identifier.to_owned(), store.stat(&node))),
                    MemberName::Full => Some(Asked::Node(store.read(&node))),
                    MemberName::Other => None,
                }
            })
            .collect();
        let mut members = Vec::with_capacity(asked.len());
        for asked in asked {
            let seen = match asked {
                Asked::Stat(identifier, reply) => reply.await?.map(|stat| (identifier, stat)),
                Asked::Node(reply) => unless_missing(reply.await)?
                    .map(|node| (String::from_utf8_lossy(&node.data).into_owned(), node.stat)),
            };
            members.extend(seen.map(|(identifier, stat)| Member {
                identifier,
                since_ms: stat.ctime_ms,
                fence: stat.czxid,
            }));
        }
        Ok(each_once(members))
    }

    /// Waits until no clean-up of a cancelled join or a dropped membership is under way.
    pub async fn settled(&self) {
        self.tools.settled().await;
    }
}

/// The members in the order of their identifiers, each once. A client that crashed and came back has two nodes until its
/// old session ends: it is one member, and the newer node is the one that stays.
fn each_once(mut members: Vec<Member>) -> Vec<Member> {
    members.sort_by(|a, b| (&a.identifier, b.fence).cmp(&(&b.identifier, a.fence)));
    members.dedup_by(|older, newer| older.identifier == newer.identifier);
    members
}

impl Membership {
    /// Its node.
    #[must_use]
    pub fn path(&self) -> &NodePath {
        &self.path
    }

    /// Its node's czxid.
    #[must_use]
    pub fn fence(&self) -> i64 {
        self.fence
    }

    /// Waits until the membership is lost, and says how.
    ///
    /// # Cancel safety
    /// May be dropped and called again; any number may wait.
    pub async fn lost(&self) -> Loss {
        self.monitor.lost().await
    }

    /// Whether it is known to be lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.monitor.loss().is_some()
    }

    /// Leaves: one round trip. To have been thrown out or to have lost the session is to have left.
    ///
    /// # Errors
    /// [`LeaveError`]; it is tried on in the background.
    ///
    /// # Cancel safety
    /// Dropping the future only gives up the answer.
    pub async fn leave(mut self) -> Result<(), LeaveError> {
        let mut backoff = Backoff::patient();
        // Bounded by the back-off.
        loop {
            let error = match self.tools.store.delete(&self.path, Version::Any).await {
                Ok(()) | Err(StoreError::NoNode { .. } | StoreError::SessionOver) => {
                    self.left = true;
                    return Ok(());
                }
                Err(StoreError::Ambiguous { path }) => {
                    // The name is never used twice, so that a deletion may be sent twice.
                    StoreError::Unavailable { reason: format!("the deletion of `{path}` was not answered") }
                }
                Err(error) => error,
            };
            match backoff.after(error, &self.tools).await {
                Ok(()) => {}
                Err(StoreError::SessionOver) => {
                    self.left = true;
                    return Ok(());
                }
                Err(source) => return Err(LeaveError { path: self.path.clone(), source }),
            }
        }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if !self.left && self.monitor.loss().is_none() {
            self.tools.clean_up(Leftovers {
                queue: None,
                entry: Entry::None,
                node: Some(self.path.clone()),
                claim: None,
            });
        }
    }
}
