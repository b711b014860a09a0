//! One connection through the proxy: two sockets, two directions, and the fault that it may meet.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};

use super::frames::{self, Request, opcode};
use super::half::{Got, Half};
use super::{Break, Direction, Lost, Trap};

/// Time limit for the server to accept a connection.
const CONNECT: Duration = Duration::from_secs(1);

/// How long input is read after this end was closed, so that late input does not reset the connection before the other
/// side has seen its end.
const LINGER: Duration = Duration::from_millis(200);

/// State that applies to all connections.
#[derive(Debug, Default)]
pub(super) struct Weather {
    pub(super) delay: Duration,
    pub(super) hole_to_server: bool,
    pub(super) hole_to_client: bool,
    pub(super) traps: Vec<Trap>,
    pub(super) counts: BTreeMap<i32, u64>,
}

/// The state of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Bytes pass.
    Open,
    /// No bytes pass in any direction.
    Silent,
    /// Both ends were sent; input is discarded until then.
    Lingering(Instant),
    /// The connection can be dropped.
    Over,
}

/// A request that has reached the server and whose reply must not come back.
#[derive(Debug)]
struct Awaited {
    request: Request,
    how: Break,
    caught: Sender<Request>,
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: TcpStream,
    pub(super) server: TcpStream,
    pub(super) up: Half,
    pub(super) down: Half,
    /// Whether the client's first frame, which has no number, has passed.
    greeted: bool,
    /// Whether the server's first frame has passed.
    answered: bool,
    awaited: Option<Awaited>,
    pub(super) phase: Phase,
}

impl Connection {
    /// Connects to the server for a client. `None` if the server is not there; the client notices.
    pub(super) fn open(client: TcpStream, target: SocketAddr) -> Option<Self> {
        let Ok(server) = TcpStream::connect_timeout(&target, CONNECT) else {
            abort(&client);
            return None;
        };
        for socket in [&client, &server] {
            socket.set_nodelay(true).ok()?;
            socket.set_nonblocking(true).ok()?;
        }
        let (up, down) = (Half::default(), Half::default());
        let phase = Phase::Open;
        Some(Self { client, server, up, down, greeted: false, answered: false, awaited: None, phase })
    }

    /// Reads from one side.
    pub(super) fn read(&mut self, direction: Direction, weather: &mut Weather) {
        if let Phase::Lingering(_) = self.phase {
            return self.discard(direction);
        }
        let (half, from) = match direction {
            Direction::ToServer => (&mut self.up, &self.client),
            Direction::ToClient => (&mut self.down, &self.server),
        };
        let (frames, ended) = match half.read(from) {
            Got::Frames(frames) => (frames, false),
            Got::End(frames) => (frames, true),
            Got::Broken => return half.break_after(Break::Reset, weather.delay),
        };
        for frame in frames {
            let trapped = match direction {
                Direction::ToServer => self.on_request(&frame, weather),
                Direction::ToClient => self.on_reply(&frame),
            };
            let half = if direction == Direction::ToServer { &mut self.up } else { &mut self.down };
            if let Some(how) = trapped {
                return half.break_after(how, weather.delay);
            }
            half.send(frame, weather.delay);
        }
        if ended {
            let half = if direction == Direction::ToServer { &mut self.up } else { &mut self.down };
            half.end(weather.delay);
        }
    }

    /// Inspects a client's frame; a request that must not arrive breaks the connection.
    fn on_request(&mut self, frame: &[u8], weather: &mut Weather) -> Option<Break> {
        if self.up.frames.is_opaque() {
            return None;
        }
        if !std::mem::replace(&mut self.greeted, true) {
            *weather.counts.entry(opcode::CONNECT).or_default() += 1;
            return None;
        }
        let request = Request::parse(frame)?;
        *weather.counts.entry(request.opcode).or_default() += 1;
        let sprung = weather.traps.iter_mut().position(|trap| (trap.matches)(&request))?;
        let Trap { lost, how, caught, .. } = weather.traps.remove(sprung);
        match lost {
            Lost::Reply => {
                self.awaited = Some(Awaited { request, how, caught });
                None
            }
            Lost::Request => {
                let _ = caught.send(request);
                Some(how)
            }
        }
    }

    /// Inspects a server's frame; a reply that must not arrive breaks the connection.
    fn on_reply(&mut self, frame: &[u8]) -> Option<Break> {
        if self.down.frames.is_opaque() || !std::mem::replace(&mut self.answered, true) {
            return None;
        }
        let xid = frames::reply_to(frame)?;
        let Awaited { request, how, caught } = self.awaited.take_if(|awaited| awaited.request.xid == xid)?;
        let _ = caught.send(request);
        Some(how)
    }

    fn discard(&mut self, direction: Direction) {
        let (half, mut from) = match direction {
            Direction::ToServer => (&mut self.up, &self.client),
            Direction::ToClient => (&mut self.down, &self.server),
        };
        let gone = match from.read(&mut [0; 4096]) {
            Ok(length) => length == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        };
        half.deaf |= gone;
    }

    /// Writes what is due.
    pub(super) fn write(&mut self, now: Instant, weather: &Weather) {
        if self.phase == Phase::Open && !weather.hole_to_server {
            let broken = self.up.write(&self.server, now);
            broken.into_iter().for_each(|how| self.break_now(how));
        }
        if self.phase == Phase::Open && !weather.hole_to_client {
            let broken = self.down.write(&self.client, now);
            broken.into_iter().for_each(|how| self.break_now(how));
        }
        match self.phase {
            Phase::Open if self.up.ended && self.down.ended => self.phase = Phase::Over,
            Phase::Lingering(until) if now >= until || (self.up.deaf && self.down.deaf) => self.phase = Phase::Over,
            _ => {}
        }
    }

    /// When something is due next, apart from socket events.
    pub(super) fn due(&self, weather: &Weather) -> Option<Instant> {
        match self.phase {
            Phase::Open => {
                let up = self.up.due().filter(|_| !weather.hole_to_server);
                let down = self.down.due().filter(|_| !weather.hole_to_client);
                up.into_iter().chain(down).min()
            }
            Phase::Lingering(until) => Some(until),
            Phase::Silent | Phase::Over => None,
        }
    }

    /// Breaks the connection, with everything in flight.
    pub(super) fn break_now(&mut self, how: Break) {
        self.phase = match how {
            Break::Silence => Phase::Silent,
            Break::Reset => {
                abort(&self.client);
                abort(&self.server);
                Phase::Over
            }
            Break::Fin => {
                for (socket, half) in [(&self.client, &mut self.up), (&self.server, &mut self.down)] {
                    let _ = socket.shutdown(Shutdown::Write);
                    half.deaf = false;
                }
                Phase::Lingering(Instant::now() + LINGER)
            }
        };
    }
}

/// Makes a socket reset its connection when it is closed.
fn abort(socket: &TcpStream) {
    let _ = setsockopt(socket, sockopt::Linger, &libc::linger { l_onoff: 1, l_linger: 0 });
}
