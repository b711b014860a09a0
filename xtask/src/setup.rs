//! What a machine needs, brought where it is missing.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use lockkeeper_guest_build::{Toolchain, add_target};

/// Debian's packages for building wasm where rustup cannot bring the target.
const DEBIAN_RUST: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm", "lld"];

/// Debian's package for the tests, and what it runs on.
const DEBIAN_ZOOKEEPER: [&str; 2] = ["zookeeper", "default-jre-headless"];

/// Where that package puts the server.
const ZOOKEEPER_JAR: &str = "/usr/share/java/zookeeper.jar";

/// What the machine is set up for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Building and running.
    Building,
    /// The tests too.
    Tests,
}

pub(crate) fn run(purpose: For) -> Result<()> {
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(missing) => {
            bring_toolchain(&missing.to_string())?;
            Toolchain::find()?
        }
    };
    println!("policies: {}", toolchain.describe());
    if purpose == For::Tests {
        bring_zookeeper();
    }
    Ok(())
}

fn bring_toolchain(missing: &str) -> Result<()> {
    println!("policies: adding the wasm target with rustup");
    let rustup = match add_target() {
        Ok(()) => return Ok(()),
        Err(reason) => reason,
    };
    println!("policies: rustup cannot ({}); trying Debian's packages", rustup.lines().last().unwrap_or("no reason"));
    if let Err(reason) = apt_install(&DEBIAN_RUST) {
        bail!("{missing}\nrustup: {rustup}\napt-get: {reason}");
    }
    Ok(())
}

/// The tests of the ZooKeeper store need a server; everything else does not, so nothing fails here.
fn bring_zookeeper() {
    let has_java = Command::new("java").arg("-version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    if Path::new(ZOOKEEPER_JAR).exists() && has_java.is_ok_and(|status| status.success()) {
        println!("zookeeper: {ZOOKEEPER_JAR}");
        return;
    }
    match apt_install(&DEBIAN_ZOOKEEPER) {
        Ok(()) => println!("zookeeper: installed for the tests"),
        Err(reason) => println!("zookeeper: not here, and not installed ({reason}); tests that need it say so"),
    }
}

fn apt_install(packages: &[&str]) -> Result<(), String> {
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err("this is no Debian".to_owned());
    }
    println!("installing {}", packages.join(" "));
    apt(&["update"])?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
    arguments.extend(packages);
    apt(&arguments)
}

fn apt(arguments: &[&str]) -> Result<(), String> {
    let mut command = match nix::unistd::geteuid().is_root() {
        true => Command::new("apt-get"),
        false => {
            let mut sudo = Command::new("sudo");
            // Without a password or not at all: nobody may be there to type one.
            sudo.args(["-n", "apt-get"]);
            sudo
        }
    };
    let output = command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}
