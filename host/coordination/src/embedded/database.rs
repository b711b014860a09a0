//! The file: made, opened, checked, and what is said of its failures.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{io, thread};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::lock_holder::{Blocked, Files};
use super::permissions;
use crate::store::{StoreError, transaction_gate};

/// How long somebody else may hold the file locked before a request is given up.
pub(super) const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How long the file is waited for before the process that holds it is named: a write takes about a millisecond.
const BEFORE_SAYING: Duration = Duration::from_secs(2);

/// How long after that it is named again.
const BETWEEN_SAYINGS: Duration = Duration::from_secs(10);

/// `Lock` in ASCII: what tells our files from other SQLite databases.
const APPLICATION_ID: i32 = 0x4c6f_636b;

/// The version of the tables below. A file with a later one is left alone.
const SCHEMA_VERSION: i32 = 1;

/// `nodes.id` is the number of the change that created the node; the root is 0. Large data stands last in its row, so that
/// a parent's counters can be changed without touching it. `changes` is kept until every live session's process has read
/// it (`sessions.seen`).
const SCHEMA: &str = "
    CREATE TABLE nodes (
        id INTEGER PRIMARY KEY,
        parent INTEGER,
        name TEXT NOT NULL,
        mzxid INTEGER NOT NULL,
        version INTEGER NOT NULL,
        ctime_ms INTEGER NOT NULL,
        mtime_ms INTEGER NOT NULL,
        owner INTEGER,
        children INTEGER NOT NULL,
        sequence INTEGER NOT NULL,
        data BLOB NOT NULL
    ) STRICT;
    CREATE UNIQUE INDEX nodes_by_name ON nodes (parent, name);
    CREATE INDEX nodes_by_owner ON nodes (owner) WHERE owner IS NOT NULL;
    INSERT INTO nodes VALUES (0, NULL, '', 0, 0, 0, 0, NULL, 0, 0, x'');
    CREATE TABLE sessions (
        id INTEGER PRIMARY KEY,
        process INTEGER NOT NULL,
        boot TEXT NOT NULL,
        timeout_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL,
        seen INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE changes (
        zxid INTEGER PRIMARY KEY,
        kind INTEGER NOT NULL,
        path TEXT NOT NULL
    ) STRICT;
    CREATE TABLE counter (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        zxid INTEGER NOT NULL
    ) STRICT;
    INSERT INTO counter VALUES (1, 0);
";

/// What tells a file from another that has its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// The identity of the file at `path`, which is made, empty, if there is none: for its owner only, and for the group of its
/// folder where that is shared. SQLite gives the files that it puts beside it the same mode.
///
/// Nothing but SQLite may open the file while a connection of this process has it open, since closing any descriptor of a
/// file drops all locks that the process has on it. The caller keeps connections from being opened meanwhile; a file
/// that was there already is not opened here.
pub(super) fn find_or_make(path: &Path) -> Result<Identity, StoreError> {
    let folder = permissions::folder(path);
    if !folder.exists() {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
        made.map_err(|error| cannot(path, "make the folder of", &error))?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(FOR_ITS_OWNER).open(path) {
        Ok(file) => {
            let shared = match fs::metadata(folder) {
                // Whatever the umask is.
                Ok(folder) if permissions::is_shared(&folder) => {
                    file.set_permissions(Permissions::from_mode(FOR_ITS_GROUP))
                }
                _ => Ok(()),
            };
            // The name must last as the contents will.
            let kept = shared.and_then(|()| file.sync_all()).and_then(|()| File::open(folder)?.sync_all());
            kept.map_err(|error| cannot(path, "make", &error))?;
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(cannot(path, "make", &error)),
    }
    find(path)
}

/// The mode of a file that only its owner uses.
const FOR_ITS_OWNER: u32 = 0o600;

/// The mode of a file that a group shares.
const FOR_ITS_GROUP: u32 = 0o660;

/// The identity of the file at `path`, which this account must be allowed to use.
pub(super) fn find(path: &Path) -> Result<Identity, StoreError> {
    let metadata = fs::metadata(path).map_err(|error| cannot(path, "open", &error))?;
    if let Some(reason) = permissions::denied(path) {
        return Err(StoreError::Refused { reason });
    }
    if !metadata.is_file() {
        return Err(StoreError::Unavailable { reason: format!("`{}` is not a file", path.display()) });
    }
    Ok(identity(&metadata))
}

/// That something with the file did not work; if the account may not do it, who may.
fn cannot(path: &Path, tried: &str, error: &io::Error) -> StoreError {
    let denied = (error.kind() == io::ErrorKind::PermissionDenied).then(|| permissions::denied(path)).flatten();
    match denied {
        Some(reason) => StoreError::Refused { reason },
        None => StoreError::Unavailable { reason: format!("cannot {tried} `{}`: {error}", path.display()) },
    }
}

fn identity(metadata: &fs::Metadata) -> Identity {
    Identity { device: metadata.dev(), inode: metadata.ino() }
}

/// How hard a transaction is made to last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// On disk before it is answered.
    Disk,
    /// Seen by all processes at once, but lost if the machine fails: good for heart-beats, since a machine that fails ends
    /// all sessions anyway.
    Machine,
}

/// An open file.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) connection: Connection,
    /// Closed after the connection: see there.
    files: Files,
    path: PathBuf,
    identity: Identity,
    durability: Durability,
}

impl Database {
    /// Opens the file and makes its tables if it is new. Several processes may do so at once. `tell` hears of long waits.
    pub(super) fn open(
        path: &Path,
        identity: Identity,
        waiting: &mut Waiting,
        tell: impl Fn(&Blocked),
    ) -> Result<Self, StoreError> {
        // Another process may be making the tables, or tidying up as the last to close the file.
        let started = Instant::now();
        loop {
            let transaction_gate = transaction_gate::open();
            let opened = Self::try_open(path, identity);
            drop(transaction_gate);
            match opened {
                Ok(database) => {
                    database.check_place()?;
                    waiting.is_over();
                    return Ok(database);
                }
                Err(OpenFailure::Database(error)) if is_busy(&error) => {
                    // No connection is open now, so that these files may be closed again.
                    let blocked = |waited| blocked(path, &mut Files::default(), waited);
                    waiting.goes_on(blocked, &tell);
                    if started.elapsed() >= LOCK_PATIENCE {
                        return Err(locked(&blocked(started.elapsed())));
                    }
                    thread::sleep(Duration::from_millis(2));
                }
                Err(OpenFailure::Database(error)) => return Err(explain(path, "open", &error)),
                Err(OpenFailure::Said(error)) => return Err(error),
            }
        }
    }

    fn try_open(path: &Path, identity: Identity) -> Result<Self, OpenFailure> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        // Waiting is ours: SQLite's way sleeps up to a tenth of a second, and does not look at our sessions' clocks.
        connection.busy_timeout(Duration::ZERO)?;
        if connection.is_readonly("main")? {
            let reason = format!("`{}` cannot be written: it is read-only for us", path.display());
            return Err(StoreError::Unavailable { reason }.into());
        }
        // In a transaction, or somebody who is making the tables would be seen half done.
        let found = check_kind(path, &*connection.transaction()?)?;
        let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
        if !mode.eq_ignore_ascii_case("wal") {
            let reason = format!("the file system of `{}` cannot share memory between processes", path.display());
            return Err(StoreError::Unavailable { reason }.into());
        }
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.set_prepared_statement_cache_capacity(64);
        if found == 0 {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            // Whoever came first has made them.
            if check_kind(path, &transaction)? == 0 {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
                transaction.commit()?;
            }
        }
        let files = Files::default();
        Ok(Self { connection, files, path: path.to_owned(), identity, durability: Durability::Disk })
    }

    /// Fails when the file is no longer the one that its name stands for: what we wrote there nobody else would see.
    pub(super) fn check_place(&self) -> Result<(), StoreError> {
        let reason = match fs::metadata(&self.path) {
            Ok(metadata) if identity(&metadata) == self.identity => return Ok(()),
            Ok(_) => format!("`{}` was replaced by another file while it was in use", self.path.display()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                format!("`{}` was deleted while it was in use", self.path.display())
            }
            Err(error) => format!("`{}` cannot be found any more: {error}", self.path.display()),
        };
        Err(StoreError::Broken { reason })
    }

    /// How hard the next transactions are made to last.
    pub(super) fn set_durability(&mut self, durability: Durability) -> Result<(), rusqlite::Error> {
        if self.durability != durability {
            let level = match durability {
                Durability::Disk => "FULL",
                Durability::Machine => "NORMAL",
            };
            self.connection.pragma_update(None, "synchronous", level)?;
            self.durability = durability;
        }
        Ok(())
    }

    /// What to tell of an error.
    pub(super) fn explain(&self, tried: &str, error: &rusqlite::Error) -> StoreError {
        explain(&self.path, tried, error)
    }

    /// Which process does not let us write.
    pub(super) fn blocked(&mut self, waited: Duration) -> Blocked {
        blocked(&self.path, &mut self.files, waited)
    }
}

