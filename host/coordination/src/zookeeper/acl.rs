//! Access control: who may do what with the nodes that we make.

use std::fmt;
use std::net::IpAddr;
use std::ops::BitOr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use sha1::{Digest, Sha1};
use thiserror::Error;

/// How long a SHA-1 is.
const SHA1_BYTES: usize = 20;

/// What one may do with a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Permissions(u8);

impl Permissions {
    /// Read its data and list its children.
    pub const READ: Self = Self(1);
    /// Replace its data.
    pub const WRITE: Self = Self(2);
    /// Create children.
    pub const CREATE: Self = Self(4);
    /// Delete children.
    pub const DELETE: Self = Self(8);
    /// Change its access control.
    pub const ADMIN: Self = Self(16);
    /// All of these.
    pub const ALL: Self = Self(31);
    /// None of these.
    pub const NONE: Self = Self(0);

    /// Each with its letter and its name, in the order in which zkCli writes them.
    const EACH: [(char, &'static str, Self); 5] = [
        ('c', "create", Self::CREATE),
        ('d', "delete", Self::DELETE),
        ('r', "read", Self::READ),
        ('w', "write", Self::WRITE),
        ('a', "admin", Self::ADMIN),
    ];

    /// As ZooKeeper numbers them.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Whether all of `others` are among these.
    #[must_use]
    pub const fn contains(self, others: Self) -> bool {
        self.0 & others.0 == others.0
    }

    /// The names of these, such as `read`.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::EACH.into_iter().filter(move |(_, _, one)| self.contains(*one)).map(|(_, name, _)| name)
    }

    /// Reads letters, each at most once: `cdrwa` is all.
    fn parse(letters: &str) -> Result<Self, AclError> {
        let mut all = Self::NONE;
        for letter in letters.chars() {
            let Some((_, _, one)) = Self::EACH.into_iter().find(|(known, _, _)| *known == letter) else {
                return Err(AclError::Letter(letter));
            };
            if all.contains(one) {
                return Err(AclError::Twice(letter));
            }
            all = all | one;
        }
        if all == Self::NONE { Err(AclError::Nothing) } else { Ok(all) }
    }
}

impl BitOr for Permissions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Display for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letters = Self::EACH.into_iter().filter(|(_, _, one)| self.contains(*one)).map(|(letter, _, _)| letter);
        f.write_str(&letters.collect::<String>())
    }
}

impl fmt::Debug for Permissions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Permissions({self})")
    }
}

/// Who may do what.
///
/// Shown, a digest has its user's name alone: from its hash a password can be guessed.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AclEntry {
    scheme: String,
    id: String,
    permissions: Permissions,
}

impl AclEntry {
    /// Reads `scheme:id:permissions` as zkCli does: the scheme ends at the first colon, the permissions begin behind the last.
    ///
    /// # Errors
    /// [`AclError`]; also where the server would refuse it, for `world` and `digest`.
    pub fn parse(text: &str) -> Result<Self, AclError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(AclError::Empty);
        }
        let parts = text.split_once(':').and_then(|(scheme, rest)| Some((scheme, rest.rsplit_once(':')?)));
        let (scheme, (id, letters)) = parts.ok_or(AclError::Form)?;
        let is_known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if scheme.is_empty() || !scheme.chars().all(is_known) {
            return Err(AclError::Form);
        }
        if let Some(known) = SCHEMES.into_iter().find(|known| *known != scheme && known.eq_ignore_ascii_case(scheme)) {
            return Err(AclError::Case { scheme: scheme.to_owned(), meant: known });
        }
        match scheme {
            "world" if id != "anyone" => return Err(AclError::World),
            "digest" if !is_digest(id) => return Err(AclError::Digest),
            "ip" if !id.is_empty() && !is_address(id) => return Err(AclError::Address(id.to_owned())),
            "world" | "auth" | "digest" => {}
            _ if id.is_empty() => return Err(AclError::NoId(scheme.to_owned())),
            _ => {}
        }
        Ok(Self { scheme: scheme.to_owned(), id: id.to_owned(), permissions: Permissions::parse(letters)? })
    }

    /// Whoever logs in by that name and password: what Salt's `default_acl` means. The password itself is not kept.
    ///
    /// # Errors
    /// A name that is empty or has a colon, which nobody could log in by.
    pub fn digest(username: &str, password: &str, permissions: Permissions) -> Result<Self, AclError> {
        if username.is_empty() || username.contains(':') {
            return Err(AclError::Username);
        }
        let hash = BASE64.encode(Sha1::digest(format!("{username}:{password}")));
        Ok(Self { scheme: "digest".to_owned(), id: format!("{username}:{hash}"), permissions })
    }

    /// Everybody.
    #[must_use]
    pub fn world(permissions: Permissions) -> Self {
        Self { scheme: "world".to_owned(), id: "anyone".to_owned(), permissions }
    }

    /// How one says who one is, such as `world`, `auth`, `digest`, `ip`, `x509`.
    #[must_use]
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// Who, as the scheme writes it; of a digest `user:hash`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What they may do.
    #[must_use]
    pub fn permissions(&self) -> Permissions {
        self.permissions
    }

    /// Why a server may refuse this entry, whose form is right; `None` if every server knows it.
    fn doubt(&self, is_logged_in: bool) -> Option<String> {
        match self.scheme.as_str() {
            "world" | "digest" => None,
            "auth" if is_logged_in => None,
            "auth" => Some(String::from("it stands for the login of this session, which has none")),
            "ip" if self.id.contains(':') => Some(String::from("these servers take IPv4 addresses only")),
            "ip" => None,
            scheme => Some(format!("these servers do not know the scheme `{scheme}`, or not this id in it")),
        }
    }
}

