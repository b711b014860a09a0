//! Real kazoo and real Salt, in a virtual environment that `cargo xtask setup` creates, with scripts of this
//! repository.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::{Said, root, said, skipped, target_dir};

/// Whether kazoo and Salt are installed. If not, a test is skipped: `if !available() { return }`.
///
/// # Panics
/// On CI if they are not installed: `cargo xtask setup` installs them there.
#[must_use]
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    let imports = || {
        let mut command = Command::new(interpreter());
        command.args(["-c", "import kazoo, salt, saltext.zookeeper"]).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let available = *AVAILABLE.get_or_init(imports);
    if !available {
        assert!(env::var_os("CI").is_none(), "CI needs kazoo and Salt: `cargo xtask setup` installs them");
        skipped("kazoo and Salt are not installed; `cargo xtask setup` installs them");
    }
    available
}

/// Runs scripts of `tests/python` against one ZooKeeper.
///
/// A script exits with 0, or with 1 and `{"error": CLASS, "message": TEXT}` of Python's exception. It prints one JSON
/// value per line.
#[derive(Debug, Clone)]
pub struct Python {
    hosts: String,
    digest: Option<String>,
    acl: Option<String>,
}

impl Python {
    /// Uses these servers.
    #[must_use]
    pub fn on(hosts: impl Into<String>) -> Self {
        Self { hosts: hosts.into(), digest: None, acl: None }
    }

    /// Logs in as `user:password`.
    #[must_use]
    pub fn digest(mut self, login: &str) -> Self {
        self.digest = Some(login.to_owned());
        self
    }

    /// Gives every created node to `user:password` alone, with all rights.
    #[must_use]
    pub fn acl(mut self, login: &str) -> Self {
        self.acl = Some(login.to_owned());
        self
    }

    /// A script of `tests/python`, by its name without the suffix, with its arguments.
    #[must_use]
    pub fn command<A: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(interpreter());
        // Prevents cache files beside the sources.
        command.arg("-B").arg(root().join("tests/python").join(format!("{script}.py"))).args(["--hosts", &self.hosts]);
        for (flag, login) in [("--digest", &self.digest), ("--acl", &self.acl)] {
            if let Some(login) = login {
                command.args([flag, login]);
            }
        }
        command.args(arguments).env("PYTHONIOENCODING", "utf-8").env_remove("PYTHONPATH").stdin(Stdio::null());
        command
    }

    /// Runs a script to its end.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn run<A: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = A>) -> Said {
        said(&mut self.command(script, arguments))
    }

    /// The last value that a script prints.
    ///
    /// # Panics
    /// If it fails.
    pub fn json<A: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = A>) -> Value {
        let said = self.run(script, arguments);
        assert_eq!(said.code, Some(0), "{script}: {said:?}");
        value(said.stdout.lines().last().unwrap_or_default())
    }

    /// The exception that a script ends with: its class and its text.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn error<A: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = A>) -> (String, String) {
        let said = self.run(script, arguments);
        assert_eq!(said.code, Some(1), "{script}: {said:?}");
        let error = value(said.stdout.lines().last().unwrap_or_default());
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        (text("error"), text("message"))
    }

    /// Starts a script.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn spawn<A: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = A>) -> Running {
        let mut command = self.command(script, arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python can be started");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        Running { child, stdin, stdout }
    }
}

/// A running script. It is killed on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// Waits for the next value that it prints. `None` if it has ended.
    ///
    /// # Panics
    /// If it prints no JSON.
    pub fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        let length = self.stdout.read_line(&mut line).expect("a pipe can be read");
        (length > 0).then(|| value(&line))
    }

    /// Its process ID.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends its input without waiting; the script stops.
    pub fn tell_to_stop(&mut self) {
        self.stdin = None;
    }

    /// Ends its input, waits for its end and returns the remaining values.
    ///
    /// # Panics
    /// If it fails.
    pub fn stop(mut self) -> Vec<Value> {
        self.tell_to_stop();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("a pipe can be read");
        let status = self.child.wait().expect("a child can be waited for");
        assert!(status.success(), "{status}: {rest}");
        rest.lines().map(value).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn interpreter() -> PathBuf {
    target_dir().join("python/bin/python")
}

fn value(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))
}
