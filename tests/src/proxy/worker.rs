//! The proxy's thread: waits for sockets, commands and due items, and handles them.

use std::io::Read as _;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, SyncSender};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::connection::{Connection, Phase, Weather};
use super::{Break, Command, Direction};

/// Longest sleep if nothing is due.
const NAP: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Worker {
    address: SocketAddr,
    target: SocketAddr,
    orders: Receiver<(Command, SyncSender<()>)>,
    woken: UnixStream,
    /// `None` while new connections are refused.
    listener: Option<TcpListener>,
    connections: Vec<Connection>,
    weather: Weather,
}

impl Worker {
    pub(super) fn new(
        address: SocketAddr,
        target: SocketAddr,
        orders: Receiver<(Command, SyncSender<()>)>,
        woken: UnixStream,
    ) -> Self {
        woken.set_nonblocking(true).expect("a socket can be told not to block");
        let listener = Some(listen(address));
        Self { address, target, orders, woken, listener, connections: Vec::new(), weather: Weather::default() }
    }

    pub(super) fn run(mut self) {
        // Otherwise the kernel adds up to 50 µs to each delay to combine wake-ups.
        #[cfg(target_os = "linux")]
        let _ = nix::sys::prctl::set_timerslack(1);
        loop {
            let ready = self.wait();
            for (index, direction) in ready {
                self.connections[index].read(direction, &mut self.weather);
            }
            self.accept();
            let _ = (&self.woken).read(&mut [0; 256]);
            while let Ok((command, done)) = self.orders.try_recv() {
                if matches!(command, Command::End) {
                    return;
                }
                self.obey(command);
                let _ = done.send(());
            }
            let now = Instant::now();
            for connection in &mut self.connections {
                connection.write(now, &self.weather);
            }
            self.connections.retain(|connection| connection.phase != Phase::Over);
        }
    }

    /// Sleeps until something has to be done, and returns which connections can be read in which direction.
    fn wait(&self) -> Vec<(usize, Direction)> {
        let mut watched = vec![PollFd::new(self.woken.as_fd(), PollFlags::POLLIN)];
        watched.extend(self.listener.iter().map(|listener| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
        let ours = watched.len();
        let mut whose = Vec::new();
        for (index, connection) in self.connections.iter().enumerate() {
            if connection.phase == Phase::Silent {
                continue;
            }
            let open = connection.phase == Phase::Open;
            let (up, down) = (&connection.up, &connection.down);
            let blocked_up = open && up.blocked() && !self.weather.hole_to_server;
            let blocked_down = open && down.blocked() && !self.weather.hole_to_client;
            for (socket, reads, writes, direction) in [
                (&connection.client, !up.deaf, blocked_down, Direction::ToServer),
                (&connection.server, !down.deaf, blocked_up, Direction::ToClient),
            ] {
                let mut flags = PollFlags::empty();
                flags.set(PollFlags::POLLIN, reads);
                flags.set(PollFlags::POLLOUT, writes);
                // A socket without requested events would report again and again that its other end is gone.
                if !flags.is_empty() {
                    watched.push(PollFd::new(socket.as_fd(), flags));
                    whose.push((index, direction, reads));
                }
            }
        }
        let due = self.connections.iter().filter_map(|connection| connection.due(&self.weather)).min();
        let nap = due.map_or(NAP, |due| due.saturating_duration_since(Instant::now()));
        if ppoll(&mut watched, Some(TimeSpec::from_duration(nap)), None).is_err() {
            return Vec::new();
        }
        let ready = |watched: &PollFd<'_>| watched.any().unwrap_or(false);
        let readable = watched[ours..].iter().zip(whose).filter(|(watched, (_, _, reads))| *reads && ready(watched));
        readable.map(|(_, (index, direction, _))| (index, direction)).collect()
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else { return };
        while let Ok((client, _)) = listener.accept() {
            self.connections.extend(Connection::open(client, self.target));
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Delay(delay) => self.weather.delay = delay,
            Command::Hole(Direction::ToServer) => self.weather.hole_to_server = true,
            Command::Hole(Direction::ToClient) => self.weather.hole_to_client = true,
            Command::Break(how) => self.connections.iter_mut().for_each(|connection| connection.break_now(how)),
            Command::Refuse => self.listener = None,
            Command::Heal => {
                self.weather.delay = Duration::ZERO;
                self.weather.hole_to_server = false;
                self.weather.hole_to_client = false;
                self.weather.traps.clear();
                let address = self.address;
                self.listener.get_or_insert_with(|| listen(address));
                let silent = self.connections.iter_mut().filter(|connection| connection.phase == Phase::Silent);
                silent.for_each(|connection| connection.break_now(Break::Reset));
            }
            Command::Target(target) => self.target = target,
            Command::Arm(trap) => self.weather.traps.push(trap),
            Command::Counts(counts) => {
                let _ = counts.send(self.weather.counts.clone());
            }
            Command::ForgetCounts => self.weather.counts.clear(),
            Command::End => {}
        }
    }
}

fn listen(address: SocketAddr) -> TcpListener {
    let listener = TcpListener::bind(address).expect("our own port");
    listener.set_nonblocking(true).expect("a socket can be told not to block");
    listener
}
