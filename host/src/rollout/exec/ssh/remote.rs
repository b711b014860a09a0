//! The text that is sent to a target's shell: every word quoted, for any login shell and a POSIX `sh`.

use lockkeeper_coordination::zookeeper::Secret;

/// Starts the command on a word, and reports on stderr when it is ready for the word and how the command ended.
///
/// Both streams of the command are its stdout, in the order written. sshd gives each session a process group of its
/// own, whose number this shell has: the command is in it and can be stopped with it. The traps keep this shell alive
/// meanwhile; a command does not inherit them. Without the word, as when the connection broke before, nothing starts.
/// The text between that word and `end` sets variables that must not be on a command line, which other users can read;
/// a subshell evaluates it, so that none of them replaces a variable of this script. The first `echo` ends a line that
/// the login shell may have left open.
const BEGIN: &str = concat!(
    r#"trap : TERM INT HUP; token=$1; shift; echo >&2; echo "$token ready $$" >&2; IFS= read -r go; "#,
    r#"if [ "$go" != "$token go" ]; then exit 0; fi; "#,
    r#"lk_break=$(printf "\n."); lk_break=${lk_break%.}; lk_set=; lk_line=; "#,
    r#"until [ "$lk_line" = "$token end" ]; do "#,
    r#"lk_set=$lk_set$lk_line$lk_break; IFS= read -r lk_line || exit 0; done; "#,
    r#"(eval "$lk_set"; exec "$@") </dev/null 2>&1; code=$?; echo "$token ended $code" >&2; exit "$code""#,
);

/// Stops a process group: SIGTERM, then SIGKILL if the given number of checks found it alive; prints whether it is
/// gone.
///
/// It continues by itself if the connection breaks. Processes that have ended and were not waited for do not count. A
/// process of another user, such as below `sudo`, may not be signalled: it is reported as left.
const STOP: &str = concat!(
    r#"group=$1; looks=$2; "#,
    r#"alive() { all=$(ps -A -o pgid= -o stat= 2>/dev/null || ps -o pgid= -o stat= 2>/dev/null); "#,
    r#"if [ -z "$all" ]; then kill -s 0 -- "-$group" 2>/dev/null; return; fi; "#,
    r#"echo "$all" | { while read -r of state; do if [ "$of" = "$group" ]; then "#,
    r#"case $state in Z*|X*) ;; *) exit 0 ;; esac; fi; done; exit 1; }; }; "#,
    r#"wait_for() { while [ "$looks" -gt 0 ] && alive; do "#,
    r#"sleep 0.1 2>/dev/null || { sleep 1; looks=$((looks - 9)); }; looks=$((looks - 1)); done; }; "#,
    r#"kill -s TERM -- "-$group" 2>/dev/null; wait_for; "#,
    r#"if alive; then kill -s KILL -- "-$group" 2>/dev/null; looks=20; wait_for; fi; "#,
    r#"if alive; then echo left; else echo gone; fi"#,
);

/// What [`stop`] prints if nothing of the group is running.
pub(super) const GONE: &str = "gone";

/// How often [`stop`] checks a group in a second, at most.
pub(super) const CHECKS_PER_SECOND: u32 = 8;

/// A command with its environment, to be run under a token that is not known yet: see [`Script::line`].
#[derive(Debug)]
pub(super) struct Script {
    words: String,
    /// One or more lines with which a shell sets each secret.
    secrets: Vec<Secret>,
}

impl Script {
    /// The word that makes the shell start the command.
    pub(super) fn word(&self, token: &str) -> String {
        let secrets = self.secrets.iter().map(|secret| format!("{}\n", secret.expose()));
        format!("{token} go\n{}{token} end\n", secrets.collect::<String>())
    }

    /// The line for the login shell.
    pub(super) fn line(&self, token: &str) -> String {
        let words = ["sh", "-c", BEGIN, "lockkeeper", token];
        let words = shlex::try_join(words).expect("there is no character 0 among them");
        format!("exec {words} {}", self.words)
    }
}

