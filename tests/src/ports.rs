//! Loopback ports for one test, reserved while servers restart on them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::process;
use std::sync::atomic::{AtomicU32, Ordering};

/// First port; below the range that kernels use for outgoing connections, which could take a port while its server
/// restarts.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

/// A TCP port that no other test of this crate uses, in any process.
#[derive(Debug)]
pub(crate) struct Port {
    number: u16,
    /// A UDP socket on the same number marks the port as taken; the kernel releases it with the process.
    _claim: UdpSocket,
}

impl Port {
    /// Reserves a free port.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn claim() -> Self {
        static TRIED: AtomicU32 = AtomicU32::new(0);
        // Processes that start together search from different places.
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
