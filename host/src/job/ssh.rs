//! How targets are reached where their commands run over there: a job's `ssh` in `[action]`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use lockkeeper_locks::table;
use lockkeeper_locks::toml_reader::{
    At, FilePath, Found, FromToml, Key, Refused, Report, kind_of, parsed, quote, unsigned,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

/// How long a connection may take where `ssh.connect-timeout` says nothing.
pub const DEFAULT_SSH_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest that a connection may take.
const MAX_SSH_CONNECT_TIMEOUT: Duration = Duration::from_secs(3600);

/// How the system's OpenSSH client reaches the targets. What is left out is as its configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshSpec {
    /// As whom.
    pub user: Option<String>,
    /// On which port.
    pub port: Option<u16>,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// With which key, a path relative to the job file.
    pub identity_file: Option<PathBuf>,
    /// Which configuration instead of the user's and the system's own, a path relative to the job file.
    pub config: Option<PathBuf>,
    /// More options, as behind `-o`: none that decides how connections are shared or commands are run.
    pub options: Vec<String>,
}

impl Default for SshSpec {
    fn default() -> Self {
        Self {
            user: None,
            port: None,
            connect_timeout: DEFAULT_SSH_CONNECT_TIMEOUT,
            identity_file: None,
            config: None,
            options: Vec::new(),
        }
    }
}

impl SshSpec {
    /// The same, with its files named from where that folder's name is from. What begins with `~` is ssh's to find.
    #[must_use]
    pub fn below(mut self, folder: &Path) -> Self {
        for file in [&mut self.identity_file, &mut self.config].into_iter().flatten() {
            if !file.starts_with("~") {
                *file = folder.join(&file);
            }
        }
        self
    }
}

/// Options that are this program's own to set: what it knows of a command rests on them.
const OWN: [&str; 11] = [
    "BatchMode",
    "ControlMaster",
    "ControlPath",
    "ControlPersist",
    "ForkAfterAuthentication",
    "LocalCommand",
    "PermitLocalCommand",
    "RemoteCommand",
    "RequestTTY",
    "SessionType",
    "StdinNull",
];

/// Options that have a key of their own here.
const KEYS: [(&str, &str); 4] =
    [("User", "user"), ("Port", "port"), ("ConnectTimeout", "connect-timeout"), ("IdentityFile", "identity-file")];

table! {
    /// How targets are reached with the system's OpenSSH client. What is left out is as its configuration says.
    SshTable {
        /// As whom to log in: `user = "deploy"`.
        optional user: SshUser,
        /// On which port.
        optional port: Port,
        /// How long a connection may take, such as `"30s"`. Left out: `"10s"`.
        optional connect_timeout: Duration,
        /// The key to log in with; relative to the job file, unless it begins with `~`.
        optional identity_file: FilePath,
        /// A configuration that counts instead of `~/.ssh/config` and the system's; relative to the job file.
        optional config: FilePath,
        /// More options of ssh, as behind its `-o`: `options = ["StrictHostKeyChecking=accept-new"]`.
        optional options: Vec<Found<SshOption>>,
    }
    refused {
        "username" => Refused::Meant("user"),
        "identity" => Refused::Meant("identity-file"),
        "timeout" => Refused::Meant("connect-timeout"),
        "host" => Refused::Never("the target's name is the host", "give it `HostName` in an ssh configuration: `config = \"ssh_config\"`"),
        "password" => Refused::Never("nobody is there to be asked for a password", "log in with a key: `identity-file`, or an agent"),
    }
}

/// `ssh` as written.
#[derive(Debug)]
pub(super) enum SshChoice {
    Off,
    On,
    Table(Box<SshTable>),
}

