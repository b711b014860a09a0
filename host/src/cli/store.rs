//! Which store: what flags, a job, a profile and the environment say of it, put together.
//!
//! Whoever is nearest says where it is: the flags, else the job, else the environment, else the system-wide configuration
//! file; what those behind say of a store is of another one. Of everything else, too, the nearest counts: a flag, then what said where, then its profile, then the
//! environment. Only a login stays whole: a password is never used for a name that somebody nearer gave.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fmt, io};

use directories::ProjectDirs;

use super::exit::{ErrorKind, Failure};
use super::invocation::{self, Invocation, Part};
use super::output::{Output, problems_failure};
use super::{Global, StoreFlags, argv_secret};
use crate::job::{
    Password, Problems, Profiles, StoreSpec, SystemConfig, SystemStore, parse_profiles, parse_system, text_of,
};
use lockkeeper_coordination::files::{self, MAX_TEXT_BYTES};
use lockkeeper_coordination::zookeeper::{
    Acl, DEFAULT_CONNECT_TIMEOUT, DEFAULT_SESSION_TIMEOUT, Hosts, Login, Secret, TlsOptions, ZooKeeperOptions,
};

/// The embedded store's file in the state folder.
const STORE_FILE: &str = "store.db";

/// Our configuration in our configuration folder.
const CONFIG_FILE: &str = "config.toml";

/// The configuration of all accounts of this machine.
const SYSTEM_FILE: &str = "/etc/lockkeeper/config.toml";

/// The store that was chosen.
#[derive(Debug, Clone)]
pub(super) enum Choice {
    /// The embedded one in a file.
    File {
        /// Where.
        file: PathBuf,
        /// How long a silent session is kept.
        session_timeout: Duration,
        /// Who said where it is.
        origin: Origin,
    },
    /// ZooKeeper.
    Servers {
        /// All that there is to know.
        options: Box<ZooKeeperOptions>,
        /// Who logs in.
        username: Option<String>,
        /// The profile that names the servers, if one does.
        profile: Option<String>,
        /// Who said where it is.
        origin: Origin,
    },
}

/// Who said where the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Origin {
    Flags,
    Job,
    /// A variable of the environment.
    Environment(&'static str),
    /// The system-wide configuration file.
    System(PathBuf),
    /// Nobody: the file in the state folder.
    Default,
}

impl Choice {
    /// Whether a flag or the job says where it is. If not, whoever reads what is printed may take it for another.
    pub(super) fn is_named(&self) -> bool {
        match self {
            Self::File { origin, .. } | Self::Servers { origin, .. } => matches!(origin, Origin::Flags | Origin::Job),
        }
    }

    /// Whether it is a file that is not there.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::File { file, .. } => matches!(file.try_exists(), Ok(false)),
            Self::Servers { .. } => false,
        }
    }

    /// Where it is, for programs: the servers, or the absolute path of a file.
    pub(super) fn place(&self) -> String {
        match self {
            Self::File { file, .. } => absolute(file),
            Self::Servers { options, .. } => options.hosts.to_string(),
        }
    }
}

/// For people.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { origin, .. } => {
                write!(f, "the file `{}`", self.place())?;
                match origin {
                    Origin::Flags | Origin::Job => Ok(()),
                    Origin::Environment(variable) => write!(f, ", from {variable}"),
                    Origin::System(file) => write!(f, ", from `{}`", file.display()),
                    Origin::Default => f.write_str(", the default"),
                }
            }
            Self::Servers { options, username, profile, origin } => {
                write!(f, "ZooKeeper at `{}`", options.hosts)?;
                if let Some(username) = username {
                    write!(f, " as `{username}`")?;
                }
                if options.tls.is_some() {
                    f.write_str(" by TLS")?;
                }
                match (profile, origin) {
                    (Some(name), _) => write!(f, ", from profile `{name}`"),
                    (None, Origin::Flags | Origin::Default) => f.write_str(", from `--zk-hosts`"),
                    (None, Origin::Job) => f.write_str(", from the job"),
                    (None, Origin::Environment(variable)) => write!(f, ", from {variable}"),
                    (None, Origin::System(file)) => write!(f, ", from `{}`", file.display()),
                }
            }
        }
    }
}