fn blocked(path: &Path, files: &mut Files, waited: Duration) -> Blocked {
    Blocked { file: path.display().to_string(), waited, by: files.blocker(path) }
}

/// That others did not let us write, or open the file.
pub(super) fn locked(blocked: &Blocked) -> StoreError {
    StoreError::Unavailable { reason: blocked.to_string() }
}

/// How long the file has been waited for, over all requests that found it locked.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    since: Option<Instant>,
    told: Option<Instant>,
}

impl Waiting {
    /// The file was found locked once more; says so from time to time.
    pub(super) fn goes_on(&mut self, blocked: impl FnOnce(Duration) -> Blocked, tell: impl FnOnce(&Blocked)) {
        let waited = self.since.get_or_insert_with(Instant::now).elapsed();
        let is_due = match self.told {
            None => waited >= BEFORE_SAYING,
            Some(told) => told.elapsed() >= BETWEEN_SAYINGS,
        };
        if is_due {
            self.told = Some(Instant::now());
            tell(&blocked(waited));
        }
    }

    /// It was had.
    pub(super) fn is_over(&mut self) {
        *self = Self::default();
    }
}

enum OpenFailure {
    Database(rusqlite::Error),
    Said(StoreError),
}

impl From<rusqlite::Error> for OpenFailure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<StoreError> for OpenFailure {
    fn from(error: StoreError) -> Self {
        Self::Said(error)
    }
}

