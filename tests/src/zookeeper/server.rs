//! One server: its configuration, its life, and what it says of itself.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::supervisor::Supervised;
use super::{Certificates, ClientAuth, Durability, JARS, Options};
use crate::ports::Port;
use crate::{LOOK, PATIENCE, eventually};

/// The server, what TLS needs beside what its manifest names, and something that writes its log.
const CLASS_PATH: [&str; 5] = [
    "zookeeper.jar",
    "netty-codec.jar",
    "netty-resolver.jar",
    "netty-transport-native-unix-common.jar",
    "slf4j-simple.jar",
];

/// For a JVM that lives for seconds: a small heap, no time spent on being quick later, and small files.
const JVM: [&str; 6] = [
    "-Xmx160m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Dzookeeper.preAllocSize=512",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];

/// How long a server has for a four-letter word, which it answers at once or never.
const WORD: Duration = Duration::from_secs(2);

/// How much of the log a failure shows.
const LINES_SHOWN: usize = 30;

/// What a server is in its ensemble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It has no ensemble.
    Standalone,
    /// It orders the writes.
    Leader,
    /// It follows the leader.
    Follower,
}

/// A server in an ensemble.
#[derive(Debug, Clone)]
pub(super) struct Peers {
    /// Its number, from 1.
    pub(super) number: usize,
    /// The `server.N` lines of them all.
    pub(super) lines: String,
}

/// A ZooKeeper server of our own on loopback. It is killed when this is dropped, or the process ends.
#[derive(Debug)]
pub struct Server {
    running: Mutex<Option<Supervised>>,
    port: Port,
    tls: Option<(Port, Certificates)>,
    /// The JVM's own arguments.
    properties: Vec<String>,
    // Dropped after the process that writes there.
    folder: TempDir,
}

