//! A fleet of small server processes on one machine: something real to restart.
//!
//! Each server answers on a Unix socket in the fleet's folder, and runs beneath `lockkeeper party join`, so that it is a
//! member of the party exactly while it lives. Both write to the server's log, which is locked while they do: whoever can
//! lock the log knows that nothing of the server is left, whatever became of it.

#![expect(clippy::print_stdout, reason = "what a command line tool answers")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// The party that servers join.
const PARTY: &str = "/party/web";

/// How long a server takes to start: long enough to see that it is down.
const START_UP: Duration = Duration::from_millis(300);

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long an answer may take; who is slower is down.
const ANSWER: Duration = Duration::from_secs(1);

/// The file that says: nothing starts here any more.
const CLOSED: &str = "closed";

/// The file that ends the watching.
const STOP: &str = "stop";

/// How often something is looked at that is waited for.
const LOOK: Duration = Duration::from_millis(5);

#[derive(Parser)]
#[command(about = "A fleet of small server processes on one machine")]
struct Cli {
    /// The fleet's folder.
    #[arg(long, env = "FLEET_DIR")]
    dir: PathBuf,
    #[command(subcommand)]
    command: Action,
}

#[derive(Subcommand)]
enum Action {
    /// Start servers web01, web02, … and wait until all answer.
    Up { servers: usize },
    /// Stop a server, start it anew, and wait until it answers.
    Restart { name: String },
    /// Ask a server whether it is there.
    Probe { name: String },
    /// Look at all servers from outside until a file `stop` appears in the folder; then say what was seen.
    Watch { servers: usize },
    /// Stop all servers, those that are just starting too, and wait until nothing of them is left.
    Down,
    /// Be a server.
    Serve { name: String },
}

