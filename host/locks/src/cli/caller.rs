//! The caller's name: the operator, this process, or the identifier of a lease.

use nix::unistd::{Uid, User};

use super::exit::{ErrorKind, Failure};
use lockkeeper_coordination::recipe::Identifier;

/// The user and the host, as records name an operator.
pub fn person() -> String {
    let uid = Uid::current();
    let user = User::from_uid(uid).ok().flatten().map_or_else(|| format!("user {uid}"), |user| user.name);
    let host = gethostname::gethostname();
    format!("{user}@{}", host.to_string_lossy())
}

/// The host and the process, as records name a runner.
pub fn process() -> Result<Identifier, Failure> {
    let host = gethostname::gethostname();
    let text = format!("{}:{}", host.to_string_lossy(), std::process::id());
    Identifier::new(text).map_err(|error| Failure::message(ErrorKind::BadArgument, format!("the host's name: {error}")))
}

/// The identifier that was given, or the host's name.
pub fn identifier(given: Option<Identifier>) -> Result<Identifier, Failure> {
    if let Some(identifier) = given {
        return Ok(identifier);
    }
    let name = gethostname::gethostname();
    Identifier::new(name.to_string_lossy()).map_err(|error| {
        Failure::message(ErrorKind::BadArgument, format!("the host's name is no identifier: {error}"))
            .hint("name the holder with --identifier")
    })
}
