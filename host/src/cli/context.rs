//! Where everything is put together: the store, the policy engine and the folders that the flags ask for.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use directories::ProjectDirs;
use nix::unistd::{Uid, User};
use tokio::time::{Instant, sleep};

use super::exit::{ErrorKind, Exit, Failure};
use super::output::Output;
use super::sessions::Sessions;
use super::store::Choice;
use super::{Global, signals, supervisor};
use crate::job::StoreSpec;
use crate::policy::{Compiler, Engine, EngineOptions, Limits, OnCompile};
use lockkeeper_coordination::embedded::{self, Embedded, EmbeddedOptions};
use lockkeeper_coordination::memory::{Memory, MemoryOptions};
use lockkeeper_coordination::recipe::Identifier;
use lockkeeper_coordination::store::{Clock, Connect, NodePath, Store, StoreError};
use lockkeeper_coordination::zookeeper::{ZooKeeper, ZooKeeperOptions};

/// Threads for what a command does beside its main one.
const WORKERS: usize = 2;

/// How often it is looked whether a file is there.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// A policy of so many bytes takes seconds to compile.
const LONG_TO_COMPILE: u64 = 2_000_000;

/// Runs a command's future on a runtime of its own. What is not spawned runs on this thread: a child that must die with
/// its parent is started by a thread that lives as long.
pub(super) fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(ErrorKind::Internal, error))?;
    let outcome = runtime.block_on(command);
    // The process ends. Taken down, the runtime would drop its tasks one by one, and ZooKeeper's client panics when the task
    // of a session goes before one that waits for a watch.
    std::mem::forget(runtime);
    outcome
}

/// As [`block_on`], with no thread more: a guard starts where hardly any more can be.
pub(super) fn block_on_this_thread(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(ErrorKind::Internal, error))?.block_on(command)
}

impl Global {
    /// Runs a command's future, as [`block_on`], and lets the sessions that it opened end in order, however it ended itself.
    pub(super) fn block_on(&self, command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
        block_on(async {
            let outcome = command.await;
            self.sessions.closed().await;
            outcome
        })
    }

    /// Where the embedded store, journals and compiled policies are kept.
    pub(super) fn state_dir(&self) -> Result<PathBuf, Failure> {
        if let Some(folder) = &self.state_dir {
            return Ok(folder.clone());
        }
        let ours = ProjectDirs::from("", "", "lockkeeper")
            .and_then(|ours| ours.state_dir().or(Some(ours.data_local_dir())).map(ToOwned::to_owned));
        ours.ok_or_else(|| {
            Failure::message(ErrorKind::BadArgument, "there is no home folder to keep state in")
                .hint("say where with --state-dir or LOCKKEEPER_STATE_DIR")
        })
    }

    /// The store that is meant; `job` is what a job says of it.
    pub(super) fn store(&self, output: &Output, job: Option<StoreSpec>) -> Result<Opener, Failure> {
        let choice = self.choose(output, job)?;
        self.announce(output, &choice);
        let connect: Arc<dyn Connect> = match &choice {
            Choice::File { file, session_timeout, .. } => {
                Arc::new(telling(Embedded::new(file, EmbeddedOptions { session_timeout: *session_timeout }), output))
            }
            Choice::Servers { options, .. } => Arc::new(ZooKeeper::new(options.as_ref().clone())),
        };
        Ok(Opener {
            connect: self.sessions.of(connect),
            choice,
            purpose: Purpose::Use,
            sessions: self.sessions.clone(),
        })
    }

    /// The same for a command that only looks something up: neither a file nor a chroot is made.
    pub(super) fn look(&self, output: &Output, job: Option<StoreSpec>) -> Result<Opener, Failure> {
        let choice = self.choose(output, job)?;
        self.announce(output, &choice);
        let connect: Arc<dyn Connect> = match &choice {
            // Nothing is there, as in a store that is empty.
            choice if choice.is_missing() => {
                Arc::new(Memory::new(MemoryOptions { start_ms: Clock::System.now_ms(), ..MemoryOptions::default() }))
            }
            Choice::File { file, session_timeout, .. } => Arc::new(telling(
                Embedded::existing(file, EmbeddedOptions { session_timeout: *session_timeout }),
                output,
            )),
            Choice::Servers { options, .. } => Arc::new(ZooKeeper::looking(options.as_ref().clone())),
        };
        Ok(Opener {
            connect: self.sessions.of(connect),
            choice,
            purpose: Purpose::Look(output.clone()),
            sessions: self.sessions.clone(),
        })
    }

    /// Waits until a file is there for who looks into it, or for as long as there is to wait.
    pub(super) async fn look_until_there(
        &self,
        output: &Output,
        opener: &mut Opener,
        deadline: Option<Instant>,
    ) -> Result<(), Failure> {
        if !opener.choice.is_missing() {
            return Ok(());
        }
        opener.say_what_is_missing(output, None).await;
        while opener.choice.is_missing() && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            sleep(BETWEEN_LOOKS).await;
        }
        *opener = self.look(&output.clone().hushed(), None)?;
        Ok(())
    }

    /// Says which store is used when nobody who reads it has named one: a variable that is lost on the way through sudo or
    /// cron means another store.
    fn announce(&self, output: &Output, choice: &Choice) {
        if !choice.is_named() {
            output.talk("Store", &choice.to_string());
        }
    }

    /// A session for a command that only looks something up.
    pub(super) async fn open(&self, output: &Output) -> Result<Arc<dyn Store>, Failure> {
        self.look(output, None)?.session().await
    }

    /// The policy engine.
    pub(super) fn engine(&self) -> Result<Engine, Failure> {
        self.engine_with(Limits::DEFAULT)
    }

    /// The policy engine, with other limits.
    pub(super) fn engine_with(&self, limits: Limits) -> Result<Engine, Failure> {
        let cache = match self.no_cache {
            true => None,
            false => Some(self.state_dir()?.join("compiled")),
        };
        let compiler = Compiler::Child(supervisor::ourselves()?);
        let output = Output::new(self);
        let on_compile: OnCompile = Arc::new(move |bytes| {
            if bytes >= LONG_TO_COMPILE {
                output.talk("Compiling", &format!("the policy, {} MB; what comes of it is kept", bytes / 1_000_000));
            }
        });
        Ok(Engine::new(&EngineOptions { limits, cache, compiler, on_compile: Some(on_compile) })?)
    }
}