/// What the environment says; a variable that is empty says nothing.
#[derive(Debug, Default)]
struct Environment {
    store: Option<PathBuf>,
    zk_hosts: Option<String>,
    profile: Option<String>,
    config: Option<PathBuf>,
    system: Option<PathBuf>,
    username: Option<String>,
    password_file: Option<PathBuf>,
}

/// What a file or a profile says, and who said where the store is.
struct Said {
    spec: StoreSpec,
    /// Whether a command must say it anew to mean the same store.
    is_repeated: bool,
}

impl Said {
    /// By a flag, the job or a variable.
    fn here(spec: StoreSpec) -> Self {
        Self { spec, is_repeated: true }
    }

    /// By a file that says it to every command.
    fn kept(spec: StoreSpec) -> Self {
        Self { spec, is_repeated: false }
    }
}

impl Environment {
    fn read() -> Result<Self, Failure> {
        let variable = |name: &str| match env::var(name) {
            Ok(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            Err(env::VarError::NotPresent) => Ok(None),
            Err(env::VarError::NotUnicode(_)) => Err(bad(format!("{name} is not UTF-8"))),
        };
        let file = |name: &str| env::var_os(name).filter(|file| !file.is_empty()).map(PathBuf::from);
        Ok(Self {
            store: file("LOCKKEEPER_STORE"),
            zk_hosts: variable("LOCKKEEPER_ZK_HOSTS")?,
            profile: variable("LOCKKEEPER_PROFILE")?,
            config: file("LOCKKEEPER_CONFIG"),
            system: file("LOCKKEEPER_SYSTEM_CONFIG"),
            username: variable("LOCKKEEPER_USERNAME")?,
            password_file: file("LOCKKEEPER_PASSWORD_FILE"),
        })
    }

    fn hosts(&self) -> Result<Option<Hosts>, Failure> {
        let hosts = self.zk_hosts.as_deref().map(Hosts::parse).transpose();
        hosts.map_err(|error| {
            Failure::new(ErrorKind::BadArgument, anyhow::Error::new(error).context("LOCKKEEPER_ZK_HOSTS"))
        })
    }
}

impl StoreFlags {
    /// What the flags say.
    fn spec(&self) -> Result<StoreSpec, Failure> {
        let given = match (&self.password, &self.secret) {
            (Some(_), Some(secret)) => Some(Password::Given(secret.clone())),
            // Nobody has hidden it: it is what it looks like.
            (Some(shown), None) => {
                Some(Password::Given(argv_secret::secret(shown.clone().into_bytes(), "the password")?))
            }
            (None, _) => None,
        };
        if let (Some(_), Some(_)) = (&given, &self.password_file) {
            return Err(both("--password", "--password-file"));
        }
        if let Some(username) = &self.username {
            Login::check_username(username).map_err(|error| of_flag("--username", error))?;
        }
        if let Some(scheme) = &self.scheme {
            Login::check_scheme(scheme).map_err(|error| of_flag("--scheme", error))?;
        }
        Ok(StoreSpec {
            profile: self.profile.clone(),
            hosts: self.zk_hosts.clone(),
            scheme: self.scheme.clone(),
            username: self.username.clone(),
            password: given.or_else(|| self.password_file.clone().map(Password::File)),
            acl: self.default_acl.clone(),
            session_timeout: self.session_timeout,
            connect_timeout: self.connect_timeout,
            tls_ca: self.tls_ca.clone(),
            tls_cert: self.tls_cert.clone(),
            tls_key: self.tls_key.clone(),
        })
    }

    /// What the environment says of the login; the password comes with the flags, out of sight.
    fn login_of(&self, environment: &Environment) -> Result<StoreSpec, Failure> {
        let secret = self.secret.as_ref().filter(|_| self.password.is_none());
        let password = match (secret, &environment.password_file) {
            (Some(_), Some(_)) => return Err(both("LOCKKEEPER_PASSWORD", "LOCKKEEPER_PASSWORD_FILE")),
            (Some(secret), None) => Some(Password::Given(secret.clone())),
            (None, file) => file.clone().map(Password::File),
        };
        if let Some(username) = &environment.username {
            Login::check_username(username).map_err(|error| of_flag("LOCKKEEPER_USERNAME", error))?;
        }
        Ok(StoreSpec { username: environment.username.clone(), password, ..StoreSpec::default() })
    }

