//! The store that a command uses: chosen once, then opened as often as a session ends.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{OpenSessions, StorePlace};
use crate::cli::args::Global;
use crate::cli::exit::{ErrorKind, Failure};
use crate::cli::output::Output;
use crate::cli::signals;
use crate::config::StoreSpec;
use lockkeeper_coordination::embedded::{self, Embedded, EmbeddedOptions};
use lockkeeper_coordination::memory::{Memory, MemoryOptions};
use lockkeeper_coordination::store::{Clock, Connect, NodePath, Store, StoreError};
use lockkeeper_coordination::zookeeper::{ZooKeeper, ZooKeeperOptions};

/// How often a command looks whether the store's file exists.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// What a command wants of its store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To write there: a missing file or chroot is created.
    Use,
    /// To read: nothing is created, and a missing file or chroot is reported.
    Look,
}

/// The store that was chosen, and what opens sessions with it.
#[derive(Debug, Clone)]
pub struct StoreChoice {
    place: StorePlace,
    purpose: Purpose,
    connect: Arc<dyn Connect>,
    sessions: OpenSessions,
    output: Output,
}

impl StoreChoice {
    /// Chooses the store by the flags, then by `job`, the `[store]` of a job, then by the environment and the configuration
    /// files. Opens nothing.
    pub fn new(global: &Global, output: &Output, job: Option<StoreSpec>, purpose: Purpose) -> Result<Self, Failure> {
        let place = global.choose(output, job)?;
        // A variable that is lost on the way through sudo or cron means another store.
        if !place.is_named() {
            output.talk("Store", &place.to_string());
        }
        let connect = connect(&place, purpose, output);
        Ok(Self { place, purpose, connect, sessions: global.sessions.clone(), output: output.clone() })
    }

    /// Where the store is.
    pub fn place(&self) -> &StorePlace {
        &self.place
    }

    /// The same store for a caller with a deadline: connecting ends early enough to report what the servers answered.
    pub fn within(self, most: Option<Duration>) -> Self {
        match (&self.place, most.map(|most| most * 9 / 10)) {
            (StorePlace::Servers { options, .. }, Some(most)) if most < options.connect_timeout => {
                let options = ZooKeeperOptions { connect_timeout: most, ..options.as_ref().clone() };
                Self { connect: to_servers(options, self.purpose), ..self }
            }
            _ => self,
        }
    }

    /// Waits until the store's file exists, or until `deadline`.
    pub async fn exists(&mut self, deadline: Option<Instant>) {
        if !self.place.is_missing() {
            return;
        }
        self.report_what_is_missing(None).await;
        while self.place.is_missing() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            sleep(BETWEEN_LOOKS).await;
        }
        // It has been reported.
        self.output = self.output.clone().hushed();
        self.connect = connect(&self.place, self.purpose, &self.output);
    }

    /// Opens a session.
    pub async fn session(&self) -> Result<Arc<dyn Store>, Failure> {
        let session = self.connect.connect().await.map_err(|error| self.failure(error))?;
        self.sessions.add(&session);
        if self.purpose == Purpose::Look {
            self.report_what_is_missing(Some(&session)).await;
        }
        Ok(session)
    }

    /// Reports a file or a chroot that does not exist: the reader may have meant another store.
    async fn report_what_is_missing(&self, session: Option<&Arc<dyn Store>>) {
        match &self.place {
            StorePlace::File { .. } if self.place.is_missing() => {
                self.output.talk(
                    "Missing",
                    &format!("`{}` is not there yet: nothing was locked or run in it", self.place.address()),
                );
            }
            StorePlace::File { .. } => {}
            StorePlace::Servers { options, .. } => {
                let Some((chroot, session)) = options.hosts.chroot().zip(session) else { return };
                if matches!(session.stat(&NodePath::root()).await, Ok(None)) {
                    self.output
                        .warn(&format!("the chroot `{chroot}` is not there: nothing was locked or run below it"));
                }
            }
        }
    }

    /// The failure of a caller whose time ended before the store answered; it names the process that keeps a file locked.
    pub fn no_answer(&self, waited: Duration) -> Failure {
        let message = match &self.place {
            StorePlace::File { file, .. } => match embedded::blocked(file, waited) {
                blocked if blocked.by.is_some() => blocked.to_string(),
                blocked => {
                    format!("`{}` could not be used within {}", blocked.file, humantime::format_duration(waited))
                }
            },
            StorePlace::Servers { .. } => format!("no server answered within {}", humantime::format_duration(waited)),
        };
        Failure::message(ErrorKind::Unavailable, message)
    }

    fn failure(&self, error: StoreError) -> Failure {
        let failure = Failure::from(error);
        match (&self.place, failure.kind) {
            (StorePlace::File { file, .. }, ErrorKind::Refused) => failure.hint(sharing(file)),
            (StorePlace::File { .. }, _) => failure.hint("`--store FILE` or `--state-dir DIR` says where the store is"),
            // What each server answered is in the error.
            (StorePlace::Servers { .. }, ErrorKind::Unavailable) => {
                failure.hint("`--zk-hosts` or a profile names the servers, `--connect-timeout` how long they are tried")
            }
            (StorePlace::Servers { .. }, _) => failure,
        }
    }
}

/// What opens sessions at that place.
fn connect(place: &StorePlace, purpose: Purpose, output: &Output) -> Arc<dyn Connect> {
    match (place, purpose) {
        (StorePlace::Servers { options, .. }, purpose) => to_servers(options.as_ref().clone(), purpose),
        (StorePlace::File { file, session_timeout, .. }, Purpose::Use) => {
            let options = EmbeddedOptions { session_timeout: *session_timeout };
            Arc::new(reporting(Embedded::new(file, options), output))
        }
        // A store that does not exist reads as an empty one.
        (place, Purpose::Look) if place.is_missing() => {
            Arc::new(Memory::new(MemoryOptions { start_ms: Clock::System.now_ms(), ..MemoryOptions::default() }))
        }
        (StorePlace::File { file, session_timeout, .. }, Purpose::Look) => {
            let options = EmbeddedOptions { session_timeout: *session_timeout };
            Arc::new(reporting(Embedded::existing(file, options), output))
        }
    }
}

fn to_servers(options: ZooKeeperOptions, purpose: Purpose) -> Arc<dyn Connect> {
    match purpose {
        Purpose::Use => Arc::new(ZooKeeper::new(options)),
        Purpose::Look => Arc::new(ZooKeeper::looking(options)),
    }
}

/// A store in a file, which reports the process that keeps the file locked. This process is not stopped by Ctrl-Z while it
/// keeps the file locked itself.
fn reporting(store: Embedded, output: &Output) -> Embedded {
    signals::stop_between_transactions();
    let output = output.clone();
    store.telling(move |blocked| output.warn(&blocked.to_string()))
}

/// How accounts share an embedded store.
fn sharing(file: &Path) -> String {
    let file = file.display();
    format!(
        "a group shares a store in a folder of its own, made by `install -d -m 2770 -g GROUP DIR`; an existing file joins it \
         by `chgrp GROUP {file}* && chmod 660 {file}*`; `--store FILE` names another"
    )
}
