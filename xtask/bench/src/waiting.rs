//! What it costs to wait: many runs whose orchestrations all want a lease that somebody else holds; beside them, as peers, what
//! waits for the same without a guest, and scripts of kazoo.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use lockkeeper_coordination::store::NodePath;
use lockkeeper_tests::root;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::cast::Cast;
use crate::world::World;
use crate::{machine, report};

/// What everybody waits for.
const WANTED: &str = "/locks/wanted";

/// How long everybody may take to come to where they wait.
const PATIENCE: Duration = Duration::from_secs(300);

/// After that they are left in peace before they are measured.
const SETTLE: Duration = Duration::from_secs(15);

/// So many of ours start at once.
const STARTING: usize = 10;

/// How it is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// How many runs wait.
    #[arg(long, default_value_t = 200)]
    runs: usize,
    /// How many peers of each kind wait.
    #[arg(long, default_value_t = 20)]
    peers: usize,
    /// For how many seconds they are looked at.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Write the result into this file, between its markers.
    #[arg(long)]
    write: Option<PathBuf>,
}

/// What one of them takes, on the average.
struct Takes {
    /// Its share of all that they have in memory, in megabytes: what several share is split between them.
    share: f64,
    /// What it has for itself alone, likewise.
    own: f64,
    /// Milliseconds of processor a second.
    busy: f64,
}

/// One figure of what they take.
type Of = fn(&Takes) -> f64;

/// Processes that end with this.
struct Crowd(Vec<Child>);

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if !lockkeeper_tests::zookeeper::available() {
        return Ok(());
    }
    let cast = Cast::gather()?;
    let world = World::start(true)?;
    let machine = machine::describe(&world)?;
    let folder = TempDir::with_prefix("lockkeeper-bench-")?;
    let hosts = world.server.hosts();
    done(lockkeeper(folder.path()).args(["lock", WANTED, "--identifier", "bench", "--zk-hosts", &hosts]))?;
    let ours = ours(options, folder.path(), &world)?;
    let plain = plain(options, folder.path(), &world)?;
    let kazoo = match cast.python() {
        Some(python) => Some(kazoo(options, python, &hosts)?),
        None => None,
    };
    let text = text(options, &machine, &cast, [Some(&ours), Some(&plain), kazoo.as_ref()]);
    println!("{text}");
    match &options.write {
        Some(file) => report::write("waiting", &text, file),
        None => Ok(()),
    }
}

fn lockkeeper(folder: &Path) -> Command {
    // Built beside us.
    let here = std::env::current_exe().unwrap_or_default();
    let mut command = Command::new(here.with_file_name("lockkeeper"));
    command.arg("--state-dir").arg(folder.join("state"));
    for elsewhere in ["LOCKKEEPER_STORE", "LOCKKEEPER_ZK_HOSTS", "LOCKKEEPER_PROFILE"] {
        command.env_remove(elsewhere);
    }
    command
}

fn done(command: &mut Command) -> Result<()> {
    let output = command.output().context("cannot run what `cargo build --release` makes")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn ours(options: &Options, folder: &Path, world: &World) -> Result<Takes> {
    let hosts = &world.server.hosts();
    let wasm = folder.join("waits.wasm");
    let source = root().join("examples/two-datacentres/orchestration");
    done(lockkeeper(folder).args(["policy", "build"]).arg(source).arg("--out").arg(&wasm))?;
    let mut crowd = Crowd(Vec::new());
    let mut logs = Vec::new();
    for number in 0..options.runs {
        let job = folder.join(format!("waits{number}.toml"));
        fs::write(&job, job_text(number))?;
        let log = folder.join(format!("waits{number}.log"));
        let mut command = lockkeeper(folder);
        command.arg("run").arg(&job).args(["--format", "json", "--zk-hosts", hosts]);
        let to = fs::File::create(&log)?;
        crowd.0.push(command.stdin(Stdio::null()).stdout(to.try_clone()?).stderr(to).spawn()?);
        logs.push(log);
        if logs.len() % STARTING == 0 {
            all_say("\"event\":\"calling\"", &logs)?;
        }
    }
    all_say("\"event\":\"calling\"", &logs)?;
    all_wait(world, options.runs)?;
    let takes = takes(&mut crowd, options.seconds)?;
    for (child, log) in crowd.0.iter_mut().zip(&logs) {
        if let Some(status) = child.try_wait()? {
            bail!("one that was to wait ended with {status}: {}", fs::read_to_string(log)?);
        }
        // Interrupted: whoever goes on finds it where it was.
        kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    }
    for child in &mut crowd.0 {
        let status = child.wait()?;
        ensure!(status.code() == Some(1), "a run that was interrupted, and is not finished, ended with {status}");
    }
    Ok(takes)
}

fn job_text(number: usize) -> String {
    format!(
        "name = \"waits{number}\"\n[semaphore]\npath = \"/locks/own{number}\"\n[targets]\nhosts = [\"a\"]\n\
         [orchestration]\npath = \"waits.wasm\"\nsemaphores = [{{ path = \"{WANTED}\" }}, {{ path = \"/locks/other\" }}]\n\
         [orchestration.settings]\nfirst = \"{WANTED}\"\nsecond = \"/locks/other\"\npatience = \"1s\"\nrest = \"1s\"\ntries = 1\n\
         [policy]\nuse = \"rolling\"\n[action]\nrun = [\"true\"]\n"
    )
}

/// `lockkeeper lock`: the same session and the same place in a queue, and no guest.
fn plain(options: &Options, folder: &Path, world: &World) -> Result<Takes> {
    let hosts = &world.server.hosts();
    let mut crowd = Crowd(Vec::new());
    let mut logs = Vec::new();
    for number in 0..options.peers {
        let log = folder.join(format!("lock{number}.log"));
        let to = fs::File::create(&log)?;
        let mut command = lockkeeper(folder);
        command.args(["lock", WANTED, "--identifier", &format!("plain{number}"), "--zk-hosts", hosts, "--", "true"]);
        crowd.0.push(command.stdin(Stdio::null()).stdout(to.try_clone()?).stderr(to).spawn()?);
        logs.push(log);
    }
    all_say("Waiting", &logs)?;
    all_wait(world, options.peers)?;
    takes(&mut crowd, options.seconds)
}

fn kazoo(options: &Options, python: &Path, hosts: &str) -> Result<Takes> {
    let folder = TempDir::with_prefix("lockkeeper-bench-")?;
    let mut crowd = Crowd(Vec::new());
    let mut logs = Vec::new();
    for number in 0..options.peers {
        let log = folder.path().join(format!("kazoo{number}.log"));
        let to = fs::File::create(&log)?;
        let mut command = Command::new(python);
        command.arg("-B").arg(root().join("xtask/bench/peers/kazoo_waits.py")).args([hosts, "/kazoo/wanted"]);
        command.env_remove("PYTHONPATH").stdin(Stdio::null()).stdout(to.try_clone()?).stderr(to);
        crowd.0.push(command.spawn()?);
        logs.push(log);
    }
    all_say("waits", &logs)?;
    // The first of them has the slot, and keeps it.
    takes(&mut crowd, options.seconds)
}

/// Until each has said something.
fn all_say(what: &str, logs: &[PathBuf]) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let silent = logs.iter().find(|log| !fs::read_to_string(log).is_ok_and(|text| text.contains(what)));
        let Some(silent) = silent else { return Ok(()) };
        if Instant::now() > deadline {
            bail!("one of them does not wait: {}", fs::read_to_string(silent)?);
        }
        sleep(Duration::from_millis(100));
    }
}

