//! Which store, and how one logs in there: a job's `[store]`, the profiles that people keep for themselves, and the
//! system-wide file with one store for all accounts.
//!
//! A profile is a table of a configuration file:
//!
//! ```toml
//! [profile.prod]
//! zk-hosts = "zk1,zk2,zk3/fleet"
//! username = "ops"
//! password-file = "prod.password"
//! default-acl = "auth::cdrwa"
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::{Schema, SchemaGenerator, json_schema};
use toml::de::DeValue;

use crate::table;
use crate::toml_reader::{
    At, FilePath, Found, FromToml, Key, Problems, Refused, Report, Source, closest, in_file_order, join, kind_of,
    parsed, wrong_type,
};
use lockkeeper_coordination::zookeeper::{Acl, AclEntry, Hosts, Login, LoginError, Permissions, Secret};

/// The shortest time for which a silent session can be asked to be kept.
pub const MIN_SESSION_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest.
pub const MAX_SESSION_TIMEOUT: Duration = Duration::from_secs(3600);

/// What somebody says of a store. Whatever is left out, somebody else says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreSpec {
    /// Whose profile says the rest.
    pub profile: Option<String>,
    /// Where the servers are.
    pub hosts: Option<Hosts>,
    /// How one logs in.
    pub scheme: Option<String>,
    /// As whom.
    pub username: Option<String>,
    /// With what.
    pub password: Option<Password>,
    /// Who may touch what is made.
    pub acl: Option<Acl>,
    /// How long a silent session is kept.
    pub session_timeout: Option<Duration>,
    /// How long servers are tried.
    pub connect_timeout: Option<Duration>,
    /// Who vouches for the servers: then, and only then, the connection is private.
    pub tls_ca: Option<PathBuf>,
    /// Our certificate.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
}

/// Where a password is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// Here.
    Given(Secret),
    /// In a file that has nothing else.
    File(PathBuf),
}

impl StoreSpec {
    /// The same, with its files named from where that folder's name is from.
    #[must_use]
    pub fn below(mut self, folder: &Path) -> Self {
        if let Some(Password::File(file)) = &mut self.password {
            *file = folder.join(&file);
        }
        for file in [&mut self.tls_ca, &mut self.tls_cert, &mut self.tls_key].into_iter().flatten() {
            *file = folder.join(&file);
        }
        self
    }
}

/// A session's time-out that is within bounds.
///
/// # Errors
/// What the bounds are.
pub fn session_timeout(timeout: Duration) -> Result<Duration, String> {
    match (MIN_SESSION_TIMEOUT..=MAX_SESSION_TIMEOUT).contains(&timeout) {
        true => Ok(timeout),
        false => Err("a session time-out is from 1s to 1h".to_owned()),
    }
}

/// A time for connecting that is within bounds.
///
/// # Errors
/// What the bounds are.
pub fn connect_timeout(timeout: Duration) -> Result<Duration, String> {
    match !timeout.is_zero() && timeout <= MAX_SESSION_TIMEOUT {
        true => Ok(timeout),
        false => Err("connecting is given some time, and 1h at most".to_owned()),
    }
}

table! {
    /// Where the semaphore and the party are, and how to log in there. The command line can say otherwise.
    pub StoreTable {
        /// The ZooKeeper servers, and what all paths are below: `zk-hosts = "zk1:2181,zk2:2181/fleet"`.
        optional zk_hosts: Hosts,
        /// A profile of the configuration file, for whatever is left out here: `profile = "prod"`.
        optional profile: ProfileName,
        /// How to log in. Left out: `"digest"`, where there is a `username`.
        optional scheme: Scheme,
        /// As whom to log in. The password is in `password-file`, a profile or LOCKKEEPER_PASSWORD.
        optional username: Username,
        /// A file that has the password and nothing else; relative to the job file.
        optional password_file: FilePath,
        /// Who may touch the nodes that are made, as in zkCli: `"world:anyone:r,auth::cdrwa"`. Left out: everybody.
        optional default_acl: PlainAcl,
        /// How long the store keeps a silent session's leases and members, from `"1s"` to `"1h"`. Left out: `"10s"`.
        optional session_timeout: SessionTimeout,
        /// How long servers are tried before that is an error. Left out: `"15s"`.
        optional connect_timeout: ConnectTimeout,
        /// The certificates, in PEM, of who vouches for the servers: then the connection is TLS. Relative to the job file.
        optional tls_ca: FilePath,
        /// Our certificate, in PEM, where the servers want one; relative to the job file.
        optional tls_cert: FilePath,
        /// Its key, in PEM; relative to the job file.
        optional tls_key: FilePath,
    }
    refused {
        "hosts" => Refused::Meant("zk-hosts"),
        "password" => Refused::Never(
            "`[store]` is shown to many: no password stands in it",
            "name a `password-file` or a `profile`, or set LOCKKEEPER_PASSWORD",
        ),
        "path" => Refused::Never(NO_FILE, NO_FILE_HELP),
        "file" => Refused::Never(NO_FILE, NO_FILE_HELP),
    }
}

