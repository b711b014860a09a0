//! The gate between the transactions of this process and a stop of it.
//!
//! A process that is stopped inside a transaction keeps a file locked for every other process. A stop that this process
//! makes itself, for Ctrl-Z, therefore waits until no transaction is open. SIGSTOP cannot wait.

use std::sync::{PoisonError, RwLock, RwLockReadGuard};

static GATE: RwLock<()> = RwLock::new(());

/// Held while a transaction is open. No caller waits for anything but the disk while it holds this.
#[derive(Debug)]
pub(crate) struct Open {
    _gate: RwLockReadGuard<'static, ()>,
}

/// Opens the gate for one transaction; waits while this process is about to be stopped.
pub(crate) fn open() -> Open {
    Open { _gate: GATE.read().unwrap_or_else(PoisonError::into_inner) }
}

/// Does something while this process has no transaction open, and begins none.
///
/// Waits for the end of a transaction that is open: about a millisecond, or as long as the disk takes.
pub fn between_transactions<T>(act: impl FnOnce() -> T) -> T {
    let _shut = GATE.write().unwrap_or_else(PoisonError::into_inner);
    act()
}
