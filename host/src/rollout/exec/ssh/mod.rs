//! Runs commands on their targets with the system's OpenSSH client.
//!
//! A target has one connection, opened in a step of its own: if that fails, nothing ran on the target. Commands share
//! the connection; a small script on the other side reports when each may start and how it ended, and starts none
//! before it gets the word.

mod connection;
mod failure;
mod remote;
mod session;
mod sockets;

use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

pub(in crate::rollout) use self::connection::Connections;
use self::connection::{Connected, NotConnected};
use self::session::SessionEnd;
use super::{CommandEnd, Invocation, Limits, Stopped};

/// The first of the pauses between attempts, of which up to half is random; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest of those pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A target that runs its commands over ssh.
#[derive(Debug, Clone)]
pub(in crate::rollout) struct Host {
    /// The host's name, as passed to ssh.
    pub name: String,
    pub connections: Arc<Connections>,
}

/// Runs a command to its end, or until it must end.
///
/// [`CommandEnd::NotStarted`]: certain, because it never got the word to start. [`CommandEnd::Lost`]: it got the word, and
/// nothing more is known.
pub(super) async fn run(
    host: &Host,
    command: &[String],
    invocation: &Invocation,
    log: File,
    limits: &mut Limits<'_>,
) -> CommandEnd {
    let script = match remote::command(command, &invocation.environment, &invocation.secrets) {
        Ok(script) => script,
        Err(reason) => return CommandEnd::NotStarted(reason),
    };
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let connected = tokio::select! {
            connected = host.connections.connect(&host.name, &log) => connected,
            must_end = limits.reached() => return must_end.ended(Stopped::Gone),
        };
        // A failure before the command got the word to start may be retried.
        let (reason, is_fresh, most) = match connected {
            Ok(connected) => match session::run(host, &script, &log, limits).await {
                SessionEnd::CommandEnded(ended) => {
                    if matches!(ended, CommandEnd::Lost(_)) {
                        // The next command does not wait for a dead connection.
                        host.connections.forget(&host.name).await;
                    }
                    return ended;
                }
                SessionEnd::NeverStarted(reason) => {
                    host.connections.forget(&host.name).await;
                    (reason, matches!(connected, Connected::Now), failure::MOST_ATTEMPTS)
                }
            },
            Err(NotConnected { reason, attempts: 1 }) => return CommandEnd::Unreachable(reason),
            Err(NotConnected { reason, attempts }) => (reason, true, attempts),
        };
        if attempt >= most {
            let waited = humantime::format_duration(Duration::from_secs(began.elapsed().as_secs()));
            return CommandEnd::Unreachable(format!("{reason}; {attempt} attempts in {waited}"));
        }
        // A shared connection may have died since its last use: the next one is opened at once.
        if is_fresh {
            // Targets that were turned away together do not come back together.
            let rest = pause.mul_f64(rand::random_range(0.5..1.0));
            pause = (pause * 2).min(LONGEST_PAUSE);
            tokio::select! {
                () = sleep(rest) => {}
                must_end = limits.reached() => return must_end.ended(Stopped::Gone),
            }
        }
    }
    unreachable!("the last attempt returns")
}
