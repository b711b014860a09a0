//! Commands on their targets, over the system's OpenSSH client.
//!
//! A target has one connection, opened as a step of its own: who cannot connect has run nothing there. Commands share it; a
//! small script on the other side says when each begins and how it ended, and begins none before it is told to.

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
use self::session::Over;
use super::{Ended, Invocation, Limits, Stopped};

/// The longest pause after the first of them; twice as long each time, and up to half of that less.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest of those pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A target that can be reached.
#[derive(Debug, Clone)]
pub(in crate::rollout) struct Host {
    /// Its name, as ssh is given it.
    pub name: String,
    /// The connections of the run.
    pub connections: Arc<Connections>,
}

/// Runs a command to its end, or until it must end.
///
/// [`Ended::NotStarted`]: for certain, because it was never told to begin. [`Ended::Lost`]: it was, and nobody knows more.
pub(super) async fn run(
    host: &Host,
    command: &[String],
    invocation: &Invocation,
    log: File,
    limits: &mut Limits<'_>,
) -> Ended {
    let script = match remote::command(command, &invocation.environment, &invocation.secrets) {
        Ok(script) => script,
        Err(reason) => return Ended::NotStarted(reason),
    };
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    for attempt in 1.. {
        let connected = tokio::select! {
            connected = host.connections.connect(&host.name, &log) => connected,
            must_end = limits.reached() => return must_end.ended(Stopped::Gone),
        };
        // Whatever ends before the command was told to begin may be tried again.
        let (reason, is_fresh, most) = match connected {
            Ok(connected) => match session::run(host, &script, &log, limits).await {
                Over::Ended(ended) => {
                    if matches!(ended, Ended::Lost(_)) {
                        // Whoever asks next does not wait for one that is dead.
                        host.connections.forget(&host.name).await;
                    }
                    return ended;
                }
                Over::NeverBegan(reason) => {
                    host.connections.forget(&host.name).await;
                    (reason, matches!(connected, Connected::Now), failure::MOST_ATTEMPTS)
                }
            },
            Err(NotConnected { reason, attempts: 1 }) => return Ended::Unreachable(reason),
            Err(NotConnected { reason, attempts }) => (reason, true, attempts),
        };
        if attempt >= most {
            let waited = humantime::format_duration(Duration::from_secs(began.elapsed().as_secs()));
            return Ended::Unreachable(format!("{reason}; tried {attempt} times in {waited}"));
        }
        // A shared connection may have died since it was used: the next one is opened at once.
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