const NO_FILE: &str = "a job names no file as its store";
const NO_FILE_HELP: &str = "leave `[store]` out for the embedded store; `--store FILE` says where that is";

table! {
    /// How to reach a store and log in there, under a name.
    ProfileTable {
        /// The ZooKeeper servers, and what all paths are below: `zk-hosts = "zk1:2181,zk2:2181/fleet"`.
        optional zk_hosts: Hosts,
        /// How to log in. Left out: `"digest"`, where there is a `username`.
        optional scheme: Scheme,
        /// As whom to log in.
        optional username: Username,
        /// The password.
        optional password: Secret,
        /// A file that has the password and nothing else; relative to this file.
        optional password_file: FilePath,
        /// Who may touch the nodes that are made, as zkCli writes it or as Salt does. Left out: everybody.
        optional default_acl: SaltAcl,
        /// How long the store keeps a silent session's leases and members, from `"1s"` to `"1h"`. Left out: `"10s"`.
        optional session_timeout: SessionTimeout,
        /// How long servers are tried before that is an error. Left out: `"15s"`.
        optional connect_timeout: ConnectTimeout,
        /// The certificates, in PEM, of who vouches for the servers: then the connection is TLS. Relative to this file.
        optional tls_ca: FilePath,
        /// Our certificate, in PEM, where the servers want one; relative to this file.
        optional tls_cert: FilePath,
        /// Its key, in PEM; relative to this file.
        optional tls_key: FilePath,
    }
    refused {
        "hosts" => Refused::Meant("zk-hosts"),
        "profile" => Refused::Never("a profile builds on no other", "write out what it shall say"),
    }
}

table! {
    /// Somebody who may touch the nodes that are made, as Salt writes it.
    AclTable {
        /// Who: `username = "ops"`.
        required username: Username,
        /// Their password, which is not kept: the server gets its digest.
        required password: Secret,
        /// Whether they may read.
        optional read: bool,
        /// Whether they may replace data.
        optional write: bool,
        /// Whether they may create children.
        optional create: bool,
        /// Whether they may delete children.
        optional delete: bool,
        /// Whether they may say who may.
        optional admin: bool,
        /// Whether they may do all of it.
        optional allperms: bool,
    }
}

table! {
    /// The configuration file.
    ConfigFile {
        /// Profiles by name: `[profile.prod]`.
        optional profile: ProfileTables,
    }
    refused {
        "store" => Refused::Never(
            "only the system-wide configuration names a store for every command",
            "give a profile `zk-hosts`, and choose it with `--profile` or LOCKKEEPER_PROFILE",
        ),
    }
}

table! {
    /// The system-wide configuration file.
    SystemFile {
        /// The store of every account that names no other: `[store]` with `file`, `zk-hosts` or `profile`.
        optional store: SystemStoreTable,
        /// Profiles by name, for every account: `[profile.prod]`.
        optional profile: ProfileTables,
    }
}

table! {
    /// An embedded store that accounts share.
    FileStoreTable {
        /// The store's file on a local disk, relative to this file: `file = "/var/lib/lockkeeper/store.db"`.
        required file: FilePath,
        /// How long the store keeps a silent session's leases and members, from `"1s"` to `"1h"`. Left out: `"10s"`.
        optional session_timeout: SessionTimeout,
    }
    refused {
        "zk-hosts" => Refused::Never(FILE_AND_SERVERS, "keep `file` or `zk-hosts`"),
        "profile" => Refused::Never(FILE_AND_SERVERS, "keep `file` or `profile`"),
        "path" => Refused::Meant("file"),
    }
}

const FILE_AND_SERVERS: &str = "a store is in a file or on servers, and not both";

/// What a system-wide file's `[store]` can be.
#[derive(Debug)]
pub(super) enum SystemStoreTable {
    /// In a file.
    File(FileStoreTable),
    /// On servers, as in a job.
    Servers(Box<StoreTable>),
}

