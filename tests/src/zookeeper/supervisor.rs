//! A process that never outlives this one, however this one ends.
//!
//! Its parent is a shell that reads a pipe whose other end this process holds. A line on the pipe stops it in an
//! orderly way; the end of the pipe means that this process is gone, and the shell kills the process and removes its
//! folder. The shell leads a process group of its own, so that signals of a terminal do not reach it.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::{fs, mem};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// `$1` is the log, `$2` the folder, the rest the command.
const SHELL: &str = r#"log=$1 folder=$2; shift 2
"$@" < /dev/null >> "$log" 2>&1 &
pid=$!; echo "$pid"
if read -r _; then kill -9 "$pid"; wait "$pid"; else kill -9 "$pid"; wait "$pid"; rm -rf "$folder"; fi 2> /dev/null"#;

/// A running process.
#[derive(Debug)]
pub(super) struct Supervised {
    shell: Child,
    pid: Pid,
}

impl Supervised {
    /// Starts a command. Its output is appended to `log`; `folder` is removed when this process ends.
    ///
    /// # Panics
    /// If it cannot be started.
    pub(super) fn start(command: &[String], log: &Path, folder: &Path) -> Self {
        let mut line = Command::new("sh");
        line.args(["-c", SHELL, "sh"]).arg(log).arg(folder).args(command);
        line.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut shell = line.spawn().expect("a shell can be started");
        let mut pid = String::new();
        let stdout = shell.stdout.take().expect("stdout is a pipe");
        BufReader::new(stdout).read_line(&mut pid).expect("the shell says the process id");
        let pid = Pid::from_raw(pid.trim().parse().expect("a process id is a number"));
        Self { shell, pid }
    }

    /// Whether it has not ended by itself.
    pub(super) fn lives(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid));
        stat.is_ok_and(|stat| !stat.contains(") Z"))
    }

    /// Whether all its threads have stopped after a SIGSTOP, which reaches each thread in its own time.
    pub(super) fn stands_still(&self) -> bool {
        let Ok(threads) = fs::read_dir(format!("/proc/{}/task", self.pid)) else { return false };
        threads.flatten().all(|thread| {
            // A thread that has just ended counts as stopped.
            fs::read_to_string(thread.path().join("stat")).map_or(true, |stat| stat.contains(") T"))
        })
    }

    /// Sends it a signal.
    ///
    /// # Panics
    /// If it is gone.
    pub(super) fn signal(&self, signal: Signal) {
        // Until the shell has waited for it, no other process has its ID.
        kill(self.pid, signal).expect("the server can be signalled");
    }
}

impl Drop for Supervised {
    /// Kills it, and waits until it is gone.
    fn drop(&mut self) {
        if let Some(mut stdin) = mem::take(&mut self.shell.stdin) {
            let _ = stdin.write_all(b"stop\n");
        }
        let _ = self.shell.wait();
    }
}
