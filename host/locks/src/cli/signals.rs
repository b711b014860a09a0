//! The signals that a person, a service manager or another program sends to this process.
//!
//! A signal that was ignored when the process started stays ignored.

use std::future::{Future, poll_fn};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures::FutureExt;
use nix::libc::{c_int, siginfo_t};
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, raise, sigaction};
use nix::sys::socket::{MsgFlags, send};
use tokio::signal::unix::{self, SignalKind};

use super::exit::{ErrorKind, Exit, Failure};
use crate::process::inherited_signals::is_ignored;
use crate::process::process_group;
use lockkeeper_coordination::store::between_transactions;

/// The signals that ask a process to end.
const ENDING: [Signal; 4] = [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTERM, Signal::SIGHUP];

/// The other signals that a command may wait for. SIGTSTP, SIGCONT, SIGWINCH and SIGURG end no process by default.
const FOR_A_COMMAND: [Signal; 10] = [
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
    Signal::SIGCONT,
    Signal::SIGWINCH,
    Signal::SIGTSTP,
    Signal::SIGURG,
    Signal::SIGVTALRM,
    Signal::SIGPROF,
    Signal::SIGIO,
];

/// Those that only Linux has.
#[cfg(target_os = "linux")]
const OF_THE_SYSTEM: [Signal; 1] = [Signal::SIGPWR];
#[cfg(not(target_os = "linux"))]
const OF_THE_SYSTEM: [Signal; 0] = [];

/// The real-time signals. A process that does not listen to them ends by them.
#[cfg(target_os = "linux")]
const REAL_TIME: std::ops::RangeInclusive<c_int> = 34..=64;

/// A bit for each signal that a process has sent and that has not been taken from [`Signals`] yet.
static SENT_BY_A_PROCESS: AtomicU64 = AtomicU64::new(0);

/// Whether SIGTSTP stops this process by [`stop_between_transactions`], and nothing else sees to it.
static STOPS_BY_ITSELF: AtomicBool = AtomicBool::new(true);

/// The signals by which a terminal stops a job.
const STOPPING: [Signal; 3] = [Signal::SIGTSTP, Signal::SIGTTIN, Signal::SIGTTOU];

/// How long after this process was continued its local commands are. Until then a session that has ended meanwhile is known to
/// have, and what acted under it was killed.
const BEFORE_CONTINUING: Duration = Duration::from_millis(250);

/// Has the signals by which a terminal stops a job stop this process only while it has no transaction open: inside one it would
/// keep the store's file locked. The local commands of a run, which have groups of their own, are stopped with it.
///
/// Everything else is as the system does it. A signal that was ignored when the process started stays ignored.
pub fn stop_between_transactions() {
    static THREAD: OnceLock<()> = OnceLock::new();
    THREAD.get_or_init(|| {
        let Ok((come, came)) = UnixStream::pair() else { return };
        // A handler must not wait; of many stops one is enough.
        if come.set_nonblocking(true).is_err() {
            return;
        }
        let stop = move || {
            let mut came = came;
            let mut number = [0];
            while came.read_exact(&mut number).is_ok() {
                if let Some(signal) = STOPPING.into_iter().find(|signal| *signal as u8 == number[0]) {
                    stop_by(signal);
                }
            }
        };
        if thread::Builder::new().name("stops".into()).spawn(stop).is_err() {
            return;
        }
        for signal in STOPPING.into_iter().filter(|signal| !is_ignored(*signal as c_int)) {
            let Ok(come) = come.try_clone() else { return };
            // Without a handler the system stops the process as it always does.
            let _ = announce(signal, come);
        }
    });
}

/// Has a signal announced through a socket.
#[expect(unsafe_code, reason = "only a handler hears a signal before the process is stopped")]
fn announce(signal: Signal, come: UnixStream) -> io::Result<()> {
    let announce = move || {
        // Full: a stop is on its way already.
        let _ = send(come.as_raw_fd(), &[signal as u8], MsgFlags::MSG_DONTWAIT);
    };
    // SAFETY: `send` is async-signal-safe.
    unsafe { signal_hook_registry::register(signal as c_int, announce) }.map(drop)
}

/// Stops this process as the signal does by default.
fn stop_by(signal: Signal) {
    if signal == Signal::SIGTSTP && !STOPS_BY_ITSELF.load(Ordering::SeqCst) {
        return;
    }
    let stopped = process_group::stop_all();
    between_transactions(|| stop_by_default(signal));
    if !stopped.is_empty() {
        thread::sleep(BEFORE_CONTINUING);
        process_group::continue_all(&stopped);
    }
}

/// The system does not stop a process of an orphaned group, which no shell could continue.
#[expect(unsafe_code, reason = "a disposition is replaced, and put back")]
fn stop_by_default(signal: Signal) {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    let this = SigSet::from_iter([signal]);
    // SAFETY: the default disposition runs no code of ours, and what is put back was there before.
    unsafe {
        let Ok(ours) = sigaction(signal, &default) else { return };
        let blocked = SigSet::thread_get_mask();
        // To this thread, which goes on only when the process is continued.
        let _ = this.thread_unblock();
        let _ = raise(signal);
        if let Ok(blocked) = blocked {
            let _ = blocked.thread_set_mask();
        }
        let _ = sigaction(signal, &ours);
    }
}

