//! What a machine needs, brought where it is missing.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use lockkeeper_guest_build::{TARGET, Toolchain, add_target};

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
        Err(_) => bring_toolchain()?,
    };
    println!("policies: {}", toolchain.describe());
    if purpose == For::Tests {
        bring_zookeeper();
    }
    Ok(())
}

fn bring_toolchain() -> Result<Toolchain> {
    println!("policies: no Rust here builds wasm; adding {TARGET} with rustup");
    let rustup = match found_after(add_target()) {
        Ok(toolchain) => return Ok(toolchain),
        Err(reason) => reason,
    };
    println!("policies: rustup did not help ({rustup}); trying Debian's packages");
    match found_after(apt_install(&DEBIAN_RUST)) {
        Ok(toolchain) => Ok(toolchain),
        Err(apt) => bail!(
            "no Rust toolchain here can build wasm policies: run `rustup target add {TARGET}` (tried: {rustup}), or on \
             Debian, as root, `apt-get install --no-install-recommends {}` (tried: {apt})",
            DEBIAN_RUST.join(" ")
        ),
    }
}

/// The toolchain that a step brought, or why it brought none.
fn found_after(step: Result<(), String>) -> Result<Toolchain, String> {
    step.map_err(|said| gist(&said))?;
    Toolchain::find().map_err(|_| "it went well, and still there is none".to_owned())
}

/// The line of what a tool said that tells what was wrong.
fn gist(said: &str) -> String {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let wrong = lines().find(|line| line.starts_with("error") || line.starts_with("E: "));
    wrong.or_else(|| lines().next_back()).unwrap_or("it gave no reason").to_owned()
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
        Err(reason) => {
            println!("zookeeper: not here, and not installed ({}); tests that need it say so", gist(&reason))
        }
    }
}

fn apt_install(packages: &[&str]) -> Result<(), String> {
    if !Path::new("/usr/bin/apt-get").exists() {
        return Err("this is no Debian".to_owned());
    }
    println!("installing {}; this takes a minute", packages.join(" "));
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
    // Another apt may be at work, such as the one that a machine starts with.
    command.args(["-o", "DPkg::Lock::Timeout=300"]);
    let output = command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).output();
    let output = output.map_err(|error| error.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gist_is_the_line_with_the_error() {
        assert_eq!(gist("info: downloading\nerror: could not download\n  0: std::rt\n"), "error: could not download");
        assert_eq!(gist("Reading lists\nE: Unable to locate package\n"), "E: Unable to locate package");
        assert_eq!(gist("sudo: a password is required\n\n"), "sudo: a password is required");
        assert_eq!(gist(" \n"), "it gave no reason");
    }
}