/// The version of the file's tables, 0 where there are none yet; refuses files that are not ours or not for us.
fn check_kind(path: &Path, connection: &Connection) -> Result<i32, OpenFailure> {
    let application: i32 = connection.pragma_query_value(None, "application_id", |row| row.get(0))?;
    let version: i32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    let path = path.display();
    let reason = match (application, version) {
        (0, 0) if tables == 0 => return Ok(0),
        (APPLICATION_ID, 1..=SCHEMA_VERSION) => return Ok(version),
        (APPLICATION_ID, later) if later > SCHEMA_VERSION => {
            format!("`{path}` was made by a newer Lockkeeper (version {later} of its tables; we know {SCHEMA_VERSION})")
        }
        _ => format!("`{path}` is a database of some other program"),
    };
    Err(StoreError::Broken { reason }.into())
}

/// Whether somebody else is at it, so that trying again will do.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Whether a commit that failed so may be found done after all when the machine fails and comes back.
pub(super) fn is_ambiguous(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::SystemIoFailure))
}

fn explain(path: &Path, tried: &str, error: &rusqlite::Error) -> StoreError {
    let is_about_access = matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen)
    );
    if let Some(reason) = is_about_access.then(|| permissions::denied(path)).flatten() {
        return StoreError::Refused { reason };
    }
    let path = path.display();
    let unavailable = |what: String| StoreError::Unavailable { reason: what };
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            unavailable(format!("cannot {tried} `{path}`: other processes hold it locked"))
        }
        Some(ErrorCode::DiskFull) => unavailable(format!("cannot {tried} `{path}`: the disk is full")),
        Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied) => {
            unavailable(format!("cannot {tried} `{path}`: it or its folder is read-only for us"))
        }
        Some(ErrorCode::CannotOpen) => {
            unavailable(format!("cannot {tried} `{path}`: it, or files beside it, cannot be made or opened"))
        }
        Some(ErrorCode::NotADatabase) => StoreError::Broken { reason: format!("`{path}` is not a SQLite database") },
        Some(ErrorCode::DatabaseCorrupt) => StoreError::Broken { reason: format!("cannot {tried} `{path}`: {error}") },
        Some(_) | None => unavailable(format!("cannot {tried} `{path}`: {error}")),
    }
}
