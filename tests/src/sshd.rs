//! A real sshd for one test on loopback: Debian's package with its own configuration and keys, never the system's
//! service, and stopped with the test.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::{env, fs, thread};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use tempfile::TempDir;

use crate::ports::Port;
use crate::{eventually, skipped};

/// Path in Debian's package.
const SSHD: &str = "/usr/sbin/sshd";

/// Folder of the files that a login shell reads, apart from the server's own.
const HOME: &str = "home";

/// Folder that sshd needs as root; Debian's service creates it.
const EMPTY: &str = "/run/sshd";

/// Whether sshd can run on this machine. If not, a test is skipped: `if !available() { return }`.
///
/// # Panics
/// On CI if it cannot: `cargo xtask setup` installs it there.
#[must_use]
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    let client = || {
        let version = Command::new("ssh").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let available = *AVAILABLE.get_or_init(|| Path::new(SSHD).exists() && client());
    if !available {
        assert!(env::var_os("CI").is_none(), "CI needs sshd: `cargo xtask setup` installs it");
        skipped("sshd is not installed; `cargo xtask setup` installs it");
    }
    available
}

/// One server; tests log in as their own user.
#[derive(Debug)]
pub struct Sshd {
    folder: TempDir,
    port: Port,
    /// A port without a listener.
    free: Port,
    child: Child,
}

impl Sshd {
    /// Starts a server with further lines in its configuration, and waits until it listens.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(more: &str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        for key in ["host", "other_host", "user", "other_user"] {
            make_key(&folder.path().join(key));
        }
        fs::create_dir(folder.path().join(HOME)).expect("a folder in our own folder");
        if geteuid().is_root() {
            fs::create_dir_all(EMPTY).expect("root may make it");
        }
        let authorized = fs::read_to_string(folder.path().join("user.pub")).expect("the key was made");
        fs::write(folder.path().join("authorized_keys"), authorized).expect("a file in our own folder");
        let port = Port::claim();
        let config = folder.path().join("sshd_config");
        fs::write(&config, format!("{}{more}\n", server_config(folder.path(), &port)))
            .expect("a file in our own folder");
        let child = serve(folder.path());
        let sshd = Self { folder, port, free: Port::claim(), child };
        eventually("sshd listens", || TcpStream::connect(sshd.address()).is_ok());
        sshd
    }

    /// Kills the server with all its connections, as if its machine failed. Commands there continue.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn go_down(&mut self) {
        let connections = self.connections();
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
        connections.into_iter().for_each(end);
    }

    /// Starts the server again on the same port, and waits until it listens.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn come_back(&mut self) {
        self.child = serve(self.folder.path());
        eventually("sshd listens", || TcpStream::connect(self.address()).is_ok());
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Writes a client configuration that reaches the server under any host name. Some names behave differently:
    /// `refused`, `nowhere`, `changed`, `stranger` and `denied`.
    ///
    /// # Panics
    /// If it cannot be written.
    #[must_use]
    pub fn client_config(&self) -> PathBuf {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let key = |name: &str| fs::read_to_string(file(&format!("{name}.pub"))).expect("the key was made");
        for (known, name) in [("known_hosts", "host"), ("wrong_hosts", "other_host")] {
            fs::write(file(known), format!("fleet {}", key(name))).expect("a file in our own folder");
        }
        // A name with such a long label is invalid, so no name server is asked about it.
        let nowhere = "n".repeat(64);
        let own = [
            ("refused", "Port", self.free.number().to_string()),
            ("nowhere", "HostName", format!("{nowhere}.invalid")),
            ("changed", "UserKnownHostsFile", file("wrong_hosts")),
            ("stranger", "UserKnownHostsFile", "/dev/null".to_owned()),
            ("denied", "IdentityFile", file("other_user")),
        ];
        let mut text = String::new();
        for (host, key, value) in own {
            let _ = writeln!(text, "Host {host}\n    {key} {value}");
        }
        let me = User::from_uid(geteuid()).ok().flatten().expect("we have a name").name;
        let _ = writeln!(
            text,
            "Host !denied *\n    IdentityFile {}\nHost *\n    HostName 127.0.0.1\n    Port {}\n    User {me}\n    \
             IdentitiesOnly yes\n    IdentityAgent none\n    HostKeyAlias fleet\n    CheckHostIP no\n    \
             UserKnownHostsFile {}\n    GlobalKnownHostsFile /dev/null\n    StrictHostKeyChecking yes\n    \
             UpdateHostKeys no",
            file("user"),
            self.port.number(),
            file("known_hosts"),
        );
        let config = self.folder.path().join("ssh_config");
        fs::write(&config, text).expect("a file in our own folder");
        config
    }

    /// The server's configuration, which it reads at its start.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("sshd_config")
    }

    /// An empty home folder for logins.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.folder.path().join(HOME)
    }

    /// Processes of its connections.
    ///
    /// # Panics
    /// Without `/proc`.
    #[must_use]
    pub fn connections(&self) -> Vec<u32> {
        children_of(self.child.id())
    }

    /// Ends all its connections at once without a goodbye, as if a machine lost power. Commands there continue.
    pub fn cut(&self) {
        for connection in self.connections() {
            end(connection);
        }
    }

    /// The server's log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("sshd.log")).unwrap_or_default()
    }
}

/// Starts a server with the configuration in that folder.
fn serve(folder: &Path) -> Child {
    let mut log = fs::File::options();
    let log = log.create(true).append(true).open(folder.join("sshd.log")).expect("a file in our own folder");
    let mut command = Command::new(SSHD);
    command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("sshd can be started")
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // First the process that accepts connections, then the present connections.
        let connections = self.connections();
        let _ = self.child.kill();
        let _ = self.child.wait();
        connections.into_iter().for_each(end);
        if thread::panicking() {
            eprint_log(&self.log());
        }
    }
}

#[expect(clippy::print_stderr, reason = "what a failed test shows")]
fn eprint_log(log: &str) {
    eprintln!("--- sshd\n{log}---");
}

fn end(process: u32) {
    let process = i32::try_from(process).expect("a process has a small number");
    let ended = kill(Pid::from_raw(process), Signal::SIGKILL);
    assert!(matches!(ended, Ok(()) | Err(Errno::ESRCH)), "{ended:?}");
}

fn make_key(file: &Path) {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", "ed25519", "-N", "", "-C", "test", "-f"]).arg(file).stdin(Stdio::null());
    assert!(command.status().is_ok_and(|status| status.success()), "ssh-keygen makes a key");
}

fn server_config(folder: &Path, port: &Port) -> String {
    let folder = folder.display();
    // The folders above the temporary one are not checked; PAM and locked accounts are not tested.
    format!(
        "Port {}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/sshd.pid\n\
         AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\nPrintMotd no\nPrintLastLog no\n\
         MaxStartups 100\nLogLevel VERBOSE\nSetEnv HOME={folder}/{HOME}\n",
        port.number()
    )
}

/// The children of a process, including those that it has not waited for.
///
/// # Panics
/// Without `/proc`.
#[must_use]
pub fn children_of(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").expect("there is `/proc`").flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |number: &u32| {
        let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        let mut fields = stat.rsplit_once(") ").unwrap_or_default().1.split(' ');
        let (state, of) = (fields.next(), fields.next());
        state.is_some_and(|state| state != "Z") && of.and_then(|of| of.parse().ok()) == Some(parent)
    };
    numbers.filter(is_child).collect()
}
