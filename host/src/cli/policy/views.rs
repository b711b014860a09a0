//! `lockkeeper policy views`: a view to start from.

use crate::author::{sample_text, sample_view};
use lockkeeper_locks::cli::exit::{Exit, Failure};
use lockkeeper_locks::cli::output::Output;

pub(super) fn run(output: &Output) -> Result<Exit, Failure> {
    if output.is_json() {
        output.json(&sample_view())
    } else {
        output.source(&sample_text())
    }
    Ok(Exit::Done)
}
