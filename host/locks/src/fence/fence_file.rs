//! The fence file on disk, and the locks beside it.
//!
//! `F.lock` is held while the file is read and changed. A guard holds `F.running` from before its attempt is accepted
//! until its outcome is recorded, and the process that leads the command's group holds `F.command`. A lock ends with
//! its process, however that ends. Only if both were killed at once is the group, whose number is in `F.command`,
//! looked up among the processes.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::{Pid, getpgrp, getpid};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::{Instant, sleep};

use super::accepted::{AcceptedFences, Incoherent, Liveness, Outcome};
use super::process::{Process, boot_id};
use crate::process::process_group;
use lockkeeper_coordination::files;

/// Longest wait for `F.lock`, which is held for one write to the disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// Interval between attempts at a lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(10);

/// More than the records of [`super::KEPT`] attempts need: a longer file is not a fence file.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Why a fence file cannot be used.
#[derive(Debug, Error)]
pub enum FenceFileError {
    /// Its folder does not exist.
    #[error("there is no folder `{}` for a fence file", .0.display())]
    NoFolder(PathBuf),
    /// Something other than a file has its path.
    #[error("`{}` is {what}, not a fence file", .path.display())]
    NoFile {
        /// Path of the fence file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The system refused an operation.
    #[error("cannot {operation} `{}`", .path.display())]
    Io {
        /// The operation, as a verb.
        operation: &'static str,
        /// Path of the file in question.
        path: PathBuf,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// The content has another format.
    #[error("`{}` is not a fence file, or is damaged", .path.display())]
    Shape {
        /// Path of the fence file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The content contradicts itself.
    #[error("`{}` is inconsistent", .path.display())]
    Incoherent {
        /// Path of the fence file.
        path: PathBuf,
        /// The contradiction.
        #[source]
        source: Incoherent,
    },
    /// Another process does not release its lock.
    #[error("another process has held `{}` for {}", .0.display(), humantime::format_duration(PATIENCE))]
    Locked(PathBuf),
}

/// The path of a fence file.
#[derive(Debug, Clone)]
pub struct FenceFile {
    path: PathBuf,
}

/// A fence file that no other process can change.
#[derive(Debug)]
pub struct Locked {
    file: FenceFile,
    accepted: AcceptedFences,
    /// `None` if the fence file was never used and is only read.
    _lock: Option<File>,
}

/// The right to run a command; it ends on drop, or with the process.
#[derive(Debug)]
pub struct Hold {
    _lock: File,
}

/// The lock of the process that leads a command's group; the file also receives the command's outcome.
#[derive(Debug)]
pub struct CommandLock {
    file: File,
}

/// The content of `F.command`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CommandState {
    /// A group that is running, unless its lock is free and it is gone.
    #[serde(alias = "runs")]
    Running { leader: Process, boot: Option<String> },
    /// How the command ended.
    Ended(Outcome),
}

impl FenceFile {
    /// Resolves the path; two names of one file become the same.
    ///
    /// # Errors
    /// If no fence file can be at this path.
    pub fn new(path: &Path) -> Result<Self, FenceFileError> {
        let no = |what| Err(FenceFileError::NoFile { path: path.to_owned(), what });
        let failed = |source| FenceFileError::Io { operation: "read", path: path.to_owned(), source };
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some(name) = path.file_name() else { return no("not a file name") };
                // The file may have been created meanwhile by another first guard.
                if path.symlink_metadata().is_ok_and(|is| is.is_symlink()) {
                    return no("a dangling link");
                }
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                match fs::canonicalize(folder) {
                    Ok(folder) => folder.join(name),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(FenceFileError::NoFolder(folder.to_owned()));
                    }
                    Err(error) => return Err(failed(error)),
                }
            }
            Err(error) => return Err(failed(error)),
        };
        match path.metadata() {
            Ok(is) if is.is_dir() => return no("a folder"),
            Ok(is) if !is.is_file() => return no("a device or a pipe"),
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        Ok(Self { path })
    }

    /// The resolved path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that the process leading the command's group locks.
    #[must_use]
    pub fn command_lock(&self) -> PathBuf {
        self.with_suffix("command")
    }

    /// The process group of a command, if its guard left no outcome and something of it is alive.
    #[must_use]
    pub fn group(&self) -> Option<Pid> {
        let Some(CommandState::Running { leader, boot: of }) = word(&self.command_lock()) else { return None };
        let number = Pid::from_raw(leader.pid);
        // A number is not reused while a group has it: if it was reused, that group is gone.
        let is_ours = leader.pid > 1 && of == boot_id() && !leader.is_replaced();
        (is_ours && !process_group::is_gone(number)).then_some(number)
    }

    fn with_suffix(&self, ending: &str) -> PathBuf {
        let mut path: OsString = self.path.clone().into();
        path.push(".");
        path.push(ending);
        path.into()
    }

