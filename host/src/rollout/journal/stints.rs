//! Which journals a run has: one a stint.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// What the names of all of them begin and end with.
const NAME: &str = "journal";
const SUFFIX: &str = ".jsonl";

/// The name of a stint's journal in the run's folder: each stint has one of its own.
#[must_use]
pub fn file_name(stint: u32) -> String {
    match stint {
        0 | 1 => format!("{NAME}{SUFFIX}"),
        _ => format!("{NAME}-{stint}{SUFFIX}"),
    }
}

/// Which stint's journal has this name.
fn number(name: &str) -> Option<u32> {
    let middle = name.strip_prefix(NAME)?.strip_suffix(SUFFIX)?;
    let stint = if middle.is_empty() { 1 } else { middle.strip_prefix('-')?.parse().ok()? };
    (file_name(stint) == name).then_some(stint)
}

/// A stint's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stint {
    /// Which, from 1.
    pub number: u32,
    /// Where it is.
    pub path: PathBuf,
}

/// The journals of a run that are here. Those of stints that another host had are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stints {
    /// Where they are: the run's folder, or one journal's.
    pub folder: PathBuf,
    /// In their order, and never empty.
    pub here: Vec<Stint>,
    /// Which are not here, though a later one is.
    pub missing: Vec<u32>,
    /// Somebody named one journal: it need not be called as a stint's is.
    pub alone: bool,
}

impl Stints {
    /// Those of a run's folder; none: it has no journal.
    ///
    /// # Errors
    /// As the file system has them.
    pub fn of(folder: &Path) -> io::Result<Option<Self>> {
        let mut here = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if let Some(number) = entry.file_name().to_str().and_then(number)
                && entry.path().is_file()
            {
                here.push(Stint { number, path: entry.path() });
            }
        }
        here.sort_by_key(|stint| stint.number);
        let Some(last) = here.last() else { return Ok(None) };
        let missing = missing(&here, last.number);
        Ok(Some(Self { folder: folder.to_owned(), here, missing, alone: false }))
    }

    /// One journal alone, whatever its name.
    #[must_use]
    pub fn alone(path: &Path) -> Self {
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(number).unwrap_or(1);
        Self { folder, here: vec![Stint { number, path: path.to_owned() }], missing: Vec::new(), alone: true }
    }

    /// Whether this is all there is, and it is one.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.here.len() == 1 && self.missing.is_empty()
    }
}

/// As many are named as anybody would read: a file called `journal-4000000000.jsonl` is no reason to list all before it.
fn missing(here: &[Stint], last: u32) -> Vec<u32> {
    const MOST: usize = 100;
    (1..last).filter(|number| here.binary_search_by_key(number, |stint| stint.number).is_err()).take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stint_has_a_name_of_its_own_and_gaps_are_seen() {
        assert_eq!([1, 2, 12].map(file_name), ["journal.jsonl", "journal-2.jsonl", "journal-12.jsonl"]);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Stints::of(folder.path()).unwrap(), None);
        for name in ["journal-10.jsonl", "journal-2.jsonl", "journal-02.jsonl", "journal-1.jsonl", "journal-x.jsonl"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let stints = Stints::of(folder.path()).unwrap().unwrap();
        assert_eq!(stints.here.iter().map(|stint| stint.number).collect::<Vec<_>>(), [2, 10]);
        assert_eq!(stints.missing, [1, 3, 4, 5, 6, 7, 8, 9]);
        assert!(!stints.is_one());
    }
}
