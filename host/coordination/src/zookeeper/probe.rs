//! Why servers give no session: each is asked in ways that ZooKeeper, TLS and others answer, since the client says only that
//! there was no session.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, ClientConnection, RootCertStore};

use super::options::TlsOptions;
use crate::files::{self, MAX_TEXT_BYTES};

/// How long a server has for one answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// As many servers are looked at, each by a thread: no ensemble has more.
const MOST_LOOKED_AT: usize = 32;

/// How much of an answer is read: more than ZooKeeper's, and enough to know others by.
const MAX_ANSWER: usize = 256;

/// How much of an answer a message repeats.
const MAX_SHOWN: usize = 40;

/// A request for a session that no server knows: a ZooKeeper refuses it in a frame of its own, and begins none. The last
/// byte says that a server that only serves reads will do.
const CONNECT: [u8; 49] = {
    let mut frame = [0; 49];
    // Its length, the time-out in milliseconds, the session's number, the password's length.
    (frame[3], frame[18], frame[19], frame[27], frame[31]) = (45, 0x27, 0x10, 1, 16);
    frame[48] = 1;
    frame
};

/// A ZooKeeper's answer to [`CONNECT`], its length included; old servers leave the last byte out.
const ANSWER: usize = 41;

/// Asks for a word about itself, which a ZooKeeper without a majority answers, too.
const WORD: &[u8] = b"srvr";

/// What servers of the web answer.
const WEB: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// What was found of each server, in one line. It is looked at all at once; what takes too long is left alone, since nothing
/// bounds the time that the system takes to find a name's address.
pub(super) fn causes(servers: &[(String, u16)], tls: Option<&TlsOptions>, patience: Duration) -> String {
    let until = Instant::now() + patience;
    let (sender, found) = mpsc::channel();
    for (index, (host, port)) in servers.iter().enumerate().take(MOST_LOOKED_AT) {
        let (sender, tls) = (sender.clone(), tls.cloned());
        let (host, port) = (host.clone(), *port);
        thread::spawn(move || {
            let probe = Probe { host: &host, port, tls: tls.as_ref(), until };
            // Who asked may have gone.
            let _ = sender.send((index, probe.cause()));
        });
    }
    drop(sender);
    let mut causes = vec![String::from("was not looked at in time"); servers.len()];
    while let Ok((index, cause)) = found.recv_timeout(until.saturating_duration_since(Instant::now())) {
        causes[index] = cause;
    }
    let named = servers.iter().zip(causes).map(|((host, port), cause)| match host.contains(':') {
        true => format!("[{host}]:{port} {cause}"),
        false => format!("{host}:{port} {cause}"),
    });
    named.collect::<Vec<_>>().join("; ")
}

/// What a server did with what it was sent.
#[derive(Debug, PartialEq, Eq)]
enum Heard {
    /// ZooKeeper's answer.
    ZooKeeper {
        /// It serves reads only.
        reads_only: bool,
    },
    /// A TLS record.
    Tls,
    /// Text.
    Text(String),
    /// Bytes of some other kind.
    Bytes,
    /// It closed the connection.
    Closed,
    /// Nothing.
    Nothing,
}

fn heard(bytes: &[u8], is_closed: bool) -> Heard {
    let length = bytes.first_chunk::<4>().map(|length| u32::from_be_bytes(*length));
    match bytes {
        [] if is_closed => Heard::Closed,
        [] => Heard::Nothing,
        [0x15 | 0x16, 3, ..] => Heard::Tls,
        // The length is that of the frame, and the protocol's version is 0.
        [_, _, _, _, 0, 0, 0, 0, ..] if length.is_some_and(|length| length as usize + 4 == bytes.len()) => {
            Heard::ZooKeeper { reads_only: bytes.get(ANSWER - 1) == Some(&1) }
        }
        _ => match std::str::from_utf8(bytes) {
            Ok(text) if !text.contains(|c: char| c.is_control() && !c.is_whitespace()) => Heard::Text(text.to_owned()),
            _ => Heard::Bytes,
        },
    }
}

/// One server.
#[derive(Debug, Clone, Copy)]
struct Probe<'a> {
    host: &'a str,
    port: u16,
    tls: Option<&'a TlsOptions>,
    until: Instant,
}