    /// Locks the file for a change; waits for other processes.
    ///
    /// # Errors
    /// If it cannot be read, is inconsistent, or files beside it cannot be written.
    pub async fn lock(&self) -> Result<Locked, FenceFileError> {
        let path = self.with_suffix("lock");
        let lock =
            open(&path).map_err(|source| FenceFileError::Io { operation: "write to", path: path.clone(), source })?;
        lock_with_timeout(&path, || lock.try_lock()).await?;
        self.read(Some(lock))
    }

    /// Reads the file; creates nothing, and needs only permission to read.
    ///
    /// # Errors
    /// If it cannot be read or is inconsistent.
    pub async fn read_only(&self) -> Result<Locked, FenceFileError> {
        let path = self.with_suffix("lock");
        match files::open(&path) {
            Ok(lock) => {
                lock_with_timeout(&path, || lock.try_lock_shared()).await?;
                self.read(Some(lock))
            }
            // The file is replaced as a whole, so it is read as a whole, or not at all.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.read(None),
            Err(source) => Err(FenceFileError::Io { operation: "read", path, source }),
        }
    }

    fn read(&self, lock: Option<File>) -> Result<Locked, FenceFileError> {
        let failed = |source| FenceFileError::Io { operation: "read", path: self.path.clone(), source };
        let accepted = match files::open(&self.path) {
            Ok(file) => {
                let mut text = Vec::new();
                file.take(MAX_BYTES).read_to_end(&mut text).map_err(failed)?;
                self.parse(&text)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => AcceptedFences::default(),
            Err(error) => return Err(failed(error)),
        };
        Ok(Locked { file: self.clone(), accepted, _lock: lock })
    }

    fn parse(&self, text: &[u8]) -> Result<AcceptedFences, FenceFileError> {
        /// The part that every version has.
        #[derive(serde::Deserialize)]
        struct Versioned {
            version: u32,
        }
        let shape = |source| FenceFileError::Shape { path: self.path.clone(), source };
        let incoherent = |source| FenceFileError::Incoherent { path: self.path.clone(), source };
        let Versioned { version } = serde_json::from_slice(text).map_err(shape)?;
        AcceptedFences::knows(version).map_err(incoherent)?;
        let accepted: AcceptedFences = serde_json::from_slice(text).map_err(shape)?;
        accepted.check().map_err(incoherent)?;
        Ok(accepted)
    }
}

impl Locked {
    /// The content.
    #[must_use]
    pub fn accepted(&self) -> &AcceptedFences {
        &self.accepted
    }

    /// Replaces the content. It survives a power failure once this has returned.
    ///
    /// # Errors
    /// If it cannot be written; the old or the new content is on the disk.
    pub fn write(&mut self, accepted: AcceptedFences) -> Result<(), FenceFileError> {
        let path = &self.file.path;
        let new = self.file.with_suffix("new");
        let failed = |source| FenceFileError::Io { operation: "write to", path: path.clone(), source };
        let mut text = serde_json::to_vec_pretty(&accepted).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let kept = (|| {
            // Left by a crash; it is deleted, not overwritten.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).open(&new)?;
            if let Ok(before) = path.metadata() {
                file.set_permissions(before.permissions())?;
            }
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, path)?;
            File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
        })();
        kept.map_err(failed)?;
        self.accepted = accepted;
        Ok(())
    }

    /// Takes the right to run a command. `None` if another process holds it.
    ///
    /// # Errors
    /// If files beside the fence file cannot be written.
    pub fn hold(&self) -> Result<Option<Hold>, FenceFileError> {
        let (running, command) = (self.file.with_suffix("running"), self.file.command_lock());
        let Some(hold) = try_exclusively(&running)? else { return Ok(None) };
        // Left by a guard that was killed. Until this guard's command takes the lock no other process can, because this
        // process holds the other lock.
        let Some(left) = try_exclusively(&command)? else { return Ok(None) };
        if self.file.group().is_some() {
            return Ok(None);
        }
        left.set_len(0).map_err(|source| FenceFileError::Io { operation: "write to", path: command, source })?;
        Ok(Some(Hold { _lock: hold }))
    }

