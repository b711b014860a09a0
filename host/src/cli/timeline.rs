//! `lockkeeper status RUN --timeline FILE`: a run as a picture.

use std::path::Path;

use serde_json::json;

use super::args::Global;
use super::history_report::{Newest, nothing_written, of_runner_epochs, report_what_is_missing, untrusted};
use super::runs;
use crate::audit::timeline::{self, Recorder, Timeline};
use crate::audit::{History, Page, Want};
use lockkeeper_locks::cli::exit::{ErrorKind, Exit, Failure};
use lockkeeper_locks::cli::output::Output;

/// Draws a run into a file.
pub(super) fn write(global: &Global, output: &Output, run: &str, file: &Path) -> Result<Exit, Failure> {
    let segments = runs::find(&global.common.state_dir()?, run)?;
    let mut history = History::new(segments.clone(), Want::Everything);
    let mut recorder: Option<Recorder> = None;
    while let Some(page) = history.page().map_err(untrusted)? {
        if let Page::Segment(header) = &page {
            recorder.get_or_insert_with(|| Recorder::new(header));
        }
        if let Some(recorder) = &mut recorder {
            recorder.follow(&page);
        }
    }
    let recorder = recorder.ok_or_else(|| nothing_written(&segments))?;
    let drawn: Timeline = recorder.finish(history.summaries().last().and_then(|summaries| summaries.closing.as_ref()));
    std::fs::write(file, timeline::svg(&drawn)).map_err(|error| {
        Failure::message(ErrorKind::Io, format!("cannot write the timeline `{}`: {error}", file.display()))
    })?;
    report_what_is_missing(&history, Newest::MayGoOn, output);
    if output.is_json() {
        output.json(&json!({ "run": drawn.run, "timeline": file, "runner-epochs": of_runner_epochs(&history) }));
    } else {
        output.talk("Drew", &format!("run {} into {}; open the file in a browser", drawn.run, file.display()));
    }
    Ok(Exit::Done)
}
