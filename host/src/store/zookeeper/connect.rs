//! Opening sessions, and saying why one cannot be opened.

use std::fmt::Write;
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use zookeeper_client as client;

use super::convert;
use super::nagle;
use super::options::{TlsOptions, ZooKeeperOptions};
use super::session::Session;
use crate::store::{Connect, Reply, Store, StoreError, boot};

/// How long after a round over all servers that brought no session the next begins.
const BETWEEN_ROUNDS: Duration = Duration::from_millis(100);

/// How long a server is tried when we look why there was no session.
const LOOK: Duration = Duration::from_millis(500);

/// A ZooKeeper ensemble.
///
/// A chroot that is not there is made, with the access control list of the options, when a session is opened.
///
/// # Errors
/// A session cannot be opened when no server gives one within the options' connect time-out: the error says of each server
/// what was found. A login whose scheme the servers do not know is refused. A wrong password is not: ZooKeeper says so
/// only when a node's access control list asks for the right one.
#[derive(Debug)]
pub struct ZooKeeper {
    options: ZooKeeperOptions,
}

impl ZooKeeper {
    /// The ensemble that the options tell of. Nothing is opened yet.
    #[must_use]
    pub fn new(options: ZooKeeperOptions) -> Self {
        Self { options }
    }
}

impl Connect for ZooKeeper {
    fn connect(&self) -> Reply<Arc<dyn Store>> {
        let options = self.options.clone();
        Box::pin(async move { Ok(open(&options).await? as Arc<dyn Store>) })
    }
}

async fn open(options: &ZooKeeperOptions) -> Result<Arc<Session>, StoreError> {
    let tls = options.tls.as_ref().map(tls).transpose()?;
    let deadline = Instant::now() + options.connect_timeout;
    let acls = convert::acls(&options.acl);
    // Bounded by the deadline.
    loop {
        let (client, began_ms) = client(options, tls.clone(), deadline).await?;
        nagle::off(options.hosts.servers());
        // A session is a decision of the servers, so that they have heard us since its beginning. That is all there is to
        // know, if it is no long time ago and there is no chroot that might have to be made.
        let took = Duration::from_millis(boot::now_ms().saturating_sub(began_ms));
        if options.hosts.chroot().is_none() && took < options.session_timeout / 10 {
            return Session::start(client, acls, options.hosts.servers().to_vec(), began_ms);
        }
        let (root, sent_ms) = (client.path().to_owned(), boot::now_ms());
        let made = match timeout_at(deadline, client.check_stat("/")).await {
            Err(_) => return Err(unavailable(options, "no answer")),
            Ok(Ok(Some(_))) => Ok(()),
            Ok(Ok(None)) => make(&client, &root, &acls).await,
            Ok(Err(error)) => Err(unavailable(options, &error.to_string())),
        };
        match made {
            Ok(()) => return Session::start(client, acls, options.hosts.servers().to_vec(), sent_ms),
            // The connection went again as soon as it was there.
            Err(error) if error.is_retryable() && Instant::now() + BETWEEN_ROUNDS < deadline => {
                sleep(BETWEEN_ROUNDS).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Makes the chroot and what is missing above it.
async fn make(client: &client::Client, root: &str, acls: &[client::Acl]) -> Result<(), StoreError> {
    let top = client.clone().chroot("/");
    let top = top.map_err(|_| StoreError::Broken { reason: format!("the client cannot leave `{root}`") })?;
    let options = client::CreateMode::Persistent.with_acls(client::Acls::from(acls));
    match top.mkdir(root, &options).await {
        Ok(()) | Err(client::Error::NodeExists) => Ok(()),
        Err(client::Error::NoAuth) => Err(StoreError::Refused {
            reason: format!("the chroot `{root}` is not there, and making it needs permission `create` above it"),
        }),
        Err(error) => Err(StoreError::Unavailable { reason: format!("cannot make the chroot `{root}`: {error}") }),
    }
}

/// A client with a session, and when the try that brought it began.
async fn client(
    options: &ZooKeeperOptions,
    tls: Option<client::TlsOptions>,
    deadline: Instant,
) -> Result<(client::Client, u64), StoreError> {
    let cluster = options.hosts.to_string();
    // Bounded by the deadline.
    loop {
        let began_ms = boot::now_ms();
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
            Ok(Err(client::Error::AuthFailed)) => {
                let schemes: Vec<&str> = options.logins.iter().map(|login| login.scheme.as_str()).collect();
                let reason =
                    format!("`{}` does not take a login with scheme `{}`", options.hosts, schemes.join("`, `"));
                return Err(StoreError::Refused { reason });
            }
            Ok(Err(client::Error::BadArguments(what))) => {
                return Err(StoreError::Broken { reason: format!("the client does not take `{cluster}`: {what}") });
            }
            Ok(Err(error)) if Instant::now() + BETWEEN_ROUNDS >= deadline => return Err(why(options, &error).await),
            Ok(Err(_)) => sleep(BETWEEN_ROUNDS).await,
            Err(_) => return Err(why(options, &client::Error::Timeout).await),
        }
    }
}

fn unavailable(options: &ZooKeeperOptions, found: &str) -> StoreError {
    let reason = format!("no session with `{}` within {:?}: {found}", options.hosts, options.connect_timeout);
    StoreError::Unavailable { reason }
}

/// Looks at each server to say what is wrong with it: the client says only that there was no session.
async fn why(options: &ZooKeeperOptions, error: &client::Error) -> StoreError {
    let servers = options.hosts.servers().to_vec();
    let looked = tokio::task::spawn_blocking(move || {
        let mut found = String::new();
        for (host, port) in servers {
            let separator = if found.is_empty() { "" } else { "; " };
            let _ = write!(found, "{separator}{host}:{port} {}", look(&host, port));
        }
        found
    });
    match looked.await {
        Ok(found) => unavailable(options, &found),
        Err(_) => unavailable(options, &error.to_string()),
    }
}

fn look(host: &str, port: u16) -> String {
    let addresses = match (host, port).to_socket_addrs() {
        Ok(addresses) => addresses,
        Err(error) => return format!("has no address ({error})"),
    };
    let mut last = None;
    for address in addresses {
        match TcpStream::connect_timeout(&address, LOOK) {
            Ok(_) => return String::from("takes connections and gives no session"),
            Err(error) => last = Some(error),
        }
    }
    last.map_or_else(|| String::from("has no address"), |error| format!("cannot be reached ({})", error.kind()))
}

fn tls(options: &TlsOptions) -> Result<client::TlsOptions, StoreError> {
    let read = |path: &std::path::Path| {
        std::fs::read_to_string(path)
            .map_err(|error| StoreError::Unavailable { reason: format!("cannot read `{}`: {error}", path.display()) })
    };
    let wrong = |path: &std::path::Path, error: client::Error| StoreError::Unavailable {
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
