//! A real sshd of a test's own on loopback: started from Debian's package with its own configuration and keys, never the
//! system's service, and gone with the test.

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

/// Where Debian's package puts it.
const SSHD: &str = "/usr/sbin/sshd";

/// What a login shell reads is in here, and not what is ours.
const HOME: &str = "home";

/// As root it locks a part of itself up in there; Debian's service makes it.
const EMPTY: &str = "/run/sshd";

/// Whether servers can run here. Where none can, a test says so and is done: `if !available() { return }`.
///
/// # Panics
/// On CI when none can: there they always can, after `cargo xtask setup`.
#[must_use]
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    let client = || {
        let version = Command::new("ssh").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let available = *AVAILABLE.get_or_init(|| Path::new(SSHD).exists() && client());
    if !available {
        assert!(env::var_os("CI").is_none(), "CI has sshd: `cargo xtask setup` brings it");
        skipped("no sshd here; `cargo xtask setup` brings it");
    }
    available
}

/// One server, into which we log in as ourselves.
#[derive(Debug)]
pub struct Sshd {
    folder: TempDir,
    port: Port,
    /// Nobody listens there.
    free: Port,
    child: Child,
}

impl Sshd {
    /// Starts one with these lines more in its configuration, and waits until it listens.
    ///
    /// # Panics
    /// When it cannot be started.
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

    /// Kills it with all its connections, as when its machine goes down. What ran there goes on.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn go_down(&mut self) {
        let connections = self.connections();
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
        connections.into_iter().for_each(end);
    }

    /// Starts it once more where it was, and waits until it listens.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn come_back(&mut self) {
        self.child = serve(self.folder.path());
        eventually("sshd listens", || TcpStream::connect(self.address()).is_ok());
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Writes the configuration of a client that reaches it by whatever name. Some names have a fate of their own: `refused`, `nowhere`, `changed`, `stranger` and `denied`.
    ///
    /// # Panics
    /// When it cannot be written.
    #[must_use]
    pub fn client_config(&self) -> PathBuf {
        let file = |name: &str| self.folder.path().join(name).display().to_string();
        let key = |name: &str| fs::read_to_string(file(&format!("{name}.pub"))).expect("the key was made");
        for (known, name) in [("known_hosts", "host"), ("wrong_hosts", "other_host")] {
            fs::write(file(known), format!("fleet {}", key(name))).expect("a file in our own folder");
        }
        // A name with such a long part is wrong in itself: nobody's server is asked about it.
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

    /// Its own configuration, which it reads when it starts.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.path().join("sshd_config")
    }

    /// The home of who logs in, without anything in it.
    #[must_use]
    pub fn home(&self) -> PathBuf {
        self.folder.path().join(HOME)
    }

    /// Its connections' processes.
    ///
    /// # Panics
    /// Without `/proc`.
    #[must_use]
    pub fn connections(&self) -> Vec<u32> {
        children_of(self.child.id())
    }

    /// Ends all its connections at once, as when a machine loses power: nobody says goodbye. What ran there goes on.
    pub fn cut(&self) {
        for connection in self.connections() {
            end(connection);
        }
    }

    /// What it wrote down.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("sshd.log")).unwrap_or_default()
    }
}

/// Starts a server whose configuration is in that folder.
fn serve(folder: &Path) -> Child {
    let mut log = fs::File::options();
    let log = log.create(true).append(true).open(folder.join("sshd.log")).expect("a file in our own folder");
    let mut command = Command::new(SSHD);
    command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().expect("sshd can be started")
}

impl Drop for Sshd {
    fn drop(&mut self) {
        // First who takes new connections, then those that there are.
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
    // The folders above ours are not ours to check; PAM and locked accounts are not what is tested.
    format!(
        "Port {}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile {folder}/sshd.pid\n\
         AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nUsePAM no\nPasswordAuthentication no\n\
         KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUseDNS no\nPrintMotd no\nPrintLastLog no\n\
         MaxStartups 100\nLogLevel VERBOSE\nSetEnv HOME={folder}/{HOME}\n",
        port.number()
    )
}

/// The processes that a process has started and not yet asked about.
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
