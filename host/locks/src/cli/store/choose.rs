//! Which store: what flags, a job, a profile and the environment say of it, put together.
//!
//! The nearest source names the place: the flags, else the job, else the environment, else the system-wide configuration
//! file; what the sources behind it say is of another store. For every other option, too, the nearest source counts: a flag,
//! then the source of the place, then its profile, then the environment. Only a login stays whole: a password is never used
//! for a username that a nearer source gave.

use std::io;
use std::path::{Path, PathBuf};

use directories::ProjectDirs;

use super::environment::Environment;
use super::login::{login, tls, warn_of_readers};
use super::place::absolute;
use super::{Origin, StorePlace, bad, both, of_flag};
use crate::cli::args::{Global, StoreFlags};
use crate::cli::argv_secret;
use crate::cli::exit::{ErrorKind, Failure};
use crate::cli::invocation::{self, Invocation, Part};
use crate::cli::output::Output;
use crate::cli::problems::problems_failure;
use crate::config::{Password, Profiles, StoreSpec, SystemConfig, SystemStore, parse_profiles, parse_system};
use crate::toml_reader::{Problems, text_of};
use lockkeeper_coordination::files::{self, MAX_TEXT_BYTES};
use lockkeeper_coordination::zookeeper::{
    Acl, DEFAULT_CONNECT_TIMEOUT, DEFAULT_SESSION_TIMEOUT, Login, ZooKeeperOptions,
};

/// The embedded store's file in the state folder.
const STORE_FILE: &str = "store.db";

/// Our configuration in our configuration folder.
const CONFIG_FILE: &str = "config.toml";

/// The configuration of all accounts of this machine.
const SYSTEM_FILE: &str = "/etc/lockkeeper/config.toml";

/// What one source says of the store: the flags, the job, a profile, a file or the environment.
struct Layer {
    spec: StoreSpec,
    /// Whether a command must say it anew to mean the same store.
    is_repeated: bool,
}

impl Layer {
    /// By a flag, the job or a variable.
    fn here(spec: StoreSpec) -> Self {
        Self { spec, is_repeated: true }
    }

    /// By a file that says it to every command.
    fn kept(spec: StoreSpec) -> Self {
        Self { spec, is_repeated: false }
    }
}