/// The store that was chosen, and what opens sessions with it.
#[derive(Debug, Clone)]
pub(super) struct Opener {
    pub(super) connect: Arc<dyn Connect>,
    pub(super) choice: Choice,
    purpose: Purpose,
    sessions: Sessions,
}

/// What a command wants of its store.
#[derive(Debug, Clone)]
enum Purpose {
    /// To write there.
    Use,
    /// To look something up, and say where nothing is there.
    Look(Output),
}

impl Opener {
    /// The same for who has no more time than that for connecting: what the servers answered is said before it is over.
    pub(super) fn within(self, most: Option<Duration>) -> Self {
        match (&self.choice, most.map(|most| most * 9 / 10)) {
            (Choice::Servers { options, .. }, Some(most)) if most < options.connect_timeout => {
                let options = ZooKeeperOptions { connect_timeout: most, ..options.as_ref().clone() };
                let connect: Arc<dyn Connect> = match self.purpose {
                    Purpose::Use => Arc::new(ZooKeeper::new(options)),
                    Purpose::Look(_) => Arc::new(ZooKeeper::looking(options)),
                };
                Self { connect: self.sessions.of(connect), ..self }
            }
            _ => self,
        }
    }

    /// A new session.
    pub(super) async fn session(&self) -> Result<Arc<dyn Store>, Failure> {
        let session = self.connect.connect().await.map_err(|error| self.failure(error))?;
        if let Purpose::Look(output) = &self.purpose {
            self.say_what_is_missing(output, Some(&session)).await;
        }
        Ok(session)
    }

    /// Whoever looks where nothing is may have meant another place.
    async fn say_what_is_missing(&self, output: &Output, session: Option<&Arc<dyn Store>>) {
        match &self.choice {
            Choice::File { .. } if self.choice.is_missing() => {
                output.talk(
                    "Missing",
                    &format!("`{}` is not there yet: nothing was locked or run in it", self.choice.place()),
                );
            }
            Choice::File { .. } => {}
            Choice::Servers { options, .. } => {
                let Some((chroot, session)) = options.hosts.chroot().zip(session) else { return };
                if matches!(session.stat(&NodePath::root()).await, Ok(None)) {
                    output.warn(&format!("the chroot `{chroot}` is not there: nothing was locked or run below it"));
                }
            }
        }
    }

    /// That a caller's time is over, and the store has not answered: of a file, which process keeps it locked.
    pub(super) fn no_answer(&self, waited: Duration) -> Failure {
        let message = match &self.choice {
            Choice::File { file, .. } => match embedded::blocked(file, waited) {
                blocked if blocked.by.is_some() => blocked.to_string(),
                blocked => {
                    format!("`{}` could not be used within {}", blocked.file, humantime::format_duration(waited))
                }
            },
            Choice::Servers { .. } => format!("no server answered within {}", humantime::format_duration(waited)),
        };
        Failure::message(ErrorKind::Unavailable, message)
    }

    fn failure(&self, error: StoreError) -> Failure {
        let failure = Failure::from(error);
        match (&self.choice, failure.kind) {
            (Choice::File { file, .. }, ErrorKind::Refused) => failure.hint(sharing(file)),
            (Choice::File { .. }, _) => failure.hint("`--store FILE` or `--state-dir DIR` says where the store is"),
            // What each server answered is in the error.
            (Choice::Servers { .. }, ErrorKind::Unavailable) => {
                failure.hint("`--zk-hosts` or a profile names the servers, `--connect-timeout` how long they are tried")
            }
            (Choice::Servers { .. }, _) => failure,
        }
    }
}

/// A store in a file, as every command uses it: it says which process keeps the file locked, and is not itself stopped by Ctrl-Z
/// while it has it locked.
fn telling(store: Embedded, output: &Output) -> Embedded {
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

/// Who says so: user and host.
pub(super) fn person() -> String {
    let uid = Uid::current();
    let user = User::from_uid(uid).ok().flatten().map_or_else(|| format!("user {uid}"), |user| user.name);
    let host = gethostname::gethostname();
    format!("{user}@{}", host.to_string_lossy())
}

/// Who runs a job: host and process.
pub(super) fn process() -> Result<Identifier, Failure> {
    let host = gethostname::gethostname();
    let text = format!("{}:{}", host.to_string_lossy(), std::process::id());
    Identifier::new(text).map_err(|error| Failure::message(ErrorKind::BadArgument, format!("the host's name: {error}")))
}

/// Who we are: what was said, or the host's name.
pub(super) fn identifier(given: Option<Identifier>) -> Result<Identifier, Failure> {
    if let Some(identifier) = given {
        return Ok(identifier);
    }
    let name = gethostname::gethostname();
    Identifier::new(name.to_string_lossy()).map_err(|error| {
        Failure::message(ErrorKind::BadArgument, format!("the host's name is no identifier: {error}"))
            .hint("say who holds the lease with --identifier")
    })
}
