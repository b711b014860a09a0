//! Whether a process of this machine lives, as others see it by a file that it holds locked.
//!
//! The kernel frees the lock when the process ends, however it ends, and also if no parent has reaped it yet. So nothing is
//! guessed from a process id, which may be used anew and means another process in another container.
//!
//! A process that is killed may leave commands that have to end with it: their supervisors kill them, which takes some
//! milliseconds. The file therefore lists them: a line with `+` and an id is appended before such a command starts, and one
//! with `-` and the id once nothing of it runs any more, by its supervisor or by this process; twice does no harm. A process
//! counts as dead only if its lock is free and each `+` has its `-`. If a supervisor was killed as well, that never happens.
//!
//! # Limits
//! Whatever is not certain is answered "not known to be dead": a missing file, a lock that cannot be tried.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the lines begin with.
const STARTED: char = '+';
const ENDED: char = '-';

/// The variable by which a supervisor gets the id of its command.
pub const ID: &str = "LOCKKEEPER_DEPENDENT";

/// The files of this process.
static OURS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn ours() -> MutexGuard<'static, Vec<PathBuf>> {
    OURS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that is locked while this process lives. It is deleted when this is dropped.
#[derive(Debug)]
pub(crate) struct Life {
    path: PathBuf,
    _locked: File,
}

impl Life {
    /// Makes the file, which no other process may have made before, with that mode.
    pub(crate) fn begin(path: PathBuf, mode: u32) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).append(true).create_new(true).mode(mode).open(&path)?;
        let life = Self { path, _locked: file };
        // Whatever the umask is.
        life._locked.set_permissions(Permissions::from_mode(mode))?;
        life._locked.lock_shared()?;
        ours().push(life.path.clone());
        Ok(life)
    }

    /// Whether no command runs that has to end with this process.
    pub(crate) fn is_free(&self) -> bool {
        fs::read_to_string(&self.path).is_ok_and(|lines| is_balanced(&lines))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        ours().retain(|path| *path != self.path);
        // What stays is deleted by the next process that opens the store.
        let _ = fs::remove_file(&self.path);
    }
}

/// Whether the process that made the file has ended, and every command that had to end with it.
pub(crate) fn is_dead(path: &Path) -> bool {
    let Ok(mut file) = File::open(path) else { return false };
    // A shared lock of the living process is in the way; so is another process that looks at this moment.
    if file.try_lock().is_err() {
        return false;
    }
    let mut lines = String::new();
    file.read_to_string(&mut lines).is_ok() && is_balanced(&lines)
}

fn is_balanced(lines: &str) -> bool {
    let ended: HashSet<&str> = lines.lines().filter_map(|line| line.strip_prefix(ENDED)).collect();
    lines.lines().all(|line| line.starts_with(ENDED) || line.strip_prefix(STARTED).is_some_and(|id| ended.contains(id)))
}

/// Something that has to end with this process: until it has ended, this process does not count as dead.
#[derive(Debug)]
#[must_use = "until `ended` is called the death of this process is noticed late"]
pub struct Dependent {
    id: String,
    files: Vec<PathBuf>,
}

impl Dependent {
    /// To be called before it starts.
    pub fn starts() -> Self {
        let id = format!("{:016x}", rand::random::<u64>());
        let mut files = ours().clone();
        files.retain(|path| {
            let is_counted = mark(path, STARTED, &id).is_ok();
            if !is_counted {
                // Without its file this process is never taken for dead before its sessions time out.
                let _ = fs::remove_file(path);
            }
            is_counted
        });
        Self { id, files }
    }

    /// What tells it from others: for its supervisor, as [`ID`].
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The same as its supervisor knows it, which was given these [`files`] and the id.
    pub fn supervised(files: Vec<PathBuf>, id: String) -> Self {
        Self { id, files }
    }

    /// To be called when nothing of it runs any more.
    pub fn ended(self) {
        for path in &self.files {
            // Not counted, it delays what others see, and nothing more.
            let _ = mark(path, ENDED, &self.id);
        }
    }
}

/// The files in which a supervisor says that its command has ended, if this process is dead by then.
#[must_use]
pub fn files() -> Vec<PathBuf> {
    ours().clone()
}

/// One write, so that lines of several processes do not mix.
fn mark(path: &Path, mark: char, id: &str) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(format!("{mark}{id}\n").as_bytes())
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_process_is_dead_when_its_lock_is_free_and_its_commands_have_ended() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("life");
        assert!(!is_dead(&path), "of a process without a file nothing is known");
        let life = Life::begin(path.clone(), 0o600).unwrap();
        assert!(files().contains(&path));
        assert!(!is_dead(&path) && life.is_free());
        // As if it had been killed: the lock goes, and the file stays.
        let left = folder.path().join("left");
        for (lines, dead) in [
            ("", true),
            ("+a\n", false),
            ("+a\n-a\n+b\n", false),
            ("+a\n+b\n-a\n-a\n", false),
            ("+a\n+b\n-b\n-a\n-a\n", true),
            ("+a\n-a\nwhat\n", false),
        ] {
            fs::write(&left, lines).unwrap();
            assert_eq!(is_dead(&left), dead, "{lines:?}");
        }
        let dependent = Dependent { id: "a".to_owned(), files: vec![path.clone()] };
        mark(&path, STARTED, dependent.id()).unwrap();
        assert!(!life.is_free());
        Dependent::supervised(vec![path.clone()], "a".to_owned()).ended();
        assert!(life.is_free());
        dependent.ended();
        assert!(life.is_free(), "said by its supervisor and by this process");
        drop(life);
        assert!(!path.exists() && !files().contains(&path));
    }
}
