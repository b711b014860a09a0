//! `lockkeeper policy views`: a view to start from.

use crate::author::{sample_text, sample_view};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Output;

pub(super) fn run(output: &Output) -> Result<Exit, Failure> {
    match output.is_json() {
        true => output.json(&sample_view()),
        false => output.source(&sample_text()),
    }
    Ok(Exit::Done)
}
