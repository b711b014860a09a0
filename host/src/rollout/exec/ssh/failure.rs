//! Why a target is unreachable, in one sentence with a next step. The text of ssh decides only on the words: that
//! nothing ran is already known.

use lockkeeper_locks::terminal;

/// Characters of a reason that are shown.
const MAX_REASON: usize = 300;

/// What ssh reports if the other side ended the connection before the login: a server with too many new connections
/// (`MaxStartups`), a jump host under load, a server that has just been started.
const TURNED_AWAY: [&str; 8] = [
    "kex_exchange_identification",
    "ssh_exchange_identification",
    "banner exchange",
    "connection closed by",
    "connection reset by",
    "closed by remote host",
    "not allowed at this time",
    "too many authentication failures for this source",
];

/// Attempts at a connection that is turned away: over about a minute.
pub(super) const MOST_ATTEMPTS: u32 = 8;

/// Attempts at a connection to a host that accepts it and does not answer in time.
const MOST_TIMED_OUT: u32 = 3;

/// Attempts at a connection, given what ssh reports.
pub(super) fn attempts(said: &str) -> u32 {
    match (was_turned_away(said), said.contains("timed out")) {
        (false, _) => 1,
        (true, true) => MOST_TIMED_OUT,
        (true, false) => MOST_ATTEMPTS,
    }
}

/// Whether the other side ended the connection before the login, so that another attempt may succeed.
fn was_turned_away(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    TURNED_AWAY.iter().any(|words| said.contains(words)) && !said.contains("permission denied")
}

/// The sentence for a connection that could not be opened.
pub(super) fn sentence(host: &str, login: &str, said: &str) -> String {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let reason = lines().next_back().unwrap_or("ssh gave no reason");
    let reason = terminal::log_line(reason.trim_end_matches('.'), MAX_REASON);
    let all = said.to_ascii_lowercase();
    let has = |text: &str| all.contains(text);
    let next = if has("host identification has changed") {
        return format!(
            "cannot connect to `{host}`: its host key has changed; find out why before you remove the old key"
        );
    } else if has("host key is known for") || has("host key verification failed") {
        format!(
            "its host key is unknown: connect once with `ssh {login}`, or give \
             `options = [\"StrictHostKeyChecking=accept-new\"]`"
        )
    } else if has("permission denied") {
        format!("no password can be typed: `ssh {login} true` must work with a key or an agent alone")
    } else if has("could not resolve") {
        format!("give `{host}` a `HostName` in the configuration of ssh, or correct its name")
    } else if attempts(said) == MOST_ATTEMPTS {
        "its sshd or a jump host refuses new connections (`MaxStartups`, load): lower `max-concurrency` or raise `MaxStartups`"
            .to_owned()
    } else if has("connection refused") {
        "check that its sshd is running on this port".to_owned()
    } else if has("timed out") || has("no route to host") || has("unreachable") {
        "check that it is up and reachable from here".to_owned()
    } else {
        format!("`ssh -v {login}` says more")
    };
    format!("cannot connect to `{host}`: {reason}; {next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_next_step() {
        for (said, expected) in [
            (
                "@@@\n@  WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!  @\n@@@\nHost key verification failed.\n",
                "cannot connect to `web01`: its host key has changed; find out why before you remove the old key",
            ),
            (
                "No ED25519 host key is known for web01 and you have requested strict checking.\nHost key verification failed.",
                "cannot connect to `web01`: Host key verification failed; its host key is unknown: connect once with \
                 `ssh deploy@web01`, or give `options = [\"StrictHostKeyChecking=accept-new\"]`",
            ),
            (
                "deploy@web01: Permission denied (publickey).\r\n",
                "cannot connect to `web01`: deploy@web01: Permission denied (publickey); no password can be typed: `ssh deploy@web01 true` must work with a key or an agent alone",
            ),
            (
                "ssh: connect to host web01 port 22: Connection refused\n",
                "cannot connect to `web01`: ssh: connect to host web01 port 22: Connection refused; check that its sshd is running \
             on this port",
            ),
            (
                "kex_exchange_identification: Connection closed by remote host\nConnection closed by 10.0.0.1 port 22\n",
                "cannot connect to `web01`: Connection closed by 10.0.0.1 port 22; its sshd or a jump host refuses new connections (`MaxStartups`, load): lower `max-concurrency` or raise `MaxStartups`",
            ),
            ("", "cannot connect to `web01`: ssh gave no reason; `ssh -v deploy@web01` says more"),
        ] {
            assert_eq!(sentence("web01", "deploy@web01", said), expected);
        }
    }
}
