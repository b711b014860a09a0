//! The process that compiles a policy: this program, started by itself.

use std::io;
use std::process::ExitCode;

use crate::policy::{COMPILE, compile_for_parent};

/// Compiles a policy for the parent process and returns the exit code; `None` if this process was started for something
/// else.
pub(in crate::cli) fn compiler() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    (arguments.next()? == COMPILE).then(|| compile_for_parent(arguments, io::stdin(), io::stdout()))
}