    /// Whether a process holds that right.
    ///
    /// # Errors
    /// If the locks cannot be read.
    pub fn liveness(&self) -> Result<Liveness, FenceFileError> {
        for path in [self.file.with_suffix("running"), self.file.command_lock()] {
            let failed = |source| FenceFileError::Io { operation: "read", path: path.clone(), source };
            match files::open(&path).map(|lock| lock.try_lock_shared()) {
                Ok(Ok(())) => {}
                Ok(Err(TryLockError::WouldBlock)) => return Ok(Liveness::Alive),
                Ok(Err(TryLockError::Error(error))) => return Err(failed(error)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(if self.file.group().is_some() { Liveness::Alive } else { Liveness::Free })
    }
}

impl CommandLock {
    /// Takes the lock for the group that this process leads. `None` if `is_wanted` says that the command is no longer
    /// wanted.
    ///
    /// # Errors
    /// If the lock cannot be taken at all.
    pub async fn take(path: &Path, is_wanted: impl Fn() -> bool) -> io::Result<Option<Self>> {
        let file = open(path)?;
        loop {
            // A reader holds it only for a moment.
            let taken = file.try_lock();
            if !is_wanted() {
                return Ok(None);
            }
            match taken {
                Ok(()) => {
                    let mut lock = Self { file };
                    if getpgrp() == getpid() {
                        lock.leave(&CommandState::Running { leader: Process::current(), boot: boot_id() })?;
                    }
                    return Ok(Some(lock));
                }
                Err(TryLockError::WouldBlock) => sleep(LOCK_INTERVAL).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Writes the command's outcome.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn report(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.leave(&CommandState::Ended(outcome.clone()))
    }

    fn leave(&mut self, word: &CommandState) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&serde_json::to_vec(word)?)
    }

    /// The outcome in the file, if there is one.
    #[must_use]
    pub fn reported(path: &Path) -> Option<Outcome> {
        match word(path)? {
            CommandState::Ended(outcome) => Some(outcome),
            CommandState::Running { .. } => None,
        }
    }
}

fn word(path: &Path) -> Option<CommandState> {
    serde_json::from_slice(&files::read(path, MAX_BYTES).ok()?).ok()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

async fn lock_with_timeout(path: &Path, attempt: impl Fn() -> Result<(), TryLockError>) -> Result<(), FenceFileError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(FenceFileError::Locked(path.to_owned()));
            }
            Err(TryLockError::WouldBlock) => sleep(LOCK_INTERVAL).await,
            Err(TryLockError::Error(source)) => {
                return Err(FenceFileError::Io { operation: "lock", path: path.to_owned(), source });
            }
        }
    }
}

