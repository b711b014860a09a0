//! One command over an open connection: started, watched, stopped.

use std::fs::File;
use std::io::{self, Write as _};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::connection::{Channel, Host};
use super::remote::{self, CHECKS_PER_SECOND, GONE, Script};
use crate::rollout::exec::command::{CommandEnd, Limits, Stopped};
use crate::rollout::exec::process;
use lockkeeper_locks::terminal::{self, MAX_VALUE};

/// Longest line of ssh, in bytes, that is read at once.
const MAX_LINE: u64 = 64 * 1024;

/// Time limit for ssh to hand over the last output of a command that has ended: a process that the command leaves
/// behind may hold it open.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// Time limit for a login shell to start the script.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// Time limit for ssh itself to end.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(1);

/// How much longer than a command's own time stopping it may take: connecting, and checking after the kill.
const STOP_MARGIN: Duration = Duration::from_secs(10);

/// What became of a command.
pub(super) enum SessionEnd {
    CommandEnded(CommandEnd),
    /// It never got the word to start and never will; with the reason.
    NeverStarted(String),
}

/// Runs a command to its end, or until it must end.
pub(super) async fn run(host: &Host, script: &Script, log: &File, limits: &mut Limits<'_>) -> SessionEnd {
    let token = uuid::Uuid::new_v4().simple().to_string();
    let (mut child, mut output) = match start(host, &script.line(&token), log) {
        Ok(started) => started,
        Err(reason) => return SessionEnd::NeverStarted(reason),
    };
    let mut go = child.stdin.take();
    // The command's group on the host, once it got the word to start.
    let mut group = None;
    let begin_by = Instant::now() + START_TIMEOUT;
    let must_end = loop {
        tokio::select! {
            said = output.next(&token, log) => match said {
                Some(ScriptLine::Ready(number)) if group.is_none() => {
                    let word = script.word(&token);
                    let sent = match &mut go {
                        Some(go) => go.write_all(word.as_bytes()).await,
                        None => Err(io::ErrorKind::BrokenPipe.into()),
                    };
                    // Without the word nothing starts; once it may have arrived, the outcome is unknown.
                    if sent.is_ok() {
                        group = Some(number);
                    }
                }
                Some(ScriptLine::Ended(code)) => {
                    let _ = timeout(LAST_OUTPUT, child.wait()).await;
                    process::stop(&mut child, Instant::now() + CLIENT_TIMEOUT).await;
                    return SessionEnd::CommandEnded(CommandEnd::Exited(Some(code), format!("exited with {code}")));
                }
                Some(ScriptLine::Ready(_) | ScriptLine::Other) => {}
                None => {
                    let status = timeout(CLIENT_TIMEOUT, child.wait()).await;
                    process::stop(&mut child, Instant::now() + CLIENT_TIMEOUT).await;
                    let name = &host.name;
                    if group.is_some() {
                        let lost = format!("the connection to `{name}` broke while the command was running");
                        return SessionEnd::CommandEnded(CommandEnd::Lost(lost));
                    }
                    let code = status.ok().and_then(Result::ok).and_then(|status| status.code());
                    let how = match (output.last.as_str(), code) {
                        ("", Some(code)) => format!("ssh ended with {code} before the command started"),
                        ("", None) => "ssh ended before the command started".to_owned(),
                        (last, _) => last.to_owned(),
                    };
                    return SessionEnd::NeverStarted(never_started(name, &how));
                }
            },
            must_end = limits.reached() => break must_end,
            () = sleep_until(begin_by), if group.is_none() => {
                drop(go);
                process::stop(&mut child, Instant::now() + CLIENT_TIMEOUT).await;
                let late = format!("its login shell did not start it within {}", humantime::format_duration(START_TIMEOUT));
                return SessionEnd::CommandEnded(CommandEnd::NotStarted(never_started(&host.name, &late)));
            }
        }
    };
    // Closing the input shows the script that no word will come.
    drop(go);
    let stopped = match group {
        None => Stopped::Gone,
        Some(group) => stop(host, group, must_end.kill_at()).await,
    };
    let _ = timeout(CLIENT_TIMEOUT, child.wait()).await;
    process::stop(&mut child, Instant::now() + CLIENT_TIMEOUT).await;
    SessionEnd::CommandEnded(must_end.ended(stopped))
}

