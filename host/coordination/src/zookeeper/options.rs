//! What a session with ZooKeeper is opened with.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use super::{Acl, Hosts};

/// How long the server keeps a silent session's ephemeral nodes, where nothing else is said: as in kazoo and Salt.
pub const DEFAULT_SESSION_TIMEOUT: Duration = Duration::from_secs(10);

/// How long servers are tried before connecting fails, where nothing else is said: as in kazoo and Salt.
pub const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What nobody may read in a log, an error or a process list.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the server's eyes, and for what is derived from it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Who we say that we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// How, such as `digest`.
    pub scheme: String,
    /// The proof; of `digest`, `user:password`.
    pub secret: Secret,
}

/// Why nobody can log in so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LoginError {
    /// The server takes what stands before the first colon for the name.
    #[error("a username is neither empty nor has a colon")]
    Username,
    /// One that says who one is by the connection, or that we do not speak.
    #[error("nobody logs in by scheme `{0}` with a name and a password: `digest` is the usual one")]
    Scheme(String),
}

/// Schemes of access control that know one by other means than a name and a password.
const NO_LOGIN: [&str; 5] = ["auth", "ip", "sasl", "world", "x509"];

impl Login {
    /// What a name and a password are meant for where nothing else is said.
    pub const DEFAULT_SCHEME: &str = "digest";

    /// By name and password, in a scheme that takes both with a colon between them, as `digest` does.
    ///
    /// # Errors
    /// [`LoginError`]: a name that the server would read as another, a scheme that knows no passwords.
    pub fn new(scheme: &str, username: &str, password: &Secret) -> Result<Self, LoginError> {
        Self::check_scheme(scheme)?;
        Self::check_username(username)?;
        let secret = Secret(format!("{username}:{}", password.expose()));
        Ok(Self { scheme: scheme.to_owned(), secret })
    }

    /// Whether one can log in by it at all.
    ///
    /// # Errors
    /// [`LoginError::Scheme`].
    pub fn check_scheme(scheme: &str) -> Result<(), LoginError> {
        match scheme.is_empty() || scheme.contains(':') || NO_LOGIN.contains(&scheme) {
            true => Err(LoginError::Scheme(scheme.to_owned())),
            false => Ok(()),
        }
    }

    /// Whether the server would read the name as it is.
    ///
    /// # Errors
    /// [`LoginError::Username`].
    pub fn check_username(username: &str) -> Result<(), LoginError> {
        match username.is_empty() || username.contains(':') {
            true => Err(LoginError::Username),
            false => Ok(()),
        }
    }
}

/// How the connection is kept private. Files are in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsOptions {
    /// The certificates of who vouches for the servers.
    pub ca: PathBuf,
    /// Our certificate and its key, where the servers want to know us.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// What a session with ZooKeeper is opened with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZooKeeperOptions {
    /// Where the servers are.
    pub hosts: Hosts,
    /// Who we are, said in this order at the beginning of each connection.
    pub logins: Vec<Login>,
    /// Who may touch the nodes that we make, those above our own included.
    pub acl: Acl,
    /// How long the server is asked to keep a silent session's ephemeral nodes. It may grant another time.
    pub session_timeout: Duration,
    /// How long all servers together are tried before connecting fails.
    pub connect_timeout: Duration,
    /// None: in the clear.
    pub tls: Option<TlsOptions>,
}

impl ZooKeeperOptions {
    /// These servers, and of everything else what kazoo does where nothing is said: no login, everybody may do everything.
    #[must_use]
    pub fn new(hosts: Hosts) -> Self {
        Self {
            hosts,
            logins: Vec::new(),
            acl: Acl::open(),
            session_timeout: DEFAULT_SESSION_TIMEOUT,
            connect_timeout: DEFAULT_CONNECT_TIMEOUT,
            tls: None,
        }
    }

    /// Whether the servers know us: by a login, or by a certificate.
    pub(super) fn is_logged_in(&self) -> bool {
        !self.logins.is_empty() || self.tls.as_ref().is_some_and(|tls| tls.identity.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_shows_a_password() {
        let login = Login::new("digest", "me", &Secret::new("hunter2")).unwrap();
        assert_eq!(login.secret.expose(), "me:hunter2");
        let mut options = ZooKeeperOptions::new(Hosts::parse("zk1").unwrap());
        options.logins.push(login);
        for shown in [format!("{options:?}"), format!("{options:#?}")] {
            assert!(shown.contains("Secret(…)") && !shown.contains("hunter2"), "{shown}");
        }
    }

    #[test]
    fn a_name_that_the_server_would_misread_is_refused() {
        for name in ["", "me:you"] {
            assert_eq!(Login::new("digest", name, &Secret::new("x")), Err(LoginError::Username));
        }
        for scheme in ["", "world", "ip"] {
            let error = Login::new(scheme, "me", &Secret::new("x")).unwrap_err();
            assert_eq!(error, LoginError::Scheme(scheme.to_owned()));
        }
    }
}
