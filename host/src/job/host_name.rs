//! What a host is called: `web01.example.com`, `deploy@web01`, `web01:2222`, `10.0.0.1`, `2001:db8::1`, `[2001:db8::1]:22`.
//!
//! Whatever else stands in a list of targets (a heading, a table, an error page) is not a host's name, and acting on it
//! would be a mistake. Two spellings of one host are one host: it has one lease, however it is written.

use core::net::Ipv6Addr;

use super::name::NameError;

/// The parts of `user@host:port`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HostName<'a> {
    user: Option<&'a str>,
    host: Host<'a>,
    port: Option<&'a str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Host<'a> {
    /// A name of the DNS or of a file such as `/etc/hosts`, or an IPv4 address.
    Name(&'a str),
    /// An IPv6 address, and the interface behind a `%`.
    Address(Ipv6Addr, Option<&'a str>),
}

impl<'a> HostName<'a> {
    /// Takes a name apart.
    ///
    /// # Errors
    /// [`NameError`]: what keeps it from being a host's name.
    pub(super) fn parse(text: &'a str) -> Result<Self, NameError> {
        let (user, host) = match text.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, text),
        };
        if let Some(user) = user {
            check_user(user)?;
        }
        if let Some((address, zone)) = address(host) {
            return Ok(Self { user, host: Host::Address(address, zone), port: None });
        }
        if let Some(rest) = host.strip_prefix('[') {
            let (inside, rest) = rest.split_once(']').ok_or(NameError::Brackets)?;
            let (address, zone) = address(inside).ok_or(NameError::Brackets)?;
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(check_port(port)?),
                None if rest.is_empty() => None,
                None => return Err(NameError::Brackets),
            };
            return Ok(Self { user, host: Host::Address(address, zone), port });
        }
        let (name, port) = match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        };
        check_dotted(name)?;
        let port = port.map(check_port).transpose()?;
        Ok(Self { user, host: Host::Name(name), port })
    }

    /// What all spellings of one host have in common: letters in one case, no dot at the end, one form of an IPv6 address.
    pub(super) fn key(&self) -> String {
        let mut key = String::new();
        if let Some(user) = self.user {
            key.push_str(user);
            key.push('@');
        }
        match self.host {
            Host::Name(name) => key.push_str(name.strip_suffix('.').unwrap_or(name)),
            Host::Address(address, None) => key.push_str(&format!("[{address}]")),
            Host::Address(address, Some(zone)) => key.push_str(&format!("[{address}%{zone}]")),
        }
        if let Some(port) = self.port {
            key.push(':');
            key.push_str(port);
        }
        key.to_lowercase()
    }
}

/// An IPv6 address, and the interface behind a `%`.
fn address(text: &str) -> Option<(Ipv6Addr, Option<&str>)> {
    let (address, zone) = match text.split_once('%') {
        Some((address, zone)) => (address, Some(zone)),
        None => (text, None),
    };
    let is_zone = |zone: &str| !zone.is_empty() && zone.chars().all(|c| is_in_label(c) || c == '.');
    Some((address.parse().ok()?, zone)).filter(|(_, zone)| zone.is_none_or(is_zone))
}

/// What stands between two dots. A letter of any script is one: names may be international.
fn is_in_label(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '_' | '-')
}

fn check_user(user: &str) -> Result<(), NameError> {
    match user.chars().find(|c| !is_in_label(*c) && !matches!(c, '.' | '@')) {
        Some(character) => Err(NameError::Character { character }),
        None if user.is_empty() => Err(NameError::EmptyPart { what: "before `@`" }),
        None => Ok(()),
    }
}

fn check_port(port: &str) -> Result<&str, NameError> {
    match !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) {
        true => Ok(port),
        false => Err(NameError::Port),
    }
}

fn check_dotted(name: &str) -> Result<(), NameError> {
    if let Some(character) = name.chars().find(|c| !is_in_label(*c) && *c != '.') {
        return Err(NameError::Character { character });
    }
    if name.starts_with('-') {
        return Err(NameError::Option);
    }
    if name.is_empty() {
        return Err(NameError::EmptyPart { what: "where the host's name belongs" });
    }
    if name.strip_suffix('.').unwrap_or(name).split('.').any(str::is_empty) {
        return Err(NameError::EmptyPart { what: "beside a dot" });
    }
    match name.chars().any(char::is_alphanumeric) {
        true => Ok(()),
        false => Err(NameError::NoLetter),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> String {
        HostName::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).key()
    }

    #[test]
    fn hosts_are_named_in_many_ways() {
        for text in [
            "web01",
            "web_01.example.com.",
            "wéb03",
            "10.0.0.1",
            "web01:2222",
            "deploy@web01",
            "deploy@corp.example@web01:22",
            "::1",
            "2001:db8::1",
            "fe80::1%eth0",
            "[::1]",
            "[2001:db8::1]:22",
            "root@[fe80::1%eth0.7]:22",
            "i-0abc",
        ] {
            HostName::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn what_is_not_a_hosts_name_says_why() {
        for (text, why) in [
            ("[db]", "`[…]` at a name's beginning holds an IPv6 address"),
            ("[01:12].example.com", "`[…]` at a name's beginning holds an IPv6 address"),
            ("[::1", "`[…]` at a name's beginning holds an IPv6 address"),
            ("[::1]22", "`[…]` at a name's beginning holds an IPv6 address"),
            ("[::1]:ssh", "a port is a number"),
            ("<html>", "a name cannot hold '<'"),
            ("web01,10.0.0.1", "a name cannot hold ','"),
            ("web01;", "a name cannot hold ';'"),
            ("web\u{200b}01", "a name cannot hold '\\u{200b}'"),
            ("web01\u{feff}", "a name cannot hold '\\u{feff}'"),
            ("\"web01\"", "a name cannot hold '\"'"),
            ("a=b", "a name cannot hold '='"),
            ("hosts:", "a port is a number"),
            ("web01:ssh", "a port is a number"),
            ("::g", "nothing stands where the host's name belongs"),
            ("web..de", "nothing stands beside a dot"),
            (".web", "nothing stands beside a dot"),
            ("@web", "nothing stands before `@`"),
            ("me@", "nothing stands where the host's name belongs"),
            ("me@-oProxyCommand", "a name cannot begin with `-`: a command would read it as an option"),
            ("____", "a name has a letter or a digit"),
        ] {
            assert_eq!(HostName::parse(text).unwrap_err().to_string(), why, "{text}");
        }
    }

    #[test]
    fn spellings_of_one_host_have_one_key() {
        for spellings in [
            &["web01", "WEB01", "Web01.", "web01."][..],
            &["wéb", "WÉB"],
            &["root@web01:22", "root@Web01.:22"],
            &["::1", "[::1]", "0:0:0:0:0:0:0:1", "[0::0:1]"],
            &["[2001:DB8::1]:22", "[2001:db8:0::1]:22"],
            &["fe80::1%eth0", "[FE80::1%eth0]"],
        ] {
            for spelling in spellings {
                assert_eq!(key(spelling), key(spellings[0]), "{spelling}");
            }
        }
        let different = ["web01", "web1", "web01:22", "root@web01", "[::1]:22", "::1:22", "::1", "10.0.0.1"];
        let keys: std::collections::BTreeSet<_> = different.iter().map(|text| key(text)).collect();
        assert_eq!(keys.len(), different.len());
    }
}
