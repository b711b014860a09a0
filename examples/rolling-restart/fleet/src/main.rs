//! A fleet of small server processes on one machine: something real to restart.
//!
//! Each server answers on a Unix socket in the fleet's folder, and runs beneath `lockkeeper party join`, so that it is a
//! member of the party exactly while it lives.

#![expect(clippy::print_stdout, reason = "what a command line tool answers")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

/// The party that servers join.
const PARTY: &str = "/party/web";

/// How long a server takes to start: long enough to see that it is down.
const START_UP: Duration = Duration::from_millis(300);

/// How long a server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(20);

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
    /// Stop all servers.
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
    let names = names(servers);
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
fn start(dir: &Path, name: &str) -> Result<()> {
    let ourselves = std::env::current_exe()?;
    let log = File::options().create(true).append(true).open(dir.join(format!("{name}.log")))?;
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
        kill(pid, Signal::SIGTERM).with_context(|| format!("cannot stop {name}"))?;
        wait_for(|| Ok(pid_of(dir, name).is_none())).with_context(|| format!("{name} does not stop"))?;
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
    while !dir.join("stop").exists() {
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
    let files = fs::read_dir(dir).with_context(|| format!("no fleet in {}", dir.display()))?;
    for file in files {
        let path = file?.path();
        let is_socket = path.extension().is_some_and(|extension| extension == "socket");
        if let (true, Some(name)) = (is_socket, path.file_stem().and_then(|stem| stem.to_str())) {
            // Only a process that answers on our socket is one of ours.
            if let Some(pid) = pid_of(dir, name) {
                kill(pid, Signal::SIGTERM).with_context(|| format!("cannot stop {name}"))?;
                wait_for(|| Ok(pid_of(dir, name).is_none())).with_context(|| format!("{name} does not stop"))?;
            }
        }
    }
    Ok(())
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
    UnixStream::connect(socket(dir, name)).ok()?.read_to_string(&mut answer).ok()?;
    answer.trim().parse().ok().map(Pid::from_raw)
}

fn socket(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}.socket"))
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
