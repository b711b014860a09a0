//! Why a target cannot be reached, in one sentence with a next step. What ssh said decides on the words alone: that nothing
//! ran is known already.

/// The longest reason that is shown, in characters.
const MAX_REASON: usize = 300;

/// What is said of a connection that could not be opened.
pub(super) fn sentence(host: &str, login: &str, said: &str) -> String {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let reason = lines().next_back().unwrap_or("ssh gave no reason");
    let reason: String = reason.trim_end_matches('.').chars().filter(|c| !c.is_control()).take(MAX_REASON).collect();
    let all = said.to_ascii_lowercase();
    let has = |text: &str| all.contains(text);
    let next = if has("host identification has changed") {
        return format!(
            "cannot connect to `{host}`: its host key is not the one that is known; find out why before you remove the old one"
        );
    } else if has("host key is known for") || has("host key verification failed") {
        format!(
            "its host key is not known: connect once with `ssh {login}`, or give \
             `options = [\"StrictHostKeyChecking=accept-new\"]`"
        )
    } else if has("permission denied") {
        format!("nobody is there to type a password: `ssh {login} true` must work with a key or an agent alone")
    } else if has("could not resolve") {
        format!("give `{host}` a `HostName` in the configuration of ssh, or correct its name")
    } else if has("connection refused") {
        "is its sshd running, and on this port?".to_owned()
    } else if has("timed out") || has("no route to host") || has("unreachable") {
        "is it up, and can it be reached from here?".to_owned()
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
                "cannot connect to `web01`: its host key is not the one that is known; find out why before you remove the \
                 old one",
            ),
            (
                "No ED25519 host key is known for web01 and you have requested strict checking.\nHost key verification failed.",
                "cannot connect to `web01`: Host key verification failed; its host key is not known: connect once with \
                 `ssh deploy@web01`, or give `options = [\"StrictHostKeyChecking=accept-new\"]`",
            ),
            (
                "deploy@web01: Permission denied (publickey).\r\n",
                "cannot connect to `web01`: deploy@web01: Permission denied (publickey); nobody is there to type a password: \
                 `ssh deploy@web01 true` must work with a key or an agent alone",
            ),
            (
                "ssh: connect to host web01 port 22: Connection refused\n",
                "cannot connect to `web01`: ssh: connect to host web01 port 22: Connection refused; is its sshd running, and \
                 on this port?",
            ),
            ("", "cannot connect to `web01`: ssh gave no reason; `ssh -v deploy@web01` says more"),
        ] {
            assert_eq!(sentence("web01", "deploy@web01", said), expected);
        }
    }
}
