//! Where the servers are: `zk1:2181,zk2:2181/chroot`.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use thiserror::Error;

use crate::store::{NodePath, PathError};

/// The port of a server that is named without one.
pub const DEFAULT_PORT: u16 = 2181;

/// The servers of one ZooKeeper, and the node that all of our paths are below.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hosts {
    servers: Vec<(String, u16)>,
    chroot: Option<NodePath>,
}

/// Why a text names no servers. No message repeats what may be a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum HostsError {
    /// Nothing at all.
    #[error("no ZooKeeper server is named: expected something like `zk1:2181,zk2:2181/fleet`")]
    Empty,
    /// Nothing between two commas, or before or behind them all.
    #[error("`{0}` has a comma with no server beside it")]
    EmptyServer(String),
    /// A blank, which belongs nowhere in it.
    #[error("`{0}` has a blank: write servers with a comma between them and nothing else")]
    Blank(String),
    /// A port and no host.
    #[error("`{0}` has a port and no host")]
    NoHost(String),
    /// A host that can be none.
    #[error("`{server}` is no `host:port`: {character:?} cannot be in a host's name")]
    Character {
        /// As given.
        server: String,
        /// The first such character.
        character: char,
    },
    /// Not a number from 1 to 65535.
    #[error("`{server}` has the port `{port}`: expected a number from 1 to 65535")]
    Port {
        /// As given.
        server: String,
        /// What stands behind its last colon.
        port: String,
    },
    /// An IPv6 address without brackets, or something else in them.
    #[error("`{0}` is no `host:port`: an IPv6 address is written in brackets, as in `[::1]:2181`")]
    Brackets(String),
    /// Something else than a comma between two servers.
    #[error("`{text}` has {found:?} between servers: separate hosts by commas, as in `zk1:2181,zk2:2181/fleet`")]
    Separator {
        /// As given.
        text: String,
        /// What stands there.
        found: char,
    },
    /// A server behind a slash: a chroot for each server, or one before the last of them.
    #[error("`{text}` has a comma behind its chroot: the chroot stands once, at the end{}", meant(instead.as_deref()))]
    ChrootTwice {
        /// As given.
        text: String,
        /// What was probably meant; `None` if the chroots differ.
        instead: Option<String>,
    },
    /// `tcp://` and the like.
    #[error("`{0}` begins like a URL: servers are written as `host:port`")]
    Url(String),
    /// `user:password@`, which is not repeated.
    #[error("servers are written as `host:port`: no user and no password stands before them")]
    Credentials,
    /// The part from the first slash on.
    #[error("the chroot cannot be used")]
    Chroot(#[source] PathError),
}

fn meant(instead: Option<&str>) -> String {
    match instead {
        Some(instead) => format!(", as in `{instead}`"),
        None => String::from(", and is the same for all servers, as in `zk1:2181,zk2:2181/fleet`"),
    }
}

