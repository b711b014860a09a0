//! Runs a command on its target: connects, retries the connection, and stops the command if it must end.

use std::fs::File;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::connection::{Connected, Host, NotConnected};
use super::session::SessionEnd;
use super::{failure, remote, session};
use crate::rollout::exec::command::{CommandEnd, Invocation, Limits, Stopped};

/// The first of the pauses between attempts, of which up to half is random; each next one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);

/// The longest of those pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Runs a command to its end, or until it must end.
///
/// [`CommandEnd::NotStarted`]: certain, because it never got the word to start. [`CommandEnd::Lost`]: it got the word, and
/// nothing more is known.
pub(in crate::rollout::exec) async fn run(
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
