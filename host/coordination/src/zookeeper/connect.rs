//! Opening sessions, and saying why one cannot be opened.

use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout, timeout_at};
use zookeeper_client as client;

use super::options::{Login, TlsOptions, ZooKeeperOptions};
use super::session::Session;
use super::{convert, probe, tcp_nodelay};
use crate::files::{self, MAX_TEXT_BYTES};
use crate::store::{Connect, Reply, Store, StoreError, boot_clock};

/// How long after a round over all servers that brought no session the next begins.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);

/// How long before the end of the connect time-out we begin to look why there is no session yet.
const LOOK: Duration = Duration::from_millis(1500);

/// How long after it such a look may end.
const LOOK_LONGER: Duration = Duration::from_millis(500);

/// What is done with a chroot that is not there when a session is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MissingChroot {
    /// It is made, with the access control list of the options.
    Make,
    /// It is left as it is, and whatever is asked for below it is not there.
    Leave,
}

/// A ZooKeeper ensemble.
///
///
/// # Errors
/// A session cannot be opened when no server gives one within the options' connect time-out: the error says of each server
/// what was found. A login whose scheme the servers do not know is refused. A wrong password is not: ZooKeeper says so
/// only when a node's access control list asks for the right one.
#[derive(Debug)]
pub struct ZooKeeper {
    options: ZooKeeperOptions,
    missing_chroot: MissingChroot,
}

impl ZooKeeper {
    /// The ensemble that the options tell of. Nothing is opened yet.
    #[must_use]
    pub fn new(options: ZooKeeperOptions) -> Self {
        Self { options, missing_chroot: MissingChroot::Make }
    }

    /// The same for who only looks: nothing is made but what is asked for.
    #[must_use]
    pub fn looking(options: ZooKeeperOptions) -> Self {
        Self { options, missing_chroot: MissingChroot::Leave }
    }
}

impl Connect for ZooKeeper {
    fn connect(&self) -> Reply<Arc<dyn Store>> {
        let (options, missing_chroot) = (self.options.clone(), self.missing_chroot);
        Box::pin(async move { Ok(open(&options, missing_chroot).await? as Arc<dyn Store>) })
    }
}

