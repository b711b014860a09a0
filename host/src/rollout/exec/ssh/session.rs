//! One command over an open connection: told to begin, watched, stopped.

use std::fs::File;
use std::io::{self, Write as _};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use super::super::process;
use super::connection::Way;
use super::remote::{self, GONE, LOOKS_A_SECOND, Script};
use super::{Ended, Host, Limits, Stopped};
use crate::terminal::{self, MAX_VALUE};

/// The longest line of ssh that is read at once, in bytes.
const MAX_LINE: u64 = 64 * 1024;

/// How long ssh gets to hand over the last output of a command that has ended: what a command leaves behind may hold it open.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// How long a login shell gets to come to the point.
const BEGINNING: Duration = Duration::from_secs(60);

/// How long ssh itself gets to end.
const CLIENT_ENDS: Duration = Duration::from_secs(1);

/// How much longer than a command's own time stopping it may take: getting there, and looking after the kill.
const STOPPING: Duration = Duration::from_secs(10);

/// What became of a command.
pub(super) enum Over {
    Ended(Ended),
    /// It was never told to begin, and never will: why.
    NeverBegan(String),
}

/// Runs a command to its end, or until it must end.
pub(super) async fn run(host: &Host, script: &Script, log: &File, limits: &mut Limits<'_>) -> Over {
    let token = uuid::Uuid::new_v4().simple().to_string();
    let (mut child, mut told) = match start(host, &script.line(&token), log) {
        Ok(started) => started,
        Err(reason) => return Over::NeverBegan(reason),
    };
    let mut go = child.stdin.take();
    // The group over there, once the command was told to begin.
    let mut group = None;
    let begin_by = Instant::now() + BEGINNING;
    let must_end = loop {
        tokio::select! {
            said = told.next(&token, log) => match said {
                Some(Said::Ready(number)) if group.is_none() => {
                    let word = script.word(&token);
                    let sent = match &mut go {
                        Some(go) => go.write_all(word.as_bytes()).await,
                        None => Err(io::ErrorKind::BrokenPipe.into()),
                    };
                    // Without it nothing begins; with it nobody can say that nothing did.
                    if sent.is_ok() {
                        group = Some(number);
                    }
                }
                Some(Said::Ended(code)) => {
                    let _ = timeout(LAST_OUTPUT, child.wait()).await;
                    process::stop(&mut child, Instant::now() + CLIENT_ENDS).await;
                    return Over::Ended(Ended::Exited(Some(code), format!("exited with {code}")));
                }
                Some(Said::Ready(_) | Said::Other) => {}
                None => {
                    let status = timeout(CLIENT_ENDS, child.wait()).await;
                    process::stop(&mut child, Instant::now() + CLIENT_ENDS).await;
                    let name = &host.name;
                    if group.is_some() {
                        let lost = format!("the connection to `{name}` broke while the command ran");
                        return Over::Ended(Ended::Lost(lost));
                    }
                    let code = status.ok().and_then(Result::ok).and_then(|status| status.code());
                    let how = match (told.last.as_str(), code) {
                        ("", Some(code)) => format!("ssh ended with {code} before it began"),
                        ("", None) => "ssh ended before it began".to_owned(),
                        (last, _) => last.to_owned(),
                    };
                    return Over::NeverBegan(never_began(name, &how));
                }
            },
            must_end = limits.reached() => break must_end,
            () = sleep_until(begin_by), if group.is_none() => {
                drop(go);
                process::stop(&mut child, Instant::now() + CLIENT_ENDS).await;
                let late = format!("its login shell did not come to it in {}", humantime::format_duration(BEGINNING));
                return Over::Ended(Ended::NotStarted(never_began(&host.name, &late)));
            }
        }
    };
    // Whoever waits for the word hears that none will come.
    drop(go);
    let stopped = match group {
        None => Stopped::Gone,
        Some(group) => stop(host, group, must_end.kill_at()).await,
    };
    let _ = timeout(CLIENT_ENDS, child.wait()).await;
    process::stop(&mut child, Instant::now() + CLIENT_ENDS).await;
    Over::Ended(must_end.ended(stopped))
}

fn never_began(host: &str, how: &str) -> String {
    format!("cannot begin the command on `{host}`: {how}; nothing of it ran")
}

fn start(host: &Host, line: &str, log: &File) -> Result<(Child, Told), String> {
    let cannot = |error: io::Error| format!("cannot run `ssh`: {error}");
    let mut command = host.connections.command(&host.name, Way::Shared, line)?;
    command.stdin(Stdio::piped()).stdout(log.try_clone().map_err(cannot)?).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(cannot)?;
    let errors = child.stderr.take().ok_or_else(|| cannot(io::ErrorKind::BrokenPipe.into()))?;
    Ok((child, Told { reader: BufReader::new(errors), line: Vec::new(), last: String::new() }))
}

/// Stops a group on its host: SIGTERM, and SIGKILL at `kill_at`.
async fn stop(host: &Host, group: u32, kill_at: Instant) -> Stopped {
    let patience = kill_at.saturating_duration_since(Instant::now());
    let looks = u32::try_from(patience.as_millis() * u128::from(LOOKS_A_SECOND) / 1000).unwrap_or(u32::MAX);
    let line = remote::stop(group, looks);
    let name = &host.name;
    // A server may take no second session on a connection, and that one may be what broke.
    for over in [Way::Shared, Way::Own] {
        let mut command = match host.connections.command(name, over, &line) {
            Ok(command) => command,
            Err(reason) => return Stopped::Perhaps(reason),
        };
        command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let output = match command.spawn() {
            Ok(child) => timeout_at(kill_at + STOPPING, child.wait_with_output()).await,
            Err(error) => return Stopped::Perhaps(format!("cannot run `ssh`: {error}")),
        };
        let Ok(output) = output else {
            return Stopped::Perhaps(format!("`{name}` did not answer when it was to be stopped"));
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

/// What ssh and the other side say beside the command's output.
struct Told {
    reader: BufReader<ChildStderr>,
    line: Vec<u8>,
    /// The last line that was not for us.
    last: String,
}

enum Said {
    /// The command may be told to begin; it will be in this group.
    Ready(u32),
    /// It ended with this code.
    Ended(i32),
    /// Something else, which the log has now.
    Other,
}

impl Told {
    /// The next line; none after the last.
    ///
    /// # Cancel safety
    /// What was read of a line is kept.
    async fn next(&mut self, token: &str, mut log: &File) -> Option<Said> {
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
                (Some("ready"), Some(group)) => Said::Ready(group),
                (Some("ended"), Some(code)) => Said::Ended(i32::try_from(code).unwrap_or(i32::MAX)),
                _ => Said::Other,
            });
        }
        if line.trim().is_empty() {
            return Some(Said::Other);
        }
        // For whoever reads the log; the command's own output is there already.
        let _ = log.write_all(line.as_bytes());
        self.last = terminal::log_line(line.trim().trim_end_matches('.'), MAX_VALUE);
        Some(Said::Other)
    }
}
