//! The program `lockkeeper`.

use std::process::ExitCode;

use super::args::Cli;
use super::{dispatch, policy};
use lockkeeper_locks::cli::args;
use lockkeeper_locks::cli::exit::{Exit, Failure};
use lockkeeper_locks::cli::output::Output;
use lockkeeper_locks::cli::start::{Program, start};

impl Program for Cli {
    const NAME: &'static str = "lockkeeper";
    const WITHOUT_STORE: &[&str] = &["guard", "explain", "replay", "policy", "schema", "completions", "man"];

    fn global(&mut self) -> &mut args::Global {
        &mut self.global.common
    }

    fn run(self, output: &Output) -> Result<Exit, Failure> {
        dispatch::dispatch(self, output)
    }
}

/// Runs the command line that this process was given, to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    start::<Cli>(policy::compiler)
}
