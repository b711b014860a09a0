//! A server that accepts and never answers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Takes connections, and whatever is sent on them, and says nothing.
#[derive(Debug)]
pub struct Mute {
    /// Never asked for a connection: the kernel accepts them by itself.
    listener: TcpListener,
}

impl Mute {
    /// Starts one.
    ///
    /// # Panics
    /// Without a free port.
    #[must_use]
    pub fn start() -> Self {
        Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port") }
    }

    /// Where it listens.
    ///
    /// # Panics
    /// Never: it does.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// The same, as clients want it.
    #[must_use]
    pub fn hosts(&self) -> String {
        self.address().to_string()
    }
}