fn try_exclusively(path: &Path) -> Result<Option<File>, FenceFileError> {
    let failed = |operation| move |source| FenceFileError::Io { operation, path: path.to_owned(), source };
    let file = open(path).map_err(failed("write to"))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed("lock")(error)),
    }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::super::accepted::{AcceptedAttempt, AttemptId, Ended};
    use super::super::{Answer, Process};
    use super::*;

    const ATTEMPT_ID: AttemptId = AttemptId { fence: 7, attempt: 2 };

    fn place() -> (TempDir, FenceFile) {
        let folder = TempDir::new().unwrap();
        let file = FenceFile::new(&folder.path().join("token")).unwrap();
        (folder, file)
    }

    fn attempt() -> AcceptedAttempt {
        AcceptedAttempt {
            attempt_id: ATTEMPT_ID,
            run: Some("nightly-1".to_owned()),
            target: None,
            program: "true".to_owned(),
            guard: Process::current(),
            started: jiff::Timestamp::UNIX_EPOCH,
            stopped_for: None,
            ended: None,
        }
    }

    /// A process that another test starts inherits the locks between fork and exec, so a released lock may become free
    /// a little later.
    async fn soon(mut so: impl AsyncFnMut() -> bool) {
        let free = async {
            while !so().await {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), free).await.expect("it is free soon");
    }

    #[tokio::test]
    async fn written_content_is_read_back() {
        let (folder, file) = place();
        let mut locked = file.lock().await.unwrap();
        let mut accepted = locked.accepted().clone();
        let ended = Ended { at: jiff::Timestamp::UNIX_EPOCH, how: Outcome::Signal("SIGTERM".to_owned()) };
        accepted.record(AcceptedAttempt { ended: Some(ended), ..attempt() });
        locked.write(accepted.clone()).unwrap();
        drop(locked);
        assert_eq!(*file.read_only().await.unwrap().accepted(), accepted);
        assert!(!folder.path().join("token.new").exists());
        let text = fs::read_to_string(folder.path().join("token")).unwrap();
        assert!(text.contains("\"version\": 1") && text.contains("SIGTERM"), "a person can read it: {text}");
    }

    #[tokio::test]
    async fn an_accepted_attempt_is_unknown_after_its_guard_dies() {
        let (_folder, file) = place();
        let mut locked = file.lock().await.unwrap();
        let hold = locked.hold().unwrap().unwrap();
        assert!(locked.hold().unwrap().is_none(), "there is one");
        let mut accepted = locked.accepted().clone();
        accepted.record(attempt());
        locked.write(accepted).unwrap();
        drop(locked);
        let answer = async || {
            let locked = file.read_only().await.unwrap();
            locked.accepted().answer(ATTEMPT_ID, locked.liveness().unwrap())
        };
        assert_eq!(answer().await, Answer::Running(attempt()));
        drop(hold);
        soon(async || answer().await == Answer::Unknown(Some(attempt()))).await;
    }

    #[tokio::test]
    async fn a_command_that_outlives_its_guard_keeps_others_out() {
        let (_folder, file) = place();
        let locked = file.lock().await.unwrap();
        drop(locked.hold().unwrap().unwrap());
        let mut command = CommandLock::take(&file.command_lock(), || true).await.unwrap().unwrap();
        assert!(locked.hold().unwrap().is_none());
        assert_eq!(locked.liveness().unwrap(), Liveness::Alive);
        assert_eq!(CommandLock::reported(&file.command_lock()), None);
        command.report(&Outcome::Exit(300)).unwrap();
        command.report(&Outcome::Exit(3)).unwrap();
        assert_eq!(CommandLock::reported(&file.command_lock()), Some(Outcome::Exit(3)));
        assert!(CommandLock::take(&file.command_lock(), || false).await.unwrap().is_none(), "no process waits for it");
        drop(command);
        soon(async || locked.hold().unwrap().is_some()).await;
        assert_eq!(CommandLock::reported(&file.command_lock()), None, "that was the one before");
    }

    #[tokio::test]
    async fn a_group_that_outlives_its_leader_and_its_guard_keeps_others_out() {
        use std::os::unix::process::CommandExt;

        let (_folder, file) = place();
        let locked = file.lock().await.unwrap();
        drop(locked.hold().unwrap().unwrap());
        let mut child = std::process::Command::new("sleep").arg("1000").process_group(0).spawn().unwrap();
        let leader = Process::with_pid(i32::try_from(child.id()).unwrap());
        let leave = |leader, boot| {
            let mut lock = CommandLock { file: open(&file.command_lock()).unwrap() };
            lock.leave(&CommandState::Running { leader, boot }).unwrap();
        };
        leave(leader, boot_id());
        assert_eq!(file.group(), Some(Pid::from_raw(leader.pid)));
        assert!(locked.hold().unwrap().is_none());
        assert_eq!(locked.liveness().unwrap(), Liveness::Alive);
        leave(leader, Some("another".to_owned()));
        assert_eq!(file.group(), None, "before a reboot");
        leave(Process { started: Some(1), ..leader }, boot_id());
        assert_eq!(file.group(), None, "another has the number");
        leave(leader, boot_id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(file.group(), None);
        soon(async || locked.hold().unwrap().is_some()).await;
    }

    #[tokio::test]
    async fn reading_creates_no_files() {
        let (folder, file) = place();
        assert_eq!(file.read_only().await.unwrap().liveness().unwrap(), Liveness::Free);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_for_a_lock_ends() {
        let (_folder, file) = place();
        let _locked = file.lock().await.unwrap();
        assert!(matches!(file.lock().await, Err(FenceFileError::Locked(_))));
        assert!(matches!(file.read_only().await, Err(FenceFileError::Locked(_))));
    }

    #[test]
    fn two_names_of_one_file_are_the_same() {
        let folder = TempDir::new().unwrap();
        fs::write(folder.path().join("token"), "").unwrap();
        std::os::unix::fs::symlink("token", folder.path().join("link")).unwrap();
        std::os::unix::fs::symlink("nowhere", folder.path().join("loose")).unwrap();
        let at = |name| FenceFile::new(&folder.path().join(name));
        assert_eq!(at("link").unwrap().path(), at("token").unwrap().path());
        assert!(matches!(at("loose"), Err(FenceFileError::NoFile { .. })));
        assert!(matches!(at(""), Err(FenceFileError::NoFile { what: "a folder", .. })));
        assert!(matches!(at("no/token"), Err(FenceFileError::NoFolder(_))));
        assert!(matches!(FenceFile::new(Path::new("/dev/null")), Err(FenceFileError::NoFile { .. })));
    }

    #[tokio::test]
    async fn a_damaged_file_is_refused() {
        let (folder, file) = place();
        for (text, what) in [
            ("", "damaged"),
            ("{", "damaged"),
            ("null", "damaged"),
            (r#"{"version":1}"#, "damaged"),
            (r#"{"version":1,"least":{"fence":1,"attempt":1},"attempts":[],"more":1}"#, "damaged"),
            (r#"{"version":1,"least":{"fence":-1,"attempt":1},"attempts":[]}"#, "damaged"),
            (r#"{"version":1,"least":{"fence":0,"attempt":1},"attempts":[]}"#, "inconsistent"),
            (r#"{"version":3,"more":1}"#, "inconsistent"),
        ] {
            fs::write(folder.path().join("token"), text).unwrap();
            let error = file.read_only().await.unwrap_err();
            assert!(error.to_string().contains(what), "{text}: {error}");
            assert!(file.lock().await.is_err(), "{text}");
        }
    }
}
