//! The names of jobs and targets, and a target with its labels.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::host_name::HostName;
use super::template::{MissingLabel, is_label_key};
use lockkeeper_coordination::store::NodePath;
use lockkeeper_locks::toml_reader::quote;

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is there.
    #[error("a name is not empty")]
    Empty,
    /// It is too long.
    #[error("a name is at most {max} bytes long, this one has {bytes}")]
    TooLong {
        /// How long it is.
        bytes: usize,
        /// How long it may be.
        max: usize,
    },
    /// A character that has no place in it.
    #[error("a name cannot hold {character:?}")]
    Character {
        /// Which.
        character: char,
    },
    /// A command would read it as an option.
    #[error("a name cannot begin with `-`: a command would read it as an option")]
    Option,
    /// It names a folder, this one or the one above.
    #[error("`{0}` is no name")]
    Dots(String),
    /// White space before or behind it, which nobody sees.
    #[error("a name cannot begin or end with white space")]
    Spaces,
    /// Brackets that hold something else than an address.
    #[error("`[…]` at a name's beginning holds an IPv6 address")]
    Brackets,
    /// A part of a host's name is not there.
    #[error("nothing stands {what}")]
    EmptyPart {
        /// Where.
        what: &'static str,
    },
    /// Something else behind a host's `:`.
    #[error("a port is a number")]
    Port,
    /// Nothing but dots, `_` and `-`.
    #[error("a name has a letter or a digit")]
    NoLetter,
}

/// A job's name: letters, digits, `.`, `_` and `-`, so that it can name a file and a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct JobName(String);

impl JobName {
    /// The longest name taken, in bytes: a file's name holds it together with a run's id.
    pub const MAX_BYTES: usize = 100;

    /// Reads a name.
    ///
    /// # Errors
    /// [`NameError`], for anything that a file or a node could not be called.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if let Some(character) = text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))) {
            return Err(NameError::Character { character });
        }
        check_any_name(text, Self::MAX_BYTES)?;
        Ok(Self(text.to_owned()))
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for JobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A target's name: what leases hold as their identifier and `{target}` stands for. It is a host's name: see
/// `host_name.rs`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct TargetName(String);

impl TargetName {
    /// The longest name taken, in bytes: as long as a host's name may be.
    pub const MAX_BYTES: usize = 253;

    /// Reads a name.
    ///
    /// # Errors
    /// [`NameError`], for what is not the name of a host, a node could not be called, or a command would take for an option.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let name = Self::recorded(text)?;
        HostName::parse(text)?;
        Ok(name)
    }

    /// Reads a name of a run's record: an earlier version may have begun the run, with a name that [`Self::parse`] refuses.
    ///
    /// # Errors
    /// [`NameError`], for what a node could not be called, or a command would take for an option.
    pub fn recorded(text: &str) -> Result<Self, NameError> {
        if let Some(character) = text.chars().find(|c| c.is_control() || *c == '/') {
            return Err(NameError::Character { character });
        }
        check_any_name(text, Self::MAX_BYTES)?;
        if text.trim() != text {
            return Err(NameError::Spaces);
        }
        // Each target is a node of its run, and a node's name is ZooKeeper's to refuse.
        match NodePath::parse(&format!("/targets/{text}")) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => {
                let character = text.chars().find(|c| NodePath::parse(&format!("/targets/a{c}")).is_err());
                Err(character.map_or(NameError::Empty, |character| NameError::Character { character }))
            }
        }
    }

    /// What all spellings of the same host have in common: see [`HostName::key`].
    pub(super) fn host_key(&self) -> String {
        HostName::parse(&self.0).map_or_else(|_| self.0.to_lowercase(), |host| host.key())
    }

    /// As text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TargetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What holds for every name.
fn check_any_name(text: &str, max: usize) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.len() > max {
        return Err(NameError::TooLong { bytes: text.len(), max });
    }
    if text.starts_with('-') {
        return Err(NameError::Option);
    }
    if text == "." || text == ".." {
        return Err(NameError::Dots(text.to_owned()));
    }
    Ok(())
}

/// A target's labels, by key.
pub type Labels = BTreeMap<String, String>;

/// Why a target cannot have a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum LabelError {
    /// A key that could not be named in a placeholder.
    #[error("{} is no key of a label", quote(.0))]
    Key(String),
    /// A value that is too long.
    #[error("a label has at most {} bytes, this one has {bytes}", Target::MAX_LABEL_BYTES)]
    TooLong {
        /// How long it is.
        bytes: usize,
    },
    /// A character that has no place in a value.
    #[error("a label cannot hold {0:?}")]
    Character(char),
}

/// Whether a target can have a label of that key and value.
pub(super) fn check_label(key: &str, value: &str) -> Result<(), LabelError> {
    if !is_label_key(key) {
        return Err(LabelError::Key(key.to_owned()));
    }
    if value.len() > Target::MAX_LABEL_BYTES {
        return Err(LabelError::TooLong { bytes: value.len() });
    }
    match value.chars().find(|c| c.is_control()) {
        Some(character) => Err(LabelError::Character(character)),
        None => Ok(()),
    }
}

/// One thing acted on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Its name, unique in its job.
    pub name: TargetName,
    /// What is known of it, such as its rack: for policies, and for `{label.KEY}`.
    pub labels: Labels,
}

impl Target {
    /// The longest value of a label, in bytes: labels travel in every view and in the environment of commands.
    pub const MAX_LABEL_BYTES: usize = 1024;

    /// One without labels.
    #[must_use]
    pub fn unlabelled(name: TargetName) -> Self {
        Self { name, labels: Labels::new() }
    }

    /// The label of that key.
    ///
    /// # Errors
    /// [`MissingLabel`] where it has none.
    pub fn label(&self, key: &str) -> Result<&str, MissingLabel> {
        match self.labels.get(key) {
            Some(value) => Ok(value),
            None => Err(MissingLabel { target: self.name.clone(), key: key.to_owned() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_name_can_name_a_file() {
        for text in ["kernel-reboot", "a", "v1.2_x", &"a".repeat(100)] {
            assert_eq!(JobName::parse(text).unwrap().as_str(), text);
        }
        for text in ["", "a b", "a/b", "é", ".", "..", "-a", "a\0", &"a".repeat(101)] {
            assert!(JobName::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_targets_name_can_name_a_node_and_is_no_option() {
        for text in ["web01", "web01.example.com", "wéb", "zookeeper", "ssh://user@host".trim_start_matches("ssh://")]
        {
            assert_eq!(TargetName::parse(text).unwrap().as_str(), text);
        }
        for text in ["", " ", " a", "a\t", "-oProxyCommand=x", "a/b", "a\nb", "\u{7f}", ".", "..", "\u{f000}"] {
            assert!(TargetName::parse(text).is_err(), "{text:?}");
            assert!(TargetName::recorded(text).is_err(), "{text:?}");
        }
        // A run that an older version began goes on.
        assert!(TargetName::parse("shard 3 (eu)").is_err());
        assert_eq!(TargetName::recorded("shard 3 (eu)").unwrap().as_str(), "shard 3 (eu)");
        assert!(TargetName::parse(&"a".repeat(253)).is_ok());
        assert_eq!(TargetName::parse(&"a".repeat(254)), Err(NameError::TooLong { bytes: 254, max: 253 }));
    }
}
