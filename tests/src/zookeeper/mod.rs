//! Real ZooKeeper servers for one test: Debian's package on loopback, stopped with the test.

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

/// Folder of the jars in Debian's packages.
const JARS: &str = "/usr/share/java";

/// Whether servers can run on this machine. If not, a test is skipped: `if !available() { return }`.
///
/// # Panics
/// On CI if they cannot: `cargo xtask setup` installs ZooKeeper there.
#[must_use]
pub fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    let java = || {
        let version = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        version.is_ok_and(|status| status.success())
    };
    let available = *AVAILABLE.get_or_init(|| Path::new(JARS).join("zookeeper.jar").exists() && java());
    if !available {
        assert!(env::var_os("CI").is_none(), "CI needs ZooKeeper: `cargo xtask setup` installs it");
        skipped("ZooKeeper is not installed; `cargo xtask setup` installs it");
    }
    available
}

/// One server shared by all tests of a binary that use different paths. It ends with the process.
///
/// # Panics
/// If it cannot be started.
pub fn shared() -> &'static Server {
    static SHARED: OnceLock<Server> = OnceLock::new();
    SHARED.get_or_init(Server::start)
}