impl StoreFlags {
    /// What the flags say.
    fn spec(&self) -> Result<StoreSpec, Failure> {
        let given = match (&self.password, &self.secret) {
            (Some(_), Some(secret)) => Some(Password::Given(secret.clone())),
            // It was not hidden: it is the password itself.
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

    /// The first option that is given.
    pub fn first_given(&self) -> Option<&'static str> {
        let flags = [
            ("--store", self.store.is_some()),
            ("--zk-hosts", self.zk_hosts.is_some()),
            ("--profile", self.profile.is_some()),
            ("--session-timeout", self.session_timeout.is_some()),
        ];
        flags.into_iter().find(|(_, is_given)| *is_given).map(|(flag, _)| flag).or_else(|| self.of_servers())
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
    /// Chooses the store; `job` is the `[store]` of a job. Opens nothing. Commands in later messages name the store.
    pub fn choose(&self, output: &Output, job: Option<StoreSpec>) -> Result<StorePlace, Failure> {
        let flags = &self.store;
        let said = flags.spec()?;
        let environment = Environment::read()?;
        match (&flags.store, &flags.zk_hosts, &flags.profile) {
            (Some(_), Some(_), _) => return Err(both("--store", "--zk-hosts")),
            (Some(_), _, Some(_)) => return Err(both("--store", "--profile")),
            (Some(file), None, None) => return self.file(output, Some((file.clone(), "--store")), Origin::Flags),
            (None, None, None) => {}
            _ => return self.servers(output, vec![Layer::here(said)], Origin::Flags, &environment),
        }
        if let Some(job) = job {
            return self.servers(output, vec![Layer::here(said), Layer::here(job)], Origin::Job, &environment);
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
                let said = vec![Layer::here(said), Layer::here(place)];
                self.servers(output, said, Origin::Environment("LOCKKEEPER_ZK_HOSTS"), &environment)
            }
        }
    }

    /// The store of all accounts, or the file in the state folder if there is none.
    fn system_store(&self, output: &Output, said: StoreSpec, environment: &Environment) -> Result<StorePlace, Failure> {
        let Some((place, config)) = system(environment)? else {
            return self.file(output, None, Origin::Default);
        };
        let folder = place.parent().unwrap_or(Path::new("")).to_owned();
        match config.store {
            None => self.file(output, None, Origin::Default),
            Some(SystemStore::File { file, session_timeout }) => {
                let chosen = self.file(output, Some((folder.join(file), SYSTEM_FILE)), Origin::System(place))?;
                Ok(match (chosen, session_timeout, self.store.session_timeout) {
                    (StorePlace::File { file, origin, .. }, Some(session_timeout), None) => {
                        StorePlace::File { file, session_timeout, origin }
                    }
                    (chosen, _, _) => chosen,
                })
            }
            Some(SystemStore::Servers(specs)) => {
                if config.profiles.has_passwords() {
                    warn_of_readers(output, &place);
                }
                let kept = specs.into_iter().map(|spec| Layer::kept(spec.below(&folder)));
                let said = std::iter::once(Layer::here(said)).chain(kept).collect();
                self.servers(output, said, Origin::System(place), environment)
            }
        }
    }

    /// A file: which, and what named it; `None` for the one in the state folder.
    fn file(&self, output: &Output, named: Option<(PathBuf, &str)>, origin: Origin) -> Result<StorePlace, Failure> {
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
        Ok(StorePlace::File { file, session_timeout, origin })
    }

    /// What all together say of servers; `said` is in order, the nearest first.
    fn servers(
        &self,
        output: &Output,
        mut layers: Vec<Layer>,
        origin: Origin,
        environment: &Environment,
    ) -> Result<StorePlace, Failure> {
        let has_hosts = layers.iter().any(|said| said.spec.hosts.is_some());
        let profile = layers.iter().find_map(|said| said.spec.profile.clone());
        match &profile {
            Some(name) => layers.push(Layer::kept(self.profile(output, name, environment)?)),
            None if self.store.config.is_some() => {
                return Err(bad("`--config` means nothing without a profile").hint("name one with `--profile`"));
            }
            None => {}
        }
        let of_profile = layers.iter().any(|said| said.spec.hosts.is_some());
        let last = self.store.login_of(environment)?;
        layers.push(Layer::here(StoreSpec { hosts: if of_profile { None } else { environment.hosts()? }, ..last }));
        let (profile, origin) = match profile {
            _ if has_hosts => (None, origin),
            Some(name) if of_profile => (Some(name), origin),
            _ => (None, Origin::Environment("LOCKKEEPER_ZK_HOSTS")),
        };
        let parts: Vec<Part<'_>> =
            layers.iter().map(|said| Part { spec: &said.spec, is_repeated: said.is_repeated }).collect();
        let config = self.store.config.as_deref().or(environment.config.as_deref());
        let invocation = Invocation::new(invocation::options(&parts, config)).with_state(self.state_dir.as_deref());
        let flags = parts.iter().take(1).map(|part| Part { ..*part });
        output.remember(match origin {
            Origin::Job => invocation.of_job(invocation::options(&flags.collect::<Vec<_>>(), None)),
            _ => invocation,
        });
        let specs: Vec<StoreSpec> = layers.into_iter().map(|said| said.spec).collect();
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
    specs: &[StoreSpec],
    profile: Option<String>,
    origin: Origin,
) -> Result<StorePlace, Failure> {
    let Some(hosts) = specs.iter().find_map(|spec| spec.hosts.clone()) else {
        return Err(bad("no ZooKeeper servers are named").hint("give the profile `zk-hosts`, or use `--zk-hosts`"));
    };
    let tls = tls(specs)?;
    let (username, logins) = match login(output, specs)? {
        Some((username, login)) => (Some(username), vec![login]),
        None => (None, Vec::new()),
    };
    let acl = specs.iter().find_map(|spec| spec.acl.clone()).unwrap_or_else(Acl::open);
    if acl.needs_login() && logins.is_empty() && tls.as_ref().is_none_or(|tls| tls.identity.is_none()) {
        let message = format!("the access control `{acl}` needs a login, and there is none");
        return Err(bad(message).hint("log in with `--username` and a password, or with `--tls-cert` and `--tls-key`"));
    }
    let session_timeout = specs.iter().find_map(|spec| spec.session_timeout).unwrap_or(DEFAULT_SESSION_TIMEOUT);
    let connect_timeout = specs.iter().find_map(|spec| spec.connect_timeout).unwrap_or(DEFAULT_CONNECT_TIMEOUT);
    let options = Box::new(ZooKeeperOptions { hosts, logins, acl, session_timeout, connect_timeout, tls });
    Ok(StorePlace::Servers { options, username, profile, origin })
}
