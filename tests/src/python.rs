//! Real kazoo and real Salt, in a virtual environment that `cargo xtask setup` makes, behind scripts of ours.

use std::env;
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use crate::{Said, root, said, skipped, target_dir};

/// Whether kazoo and Salt are here. Where they are not, a test says so and is done: `if !available() { return }`.
///
/// # Panics
/// On CI when they are not: there they are, after `cargo xtask setup`.
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
        assert!(env::var_os("CI").is_none(), "CI has kazoo and Salt: `cargo xtask setup` brings them");
        skipped("no kazoo and Salt here; `cargo xtask setup` brings them");
    }
    available
}

/// Scripts of `tests/python` on one ZooKeeper.
///
/// A script ends with 0, or with 1 and `{"error": CLASS, "message": TEXT}` of Python's exception. It prints one JSON value a
/// line.
#[derive(Debug, Clone)]
pub struct Python {
    hosts: String,
    digest: Option<String>,
    acl: Option<String>,
}

impl Python {
    /// On these servers.
    #[must_use]
    pub fn on(hosts: impl Into<String>) -> Self {
        Self { hosts: hosts.into(), digest: None, acl: None }
    }

    /// Logged in as `user:password`.
    #[must_use]
    pub fn digest(mut self, login: &str) -> Self {
        self.digest = Some(login.to_owned());
        self
    }

    /// Every node that is made is for `user:password` alone, with all rights.
    #[must_use]
    pub fn acl(mut self, login: &str) -> Self {
        self.acl = Some(login.to_owned());
        self
    }

    /// A script of `tests/python`, by its name without the ending, with its arguments.
    #[must_use]
    pub fn command<A: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(interpreter());
        // Nothing of its own beside the sources.
        command.arg("-B").arg(root().join("tests/python").join(format!("{script}.py"))).args(["--hosts", &self.hosts]);
        for (flag, login) in [("--digest", &self.digest), ("--acl", &self.acl)] {
            if let Some(login) = login {
                command.args([flag, login]);
            }
        }
        command.args(arguments).env("PYTHONIOENCODING", "utf-8").env_remove("PYTHONPATH").stdin(Stdio::null());
        command
    }

    /// Runs one to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn run<A: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = A>) -> Said {
        said(&mut self.command(script, arguments))
    }

    /// The last value that one prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn json<A: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = A>) -> Value {
        let said = self.run(script, arguments);
        assert_eq!(said.code, Some(0), "{script}: {said:?}");
        value(said.stdout.lines().last().unwrap_or_default())
    }

    /// The exception that one ends with: its class and its text.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn error<A: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = A>) -> (String, String) {
        let said = self.run(script, arguments);
        assert_eq!(said.code, Some(1), "{script}: {said:?}");
        let error = value(said.stdout.lines().last().unwrap_or_default());
        let text = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        (text("error"), text("message"))
    }

    /// Starts one.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn spawn<A: AsRef<OsStr>>(&self, script: &str, arguments: impl IntoIterator<Item = A>) -> Running {
        let mut command = self.command(script, arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("Python can be started");
        let stdin = child.stdin.take();
        let stdout = BufReader::new(child.stdout.take().expect("stdout is a pipe"));
        Running { child, stdin, stdout }
    }
}

/// A script that is running. It is killed when this is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: BufReader<ChildStdout>,
}

impl Running {
    /// The next value that it prints; waits for it. None: it has ended.
    ///
    /// # Panics
    /// When it prints no JSON.
    pub fn answer(&mut self) -> Option<Value> {
        let mut line = String::new();
        let length = self.stdout.read_line(&mut line).expect("a pipe can be read");
        (length > 0).then(|| value(&line))
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends its input without waiting: it stops what it does.
    pub fn tell_to_stop(&mut self) {
        self.stdin = None;
    }

    /// Ends its input, and waits for its end: the values that it had not been asked for.
    ///
    /// # Panics
    /// When it fails.
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
