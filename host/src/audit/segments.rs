//! Which journals a run has: one a stint.

use std::path::{Path, PathBuf};
use std::{fs, io};

use crate::rollout::journal::number;

/// A stint's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Which, from 1.
    pub number: u32,
    /// Where it is.
    pub path: PathBuf,
}

/// The journals of a run that are here. Those of stints that another host had are there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// Where they are: the run's folder, or one journal's.
    pub folder: PathBuf,
    /// In their order, and never empty.
    pub here: Vec<Segment>,
    /// Which are not here, though a later one is.
    pub missing: Vec<u32>,
    /// Somebody named one journal: it need not be called as a stint's is.
    pub alone: bool,
}

impl Segments {
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
                here.push(Segment { number, path: entry.path() });
            }
        }
        here.sort_by_key(|runner_epoch| runner_epoch.number);
        let Some(last) = here.last() else { return Ok(None) };
        let missing = missing(&here, last.number);
        Ok(Some(Self { folder: folder.to_owned(), here, missing, alone: false }))
    }

    /// One journal alone, whatever its name.
    #[must_use]
    pub fn alone(path: &Path) -> Self {
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(number).unwrap_or(1);
        Self { folder, here: vec![Segment { number, path: path.to_owned() }], missing: Vec::new(), alone: true }
    }

    /// Whether this is all there is, and it is one.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.here.len() == 1 && self.missing.is_empty()
    }
}

/// As many are named as anybody would read: a file called `journal-4000000000.jsonl` is no reason to list all before it.
fn missing(here: &[Segment], last: u32) -> Vec<u32> {
    const MOST: usize = 100;
    (1..last)
        .filter(|number| here.binary_search_by_key(number, |runner_epoch| runner_epoch.number).is_err())
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::journal::file_name;

    #[test]
    fn each_runner_epoch_has_its_own_journal_and_gaps_are_noticed() {
        assert_eq!([1, 2, 12].map(file_name), ["journal.jsonl", "journal-2.jsonl", "journal-12.jsonl"]);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Segments::of(folder.path()).unwrap(), None);
        for name in ["journal-10.jsonl", "journal-2.jsonl", "journal-02.jsonl", "journal-1.jsonl", "journal-x.jsonl"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let runner_epochs = Segments::of(folder.path()).unwrap().unwrap();
        assert_eq!(runner_epochs.here.iter().map(|runner_epoch| runner_epoch.number).collect::<Vec<_>>(), [2, 10]);
        assert_eq!(runner_epochs.missing, [1, 3, 4, 5, 6, 7, 8, 9]);
        assert!(!runner_epochs.is_one());
    }
}
