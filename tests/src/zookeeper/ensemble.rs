//! Several servers that are one.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::server::Peers;
use super::{Mode, Options, Server};
use crate::eventually;
use crate::ports::Port;

/// An ensemble of our own on loopback.
#[derive(Debug)]
pub struct Ensemble {
    servers: Vec<Server>,
    /// What they speak among themselves on.
    _ports: Vec<Port>,
}

impl Ensemble {
    /// Starts so many servers, and waits until one leads and all others follow.
    ///
    /// # Panics
    /// When they do not.
    #[must_use]
    pub fn start(servers: usize) -> Self {
        Self::start_with(servers, &Options::default())
    }

    /// Starts so many servers, and waits until one leads and all others follow.
    ///
    /// # Panics
    /// When they do not.
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

    /// Waits until every server that runs serves, one of them as leader.
    ///
    /// # Panics
    /// When that does not come.
    pub fn wait(&self) {
        self.servers.iter().filter(|server| server.is_running()).for_each(Server::wait_until_serving);
        self.leader();
    }

    /// All of them, in one order for good.
    #[must_use]
    pub fn servers(&self) -> &[Server] {
        &self.servers
    }

    /// One of them, from 0.
    ///
    /// # Panics
    /// When there are fewer.
    #[must_use]
    pub fn server(&self, index: usize) -> &Server {
        &self.servers[index]
    }

    /// All client ports, as clients want them.
    #[must_use]
    pub fn hosts(&self) -> String {
        self.servers.iter().map(Server::hosts).collect::<Vec<_>>().join(",")
    }

    /// Every server's data folder.
    #[must_use]
    pub fn data(&self) -> Vec<PathBuf> {
        self.servers.iter().map(Server::data).collect()
    }

    /// Which one leads; waits until one does.
    ///
    /// # Panics
    /// When none comes to.
    pub fn leader(&self) -> usize {
        let mut leader = None;
        eventually("a server leads", || {
            leader = self.servers.iter().position(|server| server.mode() == Some(Mode::Leader));
            leader.is_some()
        });
        leader.expect("it was waited for")
    }

    /// Which ones follow.
    #[must_use]
    pub fn followers(&self) -> Vec<usize> {
        let follows = |index: &usize| self.servers[*index].mode() == Some(Mode::Follower);
        (0..self.servers.len()).filter(follows).collect()
    }
}