fn never_started(host: &str, how: &str) -> String {
    format!("cannot start the command on `{host}`: {how}; it did not run")
}

fn start(host: &Host, line: &str, log: &File) -> Result<(Child, ScriptOutput), String> {
    let cannot = |error: io::Error| format!("cannot run `ssh`: {error}");
    let mut command = host.connections.command(&host.name, Channel::Shared, line)?;
    command.stdin(Stdio::piped()).stdout(log.try_clone().map_err(cannot)?).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(cannot)?;
    let errors = child.stderr.take().ok_or_else(|| cannot(io::ErrorKind::BrokenPipe.into()))?;
    Ok((child, ScriptOutput { reader: BufReader::new(errors), line: Vec::new(), last: String::new() }))
}

/// Stops a group on its host: SIGTERM, and SIGKILL at `kill_at`.
async fn stop(host: &Host, group: u32, kill_at: Instant) -> Stopped {
    let patience = kill_at.saturating_duration_since(Instant::now());
    let looks = u32::try_from(patience.as_millis() * u128::from(CHECKS_PER_SECOND) / 1000).unwrap_or(u32::MAX);
    let line = remote::stop(group, looks);
    let name = &host.name;
    // A server may refuse a second session on a connection, and that connection may be what broke.
    for over in [Channel::Shared, Channel::Own] {
        let mut command = match host.connections.command(name, over, &line) {
            Ok(command) => command,
            Err(reason) => return Stopped::Perhaps(reason),
        };
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let output = match command.spawn() {
            Ok(child) => timeout_at(kill_at + STOP_MARGIN, child.wait_with_output()).await,
            Err(error) => return Stopped::Perhaps(format!("cannot run `ssh`: {error}")),
        };
        let Ok(output) = output else {
            return Stopped::Perhaps(format!("`{name}` did not answer the request to stop it"));
        };
        let said = output.map(|output| output.stdout).unwrap_or_default();
        match String::from_utf8_lossy(&said).lines().last() {
            Some(GONE) => return Stopped::Gone,
            Some(_) => return Stopped::Perhaps(format!("some of it could not be killed on `{name}`")),
            None => {}
        }
    }
    Stopped::Perhaps(format!("`{name}` could not be reached to stop it"))
}

/// The lines of ssh and of the script, beside the command's output.
struct ScriptOutput {
    reader: BufReader<ChildStderr>,
    line: Vec<u8>,
    /// The last line that the script did not write.
    last: String,
}

enum ScriptLine {
    /// The command may get the word to start; it will be in this group.
    Ready(u32),
    /// It ended with this exit code.
    Ended(i32),
    /// Another line, which was written to the log.
    Other,
}

impl ScriptOutput {
    /// The next line. `None` after the last.
    ///
    /// # Cancel safety
    /// The part of a line that was read is kept.
    async fn next(&mut self, token: &str, mut log: &File) -> Option<ScriptLine> {
        let read = (&mut self.reader).take(MAX_LINE).read_until(b'\n', &mut self.line).await;
        if read.is_err() || self.line.is_empty() {
            return None;
        }
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        let mut words = line.split_whitespace();
        let (first, what, number) = (words.next(), words.next(), words.next());
        if first == Some(token) {
            let number = number.and_then(|number| number.parse::<u32>().ok());
            return Some(match (what, number) {
                (Some("ready"), Some(group)) => ScriptLine::Ready(group),
                (Some("ended"), Some(code)) => ScriptLine::Ended(i32::try_from(code).unwrap_or(i32::MAX)),
                _ => ScriptLine::Other,
            });
        }
        if line.trim().is_empty() {
            return Some(ScriptLine::Other);
        }
        // For readers of the log; the command's own output is in it already.
        let _ = log.write_all(line.as_bytes());
        self.last = terminal::log_line(line.trim().trim_end_matches('.'), MAX_VALUE);
        Some(ScriptLine::Other)
    }
}
