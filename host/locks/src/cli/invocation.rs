//! How a message calls this program: with the options that name the store in use, so that what it says can be pasted.

use std::path::Path;
use std::time::Duration;

use crate::config::{Password, StoreSpec};

/// The program whose name stands in messages; another program puts its own name there.
pub(super) const PROGRAM: &str = "lockkeeper";

/// What begins a command in a message.
pub(super) const OPENING: &str = "`lockkeeper ";

/// The commands that need a store.
const OF_STORE: [&str; 22] = [
    "abort",
    "approve",
    "check",
    "holders",
    "lock",
    "lock-holders",
    "lock_holders",
    "party",
    "party-members",
    "party_members",
    "pause",
    "plan",
    "prune",
    "resume",
    "retry",
    "rollback",
    "run",
    "semaphore",
    "serve",
    "status",
    "unlock",
    "doctor",
];

/// Those of them whose job names its own store.
const OF_JOB: [&str; 3] = ["check", "plan", "run"];

/// Those that use what else the state folder has.
const OF_STATE: [&str; 5] = ["explain", "logs", "prune", "replay", "run"];

/// Options that name a store: a command that has one of them is left as it is.
const NAMES: [&str; 3] = ["--zk-hosts", "--profile", "--store"];

/// The options that a command needs to mean the same store. None of them is a password.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// The store's options, as words.
    store: Vec<String>,
    /// The state folder's, as words.
    state: Vec<String>,
    /// For a command whose job names the store itself: the flags that were given beside it.
    of_job: Option<Vec<String>>,
}

impl Invocation {
    /// With the options that name a store.
    pub fn new(store: Vec<String>) -> Self {
        Self { store, ..Self::default() }
    }

    /// The same for a job that names its store itself, with the flags that were given beside it.
    pub fn of_job(self, flags: Vec<String>) -> Self {
        Self { of_job: Some(flags), ..self }
    }

    /// The same with a state folder that a flag or a variable named.
    pub fn with_state(self, folder: Option<&Path>) -> Self {
        let state = folder.map(|folder| vec!["--state-dir".to_owned(), folder.display().to_string()]);
        Self { state: state.unwrap_or_default(), ..self }
    }

    /// With the store in that state folder.
    pub fn of_state(folder: Option<&Path>, more: Vec<String>) -> Self {
        let state = Self::default().with_state(folder).state;
        Self { store: state.into_iter().chain(more).collect(), ..Self::default() }.with_state(folder)
    }

    /// A text whose commands can be pasted: each that stands in it as `` `lockkeeper …` `` has the options in use.
    pub fn completed(&self, text: &str) -> String {
        let mut rest = text;
        let mut completed = String::with_capacity(text.len());
        while let Some(start) = rest.find(OPENING) {
            let (before, from) = rest.split_at(start + 1);
            completed.push_str(before);
            let Some(end) = from.find('`') else {
                rest = from;
                break;
            };
            completed.push_str(&self.command(&from[..end]));
            rest = &from[end..];
        }
        completed + rest
    }

    fn command(&self, command: &str) -> String {
        let mut words = command.split(' ').skip(1);
        let name = words.next().unwrap_or_default();
        let is_named = words.take_while(|word| *word != "--").any(|word| {
            NAMES
                .iter()
                .any(|flag| word.strip_prefix(flag).is_some_and(|rest| rest.is_empty() || rest.starts_with('=')))
        });
        let store = self.of_job.as_ref().filter(|_| OF_JOB.contains(&name)).unwrap_or(&self.store);
        let needs_store = OF_STORE.contains(&name) && !is_named;
        let mut options: Vec<&String> = store.iter().filter(|_| needs_store).collect();
        if OF_STATE.contains(&name) && !options.iter().any(|word| *word == "--state-dir") {
            options.extend(&self.state);
        }
        let options: String = options.into_iter().map(|word| format!(" {}", quoted(word))).collect();
        // What stands behind `--` is another command.
        match command.split_once(" -- ") {
            Some((ours, theirs)) => format!("{ours}{options} -- {theirs}"),
            None => format!("{command}{options}"),
        }
    }
}

/// A word as a shell takes it, in quotes only if it needs some.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_@%+=:,./-".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    shlex::try_quote(word).map_or_else(|_| word.to_owned(), |quoted| quoted.into_owned())
}

/// What one source says of the store, and whether a command must repeat it.
#[derive(Debug)]
pub struct Part<'a> {
    /// The options.
    pub spec: &'a StoreSpec,
    /// Whether a command must repeat them to mean the same store; `false` for those of a configuration file.
    pub is_repeated: bool,
}