impl Hosts {
    /// Reads `host[:port][,host[:port]…][/chroot]`. An IPv6 address stands in brackets; a single slash at the end is none.
    ///
    /// # Errors
    /// [`HostsError`], the first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, HostsError> {
        Self::read(text).map_err(|error| if text.contains('@') { HostsError::Credentials } else { error })
    }

    fn read(text: &str) -> Result<Self, HostsError> {
        if text.trim().is_empty() {
            return Err(HostsError::Empty);
        }
        if text.contains("://") {
            return Err(HostsError::Url(text.to_owned()));
        }
        let (servers, chroot) = match text.find('/') {
            Some(slash) => text.split_at(slash),
            None => (text, ""),
        };
        if text.starts_with(char::is_whitespace) || servers.contains(char::is_whitespace) {
            return Err(HostsError::Blank(text.to_owned()));
        }
        if servers.is_empty() {
            return Err(HostsError::Empty);
        }
        if let Some(found) = text.chars().find(|c| matches!(c, ';' | '|')) {
            return Err(HostsError::Separator { text: text.to_owned(), found });
        }
        if chroot.contains(',') {
            return Err(HostsError::ChrootTwice { text: text.to_owned(), instead: with_one_chroot(text) });
        }
        if servers.split(',').any(str::is_empty) {
            return Err(HostsError::EmptyServer(servers.to_owned()));
        }
        let servers = servers.split(',').map(server).collect::<Result<_, _>>()?;
        let chroot = match chroot.trim_matches('/') {
            "" => None,
            _ => Some(NodePath::parse(chroot).map_err(HostsError::Chroot)?),
        };
        Ok(Self { servers, chroot })
    }

    /// Each server's name or address, an IPv6 one without its brackets, and its port; in the order given, at least one.
    #[must_use]
    pub fn servers(&self) -> &[(String, u16)] {
        &self.servers
    }

    /// The node that stands for the root; none: the server's own root.
    #[must_use]
    pub fn chroot(&self) -> Option<&NodePath> {
        self.chroot.as_ref()
    }
}

/// The servers of a text that has a chroot behind more than the last of them; `None` if those chroots differ.
fn with_one_chroot(text: &str) -> Option<String> {
    let parts = text.split(',').map(|part| part.split_at(part.find('/').unwrap_or(part.len())));
    let (servers, chroots): (Vec<&str>, Vec<&str>) = parts.unzip();
    let mut named = chroots.into_iter().map(|chroot| chroot.trim_end_matches('/')).filter(|chroot| !chroot.is_empty());
    let chroot = named.next().unwrap_or_default();
    let instead = format!("{}{chroot}", servers.join(","));
    (named.all(|other| other == chroot) && Hosts::parse(&instead).is_ok()).then_some(instead)
}

fn server(text: &str) -> Result<(String, u16), HostsError> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, behind) = rest.split_once(']').ok_or_else(|| HostsError::Brackets(text.to_owned()))?;
            if address.parse::<Ipv6Addr>().is_err() {
                return Err(HostsError::Brackets(text.to_owned()));
            }
            match behind.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None if behind.is_empty() => (address, None),
                None => return Err(HostsError::Brackets(text.to_owned())),
            }
        }
        None => match text.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                let is_address = text.chars().all(|c| c.is_ascii_hexdigit() || matches!(c, ':' | '.'));
                return Err(match is_address && !is_two_servers(text) {
                    true => HostsError::Brackets(text.to_owned()),
                    false => HostsError::Separator { text: text.to_owned(), found: ':' },
                });
            }
            Some((host, port)) => (named(host, text)?, Some(port)),
            None => (named(text, text)?, None),
        },
    };
    let port = match port {
        None => DEFAULT_PORT,
        // A plus sign, which Rust's numbers may have, is no part of a port.
        Some(digits) => match digits.parse() {
            Ok(port) if port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => port,
            _ => return Err(HostsError::Port { server: text.to_owned(), port: digits.to_owned() }),
        },
    };
    Ok((host.to_owned(), port))
}

/// `10.0.0.1:2181:10.0.0.2:2181`: hexadecimal digits, points and colons as in an address, and yet none.
fn is_two_servers(text: &str) -> bool {
    text.parse::<Ipv6Addr>().is_err() && text.matches('.').count() > 3
}

fn named<'a>(host: &'a str, server: &str) -> Result<&'a str, HostsError> {
    if host.is_empty() {
        return Err(HostsError::NoHost(server.to_owned()));
    }
    match host.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '-' | '_')) {
        Some(character) => Err(HostsError::Character { server: server.to_owned(), character }),
        None => Ok(host),
    }
}