/// The signals that this process listens to, each time one comes.
#[derive(Debug)]
pub struct Signals {
    streams: Vec<(Signal, unix::Signal)>,
}

/// A signal that has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    signal: Signal,
    by_a_process: bool,
}

impl Received {
    /// Which signal.
    pub fn signal(self) -> Signal {
        self.signal
    }

    /// The exit code with which shells count a process that the signal ended.
    pub fn exit(self) -> Exit {
        Exit::Command(u8::try_from(128 + self.signal as c_int).unwrap_or(1))
    }

    /// Whether it came from the terminal, which sends it to every process of the group in the foreground.
    pub fn is_sent_by_terminals(self) -> bool {
        !self.by_a_process
    }

    /// Whether a process that does not listen to it ends by it.
    fn ends(self) -> bool {
        !matches!(self.signal, Signal::SIGCONT | Signal::SIGWINCH | Signal::SIGTSTP | Signal::SIGURG)
    }

    /// Stops this process if that is what the signal asks for, until another process continues it.
    pub fn stop_ourselves(self) {
        if self.signal == Signal::SIGTSTP {
            // To this thread: it goes on, and with it every transaction, only when this process is continued.
            let _ = between_transactions(|| raise(Signal::SIGSTOP));
        }
    }
}

impl Signals {
    /// Listens to the signals that ask a process to end. The others do what they do by default.
    pub fn new() -> Result<Self, Failure> {
        Self::of(ENDING.into_iter())
    }

    /// Listens to all that a command may want to have, too.
    pub fn for_a_command() -> Result<Self, Failure> {
        // The command is stopped first.
        STOPS_BY_ITSELF.store(false, Ordering::SeqCst);
        Self::of(ENDING.into_iter().chain(FOR_A_COMMAND).chain(OF_THE_SYSTEM))
    }

    /// Likewise for the leader of a process group, who lives on whatever its group gets.
    pub fn for_a_group() -> Result<Self, Failure> {
        let more = [Signal::SIGABRT, Signal::SIGTTIN, Signal::SIGTTOU].map(|signal| signal as c_int).into_iter();
        #[cfg(target_os = "linux")]
        let more = more.chain(REAL_TIME);
        for number in more.filter(|number| !is_ignored(*number)) {
            // Once it was listened to it does nothing by itself any more. The system may keep some for itself.
            let _ = unix::signal(SignalKind::from_raw(number));
        }
        Self::for_a_command()
    }

    fn of(signals: impl Iterator<Item = Signal>) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::new(ErrorKind::Internal, error);
        let listen = |signal: Signal| -> Result<_, Failure> {
            // In this order: when a stream has one, its origin is known.
            remember_origins(signal).map_err(failed)?;
            Ok((signal, unix::signal(SignalKind::from_raw(signal as c_int)).map_err(failed)?))
        };
        let streams = signals.filter(|signal| !is_ignored(*signal as c_int)).map(listen).collect::<Result<_, _>>()?;
        Ok(Self { streams })
    }

    /// The next one.
    ///
    /// # Cancel safety
    /// None is lost.
    pub async fn next(&mut self) -> Received {
        poll_fn(|context| {
            let came = self
                .streams
                .iter_mut()
                .find_map(|(signal, stream)| stream.poll_recv(context).is_ready().then_some(signal));
            match came {
                Some(signal) => Poll::Ready(Received { signal: *signal, by_a_process: take_origin(*signal) }),
                None => Poll::Pending,
            }
        })
        .await
    }

    /// Takes no more notice of those that have come until now.
    pub fn forget(&mut self) {
        while self.next().now_or_never().is_some() {}
    }

    /// What `work` comes to, unless a signal that ends a process comes first: then it is dropped.
    pub async fn or<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Received> {
        let ending = async {
            loop {
                let received = self.next().await;
                if received.ends() {
                    return received;
                }
                received.stop_ourselves();
            }
        };
        tokio::select! {
            done = work => Ok(done),
            received = ending => Err(received),
        }
    }
}

fn bit(signal: Signal) -> u64 {
    1 << (signal as c_int - 1)
}

/// Has the origin of each such signal remembered.
#[expect(unsafe_code, reason = "only a handler sees where a signal comes from")]
fn remember_origins(signal: Signal) -> io::Result<()> {
    let remember = move |info: &siginfo_t| {
        if is_by_a_process(info) {
            SENT_BY_A_PROCESS.fetch_or(bit(signal), Ordering::SeqCst);
        }
    };
    // SAFETY: the handler sets a bit of an atomic number, and nothing else.
    unsafe { signal_hook_registry::register_sigaction(signal as c_int, remember) }.map(drop)
}

fn take_origin(signal: Signal) -> bool {
    SENT_BY_A_PROCESS.fetch_and(!bit(signal), Ordering::SeqCst) & bit(signal) != 0
}

/// The kernel's own signals, as those of a terminal, have a code above zero. Other systems do not tell: there those that
/// terminals can send count as theirs.
fn is_by_a_process(info: &siginfo_t) -> bool {
    if cfg!(target_os = "linux") {
        info.si_code <= 0
    } else {
        ![Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP].iter().any(|signal| *signal as c_int == info.si_signo)
    }
}
