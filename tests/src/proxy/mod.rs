//! A bad network for one test: a TCP proxy on loopback that delays, cuts and holds back, and that parses enough of
//! ZooKeeper's frames to do so between a request and its reply.

mod connection;
mod frames;
mod half;
mod mute;
mod worker;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

pub use frames::{Request, opcode};
pub use mute::Mute;

use crate::PATIENCE;
use crate::ports::Port;

/// Direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Requests.
    ToServer,
    /// Replies and events.
    ToClient,
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Both sides see an end of file.
    Fin,
    /// Both sides see a reset.
    Reset,
    /// Neither side receives anything until [`Proxy::heal`] resets it.
    Silence,
}

/// Whether the request or only its reply is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Request,
    Reply,
}

type Predicate = Box<dyn FnMut(&Request) -> bool + Send>;

/// A request to wait for, and the fault that it meets.
struct Trap {
    lost: Lost,
    how: Break,
    matches: Predicate,
    caught: Sender<Request>,
}

impl fmt::Debug for Trap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trap").field("lost", &self.lost).field("how", &self.how).finish_non_exhaustive()
    }
}

/// A command for the proxy's thread.
#[derive(Debug)]
enum Command {
    Delay(Duration),
    Hole(Direction),
    Break(Break),
    Refuse,
    Heal,
    Target(SocketAddr),
    Arm(Trap),
    Counts(Sender<BTreeMap<i32, u64>>),
    ForgetCounts,
    End,
}

/// A proxy in front of one server. Each command applies to present and future connections, and has taken effect when
/// the call returns.
#[derive(Debug)]
pub struct Proxy {
    port: Port,
    commands: Mutex<Sender<(Command, SyncSender<()>)>>,
    wake: UnixStream,
    thread: Option<JoinHandle<()>>,
}

/// A request that will meet a fault.
#[derive(Debug)]
pub struct Caught(Receiver<Request>);

impl Caught {
    /// Waits for the request.
    ///
    /// # Panics
    /// If no matching request comes.
    pub fn wait(&self) -> Request {
        self.0.recv_timeout(PATIENCE).expect("such a request comes")
    }

    /// The request, if it has come already.
    #[must_use]
    pub fn now(&self) -> Option<Request> {
        self.0.try_recv().ok()
    }
}

impl Proxy {
    /// Starts a proxy that passes everything on at once.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(target: SocketAddr) -> Self {
        let port = Port::claim();
        let (commands, orders) = channel();
        let (wake, woken) = UnixStream::pair().expect("a pair of sockets");
        let worker = worker::Worker::new(port.address(), target, orders, woken);
        let thread = thread::Builder::new().name("proxy".to_owned()).spawn(move || worker.run()).expect("a thread");
        Self { port, commands: Mutex::new(commands), wake, thread: Some(thread) }
    }

    /// The address for clients.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// The address as a ZooKeeper host list.
    #[must_use]
    pub fn hosts(&self) -> String {
        self.address().to_string()
    }

    /// Delays bytes in each direction: a round trip takes twice as much longer. It is a delay, not a limit: any number
    /// of bytes may be in flight.
    pub fn delay(&self, each_way: Duration) {
        self.tell(Command::Delay(each_way));
    }

    /// Closes every connection, as a closing server does.
    pub fn cut(&self) {
        self.tell(Command::Break(Break::Fin));
    }

    /// Resets every connection.
    pub fn reset(&self) {
        self.tell(Command::Break(Break::Reset));
    }

    /// Lets nothing pass in one direction, not even the end of a connection, until [`Proxy::heal`]: then it arrives, as
    /// if TCP had sent it again.
    pub fn hole(&self, direction: Direction) {
        self.tell(Command::Hole(direction));
    }

    /// Lets nothing pass in both directions.
    pub fn partition(&self) {
        self.hole(Direction::ToServer);
        self.hole(Direction::ToClient);
    }

    /// Refuses new connections until [`Proxy::heal`]; present ones stay.
    pub fn refuse(&self) {
        self.tell(Command::Refuse);
    }

    /// Ends delays, holes, refusals and pending faults, and resets silenced connections.
    pub fn heal(&self) {
        self.tell(Command::Heal);
    }

    /// Sends new connections to another server.
    pub fn retarget(&self, target: SocketAddr) {
        self.tell(Command::Target(target));
    }

    /// The next matching request reaches the server and is carried out, but its reply does not come back: the
    /// connection is broken instead. Earlier replies still pass.
    pub fn cut_after_request(&self, how: Break, matches: impl FnMut(&Request) -> bool + Send + 'static) -> Caught {
        self.arm(Lost::Reply, how, Box::new(matches))
    }

    /// The next matching request never reaches the server: the connection is broken instead. Earlier requests still
    /// pass.
    pub fn drop_request(&self, how: Break, matches: impl FnMut(&Request) -> bool + Send + 'static) -> Caught {
        self.arm(Lost::Request, how, Box::new(matches))
    }

    fn arm(&self, lost: Lost, how: Break, matches: Predicate) -> Caught {
        let (caught, request) = channel();
        self.tell(Command::Arm(Trap { lost, how, matches, caught }));
        Caught(request)
    }

    /// Number of requests of each [`opcode`].
    ///
    /// # Panics
    /// If the proxy has failed.
    #[must_use]
    pub fn requests(&self) -> BTreeMap<i32, u64> {
        let (counts, answer) = channel();
        self.tell(Command::Counts(counts));
        answer.recv().expect("the proxy runs")
    }

    /// Resets the counters.
    pub fn forget_requests(&self) {
        self.tell(Command::ForgetCounts);
    }

    fn tell(&self, command: Command) {
        let (done, finished) = sync_channel(1);
        self.commands.lock().expect("no holder of this lock panics").send((command, done)).expect("the proxy runs");
        (&self.wake).write_all(&[0]).expect("the proxy runs");
        finished.recv().expect("the proxy runs");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let (done, _) = sync_channel(1);
        if let Ok(commands) = self.commands.get_mut() {
            let _ = commands.send((Command::End, done));
        }
        let _ = (&self.wake).write_all(&[0]);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