impl Probe<'_> {
    fn cause(self) -> String {
        match self.tls {
            None => self.in_the_clear(),
            Some(tls) => self.by_tls(tls),
        }
    }

    fn in_the_clear(self) -> String {
        let first = match self.connect() {
            Ok(mut stream) => self.ask(&mut stream, CONNECT.as_slice()),
            Err(cause) => return cause,
        };
        match first {
            Heard::ZooKeeper { reads_only: true } => {
                "is a ZooKeeper that serves reads only: it does not reach a majority of its ensemble".to_owned()
            }
            Heard::ZooKeeper { reads_only: false } => "is a ZooKeeper, and gave no session in time".to_owned(),
            Heard::Tls => speaks_tls(),
            Heard::Text(text) => not_a_zookeeper(&text),
            Heard::Bytes => "is not a ZooKeeper: it answers something else".to_owned(),
            Heard::Closed | Heard::Nothing => self.asked_otherwise(first == Heard::Closed),
        }
    }

    /// What a server is that says nothing to a request for a session.
    fn asked_otherwise(self, is_closing: bool) -> String {
        let mut hello = Vec::new();
        if let Some(mut connection) = self.hello() {
            // A buffer takes everything.
            let _ = connection.write_tls(&mut hello);
        }
        let (word, tls, web) = thread::scope(|scope| {
            let [word, tls, web] =
                [WORD, hello.as_slice(), WEB].map(|question| scope.spawn(move || self.try_asking(question)));
            let heard = |asked: thread::ScopedJoinHandle<'_, Heard>| asked.join().unwrap_or(Heard::Nothing);
            (heard(word), heard(tls), heard(web))
        });
        match (word, tls, web) {
            (Heard::Text(text), _, _) if text.contains("not currently serving") => {
                "is a ZooKeeper that does not serve: it does not reach a majority of its ensemble".to_owned()
            }
            (Heard::Text(text), _, _) if text.starts_with("Zookeeper version") || text.contains("whitelist") => {
                "is a ZooKeeper, and gave no session in time".to_owned()
            }
            (_, Heard::Tls, _) => speaks_tls(),
            (Heard::Text(text), _, _) | (_, _, Heard::Text(text)) => not_a_zookeeper(&text),
            _ if is_closing => "closes each connection without an answer".to_owned(),
            _ => "takes connections and answers nothing".to_owned(),
        }
    }

    fn try_asking(self, question: &[u8]) -> Heard {
        self.connect().map_or(Heard::Nothing, |mut stream| self.ask(&mut stream, question))
    }

    fn by_tls(self, tls: &TlsOptions) -> String {
        let config = match config(tls) {
            Ok(config) => Arc::new(config),
            Err(cause) => return cause,
        };
        let name = match ServerName::try_from(self.host.to_owned()) {
            Ok(name) => name,
            Err(_) => return "is called by a name that no certificate can have".to_owned(),
        };
        let mut stream = match self.connect() {
            Ok(stream) => stream,
            Err(cause) => return cause,
        };
        let mut connection = match ClientConnection::new(config, name) {
            Ok(connection) => connection,
            Err(error) => return format!("cannot be asked by TLS: {error}"),
        };
        // A server that wants our certificate says so only when it is asked for something.
        let answer = rustls::Stream::new(&mut connection, &mut stream)
            .write_all(&CONNECT)
            .and_then(|()| answer(&mut rustls::Stream::new(&mut connection, &mut stream)));
        let has_identity = tls.identity.is_some();
        match answer {
            Ok(Heard::ZooKeeper { reads_only: true }) => {
                "is a ZooKeeper that serves reads only: it does not reach a majority of its ensemble".to_owned()
            }
            Ok(Heard::ZooKeeper { reads_only: false }) => "is a ZooKeeper, and gave no session in time".to_owned(),
            Ok(Heard::Text(text)) => not_a_zookeeper(&text),
            Ok(_) => "takes TLS connections and gives no session".to_owned(),
            Err(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                Some(rustls::Error::InvalidMessage(_)) => self.without_tls(),
                Some(error) => failed_check(error, self.host, has_identity),
                None if connection.is_handshaking() => self.without_tls(),
                None => "takes TLS connections and gives no session".to_owned(),
            },
        }
    }

    /// What a server is that breaks off TLS as it begins.
    fn without_tls(self) -> String {
        let found = Probe { tls: None, ..self }.in_the_clear();
        match self.try_asking(&CONNECT) {
            Heard::ZooKeeper { .. } => "does not speak TLS there: it is a ZooKeeper in the clear".to_owned(),
            _ => format!("does not speak TLS there: it {found}"),
        }
    }

    /// A connection's beginning by TLS, to nobody in particular.
    fn hello(self) -> Option<ClientConnection> {
        let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
        let name = ServerName::try_from(self.host.to_owned()).ok()?;
        ClientConnection::new(Arc::new(config), name).ok()
    }

    fn patience(self) -> Duration {
        // A time-out of zero would be none.
        PATIENCE.min(self.until.saturating_duration_since(Instant::now())).max(Duration::from_millis(20))
    }

    fn connect(self) -> Result<TcpStream, String> {
        let addresses = (self.host, self.port).to_socket_addrs();
        let addresses = addresses.map_err(|error| format!("has no address ({})", without_prefix(&error)))?;
        let mut last = String::from("has no address");
        for address in addresses {
            match TcpStream::connect_timeout(&address, self.patience()) {
                Ok(stream) => {
                    let patience = Some(self.patience());
                    if stream.set_read_timeout(patience).and_then(|()| stream.set_write_timeout(patience)).is_ok() {
                        return Ok(stream);
                    }
                }
                Err(error) => {
                    last = match error.kind() {
                        ErrorKind::ConnectionRefused => "refuses connections: nothing listens there".to_owned(),
                        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                            format!("does not answer: no connection within {PATIENCE:?}")
                        }
                        kind => format!("cannot be reached: {kind}"),
                    }
                }
            }
        }
        Err(last)
    }

    fn ask(self, stream: &mut TcpStream, question: &[u8]) -> Heard {
        // Who closes the connection meanwhile may have answered before.
        let _ = stream.write_all(question);
        answer(stream).unwrap_or(Heard::Closed)
    }
}

