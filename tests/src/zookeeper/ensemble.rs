//! Several servers that form an ensemble.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::server::Peers;
use super::{Mode, Options, Server};
use crate::eventually;
use crate::ports::Port;

/// An ensemble on loopback for one test.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<Server>,
    /// Ports for the communication between the servers.
    _ports: Vec<Port>,
}

impl Ensemble {
    /// Starts the servers, and waits until one leads and all others follow.
    ///
    /// # Panics
    /// If they do not.
    #[must_use]
    pub fn start(servers: usize) -> Self {
        Self::start_with(servers, &Options::default())
    }

    /// Starts the servers with these options, and waits until one leads and all others follow.
    ///
    /// # Panics
    /// If they do not.
    #[must_use]
    pub fn start_with(servers: usize, options: &Options) -> Self {
        let ports: Vec<[Port; 2]> = (0..servers).map(|_| [Port::claim(), Port::claim()]).collect();
        let lines = ports.iter().enumerate().fold(String::new(), |mut lines, (index, [quorum, election])| {
            let _ = writeln!(lines, "server.{}={}:{}", index + 1, quorum.address(), election.number());
            lines
        });
        let configure = |index| Server::configure(options, Some(Peers { number: index + 1, lines: lines.clone() }));
        let servers: Vec<Server> = (0..servers).map(configure).collect();
        servers.iter().for_each(Server::launch);
        let ensemble = Self { servers, _ports: ports.into_iter().flatten().collect() };
        ensemble.wait();
        ensemble
    }

    /// Waits until every running server serves, one of them as leader.
    ///
    /// # Panics
    /// If they do not.
    pub fn wait(&self) {
        self.servers.iter().filter(|server| server.is_running()).for_each(Server::wait_until_serving);
        self.leader();
    }

    /// All servers, always in the same order.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// A server by its index.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn server(&self, index: usize) -> &Server {
        &self.servers[index]
    }

    /// All client ports as a ZooKeeper host list.
    #[must_use]
    pub fn hosts(&self) -> String {
        self.servers.iter().map(Server::hosts).collect::<Vec<_>>().join(",")
    }

    /// The data folders of all servers.
    #[must_use]
    pub fn data(&self) -> Vec<PathBuf> {
        self.servers.iter().map(Server::data).collect()
    }

    /// Waits for a leader and returns its index.
    ///
    /// # Panics
    /// If there is none.
    pub fn leader(&self) -> usize {
        let mut leader = None;
        eventually("a server leads", || {
            leader = self.servers.iter().position(|server| server.mode() == Some(Mode::Leader));
            leader.is_some()
        });
        leader.expect("it was waited for")
    }

    /// Indices of the followers.
    #[must_use]
    pub fn followers(&self) -> Vec<usize> {
        let follows = |index: &usize| self.servers[*index].mode() == Some(Mode::Follower);
        (0..self.servers.len()).filter(follows).collect()
    }
}
