//! What a rollout costs beside the commands that it runs: `lockkeeper run`, a shell loop with `xargs -P`, and, where it is
//! installed, `ansible-playbook`, each for the same targets with as many at once.
//!
//! The command of every target leaves a file of its own. The files are counted after each round: a round that did not run
//! every target is an error, and no figure comes from it.

use std::ffi::{OsStr, OsString};
use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::sys::resource::{UsageWho, getrusage};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::figures::quantile;
use crate::machine;
use crate::report::{self, grouped};

/// Rounds of `ansible-playbook`: one takes minutes, and its time hardly varies.
const ANSIBLE_ROUNDS: u32 = 1;

/// The store and the state folder of a run, which the caller's environment must not replace.
const STORE_VARIABLES: [&str; 4] =
    ["LOCKKEEPER_STORE", "LOCKKEEPER_ZK_HOSTS", "LOCKKEEPER_PROFILE", "LOCKKEEPER_STATE_DIR"];

/// How it is measured.
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Number of targets
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    targets: u32,
    /// Number of targets that run at once
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    at_once: u32,
    /// Rounds; each contender runs once in each, and the median counts
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// Leave out ansible-core, which takes minutes
    #[arg(long)]
    no_ansible: bool,
    /// Write the result into this file, between its markers
    #[arg(long)]
    write: Option<PathBuf>,
}

/// What a command took.
#[derive(Debug, Clone, Copy)]
struct Took {
    seconds: f64,
    /// Peak memory of the largest of its processes.
    peak_megabytes: f64,
}

/// The folder of one measurement: the job, the inventory, the state folder, and the files that the targets leave.
struct Folder {
    folder: TempDir,
    targets: u32,
    at_once: u32,
}

/// `ansible-playbook` of the Python environment that `cargo xtask setup` makes.
struct Ansible {
    playbook: PathBuf,
    python: PathBuf,
    version: String,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let folder = Folder::new(options)?;
    let ansible = match options.no_ansible {
        true => None,
        false => ansible(),
    };
    if ansible.is_none() && !options.no_ansible {
        println!("ansible-core is not installed: it is skipped");
    }
    // One round that does not count: caches fill, and the policy is compiled.
    folder.lockkeeper()?;
    folder.xargs()?;
    let (mut ours, mut xargs, mut ansibles) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        ours.push(folder.lockkeeper()?);
        xargs.push(folder.xargs()?);
    }
    if let Some(ansible) = &ansible {
        for _ in 0..ANSIBLE_ROUNDS {
            ansibles.push(folder.ansible(ansible)?);
        }
    }
    let text = text(options, &ours, &xargs, ansible.as_ref().zip(Some(ansibles.as_slice())))?;
    println!("{text}");
    match &options.write {
        Some(file) => report::write("rollout", &text, file),
        None => Ok(()),
    }
}

impl Folder {
    fn new(options: &Options) -> Result<Self> {
        let folder = TempDir::with_prefix("lockkeeper-bench-")?;
        let this = Self { folder, targets: options.targets, at_once: options.at_once };
        let names: Vec<String> = (1..=this.targets).map(|number| format!("host{number:05}")).collect();
        fs::write(this.path("job.toml"), this.job_text(&names))?;
        fs::write(this.path("inventory.ini"), names.join("\n") + "\n")?;
        fs::write(this.path("targets.txt"), names.join("\n") + "\n")?;
        fs::write(this.path("playbook.yml"), this.playbook_text())?;
        // Nothing but its defaults, whatever this machine's own configuration says.
        fs::write(this.path("ansible.cfg"), "[defaults]\n")?;
        Ok(this)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where each target's command leaves a file.
    fn effects(&self) -> PathBuf {
        self.path("effects")
    }

    fn job_text(&self, names: &[String]) -> String {
        let names: Vec<String> = names.iter().map(|name| format!("{name:?}")).collect();
        format!(
            "name = \"bench\"\n[semaphore]\npath = \"/locks/bench\"\nmax-concurrency = {}\n[targets]\nhosts = [{}]\n\
             [policy]\nuse = \"rolling\"\n[action]\nrun = [\"touch\", \"{}/{{target}}\"]\n",
            self.at_once,
            names.join(", "),
            self.effects().display()
        )
    }

    /// Without batches, so that as many targets as are allowed run all the time.
    fn playbook_text(&self) -> String {
        format!(
            "- hosts: all\n  gather_facts: false\n  strategy: free\n  tasks:\n    - ansible.builtin.command: touch \
             {}/{{{{ inventory_hostname }}}}\n",
            self.effects().display()
        )
    }

    /// A new run of the same job; `--again`, because the job was finished in the round before.
    fn lockkeeper(&self) -> Result<Took> {
        let binary = std::env::current_exe()?.with_file_name("lockkeeper");
        let job = self.path("job.toml");
        self.round(&[binary.as_os_str(), "run".as_ref(), "--again".as_ref(), "--quiet".as_ref(), job.as_os_str()], &[])
            .context("lockkeeper run")
    }

    /// The same commands from a shell and `xargs`.
    fn xargs(&self) -> Result<Took> {
        let script = "sed \"s|^|$1/|\" \"$2\" | xargs -P \"$3\" -n 1 touch";
        let (effects, targets, at_once) = (self.effects(), self.path("targets.txt"), self.at_once.to_string());
        let command: [&OsStr; 7] = [
            "sh".as_ref(),
            "-c".as_ref(),
            script.as_ref(),
            "sh".as_ref(),
            effects.as_ref(),
            targets.as_ref(),
            at_once.as_ref(),
        ];
        self.round(&command, &[]).context("xargs")
    }

    fn ansible(&self, ansible: &Ansible) -> Result<Took> {
        let (inventory, playbook, at_once) =
            (self.path("inventory.ini"), self.path("playbook.yml"), self.at_once.to_string());
        let interpreter = format!("ansible_python_interpreter={}", ansible.python.display());
        let command: [&OsStr; 11] = [
            ansible.python.as_ref(),
            ansible.playbook.as_ref(),
            "--inventory".as_ref(),
            inventory.as_ref(),
            "--connection".as_ref(),
            "local".as_ref(),
            "--forks".as_ref(),
            at_once.as_ref(),
            "--extra-vars".as_ref(),
            interpreter.as_ref(),
            playbook.as_ref(),
        ];
        let home = self.path("home");
        fs::create_dir_all(&home)?;
        let config = self.path("ansible.cfg");
        let environment: [(&str, &OsStr); 3] =
            [("HOME", home.as_ref()), ("ANSIBLE_CONFIG", config.as_ref()), ("LC_ALL", "C.UTF-8".as_ref())];
        self.round(&command, &environment).context("ansible-playbook")
    }

    /// Measures a command in a process of its own, because the system tells the peak memory only of all children together;
    /// then counts what the targets left.
    fn round(&self, command: &[&OsStr], environment: &[(&str, &OsStr)]) -> Result<Took> {
        fs::create_dir(self.effects())?;
        let mut measuring = Command::new(std::env::current_exe()?);
        measuring.args(["one", "--"]).args(command);
        for elsewhere in STORE_VARIABLES {
            measuring.env_remove(elsewhere);
        }
        measuring.env("LOCKKEEPER_STATE_DIR", self.path("state")).envs(environment.iter().copied());
        let output =
            measuring.current_dir(self.folder.path()).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "the command failed");
        let measured: Value = serde_json::from_slice(&output.stdout)?;
        let number = |key: &str| measured[key].as_f64().with_context(|| format!("no {key} was measured"));
        let took = Took { seconds: number("seconds")?, peak_megabytes: number("peak-megabytes")? };
        let ran = fs::read_dir(self.effects())?.count();
        ensure!(ran == self.targets as usize, "{ran} of {} targets ran", self.targets);
        fs::remove_dir_all(self.effects())?;
        Ok(took)
    }
}