/// The schemes that ZooKeeper brings with it. They are matched to the letter there.
const SCHEMES: [&str; 6] = ["auth", "digest", "ip", "sasl", "world", "x509"];

/// An address, and how many of its bits count: `10.0.0.0/8`.
fn is_address(id: &str) -> bool {
    let (address, bits) = match id.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (id, None),
    };
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    let most = if address.is_ipv4() { 32 } else { 128 };
    bits.is_none_or(|bits| bits.parse::<u8>().is_ok_and(|bits| bits <= most))
}

/// `user:hash`, the hash as ZooKeeper writes it. Anything else is a password that somebody meant to be hashed.
fn is_digest(id: &str) -> bool {
    let Some((user, hash)) = id.split_once(':') else { return false };
    !user.is_empty() && BASE64.decode(hash).is_ok_and(|bytes| bytes.len() == SHA1_BYTES)
}

impl fmt::Display for AclEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.scheme.as_str(), self.id.split_once(':')) {
            ("digest", Some((user, _))) => write!(f, "digest:{user}:…:{}", self.permissions),
            (scheme, _) => write!(f, "{scheme}:{}:{}", self.id, self.permissions),
        }
    }
}

impl fmt::Debug for AclEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AclEntry({self})")
    }
}

/// Who may do what with each node that we make: at least one entry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Acl(Vec<AclEntry>);

/// How a message calls an entry that cannot be read: as far as no password can be in it.
fn called(number: usize, text: &str) -> String {
    let text = text.trim();
    let scheme = text.split_once(':').map_or("", |(scheme, _)| scheme);
    match SCHEMES.into_iter().find(|known| known.eq_ignore_ascii_case(scheme)) {
        Some("ip" | "sasl" | "world" | "x509") => format!("entry {number}, `{text}`"),
        Some(_) => format!("entry {number}, `{scheme}:…`"),
        None => format!("entry {number}"),
    }
}

/// Why a text is no access control. No message repeats what may be a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AclError {
    /// One of the entries.
    #[error("{called}: {error}")]
    Entry {
        /// Which: its number from 1, and its text as far as no password can be in it.
        called: String,
        /// What is wrong with it.
        error: Box<AclError>,
    },
    /// A scheme of ZooKeeper's in other letters: it would be another scheme there.
    #[error("there is no scheme `{scheme}`: schemes are written in small letters, `{meant}`")]
    Case {
        /// As given.
        scheme: String,
        /// As ZooKeeper has it.
        meant: &'static str,
    },
    /// Something else than an address.
    #[error("`{0}` is no address: expected something like `ip:10.0.0.1:r` or `ip:10.0.0.0/8:r`")]
    Address(String),
    /// Nothing, or nothing between two commas.
    #[error("an entry is empty: expected something like `world:anyone:r,auth::cdrwa`")]
    Empty,
    /// Too few colons, or a strange scheme.
    #[error("an entry is not of the form `scheme:id:permissions`, such as `auth::cdrwa`")]
    Form,
    /// A scheme that needs to be told who.
    #[error("`{0}` has no id: expected `{0}:id:permissions`")]
    NoId(String),
    /// The one id of `world`.
    #[error("`world` knows one id: expected `world:anyone:permissions`")]
    World,
    /// Something else than a hash; probably a password.
    #[error("`digest` wants `digest:user:hash:permissions`, the hash being base64(sha1(\"user:password\"))")]
    Digest,
    /// A name that nobody could log in by.
    #[error("the username of a digest is neither empty nor has a colon")]
    Username,
    /// No permission.
    #[error("an entry allows nothing: permissions are letters of `cdrwa`")]
    Nothing,
    /// Not one of the five.
    #[error("there is no permission {0:?}: permissions are letters of `cdrwa`")]
    Letter(char),
    /// One that was said already.
    #[error("the permission {0:?} stands there twice")]
    Twice(char),
}