    /// A flag that says something of servers.
    fn of_servers(&self) -> Option<&'static str> {
        let flags = [
            ("--scheme", self.scheme.is_some()),
            ("--username", self.username.is_some()),
            ("--password", self.password.is_some()),
            ("--password-file", self.password_file.is_some()),
            ("--default-acl", self.default_acl.is_some()),
            ("--connect-timeout", self.connect_timeout.is_some()),
            ("--tls-ca", self.tls_ca.is_some()),
            ("--tls-cert", self.tls_cert.is_some()),
            ("--tls-key", self.tls_key.is_some()),
            ("--config", self.config.is_some()),
        ];
        flags.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag)
    }
}

impl Global {
    /// The store that is meant; `job` is what a job says of it. Nothing is opened. What is said from now on names it.
    pub(super) fn choose(&self, output: &Output, job: Option<StoreSpec>) -> Result<Choice, Failure> {
        let flags = &self.store;
        let said = flags.spec()?;
        let environment = Environment::read()?;
        match (&flags.store, &flags.zk_hosts, &flags.profile) {
            (Some(_), Some(_), _) => return Err(both("--store", "--zk-hosts")),
            (Some(_), _, Some(_)) => return Err(both("--store", "--profile")),
            (Some(file), None, None) => return self.file(output, Some((file.clone(), "--store")), Origin::Flags),
            (None, None, None) => {}
            _ => return self.servers(output, vec![Said::here(said)], Origin::Flags, &environment),
        }
        if let Some(job) = job {
            return self.servers(output, vec![Said::here(said), Said::here(job)], Origin::Job, &environment);
        }
        match (&environment.store, &environment.zk_hosts, &environment.profile) {
            (Some(_), Some(_), _) => Err(both("LOCKKEEPER_STORE", "LOCKKEEPER_ZK_HOSTS")),
            (Some(_), _, Some(_)) => Err(both("LOCKKEEPER_STORE", "LOCKKEEPER_PROFILE")),
            (Some(file), None, None) => {
                let named = Some((file.clone(), "LOCKKEEPER_STORE"));
                self.file(output, named, Origin::Environment("LOCKKEEPER_STORE"))
            }
            (None, None, None) => self.system_store(output, said, &environment),
            (None, _, profile) => {
                let place = StoreSpec { profile: profile.clone(), hosts: environment.hosts()?, ..StoreSpec::default() };
                let said = vec![Said::here(said), Said::here(place)];
                self.servers(output, said, Origin::Environment("LOCKKEEPER_ZK_HOSTS"), &environment)
            }
        }
    }

    /// The store of all accounts, or the file in the state folder if there is none.
    fn system_store(&self, output: &Output, said: StoreSpec, environment: &Environment) -> Result<Choice, Failure> {
        let Some((place, config)) = system(environment)? else {
            return self.file(output, None, Origin::Default);
        };
        let folder = place.parent().unwrap_or(Path::new("")).to_owned();
        match config.store {
            None => self.file(output, None, Origin::Default),
            Some(SystemStore::File { file, session_timeout }) => {
                let chosen = self.file(output, Some((folder.join(file), SYSTEM_FILE)), Origin::System(place))?;
                Ok(match (chosen, session_timeout, self.store.session_timeout) {
                    (Choice::File { file, origin, .. }, Some(session_timeout), None) => {
                        Choice::File { file, session_timeout, origin }
                    }
                    (chosen, _, _) => chosen,
                })
            }
            Some(SystemStore::Servers(specs)) => {
                if config.profiles.has_passwords() {
                    warn_of_readers(output, &place);
                }
                let kept = specs.into_iter().map(|spec| Said::kept(spec.below(&folder)));
                let said = std::iter::once(Said::here(said)).chain(kept).collect();
                self.servers(output, said, Origin::System(place), environment)
            }
        }
    }