/// Quotes a command and its environment.
///
/// # Errors
/// If an argument or a variable contains the character 0.
pub(super) fn command(
    command: &[String],
    environment: &[(String, String)],
    secrets: &[(String, Secret)],
) -> Result<Script, String> {
    let assignments = environment.iter().map(|(name, value)| format!("{name}={value}"));
    let mut words: Vec<String> = [String::from("env")].into_iter().chain(assignments).collect();
    // `env` would take such a program for a variable.
    if command.first().is_some_and(|program| program.contains('=')) {
        words.extend(["sh", "-c", r#"exec "$0" "$@""#].map(str::to_owned));
    }
    words.extend_from_slice(command);
    let set = |(name, secret): &(String, Secret)| {
        shlex::try_quote(secret.expose()).map(|value| Secret::new(format!("export {name}={value}")))
    };
    let secrets = secrets.iter().map(set).collect::<Result<Vec<_>, _>>();
    let words = shlex::try_join(words.iter().map(String::as_str));
    let zero = |_| "cannot send the command: an argument or a variable has the character 0".to_owned();
    Ok(Script { words: words.map_err(zero)?, secrets: secrets.map_err(zero)? })
}

/// The line for the login shell that stops a group after so many checks.
pub(super) fn stop(group: u32, looks: u32) -> String {
    let (group, looks) = (group.to_string(), looks.to_string());
    let words = ["sh", "-c", STOP, "lockkeeper", &group, &looks];
    shlex::try_join(words).expect("there is no character 0 among them")
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Output, Stdio};

    use super::*;

    const TOKEN: &str = "t0k3n";
    const GO: &str = "t0k3n go\nt0k3n end\n";

    /// Runs the line as sshd's login shell would, in a group of its own.
    fn begin(shell: &str, line: &str, stdin: &str) -> Output {
        let mut shell = Command::new(shell);
        shell.args(["-c", line]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = shell.spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn every_argument_and_variable_arrives_as_it_is() {
        let hostile = [
            "$(touch x)",
            "; rm -rf /",
            "`id`",
            "'",
            "\"",
            "a\nb",
            "  ",
            "",
            "é—☃",
            "*",
            "~",
            "\\",
            "!!",
            "-n",
            "{a,b}",
            "%s",
        ];
        let arguments: Vec<_> = ["printf", "<%s>"].into_iter().chain(hostile).map(str::to_owned).collect();
        let environment: Vec<_> =
            hostile.iter().enumerate().map(|(index, value)| (format!("V{index}"), (*value).to_owned())).collect();
        for shell in ["sh", "bash"] {
            let line = command(&arguments, &[], &[]).unwrap().line(TOKEN);
            let output = begin(shell, &line, GO);
            let expected: String = hostile.iter().map(|word| format!("<{word}>")).collect();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
            for (name, value) in &environment {
                let show = words(&["sh", "-c", &format!("printf %s \"${name}\"")]);
                let output = begin(shell, &command(&show, &environment, &[]).unwrap().line(TOKEN), GO);
                assert_eq!(String::from_utf8(output.stdout).unwrap(), *value);
            }
        }
        // Secrets come with the word to start and are on no command line; none replaces a variable of the script.
        let secrets: Vec<_> =
            environment.iter().map(|(name, value)| (name.clone(), Secret::new(value.clone()))).collect();
        let secrets = [secrets, vec![("token".to_owned(), Secret::new("of the job"))]].concat();
        for shell in ["sh", "bash"] {
            for (name, value) in &secrets {
                let show = words(&["sh", "-c", &format!("printf %s \"${name}\"")]);
                let script = command(&show, &[], &secrets).unwrap();
                let output = begin(shell, &script.line(TOKEN), &script.word(TOKEN));
                assert_eq!(String::from_utf8(output.stdout).unwrap(), value.expose());
                assert!(String::from_utf8(output.stderr).unwrap().ends_with("t0k3n ended 0\n"));
                assert!(!script.line(TOKEN).contains("of the job"));
            }
        }
        assert!(command(&words(&["a\0b"]), &[], &[]).is_err());
    }

    #[test]
    fn nothing_starts_before_the_word() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("began").display().to_string();
        let line = command(&words(&["touch", &file]), &[], &[]).unwrap().line(TOKEN);
        for stdin in ["", "go\n", "t0k3n g", "t0k3n go\n", "t0k3n go\nexport A=b\nt0k3n en"] {
            let output = begin("sh", &line, stdin);
            let said = String::from_utf8(output.stderr).unwrap();
            assert!(said.starts_with("\nt0k3n ready ") && said.lines().count() == 2, "{said:?}");
            assert!(!folder.path().join("began").exists(), "{stdin:?}");
        }
        let output = begin("sh", &line, GO);
        assert!(String::from_utf8(output.stderr).unwrap().ends_with("t0k3n ended 0\n"));
        assert!(folder.path().join("began").exists());
    }

    #[test]
    fn every_exit_code_is_reported() {
        for (code, run) in [("0", "true"), ("255", "exit 255"), ("66", "exit 66"), ("137", "kill -s KILL $$")] {
            let line = command(&words(&["sh", "-c", run]), &[], &[]).unwrap().line(TOKEN);
            let said = String::from_utf8(begin("sh", &line, GO).stderr).unwrap();
            assert_eq!(said.lines().last(), Some(&*format!("t0k3n ended {code}")));
        }
        // A program's name is never taken for a variable.
        let line = command(&words(&["A=b", "sh", "-c", "exit 3"]), &[], &[]).unwrap().line(TOKEN);
        assert!(String::from_utf8(begin("sh", &line, GO).stderr).unwrap().ends_with("ended 127\n"));
    }

    #[test]
    fn a_group_is_stopped_gently_and_then_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let began = folder.path().join("began");
        let gentle = format!("touch {}; exec sleep 1000", began.display());
        let stubborn = format!("trap '' TERM; sleep 1000 & touch {}; sleep 1000", began.display());
        for (run, ended) in [(gentle, Some("t0k3n ended 143")), (stubborn, None)] {
            let line = command(&words(&["sh", "-c", &run]), &[], &[]).unwrap().line(TOKEN);
            let mut shell = Command::new("sh");
            shell.args(["-c", &line]).process_group(0).stdin(Stdio::piped()).stderr(Stdio::piped());
            let mut child = shell.spawn().unwrap();
            child.stdin.take().unwrap().write_all(GO.as_bytes()).unwrap();
            let group = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
            while !began.exists() {
                std::thread::yield_now();
            }
            std::fs::remove_file(&began).unwrap();
            let output = begin("sh", &stop(child.id(), 5), "");
            assert_eq!(String::from_utf8(output.stdout).unwrap(), "gone\n");
            assert!(lockkeeper_locks::process::process_group::is_gone(group));
            let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
            assert_eq!(said.lines().find(|line| line.contains("ended")), ended);
        }
    }
}
