//! The `lockkeeper-host` binary: parse, run, exit code.

use std::process::ExitCode;

/// What the system's loader calls before `main`.
#[expect(unsafe_code, reason = "nothing else runs before the standard library ignores SIGPIPE")]
#[used]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
static BEFORE_MAIN: extern "C" fn() = lockkeeper_locks::process::inherited_signals::capture;

fn main() -> ExitCode {
    lockkeeper_locks::cli::main()
}