    /// A file: which, and what named it; `None` for the one in the state folder.
    fn file(&self, output: &Output, named: Option<(PathBuf, &str)>, origin: Origin) -> Result<Choice, Failure> {
        if let Some(flag) = self.store.of_servers() {
            let message = match &named {
                Some((_, what)) => format!("`{flag}` is for ZooKeeper, and `{what}` names a file"),
                None => format!("`{flag}` is for ZooKeeper, and no servers are named"),
            };
            return Err(bad(message).hint("name servers with `--zk-hosts` or a `--profile`, or leave it out"));
        }
        let file = match named {
            Some((file, _)) => file,
            None => self.state_dir()?.join(STORE_FILE),
        };
        let timeout = StoreSpec { session_timeout: self.store.session_timeout, ..StoreSpec::default() };
        let more = invocation::options(&[Part { spec: &timeout, is_repeated: true }], None);
        let state = self.state_dir.as_deref();
        output.remember(match &origin {
            Origin::Default => Invocation::of_state(state, more),
            Origin::System(_) => Invocation::new(more).with_state(state),
            Origin::Flags | Origin::Job | Origin::Environment(_) => {
                let named = ["--store".to_owned(), absolute(&file)];
                Invocation::new(named.into_iter().chain(more).collect()).with_state(state)
            }
        });
        let session_timeout = self.store.session_timeout.unwrap_or(DEFAULT_SESSION_TIMEOUT);
        Ok(Choice::File { file, session_timeout, origin })
    }

    /// What all together say of servers; `said` is in order, the nearest first.
    fn servers(
        &self,
        output: &Output,
        mut said: Vec<Said>,
        origin: Origin,
        environment: &Environment,
    ) -> Result<Choice, Failure> {
        let has_hosts = said.iter().any(|said| said.spec.hosts.is_some());
        let profile = said.iter().find_map(|said| said.spec.profile.clone());
        match &profile {
            Some(name) => said.push(Said::kept(self.profile(output, name, environment)?)),
            None if self.store.config.is_some() => {
                return Err(bad("`--config` means nothing without a profile").hint("name one with `--profile`"));
            }
            None => {}
        }
        let of_profile = said.iter().any(|said| said.spec.hosts.is_some());
        let last = self.store.login_of(environment)?;
        said.push(Said::here(StoreSpec { hosts: if of_profile { None } else { environment.hosts()? }, ..last }));
        let (profile, origin) = match profile {
            _ if has_hosts => (None, origin),
            Some(name) if of_profile => (Some(name), origin),
            _ => (None, Origin::Environment("LOCKKEEPER_ZK_HOSTS")),
        };
        let parts: Vec<Part<'_>> =
            said.iter().map(|said| Part { spec: &said.spec, is_repeated: said.is_repeated }).collect();
        let config = self.store.config.as_deref().or(environment.config.as_deref());
        let invocation = Invocation::new(invocation::options(&parts, config)).with_state(self.state_dir.as_deref());
        let flags = parts.iter().take(1).map(|part| Part { ..*part });
        output.remember(match origin {
            Origin::Job => invocation.of_job(invocation::options(&flags.collect::<Vec<_>>(), None)),
            _ => invocation,
        });
        let specs: Vec<StoreSpec> = said.into_iter().map(|said| said.spec).collect();
        put_together(output, &specs, profile, origin)
    }

    /// A profile of this account's own configuration, else of the system-wide one.
    fn profile(&self, output: &Output, name: &str, environment: &Environment) -> Result<StoreSpec, Failure> {
        let file = self.config_file(environment)?;
        let shown = file.display().to_string();
        let own = match files::read_given(&file, MAX_TEXT_BYTES) {
            Ok(bytes) => {
                let read = text_of("configuration", &shown, &bytes).and_then(|text| parse_profiles(&shown, text));
                Ok(read.map_err(|problems| bad_config(&problems))?)
            }
            Err(error) => Err(error),
        };
        if let Some(spec) = own.as_ref().ok().and_then(|own| of(output, own, name, &file)) {
            return Ok(spec);
        }
        let of_all = system(environment)?;
        if let Some(spec) = of_all.as_ref().and_then(|(file, config)| of(output, &config.profiles, name, file)) {
            return Ok(spec);
        }
        match own {
            Ok(profiles) => Err(no_profile(name, &shown, &profiles)),
            Err(error) => {
                let message = format!("cannot read profile `{name}` from `{shown}`: {error}");
                Err(Failure::message(ErrorKind::BadConfig, message).hint(format!(
                    "a profile is a table there: `[profile.{name}]` with `zk-hosts = \"zk1:2181\"`; `--config` names another \
                     file"
                )))
            }
        }
    }

