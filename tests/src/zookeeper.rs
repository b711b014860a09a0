//! Real ZooKeeper servers on loopback: Debian's, with a configuration, ports and data of their own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::eventually;

/// Where Debian puts what a server is made of.
const JARS: &str = "/usr/share/java";

/// What a server is made of, by the beginnings of its files' names.
const NEEDED: [&str; 8] = [
    "zookeeper.jar",
    "zookeeper-jute.jar",
    "slf4j-api.jar",
    "slf4j-simple.jar",
    "netty-",
    "metrics-core.jar",
    "snappy-java.jar",
    "commons-cli.jar",
];

/// Ends the server with whoever started it, however that ends: then nobody holds the other end of its standard input.
const SUPERVISOR: &str = r#""$@" <&- & child=$!; trap '' TERM INT HUP; cat >/dev/null; kill -9 $child 2>/dev/null"#;

/// Whether servers can be started here. Says why not, once; where tests must not be left out, that is an error.
///
/// # Panics
/// In CI, when no server can be started.
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        let here = Path::new(JARS).join("zookeeper.jar").exists() && java.is_ok_and(|status| status.success());
        assert!(here || std::env::var_os("CI").is_none(), "no ZooKeeper server here: `cargo xtask setup` brings one");
        if !here {
            let _ = writeln!(std::io::stderr(), "left out: no ZooKeeper server here; `cargo xtask setup` brings one");
        }
        here
    })
}

/// How servers are configured beside what the harness needs.
#[derive(Debug, Clone)]
pub struct Options {
    /// The servers' unit of time: sessions last at least two, and no more than is asked for.
    pub tick: Duration,
    /// More lines for the configuration.
    pub lines: Vec<String>,
    /// Whether a change is on disk before it is answered.
    pub fsync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { tick: Duration::from_millis(200), lines: Vec::new(), fsync: false }
    }
}

/// One server of an ensemble, or a server by itself.
#[derive(Debug)]
pub struct Server {
    folder: PathBuf,
    address: SocketAddr,
    fsync: bool,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    supervisor: Child,
    java: Pid,
}

impl Server {
    /// Starts one by itself, in a folder that goes with it.
    ///
    /// # Panics
    /// When it does not serve.
    #[must_use]
    pub fn start() -> Single {
        Single(Ensemble::with(1, &Options::default()))
    }

