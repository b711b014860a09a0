//! The `lockkeeper` binary: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    lockkeeper::cli::main()
}
