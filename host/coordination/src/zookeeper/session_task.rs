//! What goes on beside the requests of a session: heart-beats, its state, its watches.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use client::{OneshotWatcher, StateWatcher};
use futures::StreamExt;
use futures::future::{AbortHandle, Abortable, Aborted};
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use zookeeper_client as client;

use super::session::Session;
use super::{convert, tcp_nodelay};
use crate::store::session_liveness::SessionLiveness;
use crate::store::{NodePath, Reply, SessionState, Stat, Store, StoreError, WatchEvent, WatchSender, boot_clock};

/// How often we want to be heard, as a part of the time-out. The client pings a little less often, and only when nothing
/// else was sent, so that these take the pings' place.
const BEATS: u32 = 8;

/// What of a node is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Aspect {
    Data,
    Children,
}

/// A watch that the server has, and who is told.
pub(super) struct Watched {
    pub(super) path: NodePath,
    pub(super) aspect: Aspect,
    pub(super) watcher: OneshotWatcher,
    pub(super) sender: WatchSender,
}

/// Keeps a session until it is over.
pub(super) async fn keep(
    session: Weak<Session>,
    session_liveness: Arc<SessionLiveness>,
    mut states: StateWatcher,
    mut watched: mpsc::UnboundedReceiver<Watched>,
    servers: Vec<(String, u16)>,
) {
    let every = Duration::from_millis(session_liveness.timeout_ms()) / BEATS;
    let mut over = session_liveness.state();
    let mut watches = Watches::default();
    let mut beat: Option<Reply<Option<Stat>>> = None;
    let mut next = Instant::now() + every;
    // Bounded by the session's end.
    loop {
        tokio::select! {
            biased;
            _ = over.wait_for(|state| state.is_over()) => break,
            state = states.changed() => match state {
                client::SessionState::SyncConnected | client::SessionState::ConnectedReadOnly => {
                    tcp_nodelay::off(&servers);
                    // Whether the session is well is for its answer to say.
                    beat = self::beat(&session);
                }
                client::SessionState::Disconnected => session_liveness.turn(SessionState::Suspended),
                client::SessionState::AuthFailed
                | client::SessionState::Expired
                | client::SessionState::Closed => {
                    // When we closed it ourselves, whoever did says so.
                    if session.upgrade().is_some_and(|session| session.is_open()) {
                        session_liveness.turn(SessionState::Expired);
                    }
                    break;
                }
            },
            answer = answered(&mut beat) => {
                beat = None;
                let is_connected = session.upgrade().is_some_and(|session| session.is_connected());
                if answer.is_ok() && is_connected {
                    session_liveness.turn(SessionState::Connected);
                }
            }
            () = sleep_until(next), if beat.is_none() => {
                next = Instant::now() + every;
                let silence = boot_clock::now_ms().saturating_sub(session_liveness.heard_ms());
                if Duration::from_millis(silence) >= every || session_liveness.is_suspended() {
                    beat = self::beat(&session);
                }
            }
            Some(new) = watched.recv() => watches.add(new),
            Some(event) = watches.events.next(), if !watches.events.is_empty() => {
                // While it is being closed the server tells us of our own nodes that go with it: that is the session's
                // end, and no deletion.
                match session.upgrade().is_some_and(|session| session.is_open()) {
                    true => watches.fire(event),
                    false => watches = Watches::default(),
                }
            }
        }
    }
    if let Some(session) = session.upgrade() {
        session.abandon();
    }
}

fn beat(session: &Weak<Session>) -> Option<Reply<Option<Stat>>> {
    session.upgrade().map(|session| session.stat(&NodePath::root()))
}

async fn answered(beat: &mut Option<Reply<Option<Stat>>>) -> Result<Option<Stat>, StoreError> {
    match beat {
        Some(beat) => beat.await,
        None => std::future::pending().await,
    }
}

type Place = (NodePath, Aspect);

/// The watches that the server has.
///
/// One that its user gave up is kept until it fires or is set again: the client asks the server to take away a watch that
/// is dropped, which would cost a waiter as many requests as it has watches, each time it looks anew. Dropped while there
/// is another on the same node it costs nothing, so that a node has one given-up watch at most.
#[derive(Default)]
struct Watches {
    next: u64,
    waiting: HashMap<Place, Vec<Waiting>>,
    events: FuturesUnordered<Abortable<futures::future::BoxFuture<'static, (Place, u64, WatchEvent)>>>,
}

struct Waiting {
    number: u64,
    sender: WatchSender,
    drop_watcher: AbortHandle,
}

impl Watches {
    fn add(&mut self, Watched { path, aspect, watcher, sender }: Watched) {
        let (number, place) = (self.next, (path, aspect));
        self.next += 1;
        let (drop_watcher, registration) = AbortHandle::new_pair();
        let at = place.clone();
        let event = async move { (at, number, convert::event(watcher.changed().await.event_type)) };
        self.events.push(Abortable::new(Box::pin(event), registration));
        let here = self.waiting.entry(place).or_default();
        here.retain(|waiting| {
            let is_wanted = !waiting.sender.is_given_up();
            if !is_wanted {
                waiting.drop_watcher.abort();
            }
            is_wanted
        });
        here.push(Waiting { number, sender, drop_watcher });
    }

    fn fire(&mut self, event: Result<(Place, u64, WatchEvent), Aborted>) {
        let Ok((place, number, event)) = event else { return };
        let Some(here) = self.waiting.get_mut(&place) else { return };
        if let Some(at) = here.iter().position(|waiting| waiting.number == number) {
            here.swap_remove(at).sender.fire(event);
        }
        if here.is_empty() {
            self.waiting.remove(&place);
        }
    }
}