    /// Where it serves.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What it wrote while it ran.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn launch(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.join("log")).expect("a log of our own");
        let mut command = Command::new("sh");
        command.arg("-c").arg(SUPERVISOR).arg("supervisor").arg("java");
        command.args(["-Xmx192m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]);
        command.arg(format!("-Dzookeeper.forceSync={}", if self.fsync { "yes" } else { "no" }));
        command.args(["-Dzookeeper.preAllocSize=512", "-Dorg.slf4j.simpleLogger.defaultLogLevel=info"]);
        command.arg("-cp").arg(class_path()).arg("org.apache.zookeeper.server.quorum.QuorumPeerMain");
        command.arg(self.folder.join("zoo.cfg"));
        command.stdin(Stdio::piped()).stdout(log.try_clone().expect("a log")).stderr(log).process_group(0);
        let supervisor = command.spawn().expect("a shell");
        let shell = supervisor.id();
        let mut java = None;
        eventually("the server's process", || {
            let children = fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).unwrap_or_default();
            java = children
                .split(' ')
                .filter_map(|pid| pid.parse::<i32>().ok())
                .find(|pid| fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"java\0")));
            java.is_some()
        });
        self.running = Some(Running { supervisor, java: Pid::from_raw(java.expect("just found")) });
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            let _ = kill(running.java, Signal::SIGKILL);
            drop(running.supervisor.stdin.take());
            let _ = running.supervisor.wait();
        }
    }

    /// Starts it again, with the data that it had.
    pub fn restart(&mut self) {
        self.kill();
        self.launch();
    }

    /// SIGSTOP.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            let _ = kill(running.java, signal);
        }
    }

    /// The answer to one of the server's four-letter words; none when it does not answer.
    #[must_use]
    pub fn ask(&self, word: &str) -> Option<String> {
        let mut stream = TcpStream::connect_timeout(&self.address, Duration::from_millis(500)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
        stream.write_all(word.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// One of the figures that the server keeps of itself.
    #[must_use]
    pub fn figure(&self, name: &str) -> Option<String> {
        let figures = self.ask("mntr")?;
        figures.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t')).map(str::to_owned)
    }

    /// One that is a number.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn count(&self, name: &str) -> i64 {
        let figure = self.figure(name).unwrap_or_else(|| panic!("{name}: {:?}", self.ask("mntr")));
        figure.parse::<f64>().map(|count| count as i64).expect("a number")
    }

    fn serves(&self) -> bool {
        self.figure("zk_server_state").is_some()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A server by itself.
#[derive(Debug)]
pub struct Single(Ensemble);

impl std::ops::Deref for Single {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.0.servers[0]
    }
}

impl std::ops::DerefMut for Single {
    fn deref_mut(&mut self) -> &mut Server {
        &mut self.0.servers[0]
    }
}

impl Single {
    /// Starts one that is configured so.
    #[must_use]
    pub fn with(options: &Options) -> Self {
        Self(Ensemble::with(1, options))
    }

    /// As `--zk-hosts` takes it.
    #[must_use]
    pub fn hosts(&self) -> String {
        self.0.hosts()
    }
}

/// Servers that make one store together.
#[derive(Debug)]
pub struct Ensemble {
    /// Them.
    pub servers: Vec<Server>,
    _folder: TempDir,
}

impl Ensemble {
    /// Starts so many, and waits until they serve.
    ///
    /// # Panics
    /// When they do not.
    #[must_use]
    pub fn start(servers: usize) -> Self {
        Self::with(servers, &Options::default())
    }

    /// Starts so many that are configured so.
    ///
    /// # Panics
    /// When they do not serve.
    #[must_use]
    pub fn with(servers: usize, options: &Options) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        // All at once, so that none is given twice.
        let listeners: Vec<TcpListener> =
            (0..3 * servers).map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port")).collect();
        let ports: Vec<u16> =
            listeners.iter().map(|listener| listener.local_addr().expect("it is bound").port()).collect();
        drop(listeners);
        let mut ensemble = Self { servers: Vec::new(), _folder: folder };
        for index in 0..servers {
            let own = ensemble._folder.path().join(index.to_string());
            fs::create_dir_all(own.join("data")).expect("a folder of our own");
            let tick = options.tick.as_millis();
            let mut lines = vec![
                format!("tickTime={tick}"),
                format!("minSessionTimeout={}", 2 * tick),
                String::from("maxSessionTimeout=60000"),
                String::from("initLimit=50"),
                String::from("syncLimit=25"),
                format!("dataDir={}", own.join("data").display()),
                format!("clientPort={}", ports[3 * index]),
                String::from("clientPortAddress=127.0.0.1"),
                String::from("admin.enableServer=false"),
                String::from("4lw.commands.whitelist=*"),
                String::from("maxClientCnxns=0"),
            ];
            if servers > 1 {
                fs::write(own.join("data/myid"), (index + 1).to_string()).expect("a file of our own");
                lines.extend((0..servers).map(|other| {
                    format!("server.{}=127.0.0.1:{}:{}", other + 1, ports[3 * other + 1], ports[3 * other + 2])
                }));
            }
            lines.extend(options.lines.iter().cloned());
            fs::write(own.join("zoo.cfg"), lines.join("\n") + "\n").expect("a file of our own");
            let address = SocketAddr::from(([127, 0, 0, 1], ports[3 * index]));
            let mut server = Server { folder: own, address, fsync: options.fsync, running: None };
            server.launch();
            ensemble.servers.push(server);
        }
        ensemble.settle();
        ensemble
    }

    /// Waits until every server that runs serves.
    ///
    /// # Panics
    /// When one does not.
    pub fn settle(&self) {
        for server in self.servers.iter().filter(|server| server.running.is_some()) {
            eventually("a server that serves", || server.serves());
        }
    }

    /// As `--zk-hosts` takes them.
    #[must_use]
    pub fn hosts(&self) -> String {
        self.servers.iter().map(|server| server.address.to_string()).collect::<Vec<_>>().join(",")
    }

    /// Which server leads; none while none does.
    #[must_use]
    pub fn leader(&self) -> Option<usize> {
        let leads = |server: &Server| {
            server.running.is_some() && server.figure("zk_server_state").is_some_and(|state| state == "leader")
        };
        self.servers.iter().position(leads)
    }

    /// Every server's data folder.
    #[must_use]
    pub fn data(&self) -> Vec<PathBuf> {
        self.servers.iter().map(Server::data).collect()
    }
}

/// A server for all tests of a binary. It ends with the process.
///
/// # Panics
/// When it does not serve.
pub fn shared() -> &'static Single {
    static SHARED: OnceLock<Single> = OnceLock::new();
    SHARED.get_or_init(Server::start)
}

fn class_path() -> String {
    let mut jars: Vec<PathBuf> = fs::read_dir(JARS).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    jars.retain(|jar| {
        let name = jar.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".jar") && NEEDED.iter().any(|needed| name.starts_with(needed))
    });
    jars.sort();
    jars.iter().map(|jar| jar.display().to_string()).collect::<Vec<_>>().join(":")
}

/// Ends a group of processes that a test started.
pub fn end_group(leader: &mut Child) {
    if let Ok(pid) = i32::try_from(leader.id()) {
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = leader.wait();
}
