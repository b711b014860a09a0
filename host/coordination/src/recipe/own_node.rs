//! A node of our own: made once under a name that nobody else has, watched until it is lost.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::session::Tools;
use super::wait::Backoff;
use crate::store::{Lifetime, NodePath, Op, Reply, Stat, StoreError, Watch, WatchEvent};

/// How a lease or a membership was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Loss {
    /// Somebody deleted it: it was broken by force, or unlocked.
    Deleted,
    /// The session is over. What is ephemeral is gone or about to go; a persistent lease stays, and nobody watches it
    /// any more.
    SessionOver,
}

/// What became of a transaction that makes a node of ours.
pub(super) enum Placed {
    /// It is there. With the children of the node that was to be listed, as they were right after.
    There(Stat, Watch, Option<Reply<Vec<String>>>),
    /// It was made, and was deleted by somebody since.
    Gone,
    /// It was not made, and will not be: decide again.
    Not,
    /// The store refused operation `index`.
    Refused(usize, StoreError),
}

/// Sends `ops`, one of which creates `path`, with a watching look behind them in the same flight, and finds out what
/// became of them. An ambiguous answer is resolved by `sync` and a look at the name, never by a guess. The children of `list`
/// are asked for in the same flight.
///
/// # Errors
/// What the store said, when trying again is of no use. The node may then be there only if the session is over.
pub(super) async fn place(
    tools: &Tools,
    ops: Vec<Op>,
    path: &NodePath,
    lifetime: Lifetime,
    list: Option<&NodePath>,
    backoff: &mut Backoff,
) -> Result<Placed, StoreError> {
    let done = tools.store.multi(ops);
    let look = tools.store.stat_and_watch(path);
    let mut listed = list.map(|list| tools.store.children(list));
    let made = match done.await {
        Ok(_) => true,
        Err(StoreError::Ambiguous { .. }) => false,
        Err(StoreError::Multi { index, source }) if !source.is_retryable() => {
            return Ok(Placed::Refused(index, *source));
        }
        Err(error) => {
            backoff.after(error, tools).await?;
            return Ok(Placed::Not);
        }
    };
    let seen = match look.await {
        // A look behind an unanswered write does not count: it may have come from a server that is behind.
        Ok(seen) if made => mine(tools, seen, lifetime),
        _ => {
            listed = list.map(|list| tools.store.children(list));
            look_after_sync(tools, path, lifetime, backoff).await?
        }
    };
    backoff.reset();
    Ok(match seen {
        Some((stat, watch)) => Placed::There(stat, watch, listed),
        None if made => Placed::Gone,
        None => Placed::Not,
    })
}

/// A look at our own node that sees everything decided before it.
async fn look_after_sync(
    tools: &Tools,
    path: &NodePath,
    lifetime: Lifetime,
    backoff: &mut Backoff,
) -> Result<Option<(Stat, Watch)>, StoreError> {
    // Bounded by the back-off.
    loop {
        let (sync, look) = (tools.store.sync(path), tools.store.stat_and_watch(path));
        let (sync, look) = (sync.await, look.await);
        match sync.and(look) {
            Ok(seen) => return Ok(mine(tools, seen, lifetime)),
            Err(error) => backoff.after(error, tools).await?,
        }
    }
}

/// What was seen, if it is this session's: a node of another session is never adopted.
fn mine(tools: &Tools, (stat, watch): (Option<Stat>, Watch), lifetime: Lifetime) -> Option<(Stat, Watch)> {
    let owner = match lifetime {
        Lifetime::Ephemeral => Some(tools.store.session_id()),
        Lifetime::Persistent => None,
    };
    stat.filter(|stat| stat.ephemeral_owner == owner).map(|stat| (stat, watch))
}

/// Follows a node until it is lost. Dropping it stops the following.
#[derive(Debug)]
pub(super) struct Monitor {
    tools: Arc<Tools>,
    loss: watch::Receiver<Option<Loss>>,
    task: AbortHandle,
}

impl Monitor {
    /// Starts to follow `path`, on which `watch` was set.
    pub(super) fn start(tools: &Arc<Tools>, path: NodePath, watch: Watch) -> Self {
        let (sender, loss) = watch::channel(None);
        let following = Arc::clone(tools);
        let task = tokio::spawn(async move {
            let how = follow(&following, &path, watch).await;
            sender.send_replace(Some(how));
        });
        Self { tools: Arc::clone(tools), loss, task: task.abort_handle() }
    }

    /// Waits for the loss.
    pub(super) async fn lost(&self) -> Loss {
        let mut loss = self.loss.clone();
        let known = loss.wait_for(Option::is_some).await;
        // Without the follower, which only a runtime that shuts down takes away, nobody would tell us any more.
        known.ok().and_then(|loss| *loss).unwrap_or(Loss::SessionOver)
    }

    /// The loss, if there was one: without waiting for the follower to hear of the session's end.
    pub(super) fn loss(&self) -> Option<Loss> {
        let over = self.tools.store.session().borrow().is_over();
        (*self.loss.borrow()).or_else(|| over.then_some(Loss::SessionOver))
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn follow(tools: &Tools, path: &NodePath, mut watch: Watch) -> Loss {
    let mut session = tools.store.session();
    let mut backoff = Backoff::patient();
    loop {
        let event = tokio::select! {
            biased;
            over = session.wait_for(|state| state.is_over()) => {
                drop(over);
                WatchEvent::SessionOver
            }
            event = watch.fired() => event,
        };
        match event {
            WatchEvent::Deleted => return Loss::Deleted,
            WatchEvent::SessionOver => return Loss::SessionOver,
            // A mark: whoever set it has most likely deleted the node in the same transaction.
            WatchEvent::Created | WatchEvent::Changed | WatchEvent::ChildrenChanged => {}
        }
        // Bounded by the session: while it lives there is something to follow.
        watch = loop {
            match tools.store.stat_and_watch(path).await {
                Ok((Some(_), watch)) => break watch,
                Ok((None, _)) => return Loss::Deleted,
                Err(StoreError::SessionOver) => return Loss::SessionOver,
                Err(error) => {
                    if backoff.after(error, tools).await.is_err() {
                        // Not to know is to have lost it: a holder must not go on in the belief that it holds.
                        return Loss::SessionOver;
                    }
                }
            }
        };
        backoff.reset();
    }
}
