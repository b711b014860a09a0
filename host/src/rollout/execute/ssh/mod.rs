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

use self::connection::Connected;
pub(in crate::rollout) use self::connection::Connections;
use self::session::Over;
use super::{Ended, Limits, Stopped};

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
    environment: &[(String, String)],
    log: File,
    limits: &mut Limits<'_>,
) -> Ended {
    let script = match remote::command(command, environment) {
        Ok(script) => script,
        Err(reason) => return Ended::NotStarted(reason),
    };
    // A shared connection may have died since it was used: whoever finds that out opens another, once.
    for may_retry in [true, false] {
        let connected = tokio::select! {
            connected = host.connections.connect(&host.name, &log) => connected,
            must_end = limits.reached() => return must_end.ended(Stopped::Gone),
        };
        let is_fresh = match connected {
            Ok(Connected::Now) => true,
            Ok(Connected::Before) => false,
            Err(reason) => return Ended::Unreachable(reason),
        };
        match session::run(host, &script, &log, limits).await {
            Over::Ended(ended) => return ended,
            Over::NeverBegan(_) if may_retry && !is_fresh => host.connections.forget(&host.name).await,
            Over::NeverBegan(reason) => return Ended::Unreachable(reason),
        }
    }
    Ended::Unreachable(format!("the connection to `{}` broke before the command began", host.name))
}