async fn open(options: &ZooKeeperOptions, missing_chroot: MissingChroot) -> Result<Arc<Session>, StoreError> {
    let tls = options.tls.as_ref().map(|files| tls(files, options.hosts.servers())).transpose()?;
    let deadline = Instant::now() + options.connect_timeout;
    let causes = &mut causes(options, deadline);
    // Bounded by the deadline.
    loop {
        let (client, began_ms) = client(options, tls.clone(), deadline, causes).await?;
        tcp_nodelay::off(options.hosts.servers());
        // A session is a decision of the servers, so that they have heard us since its beginning. That is all there is to
        // know, if it is no long time ago and there is no chroot that might have to be made.
        let took = Duration::from_millis(boot_clock::now_ms().saturating_sub(began_ms));
        if options.hosts.chroot().is_none() && took < options.session_timeout / 10 {
            return Session::start(client, options, began_ms);
        }
        let (root, sent_ms) = (client.path().to_owned(), boot_clock::now_ms());
        let made = match timeout_at(deadline, client.check_stat("/")).await {
            Err(_) => return Err(why(options, causes, "no answer").await),
            Ok(Ok(Some(_))) => Ok(()),
            Ok(Ok(None)) => match missing_chroot {
                MissingChroot::Make => make(&client, &root, options).await,
                MissingChroot::Leave => Ok(()),
            },
            Ok(Err(error)) if convert::wants_sasl(&error) || error == client::Error::AuthFailed => {
                Err(turned_away(options))
            }
            Ok(Err(error)) => Err(unavailable(options, &error.to_string())),
        };
        match made {
            Ok(()) => return Session::start(client, options, sent_ms),
            // The connection went again as soon as it was there.
            Err(error) if error.is_retryable() && Instant::now() + BETWEEN_ROUNDS < deadline => {
                sleep(BETWEEN_ROUNDS).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes the chroot and what is missing above it.
async fn make(client: &client::Client, root: &str, options: &ZooKeeperOptions) -> Result<(), StoreError> {
    let acls = convert::acls(&options.acl);
    let top = client.clone().chroot("/");
    let top = top.map_err(|_| StoreError::Broken { reason: format!("the client cannot leave `{root}`") })?;
    let kind = client::CreateMode::Persistent.with_acls(client::Acls::from(acls.as_slice()));
    match top.mkdir(root, &kind).await {
        Ok(()) | Err(client::Error::NodeExists) => Ok(()),
        Err(client::Error::NoAuth) => Err(StoreError::Refused {
            reason: format!("the chroot `{root}` is not there, and making it needs permission `create` above it"),
        }),
        Err(client::Error::InvalidAcl) => Err(StoreError::BadOptions {
            reason: format!(
                "the servers do not take the access control list for the chroot `{root}`: {}",
                options.acl.refused(options.is_logged_in())
            ),
        }),
        Err(error) => Err(StoreError::Unavailable { reason: format!("cannot make the chroot `{root}`: {error}") }),
    }
}

/// A client with a session, and when the try that brought it began.
async fn client(
    options: &ZooKeeperOptions,
    tls: Option<client::TlsOptions>,
    deadline: Instant,
    causes: &mut JoinSet<String>,
) -> Result<(client::Client, u64), StoreError> {
    let cluster = options.hosts.to_string();
    // Bounded by the deadline.
    loop {
        let began_ms = boot_clock::now_ms();
        let mut connector = client::Client::connector().with_session_timeout(options.session_timeout);
        for login in &options.logins {
            connector = connector.with_auth(&login.scheme, login.secret.expose().as_bytes());
        }
        let opened = match tls.clone() {
            Some(tls) => timeout_at(deadline, connector.with_tls(tls).secure_connect(&cluster)).await,
            None => timeout_at(deadline, connector.connect(&cluster)).await,
        };
        match opened {
            Ok(Ok(client)) => return Ok((client, began_ms)),
            Ok(Err(client::Error::AuthFailed)) => return Err(turned_away(options)),
            Ok(Err(client::Error::BadArguments(what))) => {
                return Err(StoreError::BadOptions { reason: format!("`{cluster}` cannot be used: {what}") });
            }
            Ok(Err(error)) if Instant::now() + BETWEEN_ROUNDS >= deadline => {
                return Err(why(options, causes, &error.to_string()).await);
            }
            Ok(Err(_)) => sleep(BETWEEN_ROUNDS).await,
            Err(_) => return Err(why(options, causes, "no answer").await),
        }
    }
}

/// Why the servers let us not in as who we say that we are.
fn turned_away(options: &ZooKeeperOptions) -> StoreError {
    let (hosts, schemes) = (&options.hosts, options.logins.iter().map(|login| login.scheme.as_str()));
    let schemes: Vec<&str> = schemes.collect();
    if schemes.is_empty() {
        let reason = format!("`{hosts}` lets in who is logged in, by SASL or in another way, and nobody else");
        return StoreError::OtherLogin { reason };
    }
    let reason = format!("`{hosts}` does not take a login with scheme `{}`", schemes.join("`, `"));
    // This one every server knows.
    match schemes.iter().all(|scheme| *scheme == Login::DEFAULT_SCHEME) {
        true => StoreError::OtherLogin { reason: format!("{reason}: it wants SASL, or another kind of login") },
        false => StoreError::Refused { reason },
    }
}

fn unavailable(options: &ZooKeeperOptions, found: &str) -> StoreError {
    let reason = format!("no session with `{}` within {:?}: {found}", options.hosts, options.connect_timeout);
    StoreError::Unavailable { reason }
}

/// Looks at each server to say what is wrong with it, while connecting still goes on. Dropped, it is of no more interest.
fn causes(options: &ZooKeeperOptions, deadline: Instant) -> JoinSet<String> {
    let lead = LOOK.min(options.connect_timeout / 2);
    let (servers, tls) = (options.hosts.servers().to_vec(), options.tls.clone());
    let mut causes = JoinSet::new();
    causes.spawn(async move {
        sleep_until(deadline - lead).await;
        let look = move || probe::causes(&servers, tls.as_ref(), lead + LOOK_LONGER / 2);
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    });
    causes
}

/// That there is no session, and what was found of each server; `otherwise` if that takes too long.
async fn why(options: &ZooKeeperOptions, causes: &mut JoinSet<String>, otherwise: &str) -> StoreError {
    match timeout(LOOK_LONGER, causes.join_next()).await {
        Ok(Some(Ok(found))) if !found.is_empty() => unavailable(options, &found),
        _ => unavailable(options, otherwise),
    }
}

fn tls(options: &TlsOptions, servers: &[(String, u16)]) -> Result<client::TlsOptions, StoreError> {
    // The client takes for granted that it is one.
    if let Some((host, _)) = servers.iter().find(|(host, _)| ServerName::try_from(host.as_str()).is_err()) {
        return Err(StoreError::BadOptions { reason: format!("`{host}` is a name that no certificate can have") });
    }
    let read = |path: &std::path::Path| {
        files::read_to_string(path, MAX_TEXT_BYTES)
            .map_err(|error| StoreError::BadOptions { reason: format!("cannot read `{}`: {error}", path.display()) })
    };
    let wrong = |path: &std::path::Path, error: client::Error| StoreError::BadOptions {
        reason: format!("`{}` is of no use for TLS: {error}", path.display()),
    };
    let tls = client::TlsOptions::new().with_pem_ca(&read(&options.ca)?).map_err(|error| wrong(&options.ca, error))?;
    match &options.identity {
        None => Ok(tls),
        Some((certificate, key)) => {
            tls.with_pem_identity(&read(certificate)?, &read(key)?).map_err(|error| wrong(certificate, error))
        }
    }
}