impl Acl {
    /// These entries; none where there are none, as the server refuses a node that nobody may touch.
    #[must_use]
    pub fn new(entries: Vec<AclEntry>) -> Option<Self> {
        (!entries.is_empty()).then_some(Self(entries))
    }

    /// Everybody may do everything: what kazoo and Salt do where nothing else is said.
    #[must_use]
    pub fn open() -> Self {
        AclEntry::world(Permissions::ALL).into()
    }

    /// Reads entries with commas between them, as zkCli does: `world:anyone:r,auth::cdrwa`.
    ///
    /// # Errors
    /// See [`AclEntry::parse`]. An id that has a comma itself, as a certificate's name may, is read by that alone.
    pub fn parse(text: &str) -> Result<Self, AclError> {
        let entries = text.split(',').enumerate().map(|(index, entry)| {
            AclEntry::parse(entry)
                .map_err(|error| AclError::Entry { called: called(index + 1, entry), error: Box::new(error) })
        });
        entries.collect::<Result<_, _>>().map(Self)
    }

    /// What is wrong with it where the servers refuse it: each entry that they may not know, and why.
    pub(super) fn refused(&self, is_logged_in: bool) -> String {
        let doubts: Vec<String> = self
            .0
            .iter()
            .filter_map(|entry| Some(format!("entry `{entry}`: {}", entry.doubt(is_logged_in)?)))
            .collect();
        match doubts.is_empty() {
            true => format!("one entry of `{self}`"),
            false => doubts.join("; "),
        }
    }

    /// Each entry.
    #[must_use]
    pub fn entries(&self) -> &[AclEntry] {
        &self.0
    }

    /// Whether its text tells nothing from which a password can be guessed, and so can be read again as it is shown.
    #[must_use]
    pub fn is_public(&self) -> bool {
        self.0.iter().all(|entry| entry.scheme != "digest")
    }

    /// Whether an entry means whoever is logged in: a session without a login can make no node with it.
    #[must_use]
    pub fn needs_login(&self) -> bool {
        self.0.iter().any(|entry| entry.scheme == "auth")
    }
}

impl From<AclEntry> for Acl {
    fn from(entry: AclEntry) -> Self {
        Self(vec![entry])
    }
}

impl Default for Acl {
    fn default() -> Self {
        Self::open()
    }
}

impl fmt::Display for Acl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&entries.join(","))
    }
}

impl FromStr for Acl {
    type Err = AclError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The digest of user `u` and password `pw`, as Salt and kazoo make it.
    const U_PW: &str = "u:BvFaefuhWURhnvpD7ipe45CKTpk=";

    #[test]
    fn entries_are_read_as_zkcli_reads_them() {
        let acl = Acl::parse(&format!("world:anyone:r,auth::cdrwa,ip:fe80::1:cd, digest:{U_PW}:a")).unwrap();
        let entries: Vec<_> = acl.entries().iter().map(|e| (e.scheme(), e.id(), e.permissions().bits())).collect();
        assert_eq!(entries, [("world", "anyone", 1), ("auth", "", 31), ("ip", "fe80::1", 12), ("digest", U_PW, 16)]);
        assert!(acl.needs_login());
        assert!(!Acl::open().needs_login());
    }

    #[test]
    fn an_entry_alone_may_have_commas() {
        let entry = AclEntry::parse("x509:CN=web,O=Fleet:rw").unwrap();
        assert_eq!((entry.id(), entry.permissions()), ("CN=web,O=Fleet", Permissions::READ | Permissions::WRITE));
    }