impl FromToml for SystemStoreTable {
    const IS_TABLE: bool = true;

    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let Some(table) = value.as_table() else {
            wrong_type(at, "a table: `[store]` with `file` or `zk-hosts`", value, report);
            return None;
        };
        let has = |is_meant: &dyn Fn(&str) -> bool| table.iter().any(|(key, _)| is_meant(key.get_ref().as_ref()));
        let is_typo = |key: &str| closest(key, &["file", "zk-hosts", "profile"]) == Some("file");
        let is_file = has(&|key| ["file", "path"].contains(&key));
        let is_on_servers = has(&|key| ["zk-hosts", "profile"].contains(&key));
        match is_file || (!is_on_servers && has(&is_typo)) {
            true => FileStoreTable::from_toml(value, at, report).map(Self::File),
            false => StoreTable::from_toml(value, at, report).map(|table| Self::Servers(Box::new(table))),
        }
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [FileStoreTable::schema(generator), StoreTable::schema(generator)] })
    }

    fn keys() -> Vec<Key> {
        StoreTable::keys()
    }
}

/// What a job's `[store]` comes to.
pub fn of_job(table: Found<StoreTable>, report: &mut Report) -> StoreSpec {
    of_servers(table, "give `zk-hosts` or `profile`, or leave `[store]` out", report)
}

/// What a `[store]` on servers comes to; `help` says what to do if no place is named.
fn of_servers(table: Found<StoreTable>, help: &'static str, report: &mut Report) -> StoreSpec {
    let Found { value: table, at } = table;
    let names_a_place = ["zk-hosts", "profile"].map(|key| format!("{}.{key}", at.key));
    if !names_a_place.iter().any(|key| report.has(key) || report.has_misspelt(key)) {
        report.complain_of_missing(&at, "where the store is, is missing").help(help);
    }
    let has_profile = table.profile.is_some();
    let mut spec = StoreSpec {
        profile: table.profile.map(|name| name.value.0),
        password: table.password_file.map(|file| Password::File(file.value.0.into())),
        acl: table.default_acl.map(|acl| acl.value.0),
        ..StoreSpec::default()
    };
    let has_username = has_profile || report.has(&format!("{}.username", at.key));
    if let (Some(scheme), false) = (&table.scheme, has_username) {
        complain_of_scheme(&scheme.at, report);
    }
    spec.hosts = table.zk_hosts.map(|hosts| hosts.value);
    spec.scheme = table.scheme.map(|scheme| scheme.value.0);
    spec.username = table.username.map(|name| name.value.0);
    spec.session_timeout = table.session_timeout.map(|timeout| timeout.value.0);
    spec.connect_timeout = table.connect_timeout.map(|timeout| timeout.value.0);
    let is_alone = !has_profile;
    (spec.tls_ca, spec.tls_cert, spec.tls_key) = tls([table.tls_ca, table.tls_cert, table.tls_key], is_alone, report);
    spec
}

fn of_profile(table: Found<ProfileTable>, report: &mut Report) -> StoreSpec {
    let Found { value: table, at } = table;
    let has_username = report.has(&format!("{}.username", at.key));
    if let (Some(password), Some(file)) = (&table.password, &table.password_file) {
        report
            .complain(&file.at, "the password is given twice: by `password` and by `password-file`")
            .help("keep one of the two")
            .other(password.at.span.clone(), "and here");
    }
    if let (Some(scheme), false) = (&table.scheme, has_username) {
        complain_of_scheme(&scheme.at, report);
    }
    for password in [table.password.as_ref().map(|one| &one.at), table.password_file.as_ref().map(|one| &one.at)] {
        if let (Some(at), false) = (password, has_username) {
            report.complain(at, "means nothing without `username`").help("say whose it is: `username = \"ops\"`");
        }
    }
    let file = table.password_file.map(|file| Password::File(file.value.0.into()));
    let (tls_ca, tls_cert, tls_key) = tls([table.tls_ca, table.tls_cert, table.tls_key], true, report);
    StoreSpec {
        profile: None,
        hosts: table.zk_hosts.map(|hosts| hosts.value),
        scheme: table.scheme.map(|scheme| scheme.value.0),
        username: table.username.map(|name| name.value.0),
        password: table.password.map(|password| Password::Given(password.value)).or(file),
        acl: table.default_acl.map(|acl| acl.value.0),
        session_timeout: table.session_timeout.map(|timeout| timeout.value.0),
        connect_timeout: table.connect_timeout.map(|timeout| timeout.value.0),
        tls_ca,
        tls_cert,
        tls_key,
    }
}

