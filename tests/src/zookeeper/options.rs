//! Options of a server.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The administrator of a server whose [`Options::super_digest`] is [`SUPER_DIGEST`].
pub const SUPER_USER: &str = "super";
/// The administrator's password.
pub const SUPER_PASSWORD: &str = "lockkeeper";
/// Both in the server's format: the name, and base64 of the SHA-1 of `name:password`.
pub const SUPER_DIGEST: &str = "super:X5gk/2fpuGL/kc5V/KwqTjiemz8=";

/// Options of a server; the default suits most tests.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server's time unit: sessions end at its multiples.
    pub tick: Duration,
    /// Shortest and longest session timeout that it grants.
    pub session_timeouts: RangeInclusive<Duration>,
    /// The administrator's name and digest.
    pub super_digest: Option<String>,
    /// A second port, for TLS.
    pub tls: Option<Tls>,
    /// When a write is answered.
    pub durability: Durability,
    /// Further lines of `zoo.cfg`, which take precedence.
    pub lines: Vec<String>,
    /// Further arguments of Java, which take precedence.
    pub java: Vec<String>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            tick: Duration::from_millis(200),
            session_timeouts: Duration::from_millis(500)..=Duration::from_secs(60),
            super_digest: None,
            tls: None,
            durability: Durability::Quick,
            lines: Vec::new(),
            java: Vec::new(),
        }
    }
}

/// When a write is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once the kernel has it: it survives `kill -9`, but not a power failure.
    Quick,
    /// Once the disk has it, as in production.
    Fsync,
}

/// The TLS port.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Whether clients must present a certificate.
    pub client_auth: ClientAuth,
    /// Names in the server's certificate, in OpenSSL's format: `DNS:localhost`, `IP:127.0.0.1`.
    pub names: Vec<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { client_auth: ClientAuth::None, names: vec!["DNS:localhost".to_owned(), "IP:127.0.0.1".to_owned()] }
    }
}

/// What a server requires of clients on the TLS port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate.
    None,
    /// A certificate of the authority that signed the server's.
    Need,
}
