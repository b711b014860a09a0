//! Builds guest crates for `wasm32-unknown-unknown` with whatever toolchain can.
//!
//! Used by the host's build script for the standard policies, by `cargo xtask`, and by whatever builds somebody's own
//! policy. [`Toolchain::find`] looks in this order: the active toolchain has the target; a toolchain that has the
//! standard library's source can build it (Debian's `rust-web-src`, or rustup's `rust-src`). Adding the target through
//! rustup comes between the two and needs a network, so it is a step of its own: [`add_target`].

mod names;

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use thiserror::Error;

pub use names::{with_short_names, without_component_names};

/// The target that guests are built for: no WASI, nothing imported but the contract.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// The profile of this workspace's own guests, defined in its `Cargo.toml`.
pub const PROFILE: &str = "guest";

/// What Debian's packages install, beside a rustup toolchain that stays the host's own.
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_LINKER: &str = "/usr/bin/wasm-ld";

/// A way to build guests on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// The active toolchain has the target.
    Installed,
    /// The standard library is built from source along the way.
    FromSource {
        /// The cargo to run.
        cargo: PathBuf,
        /// The compiler that the source belongs to.
        rustc: PathBuf,
        /// The linker; none: the compiler brings its own.
        linker: Option<PathBuf>,
    },
}

/// What to build.
#[derive(Debug, Clone, Copy)]
pub struct Build<'a> {
    /// The `Cargo.toml` of the workspace or crate.
    pub manifest: &'a Path,
    /// The packages.
    pub packages: &'a [&'a str],
    /// The profile: [`PROFILE`] in this workspace.
    pub profile: &'a str,
    /// One of the guests' own: a cargo that builds the host holds the lock of its own.
    pub target_dir: &'a Path,
    /// Where cargo's words go.
    pub stderr: Stderr<'a>,
}

/// Where cargo's words go.
#[derive(Clone, Copy)]
pub enum Stderr<'a> {
    /// To this function, a line each, as they come.
    Lines(&'a dyn Fn(&str)),
    /// Into the error.
    Kept,
}

impl std::fmt::Debug for Stderr<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Lines(_) => "Lines",
            Self::Kept => "Kept",
        })
    }
}

/// Maximum length, in bytes, of a line of a program that is shown as one; a longer line is shown in parts.
const MAX_LINE: u64 = 64 * 1024;

/// Runs a command to its end and tells each line of its stderr as it comes.
///
/// # Errors
/// It could not be started or read.
pub fn run_and_tell(command: &mut Command, tell: &dyn Fn(&str)) -> std::io::Result<std::process::ExitStatus> {
    let mut child = command.stderr(Stdio::piped()).spawn()?;
    let stderr = child.stderr.take();
    let mut lines = stderr.map(std::io::BufReader::new);
    let mut line = Vec::new();
    while let Some(reader) = &mut lines {
        line.clear();
        if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            break;
        }
        tell(String::from_utf8_lossy(&line).trim_end());
    }
    child.wait()
}

/// Why a guest could not be built.
#[derive(Debug, Error)]
pub enum BuildError {
    /// No toolchain here can.
    #[error(
        "no Rust toolchain here can build wasm: run `rustup target add {TARGET}`, or on Debian install rustc-web, cargo-web, rust-web-src, rust-web-llvm and lld (in a checkout of lockkeeper `cargo xtask setup` does either)"
    )]
    NoToolchain,
    /// Cargo could not be started.
    #[error("cannot run `{program}`")]
    Start {
        /// Which program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Cargo ran and failed; what it said is on stderr.
    #[error("cargo could not build the policy `{package}`{}", if stderr.is_empty() { String::new() } else { format!(":\n{stderr}") })]
    Failed {
        /// Which crate.
        package: String,
        /// What it said.
        stderr: String,
    },
}

impl Toolchain {
    /// Looks for a toolchain. Changes nothing on the machine.
    ///
    /// # Errors
    /// [`BuildError::NoToolchain`].
    pub fn find() -> Result<Self, BuildError> {
        let active = active_sysroot();
        if active.as_deref().is_some_and(has_target) {
            return Ok(Self::Installed);
        }
        if active.as_deref().is_some_and(has_source) {
            return Ok(Self::FromSource { cargo: "cargo".into(), rustc: "rustc".into(), linker: None });
        }
        let debian = Self::FromSource {
            cargo: DEBIAN_CARGO.into(),
            rustc: DEBIAN_RUSTC.into(),
            linker: Some(DEBIAN_LINKER.into()),
        };
        let complete = Path::new(DEBIAN_CARGO).exists()
            && Path::new(DEBIAN_LINKER).exists()
            && sysroot_of(DEBIAN_RUSTC.as_ref()).as_deref().is_some_and(has_source);
        if complete { Ok(debian) } else { Err(BuildError::NoToolchain) }
    }

