//! Where a store is: a file or servers, and what named it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lockkeeper_coordination::zookeeper::ZooKeeperOptions;

/// Where the chosen store is, and how to reach it.
#[derive(Debug, Clone)]
pub enum StorePlace {
    /// The embedded store, in a file.
    File {
        /// The file's path, as it was given.
        file: PathBuf,
        /// How long the store keeps a silent session.
        session_timeout: Duration,
        /// What named it.
        origin: Origin,
    },
    /// ZooKeeper.
    Servers {
        /// The servers, the login and the time-outs.
        options: Box<ZooKeeperOptions>,
        /// The name to authenticate as.
        username: Option<String>,
        /// The profile that names the servers, if one does.
        profile: Option<String>,
        /// What named it.
        origin: Origin,
    },
}

/// What named the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A command-line option.
    Flags,
    /// The job's `[store]`.
    Job,
    /// A variable of the environment.
    Environment(&'static str),
    /// The system-wide configuration file.
    System(PathBuf),
    /// Nothing named one: the file in the state folder.
    Default,
}

impl StorePlace {
    /// Whether a flag or the job names it. If not, the output has to: a reader may take it for another store.
    pub fn is_named(&self) -> bool {
        match self {
            Self::File { origin, .. } | Self::Servers { origin, .. } => matches!(origin, Origin::Flags | Origin::Job),
        }
    }

    /// Whether it is a file that does not exist.
    pub fn is_missing(&self) -> bool {
        match self {
            Self::File { file, .. } => matches!(file.try_exists(), Ok(false)),
            Self::Servers { .. } => false,
        }
    }

    /// Its address, for programs: the servers, or the absolute path of a file.
    pub fn address(&self) -> String {
        match self {
            Self::File { file, .. } => absolute(file),
            Self::Servers { options, .. } => options.hosts.to_string(),
        }
    }
}

/// For people.
impl fmt::Display for StorePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { origin, .. } => {
                write!(f, "the file `{}`", self.address())?;
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

/// The absolute path of a file, for people and programs.
pub(super) fn absolute(file: &Path) -> String {
    std::path::absolute(file).unwrap_or_else(|_| file.to_owned()).display().to_string()
}
