//! The journals of a run: one for each runner epoch.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::file_name::number;

/// The journal of one runner epoch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// The runner epoch, from 1.
    pub number: u32,
    /// Its file.
    pub path: PathBuf,
}

/// The journals of a run that are on this host. A journal is on the host of the runner that wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segments {
    /// The folder of the run, or that of the one journal.
    pub folder: PathBuf,
    /// In ascending order of their numbers; never empty.
    pub here: Vec<Segment>,
    /// Numbers below the last for which there is no journal here; at most 100.
    pub missing: Vec<u32>,
    /// The caller named one journal: the name of its file need not follow the pattern.
    pub alone: bool,
}

impl Segments {
    /// The journals in the folder of a run. `None` if it has none.
    ///
    /// # Errors
    /// If the folder cannot be read.
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
        here.sort_by_key(|segment| segment.number);
        let Some(last) = here.last() else { return Ok(None) };
        let missing = missing(&here, last.number);
        Ok(Some(Self { folder: folder.to_owned(), here, missing, alone: false }))
    }

    /// One journal; a name that does not follow the pattern counts as number 1.
    #[must_use]
    pub fn alone(path: &Path) -> Self {
        let folder = path.parent().map(Path::to_owned).unwrap_or_default();
        let number = path.file_name().and_then(|name| name.to_str()).and_then(number).unwrap_or(1);
        Self { folder, here: vec![Segment { number, path: path.to_owned() }], missing: Vec::new(), alone: true }
    }

    /// Whether the run has had one runner epoch, and its journal is here.
    #[must_use]
    pub fn is_one(&self) -> bool {
        self.here.len() == 1 && self.missing.is_empty()
    }
}

/// Bounded: a file called `journal-4000000000.jsonl` is no reason to list every number below.
fn missing(here: &[Segment], last: u32) -> Vec<u32> {
    const MOST: usize = 100;
    (1..last).filter(|number| here.binary_search_by_key(number, |segment| segment.number).is_err()).take(MOST).collect()
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
        let segments = Segments::of(folder.path()).unwrap().unwrap();
        assert_eq!(segments.here.iter().map(|segment| segment.number).collect::<Vec<_>>(), [2, 10]);
        assert_eq!(segments.missing, [1, 3, 4, 5, 6, 7, 8, 9]);
        assert!(!segments.is_one());
    }
}