    fn config_file(&self, environment: &Environment) -> Result<PathBuf, Failure> {
        if let Some(file) = self.store.config.clone().or_else(|| environment.config.clone()) {
            return Ok(file);
        }
        let ours = ProjectDirs::from("", "", "lockkeeper").map(|ours| ours.config_dir().join(CONFIG_FILE));
        ours.ok_or_else(|| {
            bad("there is no home folder with a configuration in it").hint("name the file with --config")
        })
    }
}

/// What a file's profile says, its own files named from where it is.
fn of(output: &Output, profiles: &Profiles, name: &str, file: &Path) -> Option<StoreSpec> {
    let spec = profiles.get(name)?;
    if profiles.has_passwords() {
        warn_of_readers(output, file);
    }
    Some(spec.clone().below(file.parent().unwrap_or(Path::new(""))))
}

/// The system-wide configuration, and where it is; `None` if there is none. One that cannot be read is an error: to go
/// on without it would be to use another store.
fn system(environment: &Environment) -> Result<Option<(PathBuf, SystemConfig)>, Failure> {
    let file = environment.system.clone().unwrap_or_else(|| PathBuf::from(SYSTEM_FILE));
    let shown = file.display().to_string();
    let bytes = match files::read_given(&file, MAX_TEXT_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound && environment.system.is_none() => return Ok(None),
        Err(error) => {
            let message = format!("cannot read the system-wide configuration `{shown}`: {error}");
            let failure = Failure::message(ErrorKind::BadConfig, message);
            return Err(match error.kind() {
                io::ErrorKind::PermissionDenied => failure
                    .hint(format!("every account reads it: `chmod 644 {shown}`, and passwords in a `password-file`")),
                _ => failure.hint("`--store FILE`, `--zk-hosts` or a `--profile` names a store without it"),
            });
        }
    };
    let read = text_of("system-wide configuration", &shown, &bytes).and_then(|text| parse_system(&shown, text));
    let config = read.map_err(|problems| bad_config(&problems))?;
    Ok(Some((file, config)))
}

fn bad_config(problems: &Problems) -> Failure {
    Failure { kind: ErrorKind::BadConfig, ..problems_failure(problems) }
}

fn absolute(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}

fn no_profile(name: &str, file: &str, profiles: &Profiles) -> Failure {
    let known: Vec<String> = profiles.names().map(|name| format!("`{name}`")).collect();
    let hint = match (profiles.closest(name), known.as_slice()) {
        (_, []) => "there is none yet: write `[profile.NAME]` with `zk-hosts = \"zk1:2181\"`".to_owned(),
        (Some(close), _) => format!("did you mean `{close}`? There are {}", known.join(", ")),
        (None, _) => format!("there are {}", known.join(", ")),
    };
    Failure::message(ErrorKind::BadArgument, format!("`{file}` has no profile `{name}`")).hint(hint)
}

fn put_together(
    output: &Output,
    said: &[StoreSpec],
    profile: Option<String>,
    origin: Origin,
) -> Result<Choice, Failure> {
    let Some(hosts) = said.iter().find_map(|spec| spec.hosts.clone()) else {
        return Err(bad("no ZooKeeper servers are named").hint("give the profile `zk-hosts`, or say `--zk-hosts`"));
    };
    let tls = tls(said)?;
    let (username, logins) = match login(output, said)? {
        Some((username, login)) => (Some(username), vec![login]),
        None => (None, Vec::new()),
    };
    let acl = said.iter().find_map(|spec| spec.acl.clone()).unwrap_or_else(Acl::open);
    if acl.needs_login() && logins.is_empty() && tls.as_ref().is_none_or(|tls| tls.identity.is_none()) {
        let message = format!("the access control `{acl}` means whoever is logged in, and nobody is");
        return Err(bad(message).hint("log in with `--username` and a password, or with `--tls-cert` and `--tls-key`"));
    }
    let session_timeout = said.iter().find_map(|spec| spec.session_timeout).unwrap_or(DEFAULT_SESSION_TIMEOUT);
    let connect_timeout = said.iter().find_map(|spec| spec.connect_timeout).unwrap_or(DEFAULT_CONNECT_TIMEOUT);
    let options = Box::new(ZooKeeperOptions { hosts, logins, acl, session_timeout, connect_timeout, tls });
    Ok(Choice::Servers { options, username, profile, origin })
}