/// The hidden command `one`: runs a command and prints in JSON what it took. This process has no other child.
pub(crate) fn one(command: &[OsString]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let began = Instant::now();
    // Stdout is for the numbers.
    let status = Command::new(program).args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let seconds = began.elapsed().as_secs_f64();
    let status = status.with_context(|| format!("cannot run {}", program.display()))?;
    if !status.success() {
        bail!("{} ended with {status}", program.display());
    }
    let kilobytes = getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss();
    println!("{}", json!({ "seconds": seconds, "peak-megabytes": kilobytes as f64 / 1024.0 }));
    Ok(())
}

fn ansible() -> Option<Ansible> {
    let bin = std::env::current_exe().ok()?.ancestors().nth(2)?.join("python/bin");
    let (playbook, python) = (bin.join("ansible-playbook"), bin.join("python"));
    let asked = "import platform, ansible.release as r; print(f'ansible-core {r.__version__} (Python {platform.python_version()})')";
    let output =
        Command::new(&python).args(["-c", asked]).env_remove("PYTHONPATH").stderr(Stdio::null()).output().ok()?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    (output.status.success() && playbook.exists()).then_some(Ansible { playbook, python, version })
}

fn text(options: &Options, ours: &[Took], xargs: &[Took], ansible: Option<(&Ansible, &[Took])>) -> Result<String> {
    let seconds = |took: &[Took]| quantile(took.iter().map(|took| took.seconds), 0.5).context("nothing was measured");
    let peak = |took: &[Took]| took.iter().map(|took| took.peak_megabytes).fold(0.0, f64::max);
    let plain = seconds(xargs)?;
    let mut columns =
        vec![(format!("`lockkeeper run` {}", env!("CARGO_PKG_VERSION")), ours), ("`xargs -P`".to_owned(), xargs)];
    columns.extend(ansible.map(|(ansible, took)| (ansible.version.clone(), took)));

    let Options { targets, at_once, rounds, .. } = options;
    let mut text = String::new();
    let _ = writeln!(text, "Measured on {}.\n", jiff::Zoned::now().date());
    let _ = writeln!(text, "- {}", machine::machine());
    let _ = writeln!(
        text,
        "- {} targets, {at_once} at once, each runs `touch` on a file of its own; after each round the files are counted",
        grouped(f64::from(*targets), 0)
    );
    let once = if ansible.is_some() { "; ansible-core runs once" } else { "" };
    let _ = writeln!(text, "- medians of {rounds} rounds in turn{once}; the embedded store\n");
    let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
    let _ = writeln!(text, "| what | {} |", names.join(" | "));
    let _ = writeln!(text, "|---|{}", "---:|".repeat(columns.len()));
    let mut row = |what: &str, figure: &dyn Fn(&[Took]) -> Result<f64>, decimals: usize| -> Result<()> {
        let figures: Vec<String> = columns
            .iter()
            .map(|(_, took)| figure(took).map(|figure| grouped(figure, decimals)))
            .collect::<Result<_>>()?;
        let _ = writeln!(text, "| {what} | {} |", figures.join(" | "));
        Ok(())
    };
    row("seconds", &seconds, 3)?;
    row("targets a second", &|took| Ok(f64::from(*targets) / seconds(took)?), 0)?;
    row(
        "milliseconds a target above `xargs -P`",
        &|took| Ok((seconds(took)? - plain) * 1000.0 / f64::from(*targets)),
        3,
    )?;
    row("peak memory of the largest process, MB", &|took| Ok(peak(took)), 1)?;
    Ok(text)
}
