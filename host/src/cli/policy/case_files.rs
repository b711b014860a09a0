//! The files of cases of a policy or an orchestration: those that are named, else the one beside it.

use std::ops::Range;
use std::path::{Path, PathBuf};

use lockkeeper_cases::Cases;

use crate::author::read_cases;
use lockkeeper_coordination::files::{self, MAX_TEXT_BYTES};
use lockkeeper_locks::cli::exit::{ErrorKind, Failure};
use lockkeeper_locks::cli::output::Output;
use lockkeeper_locks::cli::problems::problems_failure;

/// What a file of cases beside the policy is called.
const BESIDE: &str = "cases.toml";

/// A file of cases that was read.
pub(super) struct CasesFile {
    pub(super) path: PathBuf,
    pub(super) text: String,
    pub(super) cases: Cases,
}

impl CasesFile {
    pub(super) fn line(&self, index: usize) -> usize {
        line_of(&self.text, &self.cases.cases[index].span)
    }
}

/// The files of cases that are named, else the one beside the policy where there is one.
pub(super) fn case_files(policy: &str, named: &[PathBuf], output: &Output) -> Result<Vec<CasesFile>, Failure> {
    beside(policy, named, output).into_iter().map(read).collect()
}

/// The files that are named, else the one beside the guest where there is one.
pub(super) fn beside(guest: &str, named: &[PathBuf], output: &Output) -> Vec<PathBuf> {
    let beside = Path::new(guest).with_file_name(BESIDE);
    let found = named.is_empty() && guest.contains(['/', '.']) && beside.is_file();
    if !found {
        return named.to_vec();
    }
    output.talk("Cases", &format!("{}", beside.display()));
    vec![beside]
}

/// The line, from 1, on which a span begins.
pub(super) fn line_of(text: &str, span: &Range<usize>) -> usize {
    let start = span.start.min(text.len());
    1 + text.as_bytes()[..start].iter().filter(|byte| **byte == b'\n').count()
}

fn read(path: PathBuf) -> Result<CasesFile, Failure> {
    let text = files::read_to_string(&path, MAX_TEXT_BYTES).map_err(|error| {
        Failure::message(ErrorKind::BadArgument, format!("cannot read the cases `{}`: {error}", path.display()))
    })?;
    let cases = read_cases(&path.display().to_string(), &text)
        .map_err(|problems| Failure { kind: ErrorKind::BadArgument, ..problems_failure(&problems) })?;
    Ok(CasesFile { path, text, cases })
}
