//! The test harness: the built binaries with a state folder of their own, real ZooKeeper servers behind a bad network,
//! a real sshd, real kazoo and Salt, and waiting for conditions.

pub mod crashing;
pub mod fuzz;
mod ports;
pub mod proxy;
pub mod python;
pub mod runs;
pub mod sshd;
pub mod txnlog;
pub mod zookeeper;

use std::env;
use std::ffi::OsStr;
use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a condition is waited for before a test fails: far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Interval between checks of a condition.
const LOOK: Duration = Duration::from_millis(5);

/// The repository's folder.
///
/// # Panics
/// Never: this crate is in the repository.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is in the repository").to_owned()
}

/// Cargo's target folder.
///
/// # Panics
/// Never in a test.
#[must_use]
pub fn target_dir() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own binary");
    test.ancestors().nth(3).expect("tests are in `deps` of a profile's folder").to_owned()
}

/// Folder of the binaries; builds them if they are out of date.
///
/// # Panics
/// If they cannot be built.
pub fn binaries() -> &'static Path {
    static BINARIES: OnceLock<PathBuf> = OnceLock::new();
    BINARIES.get_or_init(|| {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo).args(["build", "--quiet", "--workspace"]).current_dir(root()).status();
        assert!(built.is_ok_and(|status| status.success()), "the binaries can be built");
        let test = env::current_exe().expect("a test knows its own binary");
        test.ancestors().nth(2).expect("tests are in `deps`, beside the binaries").to_owned()
    })
}

/// A state folder for one test, and commands that use it.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// The result of a command, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// The exit code. `None` if a signal ended the command.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl World {
    /// An empty state folder.
    ///
    /// # Panics
    /// If no temporary folder can be created.
    #[must_use]
    pub fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    /// The folder, for the test's own files.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file in the folder.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, text).expect("a file in our own folder");
        path
    }

    /// A command of one of the built binaries, with this state folder.
    #[must_use]
    pub fn command(&self, binary: &str) -> Command {
        let mut path = binaries().as_os_str().to_owned();
        if let Some(rest) = env::var_os("PATH") {
            path.push(":");
            path.push(rest);
        }
        let mut command = Command::new(binaries().join(binary));
        command.env("PATH", path).stdin(Stdio::null());
        let foreign = |name: &str| name.starts_with("LOCKKEEPER_") || ["NO_COLOR", "CLICOLOR_FORCE"].contains(&name);
        for inherited in env::vars_os().map(|(name, _)| name).filter(|name| name.to_str().is_some_and(foreign)) {
            command.env_remove(inherited);
        }
        command.env("LOCKKEEPER_STATE_DIR", self.folder().join("state"));
        // The machine's own configuration must not name a store for a test.
        command.env("LOCKKEEPER_SYSTEM_CONFIG", "/dev/null");
        command.env("XDG_CONFIG_HOME", self.folder().join("config"));
        command
    }

    /// `lockkeeper` with these arguments.
    #[must_use]
    pub fn lockkeeper<A: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.command("lockkeeper");
        command.args(arguments);
        command
    }

    /// Runs `lockkeeper` with these arguments, separated by spaces, to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &str) -> Said {
        said(&mut self.lockkeeper(arguments.split(' ')))
    }

    /// The value that `lockkeeper … --format json` prints.
    ///
    /// # Panics
    /// If it prints none.
    #[must_use]
    pub fn json(&self, arguments: &str) -> serde_json::Value {
        let said = self.run(&format!("{arguments} --format json"));
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{arguments}: {error}: {said:?}"))
    }

    /// The identifiers that hold a semaphore.
    ///
    /// # Panics
    /// If `holders` fails.
    #[must_use]
    pub fn holders(&self, path: &str) -> Vec<String> {
        let found = self.json(&format!("holders {path}"));
        let rows = found["holders"].as_array().expect("holders prints an object with its holders");
        rows.iter().map(|row| row["identifier"].as_str().expect("a holder has an identifier").to_owned()).collect()
    }
}

/// Runs a command to its end.
///
/// # Panics
/// If it cannot be started.
pub fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("the command can be started");
    Said {
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Reports why a test is skipped on this machine.
#[expect(clippy::print_stdout, reason = "what a test prints is shown with it")]
pub fn skipped(why: &str) {
    println!("skipped: {why}");
}

/// Waits until a condition holds.
///
/// # Panics
/// If it does not hold within a minute.
pub fn eventually(what: impl Debug, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what:?}");
        sleep(LOOK);
    }
}