fn complain_of_scheme(at: &At, report: &mut Report) {
    report.complain(at, "means nothing without `username`").help("say who logs in: `username = \"ops\"`");
}

type Files = (Option<PathBuf>, Option<PathBuf>, Option<PathBuf>);

/// The files for TLS; `is_alone`: nobody else adds to them but the command line.
fn tls(files: [Option<Found<FilePath>>; 3], is_alone: bool, report: &mut Report) -> Files {
    if let (true, [ca, certificate, key]) = (is_alone, &files) {
        let pairs = [(certificate, key, "tls-key"), (key, certificate, "tls-cert"), (certificate, ca, "tls-ca")];
        for (given, missing, name) in pairs {
            if let (Some(given), None) = (given, missing) {
                report.complain(&given.at, format!("means nothing without `{name}`"));
            }
        }
    }
    let [ca, certificate, key] = files.map(|file| file.map(|file| PathBuf::from(file.value.0)));
    (ca, certificate, key)
}

/// The profiles of a configuration file.
#[derive(Debug, Clone, Default)]
pub struct Profiles {
    profiles: BTreeMap<String, StoreSpec>,
    /// Whether a password stands in the file itself.
    has_passwords: bool,
}

impl Profiles {
    /// What a profile says.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&StoreSpec> {
        self.profiles.get(name)
    }

    /// The name of each.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.profiles.keys().map(String::as_str)
    }

    /// The name that was probably meant, if any is near enough.
    #[must_use]
    pub fn closest(&self, name: &str) -> Option<&str> {
        closest(name, &self.names().collect::<Vec<_>>())
    }

    /// Whether a password stands in the file itself, so that nobody else should read it.
    #[must_use]
    pub fn has_passwords(&self) -> bool {
        self.has_passwords
    }
}

/// Reads a configuration file's text; `file` is the name that messages give it. No message shows any of its values.
///
/// # Errors
/// [`Problems`]: everything that is wrong with it, each with its place.
pub fn parse_profiles(file: &str, text: &str) -> Result<Profiles, Problems> {
    let source = Source::new(file, text);
    let mut report = Report::of_secrets("configuration", &source);
    let shape = report.read::<ConfigFile>();
    let profiles = shape.map(|shape| of_profiles(shape.profile, &mut report));
    report.finish(profiles).map(|(profiles, _)| profiles)
}

fn of_profiles(profiles: Option<Found<ProfileTables>>, report: &mut Report) -> Profiles {
    let tables = profiles.map_or_else(Vec::new, |profiles| profiles.value.0);
    let has_passwords = tables.iter().any(|(_, table)| {
        let Found { value: table, .. } = table;
        table.password.is_some() || table.default_acl.as_ref().is_some_and(|acl| acl.value.1 == Written::Password)
    });
    let profiles = tables.into_iter().map(|(name, table)| (name, of_profile(table, report))).collect();
    Profiles { profiles, has_passwords }
}

/// What the system-wide configuration file says.
#[derive(Debug, Clone, Default)]
pub struct SystemConfig {
    /// The store of every account that names no other.
    pub store: Option<SystemStore>,
    /// The profiles that every account has.
    pub profiles: Profiles,
}

/// One store for all accounts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SystemStore {
    /// The embedded one.
    File {
        /// Its file, as written.
        file: PathBuf,
        /// How long a silent session is kept, if the file says.
        session_timeout: Option<Duration>,
    },
    /// ZooKeeper: what the file says, and what the profile says that it names; the nearest first.
    Servers(Vec<StoreSpec>),
}

/// Reads the system-wide configuration file's text; `file` is the name that messages give it. No message shows any of its
/// values.
///
/// # Errors
/// [`Problems`]: everything that is wrong with it, each with its place.
pub fn parse_system(file: &str, text: &str) -> Result<SystemConfig, Problems> {
    let source = Source::new(file, text);
    let mut report = Report::of_secrets("system-wide configuration", &source);
    let shape = report.read::<SystemFile>();
    let config = shape.map(|SystemFile { store, profile }| {
        let profiles = of_profiles(profile, &mut report);
        let store = store.and_then(|store| of_system(store, &profiles, &mut report));
        SystemConfig { store, profiles }
    });
    report.finish(config).map(|(config, _)| config)
}

