//! Ports of our own on loopback, kept for as long as they are wanted, however often a server comes and goes on them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below what kernels give to outgoing connections, or one of those might sit on a port while its server restarts.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A TCP port that nobody else of this crate takes, in whatever process.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// The UDP port of the same number says that it is taken; the kernel gives it back when we are gone.
    _claim: UdpSocket,
}

impl Port {
    /// One that is free.
    ///
    /// # Panics
    /// When there is none.
    pub(crate) fn claim() -> Self {
        static TRIED: AtomicU32 = AtomicU32::new(0);
        // Processes that start together begin far apart.
        let begin = process::id().wrapping_mul(97);
        for _ in 0..COUNT {
            let offset = begin.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % COUNT;
            let number = u16::try_from(FIRST + offset).expect("the range is below 65536");
            let Ok(claim) = UdpSocket::bind((Ipv4Addr::LOCALHOST, number)) else { continue };
            if TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
                return Self { number, _claim: claim };
            }
        }
        panic!("no free port from {FIRST} to {}", FIRST + COUNT);
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    pub(crate) fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.number))
    }
}
