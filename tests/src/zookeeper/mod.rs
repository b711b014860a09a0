//! Real ZooKeeper servers of a test's own: started from Debian's package on loopback, and gone with the test.

mod certificates;
mod ensemble;
mod options;
mod server;
mod supervisor;

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

pub use certificates::Certificates;
pub use ensemble::Ensemble;
pub use options::{ClientAuth, Durability, Options, SUPER_DIGEST, SUPER_PASSWORD, SUPER_USER, Tls};
pub use server::{Mode, Server};

use crate::skipped;

/// Where Debian's packages put jars.
const JARS: &str = "/usr/share/java";

/// Whether servers can run here. Where none can, a test says so and is done: `if !available() { return }`.
///
/// # Panics
/// On CI when none can: there they always can, after `cargo xtask setup`.
#[must_use]
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    let java = || {
        let version = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let available = *AVAILABLE.get_or_init(|| Path::new(JARS).join("zookeeper.jar").exists() && java());
    if !available {
        assert!(env::var_os("CI").is_none(), "CI has ZooKeeper: `cargo xtask setup` brings it");
        skipped("no ZooKeeper here; `cargo xtask setup` brings it");
    }
    available
}

/// One server for all tests of a binary that work on paths of their own. It ends with the process.
///
/// # Panics
/// When it cannot be started.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(Server::start)
}