/// The options for ZooKeeper; the nearest part first. A password itself is never among them.
pub fn options(parts: &[Part<'_>], config: Option<&Path>) -> Vec<String> {
    let mut words = Vec::new();
    let mut push = |flag: &str, of: &dyn Fn(&StoreSpec) -> Option<String>| {
        let nearest = parts.iter().find_map(|part| Some((of(part.spec)?, part.is_repeated)));
        if let Some((value, true)) = nearest {
            words.extend([flag.to_owned(), value]);
        }
    };
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
    let time = |time: Option<Duration>| time.map(|time| humantime::format_duration(time).to_string().replace(' ', ""));
    push("--zk-hosts", &|spec| spec.hosts.as_ref().map(ToString::to_string));
    push("--profile", &|spec| spec.profile.clone());
    push("--config", &|spec| spec.profile.as_ref().and(config).map(|config| config.display().to_string()));
    push("--scheme", &|spec| spec.scheme.clone());
    push("--username", &|spec| spec.username.clone());
    // Given time, a hash reveals the password.
    push("--default-acl", &|spec| spec.acl.as_ref().filter(|acl| acl.is_public()).map(ToString::to_string));
    push("--session-timeout", &|spec| time(spec.session_timeout));
    push("--connect-timeout", &|spec| time(spec.connect_timeout));
    push("--tls-ca", &|spec| path(&spec.tls_ca));
    push("--tls-cert", &|spec| path(&spec.tls_cert));
    push("--tls-key", &|spec| path(&spec.tls_key));
    let password = parts.iter().find_map(|part| Some((part.spec.password.as_ref()?, part.is_repeated)));
    if let Some((Password::File(file), true)) = password {
        words.extend(["--password-file".to_owned(), file.display().to_string()]);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use lockkeeper_coordination::zookeeper::{Acl, Hosts, Secret};

    fn invocation() -> Invocation {
        Invocation::new(vec!["--zk-hosts".to_owned(), "zk1:2181/a".to_owned()])
    }

    #[test]
    fn commands_in_a_text_name_the_store_in_use() {
        let state = invocation().with_state(Some(Path::new("/my state")));
        for (given, meant) in [
            ("`lockkeeper holders /x` shows it", "`lockkeeper holders /x --zk-hosts zk1:2181/a` shows it"),
            (
                "`lockkeeper run` or `lockkeeper abort r`",
                "`lockkeeper run --zk-hosts zk1:2181/a` or `lockkeeper abort r --zk-hosts zk1:2181/a`",
            ),
            ("`lockkeeper lock /x -- ./a -- b`", "`lockkeeper lock /x --zk-hosts zk1:2181/a -- ./a -- b`"),
            ("`lockkeeper lock /x --zk-hosts other`", "`lockkeeper lock /x --zk-hosts other`"),
            ("`lockkeeper lock /x -- a --store b`", "`lockkeeper lock /x --zk-hosts zk1:2181/a -- a --store b`"),
            ("`lockkeeper policy list`, `lockkeeper explain r`", "`lockkeeper policy list`, `lockkeeper explain r`"),
            ("`--zk-hosts` and `lockkeeper` alone", "`--zk-hosts` and `lockkeeper` alone"),
            ("torn: `lockkeeper holders", "torn: `lockkeeper holders"),
        ] {
            assert_eq!(invocation().completed(given), meant);
            assert_eq!(Invocation::default().completed(given), given);
        }
        assert_eq!(state.completed("`lockkeeper explain r`"), "`lockkeeper explain r --state-dir '/my state'`");
        assert_eq!(state.completed("`lockkeeper holders /x`"), "`lockkeeper holders /x --zk-hosts zk1:2181/a`");
        let of_state = Invocation::of_state(Some(Path::new("/state")), Vec::new());
        for line in ["holders /x", "run job.toml", "explain r"] {
            let meant = format!("`lockkeeper {line} --state-dir /state`");
            assert_eq!(of_state.completed(&format!("`lockkeeper {line}`")), meant);
        }
        let of_job = invocation().of_job(vec!["--username".to_owned(), "me".to_owned()]);
        assert_eq!(of_job.completed("`lockkeeper run job.toml`"), "`lockkeeper run job.toml --username me`");
        assert_eq!(of_job.completed("`lockkeeper status`"), "`lockkeeper status --zk-hosts zk1:2181/a`");
    }

    #[test]
    fn options_are_those_in_use_and_no_password() {
        let flags = StoreSpec {
            hosts: Some(Hosts::parse("zk1").unwrap()),
            password: Some(Password::Given(Secret::new("hunter2"))),
            acl: Some(Acl::parse("auth::cdrwa").unwrap()),
            session_timeout: Some(Duration::from_secs(90)),
            ..StoreSpec::default()
        };
        let profile =
            StoreSpec { username: Some("ops".to_owned()), scheme: Some("digest".to_owned()), ..flags.clone() };
        let environment =
            StoreSpec { username: Some("me".to_owned()), tls_ca: Some("ca.pem".into()), ..StoreSpec::default() };
        let parts = [
            Part { spec: &flags, is_repeated: true },
            Part { spec: &profile, is_repeated: false },
            Part { spec: &environment, is_repeated: true },
        ];
        let words = options(&parts, None).join(" ");
        assert_eq!(words, "--zk-hosts zk1:2181 --default-acl auth::cdrwa --session-timeout 1m30s --tls-ca ca.pem");
        let secret = Acl::parse("digest:u:BvFaefuhWURhnvpD7ipe45CKTpk=:r").unwrap();
        let named = StoreSpec {
            profile: Some("prod".to_owned()),
            acl: Some(secret),
            password: Some(Password::File("pw".into())),
            ..StoreSpec::default()
        };
        let words = options(&[Part { spec: &named, is_repeated: true }], Some(Path::new("c.toml"))).join(" ");
        assert_eq!(words, "--profile prod --config c.toml --password-file pw");
    }
}
