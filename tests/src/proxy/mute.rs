//! A server that accepts connections and never answers.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// Accepts connections and input, and sends nothing.
#[derive(Debug)]
pub struct Mute {
    /// Never used to accept: the kernel accepts connections by itself.
    listener: TcpListener,
}

impl Mute {
    /// Starts one.
    ///
    /// # Panics
    /// If there is no free port.
    #[must_use]
    pub fn start() -> Self {
        Self { listener: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port") }
    }

    /// Its address.
    ///
    /// # Panics
    /// Never: the socket is bound.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().expect("it is bound")
    }

    /// The address as a ZooKeeper host list.
    #[must_use]
    pub fn hosts(&self) -> String {
        self.address().to_string()
    }
}