    #[test]
    fn salt_and_we_make_the_same_digest() {
        let entry = AclEntry::digest("u", "pw", Permissions::ALL).unwrap();
        assert_eq!((entry.scheme(), entry.id(), entry.permissions().bits()), ("digest", U_PW, 31));
        for name in ["", "a:b"] {
            assert_eq!(AclEntry::digest(name, "pw", Permissions::ALL), Err(AclError::Username));
        }
    }

    #[test]
    fn without_a_word_everybody_may_do_everything() {
        let acl = Acl::default();
        assert_eq!(acl.to_string(), "world:anyone:cdrwa");
        assert_eq!(acl.entries()[0].permissions(), Permissions::ALL);
        assert_eq!(Acl::new(Vec::new()), None);
    }

    #[test]
    fn permissions_have_letters_and_names() {
        let some = Permissions::READ | Permissions::CREATE;
        assert_eq!((some.to_string(), some.bits()), ("cr".to_owned(), 5));
        assert_eq!(some.names().collect::<Vec<_>>(), ["create", "read"]);
        assert!(Permissions::ALL.contains(some) && !some.contains(Permissions::ALL));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (given, error) in [
            ("", AclError::Empty),
            ("auth::r,", AclError::Empty),
            ("auth", AclError::Form),
            ("auth:r", AclError::Form),
            (":anyone:r", AclError::Form),
            ("wo rld:anyone:r", AclError::Form),
            ("world::r", AclError::World),
            ("world:everybody:r", AclError::World),
            ("ip::r", AclError::NoId("ip".to_owned())),
            ("digest:u:secret:r", AclError::Digest),
            ("digest:u:r", AclError::Digest),
            ("digest::BvFaefuhWURhnvpD7ipe45CKTpk=:r", AclError::Digest),
            ("auth::", AclError::Nothing),
            ("auth::x", AclError::Letter('x')),
            ("auth::rr", AclError::Twice('r')),
            ("World:anyone:cdrwa", AclError::Case { scheme: "World".to_owned(), meant: "world" }),
            ("DIGEST:u:secret:r", AclError::Case { scheme: "DIGEST".to_owned(), meant: "digest" }),
            ("ip:web01:r", AclError::Address("web01".to_owned())),
            ("ip:10.0.0.0/33:r", AclError::Address("10.0.0.0/33".to_owned())),
        ] {
            let said = match Acl::parse(given).unwrap_err() {
                AclError::Entry { error, .. } => *error,
                other => other,
            };
            assert_eq!(said, error, "{given}");
            assert!(!Acl::parse(given).unwrap_err().to_string().contains("secret"), "{given}");
        }
    }

    #[test]
    fn the_entry_that_is_wrong_is_named_without_its_password() {
        let said = |text: &str| Acl::parse(text).unwrap_err().to_string();
        assert!(said("world:anyone:r,World:anyone:cdrwa").starts_with("entry 2, `World:anyone:cdrwa`: "));
        assert!(said("world:anyone:r,digest:u:hunter2:r").starts_with("entry 2, `digest:…`: "));
        assert!(said("hunter2").starts_with("entry 1: "));
        assert!(said("hunter2:x:r,me").starts_with("entry 2: "));
    }

    #[test]
    fn what_servers_may_not_know_is_named() {
        let acl = Acl::parse("world:anyone:r,sasl:kafka:cdrwa,ip:::1:cdrwa,auth::r").unwrap();
        let refused = acl.refused(false);
        for part in ["entry `sasl:kafka:cdrwa`: ", "`sasl`", "entry `ip:::1:cdrwa`: ", "IPv4", "entry `auth::r`: "] {
            assert!(refused.contains(part), "{refused}");
        }
        assert!(!refused.contains("world") && !acl.refused(true).contains("auth"), "{refused}");
    }

    #[test]
    fn nothing_shows_a_password_or_its_hash() {
        let acl = Acl::new(vec![AclEntry::digest("u", "pw", Permissions::ALL).unwrap()]).unwrap();
        for shown in [format!("{acl:?}"), format!("{acl:#?}"), acl.to_string()] {
            assert!(shown.contains("digest:u:…:cdrwa") && !shown.contains("pw") && !shown.contains("BvFae"), "{shown}");
        }
    }
}