fn of_system(store: Found<SystemStoreTable>, profiles: &Profiles, report: &mut Report) -> Option<SystemStore> {
    let Found { value: table, at } = store;
    match table {
        SystemStoreTable::File(FileStoreTable { file, session_timeout }) => Some(SystemStore::File {
            file: file?.value.0.into(),
            session_timeout: session_timeout.map(|timeout| timeout.value.0),
        }),
        SystemStoreTable::Servers(table) => {
            let named = table.profile.as_ref().map(|profile| profile.at.clone());
            let help = "give `file`, `zk-hosts` or `profile`, or leave `[store]` out";
            let mut spec = of_servers(Found { value: *table, at }, help, report);
            let Some((name, at)) = spec.profile.take().zip(named) else {
                return Some(SystemStore::Servers(vec![spec]));
            };
            // Another account's profile of that name would be another store.
            let Some(profile) = profiles.get(&name) else {
                let help = format!("write `[profile.{name}]` there, or `zk-hosts` in place of `profile`");
                report.complain(&at, "there is no such profile in this file").help(help);
                return None;
            };
            if spec.hosts.is_none() && profile.hosts.is_none() {
                report.complain(&at, "the profile names no servers").help("give it `zk-hosts`");
            }
            Some(SystemStore::Servers(vec![spec, profile.clone()]))
        }
    }
}

#[derive(Debug)]
pub(super) struct ProfileTables(Vec<(String, Found<ProfileTable>)>);

impl FromToml for ProfileTables {
    const IS_TABLE: bool = true;

    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let Some(table) = value.as_table() else {
            wrong_type(at, "a table such as `[profile.prod]`", value, report);
            return None;
        };
        let mut read = Vec::new();
        for (name, value) in in_file_order(table) {
            let at = At { key: join(&at.key, name.get_ref()), span: value.span() };
            report.note(&at);
            if !value.get_ref().is_table() {
                let help = format!("profiles have names: `[profile.prod]`, and `{}` below that", name.get_ref());
                report.complain(&at, format!("expected a table, found {}", kind_of(value.get_ref()))).help(help);
                continue;
            }
            if let Some(table) = ProfileTable::from_toml(value.get_ref(), &at, report) {
                read.push((name.get_ref().to_string(), Found { value: table, at }));
            }
        }
        Some(Self(read))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": ProfileTable::schema(generator) })
    }
}

/// The name of a profile. Which there are is not known here.
#[derive(Debug)]
pub(super) struct ProfileName(String);

impl FromToml for ProfileName {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let name = String::from_toml(value, at, report)?;
        if name.is_empty() {
            report.complain(at, "a profile has a name").help("as in `profile = \"prod\"`");
            return None;
        }
        Some(Self(name))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

impl FromToml for Hosts {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        const HELP: &str = "servers look like `\"zk1:2181,zk2:2181/fleet\"`";
        if value.is_array() {
            report.complain(at, "expected text, found a list").help(HELP);
            return None;
        }
        parsed(value, at, report, Self::parse, |_| Some(String::from(HELP)))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": r"^[^\s/@]+(/.*)?$", "examples": ["zk1:2181,zk2:2181/fleet"] })
    }
}

#[derive(Debug)]
pub(super) struct Scheme(String);

impl FromToml for Scheme {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let check = |text: &str| Login::check_scheme(text).map(|()| Self(text.to_owned()));
        parsed(value, at, report, check, |_: &LoginError| None)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1, "examples": [Login::DEFAULT_SCHEME] })
    }
}

#[derive(Debug)]
pub(super) struct Username(String);

impl FromToml for Username {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let check = |text: &str| Login::check_username(text).map(|()| Self(text.to_owned()));
        parsed(value, at, report, check, |_: &LoginError| None)
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^[^:]+$" })
    }
}

/// A password. Whatever stands there instead is not repeated.
impl FromToml for Secret {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        match value.as_str() {
            Some("") => {
                report.complain(at, "the password is empty").help("leave it out, and `username` too, for no login");
                None
            }
            Some(text) => Some(Self::new(text)),
            None => {
                report.complain(at, format!("expected text, found {}", kind_of(value))).help("write it in quotes");
                None
            }
        }
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

#[derive(Debug)]
pub(super) struct SessionTimeout(Duration);

impl FromToml for SessionTimeout {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        bounded(value, at, report, session_timeout).map(Self)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Duration::schema(generator)
    }
}

