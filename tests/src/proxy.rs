//! A TCP proxy on loopback that delays, loses and cuts, as networks do.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Requests,
    /// To the client.
    Replies,
}

/// Which request a cut is about, by its operation's number (`ZooDefs.OpCode`): multi is 14.
pub type OpCode = i32;

/// When the connection is cut about one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trap {
    /// The server has not got it.
    Before(OpCode),
    /// The server has got it, and the client does not get the answer.
    After(OpCode),
}

/// A proxy before one server.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    rules: Mutex<Rules>,
}

#[derive(Debug, Default)]
struct Rules {
    delay: Duration,
    lose_requests: bool,
    lose_replies: bool,
    refuse: bool,
    trap: Option<Trap>,
    /// How many traps have caught something.
    caught: u32,
    ended: bool,
    /// Both ends of each connection.
    connections: Vec<(TcpStream, TcpStream)>,
}

impl Shared {
    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Proxy {
    /// Starts one that passes everything on.
    ///
    /// # Panics
    /// Without a free port.
    #[must_use]
    pub fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared { rules: Mutex::default() });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.rules().ended {
                    return;
                }
                join(&accepting, client, server);
            }
        });
        Self { address, shared }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Keeps what goes through this long, each way; bytes keep their order and as many as like are on their way.
    pub fn delay(&self, each_way: Duration) {
        self.shared.rules().delay = each_way;
    }

    /// Loses what goes this way from now on, silently.
    pub fn lose(&self, direction: Direction) {
        let mut rules = self.shared.rules();
        match direction {
            Direction::Requests => rules.lose_requests = true,
            Direction::Replies => rules.lose_replies = true,
        }
    }

    /// Loses everything from now on, silently: connections stay open, and new ones say nothing.
    pub fn hole(&self) {
        self.lose(Direction::Requests);
        self.lose(Direction::Replies);
    }

    /// Takes no new connections from now on.
    pub fn refuse(&self) {
        self.shared.rules().refuse = true;
    }

    /// Closes all connections, properly.
    pub fn cut(&self) {
        self.shared.rules().close();
    }

    /// Resets all connections: both ends get an error.
    pub fn reset(&self) {
        let mut rules = self.shared.rules();
        for (client, server) in &rules.connections {
            for end in [client, server] {
                let _ = setsockopt(end, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
            }
        }
        rules.close();
    }

    /// Cuts a connection when the next request of this kind arrives, before the server gets it.
    pub fn cut_before(&self, request: OpCode) {
        self.shared.rules().trap = Some(Trap::Before(request));
    }

    /// Cuts a connection when the next request of this kind has been passed on, before its answer comes back.
    pub fn cut_after(&self, request: OpCode) {
        self.shared.rules().trap = Some(Trap::After(request));
    }

    /// How many cuts about a request there were.
    #[must_use]
    pub fn caught(&self) -> u32 {
        self.shared.rules().caught
    }

    /// Passes everything on again. What was lost stays lost, so connections that lost something are cut.
    pub fn heal(&self) {
        let mut rules = self.shared.rules();
        if rules.lose_requests || rules.lose_replies {
            rules.close();
        }
        (rules.delay, rules.lose_requests, rules.lose_replies) = (Duration::ZERO, false, false);
        (rules.refuse, rules.trap) = (false, None);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut rules = self.shared.rules();
        rules.ended = true;
        rules.close();
        drop(rules);
        // The listener's thread sees that it is over when somebody comes.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_millis(200));
    }
}