fn main() -> ExitCode {
    let Cli { dir, command } = Cli::parse();
    let done = match command {
        Action::Up { servers } => up(&dir, servers),
        Action::Restart { name } => restart(&dir, &name),
        Action::Probe { name } => probe(&dir, &name),
        Action::Watch { servers } => watch(&dir, servers),
        Action::Down => down(&dir),
        Action::Serve { name } => serve(&dir, &name),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn names(servers: usize) -> Vec<String> {
    (1..=servers).map(|number| format!("web{number:02}")).collect()
}

fn up(dir: &Path, servers: usize) -> Result<()> {
    fs::create_dir_all(dir)?;
    if dir.join(CLOSED).exists() {
        fs::remove_file(dir.join(CLOSED))?;
    }
    let names = names(servers);
    if let Some(name) = names.iter().find(|name| pid_of(dir, name).is_some()) {
        bail!("{name} is up already");
    }
    for name in &names {
        start(dir, name)?;
    }
    for name in &names {
        wait_for(|| Ok(pid_of(dir, name).is_some())).with_context(|| format!("{name} does not answer"))?;
    }
    println!("{servers} servers are up");
    Ok(())
}

/// Starts a server beneath `lockkeeper party join`, in a process group of its own: it outlives whoever starts it.
///
/// Waits until the one before it has left the party: no server is two members.
fn start(dir: &Path, name: &str) -> Result<()> {
    let ourselves = std::env::current_exe()?;
    let log = File::options().create(true).append(true).open(log_of(dir, name))?;
    // The lock goes with the file to those who inherit it, and ends with the last of them.
    wait_for(|| is_free(&log)).with_context(|| format!("{name} does not go"))?;
    if dir.join(CLOSED).exists() {
        bail!("the fleet is closed, {name} does not start");
    }
    let lockkeeper = std::env::var_os("LOCKKEEPER").unwrap_or_else(|| "lockkeeper".into());
    Command::new(&lockkeeper)
        .args(["party", "join", PARTY, "--identifier", name, "--"])
        .arg(ourselves)
        .arg("--dir")
        .arg(dir)
        .args(["serve", name])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot run {}", lockkeeper.display()))?;
    Ok(())
}

fn restart(dir: &Path, name: &str) -> Result<()> {
    if let Some(pid) = pid_of(dir, name) {
        terminate(pid, name)?;
    }
    start(dir, name)?;
    wait_for(|| Ok(pid_of(dir, name).is_some())).with_context(|| format!("{name} does not come up"))
}

fn probe(dir: &Path, name: &str) -> Result<()> {
    match pid_of(dir, name) {
        Some(pid) => println!("{name} answers, process {pid}"),
        None => bail!("{name} does not answer"),
    }
    Ok(())
}

fn watch(dir: &Path, servers: usize) -> Result<()> {
    let names = names(servers);
    let mut last: BTreeMap<&str, Pid> = BTreeMap::new();
    let mut restarted: BTreeMap<&str, u32> = BTreeMap::new();
    let (mut most_down, mut looks) = (0, 0_u64);
    while dir.exists() && !dir.join(STOP).exists() {
        let mut down = 0;
        for name in &names {
            match pid_of(dir, name) {
                None => down += 1,
                Some(pid) => {
                    if last.insert(name, pid).is_some_and(|before| before != pid) {
                        *restarted.entry(name).or_default() += 1;
                    }
                }
            }
        }
        most_down = most_down.max(down);
        looks += 1;
        sleep(LOOK);
    }
    println!("{}", json!({ "restarted": restarted, "most-down": most_down, "looks": looks }));
    Ok(())
}

fn down(dir: &Path) -> Result<()> {
    // First this, then the locks: whoever starts a server looks the other way round, so that one of us sees the other.
    File::create(dir.join(CLOSED)).with_context(|| format!("no fleet in {}", dir.display()))?;
    let mut left = BTreeSet::new();
    for file in fs::read_dir(dir)? {
        let path = file?.path();
        let is_log = path.extension().is_some_and(|extension| extension == "log");
        if let (true, Some(name)) = (is_log, path.file_stem().and_then(|stem| stem.to_str())) {
            left.insert(name.to_owned());
        }
    }
    let mut told = BTreeSet::new();
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut still = BTreeSet::new();
        for name in left {
            if is_free(&File::open(log_of(dir, &name))?)? {
                continue;
            }
            // Only a process that answers on our socket is one of ours; who is just starting soon answers.
            if let Some(pid) = pid_of(dir, &name).filter(|pid| told.insert(*pid)) {
                terminate(pid, &name)?;
            }
            still.insert(name);
        }
        if still.is_empty() {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("waited {PATIENCE:?}, and these do not stop: {still:?}");
        }
        left = still;
        sleep(LOOK);
    }
}

fn serve(dir: &Path, name: &str) -> Result<()> {
    sleep(START_UP);
    let socket = socket(dir, name);
    if socket.exists() {
        fs::remove_file(&socket)?;
    }
    let listener = UnixListener::bind(&socket)?;
    for connection in listener.incoming() {
        // A client that went away does not end the server.
        let _ = connection.and_then(|mut connection| writeln!(connection, "{}", std::process::id()));
    }
    Ok(())
}

/// The process that answers under a name.
fn pid_of(dir: &Path, name: &str) -> Option<Pid> {
    let mut answer = String::new();
    let mut connection = UnixStream::connect(socket(dir, name)).ok()?;
    connection.set_read_timeout(Some(ANSWER)).ok()?;
    connection.read_to_string(&mut answer).ok()?;
    // 0 and what is negative would be whole groups of processes.
    answer.trim().parse().ok().filter(|pid| *pid > 1).map(Pid::from_raw)
}

fn terminate(pid: Pid, name: &str) -> Result<()> {
    match kill(pid, Signal::SIGTERM) {
        // It went by itself, just now.
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot stop {name}")),
    }
}

fn socket(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.socket"))
}

fn log_of(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.log"))
}

/// Locks a log if nobody writes to it.
fn is_free(log: &File) -> Result<bool> {
    match log.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error).context("cannot lock a server's log"),
    }
}

fn wait_for(condition: impl Fn() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while !condition()? {
        if Instant::now() > deadline {
            bail!("waited for {PATIENCE:?}");
        }
        sleep(LOOK);
    }
    Ok(())
}
