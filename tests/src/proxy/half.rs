//! One direction of a connection: what was read and is not due on the other side yet.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use super::Break;
use super::frames::Frames;

/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// An item that is passed on in order.
#[derive(Debug)]
enum Piece {
    Bytes(Vec<u8>),
    /// The end of this direction.
    End,
    Break(Break),
}

/// The result of a read.
pub(super) enum Got {
    /// Complete frames; empty if none is complete yet.
    Frames(Vec<Vec<u8>>),
    /// The end, after these frames.
    End(Vec<Vec<u8>>),
    /// The other end has reset the connection.
    Broken,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Half {
    pub(super) frames: Frames,
    queue: VecDeque<(Instant, Piece)>,
    /// When the last queued item is due.
    last: Option<Instant>,
    /// Bytes that are due; those from `written` on were not taken yet.
    out: Vec<u8>,
    written: usize,
    /// Whether nothing more is read.
    pub(super) deaf: bool,
    /// Whether the end has passed.
    pub(super) ended: bool,
}

impl Half {
    /// Reads what is available.
    pub(super) fn read(&mut self, mut from: &TcpStream) -> Got {
        let mut chunk = [0; CHUNK];
        match from.read(&mut chunk) {
            Ok(0) => {
                self.deaf = true;
                let rest = self.frames.rest();
                Got::End(if rest.is_empty() { Vec::new() } else { vec![rest] })
            }
            Ok(length) => Got::Frames(self.frames.push(&chunk[..length])),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Got::Frames(Vec::new())
            }
            Err(_) => {
                self.deaf = true;
                Got::Broken
            }
        }
    }

    pub(super) fn send(&mut self, bytes: Vec<u8>, delay: Duration) {
        self.push(Piece::Bytes(bytes), delay);
    }

    pub(super) fn end(&mut self, delay: Duration) {
        self.push(Piece::End, delay);
    }

    pub(super) fn break_after(&mut self, how: Break, delay: Duration) {
        self.deaf = true;
        self.push(Piece::Break(how), delay);
    }

    fn push(&mut self, piece: Piece, delay: Duration) {
        // Keeps the order: nothing overtakes an item with a longer delay.
        let due = (Instant::now() + delay).max(self.last.unwrap_or_else(Instant::now));
        self.last = Some(due);
        self.queue.push_back((due, piece));
    }

    /// When something is due next, apart from a full socket.
    pub(super) fn due(&self) -> Option<Instant> {
        if self.blocked() { None } else { self.queue.front().map(|(due, _)| *due) }
    }

    /// Whether it waits for a socket that can take more.
    pub(super) fn blocked(&self) -> bool {
        self.written < self.out.len()
    }

    /// Writes what is due, and returns how to break the connection if that is due now.
    pub(super) fn write(&mut self, mut to: &TcpStream, now: Instant) -> Option<Break> {
        loop {
            while let Some((due, Piece::Bytes(_))) = self.queue.front()
                && *due <= now
                && let Some((_, Piece::Bytes(bytes))) = self.queue.pop_front()
            {
                self.out.extend_from_slice(&bytes);
            }
            while self.blocked() {
                match to.write(&self.out[self.written..]) {
                    Ok(length) => self.written += length,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(_) => return Some(Break::Reset),
                }
            }
            self.out.clear();
            self.written = 0;
            match self.queue.front() {
                Some((due, _)) if *due > now => return None,
                Some((_, Piece::Bytes(_))) => {}
                Some((_, Piece::Break(how))) => return Some(*how),
                Some((_, Piece::End)) => {
                    self.queue.pop_front();
                    self.ended = true;
                    let _ = to.shutdown(Shutdown::Write);
                }
                None => return None,
            }
        }
    }
}
