//! What every command that reads the journals of a run reports of them: what is missing, and what cannot be trusted.

use serde_json::{Value, json};

use crate::audit::{History, HistoryError, SegmentSummary, Segments};
use crate::rollout::journal::JournalError;
use lockkeeper_locks::cli::exit::{ErrorKind, Failure};
use lockkeeper_locks::cli::output::Output;

/// The failure of a run whose journals have no line.
pub(super) fn nothing_written(segments: &Segments) -> Failure {
    Failure::message(ErrorKind::BadJournal, format!("the journals in `{}` are empty", segments.folder.display()))
}

/// Each runner epoch, for programs.
pub(super) fn of_runner_epochs(history: &History) -> Vec<Value> {
    let one = |summary: &SegmentSummary| {
        json!({
            "runner-epoch": summary.runner_epoch,
            "journal": summary.path,
            "decisions": summary.decisions,
            "end": summary.closing.as_ref().map(|closing| &closing.end),
            "torn": summary.incomplete_line,
        })
    };
    history.summaries().iter().map(one).collect()
}

/// What a newest journal without a closing line means to the reader.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Newest {
    ShouldBeClosed,
    MayGoOn,
}

/// Reports what of a run could not be read, after all else was.
pub(super) fn report_what_is_missing(history: &History, newest: Newest, output: &Output) {
    for runner_epoch in &history.segments().missing {
        output.warn(&format!(
            "the journal of runner epoch {runner_epoch} is missing: it ran on another host, or the journal was deleted"
        ));
    }
    let last = history.summaries().len().saturating_sub(1);
    for (at, summary) in history.summaries().iter().enumerate() {
        let runner_epoch = if history.segments().is_one() {
            "the journal".to_owned()
        } else {
            format!("the journal of runner epoch {}", summary.runner_epoch)
        };
        match (summary.incomplete_line, &summary.header) {
            (Some(_), None) => output.warn(&format!("{runner_epoch} is empty: its runner ended at its start")),
            (Some(line), Some(_)) => output.warn(&format!(
                "{runner_epoch} ends in the middle of line {line}: its runner was killed there, it is being written, or the file was truncated"
            )),
            (None, _) if summary.closing.is_some() || (at == last && newest == Newest::MayGoOn) => {}
            (None, _) if at < last => {
                output.talk("Note", &format!("{runner_epoch} has no closing line: its runner was killed, and another resumed the run"));
            }
            (None, _) => output.warn(&format!(
                "{runner_epoch} has no closing line: the run is in progress, was killed, or lines are missing at the end"
            )),
        }
    }
}

/// The failure of a journal that was changed, cut or cannot be read.
pub(super) fn untrusted(error: HistoryError) -> Failure {
    let more = json!({ "journal": error.path, "line": error.source.line() });
    let kind = match &error.source {
        JournalError::Unreadable(_) => ErrorKind::Io,
        _ => ErrorKind::BadJournal,
    };
    Failure { more: Some(more), ..Failure::new(kind, error) }
}