/// As it would be written with nothing left out.
impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (host, port)) in self.servers.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            match host.contains(':') {
                true => write!(f, "{comma}[{host}]:{port}")?,
                false => write!(f, "{comma}{host}:{port}")?,
            }
        }
        match &self.chroot {
            Some(chroot) => write!(f, "{chroot}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Hosts {
    type Err = HostsError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Hosts::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn servers_have_the_default_port_and_a_chroot_is_below_all() {
        for (given, meant) in [
            ("zk1", "zk1:2181"),
            ("zk1:2182,zk2", "zk1:2182,zk2:2181"),
            ("10.0.0.1:1/fleet", "10.0.0.1:1/fleet"),
            ("zk_1.example.com:65535/a/b/", "zk_1.example.com:65535/a/b"),
            ("zk1//a//b", "zk1:2181/a/b"),
            ("zk1/", "zk1:2181"),
            ("[::1],[fe80::1]:7/x", "[::1]:2181,[fe80::1]:7/x"),
            ("zk1/a b", "zk1:2181/a b"),
        ] {
            let hosts = Hosts::parse(given).unwrap();
            assert_eq!(hosts.to_string(), meant);
            assert_eq!(Hosts::parse(meant).unwrap(), hosts);
        }
    }

    #[test]
    fn the_parts_can_be_had() {
        let hosts = Hosts::parse("zk1,[::1]:7/fleet").unwrap();
        assert_eq!(hosts.servers(), [("zk1".to_owned(), 2181), ("::1".to_owned(), 7)]);
        assert_eq!(hosts.chroot().unwrap().as_str(), "/fleet");
        assert_eq!(Hosts::parse("zk1/").unwrap().chroot(), None);
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (given, said) in [
            ("", "no ZooKeeper server"),
            (" ", "no ZooKeeper server"),
            ("/fleet", "no ZooKeeper server"),
            ("zk1,", "comma"),
            (",zk1", "comma"),
            ("zk1,,zk2", "comma"),
            ("zk1, zk2", "blank"),
            (" zk1", "blank"),
            ("zk1\t/a", "blank"),
            (":2181", "no host"),
            ("zk1:", "port ``"),
            ("zk1:x", "port `x`"),
            ("zk1:0", "port `0`"),
            ("zk1:+1", "port `+1`"),
            ("zk1:65536", "port `65536`"),
            ("zk1:2181;zk2:2181", "';' between servers: separate hosts by commas"),
            ("zk1;zk2/fleet", "separate hosts by commas"),
            ("zk1|zk2", "separate hosts by commas"),
            ("zk1:2181:zk2:2181", "separate hosts by commas"),
            ("10.0.0.1:2181:10.0.0.2:2181", "separate hosts by commas"),
            ("zk1:2181/a,zk2:2181/a", "the chroot stands once, at the end, as in `zk1:2181,zk2:2181/a`"),
            ("zk1:2181/a,zk2:2181", "the chroot stands once, at the end, as in `zk1:2181,zk2:2181/a`"),
            ("zk1/a/,zk2/a", "as in `zk1,zk2/a`"),
            ("zk1/a,zk2/b", "is the same for all servers"),
            ("zk1/a,b", "the chroot stands once"),
            ("zk1/a,", "the chroot stands once"),
            ("::1", "brackets"),
            ("::1:2181", "brackets"),
            ("[::1", "brackets"),
            ("[zk1]:2181", "brackets"),
            ("[::1]2181", "brackets"),
            ("tcp://zk1:2181", "URL"),
            ("tcp+tls://zk1:2181", "URL"),
            ("zk1/../b", "chroot"),
            ("zk1/zookeeper", "chroot"),
        ] {
            assert!(error(given).contains(said), "{given}: {}", error(given));
        }
    }

    #[test]
    fn a_password_in_the_wrong_place_is_not_repeated() {
        for given in ["me:secret@zk1:2181", "me:sec/ret@zk1", "tcp://me:secret@zk1", "me@zk1,zk2"] {
            let said = error(given);
            assert!(said.contains("no password") && !said.contains("sec"), "{given}: {said}");
        }
    }
}
