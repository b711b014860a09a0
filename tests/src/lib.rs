//! The harness: the built binaries in a world of their own, real ZooKeeper servers and a bad network before them, a real sshd, real kazoo
//! and Salt, and waiting for conditions.

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

/// How long a condition is waited for before a test fails: far beyond what anything takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// The repository's folder.
///
/// # Panics
/// Never: this crate is a folder of it.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("this crate is in the repository").to_owned()
}

/// Where cargo puts what it builds.
///
/// # Panics
/// Never in a test.
#[must_use]
pub fn target_dir() -> PathBuf {
    let test = env::current_exe().expect("a test knows its own binary");
    test.ancestors().nth(3).expect("tests are in `deps` of a profile's folder").to_owned()
}

/// Where the binaries are; built if they are not up to date.
///
/// # Panics
/// When they cannot be built.
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

/// A state folder of its own, and commands that use it.
#[derive(Debug)]
pub struct World {
    folder: TempDir,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

/// What a command said, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Its exit code; none: a signal ended it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: String,
    /// What it wrote beside.
    pub stderr: String,
}

impl World {
    /// An empty one.
    ///
    /// # Panics
    /// Without a temporary folder.
    #[must_use]
    pub fn new() -> Self {
        Self { folder: TempDir::new().expect("a temporary folder") }
    }

    /// A folder for whatever a test needs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file in it.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, text).expect("a file in our own folder");
        path
    }

    /// One of the built binaries, in this world.
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
        // The machine's own names no store for a test.
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

    /// Runs `lockkeeper` with these arguments, parted by blanks, to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run(&self, arguments: &str) -> Said {
        said(&mut self.lockkeeper(arguments.split(' ')))
    }

    /// The value that `lockkeeper … --format json` prints.
    ///
    /// # Panics
    /// When it prints none.
    #[must_use]
    pub fn json(&self, arguments: &str) -> serde_json::Value {
        let said = self.run(&format!("{arguments} --format json"));
        serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{arguments}: {error}: {said:?}"))
    }

    /// The identifiers that hold a semaphore now.
    ///
    /// # Panics
    /// When `holders` fails.
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
/// When it cannot be started.
pub fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("the command can be started");
    Said {
        code: status.code(),
        stdout: String::from_utf8_lossy(&stdout).into_owned(),
        stderr: String::from_utf8_lossy(&stderr).into_owned(),
    }
}

/// Says why a test does nothing here.
#[expect(clippy::print_stdout, reason = "what a test prints is shown with it")]
pub fn skipped(why: &str) {
    println!("skipped: {why}");
}

/// Waits until something is so.
///
/// # Panics
/// When it does not become so.
pub fn eventually(what: impl Debug, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for {what:?}");
        sleep(LOOK);
    }
}
