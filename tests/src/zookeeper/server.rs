//! One server: its configuration, its process, and what it reports.

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

/// The server, what TLS needs beyond its manifest, and a logging implementation.
const CLASS_PATH: [&str; 5] = [
    "zookeeper.jar",
    "netty-codec.jar",
    "netty-resolver.jar",
    "netty-transport-native-unix-common.jar",
    "slf4j-simple.jar",
];

/// For a JVM that lives for seconds: a small heap, no late optimisation, and small files.
const JVM: [&str; 6] = [
    "-Xmx160m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Dzookeeper.preAllocSize=512",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
];

/// Time limit for the answer to a four-letter word.
const WORD: Duration = Duration::from_secs(2);

/// Lines of the log that a failure shows.
const LINES_SHOWN: usize = 30;

/// Role of a server in its ensemble.
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
    /// Number of the server, from 1.
    pub(super) number: usize,
    /// The `server.N` lines of all servers.
    pub(super) lines: String,
}

/// A ZooKeeper server on loopback for one test. It is killed on drop, or with the process.
#[derive(Debug)]
pub struct Server {
    running: Mutex<Option<Supervised>>,
    port: Port,
    tls: Option<(Port, Certificates)>,
    /// Arguments for the JVM.
    properties: Vec<String>,
    // Dropped after the process that writes there.
    folder: TempDir,
}

impl Server {
    /// Starts a server with default options, and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&Options::default())
    }

    /// Starts a server and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
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

    /// Its data folder; deleted on drop.
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

    /// Starts it, unless it is running, with its previous data and ports; does not wait until it serves.
    ///
    /// # Panics
    /// If it cannot be started.
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
    /// If it ends, or does not answer in time; shows the end of its log.
    pub fn wait_until_serving(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.mode().is_none() {
            let lives = self.running().as_ref().is_some_and(Supervised::lives);
            assert!(lives, "the server ended: {}", self.end_of_log());
            assert!(Instant::now() < deadline, "the server does not serve: {}", self.end_of_log());
            sleep(LOOK);
        }
    }

    /// Kills it, as `kill -9` does; its data stays.
    pub fn kill(&self) {
        *self.running() = None;
    }

    /// Kills it if it is running, starts it with the same data and ports, and waits until it serves.
    ///
    /// # Panics
    /// If it does not.
    pub fn restart(&self) {
        self.kill();
        self.launch();
        self.wait_until_serving();
    }

    /// Stops it with SIGSTOP, and waits until it has stopped: connections stay open, nothing is answered.
    ///
    /// # Panics
    /// If it is not running.
    pub fn pause(&self) {
        let running = self.running();
        let running = running.as_ref().expect("a server that runs");
        running.signal(Signal::SIGSTOP);
        eventually("a server that stands still", || running.stands_still());
    }

    /// Continues it.
    ///
    /// # Panics
    /// If it is not running.
    pub fn resume(&self) {
        self.running().as_ref().expect("a server that runs").signal(Signal::SIGCONT);
    }

    /// Its client port as a ZooKeeper host list.
    #[must_use]
    pub fn hosts(&self) -> String {
        self.address().to_string()
    }

    /// Its client port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Its TLS port, under the name in its certificate.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn tls_hosts(&self) -> String {
        format!("localhost:{}", self.tls_address().port())
    }

    /// Its TLS port.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn tls_address(&self) -> SocketAddr {
        self.tls.as_ref().expect("a server with TLS").0.address()
    }

    /// The certificates for TLS.
    ///
    /// # Panics
    /// If it has none.
    #[must_use]
    pub fn certificates(&self) -> &Certificates {
        &self.tls.as_ref().expect("a server with TLS").1
    }

    /// Its answer to a four-letter word.
    ///
    /// # Errors
    /// If it is unreachable or does not answer.
    pub fn word(&self, word: &str) -> io::Result<String> {
        let mut connection = TcpStream::connect_timeout(&self.address(), WORD)?;
        connection.set_read_timeout(Some(WORD))?;
        connection.write_all(word.as_bytes())?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// Its role, if it serves.
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

    /// A counter of `mntr`, by its name without `zk_`.
    ///
    /// # Panics
    /// If it does not answer, or has no such counter.
    #[must_use]
    pub fn mntr(&self, key: &str) -> i64 {
        let answer = self.word("mntr").expect("the server answers");
        let value = answer.lines().find_map(|line| line.strip_prefix("zk_")?.strip_prefix(key)?.strip_prefix('\t'));
        value.and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("no number `{key}` in: {answer}"))
    }

    /// Number of packets that it has received: requests, pings, connects, and four-letter words.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn packets_received(&self) -> i64 {
        self.mntr("packets_received")
    }

    /// Number of its last write transaction. On one leader, the difference of two values is the number of writes in
    /// between, including sessions that start and end.
    ///
    /// # Panics
    /// If it does not answer.
    #[must_use]
    pub fn zxid(&self) -> u64 {
        let answer = self.word("srvr").expect("the server answers");
        let zxid = answer.lines().find_map(|line| line.strip_prefix("Zxid: 0x"));
        zxid.and_then(|zxid| u64::from_str_radix(zxid, 16).ok()).unwrap_or_else(|| panic!("no zxid in: {answer}"))
    }

    /// Path of its log; deleted on drop.
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