#[derive(Debug)]
pub(super) struct ConnectTimeout(Duration);

impl FromToml for ConnectTimeout {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        bounded(value, at, report, connect_timeout).map(Self)
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        Duration::schema(generator)
    }
}

fn bounded(
    value: &DeValue<'_>,
    at: &At,
    report: &mut Report,
    bound: impl FnOnce(Duration) -> Result<Duration, String>,
) -> Option<Duration> {
    match bound(Duration::from_toml(value, at, report)?) {
        Ok(duration) => Some(duration),
        Err(why) => {
            report.complain(at, why);
            None
        }
    }
}

/// Access control as zkCli writes it: one text, or a list of entries.
#[derive(Debug)]
pub(super) struct PlainAcl(Acl);

impl FromToml for PlainAcl {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        let has_tables =
            value.is_table() || value.as_array().is_some_and(|all| all.iter().any(|one| one.get_ref().is_table()));
        if has_tables {
            report
                .complain(at, "expected text, found a table, and there is a password in it")
                .help("keep it in a profile, or write `\"digest:USER:HASH:cdrwa\"`");
            return None;
        }
        acl(value, at, report).map(|(acl, _)| Self(acl))
    }

    fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "anyOf": [
            { "type": "string", "examples": ["world:anyone:r,auth::cdrwa"] },
            { "type": "array", "items": { "type": "string" }, "minItems": 1 },
        ] })
    }
}

/// The same, or with tables as Salt writes them.
#[derive(Debug)]
pub(super) struct SaltAcl(Acl, Written);

/// How access control was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Written {
    /// With a password in it.
    Password,
    /// With none.
    Plain,
}

