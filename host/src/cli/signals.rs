//! What the person or the service manager wants: SIGINT, SIGQUIT, SIGTERM and SIGHUP.

use std::future::Future;

use nix::sys::signal::Signal as Number;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::exit::{ErrorKind, Exit, Failure};

/// The signals that ask a process to end, each time one comes.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    quit: Signal,
    terminate: Signal,
    hang_up: Signal,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wish {
    /// Ctrl-C: a terminal sends it to every process in the foreground.
    Interrupt,
    /// Ctrl-\, from a terminal likewise.
    Quit,
    /// From a service manager or `kill`: to us alone.
    Terminate,
    /// The terminal is gone.
    HangUp,
}

impl Wish {
    /// The signal.
    pub(super) fn signal(self) -> Number {
        match self {
            Self::Interrupt => Number::SIGINT,
            Self::Quit => Number::SIGQUIT,
            Self::Terminate => Number::SIGTERM,
            Self::HangUp => Number::SIGHUP,
        }
    }

    /// As shells count a process that a signal ended.
    pub(super) fn exit(self) -> Exit {
        Exit::Command(match self {
            Self::Interrupt => 130,
            Self::Quit => 131,
            Self::Terminate => 143,
            Self::HangUp => 129,
        })
    }

    /// Whether a terminal sends it to all that is in the foreground, and so to a command in our own group, too.
    pub(super) fn is_sent_by_terminals(self) -> bool {
        matches!(self, Self::Interrupt | Self::Quit)
    }
}

impl Signals {
    /// From now on they are ours.
    pub(super) fn new() -> Result<Self, Failure> {
        let of = |kind| signal(kind).map_err(|error| Failure::new(ErrorKind::Internal, error));
        Ok(Self {
            interrupt: of(SignalKind::interrupt())?,
            quit: of(SignalKind::quit())?,
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
            _ = self.quit.recv() => Wish::Quit,
            _ = self.terminate.recv() => Wish::Terminate,
            _ = self.hang_up.recv() => Wish::HangUp,
        }
    }

    /// What `work` comes to, unless a signal comes first: then it is dropped.
    pub(super) async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Wish> {
        tokio::select! {
            done = work => Ok(done),
            wish = self.next() => Err(wish),
        }
    }
}
