//! Opening sessions: which engine serves which file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::oneshot;

use super::database::{self, Identity};
use super::engine::{Answer, Engine, Request};
use super::lock_holder::Blocked;
use crate::store::{Connect, Reply, Store, StoreError};

/// What a session on an embedded store is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmbeddedOptions {
    /// How long the ephemeral nodes of a process that was killed stay. Less than a tenth of a second or more than a day
    /// is taken for that.
    pub session_timeout: Duration,
}

impl EmbeddedOptions {
    const SHORTEST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(86_400);
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { session_timeout: Duration::from_secs(10) }
    }
}

/// What is done about a file that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Missing {
    Make,
    Refuse,
}

type Tell = dyn Fn(&Blocked) + Send + Sync;

/// What hears that another process keeps the file locked.
#[derive(Clone, Default)]
pub(super) struct Told(Option<Arc<Tell>>);

impl Told {
    pub(super) fn tell(&self, blocked: &Blocked) {
        if let Some(tell) = &self.0 {
            tell(blocked);
        }
    }
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Told" } else { "Untold" })
    }
}

/// A store in a file. Sessions may be opened by any number of these, in any number of processes.
///
/// The file and its folder are made when the first session is opened, for their owner only; in a folder that its group
/// shares (setgid, and writable by the group) the file is its group's, too, as are the files that SQLite puts beside it.
/// The file stays open as long as this or one of its sessions lives.
///
/// # Errors
/// A session cannot be opened when the file cannot be made, read or written, is not a store, or was made by a later
/// version; it is refused when the account may not do so. When it is deleted or replaced while it is in use, requests fail with an error that names it, and sessions
/// expire.
#[derive(Debug)]
pub struct Embedded {
    path: PathBuf,
    options: EmbeddedOptions,
    missing: Missing,
    told: Told,
    /// Keeps the engine between sessions, which need not open the file again then.
    engine: Mutex<Option<Arc<Engine>>>,
}

impl Embedded {
    /// A store in the file at `path`. Nothing is opened yet.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, options: EmbeddedOptions) -> Self {
        let session_timeout = options.session_timeout.clamp(EmbeddedOptions::SHORTEST, EmbeddedOptions::LONGEST);
        let options = EmbeddedOptions { session_timeout };
        Self { path: path.into(), options, missing: Missing::Make, told: Told::default(), engine: Mutex::new(None) }
    }

    /// The store in the file at `path`, which is not made if it is not there.
    #[must_use]
    pub fn existing(path: impl Into<PathBuf>, options: EmbeddedOptions) -> Self {
        Self { missing: Missing::Refuse, ..Self::new(path, options) }
    }

    /// The same, which says by `tell` when another process keeps the file locked. It is called by the thread that waits for the
    /// file, and again every ten seconds.
    #[must_use]
    pub fn telling(self, tell: impl Fn(&Blocked) + Send + Sync + 'static) -> Self {
        Self { told: Told(Some(Arc::new(tell))), ..self }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn open(&self) -> Result<Arc<Engine>, StoreError> {
        let engine = engine_for(&self.path, self.missing, &self.told)?;
        *self.engine.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&engine));
        Ok(engine)
    }

    /// Stops the heart-beats of a session of this process, as if it had been stopped.
    #[cfg(test)]
    pub(crate) fn silence(&self, session: crate::store::SessionId) {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.as_ref().expect("a session was opened").silence(session);
    }

    /// Lets the file have so many pages at most from the next request on, as if the disk were full then.
    #[cfg(test)]
    pub(crate) fn limit_pages(&self, pages: i64) {
        let engine = self.engine.lock().unwrap_or_else(PoisonError::into_inner);
        engine.as_ref().expect("a session was opened").limit_pages(pages);
    }
}

impl Connect for Embedded {
    fn connect(&self) -> Reply<Arc<dyn Store>> {
        let (reply, answer) = oneshot::channel();
        let timeout = self.options.session_timeout;
        let sent = self.open().and_then(|engine| {
            let request = Request::Open { engine: Arc::clone(&engine), timeout, reply };
            engine.send(request)
        });
        Box::pin(async move {
            sent?;
            let ended = || StoreError::Unavailable { reason: String::from("the store's thread has ended") };
            match answer.await.unwrap_or_else(|_| Err(ended()))? {
                Answer::Opened(session) => Ok(Arc::new(session) as Arc<dyn Store>),
                _ => Err(ended()),
            }
        })
    }
}

/// The engines of this process. One for each file, and not for each path: a deleted file's name may be used again.
static ENGINES: Mutex<Vec<(Identity, Weak<Engine>)>> = Mutex::new(Vec::new());

fn engine_for(path: &Path, missing: Missing, told: &Told) -> Result<Arc<Engine>, StoreError> {
    let mut engines = ENGINES.lock().unwrap_or_else(PoisonError::into_inner);
    // Under the lock, so that nobody here opens the file while it is being made: see there.
    let identity = match missing {
        Missing::Make => database::find_or_make(path)?,
        Missing::Refuse => database::find(path)?,
    };
    engines.retain(|(_, engine)| engine.strong_count() > 0);
    let found = engines.iter().find(|(known, _)| *known == identity).and_then(|(_, engine)| engine.upgrade());
    if let Some(engine) = found {
        return Ok(engine);
    }
    // The working directory may change; the file does not.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let engine = Engine::start(path, identity, told.clone())?;
    engines.push((identity, Arc::downgrade(&engine)));
    Ok(engine)
}
