//! ZooKeeper's frames in a stream of bytes: a length, followed by that many bytes.

/// Kinds of requests.
pub mod opcode {
    /// Creates a node.
    pub const CREATE: i32 = 1;
    /// Deletes a node.
    pub const DELETE: i32 = 2;
    /// Reads a node's stat.
    pub const EXISTS: i32 = 3;
    /// Reads a node's data.
    pub const GET_DATA: i32 = 4;
    /// Sets a node's data.
    pub const SET_DATA: i32 = 5;
    /// Reads a node's access rights.
    pub const GET_ACL: i32 = 6;
    /// Sets a node's access rights.
    pub const SET_ACL: i32 = 7;
    /// Reads a node's children.
    pub const GET_CHILDREN: i32 = 8;
    /// Waits until the server is up to date.
    pub const SYNC: i32 = 9;
    /// Keeps the session alive.
    pub const PING: i32 = 11;
    /// Reads a node's children and its stat.
    pub const GET_CHILDREN2: i32 = 12;
    /// Several writes in one transaction.
    pub const MULTI: i32 = 14;
    /// Creates a node and returns its stat.
    pub const CREATE2: i32 = 15;
    /// Removes watches.
    pub const REMOVE_WATCHES: i32 = 18;
    /// Logs in.
    pub const AUTH: i32 = 100;
    /// Sets watches again after a reconnect.
    pub const SET_WATCHES: i32 = 101;
    /// Sets watches again, including the newer kinds.
    pub const SET_WATCHES2: i32 = 105;
    /// Sets a persistent watch.
    pub const ADD_WATCH: i32 = 106;
    /// Ends the session.
    pub const CLOSE: i32 = -11;
    /// Not on the wire: counts a connection's first frame, which opens or resumes a session.
    pub const CONNECT: i32 = 0;
}

/// Longer than any frame: a longer one is not ZooKeeper's.
const LONGEST: usize = 64 << 20;

/// Bytes of the length at the start of a frame.
const PREFIX: usize = 4;

/// A request on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Its number within the connection; pings and some others have fixed negative ones.
    pub xid: i32,
    /// One of [`opcode`].
    pub opcode: i32,
    /// The bytes after the opcode.
    pub body: Vec<u8>,
}

impl Request {
    /// Parses a frame that is not a connection's first.
    pub(super) fn parse(frame: &[u8]) -> Option<Self> {
        let body = frame.get(PREFIX..)?;
        Some(Self { xid: number(body)?, opcode: number(body.get(4..)?)?, body: body.get(8..)?.to_vec() })
    }

    /// The node's path, for the kinds that start with one: all except `multi`, ping and login.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        let length = usize::try_from(number(&self.body)?).ok()?;
        let path = self.body.get(4..4 + length).and_then(|path| std::str::from_utf8(path).ok())?;
        path.starts_with('/').then_some(path)
    }

    /// Whether a text occurs anywhere in it, such as a path in a `multi`.
    #[must_use]
    pub fn mentions(&self, text: &str) -> bool {
        self.body.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// The number of the request that a reply answers, or -1 for an event.
pub(super) fn reply_to(frame: &[u8]) -> Option<i32> {
    number(frame.get(PREFIX..)?)
}

fn number(bytes: &[u8]) -> Option<i32> {
    bytes.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

/// Splits a stream into frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    rest: Vec<u8>,
    /// Whether this is not a ZooKeeper stream, but TLS or a four-letter word.
    opaque: bool,
}

impl Frames {
    /// Adds bytes and returns the complete frames.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.rest.extend_from_slice(bytes);
        let mut whole = Vec::new();
        while !self.opaque {
            let Some(length) = number(&self.rest) else { break };
            let length = usize::try_from(length).ok().filter(|length| *length <= LONGEST);
            let Some(end) = length.map(|length| length + PREFIX) else {
                self.opaque = true;
                break;
            };
            if self.rest.len() < end {
                break;
            }
            let after = self.rest.split_off(end);
            whole.push(std::mem::replace(&mut self.rest, after));
        }
        if self.opaque && !self.rest.is_empty() {
            whole.push(std::mem::take(&mut self.rest));
        }
        whole
    }

    /// The remaining bytes at the end of the stream.
    pub(super) fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }

    pub(super) fn is_opaque(&self) -> bool {
        self.opaque
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_found_however_the_bytes_come() {
        let stream = [&[0, 0, 0, 2, 7, 8][..], &[0, 0, 0, 0], &[0, 0, 0, 1, 9]].concat();
        for step in 1..=stream.len() {
            let mut frames = Frames::default();
            let whole: Vec<_> = stream.chunks(step).flat_map(|bytes| frames.push(bytes)).collect();
            assert_eq!(whole, [&[0, 0, 0, 2, 7, 8][..], &[0, 0, 0, 0], &[0, 0, 0, 1, 9]], "step {step}");
        }
    }

    #[test]
    fn what_has_no_frames_goes_on_as_it_came() {
        let mut frames = Frames::default();
        assert_eq!(frames.push(b"ruok"), [b"ruok"]);
        assert!(frames.is_opaque());
    }
}
