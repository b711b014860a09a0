//! What the person or the service manager wants: SIGINT and SIGTERM.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{ErrorKind, Failure};

/// SIGINT, SIGTERM and SIGHUP, each time one comes.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Ctrl-C: a terminal sends it to every process in the foreground.
    Interrupt,
    /// From a service manager or `kill`: to us alone.
    Terminate,
}

impl Wish {
    /// As shells count a process that a signal ended.
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }
}

impl Signals {
    /// From now on they are ours.
    pub(super) fn new() -> Result<Self, Failure> {
        let of = |kind| signal(kind).map_err(|error| Failure::new(ErrorKind::Internal, error));
        Ok(Self {
            interrupt: of(SignalKind::interrupt())?,
            terminate: of(SignalKind::terminate())?,
            hang_up: of(SignalKind::hangup())?,
        })
    }

    /// The next one.
    ///
    /// # Cancel safety
    /// None is lost.
    pub(super) async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.interrupt.recv() => Wish::Interrupt,
            _ = self.terminate.recv() => Wish::Terminate,
            _ = self.hang_up.recv() => Wish::Terminate,
        }
    }
}