impl FromToml for SshChoice {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        match value {
            DeValue::Boolean(true) => Some(Self::On),
            DeValue::Boolean(false) => Some(Self::Off),
            DeValue::Table(_) => SshTable::from_toml(value, at, report).map(Box::new).map(Self::Table),
            _ => {
                report
                    .complain(at, format!("expected `true`, `false` or a table, found {}", kind_of(value)))
                    .help("`ssh = true`, or `ssh = { user = \"deploy\", port = 2222 }`");
                None
            }
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [bool::schema(generator), SshTable::schema(generator)] })
    }

    fn keys() -> Vec<Key> {
        SshTable::keys()
    }
}

/// What `ssh` comes to; none where commands run here. Inner none after a complaint.
pub(super) fn of_action(choice: SshChoice, report: &mut Report) -> Option<Option<SshSpec>> {
    let table = match choice {
        SshChoice::Off => return Some(None),
        SshChoice::On => return Some(Some(SshSpec::default())),
        SshChoice::Table(table) => *table,
    };
    if let Some(timeout) = table.connect_timeout.as_ref()
        && (timeout.value < Duration::from_secs(1) || timeout.value > MAX_SSH_CONNECT_TIMEOUT)
    {
        report.complain(&timeout.at, "connecting is given a second at least, and 1h at most").help("such as `\"30s\"`");
        return None;
    }
    Some(Some(SshSpec {
        user: table.user.map(|user| user.value.0),
        port: table.port.map(|port| port.value.0),
        connect_timeout: table.connect_timeout.map_or(DEFAULT_SSH_CONNECT_TIMEOUT, |timeout| timeout.value),
        identity_file: table.identity_file.map(|file| PathBuf::from(file.value.0)),
        config: table.config.map(|file| PathBuf::from(file.value.0)),
        options: table.options.into_iter().flat_map(|options| options.value).map(|option| option.value.0).collect(),
    }))
}

/// A name to log in with.
#[derive(Debug)]
pub(super) struct SshUser(String);

impl FromToml for SshUser {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let read = |text: &str| match text {
            "" => Err(String::from("a user has a name")),
            _ if text.starts_with('-') => Err(String::from("ssh would read it as an option")),
            // What ssh itself refuses, and white space.
            _ => match text.chars().find(|c| c.is_control() || c.is_whitespace() || "'`\"$;&<>|(){}\\".contains(*c)) {
                Some(character) => Err(format!("a user's name cannot hold {character:?}")),
                None => Ok(Self(text.to_owned())),
            },
        };
        parsed(value, at, report, read, |_| Some(String::from("a name such as `\"deploy\"`")))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[^-\\s][^\\s]*$" })
    }
}

/// A port.
#[derive(Debug)]
pub(super) struct Port(u16);

impl FromToml for Port {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let port = unsigned(value).and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        if port.is_none() {
            report
                .complain(at, "expected a port from 1 to 65535")
                .help("such as `2222`; left out: as ssh is configured");
        }
        port.map(Self)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1, "maximum": u16::MAX })
    }
}

/// One option of ssh.
#[derive(Debug)]
pub(super) struct SshOption(String);

impl FromToml for SshOption {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        const HELP: &str = "as behind ssh's `-o`: `\"StrictHostKeyChecking=accept-new\"`";
        let text = String::from_toml(value, at, report)?;
        let Some((name, _)) = text.split_once(['=', ' ']) else {
            report.complain(at, format!("{} is no option with its value", quote(&text))).help(HELP);
            return None;
        };
        let is_word = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric());
        if !is_word || text.contains(char::is_control) {
            report.complain(at, format!("{} is no option with its value", quote(&text))).help(HELP);
            return None;
        }
        if let Some(own) = OWN.iter().find(|own| own.eq_ignore_ascii_case(name)) {
            let problem = report.complain(at, format!("`{own}` is not a job's to set"));
            problem.help("leave it out: how commands are run and connections shared rests on it");
            return None;
        }
        if let Some((_, key)) = KEYS.iter().find(|(option, _)| option.eq_ignore_ascii_case(name)) {
            report.complain(at, format!("`{name}` has a key of its own")).help(format!("give it as `{key}`"));
            return None;
        }
        Some(Self(text))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9]+[= ].*$" })
    }
}
