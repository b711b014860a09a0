//! The start of a process: the command line is read, its command runs, and its result becomes the exit code.

use std::process::ExitCode;

use clap::Parser;

use super::args::Global;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::{argv_secret, container_init, help, sink, supervisor, usage};
use crate::process::inherited_signals;

/// A program: its command line, and what carries a command out.
pub trait Program: Parser {
    /// Its name, as messages call it.
    const NAME: &'static str;

    /// The commands that open no store, by the first word of each: they refuse the options that choose one.
    const WITHOUT_STORE: &[&str];

    /// The options of every command.
    fn global(&mut self) -> &mut Global;

    /// Carries out the command that was given.
    ///
    /// # Errors
    /// The failure that is shown, and that determines the exit code.
    fn run(self, output: &Output) -> Result<Exit, Failure>;
}

/// Runs the command line that this process was given, to its exit code. `helper` does the work of a process that the program
/// has started of itself, and returns `None` in any other.
#[must_use]
pub fn start<P: Program>(helper: impl FnOnce() -> Option<ExitCode>) -> ExitCode {
    sink::tame_panics();
    inherited_signals::report_children();
    if let Some(code) = supervisor::guard().or_else(helper) {
        return code;
    }
    if let Err(failure) = argv_secret::draw() {
        return usage::fail(&failure);
    }
    if let Some(code) = container_init::first_process() {
        return code;
    }
    let parsed = help::command::<P>().try_get_matches().and_then(|mut matches| {
        let command = matches.subcommand_name().unwrap_or_default().to_owned();
        Ok((P::from_arg_matches_mut(&mut matches)?, command))
    });
    let (mut program, command) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return usage::answer::<P>(&error),
    };
    let output = Output::new(P::NAME, program.global());
    if P::WITHOUT_STORE.contains(&command.as_str())
        && let Some(option) = program.global().store.first_given()
    {
        let failure = usage::no_store::<P>(&command, option);
        output.failure(&failure);
        return failure.exit().code();
    }
    // Before anything is started that could inherit it.
    let received = program.global().store.password_fd.map(argv_secret::receive).transpose();
    let done = received.and_then(|secret| {
        program.global().store.secret = secret;
        program.run(&output)
    });
    match done.and_then(|exit| output.complete().map(|()| exit)) {
        Ok(exit) => exit.code(),
        Err(failure) => {
            output.failure(&failure);
            failure.exit().code()
        }
    }
}
