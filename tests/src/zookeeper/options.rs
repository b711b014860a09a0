//! What a server is started with.

use std::ops::RangeInclusive;
use std::time::Duration;

/// The administrator of a server whose [`Options::super_digest`] is [`SUPER_DIGEST`].
pub const SUPER_USER: &str = "super";
/// The administrator's password.
pub const SUPER_PASSWORD: &str = "lockkeeper";
/// Both, as a server wants them: the name, and base64 of the SHA-1 of `name:password`.
pub const SUPER_DIGEST: &str = "super:X5gk/2fpuGL/kc5V/KwqTjiemz8=";

/// What a server is started with; the default suits most tests.
#[derive(Debug, Clone)]
pub struct Options {
    /// The server's unit of time: sessions end on its edges.
    pub tick: Duration,
    /// The shortest and the longest session time-out that it grants.
    pub session_timeouts: RangeInclusive<Duration>,
    /// The administrator's name and digest.
    pub super_digest: Option<String>,
    /// A second port, for TLS.
    pub tls: Option<Tls>,
    /// Whether a write is on the disk when it is answered.
    pub durability: Durability,
    /// More lines for `zoo.cfg`; they win over ours.
    pub lines: Vec<String>,
    /// More arguments for Java; they win over ours.
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
    /// When the kernel has it: it survives `kill -9`, not the power.
    Quick,
    /// When the disk has it, as in real life.
    Fsync,
}

/// The TLS port.
#[derive(Debug, Clone)]
pub struct Tls {
    /// Whether clients must show a certificate.
    pub client_auth: ClientAuth,
    /// What the server's certificate is for, as OpenSSL writes it: `DNS:localhost`, `IP:127.0.0.1`.
    pub names: Vec<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self { client_auth: ClientAuth::None, names: vec!["DNS:localhost".to_owned(), "IP:127.0.0.1".to_owned()] }
    }
}

/// What a server wants of its clients on the TLS port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Nothing.
    None,
    /// A certificate of the authority that signed its own.
    Need,
}