/// Reads until it is known what the answer is, or no more of it comes.
fn answer(stream: &mut impl Read) -> io::Result<Heard> {
    let mut bytes = Vec::new();
    let mut part = [0; MAX_ANSWER];
    while bytes.len() < MAX_ANSWER {
        match stream.read(&mut part) {
            Ok(0) => return Ok(heard(&bytes, true)),
            Ok(read) => bytes.extend_from_slice(&part[..read]),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::WouldBlock) => break,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(heard(&bytes, true)),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(heard(&bytes, true)),
            Err(error) => return Err(error),
        }
        if matches!(heard(&bytes, false), Heard::ZooKeeper { .. } | Heard::Tls) || bytes.contains(&b'\n') {
            break;
        }
    }
    Ok(heard(&bytes, false))
}

fn speaks_tls() -> String {
    "speaks TLS there: `--tls-ca` names the authority of its certificate".to_owned()
}

fn not_a_zookeeper(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let shown: String = line.chars().take(MAX_SHOWN).flat_map(char::escape_debug).collect();
    match line {
        line if line.starts_with("HTTP/") => format!("is not a ZooKeeper but an HTTP server: it answers `{shown}`"),
        line if line.starts_with("SSH-") => format!("is not a ZooKeeper but an SSH server: it answers `{shown}`"),
        _ => format!("is not a ZooKeeper: it answers `{shown}`"),
    }
}