/// Who logs in, and how. The environment is last, and its password fits every name.
fn login(output: &Output, said: &[StoreSpec]) -> Result<Option<(String, Login)>, Failure> {
    let names = said.iter().position(|spec| spec.username.is_some());
    let fits = |place: usize| place + 1 == said.len() || names.is_none_or(|names| place <= names);
    let password =
        said.iter().enumerate().filter(|(place, _)| fits(*place)).find_map(|(_, spec)| spec.password.clone());
    let scheme = said.iter().find_map(|spec| spec.scheme.as_deref());
    let username = names.and_then(|names| said[names].username.clone());
    match (username, password) {
        (Some(username), Some(password)) => {
            let secret = match password {
                Password::Given(secret) => secret,
                Password::File(file) => read_password(output, &file)?,
            };
            let login = Login::new(scheme.unwrap_or(Login::DEFAULT_SCHEME), &username, &secret);
            let login = login.map_err(|error| Failure::new(ErrorKind::BadArgument, error))?;
            Ok(Some((username, login)))
        }
        (Some(username), None) => Err(bad(format!("there is no password for `{username}`"))
            .hint("give one with `--password-file FILE`, LOCKKEEPER_PASSWORD or a profile that has the same username")),
        (None, Some(_)) => Err(bad("there is a password, and nobody to log in as")
            .hint("say who with `--username` or LOCKKEEPER_USERNAME, or leave the password out")),
        (None, None) => match scheme {
            Some(scheme) => Err(bad(format!("nobody logs in by scheme `{scheme}`"))
                .hint("say who with `--username` and a password, or leave `--scheme` out")),
            None => Ok(None),
        },
    }
}

fn read_password(output: &Output, file: &Path) -> Result<Secret, Failure> {
    let shown = file.display();
    let text = files::open_given(file)
        .and_then(argv_secret::read)
        .map_err(|error| bad(format!("cannot read the password from `{shown}`: {error}")))?;
    warn_of_readers(output, file);
    argv_secret::secret(text, &format!("the password in `{shown}`"))
        .map_err(|failure| failure.hint("the file has the password and nothing else"))
}

/// Says so when others can read a file that has a password.
fn warn_of_readers(output: &Output, file: &Path) {
    const OTHERS_READ: u32 = 0o044;
    let Ok(metadata) = std::fs::metadata(file) else { return };
    if metadata.is_file() && metadata.permissions().mode() & OTHERS_READ != 0 {
        let file = file.display();
        output.warn(&format!("`{file}` has a password, and others can read it: `chmod 600 {file}`"));
    }
}

fn tls(said: &[StoreSpec]) -> Result<Option<TlsOptions>, Failure> {
    let file = |of: fn(&StoreSpec) -> Option<&PathBuf>| said.iter().find_map(of).cloned();
    let identity = match (file(|spec| spec.tls_cert.as_ref()), file(|spec| spec.tls_key.as_ref())) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(bad("there is a certificate and no key").hint("name it with `--tls-key`")),
        (None, Some(_)) => return Err(bad("there is a key and no certificate").hint("name it with `--tls-cert`")),
    };
    let Some(ca) = file(|spec| spec.tls_ca.as_ref()) else {
        return match identity {
            Some(_) => Err(bad("there is a certificate, and nothing that says which servers may see it")
                .hint("name the certificates of who vouches for them with `--tls-ca`")),
            None => Ok(None),
        };
    };
    let files = identity.iter().flat_map(|(certificate, key)| [certificate, key]);
    for file in files.chain([&ca]) {
        files::open(file).map_err(|error| bad(format!("cannot read `{}`: {error}", file.display())))?;
    }
    Ok(Some(TlsOptions { ca, identity }))
}

fn bad(message: impl Into<String>) -> Failure {
    Failure::message(ErrorKind::BadArgument, message)
}

fn both(one: &str, other: &str) -> Failure {
    bad(format!("`{one}` and `{other}` cannot both be given")).hint("leave out one of the two")
}

fn of_flag(flag: &str, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(ErrorKind::BadArgument, anyhow::Error::new(error).context(format!("`{flag}` cannot be used")))
}