    /// Builds guest crates of one workspace and gives their core modules, in the order of the packages.
    ///
    /// # Errors
    /// [`BuildError`]; what the compiler said is in it, unless it was shown.
    pub fn build(&self, build: &Build<'_>) -> Result<Vec<PathBuf>, BuildError> {
        let Build { manifest, packages, profile, target_dir, stderr } = build;
        let mut command = self.command();
        command.args(["build", "--profile", profile, "--target", TARGET, "--manifest-path"]).arg(manifest);
        command.arg("--target-dir").arg(target_dir);
        for package in *packages {
            command.args(["--package", package]);
        }
        command.stdin(Stdio::null());
        let ended = match stderr {
            Stderr::Lines(tell) => {
                run_and_tell(command.stdout(Stdio::null()), tell).map(|status| (status, String::new()))
            }
            Stderr::Kept => {
                command.output().map(|output| (output.status, String::from_utf8_lossy(&output.stderr).into_owned()))
            }
        };
        let (status, stderr) = ended.map_err(|source| BuildError::Start {
            program: command.get_program().to_string_lossy().into_owned(),
            source,
        })?;
        if !status.success() {
            return Err(BuildError::Failed { package: packages.join("`, `"), stderr });
        }
        let folder = target_dir.join(TARGET).join(profile);
        Ok(packages.iter().map(|package| folder.join(package.replace('-', "_")).with_extension("wasm")).collect())
    }

    /// One line for a person.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Installed => format!("the active toolchain has {TARGET}"),
            Self::FromSource { cargo, .. } => {
                format!("{} builds the standard library from source", cargo.display())
            }
        }
    }

    /// A panic says in which file it was: not where this machine keeps its crates, nor whose machine it is.
    fn rustflags(&self) -> String {
        let sysroot = match self {
            Self::Installed => active_sysroot(),
            Self::FromSource { rustc, .. } => sysroot_of(rustc.as_os_str()),
        };
        let library = sysroot.map(|sysroot| sysroot.join("lib/rustlib/src/rust"));
        let home = env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
        let crates = home.iter().flat_map(|home| {
            // The registry's own folder has its address in its name.
            let sources = std::fs::read_dir(home.join("registry/src")).into_iter().flatten().flatten();
            sources.map(|source| source.path()).chain([home.join("registry/src"), home.join("git/checkouts")])
        });
        let named = library.into_iter().map(|from| (from, "/rustc")).chain(crates.map(|from| (from, "/crates")));
        // The last that fits counts; cargo splits at spaces.
        let mut flags: Vec<String> = named
            .filter_map(|(from, to)| Some(format!("--remap-path-prefix={}={to}", from.to_str()?)))
            .filter(|flag| !flag.contains(char::is_whitespace))
            .collect();
        flags.reverse();
        flags.join(" ")
    }

    fn command(&self) -> Command {
        let mut command = match self {
            Self::Installed => Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))),
            Self::FromSource { cargo, .. } => Command::new(cargo),
        };
        // A build script or `cargo run` passes on what was meant for the host's own build.
        for (name, _) in env::vars_os() {
            if is_of_the_outer_build(&name) {
                command.env_remove(name);
            }
        }
        command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS", self.rustflags());
        if let Self::FromSource { rustc, linker, .. } = self {
            // `-Z build-std` is unstable; nothing else unstable is used.
            command.env("RUSTC", rustc).env("RUSTC_BOOTSTRAP", "1");
            command.arg("-Zbuild-std=std,panic_abort");
            if let Some(linker) = linker {
                command.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
            }
        }
        command
    }
}

/// Adds the target to the active toolchain through rustup. Needs rustup and a network.
///
/// # Errors
/// What rustup said.
pub fn add_target() -> Result<(), String> {
    let output = Command::new("rustup")
        .args(["target", "add", TARGET])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run `rustup`: {error}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

fn is_of_the_outer_build(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let kept = ["CARGO_HOME", "CARGO_NET_OFFLINE", "CARGO_HTTP_PROXY", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];
    let is_settings =
        name.starts_with("CARGO_REGISTR") || name.starts_with("CARGO_HTTP_") || name.starts_with("CARGO_SOURCE_");
    let is_ours =
        name.starts_with("CARGO_") || name.starts_with("RUSTC") || name.starts_with("RUSTDOC") || name == "RUSTFLAGS";
    let is_build_script =
        ["OUT_DIR", "TARGET", "HOST", "NUM_JOBS", "OPT_LEVEL", "PROFILE", "DEBUG", "CARGO"].contains(&name);
    (is_ours || is_build_script) && !is_settings && !kept.contains(&name)
}

fn active_sysroot() -> Option<PathBuf> {
    sysroot_of(env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc")).as_ref())
}

fn sysroot_of(rustc: &OsStr) -> Option<PathBuf> {
    let output = Command::new(rustc).args(["--print", "sysroot"]).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

/// Whether the target's standard library is there: a folder without it is what a failed installation leaves.
fn has_target(sysroot: &Path) -> bool {
    let files = std::fs::read_dir(sysroot.join("lib/rustlib").join(TARGET).join("lib"));
    files.is_ok_and(|files| files.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-")))
}

fn has_source(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/Cargo.lock").is_file()
}
