//! Who holds a lease or is a member.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Who holds: a host's name, usually. Text of 1 to 1,024 bytes without control characters.
///
/// A slash is allowed: only a member's name becomes a part of a path, and [`super::Party::join`] refuses it there.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Identifier(String);

/// Why a text is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentifierError {
    /// Nothing.
    #[error("an identifier must not be empty")]
    Empty,
    /// Longer than [`Identifier::MAX_BYTES`].
    #[error("the identifier is {bytes} bytes long: {max} is the most", max = Identifier::MAX_BYTES)]
    TooLong {
        /// How long.
        bytes: usize,
    },
    /// A control character, which would garble every listing.
    #[error("identifier {text:?} has the control character {character:?}")]
    Control {
        /// As given.
        text: String,
        /// The first one.
        character: char,
    },
}

impl Identifier {
    /// The longest identifier, in bytes.
    pub const MAX_BYTES: usize = 1024;

    /// Checks a text.
    ///
    /// # Errors
    /// [`IdentifierError`]: empty, too long, a control character.
    pub fn new(text: impl Into<String>) -> Result<Self, IdentifierError> {
        let text = text.into();
        if text.is_empty() {
            return Err(IdentifierError::Empty);
        }
        if text.len() > Self::MAX_BYTES {
            return Err(IdentifierError::TooLong { bytes: text.len() });
        }
        match text.chars().find(|c| c.is_control()) {
            Some(character) => Err(IdentifierError::Control { text, character }),
            None => Ok(Self(text)),
        }
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As a node's data.
    pub(super) fn data(&self) -> Bytes {
        Bytes::copy_from_slice(self.0.as_bytes())
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Identifier {
    type Err = IdentifierError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl TryFrom<String> for Identifier {
    type Error = IdentifierError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::new(text)
    }
}

impl From<Identifier> for String {
    fn from(identifier: Identifier) -> Self {
        identifier.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identifier_is_short_printable_text() {
        for good in ["web01", "a/b", "é", " ", "-", "a b"] {
            assert_eq!(Identifier::new(good).unwrap().as_str(), good);
        }
        assert!(Identifier::new("x".repeat(1024)).is_ok());
        assert_eq!(Identifier::new(""), Err(IdentifierError::Empty));
        assert_eq!(Identifier::new("x".repeat(1025)), Err(IdentifierError::TooLong { bytes: 1025 }));
        for bad in ["a\nb", "\u{7f}", "a\u{80}"] {
            assert!(matches!(Identifier::new(bad), Err(IdentifierError::Control { .. })), "{bad:?}");
        }
    }

    #[test]
    fn serde_checks_it_too() {
        let good: Identifier = serde_json::from_str("\"web01\"").unwrap();
        assert_eq!(serde_json::to_string(&good).unwrap(), "\"web01\"");
        assert!(serde_json::from_str::<Identifier>("\"\"").is_err());
    }
}
