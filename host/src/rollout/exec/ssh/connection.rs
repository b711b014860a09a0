//! A target's connection: opened in a step of its own, shared by the target's commands, closed with the run.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use tokio::process::Command;
use tokio::time::timeout;

use super::failure;
use super::sockets::Sockets;
use crate::job::SshSpec;

/// Seconds for which an idle connection is kept. The run closes it; this is for a runner that was killed.
const IDLE_SECONDS: &str = "60";

/// A connection counts as broken after three keep-alives, one every 15 seconds, without an answer.
const KEEP_ALIVE: [&str; 2] = ["ServerAliveInterval=15", "ServerAliveCountMax=3"];

/// Factor by which ssh may take longer than one connection, for logging in and for jump hosts.
const LOGIN_FACTOR: u32 = 3;

/// Time limit for closing a connection.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Connections that are closed at once.
const CLOSED_AT_ONCE: usize = 16;

/// The connections of a run to its targets.
#[derive(Debug)]
pub(in crate::rollout) struct Connections {
    ssh: SshSpec,
    folder: PathBuf,
    /// Created with the first connection.
    sockets: OnceLock<Result<Sockets, String>>,
    /// A lock for each host: one task connects at a time.
    hosts: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

/// A target that runs its commands over ssh.
#[derive(Debug, Clone)]
pub(in crate::rollout) struct Host {
    /// The host's name, as passed to ssh.
    pub name: String,
    pub connections: Arc<Connections>,
}

/// How a connection came about.
pub(super) enum Connected {
    /// It was opened just now.
    Now,
    /// It was opened before and may have broken since.
    Before,
}

/// Why there is no connection: nothing ran on the target.
pub(super) struct NotConnected {
    /// One sentence, with what to do.
    pub(super) reason: String,
    /// How often a connection is attempted before this is the answer.
    pub(super) attempts: u32,
}

impl From<String> for NotConnected {
    fn from(reason: String) -> Self {
        Self { reason, attempts: 1 }
    }
}

/// How a command gets to its host.
#[derive(Clone, Copy)]
pub(super) enum Channel {
    /// Over the open connection; where that takes no further session, over one of its own.
    Shared,
    /// Over one of its own.
    Own,
}

impl Connections {
    /// Opens nothing yet. Relative paths are relative to `folder`, the job file's.
    pub(in crate::rollout) fn new(ssh: SshSpec, folder: &Path) -> Self {
        let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
        Self { ssh: ssh.below(&folder), folder, sockets: OnceLock::new(), hosts: Mutex::default() }
    }