impl FromToml for SaltAcl {
    fn from_toml(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<Self> {
        acl(value, at, report).map(|(acl, written)| Self(acl, written))
    }

    fn schema(generator: &mut SchemaGenerator) -> Schema {
        let entry = json_schema!({ "anyOf": [{ "type": "string" }, AclTable::schema(generator)] });
        json_schema!({ "anyOf": [entry, { "type": "array", "items": entry, "minItems": 1 }] })
    }
}

const ACL_HELP: &str = "as in zkCli: `\"world:anyone:r,auth::cdrwa\"`";

fn acl(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<(Acl, Written)> {
    match value {
        DeValue::String(text) => match Acl::parse(text) {
            Ok(acl) => Some((acl, Written::Plain)),
            Err(error) => {
                report.complain(at, error.to_string()).help(ACL_HELP);
                None
            }
        },
        DeValue::Table(_) => salts_entry(value, at, report).map(|entry| (Acl::from(entry), Written::Password)),
        DeValue::Array(array) => {
            let mut written = Written::Plain;
            let entries = array.iter().enumerate().map(|(index, item)| {
                let at = At { key: format!("{}[{index}]", at.key), span: item.span() };
                match item.get_ref() {
                    table @ DeValue::Table(_) => {
                        written = Written::Password;
                        salts_entry(table, &at, report)
                    }
                    text => parsed(text, &at, report, AclEntry::parse, |_| Some(String::from(ACL_HELP))),
                }
            });
            // Everything is read, for all its problems, before one of them ends it.
            let entries = entries.collect::<Vec<_>>().into_iter().collect::<Option<Vec<_>>>()?;
            let acl = Acl::new(entries);
            if acl.is_none() {
                report.complain(at, "nobody may do anything").help("name somebody, or leave it out");
            }
            Some((acl?, written))
        }
        _ => {
            report.complain(at, format!("expected text, found {}", kind_of(value))).help(ACL_HELP);
            None
        }
    }
}

fn salts_entry(value: &DeValue<'_>, at: &At, report: &mut Report) -> Option<AclEntry> {
    let table = AclTable::from_toml(value, at, report)?;
    let each = [
        (&table.read, Permissions::READ),
        (&table.write, Permissions::WRITE),
        (&table.create, Permissions::CREATE),
        (&table.delete, Permissions::DELETE),
        (&table.admin, Permissions::ADMIN),
        (&table.allperms, Permissions::ALL),
    ];
    let granted = each.into_iter().filter(|(given, _)| given.as_ref().is_some_and(|given| given.value));
    let permissions = granted.fold(Permissions::NONE, |all, (_, one)| all | one);
    let (username, password) = (table.username?.value.0, table.password?.value);
    if permissions == Permissions::NONE {
        report
            .complain(at, "an entry allows nothing")
            .help("`allperms = true`, or some of `read`, `write`, `create`, `delete` and `admin`");
        return None;
    }
    match AclEntry::digest(&username, password.expose(), permissions) {
        Ok(entry) => Some(entry),
        Err(error) => {
            report.complain(at, error.to_string());
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile(text: &str) -> StoreSpec {
        parse_profiles("config.toml", &format!("[profile.p]\n{text}")).unwrap().get("p").unwrap().clone()
    }

    /// Each problem as one line, with its hint.
    fn told(text: &str) -> Vec<String> {
        let problems = parse_profiles("config.toml", text).expect_err(text);
        let told = problems.problems().iter().map(|problem| {
            let help = problem.help.as_deref().map(|help| format!(" [{help}]")).unwrap_or_default();
            format!("{}:{} {problem}{help}", problem.place.line, problem.place.column)
        });
        told.collect()
    }

    #[test]
    fn a_profile_says_all_that_the_command_line_can() {
        let spec = profile(
            r#"
zk-hosts = "zk1,zk2:2182/fleet"
scheme = "digest"
username = "ops"
password = "hunter2"
default-acl = "world:anyone:r,auth::cdrwa"
session-timeout = "30s"
connect-timeout = "5s"
tls-ca = "ca.pem"
tls_cert = "cert.pem"
tls_key = "/etc/key.pem"
"#,
        );
        assert_eq!(spec.hosts.as_ref().unwrap().to_string(), "zk1:2181,zk2:2182/fleet");
        assert_eq!((spec.scheme.as_deref(), spec.username.as_deref()), (Some("digest"), Some("ops")));
        assert_eq!(spec.password, Some(Password::Given(Secret::new("hunter2"))));
        assert_eq!(spec.acl.as_ref().unwrap().to_string(), "world:anyone:r,auth::cdrwa");
        assert_eq!(spec.session_timeout, Some(Duration::from_secs(30)));
        assert_eq!(spec.connect_timeout, Some(Duration::from_secs(5)));
        let placed = spec.below(Path::new("/etc/lk"));
        assert_eq!(placed.tls_ca, Some("/etc/lk/ca.pem".into()));
        assert_eq!(placed.tls_key, Some("/etc/key.pem".into()));
        let placed = profile("username = \"ops\"\npassword-file = \"pw\"").below(Path::new("/etc/lk"));
        assert_eq!(placed.password, Some(Password::File("/etc/lk/pw".into())));
    }

    #[test]
    fn a_system_wide_file_names_one_store_for_all() {
        let store = |text: &str| parse_system("config.toml", text).unwrap().store;
        assert_eq!(store(""), None);
        assert_eq!(store("[profile.p]\nzk-hosts = \"zk1\""), None);
        let file = SystemStore::File { file: "store.db".into(), session_timeout: Some(Duration::from_secs(20)) };
        assert_eq!(store("[store]\nfile = \"store.db\"\nsession_timeout = \"20s\""), Some(file));
        let of = |text: &str| match store(text) {
            Some(SystemStore::Servers(specs)) => specs,
            other => panic!("{other:?}"),
        };
        let specs = of("[store]\nzk-hosts = \"zk1/fleet\"\nusername = \"ops\"\npassword-file = \"pw\"");
        assert_eq!((specs.len(), specs[0].username.as_deref()), (1, Some("ops")));
        let specs = of("[store]\nprofile = \"prod\"\n[profile.prod]\nzk-hosts = \"zk1\"");
        assert_eq!((specs.len(), specs[0].profile.as_deref()), (2, None));
        assert_eq!(specs[1].hosts.as_ref().unwrap().to_string(), "zk1:2181");
    }

    #[test]
    fn what_is_wrong_with_a_system_wide_file_is_told_with_its_place() {
        let told = |text: &str| {
            let problems = parse_system("config.toml", text).expect_err(text);
            let one = |problem: &crate::toml_reader::Problem| {
                let help = problem.help.as_deref().unwrap_or_default();
                format!("{} {problem} [{help}]", problem.place)
            };
            problems.problems().iter().map(one).collect::<Vec<_>>().join("\n")
        };
        for (text, parts) in [
            ("store = \"a.db\"", ["config.toml:1:", "store", "`[store]` with `file`"]),
            ("[store]\nfile = \"a\"\nzk-hosts = \"zk1\"", ["config.toml:3:", "store.zk-hosts", "not both"]),
            ("[store]\npath = \"a\"", ["config.toml:2:", "store.path", "did you mean `file`?"]),
            ("[store]\nfile = 3", ["config.toml:2:", "store.file", "expected"]),
            ("[store]\nzk-host = \"zk1\"", ["config.toml:2:", "store.zk-host", "did you mean `zk-hosts`?"]),
            ("[store]\nzk-hosts = \"zk1;zk2\"", ["config.toml:2:", "store.zk-hosts", "by commas"]),
            ("[store]\nusername = \"u\"", ["config.toml:", "store", "give `file`, `zk-hosts` or `profile`"]),
            ("[store]\nfil = \"a.db\"", ["config.toml:2:", "store.fil", "did you mean `file`?"]),
            ("[store]\nprofile = \"prod\"", ["config.toml:2:", "store.profile", "no such profile"]),
            ("[store]\nzk-hosts = \"z\"\npassword = \"x\"", ["config.toml:3:", "store.password", "no password"]),
            ("stor = 1", ["config.toml:1:", "stor", "did you mean `store`?"]),
        ] {
            let told = told(text);
            assert!(parts.iter().all(|part| told.contains(part)), "{text}: {told}");
        }
        let own = parse_profiles("config.toml", "[store]\nzk-hosts = \"zk1\"").unwrap_err();
        assert!(own.problems()[0].to_string().contains("only the system-wide"), "{own}");
    }

    #[test]
    fn access_control_can_be_spelt_as_salt_spells_it() {
        let one = profile("default-acl = { username = \"u\", password = \"pw\", allperms = true }").acl.unwrap();
        assert_eq!(one.entries(), [AclEntry::digest("u", "pw", Permissions::ALL).unwrap()]);
        let two = profile(
            "default-acl = [{ username = \"u\", password = \"pw\", read = true, delete = true, admin = false }, \"world:anyone:r\"]",
        );
        let permissions = Permissions::READ | Permissions::DELETE;
        let entries = [AclEntry::digest("u", "pw", permissions).unwrap(), AclEntry::world(Permissions::READ)];
        assert_eq!(two.acl.unwrap().entries(), entries);
        let listed = profile("[[profile.p.default_acl]]\nusername = \"u\"\npassword = \"pw\"\nallperms = true");
        assert_eq!(listed.acl, Some(one));
    }

    #[test]
    fn whether_a_password_stands_in_the_file_is_known() {
        let holds =
            |text: &str| parse_profiles("config.toml", &format!("[profile.p]\n{text}")).unwrap().has_passwords();
        assert!(!holds("username = \"u\"\npassword-file = \"x\"\ndefault-acl = [\"auth::r\"]"));
        assert!(holds("username = \"u\"\npassword = \"x\""));
        assert!(holds("default-acl = { username = \"u\", password = \"pw\", allperms = true }"));
    }

    #[test]
    fn what_is_wrong_with_profiles_is_told_at_once() {
        let text = r#"
profil = 3
[profile]
zk-hosts = "zk1"
[profile.a]
zk-hosts = ["zk1"]
scheme = "world"
username = "a:b"
pasword = "x"
session-timeout = "1ms"
connect-timeout = "0s"
tls-cert = "c"
[profile.b]
hosts = "zk1"
profile = "a"
password = 12345
default-acl = { username = "u", password = "pw" }
[profile.c]
zk-hosts = "zk1:x"
password = "x"
password-file = "y"
default-acl = ["digest:u:pw:r", 3, { username = "u" }]
"#;
        insta::assert_snapshot!(told(text).join("\n"));
    }

    #[test]
    fn no_complaint_shows_a_value_of_a_file_with_passwords() {
        use miette::{GraphicalReportHandler, GraphicalTheme};
        let text = "[profile.p]\nusername = \"u\"\npassword = \"hunter2\" # old: hunter1\npasswd = \"hunter3\"\n\
            pass: hunter4\ndefault-acl = { username = \"u\", pasword = \"hunter5\",\n  password = \"hünter6\" }\n\
            password = hunter7\npassword-file = \"\"\"\nhunter8\n";
        let problems = parse_profiles("config.toml", text).unwrap_err();
        let mut shown = format!("{problems} {problems:?} {}", serde_json::to_string(problems.problems()).unwrap());
        let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode_nocolor()).with_width(100);
        handler.render_report(&mut shown, &problems).unwrap();
        assert!(shown.contains("config.toml:") && shown.contains("passwd"), "{shown}");
        assert!(!shown.contains("hunter") && !shown.contains("nter6"), "{shown}");
    }
}
