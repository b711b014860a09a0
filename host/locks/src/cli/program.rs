//! The program `lockkeeper-host`, for hosts that are acted on.

use std::process::ExitCode;

use clap::Parser;

use super::args::{Global, LocksCommand};
use super::commands;
use super::exit::{Exit, Failure};
use super::output::Output;
use super::start::{Program, start};

/// Locks, parties and fences for hosts that are acted on: the commands of `lockkeeper` that need no policy engine.
#[derive(Debug, Parser)]
#[command(
    name = "lockkeeper-host",
    bin_name = "lockkeeper-host",
    version,
    max_term_width = 110,
    after_help = "Examples:\n  \
        lockkeeper lock /locks/reboot --persistent -- ./reboot.sh\n  \
        lockkeeper guard --fence-file /var/lib/lockkeeper/app --fence 17 --attempt 1 -- ./restart"
)]
struct HostCli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: LocksCommand,
}

impl Program for HostCli {
    const NAME: &'static str = "lockkeeper-host";
    const WITHOUT_STORE: &[&str] = &["guard"];

    fn global(&mut self) -> &mut Global {
        &mut self.global
    }

    fn run(self, output: &Output) -> Result<Exit, Failure> {
        commands::run(&self.global, output, self.command)
    }
}

/// Runs the command line that this process was given, to its exit code.
#[must_use]
pub fn main() -> ExitCode {
    start::<HostCli>(|| None)
}
