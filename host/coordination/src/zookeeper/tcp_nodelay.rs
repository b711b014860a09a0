//! `TCP_NODELAY` on the client's sockets.
//!
//! The client crate writes each request by itself and leaves Nagle's algorithm on, so the second of two requests that are
//! sent at once waits in our kernel until the server has acknowledged the first: at a round trip of 10 ms that was measured
//! to cost 0.4 to 1.4 round trips an acquire. The crate neither sets the option nor shows its socket. So we find the socket
//! among our own descriptors, by whom it is connected to, and set the option on a duplicate, which is the same socket.
//!
//! The duplicate is made by sending the descriptor to ourselves over a pair of Unix sockets: that takes a bare number and
//! gives an owned descriptor, needs no permission, and no unsafe code. To be deleted when the crate sets the option.

use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::sync::OnceLock;

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// Where a process finds its descriptors.
const DESCRIPTORS: &str = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };

/// Switches Nagle's algorithm off on every connection of this process to one of these servers' ports. What cannot be found
/// or set stays as it is: that is slower, and nothing else.
pub(super) fn off(servers: &[(String, u16)]) {
    let Ok(entries) = fs::read_dir(DESCRIPTORS) else { return };
    let numbers: Vec<RawFd> =
        entries.flatten().filter_map(|entry| entry.file_name().to_str().and_then(|name| name.parse().ok())).collect();
    for stream in numbers.into_iter().filter(|number| is_socket(*number)).filter_map(duplicate).map(TcpStream::from) {
        // Whatever is no TCP connection has no such peer.
        let is_ours = stream.peer_addr().is_ok_and(|peer| servers.iter().any(|(_, port)| *port == peer.port()));
        if is_ours {
            let _ = stream.set_nodelay(true);
        }
    }
}

/// Whether it is a socket, where the system tells.
fn is_socket(number: RawFd) -> bool {
    match fs::read_link(format!("{DESCRIPTORS}/{number}")) {
        Ok(target) => target.to_str().is_some_and(|target| target.starts_with("socket:")),
        Err(_) => cfg!(not(target_os = "linux")),
    }
}

/// Another descriptor of the same socket.
fn duplicate(number: RawFd) -> Option<OwnedFd> {
    static PAIR: OnceLock<Option<std::sync::Mutex<(UnixDatagram, UnixDatagram)>>> = OnceLock::new();
    let pair = PAIR.get_or_init(|| UnixDatagram::pair().ok().map(std::sync::Mutex::new)).as_ref()?;
    let (here, there) = &*pair.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let payload = [IoSlice::new(b"!")];
    let passed = [number];
    sendmsg::<()>(here.as_raw_fd(), &payload, &[ControlMessage::ScmRights(&passed)], MsgFlags::MSG_DONTWAIT, None)
        .ok()?;
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    recvmsg(there, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)
        .ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn only_connections_to_the_servers_ports_are_switched() {
        let (ours, others) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let connect = |listener: &TcpListener| TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (to_ours, again, to_others) = (connect(&ours), connect(&ours), connect(&others));
        assert!(!to_ours.nodelay().unwrap());
        off(&[(String::from("localhost"), ours.local_addr().unwrap().port())]);
        assert!(to_ours.nodelay().unwrap() && again.nodelay().unwrap());
        assert!(!to_others.nodelay().unwrap());
    }
}
