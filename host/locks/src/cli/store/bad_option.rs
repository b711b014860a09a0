//! The errors of options that cannot be used.

use crate::cli::exit::{ErrorKind, Failure};

pub(super) fn bad(message: impl Into<String>) -> Failure {
    Failure::message(ErrorKind::BadArgument, message)
}

pub(super) fn both(one: &str, other: &str) -> Failure {
    bad(format!("`{one}` and `{other}` cannot both be given")).hint("leave out one of the two")
}

pub(super) fn of_flag(flag: &str, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
    Failure::new(ErrorKind::BadArgument, anyhow::Error::new(error).context(format!("`{flag}` cannot be used")))
}