impl Server {
    /// Starts one, with what suits most tests, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&Options::default())
    }

    /// Starts one and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    #[must_use]
    pub fn start_with(options: &Options) -> Self {
        let server = Self::configure(options, None);
        server.launch();
        server.wait_until_serving();
        server
    }

    pub(super) fn configure(options: &Options, peers: Option<Peers>) -> Self {
        let folder = TempDir::with_prefix("lockkeeper-zookeeper-").expect("a temporary folder");
        let tls = options.tls.as_ref().map(|tls| (Port::claim(), Certificates::make(folder.path(), &tls.names)));
        let server =
            Self { running: Mutex::new(None), port: Port::claim(), tls, properties: properties(options), folder };
        fs::create_dir(server.data()).expect("our own folder");
        fs::write(server.file("zoo.cfg"), server.configuration(options, peers.as_ref())).expect("our own folder");
        if let Some(peers) = peers {
            fs::write(server.data().join("myid"), peers.number.to_string()).expect("our own folder");
        }
        server
    }

    fn configuration(&self, options: &Options, peers: Option<&Peers>) -> String {
        let mut text = format!(
            "tickTime={}\ninitLimit=50\nsyncLimit=15\ndataDir={}\nclientPort={}\nclientPortAddress=127.0.0.1\n\
             minSessionTimeout={}\nmaxSessionTimeout={}\nmaxClientCnxns=0\nadmin.enableServer=false\n\
             4lw.commands.whitelist=*\nextendedTypesEnabled=true\n",
            options.tick.as_millis(),
            self.data().display(),
            self.port.number(),
            options.session_timeouts.start().as_millis(),
            options.session_timeouts.end().as_millis(),
        );
        if options.durability == Durability::Quick {
            text.push_str("forceSync=no\n");
        }
        if let (Some((port, certificates)), Some(tls)) = (&self.tls, &options.tls) {
            let auth = if tls.client_auth == ClientAuth::Need { "need" } else { "none" };
            let (both, trusted) = (certificates.server(), certificates.authority());
            let _ = write!(
                text,
                "secureClientPort={}\nsecureClientPortAddress=127.0.0.1\n\
                 serverCnxnFactory=org.apache.zookeeper.server.NettyServerCnxnFactory\nssl.clientAuth={auth}\n\
                 ssl.keyStore.location={}\nssl.trustStore.location={}\nssl.clientHostnameVerification=false\n",
                port.number(),
                both.display(),
                trusted.display(),
            );
        }
        if let Some(peers) = peers {
            text.push_str(&peers.lines);
        }
        for line in &options.lines {
            let _ = writeln!(text, "{line}");
        }
        text
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Its data folder, while it is not dropped.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.file("data")
    }

    fn running(&self) -> MutexGuard<'_, Option<Supervised>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was started and not killed.
    pub(super) fn is_running(&self) -> bool {
        self.running().is_some()
    }

    /// Starts it, where it is not running, with the data and ports that it had, and does not wait until it serves.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn launch(&self) {
        let jars = CLASS_PATH.map(|jar| format!("{JARS}/{jar}")).join(":");
        let mut command = vec!["java".to_owned()];
        command.extend(JVM.map(str::to_owned));
        command.extend(self.properties.iter().cloned());
        command.extend(["-cp".to_owned(), jars, "org.apache.zookeeper.server.quorum.QuorumPeerMain".to_owned()]);
        command.push(self.file("zoo.cfg").display().to_string());
        self.running().get_or_insert_with(|| Supervised::start(&command, &self.log_path(), self.folder.path()));
    }

    /// Waits until it answers clients.
    ///
    /// # Panics
    /// When it ends, or does not in a long time; with the end of its log.
    pub fn wait_until_serving(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.mode().is_none() {
            let lives = self.running().as_ref().is_some_and(Supervised::lives);
            assert!(lives, "the server ended: {}", self.end_of_log());
            assert!(Instant::now() < deadline, "the server does not serve: {}", self.end_of_log());
            sleep(LOOK);
        }
    }

    /// Ends it at once, as `kill -9` does; its data stays.
    pub fn kill(&self) {
        *self.running() = None;
    }

    /// Kills it where it runs, starts it with the same data and ports, and waits until it serves.
    ///
    /// # Panics
    /// When it does not.
    pub fn restart(&self) {
        self.kill();
        self.launch();
        self.wait_until_serving();
    }

    /// Stops it where it stands, and waits until it does: connections stay open, nothing is answered.
    ///
    /// # Panics
    /// When it is not running.
    pub fn pause(&self) {
        let running = self.running();
        let running = running.as_ref().expect("a server that runs");
        running.signal(Signal::SIGSTOP);
        eventually("a server that stands still", || running.stands_still());
    }

    /// Lets it go on.
    ///
    /// # Panics
    /// When it is not running.
    pub fn resume(&self) {
        self.running().as_ref().expect("a server that runs").signal(Signal::SIGCONT);
    }

    /// Its client port, as clients want it.
    #[must_use]
    pub fn hosts(&self) -> String {
        self.address().to_string()
    }

    /// Its client port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its TLS port, under the name that is in its certificate.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn tls_hosts(&self) -> String {
        format!("localhost:{}", self.tls_address().port())
    }

    /// Its TLS port.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn tls_address(&self) -> SocketAddr {
        self.tls.as_ref().expect("a server with TLS").0.address()
    }

    /// What its clients need for TLS.
    ///
    /// # Panics
    /// When it has none.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.tls.as_ref().expect("a server with TLS").1
    }

    /// What it answers to a four-letter word.
    ///
    /// # Errors
    /// When it cannot be reached, or does not answer.
    pub fn word(&self, word: &str) -> io::Result<String> {
        let mut connection = TcpStream::connect_timeout(&self.address(), WORD)?;
        connection.set_read_timeout(Some(WORD))?;
        connection.write_all(word.as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// What it is, if it serves.
    #[must_use]
    pub fn mode(&self) -> Option<Mode> {
        let answer = self.word("srvr").ok()?;
        match answer.lines().find_map(|line| line.strip_prefix("Mode: "))? {
            "standalone" => Some(Mode::Standalone),
            "leader" => Some(Mode::Leader),
            "follower" => Some(Mode::Follower),
            _ => None,
        }
    }

    /// One of its counters, by its name in `mntr` without the `zk_`.
    ///
    /// # Panics
    /// When it does not answer, or has no such counter.
    #[must_use]
    pub fn mntr(&self, key: &str) -> i64 {
        let answer = self.word("mntr").expect("the server answers");
        let value = answer.lines().find_map(|line| line.strip_prefix("zk_")?.strip_prefix(key)?.strip_prefix('\t'));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no number `{key}` in: {answer}"))
    }

    /// How many packets it was sent: requests, pings, connects, and words such as the one that asks for this.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn packets_received(&self) -> i64 {
        self.mntr("packets_received")
    }

    /// The number of its last write transaction. Between two looks on one leader the difference is how many there were,
    /// sessions that begin and end among them.
    ///
    /// # Panics
    /// When it does not answer.
    #[must_use]
    pub fn zxid(&self) -> u64 {
        let answer = self.word("srvr").expect("the server answers");
        let zxid = answer.lines().find_map(|line| line.strip_prefix("Zxid: 0x"));
        zxid.and_then(|zxid| u64::from_str_radix(zxid, 16).ok()).unwrap_or_else(|| panic!("no zxid in: {answer}"))
    }

    /// Where its log is, while it is not dropped.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.file("log")
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn end_of_log(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(LINES_SHOWN)..].join("\n")
    }
}

fn properties(options: &Options) -> Vec<String> {
    let digest = |digest| format!("-Dzookeeper.DigestAuthenticationProvider.superDigest={digest}");
    options.super_digest.iter().map(digest).chain(options.java.iter().cloned()).collect()
}
