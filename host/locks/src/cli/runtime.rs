//! The runtime that the future of a command runs on.

use std::future::Future;

use super::exit::{ErrorKind, Exit, Failure};
use super::store::OpenSessions;

/// Worker threads beside the main thread, which runs the command itself.
const WORKERS: usize = 2;

/// Runs the future of a command on a runtime of its own, then waits until the sessions that it opened are closed. What is
/// not spawned runs on this thread: a child that must die with its parent is started by a thread that lives as long.
pub fn block_on(
    sessions: &OpenSessions,
    command: impl Future<Output = Result<Exit, Failure>>,
) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::new(ErrorKind::Internal, error))?;
    let outcome = runtime.block_on(async {
        let outcome = command.await;
        sessions.closed().await;
        outcome
    });
    // The process ends. Taken down, the runtime would drop its tasks one by one, and ZooKeeper's client panics when the task
    // of a session goes before one that waits for a watch.
    std::mem::forget(runtime);
    outcome
}

/// The same without a session and without another thread, for a supervisor: it starts where hardly any thread can.
pub fn block_on_this_thread(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| Failure::new(ErrorKind::Internal, error))?.block_on(command)
}