/// Which check failed.
fn failed_check(error: &rustls::Error, host: &str, has_identity: bool) -> String {
    use AlertDescription as Alert;
    match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer => {
                "shows a certificate that no authority in the file of `--tls-ca` has signed".to_owned()
            }
            CertificateError::NotValidForName => format!("shows a certificate for other names than `{host}`"),
            CertificateError::NotValidForNameContext { presented, .. } => {
                format!("shows a certificate for other names than `{host}`: {}", presented.join(", "))
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "shows a certificate that has expired".to_owned()
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "shows a certificate that is not valid yet".to_owned()
            }
            error => format!("shows a certificate that cannot be used: {error}"),
        },
        rustls::Error::AlertReceived(Alert::CertificateRequired | Alert::HandshakeFailure | Alert::BadCertificate)
            if !has_identity =>
        {
            "wants to see a certificate of ours: `--tls-cert` and `--tls-key`".to_owned()
        }
        rustls::Error::AlertReceived(alert) if has_identity => format!("does not take our certificate: {alert:?}"),
        error => format!("breaks off TLS: {error}"),
    }
}

/// What TLS is spoken with; or why its files are of no use.
fn config(tls: &TlsOptions) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&tls.ca)?);
    let builder = ClientConfig::builder().with_root_certificates(roots);
    match &tls.identity {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let unusable = |error: &dyn std::fmt::Display| format!("`{}` is of no use: {error}", key.display());
            let secret = files::read(key, MAX_TEXT_BYTES).map_err(|error| unusable(&error))?;
            let secret = PrivateKeyDer::from_pem_slice(&secret).map_err(|error| unusable(&error))?;
            builder.with_client_auth_cert(certificates(certificate)?, secret).map_err(|error| unusable(&error))
        }
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let unusable = |error: &dyn std::fmt::Display| format!("`{}` is of no use: {error}", file.display());
    let text = files::read(file, MAX_TEXT_BYTES).map_err(|error| unusable(&error))?;
    CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().map_err(|error| unusable(&error))
}

/// Why a name has no address, without what every such message begins with.
fn without_prefix(error: &io::Error) -> String {
    let text = error.to_string();
    text.strip_prefix("failed to lookup address information: ").map_or(text.clone(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame as a server sends it.
    fn frame(session: u64, reads_only: u8) -> Vec<u8> {
        let mut frame = vec![0, 0, 0, 37, 0, 0, 0, 0, 0, 0, 0, 0];
        frame.extend(session.to_be_bytes());
        frame.extend([0, 0, 0, 16]);
        frame.extend([0; 16]);
        frame.push(reads_only);
        frame
    }

    #[test]
    fn answers_are_told_from_one_another() {
        for (bytes, is_closed, meant) in [
            (frame(0, 0), false, Heard::ZooKeeper { reads_only: false }),
            (frame(0, 0), true, Heard::ZooKeeper { reads_only: false }),
            (frame(0, 1), false, Heard::ZooKeeper { reads_only: true }),
            (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), false, Heard::Text("HTTP/1.1 400 Bad Request\r\n".to_owned())),
            (vec![0x15, 3, 3, 0, 2, 2, 40], false, Heard::Tls),
            (vec![0, 0, 0, 9, 1], false, Heard::Bytes),
            (vec![0xff; 41], false, Heard::Bytes),
            (Vec::new(), false, Heard::Nothing),
            (Vec::new(), true, Heard::Closed),
        ] {
            assert_eq!(heard(&bytes, is_closed), meant, "{bytes:?}");
        }
    }

    #[test]
    fn the_request_is_one_that_a_server_reads() {
        assert_eq!(u32::from_be_bytes(*CONNECT.first_chunk().unwrap()) as usize, CONNECT.len() - 4);
        // Protocol, last transaction, time-out, session, password.
        assert_eq!(CONNECT[4..16], [0; 12]);
        assert_eq!(i32::from_be_bytes(CONNECT[16..20].try_into().unwrap()), 10_000);
        assert_eq!(i64::from_be_bytes(CONNECT[20..28].try_into().unwrap()), 1);
        assert_eq!(i32::from_be_bytes(CONNECT[28..32].try_into().unwrap()), 16);
    }

    #[test]
    fn what_is_no_zookeeper_is_called_by_its_name() {
        assert!(not_a_zookeeper("HTTP/1.1 400 Bad Request\r\nServer: x").ends_with("`HTTP/1.1 400 Bad Request`"));
        assert!(not_a_zookeeper("SSH-2.0-OpenSSH_9.2\r\n").contains("an SSH server"));
        assert!(not_a_zookeeper("hello\n").contains("is not a ZooKeeper: it answers `hello`"));
    }
}
