//! The fence file: a ledger on disk, and the locks beside it.
//!
//! `F.lock` is held while the ledger is read and changed. `F.running` is held by a guard from before its token is accepted
//! until its outcome is recorded, and `F.command` by the process that leads the command's group. A lock ends with the process
//! that holds it, whatever becomes of it. Only when both were killed at once is the group, whose number stands in
//! `F.command`, looked for among the processes.

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
use super::process::{Process, boot_clock};
use crate::rollout::exec::process_group;
use lockkeeper_coordination::files;

/// How long `F.lock` is waited for: it is held for one write to the disk.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often a lock is tried that another holds.
const LOOK: Duration = Duration::from_millis(10);

/// More than [`super::KEPT`] attempts can come to: what is longer is no fence file.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// Why a fence file cannot be used.
#[derive(Debug, Error)]
pub enum FenceFileError {
    /// It is not there, and cannot be made there.
    #[error("there is no folder `{}` for a fence file", .0.display())]
    NoFolder(PathBuf),
    /// There is something else in its place.
    #[error("`{}` is {what}, not a fence file", .path.display())]
    NoFile {
        /// The fence file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The system refused.
    #[error("cannot {command_kind} `{}`", .path.display())]
    Io {
        /// What was tried.
        command_kind: &'static str,
        /// With what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It is not in the shape of a fence file.
    #[error("`{}` is no fence file, or is damaged", .path.display())]
    Shape {
        /// The fence file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// It contradicts itself.
    #[error("`{}` cannot be relied on", .path.display())]
    Incoherent {
        /// The fence file.
        path: PathBuf,
        /// How.
        #[source]
        source: Incoherent,
    },
    /// Somebody does not give its lock back.
    #[error("another process has held `{}` for {}", .0.display(), humantime::format_duration(PATIENCE))]
    Locked(PathBuf),
}

/// Where a ledger is kept.
#[derive(Debug, Clone)]
pub struct FenceFile {
    path: PathBuf,
}

/// The ledger while nobody else can change it.
#[derive(Debug)]
pub struct Locked {
    file: FenceFile,
    accepted: AcceptedFences,
    /// None: nobody has ever used the fence file, and we only look.
    _lock: Option<File>,
}

/// The right to run a command; it ends when this is dropped, or with the process.
#[derive(Debug)]
pub struct Hold {
    _lock: File,
}

/// What the process that leads a command's group holds, and where it leaves word how the command ended.
#[derive(Debug)]
pub struct CommandLock {
    file: File,
}

/// What stands in `F.command`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Word {
    /// A group that runs, unless its lock is free and it is gone.
    Runs { leader: Process, boot_clock: Option<String> },
    /// How it ended.
    Ended(Outcome),
}

impl FenceFile {
    /// A fence file; two names of one file come to the same.
    ///
    /// # Errors
    /// Where none can be.
    pub fn new(path: &Path) -> Result<Self, FenceFileError> {
        let no = |what| Err(FenceFileError::NoFile { path: path.to_owned(), what });
        let failed = |source| FenceFileError::Io { command_kind: "look at", path: path.to_owned(), source };
        let path = match fs::canonicalize(path) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let Some(name) = path.file_name() else { return no("no name of a file") };
                // A file may have come to be there meanwhile: another guard is the first, too.
                if path.symlink_metadata().is_ok_and(|is| is.is_symlink()) {
                    return no("a link that leads nowhere");
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

    /// The path that all its names lead to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the process that leads the command's group locks.
    #[must_use]
    pub fn command_lock(&self) -> PathBuf {
        self.beside("command")
    }

    /// The process group that a command runs in, if its guard left no word of its end and something of it lives.
    #[must_use]
    pub fn group(&self) -> Option<Pid> {
        let Some(Word::Runs { leader, boot_clock: of }) = word(&self.command_lock()) else { return None };
        let number = Pid::from_raw(leader.pid);
        // A number is not given anew while a group has it: if it was, that group is gone.
        let is_ours = leader.pid > 1 && of == boot_clock() && !leader.is_succeeded();
        (is_ours && !process_group::is_gone(number)).then_some(number)
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut path: OsString = self.path.clone().into();
        path.push(".");
        path.push(ending);
        path.into()
    }

    /// The ledger, to be changed: waits for whoever is at it.
    ///
    /// # Errors
    /// When it cannot be read or is not to be relied on, or nobody can write beside it.
    pub async fn lock(&self) -> Result<Locked, FenceFileError> {
        let path = self.beside("lock");
        let lock = open(&path).map_err(|source| FenceFileError::Io {
            command_kind: "write to",
            path: path.clone(),
            source,
        })?;
        patiently(&path, || lock.try_lock()).await?;
        self.read(Some(lock))
    }

    /// The ledger, to be looked at: nothing is made, and reading it is all that must be allowed.
    ///
    /// # Errors
    /// When it cannot be read or is not to be relied on.
    pub async fn look(&self) -> Result<Locked, FenceFileError> {
        let path = self.beside("lock");
        match files::open(&path) {
            Ok(lock) => {
                patiently(&path, || lock.try_lock_shared()).await?;
                self.read(Some(lock))
            }
            // A copy, or nothing at all: it is replaced as a whole, and so read as a whole.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.read(None),
            Err(source) => Err(FenceFileError::Io { command_kind: "read", path, source }),
        }
    }

    fn read(&self, lock: Option<File>) -> Result<Locked, FenceFileError> {
        let failed = |source| FenceFileError::Io { command_kind: "read", path: self.path.clone(), source };
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
        /// What every version has.
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
    /// What is remembered.
    #[must_use]
    pub fn accepted(&self) -> &AcceptedFences {
        &self.accepted
    }

    /// Remembers this instead. When it returns, that outlives a power failure.
    ///
    /// # Errors
    /// When it cannot be written: then the one before may still be there, or this one.
    pub fn keep(&mut self, accepted: AcceptedFences) -> Result<(), FenceFileError> {
        let path = &self.file.path;
        let new = self.file.beside("new");
        let failed = |source| FenceFileError::Io { command_kind: "write to", path: path.clone(), source };
        let mut text = serde_json::to_vec_pretty(&accepted).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        let kept = (|| {
            // What a crash left; whatever it is, it is not written to.
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

    /// The right to run a command, if nobody has it.
    ///
    /// # Errors
    /// When nobody can write beside the fence file.
    pub fn hold(&self) -> Result<Option<Hold>, FenceFileError> {
        let (running, command) = (self.file.beside("running"), self.file.command_lock());
        let Some(hold) = try_exclusively(&running)? else { return Ok(None) };
        // What is left of a guard that was killed. Until its own command takes this lock nobody else can: we hold the other.
        let Some(left) = try_exclusively(&command)? else { return Ok(None) };
        if self.file.group().is_some() {
            return Ok(None);
        }
        left.set_len(0).map_err(|source| FenceFileError::Io { command_kind: "write to", path: command, source })?;
        Ok(Some(Hold { _lock: hold }))
    }

    /// Whether somebody has that right.
    ///
    /// # Errors
    /// When that cannot be seen.
    pub fn liveness(&self) -> Result<Liveness, FenceFileError> {
        for path in [self.file.beside("running"), self.file.command_lock()] {
            let failed = |source| FenceFileError::Io { command_kind: "read", path: path.clone(), source };
            match files::open(&path).map(|lock| lock.try_lock_shared()) {
                Ok(Ok(())) => {}
                Ok(Err(TryLockError::WouldBlock)) => return Ok(Liveness::Alive),
                Ok(Err(TryLockError::Error(error))) => return Err(failed(error)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(if self.file.group().is_some() { Liveness::Alive } else { Liveness::Nobody })
    }
}

impl CommandLock {
    /// Takes it for the group that we lead, unless nobody waits for our command any more.
    ///
    /// # Errors
    /// When it cannot be had at all.
    pub async fn take(path: &Path, is_wanted: impl Fn() -> bool) -> io::Result<Option<Self>> {
        let file = open(path)?;
        loop {
            // Who only looks holds it for a moment.
            let taken = file.try_lock();
            if !is_wanted() {
                return Ok(None);
            }
            match taken {
                Ok(()) => {
                    let mut lock = Self { file };
                    if getpgrp() == getpid() {
                        lock.leave(&Word::Runs { leader: Process::current(), boot_clock: boot_clock() })?;
                    }
                    return Ok(Some(lock));
                }
                Err(TryLockError::WouldBlock) => sleep(LOOK).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Leaves word how the command ended.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn report(&mut self, outcome: &Outcome) -> io::Result<()> {
        self.leave(&Word::Ended(outcome.clone()))
    }

    fn leave(&mut self, word: &Word) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.file.write_all(&serde_json::to_vec(word)?)
    }

    /// The word that was left, if one was.
    #[must_use]
    pub fn reported(path: &Path) -> Option<Outcome> {
        match word(path)? {
            Word::Ended(outcome) => Some(outcome),
            Word::Runs { .. } => None,
        }
    }
}

fn word(path: &Path) -> Option<Word> {
    serde_json::from_slice(&files::read(path, MAX_BYTES).ok()?).ok()
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

async fn patiently(path: &Path, attempt: impl Fn() -> Result<(), TryLockError>) -> Result<(), FenceFileError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match attempt() {
            Ok(()) => return Ok(()),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                return Err(FenceFileError::Locked(path.to_owned()));
            }
            Err(TryLockError::WouldBlock) => sleep(LOOK).await,
            Err(TryLockError::Error(source)) => {
                return Err(FenceFileError::Io { command_kind: "lock", path: path.to_owned(), source });
            }
        }
    }
}

fn try_exclusively(path: &Path) -> Result<Option<File>, FenceFileError> {
    let failed = |command_kind| move |source| FenceFileError::Io { command_kind, path: path.to_owned(), source };
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

    /// A process that another test starts has our locks, too, from its fork to its exec: what was let go of is free soon.
    async fn soon(mut so: impl AsyncFnMut() -> bool) {
        let free = async {
            while !so().await {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(30), free).await.expect("it is free soon");
    }

    #[tokio::test]
    async fn what_was_kept_is_read_again() {
        let (folder, file) = place();
        let mut locked = file.lock().await.unwrap();
        let mut accepted = locked.accepted().clone();
        let ended = Ended { at: jiff::Timestamp::UNIX_EPOCH, how: Outcome::Signal("SIGTERM".to_owned()) };
        accepted.record(AcceptedAttempt { ended: Some(ended), ..attempt() });
        locked.keep(accepted.clone()).unwrap();
        drop(locked);
        assert_eq!(*file.look().await.unwrap().accepted(), accepted);
        assert!(!folder.path().join("token.new").exists());
        let text = fs::read_to_string(folder.path().join("token")).unwrap();
        assert!(text.contains("\"version\": 1") && text.contains("SIGTERM"), "a person can read it: {text}");
    }

    #[tokio::test]
    async fn who_dies_after_acceptance_is_alive_until_then_and_unknown_after() {
        let (_folder, file) = place();
        let mut locked = file.lock().await.unwrap();
        let hold = locked.hold().unwrap().unwrap();
        assert!(locked.hold().unwrap().is_none(), "there is one");
        let mut accepted = locked.accepted().clone();
        accepted.record(attempt());
        locked.keep(accepted).unwrap();
        drop(locked);
        let answer = async || {
            let locked = file.look().await.unwrap();
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
        assert!(CommandLock::take(&file.command_lock(), || false).await.unwrap().is_none(), "nobody waits for it");
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
        let leave = |leader, boot_clock| {
            let mut lock = CommandLock { file: open(&file.command_lock()).unwrap() };
            lock.leave(&Word::Runs { leader, boot_clock }).unwrap();
        };
        leave(leader, boot_clock());
        assert_eq!(file.group(), Some(Pid::from_raw(leader.pid)));
        assert!(locked.hold().unwrap().is_none());
        assert_eq!(locked.liveness().unwrap(), Liveness::Alive);
        leave(leader, Some("another".to_owned()));
        assert_eq!(file.group(), None, "before a reboot");
        leave(Process { started: Some(1), ..leader }, boot_clock());
        assert_eq!(file.group(), None, "another has the number");
        leave(leader, boot_clock());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(file.group(), None);
        soon(async || locked.hold().unwrap().is_some()).await;
    }

    #[tokio::test]
    async fn whoever_only_looks_leaves_no_trace() {
        let (folder, file) = place();
        assert_eq!(file.look().await.unwrap().liveness().unwrap(), Liveness::Nobody);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_that_is_not_given_back_is_no_reason_to_wait_for_ever() {
        let (_folder, file) = place();
        let _locked = file.lock().await.unwrap();
        assert!(matches!(file.lock().await, Err(FenceFileError::Locked(_))));
        assert!(matches!(file.look().await, Err(FenceFileError::Locked(_))));
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
    async fn what_is_damaged_is_not_relied_on() {
        let (folder, file) = place();
        for (text, what) in [
            ("", "damaged"),
            ("{", "damaged"),
            ("null", "damaged"),
            (r#"{"version":1}"#, "damaged"),
            (r#"{"version":1,"least":{"fence":1,"attempt":1},"attempts":[],"more":1}"#, "damaged"),
            (r#"{"version":1,"least":{"fence":-1,"attempt":1},"attempts":[]}"#, "damaged"),
            (r#"{"version":1,"least":{"fence":0,"attempt":1},"attempts":[]}"#, "relied on"),
            (r#"{"version":3,"more":1}"#, "relied on"),
        ] {
            fs::write(folder.path().join("token"), text).unwrap();
            let error = file.look().await.unwrap_err();
            assert!(error.to_string().contains(what), "{text}: {error}");
            assert!(file.lock().await.is_err(), "{text}");
        }
    }
}