/// Until the server has as many in the queue for the lease.
fn all_wait(world: &World, wanted: usize) -> Result<()> {
    let queue = NodePath::parse(WANTED)?.with_suffix("-__lock__");
    let deadline = Instant::now() + PATIENCE;
    loop {
        let waiting = world.children(&queue);
        if waiting >= wanted {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{waiting} of {wanted} wait in the server's queue");
        sleep(Duration::from_millis(100));
    }
}

/// What each takes, on the average; all must be alive.
fn takes(crowd: &mut Crowd, seconds: u32) -> Result<Takes> {
    sleep(SETTLE);
    let mut alive: Vec<i32> = Vec::new();
    for child in &mut crowd.0 {
        if child.try_wait()?.is_none() {
            alive.push(i32::try_from(child.id())?);
        }
    }
    ensure!(!alive.is_empty() && alive.len() == crowd.0.len(), "{} of {} wait", alive.len(), crowd.0.len());
    let before: u64 = alive.iter().map(|pid| nanoseconds(*pid)).sum::<Result<u64>>()?;
    sleep(Duration::from_secs(seconds.into()));
    let after: u64 = alive.iter().map(|pid| nanoseconds(*pid)).sum::<Result<u64>>()?;
    let many = alive.len() as f64;
    let (mut share, mut own) = (0.0, 0.0);
    for pid in &alive {
        let (its_share, its_own) = memory(*pid)?;
        share += its_share;
        own += its_own;
    }
    let busy = (after - before) as f64 / 1e6 / f64::from(seconds) / many;
    Ok(Takes { share: share / many, own: own / many, busy })
}

/// Processor time of all its threads, to the nanosecond: in ticks, who works for microseconds at a time may take none.
fn nanoseconds(pid: i32) -> Result<u64> {
    let mut all = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = fs::read_to_string(thread?.path().join("schedstat"))?;
        let busy: u64 = stat.split(' ').next().context("an empty schedstat")?.parse()?;
        all += busy;
    }
    Ok(all)
}

/// Its share and what is its own, in megabytes.
fn memory(pid: i32) -> Result<(f64, f64)> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let of = |name: &str| -> f64 {
        let line = rollup.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok()).unwrap_or(0.0)
    };
    Ok((of("Pss:") / 1024.0, (of("Private_Clean:") + of("Private_Dirty:")) / 1024.0))
}

fn text(options: &Options, machine: &[String], cast: &Cast, all: [Option<&Takes>; 3]) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "Measured on {}.\n", jiff::Zoned::now().date());
    for line in machine {
        let _ = writeln!(text, "- {line}");
    }
    let Options { runs, peers, seconds, .. } = options;
    let _ = writeln!(
        text,
        "- {runs} runs whose orchestrations wait for one lease that somebody else holds, a process each; then {peers} times \
         `lockkeeper lock` for the same, which has no guest, and {peers} scripts of kazoo that wait for a `Semaphore`; each \
         looked at for {seconds} s\n"
    );
    let kazoo = cast.name(crate::cast::Who::Kazoo);
    let _ = writeln!(text, "| one that waits takes | a run | `lockkeeper lock` | {kazoo} |");
    let _ = writeln!(text, "|---|---:|---:|---:|");
    let rows: [(&str, Of); 3] = [
        ("memory of its own, MB", |takes| takes.own),
        ("its share of all memory, MB", |takes| takes.share),
        ("processor, ms a second", |takes| takes.busy),
    ];
    for (what, of) in rows {
        let figures = all.map(|takes| takes.map_or_else(|| "–".to_owned(), |takes| format!("{:.2}", of(takes))));
        let _ = writeln!(text, "| {what} | {} |", figures.join(" | "));
    }
    text
}
