//! Processes on the file that have been killed: found by their liveness files, before their sessions time out.

use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use std::{fs, io};

use rusqlite::{Connection, params};

use super::permissions::{self, SETGID};
use crate::store::process_liveness::{self, Life};

/// How often a process that waits for others looks whether they live.
const BETWEEN_LOOKS: Duration = Duration::from_millis(200);

/// How many processes one look is at: the next look is at the next ones. Where many wait, each looks.
const MOST_AT_ONCE: usize = 32;

/// How old a file of a dead process without sessions is when it is deleted.
const LITTER: Duration = Duration::from_secs(60);

/// The bits that let a group enter a folder and make files in it, and use a file.
const FOLDER_OF_OWNER: u32 = 0o700;
const FOLDER_OF_GROUP: u32 = 0o770 | SETGID;
const FILE_OF_OWNER: u32 = 0o600;
const FILE_OF_GROUP: u32 = 0o660;

/// The liveness files beside one store.
#[derive(Debug)]
pub(super) struct Lives {
    folder: PathBuf,
    process: i64,
    /// Ours. `None` without a session, or where none can be made: then our sessions end by their time-outs only.
    own: Option<Life>,
    looked: Option<Instant>,
    /// The process after which the next look begins.
    after: i64,
}

impl Lives {
    pub(super) fn new(store: &Path, process: i64) -> Self {
        Self { folder: permissions::beside(store, "-alive"), process, own: None, looked: None, after: i64::MIN }
    }

    /// Makes the file of this process if it has none, before a session is opened.
    pub(super) fn begin(&mut self, store: &Path) {
        if self.own.is_none() {
            let made = make(store, &self.folder);
            self.own = made.and_then(|mode| Life::begin(file(&self.folder, self.process), mode)).ok();
        }
    }

    /// Deletes it when the last session is closed, unless a command still runs that had to end with this process.
    pub(super) fn end(&mut self) {
        if self.own.as_ref().is_some_and(Life::is_free) {
            self.own = None;
        }
    }

    /// When a process that waits looks next.
    pub(super) fn due_in(&self) -> Duration {
        self.looked.map_or(Duration::ZERO, |looked| BETWEEN_LOOKS.saturating_sub(looked.elapsed()))
    }

    /// The processes with sessions that have ended, of this boot and other than ours: some are looked at each time, or all of
    /// them.
    pub(super) fn dead(
        &mut self,
        connection: &Connection,
        boot_clock: &str,
        scope: Scope,
    ) -> Result<Vec<i64>, rusqlite::Error> {
        self.looked = Some(Instant::now());
        let mut statement = connection.prepare_cached(
            "SELECT DISTINCT process FROM sessions WHERE process <> ?1 AND boot = ?2 ORDER BY process",
        )?;
        let all = statement
            .query_map(params![self.process, boot_clock], |row| row.get(0))?
            .collect::<Result<Vec<i64>, _>>()?;
        let some = match scope {
            Scope::All => all,
            Scope::Some => {
                let start = all.partition_point(|other| *other <= self.after);
                let turned: Vec<i64> = all[start..].iter().chain(&all[..start]).copied().take(MOST_AT_ONCE).collect();
                self.after = turned.last().copied().unwrap_or(i64::MIN);
                turned
            }
        };
        Ok(some.into_iter().filter(|other| process_liveness::is_dead(&file(&self.folder, *other))).collect())
    }

    /// Deletes the file of a dead process, whose sessions are gone.
    pub(super) fn bury(&self, process: i64) {
        // Another process was first, or it stays until the next one tidies up.
        let _ = fs::remove_file(file(&self.folder, process));
    }

    /// Deletes what killed processes have left that have no session any more.
    pub(super) fn tidy(&self, connection: &Connection) -> Result<(), rusqlite::Error> {
        let mut statement = connection.prepare_cached("SELECT 1 FROM sessions WHERE process = ?1")?;
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            let is_old = entry
                .metadata()
                .and_then(|metadata| metadata.modified())
                .is_ok_and(|modified| SystemTime::now().duration_since(modified).is_ok_and(|age| age > LITTER));
            let process = entry.file_name().to_str().and_then(|name| u64::from_str_radix(name, 16).ok());
            if let Some(process) = process.filter(|_| is_old)
                && process_liveness::is_dead(&entry.path())
                && !statement.exists([process.cast_signed()])?
            {
                self.bury(process.cast_signed());
            }
        }
        Ok(())
    }
}

/// Which processes a look is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    Some,
}

fn file(folder: &Path, process: i64) -> PathBuf {
    folder.join(format!("{:016x}", process.cast_unsigned()))
}

/// Makes the folder; gives the mode of the files in it.
fn make(store: &Path, folder: &Path) -> io::Result<u32> {
    let is_shared = permissions::is_shared(&fs::metadata(permissions::folder(store))?);
    let mode = if is_shared { FOLDER_OF_GROUP } else { FOLDER_OF_OWNER };
    match fs::DirBuilder::new().mode(mode).create(folder) {
        Ok(()) if is_shared => {
            // Whatever the umask is.
            fs::set_permissions(folder, fs::Permissions::from_mode(mode))?;
        }
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            // `chmod 660 FILE*`, by which a file joins a group, leaves a folder that no account may enter.
            let found = fs::metadata(folder)?.permissions().mode() & 0o7777;
            let right = found | (found & 0o444) >> 2 | if is_shared { SETGID } else { 0 };
            if right != found {
                // Another account's folder is as it is.
                let _ = fs::set_permissions(folder, fs::Permissions::from_mode(right));
            }
        }
        Err(error) => return Err(error),
    }
    Ok(if is_shared { FILE_OF_GROUP } else { FILE_OF_OWNER })
}