    /// Opens the connection to a host, unless it is open.
    ///
    /// # Errors
    /// [`NotConnected`]: nothing ran on the target.
    /// # Cancel safety
    /// A connection that is being opened is given up, or found open by the next call.
    pub(super) async fn connect(&self, host: &str, mut log: &File) -> Result<Connected, NotConnected> {
        let one_at_a_time = Arc::clone(self.lock_hosts().entry(host.to_owned()).or_default());
        let _connecting = one_at_a_time.lock().await;
        let cannot = |error: &io::Error| {
            format!("cannot connect to `{host}`: cannot run `ssh`: {error}; install OpenSSH's client")
        };
        let socket = self.sockets()?.of(host);
        if socket.exists() {
            return Ok(Connected::Before);
        }
        // A file: a background process of ssh cannot delay this by keeping it open.
        let errors = socket.with_extension("err");
        let written = File::create(&errors)
            .map_err(|error| NotConnected::from(format!("cannot connect to `{host}`: {error}")))?;
        let mut command = self.ssh(&socket);
        command.args([
            "-o",
            "ControlMaster=yes",
            "-o",
            &format!("ControlPersist={IDLE_SECONDS}"),
            "-f",
            "-N",
            "--",
            host,
        ]);
        let mut child = command.stderr(written).kill_on_drop(true).spawn().map_err(|error| cannot(&error))?;
        let status = timeout(self.ssh.connect_timeout * LOGIN_FACTOR, child.wait()).await;
        let said = fs::read(&errors).map(|said| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default();
        // For readers of the log.
        let _ = log.write_all(said.as_bytes());
        match status {
            Ok(Ok(status)) if status.success() && socket.exists() => Ok(Connected::Now),
            Ok(Ok(_)) => Err(NotConnected {
                reason: failure::sentence(host, &self.login(host), &said),
                attempts: failure::attempts(&said),
            }),
            Ok(Err(error)) => Err(cannot(&error).into()),
            Err(_) => Err(failure::sentence(host, &self.login(host), "logging in timed out").into()),
        }
    }

    /// Closes a connection that no longer works; the next command opens another.
    pub(super) async fn forget(&self, host: &str) {
        self.close_one(host).await;
        if let Ok(sockets) = self.sockets() {
            let _ = fs::remove_file(sockets.of(host));
        }
    }

    /// Closes all connections.
    pub(in crate::rollout) async fn close(&self) {
        let hosts: Vec<String> = self.lock_hosts().keys().cloned().collect();
        let closing = hosts.iter().map(|host| self.close_one(host));
        futures::stream::iter(closing).buffer_unordered(CLOSED_AT_ONCE).collect::<()>().await;
    }

    async fn close_one(&self, host: &str) {
        let Ok(sockets) = self.sockets() else { return };
        let socket = sockets.of(host);
        if !socket.exists() {
            return;
        }
        let mut command = self.ssh(&socket);
        command.args(["-O", "exit", "--", host]).stderr(Stdio::null()).kill_on_drop(true);
        // A connection that does not answer ends by itself when it is idle.
        if let Ok(mut child) = command.spawn() {
            let _ = timeout(CLOSE_TIMEOUT, child.wait()).await;
        }
    }

    /// The ssh command that runs a line in a host's login shell.
    pub(super) fn command(&self, host: &str, way: Channel, line: &str) -> Result<Command, String> {
        let socket = self.sockets()?.of(host);
        let mut command = match way {
            Channel::Shared => self.ssh(&socket),
            Channel::Own => self.ssh(Path::new("none")),
        };
        command.args(["-o", "ControlMaster=no", "--", host, line]);
        Ok(command)
    }

    /// ssh with its options, without streams. The first value of an option counts: this program's, the job's, this
    /// program's defaults, the user's own.
    fn ssh(&self, socket: &Path) -> Command {
        let mut command = Command::new("ssh");
        if let Some(config) = &self.ssh.config {
            command.arg("-F").arg(config);
        }
        let own = ["BatchMode=yes", "ClearAllForwardings=yes", "PermitLocalCommand=no", "RemoteCommand=none"]
            .map(str::to_owned);
        let socket = format!("ControlPath={}", socket.display());
        let connecting = format!("ConnectTimeout={}", self.ssh.connect_timeout.as_secs().max(1));
        let defaults = ["LogLevel=ERROR"].into_iter().chain(KEEP_ALIVE).map(str::to_owned);
        let options =
            own.into_iter().chain([socket, connecting]).chain(self.ssh.options.iter().cloned()).chain(defaults);
        command.args(["-T", "-x"]).args(options.flat_map(|option| ["-o".to_owned(), option]));
        if let Some(port) = self.ssh.port {
            command.args(["-p", &port.to_string()]);
        }
        if let Some(user) = &self.ssh.user {
            command.args(["-l", user]);
        }
        if let Some(key) = &self.ssh.identity_file {
            // ssh expands `%`.
            command.args(["-i", &key.display().to_string().replace('%', "%%")]);
        }
        command.current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::null()).process_group(0);
        command
    }

    /// The destination as a user would type it.
    fn login(&self, host: &str) -> String {
        let config = self.ssh.config.iter().flat_map(|config| ["-F".to_owned(), config.display().to_string()]);
        let key = self.ssh.identity_file.iter().flat_map(|key| ["-i".to_owned(), key.display().to_string()]);
        let port = self.ssh.port.iter().flat_map(|port| ["-p".to_owned(), port.to_string()]);
        let user = self.ssh.user.iter().map(|user| format!("{user}@")).collect::<String>();
        let words: Vec<String> = config.chain(key).chain(port).chain([format!("{user}{host}")]).collect();
        shlex::try_join(words.iter().map(String::as_str)).unwrap_or_else(|_| words.join(" "))
    }

    fn sockets(&self) -> Result<&Sockets, String> {
        let made = self.sockets.get_or_init(|| {
            Sockets::new().map_err(|error| format!("cannot make a folder for ssh's connections: {error}; set TMPDIR"))
        });
        made.as_ref().map_err(Clone::clone)
    }

    fn lock_hosts(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
