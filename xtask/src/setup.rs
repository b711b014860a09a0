//! What a machine needs, brought where it is missing.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use lockkeeper_guest_build::{TARGET, Toolchain, add_target};

use super::{root, target_dir};

/// Debian's packages for building wasm where rustup cannot bring the target.
const DEBIAN_RUST: [&str; 5] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-llvm", "lld"];

/// Debian's package for the tests, and what it runs on.
const DEBIAN_ZOOKEEPER: [&str; 2] = ["zookeeper", "default-jre-headless"];

/// Where that package puts the server.
const ZOOKEEPER_JAR: &str = "/usr/share/java/zookeeper.jar";

/// Debian's packages for the benchmarks: Curator, and a compiler for Java that is a tenth of a JDK's size.
const DEBIAN_CURATOR: [&str; 2] = ["libcurator-recipes-java", "libeclipse-jdt-core-java"];

/// Where those put what is looked for.
const CURATOR_JARS: [&str; 2] = ["/usr/share/java/curator-recipes.jar", "/usr/share/java/eclipse-jdt-core.jar"];

/// Debian's package for the tests of ssh. Its service is none of ours: it stays off.
const DEBIAN_SSHD: [&str; 1] = ["openssh-server"];

/// Where that package puts the server.
const SSHD: &str = "/usr/sbin/sshd";

/// Installs a package without letting the system start its service: neither now, which Debian asks `policy-rc.d` about,
/// nor at the next start, which a masked unit does not. What somebody decided here before stays as it is.
const INSTALL_SSHD_OFF: &str = r#"
set -e
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' > "$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
fi
if [ -d /etc/systemd/system ]; then
    for unit in ssh.service ssh.socket; do
        [ -e "/etc/systemd/system/$unit" ] || [ -L "/etc/systemd/system/$unit" ] ||
            ln -s /dev/null "/etc/systemd/system/$unit"
    done
fi
apt-get -o DPkg::Lock::Timeout=300 update
apt-get -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends "$@"
"#;

/// What the tests drive of other people's, in versions that are known.
const REQUIREMENTS: &str = "tests/python/requirements.txt";

/// What the benchmarks drive beside, likewise.
const PEERS: &str = "xtask/bench/peers/requirements.txt";

/// Debian's package for making virtual environments.
const DEBIAN_VENV: [&str; 1] = ["python3-venv"];

/// What the machine is set up for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum For {
    /// Building and running.
    Building,
    /// The tests too.
    Tests,
    /// The benchmarks too, which need what the tests do.
    Benchmarks,
}

pub(crate) fn run(purpose: For) -> Result<()> {
    let toolchain = match Toolchain::find() {
        Ok(toolchain) => toolchain,
        Err(_) => bring_toolchain()?,
    };
    println!("policies: {}", toolchain.describe());
    if purpose != For::Building {
        bring_zookeeper();
        bring_sshd();
        bring_python();
    }
    if purpose == For::Benchmarks {
        bring_curator();
        bring_ansible();
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
    let wrong = lines().find(|line| ["error", "ERROR", "E: "].iter().any(|mark| line.starts_with(mark)));
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

/// The tests of ssh need a server, which they start themselves; everything else does not, so nothing fails here.
fn bring_sshd() {
    if Path::new(SSHD).exists() {
        println!("sshd: {SSHD}");
        return;
    }
    let installed = if Path::new("/usr/bin/apt-get").exists() {
        println!("installing {}; this takes a minute", DEBIAN_SSHD.join(" "));
        let mut command = as_root("sh");
        command.args(["-c", INSTALL_SSHD_OFF, "sh"]).args(DEBIAN_SSHD);
        run_to_end(command.env("DEBIAN_FRONTEND", "noninteractive"))
    } else {
        Err("this is no Debian".to_owned())
    };
    match installed {
        Ok(()) => {
            println!("sshd: installed for the tests; its service is off (`systemctl unmask ssh` lets it be started)")
        }
        Err(reason) => println!("sshd: not here, and not installed ({}); tests that need it say so", gist(&reason)),
    }
}

/// One peer of several: without it the others are measured.
fn bring_curator() {
    if CURATOR_JARS.iter().all(|jar| Path::new(jar).exists()) {
        println!("curator: {}", CURATOR_JARS[0]);
        return;
    }
    match apt_install(&DEBIAN_CURATOR) {
        Ok(()) => println!("curator: installed for the benchmarks"),
        Err(reason) => println!("curator: not here, and not installed ({}); it is left out", gist(&reason)),
    }
}

/// The tests against kazoo and Salt need a virtual environment; everything else does not, so nothing fails here.
fn bring_python() {
    let folder = target_dir().join("python");
    match python_environment(&folder) {
        Ok(()) => println!("python: {}", folder.display()),
        Err(reason) => println!("python: no kazoo and Salt ({}); tests that need them say so", gist(&reason)),
    }
}

fn python_environment(folder: &Path) -> Result<(), String> {
    let wanted = fs::read_to_string(root().join(REQUIREMENTS)).map_err(|error| error.to_string())?;
    // Written last: what it is missing from was left half-made.
    let done = folder.join("installed.txt");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("python: making a virtual environment with kazoo and Salt for the tests");
    let make = || run_to_end(Command::new("python3").args(["-m", "venv", "--clear"]).arg(folder));
    if let Err(reason) = make() {
        apt_install(&DEBIAN_VENV).map_err(|apt| format!("{}; {}", gist(&reason), gist(&apt)))?;
        make()?;
    }
    pip_install(folder, REQUIREMENTS)?;
    fs::write(done, wanted).map_err(|error| error.to_string())
}

/// One peer of several, in the environment that the tests use too: without it the others are measured.
fn bring_ansible() {
    let folder = target_dir().join("python");
    match ansible(&folder) {
        Ok(()) => println!("ansible-core: {}", folder.display()),
        Err(reason) => println!("ansible-core: not here, and not installed ({}); it is skipped", gist(&reason)),
    }
}

fn ansible(folder: &Path) -> Result<(), String> {
    let wanted = fs::read_to_string(root().join(PEERS)).map_err(|error| error.to_string())?;
    // As above. An environment that is made anew has none.
    let done = folder.join("installed-peers.txt");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    println!("python: installing ansible-core for the benchmarks");
    pip_install(folder, PEERS)?;
    fs::write(done, wanted).map_err(|error| error.to_string())
}

/// Installs what a file of the repository lists, and nothing that the file does not list.
fn pip_install(folder: &Path, requirements: &str) -> Result<(), String> {
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]);
    run_to_end(pip.arg(root().join(requirements)))
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
    let mut command = as_root("apt-get");
    // Another apt may be at work, such as the one that a machine starts with.
    command.args(["-o", "DPkg::Lock::Timeout=300"]);
    run_to_end(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
}

fn as_root(program: &str) -> Command {
    if nix::unistd::geteuid().is_root() {
        return Command::new(program);
    }
    let mut sudo = Command::new("sudo");
    // Without a password or not at all: nobody may be there to type one.
    sudo.args(["-n", program]);
    sudo
}

/// Runs a command without input; an error is what it said.
fn run_to_end(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))?;
    if output.status.success() {
        Ok(())
    } else {
        Err([output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat())
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
