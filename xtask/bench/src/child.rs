//! A process that takes slots, ours or a peer's, and what is said with it.
//!
//! It says `ready`, hears `go`, works for as long as it was told, says `end` and then, in one line of JSON, what it did. It
//! hears `close`, closes its sessions and is gone. Of work it tells `begin` and `end`, and of each acquisition between them
//! when it was asked for, had, given back and gone, all in microseconds of the system's steady clock.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// How long it may take beyond what it was told: a thousand threads have to get going.
const PATIENCE: Duration = Duration::from_secs(90);

/// How long it may take to close its sessions.
const CLOSING: Duration = Duration::from_secs(15);

/// One that runs. Dropping it ends it.
pub(crate) struct Running {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<(Instant, String)>,
    complaints: File,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Result<Self> {
        let complaints = tempfile::tempfile()?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(complaints.try_clone()?).process_group(0);
        let mut child = command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))?;
        let (input, output) = (child.stdin.take(), child.stdout.take().context("its output is ours")?);
        let (sender, lines) = channel();
        // Ends with the process.
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send((Instant::now(), line)).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, input, lines, complaints })
    }

    /// The next line, and when it came; none when none came by then.
    pub(crate) fn line_by(&mut self, deadline: Instant) -> Result<Option<(Instant, String)>> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(Some(line)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("it ended: {}", self.complaint()),
        }
    }

    /// The next line, which is about to come.
    pub(crate) fn line(&mut self, expected: Duration) -> Result<String> {
        match self.line_by(Instant::now() + expected + PATIENCE)? {
            Some((_, line)) => Ok(line),
            None => bail!("it said nothing for {:?}: {}", expected + PATIENCE, self.complaint()),
        }
    }

    pub(crate) fn expect(&mut self, word: &str, expected: Duration) -> Result<()> {
        match self.line(expected)? {
            line if line == word => Ok(()),
            line => bail!("it said `{line}` and not `{word}`"),
        }
    }

    pub(crate) fn say(&mut self, word: &str) -> Result<()> {
        let input = self.input.as_mut().context("its input is ours")?;
        writeln!(input, "{word}").with_context(|| format!("cannot say `{word}`"))
    }

    /// Lets it close its sessions.
    pub(crate) fn close(mut self) -> Result<()> {
        self.say("close")?;
        self.input = None;
        let deadline = Instant::now() + CLOSING;
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn complaint(&mut self) -> String {
        let mut text = String::new();
        let read = self.complaints.rewind().and_then(|()| self.complaints.read_to_string(&mut text));
        match read {
            Ok(_) => text.trim().to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Once it was waited for, its number may be another's.
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        if let Ok(pid) = i32::try_from(self.child.id()) {
            // Those that it started go with it.
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = self.child.wait();
    }
}
