//! Paths of nodes.

use std::fmt;
use std::str::FromStr;

use super::PathError;

/// An absolute path of a node, in the one spelling that kazoo gives it too: one slash before each part, none at the end.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodePath(String);

impl NodePath {
    /// The longest path taken, in bytes.
    pub const MAX_BYTES: usize = 4096;

    /// The folder of everything in a store that is Lockkeeper's own, beside the layout that it shares with kazoo.
    pub const OWN: &str = "/lockkeeper";

    /// The root, `/`.
    #[must_use]
    pub fn root() -> Self {
        Self(String::from("/"))
    }

    /// Reads a path below the root. Empty parts are dropped and a missing leading slash is added, as kazoo does: `a//b/`
    /// is `/a/b`.
    ///
    /// # Errors
    /// [`PathError`]: no part at all, a relative part, a character that ZooKeeper refuses, `/zookeeper`, too long.
    pub fn parse(text: &str) -> Result<Self, PathError> {
        if let Some(character) = text.chars().find(|c| is_refused(*c)) {
            return Err(PathError::Character { path: text.to_owned(), character });
        }
        if text.len() > Self::MAX_BYTES {
            return Err(PathError::TooLong { bytes: text.len(), max: Self::MAX_BYTES });
        }
        let mut path = String::with_capacity(text.len() + 1);
        for part in text.split('/').filter(|part| !part.is_empty()) {
            if part == "." || part == ".." {
                return Err(PathError::Relative { path: text.to_owned(), part: part.to_owned() });
            }
            path.push('/');
            path.push_str(part);
        }
        if path.is_empty() {
            return Err(PathError::Empty(text.to_owned()));
        }
        if path == "/zookeeper" || path.starts_with("/zookeeper/") {
            return Err(PathError::Reserved(path));
        }
        Ok(Self(path))
    }

    /// As [`NodePath::parse`], for a path that somebody names for a semaphore or a party: none at or below [`NodePath::OWN`],
    /// where it would be in the way of Lockkeeper's own.
    ///
    /// # Errors
    /// As [`NodePath::parse`], and [`PathError::Own`].
    pub fn parse_shared(text: &str) -> Result<Self, PathError> {
        let path = Self::parse(text)?;
        match path.0.strip_prefix(Self::OWN) {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => Err(PathError::Own(path.0)),
            _ => Ok(path),
        }
    }

    /// The child of that name.
    ///
    /// # Panics
    /// Never on a name that a store listed, or that we made: `name` must not be empty nor hold a slash.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        debug_assert!(!name.is_empty() && !name.contains('/'), "`{name}` is no node's name");
        match self.0.as_str() {
            "/" => Self(format!("/{name}")),
            path => Self(format!("{path}/{name}")),
        }
    }

    /// The neighbour whose name is this one's with `suffix` behind it: kazoo's queue stands beside its semaphore so.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Self {
        Self(format!("{}{suffix}", self.0))
    }

    /// The node above; none above the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        match self.0.rsplit_once('/') {
            Some((_, "")) | None => None,
            Some(("", _)) => Some(Self::root()),
            Some((above, _)) => Some(Self(above.to_owned())),
        }
    }

    /// The last part; empty for the root.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(_, name)| name)
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What ZooKeeper's `PathUtils.validatePath` refuses.
fn is_refused(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{f000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}')
}

/// A text as one node's name: what no name may hold is written as `%` and its bytes in hex, and so is `%` itself, so that
/// different texts have different names.
#[must_use]
pub fn node_name(text: &str) -> String {
    if text.is_empty() {
        // No other text comes to it: a percent sign is written `%25`.
        return "%".to_owned();
    }
    let mut name = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '%' || c == '/' || is_refused(c) || (c == '.' && matches!(text, "." | "..")) {
            let mut bytes = [0; 4];
            for byte in c.encode_utf8(&mut bytes).bytes() {
                name.push_str(&format!("%{byte:02x}"));
            }
        } else {
            name.push(c);
        }
    }
    name
}

impl fmt::Display for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl FromStr for NodePath {
    type Err = PathError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl serde::Serialize for NodePath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for NodePath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_spelt_as_kazoo_spells_it() {
        for (given, meant) in [("/a/b", "/a/b"), ("a/b", "/a/b"), ("//a//b/", "/a/b"), ("/é", "/é")] {
            assert_eq!(NodePath::parse(given).unwrap().as_str(), meant);
        }
    }

    #[test]
    fn what_zookeeper_refuses_is_refused_here() {
        for given in ["", "/", "///", "/a/../b", "/./a", "/a\nb", "/a\0", "/zookeeper", "/zookeeper/quota", "/\u{80}"] {
            assert!(NodePath::parse(given).is_err(), "{given:?}");
        }
        assert!(NodePath::parse(&"/a".repeat(3000)).is_err());
        assert!(NodePath::parse("/zookeepers").is_ok());
        for given in ["/lockkeeper", "lockkeeper/jobs/", "/lockkeeper//x"] {
            assert!(NodePath::parse(given).is_ok() && NodePath::parse_shared(given).is_err(), "{given:?}");
        }
        assert!(NodePath::parse_shared("/lockkeepers").is_ok());
    }

    #[test]
    fn a_name_is_spelt_so_that_no_two_are_one() {
        assert_eq!(node_name("web01.example"), "web01.example");
        assert_eq!(node_name("50%"), "50%25");
        assert_eq!(node_name(".."), "%2e%2e");
        assert_eq!(node_name(""), "%");
        assert_ne!(node_name("a\u{f000}"), node_name("a%ef%80%80"));
        assert!(NodePath::parse(&format!("/{}", node_name("a\u{f000}b\tc"))).is_ok());
    }

    #[test]
    fn parents_end_at_the_root() {
        let path = NodePath::parse("/a/b").unwrap();
        assert_eq!(path.parent().unwrap().as_str(), "/a");
        assert_eq!(path.parent().unwrap().parent().unwrap(), NodePath::root());
        assert_eq!(NodePath::root().parent(), None);
        assert_eq!(NodePath::root().child("a").as_str(), "/a");
        assert_eq!(path.name(), "b");
    }
}