impl Rules {
    fn close(&mut self) {
        for (client, server) in self.connections.drain(..) {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }

    fn loses(&self, direction: Direction) -> bool {
        match direction {
            Direction::Requests => self.lose_requests,
            Direction::Replies => self.lose_replies,
        }
    }
}

/// A connection from a client to the server. Dropping the last handle of a socket with a linger of zero resets it.
fn join(shared: &Arc<Shared>, client: TcpStream, server: SocketAddr) {
    if shared.rules().refuse {
        return;
    }
    let Ok(server) = TcpStream::connect_timeout(&server, Duration::from_secs(1)) else { return };
    for end in [&client, &server] {
        let _ = end.set_nodelay(true);
    }
    let Some((to_server, to_client)) = server.try_clone().ok().zip(client.try_clone().ok()) else { return };
    let Some(kept) = client.try_clone().ok().zip(server.try_clone().ok()) else { return };
    shared.rules().connections.push(kept);
    pass(shared, client, to_server, Direction::Requests);
    pass(shared, server, to_client, Direction::Replies);
}

/// Bytes on their way, each with the moment at which it arrives.
#[derive(Default)]
struct Pipe {
    content: Mutex<Content>,
    changed: Condvar,
}

#[derive(Default)]
struct Content {
    bytes: VecDeque<(Instant, Vec<u8>)>,
    /// Nothing more comes.
    ended: bool,
}

fn pass(shared: &Arc<Shared>, mut from: TcpStream, mut to: TcpStream, direction: Direction) {
    let pipe = Arc::new(Pipe::default());
    let (filling, shared) = (Arc::clone(&pipe), Arc::clone(shared));
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        let mut frames = Frames::default();
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            let bytes = &buffer[..read];
            let mut rules = shared.rules();
            let asked = if direction == Direction::Requests { frames.next(bytes) } else { Vec::new() };
            let trapped = rules.trap.filter(|(Trap::Before(wanted) | Trap::After(wanted))| asked.contains(wanted));
            if let Some(trap) = trapped {
                (rules.trap, rules.caught) = (None, rules.caught + 1);
                if matches!(trap, Trap::Before(_)) {
                    rules.close();
                    break;
                }
                // Its answer, and whatever comes with it, is lost; then the connection goes.
                rules.lose_replies = true;
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(50));
                    let mut rules = shared.rules();
                    rules.lose_replies = false;
                    rules.close();
                });
            }
            if !rules.loses(direction) {
                let arrives = Instant::now() + rules.delay;
                drop(rules);
                lock(&filling).bytes.push_back((arrives, bytes.to_vec()));
                filling.changed.notify_one();
            }
        }
        lock(&filling).ended = true;
        filling.changed.notify_one();
    });
    thread::spawn(move || {
        loop {
            let mut waiting = lock(&pipe);
            while waiting.bytes.is_empty() && !waiting.ended {
                waiting = pipe.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            }
            let Some((arrives, bytes)) = waiting.bytes.pop_front() else { break };
            drop(waiting);
            thread::sleep(arrives.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

fn lock(pipe: &Pipe) -> MutexGuard<'_, Content> {
    pipe.content.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The requests in a stream of bytes: four bytes of length, then four of a number and four of the operation. The first
/// is the connection's own and has no operation.
#[derive(Default)]
struct Frames {
    rest: Vec<u8>,
    connected: bool,
}

impl Frames {
    /// The operations of the requests that these bytes complete.
    fn next(&mut self, bytes: &[u8]) -> Vec<OpCode> {
        self.rest.extend_from_slice(bytes);
        let mut asked = Vec::new();
        while let Some(length) = number(&self.rest, 0).and_then(|length| usize::try_from(length).ok()) {
            let Some(frame) = self.rest.get(4..4 + length) else { break };
            asked.extend(number(frame, 4).filter(|_| self.connected));
            self.connected = true;
            self.rest.drain(..4 + length);
        }
        asked
    }
}

fn number(bytes: &[u8], at: usize) -> Option<i32> {
    bytes.get(at..at + 4).and_then(|four| four.try_into().ok()).map(i32::from_be_bytes)
}

/// A server that takes connections and never says anything.
#[derive(Debug)]
pub struct Mute {
    address: SocketAddr,
    _taken: Arc<Mutex<Vec<TcpStream>>>,
}

impl Mute {
    /// Starts one.
    ///
    /// # Panics
    /// Without a free port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let taken = Arc::new(Mutex::new(Vec::new()));
        let taking = Arc::clone(&taken);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                taking.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            }
        });
        Self { address, _taken: taken }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
