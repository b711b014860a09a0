//! A store in one SQLite file, for one machine: any number of processes at once, nothing to install, nothing to start.
//!
//! All sessions that a process has on a file share one *engine*: a thread that owns the connection. It takes whatever
//! requests have come in, does them in one transaction, and answers when that is on disk, so that many requests cost one
//! write. Processes hear of each other through the file: an engine that has watches is told by the system when somebody writes,
//! looks then at a counter in shared memory, and reads the list of changes when it moved. Where the system tells nothing,
//! it looks some hundred times a second.
//!
//! A session is a row that its process renews. Times are the machine's time since boot, which no change of the wall clock
//! moves and which goes on during a suspend; a row from before a reboot counts for nothing. Each process also holds a file in
//! the folder `FILE-alive` locked (see `store::process_liveness`): the sessions of a process that was killed end as soon as another
//! process sees that lock free, and not only after their time-outs.
//!
//! # Limits
//! The file must be on a local file system. On a network file system the locks of SQLite and its shared memory do not
//! work between machines, and two machines would each believe to be alone. For more than one machine there is ZooKeeper.
//! Processes in containers may share a file if they share the kernel and do not shift its boot clock by a time namespace.
//! A process that is stopped in the middle of a write, which takes about a millisecond, keeps the others waiting until
//! it goes on or is killed. Ctrl-Z waits for the end of a write (`store/gate.rs`); after SIGSTOP the waiting processes name
//! the one that holds the file (`blocker`).

mod change_notifier;
mod connect;
mod database;
mod dead_processes;
mod engine;
mod lock_holder;
mod permissions;
mod session;
#[cfg(test)]
mod tests;
mod tree;
mod watches;

pub use connect::{Embedded, EmbeddedOptions};
pub use lock_holder::{Blocked, Blocker, blocked};
